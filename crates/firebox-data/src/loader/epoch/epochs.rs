//! One epoch after the other.

use std::iter::FusedIterator;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::collate::Collate;
use crate::error::Error;
use crate::loader::{Epoch, Loader, LoaderState};

/// Where [`Loader::epochs`] begins.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Start {
    /// At the beginning of an epoch.
    Epoch(u64),
    /// After the batches that were delivered.
    State(Box<LoaderState>),
}

impl From<u64> for Start {
    fn from(epoch: u64) -> Self {
        Start::Epoch(epoch)
    }
}

impl From<LoaderState> for Start {
    fn from(state: LoaderState) -> Self {
        Start::State(Box::new(state))
    }
}

impl From<&LoaderState> for Start {
    fn from(state: &LoaderState) -> Self {
        Start::State(Box::new(state.clone()))
    }
}

/// The state that was saved, or epoch 0 if none was.
impl From<Option<LoaderState>> for Start {
    fn from(state: Option<LoaderState>) -> Self {
        state.map_or(Start::Epoch(0), Start::from)
    }
}

/// The epochs of a loader, one after the other: made by [`Loader::epochs`].
///
/// The next one can be asked for while one is read. After one that has ended with an error there is no other:
/// whoever goes on does so from the failed one's [state](Epoch::state), which has the batch that failed tried
/// again.
pub struct Epochs<'l, C: Collate> {
    loader: &'l Loader<C>,
    next: u64,
    end: u64,
    /// Where the next one begins, if not at its beginning.
    state: Option<LoaderState>,
    /// True if one of them has ended with an error.
    failed: Arc<AtomicBool>,
}

impl<'l, C: Collate> Epochs<'l, C> {
    pub(in crate::loader) fn new(loader: &'l Loader<C>, start: Start, end: u64) -> Result<Self, Error> {
        let (next, state) = match start {
            Start::Epoch(epoch) => (epoch, None),
            Start::State(state) => {
                loader.check(&state)?;
                (state.epoch, Some(*state))
            }
        };
        Ok(Epochs { loader, next, end, state, failed: Arc::default() })
    }
}

impl<'l, C: Collate> Iterator for Epochs<'l, C> {
    type Item = Epoch<'l, C>;

    fn next(&mut self) -> Option<Epoch<'l, C>> {
        if self.next >= self.end || self.failed.load(Ordering::Relaxed) {
            return None;
        }
        let state = self.state.take().unwrap_or_else(|| LoaderState::before(self.next));
        self.next += 1;
        let mut epoch = Epoch::new(self.loader, &state);
        epoch.failed = Arc::clone(&self.failed);
        Some(epoch)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // An error ends them early.
        (0, usize::try_from(self.end.saturating_sub(self.next)).ok())
    }
}

impl<C: Collate> FusedIterator for Epochs<'_, C> {}
