//! A worker's doing: the samples of one run, and the batch if the run is its last.

mod batch_build;
mod batch_task;
mod chunk;
mod concurrency_limit;
mod sample_writer;
mod stages;
pub(super) mod tasks;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use firebox_core::panic_message;
use firebox_workers::{Work, Worker};

pub(super) use batch_build::{BatchBuild, CLOSING_PART, Earlier};
pub use batch_task::{BatchTask, SampleId};
pub(super) use chunk::{BuiltBatch, ChunkResult, not_made};
pub(super) use concurrency_limit::{ConcurrencyLimit, PATIENCE};
pub(super) use stages::{Failure, ReadLimits, StageLimits, Stages, Why};

use crate::collate::Collate;
use crate::elements::BufferPool;
use crate::error::{BoxError, Error, ErrorKind};
use crate::loader::assembly::Run;
use crate::loader::fault::{OnError, Retry};
use crate::loader::report::{Stint, WorkerTime};
use crate::loader::source::{Items, Source};
use crate::sync::Arc;
use batch_build::Problems;
use sample_writer::SampleWriter;

/// The means to make any batch of a loader.
pub(super) struct Executor<C> {
    pub(super) source: Arc<dyn Source<C>>,
    pub(super) collate: Arc<C>,
    /// The memory of batches that were dropped.
    pub(super) memory: BufferPool,
    pub(super) seed: u64,
    pub(super) on_error: OnError,
    pub(super) retry: Option<Retry>,
    pub(super) limits: Option<Arc<StageLimits>>,
    /// The process that it is in, if that is a worker of another one.
    pub(super) process: Option<u32>,
}

impl<C: Collate> Executor<C> {
    /// The settings that a position depends on, in words, with the keys of the stages.
    pub(super) fn settings(&self, stages: &str) -> String {
        format!("{}{}, {stages}", self.source.describe_order(), self.on_error.describe())
    }

    /// The same for other data.
    pub(super) fn with_source(&self, source: Arc<dyn Source<C>>) -> Self {
        Executor { source, ..self.shared() }
    }

    /// The same in a worker process, with memory that its parent sees.
    #[cfg(all(feature = "processes", target_os = "linux"))]
    pub(super) fn in_process(&self, memory: Arc<crate::elements::shared::SharedMemory>) -> Self {
        Executor { memory: self.memory.within(memory), process: Some(std::process::id()), ..self.shared() }
    }

    /// How its source reads items.
    pub(super) fn reading(&self) -> ReadLimits {
        ReadLimits { retry: self.retry.clone(), limits: self.limits.clone() }
    }

    /// Names the worker that met an error.
    pub(super) fn met_by(&self, worker: Worker<'_>, error: Error) -> Error {
        error.on_worker(worker.id()).on_process(self.process)
    }

    /// The same, sharing all that it has.
    pub(super) fn shared(&self) -> Self {
        Executor {
            source: Arc::clone(&self.source),
            collate: Arc::clone(&self.collate),
            memory: self.memory.clone(),
            seed: self.seed,
            on_error: self.on_error,
            retry: self.retry.clone(),
            limits: self.limits.clone(),
            process: self.process,
        }
    }
}

/// Attempts at batches, by the batch's number and the attempt's.
type Builds<C> = HashMap<(u64, u32), Arc<BatchBuild<C>>>;

/// Runs the tasks of one epoch: what all workers find.
pub(super) struct EpochExecutor<C: Collate> {
    pub(super) executor: Arc<Executor<C>>,
    items: Arc<dyn Items<C>>,
    /// The batches that are being made.
    builds: Mutex<Builds<C>>,
}

impl<C: Collate> EpochExecutor<C> {
    pub(super) fn new(executor: Arc<Executor<C>>, items: Arc<dyn Items<C>>) -> Self {
        EpochExecutor { executor, items, builds: Mutex::default() }
    }

    pub(super) fn items(&self) -> &dyn Items<C> {
        &*self.items
    }

    /// Has tasks find an attempt at a batch.
    pub(super) fn begin(&self, batch: u64, attempt: u32, build: BatchBuild<C>) {
        self.builds().insert((batch, attempt), Arc::new(build));
    }

    pub(super) fn build(&self, batch: u64, attempt: u32) -> Option<Arc<BatchBuild<C>>> {
        self.builds().get(&(batch, attempt)).cloned()
    }

    /// Forgets an attempt: tasks of it that come later have nothing to do.
    pub(super) fn end(&self, batch: u64, attempt: u32) {
        self.builds().remove(&(batch, attempt));
    }

