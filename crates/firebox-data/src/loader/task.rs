//! What a worker does: the samples of one batch.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::sleep;
use std::time::Instant;

use firebox_workers::{Work, Worker, panic_message};
use serde::{Deserialize, Serialize};

use crate::batch_sampler::BatchSampler;
use crate::collate::{Collate, SlotOf, Slots};
use crate::error::{BoxError, Error, ErrorKind};
use crate::loader::fault::{Incident, OnError, Remedy, Retry};
use crate::loader::report::Busy;
use crate::seed::{SampleRng, Stream, derive_seed};

/// Which samples to make: the positions `start..end` of an epoch, which are those of one batch.
///
/// Everything that it takes to make them follows from these numbers and the loader's settings, so that the same task
/// gives the same bytes wherever it runs.
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

/// Makes one sample: reads item `index` and writes its transform into a slot. The data set's item type is known in
/// here only, so that it is no part of the loader's type.
pub(super) trait Fill<C: Collate>: Send + Sync {
    /// `busy` is there if the stages are to be timed.
    fn fill(
        &self,
        index: usize,
        rng: &mut SampleRng,
        slot: SlotOf<'_, C>,
        busy: Option<&mut Busy>,
    ) -> Result<(), Failure>;
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
    pub(super) on_error: OnError,
    pub(super) retry: Option<Retry>,
}

/// A batch, with what happened on the way.
pub(super) struct Made<B> {
    pub(super) batch: Result<B, Error>,
    /// The samples in it.
    pub(super) samples: usize,
    /// In the order of the samples.
    pub(super) incidents: Vec<Incident>,
    pub(super) busy: Busy,
}

impl<B> Made<B> {
    /// A batch that was not made at all.
    pub(super) fn failed(error: Error) -> Self {
        Made { batch: Err(error), samples: 0, incidents: Vec::new(), busy: Busy::default() }
    }
}

/// One sample of so many has its stages timed: reading the clock costs as much as a small sample.
const TIMED: usize = 8;

/// How many substitutes are tried for a sample before it counts as lost.
const SUBSTITUTES: u64 = 64;

impl<C: Collate> Work<Task> for Executor<C> {
    type Output = Made<C::Batch>;

    fn run(&self, task: Task, worker: Worker) -> Made<C::Batch> {
        let samples = task.end - task.start;
        let mut making =
            Making { executor: self, task, worker, incidents: Vec::new(), busy: Busy::default() };
        let opened = Instant::now();
        let mut buffer = self.collate.open(samples);
        making.busy.collating = opened.elapsed();
        let mut holes = Vec::new();
        for place in 0..samples {
            match making.sample(&mut buffer, place) {
                Ok(true) => {}
                Ok(false) => holes.push(place),
                Err(error) => return making.done(Err(error), 0),
            }
        }
        // The timed samples stand for all.
        let scale = samples as f64 / samples.div_ceil(TIMED).max(1) as f64;
        making.busy.reading = making.busy.reading.mul_f64(scale);
        making.busy.transforming = making.busy.transforming.mul_f64(scale);
        let closing = Instant::now();
        let closed = catch_unwind(AssertUnwindSafe(|| self.collate.close(buffer, &holes)));
        making.busy.collating += closing.elapsed();
        let batch = closed.unwrap_or_else(|payload| Err(panic_message(payload).into())).map_err(|source| {
            let text = format!("collation of batch {} of epoch {} failed", task.batch, task.epoch);
            Error::new(ErrorKind::Collate, text).caused_by(source).on_worker(worker.id())
        });
        making.done(batch, samples - holes.len())
    }
}

/// A batch while it is made.
struct Making<'e, C> {
    executor: &'e Executor<C>,
    task: Task,
    worker: Worker,
    incidents: Vec<Incident>,
    busy: Busy,
}

