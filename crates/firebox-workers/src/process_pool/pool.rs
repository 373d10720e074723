//! The pool, as its user has it.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Sender, TrySendError, bounded};

use super::attendant::Attendant;
use super::errand::{ChunkErrand, TaskErrand};
use super::settings::{self, Registry};
use super::shared::{ProcessParcel, Shared};
use super::{Crosses, RemoteWork};
use crate::error::{Error, ErrorKind};
use crate::pool;
use crate::pool::statistics::Statistics;
use crate::process::launch::Launch;
use crate::process::role;
use crate::stream::chunk::Chunked;
use crate::task::job::Job;
use crate::workers::{Runs, Workers};

/// Places in a pool's queue, as for threads.
const QUEUE: usize = 1024;

/// How long a chunk of small tasks takes: long beside what it costs to hand one out, a few wakes and a few
/// calls of the system.
const CHUNK: Duration = Duration::from_millis(2);

/// Worker processes: the program itself, started again. [`Pool::processes`](crate::Pool::processes) makes it.
///
/// It has the methods of a pool of threads, those of [`WorkersExt`](crate::WorkersExt). A worker that dies,
/// by a signal, by an abort, by running out of memory, is replaced, and its task goes out again; a task with
/// which workers die three times is answered with [`ErrorKind::Died`], and the pool goes on.
///
/// # Map a function over numbers
///
/// ```
/// use firebox_workers::{Pool, WorkersExt as _};
///
/// fn square(x: u64) -> u64 {
///     x * x
/// }
///
/// fn main() -> Result<(), firebox_workers::Error> {
///     firebox_workers::init(); // First of all: a worker is this program, and works in here.
///     let pool = Pool::processes(2)?;
///     assert_eq!(pool.map(square, 0..10)?.len(), 10);
///     Ok(())
/// }
/// ```
///
/// # Survive what no program survives
///
/// ```
/// use firebox_workers::{ErrorKind, Pool, WorkersExt as _};
///
/// fn decode(sample: u64) -> u64 {
///     if sample == 2 {
///         std::process::abort(); // As a C library might.
///     }
///     sample
/// }
///
/// fn main() -> Result<(), firebox_workers::Error> {
///     firebox_workers::init();
///     let pool = Pool::processes(1)?;
///     let results: Vec<_> = pool.imap(decode, 0..4, 4).collect();
///     assert!(matches!(results[2].as_ref().unwrap_err().kind(), ErrorKind::Died(_)));
///     assert_eq!(results[3].as_ref().unwrap(), &3);
///     assert_eq!(pool.statistics().deaths, 3);
///     Ok(())
/// }
/// ```
///
/// # Work that has settings
///
/// Functions have none; see [`remote_work!`](crate::remote_work).
///
/// Dropping the pool ends it: what waits in the queue is answered as lost, what runs is finished, and the
/// processes end. [`join`](Self::join) finishes what waits, too; [`terminate`](Self::terminate) finishes
/// nothing.
pub struct ProcessPool {
    shared: Arc<Shared>,
    /// `None` in a pool without workers, and once the pool ends.
    queue: Option<Sender<ProcessParcel>>,
    attendants: Mutex<Vec<JoinHandle<()>>>,
    limit: Option<Duration>,
    registry: Registry,
}

impl ProcessPool {
    pub(super) fn new(
        workers: usize,
        launch: Launch,
        limit: Option<Duration>,
        most_bytes: usize,
    ) -> Result<Self, Error> {
        pool::check(workers)?;
        role::check()?;
        let (queue, waiting) = bounded(QUEUE);
        let shared = Arc::new(Shared::new(launch, most_bytes, waiting));
        let queue = (workers > 0).then_some(queue);
        let pool =
            ProcessPool { shared, queue, attendants: Mutex::default(), limit, registry: Registry::default() };
        // Should one fail, dropping the pool ends the others.
        pool.grow(workers)?;
        Ok(pool)
    }

