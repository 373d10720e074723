//! What a worker does: a run of samples of one batch.

use std::panic::{AssertUnwindSafe, catch_unwind};

use firebox_workers::{Work, Worker, panic_message};
use serde::{Deserialize, Serialize};

use crate::batch_sampler::BatchSampler;
use crate::collate::{Collate, SlotOf, Slots};
use crate::error::{BoxError, Error, ErrorKind};
use crate::seed::SampleRng;

/// Which samples to make: the positions `start..end` of an epoch, which are those of one batch.
///
/// Everything that it takes to make them follows from these numbers and the loader's settings, so that the
/// same task gives the same bytes wherever it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Task {
    /// The epoch.
    pub epoch: u64,
    /// The batch's place in its epoch.
    pub batch: usize,
    /// The first position.
    pub start: usize,
    /// The position behind the last.
    pub end: usize,
}

/// Makes one sample: reads item `index` and writes its transform into a slot. The data set's item type is
/// known in here only, so that it is no part of the loader's type.
pub(super) trait Fill<C: Collate>: Send + Sync {
    fn fill(&self, index: usize, rng: &mut SampleRng, slot: SlotOf<'_, C>) -> Result<(), Failure>;
}

/// Why a sample was not made.
pub(super) struct Failure {
    pub(super) kind: ErrorKind,
    pub(super) source: BoxError,
}

/// Runs tasks: shared by all workers of a loader.
pub(super) struct Executor<C> {
    pub(super) fill: Box<dyn Fill<C>>,
    pub(super) collate: C,
    pub(super) batches: Box<dyn BatchSampler>,
    pub(super) seed: u64,
}

impl<C: Collate> Work<Task> for Executor<C> {
    type Output = Result<C::Batch, Error>;

    fn run(&self, task: Task, worker: Worker) -> Self::Output {
        let mut buffer = self.collate.open(task.end - task.start);
        let mut slots = self.collate.slots(&mut buffer);
        for position in task.start..task.end {
            let Some(slot) = slots.take() else {
                let text =
                    format!("the layout has no slot for sample {} of its batch", position - task.start);
                return Err(Error::new(ErrorKind::Collate, text).on_worker(worker.id()));
            };
            self.sample(task.epoch, position, slot).map_err(|error| error.on_worker(worker.id()))?;
        }
        drop(slots);
        let closed = catch_unwind(AssertUnwindSafe(|| self.collate.close(buffer, &[])));
        closed.unwrap_or_else(|payload| Err(panic_message(payload).into())).map_err(|source| {
            let text = format!("collation of batch {} of epoch {} failed", task.batch, task.epoch);
            Error::new(ErrorKind::Collate, text).caused_by(source).on_worker(worker.id())
        })
    }
}

impl<C: Collate> Executor<C> {
    fn sample(&self, epoch: u64, position: usize, slot: SlotOf<'_, C>) -> Result<(), Error> {
        let index = self.batches.index(epoch, position);
        let mut rng = SampleRng::new(self.seed, epoch, index);
        // Unwind safety: the slot belongs to a batch that is thrown away after a panic.
        let filled = catch_unwind(AssertUnwindSafe(|| self.fill.fill(index, &mut rng, slot)));
        let (kind, text, source) = match filled {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(Failure { kind, source })) => {
                let text =
                    if kind == ErrorKind::Dataset { "the data set failed" } else { "the transform failed" };
                (kind, text, source)
            }
            Err(payload) => (ErrorKind::Panic, "panicked", panic_message(payload).into()),
        };
        Err(Error::new(kind, text).at_index(index).caused_by(source))
    }
}
