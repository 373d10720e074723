//! The promise that every task is answered once.

use crossbeam_channel::Sender;

use crate::error::{Error, ErrorKind};

/// What became of one task.
pub(crate) struct Answered<R> {
    /// The task's place in its stream.
    pub(crate) task: usize,
    /// The worker that ran it; `None` if it ran in the caller, or never.
    pub(crate) worker: Option<usize>,
    pub(crate) result: Result<R, Error>,
}

impl<R> Answered<R> {
    /// The answer to a task that never ran.
    pub(crate) fn lost(task: usize) -> Self {
        Answered { task, worker: None, result: Err(Error::from(ErrorKind::Lost).at_index(task)) }
    }
}

/// The duty to answer one task. Dropped undone, it answers that the task was lost: whatever becomes of
/// a task, its stream hears of it, and never hears twice.
pub(crate) struct Answer<R> {
    task: usize,
    /// `None` once the answer is given. The channel has a place for every task in flight, so that
    /// sending never blocks a worker; a failed send means that the stream is gone, and nobody minds.
    to: Option<Sender<Answered<R>>>,
}

impl<R> Answer<R> {
    pub(crate) fn new(task: usize, to: Sender<Answered<R>>) -> Self {
        Answer { task, to: Some(to) }
    }

    pub(crate) fn give(mut self, answered: Answered<R>) {
        debug_assert_eq!(answered.task, self.task, "an answer to another task");
        self.send(answered);
    }

    fn send(&mut self, answered: Answered<R>) {
        if let Some(to) = self.to.take() {
            let _ = to.send(answered);
        }
    }
}

impl<R> Drop for Answer<R> {
    fn drop(&mut self) {
        self.send(Answered::lost(self.task));
    }
}
