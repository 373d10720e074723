//! A fixed set of named threads and the queue that feeds them.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::Error;
use crate::answer::{Answer, Answered};
use crate::handle::Handle;
use crate::imap::{Imap, ImapUnordered};
use crate::work::{Employed, Work, Worker};

/// A task on its way to a worker: its description, what runs it, and the duty to answer.
pub(crate) type Message = Box<dyn FnOnce(Worker) -> Employed + Send>;

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
    workers: usize,
    /// `None` in a pool without workers, and once the pool ends.
    queue: Option<Sender<Message>>,
    /// The workers' end of the queue: for new threads, and to empty it when the pool ends.
    waiting: Receiver<Message>,
    /// The thread in each place. Threads that were given up are in none, and nobody waits for them.
    threads: Mutex<Vec<JoinHandle<()>>>,
    closed: AtomicBool,
    /// The time that a task may take.
    limit: Option<Duration>,
}

impl Pool {
    /// A pool of `workers` threads named `firebox-0`, `firebox-1`, ….
    ///
    /// With 0 workers each task runs in the caller when its result is asked for.
    ///
    /// # Errors
    /// [`ErrorKind::Spawn`](crate::ErrorKind::Spawn) if the system has no more threads to give.
    pub fn threads(workers: usize) -> Result<Self, Error> {
        Self::named("firebox", workers)
    }

    /// A pool whose threads are called `name-0`, `name-1`, …. See [`Pool::threads`].
    ///
    /// # Errors
    /// As for [`threads`](Pool::threads).
    pub fn named(name: &str, workers: usize) -> Result<Self, Error> {
        static IDS: AtomicU64 = AtomicU64::new(1);
        let (queue, waiting) = bounded::<Message>(QUEUE);
        let pool = Pool {
            id: IDS.fetch_add(1, Ordering::Relaxed),
            name: name.to_owned(),
            workers,
            queue: (workers > 0).then_some(queue),
            waiting,
            threads: Mutex::default(),
            closed: AtomicBool::new(false),
            limit: None,
        };
        for worker in 0..workers {
            // Should one fail, dropping the pool ends those before it.
            let thread = pool.spawn(worker)?;
            pool.places().push(thread);
        }
        Ok(pool)
    }

    /// Gives each task of a stream a time limit, counted from its start. A task that takes longer is answered with
    /// [`ErrorKind::TimedOut`](crate::ErrorKind::TimedOut); its thread, which nothing can stop, is left to itself,
    /// and a new one takes its place.
    ///
    /// The limit is watched while a result is waited for. Without workers it isn't, and neither for
    /// [`submit`](Pool::submit), whose handle can be waited for with a limit of its own.
    pub fn with_timeout(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    fn spawn(&self, worker: usize) -> Result<JoinHandle<()>, Error> {
        let (id, waiting) = (self.id, self.waiting.clone());
        thread::Builder::new()
            .name(format!("{}-{worker}", self.name))
            .spawn(move || {
                MEMBER_OF.set(id);
                for message in waiting {
                    // A task's own panic is caught with the task. What is left is a value that panics when it is
                    // dropped: the task was answered, as lost if need be, and the thread stays.
                    let message = AssertUnwindSafe(|| message(Worker::new(worker)));
                    if catch_unwind(message).is_ok_and(|employed| employed == Employed::No) {
                        return;
                    }
                }
            })
            .map_err(|error| Error::spawn(worker, error))
    }

    /// Puts a new thread into a worker's place. The old one ends when its task does.
    pub(crate) fn replace(&self, worker: usize) {
        // Without a thread to be had the pool goes on with fewer: the old thread would only be joined too early.
        // At least one must stay, so the last place keeps its old thread, which comes back some day.
        if let Ok(thread) = self.spawn(worker) {
            self.places()[worker] = thread;
        }
    }

    fn places(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        // Nothing panics under this lock.
        self.threads.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The number of worker threads; 0 if tasks run in the caller.
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// All results, in the order of the tasks. The first task that panics ends the call with its error.
    pub fn map<T, W, I>(&self, work: W, tasks: I) -> Result<Vec<W::Output>, Error>
    where
        T: Send + 'static,
        W: Work<T>,
        I: IntoIterator<Item = T>,
    {
        self.imap(work, tasks, self.ample()).collect()
    }

    /// Like [`map`](Pool::map) for work that can fail: the first error in the order of the tasks ends the
    /// call, as an [`Error`] that says which task it was and keeps the cause as its source.
    pub fn try_map<T, W, I, R, E>(&self, work: W, tasks: I) -> Result<Vec<R>, Error>
    where
        T: Send + 'static,
        W: Work<T, Output = Result<R, E>>,
        I: IntoIterator<Item = T>,
        R: Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
    {
        let mut stream = self.imap(work, tasks, self.ample());
        let mut results = Vec::with_capacity(stream.size_hint().0);
        while let Some(answered) = stream.next_answered() {
            let result = answered.result?;
            results.push(result.map_err(|e| Error::failed(answered.task, answered.worker, e.into()))?);
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
        Imap::new(self, work, tasks.into_iter(), in_flight, self.limit)
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
        ImapUnordered::new(self, Arc::new(work), tasks.into_iter(), in_flight, self.limit)
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
        let message: Message = Box::new(move |worker: Worker| {
            let result = catch_unwind(AssertUnwindSafe(task))
                .map_err(|payload| Error::panicked(0, worker.id(), payload));
            answer.give(Answered { task: 0, worker: worker.id(), result });
            Employed::Yes
        });
        if self.runs_inline() && !self.is_closed() {
            message(Worker::CALLER);
        } else {
            self.send(message, true);
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
        let threads = std::mem::take(&mut *self.places());
        join_all(threads);
    }

    /// Enough tasks in flight that no worker starves while the results are taken in order.
    fn ample(&self) -> usize {
        (self.workers() * 16).min(QUEUE)
    }

    /// Whether a stream made in this thread runs its tasks here: the pool has no workers, or this is
    /// one of them, which must not wait for itself.
    pub(crate) fn runs_inline(&self) -> bool {
        self.workers == 0 || MEMBER_OF.get() == self.id
    }

    /// Queues a message. Gives it back if the queue is full, unless it may `wait`.
    pub(crate) fn send(&self, message: Message, wait: bool) -> Option<Message> {
        // A message that is dropped here answers that its task is lost.
        let queue = self.queue.as_ref().filter(|_| !self.is_closed())?;
        match queue.try_send(message) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => None,
            Err(TrySendError::Full(message)) if wait => {
                let _ = queue.send(message);
                None
            }
            Err(TrySendError::Full(message)) => Some(message),
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        drop(self.queue.take());
        self.waiting.try_iter().for_each(drop);
        let threads = std::mem::take(&mut *self.places());
        join_all(threads);
    }
}

fn join_all(threads: Vec<JoinHandle<()>>) {
    let here = thread::current().id();
    for thread in threads {
        // The last handle to a pool may be dropped by one of its own workers, which can't join itself. A worker's
        // panic is caught with its task, so joining has nothing more to tell.
        if thread.thread().id() != here {
            let _ = thread.join();
        }
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("workers", &self.workers()).finish_non_exhaustive()
    }
}
