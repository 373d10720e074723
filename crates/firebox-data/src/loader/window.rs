//! The batches between the plan and the consumer: begun, made, and not yet delivered.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use firebox_workers::{Error as PoolError, ErrorKind as PoolErrorKind};

use crate::collate::{BatchShape, Collate};
use crate::error::{Error, ErrorKind};
use crate::loader::Loader;
use crate::loader::fault::OnError;
use crate::loader::plan::{Plan, Planned, PlannedBatch};
use crate::loader::work::tasks::{Death, Order, Tasks};
use crate::loader::work::{
    BatchBuild, BatchTask, BuiltBatch, CLOSING_PART, ChunkResult, Earlier, EpochExecutor, SampleId, not_made,
};
use crate::sync::Arc;

/// Runs handed out at the same time, at most: enough for every worker and some to wait. More wait in the
/// window.
const RUNS: usize = 1024;

/// The time that a run should take: long enough that handing it out and hearing of it cost little, for which
/// a thread is woken as a rule; short enough that workers share a batch.
const TARGET: Duration = Duration::from_micros(200);

/// Work that should lie ahead of each worker, if the prefetch depth was left to the loader: enough to do
/// while the consumer waits for a core, on which it depends to be given more.
const LEAD: Duration = Duration::from_millis(1);

/// How far that may raise the depth.
const DEEPEST: usize = 16;

/// How often samples of a batch are run apart since workers died with them, and not there, before the batch
/// fails: what dies with the whole of it only, such as for want of memory, does so every time.
const MOST_APART: u32 = 4;

/// How many bytes the batches may take together if the depth is raised: to make batches in memory that no
/// cache holds any more costs more than workers lose that run dry now and then.
const CACHED: usize = 4 << 20;

/// How far delivery may run ahead of the first batch that is missing, at least, if batches come as they
/// complete.
const AHEAD: usize = 64;

/// The batches of an epoch on their way.
///
/// At most `prefetch` batches are open; together they take no more than the budget of bytes, or there is only
/// one.
pub(super) struct Window<'l, C: Collate> {
    loader: &'l Loader<C>,
    epoch: u64,
    plan: Box<dyn Plan + 'l>,
    /// The batch that comes next, if the plan has told and it wasn't begun yet.
    next: Option<PlannedBatch>,
    executor: Arc<EpochExecutor<C>>,
    tasks: Box<dyn Tasks<C> + 'l>,
    /// Batches begun and not yet delivered, in the order of the plan.
    open: VecDeque<Open<C::Batch>>,
    /// Tasks of open batches that the workers had no room for.
    waiting: VecDeque<Order>,
    /// The tasks that are out, by their numbers.
    out: HashMap<usize, Out>,
    /// The time of a sample in the last runs, in seconds; `None` before the first.
    cost: Option<f64>,
    /// The most bytes that a batch took so far.
    largest: usize,
    /// How many samples of the epoch may be bad.
    budget: usize,
}

/// The next batch, or that there is none yet.
pub(super) enum Polled<B> {
    /// A batch, with its number.
    Batch(usize, Box<BuiltBatch<B>>),
    /// It is not made yet.
    Pending,
    /// Nothing.
    End,
}

struct Open<B> {
    batch: usize,
    /// How often it was begun before.
    attempt: u32,
    /// How often a sample of it was run apart.
    apart: u32,
    built: Option<Box<BuiltBatch<B>>>,
    /// The bytes that it counts for: before it is made, those of the largest so far.
    bytes: usize,
}

/// A task that a worker has: whose it is, and where its run begins.
struct Out {
    batch: usize,
    attempt: u32,
    first: usize,
    /// The position of the sample that is run apart, if it is one.
    apart: Option<usize>,
}

