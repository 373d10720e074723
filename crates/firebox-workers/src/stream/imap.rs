//! Streams of results.

use std::collections::VecDeque;
use std::iter::Fuse;

use crate::Error;
use crate::pool::Pool;
use crate::stream::dispatch::Dispatch;
use crate::task::answer::Answered;
use crate::task::work::Work;
use crate::workers::Workers;

/// Results in the order of their tasks: what [`imap`](crate::WorkersExt::imap) returns.
///
/// Pulling a result hands out the next tasks, up to the stream's bound. A failed task is an `Err` in its
/// place, and the stream goes on after it. Dropping the stream drops the tasks that have not started; it
/// doesn't wait for those that have.
///
/// ```
/// use firebox_workers::{Pool, WorkersExt as _};
///
/// let pool = Pool::threads(2)?;
/// // The tasks have no end: at most four are ahead of the consumer.
/// let squares = pool.imap(|x: u64| x * x, 0.., 4);
/// let sum: u64 = squares.take(4).map(Result::unwrap).sum();
/// assert_eq!(sum, 0 + 1 + 4 + 9);
/// # Ok::<(), firebox_workers::Error>(())
/// ```
pub struct Imap<'p, T, W: Work<T>, I, P: Workers = Pool> {
    tasks: Fuse<I>,
    dispatch: Dispatch<'p, T, W, P>,
    /// The answers of the tasks `consumed .. consumed + window.len()`; `None` where still to come.
    window: VecDeque<Option<Answered<W::Output>>>,
    consumed: usize,
}

impl<'p, T, W, I, P> Imap<'p, T, W, I, P>
where
    W: Work<T>,
    P: Workers,
    I: Iterator<Item = T>,
{
    pub(crate) fn new(dispatch: Dispatch<'p, T, W, P>, tasks: I) -> Self {
        let mut stream = Imap { tasks: tasks.fuse(), dispatch, window: VecDeque::new(), consumed: 0 };
        stream.hand_out();
        stream
    }

    /// How many results were consumed.
    pub fn consumed(&self) -> usize {
        self.consumed
    }

    /// The next result, with the worker that made it.
    pub(crate) fn next_answered(&mut self) -> Option<Answered<W::Output>> {
        let answered = if self.dispatch.inline {
            let _ = self.dispatch.send(self.tasks.next()?);
            self.dispatch.next_answered()?
        } else {
            self.hand_out();
            while self.window.front()?.is_none() {
                let answered = self.dispatch.next_answered()?;
                let place = answered.task - self.consumed;
                self.window[place] = Some(answered);
            }
            self.window.pop_front().flatten()?
        };
        self.consumed += 1;
        // While the consumer is busy with this result, the stream's bound is full.
        self.hand_out();
        Some(answered)
    }

    fn hand_out(&mut self) {
        // A result that waits for its turn in the window counts, too.
        while !self.dispatch.inline
            && self.window.len() < self.dispatch.in_flight()
            && self.dispatch.has_room()
        {
            let Some(task) = self.tasks.next() else { return };
            let _ = self.dispatch.send(task);
            self.window.push_back(None);
        }
    }
}

impl<T, W, I, P> Iterator for Imap<'_, T, W, I, P>
where
    W: Work<T>,
    P: Workers,
    I: Iterator<Item = T>,
{
    type Item = Result<W::Output, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_answered().map(|answered| answered.result)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let ahead = self.window.len();
        let (low, high) = self.tasks.size_hint();
        (low.saturating_add(ahead), high.and_then(|high| high.checked_add(ahead)))
    }
}

/// Results as they come, each with the index of its task.
///
/// [`imap_unordered`](crate::WorkersExt::imap_unordered) returns it. In all else it is as [`Imap`].
///
/// ```
/// use firebox_workers::{Pool, WorkersExt as _};
///
/// let (pool, words) = (Pool::threads(2)?, ["fire", "box"]);
/// for (task, length) in pool.imap_unordered(|word: &str| word.len(), words, 8) {
///     assert_eq!(length?, words[task].len());
/// }
/// # Ok::<(), firebox_workers::Error>(())
/// ```
pub struct ImapUnordered<'p, T, W: Work<T>, I, P: Workers = Pool> {
    tasks: Fuse<I>,
    dispatch: Dispatch<'p, T, W, P>,
}

impl<'p, T, W, I, P> ImapUnordered<'p, T, W, I, P>
where
    W: Work<T>,
    P: Workers,
    I: Iterator<Item = T>,
{
    pub(crate) fn new(dispatch: Dispatch<'p, T, W, P>, tasks: I) -> Self {
        let mut stream = ImapUnordered { tasks: tasks.fuse(), dispatch };
        stream.hand_out();
        stream
    }

    fn hand_out(&mut self) {
        while !self.dispatch.inline && self.dispatch.has_room() {
            let Some(task) = self.tasks.next() else { return };
            let _ = self.dispatch.send(task);
        }
    }
}

impl<T, W, I, P> Iterator for ImapUnordered<'_, T, W, I, P>
where
    W: Work<T>,
    P: Workers,
    I: Iterator<Item = T>,
{
    type Item = (usize, Result<W::Output, Error>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.dispatch.inline {
            let _ = self.dispatch.send(self.tasks.next()?);
            return self.dispatch.receive();
        }
        self.hand_out();
        let received = self.dispatch.receive();
        self.hand_out();
        received
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let ahead = self.dispatch.outstanding();
        let (low, high) = self.tasks.size_hint();
        (low.saturating_add(ahead), high.and_then(|high| high.checked_add(ahead)))
    }
}
