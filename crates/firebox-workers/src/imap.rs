//! Streams of results.

use std::collections::VecDeque;

use crate::Error;
use crate::answer::Answered;
use crate::feed::Feed;
use crate::work::Work;

/// Results in the order of their tasks: what [`Pool::imap`](crate::Pool::imap) returns.
///
/// Pulling a result hands out the next tasks, up to the stream's bound. A failed task is an `Err` in its place, and
/// the stream goes on behind it. Dropping the stream drops the tasks that have not started; it doesn't wait for
/// those that have.
pub struct Imap<'p, T, W: Work<T>, I> {
    feed: Feed<'p, T, W, I>,
    /// The answers of the tasks `consumed .. consumed + window.len()`; `None` where still to come.
    window: VecDeque<Option<Answered<W::Output>>>,
    consumed: usize,
}

impl<'p, T, W, I> Imap<'p, T, W, I>
where
    T: Send + 'static,
    W: Work<T>,
    I: Iterator<Item = T>,
{
    pub(crate) fn new(feed: Feed<'p, T, W, I>) -> Self {
        let mut stream = Imap { feed, window: VecDeque::new(), consumed: 0 };
        stream.hand_out();
        stream
    }

    /// How many results were consumed.
    pub fn consumed(&self) -> usize {
        self.consumed
    }

    /// The next result, with the worker that made it.
    pub(crate) fn next_answered(&mut self) -> Option<Answered<W::Output>> {
        let answered = if self.feed.inline {
            self.feed.run_inline()?
        } else {
            self.hand_out();
            while self.window.front()?.is_none() {
                let answered = self.feed.receive();
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
        while self.feed.hand_out(self.window.len()) {
            self.window.push_back(None);
        }
    }
}

impl<T, W, I> Iterator for Imap<'_, T, W, I>
where
    T: Send + 'static,
    W: Work<T>,
    I: Iterator<Item = T>,
{
    type Item = Result<W::Output, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_answered().map(|answered| answered.result)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let ahead = self.window.len();
        let (low, high) = self.feed.left();
        (low + ahead, high.map(|high| high + ahead))
    }
}

/// Results as they come, each with the index of its task: what [`Pool::imap_unordered`](crate::Pool::imap_unordered) returns.
///
/// In all else it is as [`Imap`].
pub struct ImapUnordered<'p, T, W: Work<T>, I> {
    feed: Feed<'p, T, W, I>,
    /// How many tasks are handed out and not yet consumed.
    out: usize,
}

impl<'p, T, W, I> ImapUnordered<'p, T, W, I>
where
    T: Send + 'static,
    W: Work<T>,
    I: Iterator<Item = T>,
{
    pub(crate) fn new(feed: Feed<'p, T, W, I>) -> Self {
        let mut stream = ImapUnordered { feed, out: 0 };
        stream.hand_out();
        stream
    }

    fn hand_out(&mut self) {
        while self.feed.hand_out(self.out) {
            self.out += 1;
        }
    }
}

impl<T, W, I> Iterator for ImapUnordered<'_, T, W, I>
where
    T: Send + 'static,
    W: Work<T>,
    I: Iterator<Item = T>,
{
    type Item = (usize, Result<W::Output, Error>);

    fn next(&mut self) -> Option<Self::Item> {
        let answered = if self.feed.inline {
            self.feed.run_inline()?
        } else {
            self.hand_out();
            self.out = self.out.checked_sub(1)?;
            let answered = self.feed.receive();
            self.hand_out();
            answered
        };
        Some((answered.task, answered.result))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let (low, high) = self.feed.left();
        (low + self.out, high.map(|high| high + self.out))
    }
}
