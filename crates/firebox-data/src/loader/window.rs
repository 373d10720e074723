//! The batches between the plan and the consumer: begun, made, and not yet delivered.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::time::Duration;

use firebox_workers::{Dispatch, Error as PoolError, ErrorKind as PoolErrorKind, WorkersExt as _};

use crate::collate::Collate;
use crate::error::{Error, ErrorKind};
use crate::loader::Loader;
use crate::loader::fault::OnError;
use crate::loader::plan::{Plan, Planned};
use crate::loader::task::{Attempt, Errand, Executor, Made, Ran, Task, not_made};
use crate::sync::Arc;

/// Runs handed out at the same time, at most: enough for every worker and some to wait. More wait in the window.
const RUNS: usize = 1024;

/// What a run should take: long enough that handing it out costs little, short enough that workers share a batch.
const TARGET: Duration = Duration::from_micros(100);

/// Work that should lie ahead of each worker, if the prefetch depth was left to the loader: enough to do while the
/// consumer waits for a core, on which it depends to be given more.
const LEAD: Duration = Duration::from_micros(250);

/// How far that may raise the depth.
const DEEPEST: usize = 16;

/// How far delivery may run ahead of the first batch that is missing, at least, if batches come as they complete.
const AHEAD: usize = 64;

/// The batches of an epoch on their way.
///
/// At most `prefetch` batches are open; together they take no more than the budget of bytes, or there is only one.
pub(super) struct Window<'l, C: Collate> {
    loader: &'l Loader<C>,
    epoch: u64,
    plan: Box<dyn Plan + 'l>,
    /// The batch that comes next, if the plan has told and it wasn't begun yet.
    next: Option<(usize, Range<usize>)>,
    dispatch: Dispatch<'l, Errand<C>, Executor<C>>,
    /// Batches begun and not yet delivered, in the order of the plan.
    open: VecDeque<Open<C>>,
    /// Runs of open batches that the workers had no room for.
    waiting: VecDeque<Errand<C>>,
    /// What each task of the dispatch is, by its index.
    out: HashMap<usize, Out<C>>,
    /// What a sample took in the last runs, in seconds; `None` before the first.
    cost: Option<f64>,
    /// The most bytes that a batch took so far.
    largest: usize,
    /// How many samples of the epoch may be bad.
    limit: usize,
}

/// What comes next.
pub(super) enum Polled<B> {
    /// A batch, with its number.
    Batch(usize, Box<Made<B>>),
    /// It is not made yet.
    Pending,
    /// Nothing.
    End,
}

struct Open<C: Collate> {
    batch: usize,
    positions: Range<usize>,
    attempt: Arc<Attempt<C>>,
    made: Option<Box<Made<C::Batch>>>,
    /// The bytes that it counts for: before it is made, those of the largest so far.
    bytes: usize,
}

/// A run that a worker has.
struct Out<C: Collate> {
    batch: usize,
    run: usize,
    attempt: Arc<Attempt<C>>,
}

impl<'l, C: Collate> Window<'l, C> {
    pub(super) fn new(
        loader: &'l Loader<C>,
        executor: Arc<Executor<C>>,
        epoch: u64,
        plan: Box<dyn Plan + 'l>,
        limit: usize,
    ) -> Self {
        let mut window = Window {
            loader,
            epoch,
            plan,
            next: None,
            dispatch: loader.pool.dispatch(executor, RUNS),
            open: VecDeque::new(),
            waiting: VecDeque::new(),
            out: HashMap::new(),
            cost: None,
            largest: 0,
            limit,
        };
        if loader.workers() > 0 {
            window.hand_out();
        }
        window
    }

