//! The behavior of the trainer, its tasks and what they are made of: a module a topic.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod adversarial;
mod bad_batches;
mod checkpoint;
mod common;
mod continuation;
mod empty_batches;
mod frechet;
mod guards;
mod hooks;
mod language_modeling;
mod lr_finder;
mod metrics;
mod mistakes;
mod optimizer;
mod predict;
mod regression;
mod resume;
mod run_dir;
mod schedule;
mod tied;
mod trainer;
mod translation;
