//! Tasks that must end in time.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::answer::{Answer, Answered};
use crate::error::{Error, ErrorKind};
use crate::work::Clock;

/// The tasks of one stream that run now, with the duty to answer each of them.
///
/// Whoever removes an entry has the duty: the worker when the task ends, or anybody who waits for something of the
/// pool and finds that the task is too late.
pub(crate) struct Watch<R> {
    limit: Duration,
    running: Mutex<BTreeMap<usize, Running<R>>>,
}

struct Running<R> {
    /// `None` for a limit beyond all time.
    end: Option<Instant>,
    worker: usize,
    answer: Answer<R>,
}

/// What a pool asks of the watches of its streams, whatever their results are.
pub(crate) trait Overdue: Send + Sync {
    /// When the first of the tasks that run must have ended.
    fn first_end(&self) -> Option<Instant>;

    /// Answers for the tasks that are too late, and names their workers.
    fn give_up(&self) -> Vec<usize>;
}

impl<R> Watch<R> {
    pub(crate) fn new(limit: Duration) -> Self {
        Watch { limit, running: Mutex::default() }
    }

    pub(crate) fn begin(&self, task: usize, worker: usize, answer: Answer<R>) {
        let end = Instant::now().checked_add(self.limit);
        self.running().insert(task, Running { end, worker, answer });
    }

    /// The duty to answer, unless the task was given up.
    pub(crate) fn end(&self, task: usize) -> Option<Answer<R>> {
        self.running().remove(&task).map(|running| running.answer)
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<usize, Running<R>>> {
        // Nothing panics under this lock.
        self.running.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl<R: Send> Clock for Watch<R> {
    fn renew(&self, task: usize) -> bool {
        let end = Instant::now().checked_add(self.limit);
        match self.running().get_mut(&task) {
            Some(running) => {
                running.end = end;
                true
            }
            None => false,
        }
    }
}

impl<R: Send> Overdue for Watch<R> {
    fn first_end(&self) -> Option<Instant> {
        self.running().values().filter_map(|running| running.end).min()
    }

    fn give_up(&self) -> Vec<usize> {
        let now = Instant::now();
        let mut running = self.running();
        let late: Vec<usize> = running
            .iter()
            .filter(|(_, running)| running.end.is_some_and(|end| end <= now))
            .map(|(&task, _)| task)
            .collect();
        let late: Vec<_> = late.into_iter().filter_map(|task| Some((task, running.remove(&task)?))).collect();
        drop(running);
        let give_up = |(task, Running { worker, answer, .. })| {
            let error = Error::from(ErrorKind::TimedOut(self.limit)).at_index(task).on_worker(worker);
            answer.give(Answered { task, worker: Some(worker), result: Err(error) });
            worker
        };
        late.into_iter().map(give_up).collect()
    }
}
