//! Why a value could not be written or read.

use std::fmt;

/// A value that is no bytes, or bytes that are no such value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WireError(String);

impl WireError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        WireError(message.into())
    }

    /// Fewer bytes than a value takes.
    #[cold]
    pub(super) fn short(expected: usize, left: usize) -> Self {
        WireError(format!("expected {expected} bytes more, got {left}"))
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for WireError {}

impl serde_core::ser::Error for WireError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        WireError(message.to_string())
    }
}

impl serde_core::de::Error for WireError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        WireError(message.to_string())
    }
}
