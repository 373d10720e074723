//! Convolution, batch normalisation, ReLU and max pooling.

use std::fmt;

use burn::config::{Config, config_to_json};
use burn::module::Module;
use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use firebox_kernels::convolution::{ConvBlockSettings, conv_block, conv_relu};
use serde::{Deserialize, Serialize};

use crate::error::{Error, OfPart, check, check_product, fitting};
use crate::forward::Forward;
use crate::layers::batch_norm::{BatchNorm2d, BatchNorm2dConfig};
use crate::layers::pooling::{MaxPooling, MaxPoolingConfig};
use crate::shape::{Window, windowed};

/// Settings of [`ConvBlock`].
///
/// ```
/// use firebox_models::layers::{ConvBlockConfig, MaxPoolingConfig};
///
/// let config = ConvBlockConfig::new(3, 32, 3).with_padding(1).with_pooling(MaxPoolingConfig::new(2));
/// assert_eq!((config.in_channels, config.out_channels, config.stride), (3, 32, 1));
/// ```
// Not by Burn's derive, which reads no settings that were saved before a field was there or under its old
// name.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConvBlockConfig {
    /// Channels of the input; at least 1.
    #[serde(alias = "channels_in")]
    pub in_channels: usize,
    /// Channels of the output; at least 1.
    #[serde(alias = "channels_out")]
    pub out_channels: usize,
    /// Height and width of the kernel; at least 1.
    pub kernel_size: usize,
    /// Step of the kernel in both directions; at least 1.
    pub stride: usize,
    /// Zeros added at each border.
    pub padding: usize,
    /// Pooling of the output, if any. With a window of 2×2 and as long a step it takes no pass of its own.
    #[serde(default)]
    pub pooling: Option<MaxPoolingConfig>,
    /// Leaves the output's channels side by side in memory, as PyTorch's `channels_last`.
    ///
    /// It changes no value. The next convolution likes it best, a map to features does not.
    #[serde(default)]
    pub channels_last: bool,
}

impl Config for ConvBlockConfig {}

impl fmt::Display for ConvBlockConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&config_to_json(self))
    }
}

/// Conv2d → BatchNorm2d → ReLU, and max pooling if wanted.
///
/// State: `conv.weight`, `conv.bias`, `bn.weight`, `bn.bias`, `bn.running_mean`, `bn.running_var`,
/// `bn.num_batches_tracked`.
///
/// On the CPU all of it is one operation. A struct of such blocks is as fast as
/// [`Cnn`](crate::vision::Cnn), which is one:
///
/// ```
/// use burn::module::Module;
/// use burn::tensor::{Device, Tensor};
/// use firebox_models::layers::{ConvBlock, ConvBlockConfig, Linear, LinearConfig, MaxPoolingConfig};
/// use firebox_models::{Error, Forward};
///
/// #[derive(Module, Debug)]
/// struct Net {
///     conv1: ConvBlock,
///     conv2: ConvBlock,
///     head: Linear,
/// }
///
/// impl Net {
///     fn init(device: &Device) -> Result<Net, Error> {
///         let block = |from, to| {
///             ConvBlockConfig::new(from, to, 3).with_padding(1).with_pooling(MaxPoolingConfig::new(2))
///         };
///         Ok(Net {
///             conv1: block(1, 16).with_channels_last(true).init(device)?,
///             conv2: block(16, 32).init(device)?,
///             head: LinearConfig::new(32 * 7 * 7, 10).init(device)?,
///         })
///     }
/// }
///
/// impl Forward<Tensor<4>> for Net {
///     type Output = Tensor<2>;
///
///     fn forward(&self, images: Tensor<4>) -> Tensor<2> {
///         self.head.forward(self.conv2.forward(self.conv1.forward(images)).flatten::<2>(1, 3))
///     }
/// }
///
/// let device = Device::default();
/// let logits = Net::init(&device)?.forward(Tensor::zeros([2, 1, 28, 28], &device));
/// assert_eq!(logits.dims(), [2, 10]);
/// # Ok::<(), Error>(())
/// ```
///
/// [`Sequential`](crate::layers::Sequential) saves the struct, and finds pooling and memory layout by itself.
#[derive(Module, Debug)]
pub struct ConvBlock {
    /// The convolution, initialised uniformly within ±1/√(in_channels · kernel_size²), bias included.
    pub conv: Conv2d,
    /// The normalisation.
    pub bn: BatchNorm2d,
    /// The pooling, which has no parameters.
    pub pooling: Option<MaxPooling>,
    padding: usize,
    channels_last: bool,
}

