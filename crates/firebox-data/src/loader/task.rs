//! What a worker does: the samples of one run, and the batch if the run is its last.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use firebox_core::panic_message;
use firebox_core::{PositionSeeds, Purpose, SampleRng, SampleSeed, StageKey, derive_seed};
use firebox_workers::{Work, Worker};
use serde::{Deserialize, Serialize};

use crate::batch_sampler::BatchSampler;
use crate::collate::{Collate, SlotOf};
use crate::dataset::Lineage;
use crate::error::{BoxError, Error, ErrorKind};
use crate::loader::assembly::{Run, runs};
use crate::loader::fault::{Incident, OnError, Remedy, Retry};
use crate::loader::gate::{Gate, PATIENCE};
use crate::loader::report::Busy;
use crate::loader::stint::Stint;
use crate::sync::Arc;

/// Which samples to make: the positions `start..end` of an epoch, all of them in one batch.
///
/// Everything that it takes to make them follows from these numbers and the loader's settings, so that the same task
/// gives the same bytes wherever it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Task {
    /// The epoch.
    pub epoch: u64,
    /// The batch's place in its epoch.
    pub batch: usize,
    /// The first position.
    pub start: usize,
    /// The position behind the last.
    pub end: usize,
}

/// A task with the try at a batch that it is part of.
pub(super) struct Errand<C: Collate> {
    pub(super) task: Task,
    /// The place of the run among those of its attempt.
    pub(super) run: usize,
    pub(super) attempt: Arc<Attempt<C>>,
}

/// A try at making a batch: what its runs know of each other.
pub(super) struct Attempt<C: Collate> {
    /// The positions of the whole batch.
    positions: Range<usize>,
    buffer: Mutex<Buffer<C>>,
    /// Positions whose samples took too long in an earlier attempt, and are not tried again.
    pub(super) late: Vec<(usize, Error)>,
    /// The first place that failed so far: those behind it need not be made. So the error of a batch is that of its
    /// first bad sample, however the runs were timed.
    failed: AtomicUsize,
    /// Whether the attempt was given up: whatever its runs still do, no batch comes of it.
    stopped: AtomicBool,
    /// The position of the sample that each run tries now, or [`CLOSING`].
    at: Box<[AtomicUsize]>,
    found: Mutex<Found>,
}

/// The memory of a batch. The first of its runs opens it: so it is in that worker's cache, and a batch that waits for a
/// worker takes none.
enum Buffer<C: Collate> {
    /// With the lengths of the runs.
    Unopened(Box<[usize]>),
    /// The runs that have not begun.
    Open(Vec<Option<Run<C>>>),
    /// It could not be opened, and nobody will try again.
    Failed,
}

/// Where a run is when all samples are made and it closes the batch.
const CLOSING: usize = usize::MAX;

/// What the runs of a batch met.
#[derive(Default)]
struct Found {
    /// Places, in no order.
    holes: Vec<usize>,
    incidents: Vec<(usize, Incident)>,
    error: Option<(usize, Error)>,
    stints: Vec<Stint>,
}

impl<C: Collate> Attempt<C> {
    /// A try at a batch, in runs of these lengths.
    pub(super) fn new(positions: Range<usize>, runs: Box<[usize]>, late: Vec<(usize, Error)>) -> Self {
        let at = runs.iter().map(|_| AtomicUsize::new(positions.start)).collect();
        Attempt {
            positions,
            buffer: Mutex::new(Buffer::Unopened(runs)),
            late,
            failed: AtomicUsize::new(usize::MAX),
            stopped: AtomicBool::new(false),
            at,
            found: Mutex::default(),
        }
    }

    /// The position of the sample that a run tries now; `None` if it closes the batch.
    pub(super) fn at(&self, run: usize) -> Option<usize> {
        Some(self.at[run].load(Ordering::Relaxed)).filter(|&at| at != CLOSING)
    }