    /// The next batch: the first that is open, or the first that is made if batches come as they complete. Unless it is
    /// to `wait`, it may be `Pending`.
    ///
    /// The wait ends: each pass hears of a run, of which there is a finite number, or of the plan.
    pub(super) fn next(&mut self, wait: bool) -> Polled<C::Batch> {
        loop {
            while let Some((task, result)) = self.dispatch.try_receive() {
                self.hear(task, result);
            }
            self.hand_out();
            if let Some((batch, made)) = self.take() {
                if self.loader.workers() > 0 {
                    // While the consumer is busy with this batch, the workers are, too.
                    self.hand_out();
                }
                return Polled::Batch(batch, made);
            }
            if self.next.is_none() && self.open.is_empty() {
                match self.plan.next() {
                    Planned::Batch(batch, positions) => self.next = Some((batch, positions)),
                    Planned::End => return Polled::End,
                    Planned::Later if !wait => return Polled::Pending,
                    Planned::Later => self.plan.wait(),
                }
            } else if !wait {
                return Polled::Pending;
            } else if let Some((task, result)) = self.dispatch.receive() {
                self.hear(task, result);
            }
        }
    }

    /// A batch to be delivered now.
    fn take(&mut self) -> Option<(usize, Box<Made<C::Batch>>)> {
        let place = match self.loader.as_completed {
            true => self.open.iter().position(|open| open.made.is_some())?,
            false => 0,
        };
        let mut made = self.open.get_mut(place)?.made.take()?;
        made.stints.extend(self.plan.reading());
        let batch = self.open.remove(place)?.batch;
        self.plan.delivered(batch);
        Some((batch, made))
    }

    fn hand_out(&mut self) {
        loop {
            while let Some(errand) = self.waiting.pop_front() {
                let (batch, run, attempt) = (errand.task.batch, errand.run, Arc::clone(&errand.attempt));
                match self.dispatch.send(errand) {
                    Ok(task) => _ = self.out.insert(task, Out { batch, run, attempt }),
                    Err(errand) => return self.waiting.push_front(errand),
                }
            }
            if self.open.len() >= self.prefetch() {
                return;
            }
            let (batch, positions) = match self.next.take() {
                Some(next) => next,
                None => match self.plan.next() {
                    Planned::Batch(batch, positions) => (batch, positions),
                    Planned::Later | Planned::End => return,
                },
            };
            if !self.admits(batch, positions.len()) {
                self.next = Some((batch, positions));
                return;
            }
            let bytes = self.loader.executor.collate.fixed_bytes(positions.len()).unwrap_or(self.largest);
            let attempt = self.begin(batch, positions.clone(), Vec::new());
            self.open.push_back(Open { batch, positions, attempt, made: None, bytes });
        }
    }

    /// Batches begun and not yet delivered, at most.
    fn prefetch(&self) -> usize {
        let loader = self.loader;
        let least = (4 * loader.workers()).div_ceil(loader.batch_size).max(4);
        match (loader.workers(), loader.prefetch, self.cost) {
            (0, ..) => 1,
            (_, Some(prefetch), _) => prefetch,
            (_, None, None) => least,
            (workers, None, Some(cost)) => {
                let lead = workers as f64 * LEAD.as_secs_f64() / (cost * loader.batch_size as f64);
                least.max((lead as usize).min(DEEPEST))
            }
        }
    }

    /// Whether another batch may be begun; one always may.
    fn admits(&self, batch: usize, samples: usize) -> bool {
        let Some(front) = self.open.front() else { return true };
        if self.loader.as_completed && batch - front.batch >= self.prefetch().max(AHEAD) {
            return false;
        }
        let Some(budget) = self.loader.prefetch_bytes else { return true };
        let taken = self.open.iter().fold(0, |taken: usize, open| taken.saturating_add(open.bytes));
        match self.loader.executor.collate.fixed_bytes(samples) {
            Some(bytes) => taken.saturating_add(bytes) <= budget,
            // What it will take nobody knows: one at a time, if it would fit were it like the largest so far.
            None => {
                self.open.iter().all(|open| open.made.is_some())
                    && taken.saturating_add(self.largest) <= budget
            }
        }
    }

