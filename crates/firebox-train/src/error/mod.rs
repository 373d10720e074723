//! The errors that can end a training run early.

mod caught;

use std::error::Error as StdError;
use std::fmt::{self, Display as _};
use std::path::Path;

pub(crate) use caught::caught;
pub use firebox_core::BoxError;
pub use firebox_core::OutOfRange;
pub(crate) use firebox_core::check;
use firebox_core::{Kind, path_in};

use crate::run::signal::Signal;

/// An error of this crate: what happened, in which file or step, and why.
///
/// A task of your own returns one for what it cannot do.
///
/// ```
/// use firebox_train::{Error, ErrorKind};
///
/// let error = Error::new(ErrorKind::Task, "expected masks of 0 and 1, got 7");
/// assert_eq!(error.to_string(), "expected masks of 0 and 1, got 7");
/// ```
pub type Error = firebox_core::Error<ErrorKind>;

/// The kinds of [`Error`].
///
/// ```
/// use firebox_train::{ErrorKind, TrainerConfig};
///
/// let error = TrainerConfig::new().with_max_epochs(0).check().unwrap_err();
/// match error.kind() {
///     ErrorKind::OutOfRange(setting) => assert_eq!(setting.field, "max_epochs"),
///     _ => panic!("{error}"),
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A setting has a value that it cannot have.
    OutOfRange(OutOfRange),
    /// Settings contradict each other, or the data or the machine that they are for.
    Config,
    /// A backend that this build or this machine lacks.
    Backend,
    /// The loader gave an error instead of a batch.
    Data,
    /// A task could not take a step, or judge a batch.
    Task,
    /// A loss or a gradient is infinite or not a number.
    NotFinite,
    /// A file or folder cannot be read or written.
    Io,
    /// A run folder that is in use, or is none.
    RunDir,
    /// A checkpoint that is missing, damaged, or of something else.
    Checkpoint,
    /// A callback failed.
    Callback,
    /// A task, a callback or a data set of one's own panicked.
    Panic,
    /// A signal came that asks to stop.
    Interrupted(Signal),
}

impl Kind for ErrorKind {
    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ErrorKind::OutOfRange(setting) => setting.fmt(f),
            _ => Ok(()),
        }
    }

    fn path_of<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e Path> {
        path_in::<Self>(error)
            .or_else(|| path_in::<firebox_data::ErrorKind>(error))
            .or_else(|| path_in::<firebox_weights::ErrorKind>(error))
    }
}

impl From<OutOfRange> for ErrorKind {
    fn from(setting: OutOfRange) -> Self {
        ErrorKind::OutOfRange(setting)
    }
}

/// An error of a loader, which is known by a name, such as `training data`.
pub(crate) fn data_error(name: &str, error: firebox_data::Error) -> Error {
    Error::new(ErrorKind::Data, name).caused_by(error)
}

/// An operation on a file that the system refused.
pub(crate) fn io_error(path: &Path, message: &str, source: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, message).at_path(path).caused_by(source)
}
