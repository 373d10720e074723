//! The place of one worker thread, and the task that it runs now.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::error::ErrorKind;
use crate::task::answer::GiveUp;

/// A thread's seat: which worker it is, for how long, and which task it runs.
///
/// Whoever takes the running task out of its seat has the duty to answer it: the worker when the task ends,
/// anybody who waits for something of the pool and finds that the task is too late, or who terminates it.
pub(crate) struct Seat {
    worker: usize,
    /// Cleared when another thread takes the worker's place, or the pool ends: then this one ends after its
    /// task. Written under the lock of `running`: a thread that comes back to find its task given up finds
    /// itself dismissed, too, and takes no other.
    employed: AtomicBool,
    /// The thread has seen that it is dismissed, and takes no task any more. Under the lock of `running`.
    left: AtomicBool,
    /// `None` between tasks, and once the task was given up.
    running: Mutex<Option<Running>>,
    /// The tasks that the worker has answered.
    answered: AtomicU64,
}

struct Running {
    task: usize,
    limit: Option<Duration>,
    /// `None` without a limit, or for one beyond all time.
    end: Option<Instant>,
    stream: Arc<dyn GiveUp>,
}

/// When a task that begins now must have ended.
fn end_of(limit: Option<Duration>) -> Option<Instant> {
    limit.and_then(|limit| Instant::now().checked_add(limit))
}

impl Seat {
    pub(crate) fn new(worker: usize) -> Self {
        let (employed, running) = (AtomicBool::new(true), Mutex::default());
        let (left, answered) = (AtomicBool::new(false), AtomicU64::new(0));
        Seat { worker, employed, left, running, answered }
    }

    pub(crate) fn worker(&self) -> usize {
        self.worker
    }

    fn is_employed(&self) -> bool {
        self.employed.load(Ordering::Acquire)
    }

    /// Between tasks: `true` if the thread is dismissed, and ends.
    pub(crate) fn leave(&self) -> bool {
        if self.is_employed() {
            return false;
        }
        let _running = self.running();
        let leaves = !self.is_employed();
        self.left.store(leaves, Ordering::Relaxed);
        leaves
    }

    /// Takes a dismissal back; `false` if the thread has left.
    pub(crate) fn rehire(&self) -> bool {
        let _running = self.running();
        let stays = !self.left.load(Ordering::Relaxed);
        self.employed.store(stays, Ordering::Release);
        stays
    }

    /// Begins a task; `false` if this thread begins none any more.
    pub(crate) fn begin(&self, task: usize, limit: Option<Duration>, stream: Arc<dyn GiveUp>) -> bool {
        let end = end_of(limit);
        let mut running = self.running();
        // Under the lock: whoever dismisses this thread finds the task, or is seen here.
        let is_employed = self.is_employed();
        if is_employed {
            *running = Some(Running { task, limit, end, stream });
        }
        is_employed
    }

    /// Begins the task's limit anew; `false` if the task was given up.
    pub(crate) fn renew(&self) -> bool {
        match &mut *self.running() {
            Some(running) => {
                running.end = end_of(running.limit);
                true
            }
            None => false,
        }
    }

    /// Ends the task; `false` if it was given up.
    pub(crate) fn end(&self) -> bool {
        self.running().take().is_some()
    }

    /// Counts a task that the worker has answered.
    pub(crate) fn count(&self) {
        self.answered.fetch_add(1, Ordering::Relaxed);
    }

    /// How many tasks the worker has answered.
    pub(crate) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Dismisses the thread, answers the task that it runs as lost, and tells whether it runs one.
    pub(crate) fn terminate(&self) -> bool {
        // Taken first: the lock isn't held while anybody is answered.
        let task = {
            let mut running = self.running();
            self.employed.store(false, Ordering::Release);
            running.take()
        };
        task.is_some_and(|Running { task, stream, .. }| {
            stream.give_up(task, self.worker, ErrorKind::Lost);
            true
        })
    }

    /// When the task that runs must have ended.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.running().as_ref()?.end
    }

    /// Answers for the task if it is too late, dismisses the thread then, and tells whether it has.
    pub(crate) fn give_up_overdue(&self, now: Instant) -> bool {
        let overdue = {
            let mut running = self.running();
            let overdue = running.take_if(|running| running.end.is_some_and(|end| end <= now));
            if overdue.is_some() {
                self.employed.store(false, Ordering::Release);
            }
            overdue
        };
        match overdue {
            Some(Running { task, limit: Some(limit), stream, .. }) => {
                stream.give_up(task, self.worker, ErrorKind::TimedOut(limit));
                true
            }
            // What has no limit has no end, either.
            _ => false,
        }
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        // Nothing panics under this lock.
        self.running.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
