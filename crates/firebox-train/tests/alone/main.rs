//! Runs in processes of their own: with a limit on what they may write, and with a program that is replaced.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../it/common.rs"]
mod common;
mod full_disk;
mod provenance;
