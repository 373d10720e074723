//! Errors that say what, where and why: one shape for every crate.

use std::error::Error as StdError;
use std::fmt::{self, Display};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Any error, as code that is given to firebox returns it.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// The words and paths that a crate's kinds of errors have.
pub trait Kind: Clone + fmt::Debug + Send + Sync + 'static {
    /// The noun of what an error's index counts.
    const COUNTED: &'static str = "sample";

    /// Writes what the kind's own data tell, in the words of a message.
    ///
    /// It comes after the error's message, and is all of it where that is empty. Kinds without data write
    /// nothing.
    ///
    /// # Errors
    /// Those of the formatter.
    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let _ = f;
        Ok(())
    }

    /// The path that an error names, if it is of this kind or of one that this crate builds on.
    ///
    /// An error takes over the path of its causes, and only knows those whose type somebody names. A crate
    /// whose errors are caused by another crate's asks that one's kinds, too.
    fn path_of<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e Path> {
        path_in::<Self>(error)
    }
}

/// A setting that has a value which it cannot have: what a kind of each crate's errors holds.
///
/// ```
/// use firebox_core::OutOfRange;
///
/// let (field, expected, got) = ("batch size".into(), "at least 1".into(), "0".into());
/// let setting = OutOfRange { field, expected, got };
/// assert_eq!(setting.to_string(), "batch size: expected at least 1, got 0");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutOfRange {
    /// The setting.
    pub field: String,
    /// The range or value that would have been right.
    pub expected: String,
    /// The value that was there instead.
    pub got: String,
}

impl Display for OutOfRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let OutOfRange { field, expected, got } = self;
        write!(f, "{field}: expected {expected}, got {got}")
    }
}

/// An error: its kind, its place (sample, task, file, worker) and its cause.
///
/// A clone is as cheap as that of an [`Arc`]. The text is the chain of messages in one line, for
/// [`Debug`](fmt::Debug) as well: that is what `fn main() -> Result<(), BoxError>` prints.
///
/// The [crate's page](crate) shows how a crate makes this its own error.
#[derive(Clone)]
pub struct Error<K: Kind>(Arc<Inner<K>>);

#[derive(Clone)]
struct Inner<K> {
    kind: K,
    message: String,
    index: Option<usize>,
    /// The index in the whole, of which what [`index`](Error::index) counts in is a part.
    row: Option<usize>,
    /// Where it happened, in words, if the index doesn't say it.
    place: Option<String>,
    path: Option<PathBuf>,
    worker: Option<usize>,
    /// The process of the worker, if it is another one.
    process: Option<u32>,
    step: Option<usize>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
    /// Failures that followed from it, or came while it was told.
    then: Vec<String>,
}

impl<K: Kind> Error<K> {
    /// An error with a message of one line: what was expected, and what was there instead.
    ///
    /// The message may be empty where the cause says it all.
    pub fn new(kind: K, message: impl Into<String>) -> Self {
        Error(Arc::new(Inner {
            kind,
            message: message.into(),
            index: None,
            row: None,
            place: None,
            path: None,
            worker: None,
            process: None,
            step: None,
            source: None,
            then: Vec::new(),
        }))
    }

    /// An error of a setting: `field` names it, `expected` says what would have been right.
    pub fn out_of_range(field: impl Display, expected: impl Display, got: impl Display) -> Self
    where
        K: From<OutOfRange>,
    {
        let (field, expected, got) = (field.to_string(), expected.to_string(), got.to_string());
        Error::from(K::from(OutOfRange { field, expected, got }))
    }

    fn inner(&mut self) -> &mut Inner<K> {
        Arc::make_mut(&mut self.0)
    }

    /// Names the file or folder that it is about.
    pub fn at_path(mut self, path: impl Into<PathBuf>) -> Self {
        self.inner().path = Some(path.into());
        self
    }

    /// Names the sample or task that it is about.
    pub fn at_index(mut self, index: usize) -> Self {
        self.inner().index = Some(index);
        self
    }

    /// Names the index in the whole, if what is counted is a part of something.
    pub fn at_row(mut self, row: impl Into<Option<usize>>) -> Self {
        self.inner().row = row.into();
        self
    }

