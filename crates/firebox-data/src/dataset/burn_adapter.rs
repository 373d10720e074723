//! Burn's data sets as ours, and ours as Burn's.

use std::error::Error as StdError;
use std::fmt;
use std::marker::PhantomData;

use burn_dataset::DatasetError;

use super::{Dataset, Fingerprint, many};
use crate::error::BoxError;

/// A data set of Burn's as one of this crate's.
///
/// ```
/// use burn_dataset::InMemDataset;
/// use firebox_data::Dataset;
/// use firebox_data::dataset::FromBurn;
///
/// let numbers = FromBurn::new(InMemDataset::new(vec![7, 8, 9]));
/// assert_eq!((numbers.len(), numbers.get(1)?), (3, 8));
/// # Ok::<(), firebox_data::BoxError>(())
/// ```
pub struct FromBurn<D, I, E = DatasetError> {
    dataset: D,
    item: PhantomData<fn() -> (I, E)>,
}

impl<D, I, E> FromBurn<D, I, E>
where
    D: burn_dataset::Dataset<I, E> + 'static,
    I: Send + 'static,
    E: StdError + Send + Sync + 'static,
{
    /// The items of a data set of Burn's.
    pub fn new(dataset: D) -> Self {
        FromBurn { dataset, item: PhantomData }
    }
}

impl<D, I, E> Dataset for FromBurn<D, I, E>
where
    D: burn_dataset::Dataset<I, E> + 'static,
    I: Send + 'static,
    E: StdError + Send + Sync + 'static,
{
    type Item = I;

    fn len(&self) -> usize {
        self.dataset.len()
    }

    fn is_empty(&self) -> bool {
        self.dataset.is_empty()
    }

    /// Burn's panic at an index that they don't have; this one is an error.
    fn get(&self, index: usize) -> Result<I, BoxError> {
        match index < self.len() {
            true => Ok(self.dataset.get(index)?),
            false => Err(many::out_of_range(index, self.len())),
        }
    }

    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of_type::<D>(self.len())
    }
}

/// A data set of this crate's as one of Burn's.
///
/// ```
/// use std::sync::Arc;
/// use burn_dataset::Dataset;
/// use firebox_data::dataset::{IntoBurn, Map};
///
/// let squares = IntoBurn::new(Map::new(vec![1, 2, 3], |number: i32| number * number));
/// let squares: Arc<dyn Dataset<i32>> = Arc::new(squares);
/// assert_eq!(squares.get(2)?, 9);
/// # Ok::<(), burn_dataset::DatasetError>(())
/// ```
pub struct IntoBurn<D>(D);

impl<D: Dataset> IntoBurn<D> {
    /// The items of a data set of this crate's.
    pub fn new(dataset: D) -> Self {
        IntoBurn(dataset)
    }
}

impl<D: Dataset> burn_dataset::Dataset<D::Item> for IntoBurn<D> {
    fn get(&self, index: usize) -> Result<D::Item, DatasetError> {
        assert!(index < self.0.len(), "index {index} of a data set of {}", self.0.len());
        self.0.get(index).map_err(|error| DatasetError::new(Cause(error)))
    }

    /// The items, or the first error of one of them.
    fn get_many(&self, indices: Vec<usize>) -> Result<Vec<D::Item>, DatasetError> {
        let len = self.0.len();
        if let Some(index) = indices.iter().find(|index| **index >= len) {
            panic!("index {index} of a data set of {len}");
        }
        let items = many::answers(&self.0, &indices).into_iter();
        items.collect::<Result<_, _>>().map_err(|error| DatasetError::new(Cause(error)))
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Any error as one that Burn takes.
struct Cause(BoxError);

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl StdError for Cause {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&*self.0)
    }
}
