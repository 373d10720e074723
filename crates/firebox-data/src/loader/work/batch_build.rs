//! A batch while it is made: what its runs know of each other.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use firebox_core::panic_message;

use crate::collate::{BatchShape, Collate};
use crate::elements::BufferPool;
use crate::error::Error;
use crate::loader::assembly::{Run, runs};
use crate::loader::fault::{Action, SampleFailure};
use crate::loader::report::Stint;

/// One attempt at making a batch. Its runs find it by the numbers in their tasks.
pub(in crate::loader) struct BatchBuild<C: Collate> {
    /// The position of the batch's first sample.
    start: usize,
    shape: BatchShape,
    buffer: Mutex<Buffer<C>>,
    runs: Box<[RunPlace]>,
    pub(super) earlier: Earlier,
    /// The first place that failed so far: those after it need not be made. So the error of a batch is that
    /// of its first bad sample, however the runs were timed.
    failed: AtomicUsize,
    /// True if the attempt was given up: whatever its runs still do, no batch comes of it.
    stopped: AtomicBool,
    problems: Mutex<Problems>,
}

/// The leavings of earlier attempts at a batch.
#[derive(Clone, Default)]
pub(in crate::loader) struct Earlier {
    /// Positions whose samples took too long, and are not tried again.
    pub(in crate::loader) late: Vec<(usize, Error)>,
    /// First failures of samples that were made, by their places.
    pub(in crate::loader) retried: Vec<(usize, SampleFailure)>,
}

/// Where a run is.
struct RunPlace {
    /// The place of its first sample in the batch.
    first: usize,
    /// The position of the sample that it tries now, or [`CLOSING`].
    at: AtomicUsize,
}

/// Where a run is when all samples are made and it closes the batch.
const CLOSING: usize = usize::MAX;

/// The part that a worker has begun when it closes a batch, and not a sample at a position.
pub(in crate::loader) const CLOSING_PART: usize = usize::MAX >> 2;

/// The memory of a batch. The first of its runs opens it: so it is in that worker's cache, and a batch that
/// waits for a worker takes none.
enum Buffer<C: Collate> {
    Unopened,
    /// The runs that have not begun.
    Open(Vec<Option<Run<C>>>),
    /// It could not be opened, and nobody will try again.
    Failed,
}

/// The problems that the runs of a batch met.
#[derive(Default)]
pub(super) struct Problems {
    /// Places without a sample, in no order.
    pub(super) holes: Vec<usize>,
    pub(super) failures: Vec<(usize, SampleFailure)>,
    /// The first place whose sample is missing and must not be, with the reason.
    pub(super) error: Option<(usize, Error)>,
    pub(super) stints: Vec<Stint>,
}

impl Problems {
    /// Adds what another run met.
    pub(super) fn add(&mut self, other: Problems) {
        self.holes.extend(other.holes);
        self.failures.extend(other.failures);
        self.stints.extend(other.stints);
        if let Some((place, error)) = other.error {
            self.fail(place, error);
        }
    }

    /// Keeps the error that comes first in the batch.
    pub(super) fn fail(&mut self, place: usize, error: Error) {
        if self.error.as_ref().is_none_or(|(first, _)| place < *first) {
            self.error = Some((place, error));
        }
    }
}

impl<C: Collate> BatchBuild<C> {
    /// An attempt at a batch whose runs begin at these places and have what lies between them.
    ///
    /// An `error` is that of the sample after its last one.
    pub(in crate::loader) fn new(
        start: usize,
        shape: BatchShape,
        first: impl Iterator<Item = usize>,
        earlier: Earlier,
        error: Option<Error>,
    ) -> Self {
        let runs = first.map(|first| RunPlace { first, at: AtomicUsize::new(start) }).collect();
        let error = error.map(|error| (shape.samples, error));
        BatchBuild {
            start,
            shape,
            buffer: Mutex::new(Buffer::Unopened),
            runs,
            earlier,
            failed: AtomicUsize::new(usize::MAX),
            stopped: AtomicBool::new(false),
            problems: Mutex::new(Problems { error, ..Problems::default() }),
        }
    }

