//! Pooling over windows of images: the maximum or the mean of each.

#[cfg(feature = "flex")]
use burn::tensor::DType;
#[cfg(feature = "flex")]
use burn::tensor::Device;
use burn::tensor::Tensor;
use burn::tensor::module;
use burn::tensor::ops::{AvgPoolOptions, MaxPoolOptions};

#[cfg(feature = "flex")]
use crate::operation::fused::{Order, fused};
#[cfg(feature = "flex")]
use crate::operation::switch::eligible;
#[cfg(feature = "flex")]
use crate::pooling::kernel::{Pooling, Reduction};

#[cfg(feature = "flex")]
mod kernel;
mod settings;

pub use settings::PoolSettings;

/// The maximum of each window, as `torch.nn.functional.max_pool2d`.
///
/// Images `[batch, channels, height, width]` become `[batch, channels, height', width']` with height' =
/// ⌊(height + 2·padding − kernel_size) / stride⌋ + 1, likewise the width; padding counts as −∞. A window with
/// a NaN gives NaN. The gradient goes to the first of the largest values of a window, row by row, or to its
/// last NaN.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use firebox_kernels::max_pool2d;
/// use firebox_kernels::pooling::PoolSettings;
///
/// let image = Tensor::<4>::from_data([[[[1.0, 5.0, 2.0], [3.0, 4.0, 0.0]]]], &Device::default());
/// let pooled = max_pool2d(image, PoolSettings::new([2, 2]).with_stride([1, 1]));
/// assert_eq!(pooled.into_data().try_to_vec::<f32>().unwrap(), [5.0, 5.0]);
/// ```
///
/// # Panics
/// If the settings are out of their ranges, or an image has no window.
pub fn max_pool2d(images: Tensor<4>, settings: PoolSettings) -> Tensor<4> {
    settings.expect("max_pool2d", images.dims());
    #[cfg(feature = "flex")]
    if takes(&images) {
        return by_kernel(images, settings, Reduction::Max);
    }
    let PoolSettings { kernel_size, stride, padding } = settings;
    module::max_pool2d(images, MaxPoolOptions::new(kernel_size).with_stride(stride).with_padding(padding))
}

/// The mean of each window, as `torch.nn.functional.avg_pool2d`.
///
/// Shapes are those of [`max_pool2d`]. Padding counts as zeros; with `count_include_pad`, which is PyTorch's
/// default, it also counts among the values that the sum is divided by.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use firebox_kernels::avg_pool2d;
/// use firebox_kernels::pooling::PoolSettings;
///
/// let image = Tensor::<4>::from_data([[[[1.0, 5.0, 2.0], [3.0, 4.0, 0.0]]]], &Device::default());
/// let pooled = avg_pool2d(image, PoolSettings::new([2, 2]), true);
/// assert_eq!(pooled.into_data().try_to_vec::<f32>().unwrap(), [3.25]);
/// ```
///
/// # Panics
/// If the settings are out of their ranges, or an image has no window.
pub fn avg_pool2d(images: Tensor<4>, settings: PoolSettings, count_include_pad: bool) -> Tensor<4> {
    settings.expect("avg_pool2d", images.dims());
    #[cfg(feature = "flex")]
    if takes(&images) {
        return by_kernel(images, settings, Reduction::Mean { count_include_pad });
    }
    let PoolSettings { kernel_size, stride, padding } = settings;
    let options = AvgPoolOptions::new(kernel_size).with_stride(stride).with_padding(padding);
    module::avg_pool2d(images, options.with_count_include_pad(count_include_pad))
}

#[cfg(feature = "flex")]
fn takes(images: &Tensor<4>) -> bool {
    let tensors: [(Device, DType); 1] = [(images.device(), images.dtype())];
    eligible(&tensors, || images.dims().iter().all(|&size| size > 0))
}

#[cfg(feature = "flex")]
fn by_kernel(images: Tensor<4>, settings: PoolSettings, reduction: Reduction) -> Tensor<4> {
    let [batch, channels, height, width] = images.dims();
    let size = [height, width];
    let operation = Pooling { batch, channels, size, settings, reduction, order: Order::Contiguous };
    let [output] = fused(operation, [images.into_dispatch()]);
    Tensor::from_dispatch(output)
}
