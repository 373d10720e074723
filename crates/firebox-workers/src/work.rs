//! What runs a task, apart from the task itself.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

/// The worker that runs a task, as the task sees it.
#[derive(Clone, Copy)]
pub struct Worker<'t> {
    id: Option<usize>,
    /// Set once nobody waits for the task's stream any more.
    cancelled: Option<&'t AtomicBool>,
    /// The task's time limit, if it has one, and the task's index there.
    clock: Option<(&'t dyn Clock, usize)>,
}

/// What a task can do about its time limit.
pub(crate) trait Clock: Sync {
    /// Begins a task's limit anew; `false` if the task was given up.
    fn renew(&self, task: usize) -> bool;
}

impl Worker<'static> {
    /// The thread that called the pool: a pool without workers runs its tasks there.
    pub const CALLER: Worker<'static> = Worker { id: None, cancelled: None, clock: None };
}

impl<'t> Worker<'t> {
    pub(crate) fn new(
        id: usize,
        cancelled: Option<&'t AtomicBool>,
        clock: Option<(&'t dyn Clock, usize)>,
    ) -> Self {
        Worker { id: Some(id), cancelled, clock }
    }

    /// Which of the pool's workers this is, from 0, or `None` for the thread that called the pool.
    pub fn id(self) -> Option<usize> {
        self.id
    }

    /// Says that the task gets on: its [time limit](crate::Pool::with_timeout) begins anew. `false` if nobody waits
    /// for its result any more, so that it may as well stop.
    pub fn progress(self) -> bool {
        let cancelled = self.cancelled.is_some_and(|cancelled| cancelled.load(Ordering::Relaxed));
        !cancelled && self.clock.is_none_or(|(clock, task)| clock.renew(task))
    }
}

impl fmt::Debug for Worker<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The execution of tasks of type `T`.
///
/// Every `Fn(T) -> R` is one. Implement the trait on a type of your own where the work needs to know
/// its worker, or where it carries state that all workers share. The task is a plain value: make it
/// serialisable and the same work can be done by another process.
pub trait Work<T>: Send + Sync + 'static {
    /// What a task results in.
    type Output: Send + 'static;

    /// Runs one task. A panic in here reaches the caller as an [`Error`](crate::Error).
    fn run(&self, task: T, worker: Worker<'_>) -> Self::Output;
}

impl<T, R, F> Work<T> for F
where
    F: Fn(T) -> R + Send + Sync + 'static,
    R: Send + 'static,
{
    type Output = R;

    fn run(&self, task: T, _: Worker<'_>) -> R {
        self(task)
    }
}
