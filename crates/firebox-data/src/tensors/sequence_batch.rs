//! Padded sequences as tensors.

use burn::tensor::kind::Basic;
use burn::tensor::{Bool, Int, Tensor};

/// A batch of sequences of different lengths, on a device: what [`Pad`](crate::Pad) collates.
///
/// It becomes the pair (values, lengths). firebox's models of padded text take what does:
/// `classifier.forward(batch)`, `encoder.forward(batch)`, `seq2seq.forward(batch, target, 1.0)`.
///
/// ```
/// use burn::tensor::Device;
/// use firebox_data::batches::Batches;
/// use firebox_data::tensors::SequenceBatch;
/// use firebox_data::{Loader, Pad};
///
/// let words = vec!["deep", "in"];
/// let loader = Loader::builder(words).batch_size(2).build(Pad::with(0_i64), |word, _, tokens| {
///     tokens.extend(word.bytes().map(i64::from));
///     Ok(())
/// })?;
/// let loader = loader.on_device(&Device::default())?;
/// let batch: SequenceBatch = loader.epoch(0).next().unwrap()?;
/// assert_eq!((batch.values.dims(), batch.lengths.dims(), batch.mask.dims()), ([2, 4], [2], [2, 4]));
/// # Ok::<(), firebox_data::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct SequenceBatch<K: Basic = Int> {
    /// Tokens, or other values, `[batch, longest]`; padding behind the end of a sequence.
    pub values: Tensor<2, K>,
    /// The length of each sequence without its padding, `[batch]`.
    pub lengths: Tensor<1, Int>,
    /// For each place whether it belongs to its sequence and is no padding, `[batch, longest]`.
    pub mask: Tensor<2, Bool>,
}

impl<K: Basic> From<SequenceBatch<K>> for (Tensor<2, K>, Tensor<1, Int>) {
    fn from(batch: SequenceBatch<K>) -> Self {
        (batch.values, batch.lengths)
    }
}
