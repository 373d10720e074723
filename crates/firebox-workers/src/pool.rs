//! A fixed set of named threads and the queue that feeds them.

use std::cell::Cell;
use std::io::{Error as IoError, ErrorKind as IoErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, SendTimeoutError, Sender, TrySendError, bounded};
use firebox_core::{BoxError, panic_message};

use crate::answer::{Answer, Answered};
use crate::chunk::{ChunkSize, Chunked, Chunks};
use crate::dispatch::{Dispatch, MAX_IN_FLIGHT};
use crate::error::{Error, ErrorKind, MOST_WORKERS};
use crate::handle::Handle;
use crate::imap::{Imap, ImapUnordered};
use crate::watch::Overdue;
use crate::work::Work;

/// A task on its way to a worker, whose number it gets: its description, what runs it, and the duty to answer.
pub(crate) type Message = Box<dyn FnOnce(usize) + Send>;

/// Places in a pool's queue. A stream that finds it full waits for a worker to take something, so the
/// number bounds memory and nothing else.
const QUEUE: usize = 1024;

thread_local! {
    /// The pool whose worker this thread is; 0 in every other thread.
    static MEMBER_OF: Cell<u64> = const { Cell::new(0) };
}

/// Worker threads and their queue. See the [crate's page](crate) for what it promises.
///
/// Dropping the pool ends it: what still waits in the queue is answered as lost, what runs is finished, and every
/// thread is joined. [`join`](Pool::join) finishes what waits, too.
pub struct Pool {
    id: u64,
    name: String,
    workers: AtomicUsize,
    /// `None` in a pool without workers, and once the pool ends.
    queue: Option<Sender<Message>>,
    /// The workers' end of the queue: for new threads, and to empty it when the pool ends.
    waiting: Receiver<Message>,
    /// The thread in each worker's place. Threads that were given up are in none, and nobody waits for them.
    places: Mutex<Vec<Place>>,
    /// The time limits of the streams that there are, if tasks have one.
    watches: Mutex<Vec<Weak<dyn Overdue>>>,
    closed: AtomicBool,
    /// The time that a task may take.
    limit: Option<Duration>,
}

/// A worker's thread.
struct Place {
    /// Cleared when another thread takes the place: then this one ends after its task.
    employed: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Pool {
    /// A pool of `workers` threads named `firebox-0`, `firebox-1`, ….
    ///
    /// With 0 workers each task runs in the caller when its result is asked for.
    ///
    /// # Errors
    /// [`ErrorKind::Spawn`](crate::ErrorKind::Spawn) if the system has no more threads to give,
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) beyond 16,384.
    pub fn threads(workers: usize) -> Result<Self, Error> {
        Self::named("firebox", workers)
    }

    /// A pool whose threads are called `name-0`, `name-1`, …. See [`Pool::threads`].
    ///
    /// # Errors
    /// As for [`threads`](Pool::threads), and [`ErrorKind::Spawn`](crate::ErrorKind::Spawn) for a name with a
    /// NUL, which no thread can have.
    pub fn named(name: &str, workers: usize) -> Result<Self, Error> {
        check(workers)?;
        static IDS: AtomicU64 = AtomicU64::new(1);
        let (queue, waiting) = bounded::<Message>(QUEUE);
        let pool = Pool {
            id: IDS.fetch_add(1, Ordering::Relaxed),
            name: name.to_owned(),
            workers: AtomicUsize::new(workers),
            queue: (workers > 0).then_some(queue),
            waiting,
            places: Mutex::default(),
            watches: Mutex::default(),
            closed: AtomicBool::new(false),
            limit: None,
        };
        for worker in 0..workers {
            // Should one fail, dropping the pool ends those before it.
            let place = pool.spawn(worker)?;
            pool.places().push(place);
        }
        Ok(pool)
    }

