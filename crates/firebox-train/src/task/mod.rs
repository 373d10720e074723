//! The task of a run: its models and its steps, apart from how long, on what and with which records.

mod finite;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use burn::tensor::Device;
use firebox_weights::StateDict;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{Error, ErrorKind};
use crate::metrics::Metrics;

/// The place of a step in a run.
///
/// ```
/// use firebox_train::StepContext;
///
/// // The third batch of the first epoch, at a rate of 0.01.
/// let context = StepContext::new(0, 2, 0.01);
/// assert!(context.is_optimizer_step);
/// assert!(!context.without_update().is_optimizer_step);
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct StepContext {
    /// The epoch, from 0.
    pub epoch: u64,
    /// The step, from 0 over all epochs.
    pub step: usize,
    /// The schedule's learning rate for this step.
    pub lr: f64,
    /// True if the parameters move after this batch.
    ///
    /// With gradient accumulation a step has several batches,
    /// and they do after its last one.
    pub is_optimizer_step: bool,
}

/// The direction in which a metric gets better.
///
/// ```
/// use firebox_train::task::Goal;
///
/// assert!(Goal::Minimize.improves(0.5, 0.4));
/// assert!(!Goal::Maximize.improves(0.5, f64::NAN));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// More is better.
    Maximize,
    /// Less is better.
    Minimize,
}

impl StepContext {
    /// A place in a run, for a task that is stepped by hand.
    pub fn new(epoch: u64, step: usize, lr: f64) -> Self {
        StepContext { epoch, step, lr, is_optimizer_step: true }
    }

    /// The same place, for a batch of the step that isn't its last one.
    pub fn without_update(mut self) -> Self {
        self.is_optimizer_step = false;
        self
    }
}

impl Goal {
    /// Tells if `new` is better than `old`.
    ///
    /// Any number is better than NaN, which is never better.
    pub fn improves(self, old: f64, new: f64) -> bool {
        let better = match self {
            Goal::Maximize => new > old,
            Goal::Minimize => new < old,
        };
        better || old.is_nan() && !new.is_nan()
    }
}

/// A training task: it owns its models and optimizers and says what a step is.
///
/// The trainer owns everything else: the order of steps, the learning rate, checkpoints, records. Random
/// numbers drawn from Burn's generator within [`train_step`](Task::train_step) follow from (seed, epoch,
/// step).
///
/// # A task of one's own
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use firebox_models::Forward;
/// use firebox_models::layers::{Linear, LinearConfig};
/// use firebox_train::metrics::Metrics;
/// use firebox_train::optimizer::AdamConfig;
/// use firebox_train::task::{Goal, TaskState};
/// use firebox_train::{Error, Learner, StepContext, Task, to_scalar};
///
/// /// Learns to give back what it is given.
/// struct Copying {
///     learner: Learner<Linear>,
/// }
///
/// impl Task for Copying {
///     type Batch = Tensor<2>;
///
///     fn train_step(&mut self, batch: Tensor<2>, context: &StepContext) -> Result<Metrics, Error> {
///         let samples = batch.dims()[0];
///         let loss = (self.learner.model().forward(batch.clone()) - batch).square().mean();
///         let metrics = Metrics::of(samples).with_mean("loss", to_scalar(&loss)?);
///         self.learner.learn(loss, samples as f64, context)?;
///         Ok(metrics)
///     }
///
///     fn evaluator(&self) -> impl FnMut(Tensor<2>) -> Result<Metrics, Error> {
///         let model = self.learner.averaged();
///         move |batch| {
///             let samples = batch.dims()[0];
///             let loss = (model.forward(batch.clone()) - batch).square().mean();
///             Ok(Metrics::of(samples).with_mean("loss", to_scalar(&loss)?))
///         }
///     }
///
///     fn monitor(&self) -> (&str, Goal) {
///         ("loss", Goal::Minimize)
///     }
///
///     fn state(&self) -> Result<TaskState, Error> {
///         let mut state = TaskState::default();
///         self.learner.save("model", &mut state)?;
///         Ok(state)
///     }
///
///     fn load(&mut self, state: &TaskState) -> Result<(), Error> {
///         self.learner.load("model", state)
///     }
/// }
///
/// let device = Device::default().autodiff();
/// let model = LinearConfig::new(3, 3).init(&device)?;
/// let mut task = Copying { learner: Learner::new(model, AdamConfig::new().init()?) };
/// let batch = Tensor::<2>::ones([4, 3], &device);
/// let first = task.train_step(batch.clone(), &StepContext::new(0, 0, 0.1))?;
/// let second = task.train_step(batch, &StepContext::new(0, 1, 0.1))?;
/// assert!(second.value("loss") < first.value("loss"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Step by hand, without a trainer
///
/// ```
/// use burn::tensor::Tensor;
/// use firebox_train::{Error, StepContext, Task};
///
/// fn three_steps<T: Task<Batch = Tensor<2>>>(task: &mut T, batch: Tensor<2>) -> Result<(), Error> {
///     (0..3).try_for_each(|step| {
///         let metrics = task.train_step(batch.clone(), &StepContext::new(0, step, 1e-3))?;
///         println!("step {step}: {:?}", metrics.value("loss"));
///         Ok(())
///     })
/// }
/// ```
pub trait Task {
    /// The tensors of one batch.
    type Batch;

