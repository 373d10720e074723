//! Reading shards ahead of the cursor.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use firebox_core::panic_message;
use firebox_workers::{Dispatch, ErrorKind as PoolErrorKind, Pool, Work, Worker, WorkersExt as _};

use crate::dataset::{Records, Shards};
use crate::error::{Error, ErrorKind};
use crate::loader::fault::{Retry, Tried, TryError, tries};
use crate::loader::report::{Stint, WorkerTime};
use crate::loader::source::shards::cursor::{Lane, Next};
use crate::loader::source::shards::record_store::Kept;
use crate::loader::work::{StageLimits, Stages};
use crate::sync::Arc;

/// Records that are read in one task, and of a shard before its turn.
pub(super) const CHUNK: usize = 64;

type Reader<S> = Box<dyn Records<<S as Shards>::Record, <S as Shards>::Error>>;

/// The shards that are being read, by their place in the epoch's order. Each is read by one task at a time, several
/// shards by several workers.
pub(super) struct Feeds<'l, S: Shards> {
    dispatch: Dispatch<'l, Read<S>, Reading<S>>,
    feeds: HashMap<usize, Feed<S>>,
    /// Where each task began to read, by the task's index.
    out: HashMap<usize, Lane>,
    /// What has been read, and nobody has asked for yet.
    pub(super) stints: Vec<Stint>,
}

struct Feed<S: Shards> {
    shard: usize,
    /// Read, and not yet taken, with the offset of what follows.
    records: VecDeque<(Kept<S::Record>, Option<u64>)>,
    state: State<S>,
}

enum State<S: Shards> {
    /// To be opened at a place.
    Closed(Lane),
    Open(Reader<S>, Lane),
    /// A task has the reader.
    Busy,
    Ended,
}

/// What a task reads.
struct Read<S: Shards> {
    shard: usize,
    /// Where the reader stands, or where it is to be opened.
    lane: Lane,
    reader: Option<Reader<S>>,
}

/// What a task has read.
struct Chunk<S: Shards> {
    records: Vec<(Kept<S::Record>, Option<u64>)>,
    /// `None` at the shard's end.
    reader: Option<(Reader<S>, Lane)>,
    stint: Stint,
}

impl<'l, S: Shards> Feeds<'l, S> {
    pub(super) fn new(
        pool: &'l Pool,
        shards: Arc<S>,
        retry: Option<Retry>,
        limits: Option<Arc<StageLimits>>,
    ) -> Self {
        // What a task that is given up has read is lost: with a time limit it reads one record at a time.
        let chunk = if pool.limit().is_some() { 1 } else { CHUNK };
        let reading = Arc::new(Reading { shards, retry, limits, chunk });
        let dispatch = pool.dispatch(reading, 1024);
        Feeds { dispatch, feeds: HashMap::new(), out: HashMap::new(), stints: Vec::new() }
    }

    /// Has a shard read from `lane` on, until `ahead` records wait to be taken.
    pub(super) fn want(&mut self, shard: usize, lane: Lane, ahead: usize) {
        let place = lane.shard;
        let new = || Feed { shard, records: VecDeque::new(), state: State::Closed(lane) };
        let feed = self.feeds.entry(place).or_insert_with(new);
        if feed.records.len() >= ahead {
            return;
        }
        let (lane, reader) = match std::mem::replace(&mut feed.state, State::Busy) {
            State::Closed(lane) => (lane, None),
            State::Open(reader, lane) => (lane, Some(reader)),
            other => {
                feed.state = other;
                return;
            }
        };
        match self.dispatch.send(Read { shard: feed.shard, lane, reader }) {
            Ok(task) => _ = self.out.insert(task, lane),
            Err(Read { lane, reader, .. }) => {
                feed.state = match reader {
                    Some(reader) => State::Open(reader, lane),
                    None => State::Closed(lane),
                }
            }
        }
    }

    /// The next record of the shard at a place.
    pub(super) fn take(&mut self, place: usize) -> Next<Kept<S::Record>> {
        let Some(feed) = self.feeds.get_mut(&place) else { return Next::Later };
        match (feed.records.pop_front(), &feed.state) {
            (Some((record, offset)), _) => Next::Record(record, offset),
            (None, State::Ended) => {
                self.feeds.remove(&place);
                Next::End
            }
            (None, _) => Next::Later,
        }
    }

    /// Takes note of what was read meanwhile.
    pub(super) fn poll(&mut self) {
        while let Some((task, result)) = self.dispatch.try_receive() {
            self.hear(task, result);
        }
    }

    /// Waits until something was read; at once if nothing is being read.
    pub(super) fn wait(&mut self) {
        if let Some((task, result)) = self.dispatch.receive() {
            self.hear(task, result);
        }
    }

    fn hear(&mut self, task: usize, result: Result<Chunk<S>, firebox_workers::Error>) {
        let Some(lane) = self.out.remove(&task) else { return };
        let Some(feed) = self.feeds.get_mut(&lane.shard) else { return };
        match result {
            Ok(Chunk { records, reader, stint }) => {
                self.stints.push(stint);
                feed.records.extend(records);
                feed.state = match reader {
                    Some((reader, lane)) => State::Open(reader, lane),
                    None => State::Ended,
                };
            }
            // The reader is lost with the task.
            Err(error) => {
                let worker = error.worker();
                let why = match error.kind() {
                    // With a time limit a task reads one record.
                    PoolErrorKind::TimedOut(limit) => {
                        format!("record {} took longer than {limit:?}", lane.record)
                    }
                    _ => error.to_string(),
                };
                let text = format!("shard {}: the rest of it is not read: {why}", feed.shard);
                let error = Error::new(ErrorKind::Shard, text).on_worker(worker);
                feed.records.push_back((Kept::new(feed.shard, lane.record, Err(error), None), None));
                feed.state = State::Ended;
            }
        }
    }
}

