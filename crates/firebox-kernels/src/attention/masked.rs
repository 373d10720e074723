//! Softmax among the places that a mask names.

use burn::tensor::activation::softmax;
use burn::tensor::{Bool, DType, Tensor};

use crate::operation::shape::expect_shape;

/// The score of a place that the mask doesn't name.
///
/// It is so low that its exponential is zero beside any score, and finite, so that a row without a place is
/// not NaN.
pub(super) const LOW: f32 = -1e38;

/// Softmax over the last dimension among the places that the mask names.
///
/// The others, and all places of a row that has none, have the weight zero.
///
/// ```
/// use burn::tensor::{Bool, Device, Tensor};
/// use firebox_kernels::attention::masked_softmax;
///
/// let device = Device::default();
/// let mask = Tensor::<2, Bool>::from_data([[true, false, true], [false, false, false]], &device);
/// let weights = masked_softmax(Tensor::<2>::zeros([2, 3], &device), mask);
/// assert_eq!(weights.into_data().try_to_vec::<f32>().unwrap(), [0.5, 0.0, 0.5, 0.0, 0.0, 0.0]);
/// ```
///
/// # Panics
/// If the shapes differ.
pub fn masked_softmax<const D: usize>(scores: Tensor<D>, mask: Tensor<D, Bool>) -> Tensor<D> {
    expect_shape("masked_softmax", "a mask", mask.dims(), scores.dims());
    let low = if scores.dtype() == DType::F16 { -6e4 } else { LOW };
    let weights = softmax(scores.mask_fill(mask.clone().bool_not(), low), D - 1);
    weights.mask_fill(mask.bool_not(), 0.0)
}
