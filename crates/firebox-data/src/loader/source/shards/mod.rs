//! Shards as a source: records in an order that is found while they are read.
//!
//! The order of an epoch follows from the seed and the data alone: the shards in an order of the epoch, a few
//! of them taking turns, their records cut into windows, each window shuffled. Workers read shards ahead of
//! that order, and write records into batches as they do items of a data set: everything after the plan is
//! the same.

mod cursor;
mod deal;
mod feed;
mod open_shards;
mod order;
mod plan;
mod reader;
mod record_items;
mod record_order;
mod record_reader;
mod record_store;
mod stream_state;

use std::ops::Range;

use firebox_workers::Pool;

pub use stream_state::StreamState;

use crate::collate::Collate;
use crate::dataset::{Fingerprint, Shards};
use crate::error::{Error, ErrorKind, check};
use crate::loader::LoaderState;
use crate::loader::builder::Settings;
use crate::loader::fault::OnError;
use crate::loader::plan::rank_ends::{RankEnds, SumOverRanks};
use crate::loader::plan::{Plan, PlannedBatch};
use crate::loader::report::counted;
use crate::loader::source::{Along, Data, ForProcesses, Items, Source, SourceOf, Steps};
use crate::loader::work::{BatchTask, ReadLimits, SampleId};
use crate::sampler::{Ranks, UnevenRanks};
use crate::sync::Arc;
use cursor::Cursor;
use deal::{ShardDeal, uncounted, why_not_by_record};
use feed::{ChunkReader, Feeds, Supply, WriteRecord};
use open_shards::OpenShards;
use order::ShardOrder;
use plan::ShardPlan;
use record_items::{Noting, RecordItems};
use record_order::RecordOrder;
use record_reader::RecordReader;
use record_store::{Having, ReadRecord};

/// Makes another record like one.
type CopyOf<R> = fn(&R) -> R;

/// How records go to other processes.
struct Crossing<R> {
    write: WriteRecord<R>,
    read: ReadRecord<R>,
}

impl<R> Clone for Crossing<R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R> Copy for Crossing<R> {}

/// Who reads the records of an epoch, and where.
#[derive(Clone, Copy, PartialEq)]
enum Reading {
    /// Workers ahead of their turn, for batches that are made here.
    Here,
    /// Workers ahead of their turn, for batches that other processes make.
    ForOthers,
    /// The processes that make the batches.
    There,
}

/// Data without random access: shards, in an order.
pub struct Streamed<S: Shards> {
    shards: S,
    pub(in crate::loader) shuffle: Option<usize>,
    pub(in crate::loader) lanes: usize,
    pub(in crate::loader) repeats: usize,
    pub(in crate::loader) sum: Option<Arc<SumOverRanks>>,
    /// How a record is had for another try, if there may be any.
    copy: Option<CopyOf<S::Record>>,
    crossing: Option<Crossing<S::Record>>,
}

impl<S: Shards> Streamed<S> {
    /// Shards in their order, each read once.
    pub(in crate::loader) fn new(shards: S) -> Self {
        Streamed { shards, shuffle: None, lanes: 1, repeats: 1, sum: None, copy: None, crossing: None }
    }
}

#[cfg(all(feature = "processes", target_os = "linux"))]
impl<S: Shards<Record: firebox_workers::process_pool::Crosses>> Streamed<S> {
    /// Has records be written down for worker processes.
    pub(in crate::loader) fn send_records(&mut self) {
        use firebox_workers::Packed;

        self.crossing = Some(Crossing {
            write: |record| Ok(Packed::encode(record)?.0),
            read: |bytes| Ok(Packed::decode(bytes)?),
        });
    }
}

impl<S: Shards<Record: Clone>> Streamed<S> {
    /// Has records be kept until their batch is delivered.
    pub(in crate::loader) fn keep_records(&mut self) {
        self.copy = Some(Clone::clone);
    }
}

impl<S: Shards> Data for Streamed<S> {
    type Item = S::Record;