    /// Says in words where the sample comes from, if its index doesn't say it.
    pub fn at_place(mut self, place: impl Into<Option<String>>) -> Self {
        self.inner().place = place.into();
        self
    }

    /// Names the worker that met it.
    pub fn on_worker(mut self, worker: impl Into<Option<usize>>) -> Self {
        self.inner().worker = worker.into();
        self
    }

    /// Names the process of the worker that met it, which is another one than this.
    pub fn on_process(mut self, process: impl Into<Option<u32>>) -> Self {
        self.inner().process = process.into();
        self
    }

    /// Names the training step in which it happened, counted from 1.
    ///
    /// The text doesn't: a message says more of a step than its number.
    pub fn at_step(mut self, step: usize) -> Self {
        self.inner().step = Some(step);
        self
    }

    /// Keeps the cause, whose message goes after this one's, and takes over the path that it may name.
    pub fn caused_by(mut self, source: impl Into<BoxError>) -> Self {
        let source: BoxError = source.into();
        let inner = self.inner();
        if inner.path.is_none() {
            inner.path = K::path_of(&*source).map(Path::to_owned);
        }
        inner.source = Some(source.into());
        self
    }

    /// Says something before the message, such as where it happened.
    pub fn within(self, place: impl Display) -> Self {
        self.map_message(|message| match message {
            "" => place.to_string(),
            message => format!("{place}: {message}"),
        })
    }

    /// Adds what failed later, because of it or while it was told.
    pub fn followed_by(mut self, then: impl Display) -> Self {
        self.inner().then.push(then.to_string());
        self
    }

    /// The same error with its message put in other words.
    pub fn map_message(mut self, change: impl FnOnce(&str) -> String) -> Self {
        let inner = self.inner();
        inner.message = change(&inner.message);
        self
    }

    /// The same error with another kind of the same crate.
    pub fn map_kind(mut self, change: impl FnOnce(&K) -> K) -> Self {
        let inner = self.inner();
        inner.kind = change(&inner.kind);
        self
    }

    /// The kind of error.
    pub fn kind(&self) -> &K {
        &self.0.kind
    }

    /// The place of the sample in its data set, or of the task among the tasks of its call, from 0.
    pub fn index(&self) -> Option<usize> {
        self.0.index
    }

    /// The sample's index in the whole data set, another one than [`index`](Self::index) for a part of it.
    ///
    /// `None` if the error is not about a sample of a data set.
    pub fn row(&self) -> Option<usize> {
        self.0.row
    }

    /// The file or folder that the error is about.
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }

    /// The worker that met the error; `None` for the thread that called.
    pub fn worker(&self) -> Option<usize> {
        self.0.worker
    }

    /// The process of the worker that met the error; `None` if it was this one.
    pub fn process(&self) -> Option<u32> {
        self.0.process
    }

    /// The training step in which it happened, counted from 1.
    pub fn step(&self) -> Option<usize> {
        self.0.step
    }
}

/// An error as plain data, with the texts of its causes: what goes to another process.
///
/// Made back into an [`Error`] it has the same text, and causes that can be read but no longer told by their
/// type.
///
/// ```
/// # use std::fmt;
/// use firebox_core::{Error, Kind};
///
/// #[derive(Clone, Debug, PartialEq)]
/// struct Torn;
///
/// impl Kind for Torn {}
///
/// let error = Error::new(Torn, "the page").at_index(3).caused_by("no ink");
/// let retold = Error::from(error.to_parts());
/// assert_eq!(retold.to_string(), error.to_string());
/// assert_eq!((retold.kind(), retold.index()), (&Torn, Some(3)));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is what the method of `Error` of its name says")]
pub struct ErrorParts<K> {
    pub kind: K,
    pub message: String,
    pub index: Option<usize>,
    pub row: Option<usize>,
    pub place: Option<String>,
    pub path: Option<PathBuf>,
    pub worker: Option<usize>,
    pub process: Option<u32>,
    pub step: Option<usize>,
    /// The messages of the causes, the outermost first.
    pub causes: Vec<String>,
    /// The path that the causes name.
    pub path_of_causes: Option<PathBuf>,
    /// Failures that followed from it, or came while it was told.
    pub then: Vec<String>,
}

