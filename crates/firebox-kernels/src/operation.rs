//! Convolution, batch normalisation, ReLU and pooling, as Burn's tensors see them.

#[cfg(feature = "flex")]
use burn::backend::Dispatch;
use burn::tensor::Tensor;
use burn::tensor::activation::relu;
use burn::tensor::module::{batch_norm_train, conv2d, max_pool2d};
use burn::tensor::ops::{ConvOptions, MaxPoolOptions};
#[cfg(feature = "flex")]
use burn::tensor::{DType, Device};

#[cfg(feature = "flex")]
use crate::flex::KernelOps;
#[cfg(feature = "flex")]
use crate::switch::{count_fallback, enabled};

/// The sizes of a [`conv_block`].
#[derive(Clone, Copy, Debug)]
pub struct ConvBlockSettings {
    /// Step of the kernel in both directions; at least 1.
    pub stride: [usize; 2],
    /// Zeros added at each border.
    pub padding: [usize; 2],
    /// Added to the variance before the root is taken.
    pub epsilon: f64,
    /// Whether 2×2 max pooling with a step of 2 follows.
    pub pool: bool,
}

/// What a [`conv_block`] gives.
#[derive(Clone, Debug)]
pub struct ConvBlockOutput {
    /// `[batch, filters, height, width]`
    pub output: Tensor<4>,
    /// The batch's mean of the convolution's output, `[filters]`, which has no gradient.
    pub mean: Tensor<1>,
    /// Its biased variance, `[filters]`, which has no gradient.
    pub variance: Tensor<1>,
}

/// Conv2d → BatchNorm2d with the batch's statistics → ReLU → 2×2 max pooling, if wanted: images
/// `[batch, channels, height, width]`, weight `[filters, channels, kernel height, kernel width]`, and `[filters]` for bias,
/// γ and β.
///
/// # Panics
/// If shapes don't fit.
pub fn conv_block(
    images: Tensor<4>,
    weight: Tensor<4>,
    bias: Tensor<1>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    settings: ConvBlockSettings,
) -> ConvBlockOutput {
    #[cfg(feature = "flex")]
    if takes(&images, &weight, settings) {
        return kernel(images, weight, bias, gamma, beta, settings);
    }
    plain(images, weight, bias, gamma, beta, settings)
}

#[cfg(feature = "flex")]
fn kernel(
    images: Tensor<4>,
    weight: Tensor<4>,
    bias: Tensor<1>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    settings: ConvBlockSettings,
) -> ConvBlockOutput {
    let ConvBlockSettings { stride, padding, epsilon, pool } = settings;
    let (output, _, statistics) = Dispatch::conv_block(
        images.into_dispatch(),
        weight.into_dispatch(),
        bias.clone().into_dispatch(),
        gamma.into_dispatch(),
        beta.into_dispatch(),
        stride,
        padding,
        epsilon,
        pool,
    );
    let statistics = Tensor::<2>::from_dispatch(statistics);
    let [mean, variance] = [0, 1].map(|row| statistics.clone().narrow(0, row, 1).squeeze_dim::<1>(0));
    ConvBlockOutput { output: Tensor::from_dispatch(output), mean: mean + bias.detach(), variance }
}

/// Whether the kernel takes these inputs.
#[cfg(feature = "flex")]
fn takes(images: &Tensor<4>, weight: &Tensor<4>, settings: ConvBlockSettings) -> bool {
    if !enabled() || images.device().without_autodiff() != Device::flex() {
        return false;
    }
    let ([batch, channels, height, width], [filters, weight_channels, kernel_height, kernel_width]) =
        (images.dims(), weight.dims());
    let ConvBlockSettings { stride: [stride_y, stride_x], padding: [pad_y, pad_x], .. } = settings;
    let fits = height + 2 * pad_y >= kernel_height && width + 2 * pad_x >= kernel_width;
    let sound = batch > 0 && filters > 0 && channels == weight_channels && channels > 0;
    let sound = sound && stride_y > 0 && stride_x > 0 && kernel_height > 0 && kernel_width > 0;
    let takes = images.dtype() == DType::F32 && weight.dtype() == DType::F32 && fits && sound;
    if !takes {
        count_fallback();
    }
    takes
}

fn plain(
    images: Tensor<4>,
    weight: Tensor<4>,
    bias: Tensor<1>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    settings: ConvBlockSettings,
) -> ConvBlockOutput {
    let ConvBlockSettings { stride, padding, epsilon, pool } = settings;
    let inner = conv2d(images, weight, Some(bias), ConvOptions::new(stride, padding, [1, 1], 1));
    let normalised = batch_norm_train(inner, gamma, beta, epsilon);
    let mut output = relu(normalised.output);
    if pool {
        let mut options = MaxPoolOptions::new([2, 2]);
        options.stride = [2, 2];
        output = max_pool2d(output, options);
    }
    ConvBlockOutput { output, mean: normalised.mean.detach(), variance: normalised.variance.detach() }
}
