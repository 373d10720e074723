//! Promises of workers.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod bytes;
#[cfg(all(feature = "processes", target_os = "linux"))]
mod closures;
mod conformance;
#[cfg(all(feature = "processes", target_os = "linux"))]
mod control_page;
mod dispatch;
mod pool;
#[cfg(all(feature = "processes", target_os = "linux"))]
mod process_pool;
#[cfg(all(feature = "processes", target_os = "linux"))]
mod processes;
#[cfg(all(feature = "processes", target_os = "linux"))]
mod signals;
#[cfg(all(feature = "processes", target_os = "linux"))]
mod sync;
mod threads;

#[cfg(all(feature = "processes", target_os = "linux"))]
firebox_workers::test_worker!();

/// Numbers of workers that every behavior is seen with.
const WORKERS: [usize; 4] = [0, 1, 2, 5];
