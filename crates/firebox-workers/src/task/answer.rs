//! The promise that every task is answered once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded};

use crate::error::{Error, ErrorKind};

/// The answer to one task: its result, and who ran it.
pub struct Answered<R> {
    /// The task's index in its stream.
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

/// The duty to answer one task.
///
/// Dropped undone, it answers that the task was lost: whatever happens to a task, its stream hears of it, and
/// never hears twice.
pub struct Answer<R> {
    task: usize,
    /// `None` once the answer is given.
    to: Option<Arc<Mailbox<R>>>,
}

impl<R> Answer<R> {
    pub(crate) fn new(task: usize, to: Arc<Mailbox<R>>) -> Self {
        Answer { task, to: Some(to) }
    }

    /// The task's index in its stream.
    pub fn task(&self) -> usize {
        self.task
    }

    /// Tells whether anybody waits for the task: not once its stream is dropped, or the task was cancelled.
    pub fn is_wanted(&self) -> bool {
        self.to.as_ref().is_some_and(|to| !to.cancelled.load(Ordering::Relaxed))
    }

    /// Answers with a result, and the worker that ran the task unless it was the caller.
    pub fn give(mut self, worker: Option<usize>, result: Result<R, Error>) {
        let task = self.task;
        self.send(|| Answered { task, worker, result });
    }

    /// Ends the duty without an answer, because somebody else has given it.
    pub(crate) fn was_given(mut self) {
        self.to = None;
    }

    pub(crate) fn mailbox(&self) -> Option<&Arc<Mailbox<R>>> {
        self.to.as_ref()
    }

    fn send(&mut self, answered: impl FnOnce() -> Answered<R>) {
        if let Some(to) = self.to.take() {
            let _ = to.send(answered());
        }
    }
}

impl<R> Drop for Answer<R> {
    fn drop(&mut self) {
        let task = self.task;
        self.send(|| Answered::lost(task));
    }
}

/// The side of a stream that its tasks share: where they answer, and whether anybody still listens.
pub(crate) struct Mailbox<R> {
    /// It has a place for every task in flight, so that sending never blocks a worker.
    answers: Sender<Answered<R>>,
    /// Set when the stream is dropped, or its one task cancelled: a task that would start later does nothing.
    cancelled: AtomicBool,
}

impl<R> Mailbox<R> {
    /// A mailbox for so many answers at a time, and the side that takes them out.
    pub(crate) fn new(places: usize) -> (Arc<Self>, Answers<R>) {
        let (answers, from) = bounded(places);
        (Arc::new(Mailbox { answers, cancelled: AtomicBool::new(false) }), Answers(from))
    }

    pub(crate) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// Answers the one task of this mailbox as cancelled, unless it was answered before; tells whether it is
    /// cancelled.
    pub(crate) fn cancel_task(&self) -> bool {
        let error = Error::from(ErrorKind::Cancelled).at_index(0);
        // The mailbox has one place: of this and the task's own answer, the first one counts.
        if self.send(Answered { task: 0, worker: None, result: Err(error) }) {
            self.cancel();
        }
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Puts an answer in, and tells whether it is there. Where it is not, the stream is gone, or its task was
    /// cancelled, and nobody minds.
    fn send(&self, answered: Answered<R>) -> bool {
        self.answers.try_send(answered).is_ok()
    }
}

/// Giving up a task that still runs, whatever the type of its result.
pub(crate) trait GiveUp: Send + Sync {
    fn give_up(&self, task: usize, worker: usize, why: ErrorKind);
}

impl<R: Send> GiveUp for Mailbox<R> {
    fn give_up(&self, task: usize, worker: usize, why: ErrorKind) {
        let error = Error::from(why).at_index(task).on_worker(worker);
        let _ = self.send(Answered { task, worker: Some(worker), result: Err(error) });
    }
}

/// The answers of one stream, as they come.
#[derive(Debug)]
pub struct Answers<R>(Receiver<Answered<R>>);

/// Why there is no answer.
pub(crate) enum NoAnswer {
    NotYet,
    /// No task is left that could answer.
    Never,
}

impl<R> Answers<R> {
    /// Waits for an answer, at most for `limit` if there is one.
    ///
    /// `None` if the time is over, or if nobody is left who could answer.
    pub fn wait(&self, limit: Option<Duration>) -> Option<Answered<R>> {
        match limit {
            Some(limit) => self.wait_for(limit).ok(),
            None => self.0.recv().ok(),
        }
    }

    pub(crate) fn wait_for(&self, limit: Duration) -> Result<Answered<R>, NoAnswer> {
        self.0.recv_timeout(limit).map_err(|error| match error {
            RecvTimeoutError::Timeout => NoAnswer::NotYet,
            RecvTimeoutError::Disconnected => NoAnswer::Never,
        })
    }

    /// An answer that is there already; `None` if there is none yet, or there will be none.
    pub fn take(&self) -> Option<Answered<R>> {
        self.try_take().ok()
    }

    pub(crate) fn try_take(&self) -> Result<Answered<R>, NoAnswer> {
        self.0.try_recv().map_err(|error| match error {
            TryRecvError::Empty => NoAnswer::NotYet,
            TryRecvError::Disconnected => NoAnswer::Never,
        })
    }
}
