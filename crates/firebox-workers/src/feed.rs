//! What ordered and unordered streams have in common: handing tasks out, and hearing of them again.

use std::collections::BTreeMap;
use std::iter::Fuse;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::Error;
use crate::answer::{Answer, Answered};
use crate::pool::{Message, Pool};
use crate::work::{Employed, Work, Worker};

/// Places for answers are made in advance: more than these are not worth their memory.
pub(crate) const MAX_IN_FLIGHT: usize = 1 << 16;

/// The tasks of a stream, from the iterator to the answer.
pub(crate) struct Feed<'p, T, W: Work<T>, I> {
    pool: &'p Pool,
    work: Arc<W>,
    tasks: Fuse<I>,
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
    watch: Option<Arc<Watch>>,
    /// Whether tasks run where results are asked for, because there is no worker to run them.
    pub(crate) inline: bool,
}

impl<'p, T, W, I> Feed<'p, T, W, I>
where
    T: Send + 'static,
    W: Work<T>,
    I: Iterator<Item = T>,
{
    /// At most `in_flight` tasks may be handed out and not yet received; it is at most [`MAX_IN_FLIGHT`].
    pub(crate) fn new(
        pool: &'p Pool,
        work: Arc<W>,
        tasks: I,
        in_flight: usize,
        limit: Option<Duration>,
    ) -> Self {
        let (answer_to, answers) = bounded(in_flight);
        Feed {
            pool,
            work,
            tasks: tasks.fuse(),
            handed_out: 0,
            refused: None,
            answers,
            answer_to,
            cancelled: Arc::default(),
            watch: limit.map(|limit| Arc::new(Watch { limit, running: Mutex::default() })),
            inline: pool.runs_inline(),
        }
    }

    /// Hands the next task out. `false` if there is none, or if the pool's queue is full and the stream may not
    /// `wait` for a place in it.
    pub(crate) fn hand_out(&mut self, wait: bool) -> bool {
        let Some(message) = self.refused.take().or_else(|| self.next_message()) else {
            return false;
        };
        self.refused = self.pool.send(message, wait);
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
    /// The wait ends: each such task has an `Answer`, which sends once whatever happens, and no worker waits for
    /// us. The channel can't be closed, for we hold a sender. A task with a time limit is given up at the limit.
    pub(crate) fn receive(&self) -> Answered<W::Output> {
        loop {
            let Some(watch) = &self.watch else {
                if let Ok(answered) = self.answers.recv() {
                    return answered;
                }
                continue;
            };
            if let Ok(answered) = self.answers.recv_timeout(watch.wait()) {
                return answered;
            }
            if let Some((task, worker)) = watch.give_up() {
                self.pool.replace(worker);
                let result = Err(Error::timed_out(task, Some(worker), watch.limit));
                return Answered { task, worker: Some(worker), result };
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
                return Employed::Yes;
            }
            let Some(watch) = watch else {
                answer.give(run(&*work, task, index, worker));
                return Employed::Yes;
            };
            watch.begin(index, worker);
            let answered = run(&*work, task, index, worker);
            match watch.end(index) {
                true => {
                    answer.give(answered);
                    Employed::Yes
                }
                // The task was given up: somebody has answered for it, and another thread has this one's place.
                false => {
                    answer.forget();
                    Employed::No
                }
            }
        }))
    }
}

impl<T, W: Work<T>, I> Drop for Feed<'_, T, W, I> {
    fn drop(&mut self) {
        self.cancelled.store(true, Ordering::Relaxed);
        // Nobody will wait for the tasks that run past their limit from here on: give their threads up now, so
        // that the pool's end doesn't wait for them either.
        if let Some(watch) = &self.watch {
            while let Some((_, worker)) = watch.give_up() {
                self.pool.replace(worker);
            }
        }
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

/// The tasks of one stream that run now and must end in time.
struct Watch {
    limit: Duration,
    /// When each must end, and which worker runs it. Whoever removes an entry answers for the task.
    running: Mutex<BTreeMap<usize, (Instant, usize)>>,
}

impl Watch {
    fn begin(&self, task: usize, worker: Worker) {
        if let Some(worker) = worker.id() {
            self.running().insert(task, (Instant::now() + self.limit, worker));
        }
    }

    /// Whether the task ended before it was given up.
    fn end(&self, task: usize) -> bool {
        self.running().remove(&task).is_some()
    }

    /// How long to wait before some task can be too late. One that has not begun yet has the whole limit.
    fn wait(&self) -> Duration {
        let now = Instant::now();
        let first = self.running().values().map(|(end, _)| end.saturating_duration_since(now)).min();
        first.map_or(self.limit, |first| first.min(self.limit))
    }

    /// A task that is too late, with its worker.
    fn give_up(&self) -> Option<(usize, usize)> {
        let now = Instant::now();
        let mut running = self.running();
        let (&task, &(_, worker)) = running.iter().find(|(_, (end, _))| *end <= now)?;
        running.remove(&task);
        Some((task, worker))
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<usize, (Instant, usize)>> {
        // Nothing panics under this lock.
        self.running.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
