//! The training loop: who steps when, what is recorded, when it is saved.

mod config;
mod devices;
mod evaluation;
mod find_lr;
mod fit;
#[cfg(test)]
mod full_disk;
mod guard;
mod lr_finder;
#[cfg(doctest)]
mod mistakes;
mod monitor;
mod optimization;
mod outcome;
mod place;
mod restored;

use burn::tensor::Device;
use firebox_data::batches::Batches;
use serde::Serialize;
use serde_json::Value;

use self::fit::Fit;
use self::guard::TrainingData;
use self::outcome::Warnings;
use crate::error::{Error, ErrorKind, caught};
use crate::event::{Callback, Event, Record};
use crate::run::RunDir;
use crate::run::interrupt::Interrupt;
use crate::run::metrics_log::MetricsLog;
use crate::schedule::Schedule;
use crate::task::Task;

pub use config::TrainerConfig;
pub use lr_finder::{LrCurve, LrFinder, LrPoint};
pub use outcome::Outcome;

/// Trains a [`Task`] for some epochs and records the run in its folder.
///
/// # Train, and go on where the run was stopped
///
/// ```no_run
/// # use firebox_data::batches::Batches;
/// # use firebox_train::schedule::OneCycle;
/// # use firebox_train::{Error, RunDir, Task, Trainer};
/// # fn example<T: Task>(
/// #     mut task: T, train: impl Batches<Batch = T::Batch>, valid: impl Batches<Batch = T::Batch>,
/// #     device: burn::tensor::Device) -> Result<(), Error> {
/// let begun = RunDir::open("runs/first").is_ok_and(|run| !run.checkpoints().is_empty());
/// let run = match begun {
///     true => RunDir::open("runs/first")?.resume()?,
///     false => RunDir::overwrite("runs/first")?,
/// };
/// let trainer = Trainer::new(&run, &device).resume(begun).epochs(3);
/// let schedule = OneCycle::new(3e-3, trainer.steps(&train)?)?;
/// let outcome = trainer.schedule(schedule).fit(&mut task, &train, &valid)?;
/// println!("best: {:?}", outcome.best);
/// # Ok(())
/// # }
/// ```
///
/// # Stop by Ctrl-C, with a checkpoint
///
/// ```no_run
/// # use firebox_data::batches::Batches;
/// # use firebox_train::run::Interrupt;
/// # use firebox_train::{Error, RunDir, Task, Trainer};
/// # fn example<T: Task>(
/// #     mut task: T, train: impl Batches<Batch = T::Batch>, valid: impl Batches<Batch = T::Batch>,
/// #     device: burn::tensor::Device, run: RunDir) -> Result<(), Error> {
/// let mut trainer = Trainer::new(&run, &device).interrupt(Interrupt::on_signals()?);
/// if let Some(signal) = trainer.fit(&mut task, &train, &valid)?.interrupted() {
///     println!("stopped by {}", signal.name());
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Judge the best checkpoint by data that nobody has seen
///
/// ```no_run
/// # use firebox_data::batches::Batches;
/// # use firebox_train::{Error, RunDir, Task, Trainer};
/// # fn example<T: Task>(
/// #     mut task: T, mut trainer: Trainer, test: impl Batches<Batch = T::Batch>, run: RunDir)
/// #     -> Result<(), Error> {
/// let (_, best) = run.checkpoints().best()?;
/// task.load(&best)?;
/// let record = trainer.evaluate(&test, "test", task.evaluator())?;
/// println!("test loss: {:?}", record.metrics.value("loss"));
/// # Ok(())
/// # }
/// ```
pub struct Trainer {
    run: RunDir,
    device: Device,
    config: TrainerConfig,
    /// The contents of `config.json`, if they are given.
    settings: Option<Value>,
    resume: bool,
    schedule: Box<dyn Schedule>,
    interrupt: Interrupt,
    callbacks: Vec<Box<dyn Callback>>,
    /// Open from the first record on.
    log: Option<MetricsLog>,
    /// The epoch and the step that the run has reached.
    at: (u64, usize),
    /// The warnings so far.
    warnings: Warnings,
    /// The data that are trained on, if they are known.
    learned: Option<TrainingData>,
    /// A signal has stopped the last fit.
    heard: bool,
}

