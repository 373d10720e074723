//! Classification: one class a sample.

use std::marker::PhantomData;

use burn::module::Module;
use burn::optim::ModuleOptimizer;
use burn::tensor::activation::softmax;
use burn::tensor::{Device, Int, Tensor};
use firebox_models::{Forward, batch_norms};

use crate::batch::{cross_entropy_of, forwarded, is_empty};
use crate::error::Error;
use crate::learner::Learner;
use crate::metrics::{Metrics, Predictions, accuracy};
use crate::readout::{floats, value_of};
use crate::task::{Goal, StepContext, Task, TaskState};

/// Trains a model that maps inputs of type `I` to logits `[batch, classes]` by the mean cross-entropy with the classes:
/// images to a `Cnn`, a `SequenceBatch` to a `SequenceClassifier`.
///
/// Metrics: `loss`, and `accuracy` as a fraction.
///
/// A batch with inputs that don't fit the model, with another number of classes than of inputs, or with a
/// class that the model has no logit for is refused with [`ErrorKind::Task`](crate::ErrorKind::Task), in
/// training and in evaluations; for that the classes are read from the device, once a batch. Of a batch
/// without classes [nothing is learned](Learner::learn_nothing), and nothing measured.
pub struct Classification<M, I> {
    learner: Learner<M>,
    inputs: PhantomData<fn(I)>,
}

impl<M, I> Classification<M, I>
where
    M: Module + Forward<I, Output = Tensor<2>>,
{
    /// With a model on an autodiff device.
    pub fn new(model: M, optimizer: impl Into<ModuleOptimizer>) -> Self {
        Classification { learner: Learner::new(model, optimizer), inputs: PhantomData }
    }

    /// Clips the norm of all gradients together to `max_norm` in each step: [`Learner::with_clip_norm`].
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) unless `max_norm` is a finite number above 0.
    pub fn with_clip_norm(mut self, max_norm: f64) -> Result<Self, Error> {
        self.learner = self.learner.with_clip_norm(max_norm)?;
        Ok(self)
    }

    /// Clips each element of the gradients: [`Learner::with_clip_value`].
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) unless `max_value` is a finite number above 0.
    pub fn with_clip_value(mut self, max_value: f64) -> Result<Self, Error> {
        self.learner = self.learner.with_clip_value(max_value)?;
        Ok(self)
    }

    /// Evaluates, and predicts by, a moving average of the parameters: [`Learner::with_ema`].
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) unless `decay` is from 0, below 1.
    pub fn with_ema(mut self, decay: f64) -> Result<Self, Error> {
        self.learner = self.learner.with_ema(decay)?;
        Ok(self)
    }

    /// Gives a part of the model a learning rate of its own: [`Learner::with_lr_factor`].
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) if no parameter is there, or the factor is none.
    pub fn with_lr_factor(mut self, path: &str, factor: f64) -> Result<Self, Error> {
        self.learner = self.learner.with_lr_factor(path, factor)?;
        Ok(self)
    }

    /// The model as it is now.
    pub fn model(&self) -> &M {
        self.learner.model()
    }

    /// An evaluator that also collects what the model says of every sample, in the order of the samples.
    pub fn predictor<'a>(
        &'a self,
        into: &'a mut Predictions,
    ) -> impl FnMut((I, Tensor<1, Int>)) -> Result<Metrics, Error> + 'a {
        let model = self.learner.averaged();
        move |(inputs, classes)| {
            if is_empty(&classes.dims()) {
                return Ok(Metrics::default());
            }
            let (logits, loss) = scored(&model, inputs, &classes)?;
            let metrics = judge(&logits, &classes, loss)?;
            into.extend(&logits, &classes)?;
            Ok(metrics)
        }
    }

    /// The probability of each class for a batch of inputs, without learning from them.
    ///
    /// # Errors
    /// [`ErrorKind::Task`](crate::ErrorKind::Task) for inputs that don't fit the model,
    /// [`ErrorKind::Backend`](crate::ErrorKind::Backend) if the device gives no result.
    pub fn probabilities(&self, inputs: I) -> Result<Vec<f32>, Error> {
        floats(softmax(forwarded(&self.learner.averaged(), inputs)?, 1))
    }
}

impl<M, I> Task for Classification<M, I>
where
    M: Module + Forward<I, Output = Tensor<2>>,
{
    type Batch = (I, Tensor<1, Int>);

    fn train_step(
        &mut self,
        (inputs, classes): Self::Batch,
        context: &StepContext,
    ) -> Result<Metrics, Error> {
        if is_empty(&classes.dims()) {
            return self.learner.learn_nothing(context).map(|()| Metrics::default());
        }
        let (logits, loss) = scored(self.model(), inputs, &classes)?;
        let metrics = judge(&logits.detach(), &classes, loss.clone().detach())?;
        self.learner.learn(loss, metrics.samples() as f64, context)?;
        Ok(metrics)
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
        move |(inputs, classes)| {
            if is_empty(&classes.dims()) {
                return Ok(Metrics::default());
            }
            let (logits, loss) = scored(&model, inputs, &classes)?;
            judge(&logits, &classes, loss)
        }
    }

    fn monitor(&self) -> (&'static str, Goal) {
        ("accuracy", Goal::Maximise)
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

/// What a model makes of the inputs of a batch whose classes it knows, and the loss.
fn scored<M, I>(model: &M, inputs: I, classes: &Tensor<1, Int>) -> Result<(Tensor<2>, Tensor<1>), Error>
where
    M: Forward<I, Output = Tensor<2>>,
{
    let logits = forwarded(model, inputs)?;
    let loss = cross_entropy_of(&logits, classes)?;
    Ok((logits, loss))
}

fn judge(logits: &Tensor<2>, classes: &Tensor<1, Int>, loss: Tensor<1>) -> Result<Metrics, Error> {
    let [samples, _] = logits.dims();
    let loss = value_of(&loss)?;
    let accuracy = accuracy(logits, classes)?;
    Ok(Metrics::of(samples).with_mean("loss", loss).with("accuracy", accuracy))
}
