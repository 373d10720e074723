//! The batches of a stream, as its records are read.

use std::collections::{BTreeSet, HashMap};

use firebox_workers::Pool;

use crate::dataset::Shards;
use crate::error::{Error, ErrorKind};
use crate::loader::LoaderState;
use crate::loader::fault::Retry;
use crate::loader::plan::{Plan, Planned, PlannedBatch};
use crate::loader::report::Stint;
use crate::loader::source::shards::cursor::{Cursor, Lane, Next};
use crate::loader::source::shards::feed::{CHUNK, Feeds};
use crate::loader::source::shards::order::ShardOrder;
use crate::loader::source::shards::record_store::{Kept, RecordStore};
use crate::loader::work::StageLimits;
use crate::permutation::Permutation;
use crate::sync::Arc;

/// The batches of an epoch of a stream.
pub(super) struct ShardPlan<'l, S: Shards> {
    order: Arc<ShardOrder>,
    epoch: u64,
    /// The epoch's order of all shards.
    shards: Permutation,
    /// The number of shards that are this rank's.
    len: usize,
    feeds: Feeds<'l, S>,
    /// Shards that are read before the cursor gets to them.
    early: usize,
    cursor: Cursor,
    /// The number of the window that is being filled.
    window: u64,
    filling: Vec<Kept<S::Record>>,
    /// The window that is being delivered, in its order.
    shuffled: std::vec::IntoIter<Kept<S::Record>>,
    /// Records of the first windows that were delivered before a resume.
    passed: u64,
    ended: bool,
    /// The next batch, and those behind it that were delivered before a resume.
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
        pool: &'l Pool,
        (shards, agreed): (Arc<S>, Option<usize>),
        order: Arc<ShardOrder>,
        (retry, limits): (Option<Retry>, Option<Arc<StageLimits>>),
        state: &LoaderState,
        records: Arc<RecordStore<S::Record>>,
    ) -> Self {
        let (window, cursor) = match &state.stream {
            Some(stream) if stream.rank == order.deal.state_rank() => (stream.window, stream.cursor.clone()),
            // The beginning, or another rank's place in shards of its own: this one's follows from the
            // batches delivered.
            _ => (0, Cursor::new(order.lanes)),
        };
        let of_epoch = order.of_epoch(shards.shards(), state.epoch);
        let len = order.share(shards.shards());
        let feeds = Feeds::new(pool, shards, retry, limits);
        records.begin_window(window, cursor.clone());
        ShardPlan {
            epoch: state.epoch,
            shards: of_epoch,
            len,
            feeds,
            early: pool.workers(),
            cursor,
            window,
            filling: Vec::new(),
            shuffled: Vec::new().into_iter(),
            passed: (state.batch * order.batch_size) as u64 - window * order.window as u64,
            ended: false,
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
        self.feeds.poll();
        let lanes: Vec<Lane> = self.cursor.reading().collect();
        // The next window, and of the shards that come later a first piece: they are many.
        let room = (self.order.window / self.order.lanes).max(CHUNK);
        let next = self.cursor.next..self.len.min(self.cursor.next + self.order.lanes + self.early);
        let early = next.map(|shard| (Lane { shard, record: 0, offset: Some(0) }, CHUNK));
        for (lane, room) in lanes.into_iter().map(|lane| (lane, room)).chain(early) {
            let shard = self.order.shard(&self.shards, lane.shard);
            self.feeds.want(shard, lane, room);
        }
    }

    /// Moves what was read into the window; `true` if it is full, or the last.
    fn fill(&mut self) -> bool {
        while !self.ended && self.filling.len() < self.order.window {
            let feeds = &mut self.feeds;
            match self.cursor.advance(self.len, |lane| feeds.take(lane.shard)) {
                Next::Record(item, _) => self.filling.push(item),
                Next::End => self.ended = true,
                Next::Later => return false,
            }
        }
        true
    }

    /// Makes the full window the one to deliver.
    fn shuffle(&mut self) {
        let filled = std::mem::take(&mut self.filling);
        let mut filled: Vec<_> = match self.order.shuffles() {
            false => filled,
            true => {
                let permutation = self.order.of_window(filled.len(), self.epoch, self.window);
                let mut items: Vec<_> = filled.into_iter().map(Some).collect();
                (0..items.len()).filter_map(|place| items[permutation.apply(place)].take()).collect()
            }
        };
        let passed = self.passed.min(filled.len() as u64);
        self.passed -= passed;
        filled.drain(..passed as usize);
        self.shuffled = filled.into_iter();
        self.window += 1;
        self.records.begin_window(self.window, self.cursor.clone());
    }

    /// Makes a batch of the error that the stream ends before the place that was saved.
    fn lack(&mut self) -> Option<Planned> {
        let missing = std::mem::take(&mut self.passed);
        let text = format!("the saved place is {missing} records behind the end of the data");
        self.forming = vec![Kept::new(0, 0, Err(Error::new(ErrorKind::Shard, text)), None)];
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
        let error = others.into_iter().find_map(Kept::ends_its_shard);
        records.truncate(run.end);
        records.drain(..run.start);
        let start = batch * self.order.batch_size + run.start;
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
            let full = self.fill();
            let wanted = self.order.batch_size - self.forming.len();
            self.forming.extend(self.shuffled.by_ref().take(wanted));
            if self.forming.len() == self.order.batch_size {
                match self.publish() {
                    Some(planned) => return planned,
                    None => continue,
                }
            }
            if !full {
                return Planned::Later;
            }
            if !self.filling.is_empty() {
                self.shuffle();
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
        self.feeds.wait();
    }

    fn reading(&mut self) -> Vec<Stint> {
        std::mem::take(&mut self.feeds.stints)
    }

    fn delivered(&mut self, batch: usize) {
        self.broken.remove(&batch);
        self.records.delivered(batch);
    }
}
