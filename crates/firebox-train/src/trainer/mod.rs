//! The training loop: who steps when, what is recorded, when it is saved.

mod config;
mod find_lr;
mod fit;
#[cfg(test)]
mod full_disk;
mod guard;
mod outcome;
mod restored;

use std::time::Instant;

use burn::tensor::Device;
use firebox_data::{Batches, Stream, derive_seed};

use self::fit::Fit;
use self::guard::Learned;
use crate::error::{Error, ErrorKind};
use crate::event::{Callback, Event, Record, RecordKind};
use crate::interrupt::Interrupt;
use crate::metrics::Metrics;
use crate::metrics_log::MetricsLog;
use crate::run_dir::RunDir;
use crate::schedule::Schedule;
use crate::task::Task;

pub use config::TrainerConfig;
pub use outcome::{End, Outcome};

/// Trains a [`Task`] for some epochs and records the run in its folder.
///
/// ```no_run
/// # use firebox_train::*;
/// # fn example<T: Task>(mut task: T, train: impl firebox_data::Batches<Batch = T::Batch>,
/// #     valid: impl firebox_data::Batches<Batch = T::Batch>, device: burn::tensor::Device) -> Result<(), Error> {
/// // Goes on where it was stopped, if it was.
/// let begun = !Checkpoints::new("runs/first/checkpoints").is_empty();
/// let run = match begun {
///     true => RunDir::open("runs/first")?.resume()?,
///     false => RunDir::overwrite("runs/first")?,
/// };
/// let mut trainer = Trainer::new(&run, &device)
///     .resume(begun)
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
    config: TrainerConfig,
    resume: bool,
    schedule: Box<dyn Schedule>,
    interrupt: Interrupt,
    callbacks: Vec<Box<dyn Callback>>,
    /// Open from the first record on.
    log: Option<MetricsLog>,
    /// The epoch and the step that the run has reached.
    at: (u64, usize),
    /// What there was to warn of.
    warnings: Vec<String>,
    /// What it is trained on, if that is known.
    learned: Option<Learned>,
}

impl Trainer {
    /// A trainer with the defaults of [`TrainerConfig`] and learning rate 1e-3. `device` is the one whose random numbers are
    /// seeded before each step.
    pub fn new(run: &RunDir, device: &Device) -> Self {
        Trainer {
            run: run.clone(),
            device: device.clone(),
            config: TrainerConfig::default(),
            resume: false,
            schedule: Box::new(1e-3),
            interrupt: Interrupt::never(),
            callbacks: Vec::new(),
            log: None,
            at: (0, 0),
            warnings: Vec::new(),
            learned: None,
        }
    }

    /// All settings together, in the place of those that were set before.
    pub fn config(mut self, config: TrainerConfig) -> Self {
        self.config = config;
        self
    }

    /// Passes over the training data.
    pub fn epochs(mut self, epochs: u64) -> Self {
        self.config.max_epochs = epochs;
        self
    }

    /// What the random numbers of each step follow from.
    pub fn seed(mut self, seed: u64) -> Self {
        self.config.seed = seed;
        self
    }

    /// The learning rate of each step: a number, or a schedule.
    pub fn schedule(mut self, schedule: impl Schedule + 'static) -> Self {
        self.schedule = Box::new(schedule);
        self
    }

    /// Whether to go on from the run folder's last checkpoint. A new run needs a folder that has none.
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

    /// The steps that a whole run over these data has, for a schedule.
    pub fn steps(&self, train: &impl Batches) -> usize {
        let steps = (0..self.config.max_epochs).map(|epoch| self.config.steps_of(train.batches(epoch)));
        match self.config.max_steps {
            None => steps.sum(),
            Some(most) => {
                let mut sum = 0;
                for steps in steps {
                    sum += steps;
                    if sum >= most {
                        return most;
                    }
                }
                sum
            }
        }
    }

    /// Trains until all epochs are done, or something else [ends](End) the run.
    ///
    /// A new run saves a checkpoint before its first step. Every epoch ends with a checkpoint, and by default with a pass
    /// over `valid`, whose metric decides which checkpoint is the best. Checkpoints are written by a thread of their own
    /// while training goes on; when this returns they are complete. If nobody has written the run's
    /// [settings](RunDir::write_config), the trainer's are.
    ///
    /// # Errors
    /// The loader's, the task's, a callback's; [`ErrorKind::Config`] for a setting out of its range, or if samples that
    /// are trained on are in `valid` too, as far as both are parts of [one data set](firebox_data::Origin);
    /// [`ErrorKind::Task`] for a metric of an epoch or an evaluation that was counted for no sample;
    /// [`ErrorKind::NotFinite`] if a loss or a gradient is not finite, with the samples' indices;
    /// [`ErrorKind::Checkpoint`] if there is nothing good to resume
    /// from; [`ErrorKind::RunDir`] if a run that is no resume finds one in its folder, or another process trains there;
    /// [`ErrorKind::Io`] if something cannot be written. The checkpoints saved before stay as they are.
    pub fn fit<T, B, V>(&mut self, task: &mut T, train: &B, valid: &V) -> Result<Outcome, Error>
    where
        T: Task,
        B: Batches<Batch = T::Batch>,
        V: Batches<Batch = T::Batch>,
    {
        let outcome = self.check(train, valid).and_then(|()| Fit::begin(self, task, train, valid)?.run());
        outcome.map_err(|error| self.failed(error))
    }

