//! A function of the index.

use super::{Dataset, Fingerprint, many};
use crate::error::BoxError;

/// A data set of `len` items, each of which a function makes from its index.
///
/// ```
/// use firebox_data::Dataset;
/// use firebox_data::dataset::from_fn;
///
/// let files = ["a.txt", "b.txt"];
/// let texts = from_fn(files.len(), move |index| Ok(std::fs::read_to_string(files[index])?));
/// assert_eq!(texts.len(), 2);
/// ```
pub fn from_fn<F, T>(len: usize, function: F) -> FromFn<F>
where
    F: Fn(usize) -> Result<T, BoxError> + Send + Sync + 'static,
    T: Send + 'static,
{
    FromFn { len, function }
}

/// The data set that [`from_fn`] makes.
///
/// ```
/// use firebox_data::Dataset;
/// use firebox_data::dataset::from_fn;
///
/// let squares = from_fn(100, |index| Ok(index * index));
/// assert_eq!(squares.get(9).unwrap(), 81);
/// ```
#[derive(Clone, Copy)]
pub struct FromFn<F> {
    len: usize,
    function: F,
}

impl<F, T> Dataset for FromFn<F>
where
    F: Fn(usize) -> Result<T, BoxError> + Send + Sync + 'static,
    T: Send + 'static,
{
    type Item = T;

    fn len(&self) -> usize {
        self.len
    }

    fn get(&self, index: usize) -> Result<T, BoxError> {
        match index < self.len {
            true => (self.function)(index),
            false => Err(many::out_of_range(index, self.len)),
        }
    }

    fn fingerprint(&self) -> Fingerprint {
        // The function itself has no name that would stay if it moved.
        Fingerprint::of_type::<fn(usize) -> T>(self.len)
    }
}
