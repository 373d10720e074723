//! A long sequence, read in windows.

use std::sync::Arc;

use crate::dataset::{Dataset, Fingerprint};
use crate::error::{BoxError, Error, ErrorKind};
use crate::sampler::BatchSampler;
use crate::sampler::ContiguousBatches;

/// The windows of a long sequence, as a data set for [`ContiguousBatches`].
///
/// Each item is a window's tokens, and the one after them.
///
/// ```
/// use firebox_data::{Loader, Pad};
/// use firebox_data::collate::Padded;
/// use firebox_data::dataset::Windows;
///
/// let windows = Windows::new((0..21i64).collect::<Vec<_>>(), 2, 4)?;
/// let batches = windows.batches().clone();
/// let loader = Loader::builder(windows)
///     .batch_sampler(batches)
///     .build(Pad::with(0), |window: Vec<i64>, _, slot| Ok(slot.extend(window)))?;
/// let batches: Vec<Padded<i64>> = loader.epoch(0).collect::<Result<_, _>>()?;
/// assert_eq!(batches[0].values, [0, 1, 2, 3, 4, 10, 11, 12, 13, 14]);
/// assert_eq!(batches[1].values, [4, 5, 6, 7, 8, 14, 15, 16, 17, 18]);
/// assert_eq!(batches[2].values, [8, 9, 10, 18, 19, 20]);
/// # Ok::<(), firebox_data::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Windows<T> {
    tokens: Arc<[T]>,
    batches: ContiguousBatches,
}

impl<T> Windows<T> {
    /// The sequence in `rows` stretches, read in windows of `window` predictions.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`] if one of them is 0, or there are not more tokens than rows.
    pub fn new(tokens: impl Into<Arc<[T]>>, rows: usize, window: usize) -> Result<Self, Error> {
        let tokens = tokens.into();
        let batches = ContiguousBatches::new(tokens.len(), rows, window)?;
        Ok(Windows { tokens, batches })
    }

    /// The sequence.
    pub fn tokens(&self) -> &[T] {
        &self.tokens
    }

    /// The batches to read it by.
    pub fn batches(&self) -> &ContiguousBatches {
        &self.batches
    }
}

impl<T: Clone + Send + Sync + 'static> Dataset for Windows<T> {
    type Item = Vec<T>;

    fn len(&self) -> usize {
        self.batches.samples(0)
    }

    fn get(&self, index: usize) -> Result<Vec<T>, BoxError> {
        let windows = self.len();
        if index >= windows {
            let text = format!("windows: expected an index below {windows}, got {index}");
            return Err(Error::new(ErrorKind::Dataset, text).into());
        }
        Ok(self.tokens[self.batches.tokens_of(index)].to_vec())
    }

    /// The sequence's; how it is cut into windows is a setting.
    fn fingerprint(&self) -> Fingerprint {
        self.tokens.fingerprint()
    }
}
