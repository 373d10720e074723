//! Passes over data that are not learned from.

use std::time::Instant;

use firebox_data::batches::Batches;
use firebox_data::seed::{Purpose, derive_seed};

use super::{Trainer, devices, guard, place};
use crate::error::{Error, ErrorKind, caught, data_error};
use crate::event::{Event, Record, RecordKind};
use crate::metrics::Metrics;
use crate::run::signal::Signal;

/// The result of an evaluation.
pub(super) enum Evaluated<S> {
    /// It is over, and recorded.
    Whole(Box<Record>),
    /// Something stopped it between two batches. Nothing is recorded.
    Stopped(S),
}

impl Trainer {
    /// One pass over data that are not learned from, judged by `judge`, such as
    /// [`Task::evaluator`](crate::Task::evaluator). Recorded as `split`. Burn's generator is seeded before
    /// each batch, so that what `judge` draws is the same each time.
    ///
    /// ```
    /// # use burn::tensor::{Device, Tensor};
    /// # use firebox_data::{Loader, Scalar, Stack};
    /// # use firebox_models::layers::{Linear, LinearConfig};
    /// # use firebox_train::optimizer::AdamConfig;
    /// # use firebox_train::tasks::Classification;
    /// # use firebox_train::{Learner, RunDir, Task, Trainer};
    /// #
    /// # let device = Device::default();
    /// # let loader = |numbers: std::ops::Range<u16>| {
    /// #     let layout = (Stack::<f32, 1>::new([1]), Scalar::<i64>::new());
    /// #     let builder = Loader::builder(numbers.collect::<Vec<_>>()).batch_size(10);
    /// #     builder.build(layout, |number, _, (input, class)| {
    /// #         input.fill(f32::from(number % 2));
    /// #         *class = i64::from(number % 2);
    /// #         Ok(())
    /// #     })
    /// # };
    /// # let model = LinearConfig::new(1, 2).init(&device.clone().autodiff())?;
    /// # let learner = Learner::new(model, AdamConfig::new().init()?);
    /// # let task = Classification::<Linear, Tensor<2>>::new(learner);
    /// # let folder = tempfile::tempdir()?;
    /// # let run = RunDir::create(folder.path().join("run"))?;
    /// // … a task of `Classification` and a loader of 20 samples, whose class is their input; then:
    /// let test = loader(0..20)?.on_device(&device)?;
    /// let record = Trainer::new(&run, &device).evaluate(&test, "test", task.evaluator())?;
    /// assert_eq!((record.split.as_str(), record.metrics.samples()), ("test", 20));
    /// assert!(record.metrics.value("loss").is_some());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The loader's, the task's, a callback's, with the batch and its samples where one is to blame;
    /// [`ErrorKind::Panic`] for a panic of theirs; [`ErrorKind::Config`] if the data are on an autodiff
    /// device, or on another than the trainer's, or if samples are among `data` that this trainer has trained
    /// on, as [`fit`](Self::fit) refuses them, unless `split` is `train`; [`ErrorKind::NotFinite`] for a loss
    /// that is not finite, unless such batches are to be [left
    /// out](crate::trainer::TrainerConfig::skip_not_finite); [`ErrorKind::Task`] for a metric that was
    /// counted for no sample. [`ErrorKind::Interrupted`] if a signal came meanwhile, which is heard between
    /// two batches: then nothing is recorded.
    pub fn evaluate<V>(
        &mut self,
        data: &V,
        split: &str,
        judge: impl FnMut(V::Batch) -> Result<Metrics, Error>,
    ) -> Result<Record, Error>
    where
        V: Batches,
    {
        caught("the evaluation", || {
            devices::plain(data, &self.device, split)?;
            if split != "train" {
                guard::apart(self.learned.as_ref(), data, split)?;
            }
            let stop = self.signals();
            match self.judged(data, split, None, || Ok(judge), stop)? {
                Evaluated::Whole(record) => Ok(*record),
                Evaluated::Stopped(signal) => Err(stopped(signal, &format!("{split} data"))),
            }
        })
    }

