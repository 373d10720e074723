//! Files as they were read.

use std::path::{Path, PathBuf};

/// The bytes of an image file, and its name for messages.
///
/// ```
/// use firebox_vision::Encoded;
///
/// let encoded = Encoded::new(vec![1, 2]).named("a.png");
/// assert_eq!((encoded.bytes(), encoded.path().unwrap().to_str()), (&[1, 2][..], Some("a.png")));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    bytes: Vec<u8>,
    path: Option<PathBuf>,
}

impl Encoded {
    /// These bytes, of no known file.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Encoded { bytes: bytes.into(), path: None }
    }

    /// The same bytes, of this file.
    pub fn named(self, path: impl Into<PathBuf>) -> Self {
        Encoded { path: Some(path.into()), ..self }
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The file.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }
}
