//! The flags for backend, threads, workers and seed.

use clap::{Args, ValueEnum};
use firebox_train::{Backend, BoxError, Error, Threads};
use serde::{Deserialize, Serialize};

use crate::parse;

/// The backend by name: `--backend`.
///
/// ```
/// use firebox_cli::args::BackendArgs;
///
/// let flex = BackendArgs::default();
/// assert_eq!(flex.backend, "flex");
/// let device = flex.device()?;
/// # let _ = device;
/// # Ok::<(), firebox_train::Error>(())
/// ```
#[derive(Args, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendArgs {
    /// The backend: flex, ndarray, wgpu or cuda, as far as the build has it
    #[arg(long, default_value = "flex")]
    pub backend: String,
}

impl Default for BackendArgs {
    fn default() -> Self {
        BackendArgs { backend: Backend::Flex.name().to_owned() }
    }
}

impl BackendArgs {
    /// The backend's first device, without autodiff.
    ///
    /// # Errors
    /// [`ErrorKind::Backend`](firebox_train::ErrorKind::Backend) for a name that is none, or if this build
    /// lacks the backend, or this machine a device for it.
    pub fn device(&self) -> Result<burn::tensor::Device, Error> {
        self.backend.parse::<Backend>()?.device()
    }
}

/// The seed, given once: `--seed`.
///
/// The loader takes it by `seed`, and the trainer follows the loader.
///
/// ```
/// use firebox_cli::args::SeedArgs;
///
/// assert_eq!(SeedArgs::default().seed, 42);
/// ```
#[derive(Args, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeedArgs {
    /// The seed that all random numbers follow from
    #[arg(long, default_value_t = 42)]
    pub seed: u64,
}

impl Default for SeedArgs {
    fn default() -> Self {
        SeedArgs { seed: 42 }
    }
}

/// The numbers of threads and workers, and the workers' kind: `--threads`, `--workers`, `--worker-kind`.
///
/// None of them decides a result.
///
/// ```
/// use firebox_cli::args::{ThreadArgs, WorkerKind};
///
/// let mut args = ThreadArgs::default();
/// args.workers = Some(2);
/// assert_eq!(args.threads()?.workers(), Some(2));
/// // A recipe's loader has so many threads; in worker processes one for each.
/// assert_eq!(args.in_recipe(), Some(2));
/// args.worker_kind = WorkerKind::Processes;
/// assert_eq!(args.in_recipe(), None);
/// # Ok::<(), firebox_train::Error>(())
/// ```
#[derive(Args, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ThreadArgs {
    /// Workers that prepare batches; 0 for none [default: half of the cores, at most 8]
    #[arg(long)]
    pub workers: Option<usize>,
    /// Where batches are prepared
    #[arg(long, value_enum, default_value = "threads")]
    #[serde(default)]
    pub worker_kind: WorkerKind,
    /// Threads that compute [default: RAYON_NUM_THREADS, or one a core]
    #[arg(long, value_name = "N", value_parser = parse::at_least_one)]
    pub threads: Option<usize>,
}

impl ThreadArgs {
    /// The names of the settings, which may change when a run goes on.
    pub const FIELDS: [&str; 3] = ["workers", "worker_kind", "threads"];

    /// The numbers, checked.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](firebox_train::ErrorKind::OutOfRange) for more threads than there can be.
    pub fn threads(&self) -> Result<Threads, Error> {
        Threads::new(self.threads, self.workers)
    }

    /// Starts the threads that compute; to be called before anything is computed.
    ///
    /// # Errors
    /// As for [`threads`](Self::threads) and [`Threads::start`].
    pub fn start(&self) -> Result<Threads, Error> {
        let threads = self.threads()?;
        threads.start()?;
        Ok(threads)
    }

    /// The threads for a loader's recipe; in worker processes one for each.
    pub fn in_recipe(&self) -> Option<usize> {
        match (self.worker_kind, self.workers) {
            (WorkerKind::Processes, Some(1..)) => None,
            (_, workers) => workers,
        }
    }

    /// The loader of a recipe, with workers of this kind.
    ///
    /// # Errors
    /// Those of the recipe; that there can be no worker processes.
    pub fn loader<R: firebox_data::Recipe>(
        &self,
        recipe: R,
    ) -> Result<firebox_data::Loader<R::Layout>, BoxError> {
        let half = || std::thread::available_parallelism().map_or(1, usize::from).div_ceil(2).min(8);
        match (self.worker_kind, self.workers.unwrap_or_else(half)) {
            (WorkerKind::Threads, _) | (_, 0) => Ok(recipe.loader()?),
            (WorkerKind::Processes, workers) => {
                Ok(recipe.workers(firebox_workers::Pool::processes(workers)?)?)
            }
        }
    }
}

/// The place where batches are prepared.
///
/// ```
/// use firebox_cli::args::WorkerKind;
///
/// assert_eq!(WorkerKind::default(), WorkerKind::Threads);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum WorkerKind {
    /// In threads of the program
    #[default]
    Threads,
    /// In processes, which may crash without a loss
    Processes,
}