impl<C: Collate> Making<'_, C> {
    fn done(self, batch: Result<C::Batch, Error>, samples: usize) -> Made<C::Batch> {
        Made { batch, samples, incidents: self.incidents, busy: self.busy }
    }

    /// Makes the sample at a place of the batch; `false` if the batch goes without it.
    fn sample(&mut self, buffer: &mut C::Buffer, place: usize) -> Result<bool, Error> {
        let Task { epoch, start, .. } = self.task;
        let index = self.executor.batches.index(epoch, start + place);
        let Err(error) = self.tries(buffer, place, index) else { return Ok(true) };
        let remedy = match self.executor.on_error {
            OnError::Fail => return Err(error),
            OnError::Skip { .. } => Remedy::Skipped,
            OnError::Replace { .. } => match self.substitute(buffer, place, index) {
                Some(index) => Remedy::Replaced(index),
                None => return Err(error),
            },
        };
        self.incidents.push(Incident { error, remedy });
        Ok(remedy != Remedy::Skipped)
    }

    /// Fills the place of a sample that cannot be made by another one of its batch, or of the epoch if the batch has
    /// no other: never by one that the order would not give.
    fn substitute(&mut self, buffer: &mut C::Buffer, place: usize, lost: usize) -> Option<usize> {
        let Task { epoch, start, end, .. } = self.task;
        let batches = &self.executor.batches;
        let (first, positions) = match end - start {
            1 => (0, batches.samples(epoch)),
            samples => (start, samples),
        };
        let key = derive_seed(self.executor.seed, Stream::Substitute, epoch, lost as u64);
        let mut rng = SampleRng::from_seed(key);
        (0..SUBSTITUTES).find_map(|_| {
            let index = batches.index(epoch, first + rng.below(positions as u64) as usize);
            (index != lost && self.tries(buffer, place, index).is_ok()).then_some(index)
        })
    }

    /// Tries to make a sample, again and again if its errors are worth it.
    fn tries(&mut self, buffer: &mut C::Buffer, place: usize, index: usize) -> Result<(), Error> {
        let Err(first) = self.attempt(buffer, place, index) else { return Ok(()) };
        let mut error = first.clone();
        for tries in 1.. {
            // Nothing of a try that failed is left for the next one, or for the batch.
            self.executor.collate.clear(buffer, place);
            let Some(wait) = self.executor.retry.as_ref().and_then(|retry| retry.next(tries, &error)) else {
                break;
            };
            sleep(wait);
            match self.attempt(buffer, place, index) {
                Ok(()) => {
                    self.incidents.push(Incident { error: first, remedy: Remedy::Retried(tries) });
                    return Ok(());
                }
                Err(again) => error = again,
            }
        }
        Err(error)
    }

    fn attempt(&mut self, buffer: &mut C::Buffer, place: usize, index: usize) -> Result<(), Error> {
        let (executor, worker) = (self.executor, self.worker.id());
        let Some(slot) = executor.collate.slots(buffer).split_at(place).1.take() else {
            let text = format!("the layout has no slot for sample {place} of its batch");
            return Err(Error::new(ErrorKind::Collate, text).on_worker(worker));
        };
        let mut rng = SampleRng::new(executor.seed, self.task.epoch, index);
        let busy = place.is_multiple_of(TIMED).then_some(&mut self.busy);
        // Unwind safety: the slot is cleared, or its batch thrown away, after a panic.
        let filled = catch_unwind(AssertUnwindSafe(|| executor.fill.fill(index, &mut rng, slot, busy)));
        let (kind, text, source) = match filled {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(Failure { kind: ErrorKind::Dataset, source })) => {
                (ErrorKind::Dataset, "the data set failed", source)
            }
            Ok(Err(Failure { kind, source })) => (kind, "the transform failed", source),
            Err(payload) => (ErrorKind::Panic, "panicked", panic_message(payload).into()),
        };
        Err(Error::new(kind, text).at_index(index).caused_by(source).on_worker(worker))
    }
}
