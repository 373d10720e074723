//! The trait to use, with every kind of workers.

use std::sync::Arc;

use firebox_core::BoxError;

use crate::error::{Error, ErrorKind};
use crate::stream::chunk::{ChunkSize, Chunked, Chunks};
use crate::stream::dispatch::{Dispatch, MAX_IN_FLIGHT};
use crate::stream::handle::Handle;
use crate::stream::imap::{Imap, ImapUnordered};
use crate::task::answer::{Answer, Answered, Mailbox};
use crate::task::call::Call;
use crate::task::job::Job;
use crate::task::work::Work;
use crate::workers::{Runs, Workers};

/// The most chunks of a `map` that are handed out at a time.
const MOST_CHUNKS: usize = 1024;

/// Results of tasks, in a vector, in streams, or one by one.
///
/// All [`Workers`] have it, and none can have another one: what it promises holds for each of them.
///
/// ```
/// use firebox_workers::{Pool, WorkersExt as _};
///
/// let pool = Pool::threads(2)?;
/// // All at once, in order; one after the other, with a bound; one in the background.
/// assert_eq!(pool.map(|x: u64| x + 1, 0..3)?, [1, 2, 3]);
/// assert_eq!(pool.imap(|x: u64| x + 1, 0..1000, 4).last().unwrap()?, 1000);
/// assert_eq!(pool.submit(|| 7).wait()?, 7);
/// # Ok::<(), firebox_workers::Error>(())
/// ```
pub trait WorkersExt: Workers {
    /// All results, in the order of the tasks.
    ///
    /// Small tasks are handed out in chunks, so that millions of them are no burden; they must not wait for
    /// each other.
    ///
    /// ```
    /// use firebox_workers::{Pool, WorkersExt as _};
    ///
    /// let pool = Pool::threads(2)?;
    /// assert_eq!(pool.map(|x: u64| x * x, 0..4)?, [0, 1, 4, 9]);
    /// # Ok::<(), firebox_workers::Error>(())
    /// ```
    ///
    /// # Errors
    /// The first task in order that panicked, or was lost, ends the call with its error.
    fn map<T, W, I>(&self, work: W, tasks: I) -> Result<Vec<W::Output>, Error>
    where
        Self: Runs<T, W> + Sized,
        W: Work<T>,
        I: IntoIterator<Item = T>,
    {
        chunked(self, work, tasks, |_, _, result| Ok(result))
    }

    /// Like [`map`](Self::map) for work that can fail.
    ///
    /// ```
    /// use firebox_workers::{Pool, WorkersExt as _};
    ///
    /// let pool = Pool::threads(2)?;
    /// let numbers = |texts: [&'static str; 2]| pool.try_map(|text: &str| text.parse::<i64>(), texts);
    /// assert_eq!(numbers(["1", "2"])?, [1, 2]);
    /// assert_eq!(numbers(["1", "two"]).unwrap_err().index(), Some(1));
    /// # Ok::<(), firebox_workers::Error>(())
    /// ```
    ///
    /// # Errors
    /// The first error in the order of the tasks ends the call, as an [`Error`] that says which task it was
    /// and keeps the cause as its source.
    fn try_map<T, W, I, R, E>(&self, work: W, tasks: I) -> Result<Vec<R>, Error>
    where
        Self: Runs<T, W> + Sized,
        W: Work<T, Output = Result<R, E>>,
        I: IntoIterator<Item = T>,
        E: Into<BoxError>,
    {
        chunked(self, work, tasks, |task, worker, result| {
            result.map_err(|cause| {
                Error::from(ErrorKind::Failed).at_index(task).on_worker(worker).caused_by(cause)
            })
        })
    }

    /// A lazy stream of results in the order of the tasks.
    ///
    /// At most `in_flight` (from 1 to 65,536) of them are handed out and not yet consumed. Tasks start as
    /// soon as the stream is made.
    ///
    /// ```
    /// use firebox_workers::{Pool, WorkersExt as _};
    ///
    /// let pool = Pool::threads(2)?;
    /// let lengths = pool.imap(|word: &str| word.len(), ["fire", "box"], 8);
    /// assert_eq!(lengths.collect::<Result<Vec<_>, _>>()?, [4, 3]);
    /// # Ok::<(), firebox_workers::Error>(())
    /// ```
    fn imap<T, W, I>(&self, work: W, tasks: I, in_flight: usize) -> Imap<'_, T, W, I::IntoIter, Self>
    where
        Self: Runs<T, W> + Sized,
        W: Work<T>,
        I: IntoIterator<Item = T>,
    {
        self.imap_shared(Arc::new(work), tasks, in_flight)
    }

