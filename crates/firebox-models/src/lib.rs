//! Blocks and models for Burn that compute what PyTorch's compute.
//!
//! Names, defaults, initialisation and the keys of the state dictionary follow PyTorch; tensors have Burn's
//! layout, so that a linear map's weight is PyTorch's transposed. Where Burn's
//! own layer gives the same numbers it is used; where it doesn't, this crate has its own and says why: so
//! far [`BatchNorm2d`], whose running variance is unbiased and whose running state is not shared by clones.
//!
//! Each block has a config with its defaults, which is validated when the block is made:
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
mod batch_norm;
mod buffer;
mod cnn;
mod conv_block;
mod counter;
mod error;
mod forward;
mod init;
mod linear_block;
mod pickle;
mod pooling;
mod pytorch_file;
mod safetensors_file;
mod state_dict;
mod weights;

pub use apply::Partial;
pub use batch_norm::{BatchNorm2d, BatchNorm2dConfig};
pub use buffer::Buffer;
pub use cnn::{Cnn, CnnConfig};
pub use conv_block::{ConvBlock, ConvBlockConfig};
pub use counter::Counter;
pub use error::{Error, ErrorKind};
pub use forward::Forward;
pub use init::init;
pub use linear_block::{LinearBlock, LinearBlockConfig};
pub use pooling::{MaxPooling, MaxPoolingConfig};
pub use state_dict::StateDict;
pub use weights::Weights;
