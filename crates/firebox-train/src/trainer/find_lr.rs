//! Training for a few steps at rising rates, of which nothing is left.

use firebox_data::batches::Batches;
use firebox_data::seed::{Purpose, derive_seed};

use super::{Trainer, devices, guard, place};
use crate::error::{Error, ErrorKind, caught, data_error};
use crate::metrics::Metrics;
use crate::task::{StepContext, Task};
use crate::trainer::lr_finder::{LrCurve, LrFinder};

impl Trainer {
    /// Tries learning rates on the first batches of `train`, a step each.
    ///
    /// Steps are taken as [`fit`](Self::fit) would take them, with the same batches, random numbers and
    /// accumulation; data of fewer steps are gone through again. Afterwards the task is what it was: its
    /// state is taken before and loaded afterwards, after an error too. Nothing is recorded or saved, and no
    /// callback is told. An [`Interrupt`](crate::run::Interrupt) ends the search with what it has seen.
    ///
    /// ```
    /// # use burn::tensor::{Device, Tensor};
    /// # use firebox_data::{Loader, Scalar, Stack};
    /// # use firebox_models::layers::{Linear, LinearConfig};
    /// # use firebox_train::optimizer::AdamConfig;
    /// # use firebox_train::tasks::Classification;
    /// # use firebox_train::trainer::LrFinder;
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
    /// # let mut task = Classification::<Linear, Tensor<2>>::new(learner);
    /// # let folder = tempfile::tempdir()?;
    /// # let run = RunDir::create(folder.path().join("run"))?;
    /// // … a task of `Classification` and a loader of 80 samples, whose class is their input; then:
    /// let train = loader(0..80)?.on_device(&device.clone().autodiff())?;
    /// let before = task.state()?;
    /// let finder = LrFinder::new().with_steps(20)?;
    /// let curve = Trainer::new(&run, &device).find_lr(&finder, &mut task, &train)?;
    /// println!("the loss falls fastest at {:?}", curve.steepest());
    /// assert!(!curve.points().is_empty() && task.state()? == before);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The loader's and the task's, with step, epoch, batch and samples; [`ErrorKind::Panic`] for a panic of
    /// theirs; [`ErrorKind::Config`] if model or data are on the wrong device, or there are no data;
    /// [`ErrorKind::NotFinite`] if not even the first loss is finite: a later one that isn't ends the search.
    /// [`ErrorKind::Task`] if the steps don't have the metric.
    pub fn find_lr<T, B>(&self, finder: &LrFinder, task: &mut T, train: &B) -> Result<LrCurve, Error>
    where
        T: Task,
        B: Batches<Batch = T::Batch>,
    {
        self.config.check()?;
        let before = caught("the search", || {
            guard::not_empty("training data", train)?;
            devices::training(task, train, &self.device)?;
            task.state()
        })?;
        let found = caught("the search", || self.rising(finder, task, train));
        // Also after a panic: a load replaces all of its state.
        match (found, caught("the task's load", || task.load(&before))) {
            (found, Ok(())) => found,
            (Ok(_), Err(error)) => Err(error),
            (Err(error), Err(more)) => Err(error.followed_by(more)),
        }
    }

    fn rising<T, B>(&self, finder: &LrFinder, task: &mut T, train: &B) -> Result<LrCurve, Error>
    where
        T: Task,
        B: Batches<Batch = T::Batch>,
    {
        let mut curve = LrCurve::new(finder);
        let seed = self.config.seed.unwrap_or_else(|| train.state(0).seed);
        for epoch in 0.. {
            let (begun, batches) = (curve.steps(), self.config.batches_of(train.batches(epoch)));
            let mut metrics = Metrics::default();
            let (mut stream, mut before) = (train.epoch(epoch), train.state(epoch));
            for place in 0..batches {
                let Some(batch) = stream.next() else { break };
                let batch = batch.map_err(|error| data_error("training data", error))?;
                let now = stream.state();
                let step = curve.steps();
                let mut context = StepContext::new(epoch, step, finder.lr(step));
                context.is_optimizer_step = self.config.updates_after(place, batches);
                self.device.seed(derive_seed(seed, Purpose::Step, epoch, place as u64));
                let learned = caught("the step", || task.train_step(batch, &context));
                if let Err(error) = learned.and_then(|of_batch| metrics.add(&of_batch)) {
                    let at = format!("step {}, epoch {}", step + 1, epoch + 1);
                    let error = match place::batch(train, &before, &now) {
                        Some(batch) => error.within(format_args!("{at}, {batch}")),
                        None => error.within(&at),
                    };
                    let error = error.at_step(step + 1);
                    if *error.kind() != ErrorKind::NotFinite {
                        return Err(error);
                    }
                    if step == 0 {
                        return Err(never_finite(context.lr).caused_by(error));
                    }
                    curve.diverge();
                    return Ok(curve);
                }
                before = now;
                if !context.is_optimizer_step {
                    continue;
                }
                if metrics.samples() == 0 {
                    // Nothing was learned at this rate, and nothing is told by it.
                    continue;
                }
                curve.add(measured(&std::mem::take(&mut metrics), finder.metric())?);
                if curve.steps() == 0 {
                    return Err(never_finite(context.lr));
                }
                if curve.is_complete() || self.interrupt.requested().is_some() {
                    return Ok(curve);
                }
            }
            if curve.steps() == begun {
                return Err(Error::new(ErrorKind::Config, "the training data have no batch"));
            }
        }
        Ok(curve)
    }
}

fn measured(metrics: &Metrics, metric: &str) -> Result<f64, Error> {
    metrics.value(metric).ok_or_else(|| {
        let have: Vec<_> = metrics.values().map(|(name, _)| name.to_owned()).collect();
        let text = format!("learning-rate finder: expected the metric {metric}, got {}", have.join(", "));
        Error::new(ErrorKind::Task, text)
    })
}

fn never_finite(lr: f64) -> Error {
    let text =
        format!("learning-rate finder: the loss was never finite, from the first step on at rate {lr:e}");
    Error::new(ErrorKind::NotFinite, text)
}
