//! Opening a shard at one of its records.

use crate::dataset::{Records, Shards};

/// Reads the records of a shard, one after the other.
pub(super) type Reader<S> = Box<dyn Records<<S as Shards>::Record, <S as Shards>::Error>>;

/// A place where a shard can be opened: the record that comes there, and its offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) record: u64,
    pub(super) offset: u64,
}

impl Entry {
    pub(super) const BEGINNING: Entry = Entry { record: 0, offset: 0 };

    /// A record itself, if its offset was told by a reader or is known without reading.
    pub(super) fn at<S: Shards>(shards: &S, shard: usize, record: u64, offset: Option<u64>) -> Option<Self> {
        let offset = offset.or_else(|| shards.offset_of(shard, record))?;
        Some(Entry { record, offset })
    }
}
