//! The items that fulfil a condition.

use std::error::Error;
use std::sync::Arc;

use burn_dataset::Dataset;

use super::origin::{Origin, Part, known, origin_of};

/// The items of a data set that fulfil a condition, in their order. Holds one table of their indices, made once:
/// that is why its length is exact.
#[derive(Debug)]
pub struct Filter<D> {
    dataset: D,
    indices: Arc<[usize]>,
    origin: Origin,
}

impl<D: 'static> Part for Filter<D> {
    fn origin(&self) -> Origin {
        self.origin.clone()
    }
}

impl<D: 'static> Filter<D> {
    /// Reads every item to see whether it fulfils the condition.
    ///
    /// # Errors
    /// The data set's.
    pub fn new<I, E>(dataset: D, condition: impl Fn(&I) -> bool) -> Result<Self, E>
    where
        D: Dataset<I, E>,
        E: Error + Send + Sync + 'static,
    {
        let mut indices = Vec::new();
        for index in 0..dataset.len() {
            if condition(&dataset.get(index)?) {
                indices.push(index);
            }
        }
        known::<Self>();
        let indices: Arc<[usize]> = indices.into();
        let own = Arc::clone(&indices);
        let origin = origin_of(&dataset).part(move |index| own.get(index).copied());
        Ok(Filter { dataset, indices, origin })
    }
}

impl<D> Filter<D> {
    /// The index in the whole data set of item `index`.
    ///
    /// # Panics
    /// If there is no such item, as [`Dataset::get`] does.
    pub fn index_in_whole(&self, index: usize) -> usize {
        self.indices[index]
    }
}

impl<D, I, E> Dataset<I, E> for Filter<D>
where
    D: Dataset<I, E>,
    E: Error + Send + Sync + 'static,
{
    fn get(&self, index: usize) -> Result<I, E> {
        self.dataset.get(self.indices[index])
    }

    fn len(&self) -> usize {
        self.indices.len()
    }
}
