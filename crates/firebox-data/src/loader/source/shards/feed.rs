//! Reading shards ahead of the cursor.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use firebox_core::panic_message;
use firebox_workers::stream::Dispatch;
use firebox_workers::{ErrorKind as PoolErrorKind, Pool, Work, Worker, WorkersExt as _};

use crate::dataset::Shards;
use crate::error::{BoxError, Error, ErrorKind};
use crate::loader::report::{Stint, WorkerTime};
use crate::loader::source::shards::cursor::{Lane, Next};
use crate::loader::source::shards::order::Pass;
use crate::loader::source::shards::reader::{Entry, Reader};
use crate::loader::source::shards::record_reader::{RecordReader, Way, ends};
use crate::loader::source::shards::record_store::{Held, Kept};
use crate::loader::work::SampleId;
use crate::sync::Arc;

/// Records that are read in one task, and of a shard before its turn.
pub(super) const CHUNK: usize = 64;

/// How a record is written down for another process.
pub(super) type WriteRecord<R> = fn(&R) -> Result<Vec<u8>, BoxError>;

/// Where the records of a plan come from.
pub(super) enum Supply<'l, S: Shards> {
    /// They are read ahead.
    Read(Box<Feeds<'l, S>>),
    /// They are known by their numbers, and read by whoever makes their batch.
    Numbered(Arc<S>),
}

impl<S: Shards> Supply<'_, S> {
    /// The next record of a pass.
    pub(super) fn take(&mut self, Pass { shard, repeat }: Pass, lane: Lane) -> Next<Kept<S::Record>> {
        match self {
            Supply::Read(feeds) => feeds.take(lane.shard),
            Supply::Numbered(shards) if lane.record < shards.records(shard).unwrap_or(0) => {
                Next::Record(Kept::unread(SampleId::Record { shard, record: lane.record, repeat }), None)
            }
            Supply::Numbered(_) => Next::End,
        }
    }

    /// Waits until something was read; at once if nothing is being read.
    pub(super) fn wait(&mut self) {
        if let Supply::Read(feeds) = self {
            feeds.wait();
        }
    }

    /// The stints of reading.
    pub(super) fn stints(&mut self) -> Vec<Stint> {
        match self {
            Supply::Read(feeds) => std::mem::take(&mut feeds.stints),
            Supply::Numbered(_) => Vec::new(),
        }
    }
}

/// The shards that are being read, by their place in the epoch's order. Each is read by one task at a time,
/// several shards by several workers.
pub(super) struct Feeds<'l, S: Shards> {
    dispatch: Dispatch<'l, ReadTask, ChunkReader<S>>,
    reader: Arc<ChunkReader<S>>,
    feeds: HashMap<usize, Feed<S::Record>>,
    /// The reading of each task, by the task's index.
    out: HashMap<usize, ReadTask>,
    /// Stints of reading that nobody has asked for yet.
    stints: Vec<Stint>,
}

struct Feed<R> {
    /// Read, and not yet taken, with the offset of what follows.
    records: VecDeque<(Kept<R>, Option<u64>)>,
    state: FeedState,
}

enum FeedState {
    /// Where the next task goes on.
    Next(ReadTask),
    /// A task is reading.
    Busy,
    Ended,
}

/// The part that a task reads: numbers alone, so that any worker can, if it opens the shard.
#[derive(Clone, Copy)]
struct ReadTask {
    pass: Pass,
    /// The first record.
    lane: Lane,
    /// Where the shard is opened if no reader stands before that record: there, or the last known place
    /// before it.
    entry: Entry,
    /// True if a task has read up to there, and has left its reader.
    is_open: bool,
}

impl ReadTask {
    fn id(&self) -> SampleId {
        SampleId::Record { shard: self.pass.shard, record: self.lane.record, repeat: self.pass.repeat }
    }
}

/// Records that a task has read.
struct Chunk<R> {
    records: Vec<(Kept<R>, Option<u64>)>,
    /// Where it goes on; `None` at the shard's end.
    next: Option<ReadTask>,
    stint: Stint,
}