    fn builds(&self) -> MutexGuard<'_, Builds<C>> {
        // Nothing panics under this lock.
        self.builds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A run has the stages of so many samples timed, or a few more: reading the clock costs as much as a small
/// sample.
const TIMED: usize = 4;

impl<C: Collate> Work<BatchTask> for EpochExecutor<C> {
    type Output = ChunkResult<C::Batch>;

    fn run(&self, task: BatchTask, worker: Worker<'_>) -> ChunkResult<C::Batch> {
        let begun = Instant::now();
        let Some(build) = self.build(task.batch, task.attempt) else { return ChunkResult::none() };
        let Some(run) = build.run_at(task.run.start as usize) else { return ChunkResult::none() };
        let slots = match build.slots(run, &self.executor.collate, &self.executor.memory) {
            Ok(Some(slots)) => slots,
            Ok(None) => return ChunkResult::none(),
            Err(message) => {
                let error = not_made(task.batch, task.epoch, &message);
                return ChunkResult::failed(self.executor.met_by(worker, error));
            }
        };
        // The first run of a batch opens it, while the others wait for that.
        let time = WorkerTime { collating: begun.elapsed(), ..WorkerTime::default() };
        let samples = task.samples.len();
        let timed_every = (samples / TIMED).max(1);
        let items = self.items.run(&task);
        let mut writer =
            SampleWriter::new(&self.executor, &task, worker, &build, (run, slots, items), timed_every);
        let together = writer.read_together();
        let written = (0..samples).all(|sample| writer.place(sample).is_ok());
        let wanted = written && worker.progress();
        let (slots, mut problems, mut times) = writer.into_parts();
        // The timed samples stand for all.
        let scale = samples as f64 / samples.div_ceil(timed_every).max(1) as f64;
        times.reading = times.reading.mul_f64(scale) + together;
        times.transforming = times.transforming.mul_f64(scale);
        times.collating = time.collating;
        problems.stints.push(Stint::end(begun, times, worker));
        let built = if wanted { self.finish(&task, slots, (&build, run), problems, worker) } else { None };
        ChunkResult { built, samples, took: begun.elapsed() }
    }
}

impl<C: Collate> EpochExecutor<C> {
    /// Adds what a run met to what the others did, and closes the batch if all are through.
    fn finish(
        &self,
        task: &BatchTask,
        slots: Run<C>,
        (build, run): (&BatchBuild<C>, usize),
        met: Problems,
        worker: Worker<'_>,
    ) -> Option<Box<BuiltBatch<C::Batch>>> {
        build.problems().add(met);
        let buffer = slots.finish()?;
        let Problems { mut holes, mut failures, error, mut stints } = std::mem::take(&mut *build.problems());
        let end = error.as_ref().map_or(usize::MAX, |(place, _)| *place);
        let earlier = build.earlier.retried.iter();
        let untold = earlier.filter(|(place, _)| failures.iter().all(|(told, _)| told != place)).cloned();
        failures.extend(untold.collect::<Vec<_>>());
        failures.retain(|(place, _)| *place < end);
        failures.sort_by_key(|(place, _)| *place);
        let failures = failures.into_iter().map(|(_, failure)| failure).collect();
        if let Some((_, error)) = error {
            return Some(Box::new(BuiltBatch { failures, stints, ..BuiltBatch::failed(error) }));
        }
        // Of several ranks each takes a step with every batch.
        if holes.len() == build.samples() && self.executor.source.world() == 1 {
            return Some(Box::new(BuiltBatch { batch: Ok(None), bytes: 0, samples: 0, failures, stints }));
        }
        holes.sort_unstable();
        // Closing has the time limit of a sample, and is none.
        build.close_now(run);
        worker.begin(CLOSING_PART);
        if !worker.progress() {
            return None;
        }
        let closing = Instant::now();
        let collate = &self.executor.collate;
        let closed = catch_unwind(AssertUnwindSafe(|| {
            let batch = collate.close(buffer, &holes)?;
            let bytes = collate.bytes(&batch);
            Ok::<_, BoxError>((batch, bytes))
        }));
        let time = WorkerTime { collating: closing.elapsed(), ..WorkerTime::default() };
        stints.push(Stint::end(closing, time, worker));
        let closed = closed.unwrap_or_else(|payload| Err(panic_message(payload).into()));
        let bytes = closed.as_ref().map_or(0, |(_, bytes)| *bytes);
        let batch = closed.map(|(batch, _)| Some(batch)).map_err(|source| {
            let text = format!("collation of batch {} of epoch {} failed", task.batch, task.epoch);
            self.executor.met_by(worker, Error::new(ErrorKind::Collate, text).caused_by(source))
        });
        let samples = build.samples() - holes.len();
        Some(Box::new(BuiltBatch { batch, bytes, samples, failures, stints }))
    }
}
