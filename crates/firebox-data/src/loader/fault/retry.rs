//! Further tries at what failed.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use firebox_workers::Worker;

use crate::error::Error;
use crate::loader::fault::{Action, SampleFailure};
use crate::loader::work::PATIENCE;

/// Which errors are worth another try, and how often.
///
/// What a try that succeeds changes is time alone: the sample's random numbers begin anew with each try.
///
/// ```
/// use std::time::Duration;
///
/// use firebox_data::loader::Retry;
/// use firebox_data::{Loader, Scalar};
///
/// let loader = Loader::builder(vec![1, 2])
///     .retry(Retry::io(3, Duration::from_millis(10)))
///     .build(Scalar::new(), |number, _, slot| Ok(*slot = number))?;
/// assert_eq!(loader.epoch(0).count(), 2);
/// # Ok::<(), firebox_data::Error>(())
/// ```
#[derive(Clone)]
pub struct Retry {
    times: u32,
    backoff: Duration,
    worthwhile: Arc<Judge>,
}

/// True if an error is worth another try.
type Judge = dyn Fn(&(dyn StdError + 'static)) -> bool + Send + Sync;

impl Retry {
    /// Up to `times` more tries after an I/O error, which is one with a [`std::io::Error`] among its causes.
    /// The worker waits `backoff` before the first, and twice as long before each further one, up to half a
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
    fn next(&self, tries: u32, error: &Error) -> Option<Duration> {
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

/// The error of a try that failed.
pub(in crate::loader) struct TryError {
    pub(in crate::loader) error: Error,
    /// True if another try could not end otherwise.
    pub(in crate::loader) is_final: bool,
}

/// The result, and if it took more than one try, the failure of the first.
pub(in crate::loader) type Tried<T> = Result<(T, Option<Box<SampleFailure>>), Error>;

/// Tries, again and again if the errors are worth it, until nobody waits for the task any more.
///
/// # Errors
/// That of the last try.
#[inline]
pub(in crate::loader) fn tries<T>(
    retry: Option<&Retry>,
    worker: Worker<'_>,
    mut attempt: impl FnMut() -> Result<T, TryError>,
) -> Tried<T> {
    match attempt() {
        Ok(made) => Ok((made, None)),
        Err(failed) => further_tries(retry, worker, attempt, failed),
    }
}

#[cold]
fn further_tries<T>(
    retry: Option<&Retry>,
    worker: Worker<'_>,
    mut attempt: impl FnMut() -> Result<T, TryError>,
    mut failed: TryError,
) -> Tried<T> {
    let first = failed.error.clone();
    for tries in 1.. {
        let retry = retry.filter(|_| !failed.is_final);
        let Some(wait) = retry.and_then(|retry| retry.next(tries, &failed.error)) else { break };
        if !pause(wait, worker) {
            break;
        }
        match attempt() {
            Ok(made) => {
                let failure = SampleFailure::new(first, Action::Retried(tries));
                return Ok((made, Some(Box::new(failure))));
            }
            Err(again) => failed = again,
        }
    }
    Err(failed.error)
}

/// Waits before another try; `false` if nobody waits for the task any more.
fn pause(wait: Duration, worker: Worker<'_>) -> bool {
    let end = Instant::now() + wait;
    loop {
        if !worker.progress() {
            return false;
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        sleep(left.min(PATIENCE));
    }
}
