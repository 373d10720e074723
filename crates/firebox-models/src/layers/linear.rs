//! A linear map whose weight has PyTorch's layout.

use burn::module::{Content, DisplaySettings, Module, ModuleDisplay, Param};
use burn::tensor::{Device, Tensor};
use firebox_kernels::linear::{Activation, linear};
use serde::{Deserialize, Serialize};

use crate::config::config;
use crate::error::{Error, OfPart, check, check_product, fitting, input_error};
use crate::forward::Forward;
use crate::init::uniform;

/// Settings of [`Linear`].
///
/// ```
/// use burn::tensor::Device;
/// use firebox_models::layers::LinearConfig;
///
/// let linear = LinearConfig::new(784, 10).with_bias(false).init(&Device::default())?;
/// // As PyTorch has it: [out, in].
/// assert_eq!(linear.weight.dims(), [10, 784]);
/// # Ok::<(), firebox_models::Error>(())
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LinearConfig {
    /// Features of the input; at least 1.
    #[serde(alias = "features_in")]
    pub in_features: usize,
    /// Features of the output; at least 1.
    #[serde(alias = "features_out")]
    pub out_features: usize,
    /// True if a bias is added.
    pub bias: bool,
}

config! {
    LinearConfig {
        in_features: usize, out_features: usize
        ;
        bias: bool = true, with_bias;
    }
}

/// y = x·Wᵀ + b, as `torch.nn.Linear`.
///
/// State: `weight` `[out_features, in_features]`, `bias` `[out_features]`. Burn's own layer keeps the weight
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
    /// W, initialized uniformly within ±1/√in_features.
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
        let Self { in_features, out_features, bias } = *self;
        check(in_features > 0, "LinearConfig.in_features", "at least 1", in_features)?;
        check(out_features > 0, "LinearConfig.out_features", "at least 1", out_features)?;
        check_product("LinearConfig", 1, &[("in_features", in_features), ("out_features", out_features)])?;
        let within = uniform(in_features);
        Ok(Linear {
            weight: within.init([out_features, in_features], device),
            bias: bias.then(|| within.init([out_features], device)),
        })
    }
}

impl Linear {
    /// `[out_features, in_features]`
    pub(crate) fn sizes(&self) -> [usize; 2] {
        self.weight.dims()
    }

    /// Fails unless a tensor of this shape can be mapped.
    pub(crate) fn check_shape(&self, input: &[usize]) -> Result<(), Error> {
        let [out_features, in_features] = self.sizes();
        match input.last() == Some(&in_features) {
            true => Ok(()),
            false => {
                let front = if input.len() > 1 { ".., " } else { "" };
                let weight = format!(" (weight [{out_features}, {in_features}])");
                let got = format!("{input:?}");
                Err(input_error("Linear", format!("[{front}{in_features}]"), got).with_note(weight))
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

    /// `[…, in_features]` to `[…, out_features]`.
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
        let [out_features, in_features] = self.weight.dims();
        content
            .add("in_features", &in_features)
            .add("out_features", &out_features)
            .add("bias", &self.bias.is_some())
            .optional()
    }
}
