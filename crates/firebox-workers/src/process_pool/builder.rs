//! The settings of a pool of processes.

use std::ffi::OsString;
use std::time::Duration;

use firebox_core::check;

use super::ProcessPool;
use crate::error::Error;
use crate::launch::Launch;
use crate::pool::Pool;

/// The most bytes of a task or a result, unless something else is asked for.
const MOST_BYTES: usize = 1 << 30;

/// The least private memory with which a process can begin.
const LEAST_MEMORY: u64 = 4 << 20;

/// The settings of a [`ProcessPool`]. [`ProcessPool::builder`] makes it, [`build`](Self::build) checks and
/// uses it.
///
/// ```
/// use std::time::Duration;
/// use firebox_workers::{ProcessPool, WorkersExt as _};
///
/// fn main() -> Result<(), firebox_workers::Error> {
///     firebox_workers::init();
///     let pool = ProcessPool::builder(2)
///         .name("decode")
///         .timeout(Duration::from_secs(10))
///         .env("OMP_NUM_THREADS", "1")
///         .niceness(5)
///         .private_memory(1 << 30)
///         .build()?;
///     assert_eq!(pool.map(|word: String| word.len(), ["fire".to_owned()])?, [4]);
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug)]
pub struct ProcessPoolBuilder {
    workers: usize,
    launch: Launch,
    limit: Option<Duration>,
    most_bytes: usize,
}

impl Pool {
    /// So many worker processes: this program, started again.
    ///
    /// With 0 workers each task runs in the caller when its result is asked for, as for threads.
    ///
    /// # Errors
    /// [`ErrorKind::NoProcess`](crate::ErrorKind::NoProcess) if [`init`](crate::init) was not called, if this
    /// is a worker itself, if the system gives no more processes, or if it is not Linux;
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) beyond 16,384.
    pub fn processes(workers: usize) -> Result<ProcessPool, Error> {
        ProcessPool::builder(workers).build()
    }
}

impl ProcessPool {
    /// A pool of so many worker processes, with settings.
    pub fn builder(workers: usize) -> ProcessPoolBuilder {
        ProcessPoolBuilder::new(workers)
    }
}

impl ProcessPoolBuilder {
    fn new(workers: usize) -> Self {
        let launch = Launch { name: "firebox".to_owned(), ends_with_thread: true, ..Launch::default() };
        ProcessPoolBuilder { workers, launch, limit: None, most_bytes: MOST_BYTES }
    }

    /// Gives the workers a name, which a list of processes shows with the worker's number after it.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.launch.name = name.into();
        self
    }

    /// Gives each task of a stream a time limit: see [`ProcessPool::with_timeout`].
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Sets a variable of the workers' environment, which is this process's otherwise.
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.launch.environment.push((name.into(), Some(value.into())));
        self
    }

    /// Leaves a variable out of the workers' environment.
    pub fn env_remove(mut self, name: impl Into<OsString>) -> Self {
        self.launch.environment.push((name.into(), None));
        self
    }

    /// Gives the workers no variable but those that are set here.
    pub fn env_clear(mut self) -> Self {
        self.launch.clear_environment = true;
        self.launch.environment.clear();
        self
    }

    /// Binds each worker to cores: the first to the first list, and so on, beginning anew after the last.
    pub fn affinity(mut self, cores: impl IntoIterator<Item = Vec<usize>>) -> Self {
        self.launch.affinity = cores.into_iter().collect();
        self
    }

    /// Adds to the workers' niceness, so that others go first (or last: below 0, which the system may
    /// refuse).
    pub fn niceness(mut self, niceness: i32) -> Self {
        self.launch.niceness = Some(niceness);
        self
    }

    /// Limits the memory that a worker has for itself, in bytes (RLIMIT_DATA). What processes share doesn't
    /// count.
    ///
    /// A worker that wants more aborts, as a rule, and is replaced; the incident has the limit.
    pub fn private_memory(mut self, bytes: u64) -> Self {
        self.launch.private_memory = Some(bytes);
        self
    }

    /// Limits a task, and a result, to so many bytes: 1 GiB otherwise.
    pub fn most_bytes(mut self, bytes: usize) -> Self {
        self.most_bytes = bytes;
        self
    }

    /// Has panics come back with a backtrace: see [`RemotePanic`](crate::process_pool::RemotePanic).
    pub fn backtrace(mut self, backtrace: bool) -> Self {
        self.launch.backtrace = backtrace;
        self
    }

    /// Starts the workers.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) for a setting, and as for
    /// [`Pool::processes`](crate::Pool::processes).
    pub fn build(self) -> Result<ProcessPool, Error> {
        let ProcessPoolBuilder { workers, launch, limit, most_bytes } = self;
        check(
            !launch.name.contains(['\0', '/']),
            "name",
            "one without NUL and slash",
            format!("{:?}", launch.name),
        )?;
        for (name, value) in &launch.environment {
            let bad = |text: &OsString| text.as_encoded_bytes().contains(&0);
            let is_name = !name.is_empty() && !name.as_encoded_bytes().contains(&b'=') && !bad(name);
            check(is_name, "env", "a name without = and NUL", format!("{name:?}"))?;
            let value = value.clone().unwrap_or_default();
            check(!bad(&value), "env", "a value without NUL", format!("{value:?}"))?;
        }
        let cores = launch.affinity.iter().find(|cores| cores.is_empty());
        check(cores.is_none(), "affinity", "at least one core for each worker", "none")?;
        let memory = launch.private_memory.unwrap_or(LEAST_MEMORY);
        check(memory >= LEAST_MEMORY, "private memory", format!("at least {LEAST_MEMORY} bytes"), memory)?;
        #[cfg(target_os = "linux")]
        return ProcessPool::new(workers, launch, limit, most_bytes);
        #[cfg(not(target_os = "linux"))]
        return Err(ProcessPool::unavailable(workers, limit, most_bytes));
    }
}
