//! What becomes of a sample that cannot be made.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::error::Error;

/// What the loader does with a sample that cannot be made, after its retries.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum OnError {
    /// The epoch ends with the sample's error.
    Fail,
    /// The batch goes without the sample, and is shorter. More than `at_most` such samples in an epoch end it with
    /// the error of the first too many.
    Skip {
        /// How many samples an epoch may lack.
        at_most: Limit,
    },
    /// Another sample of its batch takes its place, too (of the epoch, if the batch has no other), chosen by
    /// (seed, epoch, global position), and augmented by the random numbers of the place; batches keep their size. More
    /// than `at_most` such samples in an epoch end it with the error of the first too many.
    Replace {
        /// How many samples of an epoch may be replaced.
        at_most: Limit,
    },
}

/// How many samples of an epoch may be bad.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// So many.
    Count(usize),
    /// This part of the epoch's samples, from 0 to 1, rounded down.
    Share(f64),
}

impl OnError {
    /// How many bad samples there may be in an epoch of so many; a share of an unknown number is none.
    pub(super) fn limit(self, samples: Option<usize>) -> usize {
        match self {
            OnError::Fail => 0,
            OnError::Skip { at_most } | OnError::Replace { at_most } => match at_most {
                Limit::Count(count) => count,
                Limit::Share(share) => (share * samples.unwrap_or(0) as f64) as usize,
            },
        }
    }

    /// The share of an epoch that may be bad, if the limit is one.
    pub(super) fn share(self) -> Option<f64> {
        match self {
            OnError::Skip { at_most: Limit::Share(share) }
            | OnError::Replace { at_most: Limit::Share(share) } => Some(share),
            _ => None,
        }
    }

    /// For a saved position to be compared with: another policy gives other batches.
    pub(super) fn describe(self) -> &'static str {
        match self {
            OnError::Fail => "",
            OnError::Skip { .. } => ", bad samples skipped",
            OnError::Replace { .. } => ", bad samples replaced",
        }
    }
}

/// Which errors are worth another try, and how often.
///
/// What a try that succeeds changes is time alone: the sample's random numbers begin anew with each try.
#[derive(Clone)]
pub struct Retry {
    times: u32,
    backoff: Duration,
    worthwhile: Arc<Judge>,
}

/// Whether an error is worth another try.
type Judge = dyn Fn(&(dyn StdError + 'static)) -> bool + Send + Sync;

impl Retry {
    /// Up to `times` more tries after an I/O error, which is one with a [`std::io::Error`] among its causes. The
    /// worker waits `backoff` before the first, and twice as long before each further one, up to half a
    /// minute.
    pub fn io(times: u32, backoff: Duration) -> Self {
        Self::when(times, backoff, |error| error.is::<std::io::Error>())
    }

    /// As [`io`](Self::io), after errors that have a cause, or are one, of which `worthwhile` is true.
    pub fn when(
        times: u32,
        backoff: Duration,
        worthwhile: impl Fn(&(dyn StdError + 'static)) -> bool + Send + Sync + 'static,
    ) -> Self {
        Retry { times, backoff, worthwhile: Arc::new(worthwhile) }
    }

    /// How long to wait before the next try, after `tries` that failed; `None` if this was the last.
    pub(super) fn next(&self, tries: u32, error: &Error) -> Option<Duration> {
        let mut cause = error.source();
        let mut causes = std::iter::from_fn(|| {
            let this = cause?;
            cause = this.source();
            Some(this)
        });
        let again = tries <= self.times && causes.any(|cause| (self.worthwhile)(cause));
        again.then(|| self.backoff.saturating_mul(1u32 << (tries - 1).min(20)).min(LONGEST_WAIT))
    }
}

impl fmt::Debug for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry")
            .field("times", &self.times)
            .field("backoff", &self.backoff)
            .finish_non_exhaustive()
    }
}

/// A worker that waits longer is missed, and holds up the loader's end.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// What happened to one sample.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Incident {
    /// Why the sample was not made at first, or at all: with its index, row, path and worker.
    pub error: Error,
    /// What came of it.
    pub remedy: Remedy,
    /// Where a sample comes from that took its place, in words, if its index doesn't say it.
    pub(super) substitute: Option<String>,
}

impl Incident {
    pub(super) fn new(error: Error, remedy: Remedy) -> Self {
        Incident { error, remedy, substitute: None }
    }
}

/// What came of a sample that was not made at first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Remedy {
    /// It was made after so many more tries.
    Retried(u32),
    /// Its batch went without it.
    Skipped,
    /// The sample with this index in the loader's data set took its place.
    Replaced(usize),
    /// Nothing: it ended the epoch.
    None,
}

impl fmt::Display for Incident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.remedy {
            Remedy::Retried(tries) => match tries {
                1 => write!(f, "{}; made after 1 more try", self.error),
                _ => write!(f, "{}; made after {tries} more tries", self.error),
            },
            Remedy::Skipped => write!(f, "{}; skipped", self.error),
            Remedy::Replaced(index) => match &self.substitute {
                Some(place) => write!(f, "{}; sample {index} ({place}) took its place", self.error),
                None => write!(f, "{}; sample {index} took its place", self.error),
            },
            Remedy::None => write!(f, "{}", self.error),
        }
    }
}
