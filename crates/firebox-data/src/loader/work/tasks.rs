//! The tasks of an epoch at the workers, whatever these are.

use firebox_workers::Error as PoolError;
use firebox_workers::stream::Dispatch;

use crate::collate::Collate;
use crate::loader::work::{BatchTask, ChunkResult, EpochExecutor};

/// A task for a worker.
pub(in crate::loader) struct Order {
    pub(in crate::loader) task: BatchTask,
    /// The position of the one sample of the task, if it is run apart from its batch since workers died with
    /// it. Nothing comes of it but whether they do again.
    pub(in crate::loader) apart: Option<usize>,
}

/// The result of a task, with its number.
pub(in crate::loader) type Heard<C> = (usize, Result<ChunkResult<<C as Collate>::Batch>, PoolError>);

/// Tasks that are handed out and heard of again: to threads, or to processes.
pub(in crate::loader) trait Tasks<C: Collate> {
    /// Hands a task out and gives its number, or gives it back if workers have no room for it.
    fn send(&mut self, order: Order) -> Result<usize, Order>;

    /// Waits for what becomes of a task; `None` if none is out.
    fn receive(&mut self) -> Option<Heard<C>>;

    /// The result of a task, if it is known already.
    fn try_receive(&mut self) -> Option<Heard<C>>;
}

/// Threads never die: nothing is run apart.
impl<C: Collate> Tasks<C> for Dispatch<'_, BatchTask, EpochExecutor<C>> {
    fn send(&mut self, Order { task, apart }: Order) -> Result<usize, Order> {
        self.send(task).map_err(|task| Order { task, apart })
    }

    fn receive(&mut self) -> Option<Heard<C>> {
        self.receive()
    }

    fn try_receive(&mut self) -> Option<Heard<C>> {
        self.try_receive()
    }
}

/// The end of a worker process with a task.
pub(in crate::loader) struct Death {
    pub(in crate::loader) process: u32,
    /// How it ended, in words.
    pub(in crate::loader) cause: String,
    /// The position of the sample that it had begun, or [`CLOSING_PART`](crate::loader::work::CLOSING_PART).
    pub(in crate::loader) begun: Option<usize>,
    /// True if it was ended for its time limit.
    pub(in crate::loader) timed_out: bool,
}

impl Death {
    /// The death that an error is about, if it is about one.
    #[cfg(all(feature = "processes", target_os = "linux"))]
    pub(in crate::loader) fn of(error: &PoolError) -> Option<Self> {
        use firebox_workers::ErrorKind;
        use firebox_workers::pool::Incident;

        let (incident, timed_out) = match error.kind() {
            ErrorKind::Died(incident) => (incident, false),
            ErrorKind::TimedOut(_) => (std::error::Error::source(error)?.downcast_ref::<Incident>()?, true),
            _ => return None,
        };
        let Incident { pid, cause, part, .. } = incident;
        Some(Death { process: *pid, cause: cause.to_string(), begun: *part, timed_out })
    }

    /// There are no processes.
    #[cfg(not(all(feature = "processes", target_os = "linux")))]
    pub(in crate::loader) fn of(_: &PoolError) -> Option<Self> {
        None
    }
}