    fn source<C, P>(self, settings: &Settings, steps: P) -> Result<SourceOf<C>, Error>
    where
        C: Collate,
        P: Steps<Self::Item, C>,
    {
        let Streamed { shards, shuffle, lanes, repeats, sum, copy, crossing } = self;
        let Settings { seed, batch_size, drop_last, on_error, .. } = *settings;
        check(batch_size > 0, "batch size", "at least 1", batch_size)?;
        check(shuffle != Some(0), "shuffle window", "at least 1", 0)?;
        check(lanes > 0, "interleave", "at least 1", lanes)?;
        check(repeats > 0, "repeat", "at least 1", repeats)?;
        let most = (usize::MAX / shards.shards().max(1)).min(u32::MAX as usize);
        check(repeats <= most, "repeat", format_args!("at most {most}"), repeats)?;
        let passes = shards.shards() * repeats;
        let deal = ShardDeal::new(settings.ranks()?, settings.uneven, (&shards, passes), sum.is_some())?;
        if let OnError::Replace { .. } = on_error {
            let text = "on error: a stream has nothing to replace a record by, expected fail or skip";
            return Err(Error::new(ErrorKind::Config, text));
        }
        let unknown = uncounted(&shards);
        if let (Some(_), Some(shard)) = (on_error.share(), unknown) {
            let text = format!("on error: a share of how many? shard {shard} does not know its records");
            return Err(Error::new(ErrorKind::Config, text));
        }
        // No batch is ever so large, so that to cut it there changes nothing, and positions can be counted.
        let batch_size = batch_size.min(usize::MAX / 4);
        let (window, taking_turns) = (shuffle.unwrap_or(batch_size), lanes);
        let shards_of = shards.shards();
        let mut order = ShardOrder {
            seed,
            batch_size,
            drop_last,
            shuffle,
            window,
            lanes,
            shards: shards_of,
            repeats,
            deal,
        };
        // Where records are known, so are the ends.
        let ends = deal.whole.zip(sum).filter(|_| unknown.is_some());
        let rank_ends = ends.map(|(uneven, sum)| RankEnds::new(sum, deal.ranks, uneven)).transpose()?;
        // Of more lanes than shards the rest would be empty, at any rate.
        order.lanes = lanes.min(order.share().max(1));
        Ok(SourceOf(Arc::new(ShardSource {
            description: order.describe(&shards, taking_turns),
            fingerprint: shards.fingerprint(),
            shards: Arc::new(shards),
            order: Arc::new(order),
            steps: Arc::new(steps),
            rank_ends: rank_ends.map(Arc::new),
            copy,
            crossing,
            reading: Reading::Here,
            open: Arc::default(),
            may_skip: on_error != OnError::Fail,
        })))
    }
}

/// Shards, an order of their records, and what is done with them.
struct ShardSource<S: Shards, P> {
    shards: Arc<S>,
    order: Arc<ShardOrder>,
    description: String,
    fingerprint: Fingerprint,
    steps: Arc<P>,
    rank_ends: Option<Arc<RankEnds>>,
    copy: Option<CopyOf<S::Record>>,
    crossing: Option<Crossing<S::Record>>,
    reading: Reading,
    /// Open shards, for those who read records by their numbers.
    open: Arc<OpenShards<S>>,
    may_skip: bool,
}

/// So many records nobody has ever read. A saved place after them is damaged, and could not be counted on
/// from.
const MOST: u64 = 1 << 62;

impl<S: Shards, P> ShardSource<S, P> {
    /// The number of records in an epoch of the shards that a rank reads, with those of a short last batch,
    /// if all shards know theirs.
    fn records(&self, rank: usize, epoch: u64) -> Option<usize> {
        let passes = self.order.of_epoch(rank, epoch);
        let places = 0..self.order.deal.share(rank, self.order.passes());
        total(places.map(|place| self.shards.records(passes.pass(place).shard)))
    }

    /// The number of records in a rank's batches of an epoch, and of these batches, before ranks agree on
    /// one.
    fn in_batches(&self, rank: usize, epoch: u64) -> Option<(usize, usize)> {
        Some(self.order.in_batches(self.records(rank, epoch)?))
    }

    fn rank(&self) -> usize {
        self.order.deal.ranks.rank()
    }

    /// The same shards, read otherwise.
    fn read_by(&self, reading: Reading) -> Self {
        ShardSource {
            shards: Arc::clone(&self.shards),
            order: Arc::clone(&self.order),
            description: self.description.clone(),
            fingerprint: self.fingerprint.clone(),
            steps: Arc::clone(&self.steps),
            rank_ends: self.rank_ends.clone(),
            copy: self.copy,
            crossing: self.crossing,
            reading,
            open: Arc::clone(&self.open),
            may_skip: self.may_skip,
        }
    }

    fn reader(&self, limits: &ReadLimits, looks_behind: bool) -> RecordReader<S> {
        RecordReader {
            shards: Arc::clone(&self.shards),
            retry: limits.retry.clone(),
            limits: limits.limits.clone(),
            looks_behind,
        }
    }

