//! What can go wrong with a task, with its place.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// The most threads of a pool: more than that are a slip, and more than most systems give.
pub(crate) const MOST_WORKERS: usize = 1 << 14;

/// A task that failed, or a pool that could not be made.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    task: Option<usize>,
    worker: Option<usize>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The kinds of [`Error`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The task panicked; the text is the panic's message.
    Panicked(String),
    /// The task's own function returned an error: see [`source`](std::error::Error::source).
    Failed,
    /// The task took longer than it was allowed to. Its thread was replaced.
    TimedOut(Duration),
    /// The pool ended, or was closed, before the task ran.
    Lost,
    /// The operating system gave no thread: see [`source`](std::error::Error::source).
    Spawn,
    /// A pool was to have so many threads, which is more than any may have.
    TooManyWorkers(usize),
}

impl Error {
    pub(crate) fn panicked(task: usize, worker: Option<usize>, message: String) -> Self {
        Self::new(ErrorKind::Panicked(message), Some(task), worker, None)
    }

    pub(crate) fn failed(
        task: usize,
        worker: Option<usize>,
        source: Box<dyn std::error::Error + Send + Sync>,
    ) -> Self {
        Self::new(ErrorKind::Failed, Some(task), worker, Some(source))
    }

    pub(crate) fn timed_out(task: usize, worker: Option<usize>, limit: Duration) -> Self {
        Self::new(ErrorKind::TimedOut(limit), Some(task), worker, None)
    }

    pub(crate) fn lost(task: usize) -> Self {
        Self::new(ErrorKind::Lost, Some(task), None, None)
    }

    pub(crate) fn too_many_workers(workers: usize) -> Self {
        Self::new(ErrorKind::TooManyWorkers(workers), None, None, None)
    }

    pub(crate) fn spawn(worker: usize, source: std::io::Error) -> Self {
        Self::new(ErrorKind::Spawn, None, Some(worker), Some(source.into()))
    }

    fn new(
        kind: ErrorKind,
        task: Option<usize>,
        worker: Option<usize>,
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Error(Box::new(Inner { kind, task, worker, source }))
    }

    /// The error of a chunk as that of its first task.
    pub(crate) fn of_task(mut self, task: usize) -> Self {
        self.0.task = Some(task);
        self
    }

    /// What happened.
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// The place of the task among the tasks of its call, from 0.
    pub fn task(&self) -> Option<usize> {
        self.0.task
    }

    /// The worker that ran the task; `None` if it ran in the caller or never ran.
    pub fn worker(&self) -> Option<usize> {
        self.0.worker
    }
}

/// The text of a caught panic's payload: its message, in one line.
///
/// What stands on lines of its own, such as the two sides of an `assert_eq!`, comes behind commas.
pub fn panic_message(payload: Box<dyn Any + Send>) -> String {
    let text = match payload.downcast_ref::<String>() {
        Some(text) => Some(&**text),
        None => payload.downcast_ref::<&'static str>().copied(),
    };
    let text = text.map_or("a panic whose payload is not text".to_owned(), one_line);
    // A payload may be anything, and panic again when it is dropped: whoever asks has a task to answer. That
    // panic's own payload is let be, for there would be no end to it.
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(again);
    }
    text
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(", ")
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
        let Inner { kind, task, worker, source } = &*self.0;
        match (kind, task) {
            (ErrorKind::Spawn, _) => write!(f, "no thread for worker {}", worker.unwrap_or(0))?,
            (ErrorKind::TooManyWorkers(_), _) => {}
            (_, Some(task)) => write!(f, "task {task}")?,
            (_, None) => write!(f, "a task")?,
        }
        match kind {
            ErrorKind::Panicked(text) => write!(f, " panicked: {text}")?,
            ErrorKind::Failed => write!(f, " failed")?,
            ErrorKind::TimedOut(limit) => write!(f, " took longer than {limit:?}")?,
            ErrorKind::Lost => write!(f, " was lost: the pool ended before it ran")?,
            ErrorKind::Spawn => {}
            ErrorKind::TooManyWorkers(workers) => {
                write!(f, "workers: expected at most {MOST_WORKERS}, got {workers}")?;
            }
        }
        if let (Some(worker), false) = (worker, *kind == ErrorKind::Spawn) {
            write!(f, " (worker {worker})")?;
        }
        match source {
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
