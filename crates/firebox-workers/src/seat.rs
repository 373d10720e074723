//! The place of one worker thread, and the task that it runs now.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::answer::GiveUp;

/// A thread's seat: which worker it is, for how long, and which task with a time limit it runs.
///
/// Whoever takes the running task out of its seat has the duty to answer it: the worker when the task ends,
/// or anybody who waits for something of the pool and finds that the task is too late.
pub(crate) struct Seat {
    worker: usize,
    /// Cleared when another thread takes the worker's place: then this one ends after its task.
    employed: AtomicBool,
    /// `None` between tasks, once the task was given up, and while a task runs that has no limit.
    running: Mutex<Option<Running>>,
}

struct Running {
    task: usize,
    limit: Duration,
    /// `None` for a limit beyond all time.
    end: Option<Instant>,
    stream: Arc<dyn GiveUp>,
}

impl Seat {
    pub(crate) fn new(worker: usize) -> Self {
        Seat { worker, employed: AtomicBool::new(true), running: Mutex::default() }
    }

    pub(crate) fn worker(&self) -> usize {
        self.worker
    }

    pub(crate) fn is_employed(&self) -> bool {
        self.employed.load(Ordering::Acquire)
    }

    pub(crate) fn dismiss(&self) {
        self.employed.store(false, Ordering::Release);
    }

    pub(crate) fn begin(&self, task: usize, limit: Duration, stream: Arc<dyn GiveUp>) {
        let end = Instant::now().checked_add(limit);
        *self.running() = Some(Running { task, limit, end, stream });
    }

    /// Begins the task's limit anew; `false` if the task was given up.
    pub(crate) fn renew(&self) -> bool {
        match &mut *self.running() {
            Some(running) => {
                running.end = Instant::now().checked_add(running.limit);
                true
            }
            None => false,
        }
    }

    /// Ends the task; `false` if it was given up.
    pub(crate) fn end(&self) -> bool {
        self.running().take().is_some()
    }

    /// When the task that runs must have ended.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.running().as_ref()?.end
    }

    /// Answers for the task if it is too late, and tells whether it is.
    pub(crate) fn give_up_overdue(&self, now: Instant) -> bool {
        let overdue = self.running().take_if(|running| running.end.is_some_and(|end| end <= now));
        match overdue {
            Some(Running { task, limit, stream, .. }) => {
                stream.give_up(task, self.worker, limit);
                true
            }
            None => false,
        }
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        // Nothing panics under this lock.
        self.running.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
