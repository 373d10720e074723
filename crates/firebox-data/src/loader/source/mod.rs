//! Where a loader's samples come from: a data set, or shards. Everything else of the loader is the same for
//! both.

mod indexed;
mod shards;

use std::ops::Range;

use firebox_workers::Pool;
use serde::{Deserialize, Serialize};

pub use indexed::Indexed;
pub(super) use indexed::IndexedSource;
pub use shards::{StreamState, Streamed};

use crate::collate::{Collate, SlotOf};
use crate::dataset::Fingerprint;
use crate::error::{Error, ErrorKind};
use crate::loader::LoaderState;
use crate::loader::builder::Settings;
use crate::loader::fault::SampleFailure;
use crate::loader::plan::rank_ends::RankEnds;
use crate::loader::plan::{Plan, PlannedBatch};
use crate::loader::work::{BatchTask, Failure, ReadLimits, SampleId, Stages};
use crate::sampler::Ranks;
use crate::sync::Arc;
use crate::transform::Write;
use crate::transform::{Chain, StageError};
use firebox_core::StageKey;
use firebox_core::seed::SampleSeed;

/// The kind of data that a [`LoaderBuilder`](crate::loader::LoaderBuilder) is about: a data set ([`Indexed`])
/// or shards ([`Streamed`]).
///
/// Nobody implements it but this crate.
pub trait Data: Sized {
    /// The type of the data's items, which the first stage gets.
    type Item: Send + 'static;

    /// Makes a source of it, whose items go through these steps.
    #[doc(hidden)]
    fn source<C, P>(self, settings: &Settings, steps: P) -> Result<SourceOf<C>, Error>
    where
        C: Collate,
        P: Steps<Self::Item, C>;
}

/// A source, whatever it is.
#[doc(hidden)]
pub struct SourceOf<C>(pub(super) Arc<dyn Source<C>>);

/// The source of a loader's samples.
pub(super) trait Source<C: Collate>: Send + Sync {
    /// The number of batches in an epoch, if it is known.
    fn batches(&self, epoch: u64) -> Option<usize>;

    /// The number of samples in an epoch's batches, if it is known.
    fn samples(&self, epoch: u64) -> Option<usize>;

    /// Why an epoch has no batch, in words, or why nobody knows.
    fn why_empty(&self, epoch: u64) -> Option<String>;

    /// The data and their order, in words.
    fn describe_order(&self) -> String;

    /// By which other data are noticed.
    fn fingerprint(&self) -> &Fingerprint;

    /// In what a saved position can't be one of these data.
    fn differences(&self, state: &LoaderState) -> Vec<String>;

    /// The batches of an epoch from a state on, which must have been checked, and the items that they are
    /// made of.
    fn open<'l>(
        &self,
        pool: &'l Pool,
        limits: &ReadLimits,
        state: &LoaderState,
    ) -> (Box<dyn Plan + 'l>, Arc<dyn Items<C>>);

    /// The items of tasks that are run apart from an epoch.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] of data whose samples aren't known before they are read.
    fn alone(&self, limits: &ReadLimits) -> Result<Arc<dyn Items<C>>, Error>;

    /// The same data for a loader whose batches so many worker processes make, if that is another thing.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] of data that no other process can have.
    fn for_processes(&self, processes: usize) -> Result<Option<ForProcesses<C>>, Error> {
        let _ = processes;
        Ok(None)
    }

    /// The items of a task in a worker process, with what has come along with it.
    ///
    /// # Errors
    /// If that is not what belongs to the task.
    fn received(
        &self,
        limits: &ReadLimits,
        task: &BatchTask,
        along: Along,
    ) -> Result<Arc<dyn Items<C>>, Error> {
        let _ = (task, along);
        self.alone(limits)
    }

    /// The samples of a batch, of data that have such items.
    fn planned(&self, epoch: u64, batch: usize) -> PlannedBatch;

    /// The position of such a batch's first sample, and its width if that is known.
    fn place(&self, epoch: u64, batch: usize) -> (usize, Option<usize>);

    /// The ranks that have a part of each batch, or batches of their own that go with it.
    fn ranks(&self) -> Ranks;

    /// The number of these ranks.
    fn world(&self) -> usize {
        self.ranks().world()
    }

    /// Tells whether batches that are padded have one width on all ranks: whether it is known before they are
    /// made.
    fn knows_width(&self) -> bool {
        false
    }

    /// The question of ranks to each other before each batch, if they can't know when others end.
    fn rank_ends(&self) -> Option<&RankEnds> {
        None
    }

    /// The positions that a sample of a batch may have a substitute from: the same ones on every rank.
    fn substitutes(&self, epoch: u64, batch: usize) -> Range<usize>;

    /// The sample at a position of an epoch, if positions can be reached in any order.
    fn sample(&self, epoch: u64, position: usize) -> Option<SampleId>;

    /// Has an error name a sample.
    fn name(&self, error: Error, sample: SampleId, position: usize) -> Error;

    /// Where an item comes from, in words, if its index doesn't say it.
    fn describe(&self, index: usize) -> Option<String>;

    /// The source itself if it has random access.
    fn indexed(&self) -> Option<&IndexedSource<C>> {
        None
    }
}

