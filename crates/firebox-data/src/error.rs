//! Errors on the way from a file to a batch.

use std::fmt::{self, Display as _};

pub use firebox_core::BoxError;
use firebox_core::Kind;
pub use firebox_core::OutOfRange;
pub(crate) use firebox_core::check;

/// An error of this crate: what happened, to which sample, in which file, on which worker.
///
/// A data set of your own can return one with the path of its file: the loader's error names it, too.
///
/// ```
/// use firebox_data::{Error, ErrorKind};
///
/// let error = Error::new(ErrorKind::Format, "expected 4 bytes, got 3").at_path("shelf/17.png");
/// assert_eq!(error.to_string(), "shelf/17.png: expected 4 bytes, got 3");
/// ```
pub type Error = firebox_core::Error<ErrorKind>;

/// The kinds of [`Error`].
///
/// ```
/// use firebox_data::{ErrorKind, Loader};
///
/// let refused = Loader::builder(vec![1, 2]).batch_size(0).build((), |_, _, ()| Ok(()));
/// // A kind that a program could act on has data.
/// assert!(refused.is_err_and(|error| match error.kind() {
///     ErrorKind::OutOfRange(setting) => setting.field == "batch size" && setting.got == "0",
///     _ => false,
/// }));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A file could not be read.
    Io,
    /// A file was read and is not what it should be.
    Format,
    /// A setting has a value that it cannot have.
    OutOfRange(OutOfRange),
    /// Settings contradict each other, or the data that they are for.
    Config,
    /// A saved position belongs to other data or other settings.
    State,
    /// The data set gave no item for an index.
    Dataset,
    /// The rest of a shard could not be read. Nobody knows how many records that is, so that it is not
    /// skipped.
    Shard,
    /// The transform gave no sample for an item.
    Transform,
    /// The samples could not be made a batch.
    Collate,
    /// A data set, a transform or a collation panicked.
    Panic,
    /// A sample took longer than it may.
    TimedOut,
    /// Worker processes died with a sample, again and again.
    Died,
    /// A worker pool could not be made, or ended too early.
    Workers,
    /// Ranks could not agree on their next step.
    Ranks,
}

impl Kind for ErrorKind {
    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ErrorKind::OutOfRange(setting) => setting.fmt(f),
            _ => Ok(()),
        }
    }
}

impl From<OutOfRange> for ErrorKind {
    fn from(setting: OutOfRange) -> Self {
        ErrorKind::OutOfRange(setting)
    }
}
