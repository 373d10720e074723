//! Classification: one class a sample.

use std::marker::PhantomData;

use burn::module::Module;
use burn::tensor::activation::softmax;
use burn::tensor::{Device, Int, Tensor};
use firebox_models::Forward;
use firebox_models::layers::batch_norms;

use crate::error::{Error, check};
use crate::learner::Learner;
use crate::metrics::{Metrics, Predictions, accuracy};
use crate::readout::{floats, to_scalar};
use crate::task::{Goal, StepContext, Task, TaskState};
use crate::tasks::batch::{cross_entropy_of, forwarded, is_empty};
use crate::tasks::class_metric::ClassMetric;

/// Trains a model that maps inputs to one class each.
///
/// It maps inputs of type `I`, images to a `Cnn`, a `SequenceBatch` to a `SequenceClassifier`, to logits
/// `[batch, classes]`. The loss is the mean cross-entropy with the classes.
///
/// Metrics: `loss`, `accuracy` as a fraction, and those that [`with_metric`](Self::with_metric) adds.
///
/// A batch with inputs that don't fit the model, with another number of classes than of inputs, or with a
/// class that the model has no logit for is refused with [`ErrorKind::Task`](crate::ErrorKind::Task), in
/// training and in evaluations; for that the classes are read from the device, once a batch. Of a batch
/// without classes [nothing is learned](Learner::learn_nothing), and nothing measured.
///
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// use firebox_models::layers::{Linear, LinearConfig};
/// use firebox_train::optimizer::SgdConfig;
/// use firebox_train::tasks::Classification;
/// use firebox_train::{Learner, StepContext, Task};
///
/// let device = Device::default().autodiff();
/// let learner = Learner::new(LinearConfig::new(2, 3).init(&device)?, SgdConfig::new().init()?);
/// let mut task = Classification::<Linear, Tensor<2>>::new(learner);
/// let batch = (Tensor::<2>::ones([4, 2], &device), Tensor::<1, Int>::zeros([4], &device));
/// let first = task.train_step(batch.clone(), &StepContext::new(0, 0, 0.1))?;
/// let second = task.train_step(batch, &StepContext::new(0, 1, 0.1))?;
/// assert!(second.value("loss") < first.value("loss"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Classification<M, I> {
    learner: Learner<M>,
    metrics: Vec<ClassMetric>,
    monitor: (String, Goal),
    inputs: PhantomData<fn(I)>,
}

const LOSS: &str = "loss";
const ACCURACY: &str = "accuracy";

impl<M, I> Classification<M, I>
where
    M: Module + Forward<I, Output = Tensor<2>>,
{
    /// A task that trains a learner's model, which must be on an autodiff device.
    pub fn new(learner: Learner<M>) -> Self {
        let monitor = (ACCURACY.to_owned(), Goal::Maximize);
        Classification { learner, metrics: Vec::new(), monitor, inputs: PhantomData }
    }

    /// Measures one more metric of each batch: an AUROC, an F1, or another.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) if another metric has its name.
    ///
    /// ```
    /// use burn::tensor::{Device, Tensor};
    /// use firebox_models::layers::{Linear, LinearConfig};
    /// use firebox_train::optimizer::AdamConfig;
    /// use firebox_train::task::Goal;
    /// use firebox_train::tasks::{ClassMetric, Classification};
    /// use firebox_train::{Learner, Task};
    ///
    /// let model = LinearConfig::new(4, 2).init(&Device::default().autodiff())?;
    /// let task = Classification::<Linear, Tensor<2>>::new(Learner::new(model, AdamConfig::new().init()?))
    ///     .with_metric(ClassMetric::auroc().in_evaluations_only())?
    ///     .with_metric("f1".parse()?)?
    ///     .monitor("auroc", Goal::Maximize)?;
    /// assert_eq!(Task::monitor(&task), ("auroc", Goal::Maximize));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_metric(mut self, metric: ClassMetric) -> Result<Self, Error> {
        let taken = self.names().any(|name| name == metric.name());
        let have = self.names().collect::<Vec<_>>().join(", ");
        check(!taken, "metric", format_args!("a name that is none of {have}"), metric.name())?;
        self.metrics.push(metric);
        Ok(self)
    }

    /// Lets another metric than the accuracy decide which checkpoint is the best.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) unless it is `loss`, `accuracy`, or one that
    /// was [added](Self::with_metric) before.
    pub fn monitor(mut self, metric: &str, goal: Goal) -> Result<Self, Error> {
        let known = self.names().any(|name| name == metric);
        let have = self.names().collect::<Vec<_>>().join(", ");
        check(known, "monitored metric", format_args!("one of {have}"), metric)?;
        self.monitor = (metric.to_owned(), goal);
        Ok(self)
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        [LOSS, ACCURACY].into_iter().chain(self.metrics.iter().map(ClassMetric::name))
    }

    /// The model as it is now.
    pub fn model(&self) -> &M {
        self.learner.model()
    }

    /// An evaluator that also collects the predictions, in the order of the samples.
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
            let metrics = judge(&logits, &classes, loss, &self.metrics)?;
            into.extend(&logits, &classes)?;
            Ok(metrics)
        }
    }

    /// The probability of each class for a batch of inputs, without learning from them.
    ///
    /// ```
    /// use burn::tensor::{Device, Tensor};
    /// use firebox_models::layers::{Linear, LinearConfig};
    /// use firebox_train::Learner;
    /// use firebox_train::optimizer::SgdConfig;
    /// use firebox_train::tasks::Classification;
    ///
    /// let model = LinearConfig::new(4, 3).init(&Device::default().autodiff())?;
    /// let task = Classification::<Linear, Tensor<2>>::new(Learner::new(model, SgdConfig::new().init()?));
    /// let probabilities = task.probabilities(Tensor::zeros([2, 4], &Device::default()))?;
    /// assert_eq!(probabilities.len(), 2 * 3);
    /// assert!((probabilities[..3].iter().sum::<f32>() - 1.0).abs() < 1e-6);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
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
        let measured = self.metrics.iter().filter(|metric| metric.is_of_training());
        let metrics = judge(&logits.detach(), &classes, loss.clone().detach(), measured)?;
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
            judge(&logits, &classes, loss, &self.metrics)
        }
    }

    fn monitor(&self) -> (&str, Goal) {
        (&self.monitor.0, self.monitor.1)
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

/// The logits of a batch whose classes are known, and the loss.
fn scored<M, I>(model: &M, inputs: I, classes: &Tensor<1, Int>) -> Result<(Tensor<2>, Tensor<1>), Error>
where
    M: Forward<I, Output = Tensor<2>>,
{
    let logits = forwarded(model, inputs)?;
    let loss = cross_entropy_of(&logits, classes)?;
    Ok((logits, loss))
}

fn judge<'m>(
    logits: &Tensor<2>,
    classes: &Tensor<1, Int>,
    loss: Tensor<1>,
    more: impl IntoIterator<Item = &'m ClassMetric>,
) -> Result<Metrics, Error> {
    let [samples, _] = logits.dims();
    let metrics =
        Metrics::of(samples).with_mean(LOSS, to_scalar(&loss)?).with(ACCURACY, accuracy(logits, classes)?);
    more.into_iter().try_fold(metrics, |metrics, metric| {
        let measured = metric.measure(logits, classes).map_err(|error| error.within(metric.name()))?;
        Ok(metrics.with(metric.name(), measured))
    })
}
