//! A long sequence read in windows, each row of a batch going on where the batch before has left it.

use std::ops::Range;
use std::sync::Arc;

use burn_dataset::{Dataset, DatasetError};

use crate::batch_sampler::BatchSampler;
use crate::error::{Error, ErrorKind, check};

/// Batches for truncated back-propagation through time: the sequence is cut into as many stretches as a batch has rows,
/// and batch t holds window t of every stretch.
///
/// A model whose state is carried from batch to batch so reads each stretch from its beginning to its end. Where a window
/// lies follows from (position) alone, with no table: every epoch is the same.
///
/// A window of `n` predictions reads `n + 1` tokens: each but the last is followed by the one to be predicted, and the
/// last is also the first of the next window. Of a sequence of `tokens` tokens every one is predicted exactly once an
/// epoch, except the first, before which there is nothing, and the last (tokens − 1) mod rows, fewer than there are rows,
/// for which the stretches would have to be of different lengths: [`left_out`](Self::left_out). If a stretch is not a
/// multiple of the window, the windows of the last batch are shorter.
///
/// Made by [`Windows::new`], which is the data set for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretches {
    tokens: usize,
    rows: usize,
    window: usize,
    /// Predictions of each stretch.
    length: usize,
}

impl Stretches {
    fn new(tokens: usize, rows: usize, window: usize) -> Result<Self, Error> {
        check(rows > 0, "rows of stretches", "at least 1", rows)?;
        check(window > 0, "windows of stretches", "at least 1 token", window)?;
        let length = tokens.saturating_sub(1) / rows;
        let enough = format_args!("more than {rows} tokens for as many rows");
        check(length > 0, "stretches", enough, tokens)?;
        Ok(Stretches { tokens, rows, window, length })
    }

    /// The rows of each batch.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The windows of each stretch, which are an epoch's batches.
    pub fn windows(&self) -> usize {
        self.length.div_ceil(self.window)
    }

    /// How many tokens an epoch predicts.
    pub fn predictions(&self) -> usize {
        self.rows * self.length
    }

    /// The tokens at the end that no window predicts, the same ones in every epoch.
    pub fn left_out(&self) -> Range<usize> {
        self.predictions() + 1..self.tokens
    }

    /// The tokens of a window of the data set: row after row, the windows of each in their order.
    fn tokens_of(&self, index: usize) -> Range<usize> {
        let (row, begun) = (index / self.windows(), index % self.windows() * self.window);
        let predictions = self.window.min(self.length - begun);
        let start = row * self.length + begun;
        start..start + predictions + 1
    }
}

impl BatchSampler for Stretches {
    fn batches(&self, _: u64) -> usize {
        self.windows()
    }

    fn samples(&self, _: u64) -> usize {
        self.rows * self.windows()
    }

    fn positions(&self, _: u64, batch: usize) -> Range<usize> {
        batch * self.rows..(batch + 1) * self.rows
    }

    fn index(&self, _: u64, position: usize) -> usize {
        position % self.rows * self.windows() + position / self.rows
    }

    fn check(&self, len: usize) -> Result<(), Error> {
        let windows = self.samples(0);
        match len == windows {
            true => Ok(()),
            false => Err(Error::new(
                ErrorKind::Config,
                format!("stretches: expected {windows} windows, got {len}"),
            )),
        }
    }

    fn describe(&self) -> String {
        let Self { tokens, rows, window, .. } = self;
        format!("{rows} stretches of {tokens} tokens in windows of {window}")
    }
}

/// The windows of a long sequence, as a data set for [`Stretches`]: each item is a window's tokens, and the one behind
/// them.
///
/// ```
/// use firebox_data::{Loader, Pad, Padded, Windows};
///
/// let windows = Windows::new((0..21i64).collect::<Vec<_>>(), 2, 4)?;
/// let stretches = windows.stretches().clone();
/// let loader = Loader::builder(windows)
///     .batch_sampler(stretches)
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
    stretches: Stretches,
}

impl<T> Windows<T> {
    /// The sequence in `rows` stretches, read in windows of `window` predictions.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`] if one of them is 0, or there are not more tokens than rows.
    pub fn new(tokens: impl Into<Arc<[T]>>, rows: usize, window: usize) -> Result<Self, Error> {
        let tokens = tokens.into();
        let stretches = Stretches::new(tokens.len(), rows, window)?;
        Ok(Windows { tokens, stretches })
    }

    /// The batches to read it by.
    pub fn stretches(&self) -> &Stretches {
        &self.stretches
    }
}

impl<T: Clone + Send + Sync> Dataset<Vec<T>> for Windows<T> {
    fn get(&self, index: usize) -> Result<Vec<T>, DatasetError> {
        let windows = self.len();
        if index >= windows {
            let text = format!("windows: expected an index below {windows}, got {index}");
            return Err(DatasetError::new(Error::new(ErrorKind::Dataset, text)));
        }
        Ok(self.tokens[self.stretches.tokens_of(index)].to_vec())
    }

    fn len(&self) -> usize {
        self.stretches.samples(0)
    }
}
