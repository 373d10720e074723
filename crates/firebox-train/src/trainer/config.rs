//! The settings of a run.

use firebox_data::batches::Batches;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, ErrorKind, check};

/// The settings of a run.
///
/// They say how long it goes on, and when it evaluates and saves.
///
/// A file can hold them; what it leaves out has its default.
///
/// ```
/// use firebox_train::TrainerConfig;
///
/// let config = TrainerConfig::new().with_max_epochs(20).with_patience(3).with_save_steps(500);
/// config.check()?;
/// let text = r#"{"max_epochs": 20, "patience": 3, "save_steps": 500}"#;
/// let read: TrainerConfig = serde_json::from_str(text)?;
/// assert_eq!(read, config);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct TrainerConfig {
    /// The seed of the steps' random numbers; `None` for that of the training data's loader.
    ///
    /// So a program gives its seed once, to the loader. A run that goes on without one keeps the seed that it
    /// has.
    pub seed: Option<u64>,
    /// Passes over the training data, at most. 1.
    pub max_epochs: u64,
    /// Steps, at most.
    pub max_steps: Option<usize>,
    /// Seconds of training and evaluation, at most.
    ///
    /// They count over all parts of the run; then it stops as by a signal.
    pub max_seconds: Option<f64>,
    /// Batches a step: their gradients' mean is that of one batch of them all. 1. An epoch's last step may
    /// have fewer.
    pub accumulate: usize,
    /// Batches of each epoch that are trained on, at most.
    pub limit_train: Option<usize>,
    /// Batches that each evaluation looks at, at most.
    pub limit_valid: Option<usize>,
    /// An evaluation at the end of every so many epochs, and of the last one. 1.
    pub validate_epochs: u64,
    /// An evaluation after every so many steps, too.
    pub validate_steps: Option<usize>,
    /// A checkpoint after every so many steps, besides those at the end of epochs.
    pub save_steps: Option<usize>,
    /// A checkpoint after so many seconds, too.
    pub save_seconds: Option<f64>,
    /// The number of the last checkpoints that are kept.
    ///
    /// By default 2: should one be damaged, there is another.
    pub keep_last: usize,
    /// The number of the best ones that are kept.
    ///
    /// By default 1.
    pub keep_best: usize,
    /// Ends the run after so many evaluations in a row without improvement.
    ///
    /// It is the monitored metric that improves.
    pub patience: Option<usize>,
    /// The difference by which a value must be better, for `patience`.
    ///
    /// It is compared with the last one that counted as better. By default 0.
    ///
    /// As in Keras and Lightning, small improvements add up: what is compared with is not the best value so
    /// far. Which checkpoint is the best is a matter of the values alone.
    pub min_delta: f64,
    /// Leaves a batch out whose loss or gradients are not finite.
    ///
    /// That is so in training and in evaluations, with a warning, instead of ending the run.
    pub skip_not_finite: bool,
    /// Allows evaluating data that are trained on as well.
    ///
    /// That shows if a model can learn a few
    /// samples by heart. Otherwise that is an error, where both come from [one data
    /// set](firebox_data::dataset::Lineage).
    pub allow_overlap: bool,
    /// Warns when the gradients' norm is so many times its average.
    ///
    /// 0 for never, by default 100. A task that doesn't [tell](crate::Task::gradient_norm) the norm is warned
    /// of once.
    pub norm_warning: f64,
}

impl Default for TrainerConfig {
    fn default() -> Self {
        TrainerConfig {
            seed: None,
            max_epochs: 1,
            max_steps: None,
            max_seconds: None,
            accumulate: 1,
            limit_train: None,
            limit_valid: None,
            validate_epochs: 1,
            validate_steps: None,
            save_steps: None,
            save_seconds: None,
            keep_last: 2,
            keep_best: 1,
            patience: None,
            min_delta: 0.0,
            skip_not_finite: false,
            allow_overlap: false,
            norm_warning: 100.0,
        }
    }
}

impl TrainerConfig {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with another seed.
    ///
    /// Without one the random numbers follow from the seed of the training data's loader.
    pub fn with_seed(self, seed: u64) -> Self {
        TrainerConfig { seed: Some(seed), ..self }
    }

    /// The same with so many passes over the training data, at most.
    pub fn with_max_epochs(self, epochs: u64) -> Self {
        TrainerConfig { max_epochs: epochs, ..self }
    }

    /// The same with so many steps, at most.
    pub fn with_max_steps(self, steps: impl Into<Option<usize>>) -> Self {
        TrainerConfig { max_steps: steps.into(), ..self }
    }

    /// The same with so many seconds of training and evaluation, at most.
    pub fn with_max_seconds(self, seconds: impl Into<Option<f64>>) -> Self {
        TrainerConfig { max_seconds: seconds.into(), ..self }
    }

    /// The same with so many batches a step.
    pub fn with_accumulate(self, batches: usize) -> Self {
        TrainerConfig { accumulate: batches, ..self }
    }

    /// The same with so many batches of each epoch that are trained on, at most.
    pub fn with_limit_train(self, batches: impl Into<Option<usize>>) -> Self {
        TrainerConfig { limit_train: batches.into(), ..self }
    }

    /// The same with so many batches in each evaluation, at most.
    pub fn with_limit_valid(self, batches: impl Into<Option<usize>>) -> Self {
        TrainerConfig { limit_valid: batches.into(), ..self }
    }

    /// The same with an evaluation at the end of every so many epochs.
    pub fn with_validate_epochs(self, epochs: u64) -> Self {
        TrainerConfig { validate_epochs: epochs, ..self }
    }