    /// The records of an epoch, or of any, none of which was read.
    fn items(&self, limits: &ReadLimits, epoch: Option<u64>, noting: Noting) -> RecordItems<S, P> {
        RecordItems {
            records: Arc::default(),
            order: Arc::clone(&self.order),
            passes: epoch.map(|epoch| self.order.of_epoch(self.rank(), epoch)),
            steps: Arc::clone(&self.steps),
            having: Having { copy: self.copy, read: self.crossing.map(|crossing| crossing.read) },
            reader: self.reader(limits, true),
            open: Arc::clone(&self.open),
            noting,
        }
    }

    /// The number of batches in an epoch, the same on all ranks.
    fn batches(&self, epoch: u64) -> Option<usize> {
        let deal = self.order.deal;
        let ranks = if deal.whole.is_some() { deal.ranks.world() } else { 1 };
        let batches: Option<Vec<usize>> =
            (0..ranks).map(|rank| Some(self.in_batches(rank, epoch)?.1)).collect();
        Some(deal.agreed(batches?.into_iter()))
    }

    /// Why the number of batches isn't known.
    fn why_uncounted(&self) -> String {
        match uncounted(&*self.shards) {
            Some(shard) => {
                format!("a stream of known length: shard {shard} does not know how many records it has")
            }
            None => format!("a stream of known length: expected at most {} records, got more", usize::MAX),
        }
    }

    /// Tells whether a state may be a place in these shards.
    fn holds(&self, state: &LoaderState) -> bool {
        let (size, passes) = (self.order.batch_size as u64, self.order.share());
        let position = (state.batch as u64).checked_mul(size).filter(|&position| position <= MOST);
        let Some(position) = position else { return false };
        let most_faults = (state.delivered() as u64).saturating_mul(size);
        let in_shards = match &state.stream {
            None => state.batch == 0,
            Some(StreamState { rank, .. }) if *rank != self.order.deal.state_rank() => {
                *rank < self.order.deal.ranks.world()
            }
            Some(StreamState { window, cursor, .. }) => {
                let start = window.checked_mul(self.order.window as u64);
                start.is_some_and(|start| start <= position && cursor.is_sound(start, passes))
                    && cursor.lanes.len() == self.order.lanes
            }
        };
        in_shards && state.faults as u64 <= most_faults
    }
}

/// A sum, if all of it is known and it can be counted.
fn total(mut records: impl Iterator<Item = Option<u64>>) -> Option<usize> {
    let sum = records.try_fold(0u64, |sum, records| sum.checked_add(records?))?;
    usize::try_from(sum).ok()
}

