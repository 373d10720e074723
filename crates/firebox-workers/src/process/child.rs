//! A worker process, as its parent has it.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::control_page::{ControlPage, WORDS};
use super::frame::{Channel, FrameBuffer, Kind, NoFrame};
use super::watch::Watch;
use crate::pool::incident::Cause;
use crate::sync::memory::Memory;

/// A process that was started. Dropped, it is killed and reaped.
#[derive(Debug)]
pub(crate) struct Child {
    process: Process,
    pidfd: OwnedFd,
    channel: Channel,
    control: Memory,
    pub(super) watch: Option<Watch>,
    /// How it ended, once it was reaped.
    ended: Option<Ended>,
}

/// The process at the other end of the socket.
#[derive(Debug)]
enum Process {
    Started(std::process::Child),
    /// A test, which plays the worker.
    #[cfg(test)]
    Played,
}

impl Process {
    fn reap(&mut self) -> io::Result<ExitStatus> {
        match self {
            Process::Started(process) => process.wait(),
            #[cfg(test)]
            Process::Played => Err(io::Error::other("there is no process")),
        }
    }
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) cause: Cause,
    /// The last line that it wrote to its standard error.
    pub(crate) last_line: Option<String>,
}

/// Events that a parent waits for at a worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Happened {
    /// There is a message, or there will be none any more.
    pub(crate) message: bool,
    /// The process has ended.
    pub(crate) end: bool,
}

/// How often whoever waits for a worker looks after it: whether it is stopped, and whether anybody still
/// waits for its task.
pub(crate) const LOOK: Duration = Duration::from_millis(50);

/// How long a worker is seen stopped before it is ended.
const STOPPED: Duration = Duration::from_millis(100);

/// Since when a worker was found stopped whenever somebody looked.
#[derive(Default)]
pub(crate) struct StoppedSince(Option<Instant>);

impl StoppedSince {
    /// Looks again, and tells whether it has been so for long enough to end the worker.
    pub(crate) fn look(&mut self, child: &Child, now: Instant) -> bool {
        self.0 = child.is_stopped().then(|| self.0.unwrap_or(now));
        self.0.is_some_and(|since| now.saturating_duration_since(since) >= STOPPED)
    }
}

impl Child {
    pub(super) fn new(process: std::process::Child, channel: Channel, control: Memory) -> io::Result<Self> {
        let mut process = process;
        match pidfd(process.id()) {
            Ok(pidfd) => {
                crate::sync::note_child(process.id());
                let process = Process::Started(process);
                Ok(Child { process, pidfd, channel, control, watch: None, ended: None })
            }
            Err(error) => {
                let _ = process.kill();
                let _ = process.wait();
                Err(error)
            }
        }
    }

    /// A worker that a test plays: with these ends, and without a process.
    #[cfg(test)]
    pub(crate) fn played(channel: Channel, control: Memory) -> Self {
        let pidfd = pidfd(std::process::id()).unwrap();
        Child { process: Process::Played, pidfd, channel, control, watch: None, ended: None }
    }

    pub(crate) fn pid(&self) -> u32 {
        match &self.process {
            Process::Started(process) => process.id(),
            #[cfg(test)]
            Process::Played => 0,
        }
    }

    pub(crate) fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    pub(crate) fn channel(&self) -> &Channel {
        &self.channel
    }

