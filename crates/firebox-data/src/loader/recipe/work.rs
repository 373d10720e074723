//! The work of worker processes: to make batches by a recipe.

use std::fmt;
use std::sync::OnceLock;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use firebox_workers::{Work, Worker, remote_work};
use serde::{Deserialize, Serialize};

use super::Recipe;
use super::bench::Bench;
use super::order::{BatchOrder, BatchReply};
use crate::collate::Collate;
use crate::error::{Error, ErrorKind};
use crate::loader::Loader;
use crate::loader::work::{BuiltBatch, PATIENCE};

/// A recipe, and by what its loader is known. A worker process makes the loader once, for its first batch.
#[derive(Serialize, Deserialize)]
#[serde(bound = "R: Recipe")]
pub(in crate::loader) struct RecipeWork<R: Recipe> {
    recipe: R,
    /// The settings of the parent's loader, in words.
    settings: String,
    /// The fingerprint of its data, in words.
    data: String,
    #[serde(skip)]
    bench: OnceLock<Result<Bench<R::Layout>, Error>>,
}

/// The batch that a recipe makes.
type BatchOf<R> = <<R as Recipe>::Layout as Collate>::Batch;

impl<R: Recipe> RecipeWork<R> {
    /// The work of a recipe that has made this loader here.
    pub(super) fn new(recipe: R, loader: &Loader<R::Layout>) -> Self {
        let (settings, data) = (loader.settings.clone(), loader.executor.source.fingerprint().to_string());
        RecipeWork { recipe, settings, data, bench: OnceLock::new() }
    }

    /// Makes the loader, and looks whether it is the parent's.
    fn bench(&self) -> Result<Bench<R::Layout>, Error> {
        let loader = self.recipe.loader()?;
        let mut differences = Vec::new();
        if loader.settings != self.settings {
            differences.push(format!("settings: expected {}, got {}", self.settings, loader.settings));
        }
        let data = loader.executor.source.fingerprint().to_string();
        if data != self.data {
            differences.push(format!("data: expected {}, got {data}", self.data));
        }
        if differences.is_empty() {
            return Bench::new(loader);
        }
        let text = format!("the recipe makes another loader in a worker process: {}", differences.join("; "));
        Err(Error::new(ErrorKind::Config, text))
    }
}

/// The settings, which are to be the same in each process.
impl<R: Recipe> fmt::Debug for RecipeWork<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.recipe.fmt(f)
    }
}

impl<R: Recipe> Work<BatchOrder> for RecipeWork<R> {
    type Output = BatchReply<BatchOf<R>>;

    fn run(&self, order: BatchOrder, worker: Worker<'_>) -> Self::Output {
        let bench = self.bench.get_or_init(|| beating(worker, || self.bench()));
        let made = bench.as_ref().map_err(Clone::clone).and_then(|bench| bench.make(order, worker));
        made.unwrap_or_else(|error| {
            let error = error.on_worker(worker.id()).on_process(std::process::id());
            let built = Some(Box::new(BuiltBatch::failed(error)));
            BatchReply { built, samples: 0, took: Duration::ZERO, regions: Vec::new(), starts: Vec::new() }
        })
    }
}

/// Tells of progress while `make` runs: the time limit is that of a sample, and this is none.
fn beating<R>(worker: Worker<'_>, make: impl FnOnce() -> R) -> R {
    thread::scope(|scope| {
        let (made, waiting) = channel::<()>();
        let beat = move || {
            while let Err(RecvTimeoutError::Timeout) = waiting.recv_timeout(PATIENCE) {
                worker.progress();
            }
        };
        // Without a thread the limit counts.
        let _ = thread::Builder::new().spawn_scoped(scope, beat);
        let result = make();
        drop(made);
        result
    })
}

remote_work!([R: Recipe] RecipeWork<R>);
