//! One run of a trainer, from its beginning or its last checkpoint to its end.

use std::time::{Duration, Instant};

use firebox_data::{BatchStream, Batches, EpochReport, LoaderState, Stream, derive_seed};
use serde_json::Value;

use super::Trainer;
use super::guard;
use super::outcome::{Clock, End, Outcome};
use super::restored::Restored;
use crate::checkpoint::{Best, Checkpoints, RunState};
use crate::error::{Error, ErrorKind};
use crate::event::{Event, Record, RecordKind};
use crate::files;
use crate::metrics::Metrics;
use crate::metrics_log::MetricsLog;
use crate::saver::{Job, Saved, Saver};
use crate::task::{StepContext, Task};

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
        trainer.warnings.clear();
        let checkpoints = Checkpoints::new(trainer.run.checkpoints());
        let mut warnings = trainer.run.warnings();
        let restored = match trainer.resume {
            true => Some(Restored::load(trainer, &checkpoints, task, train, &mut warnings)?),
            false => None,
        };
        let mut state = match &restored {
            Some(restored) => restored.state.clone(),
            None => RunState::new(train.state(0), trainer.config.seed),
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
        trainer.run.ensure_config(&trainer.config)?;
        trainer.log = Some(MetricsLog::open(trainer.run.metrics(), state.metrics_bytes)?);
        let saver = Saver::start(checkpoints, trainer.config.keep_last)?;
        let clock = Clock::new(state.seconds);
        let now = Instant::now();
        // Read once those that are told of the start have written theirs.
        let config = Value::Null;
        let mut fit =
            Fit { trainer, task, train, valid, state, saver, config, clock, saved: now, due: false };
        // What can't be written is known before the first step.
        fit.check_room()?;
        let (done, steps) = (fit.state.step, fit.trainer.steps(fit.train));
        let epochs = fit.trainer.config.max_epochs;
        fit.trainer.tell(Event::Started { done, steps, epochs })?;
        fit.config = fit.trainer.run.read_config()?;
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
            if let Some(end) = self.over() {
                break end;
            }
            let (end, data) = self.epoch()?;
            if let Some(end) = end {
                self.wait()?;
                if let End::Interrupted(signal) = end {
                    let path = self.trainer.run.checkpoints().join(format!("step-{}", self.state.step));
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

    /// What has ended the run, whether just now or before a resume.
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

    /// What asks to stop for now.
    fn asked(&self) -> Option<End> {
        let out_of_time = self.trainer.config.max_seconds.is_some_and(|most| self.clock.seconds() >= most);
        let signal = self.trainer.interrupt.requested().map(End::Interrupted);
        signal.or(out_of_time.then_some(End::OutOfTime))
    }

    /// The rest of the state's epoch, and a checkpoint: what ends the run, if something does, and the loader's account.
    fn epoch(&mut self) -> Result<(Option<End>, EpochReport), Error> {
        let epoch = self.state.loader.epoch;
        let batches = self.trainer.config.batches_of(self.train.batches(epoch));
        self.trainer.tell(Event::EpochBegins { state: &self.state, batches })?;
        // Making the stream can take time already: its first batches are waited for.
        let mut pace = Pace { begun: Instant::now(), waited: Duration::ZERO };
        let train = self.train;
        let mut stream = train.resume(&self.state.loader)?;
        let mut end = None;
        while end.is_none()
            && self.state.loader.delivered() < batches
            && self.step(&mut *stream, &mut pace, epoch, batches)?
        {
            let whole = self.state.loader.delivered() >= batches;
            self.after_step(whole)?;
            end = if whole { None } else { self.over().or_else(|| self.asked()) };
        }
        let data = stream.report();
        drop(stream);
        let last = epoch + 1 >= self.trainer.config.max_epochs || self.over() == Some(End::Complete);
        if end.is_none() {
            self.close_epoch(data.clone())?;
            let every = self.trainer.config.validate_epochs;
            if last || (epoch + 1).is_multiple_of(every) {
                self.validate()?;
            }
            self.state.loader = self.train.state(epoch + 1);
            self.trainer.tell(Event::EpochEnds { epoch, state: &self.state })?;
        } else if matches!(end, Some(End::Complete | End::Stale)) {
            self.validate()?;
        }
        self.state.seconds = self.clock.seconds();
        self.wait()?;
        self.save()?;
        let end = end.or_else(|| self.over()).or_else(|| self.asked());
        Ok((end, data))
    }

    /// One step; false if there are no more data.
    fn step(
        &mut self,
        stream: &mut dyn BatchStream<T::Batch>,
        pace: &mut Pace,
        epoch: u64,
        batches: usize,
    ) -> Result<bool, Error> {
        let seed = self.trainer.config.seed;
        let lr = self.trainer.schedule.lr(self.state.step);
        if !(lr.is_finite() && lr >= 0.0) {
            let text =
                format!("step {}: learning rate: expected a number of at least 0, got {lr}", self.state.step);
            return Err(Error::new(ErrorKind::Config, text));
        }
        let mut context = StepContext::new(epoch, self.state.step, lr);
        let mut metrics = Metrics::default();
        let mut begun = false;
        let mut ahead = None;
        loop {
            let Some(batch) = ahead.take().or_else(|| stream.next()) else { return Ok(false) };
            let batch = batch?;
            let state = stream.state();
            if !begun {
                self.trainer.tell(Event::StepBegins { context: &context, state: &self.state })?;
                begun = true;
            }
            let place = self.state.loader.delivered();
            context.updates = self.trainer.config.updates_after(place, batches);
            if !context.updates {
                // The batches that the step waits for may be of samples that are left out, all of them: then it ends here.
                ahead = if state.delivered() < batches { stream.next() } else { None };
                context.updates = ahead.is_none();
            }
            self.trainer.device.seed(derive_seed(seed, Stream::Step, epoch, place as u64));
            match self.task.train_step(batch, &context).and_then(guard::finite) {
                Ok(of_batch) => metrics.add(&of_batch)?,
                Err(error) if error.kind() == ErrorKind::NotFinite => {
                    let error = error.within(&self.place(epoch, &state));
                    if !self.trainer.config.skip_not_finite {
                        return Err(error);
                    }
                    self.state.not_finite += 1;
                    self.trainer.tell(Event::Warning(&format!("{error}; the batch is left out")))?;
                }
                Err(error) => return Err(error),
            }
            self.state.loader = state;
            if context.updates {
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

    /// What is due between two steps. At the end of an epoch another evaluation and checkpoint follow.
    fn after_step(&mut self, epoch_ends: bool) -> Result<(), Error> {
        let config = &self.trainer.config;
        let every = |steps: Option<usize>| steps.is_some_and(|every| self.state.step.is_multiple_of(every));
        let late = config.save_seconds.is_some_and(|seconds| self.saved.elapsed().as_secs_f64() >= seconds);
        self.due |= every(config.save_steps) || late;
        if every(config.validate_steps) && self.validate()? {
            // One of the best checkpoints has to be there.
            self.wait()?;
            self.due = true;
        }
        if let Some(saved) = self.saver.poll()? {
            self.tell_saved(&saved)?;
        }
        if self.due && !epoch_ends && self.saver.is_idle() {
            self.save()?;
        }
        Ok(())
    }

    /// Sums an epoch up.
    fn close_epoch(&mut self, data: EpochReport) -> Result<(), Error> {
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
            data: Some(data),
        };
        (state.running_seconds, state.running_wait_s) = (0.0, 0.0);
        self.trainer.record(&record)
    }

    /// Evaluates the models, unless that was done after this step: whether this is one of the best checkpoints.
    fn validate(&mut self) -> Result<bool, Error> {
        if self.state.validated == Some(self.state.step) {
            return Ok(false);
        }
        self.trainer.tell(Event::Validating { state: &self.state })?;
        let limit = self.trainer.config.limit_valid;
        let record = self.trainer.judged(self.valid, "valid", limit, self.task.evaluator())?;
        let (metric, goal) = self.task.monitor();
        let Some(value) = record.metrics.value(metric) else {
            let have: Vec<_> = record.metrics.values().map(|(name, _)| name.to_owned()).collect();
            let text = format!("the monitored metric {metric} was never measured: got {}", have.join(", "));
            return Err(Error::new(ErrorKind::Task, text));
        };
        if !value.is_finite() {
            let text = format!(
                "after step {}: the monitored metric {metric}: expected a finite number, got {value}",
                self.state.step
            );
            self.trainer.tell(Event::Warning(&text))?;
        }
        let (state, config) = (&mut self.state, &self.trainer.config);
        let better = |than: f64| match goal {
            crate::task::Goal::Maximise => than + config.min_delta,
            crate::task::Goal::Minimise => than - config.min_delta,
        };
        let improved = state.best.first().is_none_or(|best| goal.improves(better(best.value), value));
        state.stale = if improved { 0 } else { state.stale + 1 };
        let place = state.best.iter().position(|other| goal.improves(other.value, value));
        let place = place.unwrap_or(state.best.len());
        state.best.insert(place, Best { step: state.step, metric: metric.to_owned(), value });
        state.best.truncate(config.keep_best);
        state.validated = Some(state.step);
        state.seconds = self.clock.seconds();
        self.trainer.schedule.observe(value);
        self.trainer.tell(Event::Validated { state: &self.state, record: &record, improved })?;
        Ok(place < self.trainer.config.keep_best)
    }

    /// Hands a checkpoint to the thread that writes it.
    fn save(&mut self) -> Result<(), Error> {
        let task = self.task.state()?;
        let log = self.trainer.log()?;
        self.state.metrics_bytes = log.bytes();
        let log = log.another()?;
        self.state.schedule = self.trainer.schedule.state();
        self.state.next_lr = Some(self.trainer.schedule.lr(self.state.step));
        self.trainer.tell(Event::Saving { state: &self.state, task: &task })?;
        self.saver.save(Job { state: self.state.clone(), task, config: self.config.clone(), log })?;
        (self.saved, self.due) = (Instant::now(), false);
        Ok(())
    }

    /// Waits until the checkpoint in hand is written.
    fn wait(&mut self) -> Result<(), Error> {
        match self.saver.wait()? {
            Some(saved) => self.tell_saved(&saved),
            None => Ok(()),
        }
    }

    fn tell_saved(&mut self, saved: &Saved) -> Result<(), Error> {
        self.trainer.tell(Event::Saved { path: &saved.path, best: saved.best })?;
        saved.warnings.iter().try_for_each(|warning| self.trainer.tell(Event::Warning(warning)))
    }

    /// Whether the checkpoints' folder can be written to, and the disk has room for those that are still to come: those
    /// that are kept, and one that is being written.
    fn check_room(&self) -> Result<(), Error> {
        let config = &self.trainer.config;
        let folder = self.trainer.run.checkpoints();
        let checkpoints = Checkpoints::new(&folder);
        checkpoints.check_writable()?;
        let kept = config.keep_last + config.keep_best;
        let more = (kept + 1 - checkpoints.count()?.min(kept)) as u64;
        let (needed, free) = (more * self.task.state()?.bytes(), files::free_bytes(&folder));
        match free {
            Some(free) if free < needed => {
                let text = format!("{more} checkpoints: expected {needed} bytes of room, got {free}");
                Err(Error::new(ErrorKind::Io, text).at_path(folder))
            }
            _ => Ok(()),
        }
    }

    /// The batch that was delivered behind the state, in words.
    fn place(&self, epoch: u64, now: &LoaderState) -> String {
        const MOST: usize = 256;
        let before = &self.state.loader;
        let new = |batch: &usize| now.has_delivered(*batch) && !before.has_delivered(*batch);
        let batch = (0..self.train.batches(epoch)).find(new);
        let step = self.state.step + 1;
        let samples = batch.and_then(|batch| Some((batch, self.train.indices(epoch, batch)?)));
        match samples {
            Some((batch, samples)) => {
                let rest = if samples.len() > MOST { ", …" } else { "" };
                let shown: Vec<_> = samples.iter().take(MOST).map(usize::to_string).collect();
                format!("step {step}, epoch {epoch}, batch {batch}, samples {}{rest}", shown.join(", "))
            }
            None => format!("step {step}, epoch {epoch}"),
        }
    }
}