    /// Has all runs stop at their next sample, and makes sure that none of them closes the batch.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// The slots of a run, once; nothing if the buffer could not be opened.
    ///
    /// # Errors
    /// What the layout panicked with when it was to open the buffer.
    fn slots(&self, run: usize, layout: &C) -> Result<Option<Run<C>>, String> {
        let mut buffer = self.buffer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Buffer::Unopened(lengths) = &*buffer {
            let samples = self.positions.len();
            let opened = catch_unwind(AssertUnwindSafe(|| runs(layout, layout.open(samples), lengths)));
            match opened {
                Ok(runs) => *buffer = Buffer::Open(runs.into_iter().map(Some).collect()),
                Err(payload) => {
                    *buffer = Buffer::Failed;
                    return Err(panic_message(payload));
                }
            }
        }
        let Buffer::Open(runs) = &mut *buffer else { return Ok(None) };
        Ok(runs.get_mut(run).and_then(Option::take))
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        // Nothing panics under this lock.
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What became of a run.
pub(super) struct Ran<B> {
    /// The batch, if the run was its last.
    pub(super) made: Option<Box<Made<B>>>,
    pub(super) samples: usize,
    pub(super) took: Duration,
}

/// A batch, with what happened on the way.
pub(super) struct Made<B> {
    /// `None` if no sample is left of it.
    pub(super) batch: Result<Option<B>, Error>,
    /// The memory that it takes.
    pub(super) bytes: usize,
    /// The samples in it.
    pub(super) samples: usize,
    /// In the order of the samples.
    pub(super) incidents: Vec<Incident>,
    /// What workers did for it.
    pub(super) stints: Vec<Stint>,
}

impl<B> Made<B> {
    /// A batch that was not made at all.
    pub(super) fn failed(error: Error) -> Self {
        Made { batch: Err(error), bytes: 0, samples: 0, incidents: Vec::new(), stints: Vec::new() }
    }
}

/// Makes one sample: reads item `index` and writes its transform into a slot. The data set's item type is known in
/// here only, so that it is no part of the loader's type.
pub(super) trait Fill<C: Collate>: Send + Sync {
    /// Each stage has the generator of its key.
    fn fill(
        &self,
        index: usize,
        seed: SampleSeed,
        slot: SlotOf<'_, C>,
        stages: &mut Stages<'_>,
    ) -> Result<(), Failure>;

    /// The key of the stage that writes.
    fn stage(&self) -> &StageKey;
}

/// A sample of an epoch.
#[derive(Clone, Copy)]
struct SampleId {
    /// Its item in the data set.
    index: usize,
    /// What its random numbers follow from.
    global: u64,
}

/// Why a sample was not made.
pub(super) struct Failure {
    pub(super) kind: ErrorKind,
    pub(super) source: BoxError,
}

/// How many samples may be read, and how many transformed, at the same time.
pub(super) struct Gates {
    pub(super) reading: Gate,
    pub(super) transforming: Gate,
}

/// The stages of a sample, as they are run: limited and timed.
pub(super) struct Stages<'r> {
    gates: Option<&'r Gates>,
    worker: Worker<'r>,
    /// There if the stages are to be timed.
    busy: Option<&'r mut Busy>,
}

impl Stages<'_> {
    pub(super) fn read<R>(&mut self, read: impl FnOnce() -> R) -> Result<R, Failure> {
        self.stage(|gates| &gates.reading, |busy| &mut busy.reading, read)
    }

    pub(super) fn transform<R>(&mut self, transform: impl FnOnce() -> R) -> Result<R, Failure> {
        self.stage(|gates| &gates.transforming, |busy| &mut busy.transforming, transform)
    }

    fn stage<R>(
        &mut self,
        gate: fn(&Gates) -> &Gate,
        time: fn(&mut Busy) -> &mut Duration,
        work: impl FnOnce() -> R,
    ) -> Result<R, Failure> {
        let place = match self.gates {
            None => None,
            // To wait for a place is no fault of the sample's: its time limit begins behind the gate.
            Some(gates) => match gate(gates).enter(|| self.worker.progress()) {
                Some(place) if self.worker.progress() => Some(place),
                _ => {
                    let source = "nobody waits for the sample any more".into();
                    return Err(Failure { kind: ErrorKind::Workers, source });
                }
            },
        };
        let begun = self.busy.is_some().then(Instant::now);
        let result = work();
        if let (Some(busy), Some(begun)) = (&mut self.busy, begun) {
            *time(busy) += begun.elapsed();
        }
        drop(place);
        Ok(result)
    }
}

/// Runs tasks: shared by all workers of a loader.
pub(super) struct Executor<C> {
    pub(super) fill: Arc<dyn Fill<C>>,
    pub(super) collate: Arc<C>,
    pub(super) batches: Arc<dyn BatchSampler>,
    /// Where the data set's items come from; `None` of a stream.
    pub(super) lineage: Option<Lineage>,
    pub(super) seed: u64,
    pub(super) on_error: OnError,
    pub(super) retry: Option<Retry>,
    pub(super) gates: Option<Arc<Gates>>,
}

/// A run has the stages of so many samples timed, or a few more: reading the clock costs as much as a small sample.
const TIMED: usize = 4;

