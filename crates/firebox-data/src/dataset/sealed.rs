//! Items in memory that all processes have.

use bytemuck::Pod;
use firebox_workers::sync::SealedArray;

use super::{Dataset, Fingerprint, many};
use crate::error::BoxError;

/// As good as a slice, and told by a resume as one; to another process it goes without a copy.
impl<T: Pod + Send + Sync> Dataset for SealedArray<T> {
    type Item = T;

    fn len(&self) -> usize {
        self[..].len()
    }

    fn get(&self, index: usize) -> Result<T, BoxError> {
        self[..].get(index).copied().ok_or_else(|| many::out_of_range(index, self[..].len()))
    }

    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of_type::<[T]>(self[..].len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_array_is_a_data_set_like_a_vector() {
        let vector = vec![3u16, 4, 5];
        let sealed = SealedArray::from_slice(&vector).unwrap();
        assert_eq!((Dataset::len(&sealed), Dataset::get(&sealed, 2).unwrap()), (3, 5));
        assert_eq!(sealed.fingerprint(), vector.fingerprint());
        let error = Dataset::get(&sealed, 3).unwrap_err().to_string();
        assert_eq!(error, Dataset::get(&vector, 3).unwrap_err().to_string());
    }
}