impl<K: Kind> Error<K> {
    /// The error as plain data.
    pub fn to_parts(&self) -> ErrorParts<K> {
        let Inner { kind, message, index, row, place, path, worker, process, step, source, then } =
            (*self.0).clone();
        let source = source.as_deref();
        ErrorParts {
            kind,
            message,
            index,
            row,
            place,
            path,
            worker,
            process,
            step,
            causes: source.map_or(Vec::new(), |source| causes(source).map(ToString::to_string).collect()),
            path_of_causes: source.and_then(|source| K::path_of(source)).map(Path::to_owned),
            then,
        }
    }
}

impl<K: Kind> From<ErrorParts<K>> for Error<K> {
    fn from(parts: ErrorParts<K>) -> Self {
        let ErrorParts { kind, message, index, row, place, path, worker, process, step, .. } = parts;
        let of_causes: Option<Arc<Path>> = parts.path_of_causes.map(Arc::from);
        // Parts may come from outside: no chain is longer than can be walked and dropped.
        let mut causes = parts.causes;
        causes.truncate(MOST_CAUSES);
        let innermost_first = causes.into_iter().rev();
        let source = innermost_first.fold(None, |source, message| {
            Some(Box::new(Retold { message, path: of_causes.clone(), source }))
        });
        let source = source.map(|source| Arc::from(source as BoxError));
        let then = parts.then;
        Error(Arc::new(Inner { kind, message, index, row, place, path, worker, process, step, source, then }))
    }
}

/// The most causes that an error made of parts keeps: more than any chain that was not made up has.
const MOST_CAUSES: usize = 64;

/// A cause of which only the text is left.
#[derive(Debug)]
struct Retold {
    message: String,
    path: Option<Arc<Path>>,
    source: Option<Box<Retold>>,
}

impl Display for Retold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Retold {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// An error whose kind tells it all.
impl<K: Kind> From<K> for Error<K> {
    fn from(kind: K) -> Self {
        Self::new(kind, "")
    }
}

/// Fails unless `holds`: the check of a setting.
///
/// # Errors
/// The kind made of an [`OutOfRange`], with the field, what would have been right, and what was there
/// instead.
pub fn check<K: Kind + From<OutOfRange>>(
    holds: bool,
    field: impl Display,
    expected: impl Display,
    got: impl Display,
) -> Result<(), Error<K>> {
    if holds { Ok(()) } else { Err(Error::out_of_range(field, expected, got)) }
}

/// An error and its causes, the outermost first.
fn causes<'e>(
    error: &'e (dyn StdError + 'static),
) -> impl Iterator<Item = &'e (dyn StdError + 'static)> + use<'e> {
    std::iter::successors(Some(error), |&error: &&'e (dyn StdError + 'static)| {
        // An I/O error that was made of another one gives that one's cause for its own.
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(within) => Some(within as _),
            None => error.source(),
        }
    })
}

/// The path of the first error of kind `K` that names one, among an error and its causes.
pub fn path_in<'e, K: Kind>(error: &'e (dyn StdError + 'static)) -> Option<&'e Path> {
    causes(error).find_map(|error| match error.downcast_ref::<Retold>() {
        Some(retold) => retold.path.as_deref(),
        None => error.downcast_ref::<Error<K>>()?.path(),
    })
}

/// The messages of an error and its causes, without those that the ones before tell already.
///
/// ```
/// let error = "fire".parse::<u32>().unwrap_err();
/// assert_eq!(firebox_core::chain(&error), "invalid digit found in string");
/// ```
pub fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = String::new();
    for message in causes(error).map(ToString::to_string) {
        if text.is_empty() {
            text = message;
        } else if !text.contains(&message) {
            text = format!("{text}: {message}");
        }
    }
    text
}

/// The text of a kind's own data.
struct Described<'k, K>(&'k K);

impl<K: Kind> Display for Described<'_, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.describe(f)
    }
}