/// How many substitutes are tried for a sample before it counts as lost.
const SUBSTITUTES: u64 = 64;

impl<C: Collate> Work<Errand<C>> for Executor<C> {
    type Output = Ran<C::Batch>;

    fn run(&self, errand: Errand<C>, worker: Worker<'_>) -> Ran<C::Batch> {
        let begun = Instant::now();
        let Errand { task, run, attempt } = errand;
        let samples = task.end - task.start;
        let slots = match attempt.slots(run, &self.collate) {
            Ok(Some(slots)) => slots,
            Ok(None) => return Ran { made: None, samples: 0, took: Duration::ZERO },
            Err(message) => {
                let error = not_made(task.batch, task.epoch, &message).on_worker(worker.id());
                return Ran { made: Some(Box::new(Made::failed(error))), samples: 0, took: Duration::ZERO };
            }
        };
        // The first run of a batch opens it, while the others wait for that.
        let busy = Busy { collating: begun.elapsed(), ..Busy::default() };
        let first = task.start - attempt.positions.start;
        let timed_every = (samples / TIMED).max(1);
        let mut making = Making {
            executor: self,
            task,
            worker,
            attempt: &attempt,
            slots,
            run,
            first,
            indices: Vec::with_capacity(samples),
            global: Vec::with_capacity(samples),
            seeds: PositionSeeds::new(self.seed, task.epoch),
            timed_every,
            busy,
            found: Found::default(),
        };
        making.look_up();
        let made = (0..samples).all(|sample| making.place(sample).is_ok());
        let wanted = made && worker.progress();
        // The timed samples stand for all.
        let scale = samples as f64 / samples.div_ceil(timed_every).max(1) as f64;
        let Making { slots, mut found, mut busy, .. } = making;
        busy.reading = busy.reading.mul_f64(scale);
        busy.transforming = busy.transforming.mul_f64(scale);
        found.stints.push(Stint::end(begun, busy, worker));
        let made = if wanted { self.finish(task, slots, (&attempt, run), found, worker) } else { None };
        Ran { made, samples, took: begun.elapsed() }
    }
}

/// The error of a batch that a panic has cost.
pub(super) fn not_made(batch: usize, epoch: u64, panic: &str) -> Error {
    let text = format!("batch {batch} of epoch {epoch} was not made: panicked: {panic}");
    Error::new(ErrorKind::Panic, text)
}

/// Nobody waits for the run any more.
struct Unwanted;

impl<C: Collate> Executor<C> {
    /// The same but for what makes the samples.
    pub(super) fn with_fill(&self, fill: Arc<dyn Fill<C>>) -> Self {
        Executor {
            fill,
            collate: Arc::clone(&self.collate),
            batches: Arc::clone(&self.batches),
            lineage: self.lineage.clone(),
            seed: self.seed,
            on_error: self.on_error,
            retry: self.retry.clone(),
            gates: self.gates.clone(),
        }
    }

    /// Where a sample comes from, in words, if its index doesn't say it.
    fn describe(&self, index: usize) -> Option<String> {
        self.lineage.as_ref()?.describe(index)
    }

    /// Has an error name a sample, by its index and by its row in the whole data set.
    pub(super) fn at_sample(&self, error: Error, index: usize) -> Error {
        let row = self.lineage.as_ref().and_then(|lineage| lineage.row(index));
        error.at_index(index).at_row(row).at_place(self.describe(index))
    }

