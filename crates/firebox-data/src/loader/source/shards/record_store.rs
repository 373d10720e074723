//! The records between their reading and their batch.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::{Error, ErrorKind};
use crate::loader::fault::SampleFailure;
use crate::loader::source::shards::cursor::Cursor;
use crate::loader::work::SampleId;
use crate::sync::Arc;

/// A record that was read.
pub(super) struct Kept<R> {
    pub(super) id: SampleId,
    /// Until it is taken.
    record: Mutex<Option<Result<R, Error>>>,
    /// What was wrong before it could be read.
    reread: Option<Box<SampleFailure>>,
}

impl<R> Kept<R> {
    /// A record with its place, and the failure that came before if it was read after one.
    pub(super) fn new(id: SampleId, read: Result<R, Error>, reread: Option<Box<SampleFailure>>) -> Self {
        Kept { id, record: Mutex::new(Some(read)), reread }
    }

    /// The error of a record after which its shard has no more.
    pub(super) fn ends_its_shard(&self) -> Option<Error> {
        match &*lock(&self.record) {
            Some(Err(error)) if *error.kind() == ErrorKind::Shard => Some(error.clone()),
            _ => None,
        }
    }

    /// What was wrong before it could be read, if it was.
    pub(super) fn reread(&self) -> Option<Box<SampleFailure>> {
        self.reread.clone()
    }

    /// The record: by value, or a copy of it if it may be wanted again.
    pub(super) fn take(&self, copy: Option<fn(&R) -> R>) -> Result<R, Error> {
        let mut waiting = lock(&self.record);
        match (&*waiting, copy) {
            (Some(Ok(record)), Some(copy)) => Ok(copy(record)),
            (Some(Err(error)), _) => Err(error.clone()),
            _ => match waiting.take() {
                Some(record) => record,
                None => Err(Error::new(ErrorKind::Workers, "the record was used already")),
            },
        }
    }
}

/// The records of a batch, with the position of the first one.
type Batch<R> = (usize, Arc<[Kept<R>]>);

/// What the plan, the workers and the consumer of an epoch share.
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

    /// Whether there may be records for a batch, which was planned.
    pub(super) fn has(&self, batch: usize) -> bool {
        batch < self.end.load(Ordering::Relaxed)
    }

    /// Hears where a window begins.
    pub(super) fn begin_window(&self, window: u64, cursor: Cursor) {
        lock(&self.windows).push_back((window, cursor));
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
