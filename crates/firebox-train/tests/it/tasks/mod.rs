//! The tasks that are there, and batches that don't fit them.

mod adversarial;
mod bad_batches;
mod classification;
mod empty_batches;
mod language_modeling;
mod predict;
mod regression;
mod translation;
