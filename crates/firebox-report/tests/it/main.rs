//! What callbacks of a run write: tables, event files, pages.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may panic, and says what it skips")]

mod common;
mod csv_log;
mod live_report;
mod pages;
mod tensorboard;
