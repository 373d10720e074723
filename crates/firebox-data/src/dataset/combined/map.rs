//! Every item through a function.

use crate::dataset::{Dataset, Fingerprint, Lineage, Location};
use crate::error::BoxError;

/// A data set whose items are a function of another's.
///
/// The function is called each time an item is read; what is random belongs into the loader's transform,
/// which has random numbers of its own.
///
/// ```
/// use firebox_data::Dataset;
/// use firebox_data::dataset::Map;
///
/// let squares = Map::new(vec![1, 2, 3], |number| number * number);
/// assert_eq!(squares.get(2)?, 9);
/// # Ok::<(), firebox_data::BoxError>(())
/// ```
pub struct Map<D, F> {
    dataset: D,
    function: F,
    lineage: Lineage,
}

impl<D: Dataset, F> Map<D, F> {
    /// `function` of each item of `dataset`.
    pub fn new<O>(dataset: D, function: F) -> Self
    where
        F: Fn(D::Item) -> O,
    {
        Map { lineage: dataset.lineage(), dataset, function }
    }
}

impl<D, O, F> Dataset for Map<D, F>
where
    D: Dataset,
    O: Send + 'static,
    F: Fn(D::Item) -> O + Send + Sync + 'static,
{
    type Item = O;

    fn len(&self) -> usize {
        self.dataset.len()
    }

    fn is_empty(&self) -> bool {
        self.dataset.is_empty()
    }

    fn get(&self, index: usize) -> Result<O, BoxError> {
        self.dataset.get(index).map(&self.function)
    }

    fn get_many(&self, indices: &[usize]) -> Vec<Result<O, BoxError>> {
        self.dataset.get_many(indices).into_iter().map(|item| item.map(&self.function)).collect()
    }

    fn reads_many(&self) -> bool {
        self.dataset.reads_many()
    }

    fn locate(&self, index: usize) -> Option<Location> {
        self.dataset.locate(index)
    }

    fn fingerprint(&self) -> Fingerprint {
        self.dataset.fingerprint().within(self.len(), "map")
    }

    fn lineage(&self) -> Lineage {
        self.lineage.clone()
    }
}
