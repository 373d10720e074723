//! The loader over data sets: order, resuming, errors, bounds.

mod accidents;
mod bounds;
mod coverage;
mod faults;
mod promises;
mod resume;
mod schedule;
mod sources;
mod stages;

/// The workers and readers of a loader.
#[derive(Clone, Copy, Debug)]
struct Threads {
    workers: usize,
    readers: Option<usize>,
}
