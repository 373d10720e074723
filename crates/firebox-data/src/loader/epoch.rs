//! The batches of one epoch, as the consumer gets them.

use std::collections::BTreeSet;
use std::iter::FusedIterator;
use std::time::{Duration, Instant};

use crate::collate::Collate;
use crate::error::Error;
use crate::loader::auto::Span;
use crate::loader::fault::{Incident, Remedy};
use crate::loader::plan::{Known, Plan};
use crate::loader::report::EpochReport;
use crate::loader::task::Made;
use crate::loader::window::Window;
use crate::loader::{Loader, LoaderState};

/// An iterator over the batches of one epoch, from [`Loader::epoch`] or [`Loader::resume`].
///
/// It ends after the last batch, or after the first error, which says which sample it was. Dropping it at any
/// moment stops the workers and loses nothing: [`state`](Epoch::state) says where it stood.
pub struct Epoch<'l, C: Collate> {
    loader: &'l Loader<C>,
    /// `None` once it is over.
    window: Option<Window<'l, C>>,
    /// All batches below this one are behind us, those before a resume included.
    delivered: usize,
    /// Batches above it that are behind us, too, if they come as they complete.
    ahead: BTreeSet<usize>,
    /// The samples skipped or replaced in them.
    faults: usize,
    begun: Instant,
    report: EpochReport,
}

impl<'l, C: Collate> Epoch<'l, C> {
    /// The epoch from a state on, which must have been checked.
    pub(super) fn new(loader: &'l Loader<C>, state: &LoaderState) -> Self {
        let (epoch, delivered) = (state.epoch, state.batch);
        let batches = &loader.executor.batches;
        let plan = Known {
            rest: delivered..loader.batches(epoch),
            delivered: state.delivered_ahead(),
            positions: Box::new(move |batch| batches.positions(epoch, batch)),
        };
        Self::of_plan(loader, state, Box::new(plan))
    }

    /// The epoch of any plan.
    pub(super) fn of_plan(loader: &'l Loader<C>, state: &LoaderState, plan: Box<dyn Plan + 'l>) -> Self {
        let begun = Instant::now();
        let window = Some(Window::new(loader, state.epoch, plan));
        let report = EpochReport { epoch: state.epoch, workers: loader.workers(), ..EpochReport::default() };
        let (delivered, ahead) = (state.batch, state.delivered_ahead());
        Epoch { loader, window, delivered, ahead, faults: state.faults, begun, report }
    }

    /// Where the loader stands: behind the batches that were delivered.
    pub fn state(&self) -> LoaderState {
        LoaderState::new(self.loader, self.report.epoch, self.delivered, self.faults).with_ahead(&self.ahead)
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
    fn take(&mut self, batch: usize, made: Made<C::Batch>) -> Option<Result<C::Batch, Error>> {
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
                self.window = None;
                let text = format!("more than {limit} samples of epoch {} cannot be made", self.report.epoch);
                Some(Err(error.within(text)))
            }
            (None, Err(error)) => {
                self.window = None;
                if error.index().is_some() {
                    self.report.incidents.push(Incident { error: error.clone(), remedy: Remedy::None });
                }
                Some(Err(error))
            }
            (None, Ok(values)) => {
                self.ahead.insert(batch);
                while self.ahead.remove(&self.delivered) {
                    self.delivered += 1;
                }
                self.faults = faults;
                self.report.samples += made.samples;
                self.report.batches += usize::from(made.samples > 0);
                (made.samples > 0).then_some(Ok(values))
            }
        }
    }

    /// Notes how the last batch went.
    fn account(&mut self, before: (Duration, Duration, usize)) {
        let (elapsed, waited, samples) = before;
        let report = &self.report;
        let span = Span {
            elapsed: report.elapsed - elapsed,
            waited: report.waited - waited,
            samples: report.samples - samples,
        };
        if let Some(text) = self.loader.adapt(span) {
            self.report.workers = self.loader.workers();
            self.report.chosen = Some(text);
        }
        self.report.timeline.note(
            self.report.elapsed,
            self.report.waited,
            self.report.samples,
            self.report.busy,
        );
    }
}

impl<C: Collate> Iterator for Epoch<'_, C> {
    type Item = Result<C::Batch, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let before = (self.report.elapsed, self.report.waited, self.report.samples);
        loop {
            let asked = Instant::now();
            let made = self.window.as_mut()?.next();
            self.report.waited += asked.elapsed();
            self.report.elapsed = self.begun.elapsed();
            let Some((batch, made)) = made else {
                self.window = None;
                return None;
            };
            let batch = self.take(batch, *made);
            self.account(before);
            if batch.is_some() {
                return batch;
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = match self.window {
            Some(_) => self.loader.batches(self.report.epoch) - self.delivered - self.ahead.len(),
            None => 0,
        };
        // An error ends the epoch early; batches of which nothing is left are not delivered.
        (0, Some(left))
    }
}

impl<C: Collate> FusedIterator for Epoch<'_, C> {}
