//! Reading one record, again if that is worth it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use firebox_core::panic_message;
use firebox_workers::Worker;

use crate::dataset::Shards;
use crate::error::{Error, ErrorKind};
use crate::loader::fault::{Retry, Tried, TryError, tries};
use crate::loader::source::shards::reader::{Entry, Reader};
use crate::loader::work::{StageLimits, Stages};
use crate::sync::Arc;

/// Reads records of shards: by it those are read that are read ahead, and those that are read by their
/// number.
pub(super) struct RecordReader<S: Shards> {
    pub(super) shards: Arc<S>,
    pub(super) retry: Option<Retry>,
    pub(super) limits: Option<Arc<StageLimits>>,
    /// True if it looks behind the last record of a shard: for those who don't go there themselves.
    pub(super) looks_behind: bool,
}

/// From where a record is read.
pub(super) struct Way<S: Shards> {
    /// Where its shard is opened, there or before it.
    pub(super) entry: Entry,
    /// A reader that is taken instead, for the first try, with the record before which it stands.
    pub(super) standing: Option<(u64, Reader<S>)>,
}

/// A record and the reader after it, or how many records there are if the shard has ended.
type ReadOne<S> = Result<(<S as Shards>::Record, Reader<S>), u64>;

impl<S: Shards> RecordReader<S> {
    /// Reads a record. With an error there is the reader if it can go on after the record.
    ///
    /// `passed` hears of each record that lies behind, and where the next one begins.
    pub(super) fn read(
        &self,
        (shard, record): (usize, u64),
        Way { entry, mut standing }: Way<S>,
        worker: Worker<'_>,
        passed: &dyn Fn(u64, Option<u64>),
    ) -> (Tried<ReadOne<S>>, Option<Reader<S>>) {
        let mut after = None;
        let tried = tries(self.retry.as_ref(), worker, || {
            // After a failed try the shard is opened anew: nobody knows what the error did to the reader.
            let way = Way { entry, standing: standing.take() };
            let (read, left) = match self.attempt((shard, record), way, worker, passed) {
                Ok(read) => (Ok(read), None),
                Err((error, left)) => (Err(TryError { error, is_final: false }), left),
            };
            after = left;
            read
        });
        (tried, after)
    }

    fn attempt(
        &self,
        (shard, record): (usize, u64),
        Way { entry, standing }: Way<S>,
        worker: Worker<'_>,
        passed: &dyn Fn(u64, Option<u64>),
    ) -> Result<ReadOne<S>, (Error, Option<Reader<S>>)> {
        let mut stages = Stages::new(self.limits.as_deref(), worker, None);
        // Unwind safety: a reader that panicked is not used again.
        let read = catch_unwind(AssertUnwindSafe(|| {
            stages.read(|| {
                let (mut next, mut reader) = match standing {
                    Some(standing) => standing,
                    None => {
                        let opened = self.shards.open(shard, entry.offset);
                        (entry.record, opened.map_err(|error| (failed(shard, record, error), None))?)
                    }
                };
                while next < record {
                    // Errors in these records are past, as the records are.
                    if !worker.progress() || reader.next().is_none() {
                        return Ok(Err(next));
                    }
                    next += 1;
                    passed(next, reader.offset());
                }
                let read = reader.next();
                if read.is_some() {
                    passed(record + 1, reader.offset());
                }
                match read {
                    None => Ok(Err(record)),
                    Some(Err(error)) => Err((failed(shard, record, error), Some(reader))),
                    Some(Ok(read)) => match self.more_than_counted(shard, record + 1, &mut reader) {
                        Some(error) => Err((error, None)),
                        None => Ok(Ok((read, reader))),
                    },
                }
            })
        }));
        match read {
            Ok(Ok(read)) => read,
            // Nobody waits for the record any more, so that nobody takes this for the shard's end.
            Ok(Err(_)) => Ok(Err(record)),
            Err(payload) => {
                let text = format!("shard {shard}, record {record}: panicked");
                Err((Error::new(ErrorKind::Panic, text).caused_by(panic_message(payload)), None))
            }
        }
    }

    fn more_than_counted(&self, shard: usize, records: u64, reader: &mut Reader<S>) -> Option<Error> {
        let is_last = self.looks_behind && self.shards.records(shard) == Some(records);
        if !is_last || reader.next().is_none() {
            return None;
        }
        let text = format!("shard {shard}: expected {records} records, got more");
        Some(Error::new(ErrorKind::Shard, text))
    }

    /// The failure if a shard ends after so many records.
    pub(super) fn miscounted(&self, shard: usize, records: u64) -> Option<Error> {
        let expected = self.shards.records(shard).filter(|&expected| expected != records)?;
        let text = format!("shard {shard}: expected {expected} records, got {records}");
        Some(Error::new(ErrorKind::Shard, text))
    }
}

/// The error of a shard of which no more can be read.
pub(super) fn ends(shard: usize, error: Error) -> Error {
    Error::new(ErrorKind::Shard, format!("shard {shard}: the rest of it is not read")).caused_by(error)
}

/// The error of a record that can't be read.
fn failed(shard: usize, record: u64, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Dataset, format!("shard {shard}, record {record}")).caused_by(error)
}
