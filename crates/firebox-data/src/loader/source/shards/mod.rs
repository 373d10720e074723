//! Shards as a source: records in an order that is found while they are read.
//!
//! The order of an epoch follows from the seed and the data alone: the shards in an order of the epoch, a few
//! of them taking turns, their records cut into windows, each window shuffled. Workers read shards ahead of
//! that order, and write records into batches as they do items of a data set: everything after the plan is
//! the same.

mod cursor;
mod deal;
mod feed;
mod order;
mod plan;
mod reader;
mod record_order;
mod record_store;

use std::collections::HashMap;
use std::ops::Range;

use firebox_workers::Pool;
use serde::{Deserialize, Serialize};

use crate::collate::{Collate, SlotOf};
use crate::dataset::{Fingerprint, Shards};
use crate::error::{BoxError, Error, ErrorKind, check};
use crate::loader::builder::{LoaderBuilder, Settings};
use crate::loader::fault::OnError;
use crate::loader::plan::{Plan, PlannedBatch};
use crate::loader::rank_ends::{RankEnds, SumOverRanks};
use crate::loader::report::counted;
use crate::loader::source::{Data, Items, RunItems, Source, SourceOf, Steps};
use crate::loader::work::{BatchTask, Executor, Failure, SampleId, Stages};
use crate::loader::{Loader, LoaderState};
use crate::sampler::{Ranks, UnevenRanks};
use crate::sync::Arc;
use cursor::Cursor;
use deal::{ShardDeal, uncounted, why_not_by_record};
use feed::{ChunkReader, Feeds, failed};
use firebox_core::SampleSeed;
use order::ShardOrder;
use plan::ShardPlan;
use reader::{Entry, Reader};
use record_order::RecordOrder;
use record_store::{Kept, RecordStore};

/// Makes another record like one.
type CopyOf<R> = fn(&R) -> R;

/// Data without random access: shards, in an order.
pub struct Streamed<S: Shards> {
    shards: S,
    shuffle: Option<usize>,
    lanes: usize,
    repeats: usize,
    sum: Option<Arc<SumOverRanks>>,
    /// How a record is had for another try, if there may be any.
    copy: Option<CopyOf<S::Record>>,
}

impl Loader<()> {
    /// A loader of data without random access.
    ///
    /// As it stands: every record of one shard after the other, one a batch.
    ///
    /// ```
    /// use firebox_data::{Lines, Loader, Pad};
    /// # let folder = tempfile::tempdir()?;
    /// # let files = [folder.path().join("a.txt"), folder.path().join("b.txt")];
    /// # files.iter().for_each(|file| std::fs::write(file, "one\ntwo\nthree\n").unwrap());
    ///
    /// let loader = Loader::stream(Lines::new(files))
    ///     .shuffle_window(1000)
    ///     .seed(42)
    ///     .batch_size(4)
    ///     .workers(2)
    ///     .build(Pad::with(0), |line, _, letters| {
    ///         letters.extend(line.bytes().map(i64::from));
    ///         Ok(())
    ///     })?;
    /// let mut lines = 0;
    /// for batch in loader.epoch(0) {
    ///     lines += batch?.lengths.len();
    /// }
    /// assert_eq!(lines, 6);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors when it is built
    /// Those of [`build`](LoaderBuilder::build); [`ErrorKind::OutOfRange`] also if the shuffle's window or
    /// the number of shards that take turns is 0, or the rank is not below the world; [`ErrorKind::Config`]
    /// for [`OnError::Replace`], which a stream has no substitutes for.
    pub fn stream<S: Shards>(shards: S) -> LoaderBuilder<Streamed<S>> {
        LoaderBuilder::new(Streamed { shards, shuffle: None, lanes: 1, repeats: 1, sum: None, copy: None })
    }
}

impl<S: Shards, T> LoaderBuilder<Streamed<S>, T> {
    /// Gives each epoch its own random order: of the shards, and of the records in windows of this many. A
    /// window is held in memory, and read again by a resume in its middle.
    pub fn shuffle_window(mut self, records: usize) -> Self {
        self.data.shuffle = Some(records);
        self
    }

    /// How many shards take turns, 16 records each. More mix better, and are read by more workers. Default:
    /// 1.
    pub fn interleave(mut self, shards: usize) -> Self {
        self.data.lanes = shards;
        self
    }

    /// How often each shard is read in an epoch. Default: once.
    ///
    /// Each time it has its own place in the epoch's order, and its records their own random numbers: for
    /// data so few that an epoch would be over at once, or whose records are to be augmented several times.
    pub fn repeat(mut self, times: usize) -> Self {
        self.data.repeats = times;
        self
    }

