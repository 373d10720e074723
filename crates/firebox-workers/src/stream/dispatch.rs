//! Handing tasks out, and hearing of them again: what every stream of results is made of.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::Error;
use crate::pool::Pool;
use crate::task::answer::{Answer, Answered, Answers, Mailbox};
use crate::task::job::{self, Job};
use crate::task::work::{Work, Worker};
use crate::workers::Workers;

/// Places for answers are made in advance: more than these are not worth their memory.
pub(crate) const MAX_IN_FLIGHT: usize = 1 << 16;

/// Tasks handed out one by one, and their results as they come.
///
/// [`WorkersExt::dispatch`](crate::WorkersExt::dispatch) makes it, for callers that decide from results which
/// task goes next. Dropping it drops the tasks that have not started; it doesn't wait for those that have.
pub struct Dispatch<'p, T, W: Work<T>, P: Workers = Pool> {
    workers: &'p P,
    /// How a task is made ready for these workers.
    pack: fn(&P, Job<T, W>) -> P::Parcel,
    work: Arc<W>,
    /// How many tasks may be handed out and not yet consumed; at least 1.
    in_flight: usize,
    /// The number of tasks taken over so far: the index of the next.
    taken: usize,
    /// How many of them were not answered to the caller yet.
    outstanding: usize,
    /// A task that found the queue full, and goes first.
    refused: Option<P::Parcel>,
    /// Tasks that wait to be run here, if `inline`.
    here: VecDeque<(usize, T)>,
    /// Where tasks answer: the side that takes out, and the one that each task has.
    answers: Answers<W::Output>,
    mailbox: Arc<Mailbox<W::Output>>,
    /// The time that each task may take.
    limit: Option<Duration>,
    /// True if tasks run where results are asked for, because there is no worker to run them.
    pub(crate) inline: bool,
}

// Inlined, since a result that is passed on through memory costs as much as a tiny task without workers.
impl<'p, T, W: Work<T>, P: Workers> Dispatch<'p, T, W, P> {
    /// At most `in_flight` tasks, from 1 to [`MAX_IN_FLIGHT`], may be handed out and not yet consumed.
    pub(crate) fn new(
        workers: &'p P,
        pack: fn(&P, Job<T, W>) -> P::Parcel,
        work: Arc<W>,
        in_flight: usize,
    ) -> Self {
        let in_flight = in_flight.clamp(1, MAX_IN_FLIGHT);
        let (mailbox, answers) = Mailbox::new(in_flight);
        Dispatch {
            workers,
            pack,
            work,
            in_flight,
            taken: 0,
            outstanding: 0,
            refused: None,
            here: VecDeque::new(),
            answers,
            mailbox,
            limit: workers.limit(),
            inline: workers.capacity() == 0,
        }
    }

    /// How many tasks may be handed out and not yet received again.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// How many tasks were handed out and not yet received again.
    pub fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// Hands a task out and gives its index, counted from 0. Gives it back if as many are out as may be, or
    /// if the workers' queue is full: then [`receive`](Self::receive) first.
    ///
    /// It never waits: one task that the queue has no room for is kept, and goes there with the next call.
    ///
    /// # Errors
    /// The task.
    #[inline]
    pub fn send(&mut self, task: T) -> Result<usize, T> {
        if !self.has_room() {
            return Err(task);
        }
        let index = self.taken;
        if self.inline {
            self.here.push_back((index, task));
        } else {
            let answer = Answer::new(index, Arc::clone(&self.mailbox));
            let job = Job::new(task, Arc::clone(&self.work), answer, self.limit);
            let parcel = (self.pack)(self.workers, job);
            self.hand_over(parcel, false);
        }
        self.taken += 1;
        self.outstanding += 1;
        Ok(index)
    }

    /// Waits for the next result, with the index of its task. `None` if no task is out.
    #[inline]
    pub fn receive(&mut self) -> Option<(usize, Result<W::Output, Error>)> {
        self.next_answered().map(|Answered { task, result, .. }| (task, result))
    }

    /// A result that is there already, with the index of its task. Without workers there is none.
    ///
    /// It never waits. Tasks that are past their time limit are given up as in [`receive`](Self::receive).
    pub fn try_receive(&mut self) -> Option<(usize, Result<W::Output, Error>)> {
        self.flush(false);
        let Answered { task, result, .. } = self.workers.try_receive(&self.answers)?;
        self.outstanding -= 1;
        Some((task, result))
    }

    /// [`receive`](Self::receive), with the worker.
    #[inline]
    pub(crate) fn next_answered(&mut self) -> Option<Answered<W::Output>> {
        if self.outstanding == 0 {
            return None;
        }
        let answered = match self.here.pop_front() {
            Some((index, task)) => Some(self.run_here(task, index)),
            None => self.wait(),
        };
        self.outstanding -= 1;
        answered
    }

    /// The wait ends: each task out has an `Answer`, which sends once whatever happens, and no worker waits
    /// for us. The channel can't be closed, for we hold a mailbox.
    fn wait(&mut self) -> Option<Answered<W::Output>> {
        // If the refused task is all that is out, nothing else would ever make room for it.
        self.flush(self.outstanding == 1);
        self.workers.receive(&self.answers)
    }

    #[inline]
    fn run_here(&self, task: T, index: usize) -> Answered<W::Output> {
        if self.workers.is_closed() {
            return Answered::lost(index);
        }
        Answered { task: index, worker: None, result: job::run(&*self.work, task, index, Worker::CALLER) }
    }

    /// Tells whether another task would be taken now.
    pub(crate) fn has_room(&mut self) -> bool {
        self.flush(false);
        self.outstanding < self.in_flight && self.refused.is_none()
    }

    fn flush(&mut self, wait: bool) {
        if let Some(parcel) = self.refused.take() {
            self.hand_over(parcel, wait);
        }
    }

    /// Queues a task, or keeps it for later if it may not wait.
    fn hand_over(&mut self, parcel: P::Parcel, wait: bool) {
        self.refused = self.workers.try_send(parcel).err();
        if wait && let Some(parcel) = self.refused.take() {
            self.workers.send(parcel);
        }
    }
}

impl<T, W: Work<T>, P: Workers> Drop for Dispatch<'_, T, W, P> {
    fn drop(&mut self) {
        self.mailbox.cancel();
    }
}
