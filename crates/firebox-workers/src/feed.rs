//! What ordered and unordered streams have in common: handing tasks out, and hearing of them again.

use std::iter::Fuse;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::Error;
use crate::answer::{Answer, Answered};
use crate::pool::{Message, Pool};
use crate::watch::Watch;
use crate::work::{Work, Worker};

/// Places for answers are made in advance: more than these are not worth their memory.
pub(crate) const MAX_IN_FLIGHT: usize = 1 << 16;

/// The tasks of a stream, from the iterator to the answer.
pub(crate) struct Feed<'p, T, W: Work<T>, I> {
    pool: &'p Pool,
    work: Arc<W>,
    tasks: Fuse<I>,
    /// How many tasks may be handed out and not yet consumed; at least 1.
    in_flight: usize,
    /// The number of tasks taken from the iterator and handed out, or run here.
    handed_out: usize,
    /// A task that found the pool's queue full: it has index `handed_out`, and goes first.
    refused: Option<Message>,
    /// Where tasks answer. It has a place for every task in flight, so that no worker waits to answer.
    answers: Receiver<Answered<W::Output>>,
    /// What each task gets a clone of.
    answer_to: Sender<Answered<W::Output>>,
    /// Set when the stream is dropped: a task that would start later does nothing.
    cancelled: Arc<AtomicBool>,
    /// The tasks that run now, if they have a time limit.
    watch: Option<Arc<Watch<W::Output>>>,
    /// Whether tasks run where results are asked for, because there is no worker to run them.
    pub(crate) inline: bool,
}

impl<'p, T, W, I> Feed<'p, T, W, I>
where
    T: Send + 'static,
    W: Work<T>,
    I: Iterator<Item = T>,
{
    /// At most `in_flight` tasks, from 1 to [`MAX_IN_FLIGHT`], may be handed out and not yet consumed.
    pub(crate) fn new(pool: &'p Pool, work: Arc<W>, tasks: I, in_flight: usize) -> Self {
        let in_flight = in_flight.clamp(1, MAX_IN_FLIGHT);
        let (answer_to, answers) = bounded(in_flight);
        let watch = pool.limit().map(|limit| Arc::new(Watch::new(limit)));
        if let Some(watch) = &watch {
            pool.watch(Arc::clone(watch) as _);
        }
        Feed {
            pool,
            work,
            tasks: tasks.fuse(),
            in_flight,
            handed_out: 0,
            refused: None,
            answers,
            answer_to,
            cancelled: Arc::default(),
            watch,
            inline: pool.runs_inline(),
        }
    }

    /// Hands the next task out, `out` of them being handed out and not yet consumed. `false` if those are all that
    /// may be, if there is no further task, or if the pool's queue is full; but with nothing else to wait for, it
    /// waits for a place in that.
    pub(crate) fn hand_out(&mut self, out: usize) -> bool {
        if self.inline || out >= self.in_flight {
            return false;
        }
        let Some(message) = self.refused.take().or_else(|| self.next_message()) else {
            return false;
        };
        self.refused = self.pool.send(message, out == 0);
        let accepted = self.refused.is_none();
        self.handed_out += usize::from(accepted);
        accepted
    }

    /// Runs the next task here.
    pub(crate) fn run_inline(&mut self) -> Option<Answered<W::Output>> {
        let task = self.tasks.next()?;
        let index = self.handed_out;
        self.handed_out += 1;
        if self.pool.is_closed() {
            return Some(Answered { task: index, worker: None, result: Err(Error::lost(index)) });
        }
        Some(run(&*self.work, task, index, Worker::CALLER))
    }

    /// Waits for any answer. There must be a task that is handed out and not yet received.
    ///
    /// The wait ends: each such task has an `Answer`, which sends once whatever happens, and no worker waits for us.
    /// The channel can't be closed, for we hold a sender. Tasks with a time limit are given up at the limit.
    pub(crate) fn receive(&self) -> Answered<W::Output> {
        loop {
            // Any task of the pool may be what ours waits behind: all limits are watched, not our own alone.
            let answered = match self.pool.until_overdue() {
                Some(wait) => self.answers.recv_timeout(wait).ok(),
                None => self.answers.recv().ok(),
            };
            match answered {
                Some(answered) => return answered,
                None => self.pool.give_up_overdue(),
            }
        }
    }

    /// How many tasks are still to be handed out.
    pub(crate) fn left(&self) -> (usize, Option<usize>) {
        let refused = usize::from(self.refused.is_some());
        let (low, high) = self.tasks.size_hint();
        (low + refused, high.map(|high| high + refused))
    }

    fn next_message(&mut self) -> Option<Message> {
        let task = self.tasks.next()?;
        let index = self.handed_out;
        let answer = Answer::new(index, self.answer_to.clone());
        let work = Arc::clone(&self.work);
        let cancelled = Arc::clone(&self.cancelled);
        let watch = self.watch.clone();
        Some(Box::new(move |worker: Worker| {
            if cancelled.load(Ordering::Relaxed) {
                return;
            }
            let Some(watch) = watch else {
                return answer.give(run(&*work, task, index, worker));
            };
            watch.begin(index, worker, answer);
            let answered = run(&*work, task, index, worker);
            // Without an answer to give, somebody has given the task up.
            if let Some(answer) = watch.end(index) {
                answer.give(answered);
            }
        }))
    }
}

impl<T, W: Work<T>, I> Drop for Feed<'_, T, W, I> {
    fn drop(&mut self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }
}

/// Runs one task; a panic in it becomes its error.
fn run<T, W: Work<T>>(work: &W, task: T, index: usize, worker: Worker) -> Answered<W::Output> {
    // Unwind safety: the task is consumed and nothing of it is seen again. What the work shares between its tasks
    // is the work's own affair, as it is for every thread that panics beside others.
    let result = catch_unwind(AssertUnwindSafe(|| work.run(task, worker)))
        .map_err(|payload| Error::panicked(index, worker.id(), payload));
    Answered { task: index, worker: worker.id(), result }
}
