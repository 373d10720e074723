//! The batches of one epoch, as the consumer gets them.

mod delivered;
mod epochs;

pub use delivered::Delivered;
pub use epochs::{Epochs, Start};

use std::collections::BTreeSet;
use std::iter::FusedIterator;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use crate::collate::Collate;
use crate::error::Error;
use crate::loader::auto::{Span, cores};
use crate::loader::fault::{Action, SampleFailure};
use crate::loader::plan::rank_ends::{Agreement, Turn};
use crate::loader::report::{EpochReport, Stint, WorkerTime, counted};
use crate::loader::window::{Polled, Window};
use crate::loader::work::{BuiltBatch, EpochExecutor};
use crate::loader::{Loader, LoaderState};
use crate::sync::Arc;

/// An iterator over the batches of one epoch, from [`Loader::epoch`] or [`Loader::resume`].
///
/// It ends after the last batch, or after the first error, which says which sample it was. Dropping it at any
/// moment stops the workers and loses nothing: [`state`](Epoch::state) says where it stood.
///
/// ```
/// use firebox_data::Loader;
///
/// let loader = Loader::builder(vec![0; 10]).batch_size(4).build((), |_, _, ()| Ok(()))?;
/// let mut epoch = loader.epoch(0);
/// while let Some(batch) = epoch.next() {
///     let samples: usize = batch?;
///     assert!(samples <= 4);
/// }
/// assert_eq!((epoch.delivered().batches, epoch.delivered().samples), (3, 10));
/// println!("{}", epoch.report());
/// # Ok::<(), firebox_data::Error>(())
/// ```
pub struct Epoch<'l, C: Collate> {
    loader: &'l Loader<C>,
    executor: Arc<EpochExecutor<C>>,
    /// `None` once it is over.
    window: Option<Window<'l, C>>,
    /// All batches below this one are delivered, those before a resume included.
    delivered: usize,
    /// Batches above it that are delivered, too, if they come as they complete.
    ahead: BTreeSet<usize>,
    /// The samples skipped or replaced in them.
    faults: usize,
    /// How many of them there may be.
    budget: usize,
    /// The samples that the batches delivered by this iterator went without.
    skipped: usize,
    /// The batches of the whole epoch, if their number is known.
    total: Option<usize>,
    begun: Instant,
    report: EpochReport,
    /// True if it has ended with an error.
    pub(super) failed: Arc<AtomicBool>,
    /// The agreement of ranks before each batch, if they can't know when others end. Dropped last, since it
    /// may wait.
    agreement: Option<Agreement<'l>>,
}

impl<'l, C: Collate> Epoch<'l, C> {
    /// The epoch from a state on, which must have been checked.
    pub(super) fn new(loader: &'l Loader<C>, state: &LoaderState) -> Self {
        let begun = Instant::now();
        let source = &loader.executor.source;
        let (plan, items) = source.open(&loader.pool, &loader.executor.reading(), state);
        let executor = Arc::new(EpochExecutor::new(Arc::clone(&loader.executor), items));
        let epoch = state.epoch;
        let budget = loader.executor.on_error.budget(source.samples(epoch));
        let window = Some(Window::new(loader, Arc::clone(&executor), epoch, plan, budget));
        let (workers, cores) = (loader.workers(), cores());
        let report = EpochReport { epoch, workers, cores, ..EpochReport::default() };
        let (delivered, ahead) = (state.batch, state.delivered_ahead());
        Epoch {
            loader,
            executor,
            window,
            delivered,
            ahead,
            faults: state.faults_of(source.ranks()),
            budget,
            skipped: 0,
            total: source.batches(epoch),
            begun,
            report,
            failed: Arc::default(),
            agreement: source.rank_ends().map(|ends| ends.of_epoch(epoch)),
        }
    }