impl<'l, C: Collate> Window<'l, C> {
    pub(super) fn new(
        loader: &'l Loader<C>,
        executor: Arc<EpochExecutor<C>>,
        epoch: u64,
        plan: Box<dyn Plan + 'l>,
        budget: usize,
    ) -> Self {
        let mut window = Window {
            loader,
            epoch,
            plan,
            next: None,
            tasks: loader.tasks(&executor, RUNS),
            executor,
            open: VecDeque::new(),
            waiting: VecDeque::new(),
            out: HashMap::new(),
            cost: None,
            largest: 0,
            budget,
        };
        if loader.workers() > 0 {
            window.hand_out();
        }
        window
    }

    /// The next batch: the first that is open, or the first that is made if batches come as they complete.
    /// Unless it is to `wait`, it may be `Pending`.
    ///
    /// The wait ends: each pass hears of a run, of which there is a finite number, or of the plan.
    pub(super) fn next(&mut self, wait: bool) -> Polled<C::Batch> {
        loop {
            while let Some((task, result)) = self.tasks.try_receive() {
                self.hear(task, result);
            }
            self.hand_out();
            if let Some((batch, built)) = self.take() {
                if self.loader.workers() > 0 {
                    // While the consumer is busy with this batch, the workers are, too.
                    self.hand_out();
                }
                return Polled::Batch(batch, built);
            }
            if self.next.is_none() && self.open.is_empty() {
                match self.plan.next() {
                    Planned::Batch(planned) => self.next = Some(planned),
                    Planned::End => return Polled::End,
                    Planned::Later if !wait => return Polled::Pending,
                    Planned::Later => self.plan.wait(),
                }
            } else if !wait {
                return Polled::Pending;
            } else if let Some((task, result)) = self.tasks.receive() {
                self.hear(task, result);
            }
        }
    }

    /// A batch to be delivered now.
    fn take(&mut self) -> Option<(usize, Box<BuiltBatch<C::Batch>>)> {
        let place = match self.loader.as_completed {
            true => self.open.iter().position(|open| open.built.is_some())?,
            false => 0,
        };
        let mut built = self.open.get_mut(place)?.built.take()?;
        built.stints.extend(self.plan.reading());
        let Open { batch, attempt, .. } = self.open.remove(place)?;
        self.executor.end(batch as u64, attempt);
        self.plan.delivered(batch);
        Some((batch, built))
    }

    fn hand_out(&mut self) {
        loop {
            while let Some(order) = self.waiting.pop_front() {
                let Order { task, apart } = &order;
                let (batch, attempt, first) = (task.batch as usize, task.attempt, task.run.start as usize);
                let out = Out { batch, attempt, first, apart: *apart };
                match self.tasks.send(order) {
                    Ok(task) => _ = self.out.insert(task, out),
                    Err(order) => return self.waiting.push_front(order),
                }
            }
            if self.open.len() >= self.prefetch() {
                return;
            }
            let planned = match self.next.take() {
                Some(next) => next,
                None => match self.plan.next() {
                    Planned::Batch(planned) => planned,
                    Planned::Later | Planned::End => return,
                },
            };
            if !self.admits(&planned) {
                self.next = Some(planned);
                return;
            }
            let (batch, samples) = (planned.batch, planned.samples.len());
            let bytes = self.loader.executor.collate.fixed_bytes(samples).unwrap_or(self.largest);
            self.open.push_back(Open { batch, attempt: 0, apart: 0, built: None, bytes });
            self.begin(planned, 0, Earlier::default());
        }
    }

    /// Batches begun and not yet delivered, at most.
    fn prefetch(&self) -> usize {
        let Loader { batch_size, prefetch, .. } = *self.loader;
        // A process makes a whole batch, and should have the next one when it ends.
        let batch_size = if self.loader.is_remote() { 2 } else { batch_size };
        match (self.loader.workers(), prefetch, self.cost) {
            (0, ..) => 1,
            (_, Some(prefetch), _) => prefetch,
            // As many as give each worker two runs: the first batch is waited for, and to plan others takes a
            // core.
            (workers, None, None) => (2 * workers).div_ceil(batch_size),
            (workers, None, Some(cost)) => {
                let least = (4 * workers).div_ceil(batch_size).max(4);
                let lead = workers as f64 * LEAD.as_secs_f64() / (cost * batch_size as f64);
                let most = (CACHED / self.largest.max(1)).min(DEEPEST);
                least.max((lead as usize).min(most))
            }
        }
    }