impl ConvBlockConfig {
    /// A block with a step of 1, no padding and no pooling.
    pub fn new(in_channels: usize, out_channels: usize, kernel_size: usize) -> Self {
        ConvBlockConfig {
            in_channels,
            out_channels,
            kernel_size,
            stride: 1,
            padding: 0,
            pooling: None,
            channels_last: false,
        }
    }

    /// Sets the step of the kernel.
    pub fn with_stride(self, stride: usize) -> Self {
        ConvBlockConfig { stride, ..self }
    }

    /// Sets how many zeros are added at each border.
    pub fn with_padding(self, padding: usize) -> Self {
        ConvBlockConfig { padding, ..self }
    }

    /// Adds max pooling of the output.
    pub fn with_pooling(self, pooling: MaxPoolingConfig) -> Self {
        ConvBlockConfig { pooling: Some(pooling), ..self }
    }

    /// Sets whether the output's channels lie side by side in memory.
    pub fn with_channels_last(self, channels_last: bool) -> Self {
        ConvBlockConfig { channels_last, ..self }
    }

    /// The block with PyTorch's initialisation.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) for a value out of its range.
    pub fn init(&self, device: &Device) -> Result<ConvBlock, Error> {
        let Self { in_channels, out_channels, kernel_size, stride, padding, ref pooling, channels_last } =
            *self;
        for (field, value) in [
            ("ConvBlockConfig.in_channels", in_channels),
            ("ConvBlockConfig.out_channels", out_channels),
            ("ConvBlockConfig.kernel_size", kernel_size),
            ("ConvBlockConfig.stride", stride),
        ] {
            check(value > 0, field, "at least 1", value)?;
        }
        const NAME: &str = "ConvBlockConfig";
        let side = ("kernel_size", kernel_size);
        check_product(NAME, 1, &[("in_channels", in_channels), ("out_channels", out_channels), side, side])?;
        check_product(NAME, 1, &[("stride", stride)])?;
        check_product(NAME, 4, &[("padding", padding); 2])?;
        let conv = Conv2dConfig::new([in_channels, out_channels], [kernel_size; 2])
            .with_stride([stride; 2])
            .with_padding(PaddingConfig2d::Explicit(padding, padding, padding, padding))
            .init(device);
        let pooling = pooling.as_ref().map(MaxPoolingConfig::init).transpose()?;
        Ok(ConvBlock {
            conv,
            bn: BatchNorm2dConfig::new(out_channels).init(device)?,
            pooling,
            padding,
            channels_last,
        })
    }
}

impl Forward<Tensor<4>> for ConvBlock {
    type Output = Tensor<4>;

    /// `[batch, in_channels, height, width]` to `[batch, out_channels, height', width']` with
    /// height' = ⌊(height + 2·padding − kernel_size) / stride⌋ + 1, likewise the width, and then pooled.
    fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        fitting(self.check_input(&input));
        self.run(input, self.pooling.as_ref(), self.channels_last)
    }

    fn check_input(&self, input: &Tensor<4>) -> Result<(), Error> {
        self.output_shape(input.dims(), self.bn.trains(input)).map(drop)
    }
}

