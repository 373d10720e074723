//! Tests that need a build with more features than the default ones:
//!
//!     cargo build --profile quick --features ndarray,wgpu,tui --example training
//!     cargo test --profile quick --features ndarray,wgpu,tui --test backends

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may panic, and says what it skips")]

#[cfg(target_os = "linux")]
mod dashboard;
mod losses;
#[allow(dead_code, reason = "not all tests need all of it")]
#[path = "../common/program.rs"]
mod program;
#[path = "../it/pytorch.rs"]
mod pytorch;