    /// Learns from one batch and says how it went, by means over the batch's samples. The parameters move if
    /// the context says so: [`Learner::learn`](crate::Learner::learn) heeds it.
    ///
    /// A batch may have 0 samples, where a rank has none of a batch and others have. It has weight 0:
    /// [`Learner::learn_nothing`](crate::Learner::learn_nothing) learns from it, and its metrics are of no
    /// samples, in evaluations too.
    ///
    /// # Errors
    /// Whatever makes it senseless to go on. [`ErrorKind::NotFinite`] says that this batch was not learned
    /// from, and can be [skipped](crate::trainer::TrainerConfig::skip_not_finite).
    fn train_step(&mut self, batch: Self::Batch, context: &StepContext) -> Result<Metrics, Error>;

    /// Judges batches with the models as they are now, without learning from them.
    fn evaluator(&self) -> impl FnMut(Self::Batch) -> Result<Metrics, Error>;

    /// The metric that decides which checkpoint is the best.
    fn monitor(&self) -> (&str, Goal);

    /// The norm of the last step's gradients, for the records, and so that the trainer can warn of one that
    /// explodes.
    ///
    /// `None` if that step had none. A task that never tells one has no such warning, and the trainer says so
    /// when it was asked for. [`Learner::gradient_norm`](crate::Learner::gradient_norm) is what to hand on.
    fn gradient_norm(&self) -> Option<f64> {
        None
    }

    /// The paths of the BatchNorms that normalize by the batch in training, for a warning before the run.
    ///
    /// None of them is known by default; `firebox_models::layers::batch_norms` finds those of a module.
    fn batch_norms(&self) -> Vec<String> {
        Vec::new()
    }

    /// The device of the model that learns, if it is known: the trainer looks whether it and the data fit
    /// together.
    fn device(&self) -> Option<Device> {
        None
    }

    /// Everything that a resumed run needs: models, optimizers, and what else the task carries from step to
    /// step.
    ///
    /// # Errors
    /// If some state has no form as tensors or JSON.
    fn state(&self) -> Result<TaskState, Error>;

    /// Takes the state back.
    ///
    /// # Errors
    /// [`ErrorKind::Checkpoint`] if it is the state of something else.
    fn load(&mut self, state: &TaskState) -> Result<(), Error>;
}

/// The state of a task: tensors and values by name.
///
/// Tensors are in parts such as `model` and `model.optimizer`, each of which becomes
/// one file, and other values by name, as JSON.
///
/// ```
/// use firebox_train::task::TaskState;
///
/// let mut state = TaskState::default();
/// state.insert_value("size", &0.25)?;
/// assert_eq!(state.value::<f64>("size")?, 0.25);
/// // JSON has no NaN.
/// assert!(state.insert_value("size", &f64::NAN).is_err());
/// # Ok::<(), firebox_train::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TaskState {
    tensors: BTreeMap<String, Part>,
    values: BTreeMap<String, Value>,
}

impl TaskState {
    /// Adds a part, or replaces it. Its name becomes a file's: letters, digits, dots, dashes and underscores,
    /// of which it begins with a letter or a digit. A checkpoint with another name, or with two that differ
    /// in upper and lower case only, is refused.
    pub fn insert(&mut self, name: impl Into<String>, part: StateDict) {
        self.tensors.insert(name.into(), Part::Made(part));
    }

