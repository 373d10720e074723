//! Samplers: which index stands at which position of which epoch.

mod chained;
mod distributed;
mod sequential;
mod shuffled;
mod subset;
mod weighted;

use std::ops::Range;

pub use chained::Chained;
pub use distributed::{Distributed, Uneven};
pub use sequential::Sequential;
pub use shuffled::Shuffled;
pub use subset::SubsetSampler;
pub use weighted::{Weighted, WeightedOnce};

/// An order of a data set's indices for every epoch, as a function: nothing is remembered from one call to
/// the next, so any position of any epoch is reached at once and by any thread.
pub trait Sampler: Send + Sync {
    /// The number of positions in each epoch.
    fn len(&self) -> usize;

    /// Whether an epoch has no position.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The data set index at `position` of `epoch`. The same arguments always give the same index.
    ///
    /// # Panics
    /// May panic if `position` is not below [`len`](Sampler::len).
    fn index(&self, epoch: u64, position: usize) -> usize;

    /// Appends the data set indices at some positions of an epoch: what [`index`](Sampler::index) gives for each, for
    /// samplers that can do many at once faster.
    fn indices(&self, epoch: u64, positions: Range<usize>, indices: &mut Vec<usize>) {
        indices.extend(positions.map(|position| self.index(epoch, position)));
    }

    /// The sampler and its settings, for a saved position to be compared with: two samplers with the same
    /// description give the same order.
    fn describe(&self) -> String;
}

impl<S: Sampler + ?Sized> Sampler for Box<S> {
    fn len(&self) -> usize {
        (**self).len()
    }

    fn index(&self, epoch: u64, position: usize) -> usize {
        (**self).index(epoch, position)
    }

    fn indices(&self, epoch: u64, positions: Range<usize>, indices: &mut Vec<usize>) {
        (**self).indices(epoch, positions, indices);
    }

    fn describe(&self) -> String {
        (**self).describe()
    }
}

/// A sampler that stands for one of its positions: they are counted from 0 and end at `len`.
fn check_position(position: usize, len: usize) {
    assert!(position < len, "position {position} of a sampler with {len}");
}

/// A number that differs, with all likelihood, between different tables, to tell them apart in a description.
pub(crate) fn fingerprint(words: impl IntoIterator<Item = u64>) -> u64 {
    words.into_iter().fold(0, |hash, word| crate::seed::mix(crate::seed::mix(hash) ^ word))
}
