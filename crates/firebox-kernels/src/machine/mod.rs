//! The machine that kernels run on: its vector instructions, threads and memory.

#[cfg(feature = "flex")]
pub(crate) mod memory;
pub(crate) mod simd;
#[cfg(feature = "flex")]
pub(crate) mod tasks;

mod allocator;
mod compute_threads;

pub use compute_threads::start_compute_threads;
pub use simd::{Instructions, instructions, limit_instructions};
