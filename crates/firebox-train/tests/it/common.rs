//! A task that takes no time, and runs of it, for tests of what surrounds a task.

#![allow(dead_code, reason = "each test file takes what it needs")]

use std::path::Path;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use burn::tensor::{Device, TensorData};
use firebox_data::elements::Elements;
use firebox_data::{Loader, Scalar};
use firebox_train::metrics::Metrics;
use firebox_train::task::{Goal, TaskState};
use firebox_train::trainer::Outcome;
use firebox_train::{Error, ErrorKind, RunDir, StepContext, Task, Trainer, TrainerConfig};
use firebox_weights::StateDict;

/// The turns of tests with Burn's generator, which all threads of the process share.
static GENERATOR: RwLock<()> = RwLock::new(());

/// The turn of a test whose outcome follows from numbers that are drawn: no other one draws or seeds
/// meanwhile.
pub(crate) fn draws() -> RwLockWriteGuard<'static, ()> {
    GENERATOR.write().unwrap_or_else(PoisonError::into_inner)
}

/// The turn of a test that seeds the generator, as every step of a run does, and doesn't care what others
/// draw.
pub(crate) fn seeds() -> RwLockReadGuard<'static, ()> {
    GENERATOR.read().unwrap_or_else(PoisonError::into_inner)
}

/// Samples, in batches of 4: an epoch has 5 steps.
pub(crate) const SAMPLES: usize = 20;
pub(crate) const STEPS: usize = 5;

/// Its weights go where the batches pull them.
#[derive(Default)]
pub(crate) struct Pulled {
    pub(crate) weights: [f32; 3],
    /// There is a ratio, and in this step it is no number.
    pub(crate) not_a_number: Option<usize>,
    /// The step that can't be taken.
    pub(crate) fails: Option<usize>,
    /// From this step on there is another metric.
    pub(crate) another: Option<usize>,
}

impl Task for Pulled {
    type Batch = Elements<i64>;

    fn train_step(&mut self, batch: Elements<i64>, context: &StepContext) -> Result<Metrics, Error> {
        if self.fails == Some(context.step) {
            return Err(Error::new(ErrorKind::Task, "the data are too heavy"));
        }
        let mean = batch.iter().sum::<i64>() as f32 / batch.len() as f32;
        for (place, weight) in self.weights.iter_mut().enumerate() {
            *weight += context.lr as f32 * (mean * place as f32 - *weight);
        }
        let loss = f64::from(self.weights[1]) / 3.0;
        let metrics = Metrics::of(batch.len()).with_mean("loss", loss);
        let metrics = match self.not_a_number {
            Some(step) if step == context.step => metrics.with_mean("ratio", f64::NAN),
            Some(_) => metrics.with_mean("ratio", loss),
            None => metrics,
        };
        Ok(match self.another.is_some_and(|from| context.step >= from) {
            true => metrics.with_mean("a \"quoted\", late one", f64::from(self.weights[2])),
            false => metrics,
        })
    }

    fn evaluator(&self) -> impl FnMut(Elements<i64>) -> Result<Metrics, Error> {
        let weight = f64::from(self.weights[2]);
        move |batch| {
            Ok(Metrics::of(batch.len()).with_mean("loss", 1.0 / (1.0 + weight)).with_mean("seen", weight))
        }
    }

    fn monitor(&self) -> (&'static str, Goal) {
        ("loss", Goal::Minimize)
    }

    fn gradient_norm(&self) -> Option<f64> {
        Some(f64::from(self.weights[0]) + 0.5)
    }

    fn state(&self) -> Result<TaskState, Error> {
        let tensors = |values: Vec<f32>| {
            let mut part = StateDict::default();
            let len = values.len();
            part.insert("layer.weight", TensorData::new(values, [len]));
            part
        };
        let mut state = TaskState::default();
        state.insert("model", tensors(self.weights.to_vec()));
        state.insert("model.optimizer", tensors(vec![0.0]));
        Ok(state)
    }

    fn load(&mut self, state: &TaskState) -> Result<(), Error> {
        let weights = state.get("model")?.get("layer.weight").unwrap();
        self.weights.copy_from_slice(&weights.to_vec::<f32>().unwrap());
        Ok(())
    }
}

pub(crate) fn numbers(samples: usize) -> Loader<Scalar<i64>> {
    Loader::builder((0..samples as i64).collect::<Vec<_>>())
        .batch_size(4)
        .shuffle(true)
        .seed(3)
        .workers(0)
        .build(Scalar::<i64>::new(), |number, _, slot| {
            *slot = number;
            Ok(())
        })
        .unwrap()
}

/// A new run in a folder, or the one that is there, going on.
pub(crate) fn folder(path: &Path, resume: bool) -> RunDir {
    let run = match resume {
        true => RunDir::open(path).unwrap().resume().unwrap(),
        false => RunDir::create(path).unwrap(),
    };
    run.write_config(&serde_json::json!({})).unwrap();
    run
}

/// Two epochs, with an evaluation and a checkpoint after each, and checkpoints every two steps between.
pub(crate) fn config() -> TrainerConfig {
    let mut config = TrainerConfig::new();
    (config.max_epochs, config.save_steps) = (2, Some(2));
    config
}

pub(crate) fn fit(
    run: &RunDir,
    resume: bool,
    task: &mut Pulled,
    with: impl FnOnce(Trainer) -> Trainer,
) -> Result<Outcome, Error> {
    let trainer = Trainer::new(run, &Device::default()).config(config()).schedule(0.25).resume(resume);
    with(trainer).fit(task, &numbers(SAMPLES), &numbers(8))
}
