//! Loaders whose batches are made in other processes.
//!
//! ```text
//! parent                                              worker process
//! Recipe::loader: plan, length, states                Recipe::loader, once: data set, stages, layout
//! Window ─▶ RemoteTasks ── BatchOrder, a region ────▶ Bench: EpochExecutor writes the batch into the region
//!        ◀─ ChunkResult ◀─ BatchReply, its place ──── and drops it
//! ```
//!
//! A task is a whole batch. All that a worker needs to know of it beside the recipe are numbers, so that the
//! batch is the same wherever it is made; and the records of shards that one reader alone can find, which go
//! along.

mod bench;
mod order;
mod regions;
mod remote_tasks;
mod retold;
mod work;

use std::fmt::Debug;
use std::sync::atomic::AtomicU64;

use firebox_workers::process_pool::Crosses;
use firebox_workers::{Pool, ProcessPool};

use crate::collate::Collate;
use crate::error::{Error, ErrorKind};
use crate::loader::Loader;
use crate::loader::source::ForProcesses;
use crate::loader::work::EpochExecutor;
use crate::loader::work::tasks::Tasks;
use crate::sync::Arc;
use remote_tasks::Processes;
use work::RecipeWork;

/// How a loader is made, in this process and in others: settings that are data, and a function of them.
///
/// Nothing of a loader crosses to a worker process, neither its data set nor the closures of its stages: each
/// process makes it by the recipe. So the loader must follow from the settings alone; a recipe that makes
/// another one in a worker is an error that says in what it differs.
///
/// # Batches from worker processes
/// ```
/// use firebox_data::{Error, Loader, Recipe, Scalar};
/// use firebox_workers::Pool;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Debug, Serialize, Deserialize)]
/// struct Numbers {
///     count: i64,
///     seed: u64,
/// }
///
/// impl Recipe for Numbers {
///     type Layout = Scalar<i64>;
///
///     fn loader(&self) -> Result<Loader<Scalar<i64>>, Error> {
///         let numbers: Vec<i64> = (0..self.count).collect();
///         let builder = Loader::builder(numbers).shuffle(true).seed(self.seed).batch_size(8);
///         builder.build(Scalar::new(), |number, rng, slot| {
///             *slot = number + rng.below(2) as i64;
///             Ok(())
///         })
///     }
/// }
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     firebox_workers::init(); // First of all: a worker is this program, and works in here.
///     let numbers = || Numbers { count: 20, seed: 7 };
///     let in_processes = numbers().workers(Pool::processes(2)?)?;
///     let in_threads = numbers().loader()?;
///     for (batch, same) in in_processes.epoch(0).zip(in_threads.epoch(0)) {
///         assert_eq!(batch?, same?);
///     }
///     Ok(())
/// }
/// ```
///
/// # Data in memory, once for all processes
/// What a recipe reads it reads in each process, and again in one that replaces another. A
/// [`SealedArray`](firebox_workers::sync::SealedArray) among its settings is there already:
/// ```
/// use firebox_data::{Error, Loader, Recipe, Scalar};
/// use firebox_workers::{Pool, sync::SealedArray};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Debug, Serialize, Deserialize)]
/// struct Pixels(SealedArray<u8>);
///
/// impl Recipe for Pixels {
///     type Layout = Scalar<u8>;
///
///     fn loader(&self) -> Result<Loader<Scalar<u8>>, Error> {
///         let builder = Loader::builder(self.0.clone()).batch_size(4);
///         builder.build(Scalar::new(), |pixel, _, slot| Ok(*slot = pixel))
///     }
/// }
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     firebox_workers::init();
///     let pixels = SealedArray::from_fn(10, |place| place as u8)?;
///     let loader = Pixels(pixels).workers(Pool::processes(1)?)?;
///     assert_eq!(loader.epoch(0).next().unwrap()?, [0, 1, 2, 3]);
///     Ok(())
/// }
/// ```
pub trait Recipe: Crosses + Debug + Sync {
    /// The layout of its batches, which cross to the process that asks for them.
    type Layout: Collate<Batch: Crosses>;

