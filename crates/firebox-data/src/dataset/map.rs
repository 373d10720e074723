//! Every item through a function.

use std::error::Error;
use std::marker::PhantomData;

use burn_dataset::Dataset;

/// A data set whose items are a function of another's. The function is called each time an item is read; what is
/// random belongs into the loader's transform, which has random numbers of its own.
pub struct Map<D, I, F> {
    dataset: D,
    function: F,
    item: PhantomData<fn(I)>,
}

impl<D, I, F> Map<D, I, F> {
    /// `function` of each item of `dataset`.
    pub fn new<O>(dataset: D, function: F) -> Self
    where
        F: Fn(I) -> O,
    {
        Map { dataset, function, item: PhantomData }
    }
}

impl<D, I, O, F, E> Dataset<O, E> for Map<D, I, F>
where
    D: Dataset<I, E>,
    F: Fn(I) -> O + Send + Sync,
    E: Error + Send + Sync + 'static,
{
    fn get(&self, index: usize) -> Result<O, E> {
        self.dataset.get(index).map(&self.function)
    }

    fn len(&self) -> usize {
        self.dataset.len()
    }
}