impl Trainer {
    /// A trainer with the defaults of [`TrainerConfig`] and learning rate 1e-3. `device` is the one whose
    /// random numbers are seeded before each step.
    pub fn new(run: &RunDir, device: &Device) -> Self {
        Trainer {
            run: run.clone(),
            device: device.clone(),
            config: TrainerConfig::default(),
            settings: None,
            resume: false,
            schedule: Box::new(1e-3),
            interrupt: Interrupt::never(),
            callbacks: Vec::new(),
            log: None,
            at: (0, 0),
            warnings: Warnings::default(),
            learned: None,
            heard: false,
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

    /// Sets another seed than that of the training data's loader.
    pub fn seed(mut self, seed: u64) -> Self {
        self.config.seed = Some(seed);
        self
    }

    /// Sets the settings that the run is made from, its `config.json`.
    ///
    /// [`fit`](Self::fit) writes them into the run's folder.
    ///
    /// A new run has them before its first step, one that goes on once its checkpoint was accepted; every
    /// checkpoint holds them, too. Without them the trainer's own are written.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if they have no form as JSON.
    pub fn settings(mut self, settings: &impl Serialize) -> Result<Self, Error> {
        let value = serde_json::to_value(settings)
            .map_err(|error| Error::new(ErrorKind::Config, "the run's settings").caused_by(error))?;
        self.settings = Some(value);
        Ok(self)
    }

    /// The learning rate of each step: a number, or a schedule.
    pub fn schedule(mut self, schedule: impl Schedule + 'static) -> Self {
        self.schedule = Box::new(schedule);
        self
    }

    /// Goes on from the run folder's last checkpoint, or begins a new run.
    ///
    /// A new run needs a folder that has none.
    pub fn resume(mut self, resume: bool) -> Self {
        self.resume = resume;
        self
    }

    /// Lets an interrupt stop the run.
    ///
    /// It stops after the step in hand, with a checkpoint; evaluations and
    /// predictions end between two batches, with an error.
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
    ///
    /// Epochs may differ in their steps. The first 10,000 are counted; those after them are taken to have as
    /// many as the last of these.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if there is none, with the reason: no samples, or a batch size that leaves
    /// nothing of them.
    pub fn steps(&self, train: &impl Batches) -> Result<usize, Error> {
        guard::not_empty("training data", train)?;
        Ok(self.config.steps(train))
    }

    /// Trains until all epochs are done, or something else [ends](crate::event::End) the run.
    ///
    /// A new run saves a checkpoint before its first step. Every epoch ends with a checkpoint, and by default
    /// with a pass over `valid`, whose metric decides which checkpoint is the best. Checkpoints are written
    /// by a thread of their own while training goes on; when this returns they are complete. If nobody has
    /// written the run's [settings](RunDir::write_config), the trainer's are.
    ///
    /// If an evaluation follows, the checkpoint is saved before it, and its outcome added after it. A signal,
    /// or the end of [`max_seconds`](TrainerConfig::max_seconds), is heard between two steps, and between two
    /// batches of an evaluation, of which then nothing is recorded: a resume begins with it.
    ///
    /// ```
    /// use burn::tensor::{Device, Tensor};
    /// use firebox_data::{Loader, Scalar, Stack};
    /// use firebox_models::layers::{Linear, LinearConfig};
    /// use firebox_train::optimizer::AdamConfig;
    /// use firebox_train::tasks::Classification;
    /// use firebox_train::{Learner, RunDir, Trainer};
    ///
    /// let device = Device::default();
    /// let loader = |numbers: std::ops::Range<u16>| {
    ///     let layout = (Stack::<f32, 1>::new([1]), Scalar::<i64>::new());
    ///     let builder = Loader::builder(numbers.collect::<Vec<_>>()).batch_size(10);
    ///     builder.build(layout, |number, _, (input, class)| {
    ///         input.fill(f32::from(number % 2));
    ///         *class = i64::from(number % 2);
    ///         Ok(())
    ///     })
    /// };
    /// let model = LinearConfig::new(1, 2).init(&device.clone().autodiff())?;
    /// let learner = Learner::new(model, AdamConfig::new().init()?);
    /// let mut task = Classification::<Linear, Tensor<2>>::new(learner);
    /// # let folder = tempfile::tempdir()?;
    /// let run = RunDir::create(folder.path().join("run"))?;
    /// let train = loader(0..80)?.on_device(&device.clone().autodiff())?;
    /// let valid = loader(80..100)?.on_device(&device)?;
    /// let outcome = Trainer::new(&run, &device).epochs(2).schedule(0.1).fit(&mut task, &train, &valid)?;
    /// assert_eq!(outcome.steps, 2 * 8);
    /// assert!(outcome.best.is_some() && !run.checkpoints().is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The loader's, the task's, a callback's. Those of a batch name step, epoch, batch and samples.
    /// [`ErrorKind::Panic`] for a panic of theirs, unless the program [aborts](std::process::abort) at
    /// panics. The task may be in pieces then: a resume by a new one goes on from the last checkpoint.
    /// [`ErrorKind::OutOfRange`] for a setting out of its range; [`ErrorKind::Config`] if model or data are
    /// on the wrong device (see [`Batches::device`], [`Task::device`]), or if samples that are trained on are
    /// in `valid` too, as far as both are parts of [one data set](firebox_data::dataset::Lineage);
    /// [`ErrorKind::Task`] for a metric of an epoch or an evaluation that was counted for no sample;
    /// [`ErrorKind::NotFinite`] if a loss or a gradient is not finite, with the samples' indices;
    /// [`ErrorKind::Checkpoint`] if there is nothing good to resume from; [`ErrorKind::RunDir`] if a run that
    /// is no resume finds one in its folder, or another process trains there; [`ErrorKind::Io`] if something
    /// cannot be written. The checkpoints saved before stay as they are.
    pub fn fit<T, B, V>(&mut self, task: &mut T, train: &B, valid: &V) -> Result<Outcome, Error>
    where
        T: Task,
        B: Batches<Batch = T::Batch>,
        V: Batches<Batch = T::Batch>,
    {
        let outcome = caught("the run", || {
            self.check(task, train, valid)?;
            Fit::begin(self, task, train, valid)?.run()
        });
        self.heard = outcome.as_ref().is_ok_and(|outcome| outcome.interrupted().is_some());
        outcome.map_err(|error| self.failed(error))
    }

    /// Writes the run's settings, if it was given some.
    fn write_settings(&self) -> Result<(), Error> {
        self.settings.as_ref().map_or(Ok(()), |settings| self.run.write_config(settings))
    }

    fn check(&mut self, task: &impl Task, train: &impl Batches, valid: &impl Batches) -> Result<(), Error> {
        self.config.check()?;
        guard::not_empty("training data", train)?;
        guard::not_empty("validation data", valid)?;
        devices::training(task, train, &self.device)?;
        devices::plain(valid, &self.device, "valid")?;
        self.learned = if self.config.allow_overlap { None } else { TrainingData::of(train) };
        guard::apart(self.learned.as_ref(), valid, "validation")
    }

    /// Tells everybody of an error. What fails in doing so is added to it.
    fn failed(&mut self, error: Error) -> Error {
        let event = Event::Failed { error: &error };
        let told = self.callbacks.iter_mut().map(|callback| heard(&mut **callback, &event));
        let more: Vec<_> = told.filter_map(Result::err).collect();
        more.into_iter().fold(error, |error, more| error.followed_by(more))
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
        self.tell(Event::Recorded(record))?;
        // What is not finite is left out of the file: it is said.
        monitor::not_finite(record).iter().try_for_each(|text| self.tell(Event::Warning(text)))
    }

    fn tell(&mut self, event: Event<'_>) -> Result<(), Error> {
        if let Event::Warning(text) = event {
            self.warnings.add(text);
        }
        self.callbacks.iter_mut().try_for_each(|callback| heard(&mut **callback, &event))
    }
}

/// Tells one of them.
fn heard(callback: &mut dyn Callback, event: &Event<'_>) -> Result<(), Error> {
    caught("a callback", || {
        let told = callback.on_event(event);
        told.map_err(|error| Error::new(ErrorKind::Callback, "a callback failed").caused_by(error))
    })
}
