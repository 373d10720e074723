//! Errors that come from another process.

use std::error::Error as StdError;
use std::fmt;

use serde_core::{Deserialize, Deserializer, Serialize, Serializer};

/// An error of a task in another process: the texts of it and of its causes.
///
/// Errors of other types cannot cross as they are, unless serde writes them. `?` makes any error one of
/// these.
///
/// ```
/// use firebox_workers::{Pool, WorkersExt as _};
/// use firebox_workers::process_pool::RemoteError;
///
/// fn parse(text: String) -> Result<u32, RemoteError> {
///     Ok(text.parse()?)
/// }
///
/// fn main() -> Result<(), firebox_workers::Error> {
///     firebox_workers::init();
///     let pool = Pool::processes(1)?;
///     let error = pool.try_map(parse, ["1".to_owned(), "x".to_owned()]).unwrap_err();
///     assert_eq!(error.index(), Some(1));
///     assert!(error.to_string().contains("invalid digit found in string"));
///     Ok(())
/// }
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct RemoteError {
    pid: u32,
    message: String,
    source: Option<Cause>,
}

/// The causes of an error, each a text.
#[derive(Clone, PartialEq, Eq)]
struct Cause {
    message: String,
    source: Option<Box<Cause>>,
}

impl Cause {
    /// The first of these texts, caused by the others.
    fn chain(messages: impl DoubleEndedIterator<Item = String>) -> Option<Cause> {
        messages.rev().fold(None, |source, message| Some(Cause { message, source: source.map(Box::new) }))
    }
}

impl RemoteError {
    /// The texts of an error and of its causes.
    pub fn new(error: &(dyn StdError + 'static)) -> Self {
        let mut causes = Vec::new();
        let mut cause = error.source();
        while let Some(error) = cause {
            causes.push(error.to_string());
            cause = error.source();
        }
        RemoteError {
            pid: std::process::id(),
            message: error.to_string(),
            source: Cause::chain(causes.into_iter()),
        }
    }

    /// The process in which it happened.
    pub fn pid(&self) -> u32 {
        self.pid
    }
}

impl<E: StdError + 'static> From<E> for RemoteError {
    fn from(error: E) -> Self {
        Self::new(&error)
    }
}

/// Whatever takes any error takes it, too. It is no `Error` itself, so that `?` can make one of any other.
impl From<RemoteError> for Box<dyn StdError + Send + Sync> {
    fn from(error: RemoteError) -> Self {
        let RemoteError { pid, message, source } = error;
        Box::new(Told { pid, cause: Cause { message, source: source.map(Box::new) } })
    }
}

/// A remote error as a cause.
struct Told {
    pid: u32,
    cause: Cause,
}

impl fmt::Display for RemoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message)?;
        self.source.as_ref().map_or(Ok(()), |cause| write!(f, ": {cause:?}"))
    }
}

impl fmt::Debug for RemoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} (process {})", self.pid)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.source.as_ref().map_or(Ok(()), |cause| write!(f, ": {cause:?}"))
    }
}

impl StdError for Cause {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|cause| cause as _)
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "in process {}: {}", self.pid, self.cause)
    }
}

impl fmt::Debug for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "in process {}: {:?}", self.pid, self.cause)
    }
}

impl StdError for Told {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.cause.source()
    }
}

impl Serialize for RemoteError {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let first = self.source.as_ref();
        let causes = std::iter::successors(first, |cause| cause.source.as_deref());
        let causes: Vec<&str> = causes.map(|cause| cause.message.as_str()).collect();
        (self.pid, &self.message, causes).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for RemoteError {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (pid, message, causes) = <(u32, String, Vec<String>)>::deserialize(deserializer)?;
        // Each takes a step of the stack when it is dropped: nobody has so many causes.
        Ok(RemoteError { pid, message, source: Cause::chain(causes.into_iter().take(64)) })
    }
}

/// The panic of a task in another process, as the source of an [`Error`](crate::Error) of the kind
/// [`Panicked`](crate::ErrorKind::Panicked).
///
/// ```
/// use std::error::Error as _;
/// use firebox_workers::{ProcessPool, WorkersExt as _};
/// use firebox_workers::process_pool::RemotePanic;
///
/// fn divide(x: u32) -> u32 {
///     12 / x
/// }
///
/// fn main() -> Result<(), firebox_workers::Error> {
///     firebox_workers::init();
///     let pool = ProcessPool::builder(1).backtrace(true).build()?;
///     let error = pool.map(divide, [3, 0]).unwrap_err();
///     let panic = error.source().and_then(|source| source.downcast_ref::<RemotePanic>()).unwrap();
///     assert!(panic.backtrace().is_some());
///     Ok(())
/// }
/// ```
#[derive(Clone)]
pub struct RemotePanic {
    pub(super) pid: u32,
    pub(super) backtrace: Option<String>,
}

impl RemotePanic {
    /// The process in which it happened.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The backtrace, if [one was asked for](crate::process_pool::ProcessPoolBuilder::backtrace).
    pub fn backtrace(&self) -> Option<&str> {
        self.backtrace.as_deref()
    }
}

impl fmt::Display for RemotePanic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "in process {}", self.pid)
    }
}

impl fmt::Debug for RemotePanic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")?;
        self.backtrace.as_ref().map_or(Ok(()), |backtrace| write!(f, "\n{backtrace}"))
    }
}

impl StdError for RemotePanic {}