impl<C, S, P> Source<C> for ShardSource<S, P>
where
    C: Collate,
    S: Shards,
    P: Steps<S::Record, C>,
{
    fn batches(&self, epoch: u64) -> Option<usize> {
        self.batches(epoch)
    }

    fn samples(&self, epoch: u64) -> Option<usize> {
        let ShardOrder { batch_size, deal, .. } = *self.order;
        let (samples, _) = self.in_batches(self.rank(), epoch)?;
        match deal.whole {
            None => Some(deal.ranks.samples_of(samples, batch_size)),
            Some(_) => Some(samples.min(self.batches(epoch)?.saturating_mul(batch_size))),
        }
    }

    fn why_empty(&self, epoch: u64) -> Option<String> {
        match self.batches(epoch) {
            None => return Some(self.why_uncounted()),
            Some(0) => {}
            Some(_) => return None,
        }
        let ShardOrder { batch_size, deal, .. } = *self.order;
        let (rank, world, all) = (self.rank(), deal.ranks.world(), self.order.passes());
        let share = deal.share(rank, all);
        Some(match (self.records(rank, epoch)?, self.in_batches(rank, epoch)?) {
            (0, _) => format!("0 records in {share} of {all} shards, those of rank {rank} of {world}"),
            (records, (0, _)) => format!(
                "{}, batch size {batch_size}: drop_last leaves out the only batch, which is short",
                counted(records, "record")
            ),
            _ => format!("a rank of {world} has no batch, and all stop with it"),
        })
    }

    fn describe_order(&self) -> String {
        self.description.clone()
    }

    fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    fn differences(&self, state: &LoaderState) -> Vec<String> {
        let mut differences: Vec<String> = state.overrun(self.batches(state.epoch)).into_iter().collect();
        if !self.holds(state) {
            differences.push("stream: the saved place is in no shard here".to_owned());
        }
        differences
    }

    fn open<'l>(
        &self,
        pool: &'l Pool,
        limits: &ReadLimits,
        state: &LoaderState,
    ) -> (Box<dyn Plan + 'l>, Arc<dyn Items<C>>) {
        let items = self.items(limits, Some(state.epoch), Noting::default());
        let supply = match self.reading {
            Reading::There => Supply::Numbered(Arc::clone(&self.shards)),
            reading => {
                let write = self.crossing.filter(|_| reading == Reading::ForOthers);
                let reader = ChunkReader::new(
                    self.reader(limits, false),
                    write.map(|crossing| crossing.write),
                    (self.may_skip, pool.limit().is_some()),
                );
                Supply::Read(Box::new(Feeds::new(pool, reader)))
            }
        };
        let batches = match (&self.rank_ends, self.order.deal.whole) {
            // It shows when all have ended.
            (Some(_), Some(UnevenRanks::Pad)) => Some(usize::MAX),
            (_, Some(_)) => self.batches(state.epoch),
            (_, None) => None,
        };
        let (order, records) = (Arc::clone(&self.order), Arc::clone(&items.records));
        let plan = ShardPlan::new(supply, pool.workers(), batches, order, state, records);
        (Box::new(plan), Arc::new(items))
    }

    fn alone(&self, limits: &ReadLimits) -> Result<Arc<dyn Items<C>>, Error> {
        match why_not_by_record(&*self.shards) {
            None => Ok(Arc::new(self.items(limits, None, Noting::default()))),
            Some(why) => {
                let text =
                    format!("task: expected samples that are known without reading, got shards: {why}");
                Err(Error::new(ErrorKind::Config, text))
            }
        }
    }

    fn for_processes(&self, processes: usize) -> Result<Option<ForProcesses<C>>, Error> {
        let (reading, readers) = match (why_not_by_record(&*self.shards), &self.crossing) {
            (None, _) => (Reading::There, 0),
            (Some(_), Some(_)) => (Reading::ForOthers, self.order.lanes.min(processes)),
            (Some(why), None) => {
                let text = format!(
                    "recipe: expected shards that worker processes can read, or LoaderBuilder::send_records, \
                     got shards whose records only one reader can find: {why}"
                );
                return Err(Error::new(ErrorKind::Config, text));
            }
        };
        Ok(Some(ForProcesses { source: Arc::new(self.read_by(reading)), readers }))
    }

    fn received(
        &self,
        limits: &ReadLimits,
        task: &BatchTask,
        along: Along,
    ) -> Result<Arc<dyn Items<C>>, Error> {
        let Along { records, starts, wanted } = along;
        let Some(records) = records else {
            self.alone(limits)?;
            starts.into_iter().for_each(|start| self.open.keep(start.shard, start.record, start.offset));
            return Ok(Arc::new(self.items(limits, None, Noting::of(wanted))));
        };
        let items = self.items(limits, None, Noting::default());
        items.have(task, records)?;
        Ok(Arc::new(items))
    }

    fn place(&self, epoch: u64, batch: usize) -> (usize, Option<usize>) {
        let start = batch * self.order.batch_size;
        let all = self.in_batches(self.rank(), epoch).map_or(0, |(records, _)| records.saturating_sub(start));
        (start + self.order.deal.run(batch, all.min(self.order.batch_size)).start, None)
    }

    fn planned(&self, epoch: u64, batch: usize) -> PlannedBatch {
        let passes = self.order.of_epoch(self.rank(), epoch);
        let records = |shard| self.shards.records(shard).unwrap_or(0);
        let mut order = RecordOrder::new(Arc::clone(&self.order), epoch, 0, Cursor::new(self.order.lanes));
        let ids = std::iter::from_fn(|| order.next_id(&passes, records));
        let first = batch * self.order.batch_size;
        let whole: Vec<SampleId> = ids.skip(first).take(self.order.batch_size).collect();
        let run = self.order.deal.run(batch, whole.len());
        let start = first + run.start;
        PlannedBatch { batch, start, samples: whole[run].to_vec(), width: None, error: None }
    }

    fn ranks(&self) -> Ranks {
        self.order.deal.ranks
    }

    fn substitutes(&self, _: u64, _: usize) -> Range<usize> {
        0..0
    }

    fn rank_ends(&self) -> Option<&RankEnds> {
        self.rank_ends.as_deref()
    }

    fn sample(&self, _: u64, _: usize) -> Option<SampleId> {
        None
    }

    fn name(&self, error: Error, sample: SampleId, position: usize) -> Error {
        // What was wrong with reading a record names it.
        let is_named = matches!(error.kind(), ErrorKind::Dataset | ErrorKind::Shard);
        let place = match sample {
            SampleId::Record { shard, record, .. } if !is_named => {
                Some(format!("shard {shard}, record {record}"))
            }
            _ => None,
        };
        error.at_index(position).at_place(place)
    }

    fn describe(&self, _: usize) -> Option<String> {
        None
    }
}
