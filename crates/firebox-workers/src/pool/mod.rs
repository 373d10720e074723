//! A fixed set of named threads and the queue that feeds them.

pub(crate) mod incident;
pub(crate) mod seat;
pub(crate) mod statistics;

pub use incident::{Cause, Incident};
pub use statistics::Statistics;

use std::cell::Cell;
use std::io::{Error as IoError, ErrorKind as IoErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, SendTimeoutError, Sender, TrySendError, bounded};
use firebox_core::panic_message;

use crate::error::{Error, ErrorKind, MOST_WORKERS};
use crate::pool::seat::Seat;
use crate::stream::chunk::Chunked;
use crate::task::answer::{Answered, Answers, NoAnswer};
use crate::task::job::Job;
use crate::task::work::Work;
use crate::workers::{Runs, Workers};

/// A task on its way to a thread of a [`Pool`]: a closure that runs and answers it.
pub struct ThreadParcel(Box<dyn FnOnce(&Seat) + Send>);

/// Places in a pool's queue. A stream that finds it full waits for a worker to take something, so the
/// number bounds memory and nothing else.
const QUEUE: usize = 1024;

thread_local! {
    /// The pool whose worker this thread is; 0 in every other thread.
    static MEMBER_OF: Cell<u64> = const { Cell::new(0) };
}

/// Worker threads and their queue. See the [crate's page](crate) for what it promises.
///
/// ```
/// use std::time::Duration;
/// use firebox_workers::{Pool, WorkersExt as _};
///
/// let pool = Pool::named("decode", 2)?.with_timeout(Duration::from_secs(10));
/// let lengths = pool.map(|word: &str| word.len(), ["fire", "box"])?;
/// assert_eq!((lengths, pool.workers()), (vec![4, 3], 2));
/// # Ok::<(), firebox_workers::Error>(())
/// ```
///
/// Dropping the pool ends it: what still waits in the queue is answered as lost, what runs is finished, and
/// every thread is joined. [`join`](Pool::join) finishes what waits, too; [`terminate`](Pool::terminate)
/// waits for nothing.
pub struct Pool {
    id: u64,
    name: String,
    workers: AtomicUsize,
    /// `None` in a pool without workers, and once the pool ends.
    queue: Option<Sender<ThreadParcel>>,
    /// The workers' end of the queue: for new threads, and to empty it when the pool ends.
    waiting: Receiver<ThreadParcel>,
    /// The thread in each worker's place. Threads that were given up are in none, and nobody waits for them.
    places: Mutex<Vec<Place>>,
    closed: AtomicBool,
    /// The time that a task may take.
    limit: Option<Duration>,
    /// Threads that were given up, and the tasks that they had answered before.
    given_up: AtomicU64,
    answered_before: AtomicU64,
}

/// A worker's thread.
struct Place {
    seat: Arc<Seat>,
    thread: JoinHandle<()>,
    /// The thread was given up and has left, and the system gave no other.
    vacant: bool,
}

impl Pool {
    /// A pool of `workers` threads named `firebox-0`, `firebox-1`, ….
    ///
    /// With 0 workers each task runs in the caller when its result is asked for.
    ///
    /// # Errors
    /// [`ErrorKind::Spawn`] if the system has no more threads to give,
    /// [`ErrorKind::OutOfRange`] beyond 16,384.
    pub fn threads(workers: usize) -> Result<Self, Error> {
        Self::named("firebox", workers)
    }

    /// A pool whose threads are called `name-0`, `name-1`, …. See [`Pool::threads`].
    ///
    /// # Errors
    /// As for [`threads`](Pool::threads), and [`ErrorKind::Spawn`] for a name with a
    /// NUL, which no thread can have.
    pub fn named(name: &str, workers: usize) -> Result<Self, Error> {
        check(workers)?;
        static IDS: AtomicU64 = AtomicU64::new(1);
        let (queue, waiting) = bounded(QUEUE);
        let pool = Pool {
            id: IDS.fetch_add(1, Ordering::Relaxed),
            name: name.to_owned(),
            workers: AtomicUsize::new(workers),
            queue: (workers > 0).then_some(queue),
            waiting,
            places: Mutex::default(),
            closed: AtomicBool::new(false),
            limit: None,
            given_up: AtomicU64::new(0),
            answered_before: AtomicU64::new(0),
        };
        for worker in 0..workers {
            // Should one fail, dropping the pool ends those before it.
            let place = pool.spawn(worker)?;
            pool.places().push(place);
        }
        Ok(pool)
    }

