//! Counts of deliveries.

/// Counts of what a stream of batches has delivered so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delivered {
    /// Batches.
    pub batches: usize,
    /// Samples in them.
    pub samples: usize,
    /// Samples that they went without.
    pub skipped: usize,
}