    /// Where the loader stands: after the batches that were delivered.
    ///
    /// ```
    /// use firebox_data::{Loader, LoaderState};
    ///
    /// let loader = Loader::builder(vec![0; 10]).batch_size(4).build((), |_, _, ()| Ok(()))?;
    /// let mut epoch = loader.epoch(0);
    /// epoch.next().unwrap()?;
    /// let text = serde_json::to_string(&epoch.state()).unwrap();
    /// let state: LoaderState = serde_json::from_str(&text).unwrap();
    /// assert_eq!(state.delivered(), 1);
    /// # Ok::<(), firebox_data::Error>(())
    /// ```
    pub fn state(&self) -> LoaderState {
        let state = LoaderState {
            batch: self.delivered,
            stream: self.executor.items().stream_state(self.delivered),
            ..self.loader.state(self.report.epoch)
        };
        let ranks = self.loader.executor.source.ranks();
        state.with_faults(self.faults, ranks).with_ahead(&self.ahead)
    }

    /// The batches, each with the [state](Self::state) after it: for a `for` loop that saves where it stands.
    ///
    /// ```
    /// use firebox_data::Loader;
    ///
    /// let loader = Loader::builder(vec![0; 10]).batch_size(4).build((), |_, _, ()| Ok(()))?;
    /// for (number, step) in loader.epoch(0).with_states().enumerate() {
    ///     let (_batch, state) = step?;
    ///     // Saved with the model, perhaps.
    ///     assert_eq!(state.delivered(), number + 1);
    /// }
    /// # Ok::<(), firebox_data::Error>(())
    /// ```
    pub fn with_states(self) -> WithStates<'l, C> {
        WithStates(self)
    }

    /// How long `next` has kept its caller waiting so far.
    pub fn waited(&self) -> Duration {
        self.report.waited
    }

    /// Counts of what this iterator has delivered so far.
    pub fn delivered(&self) -> Delivered {
        let EpochReport { batches, samples, .. } = self.report;
        Delivered { batches, samples, skipped: self.skipped }
    }

    /// The report of the epoch so far, and where the time went.
    ///
    /// ```
    /// use firebox_data::Loader;
    ///
    /// let loader = Loader::builder(vec![0; 10]).batch_size(4).build((), |_, _, ()| Ok(()))?;
    /// let mut epoch = loader.epoch(0);
    /// epoch.by_ref().for_each(drop);
    /// assert_eq!(epoch.report().samples, 10);
    /// assert!(epoch.report().failures.is_empty());
    /// # Ok::<(), firebox_data::Error>(())
    /// ```
    pub fn report(&self) -> &EpochReport {
        &self.report
    }

    /// Returns what [`next`](Iterator::next) would, if it is there already, without waiting for it.
    ///
    /// It waits for nothing, and gives up samples that are past their time limit as `next` does. Where a
    /// batch comes to be only because `next` waits, there is none before: without workers, and where ranks
    /// [tell each other](crate::loader::LoaderBuilder::sum_over_ranks) whether they go on, which is to wait
    /// for the others.
    pub fn try_next(&mut self) -> Poll<Option<Result<C::Batch, Error>>> {
        match (&self.agreement, &self.window) {
            (Some(_), Some(_)) => Poll::Pending,
            _ => self.poll(false),
        }
    }

    fn poll(&mut self, wait: bool) -> Poll<Option<Result<C::Batch, Error>>> {
        let polled = self.advance(wait);
        if let Poll::Ready(Some(Err(_))) = &polled {
            self.failed.store(true, Ordering::Relaxed);
        }
        polled
    }

    fn advance(&mut self, wait: bool) -> Poll<Option<Result<C::Batch, Error>>> {
        let EpochReport { elapsed, waited, busy, samples, .. } = self.report;
        let before = Before { elapsed, waited, busy, samples };
        loop {
            let Some(window) = &mut self.window else { return Poll::Ready(None) };
            let asked = Instant::now();
            let polled = window.next(wait);
            self.report.waited += asked.elapsed();
            self.report.elapsed = self.begun.elapsed();
            if let Polled::Pending = polled {
                return Poll::Pending;
            }
            let turn = self.turn(&polled);
            if let Some(agreement) = &mut self.agreement {
                match agreement.go_on(turn) {
                    Ok(true) => {}
                    ended => {
                        self.window = None;
                        return Poll::Ready(ended.err().map(Err));
                    }
                }
            }
            let Polled::Batch(batch, built) = polled else {
                self.window = None;
                return Poll::Ready(None);
            };
            let mut built = *built;
            let stints = std::mem::take(&mut built.stints);
            let batch = self.take(batch, built);
            self.account(before, &stints);
            if batch.is_some() {
                return Poll::Ready(batch);
            }
        }
    }

    /// The turn that other ranks have to know of.
    fn turn(&self, polled: &Polled<C::Batch>) -> Turn {
        let Polled::Batch(batch, built) = polled else { return Turn::HasNone };
        let lost = built.failures.iter().filter(|failure| is_lost(failure)).count();
        if built.batch.is_err() || lost > 0 && self.faults + lost > self.budget {
            return Turn::Gone;
        }
        if self.executor.items().has(*batch) { Turn::HasBatch } else { Turn::HasNone }
    }

    /// Takes a batch over, or finds that the epoch ends with it. `None` for a batch of which no sample is
    /// left.
    fn take(&mut self, batch: usize, built: BuiltBatch<C::Batch>) -> Option<Result<C::Batch, Error>> {
        let budget = self.budget;
        let mut faults = self.faults;
        let (mut skipped, mut too_many) = (0, None);
        for mut failure in built.failures {
            let lost = is_lost(&failure);
            faults += usize::from(lost);
            skipped += usize::from(failure.action == Action::Skipped);
            if lost && faults > budget && too_many.is_none() {
                too_many = Some(failure.error.clone());
                failure.action = Action::None;
            }
            self.report.note(failure);
        }
        match (too_many, built.batch) {
            (Some(error), _) => {
                self.window = None;
                let samples = counted(budget, "sample");
                let text = format!("more than {samples} of epoch {} cannot be made", self.report.epoch);
                Some(Err(error.within(text)))
            }
            (None, Err(error)) => {
                self.window = None;
                if error.index().is_some() {
                    self.report.note(SampleFailure::new(error.clone(), Action::None));
                }
                Some(Err(error))
            }
            (None, Ok(values)) => {
                self.ahead.insert(batch);
                while self.ahead.remove(&self.delivered) {
                    self.delivered += 1;
                }
                self.executor.items().forget(self.delivered);
                self.faults = faults;
                self.skipped += skipped;
                self.report.samples = self.report.samples.saturating_add(built.samples);
                self.report.batches += usize::from(values.is_some());
                values.map(Ok)
            }
        }
    }

    /// Notes how the last batch went, and the work that was done for it.
    fn account(&mut self, before: Before, stints: &[Stint]) {
        let report = &mut self.report;
        let (deaths, incidents) = self.loader.new_deaths();
        report.note_deaths(deaths, incidents);
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
        // The first batch is waited for in any case, and says nothing of those after it.
        let tells = report.batches > 1 || self.total == Some(1);
        let span = if tells { span } else { Span::default() };
        if let Some(text) = self.loader.adapt(span) {
            self.report.workers = self.loader.workers();
            self.report.chosen = Some(text);
        }
    }
}

