//! The training loop: who steps when, what is recorded, when it is saved.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use burn::tensor::Device;
use firebox_data::{Batches, EpochReport, Stream, derive_seed};

use crate::checkpoint::{Best, Checkpoints, RunState};
use crate::error::{Error, ErrorKind};
use crate::event::{Callback, Event, Record, RecordKind};
use crate::interrupt::{Interrupt, Signal};
use crate::metrics::Metrics;
use crate::metrics_log::MetricsLog;
use crate::run_dir::RunDir;
use crate::schedule::Schedule;
use crate::task::{StepContext, Task};

/// Trains a [`Task`] for some epochs and records the run in its folder.
///
/// ```no_run
/// # use firebox_train::*;
/// # fn example<T: Task>(mut task: T, train: impl firebox_data::Batches<Batch = T::Batch>,
/// #     valid: impl firebox_data::Batches<Batch = T::Batch>, device: burn::tensor::Device) -> Result<(), Error> {
/// let run = RunDir::create("runs/first")?;
/// let mut trainer = Trainer::new(&run, &device)
///     .epochs(3)
///     .seed(42)
///     .schedule(OneCycle::new(3e-3, train.steps(3))?)
///     .callback(Progress::new());
/// let outcome = trainer.fit(&mut task, &train, &valid)?;
/// println!("best: {:?}", outcome.best);
/// # Ok(())
/// # }
/// ```
pub struct Trainer {
    run: RunDir,
    device: Device,
    epochs: u64,
    seed: u64,
    resume: bool,
    schedule: Box<dyn Schedule>,
    interrupt: Interrupt,
    callbacks: Vec<Box<dyn Callback>>,
    /// Open from the first record on.
    log: Option<MetricsLog>,
    /// The epoch and the step that the run has reached.
    at: (u64, usize),
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Steps done, over all epochs and before a resume too.
    pub steps: usize,
    /// Seconds of training and validation, those before a resume included.
    pub seconds: f64,
    /// Training samples a second, without validation.
    pub samples_per_s: f64,
    /// The best checkpoint.
    pub best: Option<Best>,
    /// The signal that stopped the run early; `None` if it is complete.
    pub interrupted: Option<Signal>,
}

impl Trainer {
    /// A trainer of one epoch at learning rate 1e-3, with seed 0. `device` is the one whose random numbers are
    /// seeded before each step.
    pub fn new(run: &RunDir, device: &Device) -> Self {
        Trainer {
            run: run.clone(),
            device: device.clone(),
            epochs: 1,
            seed: 0,
            resume: false,
            schedule: Box::new(1e-3),
            interrupt: Interrupt::never(),
            callbacks: Vec::new(),
            log: None,
            at: (0, 0),
        }
    }

    /// Passes over the training data.
    pub fn epochs(mut self, epochs: u64) -> Self {
        self.epochs = epochs;
        self
    }

    /// What the random numbers of each step follow from.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The learning rate of each step: a number, or a schedule.
    pub fn schedule(mut self, schedule: impl Schedule + 'static) -> Self {
        self.schedule = Box::new(schedule);
        self
    }

    /// Whether to go on from the run folder's last checkpoint instead of beginning anew.
    pub fn resume(mut self, resume: bool) -> Self {
        self.resume = resume;
        self
    }

    /// What may ask the run to stop. It does after the step in hand, with a checkpoint.
    pub fn interrupt(mut self, interrupt: Interrupt) -> Self {
        self.interrupt = interrupt;
        self
    }

    /// Adds someone to tell what happens. Those added first are told first.
    pub fn callback(mut self, callback: impl Callback + 'static) -> Self {
        self.callbacks.push(Box::new(callback));
        self
    }

