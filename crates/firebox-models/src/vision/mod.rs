//! Models of images.
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use firebox_models::vision::CnnConfig;
//! use firebox_models::{Forward, init};
//!
//! let device = Device::default();
//! let cnn = init(42, &device, |device| CnnConfig::new(10).with_channels(1).init(device))?;
//! assert_eq!(cnn.forward(Tensor::zeros([2, 1, 28, 28], &device)).dims(), [2, 10]);
//! # Ok::<(), firebox_models::Error>(())
//! ```

pub(crate) mod cnn;

pub use cnn::{Cnn, CnnConfig};
