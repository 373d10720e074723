//! Layers and blocks that models are made of.
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use firebox_models::Forward;
//! use firebox_models::layers::{ConvBlockConfig, MaxPoolingConfig};
//!
//! let block = ConvBlockConfig::new(3, 8, 3).with_padding(1).init(&Device::default())?;
//! let pool = MaxPoolingConfig::new(2).init()?;
//! let images = Tensor::<4>::zeros([2, 3, 8, 8], &Device::default());
//! assert_eq!(pool.forward(block.forward(images)).dims(), [2, 8, 4, 4]);
//! # Ok::<(), firebox_models::Error>(())
//! ```

pub(crate) mod attention;
pub(crate) mod batch_norm;
pub(crate) mod batch_norms;
pub(crate) mod buffer;
pub(crate) mod conv_block;
pub(crate) mod counter;
pub(crate) mod embedding;
pub(crate) mod linear;
pub(crate) mod linear_block;
pub(crate) mod mask;
pub(crate) mod pooling;
pub(crate) mod recurrent;
pub(crate) mod sequential;

pub use attention::attention_block::{AttentionBlock, AttentionBlockConfig};
pub use attention::multi_head_attention::{AttentionMask, MultiHeadAttention, MultiHeadAttentionConfig};
pub use batch_norm::{BatchNorm2d, BatchNorm2dConfig};
pub use batch_norms::batch_norms;
pub use buffer::Buffer;
pub use conv_block::{ConvBlock, ConvBlockConfig};
pub use counter::Counter;
pub use embedding::{Embedding, EmbeddingConfig};
pub use linear::{Linear, LinearConfig};
pub use linear_block::{LinearBlock, LinearBlockConfig};
pub use mask::sequence_mask;
pub use pooling::{AvgPooling, AvgPoolingConfig, MaxPooling, MaxPoolingConfig};
pub use recurrent::cell::Cell;
pub use recurrent::gru_block::{GruBlock, GruBlockConfig};
pub use recurrent::layer::{Recurrent, RecurrentConfig, RecurrentState};
pub use recurrent::lstm_block::{LstmBlock, LstmBlockConfig, LstmState};
pub use recurrent::rnn_block::{Nonlinearity, RnnBlock, RnnBlockConfig};
pub use sequential::{Flatten, Sequential};
