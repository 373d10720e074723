//! Many small tasks as few larger ones.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use firebox_core::panic_message;

use crate::work::{Work, Worker};

/// How long a chunk should take: long beside what it costs to hand one out (about a microsecond), short
/// beside the whole of any work worth a pool.
const TARGET: Duration = Duration::from_micros(200);

/// The most tasks in a chunk. Should cheap tasks be followed by dear ones, one worker is stuck with so many
/// of them before the next size is learnt.
const LARGEST: usize = 256;

/// How many tasks the next chunk has, learnt from how long those before it took. It begins with one: tasks
/// that take their time are never put together.
pub(crate) struct ChunkSize {
    tasks: Cell<usize>,
    largest: usize,
}

impl ChunkSize {
    pub(crate) fn adaptive() -> Self {
        ChunkSize { tasks: Cell::new(1), largest: LARGEST }
    }

    /// Always one task: for tasks with a time limit of their own.
    pub(crate) fn one() -> Self {
        ChunkSize { tasks: Cell::new(1), largest: 1 }
    }

    pub(crate) fn learn<R>(&self, chunk: &ChunkResult<R>) {
        let tasks = chunk.results.len().max(1);
        let a_task = chunk.took.as_secs_f64() / tasks as f64;
        let ideal = (TARGET.as_secs_f64() / a_task.max(1e-9)) as usize;
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
    /// The results in the order of the tasks, up to one that panicked.
    pub results: Vec<R>,
    /// The message of that panic.
    pub panicked: Option<String>,
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
        let (mut results, mut panicked) = (Vec::with_capacity(chunk.len()), None);
        for task in chunk {
            // Unwind safety: as for a task on its own.
            match catch_unwind(AssertUnwindSafe(|| self.0.run(task, worker))) {
                Ok(result) => results.push(result),
                Err(payload) => {
                    panicked = Some(panic_message(payload));
                    break;
                }
            }
        }
        ChunkResult { results, panicked, took: begun.elapsed() }
    }
}