impl<'l, S: Shards> Feeds<'l, S> {
    pub(super) fn new(pool: &'l Pool, reader: ChunkReader<S>) -> Self {
        let reader = Arc::new(reader);
        let dispatch = pool.dispatch(Arc::clone(&reader), 1024);
        Feeds { dispatch, reader, feeds: HashMap::new(), out: HashMap::new(), stints: Vec::new() }
    }

    /// Has a shard read from `lane` on, until `ahead` records wait to be taken.
    pub(super) fn want(&mut self, pass: Pass, lane: Lane, ahead: usize) {
        let reader = &self.reader;
        let feed = self.feeds.entry(lane.shard).or_insert_with(|| Feed {
            records: VecDeque::new(),
            state: FeedState::Next(reader.task(pass, lane, Entry::BEGINNING)),
        });
        if let FeedState::Next(task) = feed.state
            && feed.records.len() < ahead
            && let Ok(index) = self.dispatch.send(task)
        {
            self.out.insert(index, task);
            feed.state = FeedState::Busy;
        }
    }

    /// The next record of the shard at a place.
    pub(super) fn take(&mut self, place: usize) -> Next<Kept<S::Record>> {
        let Some(feed) = self.feeds.get_mut(&place) else { return Next::Later };
        match (feed.records.pop_front(), &feed.state) {
            (Some((record, offset)), _) => Next::Record(record, offset),
            (None, FeedState::Ended) => {
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

    fn hear(&mut self, task: usize, result: Result<Chunk<S::Record>, firebox_workers::Error>) {
        let Some(task) = self.out.remove(&task) else { return };
        let Some(feed) = self.feeds.get_mut(&task.lane.shard) else { return };
        match result {
            Ok(Chunk { records, next, stint }) => {
                self.stints.push(stint);
                feed.records.extend(records);
                feed.state = next.map_or(FeedState::Ended, FeedState::Next);
            }
            // The reader is lost with the task.
            Err(error) => {
                let (error, next) = self.reader.lost(task, &error);
                feed.records.push_back((Kept::new(task.id(), Err(error), None), None));
                feed.state = next.map_or(FeedState::Ended, FeedState::Next);
            }
        }
    }
}

/// Reads shards: what all workers of an epoch share.
pub(super) struct ChunkReader<S: Shards> {
    reader: RecordReader<S>,
    /// How records are written down at once, if they go to other processes.
    write: Option<WriteRecord<S::Record>>,
    /// True if an epoch may go on without a record.
    may_skip: bool,
    /// Records in a task.
    chunk: usize,
    /// The readers that wait for their next task, by the place of the shard, each with its next record.
    readers: Mutex<HashMap<usize, (u64, Reader<S>)>>,
}

impl<S: Shards> ChunkReader<S> {
    pub(super) fn new(
        reader: RecordReader<S>,
        write: Option<WriteRecord<S::Record>>,
        (may_skip, has_time_limit): (bool, bool),
    ) -> Self {
        // What a task that is given up has read is lost: with a time limit it reads one record at a time.
        let chunk = if has_time_limit { 1 } else { CHUNK };
        ChunkReader { reader, write, may_skip, chunk, readers: Mutex::default() }
    }

    /// The task that reads from a place on; `before` is a known one before it.
    fn task(&self, pass: Pass, lane: Lane, before: Entry) -> ReadTask {
        let entry = Entry::at(&*self.reader.shards, pass.shard, lane.record, lane.offset).unwrap_or(before);
        ReadTask { pass, lane, entry, is_open: false }
    }

    /// The end of a task that the pool has no result of: the error of its record, and what is read after
    /// that.
    fn lost(&self, task: ReadTask, error: &firebox_workers::Error) -> (Error, Option<ReadTask>) {
        let ReadTask { pass, lane, entry, is_open } = task;
        let limit = match error.kind() {
            PoolErrorKind::TimedOut(limit) => Some(limit),
            _ => None,
        };
        // Whether it is this record that takes so long, and none that must be passed over to get to it.
        let is_its_own = is_open || entry.record == lane.record;
        if let Some(limit) = limit.filter(|_| self.may_skip && is_its_own) {
            let text = format!("took longer than {limit:?}");
            let error = Error::new(ErrorKind::TimedOut, text).on_worker(error.worker());
            let after = Lane { record: lane.record + 1, offset: None, ..lane };
            return (error, Some(self.task(pass, after, entry)));
        }
        let why = match limit {
            // With a time limit a task reads one record.
            Some(limit) => format!("record {} took longer than {limit:?}", lane.record),
            None => error.to_string(),
        };
        let text = format!("shard {}: the rest of it is not read: {why}", pass.shard);
        (Error::new(ErrorKind::Shard, text).on_worker(error.worker()), None)
    }

    /// Keeps a record for its batch: as it is, or written down.
    fn hold(&self, id: SampleId, record: S::Record) -> Result<Held<S::Record>, Error> {
        let Some(write) = self.write else { return Ok(Held::Record(record)) };
        let error = match catch_unwind(AssertUnwindSafe(|| write(&record))) {
            Ok(Ok(bytes)) => return Ok(Held::Written(Arc::new(bytes))),
            Ok(Err(error)) => Error::new(ErrorKind::Dataset, "").caused_by(error),
            Err(payload) => Error::new(ErrorKind::Panic, "panicked").caused_by(panic_message(payload)),
        };
        Err(match id {
            SampleId::Record { shard, record, .. } => {
                error.within(format!("shard {shard}, record {record}: not sent to another process"))
            }
            SampleId::Item { .. } => error,
        })
    }

    fn readers(&self) -> MutexGuard<'_, HashMap<usize, (u64, Reader<S>)>> {
        // Nothing panics under this lock.
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Shards> Work<ReadTask> for ChunkReader<S> {
    type Output = Chunk<S::Record>;

    fn run(&self, mut task: ReadTask, worker: Worker<'_>) -> Chunk<S::Record> {
        let (begun, shard, place) = (Instant::now(), task.pass.shard, task.lane.shard);
        let left = self.readers().remove(&place);
        let mut standing = left.filter(|(record, _)| *record == task.lane.record);
        let mut records = Vec::with_capacity(self.chunk);
        let ended = |records| {
            let time = WorkerTime { reading: begun.elapsed(), ..WorkerTime::default() };
            Chunk { records, next: None, stint: Stint::end(begun, time, worker) }
        };
        while records.len() < self.chunk && worker.progress() {
            let id = task.id();
            let way = Way { entry: task.entry, standing: standing.take() };
            let (tried, after) = self.reader.read((shard, task.lane.record), way, worker, &|_, _| ());
            let (record, reread, after) = match (tried, after) {
                (Ok((Ok((record, after)), reread)), _) => (self.hold(id, record), reread, after),
                (Ok((Err(count), _)), _) => {
                    if let Some(error) = self.reader.miscounted(shard, count) {
                        records.push((Kept::new(id, Err(error), None), None));
                    }
                    return ended(records);
                }
                (Err(error), Some(after)) => (Err(error.on_worker(worker.id())), None, after),
                (Err(error), None) => {
                    let error = ends(shard, error).on_worker(worker.id());
                    records.push((Kept::new(id, Err(error), None), None));
                    return ended(records);
                }
            };
            let lane = Lane { record: task.lane.record + 1, offset: after.offset(), ..task.lane };
            task = self.task(task.pass, lane, task.entry);
            records.push((Kept::new(id, record, reread), lane.offset));
            standing = Some((task.lane.record, after));
        }
        if let Some(standing) = standing.filter(|_| worker.progress()) {
            self.readers().insert(place, standing);
            task.is_open = true;
        }
        Chunk { next: Some(task), ..ended(records) }
    }
}
