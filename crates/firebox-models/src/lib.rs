//! Blocks and models for Burn that compute what PyTorch's compute.
//!
//! Names, defaults and initialization follow PyTorch, and so do the names, shapes and layout of all tensors:
//! a [`StateDict`] of a model *is* PyTorch's `state_dict`. Each block has a config with its defaults, which
//! is validated when the block is made:
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use firebox_models::vision::CnnConfig;
//! use firebox_models::{Forward, init};
//!
//! let device = Device::default();
//! let cnn = init(42, &device, |device| CnnConfig::new(10).with_channels(1).init(device))?;
//! let images = Tensor::<4>::zeros([2, 1, 28, 28], &device);
//! let logits: Tensor<2> = cnn.forward(images);
//! assert_eq!(logits.dims(), [2, 10]);
//! # Ok::<(), firebox_models::Error>(())
//! ```
//!
//! | module | has |
//! |---|---|
//! | [`layers`] | convolution, normalization and pooling of images; recurrent layers, embedding, attention; linear maps |
//! | [`vision`] | [`Cnn`](vision::Cnn) |
//! | [`text`] | [`Seq2Seq`](text::Seq2Seq) with greedy and beam search, [`LanguageModel`](text::LanguageModel), classifier and regressor of sequences |
//! | [`gan`] | generator and discriminator, as maps of vectors and as DCGAN |
//! | [`decoding`] | beam search, and tokens that are drawn |
//!
//! # What differs from Burn's layers, and why
//!
//! Where Burn's own layer gives PyTorch's numbers it is used. These are firebox's own:
//!
//! * [`BatchNorm2d`](layers::BatchNorm2d): Burn keeps the biased variance as running variance, and its clones
//!   share their running statistics, so that a copy made for an average of weights would change the live
//!   model.
//!   Here a clone's are its own ([`Buffer`](layers::Buffer)), and an update is seen at once by whoever saves.
//! * [`Linear`](layers::Linear): Burn keeps the weight transposed.
//! * [`Recurrent`](layers::Recurrent): Burn's layers have one layer, one direction or two, no lengths, gates
//!   apart, and another initialization. Here the gates are stacked as PyTorch stacks them, with its two
//!   biases.
//! * [`Embedding`](layers::Embedding): has a padding token, whose vector is not trained.
//! * [`MultiHeadAttention`](layers::MultiHeadAttention): Burn masks with −10,000, so that what is masked may
//!   have a weight.
//!
//! # Weights
//!
//! [`Weights`](firebox_weights::Weights) loads a file of PyTorch or of safetensors into any module, strictly.
//! Between file and module is a [`StateDict`], for weights under other names:
//!
//! ```no_run
//! use burn::tensor::Device;
//! use firebox_models::layers::ConvBlockConfig;
//! use firebox_weights::{StateDict, Weights};
//!
//! let block = ConvBlockConfig::new(3, 8, 3).init(&Device::default())?;
//! // torch.save(model.state_dict(), "block.pt")
//! let block = block.load_pytorch("block.pt")?;
//! // torch.save({"epoch": 3, "model": parallel.state_dict()}, "checkpoint.pt")
//! let weights = StateDict::read_pytorch_at("checkpoint.pt", &["model"])?.strip_prefix("module.")?;
//! let (block, partial) = weights.apply_partly(block)?;
//! println!("not in the file: {:?}, not in the module: {:?}", partial.missing, partial.unused);
//! block.save_safetensors("block.safetensors")?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Training and evaluation
//!
//! In Burn the device of a model's input decides: on an autodiff device BatchNorm uses and updates batch
//! statistics and dropout drops; on a plain device neither happens. Train on `device.autodiff()`, evaluate
//! with `model.valid()` on the plain device.
//!
//! [`StateDict`]: firebox_weights::StateDict

#![forbid(unsafe_code)]

mod config;
pub mod decoding;
mod error;
mod forward;
pub mod gan;
mod init;
pub mod layers;
mod shape;
pub mod text;
pub mod vision;

pub use error::{Error, ErrorKind, OutOfRange};
pub use forward::Forward;
pub use init::init;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
