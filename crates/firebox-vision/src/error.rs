//! Errors of image files, folders of them, and transforms.

use std::error::Error as StdError;
use std::fmt::{self, Display as _};
use std::path::Path;

pub(crate) use firebox_core::check;
use firebox_core::{Kind, OutOfRange, path_in};

/// An error of this crate: what happened, in which file, what was expected and what was there.
///
/// ```
/// use firebox_vision::{Encoded, ErrorKind, decode};
///
/// let error = decode(&Encoded::new(*b"no image").named("cats/7.jpg")).unwrap_err();
/// assert_eq!(error.kind(), &ErrorKind::Format);
/// assert!(error.to_string().starts_with("cats/7.jpg: expected a JPEG, PNG,"));
/// ```
pub type Error = firebox_core::Error<ErrorKind>;

/// The kinds of [`Error`].
///
/// ```
/// use firebox_vision::{ErrorKind, transforms::RandomHorizontalFlip};
///
/// let error = RandomHorizontalFlip::new().with_p(1.5).build().unwrap_err();
/// assert!(matches!(error.kind(), ErrorKind::OutOfRange(setting) if setting.got == "1.5"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A file or folder could not be read.
    Io,
    /// A file is damaged, or no image.
    Format,
    /// An image of a kind that is not decoded, such as one with arithmetic coding.
    Unsupported,
    /// A limit that an image exceeds: nothing was allocated for it.
    TooLarge(OutOfRange),
    /// A setting has a value that it cannot have.
    OutOfRange(OutOfRange),
    /// A folder of images that lacks something, such as a class without images.
    Folder,
    /// An image has another size or number of channels than a transform needs.
    Shape,
}

impl Kind for ErrorKind {
    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ErrorKind::OutOfRange(setting) | ErrorKind::TooLarge(setting) => setting.fmt(f),
            _ => Ok(()),
        }
    }

    fn path_of<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e Path> {
        path_in::<Self>(error).or_else(|| path_in::<firebox_data::ErrorKind>(error))
    }
}

impl From<OutOfRange> for ErrorKind {
    fn from(setting: OutOfRange) -> Self {
        ErrorKind::OutOfRange(setting)
    }
}

/// The error of an image that exceeds a limit.
pub(crate) fn too_large(field: &str, expected: impl fmt::Display, got: impl fmt::Display) -> Error {
    let (field, expected, got) = (field.to_owned(), expected.to_string(), got.to_string());
    ErrorKind::TooLarge(OutOfRange { field, expected, got }).into()
}