    /// Adds a part that is made when it is first asked for, once.
    ///
    /// The thread that writes checkpoints may make it, so that a step is not kept waiting for it. `make` must
    /// own what it needs, as it is now.
    pub fn insert_later(
        &mut self,
        name: impl Into<String>,
        make: impl FnOnce() -> Result<StateDict, Error> + Send + 'static,
    ) {
        let make: Make = Box::new(make);
        self.tensors.insert(name.into(), Part::Later(Arc::new(LazyLock::new(make))));
    }

    /// One part.
    ///
    /// # Errors
    /// [`ErrorKind::Checkpoint`] if it is not there; its own if it was to be made later and can't be.
    pub fn get(&self, name: &str) -> Result<&StateDict, Error> {
        self.tensors.get(name).ok_or_else(|| absent("part", name, self.tensors.keys()))?.made()
    }

    /// The parts in the order of their names. One that can't be made is left out; [`get`](Self::get) says
    /// why.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &StateDict)> {
        self.tensors.iter().filter_map(|(name, part)| Some((name.as_str(), part.made().ok()?)))
    }

    /// The names of the parts, also of those that aren't made yet.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Makes the parts that aren't made yet, if each can be a file of its own.
    pub(crate) fn make(&self) -> Result<(), Error> {
        let mut seen = BTreeMap::new();
        for name in self.names() {
            let of_file = |letter: char| letter.is_alphanumeric() || "._-".contains(letter);
            let wrong = |text: &str| {
                let text = format!("a part of a task's state: expected {text}, got {name:?}");
                Err(Error::new(ErrorKind::Checkpoint, text))
            };
            if !name.starts_with(char::is_alphanumeric) || !name.chars().all(of_file) {
                return wrong("a name of letters, digits, dots, dashes and underscores");
            }
            // Some file systems don't tell them apart.
            if let Some(other) = seen.insert(name.to_lowercase(), name) {
                return wrong(&format!("a name that differs from {other:?} in more than case"));
            }
        }
        self.tensors.values().try_for_each(|part| part.made().map(drop))
    }

    /// Adds a value, or replaces it. JSON has no word for a number that is not finite: what may be one goes
    /// in as an `Option`, or as text.
    ///
    /// # Errors
    /// [`ErrorKind::Checkpoint`] if it has no form as JSON, or a number in it is not finite; then nothing was
    /// changed.
    pub fn insert_value(&mut self, name: impl Into<String>, value: &impl Serialize) -> Result<(), Error> {
        let name = name.into();
        // A null in its place could be saved, but no resume could read a number from it.
        let value = finite::check(value)
            .and_then(|()| serde_json::to_value(value))
            .map_err(|error| Error::new(ErrorKind::Checkpoint, name.clone()).caused_by(error))?;
        self.values.insert(name, value);
        Ok(())
    }

    /// One value.
    ///
    /// # Errors
    /// [`ErrorKind::Checkpoint`] if it is not there, or of another form.
    pub fn value<T: DeserializeOwned>(&self, name: &str) -> Result<T, Error> {
        let value = self.values.get(name).ok_or_else(|| absent("value", name, self.values.keys()))?;
        T::deserialize(value).map_err(|error| Error::new(ErrorKind::Checkpoint, name).caused_by(error))
    }

    pub(crate) fn values(&self) -> &BTreeMap<String, Value> {
        &self.values
    }

    pub(crate) fn set_values(&mut self, values: BTreeMap<String, Value>) {
        self.values = values;
    }

    /// How many bytes the tensors take.
    pub(crate) fn bytes(&self) -> u64 {
        let parts = self.iter().flat_map(|(_, part)| part.iter());
        parts.map(|(_, tensor)| tensor.as_bytes().len() as u64).sum()
    }
}

/// Tensors that are there, or can be had.
#[derive(Clone)]
enum Part {
    Made(StateDict),
    /// Shared by clones, so that it is made once.
    Later(Arc<LazyLock<Later, Make>>),
}

/// The error is told each time that somebody asks.
type Later = Result<StateDict, Error>;
type Make = Box<dyn FnOnce() -> Later + Send>;

impl Part {
    fn made(&self) -> Result<&StateDict, Error> {
        match self {
            Part::Made(part) => Ok(part),
            Part::Later(later) => (***later).as_ref().map_err(Error::clone),
        }
    }
}