    /// Queues the runs of a batch.
    fn begin(&mut self, batch: usize, positions: Range<usize>, late: Vec<(usize, Error)>) -> Arc<Attempt<C>> {
        let lengths = self.cut(positions.len());
        let attempt = Arc::new(Attempt::new(positions.clone(), lengths.clone(), late));
        let mut start = positions.start;
        for (run, length) in lengths.into_iter().enumerate() {
            let task = Task { epoch: self.epoch, batch, start, end: start + length };
            start += length;
            self.waiting.push_back(Errand { task, run, attempt: Arc::clone(&attempt) });
        }
        attempt
    }

    /// The lengths of the runs of a batch: about [`TARGET`] each by what a sample took lately, and about equal.
    fn cut(&self, samples: usize) -> Box<[usize]> {
        let workers = self.loader.workers();
        let runs = match self.cost {
            _ if workers == 0 => 1,
            // As if samples were slow: the first batch is waited for.
            None => samples.min(2 * workers),
            Some(cost) => ((samples as f64 * cost / TARGET.as_secs_f64()).round() as usize).min(samples),
        }
        .max(1);
        (0..runs).map(|run| samples * (run + 1) / runs - samples * run / runs).collect()
    }

    /// Takes note of what became of a run.
    fn hear(&mut self, task: usize, result: Result<Ran<C::Batch>, PoolError>) {
        let Some(Out { batch, run, attempt }) = self.out.remove(&task) else { return };
        // A run of an attempt that was given up is of no interest.
        let open =
            self.open.iter().position(|open| open.batch == batch && Arc::ptr_eq(&open.attempt, &attempt));
        match result {
            Ok(Ran { made, samples, took }) => {
                self.learn(samples, took);
                let (Some(made), Some(open)) = (made, open) else { return };
                if self.open[open].made.is_some() {
                    // It was given up meanwhile.
                    return;
                }
                self.largest = self.largest.max(made.bytes);
                self.open[open].bytes = made.bytes;
                self.open[open].made = Some(made);
            }
            Err(error) => {
                let Some(open) = open.filter(|&open| self.open[open].made.is_none()) else { return };
                self.fail(open, run, error);
            }
        }
    }

    fn learn(&mut self, samples: usize, took: Duration) {
        if samples > 0 {
            let cost = took.as_secs_f64() / samples as f64;
            let before = self.cost.unwrap_or(cost);
            self.cost = Some(before + (cost - before) / 8.0);
        }
    }

    /// Deals with a run that the pool has no result of.
    fn fail(&mut self, open: usize, run: usize, error: PoolError) {
        let Open { batch, positions, attempt, .. } = &self.open[open];
        let (batch, positions) = (*batch, positions.clone());
        attempt.stop();
        let failed = match error.kind() {
            PoolErrorKind::TimedOut(limit) => {
                let text = format!("took longer than {limit:?}");
                let Some(position) = attempt.at(run) else {
                    let text = format!("collation of batch {batch} of epoch {} {text}", self.epoch);
                    let error = Error::new(ErrorKind::TimedOut, text).on_worker(error.worker());
                    self.open[open].made = Some(Box::new(Made::failed(error)));
                    return;
                };
                let mut late = attempt.late.clone();
                let index = self.loader.executor.batches.index(self.epoch, position);
                let late_error = Error::new(ErrorKind::TimedOut, text).on_worker(error.worker());
                let error = self.loader.executor.at_sample(late_error, index);
                late.push((position, error.clone()));
                let policy = self.loader.executor.on_error;
                if policy != OnError::Fail && late.len() <= self.limit {
                    // Its thread may write to the buffer at any time: the batch is made again in another one.
                    self.open[open].attempt = self.begin(batch, positions, late);
                    return;
                }
                error
            }
            PoolErrorKind::Panicked(message) => {
                not_made(batch, self.epoch, message).on_worker(error.worker())
            }
            _ => {
                let text = format!("batch {batch} of epoch {} was not made", self.epoch);
                Error::new(ErrorKind::Workers, text).caused_by(error)
            }
        };
        self.open[open].made = Some(Box::new(Made::failed(failed)));
    }
}
