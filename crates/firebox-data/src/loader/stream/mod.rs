//! A loader of data without random access.
//!
//! The order of an epoch follows from the seed and the data alone: the shards in an order of the epoch, a few of them
//! taking turns, their records cut into windows, each window shuffled. Workers read shards ahead of that order, and write
//! the records' transforms into batches as they do for any other loader: everything behind the plan is the same.

mod builder;
mod cursor;
mod feed;
mod plan;

use std::task::Poll;
use std::time::Duration;

use firebox_core::{Purpose, RecordSeeds, SampleRng, SampleSeed, StageKey, derive_seed};
use serde::{Deserialize, Serialize};

pub use builder::Sharded;

use crate::batches::{BatchStream, Batches, Delivered};
use crate::collate::{Collate, SlotOf};
use crate::dataset::Shards;
use crate::error::{BoxError, Error, ErrorKind};
use crate::loader::epoch::Total;
use crate::loader::report::counted;
use crate::loader::task::{Failure, Fill, Stages};
use crate::loader::{Epoch, EpochReport, Loader, LoaderState};
use crate::permutation::Permutation;
use crate::sync::Arc;
use cursor::Cursor;
use plan::{Shared, Streamed};

/// Batches of a stream, epoch after epoch: made by [`Loader::stream`].
///
/// Like a [`Loader`] it delivers every record once, in an order that the seed gives, the same with any number of workers,
/// and goes on from a saved position. A resume reads again what the shuffle's window held, and where shards can't be
/// opened in their middle, those that were being read, from their beginning.
pub struct StreamLoader<C: Collate, S: Shards> {
    loader: Loader<C>,
    shards: Arc<S>,
    settings: Arc<Settings>,
    transform: Arc<Transform<C, S>>,
}

type Transform<C, S> = dyn for<'a> Fn(&<S as Shards>::Record, &mut SampleRng, SlotOf<'a, C>) -> Result<(), BoxError>
    + Send
    + Sync;

/// What the order of a stream follows from.
pub(super) struct Settings {
    seed: u64,
    batch_size: usize,
    drop_last: bool,
    /// Records that are shuffled together; `None` if nothing is shuffled.
    shuffle: Option<usize>,
    /// Records in a window of the plan.
    window: usize,
    /// Shards that take turns.
    lanes: usize,
    rank: usize,
    world: usize,
}

/// Where a stream stands: a part of [`LoaderState`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamState {
    /// The window of the next record.
    window: u64,
    /// Where that window begins.
    cursor: Cursor,
}

impl Settings {
    fn shuffles(&self) -> bool {
        self.shuffle.is_some()
    }

    /// The order of all shards in an epoch.
    fn order(&self, shards: usize, epoch: u64) -> Permutation {
        Permutation::new(shards, derive_seed(self.seed, Purpose::Order, epoch, 0))
    }

    /// The number of shards of this rank.
    fn share(&self, shards: usize) -> usize {
        shards.saturating_sub(self.rank).div_ceil(self.world)
    }

    /// The shard at a place of this rank's order.
    fn shard(&self, order: &Permutation, place: usize) -> usize {
        let place = place * self.world + self.rank;
        if self.shuffles() { order.apply(place) } else { place }
    }
}

impl<C: Collate, S: Shards> StreamLoader<C, S> {
    /// The number of records in an epoch of this rank, if all of its shards know theirs.
    pub fn samples(&self, epoch: u64) -> Option<usize> {
        let all = self.records(epoch)?;
        let size = self.settings.batch_size;
        Some(if self.settings.drop_last { all / size * size } else { all })
    }

    /// As [`samples`](Self::samples), with those of a short last batch.
    fn records(&self, epoch: u64) -> Option<usize> {
        let order = self.settings.order(self.shards.shards(), epoch);
        let places = 0..self.settings.share(self.shards.shards());
        total(places.map(|place| self.shards.records(self.settings.shard(&order, place))))
    }

    /// Why an epoch of this rank has no batch, in words: see [`Loader::why_empty`]. `None` if it has one, or a shard
    /// doesn't know its records.
    pub fn why_empty(&self, epoch: u64) -> Option<String> {
        if self.batches(epoch)? > 0 {
            return None;
        }
        let Settings { batch_size, rank, world, .. } = *self.settings;
        let (all, shards) = (self.shards.shards(), self.settings.share(self.shards.shards()));
        Some(match self.records(epoch)? {
            0 => format!("0 records in {shards} of {all} shards, those of rank {rank} of {world}"),
            records => format!(
                "{}, batch size {batch_size}: drop_last leaves out the only batch, which is short",
                counted(records, "record")
            ),
        })
    }

    /// The number of batches in an epoch of this rank, if all of its shards know their records.
    pub fn batches(&self, epoch: u64) -> Option<usize> {
        Some(self.samples(epoch)?.div_ceil(self.settings.batch_size))
    }

