//! A data set with a fingerprint of one's own.

use super::{Dataset, Fingerprint, Lineage, Location};
use crate::error::BoxError;

/// A data set with a fingerprint of one's own.
///
/// Such as one with a hash of what the items were made from, which a `Vec` can't have.
///
/// ```
/// use firebox_data::Dataset;
/// use firebox_data::dataset::Described;
///
/// let words = vec!["fire", "box"];
/// let fingerprint = words.fingerprint().with_contents(words.join("\n"));
/// let words = Described::new(words, fingerprint);
/// assert_eq!(words.get(1)?, "box");
/// # Ok::<(), firebox_data::BoxError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Described<D> {
    dataset: D,
    fingerprint: Fingerprint,
}

impl<D: Dataset> Described<D> {
    /// The items of `dataset`, told by `fingerprint`.
    pub fn new(dataset: D, fingerprint: Fingerprint) -> Self {
        Described { dataset, fingerprint }
    }
}

impl<D: Dataset> Dataset for Described<D> {
    type Item = D::Item;

    fn len(&self) -> usize {
        self.dataset.len()
    }

    fn is_empty(&self) -> bool {
        self.dataset.is_empty()
    }

    fn get(&self, index: usize) -> Result<D::Item, BoxError> {
        self.dataset.get(index)
    }

    fn get_many(&self, indices: &[usize]) -> Vec<Result<D::Item, BoxError>> {
        self.dataset.get_many(indices)
    }

    fn reads_many(&self) -> bool {
        self.dataset.reads_many()
    }

    fn locate(&self, index: usize) -> Option<Location> {
        self.dataset.locate(index)
    }

    fn fingerprint(&self) -> Fingerprint {
        self.fingerprint.clone()
    }

    fn lineage(&self) -> Lineage {
        self.dataset.lineage()
    }
}
