//! Batches of a long sequence, each row of which goes on where the batch before has left it.

use std::ops::Range;

use crate::error::{Error, ErrorKind, check};
use crate::sampler::BatchSampler;
use crate::sampler::Ranks;

/// Batches for truncated back-propagation through time.
///
/// The sequence is cut into as many stretches as a batch has rows, and batch t holds window t of every
/// stretch. A model whose state is carried from batch to batch so reads each stretch from its beginning to
/// its end. Where a window lies follows from (position) alone, with no table: every epoch is the same.
///
/// A window of `n` predictions reads `n + 1` tokens: each but the last is followed by the one to be
/// predicted, and the last is also the first of the next window. Of a sequence of `tokens` tokens every one
/// is predicted exactly once an epoch, except the first, before which there is nothing, and the last (tokens
/// − 1) mod rows, fewer than there are rows, for which the stretches would have to be of different lengths:
/// [`left_out`](Self::left_out). If a stretch is not a multiple of the window, the windows of the last batch
/// are shorter.
///
/// Made by [`Windows::new`](crate::dataset::Windows::new), which is the data set for it; see there for an
/// example.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContiguousBatches {
    tokens: usize,
    rows: usize,
    window: usize,
    /// Predictions of each stretch.
    length: usize,
}

impl ContiguousBatches {
    pub(crate) fn new(tokens: usize, rows: usize, window: usize) -> Result<Self, Error> {
        check(rows > 0, "contiguous batches", "at least 1 row", rows)?;
        check(window > 0, "contiguous batches", "windows of at least 1 token", window)?;
        let length = tokens.saturating_sub(1) / rows;
        let enough = format_args!("more than {rows} tokens for as many rows");
        check(length > 0, "contiguous batches", enough, tokens)?;
        Ok(ContiguousBatches { tokens, rows, window, length })
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
    pub(crate) fn tokens_of(&self, index: usize) -> Range<usize> {
        let (row, begun) = (index / self.windows(), index % self.windows() * self.window);
        let predictions = self.window.min(self.length - begun);
        let start = row * self.length + begun;
        start..start + predictions + 1
    }
}

impl BatchSampler for ContiguousBatches {
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

    fn batch_size(&self) -> Option<usize> {
        Some(self.rows)
    }

    fn length(&self, index: usize) -> Option<usize> {
        Some(self.tokens_of(index).len())
    }

    fn check(&self, len: usize) -> Result<(), Error> {
        let windows = self.samples(0);
        match len == windows {
            true => Ok(()),
            false => Err(Error::new(
                ErrorKind::Config,
                format!("contiguous batches: expected {windows} windows, got {len}"),
            )),
        }
    }

    /// Each rank has the same rows in all batches, so that the state which is carried with a row stays on its
    /// rank.
    fn check_ranks(&self, ranks: Ranks) -> Result<(), Error> {
        let (rows, world) = (self.rows, ranks.world());
        match rows.is_multiple_of(world) {
            true => Ok(()),
            false => {
                let text =
                    format!("contiguous batches: expected rows that {world} ranks share evenly, got {rows}");
                Err(Error::new(ErrorKind::Config, text))
            }
        }
    }

    /// As in the states of earlier releases.
    fn describe(&self) -> String {
        let Self { tokens, rows, window, .. } = self;
        format!("{rows} stretches of {tokens} tokens in windows of {window}")
    }
}