impl std::fmt::Debug for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.made().fmt(f)
    }
}

impl PartialEq for Part {
    fn eq(&self, other: &Self) -> bool {
        matches!((self.made(), other.made()), (Ok(one), Ok(other)) if one == other)
    }
}

fn absent<'a>(what: &str, name: &str, have: impl Iterator<Item = &'a String>) -> Error {
    let have: Vec<_> = have.map(String::as_str).collect();
    Error::new(ErrorKind::Checkpoint, format!("no {what} {name}: it has {}", have.join(", ")))
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;

    use super::*;

    #[test]
    fn a_part_is_made_once_when_it_is_asked_for() {
        let (made, count) = std::sync::mpsc::channel();
        let mut part = StateDict::default();
        part.insert("weight", TensorData::new(vec![1f32, 2.0], [2]));
        let (mut state, mut later) = (TaskState::default(), TaskState::default());
        state.insert("model", part.clone());
        later.insert_later("model", move || {
            made.send(()).map_err(|_| Error::new(ErrorKind::Task, "made twice"))?;
            Ok(part)
        });
        let clone = later.clone();
        assert!(count.try_recv().is_err(), "nobody has asked");
        assert_eq!((clone.bytes(), later.bytes()), (8, 8));
        assert_eq!(later, state);
        assert_eq!(count.iter().count(), 1);
        later.insert_later("broken", || Err(Error::new(ErrorKind::Checkpoint, "no tensors")));
        assert_eq!(later.iter().count(), 1);
        for _ in 0..2 {
            let error = later.get("broken").unwrap_err();
            assert_eq!((error.kind(), error.to_string().as_str()), (&ErrorKind::Checkpoint, "no tensors"));
            assert_eq!(later.make().unwrap_err().to_string(), "no tensors");
        }
        assert_ne!(later, later.clone(), "what can't be made equals nothing");
    }

    /// A number in a value of every form that has parts.
    #[derive(Serialize)]
    enum Form {
        One(f64),
        Two(f32, f64),
        Named { number: Option<f64> },
    }

    #[derive(Serialize)]
    struct Wrapped(Vec<Form>);

    #[derive(Serialize)]
    struct Pair(bool, BTreeMap<String, [f64; 2]>);

    #[derive(Serialize)]
    struct Fields {
        wrapped: Wrapped,
        pair: Pair,
        nothing: Option<f64>,
    }

    #[test]
    fn a_value_that_could_not_be_read_back_is_refused() {
        let fields = |numbers: [f64; 5]| Fields {
            wrapped: Wrapped(vec![
                Form::One(numbers[0]),
                Form::Two(numbers[1] as f32, numbers[2]),
                Form::Named { number: Some(numbers[3]) },
            ]),
            pair: Pair(true, [("a".to_owned(), [0.0, numbers[4]])].into()),
            nothing: None,
        };
        let mut state = TaskState::default();
        state.insert_value("numbers", &fields([1.0; 5])).unwrap();
        let good = state.clone();
        for place in 0..5 {
            for (bad, said) in [(f64::NAN, "NaN"), (f64::INFINITY, "inf"), (f64::NEG_INFINITY, "-inf")] {
                let mut numbers = [1.0; 5];
                numbers[place] = bad;
                let error = state.insert_value("numbers", &fields(numbers)).unwrap_err();
                assert_eq!(error.kind(), &ErrorKind::Checkpoint);
                assert_eq!(error.to_string(), format!("numbers: expected finite numbers, got {said}"));
                assert_eq!(state, good, "the one before stands");
            }
        }
        // A null that somebody meant.
        state.insert_value("absent", &None::<f64>).unwrap();
        assert_eq!(state.value::<Option<f64>>("absent").unwrap(), None);
    }

    #[test]
    fn what_is_not_a_number_is_never_the_best() {
        for goal in [Goal::Maximize, Goal::Minimize] {
            assert!(goal.improves(f64::NAN, 1.0));
            assert!(!goal.improves(1.0, f64::NAN) && !goal.improves(f64::NAN, f64::NAN));
        }
        assert!(Goal::Maximize.improves(1.0, 2.0) && !Goal::Maximize.improves(2.0, 2.0));
        assert!(Goal::Minimize.improves(2.0, 1.0) && !Goal::Minimize.improves(2.0, 2.0));
    }
}
