//! Many small tasks as few larger ones.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use firebox_core::panic_message;

use crate::error::{Error, ErrorKind};
use crate::task::work::{Work, Worker};

/// The most tasks in a chunk of a microsecond. Should cheap tasks be followed by dear ones, one worker is
/// stuck with so many of them before the next size is learnt.
const LARGEST_A_MICROSECOND: f64 = 1.28;

/// How many tasks the next chunk has, learnt from how long those before it took. It begins with one: tasks
/// that take their time are never put together.
pub(crate) struct ChunkSize {
    tasks: Cell<usize>,
    /// How long a chunk should take.
    time: Duration,
    largest: usize,
}

impl ChunkSize {
    /// Chunks that take so much time, which has to be long beside what it costs to hand one out, and short
    /// beside the whole of any work worth a pool.
    pub(crate) fn adaptive(time: Duration) -> Self {
        let largest = (time.as_secs_f64() * 1e6 * LARGEST_A_MICROSECOND) as usize;
        ChunkSize { tasks: Cell::new(1), time, largest: largest.max(1) }
    }

    /// Always one task: for tasks with a time limit of their own.
    pub(crate) fn one() -> Self {
        ChunkSize { tasks: Cell::new(1), time: Duration::ZERO, largest: 1 }
    }

    pub(crate) fn learn<R>(&self, chunk: &ChunkResult<R>) {
        let tasks = chunk.results.len().max(1);
        let a_task = chunk.took.as_secs_f64() / tasks as f64;
        let ideal = (self.time.as_secs_f64() / a_task.max(1e-9)) as usize;
        // One lucky measurement should not decide: four times as many at most.
        self.tasks.set(ideal.min(tasks * 4).clamp(1, self.largest));
    }
}

/// Tasks in chunks.
pub(crate) struct Chunks<'s, I> {
    pub(crate) tasks: I,
    pub(crate) size: &'s ChunkSize,
}

impl<I: Iterator> Iterator for Chunks<'_, I> {
    type Item = Vec<I::Item>;

    fn next(&mut self) -> Option<Self::Item> {
        let chunk: Vec<_> = self.tasks.by_ref().take(self.size.tasks.get()).collect();
        (!chunk.is_empty()).then_some(chunk)
    }
}

/// The results of a chunk of tasks.
pub struct ChunkResult<R> {
    /// The results in the order of the tasks, up to one that has none.
    pub results: Vec<R>,
    /// Why that one has none: as a rule because it panicked.
    pub error: Option<Error>,
    /// How long the chunk took, from which the size of the next ones is learnt.
    pub took: Duration,
}

/// Work on chunks of tasks, one after the other: what [`map`](crate::WorkersExt::map) hands out.
#[derive(Clone, Copy, Debug)]
pub struct Chunked<W>(pub W);

impl<T, W: Work<T>> Work<Vec<T>> for Chunked<W> {
    type Output = ChunkResult<W::Output>;

    fn run(&self, chunk: Vec<T>, worker: Worker<'_>) -> ChunkResult<W::Output> {
        let begun = Instant::now();
        let (mut results, mut error) = (Vec::with_capacity(chunk.len()), None);
        for task in chunk {
            // Unwind safety: as for a task on its own.
            match catch_unwind(AssertUnwindSafe(|| self.0.run(task, worker))) {
                Ok(result) => results.push(result),
                Err(payload) => {
                    error = Some(Error::from(ErrorKind::Panicked(panic_message(payload))));
                    break;
                }
            }
        }
        ChunkResult { results, error, took: begun.elapsed() }
    }
}
