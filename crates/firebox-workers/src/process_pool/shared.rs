//! State that a pool and its attendants share.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crossbeam_channel::{Receiver, Sender, unbounded};
use rustix::process::{Signal, pidfd_send_signal};

use super::errand::Errand;
use crate::pool::statistics::Statistics;
use crate::process::launch::Launch;

/// A task on its way to a worker process. Dropped, it answers that its task was lost.
pub struct ProcessParcel(pub(super) Box<dyn Errand>);

/// Where the workers are, and which of their attendants are left.
#[derive(Default)]
pub(super) struct Places {
    /// The process in each place.
    pub(super) processes: Vec<Option<(u32, OwnedFd)>>,
    /// How many places have an attendant that takes tasks.
    pub(super) left: usize,
    pub(super) is_terminated: bool,
}

impl Places {
    pub(super) fn pids(&self) -> Vec<Option<u32>> {
        self.processes.iter().map(|process| process.as_ref().map(|(pid, _)| *pid)).collect()
    }

    pub(super) fn left(&self) -> usize {
        self.left
    }

    /// Kills all workers, and those that come later.
    pub(super) fn terminate(&mut self) {
        self.is_terminated = true;
        for (_, process) in self.processes.iter().flatten() {
            // One that has ended can't be ended again.
            let _ = pidfd_send_signal(process, Signal::KILL);
        }
    }

    pub(super) fn settle(&mut self, worker: usize, process: Option<(u32, OwnedFd)>) {
        if self.processes.len() <= worker {
            self.processes.resize_with(worker + 1, || None);
        }
        self.processes[worker] = process;
    }
}

/// State that a pool and its attendants share.
pub(super) struct Shared {
    pub(super) launch: Launch,
    /// The most bytes of a task, or of a result.
    pub(super) most_bytes: usize,
    pub(super) waiting: Receiver<ProcessParcel>,
    /// Tasks of places that gave up, for the others.
    pub(super) again: (Sender<ProcessParcel>, Receiver<ProcessParcel>),
    pub(super) places: Mutex<Places>,
    pub(super) workers: AtomicUsize,
    pub(super) closed: AtomicBool,
    pub(super) statistics: Mutex<Statistics>,
}

impl Shared {
    pub(super) fn new(launch: Launch, most_bytes: usize, waiting: Receiver<ProcessParcel>) -> Self {
        Shared {
            launch,
            most_bytes,
            waiting,
            again: unbounded(),
            places: Mutex::default(),
            workers: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            statistics: Mutex::default(),
        }
    }

    pub(super) fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn statistics(&self) -> MutexGuard<'_, Statistics> {
        self.statistics.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