    /// The number of worker threads: see [`Loader::workers`].
    pub fn workers(&self) -> usize {
        self.loader.workers()
    }

    /// The position before the first batch of an epoch.
    pub fn state(&self, epoch: u64) -> LoaderState {
        LoaderState::new(&self.loader, epoch, 0, 0)
    }

    /// All batches of an epoch.
    pub fn epoch(&self, epoch: u64) -> StreamEpoch<'_, C, S> {
        StreamEpoch::new(self, &self.state(epoch))
    }

    /// The rest of the epoch in which `state` was taken: the batches that were not yet delivered. The number of workers
    /// and the prefetch depth may differ.
    ///
    /// # Errors
    /// [`ErrorKind::State`] if the state was taken from a loader of other data or with other settings of the order.
    pub fn resume(&self, state: &LoaderState) -> Result<StreamEpoch<'_, C, S>, Error> {
        self.check(state)?;
        Ok(StreamEpoch::new(self, state))
    }

    /// Whether [`resume`](Self::resume) would take a state.
    ///
    /// # Errors
    /// As for `resume`.
    pub fn check(&self, state: &LoaderState) -> Result<(), Error> {
        let mut differences = state.differences(self.loader.seed, &self.loader.fingerprint)?;
        differences.extend(state.overrun(self.batches(state.epoch)));
        if !self.holds(state) {
            differences.push("stream: the saved place is in no shard here".to_owned());
        }
        LoaderState::refuse(differences)
    }

    /// Whether a state may be a place in these shards.
    fn holds(&self, state: &LoaderState) -> bool {
        let (size, shards) = (self.settings.batch_size as u64, self.settings.share(self.shards.shards()));
        let position = (state.batch as u64).checked_mul(size).filter(|&position| position <= MOST);
        let Some(position) = position else { return false };
        let most_faults = (state.delivered() as u64).saturating_mul(size);
        let in_shards = match &state.stream {
            None => state.batch == 0,
            Some(StreamState { window, cursor }) => {
                let start = window.checked_mul(self.settings.window as u64);
                start.is_some_and(|start| start <= position && cursor.is_sound(start, shards))
                    && cursor.lanes.len() == self.settings.lanes
            }
        };
        in_shards && state.faults as u64 <= most_faults
    }

    /// The stream as a source of batches for a trainer, which must know how many there are.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if a shard doesn't know the number of its records, or they are more than can be counted.
    pub fn counted(self) -> Result<Counted<C, S>, Error> {
        let shards = 0..self.shards.shards();
        let text = match shards.clone().find(|&shard| self.shards.records(shard).is_none()) {
            Some(shard) => {
                format!("a stream of known length: shard {shard} does not know how many records it has")
            }
            None if total(shards.map(|shard| self.shards.records(shard))).is_none() => {
                format!("a stream of known length: expected at most {} records, got more", usize::MAX)
            }
            None => return Ok(Counted(self)),
        };
        Err(Error::new(ErrorKind::Config, text))
    }
}

/// So many records nobody has ever read. A saved place behind them is damaged, and could not be counted on from.
const MOST: u64 = 1 << 62;

/// A sum, if all of it is known and it can be counted.
fn total(mut records: impl Iterator<Item = Option<u64>>) -> Option<usize> {
    let sum = records.try_fold(0u64, |sum, records| sum.checked_add(records?))?;
    usize::try_from(sum).ok()
}

/// A stream whose length is known, made by [`StreamLoader::counted`]: what a trainer can plan with.
pub struct Counted<C: Collate, S: Shards>(StreamLoader<C, S>);

impl<C: Collate, S: Shards> Counted<C, S> {
    /// The loader itself.
    pub fn loader(&self) -> &StreamLoader<C, S> {
        &self.0
    }
}

impl<C: Collate, S: Shards> Batches for Counted<C, S> {
    type Batch = C::Batch;

    fn batches(&self, epoch: u64) -> usize {
        // Known: `counted` has looked.
        self.0.batches(epoch).unwrap_or(0)
    }

    fn samples(&self, epoch: u64) -> usize {
        self.0.samples(epoch).unwrap_or(0)
    }

    fn why_empty(&self, epoch: u64) -> Option<String> {
        self.0.why_empty(epoch)
    }

    fn state(&self, epoch: u64) -> LoaderState {
        self.0.state(epoch)
    }

    fn check(&self, state: &LoaderState) -> Result<(), Error> {
        self.0.check(state)
    }

    fn epoch(&self, epoch: u64) -> Box<dyn BatchStream<C::Batch> + '_> {
        Box::new(self.0.epoch(epoch))
    }

    fn resume(&self, state: &LoaderState) -> Result<Box<dyn BatchStream<C::Batch> + '_>, Error> {
        Ok(Box::new(self.0.resume(state)?))
    }
}

