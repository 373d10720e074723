//! Convolution, batch normalisation, ReLU and pooling in one operation.

#[cfg(feature = "flex")]
use burn::tensor::Device;
use burn::tensor::Tensor;
use burn::tensor::activation::relu;
use burn::tensor::module::{batch_norm_train, conv2d, max_pool2d};
use burn::tensor::ops::{ConvOptions, MaxPoolOptions};

#[cfg(feature = "flex")]
use crate::convolution::kernel::{ConvBlock, Geometry, Normalisation};
#[cfg(feature = "flex")]
use crate::operation::fused::{Order, fused};
use crate::operation::shape::expect_shape;
#[cfg(feature = "flex")]
use crate::operation::switch::eligible;

#[cfg(feature = "flex")]
mod kernel;

/// The sizes of a [`conv_block`].
///
/// ```
/// use firebox_kernels::convolution::ConvBlockSettings;
///
/// let settings = ConvBlockSettings { padding: [1, 1], pool: true, ..ConvBlockSettings::default() };
/// assert_eq!((settings.stride, settings.groups), ([1, 1], 1));
/// ```
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
    /// Adds 2×2 max pooling with a step of 2.
    pub pool: bool,
    /// Has the kernel leave the output's channels side by side in memory.
    ///
    /// It changes no value. The next convolution's kernel likes it best.
    pub channels_last: bool,
}

/// The result of a [`conv_block`], whose page has an example.
#[derive(Clone, Debug)]
pub struct ConvBlockOutput {
    /// `[batch, filters, height, width]`
    pub output: Tensor<4>,
    /// The batch's mean of the convolution's output, `[filters]`, which has no gradient.
    pub mean: Tensor<1>,
    /// Its biased variance, `[filters]`, which has no gradient.
    pub variance: Tensor<1>,
}

impl Default for ConvBlockSettings {
    /// A step of 1, and nothing else.
    fn default() -> Self {
        ConvBlockSettings {
            stride: [1; 2],
            padding: [0; 2],
            dilation: [1; 2],
            groups: 1,
            pool: false,
            channels_last: false,
        }
    }
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

/// Conv2d → BatchNorm2d with the batch's statistics → ReLU → 2×2 max pooling, if wanted.
///
/// Images are `[batch, channels, height, width]`, the weight
/// `[filters, channels / groups, kernel height, kernel width]`, bias, γ and β `[filters]`. `epsilon` is added
/// to the variance before the root is taken.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use firebox_kernels::conv_block;
/// use firebox_kernels::convolution::ConvBlockSettings;
///
/// let device = Device::default();
/// let (images, weight) = (Tensor::ones([2, 1, 4, 4], &device), Tensor::ones([3, 1, 3, 3], &device));
/// let [bias, gamma, beta] = [0.0, 1.0, 0.5].map(|x| Tensor::<1>::full([3], x, &device));
/// let settings = ConvBlockSettings { padding: [1, 1], pool: true, ..ConvBlockSettings::default() };
/// let block = conv_block(images, weight, bias, gamma, beta, 1e-5, settings);
/// assert_eq!(block.output.dims(), [2, 3, 2, 2]);
/// // Sums of 4, 6 and 9 ones: 4 corners, 8 places at borders and 4 inside.
/// assert_eq!(block.mean.into_data().try_to_vec::<f32>().unwrap(), [6.25; 3]);
/// ```
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

/// Conv2d → ReLU → 2×2 max pooling, if wanted.
///
/// It is what remains of a [`conv_block`] for inference, with the normalisation by running statistics folded
/// into weight and bias. The kernel has no gradient: where one may be wanted, the plain operations run.
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
