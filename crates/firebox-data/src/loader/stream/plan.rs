//! The batches of a stream, as its records are read.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use firebox_core::{Purpose, derive_seed};
use firebox_workers::Pool;

use crate::dataset::Shards;
use crate::error::{Error, ErrorKind};
use crate::loader::plan::{Plan, Planned};
use crate::loader::stint::Stint;
use crate::loader::stream::Settings;
use crate::loader::stream::cursor::{Cursor, Lane, Next};
use crate::loader::stream::feed::{CHUNK, Feeds, Item};
use crate::loader::task::Gates;
use crate::loader::{LoaderState, Retry};
use crate::permutation::Permutation;
use crate::sync::Arc;

/// What the plan, the workers and the consumer of an epoch share.
pub(super) struct Shared<R> {
    /// The records of the batches that are planned and not delivered.
    batches: Mutex<HashMap<usize, Arc<Vec<Item<R>>>>>,
    /// Where each window of the shuffle begins whose records are not all delivered, and its place in the epoch.
    windows: Mutex<VecDeque<(u64, Cursor)>>,
}

impl<R> Default for Shared<R> {
    fn default() -> Self {
        Shared { batches: Mutex::default(), windows: Mutex::default() }
    }
}

impl<R> Shared<R> {
    pub(super) fn batch(&self, batch: usize) -> Option<Arc<Vec<Item<R>>>> {
        lock(&self.batches).get(&batch).cloned()
    }

    /// Where the window of the record at a position begins, or the last one before it, with its number. Forgets those
    /// before.
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

/// The batches of an epoch of a stream.
pub(super) struct Streamed<'l, S: Shards> {
    settings: Arc<Settings>,
    epoch: u64,
    /// The epoch's order of all shards.
    order: Permutation,
    /// The number of shards that are this rank's.
    len: usize,
    feeds: Feeds<'l, S>,
    /// Shards that are read before the cursor gets to them.
    early: usize,
    cursor: Cursor,
    /// The number of the window that is being filled.
    window: u64,
    filling: Vec<Item<S::Record>>,
    /// The window that is being delivered, in its order.
    shuffled: std::vec::IntoIter<Item<S::Record>>,
    /// Records of the first windows that were delivered before a resume.
    passed: u64,
    ended: bool,
    /// The next batch, and those behind it that were delivered before a resume.
    batch: usize,
    delivered: BTreeSet<usize>,
    forming: Vec<Item<S::Record>>,
    shared: Arc<Shared<S::Record>>,
}

impl<'l, S: Shards> Streamed<'l, S> {
    /// From a state on, which must have been checked.
    pub(super) fn new(
        pool: &'l Pool,
        shards: Arc<S>,
        settings: Arc<Settings>,
        (retry, gates): (Option<Retry>, Option<Arc<Gates>>),
        state: &LoaderState,
        shared: Arc<Shared<S::Record>>,
    ) -> Self {
        let (window, cursor) = match &state.stream {
            Some(stream) => (stream.window, stream.cursor.clone()),
            None => (0, Cursor::new(settings.lanes)),
        };
        let order = settings.order(shards.shards(), state.epoch);
        let len = settings.share(shards.shards());
        let feeds = Feeds::new(pool, shards, retry, gates);
        lock(&shared.windows).push_back((window, cursor.clone()));
        Streamed {
            epoch: state.epoch,
            order,
            len,
            feeds,
            early: pool.workers(),
            cursor,
            window,
            filling: Vec::new(),
            shuffled: Vec::new().into_iter(),
            passed: (state.batch * settings.batch_size) as u64 - window * settings.window as u64,
            ended: false,
            batch: state.batch,
            delivered: state.delivered_ahead(),
            forming: Vec::new(),
            shared,
            settings,
        }
    }

