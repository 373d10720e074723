//! The records of batches, and what is done with them.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::iter::zip;
use std::sync::{Mutex, PoisonError};

use firebox_core::seed::SampleSeed;
use firebox_workers::Worker;

use crate::collate::{Collate, SlotOf};
use crate::dataset::Shards;
use crate::error::{Error, ErrorKind, check};
use crate::loader::fault::SampleFailure;
use crate::loader::source::shards::StreamState;
use crate::loader::source::shards::open_shards::OpenShards;
use crate::loader::source::shards::order::{EpochPasses, ShardOrder};
use crate::loader::source::shards::record_reader::{RecordReader, ends};
use crate::loader::source::shards::record_store::{Having, Held, Kept, RecordStore};
use crate::loader::source::{Along, Items, RecordStart, RunItems, SentRecord, Steps};
use crate::loader::work::{BatchTask, Failure, SampleId, Stages};
use crate::sync::Arc;

/// The records of an epoch, and what is done with them.
pub(super) struct RecordItems<S: Shards, P> {
    pub(super) records: Arc<RecordStore<S::Record>>,
    pub(super) order: Arc<ShardOrder>,
    /// The passes of the epoch, if it is a certain one.
    pub(super) passes: Option<EpochPasses>,
    pub(super) steps: Arc<P>,
    pub(super) having: Having<S::Record>,
    /// By which records are read that nobody has read ahead.
    pub(super) reader: RecordReader<S>,
    pub(super) open: Arc<OpenShards<S>>,
    pub(super) noting: Noting,
}

/// Which records' beginnings somebody else wants to know, and what was found.
#[derive(Default)]
pub(super) struct Noting {
    /// By the shard and the record.
    wanted: HashSet<(usize, u64)>,
    found: Mutex<Vec<RecordStart>>,
}

impl Noting {
    pub(super) fn of(wanted: Vec<(usize, u64)>) -> Self {
        Noting { wanted: wanted.into_iter().collect(), found: Mutex::default() }
    }
}

impl<S: Shards, P> RecordItems<S, P> {
    /// Keeps the records of a task that have come with it.
    pub(super) fn have(&self, task: &BatchTask, records: Vec<SentRecord>) -> Result<(), Error> {
        let (expected, got) = (task.samples.len(), records.len());
        check(expected == got, "task", format_args!("{expected} records to come along"), got)?;
        let kept = zip(&task.samples, records).map(|(&id, SentRecord { record, reread })| {
            Kept::new(id, record.map(Held::Written), reread.map(Box::new))
        });
        self.records.keep(task.batch as usize, 0, kept.collect());
        Ok(())
    }

