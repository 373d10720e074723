//! What can be wrong with a config or with a set of weights.

use std::fmt::{self, Display};
use std::path::{Path, PathBuf};

/// An error of this crate.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    path: Option<PathBuf>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The kinds of [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A config's field has a value that it cannot have.
    Config,
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

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error(Box::new(Inner { kind, message: message.into(), path: None, source: None }))
    }

    /// `field` names the config and its field, `allowed` what would have been right.
    pub(crate) fn config(field: &str, allowed: &str, got: impl Display) -> Self {
        Self::new(ErrorKind::Config, format!("{field}: expected {allowed}, got {got}"))
    }

    /// The error of a config that was made from another one's fields of the same names: names that one.
    pub(crate) fn in_config(mut self, made: &str, from: &str) -> Self {
        self.0.message = self.0.message.replacen(made, from, 1);
        self
    }

    /// An input that does not fit: `layer` names the layer, `expected` and `got` are what it wants and what came.
    pub(crate) fn input(layer: &str, expected: impl Display, got: impl Display) -> Self {
        Self::new(ErrorKind::Input, format!("{layer}: expected {expected}, got {got}"))
    }

    /// The error of a layer that is a part of another one: `place`, such as `Cnn.fc1`, stands for the layer's own name.
    pub(crate) fn in_layer(mut self, place: &str) -> Self {
        let name = self.0.message.find(['.', ':']).unwrap_or(0);
        self.0.message.replace_range(..name, place);
        self
    }

    /// Says something in front of the message, such as where it happened.
    pub(crate) fn before(mut self, place: &str) -> Self {
        self.0.message.insert_str(0, place);
        self
    }

    /// Adds something behind the message.
    pub(crate) fn with_note(mut self, note: impl Display) -> Self {
        self.0.message = format!("{}{note}", self.0.message);
        self
    }

    pub(crate) fn at_path(mut self, path: &Path) -> Self {
        self.0.path = Some(path.to_owned());
        self
    }

    pub(crate) fn caused_by(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// What happened.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The file that the error is about.
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }
}

/// Fails unless `holds`: the check of a config's field.
pub(crate) fn check(holds: bool, field: &str, allowed: &str, got: impl Display) -> Result<(), Error> {
    if holds { Ok(()) } else { Err(Error::config(field, allowed, got)) }
}

/// The most elements that a config's tensors may have: of eight bytes each they fill what a process can address.
const MOST_ELEMENTS: usize = isize::MAX as usize / 8;

/// Fails if a tensor of these fields' sizes, `factor` times, has more elements than can be: names the field that is
/// too much beside those before it.
pub(crate) fn check_product(config: &str, factor: usize, sizes: &[(&str, usize)]) -> Result<(), Error> {
    let mut most = MOST_ELEMENTS / factor;
    for &(field, size) in sizes {
        let allowed = format!("at most {most}, for its tensors have to fit into memory");
        check(size <= most, &format!("{config}.{field}"), &allowed, size)?;
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

/// The messages of an error and its causes, but for those that the message before them tells already.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let message = cause.to_string();
        if !text.contains(&message) {
            text = format!("{text}: {message}");
        }
        next = cause.source();
    }
    text
}

impl Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(path) = &self.0.path {
            write!(f, "{}: ", path.display())?;
        }
        f.write_str(&self.0.message)?;
        match &self.0.source {
            Some(source) => write!(f, ": {}", chain(&**source)),
            None => Ok(()),
        }
    }
}

/// The chain of messages, as [`Display`](fmt::Display): it is what `fn main() -> Result<(), BoxError>` prints.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|source| &**source as _)
    }
}
