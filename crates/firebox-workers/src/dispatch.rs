//! Handing tasks out, and hearing of them again: what every stream of results is made of.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};
use firebox_core::panic_message;

use crate::answer::{Answer, Answered};
use crate::error::{Error, ErrorKind};
use crate::pool::{Message, Pool};
use crate::watch::Watch;
use crate::work::{Work, Worker};

/// Places for answers are made in advance: more than these are not worth their memory.
pub(crate) const MAX_IN_FLIGHT: usize = 1 << 16;

/// Tasks handed out one by one, and their results as they come: what [`Pool::dispatch`](crate::Pool::dispatch)
/// returns.
///
/// For callers that decide from results which task goes next. Dropping it drops the tasks that have not started; it
/// doesn't wait for those that have.
pub struct Dispatch<'p, T, W: Work<T>> {
    pool: &'p Pool,
    work: Arc<W>,
    /// How many tasks may be handed out and not yet consumed; at least 1.
    in_flight: usize,
    /// The number of tasks taken over so far: the index of the next.
    taken: usize,
    /// How many of them were not answered to the caller yet.
    outstanding: usize,
    /// A task that found the pool's queue full, and goes first.
    refused: Option<Message>,
    /// Tasks that wait to be run here, if `inline`.
    here: VecDeque<(usize, T)>,
    /// Where tasks answer. It has a place for every task in flight, so that no worker waits to answer.
    answers: Receiver<Answered<W::Output>>,
    /// What each task gets a clone of.
    answer_to: Sender<Answered<W::Output>>,
    /// Set when this is dropped: a task that would start later does nothing.
    cancelled: Arc<AtomicBool>,
    /// The tasks that run now, if they have a time limit.
    watch: Option<Arc<Watch<W::Output>>>,
    /// Whether tasks run where results are asked for, because there is no worker to run them.
    pub(crate) inline: bool,
}

impl<'p, T, W> Dispatch<'p, T, W>
where
    T: Send + 'static,
    W: Work<T>,
{
    /// At most `in_flight` tasks, from 1 to [`MAX_IN_FLIGHT`], may be handed out and not yet consumed.
    pub(crate) fn new(pool: &'p Pool, work: Arc<W>, in_flight: usize) -> Self {
        let in_flight = in_flight.clamp(1, MAX_IN_FLIGHT);
        let (answer_to, answers) = bounded(in_flight);
        let watch = pool.limit().map(|limit| Arc::new(Watch::new(limit)));
        if let Some(watch) = &watch {
            pool.watch(Arc::clone(watch) as _);
        }
        Dispatch {
            pool,
            work,
            in_flight,
            taken: 0,
            outstanding: 0,
            refused: None,
            here: VecDeque::new(),
            answers,
            answer_to,
            cancelled: Arc::default(),
            watch,
            inline: pool.runs_inline(),
        }
    }

    /// How many tasks were handed out and not yet received again.
    pub fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// Hands a task out and gives its index, counted from 0. Gives it back if as many are out as may be, or if the
    /// pool's queue is full: then [`receive`](Self::receive) first.
    ///
    /// # Errors
    /// The task.
    pub fn send(&mut self, task: T) -> Result<usize, T> {
        if !self.has_room() {
            return Err(task);
        }
        let index = self.taken;
        if self.inline {
            self.here.push_back((index, task));
        } else {
            let message = self.message(task, index);
            self.refused = self.pool.send(message, self.outstanding == 0);
        }
        self.taken += 1;
        self.outstanding += 1;
        Ok(index)
    }

    /// Waits for the next result, with the index of its task. `None` if no task is out.
    pub fn receive(&mut self) -> Option<(usize, Result<W::Output, Error>)> {
        self.next_answered().map(|Answered { task, result, .. }| (task, result))
    }

    /// A result that is there already, with the index of its task. Without workers there is none.
    pub fn try_receive(&mut self) -> Option<(usize, Result<W::Output, Error>)> {
        self.flush(false);
        let Answered { task, result, .. } = self.answers.try_recv().ok()?;
        self.outstanding -= 1;
        Some((task, result))
    }

    /// [`receive`](Self::receive), with the worker.
    pub(crate) fn next_answered(&mut self) -> Option<Answered<W::Output>> {
        if self.outstanding == 0 {
            return None;
        }
        let answered = match self.here.pop_front() {
            Some((index, task)) => self.run_here(task, index),
            None => self.wait(),
        };
        self.outstanding -= 1;
        Some(answered)
    }

    /// The wait ends: each task out has an `Answer`, which sends once whatever happens, and no worker waits for us. The
    /// channel can't be closed, for we hold a sender. Tasks with a time limit are given up at the limit.
    fn wait(&mut self) -> Answered<W::Output> {
        // If the refused task is all that is out, nothing else would ever make room for it.
        self.flush(self.outstanding == 1);
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

    fn run_here(&self, task: T, index: usize) -> Answered<W::Output> {
        if self.pool.is_closed() {
            return Answered::lost(index);
        }
        run(&*self.work, task, index, Worker::CALLER)
    }

    /// Whether another task would be taken now.
    pub(crate) fn has_room(&mut self) -> bool {
        self.flush(false);
        self.outstanding < self.in_flight && self.refused.is_none()
    }

    fn flush(&mut self, wait: bool) {
        if let Some(message) = self.refused.take() {
            self.refused = self.pool.send(message, wait);
        }
    }

    fn message(&self, task: T, index: usize) -> Message {
        let answer = Answer::new(index, self.answer_to.clone());
        let work = Arc::clone(&self.work);
        let cancelled = Arc::clone(&self.cancelled);
        let watch = self.watch.clone();
        Box::new(move |id| {
            if cancelled.load(Ordering::Relaxed) {
                return;
            }
            let Some(watch) = watch else {
                let worker = Worker::new(id, Some(&cancelled), None);
                return answer.give(run(&*work, task, index, worker));
            };
            watch.begin(index, id, answer);
            let worker = Worker::new(id, Some(&cancelled), Some((&*watch, index)));
            let answered = run(&*work, task, index, worker);
            // Without an answer to give, somebody has given the task up.
            if let Some(answer) = watch.end(index) {
                answer.give(answered);
            }
        })
    }
}

impl<T, W: Work<T>> Drop for Dispatch<'_, T, W> {
    fn drop(&mut self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }
}

/// Runs one task; a panic in it becomes its error.
fn run<T, W: Work<T>>(work: &W, task: T, index: usize, worker: Worker<'_>) -> Answered<W::Output> {
    // Unwind safety: the task is consumed and nothing of it is seen again. What the work shares between its tasks
    // is the work's own affair, as it is for every thread that panics beside others.
    let result = catch_unwind(AssertUnwindSafe(|| work.run(task, worker))).map_err(|payload| {
        Error::from(ErrorKind::Panicked(panic_message(payload))).at_index(index).on_worker(worker.id())
    });
    Answered { task: index, worker: worker.id(), result }
}
