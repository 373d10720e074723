//! Convolution, batch normalisation, ReLU.

use burn::config::Config;
use burn::module::Module;
use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use firebox_kernels::{ConvBlockSettings, conv_block, conv_relu};

use crate::error::{Error, OfPart, check, check_product, fitting};
use crate::forward::Forward;
use crate::layers::batch_norm::{BatchNorm2d, BatchNorm2dConfig};
use crate::layers::pooling::MaxPooling;
use crate::shape::{Window, windowed};

/// Settings of [`ConvBlock`].
#[derive(Config, Debug)]
pub struct ConvBlockConfig {
    /// Channels of the input; at least 1.
    pub channels_in: usize,
    /// Channels of the output; at least 1.
    pub channels_out: usize,
    /// Height and width of the kernel; at least 1.
    pub kernel_size: usize,
    /// Step of the kernel in both directions; at least 1.
    #[config(default = 1)]
    pub stride: usize,
    /// Zeros added at each border.
    #[config(default = 0)]
    pub padding: usize,
}

/// Conv2d → BatchNorm2d → ReLU.
///
/// State: `conv.weight`, `conv.bias`, `bn.weight`, `bn.bias`, `bn.running_mean`, `bn.running_var`,
/// `bn.num_batches_tracked`.
#[derive(Module, Debug)]
pub struct ConvBlock {
    /// The convolution, initialised uniformly within ±1/√(channels_in · kernel_size²), bias included.
    pub conv: Conv2d,
    /// The normalisation.
    pub bn: BatchNorm2d,
    padding: usize,
}

impl ConvBlockConfig {
    /// The block with PyTorch's initialisation.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) for a value out of its range.
    pub fn init(&self, device: &Device) -> Result<ConvBlock, Error> {
        let Self { channels_in, channels_out, kernel_size, stride, padding } = *self;
        for (field, value) in [
            ("ConvBlockConfig.channels_in", channels_in),
            ("ConvBlockConfig.channels_out", channels_out),
            ("ConvBlockConfig.kernel_size", kernel_size),
            ("ConvBlockConfig.stride", stride),
        ] {
            check(value > 0, field, "at least 1", value)?;
        }
        const NAME: &str = "ConvBlockConfig";
        let side = ("kernel_size", kernel_size);
        check_product(NAME, 1, &[("channels_in", channels_in), ("channels_out", channels_out), side, side])?;
        check_product(NAME, 1, &[("stride", stride)])?;
        check_product(NAME, 4, &[("padding", padding); 2])?;
        let conv = Conv2dConfig::new([channels_in, channels_out], [kernel_size; 2])
            .with_stride([stride; 2])
            .with_padding(PaddingConfig2d::Explicit(padding, padding, padding, padding))
            .init(device);
        Ok(ConvBlock { conv, bn: BatchNorm2dConfig::new(channels_out).init(device)?, padding })
    }
}

impl Forward<Tensor<4>> for ConvBlock {
    type Output = Tensor<4>;

    /// `[batch, channels_in, height, width]` to `[batch, channels_out, height', width']` with
    /// height' = ⌊(height + 2·padding − kernel_size) / stride⌋ + 1, likewise the width.
    fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        fitting(self.check_input(&input));
        self.run(input, None, false)
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
    /// The shape of what an input of this shape becomes, before pooling; whether the batch is to be normalised by itself.
    pub(crate) fn output_shape(&self, input: [usize; 4], trains: bool) -> Result<[usize; 4], Error> {
        let output = convolved("ConvBlock.conv", &self.conv, self.padding, input)?;
        self.bn.check_shape(output, trains).map_err(|error| error.in_layer("ConvBlock.bn"))?;
        Ok(output)
    }

    /// The block and pooling of what fits: `[batch, channels_in, height, width]` to `[batch, channels_out, height', width']`, pooled.
    /// With `channels_last` it lies in memory as another block likes it.
    pub(crate) fn forward_pooled(
        &self,
        input: Tensor<4>,
        pool: &MaxPooling,
        channels_last: bool,
    ) -> Tensor<4> {
        self.run(input, Some(pool), channels_last)
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

    /// What a kernel needs to know, if the convolution is one that [`ConvBlockConfig`] makes.
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
