//! A task with all that it needs to be run and answered.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use firebox_core::panic_message;

use crate::error::{Error, ErrorKind};
use crate::pool::seat::Seat;
use crate::task::answer::Answer;
use crate::task::work::{Work, Worker};

/// A task, the work that runs it, and the duty to answer.
///
/// [`run`](Self::run) does the one and the other in this process; to send a task elsewhere, take the job
/// [apart](Self::into_parts). Dropping it answers that the task was lost.
pub struct Job<T, W: Work<T>> {
    task: T,
    work: Arc<W>,
    answer: Answer<W::Output>,
    limit: Option<Duration>,
}

impl<T, W: Work<T>> Job<T, W> {
    pub(crate) fn new(task: T, work: Arc<W>, answer: Answer<W::Output>, limit: Option<Duration>) -> Self {
        Job { task, work, answer, limit }
    }

    /// The time that the task may take, counted from its start: what
    /// [`Workers::limit`](crate::Workers::limit) said to the task's stream. `None` for a task of
    /// [`submit`](crate::WorkersExt::submit).
    pub fn limit(&self) -> Option<Duration> {
        self.limit
    }

    /// The task, its work, and the duty to answer it.
    pub fn into_parts(self) -> (T, Arc<W>, Answer<W::Output>) {
        (self.task, self.work, self.answer)
    }

    /// Runs the task here, as this worker or as the caller, and answers. A panic of the task becomes its
    /// error.
    ///
    /// A task that nobody waits for any more isn't begun.
    pub fn run(self, worker: Option<usize>) {
        let Job { task, work, answer, .. } = self;
        if !answer.is_wanted() {
            return;
        }
        let progress = || answer.is_wanted();
        let here = worker.map_or(Worker::CALLER, |id| Worker::new(id, &progress));
        let result = run(&*work, task, answer.task(), here);
        answer.give(worker, result);
    }

    /// [`run`](Self::run) in a thread's seat, where the task is given up if it takes too long, or if the pool
    /// is terminated.
    pub(crate) fn run_in(self, seat: &Seat) {
        let Job { task, work, answer, limit } = self;
        let Some(mailbox) = answer.mailbox().filter(|_| answer.is_wanted()) else { return };
        if !seat.begin(answer.task(), limit, Arc::clone(mailbox) as _) {
            return;
        }
        let progress = || answer.is_wanted() && seat.renew();
        let result = run(&*work, task, answer.task(), Worker::new(seat.worker(), &progress));
        if seat.end() {
            answer.give(Some(seat.worker()), result);
            seat.count();
        } else {
            answer.was_given();
        }
    }
}

/// Runs one task; a panic in it becomes its error.
pub(crate) fn run<T, W: Work<T>>(
    work: &W,
    task: T,
    index: usize,
    worker: Worker<'_>,
) -> Result<W::Output, Error> {
    // Unwind safety: the task is consumed and nothing of it is seen again. What the work shares between its
    // tasks is the work's own affair, as it is for every thread that panics beside others.
    catch_unwind(AssertUnwindSafe(|| work.run(task, worker))).map_err(|payload| {
        Error::from(ErrorKind::Panicked(panic_message(payload))).at_index(index).on_worker(worker.id())
    })
}
