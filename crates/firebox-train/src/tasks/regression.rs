//! Regression: some numbers a sample.

use std::marker::PhantomData;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use firebox_models::Forward;
use firebox_models::layers::batch_norms;

use crate::error::{Error, ErrorKind};
use crate::learner::Learner;
use crate::metrics::{Metrics, Quantity, RSquared};
use crate::readout::floats;
use crate::task::{Goal, StepContext, Task, TaskState};
use crate::tasks::batch::{check, forwarded, is_empty};

/// Trains a model that maps inputs to numbers.
///
/// It maps inputs of type `I` to numbers `[batch, outputs]`. The loss is the mean squared error from targets
/// of that shape.
///
/// Metrics: `loss`, which is the mean squared error, `mae`, the mean absolute one, both over all numbers, and
/// `r2` ([`RSquared`]), which a single batch of one sample has not. They are computed in 64 bits.
///
/// A batch with inputs that don't fit the model, or whose targets have another shape than the predictions, is
/// refused with [`ErrorKind::Task`], in training and in evaluations. A target that is not finite is named in
/// the [`ErrorKind::NotFinite`] of its step. Of a batch without targets [nothing is
/// learned](Learner::learn_nothing), and nothing measured.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use firebox_models::layers::{Linear, LinearConfig};
/// use firebox_train::optimizer::SgdConfig;
/// use firebox_train::tasks::Regression;
/// use firebox_train::{Learner, StepContext, Task};
///
/// let device = Device::default().autodiff();
/// let learner = Learner::new(LinearConfig::new(2, 1).init(&device)?, SgdConfig::new().init()?);
/// let mut task = Regression::<Linear, Tensor<2>>::new(learner);
/// let batch = (Tensor::<2>::ones([4, 2], &device), Tensor::<2>::ones([4, 1], &device) * 3.0);
/// let metrics = task.train_step(batch, &StepContext::new(0, 0, 0.1))?;
/// assert!(metrics.value("mae").is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Regression<M, I> {
    learner: Learner<M>,
    inputs: PhantomData<fn(I)>,
}

impl<M, I> Regression<M, I>
where
    M: Module + Forward<I, Output = Tensor<2>>,
{
    /// A task that trains a learner's model, which must be on an autodiff device.
    pub fn new(learner: Learner<M>) -> Self {
        Regression { learner, inputs: PhantomData }
    }

    /// The model as it is now.
    pub fn model(&self) -> &M {
        self.learner.model()
    }

    /// The model's predictions for a batch of inputs, `outputs` numbers a sample; nothing is learned.
    ///
    /// # Errors
    /// [`ErrorKind::Task`] for inputs that don't fit the model, [`ErrorKind::Backend`] if the device gives no
    /// result.
    pub fn predictions(&self, inputs: I) -> Result<Vec<f32>, Error> {
        floats(forwarded(&self.learner.averaged(), inputs)?)
    }
}

impl<M, I> Task for Regression<M, I>
where
    M: Module + Forward<I, Output = Tensor<2>>,
{
    type Batch = (I, Tensor<2>);

    fn train_step(
        &mut self,
        (inputs, targets): Self::Batch,
        context: &StepContext,
    ) -> Result<Metrics, Error> {
        if is_empty(&targets.dims()) {
            return self.learner.learn_nothing(context).map(|()| Metrics::default());
        }
        let predictions = predicted(self.model(), inputs, &targets)?;
        let loss = (predictions.clone() - targets.clone()).square().mean();
        let metrics = judge(predictions.detach(), targets.clone())?;
        let learned = self.learner.learn(loss, metrics.samples() as f64, context);
        learned.map(|()| metrics).map_err(|error| with_bad_target(error, targets))
    }

    fn gradient_norm(&self) -> Option<f64> {
        self.learner.gradient_norm()
    }

    fn device(&self) -> Option<Device> {
        self.learner.device()
    }

    fn batch_norms(&self) -> Vec<String> {
        batch_norms(self.model())
    }

    fn evaluator(&self) -> impl FnMut(Self::Batch) -> Result<Metrics, Error> {
        let model = self.learner.averaged();
        move |(inputs, targets)| {
            if is_empty(&targets.dims()) {
                return Ok(Metrics::default());
            }
            let predictions = predicted(&model, inputs, &targets)?;
            judge(predictions, targets)
        }
    }

    fn monitor(&self) -> (&'static str, Goal) {
        ("loss", Goal::Minimize)
    }

    fn state(&self) -> Result<TaskState, Error> {
        let mut state = TaskState::default();
        self.learner.save("model", &mut state)?;
        Ok(state)
    }

    fn load(&mut self, state: &TaskState) -> Result<(), Error> {
        self.learner.load("model", state)
    }
}

/// The predictions for a batch whose targets are known.
///
/// Targets of another shape would be
/// stretched to that of the predictions, and give another loss.
fn predicted<M, I>(model: &M, inputs: I, targets: &Tensor<2>) -> Result<Tensor<2>, Error>
where
    M: Forward<I, Output = Tensor<2>>,
{
    let got = targets.dims();
    let predictions = forwarded(model, inputs)?;
    let expected = predictions.dims();
    check(expected == got, || {
        format!("targets of a regression: expected the predictions' shape {expected:?}, got {got:?}")
    })?;
    check(expected[1] > 0, || {
        format!("predictions of a regression: expected numbers, got shape {expected:?}")
    })?;
    Ok(predictions)
}

/// An error of a step, with the target that explains it in front if one is not finite.
fn with_bad_target(error: Error, targets: Tensor<2>) -> Error {
    let [_, outputs] = targets.dims();
    if *error.kind() != ErrorKind::NotFinite {
        return error;
    }
    let targets = floats(targets).unwrap_or_default();
    match targets.iter().position(|target| !target.is_finite()) {
        Some(place) => error.within(format_args!("target {} at row {}", targets[place], place / outputs)),
        None => error,
    }
}

fn judge(predictions: Tensor<2>, targets: Tensor<2>) -> Result<Metrics, Error> {
    let [samples, outputs] = predictions.dims();
    let (predictions, targets) = (floats(predictions)?, floats(targets)?);
    let sum = |error: fn(f64) -> f64| -> f64 {
        let pairs = predictions.iter().zip(&targets);
        pairs.map(|(&prediction, &target)| error(f64::from(prediction) - f64::from(target))).sum()
    };
    Ok(Metrics::of(samples)
        .with_sum("loss", sum(|error| error * error) / outputs as f64)
        .with_sum("mae", sum(f64::abs) / outputs as f64)
        .with("r2", Quantity::RSquared(RSquared::of(&targets, &predictions, outputs)?)))
}
