//! Some of the indices.

use std::ops::Range;
use std::sync::Arc;

use firebox_core::seed::fingerprint;

use crate::sampler::{Sampler, Sequential, Shuffled, check_position};

/// Only the given indices, in the order of another sampler. Holds one table.
///
/// ```
/// use firebox_data::sampler::{Sampler, SubsetSampler};
///
/// let odd = SubsetSampler::new([1, 3, 5]);
/// assert_eq!((odd.len(), odd.index(0, 2)), (3, 5));
/// ```
pub struct SubsetSampler<S> {
    indices: Arc<[usize]>,
    order: S,
}

impl SubsetSampler<Sequential> {
    /// The indices as they are listed.
    pub fn new(indices: impl Into<Arc<[usize]>>) -> Self {
        let indices = indices.into();
        SubsetSampler { order: Sequential::new(indices.len()), indices }
    }

    /// The indices in another random order each epoch.
    pub fn shuffled(self, seed: u64) -> SubsetSampler<Shuffled> {
        SubsetSampler { order: Shuffled::new(self.indices.len(), seed), indices: self.indices }
    }
}

impl<S: Sampler> Sampler for SubsetSampler<S> {
    fn len(&self) -> usize {
        self.order.len()
    }

    fn index(&self, epoch: u64, position: usize) -> usize {
        check_position(position, self.len());
        self.indices[self.order.index(epoch, position)]
    }

    fn global_position(&self, epoch: u64, position: usize) -> u64 {
        self.order.global_position(epoch, position)
    }

    fn global_positions(&self, epoch: u64, positions: Range<usize>, global: &mut Vec<u64>) {
        self.order.global_positions(epoch, positions, global);
    }

    fn global_len(&self) -> u64 {
        self.order.global_len()
    }

    fn describe(&self) -> String {
        let table = fingerprint(self.indices.iter().map(|&index| index as u64));
        format!("subset({table:016x}) in the order {}", self.order.describe())
    }
}
