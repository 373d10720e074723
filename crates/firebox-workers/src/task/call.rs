//! Work together with its one task.

use crate::task::work::{Work, Worker};

/// A call to be [submitted](crate::WorkersExt::submit): a closure that is called once, or a pair of work and
/// its task.
///
/// The pair is for workers that no closure reaches, since its task can be plain data.
pub trait Call {
    /// The task.
    type Task;
    /// The work that runs it.
    type Work: Work<Self::Task>;

    /// The work and the task, apart.
    fn split(self) -> (Self::Work, Self::Task);
}

/// The work on tasks that are closures: it calls them.
#[derive(Clone, Copy, Debug)]
pub struct Once;

impl<F, R> Work<F> for Once
where
    F: FnOnce() -> R,
    R: Send + 'static,
{
    type Output = R;

    fn run(&self, task: F, _: Worker<'_>) -> R {
        task()
    }
}

impl<F, R> Call for F
where
    F: FnOnce() -> R,
    R: Send + 'static,
{
    type Task = F;
    type Work = Once;

    fn split(self) -> (Once, F) {
        (Once, self)
    }
}

impl<W: Work<T>, T> Call for (W, T) {
    type Task = T;
    type Work = W;

    fn split(self) -> (W, T) {
        self
    }
}
