//! Writing the samples of one run into their slots.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use firebox_core::panic_message;
use firebox_workers::Worker;

use crate::collate::Collate;
use crate::error::{Error, ErrorKind};
use crate::loader::assembly::Run;
use crate::loader::fault::{Action, OnError, SampleFailure, TryError, tries};
use crate::loader::report::WorkerTime;
use crate::loader::source::RunItems;
use crate::loader::work::batch_build::{BatchBuild, Problems};
use crate::loader::work::{BatchTask, Executor, Failure, SampleId, Stages, Why};
use firebox_core::seed::{PositionSeeds, RecordSeeds, SampleSeed};
use firebox_core::{Purpose, SampleRng, derive_seed};

/// How many substitutes are tried for a sample before it counts as lost.
const SUBSTITUTES: u64 = 64;

/// Nobody waits for the run any more.
pub(super) struct Cancelled;

/// A run while its samples are made.
pub(super) struct SampleWriter<'e, C: Collate> {
    executor: &'e Executor<C>,
    task: &'e BatchTask,
    worker: Worker<'e>,
    build: &'e BatchBuild<C>,
    /// Which run of the batch this is.
    run: usize,
    slots: Run<C>,
    items: Box<dyn RunItems<C> + 'e>,
    /// The place of the run's first sample in its batch.
    first: usize,
    seeds: (PositionSeeds, RecordSeeds),
    /// Of so many samples, one is timed.
    timed_every: usize,
    /// The time of the timed stages.
    time: WorkerTime,
    problems: Problems,
}

