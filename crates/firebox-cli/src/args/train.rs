//! The flags for how long a run goes on, and how its learner learns.

use burn::module::Module;
use burn::optim::ModuleOptimizer;
use clap::Args;
use firebox_train::{Error, Learner, TrainerConfig};
use serde::{Deserialize, Serialize};

use crate::parse;

/// The flags for a run's length and its checkpoints.
///
/// They are `--epochs`, `--max-steps`, `--save-steps`, `--patience` and `--accumulate`.
///
/// A recipe gives another default by clap's `mut_arg`:
///
/// ```
/// use clap::{Args, Parser};
/// use firebox_cli::args::TrainArgs;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Parser, Serialize, Deserialize)]
/// #[command(mut_arg("epochs", |arg| arg.default_value("10")))]
/// struct Recipe {
///     #[command(flatten)]
///     #[serde(flatten)]
///     train: TrainArgs,
/// }
///
/// let recipe = Recipe::parse_from(["mine", "--patience", "3"]);
/// let config = recipe.train.config();
/// assert_eq!((config.max_epochs, config.patience), (10, Some(3)));
/// ```
#[derive(Args, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TrainArgs {
    /// Passes over the training data
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub epochs: u64,
    /// Batches a step
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = parse::at_least_one)]
    #[serde(default = "one")]
    pub accumulate: usize,
    /// Stop after so many steps
    #[arg(long, value_name = "N", value_parser = parse::at_least_one)]
    pub max_steps: Option<usize>,
    /// Save a checkpoint after every so many steps, too
    #[arg(long, value_name = "N", value_parser = parse::at_least_one)]
    pub save_steps: Option<usize>,
    /// Stop after so many epochs that didn't get better
    #[arg(long, value_name = "N", value_parser = parse::at_least_one)]
    pub patience: Option<usize>,
}

/// The batches a step of a recipe that was saved without the setting.
fn one() -> usize {
    1
}

impl Default for TrainArgs {
    fn default() -> Self {
        TrainArgs { epochs: 1, accumulate: 1, max_steps: None, save_steps: None, patience: None }
    }
}

impl TrainArgs {
    /// The trainer's config, whose seed is the loader's.
    pub fn config(&self) -> TrainerConfig {
        TrainerConfig::new()
            .with_max_epochs(self.epochs)
            .with_accumulate(self.accumulate)
            .with_max_steps(self.max_steps)
            .with_save_steps(self.save_steps)
            .with_patience(self.patience)
    }
}

/// The flags for a learner's gradients and weights: `--clip-norm`, `--ema`.
///
/// ```
/// use burn::module::Module;
/// use firebox_cli::args::LearnerArgs;
/// use firebox_train::optimizer::SgdConfig;
/// use firebox_train::{Error, Learner};
///
/// fn learner<M: Module>(args: &LearnerArgs, model: M) -> Result<Learner<M>, Error> {
///     args.learner(model, SgdConfig::new().init()?)
/// }
///
/// // By default neither.
/// assert_eq!((LearnerArgs::default().clip_norm, LearnerArgs::default().ema), (None, None));
/// ```
#[derive(Args, Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LearnerArgs {
    /// The largest norm of a step's gradients; larger ones are scaled down to it
    #[arg(long, value_name = "NORM", value_parser = parse::above_zero)]
    pub clip_norm: Option<f64>,
    /// Evaluate a moving average of the weights, with this decay
    #[arg(long, value_name = "DECAY", value_parser = parse::share)]
    pub ema: Option<f64>,
}

impl LearnerArgs {
    /// The learner of a model that an optimizer trains so.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](firebox_train::ErrorKind::OutOfRange) for a norm or a decay that is out of
    /// range, which no flag gives.
    pub fn learner<M: Module>(
        &self,
        model: M,
        optimizer: impl Into<ModuleOptimizer>,
    ) -> Result<Learner<M>, Error> {
        let mut learner = Learner::new(model, optimizer);
        if let Some(decay) = self.ema {
            learner = learner.with_ema(decay)?;
        }
        if let Some(norm) = self.clip_norm {
            learner = learner.with_clip_norm(norm)?;
        }
        Ok(learner)
    }
}
