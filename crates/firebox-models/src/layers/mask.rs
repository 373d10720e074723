//! Which places of a padded batch hold something.

use burn::tensor::{Bool, Int, Tensor};

/// For each place whether it belongs to its sequence and is no padding: lengths `[batch]` to `[batch, time]`.
///
/// All masks of firebox say which places take part. PyTorch's `key_padding_mask` says the opposite.
pub fn sequence_mask(lengths: Tensor<1, Int>, time: usize) -> Tensor<2, Bool> {
    let [batch] = lengths.dims();
    if batch == 0 || time == 0 {
        // Burn expands nothing to a size of 0.
        return Tensor::full([batch, time], false, &lengths.device());
    }
    let places = Tensor::<1, Int>::arange(0..time as i64, (&lengths.device(), lengths.dtype()));
    places.unsqueeze::<2>().expand([batch, time]).lower(lengths.unsqueeze_dim::<2>(1).expand([batch, time]))
}
