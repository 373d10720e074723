//! What is trained, apart from how long, on what and with which records.

use std::collections::BTreeMap;

use firebox_models::StateDict;

use crate::error::{Error, ErrorKind};
use crate::metrics::Metrics;

/// Where in a run a step stands.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct StepContext {
    /// The epoch, from 0.
    pub epoch: u64,
    /// The step, from 0 over all epochs.
    pub step: usize,
    /// The schedule's learning rate for this step.
    pub lr: f64,
}

/// Whether a metric should rise or fall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// More is better.
    Maximise,
    /// Less is better.
    Minimise,
}

impl StepContext {
    /// A place in a run, for a task that is stepped by hand.
    pub fn new(epoch: u64, step: usize, lr: f64) -> Self {
        StepContext { epoch, step, lr }
    }
}

impl Goal {
    /// Whether `new` is better than `old`. Any number is better than what is none, and that is never better.
    pub fn improves(self, old: f64, new: f64) -> bool {
        let better = match self {
            Goal::Maximise => new > old,
            Goal::Minimise => new < old,
        };
        better || old.is_nan() && !new.is_nan()
    }
}

/// A training task: it owns its models and optimisers and says what a step is.
///
/// The trainer owns everything else: the order of steps, the learning rate, checkpoints, records. Random
/// numbers drawn from Burn's generator within [`train_step`](Task::train_step) follow from (seed, epoch, step).
pub trait Task {
    /// The tensors of one batch.
    type Batch;

    /// Learns from one batch and says how it went, by means over the batch's samples.
    ///
    /// # Errors
    /// Whatever makes it senseless to go on.
    fn train_step(&mut self, batch: Self::Batch, context: &StepContext) -> Result<Metrics, Error>;

    /// Judges batches with the models as they are now, without learning from them.
    fn evaluator(&self) -> impl FnMut(Self::Batch) -> Result<Metrics, Error>;

    /// The metric that decides which checkpoint is the best.
    fn monitor(&self) -> (&'static str, Goal);

    /// Everything that a resumed run needs, by tensors.
    ///
    /// # Errors
    /// If some state has no form as tensors.
    fn state(&self) -> Result<TaskState, Error>;

    /// Takes the state back.
    ///
    /// # Errors
    /// [`ErrorKind::Checkpoint`] if it is the state of something else.
    fn load(&mut self, state: &TaskState) -> Result<(), Error>;
}

/// The tensors of a task, in parts such as `model` and `model.optimizer`, each of which becomes one file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TaskState(BTreeMap<String, StateDict>);

impl TaskState {
    /// Adds a part, or replaces it. Its name becomes a file's: letters, digits, dots and dashes.
    pub fn insert(&mut self, name: impl Into<String>, part: StateDict) {
        self.0.insert(name.into(), part);
    }

    /// One part.
    ///
    /// # Errors
    /// [`ErrorKind::Checkpoint`] if it is not there.
    pub fn get(&self, name: &str) -> Result<&StateDict, Error> {
        self.0.get(name).ok_or_else(|| {
            let have: Vec<_> = self.0.keys().map(String::as_str).collect();
            let text = format!("no part {name}: it has {}", have.join(", "));
            Error::new(ErrorKind::Checkpoint, text)
        })
    }

    /// The parts in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &StateDict)> {
        self.0.iter().map(|(name, part)| (name.as_str(), part))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_number_is_never_the_best() {
        for goal in [Goal::Maximise, Goal::Minimise] {
            assert!(goal.improves(f64::NAN, 1.0));
            assert!(!goal.improves(1.0, f64::NAN) && !goal.improves(f64::NAN, f64::NAN));
        }
        assert!(Goal::Maximise.improves(1.0, 2.0) && !Goal::Maximise.improves(2.0, 2.0));
        assert!(Goal::Minimise.improves(2.0, 1.0) && !Goal::Minimise.improves(2.0, 2.0));
    }
}
