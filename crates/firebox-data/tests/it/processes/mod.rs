//! The loader with worker processes: the same batches as with threads, whatever becomes of the processes.

mod deaths;
mod recipes;
mod same;
mod sealed;
mod shards;
mod streams;