    /// Gives each task of a stream a time limit, counted from its start. A task that takes longer is answered
    /// with [`ErrorKind::TimedOut`]; its thread, which nothing can stop, is left
    /// to itself, and a new one takes its place.
    ///
    /// A limit of zero gives up whatever is not done when somebody looks; one beyond all time is none.
    ///
    /// Limits are watched while a result of any of the pool's streams is waited for or looked for, and while
    /// the pool ends. Without workers they aren't, and tasks of [`submit`](crate::WorkersExt::submit) have
    /// none: their handle can be waited for with a limit of its own.
    pub fn with_timeout(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    fn spawn(&self, worker: usize) -> Result<Place, Error> {
        if self.name.contains('\0') {
            let text = format!("expected a name without NUL, got {:?}", self.name);
            return Err(no_thread(worker, IoError::new(IoErrorKind::InvalidInput, text)));
        }
        let (id, waiting) = (self.id, self.waiting.clone());
        let seat = Arc::new(Seat::new(worker));
        let here = Arc::clone(&seat);
        let thread = thread::Builder::new().name(format!("{}-{worker}", self.name)).spawn(move || {
            MEMBER_OF.set(id);
            for ThreadParcel(run) in waiting {
                // A task's own panic is caught with the task. What is left is a value that panics when it is
                // dropped: the task was answered, as lost if need be, and the thread stays.
                if let Err(payload) = catch_unwind(AssertUnwindSafe(|| run(&here))) {
                    // Which may be such a value, too.
                    panic_message(payload);
                }
                if here.leave() {
                    return;
                }
            }
        });
        thread.map(|thread| Place { seat, thread, vacant: false }).map_err(|error| no_thread(worker, error))
    }

    /// The time that a task of a stream may take: see [`with_timeout`](Pool::with_timeout).
    pub fn limit(&self) -> Option<Duration> {
        self.limit
    }

    /// How long to wait before some task can be too late; `None` if tasks have no limit. A task that has not
    /// begun yet has all of its limit.
    fn until_overdue(&self) -> Option<Duration> {
        let limit = self.limit?;
        let first = self.places().iter().filter_map(|place| place.seat.deadline()).min();
        // While no task runs none can be late: to look again at once would keep a core busy.
        let idle = limit.max(Duration::from_millis(1));
        let wait = first.map_or(idle, |end| end.saturating_duration_since(Instant::now()).min(limit));
        // The longest wait that every system takes.
        Some(wait.min(Duration::from_secs(3600)))
    }

    /// Answers for the tasks that are too late, and gives their places to new threads.
    ///
    /// An old thread ends when its task does. If the system has no thread to give, the old one keeps its
    /// place and comes back when its task ends; if it has left already, a thread is asked for again each time
    /// that somebody looks.
    fn give_up_overdue(&self) {
        let now = Instant::now();
        for place in &mut *self.places() {
            if !place.seat.give_up_overdue(now) && !place.vacant {
                continue;
            }
            match self.spawn(place.seat.worker()) {
                Ok(successor) => {
                    // The old one answers nothing any more.
                    self.answered_before.fetch_add(place.seat.answered(), Ordering::Relaxed);
                    self.given_up.fetch_add(1, Ordering::Relaxed);
                    *place = successor;
                }
                Err(_) => place.vacant = !place.seat.rehire(),
            }
        }
    }

    fn places(&self) -> MutexGuard<'_, Vec<Place>> {
        lock(&self.places)
    }

    /// The number of worker threads; 0 if tasks run in the caller.
    pub fn workers(&self) -> usize {
        self.workers.load(Ordering::Relaxed)
    }

    /// Adds threads until there are `workers` of them. It never takes one away, and a pool without workers
    /// stays one.
    ///
    /// # Errors
    /// [`ErrorKind::Spawn`] if the system has no more threads to give. Those that it
    /// gave stay. [`ErrorKind::OutOfRange`] beyond 16,384.
    pub fn grow(&self, workers: usize) -> Result<(), Error> {
        check(workers)?;
        if self.queue.is_none() {
            return Ok(());
        }
        let mut places = self.places();
        while places.len() < workers {
            let place = self.spawn(places.len())?;
            places.push(place);
            self.workers.store(places.len(), Ordering::Relaxed);
        }
        Ok(())
    }

    /// Takes no more tasks: those that come later are answered as [lost](crate::ErrorKind::Lost).
    pub fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    /// Finishes everything that was handed out, then ends the pool.
    pub fn join(mut self) {
        drop(self.queue.take());
        self.join_all();
    }

    /// Ends the pool at once: what was handed out is answered as [lost](crate::ErrorKind::Lost).
    ///
    /// A thread that runs a task can't be stopped: it is left to itself, and ends when its task does, whose
    /// result is dropped. A task that asks by [`Worker::progress`](crate::Worker::progress) hears that nobody
    /// waits for it.
    pub fn terminate(mut self) {
        self.close();
        drop(self.queue.take());
        let places = std::mem::take(&mut *self.places());
        // What is taken from the queue from now on is not begun, but dropped.
        let idle: Vec<Place> = places.into_iter().filter(|place| !place.seat.terminate()).collect();
        self.waiting.try_iter().for_each(drop);
        let here = thread::current().id();
        for place in idle.into_iter().filter(|place| place.thread.thread().id() != here) {
            let _ = place.thread.join();
        }
    }

