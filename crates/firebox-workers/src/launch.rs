//! Settings that worker processes are started with.

use std::ffi::OsString;

/// The settings of worker processes.
#[derive(Clone, Debug, Default)]
#[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "there are no such processes"))]
pub(crate) struct Launch {
    /// The name in a list of processes, with a number after it.
    pub(crate) name: String,
    pub(crate) clear_environment: bool,
    /// Variables of the environment: their values, or that they are not there.
    pub(crate) environment: Vec<(OsString, Option<OsString>)>,
    /// The cores of each worker, beginning anew after the last.
    pub(crate) affinity: Vec<Vec<usize>>,
    pub(crate) niceness: Option<i32>,
    /// The bytes of memory that a worker may have for itself.
    pub(crate) private_memory: Option<u64>,
    /// True if a panic takes a backtrace along.
    pub(crate) backtrace: bool,
    /// True if the process ends with the thread that started it, by the kernel's hand.
    pub(crate) ends_with_thread: bool,
}
