//! A process that runs one function.

#![allow(
    unsafe_code,
    reason = "a function goes to another process of the program and comes back as what it was"
)]

use std::fmt;
use std::io::Write as _;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{ExitCode, Termination};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::Signal;
use serde_core::Serialize;
use serde_core::de::DeserializeOwned;

use super::crossing;
use super::memory::{Memory, system};
use crate::error::{Error, ErrorKind};
use crate::pool::incident::Cause;
use crate::process::call::{Call, Outcome};
#[cfg(feature = "tracing")]
use crate::process::child;
use crate::process::child::Child;
use crate::process::entry::{self, Entry};
#[cfg(feature = "tracing")]
use crate::process::frame::{Channel, NoFrame};
use crate::process::frame::{Frame, FrameBuffer, Header, INLINE, Kind};
use crate::process::launch::Launch;
#[cfg(feature = "tracing")]
use crate::process::log;
use crate::process::task::TaskHead;
use crate::process::{wire, worker};
use crate::sync::waiting::monitor::after;

/// The exit status of a process that panicked, as everywhere in Rust.
const PANICKED: i32 = 101;

/// A process of this program that runs one function and ends.
///
/// The function is told by its place in the program, so that it is one that captures nothing; what it needs
/// is its argument, which crosses. The process ends when this one does, however that ends; a Ctrl-C at the
/// terminal reaches this one only. A handle that is dropped leaves the process alone.
///
/// The program has to call [`init`](crate::init) first in `main`.
///
/// # Run a function in a process
/// ```
/// use firebox_workers::sync::Process;
///
/// fn greet(name: String) {
///     println!("hello {name}");
/// }
///
/// fn main() -> Result<(), firebox_workers::Error> {
///     firebox_workers::init();
///     let process = Process::spawn(greet, "bob".to_owned())?;
///     assert!(process.join().is_success());
///     Ok(())
/// }
/// ```
///
/// # Get something back
/// ```
/// use firebox_workers::sync::{Process, Queue};
///
/// fn square((number, results): (u64, Queue<u64>)) -> Result<(), firebox_workers::Error> {
///     results.put(&(number * number))
/// }
///
/// fn main() -> Result<(), firebox_workers::Error> {
///     firebox_workers::init();
///     let results = Queue::new(1)?;
///     let process = Process::spawn(square, (7, results.clone()))?;
///     assert_eq!(results.take()?, Some(49));
///     assert_eq!(process.join().code(), Some(0));
///     Ok(())
/// }
/// ```
///
/// # Don't wait for ever
/// ```
/// use std::time::Duration;
///
/// use firebox_workers::sync::Process;
///
/// fn sleep(seconds: u64) {
///     std::thread::sleep(Duration::from_secs(seconds));
/// }
///
/// fn main() -> Result<(), firebox_workers::Error> {
///     firebox_workers::init();
///     let process = Process::spawn(sleep, 1_000)?;
///     assert!(process.join_timeout(Duration::from_millis(10)).is_none());
///     process.kill();
///     assert_eq!(process.join().signal(), Some(9));
///     Ok(())
/// }
/// ```
#[derive(Clone)]
pub struct Process {
    running: Arc<Running>,
}

/// State that a process and whoever waits for it have in common.
struct Running {
    pid: AtomicU32,
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Default)]
struct State {
    /// Until it is reaped.
    child: Option<Child>,
    /// True if the process has ended; it may do so before its handle is here.
    has_ended: bool,
    /// How it ended, once it was reaped.
    exit: Option<Exit>,
    /// The thread that hands on what it logs, if anybody wants that.
    #[cfg(feature = "tracing")]
    listening: Option<JoinHandle<Option<String>>>,
}

impl Process {
    /// Starts a process that calls `function` with `argument`; a function of several has a tuple.
    ///
    /// What the function returns becomes the exit status, as of `main`.
    ///
    /// # Errors
    /// [`NoProcess`](ErrorKind::NoProcess) if [`init`](crate::init) was not called, within such a process, or
    /// if the system gives none; [`Crossing`](ErrorKind::Crossing) if the argument can't be written down.
    pub fn spawn<A, R>(function: fn(A) -> R, argument: A) -> Result<Self, Error>
    where
        A: Serialize + DeserializeOwned,
        R: Termination,
    {
        let refused =
            |message| Error::new(ErrorKind::Crossing, format!("the function of a process: {message}"));
        let function = entry::offset(erase(function)).map_err(refused)?;
        let entry = entry::offset(run::<A, R>).map_err(refused)?;

        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let launch = Launch { name: "firebox-process".to_owned(), ..Launch::default() };
        let running =
            Arc::new(Running { pid: AtomicU32::new(0), state: Mutex::default(), ended: Condvar::new() });
        let watching = Arc::clone(&running);
        let child = launch.start(STARTED.fetch_add(1, Relaxed), move || watching.reap(true))?;
        // From here on whoever leaves kills the process, for the handle is dropped.
        let message = crossing::to_process(child.pid(), || crossing::encode(&(function, &argument)))?;
        send(&child, entry, &message)?;
        // What was shared by the argument alone is now the process' alone.
        drop((message, argument));
        running.pid.store(child.pid(), Relaxed);
        {
            let mut state = running.state();
            #[cfg(feature = "tracing")]
            {
                state.listening = listen(&child)?;
            }
            state.child = Some(child);
        }
        running.reap(false);
        Ok(Process { running })
    }

