//! What can end a training run early, with its place.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::interrupt::Signal;

/// Any error, as callbacks return it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// An error of this crate.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    path: Option<PathBuf>,
    source: Option<BoxError>,
    /// What failed because of it, or while it was told.
    then: Vec<String>,
}

/// The kinds of [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A setting has a value that it cannot have.
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

impl Error {
    /// An error with a message that says what was expected and what was there instead, in one line.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error(Box::new(Inner { kind, message: message.into(), path: None, source: None, then: Vec::new() }))
    }

    /// Names the file or folder that it is about.
    pub fn at_path(mut self, path: impl Into<PathBuf>) -> Self {
        self.0.path = Some(path.into());
        self
    }

    /// Says in front of the message where it happened.
    pub(crate) fn within(mut self, place: &str) -> Self {
        self.0.message = match self.0.message.as_str() {
            "" => place.to_owned(),
            message => format!("{place}: {message}"),
        };
        self
    }

    /// An error of a loader, which is known by a name, such as `training data`.
    pub(crate) fn of_data(name: &str, error: firebox_data::Error) -> Self {
        Self::from(error).within(name)
    }

    /// Adds what failed later.
    pub(crate) fn followed_by(mut self, then: &str) -> Self {
        self.0.then.push(then.to_owned());
        self
    }

    /// Keeps the cause, whose message goes behind this one's.
    pub fn caused_by(mut self, source: impl Into<BoxError>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// `field` names the config and its field, `allowed` what would have been right.
    pub(crate) fn config(field: &str, allowed: &str, got: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Config, format!("{field}: expected {allowed}, got {got}"))
    }

    /// An operation on a file that the system refused.
    pub(crate) fn io(path: &Path, message: &str, source: std::io::Error) -> Self {
        Self::new(ErrorKind::Io, message).at_path(path).caused_by(source)
    }

    /// What happened.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The file or folder that the error is about.
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }
}

/// Fails unless `holds`: the check of a config's field.
pub(crate) fn check(holds: bool, field: &str, allowed: &str, got: impl fmt::Display) -> Result<(), Error> {
    if holds { Ok(()) } else { Err(Error::config(field, allowed, got)) }
}

impl From<firebox_data::Error> for Error {
    fn from(error: firebox_data::Error) -> Self {
        let path = error.path().map(Path::to_owned);
        Error(Box::new(Inner {
            kind: ErrorKind::Data,
            message: String::new(),
            path,
            source: Some(error.into()),
            then: Vec::new(),
        }))
    }
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

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { kind, message, path, source, then } = &*self.0;
        // An error of the data has its path from its cause, which names its own place.
        match (kind, path) {
            (ErrorKind::Data, Some(_)) if source.is_some() => {}
            (_, Some(path)) => write!(f, "{}: ", path.display())?,
            (_, None) => {}
        }
        f.write_str(message)?;
        let source = source.as_ref().map(|source| chain(&**source));
        match source {
            Some(source) if message.is_empty() => f.write_str(&source)?,
            Some(source) => write!(f, ": {source}")?,
            None => {}
        }
        then.iter().try_for_each(|then| write!(f, "; then {then}"))
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
