//! Every item through a function.

use std::error::Error;
use std::marker::PhantomData;

use burn_dataset::Dataset;

use super::origin::{Origin, Part, known, origin_of};

/// A data set whose items are a function of another's. The function is called each time an item is read; what is
/// random belongs into the loader's transform, which has random numbers of its own.
pub struct Map<D, I, F> {
    dataset: D,
    function: F,
    origin: Origin,
    item: PhantomData<fn(I)>,
}

impl<D: 'static, I: 'static, F: 'static> Part for Map<D, I, F> {
    fn origin(&self) -> Origin {
        self.origin.clone()
    }
}

impl<D: 'static, I: 'static, F: 'static> Map<D, I, F> {
    /// `function` of each item of `dataset`.
    pub fn new<O>(dataset: D, function: F) -> Self
    where
        F: Fn(I) -> O,
    {
        known::<Self>();
        Map { origin: origin_of(&dataset), dataset, function, item: PhantomData }
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
