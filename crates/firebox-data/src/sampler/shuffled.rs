//! Another random order each epoch.

use std::ops::Range;
use std::sync::Mutex;

use crate::permutation::Permutation;
use crate::sampler::Sampler;
use crate::seed::{Stream, derive_seed};

/// Every index once an epoch, in another random order each epoch: a keyed [`Permutation`].
#[derive(Debug)]
pub struct Shuffled {
    len: usize,
    seed: u64,
    /// The epoch's permutation, where it is a table. A cache: what it holds follows from (len, seed, epoch).
    table: Mutex<Option<(u64, Permutation)>>,
}

impl Shuffled {
    /// Random orders of a data set with `len` items, fixed by `seed`.
    pub fn new(len: usize, seed: u64) -> Self {
        Shuffled { len, seed, table: Mutex::new(None) }
    }

    fn permutation(&self, epoch: u64) -> Permutation {
        Permutation::new(self.len, derive_seed(self.seed, Stream::Order, epoch, 0))
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
        // A poisoned lock means that a position out of range panicked under it; the table is whole.
        let mut table = self.table.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        match &*table {
            Some((cached, permutation)) if *cached == epoch => permutation.apply(position),
            _ => table.insert((epoch, self.permutation(epoch))).1.apply(position),
        }
    }

    fn indices(&self, epoch: u64, positions: Range<usize>, indices: &mut Vec<usize>) {
        match Permutation::is_stored(self.len) {
            true => indices.extend(positions.map(|position| self.index(epoch, position))),
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
