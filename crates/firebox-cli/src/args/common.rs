//! The groups of flags that most recipes have.

use burn::tensor::Device;
use clap::Args;
use firebox_train::Error;
use serde::{Deserialize, Serialize};

use crate::args::compute::{BackendArgs, SeedArgs, ThreadArgs};
use crate::args::train::{LearnerArgs, TrainArgs};

/// The groups of flags that most recipes have, as one.
///
/// ```
/// use clap::{Args, Parser};
/// use firebox_cli::CommonArgs;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Parser, Serialize, Deserialize)]
/// struct Recipe {
///     /// The learning rate
///     #[arg(long, default_value_t = 1e-3)]
///     lr: f64,
///     #[command(flatten)]
///     #[serde(flatten)]
///     common: CommonArgs,
/// }
///
/// let recipe = Recipe::parse_from(["mine", "--epochs", "5", "--seed", "7"]);
/// assert_eq!((recipe.common.train.epochs, recipe.common.seed()), (5, 7));
/// // Its form as JSON is flat: each setting has its flag's name.
/// assert_eq!(serde_json::to_value(&recipe)?["epochs"], 5);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CommonArgs {
    /// How long the run goes on.
    #[command(flatten)]
    #[serde(flatten)]
    pub train: TrainArgs,
    /// How the model learns.
    #[command(flatten)]
    #[serde(flatten)]
    pub learner: LearnerArgs,
    /// The seed.
    #[command(flatten)]
    #[serde(flatten)]
    pub seed: SeedArgs,
    /// Threads and workers.
    #[command(flatten)]
    #[serde(flatten)]
    pub threads: ThreadArgs,
    /// The backend.
    #[command(flatten)]
    #[serde(flatten)]
    pub backend: BackendArgs,
}

impl CommonArgs {
    /// The seed.
    pub fn seed(&self) -> u64 {
        self.seed.seed
    }

    /// Starts the threads that compute, and gives the backend's device, without autodiff.
    ///
    /// It is to be called before anything is computed.
    ///
    /// # Errors
    /// As for [`ThreadArgs::start`] and [`BackendArgs::device`].
    pub fn start(&self) -> Result<Device, Error> {
        self.threads.start()?;
        self.backend.device()
    }
}
