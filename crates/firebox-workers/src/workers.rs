//! The trait that a kind of workers implements.

use std::time::Duration;

use crate::error::Error;
use crate::stream::chunk::Chunked;
use crate::task::answer::{Answered, Answers};
use crate::task::job::Job;
use crate::task::work::Work;

/// Workers that take tasks and answer them: what a kind of pool implements.
///
/// It is about tasks on their way, one at a time, and about nothing else. Order, bounds, chunks of small
/// tasks, running in the caller and the end of streams are [`WorkersExt`](crate::WorkersExt)'s, which every
/// implementor gets. Which tasks the workers can run is for [`Runs`] to say.
///
/// An implementor owes this: a parcel that was taken is answered once, whatever happens, also at the pool's
/// end. A [`Job`] and an [`Answer`](crate::task::Answer) do that by themselves, unless somebody leaks them.
/// And workers never wait for those who ask for results.
///
/// # A pool of one's own
///
/// ```
/// use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
/// use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
///
/// use firebox_workers::{Error, Work, Workers, WorkersExt as _};
/// use firebox_workers::stream::Chunked;
/// use firebox_workers::task::Job;
/// use firebox_workers::workers::Runs;
///
/// type Parcel = Box<dyn FnOnce() + Send>;
///
/// /// One thread.
/// struct Single {
///     queue: SyncSender<Parcel>,
///     closed: AtomicBool,
/// }
///
/// impl Single {
///     fn new() -> Self {
///         let (queue, parcels) = sync_channel::<Parcel>(16);
///         std::thread::spawn(move || parcels.into_iter().for_each(|parcel| parcel()));
///         Single { queue, closed: AtomicBool::new(false) }
///     }
/// }
///
/// impl Workers for Single {
///     type Parcel = Parcel;
///     fn capacity(&self) -> usize {
///         1
///     }
///     fn try_send(&self, parcel: Parcel) -> Result<(), Parcel> {
///         if self.is_closed() {
///             return Ok(()); // Dropped, it answers that its task is lost.
///         }
///         match self.queue.try_send(parcel) {
///             Err(TrySendError::Full(parcel)) => Err(parcel),
///             Ok(()) | Err(TrySendError::Disconnected(_)) => Ok(()),
///         }
///     }
///     fn send(&self, parcel: Parcel) {
///         if !self.is_closed() {
///             let _ = self.queue.send(parcel);
///         }
///     }
///     fn grow(&self, _workers: usize) -> Result<(), Error> {
///         Ok(())
///     }
///     fn close(&self) {
///         self.closed.store(true, Relaxed);
///     }
///     fn is_closed(&self) -> bool {
///         self.closed.load(Relaxed)
///     }
/// }
///
/// impl<T: Send + 'static, W: Work<T>> Runs<T, W> for Single {
///     fn pack(&self, job: Job<T, W>) -> Parcel {
///         Box::new(move || job.run(Some(0)))
///     }
///     fn pack_chunk(&self, job: Job<Vec<T>, Chunked<W>>) -> Parcel {
///         Box::new(move || job.run(Some(0)))
///     }
/// }
///
/// let lengths = Single::new().map(|word: &str| word.len(), ["fire", "box"])?;
/// assert_eq!(lengths, [4, 3]);
/// # Ok::<(), Error>(())
/// ```
pub trait Workers: Sync {
    /// A task on its way, with the duty to answer it: a closure to a thread, bytes to a process.
    type Parcel: Send;

    /// The number of workers that tasks of the calling thread may wait for.
    ///
    /// It is 0 without workers, and in a worker that uses its own pool, which must not wait for itself: then
    /// tasks run in the caller.
    fn capacity(&self) -> usize;

    /// Queues a task, or gives it back if there is no room now.
    ///
    /// # Errors
    /// The task.
    fn try_send(&self, parcel: Self::Parcel) -> Result<(), Self::Parcel>;

    /// Queues a task, and waits until there is room for it.
    fn send(&self, parcel: Self::Parcel);

    /// Waits for the next answer of a stream, which has tasks out.
    ///
    /// Workers that must be looked after, for tasks that are too late or workers that died, are looked after
    /// in here, all of them: what this stream waits for may be the task of another.
    fn receive<R: Send + 'static>(&self, answers: &Answers<R>) -> Option<Answered<R>> {
        answers.wait(None)
    }

    /// An answer of a stream that is there already, without waiting for it.
    ///
    /// Workers that must be looked after in [`receive`](Self::receive) are looked after in here, too: who
    /// never waits should hear of a task that is too late all the same.
    fn try_receive<R: Send + 'static>(&self, answers: &Answers<R>) -> Option<Answered<R>> {
        answers.take()
    }

    /// The time that each task of a stream may take, if these workers give up those that take longer.
    fn limit(&self) -> Option<Duration> {
        None
    }

    /// How long a chunk of small tasks takes, long beside what it costs to hand one out: for
    /// [`map`](crate::WorkersExt::map), which makes chunks.
    fn chunk_time(&self) -> Duration {
        Duration::from_micros(200)
    }

    /// Adds workers until there are so many of them. It never takes one away, and a pool without workers
    /// stays one.
    ///
    /// # Errors
    /// If there are no more to be had. Those that were added stay.
    fn grow(&self, workers: usize) -> Result<(), Error>;

    /// Takes no more tasks: those that come later are answered as [lost](crate::ErrorKind::Lost).
    fn close(&self);

    /// Tells whether the workers were [closed](Self::close).
    fn is_closed(&self) -> bool;
}

/// Workers that can run this work on these tasks.
///
/// Threads run any work on tasks that are [`Send`]; workers in other processes want tasks that are data, and
/// work that is known there.
pub trait Runs<T, W: Work<T>>: Workers {
    /// Makes a task ready to be sent.
    fn pack(&self, job: Job<T, W>) -> Self::Parcel;

    /// Makes a chunk of tasks ready to be sent as one.
    fn pack_chunk(&self, job: Job<Vec<T>, Chunked<W>>) -> Self::Parcel;
}
