//! The loader with worker processes: the same batches as with threads, whatever becomes of the processes.
#![cfg(all(feature = "processes", target_os = "linux"))]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

firebox_workers::test_worker!();

mod deaths;
mod recipes;
mod same;
mod sealed;
mod shards;
mod streams;
