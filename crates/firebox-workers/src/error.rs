//! What can go wrong with a task or with a pool.

use std::fmt::{self, Display as _};
use std::time::Duration;

use firebox_core::Kind;
pub use firebox_core::OutOfRange;

/// The most threads of a pool: more than that are a slip, and more than most systems give.
pub(crate) const MOST_WORKERS: usize = 1 << 14;

/// A task that failed, or a pool that could not be made.
///
/// [`index`](firebox_core::Error::index) is the task's, among those of its call.
///
/// ```
/// use firebox_workers::{ErrorKind, Pool, WorkersExt as _};
///
/// let pool = Pool::threads(1)?;
/// let error = pool.try_map(|text: &str| text.parse::<u8>(), ["1", "x"]).unwrap_err();
/// assert_eq!((error.kind(), error.index()), (&ErrorKind::Failed, Some(1)));
/// assert_eq!(error.to_string(), "task 1: failed: invalid digit found in string (worker 0)");
/// # Ok::<(), firebox_workers::Error>(())
/// ```
pub type Error = firebox_core::Error<ErrorKind>;

/// The kinds of [`Error`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The task panicked; the text is the panic's message.
    Panicked(String),
    /// The task's own function returned an error: see [`source`](std::error::Error::source).
    Failed,
    /// The task took longer than it was allowed to. Its thread was replaced.
    TimedOut(Duration),
    /// The pool ended, or was closed, before the task ran.
    Lost,
    /// The operating system gave no thread: see [`source`](std::error::Error::source).
    Spawn,
    /// A setting has a value that it cannot have, such as a million workers.
    OutOfRange(OutOfRange),
}

impl Kind for ErrorKind {
    const COUNTED: &'static str = "task";

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ErrorKind::Panicked(text) => write!(f, "panicked: {text}"),
            ErrorKind::Failed => f.write_str("failed"),
            ErrorKind::TimedOut(limit) => write!(f, "took longer than {limit:?}"),
            ErrorKind::Lost => f.write_str("was lost: the pool ended before it ran"),
            ErrorKind::Spawn => f.write_str("no thread"),
            ErrorKind::OutOfRange(setting) => setting.fmt(f),
        }
    }
}

impl From<OutOfRange> for ErrorKind {
    fn from(setting: OutOfRange) -> Self {
        ErrorKind::OutOfRange(setting)
    }
}