    /// The attempt, as another process has to know it: the position of the first sample, the width, what
    /// earlier attempts have left, and why there are no more samples.
    #[cfg(all(feature = "processes", target_os = "linux"))]
    pub(in crate::loader) fn to_order(&self) -> (usize, Option<usize>, Earlier, Option<Error>) {
        let error = self.problems().error.as_ref().map(|(_, error)| error.clone());
        (self.start, self.shape.width, self.earlier.clone(), error)
    }

    /// The positions of the batch.
    pub(super) fn positions(&self) -> Range<usize> {
        self.start..self.start + self.samples()
    }

    pub(super) fn samples(&self) -> usize {
        self.shape.samples
    }

    /// The run that begins at a place.
    pub(super) fn run_at(&self, first: usize) -> Option<usize> {
        self.runs.binary_search_by_key(&first, |run| run.first).ok()
    }

    /// The position of the sample that a run tries now; `None` if it closes the batch.
    pub(in crate::loader) fn tries(&self, first: usize) -> Option<usize> {
        let run = self.run_at(first)?;
        Some(self.runs[run].at.load(Ordering::Relaxed)).filter(|&at| at != CLOSING)
    }

    /// Notes which position a run tries now.
    pub(super) fn try_now(&self, run: usize, position: usize) {
        self.runs[run].at.store(position, Ordering::Relaxed);
    }

    /// Notes that a run closes the batch.
    pub(super) fn close_now(&self, run: usize) {
        self.try_now(run, CLOSING);
    }

    /// The error of a position whose sample took too long in an earlier attempt.
    pub(super) fn late(&self, position: usize) -> Option<&Error> {
        self.earlier.late.iter().find(|(late, _)| *late == position).map(|(_, error)| error)
    }

    /// Notes that a sample was not made at first.
    pub(super) fn note(&self, place: usize, failure: SampleFailure) {
        self.problems().failures.push((place, failure));
    }

    /// The leavings of this attempt for the next one.
    pub(in crate::loader) fn left(&self) -> Earlier {
        let mut left = self.earlier.clone();
        let problems = self.problems();
        let retried =
            problems.failures.iter().filter(|(_, failure)| matches!(failure.action, Action::Retried(_)));
        left.retried.extend(retried.cloned());
        left
    }

    /// Has all runs stop at their next sample, and makes sure that none of them closes the batch.
    pub(in crate::loader) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Tells whether the batch has failed before a place.
    pub(super) fn failed_before(&self, place: usize) -> bool {
        self.failed.load(Ordering::Relaxed) <= place
    }

    /// Notes that the batch has failed at a place.
    pub(super) fn fail_at(&self, place: usize) {
        self.failed.fetch_min(place, Ordering::Relaxed);
    }

    /// The slots of a run, once; nothing if the buffer could not be opened.
    ///
    /// # Errors
    /// What the layout panicked with when it was to open the buffer.
    pub(super) fn slots(
        &self,
        run: usize,
        layout: &C,
        memory: &BufferPool,
    ) -> Result<Option<Run<C>>, String> {
        let mut buffer = self.buffer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Buffer::Unopened = &*buffer {
            let ends = self.runs.iter().skip(1).map(|run| run.first).chain([self.samples()]);
            let lengths: Vec<usize> = self.runs.iter().zip(ends).map(|(run, end)| end - run.first).collect();
            let opened =
                catch_unwind(AssertUnwindSafe(|| runs(layout, layout.open(self.shape, memory), &lengths)));
            match opened {
                Ok(runs) => *buffer = Buffer::Open(runs.into_iter().map(Some).collect()),
                Err(payload) => {
                    *buffer = Buffer::Failed;
                    return Err(panic_message(payload));
                }
            }
        }
        let Buffer::Open(runs) = &mut *buffer else { return Ok(None) };
        Ok(runs.get_mut(run).and_then(Option::take))
    }

    pub(super) fn problems(&self) -> MutexGuard<'_, Problems> {
        // Nothing panics under this lock.
        self.problems.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