    /// Trains until all epochs are done or a signal asks to stop.
    ///
    /// A new run saves a checkpoint before its first step. Every epoch ends with a pass over `valid`, whose
    /// metric decides which checkpoint is the best, and a checkpoint.
    ///
    /// # Errors
    /// The loader's, the task's, a callback's; [`ErrorKind::Checkpoint`] if there is nothing good to resume
    /// from; [`ErrorKind::Io`] if something cannot be written. The checkpoints saved before stay as they are.
    pub fn fit<T, B, V>(&mut self, task: &mut T, train: &B, valid: &V) -> Result<Outcome, Error>
    where
        T: Task,
        B: Batches<Batch = T::Batch>,
        V: Batches<Batch = T::Batch>,
    {
        for (name, batches) in [("training", train.batches(0)), ("validation", valid.batches(0))] {
            if batches == 0 {
                return Err(Error::new(ErrorKind::Config, format!("the {name} data have no batch")));
            }
        }
        let mut state = match self.resume {
            true => self.restored(task, train)?,
            false => RunState::new(train.state(0), self.seed),
        };
        self.log = Some(MetricsLog::open(self.run.metrics(), state.metrics_bytes)?);
        if !self.resume {
            self.save(&mut state, task)?;
        }
        let steps = train.steps(self.epochs);
        self.tell(Event::Started { done: state.step, steps, epochs: self.epochs })?;
        let clock = Clock { begun: Instant::now(), before: state.seconds };
        while state.loader.epoch < self.epochs {
            let (data, stopped) = self.train_epoch(task, train, &mut state, &clock)?;
            if stopped.is_none() {
                self.end_epoch(task, valid, &mut state, &clock, data.clone())?;
                state.loader = train.state(state.loader.epoch + 1);
            }
            let path = self.save(&mut state, task)?;
            if let Some(signal) = stopped.or_else(|| self.interrupt.requested())
                && state.loader.epoch < self.epochs
            {
                self.tell(Event::Interrupted { signal, step: state.step, path: &path, data: &data })?;
                return Ok(Outcome::of(state, Some(signal)));
            }
        }
        self.at = (self.epochs.saturating_sub(1), state.step);
        self.tell(Event::Finished)?;
        Ok(Outcome::of(state, None))
    }

    /// One pass over data that are not learned from, judged by `judge`, such as [`Task::evaluator`]. Recorded
    /// as `split`.
    ///
    /// # Errors
    /// The loader's, the task's, a callback's.
    pub fn evaluate<V>(
        &mut self,
        data: &V,
        split: &str,
        mut judge: impl FnMut(V::Batch) -> Result<Metrics, Error>,
    ) -> Result<Record, Error>
    where
        V: Batches,
    {
        let begun = Instant::now();
        let mut metrics = Metrics::default();
        let mut stream = data.epoch(0);
        for batch in stream.by_ref() {
            metrics.add(&judge(batch?)?)?;
        }
        if metrics.samples() == 0 {
            return Err(Error::new(ErrorKind::Config, format!("the {split} data have no sample")));
        }
        let seconds = begun.elapsed().as_secs_f64();
        let (epoch, step) = self.at;
        let record = Record {
            kind: RecordKind::Eval,
            step,
            epoch,
            split: split.to_owned(),
            seconds,
            samples_per_s: metrics.samples() as f64 / seconds,
            metrics,
            lr: None,
            data_wait_s: stream.waited().as_secs_f64(),
            data: None,
        };
        self.record(&record)?;
        self.log()?.sync()?;
        Ok(record)
    }

    /// The rest of the state's epoch: the loader's account of it, and the signal that stopped it before its last
    /// batch, if one did.
    fn train_epoch<T, B>(
        &mut self,
        task: &mut T,
        train: &B,
        state: &mut RunState,
        clock: &Clock,
    ) -> Result<(EpochReport, Option<Signal>), Error>
    where
        T: Task,
        B: Batches<Batch = T::Batch>,
    {
        let epoch = state.loader.epoch;
        // Making the stream can take time already: its first batches are waited for.
        let mut begun = Instant::now();
        let mut stream = train.resume(&state.loader)?;
        let mut waited = Duration::ZERO;
        while let Some(batch) = stream.next() {
            let batch = batch?;
            let context = StepContext { epoch, step: state.step, lr: self.schedule.lr(state.step) };
            self.device.seed(derive_seed(self.seed, Stream::Step, epoch, state.step as u64));
            let metrics = task.train_step(batch, &context)?;
            let data_wait_s = (stream.waited() - waited).as_secs_f64();
            let seconds = begun.elapsed().as_secs_f64();
            (begun, waited) = (Instant::now(), stream.waited());
            state.step += 1;
            state.loader = stream.state();
            state.running.add(&metrics)?;
            state.running_seconds += seconds;
            state.train_seconds += seconds;
            state.train_samples += metrics.samples();
            state.running_wait_s += data_wait_s;
            state.seconds = clock.seconds();
            self.at = (epoch, state.step);
            self.record(&Record {
                kind: RecordKind::Step,
                step: state.step,
                epoch,
                split: "train".to_owned(),
                seconds: state.seconds,
                samples_per_s: metrics.samples() as f64 / seconds,
                metrics,
                lr: Some(context.lr),
                data_wait_s,
                data: None,
            })?;
            if let Some(signal) = self.interrupt.requested()
                && state.loader.batch < train.batches(epoch)
            {
                return Ok((stream.report(), Some(signal)));
            }
        }
        Ok((stream.report(), None))
    }

