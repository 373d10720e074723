//! Data sets in an `Arc` or a `Box`.

use std::sync::Arc;

use super::{Dataset, Fingerprint, Lineage, Location};
use crate::error::BoxError;

macro_rules! forward {
    ($pointer:ident) => {
        impl<D: Dataset + ?Sized> Dataset for $pointer<D> {
            type Item = D::Item;

            fn len(&self) -> usize {
                (**self).len()
            }

            fn is_empty(&self) -> bool {
                (**self).is_empty()
            }

            fn get(&self, index: usize) -> Result<D::Item, BoxError> {
                (**self).get(index)
            }

            fn get_many(&self, indices: &[usize]) -> Vec<Result<D::Item, BoxError>> {
                (**self).get_many(indices)
            }

            fn reads_many(&self) -> bool {
                (**self).reads_many()
            }

            fn locate(&self, index: usize) -> Option<Location> {
                (**self).locate(index)
            }

            fn fingerprint(&self) -> Fingerprint {
                (**self).fingerprint()
            }

            fn lineage(&self) -> Lineage {
                (**self).lineage()
            }
        }
    };
}

forward!(Arc);
forward!(Box);
