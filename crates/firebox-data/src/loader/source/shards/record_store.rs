//! The records between their reading and their batch.

use std::collections::{HashMap, VecDeque};
use std::iter::zip;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::{BoxError, Error, ErrorKind};
use crate::loader::fault::SampleFailure;
use crate::loader::source::shards::cursor::{Cursor, Lane};
use crate::loader::work::SampleId;
use crate::sync::Arc;

/// A record of a batch, as it was read.
pub(super) struct Kept<R> {
    pub(super) id: SampleId,
    /// Until it is taken.
    record: Mutex<Option<Result<Held<R>, Error>>>,
    /// The failure before it could be read.
    reread: Option<Box<SampleFailure>>,
    /// True if it is read by whoever makes its batch.
    is_unread: bool,
}

/// The part of a record that is kept.
pub(super) enum Held<R> {
    Record(R),
    /// As it goes to another process, or has come from one.
    Written(Arc<Vec<u8>>),
}

/// How a record is read that another process has written down.
pub(super) type ReadRecord<R> = fn(&[u8]) -> Result<R, BoxError>;

/// How a record is had again.
pub(super) struct Having<R> {
    /// Makes another record like one.
    pub(super) copy: Option<fn(&R) -> R>,
    /// Reads what was written down.
    pub(super) read: Option<ReadRecord<R>>,
}

impl<R> Kept<R> {
    /// A record with its place, and the failure that came before if it was read after one.
    pub(super) fn new(
        id: SampleId,
        read: Result<Held<R>, Error>,
        reread: Option<Box<SampleFailure>>,
    ) -> Self {
        Kept { id, record: Mutex::new(Some(read)), reread, is_unread: false }
    }

    /// A record of which the number is known, and no more.
    pub(super) fn unread(id: SampleId) -> Self {
        Kept { id, record: Mutex::new(None), reread: None, is_unread: true }
    }

    /// The error of a record after which its shard has no more.
    pub(super) fn ends_its_shard(&self) -> Option<Error> {
        match &*lock(&self.record) {
            Some(Err(error)) if *error.kind() == ErrorKind::Shard => Some(error.clone()),
            _ => None,
        }
    }

    /// The failure before it could be read, if there was one.
    pub(super) fn reread(&self) -> Option<Box<SampleFailure>> {
        self.reread.clone()
    }

    /// The record: by value, or a copy of it if it may be wanted again.
    pub(super) fn take(&self, having: &Having<R>) -> Result<R, Error> {
        let mut waiting = lock(&self.record);
        let written = match (&*waiting, having.copy) {
            (Some(Ok(Held::Record(record))), Some(copy)) => return Ok(copy(record)),
            (Some(Ok(Held::Written(written))), _) => Arc::clone(written),
            (Some(Err(error)), _) => return Err(error.clone()),
            _ => {
                return match waiting.take() {
                    Some(Ok(Held::Record(record))) => Ok(record),
                    _ => Err(Error::new(ErrorKind::Workers, "the record was used already")),
                };
            }
        };
        drop(waiting);
        let read = having.read.ok_or_else(|| Error::new(ErrorKind::Workers, "the record can't be read"))?;
        read(&written).map_err(|error| {
            let place = match self.id {
                SampleId::Record { shard, record, .. } => format!("shard {shard}, record {record}"),
                SampleId::Item { .. } => String::new(),
            };
            Error::new(ErrorKind::Dataset, place).caused_by(error)
        })
    }

    /// Tells whether it was read, or could not be.
    pub(super) fn was_read(&self) -> bool {
        // What was taken was read before.
        !self.is_unread
    }

    /// The bytes that another process needs to make the batch, if the record was read here.
    pub(super) fn to_other(&self) -> Option<Result<Arc<Vec<u8>>, Error>> {
        match &*lock(&self.record) {
            Some(Ok(Held::Written(written))) => Some(Ok(Arc::clone(written))),
            Some(Err(error)) => Some(Err(error.clone())),
            Some(Ok(Held::Record(_))) | None => None,
        }
    }
}

/// The records of a batch, with the position of the first one.
type Batch<R> = (usize, Arc<[Kept<R>]>);

/// The store of records that the plan, the workers and the consumer of an epoch share.
pub(super) struct RecordStore<R> {
    /// The records of the batches that are planned and not delivered.
    batches: Mutex<HashMap<usize, Batch<R>>>,
    /// Where each window of the shuffle begins whose records are not all delivered, and its place in the
    /// epoch.
    windows: Mutex<VecDeque<(u64, Cursor)>>,
    /// The first batch after this rank's records, once that is known.
    end: AtomicUsize,
}

impl<R> Default for RecordStore<R> {
    fn default() -> Self {
        RecordStore {
            batches: Mutex::default(),
            windows: Mutex::default(),
            end: AtomicUsize::new(usize::MAX),
        }
    }
}

impl<R> RecordStore<R> {
    pub(super) fn batch(&self, batch: usize) -> Option<Batch<R>> {
        lock(&self.batches).get(&batch).cloned()
    }

    /// Keeps the records of a batch until it is delivered.
    pub(super) fn keep(&self, batch: usize, start: usize, records: Vec<Kept<R>>) {
        lock(&self.batches).insert(batch, (start, records.into()));
    }

    /// Hears that a batch is with the consumer.
    pub(super) fn delivered(&self, batch: usize) {
        lock(&self.batches).remove(&batch);
    }

    /// Hears that there are no more records from a batch on.
    pub(super) fn end_at(&self, batch: usize) {
        self.end.fetch_min(batch, Ordering::Relaxed);
    }

    /// Tells whether there may be records for a batch, which was planned.
    pub(super) fn has(&self, batch: usize) -> bool {
        batch < self.end.load(Ordering::Relaxed)
    }

    /// Hears where a window begins.
    pub(super) fn begin_window(&self, window: u64, mut cursor: Cursor) {
        let mut windows = lock(&self.windows);
        if let Some((_, before)) = windows.back() {
            // A lane that has not moved stands where it stood.
            for (lane, before) in zip(&mut cursor.lanes, &before.lanes) {
                if let (Some(lane), Some(before)) = (lane, before)
                    && (lane.shard, lane.record) == (before.shard, before.record)
                {
                    lane.offset = lane.offset.or(before.offset);
                }
            }
        }
        windows.push_back((window, cursor));
    }

    /// The known places at which the windows begin.
    pub(super) fn lanes(&self) -> Vec<Lane> {
        lock(&self.windows).iter().flat_map(|(_, cursor)| cursor.reading()).collect()
    }

    /// Hears where records begin: `offset` tells it of those that are the next ones of lanes.
    pub(super) fn learn(&self, offset: impl Fn(Lane) -> Option<u64>) {
        for (_, cursor) in lock(&self.windows).iter_mut() {
            for lane in cursor.lanes.iter_mut().flatten().filter(|lane| lane.offset.is_none()) {
                lane.offset = offset(*lane);
            }
        }
    }

    /// Where the window of the record at a position begins, or the last one before it, with its number; those
    /// before are forgotten.
    pub(super) fn window(&self, size: u64, position: u64) -> Option<(u64, Cursor)> {
        self.forget(size, position);
        lock(&self.windows).front().cloned()
    }

    /// Forgets the windows before the one of a position.
    pub(super) fn forget(&self, size: u64, position: u64) {
        let mut windows = lock(&self.windows);
        while windows.get(1).is_some_and(|(window, _)| window * size <= position) {
            windows.pop_front();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What panics under these locks, if anything, is the copying of a record, which changes none.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
