//! Another random order each epoch.

use std::ops::Range;

use firebox_core::{Purpose, derive_seed};

use crate::sampler::Permutation;
use crate::sampler::Sampler;
use crate::sampler::per_epoch::PerEpoch;

/// Every index once an epoch, in another random order each epoch: a keyed [`Permutation`].
///
/// ```
/// use firebox_data::sampler::{Sampler, Shuffled};
///
/// let order = Shuffled::new(10, 42);
/// let mut epoch: Vec<usize> = (0..10).map(|position| order.index(0, position)).collect();
/// epoch.sort();
/// assert_eq!(epoch, (0..10).collect::<Vec<_>>());
/// ```
#[derive(Debug)]
pub struct Shuffled {
    len: usize,
    seed: u64,
    /// The permutations that are tables.
    tables: PerEpoch<Permutation>,
}

impl Shuffled {
    /// Random orders of a data set with `len` items, fixed by `seed`.
    pub fn new(len: usize, seed: u64) -> Self {
        Shuffled { len, seed, tables: PerEpoch::new() }
    }

    fn permutation(&self, epoch: u64) -> Permutation {
        Permutation::new(self.len, derive_seed(self.seed, Purpose::Order, epoch, 0))
    }
}

impl Sampler for Shuffled {
    fn len(&self) -> usize {
        self.len
    }

    fn index(&self, epoch: u64, position: usize) -> usize {
        if !Permutation::is_stored(self.len) {
            return self.permutation(epoch).apply(position);
        }
        self.tables.get(epoch, || self.permutation(epoch)).apply(position)
    }

    fn indices(&self, epoch: u64, positions: Range<usize>, indices: &mut Vec<usize>) {
        match Permutation::is_stored(self.len) {
            true => self.tables.get(epoch, || self.permutation(epoch)).apply_all(positions, indices),
            false => self.permutation(epoch).apply_all(positions, indices),
        }
    }

    fn describe(&self) -> String {
        format!("shuffled(len {}, seed {})", self.len, self.seed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_holds_every_index_once_and_another_epoch_another_order() {
        for len in [0, 1, 2, 10, 4095, 4096, 10_007] {
            let sampler = Shuffled::new(len, 42);
            let order = |epoch| (0..len).map(|p| sampler.index(epoch, p)).collect::<Vec<_>>();
            let (first, second) = (order(0), order(1));
            assert_eq!(first, order(0), "asked again after another epoch");
            let mut at_once = vec![7];
            sampler.indices(0, 0..len / 3, &mut at_once);
            sampler.indices(0, len / 3..len, &mut at_once);
            assert_eq!(at_once[1..], first);
            let mut sorted = first.clone();
            sorted.sort_unstable();
            assert!(sorted.into_iter().eq(0..len));
            assert!(len < 3 || first != second);
        }
    }
}
