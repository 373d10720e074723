//! One run of a trainer, from its beginning or its last checkpoint to its end.

use std::time::{Duration, Instant};

use firebox_data::LoaderState;
use firebox_data::batches::{BatchStream, Batches};
use firebox_data::loader::EpochReport;
use firebox_data::seed::{Purpose, derive_seed};
use serde_json::Value;

use super::evaluation::Evaluated;
use super::monitor::Monitor;
use super::outcome::{Clock, Outcome};
use super::restored::Restored;
use super::{Trainer, TrainerConfig, guard, optimization, place};
use crate::checkpoint::saver::{Job, Saved, Saver};
use crate::checkpoint::{Pending, RunState};
use crate::error::{Error, ErrorKind, caught, check, data_error};
use crate::event::{End, Event, Record, RecordKind};
use crate::metrics::Metrics;
use crate::run::interrupt::Interrupt;
use crate::run::json::versioned;
use crate::run::metrics_log::MetricsLog;
use crate::task::{StepContext, Task, TaskState};
use firebox_core::files;

/// The name of the data in errors.
const TRAIN: &str = "training data";

/// More checkpoints than anybody plans disk space for.
const MANY: usize = 1000;

/// The result of an evaluation for the choice of the best checkpoint.
enum Validation {
    /// It is over, or was before; `best` if it has found this to be one of the best checkpoints.
    Over { best: bool },
    /// It will be made by a resume.
    Stopped(End),
}

/// A trainer with all that it works on.
pub(super) struct Fit<'f, T, B, V> {
    trainer: &'f mut Trainer,
    task: &'f mut T,
    train: &'f B,
    valid: &'f V,
    /// Where the run stands. While a step is in hand, where it stood before that.
    state: RunState,
    saver: Saver,
    /// The settings that checkpoints hold.
    config: Value,
    clock: Clock,
    /// When the last checkpoint was begun.
    saved: Instant,
    /// A checkpoint is due as soon as the one before it is written.
    due: bool,
    /// There is a checkpoint of this step, or it is being written, that lacks the outcome of an evaluation.
    saved_before: bool,
    /// The task was asked for the norm of its gradients.
    norm_asked: bool,
    /// The counts of the task's BatchNorms before the first step, if nobody knows the device of the data.
    counted: Option<guard::Counted>,
}

/// Reasons to stop for now, beside the run's own end.
struct Asked<'a> {
    interrupt: Interrupt,
    max_seconds: Option<f64>,
    clock: &'a Clock,
}

impl<'a> Asked<'a> {
    fn of(trainer: &Trainer, clock: &'a Clock) -> Self {
        Asked { interrupt: trainer.interrupt.clone(), max_seconds: trainer.config.max_seconds, clock }
    }

    fn end(&self) -> Option<End> {
        let signal = self.interrupt.requested().map(End::Interrupted);
        let out_of_time = || self.max_seconds.is_some_and(|most| self.clock.seconds() >= most);
        signal.or_else(|| out_of_time().then_some(End::OutOfTime))
    }
}

/// Where the time of a step begins, and how long had been waited for data by then.
struct Pace {
    begun: Instant,
    waited: Duration,
}

