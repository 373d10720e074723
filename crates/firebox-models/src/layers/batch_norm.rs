//! Batch normalization of images with PyTorch's running statistics.

use burn::module::{Content, DisplaySettings, Flag, Initializer, Module, ModuleDisplay, Param};
use burn::tensor::module::{batch_norm, batch_norm_train};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::config::config;
use crate::error::{Error, check, check_product, fitting, input_error};
use crate::layers::buffer::Buffer;
use crate::layers::counter::Counter;

/// Settings of [`BatchNorm2d`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BatchNorm2dConfig {
    /// The number of channels; at least 1.
    pub channels: usize,
    /// The number that is added to the variance before the root is taken; above 0.
    #[serde(alias = "epsilon")]
    pub eps: f64,
    /// The weight of the current batch in the running statistics, from 0 to 1.
    pub momentum: f64,
}

config! {
    BatchNorm2dConfig {
        channels: usize
        ;
        eps: f64 = 1e-5, with_eps;
        momentum: f64 = 0.1, with_momentum;
    }
}

/// Batch normalization over `[batch, channels, height, width]`, as `torch.nn.BatchNorm2d`
/// (Ioffe, Szegedy 2015).
///
/// Burn's own BatchNorm differs in two ways that matter here. It keeps the biased variance of the batch as
/// running variance, where PyTorch keeps the unbiased one; and its clones share their running statistics.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use firebox_models::Forward;
/// use firebox_models::layers::BatchNorm2dConfig;
///
/// let device = Device::default();
/// let norm = BatchNorm2dConfig::new(3).init(&device.clone().autodiff())?;
/// norm.forward(Tensor::ones([2, 3, 4, 4], &device.clone().autodiff()));
/// assert_eq!(norm.num_batches_tracked.value(), 1);
/// assert_eq!(norm.running_mean.value().into_data().try_to_vec::<f32>()?, [0.1; 3]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct BatchNorm2d {
    /// The scale γ, `[channels]`.
    pub weight: Param<Tensor<1>>,
    /// The shift β, `[channels]`.
    pub bias: Param<Tensor<1>>,
    /// Running mean, `[channels]`.
    pub running_mean: Buffer<1>,
    /// Running unbiased variance, `[channels]`.
    pub running_var: Buffer<1>,
    /// The batches that the running statistics have seen.
    pub num_batches_tracked: Counter,
    /// A flag that `freeze` clears.
    ///
    /// A frozen layer uses its running statistics and leaves them as they are.
    pub training: Param<Flag>,
    eps: f64,
    momentum: f64,
}

impl BatchNorm2dConfig {
    /// The layer with scale 1 and shift 0.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) for a value out of its range.
    pub fn init(&self, device: &Device) -> Result<BatchNorm2d, Error> {
        let Self { channels, eps, momentum } = *self;
        check(channels > 0, "BatchNorm2dConfig.channels", "at least 1", channels)?;
        check_product("BatchNorm2dConfig", 1, &[("channels", channels)])?;
        check(eps > 0.0 && eps.is_finite(), "BatchNorm2dConfig.eps", "a number above 0", eps)?;
        check((0.0..=1.0).contains(&momentum), "BatchNorm2dConfig.momentum", "0 to 1", momentum)?;
        Ok(BatchNorm2d {
            weight: Initializer::Ones.init([channels], device),
            bias: Initializer::Zeros.init([channels], device),
            running_mean: Buffer::new(Tensor::zeros([channels], device)),
            running_var: Buffer::new(Tensor::ones([channels], device)),
            num_batches_tracked: Counter::new(device),
            training: Param::from_bool(true),
            eps,
            momentum,
        })
    }
}

impl BatchNorm2d {
    /// `[batch, channels, height, width]` to the same shape.
    ///
    /// On an autodiff device it normalizes with the batch's statistics and updates the running ones; else it
    /// uses the running ones.
    ///
    /// # Panics
    /// If the input has another number of channels, or, in training, only one value a channel.
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        fitting(self.check_input(&input));
        if self.trains(&input) {
            self.forward_train(input)
        } else {
            let (mean, var) = (self.running_mean.value(), self.running_var.value());
            batch_norm(input, self.weight.val(), self.bias.val(), mean, var, self.eps)
        }
    }

    /// Looks whether an input has the channels, and in training a variance.
    ///
    /// On an autodiff device it needs more than one value a channel.
    ///
    /// # Errors
    /// [`ErrorKind::Input`](crate::ErrorKind::Input) says what it wants and what came.
    pub fn check_input(&self, input: &Tensor<4>) -> Result<(), Error> {
        self.check_shape(input.dims(), self.trains(input))
    }

    /// The same for an input of this shape, which is in training or not.
    pub(crate) fn check_shape(&self, input: [usize; 4], trains: bool) -> Result<(), Error> {
        const LAYER: &str = "BatchNorm2d";
        let ([batch, got, height, width], [channels]) = (input, self.weight.dims());
        if got != channels {
            return Err(input_error(LAYER, format!("[.., {channels}, .., ..]"), format!("{input:?}")));
        }
        // A product of sizes that a tensor has.
        if trains && batch * height * width <= 1 {
            let expected = "more than one value per channel in training";
            return Err(input_error(LAYER, expected, format!("input {input:?}")));
        }
        Ok(())
    }

    fn forward_train(&self, input: Tensor<4>) -> Tensor<4> {
        let [batch, _, height, width] = input.dims();
        let values = batch * height * width;
        let result = batch_norm_train(input, self.weight.val(), self.bias.val(), self.eps);
        self.observe(result.mean, result.variance, values);
        result.output
    }

    /// True if it normalizes with the batch's statistics.
    pub(crate) fn trains(&self, input: &Tensor<4>) -> bool {
        input.device().is_autodiff() && self.training.is_enabled()
    }

    pub(crate) fn epsilon(&self) -> f64 {
        self.eps
    }

    /// Weight and bias of a convolution with the normalization by running statistics in them.
    pub(crate) fn fold(&self, weight: Tensor<4>, bias: Tensor<1>) -> (Tensor<4>, Tensor<1>) {
        let (mean, var) = (self.running_mean.value(), self.running_var.value());
        let scale = self.weight.val() / var.add_scalar(self.eps).sqrt();
        let bias = (bias - mean) * scale.clone() + self.bias.val();
        let [channels] = scale.dims();
        (weight * scale.reshape([channels, 1, 1, 1]), bias)
    }

    /// Takes note of a batch's mean and biased variance, of so many values a channel.
    pub(crate) fn observe(&self, mean: Tensor<1>, variance: Tensor<1>, values: usize) {
        let unbiased = variance.mul_scalar(values as f64 / (values - 1) as f64);
        let blend = |old: Tensor<1>, new: Tensor<1>| {
            old.mul_scalar(1.0 - self.momentum).add(new.detach().mul_scalar(self.momentum))
        };
        self.running_mean.update(|old| blend(old, mean));
        self.running_var.update(|old| blend(old, unbiased));
        self.num_batches_tracked.increment();
    }
}

impl ModuleDisplay for BatchNorm2d {
    fn custom_settings(&self) -> Option<DisplaySettings> {
        DisplaySettings::new().with_new_line_after_attribute(false).optional()
    }

    fn custom_content(&self, content: Content) -> Option<Content> {
        let [channels] = self.weight.dims();
        content.add("channels", &channels).add("eps", &self.eps).add("momentum", &self.momentum).optional()
    }
}
