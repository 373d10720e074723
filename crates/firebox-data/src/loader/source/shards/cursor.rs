//! Where a stream stands.

use serde::{Deserialize, Serialize};

/// Records that a lane gives before it is the next one's turn.
const TURN: u32 = 16;

/// A place in the order of a stream's records, in which a few shards take turns.
///
/// Each lane has one shard after the other; a lane whose shard ends takes the next one in the order of the
/// epoch. All that depends on the records alone, not on who reads them when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cursor {
    /// The next shard to begin, as a place in the epoch's order of shards.
    pub(super) next: usize,
    /// The shard that each lane reads; `None` before its first one and after its last.
    pub(super) lanes: Vec<Option<Lane>>,
    /// Whose turn it is, and how many records it has given in it.
    turn: usize,
    given: u32,
}

/// A place in a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Lane {
    /// The shard, as a place in the epoch's order of shards.
    pub(super) shard: usize,
    /// The next record.
    pub(super) record: u64,
    /// Where it begins, if the shard can be opened there.
    pub(super) offset: Option<u64>,
}

impl Lane {
    /// The beginning of the shard at a place.
    pub(super) fn first(shard: usize) -> Self {
        Lane { shard, record: 0, offset: Some(0) }
    }
}

/// A shard's answer to the cursor.
pub(super) enum Next<T> {
    /// A record, and where the one behind it begins.
    Record(T, Option<u64>),
    /// One is being read.
    Later,
    /// No more.
    End,
}

impl Cursor {
    pub(super) fn new(lanes: usize) -> Self {
        Cursor { next: 0, lanes: vec![None; lanes], turn: 0, given: 0 }
    }

    /// The next record of a stream of `shards` shards. `read` gives the next record of the shard of a lane.
    pub(super) fn advance<T>(&mut self, shards: usize, mut read: impl FnMut(Lane) -> Next<T>) -> Next<T> {
        let mut empty = 0;
        while empty < self.lanes.len() {
            if self.lanes[self.turn].is_none() && self.next < shards {
                self.lanes[self.turn] = Some(Lane::first(self.next));
                self.next += 1;
            }
            let Some(lane) = &mut self.lanes[self.turn] else {
                self.next_turn();
                empty += 1;
                continue;
            };
            match read(*lane) {
                Next::Later => return Next::Later,
                Next::End => self.lanes[self.turn] = None,
                Next::Record(record, offset) => {
                    (lane.record, lane.offset) = (lane.record + 1, offset);
                    self.given += 1;
                    if self.given == TURN {
                        self.next_turn();
                    }
                    return Next::Record(record, offset);
                }
            }
            empty = 0;
        }
        Next::End
    }

    fn next_turn(&mut self) {
        self.turn = (self.turn + 1) % self.lanes.len();
        self.given = 0;
    }

    /// Tells whether it can be a place behind so many records of a stream of `shards` shards: for one that
    /// was saved.
    pub(super) fn is_sound(&self, records: u64, shards: usize) -> bool {
        let mut reading: Vec<_> = self.reading().map(|lane| lane.shard).collect();
        reading.sort_unstable();
        let apart = reading.windows(2).all(|pair| pair[0] < pair[1]);
        let begun = reading.last().is_none_or(|&last| last < self.next) && self.next <= shards;
        let read = self.reading().all(|lane| lane.record <= records);
        self.turn < self.lanes.len() && self.given < TURN && apart && begun && read
    }

    /// The shards that are read now.
    pub(super) fn reading(&self) -> impl Iterator<Item = Lane> + '_ {
        self.lanes.iter().flatten().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shards of these lengths, read to the end: pairs of shard and record.
    fn order(lengths: &[u64], lanes: usize) -> Vec<(usize, u64)> {
        let mut cursor = Cursor::new(lanes);
        let mut order = Vec::new();
        let read = |lane: Lane| match lane.record < lengths[lane.shard] {
            true => Next::Record((lane.shard, lane.record), None),
            false => Next::End,
        };
        while let Next::Record(record, _) = cursor.advance(lengths.len(), read) {
            order.push(record);
        }
        order
    }

    #[test]
    fn every_record_comes_once_and_shards_take_turns() {
        for lengths in [&[][..], &[0], &[5], &[0, 0, 3, 0], &[40, 1, 0, 33, 16, 17, 100, 2]] {
            for lanes in [1, 2, 3, 8] {
                let mut sorted = order(lengths, lanes);
                sorted.sort_unstable();
                let all = lengths.iter().enumerate().flat_map(|(shard, &n)| (0..n).map(move |r| (shard, r)));
                assert_eq!(sorted, all.collect::<Vec<_>>(), "{lengths:?} in {lanes} lanes");
            }
        }
        assert!(order(&[20, 20], 1).is_sorted());
        let turns: Vec<_> = order(&[20, 20], 2).into_iter().map(|(shard, _)| shard).collect();
        assert_eq!(turns, [vec![0; 16], vec![1; 16], vec![0; 4], vec![1; 4]].concat());
    }
}
