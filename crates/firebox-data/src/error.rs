//! What can go wrong on the way from a file to a batch, with its place.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Any error, as transforms and collations return it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// An error of this crate: what happened, to which sample, in which file, on which worker.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    message: String,
    index: Option<usize>,
    /// The index in the whole data set.
    row: Option<usize>,
    /// Where the sample comes from, in words, if its index doesn't say it.
    place: Option<String>,
    path: Option<PathBuf>,
    worker: Option<usize>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

/// The kinds of [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A file could not be read.
    Io,
    /// A file was read and is not what it should be.
    Format,
    /// A setting has a value that it cannot have.
    Config,
    /// A saved position belongs to other data or other settings.
    State,
    /// The data set gave no item for an index.
    Dataset,
    /// The rest of a shard could not be read. Nobody knows how many records that is, so that it is not skipped.
    Shard,
    /// The transform gave no sample for an item.
    Transform,
    /// The samples could not be made a batch.
    Collate,
    /// A data set, a transform or a collation panicked.
    Panic,
    /// A sample took longer than it may.
    TimedOut,
    /// A worker pool could not be made, or ended too early.
    Workers,
}

impl Error {
    /// An error with a message that says what was expected and what was there instead, in one line.
    ///
    /// A data set of your own can return one with the path of its file: the loader's error names it, too.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error(Arc::new(Inner {
            kind,
            message: message.into(),
            index: None,
            row: None,
            place: None,
            path: None,
            worker: None,
            source: None,
        }))
    }

    /// Names the file that it is about.
    pub fn at_path(mut self, path: impl Into<PathBuf>) -> Self {
        Arc::make_mut(&mut self.0).path = Some(path.into());
        self
    }

    /// Names the sample, its row in the whole data set, and in words where it comes from if its index doesn't say it.
    pub(crate) fn at_sample(mut self, index: usize, row: Option<usize>, place: Option<String>) -> Self {
        let inner = Arc::make_mut(&mut self.0);
        (inner.index, inner.row, inner.place) = (Some(index), row, place);
        self
    }

    pub(crate) fn on_worker(mut self, worker: Option<usize>) -> Self {
        Arc::make_mut(&mut self.0).worker = worker;
        self
    }

    /// Keeps the cause, whose message goes behind this one's, and takes over the path that it may name.
    pub fn caused_by(mut self, source: impl Into<BoxError>) -> Self {
        let source: BoxError = source.into();
        let inner = Arc::make_mut(&mut self.0);
        if inner.path.is_none() {
            inner.path = path_in(&*source);
        }
        inner.source = Some(source.into());
        self
    }

    /// The same error, with something said of it first.
    pub(crate) fn within(mut self, text: String) -> Self {
        let inner = Arc::make_mut(&mut self.0);
        inner.message = format!("{text}: {}", inner.message);
        self
    }

    /// What happened.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The sample's index in the loader's data set.
    pub fn index(&self) -> Option<usize> {
        self.0.index
    }

    /// The sample's index in the whole data set: another one than [`index`](Self::index) if the loader's data set is a
    /// part of it, such as one from [`random_split`](crate::random_split).
    ///
    /// `None` if the error is not about a sample of a data set.
    pub fn row(&self) -> Option<usize> {
        self.0.row
    }

    /// The file that the error is about.
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }

    /// The worker that met the error; `None` for the thread that called the loader.
    pub fn worker(&self) -> Option<usize> {
        self.0.worker
    }
}

/// The path of the first error of this crate in a chain of causes.
fn path_in(error: &(dyn std::error::Error + 'static)) -> Option<PathBuf> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(path) = error.downcast_ref::<Error>().and_then(Error::path) {
            return Some(path.to_owned());
        }
        next = error.source();
    }
    None
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
        let Inner { message, index, place, path, worker, source, .. } = &*self.0;
        match (index, place) {
            (Some(index), Some(place)) => write!(f, "sample {index} ({place}): ")?,
            (Some(index), None) => write!(f, "sample {index}: ")?,
            (None, _) => {}
        }
        let source = source.as_ref().map(|source| chain(&**source));
        // A cause that already names the file needs no second mention of it.
        if let Some(path) = path.as_ref().map(|path| path.display().to_string())
            && !source.as_ref().is_some_and(|source| source.contains(&path))
        {
            write!(f, "{path}: ")?;
        }
        write!(f, "{message}")?;
        if let Some(source) = source {
            write!(f, ": {source}")?;
        }
        match worker {
            Some(worker) => write!(f, " (worker {worker})"),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_says_what_where_and_why_once() {
        let file = Error::new(ErrorKind::Format, "expected 4 bytes, got 3").at_path("a/b.gz");
        assert_eq!(file.to_string(), "a/b.gz: expected 4 bytes, got 3");
        let sample = Error::new(ErrorKind::Dataset, "the data set failed")
            .at_sample(7, None, None)
            .on_worker(Some(2))
            .caused_by(file);
        assert_eq!(sample.path(), Some(Path::new("a/b.gz")));
        assert_eq!(
            sample.to_string(),
            "sample 7: the data set failed: a/b.gz: expected 4 bytes, got 3 (worker 2)"
        );
        assert_eq!(format!("{sample:?}"), sample.to_string());
        let of_part = Error::new(ErrorKind::Transform, "the transform failed");
        let of_part = of_part.at_sample(7, Some(99), Some("row 99 of the whole data set".to_owned()));
        assert_eq!(of_part.to_string(), "sample 7 (row 99 of the whole data set): the transform failed");
        assert_eq!((of_part.index(), of_part.row()), (Some(7), Some(99)));
    }

    #[test]
    fn a_cause_that_keeps_its_own_cause_to_itself_is_told_with_it() {
        #[derive(Debug)]
        struct Silent(std::io::Error);

        impl fmt::Display for Silent {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("no table")
            }
        }

        impl std::error::Error for Silent {
            fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
                Some(&self.0)
            }
        }

        let error = Error::new(ErrorKind::Dataset, "the data set failed")
            .caused_by(Silent(std::io::Error::other("the disk is gone")));
        assert_eq!(error.to_string(), "the data set failed: no table: the disk is gone");
    }
}
