//! The places of a padded batch that hold something.

use burn::tensor::{Bool, Int, Tensor};

/// The places that are no padding: lengths `[batch]` to `[batch, time]`.
///
/// All masks of firebox say which places take part. PyTorch's `key_padding_mask` says the opposite.
///
/// ```
/// use burn::tensor::{Device, Tensor, TensorData};
/// use firebox_models::layers::sequence_mask;
///
/// let mask = sequence_mask(Tensor::from_data([3, 1], &Device::default()), 3);
/// assert_eq!(mask.into_data(), TensorData::from([[true, true, true], [true, false, false]]));
/// ```
pub fn sequence_mask(lengths: Tensor<1, Int>, time: usize) -> Tensor<2, Bool> {
    let [batch] = lengths.dims();
    if batch == 0 || time == 0 {
        // Burn expands nothing to a size of 0.
        return Tensor::full([batch, time], false, &lengths.device());
    }
    let places = Tensor::<1, Int>::arange(0..time as i64, (&lengths.device(), lengths.dtype()));
    places.unsqueeze::<2>().expand([batch, time]).lower(lengths.unsqueeze_dim::<2>(1).expand([batch, time]))
}