/// Tells whether a failure counts against the budget.
fn is_lost(failure: &SampleFailure) -> bool {
    matches!(failure.action, Action::Skipped | Action::Replaced(_))
}

/// The report's numbers before a batch.
#[derive(Clone, Copy)]
struct Before {
    elapsed: Duration,
    waited: Duration,
    busy: WorkerTime,
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
            Some(_) => self.total.map(|total| total.saturating_sub(self.delivered + self.ahead.len())),
            None => Some(0),
        };
        // An error ends the epoch early, and a shard may turn out to have more records than it said; batches
        // of which nothing is left are not delivered.
        (0, left)
    }
}

impl<C: Collate> FusedIterator for Epoch<'_, C> {}

/// The batches of an epoch with the states after them: made by [`Epoch::with_states`].
pub struct WithStates<'l, C: Collate>(Epoch<'l, C>);

impl<'l, C: Collate> WithStates<'l, C> {
    /// The epoch, for its [report](Epoch::report).
    pub fn epoch(&self) -> &Epoch<'l, C> {
        &self.0
    }
}

impl<C: Collate> Iterator for WithStates<'_, C> {
    type Item = Result<(C::Batch, LoaderState), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.0.next()?.map(|batch| (batch, self.0.state())))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl<C: Collate> FusedIterator for WithStates<'_, C> {}
