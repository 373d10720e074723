//! Worker processes that are killed, and what is left of them: one test at a time, since each looks at all of
//! its process.

#![cfg(all(feature = "processes", target_os = "linux"))]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test may panic, and a program of a test may print"
)]

mod cost;
mod ends;
mod kills;
mod leftovers;
#[cfg(feature = "tracing")]
mod logs;
mod poison;
mod reports;
mod shared;
mod work;

firebox_workers::test_worker!();
