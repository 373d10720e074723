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