    /// Gives each task of a stream a time limit, counted from its start. A task that takes longer is answered with
    /// [`ErrorKind::TimedOut`](crate::ErrorKind::TimedOut); its thread, which nothing can stop, is left to itself,
    /// and a new one takes its place.
    ///
    /// A limit of zero gives up whatever is not done when somebody looks; one beyond all time is none.
    ///
    /// Limits are watched while a result of any of the pool's streams is waited for, and while the pool ends.
    /// Without workers they aren't, and tasks of [`submit`](Pool::submit) have none: their handle can be waited for
    /// with a limit of its own.
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
        let employed = Arc::new(AtomicBool::new(true));
        let here = Arc::clone(&employed);
        let thread = thread::Builder::new().name(format!("{}-{worker}", self.name)).spawn(move || {
            MEMBER_OF.set(id);
            for message in waiting {
                // A task's own panic is caught with the task. What is left is a value that panics when it is
                // dropped: the task was answered, as lost if need be, and the thread stays.
                if let Err(payload) = catch_unwind(AssertUnwindSafe(|| message(worker))) {
                    // Which may be such a value, too.
                    panic_message(payload);
                }
                if !here.load(Ordering::Acquire) {
                    return;
                }
            }
        });
        thread.map(|thread| Place { employed, thread }).map_err(|error| no_thread(worker, error))
    }

    /// Puts a new thread into a worker's place. The old one ends when its task does. If the system has no thread to
    /// give, the old one keeps its place and comes back when its task ends.
    fn replace(&self, worker: usize) {
        if let Ok(place) = self.spawn(worker) {
            let old = std::mem::replace(&mut self.places()[worker], place);
            old.employed.store(false, Ordering::Release);
        }
    }

    /// The time that a task of a stream may take: see [`with_timeout`](Pool::with_timeout).
    pub fn limit(&self) -> Option<Duration> {
        self.limit
    }

    /// Has the limits of a stream watched for as long as the stream is there, or tasks of it run.
    pub(crate) fn watch(&self, watch: Arc<dyn Overdue>) {
        let mut watches = lock(&self.watches);
        watches.retain(|watch| watch.strong_count() > 0);
        watches.push(Arc::downgrade(&watch));
    }

    fn watched(&self) -> Vec<Arc<dyn Overdue>> {
        lock(&self.watches).iter().filter_map(Weak::upgrade).collect()
    }

    /// How long to wait before some task can be too late; `None` if tasks have no limit. A task that has not begun
    /// yet has all of its limit.
    pub(crate) fn until_overdue(&self) -> Option<Duration> {
        let limit = self.limit?;
        let first = self.watched().iter().filter_map(|watch| watch.first_end()).min();
        // While no task runs none can be late: to look again at once would keep a core busy.
        let idle = limit.max(Duration::from_millis(1));
        let wait = first.map_or(idle, |end| end.saturating_duration_since(Instant::now()).min(limit));
        // The longest wait that every system takes.
        Some(wait.min(Duration::from_secs(3600)))
    }

    /// Answers for the tasks that are too late, and gives their places to new threads.
    pub(crate) fn give_up_overdue(&self) {
        for watch in self.watched() {
            watch.give_up().into_iter().for_each(|worker| self.replace(worker));
        }
    }

    fn places(&self) -> MutexGuard<'_, Vec<Place>> {
        lock(&self.places)
    }

    /// The number of worker threads; 0 if tasks run in the caller.
    pub fn workers(&self) -> usize {
        self.workers.load(Ordering::Relaxed)
    }

    /// Adds threads until there are `workers` of them. It never takes one away, and a pool without workers stays one.
    ///
    /// # Errors
    /// [`ErrorKind::Spawn`](crate::ErrorKind::Spawn) if the system has no more threads to give. Those that it gave
    /// stay. [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) beyond 16,384.
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

    /// All results, in the order of the tasks. The first task that panics ends the call with its error.
    ///
    /// Small tasks are handed out in chunks, so that millions of them are no burden; they must not wait for each
    /// other.
    pub fn map<T, W, I>(&self, work: W, tasks: I) -> Result<Vec<W::Output>, Error>
    where
        T: Send + 'static,
        W: Work<T>,
        I: IntoIterator<Item = T>,
    {
        self.chunked(work, tasks, |_, _, result| Ok(result))
    }

    /// Like [`map`](Pool::map) for work that can fail: the first error in the order of the tasks ends the
    /// call, as an [`Error`] that says which task it was and keeps the cause as its source.
    pub fn try_map<T, W, I, R, E>(&self, work: W, tasks: I) -> Result<Vec<R>, Error>
    where
        T: Send + 'static,
        W: Work<T, Output = Result<R, E>>,
        I: IntoIterator<Item = T>,
        R: Send + 'static,
        E: Into<BoxError> + Send + 'static,
    {
        self.chunked(work, tasks, |task, worker, result| {
            result.map_err(|cause| {
                Error::from(ErrorKind::Failed).at_index(task).on_worker(worker).caused_by(cause)
            })
        })
    }

    /// Runs tasks in chunks, and puts each result, with the task's index and worker, through `each`.
    fn chunked<T, W, I, R>(
        &self,
        work: W,
        tasks: I,
        each: impl Fn(usize, Option<usize>, W::Output) -> Result<R, Error>,
    ) -> Result<Vec<R>, Error>
    where
        T: Send + 'static,
        W: Work<T>,
        I: IntoIterator<Item = T>,
    {
        let tasks = tasks.into_iter();
        // An iterator may promise more than ever come: those of a call that ends at its first error, for one.
        let mut results = Vec::with_capacity(tasks.size_hint().0.min(MAX_IN_FLIGHT));
        let size = if self.limit.is_some() { ChunkSize::one() } else { ChunkSize::adaptive() };
        let chunks = Chunks { tasks, size: Arc::clone(&size) };
        let mut stream = self.imap(Chunked { work, size }, chunks, self.ample());
        while let Some(Answered { worker, result, .. }) = stream.next_answered() {
            let ran = result.map_err(|error| error.at_index(results.len()))?;
            for result in ran.results {
                results.push(each(results.len(), worker, result)?);
            }
            if let Some(message) = ran.panicked {
                let error = Error::from(ErrorKind::Panicked(message));
                return Err(error.at_index(results.len()).on_worker(worker));
            }
        }
        Ok(results)
    }

    /// A lazy stream of results in the order of the tasks, at most `in_flight` (from 1 to 65,536) of them
    /// handed out and not yet consumed. Tasks start as soon as the stream is made.
    pub fn imap<T, W, I>(&self, work: W, tasks: I, in_flight: usize) -> Imap<'_, T, W, I::IntoIter>
    where
        T: Send + 'static,
        W: Work<T>,
        I: IntoIterator<Item = T>,
    {
        self.imap_shared(Arc::new(work), tasks, in_flight)
    }

    /// [`imap`](Pool::imap) for work that outlives one call.
    pub fn imap_shared<T, W, I>(
        &self,
        work: Arc<W>,
        tasks: I,
        in_flight: usize,
    ) -> Imap<'_, T, W, I::IntoIter>
    where
        T: Send + 'static,
        W: Work<T>,
        I: IntoIterator<Item = T>,
    {
        let in_flight = in_flight.clamp(1, MAX_IN_FLIGHT);
        Imap::new(self.dispatch(work, in_flight), tasks.into_iter(), in_flight)
    }

    /// A lazy stream of results as they come, each with the index of its task. Else as [`imap`](Pool::imap).
    pub fn imap_unordered<T, W, I>(
        &self,
        work: W,
        tasks: I,
        in_flight: usize,
    ) -> ImapUnordered<'_, T, W, I::IntoIter>
    where
        T: Send + 'static,
        W: Work<T>,
        I: IntoIterator<Item = T>,
    {
        ImapUnordered::new(self.dispatch(Arc::new(work), in_flight), tasks.into_iter())
    }

    /// Tasks that the caller hands out one by one, at most `in_flight` (from 1 to 65,536) of them at the same time.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use firebox_workers::Pool;
    ///
    /// let pool = Pool::threads(2)?;
    /// let mut dispatch = pool.dispatch(Arc::new(|x: u64| x / 2), 4);
    /// assert_eq!(dispatch.send(40), Ok(0));
    /// let mut steps = 0;
    /// while let Some((_, half)) = dispatch.receive() {
    ///     let half = half?;
    ///     if half > 0 {
    ///         assert!(dispatch.send(half).is_ok());
    ///     }
    ///     steps += 1;
    /// }
    /// assert_eq!(steps, 6);
    /// # Ok::<(), firebox_workers::Error>(())
    /// ```
    pub fn dispatch<T, W>(&self, work: Arc<W>, in_flight: usize) -> Dispatch<'_, T, W>
    where
        T: Send + 'static,
        W: Work<T>,
    {
        Dispatch::new(self, work, in_flight)
    }

    /// Hands out one task, whose result can be asked for later.
    ///
    /// It waits for a place in the queue if that is full. Without workers, and in one of the pool's own, the task
    /// runs here and now.
    pub fn submit<F, R>(&self, task: F) -> Handle<R>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        let (to, from) = bounded(1);
        let answer = Answer::new(0, to);
        let run = move |worker: Option<usize>| {
            let result = catch_unwind(AssertUnwindSafe(task)).map_err(|payload| {
                Error::from(ErrorKind::Panicked(panic_message(payload))).at_index(0).on_worker(worker)
            });
            answer.give(Answered { task: 0, worker, result });
        };
        if self.runs_inline() && !self.is_closed() {
            run(None);
        } else {
            self.send(Box::new(move |worker| run(Some(worker))), true);
        }
        Handle::new(from)
    }

    /// Takes no more tasks: those that come later are answered as [lost](crate::ErrorKind::Lost).
    pub fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Finishes everything that was handed out, then ends the pool.
    pub fn join(mut self) {
        drop(self.queue.take());
        self.join_all();
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

    /// Enough tasks in flight that no worker starves while the results are taken in order.
    fn ample(&self) -> usize {
        (self.workers() * 16).min(QUEUE)
    }

    /// Whether a stream made in this thread runs its tasks here: the pool has no workers, or this is
    /// one of them, which must not wait for itself.
    pub(crate) fn runs_inline(&self) -> bool {
        self.workers() == 0 || MEMBER_OF.get() == self.id
    }

    /// Queues a message. Gives it back if the queue is full, unless it may `wait`.
    pub(crate) fn send(&self, message: Message, wait: bool) -> Option<Message> {
        // A message that is dropped here answers that its task is lost.
        let queue = self.queue.as_ref().filter(|_| !self.is_closed())?;
        match queue.try_send(message) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => None,
            Err(TrySendError::Full(message)) if wait => {
                self.send_waiting(queue, message);
                None
            }
            Err(TrySendError::Full(message)) => Some(message),
        }
    }
}

impl Pool {
    /// Waits for a place in the queue: for no task before it longer than its limit.
    fn send_waiting(&self, queue: &Sender<Message>, mut message: Message) {
        while let Some(wait) = self.until_overdue() {
            match queue.send_timeout(message, wait) {
                Err(SendTimeoutError::Timeout(refused)) => message = refused,
                Ok(()) | Err(SendTimeoutError::Disconnected(_)) => return,
            }
            self.give_up_overdue();
        }
        let _ = queue.send(message);
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
fn check(workers: usize) -> Result<(), Error> {
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