    /// Makes the loader, with threads for workers.
    ///
    /// In a worker process its [number of workers](crate::loader::LoaderBuilder::workers) says how many
    /// threads make each batch there; if it is left to the loader, it is one. Its
    /// [readers](crate::loader::LoaderBuilder::readers) are those of each process.
    ///
    /// # Errors
    /// Whatever stands in the way: it is the error of the batch that a worker should have made.
    fn loader(&self) -> Result<Loader<Self::Layout>, Error>;

    /// The same loader, with its batches made by worker processes.
    ///
    /// The batches are the same, to the bit, as are states and failures: a position that was saved by threads
    /// goes on in processes, and back. A worker that dies is replaced, and its batch is made by another one.
    /// If workers die three times with one sample, the last time with nothing else to do, that sample cannot
    /// be made, and [`on_error`](crate::loader::LoaderBuilder::on_error) decides.
    ///
    /// The loader owns the processes, and ends them when it is dropped. Its [time
    /// limit](crate::loader::LoaderBuilder::timeout) becomes theirs.
    ///
    /// Shards that know their [`records`](crate::Shards::records) and can be [opened in their
    /// middle](crate::Shards::is_seekable) are read by the workers, others by this process, which sends their
    /// [records](crate::loader::LoaderBuilder::send_records).
    ///
    /// # Errors
    /// That of [`loader`](Self::loader); [`ErrorKind::Config`] if settings don't come back from another
    /// process as they were, or the data are shards that workers can't read and whose records aren't sent;
    /// [`ErrorKind::Workers`] if there are no processes to be had.
    fn workers(self, mut pool: ProcessPool) -> Result<Loader<Self::Layout>, Error>
    where
        Self: Sized,
    {
        let mut loader = self.loader()?;
        if loader.remote.is_some() {
            let text = "recipe: expected a loader with threads for workers, got one with processes";
            return Err(Error::new(ErrorKind::Config, text));
        }
        if let Some(limit) = loader.pool.limit() {
            pool = pool.with_timeout(limit);
        }
        let work = Arc::new(RecipeWork::new(self, &loader));
        pool.check_work(&*work).map_err(|error| Error::new(ErrorKind::Config, "recipe").caused_by(error))?;
        let mut reading = no_threads()?;
        if let Some(ForProcesses { source, readers }) =
            loader.executor.source.for_processes(pool.workers())?
        {
            reading = threads(readers)?;
            if let Some(limit) = loader.pool.limit().filter(|_| readers > 0) {
                reading = reading.with_timeout(limit);
            }
            loader = loader.of_source(source);
        }
        let items = loader.executor.source.indexed().map_or(0..0, |indexed| indexed.cuts.range.clone());
        (loader.pool, loader.auto) = (Arc::new(reading), None);
        loader.remote = Some(Arc::new(Processes {
            pool,
            work,
            regions: Default::default(),
            items,
            told: AtomicU64::new(0),
        }));
        Ok(loader)
    }
}

/// Worker processes, whatever the recipe.
pub(super) trait Remote<C: Collate>: Send + Sync {
    /// The number of processes.
    fn workers(&self) -> usize;

    /// Hands out the tasks of an epoch.
    fn tasks<'l>(&'l self, executor: &Arc<EpochExecutor<C>>) -> Box<dyn Tasks<C> + 'l>;

    /// How many workers have died since this was last asked, and how, in words.
    fn new_deaths(&self) -> (u64, Vec<String>);
}

fn no_threads() -> Result<Pool, Error> {
    threads(0)
}

/// Threads of this process, which read for the worker processes what these can't.
fn threads(readers: usize) -> Result<Pool, Error> {
    Pool::named("firebox-read", readers)
        .map_err(|error| Error::new(ErrorKind::Workers, "no worker threads").caused_by(error))
}
