//! Blocks and models for Burn that compute what PyTorch's compute.
//!
//! Names, defaults and initialisation follow PyTorch, and so do the names, shapes and layout of all tensors: a
//! [`StateDict`] of a model *is* PyTorch's `state_dict`. Each block has a config with its defaults, which is validated
//! when the block is made:
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use firebox_models::{CnnConfig, Forward, init};
//!
//! let device = Device::default();
//! let cnn = init(42, &device, |device| CnnConfig::new(10).with_channels(1).init(device))?;
//! let images = Tensor::<4>::zeros([2, 1, 28, 28], &device);
//! let logits: Tensor<2> = cnn.forward(images);
//! assert_eq!(logits.dims(), [2, 10]);
//! # Ok::<(), firebox_models::Error>(())
//! ```
//!
//! | for | blocks and models |
//! |---|---|
//! | images | [`ConvBlock`], [`BatchNorm2d`], [`MaxPooling`], [`AvgPooling`], [`LinearBlock`], [`Cnn`]; [`Sequential`], [`Flatten`] |
//! | sequences | [`RnnBlock`], [`LstmBlock`], [`GruBlock`] on [`Recurrent`]; [`Embedding`] |
//! | attention | [`AttentionBlock`] (additive), [`MultiHeadAttention`] (scaled dot product) |
//! | text | [`Seq2Seq`] of [`Encoder`] and [`Decoder`], with greedy and beam search; [`LanguageModel`]; [`SequenceClassifier`] |
//! | adversaries | [`Generator`], [`Discriminator`]; [`DcganGenerator`], [`DcganDiscriminator`] |
//!
//! # What differs from Burn's layers, and why
//!
//! Where Burn's own layer gives PyTorch's numbers it is used. These are firebox's own:
//!
//! * [`BatchNorm2d`]: Burn keeps the biased variance as running variance, and its clones share their running statistics,
//!   so that a copy made for an average of weights would change the live model. Here a clone's are its own ([`Buffer`]),
//!   and an update is seen at once by whoever saves.
//! * [`Linear`]: Burn keeps the weight transposed.
//! * [`Recurrent`]: Burn's layers have one layer, one direction or two, no lengths, gates apart, and another
//!   initialisation. Here the gates are stacked as PyTorch stacks them, with its two biases.
//! * [`Embedding`]: has a padding token, whose vector is not trained.
//! * [`MultiHeadAttention`]: Burn masks with −10,000, so that what is masked may have a weight.
//!
//! # Padding
//!
//! Sequences of different lengths share a batch, padded at their end. All but [`LanguageModel`] take the lengths, attention takes a
//! mask of the places that hold something ([`sequence_mask`]), and a sequence gets the same outputs as it would alone.
//!
//! # Weights
//!
//! [`Weights`] loads a file of PyTorch or of safetensors into any module, strictly. What is between file and
//! module is a [`StateDict`]:
//!
//! ```no_run
//! use burn::tensor::Device;
//! use firebox_models::{ConvBlockConfig, StateDict, Weights};
//!
//! let block = ConvBlockConfig::new(3, 8, 3).init(&Device::default())?;
//! // torch.save(model.state_dict(), "block.pt")
//! let block = block.load_pytorch("block.pt")?;
//! // torch.save({"epoch": 3, "model": parallel.state_dict()}, "checkpoint.pt")
//! let weights = StateDict::read_pytorch_at("checkpoint.pt", &["model"])?.strip_prefix("module.")?;
//! let (block, partial) = weights.apply_partly(block)?;
//! println!("not in the file: {:?}, not in the module: {:?}", partial.missing, partial.unused);
//! println!("in the file, but no tensors that can be read: {:?}", partial.unsupported);
//! block.save_safetensors("block.safetensors")?;
//! # Ok::<(), firebox_models::Error>(())
//! ```
//!
//! # Training and evaluation
//!
//! In Burn the device of a model's input decides: on an autodiff device BatchNorm uses and updates batch
//! statistics and dropout drops; on a plain device neither happens. Train on `device.autodiff()`, evaluate
//! with `model.valid()` on the plain device.

#![forbid(unsafe_code)]

mod apply;
mod attention_block;
mod batch_norm;
mod batch_norms;
mod beam;
mod buffer;
mod cell;
mod cnn;
mod conv_block;
mod counter;
mod dcgan;
mod decoder;
mod discriminator;
mod embedding;
mod encoder;
mod error;
mod finite;
mod forward;
mod generator;
mod gru_block;
mod init;
mod language_model;
mod linear;
mod linear_block;
mod logits;
mod lstm_block;
mod mask;
mod multi_head_attention;
mod pickle;
mod pooling;
mod pytorch_archive;
mod pytorch_file;
mod recurrent;
mod recurrent_module;
mod rnn_block;
mod safetensors_file;
mod safetensors_header;
mod sampling;
mod seq2seq;
mod sequence_classifier;
mod sequence_regressor;
mod sequential;
mod shape;
mod state_dict;
mod tensor_layout;
mod tied;
mod weights;

pub use apply::Partial;
pub use attention_block::{AttentionBlock, AttentionBlockConfig};
pub use batch_norm::{BatchNorm2d, BatchNorm2dConfig};
pub use batch_norms::batch_norms;
pub use beam::{Beam, Hypothesis};
pub use buffer::Buffer;
pub use cell::Cell;
pub use cnn::{Cnn, CnnConfig};
pub use conv_block::{ConvBlock, ConvBlockConfig};
pub use counter::Counter;
pub use dcgan::{DcganConfig, DcganDiscriminator, DcganGenerator};
pub use decoder::{Decoder, DecoderConfig, Decoding};
pub use discriminator::{Discriminator, DiscriminatorConfig};
pub use embedding::{Embedding, EmbeddingConfig};
pub use encoder::{Encoded, Encoder, EncoderConfig};
pub use error::{Error, ErrorKind, OutOfRange};
pub use forward::Forward;
pub use generator::{Generator, GeneratorConfig};
pub use gru_block::{GruBlock, GruBlockConfig};
pub use init::init;
pub use language_model::{LanguageModel, LanguageModelConfig};
pub use linear::{Linear, LinearConfig};
pub use linear_block::{LinearBlock, LinearBlockConfig};
pub use logits::Logits;
pub use lstm_block::{LstmBlock, LstmBlockConfig, LstmState};
pub use mask::sequence_mask;
pub use multi_head_attention::{AttentionMask, MultiHeadAttention, MultiHeadAttentionConfig};
pub use pooling::{AvgPooling, AvgPoolingConfig, MaxPooling, MaxPoolingConfig};
pub use recurrent::{Recurrent, RecurrentConfig, RecurrentState};
pub use rnn_block::{Nonlinearity, RnnBlock, RnnBlockConfig};
pub use sampling::Sampling;
pub use seq2seq::{Seq2Seq, Seq2SeqConfig};
pub use sequence_classifier::{SequenceClassifier, SequenceClassifierConfig};
pub use sequence_regressor::{SequenceRegressor, SequenceRegressorConfig};
pub use sequential::{Flatten, Sequential};
pub use state_dict::StateDict;
pub use tied::Ties;
pub use weights::Weights;