impl<K: Kind> Display for Error<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { kind, message, index, place, path, worker, process, source, then, .. } = &*self.0;
        let place = match (index, place) {
            (Some(index), Some(place)) => format!("{} {index} ({place})", K::COUNTED),
            (Some(index), None) => format!("{} {index}", K::COUNTED),
            (None, Some(place)) => place.clone(),
            (None, None) => String::new(),
        };
        let described = Described(kind).to_string();
        // A cause that already names the file needs no second mention of it.
        let told = source.as_ref().and_then(|source| K::path_of(&**source));
        let path = path.as_deref().filter(|path| told != Some(path));
        let path = path.map_or(String::new(), |path| path.display().to_string());
        let source = source.as_ref().map_or(String::new(), |source| chain(&**source));
        let path = if source.starts_with(&format!("{path}: ")) { String::new() } else { path };
        let parts = [&place, &path, message, &described, &source];
        for (number, part) in parts.into_iter().filter(|part| !part.is_empty()).enumerate() {
            f.write_str(if number > 0 { ": " } else { "" })?;
            f.write_str(part)?;
        }
        match (worker, process) {
            (Some(worker), Some(process)) => write!(f, " (worker {worker}, process {process})")?,
            (Some(worker), None) => write!(f, " (worker {worker})")?,
            (None, Some(process)) => write!(f, " (process {process})")?,
            (None, None) => {}
        }
        then.iter().try_for_each(|then| write!(f, "; then {then}"))
    }
}

impl<K: Kind> fmt::Debug for Error<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