    /// Adds what a run met to what the others did, and closes the batch if all are through.
    fn finish(
        &self,
        task: Task,
        slots: Run<C>,
        (attempt, run): (&Attempt<C>, usize),
        met: Found,
        worker: Worker<'_>,
    ) -> Option<Box<Made<C::Batch>>> {
        let mut found = attempt.found();
        found.holes.extend(met.holes);
        found.incidents.extend(met.incidents);
        found.stints.extend(met.stints);
        if let Some((place, error)) = met.error
            && found.error.as_ref().is_none_or(|(first, _)| place < *first)
        {
            found.error = Some((place, error));
        }
        drop(found);
        let buffer = slots.finish()?;
        let Found { mut holes, mut incidents, error, mut stints } = std::mem::take(&mut *attempt.found());
        let end = error.as_ref().map_or(usize::MAX, |(place, _)| *place);
        incidents.retain(|(place, _)| *place < end);
        incidents.sort_by_key(|(place, _)| *place);
        let incidents = incidents.into_iter().map(|(_, incident)| incident).collect();
        if let Some((_, error)) = error {
            return Some(Box::new(Made { batch: Err(error), bytes: 0, samples: 0, incidents, stints }));
        }
        if holes.len() == attempt.positions.len() {
            return Some(Box::new(Made { batch: Ok(None), bytes: 0, samples: 0, incidents, stints }));
        }
        holes.sort_unstable();
        // Closing has the time limit of a sample, and is none.
        attempt.at[run].store(CLOSING, Ordering::Relaxed);
        if !worker.progress() {
            return None;
        }
        let closing = Instant::now();
        let closed = catch_unwind(AssertUnwindSafe(|| {
            let batch = self.collate.close(buffer, &holes)?;
            let bytes = self.collate.bytes(&batch);
            Ok::<_, BoxError>((batch, bytes))
        }));
        let busy = Busy { collating: closing.elapsed(), ..Busy::default() };
        stints.push(Stint::end(closing, busy, worker));
        let closed = closed.unwrap_or_else(|payload| Err(panic_message(payload).into()));
        let bytes = closed.as_ref().map_or(0, |(_, bytes)| *bytes);
        let batch = closed.map(|(batch, _)| Some(batch)).map_err(|source| {
            let text = format!("collation of batch {} of epoch {} failed", task.batch, task.epoch);
            Error::new(ErrorKind::Collate, text).caused_by(source).on_worker(worker.id())
        });
        Some(Box::new(Made {
            batch,
            bytes,
            samples: attempt.positions.len() - holes.len(),
            incidents,
            stints,
        }))
    }
}

/// Waits before another try; `false` if nobody waits for the task any more.
pub(super) fn pause(wait: Duration, worker: Worker<'_>) -> bool {
    let end = Instant::now() + wait;
    loop {
        if !worker.progress() {
            return false;
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        sleep(left.min(PATIENCE));
    }
}

/// A run while it is made.
struct Making<'e, C: Collate> {
    executor: &'e Executor<C>,
    task: Task,
    worker: Worker<'e>,
    attempt: &'e Attempt<C>,
    slots: Run<C>,
    /// Which run of the attempt this is.
    run: usize,
    /// The place of the run's first sample in its batch.
    first: usize,
    /// The indices of the run's first samples: of all of them, unless the sampler panicked.
    indices: Vec<usize>,
    /// Their global positions.
    global: Vec<u64>,
    seeds: PositionSeeds,
    /// Of so many samples, one is timed.
    timed_every: usize,
    /// What the timed stages took.
    busy: Busy,
    found: Found,
}

