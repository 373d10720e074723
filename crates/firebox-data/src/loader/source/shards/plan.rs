//! The batches of a stream, as its records are read.

use std::collections::{BTreeSet, HashMap};

use crate::dataset::Shards;
use crate::error::{Error, ErrorKind};
use crate::loader::LoaderState;
use crate::loader::plan::{Plan, Planned, PlannedBatch};
use crate::loader::report::Stint;
use crate::loader::source::shards::cursor::Cursor;
use crate::loader::source::shards::feed::{CHUNK, Supply};
use crate::loader::source::shards::order::{EpochPasses, ShardOrder};
use crate::loader::source::shards::record_order::RecordOrder;
use crate::loader::source::shards::record_store::{Kept, RecordStore};
use crate::loader::work::SampleId;
use crate::sync::Arc;

/// The batches of an epoch of a stream.
pub(super) struct ShardPlan<'l, S: Shards> {
    order: Arc<ShardOrder>,
    passes: EpochPasses,
    supply: Supply<'l, S>,
    /// Shards that are read before the cursor gets to them.
    early: usize,
    ahead: RecordOrder<Kept<S::Record>>,
    /// Records of the first windows that were delivered before a resume.
    passed: u64,
    /// The next batch, and those after it that were delivered before a resume.
    batch: usize,
    delivered: BTreeSet<usize>,
    forming: Vec<Kept<S::Record>>,
    /// The errors of batches, planned and not delivered, of which other ranks lack records.
    broken: HashMap<usize, Error>,
    records: Arc<RecordStore<S::Record>>,
    /// The batches that all ranks have, if shards are dealt whole; no end of them, if that shows when all
    /// have ended.
    agreed: Option<usize>,
}

impl<'l, S: Shards> ShardPlan<'l, S> {
    /// From a state on, which must have been checked.
    pub(super) fn new(
        supply: Supply<'l, S>,
        early: usize,
        agreed: Option<usize>,
        order: Arc<ShardOrder>,
        state: &LoaderState,
        records: Arc<RecordStore<S::Record>>,
    ) -> Self {
        let (window, cursor) = match &state.stream {
            Some(stream) if stream.rank == order.deal.state_rank() => (stream.window, stream.cursor.clone()),
            // The beginning, or another rank's place in shards of its own: this one's follows from the
            // batches delivered.
            _ => (0, Cursor::new(order.lanes)),
        };
        records.begin_window(window, cursor.clone());
        ShardPlan {
            passes: order.of_epoch(order.deal.ranks.rank(), state.epoch),
            supply,
            early: order.lanes + early,
            ahead: RecordOrder::new(Arc::clone(&order), state.epoch, window, cursor),
            passed: (state.batch * order.batch_size) as u64 - window * order.window as u64,
            batch: state.batch,
            delivered: state.delivered_ahead(),
            forming: Vec::new(),
            broken: HashMap::new(),
            records,
            agreed,
            order,
        }
    }

    /// Keeps the readers busy: with the shards of the cursor, and with those that come next.
    fn read_ahead(&mut self) {
        let Supply::Read(feeds) = &mut self.supply else { return };
        feeds.poll();
        // The next window, and of the shards that come later a first piece: they are many.
        let room = (self.order.window / self.order.lanes).max(CHUNK);
        let (now, early) = self.ahead.lanes(self.early);
        let early = early.map(|lane| (lane, CHUNK));
        for (lane, room) in now.into_iter().map(|lane| (lane, room)).chain(early) {
            feeds.want(self.passes.pass(lane.shard), lane, room);
        }
    }

    /// Makes the full window the one to deliver; `false` if there is no other.
    fn shuffle(&mut self) -> bool {
        if !self.ahead.shuffle() {
            return false;
        }
        let shuffled = self.ahead.shuffled();
        let passed = self.passed.min(shuffled.len() as u64);
        self.passed -= passed;
        shuffled.take(passed as usize).for_each(drop);
        let (window, cursor) = self.ahead.filling();
        self.records.begin_window(window, cursor.clone());
        true
    }