    /// [`imap`](Self::imap) for work that outlives one call.
    fn imap_shared<T, W, I>(
        &self,
        work: Arc<W>,
        tasks: I,
        in_flight: usize,
    ) -> Imap<'_, T, W, I::IntoIter, Self>
    where
        Self: Runs<T, W> + Sized,
        W: Work<T>,
        I: IntoIterator<Item = T>,
    {
        Imap::new(self.dispatch(work, in_flight), tasks.into_iter())
    }

    /// A lazy stream of results as they come, each with the index of its task. Else as [`imap`](Self::imap).
    ///
    /// ```
    /// use firebox_workers::{Pool, WorkersExt as _};
    ///
    /// let pool = Pool::threads(2)?;
    /// let mut squares = vec![0; 4];
    /// for (index, square) in pool.imap_unordered(|x: u64| x * x, 0..4, 4) {
    ///     squares[index] = square?;
    /// }
    /// assert_eq!(squares, [0, 1, 4, 9]);
    /// # Ok::<(), firebox_workers::Error>(())
    /// ```
    fn imap_unordered<T, W, I>(
        &self,
        work: W,
        tasks: I,
        in_flight: usize,
    ) -> ImapUnordered<'_, T, W, I::IntoIter, Self>
    where
        Self: Runs<T, W> + Sized,
        W: Work<T>,
        I: IntoIterator<Item = T>,
    {
        ImapUnordered::new(self.dispatch(Arc::new(work), in_flight), tasks.into_iter())
    }

    /// Tasks that the caller hands out one by one, at most `in_flight` (from 1 to 65,536) of them at the same
    /// time.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use firebox_workers::{Pool, WorkersExt as _};
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
    fn dispatch<T, W>(&self, work: Arc<W>, in_flight: usize) -> Dispatch<'_, T, W, Self>
    where
        Self: Runs<T, W> + Sized,
        W: Work<T>,
    {
        Dispatch::new(self, <Self as Runs<T, W>>::pack, work, in_flight)
    }

    /// Hands out one task, whose result can be asked for later.
    ///
    /// It waits for a place in the queue if that is full. Without workers, and in one of the pool's own, the
    /// task runs here and now.
    ///
    /// ```
    /// use firebox_workers::{Pool, WorkersExt as _};
    ///
    /// let pool = Pool::threads(1)?;
    /// let word = String::from("firebox");
    /// let closure = pool.submit(move || word.len());
    /// let pair = pool.submit((|x: u64| x * x, 7));
    /// assert_eq!((closure.wait()?, pair.wait()?), (7, 49));
    /// # Ok::<(), firebox_workers::Error>(())
    /// ```
    fn submit<C>(&self, call: C) -> Handle<<C::Work as Work<C::Task>>::Output>
    where
        Self: Runs<C::Task, C::Work> + Sized,
        C: Call,
    {
        let (work, task) = call.split();
        let (mailbox, answers) = Mailbox::new(1);
        let job = Job::new(task, Arc::new(work), Answer::new(0, Arc::clone(&mailbox)), None);
        if self.capacity() > 0 {
            self.send(self.pack(job));
        } else if !self.is_closed() {
            job.run(None);
        } else {
            drop(job);
        }
        Handle::new(answers, mailbox)
    }
}

impl<P: Workers> WorkersExt for P {}

/// Runs tasks in chunks, and puts each result, with the task's index and worker, through `each`.
fn chunked<P, T, W, I, R>(
    workers: &P,
    work: W,
    tasks: I,
    each: impl Fn(usize, Option<usize>, W::Output) -> Result<R, Error>,
) -> Result<Vec<R>, Error>
where
    P: Runs<T, W>,
    W: Work<T>,
    I: IntoIterator<Item = T>,
{
    let tasks = tasks.into_iter();
    // An iterator may promise more than ever come: those of a call that ends at its first error, for one.
    let mut results = Vec::with_capacity(tasks.size_hint().0.min(MAX_IN_FLIGHT));
    let size =
        if workers.limit().is_some() { ChunkSize::one() } else { ChunkSize::adaptive(workers.chunk_time()) };
    let chunks = Chunks { tasks, size: &size };
    // Enough that no worker starves while the results are taken in order.
    let in_flight = (workers.capacity() * 16).min(MOST_CHUNKS);
    let dispatch = Dispatch::new(workers, P::pack_chunk, Arc::new(Chunked(work)), in_flight);
    let mut stream = Imap::new(dispatch, chunks);
    while let Some(Answered { worker, result, .. }) = stream.next_answered() {
        let chunk = result.map_err(|error| error.at_index(results.len()))?;
        size.learn(&chunk);
        for result in chunk.results {
            results.push(each(results.len(), worker, result)?);
        }
        if let Some(error) = chunk.error {
            let worker = error.worker().or(worker);
            return Err(error.at_index(results.len()).on_worker(worker));
        }
    }
    Ok(results)
}
