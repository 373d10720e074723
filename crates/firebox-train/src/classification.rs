//! Classification: one class a sample.

use std::marker::PhantomData;

use burn::module::Module;
use burn::optim::ModuleOptimizer;
use burn::tensor::activation::softmax;
use burn::tensor::{Device, Int, Tensor};
use firebox_kernels::cross_entropy;
use firebox_models::Forward;

use crate::error::Error;
use crate::learner::Learner;
use crate::metrics::{Confusion, Metrics, accuracy};
use crate::readout::{floats, integers};
use crate::task::{Goal, StepContext, Task, TaskState};

/// Trains a model that maps inputs of type `I` to logits `[batch, classes]` by the mean cross-entropy with the classes:
/// images to a `Cnn`, a `SequenceBatch` to a `SequenceClassifier`.
///
/// Metrics: `loss`, and `accuracy` as a fraction.
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
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) unless `max_norm` is a finite number above 0.
    pub fn with_clip_norm(mut self, max_norm: f64) -> Result<Self, Error> {
        self.learner = self.learner.with_clip_norm(max_norm)?;
        Ok(self)
    }

    /// Clips each element of the gradients: [`Learner::with_clip_value`].
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) unless `max_value` is a finite number above 0.
    pub fn with_clip_value(mut self, max_value: f64) -> Result<Self, Error> {
        self.learner = self.learner.with_clip_value(max_value)?;
        Ok(self)
    }

    /// Evaluates, and predicts by, a moving average of the parameters: [`Learner::with_ema`].
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) unless `decay` is from 0, below 1.
    pub fn with_ema(mut self, decay: f64) -> Result<Self, Error> {
        self.learner = self.learner.with_ema(decay)?;
        Ok(self)
    }

    /// Gives a part of the model a learning rate of its own: [`Learner::with_lr_factor`].
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if no parameter is there, or the factor is none.
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
            let logits = model.forward(inputs);
            into.outputs = logits.dims()[1];
            into.classes.extend(integers(classes.clone())?);
            into.probabilities.extend(floats(softmax(logits.clone(), 1))?);
            judge(&logits, &classes, cross_entropy(logits.clone(), classes.clone()))
        }
    }

    /// The probability of each class for a batch of inputs, without learning from them.
    ///
    /// # Errors
    /// If the device gives no result.
    pub fn probabilities(&self, inputs: I) -> Result<Vec<f32>, Error> {
        floats(softmax(self.learner.averaged().forward(inputs), 1))
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
        let logits = self.model().forward(inputs);
        let loss = cross_entropy(logits.clone(), classes.clone());
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

    fn evaluator(&self) -> impl FnMut(Self::Batch) -> Result<Metrics, Error> {
        let model = self.learner.averaged();
        move |(inputs, classes)| {
            let logits = model.forward(inputs);
            judge(&logits, &classes, cross_entropy(logits.clone(), classes.clone()))
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

fn judge(logits: &Tensor<2>, classes: &Tensor<1, Int>, loss: Tensor<1>) -> Result<Metrics, Error> {
    let [samples, _] = logits.dims();
    let loss = floats(loss)?[0];
    let accuracy = accuracy(logits, classes)?;
    Ok(Metrics::of(samples).with_mean("loss", f64::from(loss)).with("accuracy", accuracy))
}

/// What a classifier says of some samples, and what is true.
#[derive(Clone, Debug, Default)]
pub struct Predictions {
    /// The true class of each sample.
    pub classes: Vec<usize>,
    outputs: usize,
    probabilities: Vec<f32>,
}

impl Predictions {
    /// The probabilities of all classes for one sample.
    pub fn probabilities(&self, sample: usize) -> &[f32] {
        &self.probabilities[sample * self.outputs..][..self.outputs]
    }

    /// The likeliest classes of a sample with their probabilities, best first.
    pub fn likeliest(&self, sample: usize) -> Vec<(usize, f32)> {
        let mut ranked: Vec<_> = self.probabilities(sample).iter().copied().enumerate().collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
        ranked
    }

    /// Which class was taken for which.
    pub fn confusion(&self) -> Confusion {
        let mut confusion = Confusion::new(self.outputs);
        for (sample, &class) in self.classes.iter().enumerate() {
            confusion.count(class, self.likeliest(sample)[0].0);
        }
        confusion
    }
}
