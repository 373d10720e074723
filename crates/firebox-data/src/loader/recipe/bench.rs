//! A worker process's bench, at which it makes batches.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use firebox_workers::sync::region::Region;
use firebox_workers::{Work as _, Worker};

use super::order::{BatchOrder, BatchReply};
use crate::collate::{BatchShape, Collate};
use crate::elements::shared::SharedMemory;
use crate::error::Error;
use crate::loader::Loader;
use crate::loader::fault::OnError;
use crate::loader::work::{BatchBuild, BatchTask, BuiltBatch, Earlier, EpochExecutor, Executor};
use crate::sync::Arc;

/// Runs that each thread of a process has of a batch, if there are several: so that all end at about the same
/// time.
const RUNS_A_THREAD: usize = 4;

/// Executors for the batches of slices, by the first item and the one after the last.
type Slices<C> = HashMap<(usize, usize), Arc<Executor<C>>>;

/// A loader in a worker process, and what is kept from one batch to the next.
pub(super) struct Bench<C: Collate> {
    loader: Loader<C>,
    /// How many threads make a batch.
    threads: usize,
    slices: Mutex<Slices<C>>,
    /// Regions that come again and again, so that they stay mapped.
    regions: Mutex<Vec<Region>>,
}

impl<C: Collate> Bench<C> {
    /// With the threads that the loader was given; one if it was to choose their number.
    pub(super) fn new(mut loader: Loader<C>) -> Result<Self, Error> {
        let threads = if loader.auto.take().is_some() { 1 } else { loader.workers().max(1) };
        loader.pool = Arc::new(super::no_threads()?);
        Ok(Bench { loader, threads, slices: Mutex::default(), regions: Mutex::default() })
    }

    fn executor(&self, slice: Option<Range<usize>>) -> Result<Arc<Executor<C>>, Error> {
        let Some(items) = slice else { return Ok(Arc::clone(&self.loader.executor)) };
        let mut slices = lock(&self.slices);
        if let Some(executor) = slices.get(&(items.start, items.end)) {
            return Ok(Arc::clone(executor));
        }
        let executor = self.loader.slice(items.clone())?.executor;
        slices.insert((items.start, items.end), Arc::clone(&executor));
        Ok(executor)
    }

    /// Forgets the regions that the parent has no more.
    fn forget(&self, known: &[u64]) {
        lock(&self.regions).retain(|region| known.contains(&region.id()));
    }

    fn remember(&self, region: &Region) {
        let mut regions = lock(&self.regions);
        if !regions.contains(region) {
            regions.push(region.clone());
        }
    }

    /// Makes a batch, or one sample of it.
    pub(super) fn make(&self, order: BatchOrder, worker: Worker<'_>) -> Result<BatchReply<C::Batch>, Error> {
        let begun = Instant::now();
        let BatchOrder {
            mut task,
            mut start,
            width,
            late,
            retried,
            error,
            slice,
            apart,
            region,
            bytes,
            known,
            along,
        } = order;
        self.forget(&known);
        if let Some(region) = &region {
            self.remember(region);
        }
        let memory = Arc::new(SharedMemory::new(region, bytes));
        let mut executor = match worker.id() {
            Some(_) => self.executor(slice)?.in_process(Arc::clone(&memory)),
            // A pool without processes: whoever calls it is the parent.
            None => self.executor(slice)?.shared(),
        };
        let progress = || worker.progress();
        let mut here = worker;
        if let Some(position) = apart {
            worker.begin_alone(position);
            // Whatever it begins from now on, it is about this sample.
            here = worker.id().map_or(worker, |id| Worker::new(id, &progress));
            (start, task.run, executor.on_error) = (position, 0..1, OnError::Fail);
        }
        let items = executor.source.received(&executor.reading(), &task, along)?;
        let samples = task.samples.len();
        let shape = BatchShape::from(samples).with_width(width);
        let runs = if self.threads > 1 { (RUNS_A_THREAD * self.threads).min(samples).max(1) } else { 1 };
        let late = late.into_iter().map(|(position, error)| (position, error.0)).collect();
        let firsts = (0..runs).map(|run| samples * run / runs);
        let earlier = Earlier { late, retried };
        let build = BatchBuild::new(start, shape, firsts, earlier, error.map(|error| error.0));
        let executor = EpochExecutor::new(Arc::new(executor), Arc::clone(&items));
        executor.begin(task.batch, task.attempt, build);
        let built = match runs {
            1 => executor.run(task, here).built,
            _ => self.in_threads(&executor, cut(task, runs), here),
        };
        drop(executor);
        let regions = memory.list();
        regions.iter().for_each(|region| self.remember(region));
        Ok(BatchReply { built, samples, took: begun.elapsed(), regions, starts: items.found() })
    }

    /// Has several threads make the runs of a batch.
    fn in_threads(
        &self,
        executor: &EpochExecutor<C>,
        runs: Vec<BatchTask>,
        worker: Worker<'_>,
    ) -> Option<Box<BuiltBatch<C::Batch>>> {
        let (next, built) = (AtomicUsize::new(0), Mutex::new(None));
        let work = || {
            while let Some(run) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
                if let Some(batch) = executor.run(run.clone(), worker).built {
                    *lock(&built) = Some(batch);
                }
            }
        };
        thread::scope(|scope| {
            let more = self.threads.min(runs.len()) - 1;
            // A thread that isn't to be had is one less.
            let others: Vec<_> =
                (0..more).map_while(|_| thread::Builder::new().spawn_scoped(scope, work).ok()).collect();
            work();
            // A panic of the user's code was caught with its sample.
            others.into_iter().for_each(|other| drop(other.join()));
        });
        built.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Cuts the task of a batch into runs of equal length.
fn cut(task: BatchTask, runs: usize) -> Vec<BatchTask> {
    let samples = task.samples.len();
    let run = |run: usize| {
        let (first, end) = (samples * run / runs, samples * (run + 1) / runs);
        let samples = task.samples[first..end].to_vec();
        BatchTask { run: first as u32..end as u32, samples, ..task }
    };
    (0..runs).map(run).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic under these locks, of the user's data set, has changed nothing.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