    /// The predictions for each batch, in the order of the batches.
    ///
    /// ```
    /// # use burn::tensor::{Device, Tensor};
    /// # use firebox_data::{Loader, Scalar, Stack};
    /// # use firebox_models::layers::{Linear, LinearConfig};
    /// # use firebox_train::optimizer::AdamConfig;
    /// # use firebox_train::tasks::Classification;
    /// # use firebox_train::{Learner, RunDir, Trainer};
    /// #
    /// # let device = Device::default();
    /// # let loader = |numbers: std::ops::Range<u16>| {
    /// #     let layout = (Stack::<f32, 1>::new([1]), Scalar::<i64>::new());
    /// #     let builder = Loader::builder(numbers.collect::<Vec<_>>()).batch_size(10);
    /// #     builder.build(layout, |number, _, (input, class)| {
    /// #         input.fill(f32::from(number % 2));
    /// #         *class = i64::from(number % 2);
    /// #         Ok(())
    /// #     })
    /// # };
    /// # let model = LinearConfig::new(1, 2).init(&device.clone().autodiff())?;
    /// # let learner = Learner::new(model, AdamConfig::new().init()?);
    /// # let task = Classification::<Linear, Tensor<2>>::new(learner);
    /// # let folder = tempfile::tempdir()?;
    /// # let run = RunDir::create(folder.path().join("run"))?;
    /// // … a task of `Classification` and a loader of 20 samples, whose class is their input; then:
    /// let data = loader(0..20)?.on_device(&device)?;
    /// let trainer = Trainer::new(&run, &device);
    /// let batches = trainer.predict(&data, |(inputs, _classes)| task.probabilities(inputs))?;
    /// assert_eq!(batches.concat().len(), 20 * 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The loader's, and those of `predict` with the batch and its samples; [`ErrorKind::Panic`] for a panic
    /// of theirs; [`ErrorKind::Config`] if the data are on an autodiff device, or on another than the
    /// trainer's; [`ErrorKind::Interrupted`] if a signal came meanwhile.
    pub fn predict<V, P>(
        &self,
        data: &V,
        mut predict: impl FnMut(V::Batch) -> Result<P, Error>,
    ) -> Result<Vec<P>, Error>
    where
        V: Batches,
    {
        const NAME: &str = "data to predict";
        caught("the prediction", || {
            devices::plain(data, &self.device, "prediction")?;
            let stop = self.signals();
            let (mut stream, mut before) = (data.epoch(0), data.state(0));
            let mut predictions = Vec::new();
            while let Some(batch) = stream.next() {
                let batch = batch.map_err(|error| data_error(NAME, error))?;
                if let Some(signal) = stop() {
                    return Err(stopped(signal, NAME));
                }
                let now = stream.state();
                self.seed_evaluation(predictions.len());
                let predicted = caught("the prediction", || predict(batch));
                predictions.push(predicted.map_err(|error| match place::batch(data, &before, &now) {
                    Some(batch) => error.within(format_args!("{NAME}, {batch}")),
                    None => error.within(NAME),
                })?);
                before = now;
            }
            Ok(predictions)
        })
    }

    /// An evaluation of at most `limit` batches by what `judge` makes, unless `stop` says that it should end
    /// before its last batch.
    pub(super) fn judged<V, J, S>(
        &mut self,
        data: &V,
        split: &str,
        limit: Option<usize>,
        judge: impl FnOnce() -> Result<J, Error>,
        stop: impl Fn() -> Option<S>,
    ) -> Result<Evaluated<S>, Error>
    where
        V: Batches,
        J: FnMut(V::Batch) -> Result<Metrics, Error>,
    {
        let begun = Instant::now();
        let name = format!("{} data", if split == "valid" { "validation" } else { split });
        let (epoch, step) = self.at;
        // People count from 1.
        let at = format!("after step {step}, epoch {}, {name}", epoch + 1);
        let mut judge = caught("the evaluation", judge).map_err(|error| error.within(&at).at_step(step))?;
        let mut metrics = Metrics::default();
        let (mut stream, mut before) = (data.epoch(0), data.state(0));
        let (mut batches, mut left_out) = (0, 0);
        while batches < limit.unwrap_or(usize::MAX)
            && let Some(batch) = stream.next()
        {
            let batch = batch.map_err(|error| data_error(&name, error))?;
            let now = stream.state();
            if let Some(end) = stop() {
                return Ok(Evaluated::Stopped(end));
            }
            self.seed_evaluation(batches);
            batches += 1;
            let judged = caught("the evaluation", || judge(batch).and_then(guard::finite));
            if let Err(error) = judged.and_then(|of_batch| metrics.add(&of_batch)) {
                let error = match place::batch(data, &before, &now) {
                    Some(batch) => error.within(format_args!("{at}, {batch}")),
                    None => error.within(&at),
                };
                let error = error.at_step(step);
                if *error.kind() != ErrorKind::NotFinite || !self.config.skip_not_finite {
                    return Err(error);
                }
                left_out += 1;
                self.tell(Event::Warning(&format!("{error}; the batch is left out")))?;
            }
            before = now;
        }
        if metrics.samples() == 0 {
            guard::not_empty(&name, data)?;
            let text = match left_out {
                0 => format!("the {name} have no sample"),
                _ => format!("{at}: expected a batch with a finite loss, got none in {batches}"),
            };
            let kind = if left_out == 0 { ErrorKind::Config } else { ErrorKind::NotFinite };
            return Err(Error::new(kind, text));
        }
        guard::counted(&metrics, split)?;
        let seconds = begun.elapsed().as_secs_f64();
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
        Ok(Evaluated::Whole(Box::new(record)))
    }

    /// A function that tells the signal that asks to stop, unless a fit has stopped by it already: whoever
    /// looks at such a run wants to.
    fn signals(&self) -> impl Fn() -> Option<Signal> + use<> {
        let (interrupt, heard) = (self.interrupt.clone(), self.heard);
        move || interrupt.requested().filter(|_| !heard)
    }

    /// Evaluations are comparable, and don't depend on what a run has done before, or whether there was one.
    fn seed_evaluation(&self, batch: usize) {
        let seed = self.config.seed.unwrap_or(0);
        self.device.seed(derive_seed(seed, Purpose::Evaluation, 0, batch as u64));
    }
}

fn stopped(signal: Signal, name: &str) -> Error {
    let text = format!("{name}: stopped by {}, and nothing of it is recorded", signal.name());
    Error::new(ErrorKind::Interrupted(signal), text)
}