impl<C: Collate> Making<'_, C> {
    /// Asks the sampler for the whole run. Where it panics, it is asked again when the sample's turn comes, so that the
    /// error is the sample's.
    fn look_up(&mut self) {
        let Task { epoch, start, end, .. } = self.task;
        let (batches, indices, global) = (&self.executor.batches, &mut self.indices, &mut self.global);
        let asked = catch_unwind(AssertUnwindSafe(|| {
            batches.indices(epoch, start..end, indices);
            batches.global_positions(epoch, start..end, global);
        }));
        if asked.is_err() {
            // What it had given so far may be wrong.
            self.indices.clear();
        }
    }

    /// Makes the run's sample `sample`, unless the batch has failed before it.
    fn place(&mut self, sample: usize) -> Result<(), Unwanted> {
        if !self.worker.progress() || self.attempt.stopped.load(Ordering::Relaxed) {
            return Err(Unwanted);
        }
        let place = self.first + sample;
        self.attempt.at[self.run].store(self.task.start + sample, Ordering::Relaxed);
        if self.attempt.failed.load(Ordering::Relaxed) <= place {
            return Ok(());
        }
        match self.sample(sample) {
            Ok(true) => {}
            Ok(false) => self.found.holes.push(place),
            Err(error) => {
                self.attempt.failed.fetch_min(place, Ordering::Relaxed);
                self.found.error = Some((place, error));
            }
        }
        Ok(())
    }

    /// Makes a sample; `false` if the batch goes without it.
    fn sample(&mut self, sample: usize) -> Result<bool, Error> {
        let place = self.first + sample;
        let position = self.task.start + sample;
        let id = match (self.indices.get(sample), self.global.get(sample)) {
            (Some(&index), Some(&global)) => SampleId { index, global },
            _ => self.id(position)?,
        };
        let late = self.attempt.late.iter().find(|(late, _)| *late == position);
        let tried = match late {
            Some((_, error)) => Err(error.clone()),
            None => self.tries(sample, id),
        };
        let Err(error) = tried else { return Ok(true) };
        let remedy = match self.executor.on_error {
            _ if *error.kind() == ErrorKind::Shard => return Err(error),
            OnError::Fail => return Err(error),
            OnError::Skip { .. } => Remedy::Skipped,
            OnError::Replace { .. } => match self.substitute(sample, id) {
                Some(index) => Remedy::Replaced(index),
                None => return Err(error),
            },
        };
        let mut incident = Incident::new(error, remedy);
        if let Remedy::Replaced(index) = remedy {
            incident.substitute = self.executor.describe(index);
        }
        self.found.incidents.push((place, incident));
        Ok(remedy != Remedy::Skipped)
    }

    fn id(&self, position: usize) -> Result<SampleId, Error> {
        let Task { epoch, batch, .. } = self.task;
        let batches = &self.executor.batches;
        catch_unwind(AssertUnwindSafe(|| SampleId {
            index: batches.index(epoch, position),
            global: batches.global_position(epoch, position),
        }))
        .map_err(|payload| not_made(batch, epoch, &panic_message(payload)).on_worker(self.worker.id()))
    }

    /// Fills the place of a sample that cannot be made by another one of its batch, or of the epoch if the batch has
    /// no other: never by one that the order would not give. It draws the random numbers of the place.
    fn substitute(&mut self, sample: usize, lost: SampleId) -> Option<usize> {
        let epoch = self.task.epoch;
        let whole = &self.attempt.positions;
        let (first, positions) = match whole.len() {
            1 => (0, self.executor.batches.samples(epoch)),
            samples => (whole.start, samples),
        };
        let key = derive_seed(self.executor.seed, Purpose::Substitute, epoch, lost.global);
        let mut rng = SampleRng::from_seed(key);
        (0..SUBSTITUTES).find_map(|_| {
            let position = first + rng.below(positions as u64) as usize;
            // What hung once would hang again.
            let hangs = self.attempt.late.iter().any(|(late, _)| *late == position);
            if hangs || !self.worker.progress() {
                return None;
            }
            self.attempt.at[self.run].store(position, Ordering::Relaxed);
            let SampleId { index, .. } = self.id(position).ok()?;
            let instead = SampleId { index, ..lost };
            (index != lost.index && self.tries(sample, instead).is_ok()).then_some(index)
        })
    }

    /// Tries to make a sample, again and again if its errors are worth it.
    fn tries(&mut self, sample: usize, id: SampleId) -> Result<(), Error> {
        let Err(first) = self.attempt(sample, id) else { return Ok(()) };
        let mut error = first.clone();
        for tries in 1.. {
            let Some(wait) = self.executor.retry.as_ref().and_then(|retry| retry.next(tries, &error)) else {
                break;
            };
            if !pause(wait, self.worker) {
                break;
            }
            match self.attempt(sample, id) {
                Ok(()) => {
                    let place = self.first + sample;
                    self.found.incidents.push((place, Incident::new(first, Remedy::Retried(tries))));
                    return Ok(());
                }
                Err(again) => error = again,
            }
        }
        Err(error)
    }

    fn attempt(&mut self, sample: usize, SampleId { index, global }: SampleId) -> Result<(), Error> {
        let (executor, worker) = (self.executor, self.worker);
        let busy = sample.is_multiple_of(self.timed_every).then_some(&mut self.busy);
        let mut stages = Stages { gates: executor.gates.as_deref(), worker, busy };
        let seed = self.seeds.at(global);
        let slots = &mut self.slots;
        // Unwind safety: after a panic the slot is cleared for another sample, or left out of the batch, or the batch
        // is thrown away.
        let filled = catch_unwind(AssertUnwindSafe(|| {
            let Some(mut slot) = slots.slot(sample) else {
                let source = format!("the layout has no slot for sample {sample} of the run").into();
                return Err(Failure { kind: ErrorKind::Collate, source });
            };
            executor.collate.clear(&mut slot);
            executor.fill.fill(index, seed, slot, &mut stages)
        }));
        let (kind, text, source) = match filled {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(Failure { kind, source })) => {
                let text = match kind {
                    ErrorKind::Dataset | ErrorKind::Shard => "the data set failed",
                    ErrorKind::Transform => "the transform failed",
                    ErrorKind::Panic => "panicked",
                    _ => "was not made",
                };
                (kind, text, source)
            }
            Err(payload) => (ErrorKind::Panic, "panicked", panic_message(payload).into()),
        };
        Err(executor.at_sample(Error::new(kind, text), index).caused_by(source).on_worker(worker.id()))
    }
}