/// The shape of what a convolution with so much padding at each border makes of an input of this shape.
pub(crate) fn convolved(
    layer: &str,
    conv: &Conv2d,
    padding: usize,
    input: [usize; 4],
) -> Result<[usize; 4], Error> {
    let [given, wanted, ..] = conv.weight.dims();
    let Conv2d { kernel_size, stride, dilation, groups, .. } = conv;
    let window = |axis: usize| Window {
        size: kernel_size[axis],
        stride: stride[axis],
        padding,
        dilation: dilation[axis],
    };
    windowed(layer, input, Some([wanted * groups, given]), [window(0), window(1)])
}

impl ConvBlock {
    /// The shape of the output for an input of this shape.
    ///
    /// With `trains` the batch is to be normalised by itself.
    pub(crate) fn output_shape(&self, input: [usize; 4], trains: bool) -> Result<[usize; 4], Error> {
        let output = convolved("ConvBlock.conv", &self.conv, self.padding, input)?;
        self.bn.check_shape(output, trains).map_err(|error| error.in_layer("ConvBlock.bn"))?;
        match &self.pooling {
            Some(pooling) => {
                pooling.output_shape(output).map_err(|error| error.in_layer("ConvBlock.pooling"))
            }
            None => Ok(output),
        }
    }

    /// The block, and what it can take over from the layers after it.
    ///
    /// `pooling` is that of the layer after it, and `before_block` says whether another block comes next.
    pub(crate) fn forward_before(
        &self,
        input: Tensor<4>,
        pooling: Option<&MaxPooling>,
        before_block: bool,
    ) -> Tensor<4> {
        fitting(self.check_input(&input));
        if let Some(pooling) = pooling {
            let trains = self.bn.trains(&input);
            fitting(self.output_shape(input.dims(), trains).and_then(|shape| pooling.output_shape(shape)));
        }
        self.run(input, pooling.or(self.pooling.as_ref()), self.channels_last || before_block)
    }

    /// All of it as one operation where that is possible.
    fn run(&self, input: Tensor<4>, pool: Option<&MaxPooling>, channels_last: bool) -> Tensor<4> {
        let halves = pool.is_some_and(MaxPooling::halves);
        let (output, pooled) = match self.settings(halves, channels_last) {
            Some((bias, settings)) if self.bn.trains(&input) => (self.train(input, bias, settings), halves),
            // A gradient goes through the normalisation as it is.
            Some((bias, settings)) if !input.device().is_autodiff() => {
                let (weight, bias) = self.bn.fold(self.conv.weight.val(), bias);
                (conv_relu(input, weight, bias, settings), halves)
            }
            _ => (relu(self.bn.forward(self.conv.forward(input))), false),
        };
        match pool {
            Some(pool) if !pooled => pool.forward(output),
            _ => output,
        }
    }

    /// The kernel's settings, if the convolution is one that [`ConvBlockConfig`] makes.
    fn settings(&self, pool: bool, channels_last: bool) -> Option<(Tensor<1>, ConvBlockSettings)> {
        let Conv2d { bias: Some(bias), stride, dilation, groups, .. } = &self.conv else { return None };
        let padding = [self.padding; 2];
        let settings = ConvBlockSettings {
            stride: *stride,
            padding,
            dilation: *dilation,
            groups: *groups,
            pool,
            channels_last,
        };
        Some((bias.val(), settings))
    }

    fn train(&self, input: Tensor<4>, bias: Tensor<1>, settings: ConvBlockSettings) -> Tensor<4> {
        let ([batch, _, height, width], Conv2d { kernel_size, stride, dilation, .. }) =
            (input.dims(), &self.conv);
        let out = |axis: usize, length: usize| {
            let reach = (kernel_size[axis] - 1) * dilation[axis] + 1;
            let rest = (length + 2 * self.padding).checked_sub(reach);
            rest.map_or(0, |rest| rest / stride[axis] + 1)
        };
        let values = batch * out(0, height) * out(1, width);
        let (gamma, beta, epsilon) = (self.bn.weight.val(), self.bn.bias.val(), self.bn.epsilon());
        let result = conv_block(input, self.conv.weight.val(), bias, gamma, beta, epsilon, settings);
        self.bn.observe(result.mean, result.variance, values);
        result.output
    }
}
