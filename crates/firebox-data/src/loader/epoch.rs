//! The batches of one epoch, in order.

use std::iter::FusedIterator;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use firebox_workers::{ErrorKind as PoolErrorKind, Imap};

use crate::collate::Collate;
use crate::error::{Error, ErrorKind};
use crate::loader::fault::{Incident, Remedy};
use crate::loader::report::EpochReport;
use crate::loader::task::{Executor, Made};
use crate::loader::{Loader, LoaderState, Task};

/// An iterator over the batches of one epoch, from [`Loader::epoch`] or [`Loader::resume`].
///
/// It ends after the last batch, or after the first error, which says which sample it was. Dropping it at any
/// moment stops the workers and loses nothing: [`state`](Epoch::state) says where it stood.
pub struct Epoch<'l, C: Collate> {
    loader: &'l Loader<C>,
    /// `None` once an error was delivered.
    stream: Option<Imap<'l, Task, Executor<C>, Tasks<C>>>,
    /// The batches behind us, those before a resume included.
    delivered: usize,
    /// The samples skipped or replaced in them.
    faults: usize,
    begun: Instant,
    report: EpochReport,
}

impl<'l, C: Collate> Epoch<'l, C> {
    pub(super) fn new(loader: &'l Loader<C>, epoch: u64, delivered: usize, faults: usize) -> Self {
        let executor = Arc::clone(&loader.executor);
        let rest = delivered..loader.batches(epoch);
        let tasks = Tasks { executor: Arc::clone(&executor), epoch, rest };
        let begun = Instant::now();
        let stream = loader.pool.imap_shared(executor, tasks, loader.prefetch);
        let report = EpochReport { epoch, workers: loader.workers(), ..EpochReport::default() };
        Epoch { loader, stream: Some(stream), delivered, faults, begun, report }
    }

    /// Where the loader stands: behind the batches that were delivered.
    pub fn state(&self) -> LoaderState {
        LoaderState::new(self.loader, self.report.epoch, self.delivered, self.faults)
    }

    /// How long `next` has kept its caller waiting so far.
    pub fn waited(&self) -> Duration {
        self.report.waited
    }

    /// What happened so far, and where the time went.
    pub fn report(&self) -> &EpochReport {
        &self.report
    }

    /// Takes a batch over, or finds that the epoch ends with it. `None` for a batch of which no sample is left.
    fn take(&mut self, made: Made<C::Batch>) -> Option<Result<C::Batch, Error>> {
        let limit = self.loader.executor.on_error.limit();
        let mut faults = self.faults;
        let mut too_many = None;
        for mut incident in made.incidents {
            let lost = matches!(incident.remedy, Remedy::Skipped | Remedy::Replaced(_));
            faults += usize::from(lost);
            if lost && faults > limit && too_many.is_none() {
                too_many = Some(incident.error.clone());
                incident.remedy = Remedy::None;
            }
            self.report.incidents.push(incident);
        }
        self.report.busy.add(made.busy);
        match (too_many, made.batch) {
            (Some(error), _) => {
                self.stream = None;
                let text = format!("more than {limit} samples of epoch {} cannot be made", self.report.epoch);
                Some(Err(error.within(text)))
            }
            (None, Err(error)) => {
                self.stream = None;
                if error.index().is_some() {
                    self.report.incidents.push(Incident { error: error.clone(), remedy: Remedy::None });
                }
                Some(Err(error))
            }
            (None, Ok(batch)) => {
                self.delivered += 1;
                self.faults = faults;
                self.report.samples += made.samples;
                self.report.batches += usize::from(made.samples > 0);
                (made.samples > 0).then_some(Ok(batch))
            }
        }
    }
}

impl<C: Collate> Iterator for Epoch<'_, C> {
    type Item = Result<C::Batch, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let asked = Instant::now();
            let result = self.stream.as_mut()?.next();
            self.report.waited += asked.elapsed();
            self.report.elapsed = self.begun.elapsed();
            // Panics of a sample and of collation were caught before: this one is of the layout or the order.
            let made = result?.unwrap_or_else(|error| {
                let text = format!("batch {} of epoch {} was not made", self.delivered, self.report.epoch);
                let (kind, worker) = (error.kind(), error.worker());
                let error = match kind {
                    PoolErrorKind::Panicked(message) => {
                        Error::new(ErrorKind::Panic, format!("{text}: panicked: {message}"))
                    }
                    _ => Error::new(ErrorKind::Workers, text).caused_by(error),
                };
                Made::failed(error.on_worker(worker))
            });
            if let Some(batch) = self.take(made) {
                return Some(batch);
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = match self.stream {
            Some(_) => self.loader.batches(self.report.epoch) - self.delivered,
            None => 0,
        };
        // An error ends the epoch early; batches of which nothing is left are not delivered.
        (0, Some(left))
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
