//! The same program started again, in the role of a worker.
//!
//! ```text
//! parent                                     worker
//! Launch::start ── /proc/self/exe, argv[0] ─▶ init (role) ─▶ worker::run
//!               ── Hello: who, limits ──────▶ settle
//!  until_ready ◀── Ready ─────────────────── serve
//!      channel ── Task: entry, settings, … ─▶ entry::at, Call
//!              ◀── Reply ─────────────────── Call::answer
//! ```
//!
//! Frames go over a socket that keeps their bounds (`frame`), what doesn't fit goes through shared memory,
//! and values are bytes as `wire` writes them. What a worker is to run is a function of the program, told by
//! its place (`entry`). While it runs, parent and worker tell each other a few numbers by one shared page
//! (`control_page`).
//!
//! The parent believes a worker nothing: whatever it sends, or writes to memory that both see, ends in a
//! result, in an error that says what came instead, or in its replacement.

/// Atomics, which a test has in another form.
mod atomic {
    pub(super) use std::sync::atomic::{AtomicU64, Ordering};
}

pub(crate) mod call;
pub(crate) mod child;
pub(crate) mod control_page;
#[cfg(test)]
mod control_page_tests;
pub(crate) mod entry;
pub(crate) mod frame;
pub(crate) mod launch;
#[cfg(feature = "tracing")]
pub(crate) mod log;
pub(crate) mod role;
pub(crate) mod task;
mod watch;
pub(crate) mod wire;
pub(crate) mod worker;

pub use worker::init;
