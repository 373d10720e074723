//! Many small tasks as few larger ones.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use firebox_core::panic_message;

use crate::work::{Work, Worker};

/// How long a chunk should take: long beside what it costs to hand one out (about a microsecond), short beside the
/// whole of any work worth a pool.
const TARGET: Duration = Duration::from_micros(200);

/// The most tasks in a chunk. Should cheap tasks be followed by dear ones, one worker is stuck with so many of them
/// before the next size is learnt.
const LARGEST: usize = 256;

/// How many tasks the next chunk has, learnt from how long those before it took. It begins with one: tasks that take
/// their time are never put together.
pub(crate) struct ChunkSize {
    tasks: AtomicUsize,
    largest: usize,
}

impl ChunkSize {
    pub(crate) fn adaptive() -> Arc<Self> {
        Arc::new(ChunkSize { tasks: AtomicUsize::new(1), largest: LARGEST })
    }

    /// Always one task: for tasks with a time limit of their own.
    pub(crate) fn one() -> Arc<Self> {
        Arc::new(ChunkSize { tasks: AtomicUsize::new(1), largest: 1 })
    }

    fn next(&self) -> usize {
        self.tasks.load(Ordering::Relaxed)
    }

    fn learn(&self, tasks: usize, took: Duration) {
        let a_task = took.as_secs_f64() / tasks as f64;
        let ideal = (TARGET.as_secs_f64() / a_task.max(1e-9)) as usize;
        // One lucky measurement should not decide: four times as many at most.
        self.tasks.store(ideal.min(tasks * 4).clamp(1, self.largest), Ordering::Relaxed);
    }
}

/// Tasks in chunks.
pub(crate) struct Chunks<I> {
    pub(crate) tasks: I,
    pub(crate) size: Arc<ChunkSize>,
}

impl<I: Iterator> Iterator for Chunks<I> {
    type Item = Vec<I::Item>;

    fn next(&mut self) -> Option<Self::Item> {
        let chunk: Vec<_> = self.tasks.by_ref().take(self.size.next()).collect();
        (!chunk.is_empty()).then_some(chunk)
    }
}

/// What became of a chunk.
pub(crate) struct Ran<R> {
    /// The results of its tasks in their order, up to one that panicked.
    pub(crate) results: Vec<R>,
    /// The message of that panic.
    pub(crate) panicked: Option<String>,
}

/// Work on chunks of tasks.
pub(crate) struct Chunked<W> {
    pub(crate) work: W,
    pub(crate) size: Arc<ChunkSize>,
}

impl<T, W: Work<T>> Work<Vec<T>> for Chunked<W> {
    type Output = Ran<W::Output>;

    fn run(&self, chunk: Vec<T>, worker: Worker) -> Ran<W::Output> {
        let (begun, tasks) = (Instant::now(), chunk.len());
        let mut ran = Ran { results: Vec::with_capacity(tasks), panicked: None };
        for task in chunk {
            // Unwind safety: as for a task on its own.
            match catch_unwind(AssertUnwindSafe(|| self.work.run(task, worker))) {
                Ok(result) => ran.results.push(result),
                Err(payload) => {
                    ran.panicked = Some(panic_message(payload));
                    break;
                }
            }
        }
        self.size.learn(tasks, begun.elapsed());
        ran
    }
}
