//! The batches of one epoch, as the consumer gets them.

use std::collections::BTreeSet;
use std::iter::FusedIterator;
use std::task::Poll;
use std::time::{Duration, Instant};

use crate::batches::Delivered;
use crate::collate::Collate;
use crate::error::Error;
use crate::loader::auto::{Span, cores};
use crate::loader::fault::{Incident, Remedy};
use crate::loader::plan::{Known, Plan};
use crate::loader::report::{Busy, EpochReport, counted};
use crate::loader::stint::Stint;
use crate::loader::task::{Executor, Made};
use crate::loader::window::{Polled, Window};
use crate::loader::{Loader, LoaderState};
use crate::sync::Arc;

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
    /// How many of them there may be.
    limit: usize,
    /// The samples that the batches delivered by this iterator went without.
    skipped: usize,
    /// The batches of the whole epoch, if their number is known.
    total: Option<usize>,
    begun: Instant,
    report: EpochReport,
}

/// What is known of a whole epoch.
pub(super) struct Total {
    pub(super) batches: Option<usize>,
    pub(super) samples: Option<usize>,
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
        let total = Total { batches: Some(loader.batches(epoch)), samples: Some(loader.samples(epoch)) };
        Self::of_plan(loader, Arc::clone(&loader.executor), state, Box::new(plan), total)
    }

    /// The epoch of any plan.
    pub(super) fn of_plan(
        loader: &'l Loader<C>,
        executor: Arc<Executor<C>>,
        state: &LoaderState,
        plan: Box<dyn Plan + 'l>,
        total: Total,
    ) -> Self {
        let begun = Instant::now();
        let limit = loader.executor.on_error.limit(total.samples);
        let window = Some(Window::new(loader, executor, state.epoch, plan, limit));
        let (epoch, workers, cores) = (state.epoch, loader.workers(), cores());
        let report = EpochReport { epoch, workers, cores, ..EpochReport::default() };
        let (delivered, ahead) = (state.batch, state.delivered_ahead());
        Epoch {
            loader,
            window,
            delivered,
            ahead,
            faults: state.faults,
            limit,
            skipped: 0,
            total: total.batches,
            begun,
            report,
        }
    }

    /// Where the loader stands: behind the batches that were delivered.
    pub fn state(&self) -> LoaderState {
        LoaderState::new(self.loader, self.report.epoch, self.delivered, self.faults).with_ahead(&self.ahead)
    }

    /// The first batch that was not delivered.
    pub(super) fn position(&self) -> usize {
        self.delivered
    }

    /// How long `next` has kept its caller waiting so far.
    pub fn waited(&self) -> Duration {
        self.report.waited
    }

    /// What this iterator has delivered so far.
    pub fn delivered(&self) -> Delivered {
        let EpochReport { batches, samples, .. } = self.report;
        Delivered { batches, samples, skipped: self.skipped }
    }

    /// What happened so far, and where the time went.
    pub fn report(&self) -> &EpochReport {
        &self.report
    }

    /// What [`next`](Iterator::next) gives if it is there already, without waiting for it.
    pub fn try_next(&mut self) -> Poll<Option<Result<C::Batch, Error>>> {
        self.poll(false)
    }

    fn poll(&mut self, wait: bool) -> Poll<Option<Result<C::Batch, Error>>> {
        let EpochReport { elapsed, waited, busy, samples, .. } = self.report;
        let before = Before { elapsed, waited, busy, samples };
        loop {
            let Some(window) = &mut self.window else { return Poll::Ready(None) };
            let asked = Instant::now();
            let polled = window.next(wait);
            self.report.waited += asked.elapsed();
            self.report.elapsed = self.begun.elapsed();
            let (batch, made) = match polled {
                Polled::Batch(batch, made) => (batch, made),
                Polled::Pending => return Poll::Pending,
                Polled::End => {
                    self.window = None;
                    return Poll::Ready(None);
                }
            };
            let mut made = *made;
            let stints = std::mem::take(&mut made.stints);
            let batch = self.take(batch, made);
            self.account(before, &stints);
            if batch.is_some() {
                return Poll::Ready(batch);
            }
        }
    }

    /// Takes a batch over, or finds that the epoch ends with it. `None` for a batch of which no sample is left.
    fn take(&mut self, batch: usize, made: Made<C::Batch>) -> Option<Result<C::Batch, Error>> {
        let limit = self.limit;
        let mut faults = self.faults;
        let (mut skipped, mut too_many) = (0, None);
        for mut incident in made.incidents {
            let lost = matches!(incident.remedy, Remedy::Skipped | Remedy::Replaced(_));
            faults += usize::from(lost);
            skipped += usize::from(incident.remedy == Remedy::Skipped);
            if lost && faults > limit && too_many.is_none() {
                too_many = Some(incident.error.clone());
                incident.remedy = Remedy::None;
            }
            self.report.note(incident);
        }
        match (too_many, made.batch) {
            (Some(error), _) => {
                self.window = None;
                let samples = counted(limit, "sample");
                let text = format!("more than {samples} of epoch {} cannot be made", self.report.epoch);
                Some(Err(error.within(text)))
            }
            (None, Err(error)) => {
                self.window = None;
                if error.index().is_some() {
                    self.report.note(Incident::new(error.clone(), Remedy::None));
                }
                Some(Err(error))
            }
            (None, Ok(values)) => {
                self.ahead.insert(batch);
                while self.ahead.remove(&self.delivered) {
                    self.delivered += 1;
                }
                self.faults = faults;
                self.skipped += skipped;
                self.report.samples += made.samples;
                self.report.batches += usize::from(made.samples > 0);
                values.map(Ok)
            }
        }
    }

    /// Notes how the last batch went, and the work that was done for it.
    fn account(&mut self, before: Before, stints: &[Stint]) {
        let report = &mut self.report;
        stints.iter().for_each(|stint| report.busy.add(stint.busy));
        let busy = report.busy.less(before.busy);
        let queued = stints.iter().map(|stint| stint.queued).fold(Duration::ZERO, Duration::saturating_add);
        let span = Span {
            elapsed: report.elapsed.saturating_sub(before.elapsed),
            waited: report.waited.saturating_sub(before.waited),
            busy: busy.total(),
            computing: busy.computing.saturating_add(queued),
            samples: report.samples - before.samples,
        };
        report.timeline.note(report.elapsed, span.waited, span.samples);
        for stint in stints {
            let begun = stint.begun.saturating_duration_since(self.begun);
            report.timeline.enter(begun, stint.took, stint.busy);
        }
        // The first batch is waited for in any case, and says nothing of those behind it.
        let tells = report.batches > 1 || self.total == Some(1);
        let span = if tells { span } else { Span::default() };
        if let Some(text) = self.loader.adapt(span) {
            self.report.workers = self.loader.workers();
            self.report.chosen = Some(text);
        }
    }
}

/// What the report said before a batch.
#[derive(Clone, Copy)]
struct Before {
    elapsed: Duration,
    waited: Duration,
    busy: Busy,
    samples: usize,
}

impl<C: Collate> Iterator for Epoch<'_, C> {
    type Item = Result<C::Batch, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.poll(true) {
            Poll::Ready(batch) => batch,
            Poll::Pending => None,
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = match self.window {
            Some(_) => self.total.map(|total| total - self.delivered - self.ahead.len()),
            None => Some(0),
        };
        // An error ends the epoch early; batches of which nothing is left are not delivered.
        (0, left)
    }
}

impl<C: Collate> FusedIterator for Epoch<'_, C> {}