impl<'e, C: Collate> SampleWriter<'e, C> {
    pub(super) fn new(
        executor: &'e Executor<C>,
        task: &'e BatchTask,
        worker: Worker<'e>,
        build: &'e BatchBuild<C>,
        (run, slots, items): (usize, Run<C>, Box<dyn RunItems<C> + 'e>),
        timed_every: usize,
    ) -> Self {
        let (seed, epoch) = (executor.seed, task.epoch);
        SampleWriter {
            executor,
            task,
            worker,
            build,
            run,
            slots,
            items,
            first: task.run.start as usize,
            seeds: (PositionSeeds::new(seed, epoch), RecordSeeds::new(seed, epoch)),
            timed_every,
            time: WorkerTime::default(),
            problems: Problems::default(),
        }
    }

    /// The slots, what was met, and what the timed samples took.
    pub(super) fn into_parts(self) -> (Run<C>, Problems, WorkerTime) {
        (self.slots, self.problems, self.time)
    }

    /// Has the items of all samples read in one call, where that is better, and says how long it took.
    ///
    /// What can't be read so is read by itself when its turn comes: so each error is a sample's own.
    pub(super) fn read_together(&mut self) -> Duration {
        // After a failed attempt it shows which sample it is.
        let first = self.build.earlier.late.is_empty() && self.task.attempt == 0;
        if !first || !self.items.reads_together() {
            return Duration::ZERO;
        }
        self.try_now(self.position(0));
        let mut time = WorkerTime::default();
        let mut stages = Stages::new(self.executor.limits.as_deref(), self.worker, Some(&mut time));
        let (items, build, run, worker) = (&mut self.items, self.build, self.run, self.worker);
        let start = build.positions().start + self.first;
        let begin = |place| {
            build.try_now(run, start + place);
            worker.begin(start + place);
            worker.progress() && !build.is_stopped()
        };
        // Unwind safety: what was read so far is dropped, or is whole.
        let read = catch_unwind(AssertUnwindSafe(|| items.read_together(&begin, &mut stages)));
        let _ = read.map_err(panic_message);
        time.reading
    }

    /// The epoch's position of the run's sample `sample`.
    fn position(&self, sample: usize) -> usize {
        self.build.positions().start + self.first + sample
    }

    /// Notes which position is tried now, here and for whoever looks at a worker process.
    #[inline]
    fn try_now(&self, position: usize) {
        self.build.try_now(self.run, position);
        self.worker.begin(position);
    }

    /// Makes the run's sample `sample`, unless the batch has failed before it.
    #[inline]
    pub(super) fn place(&mut self, sample: usize) -> Result<(), Cancelled> {
        if !self.worker.progress() || self.build.is_stopped() {
            return Err(Cancelled);
        }
        let place = self.first + sample;
        self.try_now(self.position(sample));
        if self.build.failed_before(place) {
            return Ok(());
        }
        match self.sample(sample) {
            Ok(true) => {}
            Ok(false) => self.problems.holes.push(place),
            Err(error) => {
                self.build.fail_at(place);
                self.problems.fail(place, error);
            }
        }
        Ok(())
    }

    /// Makes a sample; `false` if the batch goes without it.
    #[inline]
    fn sample(&mut self, sample: usize) -> Result<bool, Error> {
        let id = self.task.samples[sample];
        let tried = match self.build.late(self.position(sample)) {
            Some(error) => Err(error.clone()),
            None => self.tries(sample, id),
        };
        match tried {
            Ok(()) => Ok(true),
            Err(error) => self.give_up(sample, id, error),
        }
    }

    /// Does what the policy says about a sample that can't be made; `false` if the batch goes without it.
    #[cold]
    fn give_up(&mut self, sample: usize, id: SampleId, error: Error) -> Result<bool, Error> {
        let place = self.first + sample;
        let action = match self.executor.on_error {
            _ if *error.kind() == ErrorKind::Shard => return Err(error),
            OnError::Fail => return Err(error),
            OnError::Skip { .. } => Action::Skipped,
            OnError::Replace { .. } => match self.substitute(sample, id) {
                Some(index) => Action::Replaced(index),
                None => return Err(error),
            },
        };
        let mut failure = SampleFailure::new(error, action);
        if let Action::Replaced(index) = action {
            failure.substitute = self.executor.source.describe(index);
        }
        self.build.note(place, failure);
        Ok(action != Action::Skipped)
    }

    /// Fills the place of a sample that cannot be made by another one of its batch, or of the epoch if the
    /// batch has no other: never by one that the order would not give. It draws the random numbers of the
    /// place.
    fn substitute(&mut self, sample: usize, lost: SampleId) -> Option<usize> {
        let SampleId::Item { index: lost, position: global } = lost else { return None };
        let (epoch, source) = (self.task.epoch, &self.executor.source);
        let positions = source.substitutes(epoch, self.task.batch as usize);
        if positions.is_empty() {
            return None;
        }
        let key = derive_seed(self.executor.seed, Purpose::Substitute, epoch, global);
        let mut rng = SampleRng::from_seed(key);
        (0..SUBSTITUTES).find_map(|_| {
            let position = positions.start + rng.below(positions.len() as u64) as usize;
            // What hung once would hang again.
            if self.build.late(position).is_some() || !self.worker.progress() {
                return None;
            }
            self.try_now(position);
            let index = source.sample(epoch, position)?.index()?;
            let instead = SampleId::Item { index, position: global };
            (index != lost && self.tries(sample, instead).is_ok()).then_some(index)
        })
    }

    /// Tries to make a sample, again and again if its errors are worth it.
    #[inline]
    fn tries(&mut self, sample: usize, id: SampleId) -> Result<(), Error> {
        let executor = self.executor;
        let ((), failure) = tries(executor.retry.as_ref(), self.worker, || self.attempt(sample, id))?;
        if let Some(failure) = failure {
            // At once: should the run be given up, the next attempt tells of it.
            self.build.note(self.first + sample, *failure);
        }
        Ok(())
    }

    fn seed(&self, id: SampleId) -> SampleSeed {
        match id {
            SampleId::Item { position, .. } => self.seeds.0.at(position),
            // By the record, not by its position: ranks have the same positions and other records.
            SampleId::Record { shard, record, repeat } => {
                self.seeds.1.at(shard as u64, record, u64::from(repeat))
            }
        }
    }

    #[inline]
    fn attempt(&mut self, sample: usize, id: SampleId) -> Result<(), TryError> {
        let (executor, worker) = (self.executor, self.worker);
        let (seed, position) = (self.seed(id), self.position(sample));
        let time = sample.is_multiple_of(self.timed_every).then_some(&mut self.time);
        let mut stages = Stages::new(executor.limits.as_deref(), worker, time);
        let (slots, items) = (&mut self.slots, &mut self.items);
        // Unwind safety: after a panic the slot is cleared for another sample, or left out of the batch, or
        // the batch is thrown away.
        let written = catch_unwind(AssertUnwindSafe(|| {
            let Some(mut slot) = slots.slot(sample) else {
                let text = format!("the layout has no slot for sample {sample} of the run");
                return Err(Failure::new(ErrorKind::Collate, text));
            };
            executor.collate.clear(&mut slot);
            items.write((sample, id), seed, slot, &mut stages)
        }));
        let reread = stages.reread.take();
        if let Some(SampleFailure { error, action, .. }) = reread.map(|failure| *failure) {
            let error = Error::new(ErrorKind::Dataset, "the data set failed").caused_by(error);
            let failure = SampleFailure::new(executor.source.name(error, id, position), action);
            self.build.note(self.first + sample, failure);
        }
        match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err(failure)) => Err(self.failed(failure, id, position)),
            Err(payload) => {
                Err(self.failed(Failure::new(ErrorKind::Panic, panic_message(payload)), id, position))
            }
        }
    }

    /// The error of a try, in words.
    #[cold]
    fn failed(&self, Failure(why): Failure, id: SampleId, position: usize) -> TryError {
        let Why { kind, stage, source, is_final, reader } = *why;
        let text = match (&kind, stage) {
            (ErrorKind::Dataset | ErrorKind::Shard, _) => "the data set failed".to_owned(),
            (ErrorKind::Transform, Some(stage)) => format!("the stage {stage} failed"),
            (ErrorKind::Transform, None) => "the transform failed".to_owned(),
            (ErrorKind::Panic, _) => "panicked".to_owned(),
            (ErrorKind::TimedOut, _) => String::new(),
            _ => "was not made".to_owned(),
        };
        let error = self.executor.source.name(Error::new(kind, text), id, position);
        let error = error.caused_by(source);
        let error = match reader {
            Some(reader) => error.on_worker(reader),
            None => self.executor.met_by(self.worker, error),
        };
        TryError { error, is_final }
    }
}