/// The items of an epoch, as workers find them.
pub(super) trait Items<C: Collate>: Send + Sync {
    /// Those of a task.
    fn run<'r>(&'r self, task: &'r BatchTask) -> Box<dyn RunItems<C> + 'r>;

    /// The state that a position after so many batches is saved by, beside their number.
    fn stream_state(&self, delivered: usize) -> Option<StreamState> {
        let _ = delivered;
        None
    }

    /// Tells whether a batch is of these data, and not only there since other ranks go on.
    fn has(&self, batch: usize) -> bool {
        let _ = batch;
        true
    }

    /// The data that have to go with a task to another process.
    fn along(&self, task: &BatchTask) -> Along {
        let _ = task;
        Along::default()
    }

    /// Where records begin, of those that were asked for, as far as that was found.
    fn found(&self) -> Vec<RecordStart> {
        Vec::new()
    }

    /// Hears where records begin that were asked for.
    fn learn(&self, starts: &[RecordStart]) {
        let _ = starts;
    }

    /// Forgets what is needed for positions before so many batches.
    fn forget(&self, delivered: usize) {
        let _ = delivered;
    }
}

/// Data for a loader whose batches worker processes make.
pub(super) struct ForProcesses<C> {
    pub(super) source: Arc<dyn Source<C>>,
    /// How many threads read them in this process.
    pub(super) readers: usize,
}

/// Data that go with the task of a batch of records to another process.
#[derive(Default)]
pub(super) struct Along {
    /// The records, if they were read ahead.
    pub(super) records: Option<Vec<SentRecord>>,
    /// Where some records of the shards begin.
    pub(super) starts: Vec<RecordStart>,
    /// The records whose beginnings are to be told, by the shard and the record.
    pub(super) wanted: Vec<(usize, u64)>,
}

/// A record on its way to another process.
pub(super) struct SentRecord {
    /// Written down.
    pub(super) record: Result<Arc<Vec<u8>>, Error>,
    /// The failure before it could be read.
    pub(super) reread: Option<SampleFailure>,
}

/// Where a record begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RecordStart {
    pub(super) shard: usize,
    pub(super) record: u64,
    /// In its shard.
    pub(super) offset: u64,
}

/// The items of one task.
pub(super) trait RunItems<C: Collate> {
    /// Tells whether it is better to read them together.
    fn reads_together(&self) -> bool {
        false
    }

    /// Reads them together. If it reads one after the other, it says which it begins, by its place, and ends
    /// if nobody waits for it.
    fn read_together(
        &mut self,
        begin: &dyn Fn(usize) -> bool,
        stages: &mut Stages<'_>,
    ) -> Result<(), Failure> {
        let _ = (begin, stages);
        Ok(())
    }

    /// Reads a sample's item and writes what becomes of it into its slot. The sample is that of a place in
    /// the task, or another one that takes its place.
    fn write(
        &mut self,
        sample: (usize, SampleId),
        seed: SampleSeed,
        slot: SlotOf<'_, C>,
        stages: &mut Stages<'_>,
    ) -> Result<(), Failure>;
}

/// The steps of each item into its slot.
#[doc(hidden)]
pub trait Steps<In, C: Collate>: Send + Sync + 'static {
    /// Takes an item into its slot.
    fn run(&self, item: In, seed: SampleSeed, slot: SlotOf<'_, C>) -> Result<(), Failure>;
}

/// The stages between an item and its slot, and the one that writes.
pub(super) struct ChainAndWrite<T, W> {
    pub(super) chain: T,
    pub(super) write: W,
}

impl<In, C, T, W> Steps<In, C> for ChainAndWrite<T, W>
where
    C: Collate,
    T: Chain<In>,
    W: Write<T::Out, C>,
{
    #[inline]
    fn run(&self, item: In, seed: SampleSeed, slot: SlotOf<'_, C>) -> Result<(), Failure> {
        let failed = |StageError { stage, source }: StageError| Failure::of_stage(stage.to_string(), source);
        let item = self.chain.run(item, seed).map_err(failed)?;
        let mut rng = seed.stage(&StageKey::WRITE);
        self.write.write(item, &mut rng, slot).map_err(|source| Failure::new(ErrorKind::Transform, source))
    }
}
