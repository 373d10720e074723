//! The batches of one epoch, in order.

use std::iter::FusedIterator;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use firebox_workers::{ErrorKind as PoolErrorKind, Imap};

use crate::collate::Collate;
use crate::error::{Error, ErrorKind};
use crate::loader::{Loader, LoaderState, Task, task::Executor};

/// An iterator over the batches of one epoch, from [`Loader::epoch`] or [`Loader::resume`].
///
/// It ends after the last batch, or after the first error, which says which sample it was. Dropping it at any
/// moment stops the workers and loses nothing: [`state`](Epoch::state) says where it stood.
pub struct Epoch<'l, C: Collate> {
    loader: &'l Loader<C>,
    /// `None` once an error was delivered.
    stream: Option<Imap<'l, Task, Executor<C>, Tasks<C>>>,
    epoch: u64,
    /// The batches delivered, those before a resume included.
    delivered: usize,
    waited: Duration,
}

impl<'l, C: Collate> Epoch<'l, C> {
    pub(super) fn new(loader: &'l Loader<C>, epoch: u64, delivered: usize) -> Self {
        let executor = Arc::clone(&loader.executor);
        let rest = delivered..loader.batches(epoch);
        let tasks = Tasks { executor: Arc::clone(&executor), epoch, rest };
        let stream = loader.pool.imap_shared(executor, tasks, loader.prefetch);
        Epoch { loader, stream: Some(stream), epoch, delivered, waited: Duration::ZERO }
    }

    /// Where the loader stands: behind the batches that were delivered.
    pub fn state(&self) -> LoaderState {
        LoaderState::new(self.loader, self.epoch, self.delivered)
    }

    /// How long `next` has kept its caller waiting so far.
    pub fn waited(&self) -> Duration {
        self.waited
    }
}

impl<C: Collate> Iterator for Epoch<'_, C> {
    type Item = Result<C::Batch, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let asked = Instant::now();
        let result = self.stream.as_mut()?.next()?;
        self.waited += asked.elapsed();
        // Panics of a sample and of collation were caught before: this one is of the layout or the order.
        let batch = result.unwrap_or_else(|error| {
            let text = format!("batch {} of epoch {} was not made", self.delivered, self.epoch);
            let (kind, worker) = (error.kind(), error.worker());
            Err(match kind {
                PoolErrorKind::Panicked(message) => {
                    Error::new(ErrorKind::Panic, format!("{text}: panicked: {message}")).on_worker(worker)
                }
                _ => Error::new(ErrorKind::Workers, text).on_worker(worker).caused_by(error),
            })
        });
        match &batch {
            Ok(_) => self.delivered += 1,
            Err(_) => self.stream = None,
        }
        Some(batch)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = match self.stream {
            Some(_) => self.loader.batches(self.epoch) - self.delivered,
            None => 0,
        };
        // An error ends the epoch early.
        (left.min(1), Some(left))
    }
}

impl<C: Collate> FusedIterator for Epoch<'_, C> {}

/// The tasks of the batches `rest` of an epoch.
pub(super) struct Tasks<C> {
    executor: Arc<Executor<C>>,
    epoch: u64,
    rest: Range<usize>,
}

impl<C> Iterator for Tasks<C> {
    type Item = Task;

    fn next(&mut self) -> Option<Task> {
        self.rest.next().map(|batch| {
            let Range { start, end } = self.executor.batches.positions(self.epoch, batch);
            Task { epoch: self.epoch, batch, start, end }
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.rest.size_hint()
    }
}