    /// Keeps the readers busy: with the shards of the cursor, and with those that come next.
    fn read_ahead(&mut self) {
        self.feeds.poll();
        let lanes: Vec<Lane> = self.cursor.reading().collect();
        // The next window, and of the shards that come later a first piece: they are many.
        let room = (self.settings.window / self.settings.lanes).max(CHUNK);
        let next = self.cursor.next..self.len.min(self.cursor.next + self.settings.lanes + self.early);
        let early = next.map(|shard| (Lane { shard, record: 0, offset: Some(0) }, CHUNK));
        for (lane, room) in lanes.into_iter().map(|lane| (lane, room)).chain(early) {
            let shard = self.settings.shard(&self.order, lane.shard);
            self.feeds.want(shard, lane, room);
        }
    }

    /// Moves what was read into the window; `true` if it is full, or the last.
    fn fill(&mut self) -> bool {
        while !self.ended && self.filling.len() < self.settings.window {
            let feeds = &mut self.feeds;
            match self.cursor.advance(self.len, |lane| feeds.take(lane.shard)) {
                Next::Record(item, _) => self.filling.push(item),
                Next::End => self.ended = true,
                Next::Later => return false,
            }
        }
        true
    }

    /// Makes the full window the one to deliver.
    fn shuffle(&mut self) {
        let filled = std::mem::take(&mut self.filling);
        let mut filled: Vec<_> = match self.settings.shuffles() {
            false => filled,
            true => {
                let seed = derive_seed(self.settings.seed, Purpose::Order, self.epoch, 2 + self.window);
                let permutation = Permutation::new(filled.len(), seed);
                let mut items: Vec<_> = filled.into_iter().map(Some).collect();
                (0..items.len()).filter_map(|place| items[permutation.apply(place)].take()).collect()
            }
        };
        let passed = self.passed.min(filled.len() as u64);
        self.passed -= passed;
        filled.drain(..passed as usize);
        self.shuffled = filled.into_iter();
        self.window += 1;
        lock(&self.shared.windows).push_back((self.window, self.cursor.clone()));
    }

    /// Makes a batch of the error that the stream ends before the place that was saved.
    fn lack(&mut self) -> Option<Planned> {
        let missing = std::mem::take(&mut self.passed);
        let text = format!("the saved place is {missing} records behind the end of the data");
        let record = Err(Error::new(ErrorKind::Shard, text));
        self.forming = vec![Item { shard: 0, number: 0, record }];
        self.publish()
    }

    /// Gives the workers the records of a batch.
    fn publish(&mut self) -> Option<Planned> {
        let items = std::mem::take(&mut self.forming);
        let (batch, records) = (self.batch, items.len());
        self.batch += 1;
        if self.delivered.remove(&batch) {
            return None;
        }
        lock(&self.shared.batches).insert(batch, Arc::new(items));
        let start = batch * self.settings.batch_size;
        Some(Planned::Batch(batch, start..start + records))
    }
}

impl<S: Shards> Plan for Streamed<'_, S> {
    fn next(&mut self) -> Planned {
        loop {
            self.read_ahead();
            let full = self.fill();
            let wanted = self.settings.batch_size - self.forming.len();
            self.forming.extend(self.shuffled.by_ref().take(wanted));
            if self.forming.len() == self.settings.batch_size {
                match self.publish() {
                    Some(planned) => return planned,
                    None => continue,
                }
            }
            if !full {
                return Planned::Later;
            }
            if !self.filling.is_empty() {
                self.shuffle();
                continue;
            }
            // A last batch that was short is counted as a whole one.
            if self.passed >= self.settings.batch_size as u64 {
                return self.lack().unwrap_or(Planned::End);
            }
            if self.forming.is_empty() || self.settings.drop_last {
                return Planned::End;
            }
            if let Some(planned) = self.publish() {
                return planned;
            }
        }
    }

    fn wait(&mut self) {
        self.feeds.wait();
    }

    fn reading(&mut self) -> Vec<Stint> {
        std::mem::take(&mut self.feeds.stints)
    }

    fn delivered(&mut self, batch: usize) {
        lock(&self.shared.batches).remove(&batch);
    }
}

impl<R> Shared<R> {
    /// What a worker is to know of the record at a position.
    pub(super) fn lost(position: usize) -> Error {
        Error::new(ErrorKind::Workers, format!("record {position} of the epoch is not there"))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
