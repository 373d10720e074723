//! What can be wrong with a config or with a set of weights.

use std::fmt::{self, Display};

use firebox_core::Kind;
pub use firebox_core::OutOfRange;
pub(crate) use firebox_core::check;

/// An error of this crate: what happened, in which file, and why.
///
/// ```
/// use std::path::Path;
///
/// use firebox_models::{ErrorKind, StateDict};
///
/// let path = Path::new("nowhere.safetensors");
/// let error = StateDict::read(path).unwrap_err();
/// assert_eq!((error.kind(), error.path()), (&ErrorKind::Io, Some(path)));
/// ```
pub type Error = firebox_core::Error<ErrorKind>;

/// The kinds of [`Error`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A setting, such as a config's field, has a value that it cannot have.
    OutOfRange(OutOfRange),
    /// Weights don't fit the module: keys are missing, left over, or of another shape or type.
    Mismatch,
    /// A file of weights cannot be read or written.
    Io,
    /// A file was read and holds no weights.
    Format,
    /// A model gave what is no finite number.
    Value,
    /// What was given to a model does not fit it: a shape, or a token beyond its vocabulary.
    Input,
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

/// An input that does not fit: `layer` names the layer, `expected` and `got` are what it wants and what came.
pub(crate) fn input_error(layer: &str, expected: impl Display, got: impl Display) -> Error {
    Error::new(ErrorKind::Input, format!("{layer}: expected {expected}, got {got}"))
}

/// What errors of this crate are told by who calls a part: that it is a part of something.
pub(crate) trait OfPart {
    /// The error of a config that was made from another one's fields of the same names: names that one.
    fn in_config(self, made: &str, from: &str) -> Self;

    /// The error of a layer that is a part of another one: `place`, such as `Cnn.fc1`, stands for the layer's own name.
    fn in_layer(self, place: &str) -> Self;

    /// Adds something after the message.
    fn with_note(self, note: impl Display) -> Self;
}

impl OfPart for Error {
    fn in_config(self, made: &str, from: &str) -> Self {
        self.map_kind(|kind| match kind {
            ErrorKind::OutOfRange(setting) => {
                let field = setting.field.replacen(made, from, 1);
                ErrorKind::OutOfRange(OutOfRange { field, ..setting.clone() })
            }
            kind => kind.clone(),
        })
    }

    fn in_layer(self, place: &str) -> Self {
        self.map_message(|message| {
            let name = message.find(['.', ':']).unwrap_or(0);
            format!("{place}{}", &message[name..])
        })
    }

    fn with_note(self, note: impl Display) -> Self {
        self.map_message(|message| format!("{message}{note}"))
    }
}

/// The most elements that a config's tensors may have: of eight bytes each they fill what a process can address.
const MOST_ELEMENTS: usize = isize::MAX as usize / 8;

/// Fails if a tensor of these fields' sizes, `factor` times, has more elements than can be: names the field that is
/// too much beside those before it.
pub(crate) fn check_product(config: &str, factor: usize, sizes: &[(&str, usize)]) -> Result<(), Error> {
    let mut most = MOST_ELEMENTS / factor;
    for &(field, size) in sizes {
        let allowed = format_args!("at most {most}, for its tensors have to fit into memory");
        check(size <= most, format_args!("{config}.{field}"), allowed, size)?;
        most /= size.max(1);
    }
    Ok(())
}

/// Goes on with what fits. Where no error can be returned, as in a forward pass, an input that does not fit is a panic
/// whose message is the error's.
#[track_caller]
pub(crate) fn fitting<T>(checked: Result<T, Error>) -> T {
    checked.unwrap_or_else(|error| panic!("{error}"))
}
