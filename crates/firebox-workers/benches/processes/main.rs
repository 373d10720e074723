//! Worker processes beside worker threads and Python's pools.
//!
//!     cargo bench -p firebox-workers --bench processes -- [SECTION or PEER …] [ROUNDS]
//!
//! Sections are squares, bytes, round-trip, crossing, start, memory, idle, cores and waiting; other words are
//! peers. Without any, all take part. Figures are medians of rounds, in which everybody takes a turn; ratios
//! are medians of the rounds' ratios. Python's sides need the environment that `benches/peers/compare` makes;
//! without it they are left out, and it says so.

#[cfg(target_os = "linux")]
mod linux;

fn main() {
    // Elsewhere there are no worker processes.
    #[cfg(target_os = "linux")]
    linux::main();
}
