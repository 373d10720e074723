//! The stages of a sample, as they are run: limited in their number, and timed.

use std::time::{Duration, Instant};

use firebox_workers::Worker;

use crate::error::{BoxError, Error, ErrorKind};
use crate::loader::fault::{Retry, SampleFailure};
use crate::loader::report::WorkerTime;
use crate::loader::work::concurrency_limit::ConcurrencyLimit;
use crate::sync::Arc;

/// How many samples may be read, and how many transformed, at the same time.
pub(in crate::loader) struct StageLimits {
    pub(in crate::loader) reading: ConcurrencyLimit,
    pub(in crate::loader) transforming: ConcurrencyLimit,
}

/// How items are read: how often one is tried, and how many at the same time.
pub(in crate::loader) struct ReadLimits {
    pub(in crate::loader) retry: Option<Retry>,
    pub(in crate::loader) limits: Option<Arc<StageLimits>>,
}

/// Why a sample was not made: boxed, so that success is as small as can be.
#[doc(hidden)]
pub struct Failure(pub(in crate::loader) Box<Why>);

pub(in crate::loader) struct Why {
    pub(in crate::loader) kind: ErrorKind,
    /// The stage that failed, if it has a name.
    pub(in crate::loader) stage: Option<String>,
    pub(in crate::loader) source: BoxError,
    /// True if another try could end otherwise.
    pub(in crate::loader) is_final: bool,
    /// The worker that met it when it read ahead, if another one has.
    pub(in crate::loader) reader: Option<usize>,
}

impl Failure {
    pub(in crate::loader) fn new(kind: ErrorKind, source: impl Into<BoxError>) -> Self {
        Failure(Box::new(Why { kind, stage: None, source: source.into(), is_final: false, reader: None }))
    }

    /// A failure of a stage with a name.
    pub(in crate::loader) fn of_stage(stage: String, source: BoxError) -> Self {
        let why =
            Why { kind: ErrorKind::Transform, stage: Some(stage), source, is_final: false, reader: None };
        Failure(Box::new(why))
    }

    /// A failure that was tried again as often as is worth it.
    pub(in crate::loader) fn last(kind: ErrorKind, source: impl Into<BoxError>) -> Self {
        Failure(Box::new(Why { kind, stage: None, source: source.into(), is_final: true, reader: None }))
    }

    /// That of a record which can't be read. It was tried again as often as is worth it.
    pub(in crate::loader) fn of_reading(error: Error) -> Self {
        let (kind, reader) = (error.kind().clone(), error.worker());
        // It is named once, by who hears of it.
        let source = error.on_worker(None).into();
        Failure(Box::new(Why { kind, stage: None, source, is_final: true, reader }))
    }
}

/// The stages of one try at a sample.
pub(in crate::loader) struct Stages<'r> {
    limits: Option<&'r StageLimits>,
    worker: Worker<'r>,
    /// There if the stages are to be timed.
    time: Option<&'r mut WorkerTime>,
    /// How the item was read after failures, if it was.
    pub(in crate::loader) reread: Option<Box<SampleFailure>>,
}

impl<'r> Stages<'r> {
    /// Stages that are timed into `time`, if they are.
    pub(in crate::loader) fn new(
        limits: Option<&'r StageLimits>,
        worker: Worker<'r>,
        time: Option<&'r mut WorkerTime>,
    ) -> Self {
        Stages { limits, worker, time, reread: None }
    }

    /// Reads an item.
    #[inline]
    pub(in crate::loader) fn read<R>(&mut self, read: impl FnOnce() -> R) -> Result<R, Failure> {
        self.stage(|limits| &limits.reading, |time| &mut time.reading, read)
    }

    /// Has an item read by something that keeps to the limits itself.
    pub(in crate::loader) fn time_reading<R>(&mut self, read: impl FnOnce(Worker<'r>) -> R) -> R {
        let begun = self.time.is_some().then(Instant::now);
        let result = read(self.worker);
        if let (Some(time), Some(begun)) = (&mut self.time, begun) {
            time.reading += begun.elapsed();
        }
        result
    }

    /// Transforms an item into its slot.
    #[inline]
    pub(in crate::loader) fn transform<R>(&mut self, transform: impl FnOnce() -> R) -> Result<R, Failure> {
        self.stage(|limits| &limits.transforming, |time| &mut time.transforming, transform)
    }

    #[inline]
    fn stage<R>(
        &mut self,
        limit: fn(&StageLimits) -> &ConcurrencyLimit,
        time: fn(&mut WorkerTime) -> &mut Duration,
        work: impl FnOnce() -> R,
    ) -> Result<R, Failure> {
        let permit = match self.limits {
            None => None,
            // To wait for a permit is no fault of the sample's: its time limit begins with the permit.
            Some(limits) => match limit(limits).acquire(|| self.worker.progress()) {
                Some(permit) if self.worker.progress() => Some(permit),
                _ => return Err(Failure::new(ErrorKind::Workers, "nobody waits for the sample any more")),
            },
        };
        let begun = self.time.is_some().then(Instant::now);
        let result = work();
        if let (Some(times), Some(begun)) = (&mut self.time, begun) {
            *time(times) += begun.elapsed();
        }
        drop(permit);
        Ok(result)
    }
}
