//! Convolution, batch normalisation, ReLU and pooling, as Burn's tensors see them.

#[cfg(feature = "flex")]
use burn::tensor::Device;
use burn::tensor::Tensor;
use burn::tensor::activation::relu;
use burn::tensor::module::{batch_norm_train, conv2d, max_pool2d};
use burn::tensor::ops::{ConvOptions, MaxPoolOptions};

#[cfg(feature = "flex")]
use crate::convolution::kernel::{ConvBlock, Geometry, Normalisation};
#[cfg(feature = "flex")]
use crate::fused::{Order, fused};
use crate::shape::expect_shape;
#[cfg(feature = "flex")]
use crate::switch::eligible;

#[cfg(feature = "flex")]
mod kernel;

/// The sizes of a [`conv_block`].
#[derive(Clone, Copy, Debug)]
pub struct ConvBlockSettings {
    /// Step of the kernel in both directions; at least 1.
    pub stride: [usize; 2],
    /// Zeros added at each border.
    pub padding: [usize; 2],
    /// Step between the elements of the kernel; at least 1.
    pub dilation: [usize; 2],
    /// Groups of channels that don't mix; at least 1. There is no kernel for more than one.
    pub groups: usize,
    /// Whether 2×2 max pooling with a step of 2 follows.
    pub pool: bool,
    /// Whether the kernel leaves the output's channels side by side in memory, which is what the next convolution's likes
    /// best. It changes no value.
    pub channels_last: bool,
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

impl ConvBlockSettings {
    /// Panics unless the shapes fit.
    #[track_caller]
    fn expect(
        &self,
        operation: &str,
        images: &Tensor<4>,
        weight: &Tensor<4>,
        of_filters: &[(&str, &Tensor<1>)],
    ) {
        let ([_, channels, height, width], [filters, within, rows, columns]) = (images.dims(), weight.dims());
        let ConvBlockSettings { stride, padding, dilation, groups, pool, .. } = *self;
        for (name, values) in [("stride", stride), ("dilation", dilation), ("groups", [groups; 2])] {
            assert!(!values.contains(&0), "{operation}: expected {name} of at least 1, got {values:?}");
        }
        let (of_group, rest) = (channels / groups, channels % groups + filters % groups);
        assert!(
            rest == 0 && within == of_group,
            "{operation}: expected a weight [.., {of_group}, .., ..] for images {:?} and groups {groups}, got {:?}",
            images.dims(),
            weight.dims()
        );
        for (name, tensor) in of_filters {
            expect_shape(operation, name, tensor.dims(), [filters]);
        }
        let places = [(0, height, rows), (1, width, columns)].map(|(axis, length, kernel)| {
            // As many as the kernel has; `None` if a number is too large, or there is no place.
            let reach = kernel.checked_sub(1)?.checked_mul(dilation[axis])?.checked_add(1)?;
            let rest = padding[axis].checked_mul(2)?.checked_add(length)?.checked_sub(reach)?;
            Some(rest / stride[axis] + 1)
        });
        let least = if pool { 2 } else { 1 };
        assert!(
            places.iter().all(|places| places.is_some_and(|places| places >= least)),
            "{operation}: expected images in which a kernel {:?} with padding {padding:?} and dilation {dilation:?} has \
             {least} place(s) in each direction, got {:?}",
            [rows, columns],
            images.dims()
        );
    }
}

/// Conv2d → BatchNorm2d with the batch's statistics → ReLU → 2×2 max pooling, if wanted: images
/// `[batch, channels, height, width]`, weight `[filters, channels / groups, kernel height, kernel width]`, and `[filters]`
/// for bias, γ and β. `epsilon` is added to the variance before the root is taken.
///
/// # Panics
/// If shapes don't fit.
pub fn conv_block(
    images: Tensor<4>,
    weight: Tensor<4>,
    bias: Tensor<1>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    epsilon: f64,
    settings: ConvBlockSettings,
) -> ConvBlockOutput {
    let of_filters = [("a bias", &bias), ("γ", &gamma), ("β", &beta)];
    settings.expect("conv_block", &images, &weight, &of_filters);
    #[cfg(feature = "flex")]
    if let Some(operation) =
        kernel(&images, &weight, [&bias, &gamma, &beta], Normalisation::OfBatch(epsilon), settings)
    {
        let inputs = [
            images.into_dispatch(),
            weight.into_dispatch(),
            bias.clone().into_dispatch(),
            gamma.into_dispatch(),
            beta.into_dispatch(),
        ];
        let [output, statistics] = fused(operation, inputs);
        let statistics = Tensor::<2>::from_dispatch(statistics);
        let [mean, variance] = [0, 1].map(|row| statistics.clone().narrow(0, row, 1).squeeze_dim::<1>(0));
        return ConvBlockOutput {
            output: Tensor::from_dispatch(output),
            mean: mean + bias.detach(),
            variance,
        };
    }
    let normalised = batch_norm_train(convolution(images, weight, bias, settings), gamma, beta, epsilon);
    ConvBlockOutput {
        output: activation(normalised.output, settings.pool),
        mean: normalised.mean.detach(),
        variance: normalised.variance.detach(),
    }
}

/// Conv2d → ReLU → 2×2 max pooling, if wanted: what remains of a [`conv_block`] for inference, with the normalisation by
/// running statistics folded into weight and bias. The kernel has no gradient: where one may be wanted, the plain
/// operations run.
///
/// # Panics
/// If shapes don't fit.
pub fn conv_relu(
    images: Tensor<4>,
    weight: Tensor<4>,
    bias: Tensor<1>,
    settings: ConvBlockSettings,
) -> Tensor<4> {
    settings.expect("conv_relu", &images, &weight, &[("a bias", &bias)]);
    #[cfg(feature = "flex")]
    if ![images.device(), weight.device(), bias.device()].iter().any(Device::is_autodiff)
        && let Some(operation) = kernel(&images, &weight, [&bias; 3], Normalisation::Folded, settings)
    {
        let bias = bias.into_dispatch();
        let inputs = [images.into_dispatch(), weight.into_dispatch(), bias.clone(), bias.clone(), bias];
        let [output] = fused(operation, inputs);
        return Tensor::from_dispatch(output);
    }
    activation(convolution(images, weight, bias, settings), settings.pool)
}

/// The operation, if there is one for these inputs.
#[cfg(feature = "flex")]
fn kernel(
    images: &Tensor<4>,
    weight: &Tensor<4>,
    of_filters: [&Tensor<1>; 3],
    normalisation: Normalisation,
    settings: ConvBlockSettings,
) -> Option<ConvBlock> {
    let ConvBlockSettings { stride, padding, dilation, groups, pool, channels_last } = settings;
    let ([batch, channels, height, width], [filters, _, kernel_height, kernel_width]) =
        (images.dims(), weight.dims());
    // The shapes fit: the kernel has a place, and what is pooled a window at least.
    let kernel = [kernel_height, kernel_width];
    let sizes = [batch, filters, channels, height, width];
    let mut tensors = vec![(images.device(), images.dtype()), (weight.device(), weight.dtype())];
    tensors.extend(of_filters.map(|tensor| (tensor.device(), tensor.dtype())));
    let size = [height, width];
    let takes = || groups == 1 && sizes.iter().all(|&size| size > 0);
    eligible(&tensors, takes).then_some(ConvBlock {
        batch,
        filters,
        geometry: Geometry { channels, size, kernel, stride, padding, dilation },
        pool,
        normalisation,
        order: Order::Contiguous,
        output_order: if channels_last { Order::ChannelsLast } else { Order::Contiguous },
    })
}

fn convolution(
    images: Tensor<4>,
    weight: Tensor<4>,
    bias: Tensor<1>,
    settings: ConvBlockSettings,
) -> Tensor<4> {
    let ConvBlockSettings { stride, padding, dilation, groups, .. } = settings;
    conv2d(images, weight, Some(bias), ConvOptions::new(stride, padding, dilation, groups))
}

fn activation(normalised: Tensor<4>, pool: bool) -> Tensor<4> {
    let output = relu(normalised);
    if !pool {
        return output;
    }
    let mut options = MaxPoolOptions::new([2, 2]);
    options.stride = [2, 2];
    max_pool2d(output, options)
}