impl<'f, T, B, V> Fit<'f, T, B, V>
where
    T: Task,
    B: Batches<Batch = T::Batch>,
    V: Batches<Batch = T::Batch>,
{
    /// Nothing of an old run is changed before its checkpoint was found good.
    pub(super) fn begin(
        trainer: &'f mut Trainer,
        task: &'f mut T,
        train: &'f B,
        valid: &'f V,
    ) -> Result<Self, Error> {
        trainer.run.check_ready(trainer.resume)?;
        if !trainer.resume {
            // Whatever stops it early, the folder then says whose run it was.
            trainer.write_settings()?;
        }
        trainer.warnings = Default::default();
        trainer.at = (0, 0);
        let checkpoints = trainer.run.checkpoints();
        let mut warnings = trainer.run.warnings();
        let restored = match trainer.resume {
            true => Some(Restored::load(trainer, &checkpoints, task, train, &mut warnings)?),
            false => None,
        };
        let mut state = match &restored {
            Some(restored) => restored.state.clone(),
            None => {
                let state = train.state(0);
                let seed = trainer.config.seed.unwrap_or(state.seed);
                RunState::new(state, seed)
            }
        };
        let settings = trainer.config.course()?;
        let changes = guard::differences(&state.settings, &settings);
        if !changes.is_empty() {
            let text = "the run goes on with other settings than before, so that it isn't the same run";
            warnings.push(format!("{text}: {}", changes.join("; ")));
        }
        state.settings = settings;
        let lr = trainer.schedule.lr(state.step);
        if let Some(before) = state.next_lr.filter(|before| *before != lr) {
            warnings.push(format!(
                "the run goes on by another schedule than before, so that it isn't the same run: \
                 the learning rate of step {} was to be {before}, and is {lr}",
                state.step
            ));
        }
        warnings.extend(optimization::warning());
        warnings.extend(guard::lone_sample(task, train, &trainer.config));
        if trainer.resume {
            trainer.write_settings()?;
        }
        let config = match &trainer.settings {
            Some(settings) => versioned(settings.clone()),
            None => {
                let seed = Some(state.seed);
                trainer.run.ensure_config(&TrainerConfig { seed, ..trainer.config.clone() })?;
                trainer.run.read_config()?
            }
        };
        trainer.log = Some(MetricsLog::open(trainer.run.metrics(), state.metrics_bytes)?);
        let saver = Saver::start(checkpoints, trainer.config.keep_last)?;
        let clock = Clock::new(state.seconds);
        let now = Instant::now();
        // What it was saved before is still to come, and adds to it.
        let saved_before = state.pending.is_some();
        trainer.at = (state.loader.epoch, state.step);
        let counted = match train.device() {
            Some(_) => None,
            None => Some(caught("the task's state", || guard::Counted::of(task))?),
        };
        let mut fit = Fit {
            trainer,
            task,
            train,
            valid,
            state,
            saver,
            config,
            clock,
            saved: now,
            due: false,
            saved_before,
            norm_asked: false,
            counted,
        };
        // What can't be written is known before the first step.
        fit.check_room()?;
        let (done, steps) = (fit.state.step, fit.trainer.config.steps(fit.train));
        let epochs = fit.trainer.config.max_epochs;
        fit.trainer.tell(Event::Started { done, steps, epochs })?;
        if let Some(Restored { path, task, .. }) = &restored {
            fit.trainer.tell(Event::Resumed { path, state: &fit.state, task })?;
        }
        for warning in &warnings {
            fit.trainer.tell(Event::Warning(warning))?;
        }
        if restored.is_none() {
            fit.save()?;
            fit.wait()?;
        }
        fit.clock = Clock::new(fit.state.seconds);
        Ok(fit)
    }

    pub(super) fn run(mut self) -> Result<Outcome, Error> {
        let end = loop {
            if self.state.pending.is_none()
                && let Some(end) = self.over()
            {
                break end;
            }
            let (end, data) = self.epoch()?;
            if let Some(end) = end {
                self.wait()?;
                if let End::Interrupted(signal) = end {
                    let path =
                        self.trainer.run.checkpoints().path().join(format!("step-{}", self.state.step));
                    let step = self.state.step;
                    self.trainer.tell(Event::Interrupted { signal, step, path: &path, data: &data })?;
                }
                break end;
            }
        };
        self.wait()?;
        self.trainer.log()?.sync()?;
        let epochs = self.trainer.config.max_epochs;
        match end {
            End::Complete | End::Stale => {
                self.trainer.at = (self.state.loader.epoch.min(epochs.saturating_sub(1)), self.state.step);
                self.trainer.tell(Event::Finished)?;
            }
            End::OutOfTime => {
                let seconds = self.clock.seconds();
                let text = format!("out of time after {seconds:.0} s: a resume with more of it goes on");
                self.trainer.tell(Event::Warning(&text))?;
            }
            End::Interrupted(_) => {}
        }
        self.trainer.tell(Event::Ended { end, state: &self.state })?;
        Ok(Outcome::of(self.state, end, std::mem::take(&mut self.trainer.warnings)))
    }

    /// The end of the run, if it was reached just now or before a resume.
    fn over(&self) -> Option<End> {
        let config = &self.trainer.config;
        let complete = self.state.loader.epoch >= config.max_epochs
            || config.max_steps.is_some_and(|most| self.state.step >= most);
        match config.patience {
            _ if complete => Some(End::Complete),
            Some(patience) if self.state.stale >= patience => Some(End::Stale),
            _ => None,
        }
    }

    /// The reason to stop for now.
    fn asked(&self) -> Option<End> {
        Asked::of(self.trainer, &self.clock).end()
    }

    /// The rest of the state's epoch, and a checkpoint: what ends the run, if something does, and the
    /// loader's account.
    fn epoch(&mut self) -> Result<(Option<End>, EpochReport), Error> {
        let epoch = self.state.loader.epoch;
        let batches = self.trainer.config.batches_of(self.train.batches(epoch));
        self.trainer.at = (epoch, self.state.step);
        self.trainer.tell(Event::EpochBegins { state: &self.state, batches })?;
        let (mut end, data) = self.train_epoch(epoch, batches)?;
        if end.is_none() {
            end = self.end_epoch(epoch, data.clone())?;
        } else if matches!(end, Some(End::Complete | End::Stale))
            && let Validation::Stopped(stopped) = self.validate(Pending::Step, true)?
        {
            end = Some(stopped);
        }
        self.state.seconds = self.clock.seconds();
        self.save()?;
        let end = end.or_else(|| self.over()).or_else(|| self.asked());
        Ok((end, data.unwrap_or_default()))
    }

    /// The steps that are left of an epoch: what has cut it short, and the loader's account of them, if there
    /// were any.
    fn train_epoch(
        &mut self,
        epoch: u64,
        batches: usize,
    ) -> Result<(Option<End>, Option<EpochReport>), Error> {
        let is_whole = |state: &RunState| state.loader.delivered() >= batches;
        let mut end = None;
        match self.state.pending {
            Some(Pending::Epoch) => return Ok((None, None)),
            Some(Pending::Step) if is_whole(&self.state) => return Ok((self.validate_between(true)?, None)),
            Some(Pending::Step) => {
                let stopped = self.validate_between(false)?;
                end = stopped.or_else(|| self.over()).or_else(|| self.asked());
            }
            None => {}
        }
        // Making the stream can take time already: its first batches are waited for.
        let mut pace = Pace { begun: Instant::now(), waited: Duration::ZERO };
        let train = self.train;
        let stream = train.resume(&self.state.loader);
        let mut stream = stream.map_err(|error| data_error(TRAIN, error))?;
        while end.is_none() && !is_whole(&self.state) && self.step(&mut *stream, &mut pace, epoch, batches)? {
            let whole = is_whole(&self.state);
            end = self.after_step(whole, &mut pace)?;
            if !whole {
                end = end.or_else(|| self.over()).or_else(|| self.asked());
            }
        }
        Ok((end, Some(stream.report())))
    }

    /// Sums an epoch up and evaluates it, as far as that wasn't done before a resume: what has stopped it.
    fn end_epoch(&mut self, epoch: u64, data: Option<EpochReport>) -> Result<Option<End>, Error> {
        let summed_up = self.state.pending == Some(Pending::Epoch);
        if !summed_up {
            self.close_epoch(data)?;
        }
        let config = &self.trainer.config;
        let last = epoch + 1 >= config.max_epochs || self.over() == Some(End::Complete);
        if (summed_up || last || (epoch + 1).is_multiple_of(config.validate_epochs))
            && let Validation::Stopped(end) = self.validate(Pending::Epoch, true)?
        {
            return Ok(Some(end));
        }
        self.state.loader = self.train.state(epoch + 1);
        self.trainer.tell(Event::EpochEnds { epoch, state: &self.state })?;
        Ok(None)
    }

    /// One step; false if there are no more data.
    fn step(
        &mut self,
        stream: &mut dyn BatchStream<T::Batch>,
        pace: &mut Pace,
        epoch: u64,
        batches: usize,
    ) -> Result<bool, Error> {
        let seed = self.state.seed;
        let lr = self.trainer.schedule.lr(self.state.step);
        let field = format_args!("step {}: learning rate", self.state.step);
        check(lr.is_finite() && lr >= 0.0, field, "a number of at least 0", lr)?;
        let mut context = StepContext::new(epoch, self.state.step, lr);
        let mut metrics = Metrics::default();
        let mut begun = false;
        let mut ahead = None;
        loop {
            let Some(batch) = ahead.take().or_else(|| stream.next()) else { return Ok(false) };
            let batch = batch.map_err(|error| data_error(TRAIN, error))?;
            let state = stream.state();
            if !begun {
                self.saved_before = false;
                self.trainer.tell(Event::StepBegins { context: &context, state: &self.state })?;
                begun = true;
            }
            let place = self.state.loader.delivered();
            context.is_optimizer_step = self.trainer.config.updates_after(place, batches);
            if !context.is_optimizer_step {
                // The batches that the step waits for may be of samples that are left out, all of them: then
                // it ends here.
                ahead = if state.delivered() < batches { stream.next() } else { None };
                context.is_optimizer_step = ahead.is_none();
            }
            self.trainer.device.seed(derive_seed(seed, Purpose::Step, epoch, place as u64));
            let task = &mut *self.task;
            let learned = caught("the step", || task.train_step(batch, &context).and_then(guard::finite));
            let is_learned = learned.as_ref().is_ok_and(|of_batch| of_batch.samples() > 0);
            if let Err(error) = learned.and_then(|of_batch| metrics.add(&of_batch)) {
                let error = error.within(self.place(epoch, &state)).at_step(self.state.step + 1);
                if *error.kind() != ErrorKind::NotFinite || !self.trainer.config.skip_not_finite {
                    return Err(error);
                }
                self.state.not_finite += 1;
                self.trainer.tell(Event::Warning(&format!("{error}; the batch is left out")))?;
            }
            self.state.loader = state;
            if context.is_optimizer_step {
                if is_learned {
                    self.ask_norm()?;
                    self.look_at_batch_norms()?;
                }
                break;
            }
        }
        let waited = stream.waited();
        let data_wait_s = (waited - pace.waited).as_secs_f64();
        let seconds = pace.begun.elapsed().as_secs_f64();
        *pace = Pace { begun: Instant::now(), waited };
        let state = &mut self.state;
        state.step += 1;
        state.running.add(&metrics)?;
        state.running_seconds += seconds;
        state.train_seconds += seconds;
        state.train_samples += metrics.samples();
        state.running_wait_s += data_wait_s;
        state.seconds = self.clock.seconds();
        self.trainer.at = (epoch, state.step);
        let gradient_norm = self.task.gradient_norm();
        self.trainer.tell(Event::StepEnds { state: &self.state })?;
        self.trainer.record(&Record {
            kind: RecordKind::Step,
            step: self.state.step,
            epoch,
            split: "train".to_owned(),
            seconds: self.state.seconds,
            samples_per_s: metrics.samples() as f64 / seconds,
            metrics,
            lr: Some(context.lr),
            gradient_norm,
            data_wait_s,
            data: None,
        })?;
        let most = self.trainer.config.norm_warning;
        if let Some(warning) = guard::norm(&mut self.state, gradient_norm, most) {
            self.trainer.tell(Event::Warning(&warning))?;
        }
        Ok(true)
    }

    /// Does what is due between two steps, and tells what has stopped it.
    ///
    /// At the end of an epoch another evaluation and
    /// checkpoint follow.
    fn after_step(&mut self, epoch_ends: bool, pace: &mut Pace) -> Result<Option<End>, Error> {
        let config = &self.trainer.config;
        let every = |steps: Option<usize>| steps.is_some_and(|every| self.state.step.is_multiple_of(every));
        let late = config.save_seconds.is_some_and(|seconds| self.saved.elapsed().as_secs_f64() >= seconds);
        self.due |= every(config.save_steps) || late;
        if every(config.validate_steps) {
            let begun = Instant::now();
            if let Some(end) = self.validate_between(epoch_ends)? {
                return Ok(Some(end));
            }
            // It is no part of the next step's time.
            pace.begun += begun.elapsed();
        }
        self.poll()?;
        if self.due && !epoch_ends && self.saver.is_idle() {
            self.save()?;
        }
        Ok(None)
    }

    /// Evaluates between two steps: what has stopped it. A checkpoint that is due comes before it, and so
    /// does that of an epoch that ends here.
    fn validate_between(&mut self, epoch_ends: bool) -> Result<Option<End>, Error> {
        self.poll()?;
        let save = epoch_ends || self.due && self.saver.is_idle();
        match self.validate(Pending::Step, save)? {
            Validation::Stopped(end) => return Ok(Some(end)),
            // What follows adds the outcome.
            Validation::Over { .. } if epoch_ends => {}
            Validation::Over { .. } if self.saved_before => self.save()?,
            Validation::Over { best: true } => {
                // One of the best checkpoints has to be there.
                self.wait()?;
                self.due = true;
            }
            Validation::Over { best: false } => {}
        }
        Ok(None)
    }

    /// Warns of a warning that can't come, once.
    fn ask_norm(&mut self) -> Result<(), Error> {
        if std::mem::replace(&mut self.norm_asked, true)
            || self.trainer.config.norm_warning == 0.0
            || self.task.gradient_norm().is_some()
        {
            return Ok(());
        }
        let text = "norm_warning: the task tells no norm of its gradients (Task::gradient_norm), so that no \
                    warning can come";
        self.trainer.tell(Event::Warning(text))
    }

    /// Warns of BatchNorms that don't learn, once.
    fn look_at_batch_norms(&mut self) -> Result<(), Error> {
        let Some(before) = self.counted.take() else { return Ok(()) };
        let now = caught("the task's state", || guard::Counted::of(self.task))?;
        match before.stayed(&now) {
            Some(warning) => self.trainer.tell(Event::Warning(&warning)),
            None => Ok(()),
        }
    }

    /// Sums an epoch up.
    fn close_epoch(&mut self, data: Option<EpochReport>) -> Result<(), Error> {
        let state = &mut self.state;
        guard::counted(&state.running, "training")?;
        let record = Record {
            kind: RecordKind::Epoch,
            step: state.step,
            epoch: state.loader.epoch,
            split: "train".to_owned(),
            seconds: state.running_seconds,
            samples_per_s: state.running.samples() as f64 / state.running_seconds,
            metrics: std::mem::take(&mut state.running),
            lr: None,
            gradient_norm: None,
            data_wait_s: state.running_wait_s,
            data,
        };
        (state.running_seconds, state.running_wait_s) = (0.0, 0.0);
        self.trainer.record(&record)
    }

    /// Evaluates the models, unless that was done after this step. It may take long, and be stopped: with
    /// `save_first` a checkpoint is begun before it.
    fn validate(&mut self, pending: Pending, save_first: bool) -> Result<Validation, Error> {
        if self.state.validated == Some(self.state.step) {
            return Ok(Validation::Over { best: false });
        }
        self.state.pending = Some(pending);
        if save_first && !self.saved_before {
            self.wait()?;
            self.hand_over(true)?;
        }
        self.trainer.tell(Event::Validating { state: &self.state })?;
        let limit = self.trainer.config.limit_valid;
        let asked = Asked::of(self.trainer, &self.clock);
        let task = &*self.task;
        let evaluated =
            self.trainer.judged(self.valid, "valid", limit, || Ok(task.evaluator()), || asked.end())?;
        let record = match evaluated {
            Evaluated::Whole(record) => record,
            Evaluated::Stopped(end) => return Ok(Validation::Stopped(end)),
        };
        let (metric, goal) = self.task.monitor();
        let Some(value) = record.metrics.value(metric) else {
            let have: Vec<_> = record.metrics.values().map(|(name, _)| name.to_owned()).collect();
            let text = format!("the monitored metric {metric} was never measured: got {}", have.join(", "));
            return Err(Error::new(ErrorKind::Task, text));
        };
        let heard = Monitor::new(&mut self.state, goal, &self.trainer.config).hear(metric, value);
        if let Some(warning) = &heard.warning {
            self.trainer.tell(Event::Warning(warning))?;
        }
        let improved = heard.improved;
        (self.state.validated, self.state.pending) = (Some(self.state.step), None);
        self.state.seconds = self.clock.seconds();
        self.trainer.schedule.observe(value);
        self.trainer.tell(Event::Validated { state: &self.state, record: &record, improved })?;
        Ok(Validation::Over { best: heard.kept })
    }

    /// Hands a checkpoint of this step to the thread that writes it. One that was begun before an evaluation
    /// lacks nothing but what that has changed.
    fn save(&mut self) -> Result<(), Error> {
        if !self.saved_before {
            self.wait()?;
        }
        self.hand_over(false)
    }

    /// Hands a checkpoint over; of a quiet one nobody is told when it is complete, since its evaluation's
    /// outcome follows.
    fn hand_over(&mut self, quiet: bool) -> Result<(), Error> {
        let task = if self.saved_before { None } else { Some(self.task_state()?) };
        let log = self.trainer.log()?;
        self.state.metrics_bytes = log.bytes();
        let log = log.another()?;
        self.state.schedule = self.trainer.schedule.state();
        self.state.next_lr = Some(self.trainer.schedule.lr(self.state.step));
        if let Some(task) = &task {
            self.trainer.tell(Event::Saving { state: &self.state, task })?;
        }
        self.saver.save(Job { state: self.state.clone(), task, quiet, config: self.config.clone(), log })?;
        (self.saved, self.due, self.saved_before) = (Instant::now(), false, quiet);
        Ok(())
    }

    fn task_state(&self) -> Result<TaskState, Error> {
        caught("the task's state", || self.task.state())
    }

    /// Hears of the checkpoints that are written.
    fn poll(&mut self) -> Result<(), Error> {
        while let Some(saved) = self.saver.poll()? {
            self.tell_saved(&saved)?;
        }
        Ok(())
    }

    /// Waits until the checkpoints in hand are written.
    fn wait(&mut self) -> Result<(), Error> {
        while let Some(saved) = self.saver.wait()? {
            self.tell_saved(&saved)?;
        }
        Ok(())
    }

    fn tell_saved(&mut self, saved: &Saved) -> Result<(), Error> {
        if !saved.quiet {
            self.trainer.tell(Event::Saved { path: &saved.path, best: saved.best })?;
        }
        saved.warnings.iter().try_for_each(|warning| self.trainer.tell(Event::Warning(warning)))
    }

    /// Fails unless the checkpoints' folder can be written to, and the disk has room for those that are still
    /// to come: those that are kept, and one that is being written.
    fn check_room(&self) -> Result<(), Error> {
        let config = &self.trainer.config;
        let checkpoints = self.trainer.run.checkpoints();
        let folder = checkpoints.path();
        checkpoints.check_writable()?;
        let kept = config.keep_last.saturating_add(config.keep_best);
        // Whoever keeps all of them doesn't know how many that is; of those that surely come there are two.
        let kept = if kept > MANY { 1 } else { kept };
        let more = (kept + 1 - checkpoints.count()?.min(kept)) as u64;
        // Parts that are made later are made here.
        let bytes = caught("the task's state", || Ok(self.task.state()?.bytes()))?;
        let (needed, free) = (more.saturating_mul(bytes), files::free_bytes(folder));
        match free {
            Some(free) if free < needed => {
                let text = format!("{more} checkpoints: expected {needed} bytes of room, got {free}");
                Err(Error::new(ErrorKind::Io, text).at_path(folder))
            }
            _ => Ok(()),
        }
    }

    /// The batch that was delivered after the state, in words. People count steps and epochs from 1.
    fn place(&self, epoch: u64, now: &LoaderState) -> String {
        let at = format!("step {}, epoch {}", self.state.step + 1, epoch + 1);
        match place::batch(self.train, &self.state.loader, now) {
            Some(batch) => format!("{at}, {batch}"),
            None => at,
        }
    }
}