    /// Counts of the tasks done so far.
    ///
    /// A thread that was given up for a time limit counts as a death and a replacement; there are no
    /// incidents.
    pub fn statistics(&self) -> Statistics {
        let places = self.places();
        let given_up = self.given_up.load(Ordering::Relaxed);
        let answered: u64 = places.iter().map(|place| place.seat.answered()).sum();
        Statistics {
            workers: places.len(),
            tasks: answered + self.answered_before.load(Ordering::Relaxed),
            deaths: given_up,
            replacements: given_up,
            ..Statistics::default()
        }
    }

    /// Waits for every thread, but for no task longer than its limit.
    fn join_all(&self) {
        // The last handle to a pool may be dropped by one of its own workers, which can't join itself.
        let here = thread::current().id();
        if self.limit.is_none() {
            let places = std::mem::take(&mut *self.places());
            for place in places.into_iter().filter(|place| place.thread.thread().id() != here) {
                // A worker's panic is caught with its task, so joining has nothing more to tell.
                let _ = place.thread.join();
            }
            return;
        }
        let ended = |place: &Place| place.thread.is_finished() || place.thread.thread().id() == here;
        while !self.places().iter().all(ended) {
            // Whoever takes the place of a thread that is given up finds the queue closed, and ends at once.
            self.give_up_overdue();
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits for a place in the queue: for no task before it longer than its limit.
    fn send_waiting(&self, queue: &Sender<ThreadParcel>, mut parcel: ThreadParcel) {
        while let Some(wait) = self.until_overdue() {
            match queue.send_timeout(parcel, wait) {
                Err(SendTimeoutError::Timeout(refused)) => parcel = refused,
                Ok(()) | Err(SendTimeoutError::Disconnected(_)) => return,
            }
            self.give_up_overdue();
        }
        let _ = queue.send(parcel);
    }

    /// The queue, if it takes tasks. A parcel that is dropped instead answers that its task is lost.
    fn open_queue(&self) -> Option<&Sender<ThreadParcel>> {
        self.queue.as_ref().filter(|_| !self.is_closed())
    }
}

impl Workers for Pool {
    type Parcel = ThreadParcel;

    fn capacity(&self) -> usize {
        if MEMBER_OF.get() == self.id { 0 } else { self.workers() }
    }

    fn try_send(&self, parcel: ThreadParcel) -> Result<(), ThreadParcel> {
        let Some(queue) = self.open_queue() else { return Ok(()) };
        match queue.try_send(parcel) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => Ok(()),
            Err(TrySendError::Full(parcel)) => Err(parcel),
        }
    }

    fn send(&self, parcel: ThreadParcel) {
        if let Some(queue) = self.open_queue() {
            self.send_waiting(queue, parcel);
        }
    }

    fn receive<R: Send + 'static>(&self, answers: &Answers<R>) -> Option<Answered<R>> {
        // Any task of the pool may be what ours waits for: all limits are watched, not our own alone.
        while let Some(wait) = self.until_overdue() {
            match answers.wait_for(wait) {
                Ok(answered) => return Some(answered),
                Err(NoAnswer::Never) => return None,
                Err(NoAnswer::NotYet) => self.give_up_overdue(),
            }
        }
        answers.wait(None)
    }

    fn try_receive<R: Send + 'static>(&self, answers: &Answers<R>) -> Option<Answered<R>> {
        let answered = answers.take();
        if answered.is_none() && self.limit.is_some() {
            self.give_up_overdue();
            return answers.take();
        }
        answered
    }

    fn limit(&self) -> Option<Duration> {
        self.limit
    }

    fn grow(&self, workers: usize) -> Result<(), Error> {
        self.grow(workers)
    }

    fn close(&self) {
        self.close();
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }
}

/// Threads run everything.
impl<T, W> Runs<T, W> for Pool
where
    T: Send + 'static,
    W: Work<T>,
{
    fn pack(&self, job: Job<T, W>) -> ThreadParcel {
        ThreadParcel(Box::new(move |seat| job.run_in(seat)))
    }

    fn pack_chunk(&self, job: Job<Vec<T>, Chunked<W>>) -> ThreadParcel {
        ThreadParcel(Box::new(move |seat| job.run_in(seat)))
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        drop(self.queue.take());
        self.waiting.try_iter().for_each(drop);
        self.join_all();
    }
}

/// Refuses more threads than a pool may have.
pub(crate) fn check(workers: usize) -> Result<(), Error> {
    let most = format_args!("at most {MOST_WORKERS}");
    firebox_core::check(workers <= MOST_WORKERS, "workers", most, workers)
}

fn no_thread(worker: usize, cause: IoError) -> Error {
    Error::from(ErrorKind::Spawn).on_worker(worker).caused_by(cause)
}

/// Nothing panics under the pool's own locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("workers", &self.workers()).finish_non_exhaustive()
    }
}