    pub(crate) fn control(&self) -> ControlPage<'_> {
        ControlPage::new(self.control.words64(0, WORDS))
    }

    pub(super) fn control_file(&self) -> BorrowedFd<'_> {
        self.control.as_fd()
    }

    /// Waits until something happens, at most for so long.
    pub(crate) fn wait(&self, limit: Option<Duration>) -> Happened {
        wait(&self.channel, &self.pidfd, limit)
    }

    /// Waits until the worker says that it is there.
    ///
    /// # Errors
    /// Why it doesn't, or that it took longer than `limit`. The process is ended then.
    pub(crate) fn until_ready(&mut self, limit: Duration, buffer: &mut FrameBuffer) -> Result<(), Ended> {
        let until = Instant::now() + limit;
        let mut stopped = StoppedSince::default();
        loop {
            match self.channel.receive(buffer) {
                Ok(frame) if frame.header.kind == Kind::Ready => return Ok(()),
                Ok(frame) if frame.header.kind == Kind::Log => {}
                Ok(frame) => {
                    let got = format!("expected it to be ready, got {:?}", frame.header.kind);
                    return Err(self.end(Some(Cause::Garbage(got))));
                }
                Err(NoFrame::NotYet) => {}
                Err(NoFrame::Closed) => return Err(self.closed()),
                Err(NoFrame::Garbage(what)) => return Err(self.end(Some(Cause::Garbage(what)))),
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(self.end(Some(Cause::Silent(limit))));
            }
            let happened = self.wait(Some(left.min(LOOK)));
            if happened.end && !happened.message {
                return Err(self.end(None));
            }
            if !happened.message && stopped.look(self, Instant::now()) {
                return Err(self.end(Some(Cause::Stopped)));
            }
        }
    }

    /// Ends a worker that has closed its end of the socket: as a rule it is about to end by itself.
    pub(crate) fn closed(&mut self) -> Ended {
        if self.ends_within(Duration::from_secs(1)) {
            return self.end(None);
        }
        self.end(Some(Cause::Garbage("it closed its socket".to_owned())))
    }

    /// Tells whether the process ends within so much time.
    pub(crate) fn ends_within(&self, limit: Duration) -> bool {
        #[cfg(test)]
        if matches!(self.process, Process::Played) {
            return false;
        }
        ends_within(&self.pidfd, limit)
    }

    /// Says that there will be no more tasks: a worker that waits for one ends.
    pub(crate) fn hang_up(&self) {
        // Of one that is gone there is nothing to be said.
        let _ = rustix::net::shutdown(&self.channel, rustix::net::Shutdown::Write);
    }

    /// Sends a signal, unless the process has been reaped.
    pub(crate) fn signal(&self, signal: Signal) {
        // One that has ended can't be ended again.
        let _ = pidfd_send_signal(&self.pidfd, signal);
    }

    /// Ends the process, if it hasn't ended, and reaps it. `why` is the parent's reason, if it had one.
    pub(crate) fn end(&mut self, why: Option<Cause>) -> Ended {
        if let Some(ended) = &self.ended {
            return ended.clone();
        }
        #[cfg(test)]
        if matches!(self.process, Process::Played) {
            let ended = Ended { cause: why.unwrap_or(Cause::Unknown), last_line: None };
            return self.ended.insert(ended).clone();
        }
        // One that has ended can't be ended again.
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
        ends_within(&self.pidfd, Duration::from_secs(3600));
        // While its number is still nobody else's: what it held is given back to the others.
        crate::sync::mend(self.pid());
        let cause = match (why, self.process.reap()) {
            (Some(why), _) => why,
            (None, Ok(status)) => match (status.signal(), status.code()) {
                (Some(signal), _) => Cause::Signal(signal),
                (None, code) => Cause::Exit(code.unwrap_or_default()),
            },
            // Somebody else has reaped it.
            (None, Err(_)) => Cause::Unknown,
        };
        let last_line = self.watch.as_ref().and_then(Watch::last_line);
        let ended = Ended { cause, last_line };
        self.ended = Some(ended.clone());
        ended
    }

    /// How the process was [ended](Self::end), if it was.
    pub(crate) fn ended(&self) -> Option<&Ended> {
        self.ended.as_ref()
    }

    /// Tells whether the process is stopped (by SIGSTOP, not by a debugger).
    fn is_stopped(&self) -> bool {
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())) else { return false };
        // The name, in parentheses, may have anything in it.
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.end(None);
    }
}

/// Waits for a message at a socket, or for the end of a process.
pub(crate) fn wait(channel: &Channel, pidfd: &OwnedFd, limit: Option<Duration>) -> Happened {
    let mut fds = [PollFd::new(channel, PollFlags::IN), PollFd::new(pidfd, PollFlags::IN)];
    match poll(&mut fds, limit.map(timespec).as_ref()) {
        Ok(_) => Happened { message: !fds[0].revents().is_empty(), end: !fds[1].revents().is_empty() },
        // Interrupted: whoever waits looks at the clock again.
        Err(_) => Happened::default(),
    }
}

/// Tells whether a process ends within so much time.
fn ends_within(pidfd: &OwnedFd, limit: Duration) -> bool {
    let until = Instant::now() + limit;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
        if matches!(poll(&mut fds, Some(&timespec(left))), Ok(1..)) {
            return true;
        }
        if left.is_zero() {
            return false;
        }
    }
}

fn timespec(duration: Duration) -> Timespec {
    // The longest wait that the system takes is beyond all time.
    let seconds = duration.as_secs().min(1 << 30);
    Timespec { tv_sec: seconds as i64, tv_nsec: duration.subsec_nanos().into() }
}

/// A handle of a process that stays that process's.
pub(super) fn pidfd(pid: u32) -> std::io::Result<std::os::fd::OwnedFd> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| std::io::Error::other("expected a process number above 0"))?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}
