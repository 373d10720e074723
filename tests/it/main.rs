//! The crates together, and the examples as a person runs them.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may panic, and says what it skips")]

mod burn_train;
mod examples;
mod metrics;
mod pytorch;
mod readme;
mod roundtrip;
mod sequences;
mod steps;