    /// How [ranks](LoaderBuilder::rank) tell each other when they end, which is needed if shards don't know
    /// their records: a sum over all ranks, as a library of collective communication has it.
    ///
    /// It gives each rank the sum of the numbers that all ranks have given, and waits for them. The thread that
    /// asks for batches calls it: in [`next`](Iterator::next) once before each batch and once at the end; in
    /// place of that, once with the number for *gone*, where the epoch ends by an error, or where it is dropped
    /// between its first `next` and its end. So all ranks call it equally often, whatever becomes of one: if it
    /// is gone, the others hear it when they ask next, and their epochs end with an
    /// [error](ErrorKind::Ranks) that names it. [`try_next`](crate::Epoch::try_next) never calls it.
    ///
    /// It is a collective call, with those that a job makes besides: all ranks must make them in the same order,
    /// and a rank that waits in this one can't hear of another. An error of it ends the epoch, and it is not
    /// called again; so a limit for its wait belongs in here.
    ///
    /// ```
    /// use std::sync::{Arc, Barrier, Mutex};
    /// use firebox_data::{Lines, Loader, Scalar};
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let files = ["a.txt", "b.txt"].map(|name| folder.path().join(name));
    /// # std::fs::write(&files[0], "one\ntwo\nthree\n")?;
    /// # std::fs::write(&files[1], "four\n")?;
    /// // Two threads that are ranks; between processes it is an all-reduce.
    /// let (barrier, sums) = (Arc::new(Barrier::new(2)), Arc::new(Mutex::new([0, 0])));
    /// let batches = std::thread::scope(|scope| {
    ///     let ranks = [0, 1].map(|rank| {
    ///         let (barrier, sums) = (Arc::clone(&barrier), Arc::clone(&sums));
    ///         let loader = Loader::stream(Lines::new(files.clone())).rank(rank, 2).sum_over_ranks(move |number| {
    ///             sums.lock().map_err(|_| "a rank has panicked")?[rank] = number;
    ///             barrier.wait();
    ///             let sum = sums.lock().map_err(|_| "a rank has panicked")?.iter().sum();
    ///             barrier.wait();
    ///             Ok(sum)
    ///         });
    ///         scope.spawn(move || {
    ///             let loader = loader.build(Scalar::new(), |line: String, _, slot| Ok(*slot = line.len()))?;
    ///             loader.epoch(0).map(|batch| Ok(batch?.into_vec())).collect::<Result<Vec<_>, firebox_data::Error>>()
    ///         })
    ///     });
    ///     ranks.map(|rank| rank.join().expect("no panic"))
    /// });
    /// let [first, second] = batches;
    /// assert_eq!((first?, second?), (vec![vec![3], vec![3], vec![5]], vec![vec![4], vec![], vec![]]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn sum_over_ranks(
        mut self,
        sum: impl Fn(usize) -> Result<usize, BoxError> + Send + Sync + 'static,
    ) -> Self {
        self.data.sum = Some(Arc::new(sum));
        self
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
        let Streamed { shards, shuffle, lanes, repeats, sum, copy } = self;
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
            rank_ends,
            copy,
            may_skip: on_error != OnError::Fail,
        })))
    }
}

/// Where a stream stands: a part of [`LoaderState`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamState {
    /// The window of the next record.
    window: u64,
    /// Where that window begins.
    cursor: Cursor,
    /// Whose shards that is about, if shards are dealt to ranks whole. Another rank reads its own from their
    /// beginning.
    #[serde(default, skip_serializing_if = "is_first")]
    rank: usize,
}

fn is_first(rank: &usize) -> bool {
    *rank == 0
}

/// Shards, an order of their records, and what is done with them.
struct ShardSource<S: Shards, P> {
    shards: Arc<S>,
    order: Arc<ShardOrder>,
    description: String,
    fingerprint: Fingerprint,
    steps: Arc<P>,
    rank_ends: Option<RankEnds>,
    copy: Option<CopyOf<S::Record>>,
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

