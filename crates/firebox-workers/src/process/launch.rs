//! How a worker process is started, and what it is told first.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use super::child::Child;
use super::control_page;
use super::frame::{Channel, Header, Kind};
use super::role::{self, Role};
use super::watch::Watch;
use super::wire;
use crate::error::{Error, ErrorKind};
pub(crate) use crate::launch::Launch;
use crate::sync::memory::Memory;

/// The first message to a worker.
#[derive(Debug, PartialEq)]
pub(super) struct Hello {
    pub(super) id: usize,
    pub(super) affinity: Vec<usize>,
    pub(super) niceness: Option<i32>,
    pub(super) private_memory: Option<u64>,
    pub(super) backtrace: bool,
    pub(super) ends_with_thread: bool,
    /// True if the standard output comes along, since the one that it was started with is none.
    pub(super) has_stdout: bool,
    /// The level up to which the parent wants records of the worker's log; 0 for none.
    pub(super) log: u8,
}

type HelloFields = (u64, Vec<u64>, Option<i32>, Option<u64>, bool, bool, bool, u8);

impl Hello {
    fn to_bytes(&self) -> Result<Vec<u8>, wire::WireError> {
        let affinity: Vec<u64> = self.affinity.iter().map(|&core| core as u64).collect();
        let fields: HelloFields = (
            self.id as u64,
            affinity,
            self.niceness,
            self.private_memory,
            self.backtrace,
            self.ends_with_thread,
            self.has_stdout,
            self.log,
        );
        wire::to_vec(&fields)
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, wire::WireError> {
        let fields: HelloFields = wire::from_slice(bytes)?;
        let (id, affinity, niceness, private_memory, backtrace, ends_with_thread, has_stdout, log) = fields;
        let affinity = affinity.into_iter().map(|core| core as usize).collect();
        let id = id as usize;
        Ok(Hello { id, affinity, niceness, private_memory, backtrace, ends_with_thread, has_stdout, log })
    }
}

impl Launch {
    /// Starts a worker process. It is not waited for: see [`Child::until_ready`].
    ///
    /// `ended` is called in another thread when the process has ended.
    ///
    /// # Errors
    /// [`ErrorKind::NoProcess`] if this program can't have workers, or the system has no more processes to
    /// give.
    pub(crate) fn start(&self, id: usize, ended: impl FnOnce() + Send + 'static) -> Result<Child, Error> {
        role::check()?;
        let label = format!("{}-{id}", self.name);
        let failed = |what: &str, error: std::io::Error| {
            Error::new(ErrorKind::NoProcess, format!("worker process {label}: {what}")).caused_by(error)
        };
        let control = Memory::new("firebox-control", control_page::BYTES)?;
        let (channel, there) = Channel::pair().map_err(|error| failed("no socket", error.into()))?;
        // The file itself, whatever its name means by now: parent and worker have to be the same program.
        let mut command = Command::new("/proc/self/exe");
        command.arg0(Role::name(&label)).args(role::arguments());
        if self.clear_environment {
            command.env_clear();
        }
        for (name, value) in &self.environment {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        // The harness of tests has a word to say before the worker comes to its turn.
        let has_stdout = role::in_test().is_some();
        if has_stdout {
            command.stdout(Stdio::null());
        }
        // Its own group: what a terminal sends to ours, for Ctrl-C, is for the parent to hear.
        command.process_group(0).stdin(Stdio::from(there)).stderr(Stdio::piped());
        let mut process = command.spawn().map_err(|error| failed("not started", error))?;
        let stderr = process.stderr.take();
        let mut child = Child::new(process, channel, control).map_err(|error| failed("no handle", error))?;
        let pidfd = child.pidfd().try_clone_to_owned().map_err(|error| failed("no handle", error))?;
        if let Some(stderr) = stderr {
            let watch = Watch::new(&label, stderr, pidfd, ended);
            child.watch = Some(watch.map_err(|error| failed("no thread", error))?);
        }
        let affinity = match self.affinity.len() {
            0 => Vec::new(),
            workers => self.affinity[id % workers].clone(),
        };
        let hello = Hello {
            id,
            affinity,
            niceness: self.niceness,
            private_memory: self.private_memory,
            backtrace: self.backtrace,
            ends_with_thread: self.ends_with_thread,
            has_stdout,
            log: wanted_log(),
        };
        let bytes = hello.to_bytes().map_err(|error| failed("its settings", std::io::Error::other(error)))?;
        let stdout = std::io::stdout();
        let mut fds: Vec<BorrowedFd<'_>> = vec![child.control_file()];
        if has_stdout {
            fds.push(stdout.as_fd());
        }
        let header = Header { kind: Kind::Hello, task: 0, boxed: 0 };
        // A worker that is gone already is seen to where all others are.
        let _ = child.channel().send(header, &bytes, &fds);
        Ok(child)
    }
}

/// The level up to which this process wants records of its workers.
fn wanted_log() -> u8 {
    #[cfg(feature = "tracing")]
    return super::log::wanted();
    #[cfg(not(feature = "tracing"))]
    return 0;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_message_comes_back_as_it_was() {
        let hello = Hello {
            id: 3,
            affinity: vec![0, 5],
            niceness: Some(-2),
            private_memory: Some(1 << 40),
            backtrace: true,
            ends_with_thread: false,
            has_stdout: true,
            log: 3,
        };
        assert_eq!(Hello::from_bytes(&hello.to_bytes().unwrap()).unwrap(), hello);
        assert!(Hello::from_bytes(&[1, 2, 3]).is_err());
    }
}