    fn check(&mut self, train: &impl Batches, valid: &impl Batches) -> Result<(), Error> {
        self.config.check()?;
        for (name, batches) in [("training", train.batches(0)), ("validation", valid.batches(0))] {
            if batches == 0 {
                return Err(Error::new(ErrorKind::Config, format!("the {name} data have no batch")));
            }
        }
        self.learned = if self.config.allow_overlap { None } else { Learned::of(train) };
        guard::apart(self.learned.as_ref(), valid, "validation")
    }

    /// Tells everybody of an error. What fails in doing so is added to it.
    fn failed(&mut self, error: Error) -> Error {
        let told =
            self.callbacks.iter_mut().map(|callback| callback.on_event(&Event::Failed { error: &error }));
        let more: Vec<_> = told.filter_map(Result::err).collect();
        more.into_iter().fold(error, |error, more| error.followed_by(&format!("a callback failed: {more}")))
    }

    /// One pass over data that are not learned from, judged by `judge`, such as [`Task::evaluator`]. Recorded
    /// as `split`. Burn's generator is seeded before each batch, so that what `judge` draws is the same each time.
    ///
    /// # Errors
    /// The loader's, the task's, a callback's; [`ErrorKind::Config`] if samples are among `data` that this trainer has
    /// trained on, as [`fit`](Self::fit) refuses them, unless `split` is `train`; [`ErrorKind::Task`] for a metric that was
    /// counted for no sample.
    pub fn evaluate<V>(
        &mut self,
        data: &V,
        split: &str,
        judge: impl FnMut(V::Batch) -> Result<Metrics, Error>,
    ) -> Result<Record, Error>
    where
        V: Batches,
    {
        if split != "train" {
            guard::apart(self.learned.as_ref(), data, split)?;
        }
        self.judged(data, split, None, judge)
    }

    /// What `predict` says of each batch, in the order of the batches.
    ///
    /// # Errors
    /// The loader's, and those of `predict`.
    pub fn predict<V, P>(
        &self,
        data: &V,
        mut predict: impl FnMut(V::Batch) -> Result<P, Error>,
    ) -> Result<Vec<P>, Error>
    where
        V: Batches,
    {
        let batches = data.epoch(0).enumerate();
        let predict = |(place, batch)| {
            self.seed_evaluation(place);
            predict(batch?)
        };
        batches.map(predict).collect()
    }

    fn judged<V>(
        &mut self,
        data: &V,
        split: &str,
        limit: Option<usize>,
        mut judge: impl FnMut(V::Batch) -> Result<Metrics, Error>,
    ) -> Result<Record, Error>
    where
        V: Batches,
    {
        let begun = Instant::now();
        let mut metrics = Metrics::default();
        let mut stream = data.epoch(0);
        for (place, batch) in stream.by_ref().take(limit.unwrap_or(usize::MAX)).enumerate() {
            self.seed_evaluation(place);
            metrics.add(&judge(batch?)?)?;
        }
        if metrics.samples() == 0 {
            return Err(Error::new(ErrorKind::Config, format!("the {split} data have no sample")));
        }
        guard::counted(&metrics, split)?;
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
            gradient_norm: None,
            data_wait_s: stream.waited().as_secs_f64(),
            data: None,
        };
        self.record(&record)?;
        Ok(record)
    }

    /// Evaluations are comparable, and don't depend on what a run has done before.
    fn seed_evaluation(&self, batch: usize) {
        self.device.seed(derive_seed(self.config.seed, Stream::Evaluation, 0, batch as u64));
    }

    /// The records, opened at their end if they are not open yet.
    fn log(&mut self) -> Result<&mut MetricsLog, Error> {
        match &mut self.log {
            Some(log) => Ok(log),
            log => Ok(log.insert(MetricsLog::append(self.run.metrics())?)),
        }
    }

    fn record(&mut self, record: &Record) -> Result<(), Error> {
        guard::names(&record.metrics)?;
        self.log()?.add(record)?;
        self.tell(Event::Recorded(record))
    }

    fn tell(&mut self, event: Event<'_>) -> Result<(), Error> {
        if let Event::Warning(text) = event {
            self.warnings.push(text.to_owned());
        }
        for callback in &mut self.callbacks {
            callback
                .on_event(&event)
                .map_err(|error| Error::new(ErrorKind::Callback, "a callback failed").caused_by(error))?;
        }
        Ok(())
    }
}
