//! A linear map whose weight has PyTorch's layout.

use burn::config::Config;
use burn::module::{Content, DisplaySettings, Module, ModuleDisplay, Param};
use burn::tensor::{Device, Tensor};
use firebox_kernels::{Activation, linear};

use crate::error::{Error, OfPart, check, check_product, fitting, input_error};
use crate::forward::Forward;
use crate::init::uniform;

/// Settings of [`Linear`].
#[derive(Config, Debug)]
pub struct LinearConfig {
    /// Features of the input; at least 1.
    pub features_in: usize,
    /// Features of the output; at least 1.
    pub features_out: usize,
    /// True if a bias is added.
    #[config(default = true)]
    pub bias: bool,
}

/// y = x·Wᵀ + b, as `torch.nn.Linear`.
///
/// State: `weight` `[features_out, features_in]`, `bias` `[features_out]`. Burn's own layer keeps the weight
/// transposed.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use firebox_models::Forward;
/// use firebox_models::layers::LinearConfig;
///
/// let device = Device::default();
/// let linear = LinearConfig::new(3, 2).with_bias(false).init(&device)?;
/// assert_eq!(linear.weight.dims(), [2, 3]);
/// assert_eq!(linear.forward(Tensor::<2>::zeros([5, 3], &device)).dims(), [5, 2]);
/// # Ok::<(), firebox_models::Error>(())
/// ```
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct Linear {
    /// W, initialized uniformly within ±1/√features_in.
    pub weight: Param<Tensor<2>>,
    /// b, initialized as the weight is.
    pub bias: Option<Param<Tensor<1>>>,
}

impl LinearConfig {
    /// The layer with PyTorch's initialization.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) for a value out of its range.
    pub fn init(&self, device: &Device) -> Result<Linear, Error> {
        let Self { features_in, features_out, bias } = *self;
        check(features_in > 0, "LinearConfig.features_in", "at least 1", features_in)?;
        check(features_out > 0, "LinearConfig.features_out", "at least 1", features_out)?;
        check_product("LinearConfig", 1, &[("features_in", features_in), ("features_out", features_out)])?;
        let within = uniform(features_in);
        Ok(Linear {
            weight: within.init([features_out, features_in], device),
            bias: bias.then(|| within.init([features_out], device)),
        })
    }
}

impl Linear {
    /// `[features_out, features_in]`
    pub(crate) fn sizes(&self) -> [usize; 2] {
        self.weight.dims()
    }

    /// Fails unless a tensor of this shape can be mapped.
    pub(crate) fn check_shape(&self, input: &[usize]) -> Result<(), Error> {
        let [features_out, features_in] = self.sizes();
        match input.last() == Some(&features_in) {
            true => Ok(()),
            false => {
                let front = if input.len() > 1 { ".., " } else { "" };
                let weight = format!(" (weight [{features_out}, {features_in}])");
                let got = format!("{input:?}");
                Err(input_error("Linear", format!("[{front}{features_in}]"), got).with_note(weight))
            }
        }
    }

    /// The map of what fits, and what follows it.
    pub(crate) fn activated<const D: usize>(&self, input: Tensor<D>, activation: Activation) -> Tensor<D> {
        linear(input, self.weight.val(), self.bias.as_ref().map(Param::val), activation)
    }
}

impl<const D: usize> Forward<Tensor<D>> for Linear {
    type Output = Tensor<D>;

    /// `[…, features_in]` to `[…, features_out]`.
    fn forward(&self, input: Tensor<D>) -> Tensor<D> {
        fitting(self.check_shape(&input.dims()));
        self.activated(input, Activation::None)
    }

    fn check_input(&self, input: &Tensor<D>) -> Result<(), Error> {
        self.check_shape(&input.dims())
    }
}

impl ModuleDisplay for Linear {
    fn custom_settings(&self) -> Option<DisplaySettings> {
        DisplaySettings::new().with_new_line_after_attribute(false).optional()
    }

    fn custom_content(&self, content: Content) -> Option<Content> {
        let [features_out, features_in] = self.weight.dims();
        content
            .add("features_in", &features_in)
            .add("features_out", &features_out)
            .add("bias", &self.bias.is_some())
            .optional()
    }
}
