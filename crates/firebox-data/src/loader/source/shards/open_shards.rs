//! Shards whose records are read by their number, in any order.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::dataset::Shards;
use crate::loader::source::shards::reader::{Entry, Reader};
use crate::loader::source::shards::record_reader::Way;

/// The most readers that wait: each has a file open, as a rule.
const WAITING: usize = 32;

/// So many records are passed over sooner than a shard is opened again before them.
const NEAR: u64 = 16;

/// Of so many records in a row it is noted where one of them begins.
const NOTED: u64 = 64;

/// The most of these notes. If there are more, it begins anew.
const MOST_NOTES: usize = 1 << 16;

/// Readers that wait for what is read next, and places where shards can be opened.
pub(super) struct OpenShards<S: Shards> {
    /// The one that was used last comes last.
    waiting: Mutex<Vec<Waiting<S>>>,
    /// Offsets by the shard and the record that begins there, of shards that don't know them without reading.
    noted: Mutex<BTreeMap<(usize, u64), u64>>,
}

/// A reader that stands before a record.
struct Waiting<S: Shards> {
    shard: usize,
    next: u64,
    reader: Reader<S>,
}

impl<S: Shards> Default for OpenShards<S> {
    fn default() -> Self {
        OpenShards { waiting: Mutex::default(), noted: Mutex::default() }
    }
}

impl<S: Shards> OpenShards<S> {
    /// How a record is got to with the least reading.
    pub(super) fn way(&self, shards: &S, shard: usize, record: u64) -> Way<S> {
        let known = Entry::at(shards, shard, record, None);
        let near = if known.is_some() { 0 } else { NEAR };
        let entry = known.unwrap_or_else(|| {
            let noted = lock(&self.noted);
            let before = noted.range((shard, 0)..=(shard, record)).next_back();
            before.map_or(Entry::BEGINNING, |(&(_, record), &offset)| Entry { record, offset })
        });
        let mut waiting = lock(&self.waiting);
        let nearest = waiting
            .iter()
            .enumerate()
            .filter(|(_, one)| one.shard == shard && one.next <= record)
            .max_by_key(|(_, one)| one.next);
        let place = nearest.filter(|(_, one)| one.next.saturating_add(near) >= entry.record);
        let taken = place.map(|(place, _)| place).map(|place| waiting.remove(place));
        Way { entry, standing: taken.map(|Waiting { next, reader, .. }| (next, reader)) }
    }

    /// Has a reader wait before a record.
    pub(super) fn leave(&self, shard: usize, next: u64, reader: Reader<S>) {
        let mut waiting = lock(&self.waiting);
        let oldest = (waiting.len() >= WAITING).then(|| waiting.remove(0));
        waiting.push(Waiting { shard, next, reader });
        drop(waiting);
        // Closing it is the user's code.
        drop(oldest);
    }

    /// Notes where a record begins, if it is one of those that are noted.
    pub(super) fn note(&self, shards: &S, shard: usize, record: u64, offset: u64) {
        if record.is_multiple_of(NOTED) && shards.offset_of(shard, record).is_none() {
            self.keep(shard, record, offset);
        }
    }

    /// Keeps a place where a record begins.
    pub(super) fn keep(&self, shard: usize, record: u64, offset: u64) {
        let mut noted = lock(&self.noted);
        if noted.len() >= MOST_NOTES {
            noted.clear();
        }
        noted.insert((shard, record), offset);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
