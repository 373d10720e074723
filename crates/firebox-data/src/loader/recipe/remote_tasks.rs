//! The tasks of an epoch at worker processes.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use firebox_workers::stream::Dispatch;
use firebox_workers::sync::region::Region;
use firebox_workers::{Error as PoolError, ProcessPool, Statistics, WorkersExt as _};

use super::order::{BatchOrder, BatchReply};
use super::regions::Regions;
use super::retold::Retold;
use super::work::RecipeWork;
use super::{Recipe, Remote};
use crate::collate::Collate;
use crate::loader::work::tasks::{Heard, Order, Tasks};
use crate::loader::work::{CLOSING_PART, ChunkResult, EpochExecutor};
use crate::sync::Arc;

/// Batches that are out, at most: the window has fewer.
const MOST_OUT: usize = 1024;

/// Bytes that a batch of a fixed size takes beside its elements, since each kind of them begins on a
/// multiple.
const BETWEEN: usize = 1024;

/// Worker processes that make batches by a recipe.
pub(super) struct Processes<R: Recipe> {
    pub(super) pool: ProcessPool,
    pub(super) work: Arc<RecipeWork<R>>,
    pub(super) regions: Regions,
    /// The items of the loader that the recipe makes.
    pub(super) items: Range<usize>,
    /// The deaths that a report has told of.
    pub(super) told: AtomicU64,
}

impl<R: Recipe> Remote<R::Layout> for Processes<R> {
    fn workers(&self) -> usize {
        self.pool.workers()
    }

    fn tasks<'l>(&'l self, executor: &Arc<EpochExecutor<R::Layout>>) -> Box<dyn Tasks<R::Layout> + 'l> {
        let indexed = executor.executor.source.indexed();
        let items = indexed.map_or(self.items.clone(), |indexed| indexed.cuts.range.clone());
        let slice =
            (items != self.items).then(|| items.start - self.items.start..items.end - self.items.start);
        Box::new(RemoteTasks {
            processes: self,
            dispatch: self.pool.dispatch(Arc::clone(&self.work), MOST_OUT),
            executor: Arc::clone(executor),
            slice,
            out: HashMap::new(),
            largest: 0,
        })
    }

    fn new_deaths(&self) -> (u64, Vec<String>) {
        let Statistics { deaths, mut incidents, .. } = self.pool.statistics();
        let new = deaths.saturating_sub(self.told.fetch_max(deaths, Ordering::Relaxed));
        let told = incidents.split_off(incidents.len().saturating_sub(new as usize));
        let told = told.into_iter().map(|mut incident| {
            // Closing a batch is no sample.
            incident.part = incident.part.filter(|&part| part < CLOSING_PART);
            incident.to_string()
        });
        (new, told.collect())
    }
}

/// The tasks of an epoch, each a whole batch.
struct RemoteTasks<'l, R: Recipe> {
    processes: &'l Processes<R>,
    dispatch: Dispatch<'l, BatchOrder, RecipeWork<R>, ProcessPool>,
    executor: Arc<EpochExecutor<R::Layout>>,
    slice: Option<Range<usize>>,
    /// The memory that each task has, by the task's number.
    out: HashMap<usize, Option<Region>>,
    /// The most bytes that a batch took.
    largest: usize,
}

/// A reply, or the reason why there is none.
type Replied<C> = Result<BatchReply<<C as Collate>::Batch>, PoolError>;

impl<R: Recipe> RemoteTasks<'_, R> {
    /// The bytes that a batch's memory has to hold, as far as that is known.
    fn bytes(&self, samples: usize) -> usize {
        match self.executor.executor.collate.fixed_bytes(samples) {
            Some(bytes) => bytes.saturating_add(BETWEEN),
            // The next one may be a little larger.
            None => self.largest.saturating_add(self.largest / 8),
        }
    }

    fn hear(&mut self, (task, replied): (usize, Replied<R::Layout>)) -> Heard<R::Layout> {
        let region = self.out.remove(&task).flatten();
        let heard = replied.map(|BatchReply { mut built, samples, took, regions, starts }| {
            self.executor.items().learn(&starts);
            if let Some(built) = &mut built {
                // What is counted with is measured here, whatever the worker says.
                let batch = built.batch.as_ref().ok().and_then(Option::as_ref);
                built.bytes = batch.map_or(0, |batch| self.executor.executor.collate.bytes(batch));
                self.largest = self.largest.max(built.bytes);
            }
            regions.into_iter().for_each(|region| self.processes.regions.keep(region));
            ChunkResult { built, samples, took }
        });
        if let (Err(_), Some(region)) = (&heard, region) {
            self.processes.regions.forget(&region);
        }
        (task, heard)
    }
}

impl<R: Recipe> Tasks<R::Layout> for RemoteTasks<'_, R> {
    fn send(&mut self, Order { task, apart }: Order) -> Result<usize, Order> {
        // Of an attempt that was given up nobody wants anything; the worker would find as much.
        let build = self.executor.build(task.batch, task.attempt);
        let (start, width, earlier, error) = build.as_ref().map(|build| build.to_order()).unwrap_or_default();
        let bytes = self.bytes(task.samples.len());
        let region = self.processes.regions.take(bytes);
        let along = self.executor.items().along(&task);
        let order = BatchOrder {
            task,
            start,
            width,
            late: earlier.late.into_iter().map(|(position, error)| (position, Retold(error))).collect(),
            retried: earlier.retried,
            error: error.map(Retold),
            slice: self.slice.clone(),
            apart,
            region: region.clone(),
            bytes,
            known: self.processes.regions.ids(),
            along,
        };
        match self.dispatch.send(order) {
            Ok(task) => {
                self.out.insert(task, region);
                Ok(task)
            }
            Err(BatchOrder { task, apart, .. }) => Err(Order { task, apart }),
        }
    }

    fn receive(&mut self) -> Option<Heard<R::Layout>> {
        let replied = self.dispatch.receive()?;
        Some(self.hear(replied))
    }

    fn try_receive(&mut self) -> Option<Heard<R::Layout>> {
        let replied = self.dispatch.try_receive()?;
        Some(self.hear(replied))
    }
}
