//! Which places of a padded batch hold something.

use burn::tensor::activation::softmax;
use burn::tensor::{Bool, DType, Int, Tensor};

/// For each place whether it belongs to its sequence and is no padding: lengths `[batch]` to `[batch, time]`.
///
/// All masks of firebox say which places take part. PyTorch's `key_padding_mask` says the opposite.
pub fn sequence_mask(lengths: Tensor<1, Int>, time: usize) -> Tensor<2, Bool> {
    let [batch] = lengths.dims();
    let places = Tensor::<1, Int>::arange(0..time as i64, (&lengths.device(), lengths.dtype()));
    places.unsqueeze::<2>().expand([batch, time]).lower(lengths.unsqueeze_dim::<2>(1).expand([batch, time]))
}

/// Softmax over the last dimension among the places that the mask names; the others, and all places of a row that has
/// none, have the weight zero.
pub(crate) fn masked_softmax<const D: usize>(scores: Tensor<D>, mask: Tensor<D, Bool>) -> Tensor<D> {
    // So low that its exponential is zero beside any score, and finite, so that a row without a place is no NaN.
    let low = if scores.dtype() == DType::F16 { -6e4 } else { -1e38 };
    let weights = softmax(scores.mask_fill(mask.clone().bool_not(), low), D - 1);
    weights.mask_fill(mask.bool_not(), 0.0)
}
