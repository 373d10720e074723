//! What workers promise.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod dispatch;
mod pool;
