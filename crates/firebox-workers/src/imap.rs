//! The ordered, bounded stream of results.

use std::collections::VecDeque;
use std::iter::Fuse;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::Error;
use crate::answer::{Answer, Answered};
use crate::pool::{Message, Pool};
use crate::work::{Work, Worker};

/// Results in the order of their tasks: what [`Pool::imap`] returns.
///
/// Pulling a result hands out the next tasks, up to the stream's bound. A failed task is an `Err` in its
/// place, and the stream goes on behind it. Dropping the stream drops the tasks that have not started;
/// it doesn't wait for those that have.
pub struct Imap<'p, T, W: Work<T>, I> {
    pool: &'p Pool,
    work: Arc<W>,
    tasks: Fuse<I>,
    /// How many tasks may be handed out and not yet consumed; at least 1.
    in_flight: usize,
    /// The answers of the tasks `consumed .. consumed + window.len()`; `None` where still to come.
    window: VecDeque<Option<Answered<W::Output>>>,
    consumed: usize,
    /// A task that found the pool's queue full: it is the next to be handed out, and its index is
    /// `consumed + window.len()`, which doesn't change while it waits.
    refused: Option<Message>,
    /// Where tasks answer. Capacity `in_flight`, so that no worker waits to answer.
    answers: Receiver<Answered<W::Output>>,
    /// What each task gets a clone of.
    answer_to: Sender<Answered<W::Output>>,
    /// Set when the stream is dropped: a task that would start later does nothing.
    cancelled: Arc<AtomicBool>,
    /// Whether tasks run where results are asked for, because there is no worker to run them.
    inline: bool,
}

impl<'p, T, W, I> Imap<'p, T, W, I>
where
    T: Send + 'static,
    W: Work<T>,
    I: Iterator<Item = T>,
{
    pub(crate) fn new(pool: &'p Pool, work: Arc<W>, tasks: I, in_flight: usize) -> Self {
        let in_flight = in_flight.max(1);
        let (answer_to, answers) = bounded(in_flight);
        let mut stream = Imap {
            pool,
            work,
            tasks: tasks.fuse(),
            in_flight,
            window: VecDeque::with_capacity(in_flight.min(1024)),
            consumed: 0,
            refused: None,
            answers,
            answer_to,
            cancelled: Arc::default(),
            inline: pool.runs_inline(),
        };
        if !stream.inline {
            stream.hand_out();
        }
        stream
    }

    /// How many results were consumed.
    pub fn consumed(&self) -> usize {
        self.consumed
    }

    /// The next result, with the worker that made it.
    pub(crate) fn next_answered(&mut self) -> Option<Answered<W::Output>> {
        let answered = if self.inline {
            let task = self.tasks.next()?;
            run(&*self.work, task, self.consumed, Worker::CALLER)
        } else {
            self.hand_out();
            while self.window.front()?.is_none() {
                self.await_one();
            }
            self.window.pop_front().flatten()?
        };
        self.consumed += 1;
        Some(answered)
    }

    /// Waits for any answer and puts it into its place.
    ///
    /// The wait ends: some task of the window is unanswered, its `Answer` sends once whatever happens,
    /// and no worker waits for us. The channel can't be closed, for we hold a sender.
    fn await_one(&mut self) {
        if let Ok(answer) = self.answers.recv() {
            let place = answer.task - self.consumed;
            self.window[place] = Some(answer);
        }
    }

    /// Hands out tasks until the bound is reached, the tasks end, or the pool's queue is full.
    fn hand_out(&mut self) {
        while self.window.len() < self.in_flight {
            let Some(message) = self.refused.take().or_else(|| self.next_message()) else {
                return;
            };
            // With nothing to wait for but the queue itself, wait for that.
            self.refused = self.pool.submit(message, self.window.is_empty());
            if self.refused.is_some() {
                return;
            }
            self.window.push_back(None);
        }
    }

    fn next_message(&mut self) -> Option<Message> {
        let task = self.tasks.next()?;
        let index = self.consumed + self.window.len();
        let answer = Answer::new(index, self.answer_to.clone());
        let work = Arc::clone(&self.work);
        let cancelled = Arc::clone(&self.cancelled);
        Some(Box::new(move |worker: Worker| {
            if !cancelled.load(Ordering::Relaxed) {
                answer.give(run(&*work, task, index, worker));
            }
        }))
    }
}

/// Runs one task; a panic in it becomes its error.
fn run<T, W: Work<T>>(work: &W, task: T, index: usize, worker: Worker) -> Answered<W::Output> {
    // Unwind safety: the task is consumed and nothing of it is seen again. What the work shares between
    // its tasks is the work's own affair, as it is for every thread that panics beside others.
    let result = catch_unwind(AssertUnwindSafe(|| work.run(task, worker)))
        .map_err(|payload| Error::panicked(index, worker.id(), payload));
    Answered { task: index, worker: worker.id(), result }
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
        let ahead = self.window.len() + usize::from(self.refused.is_some());
        let (low, high) = self.tasks.size_hint();
        (low + ahead, high.map(|high| high + ahead))
    }
}

impl<T, W: Work<T>, I> Drop for Imap<'_, T, W, I> {
    fn drop(&mut self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }
}