    fn attendants(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.attendants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives each task of a stream a time limit, counted from its start. A task that takes longer is answered
    /// with [`ErrorKind::TimedOut`], and its worker is replaced.
    pub fn with_timeout(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    /// The number of workers; 0 if tasks run in the caller.
    pub fn workers(&self) -> usize {
        self.shared.workers.load(Ordering::Relaxed)
    }

    /// The processes that work at present, by worker; `None` where one is just being replaced.
    pub fn pids(&self) -> Vec<Option<u32>> {
        self.shared.places().pids()
    }

    /// Counts of the tasks done so far, and of the workers that died.
    pub fn statistics(&self) -> Statistics {
        let mut statistics = self.shared.statistics().clone();
        statistics.workers = self.shared.places().left();
        statistics
    }

    /// Looks whether work is the same once it is in another process: whether its settings come back as they
    /// were.
    ///
    /// Streams do so by themselves when they begin; this is for whoever wants to know before.
    ///
    /// # Errors
    /// [`ErrorKind::Crossing`], with the first field that differs.
    pub fn check_work<T, W: RemoteWork<T>>(&self, work: &W) -> Result<(), Error> {
        settings::check(work).map(drop)
    }

    /// Adds workers until there are so many of them. It never takes one away, and a pool without workers
    /// stays one.
    ///
    /// # Errors
    /// [`ErrorKind::NoProcess`] if the system has no more processes to give. Those that it gave stay.
    pub fn grow(&self, workers: usize) -> Result<(), Error> {
        pool::check(workers)?;
        if self.queue.is_none() {
            return Ok(());
        }
        let mut attendants = self.attendants();
        let begun: Vec<_> = (attendants.len()..workers)
            .map(|id| Attendant::begin(id, Arc::clone(&self.shared)))
            .collect::<Result<_, Error>>()?;
        let mut failed = None;
        for (thread, started) in begun {
            // Whoever doesn't start its worker ends, and is none of the pool's.
            match started.recv() {
                Ok(Ok(())) => attendants.push(thread),
                Ok(Err(error)) => failed = failed.or(Some(error)),
                Err(_) => failed = failed.or(Some(Error::from(ErrorKind::Spawn))),
            }
        }
        self.shared.workers.store(attendants.len(), Ordering::Relaxed);
        failed.map_or(Ok(()), Err)
    }

    /// Takes no more tasks: those that come later are answered as [lost](ErrorKind::Lost).
    pub fn close(&self) {
        self.shared.closed.store(true, Ordering::Relaxed);
    }

    /// Finishes everything that was handed out, then ends the pool.
    pub fn join(mut self) {
        drop(self.queue.take());
        self.join_all();
    }

    /// Ends the pool at once: the workers are killed, and what was handed out is answered as
    /// [lost](ErrorKind::Lost).
    pub fn terminate(mut self) {
        self.shared.places().terminate();
        drop(self.queue.take());
        self.join_all();
    }

    fn join_all(&self) {
        let attendants = std::mem::take(&mut *self.attendants());
        let here = std::thread::current().id();
        for attendant in attendants.into_iter().filter(|attendant| attendant.thread().id() != here) {
            // A panic of the user's own code is caught with its task.
            let _ = attendant.join();
        }
    }

    /// The queue, if it takes tasks. A parcel that is dropped instead answers that its task is lost.
    fn queue(&self) -> Option<&Sender<ProcessParcel>> {
        self.queue.as_ref().filter(|_| !self.is_closed())
    }
}

impl Workers for ProcessPool {
    type Parcel = ProcessParcel;

    fn capacity(&self) -> usize {
        self.workers()
    }

    fn try_send(&self, parcel: ProcessParcel) -> Result<(), ProcessParcel> {
        let Some(queue) = self.queue() else { return Ok(()) };
        match queue.try_send(parcel) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => Ok(()),
            Err(TrySendError::Full(parcel)) => Err(parcel),
        }
    }

    fn send(&self, parcel: ProcessParcel) {
        if let Some(queue) = self.queue() {
            let _ = queue.send(parcel);
        }
    }

    fn limit(&self) -> Option<Duration> {
        self.limit
    }

    fn chunk_time(&self) -> Duration {
        CHUNK
    }

    fn grow(&self, workers: usize) -> Result<(), Error> {
        self.grow(workers)
    }

    fn close(&self) {
        self.close();
    }

    fn is_closed(&self) -> bool {
        self.shared.closed.load(Ordering::Relaxed)
    }
}

/// Processes run functions of the program, and work that is [registered](crate::remote_work), on tasks that
/// are data.
impl<T, W> Runs<T, W> for ProcessPool
where
    T: Crosses,
    W: RemoteWork<T>,
    W::Output: Crosses,
{
    fn pack(&self, job: Job<T, W>) -> ProcessParcel {
        let limit = job.limit();
        let (task, work, answer) = job.into_parts();
        let settings = self.registry.settings(&work, |work| settings::check(work));
        ProcessParcel(Box::new(TaskErrand::<T, W>::new(task, settings, answer, limit)))
    }

    fn pack_chunk(&self, job: Job<Vec<T>, Chunked<W>>) -> ProcessParcel {
        let limit = job.limit();
        let (tasks, work, answer) = job.into_parts();
        let settings = self.registry.settings(&work, |work| settings::check(&work.0));
        ProcessParcel(Box::new(ChunkErrand::<T, W>::new(tasks, settings, answer, limit)))
    }
}

impl Drop for ProcessPool {
    fn drop(&mut self) {
        drop(self.queue.take());
        self.shared.waiting.try_iter().for_each(drop);
        self.shared.again.1.try_iter().for_each(drop);
        self.join_all();
    }
}

impl std::fmt::Debug for ProcessPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProcessPool").field("pids", &self.pids()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::Pool;

    /// This test binary has no worker in it.
    #[test]
    fn a_program_that_forgets_to_initialize_is_told_what_to_call() {
        for workers in [0, 1] {
            let error = Pool::processes(workers).unwrap_err();
            assert_eq!(error.kind(), &ErrorKind::NoProcess);
            let text = error.to_string();
            assert!(text.contains("firebox_workers::init() as the first call in main"), "{text}");
        }
        assert!(matches!(Pool::processes(1 << 20).unwrap_err().kind(), ErrorKind::OutOfRange { .. }));
    }
}
