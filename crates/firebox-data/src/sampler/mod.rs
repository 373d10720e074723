//! Samplers: which index stands at which position of which epoch.

pub(crate) mod batch_sampler;
mod chained;
mod contiguous_batches;
mod distributed;
pub(crate) mod per_epoch;
pub(crate) mod permutation;
mod ranks;
mod sequential;
mod shuffled;
mod subset;
mod weighted;

use std::ops::Range;

pub use batch_sampler::{BatchSampler, Bucketed, FixedSize};
pub use chained::Chained;
pub use contiguous_batches::ContiguousBatches;
pub use distributed::{Distributed, UnevenRanks};
pub use permutation::Permutation;
pub use ranks::Ranks;
pub use sequential::Sequential;
pub use shuffled::Shuffled;
pub use subset::SubsetSampler;
pub use weighted::{Weighted, WeightedWithoutReplacement};

/// An order of a data set's indices for every epoch, as a function: nothing is remembered from one call to
/// the next, so any position of any epoch is reached at once and by any thread.
///
/// ```
/// use firebox_data::sampler::Sampler;
/// use firebox_data::{Loader, Scalar};
///
/// /// The last item first.
/// struct Backwards(usize);
///
/// impl Sampler for Backwards {
///     fn len(&self) -> usize {
///         self.0
///     }
///
///     fn index(&self, _epoch: u64, position: usize) -> usize {
///         self.0 - 1 - position
///     }
///
///     fn describe(&self) -> String {
///         format!("backwards, {} items", self.0)
///     }
/// }
///
/// let loader = Loader::builder(vec![1, 2, 3])
///     .sampler(Backwards(3))
///     .batch_size(3)
///     .build(Scalar::new(), |number, _, slot| Ok(*slot = number))?;
/// assert_eq!(*loader.epoch(0).next().unwrap()?, [3, 2, 1]);
/// # Ok::<(), firebox_data::Error>(())
/// ```
pub trait Sampler: Send + Sync {
    /// The number of positions in each epoch.
    fn len(&self) -> usize;

    /// Tells whether an epoch has no position.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The data set index at `position` of `epoch`. The same arguments always give the same index.
    ///
    /// # Panics
    /// May panic if `position` is not below [`len`](Sampler::len).
    fn index(&self, epoch: u64, position: usize) -> usize;

    /// Appends the data set indices at some positions of an epoch: what [`index`](Sampler::index) gives for
    /// each, for samplers that can do many at once faster.
    fn indices(&self, epoch: u64, positions: Range<usize>, indices: &mut Vec<usize>) {
        indices.extend(positions.map(|position| self.index(epoch, position)));
    }

    /// The place of a position in the order that all ranks share: what the random numbers of its sample
    /// follow from.
    ///
    /// Different positions of an epoch have different ones, also on different ranks. An order that others cut
    /// or share out among them, as [`Distributed`] does, tells theirs; for any other it is the position.
    fn global_position(&self, epoch: u64, position: usize) -> u64 {
        let _ = epoch;
        position as u64
    }

    /// Appends the global positions of some positions of an epoch: what
    /// [`global_position`](Self::global_position) gives for each.
    fn global_positions(&self, epoch: u64, positions: Range<usize>, global: &mut Vec<u64>) {
        global.extend(positions.map(|position| self.global_position(epoch, position)));
    }

    /// A number above all global positions of an epoch, the same on every rank: where those of an order
    /// behind it begin.
    fn global_len(&self) -> u64 {
        self.len() as u64
    }

    /// The ranks that the order is shared among, and which of them has this share.
    ///
    /// An order that all ranks have as it is, which most are, is nobody's share. One of your own that is made
    /// of another one passes on what that says, here and in [`on_rank`](Self::on_rank): so a batch sampler
    /// whose batches follow from the samples can plan for all ranks.
    fn ranks(&self) -> Ranks {
        Ranks::ALONE
    }

    /// The data set index and the global position that another rank has at a position of its share.
    ///
    /// All shares have as many positions. In an order that is nobody's share it is what every rank has there.
    fn on_rank(&self, rank: usize, epoch: u64, position: usize) -> (usize, u64) {
        let _ = rank;
        (self.index(epoch, position), self.global_position(epoch, position))
    }

    /// The sampler and its settings, for a saved position to be compared with.
    ///
    /// Two samplers with the same description give the same order on the same rank. A rank is not named in
    /// it, since a position is that of all ranks.
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

    fn global_position(&self, epoch: u64, position: usize) -> u64 {
        (**self).global_position(epoch, position)
    }

    fn global_positions(&self, epoch: u64, positions: Range<usize>, global: &mut Vec<u64>) {
        (**self).global_positions(epoch, positions, global);
    }

    fn global_len(&self) -> u64 {
        (**self).global_len()
    }

    fn ranks(&self) -> Ranks {
        (**self).ranks()
    }

    fn on_rank(&self, rank: usize, epoch: u64, position: usize) -> (usize, u64) {
        (**self).on_rank(rank, epoch, position)
    }

    fn describe(&self) -> String {
        (**self).describe()
    }
}

/// A sampler that stands for one of its positions: they are counted from 0 and end at `len`.
fn check_position(position: usize, len: usize) {
    assert!(position < len, "position {position} of a sampler with {len}");
}

/// Where each of some parts ends if they lie one behind the other; `None` if that is more than can be
/// counted.
pub(crate) fn ends(lengths: &[usize]) -> Option<Vec<usize>> {
    let ends = lengths.iter().scan(Some(0usize), |end, &length| {
        *end = end.and_then(|end| end.checked_add(length));
        Some(*end)
    });
    ends.collect()
}
