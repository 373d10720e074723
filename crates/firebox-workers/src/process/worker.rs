//! A worker process from its beginning to its end.
//!
//! It ends when its parent does, however that ends: by the end of the socket while it waits for a task, and
//! while it runs one by a thread that watches the parent, and by a signal of the kernel.

use std::any::Any;
use std::backtrace::Backtrace;
use std::cell::RefCell;
use std::fs;
#[cfg(feature = "tracing")]
use std::os::fd::AsFd as _;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use firebox_core::panic_message;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{
    Resource, Rlimit, Signal, getpid, getppid, getrlimit, kill_process, nice,
    set_parent_process_death_signal, setrlimit,
};
use rustix::thread::{CpuSet, sched_setaffinity};

use super::call::{Call, Desk, MOST_WORKS, Outcome, send};
use super::child;
use super::control_page;
use super::entry;
use super::frame::{Channel, FrameBuffer, Header, Kind, NoFrame, VERSION};
use super::launch::Hello;
use super::role::{self, Role};
use super::task::TaskHead;
use super::wire::{self, Reader};
use crate::sync::crossing;
use crate::sync::memory::{Access, Memory};

/// The exit status of a worker that could not be one.
const FAILURE: i32 = 70;

thread_local! {
    /// The backtrace of this thread's last panic.
    static BACKTRACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Lets this program be a worker of itself: the first call in `main` of every program with worker processes.
///
/// In a process that was started as a worker it does the work and never returns. In any other it returns at
/// once. Without it a program can have no worker processes: a worker is the same program started again, and
/// would do again what `main` does.
///
/// # A program with worker processes
///
/// ```
/// use firebox_workers::{Pool, WorkersExt as _};
///
/// fn square(x: u64) -> u64 {
///     x * x
/// }
///
/// fn main() -> Result<(), firebox_workers::Error> {
///     firebox_workers::init();
///     let pool = Pool::processes(2)?;
///     assert_eq!(pool.map(square, 0..5)?, [0, 1, 4, 9, 16]);
///     Ok(())
/// }
/// ```
///
/// # Tests and benchmarks
///
/// A test binary has no `main` of its own; see [`test_worker!`](crate::test_worker). A benchmark without the
/// test harness has one.
pub fn init() {
    if let Some(role) = Role::here() {
        run(&role);
    }
    role::note_init();
}

/// The body of the test that [`test_worker!`](crate::test_worker) makes.
#[doc(hidden)]
pub fn serve_in_test() {
    if let Some(role) = Role::here() {
        run(&role);
    }
}

/// Works until the parent needs no worker any more.
pub(super) fn run(role: &Role) -> ! {
    if role.version != VERSION {
        fail(&format!("expected version {VERSION} of the parent's words, got {}", role.version));
    }
    let channel = match take_socket() {
        Ok(channel) => channel,
        Err(error) => fail(&format!("the socket: {error}")),
    };
    let mut buffer = FrameBuffer::new();
    let frame = match channel.receive(&mut buffer) {
        Ok(frame) if frame.header.kind == Kind::Hello => frame,
        Err(NoFrame::Closed) => end(),
        other => fail(&format!("the parent: expected its first message, got {other:?}")),
    };
    let hello = match Hello::from_bytes(frame.body) {
        Ok(hello) => hello,
        Err(error) => fail(&format!("the parent's first message: {error}")),
    };
    let mut files = frame.fds.into_iter();
    if let Err(error) = settle(&hello, role.parent) {
        fail(&error);
    }
    let control = files.next().ok_or_else(|| "none".to_owned()).and_then(|file| {
        Memory::receive(file, control_page::BYTES, Access::Shared).map_err(|error| error.to_string())
    });
    let control = match control {
        Ok(control) => control,
        Err(error) => fail(&format!("the control page: {error}")),
    };
    if let (true, Some(stdout)) = (hello.has_stdout, files.next())
        && let Err(error) = rustix::stdio::dup2_stdout(stdout)
    {
        fail(&format!("the standard output: {error}"));
    }
    #[cfg(feature = "tracing")]
    match channel.as_fd().try_clone_to_owned() {
        Ok(socket) => super::log::forward(socket, hello.log),
        Err(error) => fail(&format!("the log: {error}")),
    }
    send(&channel, Header { kind: Kind::Ready, task: 0, boxed: 0 }, &[], &[]);
    let desk = Desk {
        id: hello.id,
        channel,
        control,
        outbox: None,
        works: Vec::new(),
        answer: Vec::new(),
        said: FrameBuffer::new(),
    };
    serve(desk, buffer)
}

/// Runs one task after the other.
fn serve(mut desk: Desk, mut buffer: FrameBuffer) -> ! {
    let mut inbox: Option<Memory> = None;
    loop {
        let frame = match desk.channel.receive(&mut buffer) {
            Ok(frame) if frame.header.kind == Kind::Task => frame,
            Err(NoFrame::Closed) => end(),
            other => fail(&format!("the parent: expected a task, got {other:?}")),
        };
        let mut reader = Reader::slice(frame.body);
        let head = match TaskHead::read(&mut reader) {
            Ok(head) => head,
            Err(error) => fail(&format!("the parent's task: {error}")),
        };
        let mut files = frame.fds.into_iter();
        for (bytes, memory) in [(head.inbox, &mut inbox), (head.outbox, &mut desk.outbox)] {
            if let Some(bytes) = bytes {
                // First the old one goes.
                *memory = None;
                *memory = (bytes > 0).then(|| receive(files.next(), bytes));
            }
        }
        if frame.header.boxed > 0 {
            reader = match inbox.as_ref().map(|inbox| Reader::shared(inbox, frame.header.boxed)) {
                Some(Ok(reader)) => reader,
                other => fail(&format!("the inbox: {:?}", other.and_then(Result::err))),
            };
        }
        desk.works.retain(|(number, _)| *number != head.forget);
        desk.works.truncate(MOST_WORKS);
        let settings = head.settings.map(|(bytes, count)| {
            let bytes = match reader.vec(bytes as usize) {
                Ok(bytes) => bytes,
                Err(error) => fail(&format!("the parent's settings: {error}")),
            };
            (bytes, files.by_ref().take(count as usize).collect::<Vec<OwnedFd>>())
        });
        let entry = match entry::at(head.entry) {
            Ok(entry) => entry,
            Err(error) => fail(&error),
        };
        let task = frame.header.task;
        let mut call = Call { desk: &mut desk, task, reader, work: head.work, settings, is_answered: false };
        // Unwind safety: what a task had begun to write is cleared before the next one.
        let ran = catch_unwind(AssertUnwindSafe(|| crossing::supply(files.collect(), || entry(&mut call))));
        if let Err(payload) = ran {
            answer_panic(&mut call, payload);
        }
    }
}

/// Answers that the task has panicked.
pub(crate) fn answer_panic(call: &mut Call<'_, '_>, payload: Box<dyn Any + Send>) {
    let panicked = (panic_message(payload), take_backtrace());
    let told = call.answer(Outcome::Panicked, &mut |writer| wire::write(&panicked, writer));
    debug_assert!(told.is_ok(), "a message can be written");
}

/// The backtrace of this thread's last panic, if backtraces are taken.
pub(crate) fn take_backtrace() -> Option<String> {
    BACKTRACE.take()
}

fn receive(file: Option<OwnedFd>, bytes: u64) -> Memory {
    let Some(file) = file else { fail("the parent: expected a file with its task, got none") };
    match Memory::receive(file, bytes as usize, Access::Shared) {
        Ok(memory) => memory,
        Err(error) => fail(&format!("the parent's memory: {error}")),
    }
}

/// The socket, which came as the standard input; that is empty afterwards.
fn take_socket() -> rustix::io::Result<Channel> {
    let socket = rustix::io::fcntl_dupfd_cloexec(std::io::stdin(), 3)?;
    let null = fs::File::open("/dev/null").map_err(|_| rustix::io::Errno::NOENT)?;
    rustix::stdio::dup2_stdin(null)?;
    Ok(Channel::new(socket))
}

/// Makes of this process what its parent has asked for.
fn settle(hello: &Hello, parent: u32) -> Result<(), String> {
    if hello.ends_with_thread {
        // Should the kernel not do it, the watching thread does.
        let _ = set_parent_process_death_signal(Some(Signal::KILL));
    }
    let watched = child::pidfd(parent).map_err(|error| format!("the parent, process {parent}: {error}"));
    // From here on its end is noticed; whether it had ended before is seen by who the parent is now.
    if getppid().map(|pid| pid.as_raw_nonzero().get() as u32) != Some(parent) {
        end();
    }
    let watched = watched?;
    thread::Builder::new()
        .name("firebox-parent".to_owned())
        .spawn(move || {
            while !matches!(poll(&mut [PollFd::new(&watched, PollFlags::IN)], None), Ok(1..)) {}
            // At once, whatever the other threads do, and without a word to anybody.
            let _ = kill_process(getpid(), Signal::KILL);
        })
        .map_err(|error| format!("no thread to watch the parent: {error}"))?;
    // The kernel, should it run out of memory, is to take a worker, which is replaced, before the parent.
    if let Ok(score) = fs::read_to_string("/proc/self/oom_score_adj") {
        let score: i32 = score.trim().parse().unwrap_or(0);
        let _ = fs::write("/proc/self/oom_score_adj", (score + 300).min(1000).to_string());
    }
    if !hello.affinity.is_empty() {
        let mut cores = CpuSet::new();
        for &core in &hello.affinity {
            if core >= CpuSet::MAX_CPU {
                return Err(format!("affinity: expected cores below {}, got {core}", CpuSet::MAX_CPU));
            }
            cores.set(core);
        }
        sched_setaffinity(None, &cores).map_err(|error| format!("affinity {:?}: {error}", hello.affinity))?;
    }
    if let Some(niceness) = hello.niceness {
        nice(niceness).map_err(|error| format!("niceness {niceness}: {error}"))?;
    }
    if let Some(bytes) = hello.private_memory {
        let maximum = getrlimit(Resource::Data).maximum;
        let limit =
            Rlimit { current: Some(bytes), maximum: Some(maximum.map_or(bytes, |most| most.min(bytes))) };
        setrlimit(Resource::Data, limit).map_err(|error| format!("private memory {bytes}: {error}"))?;
    }
    if hello.backtrace {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            BACKTRACE.set(Some(Backtrace::force_capture().to_string()));
            previous(panic);
        }));
    }
    Ok(())
}

/// Ends a worker whose parent needs it no more.
pub(super) fn end() -> ! {
    std::process::exit(0)
}

/// Ends a worker that can't go on. The parent reads why.
#[allow(clippy::print_stderr, reason = "it is the one place where the parent hears of it")]
pub(crate) fn fail(message: &str) -> ! {
    eprintln!("firebox worker {}: {message}", std::process::id());
    std::process::exit(FAILURE)
}