    /// Tells whether another batch may be begun; one always may.
    fn admits(&self, planned: &PlannedBatch) -> bool {
        let Some(front) = self.open.front() else { return true };
        if self.loader.as_completed && planned.batch - front.batch >= self.prefetch().max(AHEAD) {
            return false;
        }
        let Some(budget) = self.loader.prefetch_bytes else { return true };
        let taken = self.open.iter().fold(0, |taken: usize, open| taken.saturating_add(open.bytes));
        match self.loader.executor.collate.fixed_bytes(planned.samples.len()) {
            Some(bytes) => taken.saturating_add(bytes) <= budget,
            // What it will take nobody knows: one at a time, if it would fit were it like the largest so far.
            None => {
                self.open.iter().all(|open| open.built.is_some())
                    && taken.saturating_add(self.largest) <= budget
            }
        }
    }

    /// Queues the tasks of an attempt at a batch.
    fn begin(&mut self, planned: PlannedBatch, attempt: u32, earlier: Earlier) {
        let PlannedBatch { batch, start, mut samples, width, error } = planned;
        let (epoch, batch, count) = (self.epoch, batch as u64, samples.len());
        let runs = self.runs(count);
        let shape = BatchShape::from(count).with_width(width);
        let build = BatchBuild::new(start, shape, (0..runs).map(|run| count * run / runs), earlier, error);
        self.executor.begin(batch, attempt, build);
        // From the last to the first, so that each takes its part off the end; a batch of one run moves.
        let queued = self.waiting.len();
        for run in (0..runs).rev() {
            let (first, end) = (count * run / runs, samples.len());
            let samples = if first == 0 { std::mem::take(&mut samples) } else { samples.split_off(first) };
            let task = BatchTask { epoch, batch, attempt, run: first as u32..end as u32, samples };
            self.waiting.push_back(Order { task, apart: None });
        }
        self.waiting.make_contiguous()[queued..].reverse();
    }

    /// The number of runs of a batch: about [`TARGET`] each by what a sample took lately.
    fn runs(&self, samples: usize) -> usize {
        let workers = self.loader.workers();
        let runs = match self.cost {
            _ if workers == 0 || self.loader.is_remote() => 1,
            // As if samples were slow: the first batch is waited for.
            None => samples.min(2 * workers),
            Some(cost) => ((samples as f64 * cost / TARGET.as_secs_f64()).round() as usize).min(samples),
        };
        runs.max(1)
    }

