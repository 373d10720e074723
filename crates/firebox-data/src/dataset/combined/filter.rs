//! The items that fulfil a condition.

use std::sync::Arc;

use crate::dataset::{Dataset, Fingerprint, Lineage, Location, many};
use crate::error::{BoxError, Error, ErrorKind};

/// The items of a data set that fulfil a condition, in their order.
///
/// Holds one table of their indices, made once: that is why its length is exact.
///
/// ```
/// use firebox_data::Dataset;
/// use firebox_data::dataset::Filter;
///
/// let even = Filter::new(vec![1, 2, 3, 4], |number| number % 2 == 0)?;
/// assert_eq!((even.len(), even.get(1)?), (2, 4));
/// # Ok::<(), firebox_data::BoxError>(())
/// ```
#[derive(Debug)]
pub struct Filter<D> {
    dataset: D,
    indices: Arc<[usize]>,
    lineage: Lineage,
}

impl<D: Dataset> Filter<D> {
    /// Reads every item to see whether it fulfils the condition.
    ///
    /// # Errors
    /// [`ErrorKind::Dataset`] if an item can't be read; it names the item.
    pub fn new(dataset: D, condition: impl Fn(&D::Item) -> bool) -> Result<Self, Error> {
        let lineage = dataset.lineage();
        let mut indices = Vec::new();
        for index in 0..dataset.len() {
            let item = dataset.get(index).map_err(|error| {
                Error::new(ErrorKind::Dataset, "filter: the data set failed")
                    .at_index(index)
                    .at_row(lineage.row(index))
                    .at_place(lineage.describe(index))
                    .caused_by(error)
            })?;
            if condition(&item) {
                indices.push(index);
            }
        }
        let indices: Arc<[usize]> = indices.into();
        let own = Arc::clone(&indices);
        let lineage = lineage.part(move |index| (*own).get(index).copied());
        Ok(Filter { dataset, indices, lineage })
    }
}

impl<D> Filter<D> {
    /// The index, in the data set that this is a part of, of this part's item `index`.
    ///
    /// # Panics
    /// If there is no such item, as a slice does.
    pub fn index_in_whole(&self, index: usize) -> usize {
        self.indices[index]
    }

    fn row(&self, index: usize) -> Option<usize> {
        (*self.indices).get(index).copied()
    }
}

impl<D: Dataset> Dataset for Filter<D> {
    type Item = D::Item;

    fn len(&self) -> usize {
        self.indices.len()
    }

    fn get(&self, index: usize) -> Result<D::Item, BoxError> {
        let row = self.row(index).ok_or_else(|| many::out_of_range(index, self.len()))?;
        self.dataset.get(row)
    }

    fn get_many(&self, indices: &[usize]) -> Vec<Result<D::Item, BoxError>> {
        many::of_part(&self.dataset, indices, self.len(), |index| self.row(index))
    }

    fn reads_many(&self) -> bool {
        self.dataset.reads_many()
    }

    fn locate(&self, index: usize) -> Option<Location> {
        self.dataset.locate(self.row(index)?)
    }

    fn fingerprint(&self) -> Fingerprint {
        let rows = self.indices.iter().map(|row| *row as u64);
        self.dataset.fingerprint().within(self.len(), "filter").with_words(rows)
    }

    fn lineage(&self) -> Lineage {
        self.lineage.clone()
    }
}
