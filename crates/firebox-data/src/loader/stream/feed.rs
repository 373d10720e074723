//! Reading shards ahead of the cursor.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use firebox_core::panic_message;
use firebox_workers::{Dispatch, ErrorKind as PoolErrorKind, Pool, Work, Worker};

use crate::dataset::{Records, Shards};
use crate::error::{Error, ErrorKind};
use crate::loader::fault::Retry;
use crate::loader::report::Busy;
use crate::loader::stint::Stint;
use crate::loader::stream::cursor::{Lane, Next};
use crate::loader::task::{Gates, pause};
use crate::sync::Arc;

/// Records that are read in one task, and of a shard before its turn.
pub(super) const CHUNK: usize = 64;

/// A record, or why it can't be had, and where it stands.
pub(super) struct Item<R> {
    pub(super) shard: usize,
    pub(super) number: u64,
    pub(super) record: Result<R, Error>,
}

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
    items: VecDeque<(Item<S::Record>, Option<u64>)>,
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
    items: Vec<(Item<S::Record>, Option<u64>)>,
    /// `None` at the shard's end.
    reader: Option<(Reader<S>, Lane)>,
    stint: Stint,
}

impl<'l, S: Shards> Feeds<'l, S> {
    pub(super) fn new(
        pool: &'l Pool,
        shards: Arc<S>,
        retry: Option<Retry>,
        gates: Option<Arc<Gates>>,
    ) -> Self {
        // What a task that is given up has read is lost: with a time limit it reads one record at a time.
        let chunk = if pool.limit().is_some() { 1 } else { CHUNK };
        let reading = Arc::new(Reading { shards, retry, gates, chunk });
        let dispatch = pool.dispatch(reading, 1024);
        Feeds { dispatch, feeds: HashMap::new(), out: HashMap::new(), stints: Vec::new() }
    }

    /// Has a shard read from `lane` on, until `ahead` records wait to be taken.
    pub(super) fn want(&mut self, shard: usize, lane: Lane, ahead: usize) {
        let place = lane.shard;
        let new = || Feed { shard, items: VecDeque::new(), state: State::Closed(lane) };
        let feed = self.feeds.entry(place).or_insert_with(new);
        if feed.items.len() >= ahead {
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
    pub(super) fn take(&mut self, place: usize) -> Next<Item<S::Record>> {
        let Some(feed) = self.feeds.get_mut(&place) else { return Next::Later };
        match (feed.items.pop_front(), &feed.state) {
            (Some((item, offset)), _) => Next::Record(item, offset),
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
            Ok(Chunk { items, reader, stint }) => {
                self.stints.push(stint);
                feed.items.extend(items);
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
                feed.items
                    .push_back((Item { shard: feed.shard, number: lane.record, record: Err(error) }, None));
                feed.state = State::Ended;
            }
        }
    }
}

/// Reads shards: what all workers of an epoch share.
struct Reading<S> {
    shards: Arc<S>,
    retry: Option<Retry>,
    gates: Option<Arc<Gates>>,
    /// Records in a task.
    chunk: usize,
}

impl<S: Shards> Work<Read<S>> for Reading<S> {
    type Output = Chunk<S>;

    fn run(&self, read: Read<S>, worker: Worker<'_>) -> Chunk<S> {
        let Read { shard, mut lane, mut reader } = read;
        let begun = Instant::now();
        let mut items = Vec::with_capacity(self.chunk);
        while items.len() < self.chunk && worker.progress() {
            let number = lane.record;
            let (record, after) = match self.tries(shard, lane, reader.take(), worker) {
                Ok(Some((record, after))) => (Ok(record), Some(after)),
                Ok(None) => {
                    if let Some(error) = self.miscounted(shard, number) {
                        items.push((Item { shard, number, record: Err(error) }, None));
                    }
                    return Chunk { items, reader: None, stint: read_since(begun, worker) };
                }
                Err((error, Some(after))) => (Err(error.on_worker(worker.id())), Some(after)),
                Err((error, None)) => {
                    let text = format!("shard {shard}: the rest of it is not read");
                    let error = Error::new(ErrorKind::Shard, text).caused_by(error).on_worker(worker.id());
                    items.push((Item { shard, number, record: Err(error) }, None));
                    return Chunk { items, reader: None, stint: read_since(begun, worker) };
                }
            };
            lane.record += 1;
            lane.offset = after.as_ref().and_then(|reader| reader.offset());
            items.push((Item { shard, number, record }, lane.offset));
            reader = after;
        }
        let stint = read_since(begun, worker);
        Chunk { items, reader: reader.map(|reader| (reader, lane)), stint }
    }
}

fn read_since(begun: Instant, worker: Worker<'_>) -> Stint {
    Stint::end(begun, Busy { reading: begun.elapsed(), ..Busy::default() }, worker)
}

/// A record and the reader behind it, or `None` at the shard's end; or an error, and the reader if it can go on behind
/// the record.
type ReadOne<S> = Result<Option<(<S as Shards>::Record, Reader<S>)>, (Error, Option<Reader<S>>)>;

impl<S: Shards> Reading<S> {
    /// Reads the record at a place, again and again if its errors are worth it; `None` at the shard's end.
    fn tries(
        &self,
        shard: usize,
        lane: Lane,
        mut reader: Option<Reader<S>>,
        worker: Worker<'_>,
    ) -> ReadOne<S> {
        for tries in 1.. {
            // After a failed try the shard is opened anew: nobody knows what the error did to the reader.
            let (error, after) = match self.attempt(shard, lane, reader.take(), worker) {
                Ok(read) => return Ok(read),
                Err(failed) => failed,
            };
            let wait = self.retry.as_ref().and_then(|retry| retry.next(tries, &error));
            let Some(wait) = wait else { return Err((error, after)) };
            if !pause(wait, worker) {
                return Err((error, after));
            }
        }
        Ok(None)
    }

    fn attempt(&self, shard: usize, lane: Lane, reader: Option<Reader<S>>, worker: Worker<'_>) -> ReadOne<S> {
        let name = |error| failed(shard, lane.record, error);
        let place = self.gates.as_ref().map(|gates| gates.reading.enter(|| worker.progress()));
        if place.as_ref().is_some_and(Option::is_none) {
            // Nobody waits for the record any more, so that nobody takes this for the shard's end.
            return Ok(None);
        }
        // Unwind safety: a reader that panicked is not used again.
        let read = catch_unwind(AssertUnwindSafe(|| {
            let mut reader = match reader {
                Some(reader) => reader,
                None => self.open(shard, lane, worker).map_err(|error| (name(error), None))?,
            };
            match reader.next() {
                None => Ok(None),
                Some(Ok(record)) => Ok(Some((record, reader))),
                Some(Err(error)) => Err((name(error), Some(reader))),
            }
        }));
        read.unwrap_or_else(|payload| {
            let text = format!("shard {shard}, record {}: panicked", lane.record);
            Err((Error::new(ErrorKind::Panic, text).caused_by(panic_message(payload)), None))
        })
    }

    /// Opens a shard at a place, from its beginning if need be.
    fn open(&self, shard: usize, lane: Lane, worker: Worker<'_>) -> Result<Reader<S>, S::Error> {
        let mut reader = self.shards.open(shard, lane.offset.unwrap_or(0))?;
        let passed = if lane.offset.is_some() { 0 } else { lane.record };
        for _ in 0..passed {
            // Errors in these records are behind us, as the records are.
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