    /// Takes note of the result of a task.
    fn hear(&mut self, task: usize, result: Result<ChunkResult<C::Batch>, PoolError>) {
        let Some(out) = self.out.remove(&task) else { return };
        let Out { batch, attempt, .. } = out;
        // A task of an attempt that was given up is of no interest.
        let open = self.open.iter().position(|open| open.batch == batch && open.attempt == attempt);
        match result {
            Ok(_) if out.apart.is_some() => {
                // It is not this sample alone that workers die with.
                if let Some(open) = open {
                    let earlier = self.executor.build(batch as u64, attempt).map(|build| build.left());
                    self.begin_again(open, earlier.unwrap_or_default());
                }
            }
            Ok(ChunkResult { built, samples, took }) => {
                self.learn(samples, took);
                let (Some(built), Some(open)) = (built, open) else { return };
                if self.open[open].built.is_some() {
                    // It was given up meanwhile.
                    return;
                }
                self.largest = self.largest.max(built.bytes);
                self.open[open].bytes = built.bytes;
                self.open[open].built = Some(built);
            }
            Err(error) => {
                let Some(open) = open.filter(|&open| self.open[open].built.is_none()) else { return };
                let error = self.fail(open, &out, error);
                if let Some(error) = error {
                    self.open[open].built = Some(Box::new(BuiltBatch::failed(error)));
                }
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

    /// Has a batch made again in another buffer: whoever had the first one may write to it at any time.
    fn begin_again(&mut self, open: usize, earlier: Earlier) {
        let Open { batch, attempt, .. } = self.open[open];
        let planned = self.plan.again(batch);
        self.executor.end(batch as u64, attempt);
        self.open[open].attempt = attempt + 1;
        self.begin(planned, attempt + 1, earlier);
    }

    /// The sample at a position, which may be one of another batch that was to take a place.
    fn sample(&mut self, batch: usize, position: usize) -> Option<SampleId> {
        let planned = self.plan.again(batch);
        let place = position.checked_sub(planned.start);
        let sample = place.and_then(|place| planned.samples.get(place).copied());
        sample.or_else(|| self.loader.executor.source.sample(self.epoch, position))
    }

    /// Deals with a task that the pool has no result of: has its batch begun again, or gives the batch's
    /// error.
    fn fail(&mut self, open: usize, out: &Out, error: PoolError) -> Option<Error> {
        let Open { batch, attempt, apart, .. } = self.open[open];
        let build = self.executor.build(batch as u64, attempt)?;
        build.stop();
        let death = Death::of(&error);
        let position = match &death {
            Some(death) => out.apart.or(death.begun.filter(|&begun| begun < CLOSING_PART)),
            None => build.tries(out.first),
        };
        let (kind, what) = match (error.kind(), &death) {
            (PoolErrorKind::TimedOut(limit), _) => {
                (ErrorKind::TimedOut, format!("took longer than {limit:?}"))
            }
            (_, Some(death)) => {
                (ErrorKind::Died, format!("workers died with it: the last one {}", death.cause))
            }
            (PoolErrorKind::Panicked(message), None) => {
                return Some(not_made(batch as u64, self.epoch, message).on_worker(error.worker()));
            }
            (_, None) => {
                let text = format!("batch {batch} of epoch {} was not made", self.epoch);
                return Some(Error::new(ErrorKind::Workers, text).caused_by(error));
            }
        };
        let process = death.as_ref().map(|death| death.process);
        let named = |text: String| Error::new(kind, text).on_worker(error.worker()).on_process(process);
        let sample = position.and_then(|position| Some((position, self.sample(batch, position)?)));
        let (position, sample) = match (position, sample) {
            (_, Some(found)) => found,
            (Some(position), None) => return Some(named(format!("position {position}: {what}"))),
            (None, _) if death.as_ref().is_some_and(|death| death.begun.is_none() && !death.timed_out) => {
                // No sample was begun: it is for another worker to try.
                if apart < MOST_APART {
                    self.open[open].apart += 1;
                    self.begin_again(open, build.left());
                    return None;
                }
                return Some(named(format!("batch {batch} of epoch {} was not made: {what}", self.epoch)));
            }
            (None, _) => {
                return Some(named(format!("collation of batch {batch} of epoch {} {what}", self.epoch)));
            }
        };
        let may_be_another = out.apart.is_none() && death.as_ref().is_some_and(|death| !death.timed_out);
        if may_be_another && apart < MOST_APART {
            let run = out.first as u32..out.first as u32 + 1;
            let task =
                BatchTask { epoch: self.epoch, batch: batch as u64, attempt, run, samples: vec![sample] };
            self.open[open].apart += 1;
            self.waiting.push_front(Order { task, apart: Some(position) });
            return None;
        }
        let error = self.loader.executor.source.name(named(what), sample, position);
        if may_be_another {
            return Some(error.within(format!(
                "batch {batch} of epoch {} was not made, though each sample is",
                self.epoch
            )));
        }
        let mut earlier = build.left();
        earlier.late.push((position, error.clone()));
        if self.loader.executor.on_error == OnError::Fail || earlier.late.len() > self.budget {
            return Some(error);
        }
        self.begin_again(open, earlier);
        None
    }
}
