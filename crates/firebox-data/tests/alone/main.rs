//! Tests that measure or count what their whole process has, one after the other.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

#[cfg(feature = "processes")]
mod kills;
mod lifetime;
#[cfg(feature = "processes")]
#[path = "../it/processes/recipes.rs"]
#[allow(dead_code, reason = "not all of them are of use here")]
mod recipes;
#[cfg(feature = "processes")]
#[path = "../it/processes/shards.rs"]
#[allow(dead_code, reason = "not all of them are of use here")]
mod shards;
mod trillion;

#[cfg(feature = "processes")]
firebox_workers::test_worker!();

/// Waits for the turn of a test.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a test of this binary once more, in a process where nothing has happened before it.
#[track_caller]
fn in_a_process_of_its_own(test: &str, variables: &[(&str, &str)]) {
    let mut again = Command::new(std::env::current_exe().unwrap());
    let again = again.args(["--exact", test, "--nocapture"]).envs(variables.iter().copied());
    let ended = again.output().unwrap();
    let text = [ended.stdout, ended.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(ended.status.success(), "{text}");
    assert!(text.contains("1 passed"), "no such test: {text}");
}