    /// The same with an evaluation after every so many steps, too.
    pub fn with_validate_steps(self, steps: impl Into<Option<usize>>) -> Self {
        TrainerConfig { validate_steps: steps.into(), ..self }
    }

    /// The same with a checkpoint after every so many steps, too.
    pub fn with_save_steps(self, steps: impl Into<Option<usize>>) -> Self {
        TrainerConfig { save_steps: steps.into(), ..self }
    }

    /// The same with a checkpoint after so many seconds, too.
    pub fn with_save_seconds(self, seconds: impl Into<Option<f64>>) -> Self {
        TrainerConfig { save_seconds: seconds.into(), ..self }
    }

    /// The same with so many of the last checkpoints kept.
    pub fn with_keep_last(self, checkpoints: usize) -> Self {
        TrainerConfig { keep_last: checkpoints, ..self }
    }

    /// The same with so many of the best checkpoints kept.
    pub fn with_keep_best(self, checkpoints: usize) -> Self {
        TrainerConfig { keep_best: checkpoints, ..self }
    }

    /// The same, ending after so many evaluations in a row without improvement.
    pub fn with_patience(self, evaluations: impl Into<Option<usize>>) -> Self {
        TrainerConfig { patience: evaluations.into(), ..self }
    }

    /// The same with a difference by which a value must be better.
    pub fn with_min_delta(self, delta: f64) -> Self {
        TrainerConfig { min_delta: delta, ..self }
    }

    /// The same, leaving batches out whose loss or gradients are not finite, or not.
    pub fn with_skip_not_finite(self, skip: bool) -> Self {
        TrainerConfig { skip_not_finite: skip, ..self }
    }

    /// The same, letting data be evaluated that are trained on, or not.
    pub fn with_allow_overlap(self, allow: bool) -> Self {
        TrainerConfig { allow_overlap: allow, ..self }
    }

    /// The same with a warning of a norm so many times its average.
    pub fn with_norm_warning(self, times: f64) -> Self {
        TrainerConfig { norm_warning: times, ..self }
    }

    /// One step and one batch of evaluation: whether everything fits together, in seconds.
    pub fn fast_dev_run(self) -> Self {
        let limits = (Some(self.accumulate), Some(1));
        TrainerConfig {
            max_epochs: 1,
            max_steps: Some(1),
            limit_train: limits.0,
            limit_valid: limits.1,
            validate_steps: None,
            save_steps: None,
            ..self
        }
    }

    /// Checks that all settings are in their range.
    ///
    /// [`Trainer::fit`](crate::Trainer::fit) does, too; this is for
    /// whoever wants to know before there is a folder.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) for the first one that isn't.
    pub fn check(&self) -> Result<(), Error> {
        let at_least_one = [
            ("accumulate", Some(self.accumulate)),
            ("max_steps", self.max_steps),
            ("limit_train", self.limit_train),
            ("limit_valid", self.limit_valid),
            ("validate_steps", self.validate_steps),
            ("save_steps", self.save_steps),
            ("keep_last", Some(self.keep_last)),
            ("keep_best", Some(self.keep_best)),
            ("patience", self.patience),
        ];
        for (field, value) in at_least_one {
            if let Some(value) = value {
                check(value > 0, field, "at least 1", value)?;
            }
        }
        check(self.max_epochs > 0, "max_epochs", "at least 1", self.max_epochs)?;
        check(self.validate_epochs > 0, "validate_epochs", "at least 1", self.validate_epochs)?;
        for (field, value) in [("max_seconds", self.max_seconds), ("save_seconds", self.save_seconds)] {
            if let Some(value) = value {
                check(value.is_finite() && value > 0.0, field, "a number above 0", value)?;
            }
        }
        for (field, value) in [("min_delta", self.min_delta), ("norm_warning", self.norm_warning)] {
            check(value.is_finite() && value >= 0.0, field, "a number of at least 0", value)?;
        }
        Ok(())
    }

    /// The settings that the steps follow from. The others can change from one part of a run to the next: how
    /// long it goes on, and what is kept. The seed is compared by itself.
    pub(super) fn course(&self) -> Result<Value, Error> {
        const FREE: [&str; 11] = [
            "seed",
            "max_epochs",
            "max_steps",
            "max_seconds",
            "save_steps",
            "save_seconds",
            "keep_last",
            "keep_best",
            "patience",
            "norm_warning",
            "allow_overlap",
        ];
        let mut settings = serde_json::to_value(self)
            .map_err(|error| Error::new(ErrorKind::Config, "the trainer's settings").caused_by(error))?;
        if let Value::Object(fields) = &mut settings {
            fields.retain(|name, _| !FREE.contains(&name.as_str()));
        }
        Ok(settings)
    }

    /// The steps of a whole run over these data.
    pub(super) fn steps(&self, train: &impl Batches) -> usize {
        let most = self.max_steps.unwrap_or(usize::MAX);
        train.steps_by(self.max_epochs, most, &|batches| self.steps_of(batches))
    }

    /// The steps of an epoch with so many batches.
    pub(super) fn steps_of(&self, batches: usize) -> usize {
        self.batches_of(batches).div_ceil(self.accumulate)
    }

    /// True if the parameters move after a batch of an epoch with so many batches that are trained on.
    pub(super) fn updates_after(&self, batch: usize, batches: usize) -> bool {
        (batch + 1).is_multiple_of(self.accumulate) || batch + 1 == batches
    }

    /// How many of an epoch's batches are trained on.
    pub(super) fn batches_of(&self, batches: usize) -> usize {
        self.limit_train.map_or(batches, |limit| limit.min(batches))
    }
}