    /// Hears that a record lies behind, and where the next one begins.
    fn passed(&self, shard: usize, next: u64, offset: Option<u64>) {
        let Some(offset) = offset else { return };
        self.open.note(&*self.reader.shards, shard, next, offset);
        if self.noting.wanted.contains(&(shard, next)) {
            let found = RecordStart { shard, record: next, offset };
            // Nothing panics under this lock.
            self.noting.found.lock().unwrap_or_else(PoisonError::into_inner).push(found);
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
        let batch = batch.filter(|records| records.iter().all(Kept::was_read));
        let first = task.run.start as usize;
        Box::new(RunOfRecords { items: self, task, batch, first, told: None, together: HashMap::new() })
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

    fn along(&self, task: &BatchTask) -> Along {
        let Some((_, batch)) = self.records.batch(task.batch as usize) else { return Along::default() };
        // A sample that is made apart from its batch comes with a run of its own.
        let first = task.run.start as usize;
        let kept = task.samples.iter().enumerate().filter_map(|(place, sample)| {
            let there = batch.get(first + place).filter(|kept| kept.id == *sample);
            there.or_else(|| batch.iter().find(|kept| kept.id == *sample))
        });
        let sent = kept.filter_map(|kept| {
            let reread = kept.reread().map(|failure| *failure);
            Some(SentRecord { record: kept.to_other()?, reread })
        });
        let records: Vec<SentRecord> = sent.collect();
        if self.having.read.is_some() && records.len() == task.samples.len() {
            return Along { records: Some(records), ..Along::default() };
        }
        let Some(passes) = &self.passes else { return Along::default() };
        let samples = task.samples.iter().filter_map(|sample| sample.record());
        let ends: HashSet<(usize, u64)> = samples.map(|(shard, record)| (shard, record + 1)).collect();
        let read: HashSet<usize> = ends.iter().map(|(shard, _)| *shard).collect();
        let (mut starts, mut wanted) = (BTreeSet::new(), BTreeSet::new());
        for lane in self.records.lanes() {
            let shard = passes.pass(lane.shard).shard;
            match lane.offset {
                Some(offset) if read.contains(&shard) && lane.record > 0 => {
                    starts.insert((shard, lane.record, offset));
                }
                None if ends.contains(&(shard, lane.record)) => _ = wanted.insert((shard, lane.record)),
                _ => {}
            }
        }
        let starts = starts.into_iter().map(|(shard, record, offset)| RecordStart { shard, record, offset });
        Along { records: None, starts: starts.collect(), wanted: wanted.into_iter().collect() }
    }

    fn found(&self) -> Vec<RecordStart> {
        std::mem::take(&mut *self.noting.found.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn learn(&self, starts: &[RecordStart]) {
        let Some(passes) = self.passes.as_ref().filter(|_| !starts.is_empty()) else { return };
        let offsets: HashMap<(usize, u64), u64> =
            starts.iter().map(|start| ((start.shard, start.record), start.offset)).collect();
        self.records.learn(|lane| offsets.get(&(passes.pass(lane.shard).shard, lane.record)).copied());
    }
}

/// The records of one run.
struct RunOfRecords<'r, S: Shards, P> {
    items: &'r RecordItems<S, P>,
    task: &'r BatchTask,
    /// Those of the whole batch, if they were read ahead; otherwise the run reads its own.
    batch: Option<Arc<[Kept<S::Record>]>>,
    /// The place of the run's first one in the batch.
    first: usize,
    /// The place in the run of the last record whose first failure was told.
    told: Option<usize>,
    /// Items read together and not asked for yet, by the place in the run.
    together: HashMap<usize, Read<S::Record>>,
}

/// A record that was read, and the failure that came before if it was read after one.
type Read<R> = (Result<R, Error>, Option<Box<SampleFailure>>);

impl<S: Shards, P> RunOfRecords<'_, S, P> {
    /// Reads a record from its shard.
    fn read(&self, shard: usize, record: u64, worker: Worker<'_>) -> Read<S::Record> {
        let RecordItems { reader, open, .. } = self.items;
        let all = reader.shards.shards();
        if let Err(error) = check(shard < all, "task", format_args!("a shard below {all}"), shard) {
            return (Err(error), None);
        }
        let way = open.way(&*reader.shards, shard, record);
        let passed = |next, offset| self.items.passed(shard, next, offset);
        let (tried, after) = reader.read((shard, record), way, worker, &passed);
        match (tried, after) {
            (Ok((Ok((read, after)), reread)), _) => {
                if reader.shards.records(shard) != Some(record + 1) {
                    open.leave(shard, record + 1, after);
                }
                (Ok(read), reread)
            }
            (Ok((Err(records), _)), _) => {
                let missing = || {
                    let text = format!("shard {shard}: expected a record {record}, got its end before");
                    Error::new(ErrorKind::Shard, text)
                };
                (Err(reader.miscounted(shard, records).unwrap_or_else(missing)), None)
            }
            (Err(error), Some(after)) => {
                open.leave(shard, record + 1, after);
                (Err(error), None)
            }
            (Err(error), None) => (Err(ends(shard, error)), None),
        }
    }
}

impl<C, S, P> RunItems<C> for RunOfRecords<'_, S, P>
where
    C: Collate,
    S: Shards,
    P: Steps<S::Record, C>,
{
    /// If it would go back in a shard.
    fn reads_together(&self) -> bool {
        let mut last = HashMap::new();
        let mut records = self.task.samples.iter().filter_map(|sample| sample.record());
        self.batch.is_none()
            && records.any(|(shard, record)| last.insert(shard, record).is_some_and(|last| last > record))
    }

    /// In the order of the shards, so that each is read from its beginning to its end.
    fn read_together(
        &mut self,
        begin: &dyn Fn(usize) -> bool,
        stages: &mut Stages<'_>,
    ) -> Result<(), Failure> {
        let samples = self.task.samples.iter().enumerate();
        let mut records: Vec<_> =
            samples.filter_map(|(place, sample)| Some((sample.record()?, place))).collect();
        records.sort_unstable();
        for ((shard, record), place) in records {
            if !begin(place) {
                break;
            }
            let read = stages.time_reading(|worker| self.read(shard, record, worker));
            self.together.insert(place, read);
        }
        Ok(())
    }

    fn write(
        &mut self,
        (place, sample): (usize, SampleId),
        seed: SampleSeed,
        slot: SlotOf<'_, C>,
        stages: &mut Stages<'_>,
    ) -> Result<(), Failure> {
        let Some((shard, record)) = sample.record() else {
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
                kept.take(&self.items.having).map_err(Failure::of_reading)?
            }
            None => {
                let together = self.together.remove(&place);
                let read = || stages.time_reading(|worker| self.read(shard, record, worker));
                let (read, reread) = together.unwrap_or_else(read);
                stages.reread = reread;
                read.map_err(Failure::of_reading)?
            }
        };
        let steps = &self.items.steps;
        stages.transform(|| steps.run(record, seed, slot))?
    }
}