    /// Makes a batch of the error that the stream ends before the place that was saved.
    fn lack(&mut self) -> Option<Planned> {
        let missing = std::mem::take(&mut self.passed);
        let text = format!("the saved place is {missing} records behind the end of the data");
        self.forming = vec![Kept::new(LACKING, Err(Error::new(ErrorKind::Shard, text)), None)];
        self.publish()
    }

    /// Gives the workers this rank's records of a batch.
    fn publish(&mut self) -> Option<Planned> {
        let mut records = std::mem::take(&mut self.forming);
        let batch = self.batch;
        self.batch += 1;
        if self.delivered.remove(&batch) {
            return None;
        }
        let run = self.order.deal.run(batch, records.len());
        // What a shard lacks from some record on, all ranks lack, whoever has that record.
        let others = records[..run.start].iter().chain(&records[run.end..]);
        let mut error = others.into_iter().find_map(Kept::ends_its_shard);
        records.truncate(run.end);
        records.drain(..run.start);
        let start = batch * self.order.batch_size + run.start;
        if let Supply::Numbered(_) = self.supply
            && let Some(place) = records.iter().position(|record| record.ends_its_shard().is_some())
        {
            // Whoever makes the batch knows its records by their numbers alone.
            error = records[place].ends_its_shard();
            records.truncate(place);
        }
        if let Some(error) = &error {
            self.broken.insert(batch, error.clone());
        }
        let planned = PlannedBatch { error, ..planned(batch, start, &records) };
        self.records.keep(batch, start, records);
        Some(Planned::Batch(planned))
    }

    /// The end of this rank's records: its next batch has none if other ranks go on.
    fn end(&mut self) -> Planned {
        match self.agreed {
            Some(agreed) if self.batch < agreed => {
                self.records.end_at(self.batch);
                self.passed = 0;
                self.forming = Vec::new();
                self.publish().unwrap_or(Planned::End)
            }
            _ => Planned::End,
        }
    }
}

/// The stand-in for records that aren't there.
const LACKING: SampleId = SampleId::Record { shard: 0, record: 0, repeat: 0 };

fn planned<R>(batch: usize, start: usize, records: &[Kept<R>]) -> PlannedBatch {
    let samples = records.iter().map(|record| record.id).collect();
    PlannedBatch { batch, start, samples, width: None, error: None }
}

impl<S: Shards> Plan for ShardPlan<'_, S> {
    fn next(&mut self) -> Planned {
        loop {
            if self.agreed.is_some_and(|agreed| self.batch >= agreed) {
                return Planned::End;
            }
            self.read_ahead();
            let (supply, passes) = (&mut self.supply, &self.passes);
            let full = self.ahead.fill(|lane| supply.take(passes.pass(lane.shard), lane));
            let wanted = self.order.batch_size - self.forming.len();
            self.forming.extend(self.ahead.shuffled().take(wanted));
            if self.forming.len() == self.order.batch_size {
                match self.publish() {
                    Some(planned) => return planned,
                    None => continue,
                }
            }
            if !full {
                return Planned::Later;
            }
            if self.shuffle() {
                continue;
            }
            // A last batch that was short is counted as a whole one, and so is each that a rank has gone on
            // with.
            if self.passed >= self.order.batch_size as u64 && self.agreed.is_none() {
                return self.lack().unwrap_or(Planned::End);
            }
            if self.forming.is_empty() || self.order.drop_last {
                return self.end();
            }
            if let Some(planned) = self.publish() {
                return planned;
            }
        }
    }

    fn again(&mut self, batch: usize) -> PlannedBatch {
        let planned = match self.records.batch(batch) {
            Some((start, records)) => planned(batch, start, &records),
            None => planned(batch, batch * self.order.batch_size, &[] as &[Kept<S::Record>]),
        };
        PlannedBatch { error: self.broken.get(&batch).cloned(), ..planned }
    }

    fn wait(&mut self) {
        self.supply.wait();
    }

    fn reading(&mut self) -> Vec<Stint> {
        self.supply.stints()
    }

    fn delivered(&mut self, batch: usize) {
        self.broken.remove(&batch);
        self.records.delivered(batch);
    }
}
