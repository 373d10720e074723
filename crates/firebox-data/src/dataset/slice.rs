//! Items in memory.

use super::{Dataset, Fingerprint, many};
use crate::error::BoxError;

/// Slices, in an `Arc` or a `Box`; items are cloned when they are given out.
impl<T: Clone + Send + Sync + 'static> Dataset for [T] {
    type Item = T;

    fn len(&self) -> usize {
        self.len()
    }

    fn get(&self, index: usize) -> Result<T, BoxError> {
        self.get(index).cloned().ok_or_else(|| many::out_of_range(index, self.len()))
    }
}

/// A vector is as good as a slice, and told by a resume as one.
impl<T: Clone + Send + Sync + 'static> Dataset for Vec<T> {
    type Item = T;

    fn len(&self) -> usize {
        self.len()
    }

    fn get(&self, index: usize) -> Result<T, BoxError> {
        Dataset::get(self.as_slice(), index)
    }

    fn fingerprint(&self) -> Fingerprint {
        self.as_slice().fingerprint()
    }
}
