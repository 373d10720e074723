//! What workers promise.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod bytes;
mod conformance;
mod dispatch;
mod pool;
mod threads;