    /// The process' id.
    pub fn pid(&self) -> u32 {
        self.running.pid.load(Relaxed)
    }

    /// Waits until the process has ended.
    pub fn join(&self) -> Exit {
        loop {
            if let Some(exit) = self.join_until(None) {
                return exit;
            }
        }
    }

    /// Waits until the process has ended, `limit` at most.
    pub fn join_timeout(&self, limit: Duration) -> Option<Exit> {
        self.join_until(after(limit))
    }

    /// How the process ended; `None` as long as it runs.
    pub fn exit(&self) -> Option<Exit> {
        self.running.state().exit.clone()
    }

    /// Tells whether the process runs.
    pub fn is_alive(&self) -> bool {
        self.exit().is_none()
    }

    /// Asks the process to end, by SIGTERM.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Ends the process, by SIGKILL.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    fn signal(&self, signal: Signal) {
        if let Some(child) = &self.running.state().child {
            child.signal(signal);
        }
    }

    fn join_until(&self, deadline: Option<Instant>) -> Option<Exit> {
        let mut state = self.running.state();
        loop {
            if let Some(exit) = &state.exit {
                return Some(exit.clone());
            }
            state = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                Some(left) if left.is_zero() => return None,
                Some(left) => {
                    self.running.ended.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.running.ended.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").field("pid", &self.pid()).field("exit", &self.exit()).finish()
    }
}

impl Running {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reaps a process that has ended, if both that and its handle are known here.
    fn reap(&self, has_ended: bool) {
        let mut state = self.state();
        state.has_ended |= has_ended;
        if !state.has_ended {
            return;
        }
        let Some(child) = state.child.take() else { return };
        #[cfg(feature = "tracing")]
        let listening = state.listening.take();
        #[cfg(not(feature = "tracing"))]
        let listening: Option<JoinHandle<Option<String>>> = None;
        // Not under the lock: what it held is given back to others, which may take its time.
        drop(state);
        // It ends with the process; nobody hears of that before all of its records are handed on.
        let panic = listening.and_then(|thread| thread.join().ok().flatten());
        let exit = Exit::of(child, panic);
        self.state().exit = Some(exit);
        self.ended.notify_all();
    }
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    cause: Cause,
    panic: Option<String>,
    last_line: Option<String>,
}

impl Exit {
    /// Reaps a process that has ended, and of whose panic was heard before, or not.
    fn of(mut child: Child, mut panic: Option<String>) -> Self {
        let mut buffer = FrameBuffer::new();
        while let Ok(frame) = child.channel().receive(&mut buffer) {
            panic = hear(&frame, child.pid()).or(panic);
        }
        let ended = child.end(None);
        Exit { cause: ended.cause, panic, last_line: ended.last_line }
    }

    /// Tells whether the function came back, and with a success.
    pub fn is_success(&self) -> bool {
        self.cause == Cause::Exit(0)
    }

    /// The exit status; `None` if a signal ended the process.
    ///
    /// It is 101 after a panic.
    pub fn code(&self) -> Option<i32> {
        match self.cause {
            Cause::Exit(code) => Some(code),
            _ => None,
        }
    }

    /// The signal that ended the process.
    pub fn signal(&self) -> Option<i32> {
        match self.cause {
            Cause::Signal(signal) => Some(signal),
            _ => None,
        }
    }

    /// The message of the panic that ended the process.
    pub fn panic(&self) -> Option<&str> {
        self.panic.as_deref()
    }

    /// The last line that the process wrote to its standard error.
    pub fn last_line(&self) -> Option<&str> {
        self.last_line.as_deref()
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.cause)?;
        match (&self.panic, &self.last_line) {
            (Some(panic), _) => write!(f, ": panicked: {panic}"),
            (None, Some(line)) => write!(f, "; its last line: {line}"),
            (None, None) => Ok(()),
        }
    }
}

/// Takes what a process says: the message of its panic, or a record that it logs.
#[cfg_attr(not(feature = "tracing"), allow(unused_variables, reason = "whose record it is"))]
fn hear(frame: &Frame<'_>, pid: u32) -> Option<String> {
    match (frame.header.kind, frame.body.split_first()) {
        #[cfg(feature = "tracing")]
        (Kind::Log, _) => {
            // What is no record is of no interest to anybody.
            let _ = log::emit(None, pid, frame.body);
            None
        }
        (Kind::Reply, Some((&outcome, message))) if Outcome::of(outcome) == Some(Outcome::Panicked) => {
            wire::from_slice::<(String, Option<String>)>(message).ok().map(|(message, _)| message)
        }
        _ => None,
    }
}