/// An iterator over the batches of one epoch of a stream, from [`StreamLoader::epoch`] or [`StreamLoader::resume`]. See
/// [`Epoch`].
pub struct StreamEpoch<'l, C: Collate, S: Shards> {
    epoch: Epoch<'l, C>,
    settings: Arc<Settings>,
    shared: Arc<Shared<S::Record>>,
}

impl<'l, C: Collate, S: Shards> StreamEpoch<'l, C, S> {
    fn new(loader: &'l StreamLoader<C, S>, state: &LoaderState) -> Self {
        let total = Total { batches: None, samples: loader.samples(state.epoch) };
        let StreamLoader { loader, shards, settings, transform } = loader;
        let shared = Arc::new(Shared::default());
        let fill = Filler::<C, S> {
            shared: Arc::clone(&shared),
            seeds: RecordSeeds::new(settings.seed, state.epoch),
            stage: StageKey::WRITE,
            batch_size: settings.batch_size,
            transform: Arc::clone(transform),
        };
        let plan = Streamed::new(
            &loader.pool,
            Arc::clone(shards),
            Arc::clone(settings),
            (loader.executor.retry.clone(), loader.executor.gates.clone()),
            state,
            Arc::clone(&shared),
        );
        let executor = Arc::new(loader.executor.with_fill(Arc::new(fill)));
        let epoch = Epoch::of_plan(loader, executor, state, Box::new(plan), total);
        StreamEpoch { epoch, settings: Arc::clone(settings), shared }
    }

    /// Where the loader stands: behind the batches that were delivered.
    pub fn state(&self) -> LoaderState {
        let mut state = self.epoch.state();
        let position = (state.batch * self.settings.batch_size) as u64;
        state.stream = self
            .shared
            .window(self.settings.window as u64, position)
            .map(|(window, cursor)| StreamState { window, cursor });
        state
    }

    /// What happened so far, and where the time went.
    pub fn report(&self) -> &EpochReport {
        self.epoch.report()
    }
}

impl<C: Collate, S: Shards> StreamEpoch<'_, C, S> {
    /// What this iterator has delivered so far.
    pub fn delivered(&self) -> Delivered {
        self.epoch.delivered()
    }

    /// Forgets what no position needs any more.
    fn forget(&self) {
        let position = self.epoch.position() * self.settings.batch_size;
        self.shared.forget(self.settings.window as u64, position as u64);
    }
}

impl<C: Collate, S: Shards> Iterator for StreamEpoch<'_, C, S> {
    type Item = Result<C::Batch, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.epoch.next();
        self.forget();
        batch
    }
}

impl<C: Collate, S: Shards> std::iter::FusedIterator for StreamEpoch<'_, C, S> {}

impl<C: Collate, S: Shards> BatchStream<C::Batch> for StreamEpoch<'_, C, S> {
    fn try_next(&mut self) -> Poll<Option<Result<C::Batch, Error>>> {
        let batch = self.epoch.try_next();
        self.forget();
        batch
    }

    fn delivered(&self) -> Delivered {
        self.delivered()
    }

    fn state(&self) -> LoaderState {
        self.state()
    }

    fn waited(&self) -> Duration {
        self.epoch.waited()
    }

    fn report(&self) -> EpochReport {
        self.report().clone()
    }
}

/// Transforms the records of an epoch.
struct Filler<C: Collate, S: Shards> {
    shared: Arc<Shared<S::Record>>,
    seeds: RecordSeeds,
    stage: StageKey,
    batch_size: usize,
    transform: Arc<Transform<C, S>>,
}

impl<C: Collate, S: Shards> Fill<C> for Filler<C, S> {
    fn fill(
        &self,
        position: usize,
        _: SampleSeed,
        slot: SlotOf<'_, C>,
        stages: &mut Stages<'_>,
    ) -> Result<(), Failure> {
        let batch = self.shared.batch(position / self.batch_size);
        let item = batch.as_ref().and_then(|batch| batch.get(position % self.batch_size));
        let failure = |error: Error| Failure { kind: error.kind().clone(), source: error.into() };
        let Some(item) = item else { return Err(failure(Shared::<S::Record>::lost(position))) };
        let record = item.record.as_ref().map_err(|error| failure(error.clone()))?;
        // By the record, not by its position: ranks have the same positions and other records. None comes twice.
        let mut rng = self.seeds.at(item.shard as u64, item.number, 0).stage(&self.stage);
        stages.transform(|| (self.transform)(record, &mut rng, slot))?.map_err(|source| {
            let text = format!("shard {}, record {}", item.shard, item.number);
            Failure {
                kind: ErrorKind::Transform,
                source: Error::new(ErrorKind::Transform, text).caused_by(source).into(),
            }
        })
    }

    fn stage(&self) -> &StageKey {
        &self.stage
    }
}
