//! The behavior of the trainer, its tasks and what they are made of: a module a topic.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod checkpoint;
mod common;
mod frechet;
mod metrics;
mod optimizer;
mod run;
mod schedule;
mod tasks;
mod tied;
