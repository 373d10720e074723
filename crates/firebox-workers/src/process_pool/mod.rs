//! A pool of worker processes.
//!
//! ```text
//! WorkersExt ── pack: Errand ──▶ queue ──▶ attendant 0 ══ worker process 0
//!                                     └──▶ attendant 1 ══ worker process 1
//! ```
//!
//! Each worker process has a thread here that attends to it, and each task that is out is in the hands of one
//! attendant: an `Errand`, which has the task itself and the duty to answer it. So what is
//! out is known without a list, and what a dead worker had goes out again with nobody having kept a copy.
//!
//! An attendant waits for its worker's answer, its death, and the clock, all at once. What it hears it
//! believes only as far as it was checked.

#[cfg(target_os = "linux")]
mod attendant;
#[cfg(target_os = "linux")]
mod boxes;
#[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "what is made for processes only"))]
mod builder;
#[cfg(not(target_os = "linux"))]
mod elsewhere;
#[cfg(target_os = "linux")]
mod errand;
mod packed;
#[cfg(target_os = "linux")]
mod pool;
#[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "what is made for processes only"))]
mod remote_error;
mod remote_work;
#[cfg(target_os = "linux")]
mod serve;
#[cfg(target_os = "linux")]
mod settings;
#[cfg(target_os = "linux")]
mod shared;

pub use builder::ProcessPoolBuilder;
#[cfg(not(target_os = "linux"))]
pub use elsewhere::{ProcessParcel, ProcessPool, init};
pub use packed::Packed;
#[cfg(target_os = "linux")]
pub use pool::ProcessPool;
pub use remote_error::{RemoteError, RemotePanic};
pub use remote_work::{Crosses, RemoteWork};
#[cfg(target_os = "linux")]
pub use shared::ProcessParcel;

#[doc(hidden)]
pub use remote_work::{described, read_settings, write_settings};
