//! Linear map, ReLU.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use firebox_kernels::linear::Activation;

use crate::error::{Error, OfPart, check, check_product, fitting};
use crate::forward::Forward;
use crate::layers::linear::{Linear, LinearConfig};

/// Settings of [`LinearBlock`].
///
/// ```
/// use burn::tensor::Device;
/// use firebox_models::layers::LinearBlockConfig;
///
/// let error = LinearBlockConfig::new(3, 0).init(&Device::default()).unwrap_err();
/// assert_eq!(error.to_string(), "LinearBlockConfig.features_out: expected at least 1, got 0");
/// ```
#[derive(Config, Debug)]
pub struct LinearBlockConfig {
    /// Features of the input; at least 1.
    pub features_in: usize,
    /// Features of the output; at least 1.
    pub features_out: usize,
}

/// Linear → ReLU.
///
/// State: `linear.weight`, `linear.bias`. On the CPU both are one operation.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use firebox_models::Forward;
/// use firebox_models::layers::LinearBlockConfig;
///
/// let device = Device::default();
/// let block = LinearBlockConfig::new(3, 4).init(&device)?;
/// let features = block.forward(Tensor::<2>::ones([2, 3], &device));
/// assert_eq!(features.dims(), [2, 4]);
/// # Ok::<(), firebox_models::Error>(())
/// ```
#[derive(Module, Debug)]
pub struct LinearBlock {
    /// The map, initialised uniformly within ±1/√features_in, bias included.
    pub linear: Linear,
}

impl LinearBlockConfig {
    /// The block with PyTorch's initialisation.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) for a value out of its range.
    pub fn init(&self, device: &Device) -> Result<LinearBlock, Error> {
        let Self { features_in, features_out } = *self;
        check(features_in > 0, "LinearBlockConfig.features_in", "at least 1", features_in)?;
        check(features_out > 0, "LinearBlockConfig.features_out", "at least 1", features_out)?;
        let sizes = [("features_in", features_in), ("features_out", features_out)];
        check_product("LinearBlockConfig", 1, &sizes)?;
        Ok(LinearBlock { linear: LinearConfig::new(features_in, features_out).init(device)? })
    }
}

impl<const D: usize> Forward<Tensor<D>> for LinearBlock {
    type Output = Tensor<D>;

    /// `[…, features_in]` to `[…, features_out]`.
    fn forward(&self, input: Tensor<D>) -> Tensor<D> {
        fitting(self.check_input(&input));
        self.linear.activated(input, Activation::Relu)
    }

    fn check_input(&self, input: &Tensor<D>) -> Result<(), Error> {
        self.linear.check_shape(&input.dims()).map_err(|error| error.in_layer("LinearBlock.linear"))
    }
}