/// Begins a thread that hands on what a process logs, as it comes, if anybody wants that. It ends with the
/// process, and gives the message of its panic, if there was one.
#[cfg(feature = "tracing")]
fn listen(child: &Child) -> Result<Option<JoinHandle<Option<String>>>, Error> {
    if log::wanted() == 0 {
        return Ok(None);
    }
    let pid = child.pid();
    let no_process = |error| Error::new(ErrorKind::NoProcess, "the log of a process").caused_by(error);
    let channel = child.channel().as_fd().try_clone_to_owned().map(Channel::new).map_err(no_process)?;
    let pidfd = child.pidfd().try_clone_to_owned().map_err(no_process)?;
    let thread = std::thread::Builder::new().name(format!("firebox-log-{pid}")).spawn(move || {
        let (mut panic, mut buffer) = (None, FrameBuffer::new());
        loop {
            let happened = child::wait(&channel, &pidfd, None);
            match channel.receive(&mut buffer) {
                Ok(frame) => panic = hear(&frame, pid).or(panic),
                Err(NoFrame::NotYet) if !happened.end => {}
                Err(_) => return panic,
            }
        }
    });
    thread.map(Some).map_err(no_process)
}

/// Hands a process the one thing that it has to do.
fn send(child: &Child, entry: i64, message: &crossing::Message) -> Result<(), Error> {
    let written = |error| Error::new(ErrorKind::Crossing, "the function of a process").caused_by(error);
    let mut body = Vec::new();
    TaskHead { entry, ..TaskHead::default() }.write(&mut body).map_err(written)?;
    let mut header = Header { kind: Kind::Task, task: 1, boxed: 0 };
    let mut inbox = None;
    if body.len() + message.bytes.len() <= INLINE {
        body.extend_from_slice(&message.bytes);
    } else {
        let memory = Memory::new("firebox-argument", message.bytes.len())?;
        memory.write(0, &message.bytes);
        header.boxed = message.bytes.len() as u64;
        body.clear();
        TaskHead { entry, inbox: Some(header.boxed).filter(|&bytes| bytes > 0), ..TaskHead::default() }
            .write(&mut body)
            .map_err(written)?;
        inbox = Some(memory);
    }
    let files: Vec<BorrowedFd<'_>> = inbox
        .iter()
        .map(|inbox| inbox.as_fd())
        .chain(message.files.iter().map(|file| file.as_fd()))
        .collect();
    match child.channel().send(header, &body, &files) {
        // One that is gone already is heard of like any other.
        Ok(()) | Err(Errno::PIPE | Errno::CONNRESET) => Ok(()),
        Err(error) => Err(system("handing a process its argument", error)),
    }
}

/// The process' side: calls the function, and ends the process with what it says.
fn run<A: DeserializeOwned, R: Termination>(call: &mut Call<'_, '_>) {
    let function = match call.read::<i64>().map_err(|error| error.to_string()).and_then(entry::at) {
        Ok(function) => restore::<A, R>(function),
        Err(error) => worker::fail(&format!("the function of a process: {error}")),
    };
    let argument = match call.read::<A>() {
        Ok(argument) => argument,
        Err(error) => worker::fail(&format!("the argument of a process: {error}")),
    };
    // Unwind safety: the process ends.
    let code = match catch_unwind(AssertUnwindSafe(|| number_of(function(argument).report()))) {
        Ok(code) => code,
        Err(payload) => {
            worker::answer_panic(call, payload);
            PANICKED
        }
    };
    // What can't be written any more is of no interest to anybody.
    let _ = std::io::stdout().flush();
    std::process::exit(code)
}

/// The number of an exit code, which keeps it to itself.
fn number_of(code: ExitCode) -> i32 {
    (0..=u8::MAX).find(|&number| ExitCode::from(number) == code).map_or(1, i32::from)
}

/// A function as one that can be told by its place.
fn erase<A, R>(function: fn(A) -> R) -> Entry {
    // SAFETY: both are pointers to functions, of one size; nobody calls the result, but as what it was: see
    // `restore`.
    unsafe { std::mem::transmute::<fn(A) -> R, Entry>(function) }
}

/// The function that [`erase`] was given.
fn restore<A, R>(function: Entry) -> fn(A) -> R {
    // SAFETY: `run::<A, R>` alone calls this, with what `spawn::<A, R>` has written beside it: a pointer that
    // was of this type, in a process of the same program.
    unsafe { std::mem::transmute::<Entry, fn(A) -> R>(function) }
}
