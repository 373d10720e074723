//! A sample that was not made at first, and what was done about it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// A sample that was not made at first.
///
/// ```
/// use firebox_data::loader::{Action, FailureBudget};
/// use firebox_data::{Loader, OnError, Scalar};
///
/// let loader = Loader::builder(vec!["1", "two"])
///     .on_error(OnError::Skip { at_most: FailureBudget::Count(1) })
///     .batch_size(2)
///     .build(Scalar::new(), |text: &str, _, slot| Ok(*slot = text.parse::<i64>()?))?;
/// let mut epoch = loader.epoch(0);
/// epoch.next().unwrap()?;
/// let failure = &epoch.report().failures[0];
/// assert_eq!((failure.error.index(), &failure.action), (Some(1), &Action::Skipped));
/// # Ok::<(), firebox_data::Error>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SampleFailure {
    /// Why the sample was not made at first, or at all: with its index, row, path and worker.
    pub error: Error,
    /// The action that was taken.
    pub action: Action,
    /// Where a sample comes from that took its place, in words, if its index doesn't say it.
    pub(in crate::loader) substitute: Option<String>,
}

impl SampleFailure {
    pub(in crate::loader) fn new(error: Error, action: Action) -> Self {
        SampleFailure { error, action, substitute: None }
    }
}

/// The action that was taken for a sample that was not made at first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Action {
    /// It was made after so many more tries.
    Retried(u32),
    /// Its batch went without it.
    Skipped,
    /// The sample with this index in the loader's data set took its place.
    Replaced(usize),
    /// Nothing: it ended the epoch.
    None,
}

impl fmt::Display for SampleFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.action {
            Action::Retried(tries) => match tries {
                1 => write!(f, "{}; made after 1 more try", self.error),
                _ => write!(f, "{}; made after {tries} more tries", self.error),
            },
            Action::Skipped => write!(f, "{}; skipped", self.error),
            Action::Replaced(index) => match &self.substitute {
                Some(place) => write!(f, "{}; sample {index} ({place}) took its place", self.error),
                None => write!(f, "{}; sample {index} took its place", self.error),
            },
            Action::None => write!(f, "{}", self.error),
        }
    }
}
