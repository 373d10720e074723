//! Ends of worker processes before their time.

use std::fmt;
use std::time::Duration;

/// Why a worker process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// A signal ended it: one from outside, or that of its own fault.
    Signal(i32),
    /// It exited with this status.
    Exit(i32),
    /// It was stopped, and was ended for that.
    Stopped,
    /// Its task exceeded the time limit, and it was ended for that.
    TimedOut(Duration),
    /// The system did not start it: the text says why.
    NotStarted(String),
    /// It did not say in time that it was there.
    Silent(Duration),
    /// It sent something that no worker sends: the text says what.
    Garbage(String),
    /// How it ended is not known, because something else in this process has taken its status.
    Unknown,
}

/// The names of the signals that end a process as a rule.
const SIGNALS: [(i32, &str); 15] = [
    (1, "SIGHUP"),
    (2, "SIGINT"),
    (3, "SIGQUIT"),
    (4, "SIGILL"),
    (5, "SIGTRAP"),
    (6, "SIGABRT"),
    (7, "SIGBUS"),
    (8, "SIGFPE"),
    (9, "SIGKILL"),
    (10, "SIGUSR1"),
    (11, "SIGSEGV"),
    (12, "SIGUSR2"),
    (13, "SIGPIPE"),
    (15, "SIGTERM"),
    (24, "SIGXCPU"),
];

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Signal(signal) => {
                let name = SIGNALS.iter().find(|(number, _)| number == signal).map(|(_, name)| *name);
                write!(f, "was ended by signal {signal}")?;
                name.map_or(Ok(()), |name| write!(f, " ({name})"))
            }
            Cause::Exit(status) => write!(f, "exited with status {status}"),
            Cause::Stopped => f.write_str("was stopped, and ended for that"),
            Cause::TimedOut(limit) => {
                write!(f, "took longer than {limit:?} for its task, and was ended for that")
            }
            Cause::NotStarted(why) => write!(f, "was not started: {why}"),
            Cause::Silent(limit) => write!(f, "did not begin within {limit:?}, and was ended for that"),
            Cause::Garbage(what) => write!(f, "sent what no worker sends, and was ended for that: {what}"),
            Cause::Unknown => f.write_str("ended in a way that something else has taken note of"),
        }
    }
}

/// The end of a worker process before its time.
///
/// ```
/// use firebox_workers::ErrorKind;
/// use firebox_workers::pool::{Cause, Incident};
///
/// /// Whether the kernel has taken the worker for its memory, as far as that can be told.
/// fn is_killed(incident: &Incident) -> bool {
///     incident.cause == Cause::Signal(9)
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Incident {
    /// Which of the pool's workers it was.
    pub worker: usize,
    /// The process.
    pub pid: u32,
    /// Why it ended.
    pub cause: Cause,
    /// The index of the task that it had, in its stream; a chunk of tasks of
    /// [`map`](crate::WorkersExt::map) has one. `None` if it had none.
    pub task: Option<usize>,
    /// The part of the task that it had begun last: of a chunk, the task's place in it. `None` if it had
    /// begun none.
    pub part: Option<usize>,
    /// The last line that it wrote to its standard error.
    pub last_line: Option<String>,
    /// The limit of its private memory, if it had one.
    pub private_memory: Option<u64>,
}

impl fmt::Display for Incident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "worker {} (process {}) {}", self.worker, self.pid, self.cause)?;
        match (self.task, self.part) {
            (Some(task), Some(part)) => write!(f, ", with part {part} of task {task}")?,
            (Some(task), None) => write!(f, ", with task {task}")?,
            (None, _) => f.write_str(", with no task")?,
        }
        if let Some(bytes) = self.private_memory {
            write!(f, ", limited to {bytes} bytes of private memory")?;
        }
        self.last_line.as_ref().map_or(Ok(()), |line| write!(f, "; its last line: {line}"))
    }
}

impl std::error::Error for Incident {}