/// Reads shards: what all workers of an epoch share.
struct Reading<S> {
    shards: Arc<S>,
    retry: Option<Retry>,
    limits: Option<Arc<StageLimits>>,
    /// Records in a task.
    chunk: usize,
}

impl<S: Shards> Work<Read<S>> for Reading<S> {
    type Output = Chunk<S>;

    fn run(&self, read: Read<S>, worker: Worker<'_>) -> Chunk<S> {
        let Read { shard, mut lane, mut reader } = read;
        let begun = Instant::now();
        let mut records = Vec::with_capacity(self.chunk);
        while records.len() < self.chunk && worker.progress() {
            let number = lane.record;
            let (tried, after) = self.read(shard, lane, reader.take(), worker);
            let (record, reread, after) = match (tried, after) {
                (Ok((Some((record, after)), reread)), _) => (Ok(record), reread, Some(after)),
                (Ok((None, _)), _) => {
                    if let Some(error) = self.miscounted(shard, number) {
                        records.push((Kept::new(shard, number, Err(error), None), None));
                    }
                    return Chunk { records, reader: None, stint: read_since(begun, worker) };
                }
                (Err(error), Some(after)) => (Err(error.on_worker(worker.id())), None, Some(after)),
                (Err(error), None) => {
                    let text = format!("shard {shard}: the rest of it is not read");
                    let error = Error::new(ErrorKind::Shard, text).caused_by(error).on_worker(worker.id());
                    records.push((Kept::new(shard, number, Err(error), None), None));
                    return Chunk { records, reader: None, stint: read_since(begun, worker) };
                }
            };
            lane.record += 1;
            lane.offset = after.as_ref().and_then(|reader| reader.offset());
            records.push((Kept::new(shard, number, record, reread), lane.offset));
            reader = after;
        }
        let stint = read_since(begun, worker);
        Chunk { records, reader: reader.map(|reader| (reader, lane)), stint }
    }
}

fn read_since(begun: Instant, worker: Worker<'_>) -> Stint {
    Stint::end(begun, WorkerTime { reading: begun.elapsed(), ..WorkerTime::default() }, worker)
}

/// A record and the reader after it, or `None` at the shard's end.
type ReadOne<S> = Option<(<S as Shards>::Record, Reader<S>)>;

impl<S: Shards> Reading<S> {
    /// Reads the record at a place. With an error there is the reader if it can go on after the record.
    fn read(
        &self,
        shard: usize,
        lane: Lane,
        mut reader: Option<Reader<S>>,
        worker: Worker<'_>,
    ) -> (Tried<ReadOne<S>>, Option<Reader<S>>) {
        let mut after = None;
        let tried = tries(self.retry.as_ref(), worker, || {
            // After a failed try the shard is opened anew: nobody knows what the error did to the reader.
            let (read, left) = match self.attempt(shard, lane, reader.take(), worker) {
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
        shard: usize,
        lane: Lane,
        reader: Option<Reader<S>>,
        worker: Worker<'_>,
    ) -> Result<ReadOne<S>, (Error, Option<Reader<S>>)> {
        let name = |error| failed(shard, lane.record, error);
        let mut stages = Stages::new(self.limits.as_deref(), worker, None);
        // Unwind safety: a reader that panicked is not used again.
        let read = catch_unwind(AssertUnwindSafe(|| {
            stages.read(|| {
                let mut reader = match reader {
                    Some(reader) => reader,
                    None => self.open(shard, lane, worker).map_err(|error| (name(error), None))?,
                };
                match reader.next() {
                    None => Ok(None),
                    Some(Ok(record)) => Ok(Some((record, reader))),
                    Some(Err(error)) => Err((name(error), Some(reader))),
                }
            })
        }));
        match read {
            Ok(Ok(read)) => read,
            // Nobody waits for the record any more, so that nobody takes this for the shard's end.
            Ok(Err(_)) => Ok(None),
            Err(payload) => {
                let text = format!("shard {shard}, record {}: panicked", lane.record);
                Err((Error::new(ErrorKind::Panic, text).caused_by(panic_message(payload)), None))
            }
        }
    }

    /// Opens a shard at a place, from its beginning if need be.
    fn open(&self, shard: usize, lane: Lane, worker: Worker<'_>) -> Result<Reader<S>, S::Error> {
        let mut reader = self.shards.open(shard, lane.offset.unwrap_or(0))?;
        let passed = if lane.offset.is_some() { 0 } else { lane.record };
        for _ in 0..passed {
            // Errors in these records are past, as the records are.
            if !worker.progress() || reader.next().is_none() {
                break;
            }
        }
        Ok(reader)
    }

    /// What is wrong if a shard ends behind so many records.
    fn miscounted(&self, shard: usize, records: u64) -> Option<Error> {
        let expected = self.shards.records(shard).filter(|&expected| expected != records)?;
        let text = format!("shard {shard}: expected {expected} records, got {records}");
        Some(Error::new(ErrorKind::Shard, text))
    }
}

fn failed(shard: usize, record: u64, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Dataset, format!("shard {shard}, record {record}")).caused_by(error)
}
