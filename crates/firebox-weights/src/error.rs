//! Errors of weights and their files.

use firebox_core::Kind;

/// An error of this crate: what happened, in which file, and why.
///
/// ```
/// use std::path::Path;
///
/// use firebox_weights::{ErrorKind, StateDict};
///
/// let path = Path::new("nowhere.safetensors");
/// let error = StateDict::read(path).unwrap_err();
/// assert_eq!((error.kind(), error.path()), (&ErrorKind::Io, Some(path)));
/// ```
pub type Error = firebox_core::Error<ErrorKind>;

/// The kinds of [`Error`].
///
/// ```
/// use firebox_weights::{ErrorKind, StateDict};
///
/// assert_eq!(StateDict::read("no such file").unwrap_err().kind(), &ErrorKind::Io);
/// assert_eq!(StateDict::from_safetensors(b"no weights").unwrap_err().kind(), &ErrorKind::Format);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Weights don't fit: keys are missing, left over, or of another shape or type.
    Mismatch,
    /// A file cannot be read or written.
    Io,
    /// A file was read and holds no weights.
    Format,
}

impl Kind for ErrorKind {}
