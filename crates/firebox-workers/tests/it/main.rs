//! What workers promise.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod bytes;
mod conformance;
mod dispatch;
mod pool;
mod threads;

/// Numbers of workers that every behavior is seen with.
const WORKERS: [usize; 4] = [0, 1, 2, 5];
