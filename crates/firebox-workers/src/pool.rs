//! A fixed set of named threads and the queue that feeds them.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::Error;
use crate::imap::Imap;
use crate::work::{Work, Worker};

/// A task on its way to a worker: its description, what runs it, and the duty to answer.
pub(crate) type Message = Box<dyn FnOnce(Worker) + Send>;

/// Places in a pool's queue. A stream that finds it full waits for a worker to take something, so the
/// number bounds memory and nothing else.
const QUEUE: usize = 1024;

thread_local! {
    /// The pool whose worker this thread is; 0 in every other thread.
    static MEMBER_OF: Cell<u64> = const { Cell::new(0) };
}

/// Worker threads and their queue. See the [crate's page](crate) for what it promises.
///
/// Dropping the pool ends it: what still waits in the queue is answered as lost, what runs is finished,
/// and every thread is joined.
pub struct Pool {
    id: u64,
    /// `None` in a pool without workers, and once the pool ends.
    queue: Option<Sender<Message>>,
    /// The workers' end of the queue, kept to empty it when the pool ends.
    waiting: Option<Receiver<Message>>,
    threads: Vec<JoinHandle<()>>,
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
    pub fn named(name: &str, workers: usize) -> Result<Self, Error> {
        static IDS: AtomicU64 = AtomicU64::new(1);
        let id = IDS.fetch_add(1, Ordering::Relaxed);
        let (queue, waiting) = bounded::<Message>(QUEUE);
        let mut pool = Pool { id, queue: None, waiting: None, threads: Vec::with_capacity(workers) };
        for worker in 0..workers {
            let waiting = waiting.clone();
            // On failure the threads made so far are joined when `pool` and `queue` go out of scope.
            let thread = thread::Builder::new()
                .name(format!("{name}-{worker}"))
                .spawn(move || {
                    MEMBER_OF.set(id);
                    for message in waiting {
                        message(Worker::new(worker));
                    }
                })
                .map_err(|error| Error::spawn(worker, error));
            match thread {
                Ok(thread) => pool.threads.push(thread),
                Err(error) => {
                    drop(queue);
                    return Err(error);
                }
            }
        }
        if workers > 0 {
            pool.queue = Some(queue);
            pool.waiting = Some(waiting);
        }
        Ok(pool)
    }

    /// The number of worker threads; 0 if tasks run in the caller.
    pub fn workers(&self) -> usize {
        self.threads.len()
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

    /// A lazy stream of results in the order of the tasks, at most `in_flight` (at least 1) of them
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
        Imap::new(self, work, tasks.into_iter(), in_flight)
    }

    /// Ends the pool and waits for its threads. Dropping does the same; this says it aloud.
    pub fn join(self) {}

    /// Enough tasks in flight that no worker starves while the results are taken in order.
    fn ample(&self) -> usize {
        (self.workers() * 16).min(QUEUE)
    }

    /// Whether a stream made in this thread runs its tasks here: the pool has no workers, or this is
    /// one of them, which must not wait for itself.
    pub(crate) fn runs_inline(&self) -> bool {
        self.threads.is_empty() || MEMBER_OF.get() == self.id
    }

    /// Queues a message. Gives it back if the queue is full, unless it may `wait`.
    pub(crate) fn submit(&self, message: Message, wait: bool) -> Option<Message> {
        let queue = self.queue.as_ref()?;
        match queue.try_send(message) {
            Ok(()) => None,
            Err(TrySendError::Full(message)) if wait => {
                // A closed queue drops the message, which answers that the task is lost.
                let _ = queue.send(message);
                None
            }
            Err(TrySendError::Full(message)) => Some(message),
            Err(TrySendError::Disconnected(_)) => None,
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(waiting) = self.waiting.take() {
            waiting.try_iter().for_each(drop);
        }
        let here = thread::current().id();
        for thread in self.threads.drain(..) {
            // The last handle to a pool may be dropped by one of its own workers, which can't join itself.
            // A worker's panic is caught with its task, so joining has nothing more to tell.
            if thread.thread().id() != here {
                let _ = thread.join();
            }
        }
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("workers", &self.workers()).finish_non_exhaustive()
    }
}
