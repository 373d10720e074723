//! What runs a task, apart from the task itself.

/// The worker that runs a task, as the task sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Worker {
    id: Option<usize>,
}

impl Worker {
    /// The thread that called the pool: a pool without workers runs its tasks there.
    pub const CALLER: Worker = Worker { id: None };

    pub(crate) fn new(id: usize) -> Self {
        Worker { id: Some(id) }
    }

    /// Which of the pool's workers this is, from 0, or `None` for the thread that called the pool.
    pub fn id(self) -> Option<usize> {
        self.id
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
    fn run(&self, task: T, worker: Worker) -> Self::Output;
}

impl<T, R, F> Work<T> for F
where
    F: Fn(T) -> R + Send + Sync + 'static,
    R: Send + 'static,
{
    type Output = R;

    fn run(&self, task: T, _: Worker) -> R {
        self(task)
    }
}
