//! Errors of tasks and of pools.

use std::fmt::{self, Display as _};
use std::time::Duration;

use firebox_core::Kind;
pub use firebox_core::OutOfRange;

use crate::pool::incident::Incident;

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
    /// The task took longer than it was allowed to. Its worker was replaced.
    TimedOut(Duration),
    /// The pool ended, or was closed, before the task ran; or it was terminated while the task ran.
    Lost,
    /// The task was [cancelled](crate::Handle::cancel).
    Cancelled,
    /// The operating system gave no thread: see [`source`](std::error::Error::source).
    Spawn,
    /// There can be no worker processes here, or the operating system gave none.
    NoProcess,
    /// The task's worker process died while it ran the task, as often as a task may do that: the last time
    /// is told.
    Died(Incident),
    /// No worker process is left: each has died again and again before it had anything done. The last time is
    /// told.
    GaveUp(Incident),
    /// There is no room for shared memory of so many bytes.
    NoMemory {
        /// The bytes that were asked for.
        bytes: usize,
    },
    /// A call of the operating system failed: see [`source`](std::error::Error::source).
    System,
    /// A value cannot be sent to another process, or what another process sent is no such value.
    Crossing,
    /// The other end of a pipe, or the queue, was closed.
    Closed,
    /// A process that the others wait for has ended, or waited too long.
    Broken,
    /// The thread waits for a lock that it holds itself.
    Deadlock,
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
            ErrorKind::Cancelled => f.write_str("was cancelled"),
            ErrorKind::Spawn => f.write_str("no thread"),
            ErrorKind::NoProcess => f.write_str("no worker process"),
            ErrorKind::Died(incident) => write!(f, "its worker died: {incident}"),
            ErrorKind::GaveUp(incident) => write!(f, "no worker is left: {incident}"),
            ErrorKind::NoMemory { bytes } => write!(f, "no room for {bytes} bytes of shared memory"),
            ErrorKind::System | ErrorKind::Crossing => Ok(()),
            ErrorKind::Closed => f.write_str("the other end was closed"),
            ErrorKind::Broken => f.write_str("broken: a process ended, or waited too long"),
            ErrorKind::Deadlock => f.write_str("this thread holds the lock already"),
            ErrorKind::OutOfRange(setting) => setting.fmt(f),
        }
    }
}

impl From<OutOfRange> for ErrorKind {
    fn from(setting: OutOfRange) -> Self {
        ErrorKind::OutOfRange(setting)
    }
}