    /// Sums the epoch up and evaluates the models.
    fn end_epoch<T, V>(
        &mut self,
        task: &T,
        valid: &V,
        state: &mut RunState,
        clock: &Clock,
        data: EpochReport,
    ) -> Result<(), Error>
    where
        T: Task,
        V: Batches<Batch = T::Batch>,
    {
        self.record(&Record {
            kind: RecordKind::Epoch,
            step: state.step,
            epoch: state.loader.epoch,
            split: "train".to_owned(),
            seconds: state.running_seconds,
            samples_per_s: state.running.samples() as f64 / state.running_seconds,
            metrics: std::mem::take(&mut state.running),
            lr: None,
            data_wait_s: state.running_wait_s,
            data: Some(data),
        })?;
        (state.running_seconds, state.running_wait_s) = (0.0, 0.0);
        let record = self.evaluate(valid, "valid", task.evaluator())?;
        let (metric, goal) = task.monitor();
        if let Some(value) = record.metrics.value(metric)
            && state.best.as_ref().is_none_or(|best| goal.improves(best.value, value))
        {
            state.best = Some(Best { step: state.step, metric: metric.to_owned(), value });
        }
        state.seconds = clock.seconds();
        Ok(())
    }

    /// The run's last checkpoint, loaded into the task. Nothing is written before all of it was found good.
    fn restored<T: Task, B: Batches>(&self, task: &mut T, train: &B) -> Result<RunState, Error> {
        let checkpoints = Checkpoints::new(self.run.checkpoints());
        let (state, tensors) = checkpoints.load("last")?;
        let last = self.run.checkpoints().join("last");
        task.load(&tensors).map_err(|error| {
            Error::new(ErrorKind::Checkpoint, "the checkpoint is of another task or model")
                .at_path(&last)
                .caused_by(error)
        })?;
        if state.seed != self.seed {
            let text = format!("the checkpoint's seed: expected {}, got {}", self.seed, state.seed);
            return Err(Error::new(ErrorKind::Checkpoint, text).at_path(last));
        }
        train.check(&state.loader)?;
        checkpoints.relink(&state)?;
        Ok(state)
    }

    fn save<T: Task>(&mut self, state: &mut RunState, task: &T) -> Result<PathBuf, Error> {
        // The records first: a checkpoint counts on them.
        state.metrics_bytes = self.log()?.sync()?;
        let path = Checkpoints::new(self.run.checkpoints()).save(state, &task.state()?)?;
        let best = state.best.as_ref().is_some_and(|best| best.step == state.step);
        self.tell(Event::Saved { path: &path, best })?;
        Ok(path)
    }

    /// The records, opened at their end if they are not open yet.
    fn log(&mut self) -> Result<&mut MetricsLog, Error> {
        match &mut self.log {
            Some(log) => Ok(log),
            log => Ok(log.insert(MetricsLog::append(self.run.metrics())?)),
        }
    }

    fn record(&mut self, record: &Record) -> Result<(), Error> {
        self.log()?.add(record)?;
        self.tell(Event::Recorded(record))
    }

    fn tell(&mut self, event: Event<'_>) -> Result<(), Error> {
        for callback in &mut self.callbacks {
            callback
                .on_event(&event)
                .map_err(|error| Error::new(ErrorKind::Callback, "a callback failed").caused_by(error))?;
        }
        Ok(())
    }
}

impl Outcome {
    fn of(state: RunState, interrupted: Option<Signal>) -> Self {
        Outcome {
            steps: state.step,
            seconds: state.seconds,
            samples_per_s: state.train_samples as f64 / state.train_seconds,
            best: state.best,
            interrupted,
        }
    }
}

/// Seconds of training over all parts of a run.
struct Clock {
    begun: Instant,
    before: f64,
}

impl Clock {
    fn seconds(&self) -> f64 {
        self.before + self.begun.elapsed().as_secs_f64()
    }
}
