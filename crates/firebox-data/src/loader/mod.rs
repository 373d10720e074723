//! The loader: a data set, an order, a transform and a layout, made into a stream of batches.
//!
//! `README.md` beside this file explains the protocol and why it cannot lose a sample or deadlock.

mod assembly;
mod auto;
mod builder;
mod epoch;
mod fault;
mod gate;
mod plan;
mod report;
mod slice;
mod state;
mod stint;
mod stream;
mod task;
mod timeline;
mod window;

use std::sync::Arc;

use firebox_workers::Pool;

pub use builder::{Indexed, LoaderBuilder};
pub use epoch::Epoch;
pub use fault::{Incident, Limit, OnError, Remedy, Retry};
pub use report::{Busy, EpochReport, Stage, Verdict};
pub use state::LoaderState;
pub use stream::{Counted, Sharded, StreamEpoch, StreamLoader, StreamState};
pub use task::Task;
pub use timeline::{Slice, Timeline};

use crate::collate::Collate;
use crate::dataset::Lineage;
use crate::error::Error;
use auto::{Auto, Span};
use slice::Items;
use task::Executor;

/// Batches of a data set, epoch after epoch.
///
/// Made by [`Loader::builder`]. Each epoch is an iterator of its own; any epoch can be asked for, at any
/// time and more than once, and gives the same bytes each time, with any number of workers.
///
/// ```
/// use firebox_data::{Loader, Scalar};
///
/// let numbers: Vec<i32> = (0..100).collect();
/// let loader = Loader::builder(numbers)
///     .shuffle(true)
///     .seed(42)
///     .batch_size(32)
///     .workers(2)
///     .build(Scalar::<i64>::new(), |number, rng, slot| {
///         *slot = i64::from(number) + rng.below(2) as i64;
///         Ok(())
///     })?;
/// for batch in loader.epoch(0) {
///     let batch: Vec<i64> = batch?;
///     assert!(batch.len() <= 32);
/// }
/// # Ok::<(), firebox_data::Error>(())
/// ```
pub struct Loader<C: Collate> {
    executor: Arc<Executor<C>>,
    /// Shared with its slices.
    pool: Arc<Pool>,
    /// Batches begun and not yet delivered, at most; `None` if it follows from the number of workers.
    prefetch: Option<usize>,
    /// What they may take together; one may always take what it needs.
    prefetch_bytes: Option<usize>,
    /// Whether batches are delivered as they complete, not in order.
    as_completed: bool,
    /// What chooses the number of workers, if it is not fixed.
    auto: Option<Arc<Auto>>,
    /// Samples in a batch, about.
    batch_size: usize,
    seed: u64,
    /// The settings that a position depends on, in words.
    fingerprint: String,
    /// `None` if the data has no random access.
    items: Option<Items>,
}

impl<C: Collate> Loader<C> {
    /// The number of batches in an epoch.
    pub fn batches(&self, epoch: u64) -> usize {
        self.executor.batches.batches(epoch)
    }

    /// The number of samples in an epoch's batches.
    pub fn samples(&self, epoch: u64) -> usize {
        self.executor.batches.samples(epoch)
    }

    /// The indices of the samples of a batch, in their order.
    ///
    /// # Panics
    /// If the epoch has no such batch.
    pub fn indices(&self, epoch: u64, batch: usize) -> Vec<usize> {
        let batches = &self.executor.batches;
        let count = batches.batches(epoch);
        assert!(batch < count, "batch {batch} of an epoch of {count}");
        let mut indices = Vec::new();
        batches.indices(epoch, batches.positions(epoch, batch), &mut indices);
        indices
    }

    /// Where the items of its data set come from. All slices of a loader have the same; `None` of a stream.
    pub fn lineage(&self) -> Option<&Lineage> {
        self.executor.lineage.as_ref()
    }

    /// Why an epoch has no batch, in words: how many samples there are, how large a batch is, and whether
    /// [`drop_last`](LoaderBuilder::drop_last) left nothing. `None` if it has one.
    ///
    /// An epoch without a batch is no error of the loader, whose part of a data set may be empty; for who needs one it is.
    pub fn why_empty(&self, epoch: u64) -> Option<String> {
        let batches = &self.executor.batches;
        if batches.batches(epoch) > 0 {
            return None;
        }
        let (size, left_out) = (self.batch_size, batches.left_out(epoch));
        Some(match &self.items {
            Some(items) if items.len == 0 => format!("0 samples in the data set, batch size {size}"),
            Some(items) if items.range.is_empty() => {
                format!("0 samples in the slice {:?} of a data set of {}", items.range, items.len)
            }
            Some(items) if left_out == 0 => {
                format!("0 samples of a data set of {}, by the order: {}", items.len, batches.describe())
            }
            _ => format!(
                "{}, batch size {size}: drop_last leaves out the only batch, which is short",
                report::counted(left_out, "sample")
            ),
        })
    }

    /// The number of worker threads; 0 means that batches are made in the thread that asks for them. It grows if it was
    /// left to the loader and more are of use: the [report](EpochReport::chosen) says why.
    pub fn workers(&self) -> usize {
        self.pool.workers()
    }

    /// Has the number of workers follow what the consumer saw, and says what was chosen, if it is not fixed.
    fn adapt(&self, span: Span) -> Option<String> {
        let auto = self.auto.as_ref()?;
        let workers = auto.learn(self.workers(), span);
        // No more threads to be had: those that there are will do.
        let _ = self.pool.grow(workers);
        Some(auto.describe(self.workers()))
    }

    /// The position before the first batch of an epoch.
    pub fn state(&self, epoch: u64) -> LoaderState {
        LoaderState::new(self, epoch, 0, 0)
    }

    /// Whether [`resume`](Self::resume) would take a state.
    ///
    /// # Errors
    /// As for `resume`.
    pub fn check(&self, state: &LoaderState) -> Result<(), Error> {
        state.check(self)
    }

    /// All batches of an epoch.
    pub fn epoch(&self, epoch: u64) -> Epoch<'_, C> {
        Epoch::new(self, &self.state(epoch))
    }

    /// The rest of the epoch in which `state` was taken: the batches that were not yet delivered.
    ///
    /// No batch is made twice for it, and none of the delivered ones is made again. The number of workers
    /// and the prefetch depth may differ.
    ///
    /// # Errors
    /// [`ErrorKind::State`](crate::ErrorKind::State) if the state was taken from a loader with another
    /// data set length, sampler, seed or batch size.
    pub fn resume(&self, state: &LoaderState) -> Result<Epoch<'_, C>, Error> {
        state.check(self)?;
        Ok(Epoch::new(self, state))
    }
}