    /// Whether a state may be a place in these shards.
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
        executor: &Executor<C>,
        state: &LoaderState,
    ) -> (Box<dyn Plan + 'l>, Arc<dyn Items<C>>) {
        let items = self.items();
        let (shards, has_time_limit) = (Arc::clone(&self.shards), pool.limit().is_some());
        let reader = ChunkReader::new(
            shards,
            executor.retry.clone(),
            executor.limits.clone(),
            (self.may_skip, has_time_limit),
        );
        let batches = match (&self.rank_ends, self.order.deal.whole) {
            // It shows when all have ended.
            (Some(_), Some(UnevenRanks::Pad)) => Some(usize::MAX),
            (_, Some(_)) => self.batches(state.epoch),
            (_, None) => None,
        };
        let (feeds, order) = (Feeds::new(pool, reader), Arc::clone(&self.order));
        let records = Arc::clone(&items.records);
        let plan = ShardPlan::new(feeds, pool.workers(), batches, order, state, records);
        (Box::new(plan), Arc::new(items))
    }

    fn alone(&self) -> Result<Arc<dyn Items<C>>, Error> {
        match why_not_by_record(&*self.shards) {
            None => Ok(Arc::new(self.items())),
            Some(why) => {
                let text =
                    format!("task: expected samples that are known without reading, got shards: {why}");
                Err(Error::new(ErrorKind::Config, text))
            }
        }
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
        self.rank_ends.as_ref()
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

/// The records of an epoch, and what is done with them.
struct RecordItems<S: Shards, P> {
    records: Arc<RecordStore<S::Record>>,
    shards: Arc<S>,
    order: Arc<ShardOrder>,
    steps: Arc<P>,
    copy: Option<CopyOf<S::Record>>,
}

impl<S: Shards, P> ShardSource<S, P> {
    /// The records of an epoch, none of which was read.
    fn items(&self) -> RecordItems<S, P> {
        RecordItems {
            records: Arc::default(),
            shards: Arc::clone(&self.shards),
            order: Arc::clone(&self.order),
            steps: Arc::clone(&self.steps),
            copy: self.copy,
        }
    }
}

impl<C, S, P> Items<C> for RecordItems<S, P>
where
    C: Collate,
    S: Shards,
    P: Steps<S::Record, C>,
{
    fn run<'r>(&'r self, task: &'r BatchTask) -> Box<dyn RunItems<C> + 'r> {
        let batch = self.records.batch(task.batch as usize).map(|(_, records)| records);
        let first = task.run.start as usize;
        Box::new(RunOfRecords { items: self, batch, first, told: None, readers: HashMap::new() })
    }

    fn stream_state(&self, delivered: usize) -> Option<StreamState> {
        let position = (delivered * self.order.batch_size) as u64;
        let (window, cursor) = self.records.window(self.order.window as u64, position)?;
        let rank = self.order.deal.state_rank();
        Some(StreamState { window, cursor, rank })
    }

    fn has(&self, batch: usize) -> bool {
        self.records.has(batch)
    }

    fn forget(&self, delivered: usize) {
        self.records.forget(self.order.window as u64, (delivered * self.order.batch_size) as u64);
    }
}

/// The records of one run.
struct RunOfRecords<'r, S: Shards, P> {
    items: &'r RecordItems<S, P>,
    /// Those of the whole batch, if they were read ahead; otherwise the run reads its own.
    batch: Option<Arc<[Kept<S::Record>]>>,
    /// The place of the run's first one in the batch.
    first: usize,
    /// The place in the run of the last record whose first failure was told.
    told: Option<usize>,
    /// What the run reads its records by: of each shard a reader, and the record before which it stands.
    readers: HashMap<usize, (u64, Reader<S>)>,
}

impl<S: Shards, P> RunOfRecords<'_, S, P> {
    /// Reads a record from its shard.
    fn read(&mut self, shard: usize, record: u64) -> Result<S::Record, Error> {
        let shards = &*self.items.shards;
        let all = shards.shards();
        check(shard < all, "task", format_args!("a shard below {all}"), shard)?;
        // A reader that failed, or panicked, is not used again.
        let left = self.readers.remove(&shard).filter(|(next, _)| *next == record);
        let named = |error| failed(shard, record, error);
        let mut reader = match left {
            Some((_, reader)) => reader,
            None => {
                let entry = Entry::at(shards, shard, record, None).unwrap_or(Entry::BEGINNING);
                entry.open(shards, shard, record, || true).map_err(named)?
            }
        };
        match reader.next() {
            Some(read) => {
                let read = read.map_err(named)?;
                self.readers.insert(shard, (record + 1, reader));
                Ok(read)
            }
            None => {
                let text = format!("shard {shard}: expected a record {record}, got its end before");
                Err(Error::new(ErrorKind::Shard, text))
            }
        }
    }
}

impl<C, S, P> RunItems<C> for RunOfRecords<'_, S, P>
where
    C: Collate,
    S: Shards,
    P: Steps<S::Record, C>,
{
    fn write(
        &mut self,
        (place, sample): (usize, SampleId),
        seed: SampleSeed,
        slot: SlotOf<'_, C>,
        stages: &mut Stages<'_>,
    ) -> Result<(), Failure> {
        let SampleId::Record { shard, record, .. } = sample else {
            return Err(Failure::last(
                ErrorKind::Dataset,
                "expected a record of a shard, got an item of a data set",
            ));
        };
        let record = match &self.batch {
            Some(batch) => {
                let kept = batch.get(self.first + place).filter(|kept| kept.id == sample);
                let Some(kept) = kept else {
                    return Err(Failure::last(ErrorKind::Workers, "the record is not there"));
                };
                if self.told != Some(place) {
                    self.told = Some(place);
                    stages.reread = kept.reread();
                }
                kept.take(self.items.copy).map_err(|error| Failure::last(error.kind().clone(), error))?
            }
            None => {
                let read = stages.read(|| self.read(shard, record))?;
                read.map_err(|error| Failure::new(error.kind().clone(), error))?
            }
        };
        let steps = &self.items.steps;
        stages.transform(|| steps.run(record, seed, slot))?
    }
}
