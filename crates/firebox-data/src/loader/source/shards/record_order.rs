//! The order of the records of an epoch.

use std::vec::IntoIter;

use crate::loader::source::shards::cursor::{Cursor, Lane, Next};
use crate::loader::source::shards::order::{EpochPasses, Pass, ShardOrder};
use crate::loader::work::SampleId;
use crate::sync::Arc;

/// The records of an epoch in their order: shards take turns, and each window of records is shuffled.
///
/// What stands for a record is up to whoever reads: the record itself, or its number alone.
pub(super) struct RecordOrder<T> {
    order: Arc<ShardOrder>,
    epoch: u64,
    /// How many passes over shards there are.
    passes: usize,
    cursor: Cursor,
    /// The number of the window that is being filled.
    window: u64,
    filling: Vec<T>,
    /// The window that is being delivered, in its order.
    shuffled: IntoIter<T>,
    ended: bool,
}

impl<T> RecordOrder<T> {
    /// The order from the beginning of a window on.
    pub(super) fn new(order: Arc<ShardOrder>, epoch: u64, window: u64, cursor: Cursor) -> Self {
        RecordOrder {
            epoch,
            passes: order.share(),
            cursor,
            window,
            filling: Vec::new(),
            shuffled: Vec::new().into_iter(),
            ended: false,
            order,
        }
    }

    /// The number of the window that is being filled, and where it has got to.
    pub(super) fn filling(&self) -> (u64, &Cursor) {
        (self.window, &self.cursor)
    }

    /// The lanes that are read now, and so many of those that come after them.
    pub(super) fn lanes(&self, early: usize) -> (Vec<Lane>, impl Iterator<Item = Lane> + use<T>) {
        let next = self.cursor.next..self.passes.min(self.cursor.next + early);
        (self.cursor.reading().collect(), next.map(Lane::first))
    }

    /// Fills the window; `true` if it is full, or the last.
    pub(super) fn fill(&mut self, mut read: impl FnMut(Lane) -> Next<T>) -> bool {
        while !self.ended && self.filling.len() < self.order.window {
            match self.cursor.advance(self.passes, &mut read) {
                Next::Record(record, _) => self.filling.push(record),
                Next::End => self.ended = true,
                Next::Later => return false,
            }
        }
        true
    }

    /// Makes the window that is full the one to deliver; `false` if it is empty, since all is delivered.
    pub(super) fn shuffle(&mut self) -> bool {
        let mut filled = std::mem::take(&mut self.filling);
        if filled.is_empty() {
            return false;
        }
        if self.order.shuffles() {
            let permutation = self.order.of_window(filled.len(), self.epoch, self.window);
            let mut records: Vec<_> = filled.into_iter().map(Some).collect();
            filled =
                (0..records.len()).filter_map(|place| records[permutation.apply(place)].take()).collect();
        }
        self.shuffled = filled.into_iter();
        self.window += 1;
        true
    }

    /// The records of the window that is being delivered.
    pub(super) fn shuffled(&mut self) -> &mut IntoIter<T> {
        &mut self.shuffled
    }

    /// The next record, of shards that are never waited for.
    pub(super) fn next(&mut self, mut read: impl FnMut(Lane) -> Next<T>) -> Option<T> {
        loop {
            if let Some(record) = self.shuffled.next() {
                return Some(record);
            }
            self.fill(&mut read);
            if !self.shuffle() {
                return None;
            }
        }
    }
}

impl RecordOrder<SampleId> {
    /// The next record by its number, of shards of which all know how many they have.
    pub(super) fn next_id(
        &mut self,
        passes: &EpochPasses,
        records: impl Fn(usize) -> u64,
    ) -> Option<SampleId> {
        self.next(|lane| {
            let Pass { shard, repeat } = passes.pass(lane.shard);
            match lane.record < records(shard) {
                true => Next::Record(SampleId::Record { shard, record: lane.record, repeat }, None),
                false => Next::End,
            }
        })
    }
}
