//! The errors of this crate are those of `firebox-train`, whose runs its callbacks end.

use std::path::Path;

pub(crate) use firebox_train::{BoxError, Error, ErrorKind};

/// An operation on a file that the system refused.
pub(crate) fn io_error(path: &Path, message: &str, source: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, message).at_path(path).caused_by(source)
}