impl<K: Kind> StdError for Error<K> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_ref().map(|source| &**source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, PartialEq)]
    enum Inside {
        Format,
        Setting(OutOfRange),
        Late(u32),
    }

    impl Kind for Inside {
        fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match self {
                Inside::Format => Ok(()),
                Inside::Setting(setting) => Display::fmt(setting, f),
                Inside::Late(seconds) => write!(f, "took longer than {seconds} s"),
            }
        }
    }

    impl From<OutOfRange> for Inside {
        fn from(setting: OutOfRange) -> Self {
            Inside::Setting(setting)
        }
    }

    /// A crate's kinds that build on [`Inside`].
    #[derive(Clone, Debug, PartialEq)]
    struct Outside;

    impl Kind for Outside {
        const COUNTED: &'static str = "task";

        fn path_of<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e Path> {
            path_in::<Self>(error).or_else(|| path_in::<Inside>(error))
        }
    }

    #[test]
    fn an_error_is_a_pointer_that_threads_may_share() {
        fn shared<T: Send + Sync + Clone + 'static>() {}
        shared::<Error<Inside>>();
        assert_eq!(size_of::<Result<(), Error<Inside>>>(), size_of::<usize>());
    }

    #[test]
    fn a_message_says_what_where_and_why_once() {
        let file = Error::new(Inside::Format, "expected 4 bytes, got 3").at_path("a/b.gz");
        assert_eq!(file.to_string(), "a/b.gz: expected 4 bytes, got 3");
        let sample =
            Error::new(Inside::Format, "the data set failed").at_index(7).on_worker(2).caused_by(file);
        assert_eq!(sample.path(), Some(Path::new("a/b.gz")));
        assert_eq!(
            sample.to_string(),
            "sample 7: the data set failed: a/b.gz: expected 4 bytes, got 3 (worker 2)"
        );
        assert_eq!(format!("{sample:?}"), sample.to_string());
        let of_part = Error::new(Inside::Format, "the transform failed")
            .at_index(7)
            .at_row(99)
            .at_place("row 99 of the whole data set".to_owned());
        assert_eq!(of_part.to_string(), "sample 7 (row 99 of the whole data set): the transform failed");
        assert_eq!((of_part.index(), of_part.row()), (Some(7), Some(99)));
    }

    #[test]
    fn an_error_that_is_told_again_says_the_same() {
        let file = || Error::new(Inside::Format, "cut short").at_path("a.csv");
        let plain = Error::new(Inside::Format, "torn");
        let errors = [
            plain.clone(),
            Error::from(Inside::Late(3)).at_index(1).at_row(9).at_step(4).at_place("row 9".to_owned()),
            plain.clone().at_path("b").on_worker(0).caused_by(io::Error::other(file())),
            plain.clone().on_process(7).on_worker(1).caused_by(file()).within("page").followed_by("no disk"),
            plain.clone().on_process(7).caused_by(plain.caused_by("no ink")),
            Error::new(Inside::Format, "failed").caused_by(io::Error::other(io::Error::other(file()))),
        ];
        for error in errors {
            let retold = Error::from(error.to_parts());
            assert_eq!((retold.to_string(), retold.to_parts()), (error.to_string(), error.to_parts()));
            assert_eq!((retold.path(), retold.process()), (error.path(), error.process()));
            let (mut cause, mut depth) = (retold.source(), 0);
            while let Some(this) = cause {
                (cause, depth) = (this.source(), depth + 1);
            }
            assert_eq!(depth, error.to_parts().causes.len());
        }
        let error = Error::new(Inside::Format, "torn").on_worker(1).on_process(7);
        assert_eq!(error.to_string(), "torn (worker 1, process 7)");
        assert_eq!(error.on_worker(None).to_string(), "torn (process 7)");
    }

    #[test]
    fn a_clone_that_is_changed_leaves_the_other_one() {
        let error = Error::new(Inside::Format, "torn");
        let moved = error.clone().at_index(1).at_step(9).within("training data").followed_by("no disk");
        assert_eq!((error.to_string(), error.step()), ("torn".to_owned(), None));
        assert_eq!(moved.to_string(), "sample 1: training data: torn; then no disk");
        assert_eq!(moved.step(), Some(9));
    }

    #[test]
    fn what_a_kind_tells_comes_after_the_message() {
        assert_eq!(
            Error::from(Inside::Late(3)).at_index(1).on_worker(0).to_string(),
            "sample 1: took longer than 3 s (worker 0)"
        );
        let error: Error<Inside> = check(false, "batch size", "at least 1", 0).unwrap_err();
        assert_eq!(error.to_string(), "batch size: expected at least 1, got 0");
        let (field, expected, got) = ("batch size".into(), "at least 1".into(), "0".into());
        assert_eq!(error.kind(), &Inside::Setting(OutOfRange { field, expected, got }));
        assert_eq!(
            error.within("the loader").to_string(),
            "the loader: batch size: expected at least 1, got 0"
        );
        assert!(check::<Inside>(true, "batch size", "at least 1", 1).is_ok());
    }

    #[test]
    fn a_path_is_taken_over_from_the_kinds_that_a_crate_knows() {
        let file = || Error::new(Inside::Format, "cut short").at_path("a.csv");
        let task = Error::from(Outside).at_index(3).caused_by(io::Error::other(file()));
        assert_eq!(task.path(), Some(Path::new("a.csv")));
        assert_eq!(task.to_string(), "task 3: a.csv: cut short");
        let own = Error::new(Outside, "failed").at_path("run").caused_by(file());
        assert_eq!(own.path(), Some(Path::new("run")), "its own path stays");
        assert_eq!(own.to_string(), "run: failed: a.csv: cut short");
        // The other way, nobody has said that there are such errors.
        let unknown = Error::new(Inside::Format, "failed").caused_by(Error::from(Outside).at_path("run"));
        assert_eq!((unknown.path(), unknown.to_string()), (None, "failed: run".to_owned()));
    }

    #[test]
    fn a_path_is_named_once_however_short_it_is() {
        let of = |cause: &str| Error::new(Inside::Format, "torn").at_path("a").caused_by(cause.to_owned());
        assert_eq!(of("no paper").to_string(), "a: torn: no paper");
        assert_eq!(of("a: no paper").to_string(), "torn: a: no paper");
    }

    #[test]
    fn a_cause_that_keeps_its_own_cause_to_itself_is_told_with_it() {
        #[derive(Debug)]
        struct Silent(io::Error);

        impl Display for Silent {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("no table")
            }
        }

        impl StdError for Silent {
            fn source(&self) -> Option<&(dyn StdError + 'static)> {
                Some(&self.0)
            }
        }

        let error = Error::new(Inside::Format, "the data set failed")
            .caused_by(Silent(io::Error::other("the disk is gone")));
        assert_eq!(error.to_string(), "the data set failed: no table: the disk is gone");
        assert!(error.source().is_some_and(|source| source.is::<Silent>()));
    }
}
