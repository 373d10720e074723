//! One data set behind the other.

use std::error::Error as StdError;
use std::sync::Arc;

use burn_dataset::Dataset;

use super::origin::{Origin, Part, known, origin_of};
use crate::error::Error;

/// All items of the first data set, then all of the next, and so on.
///
/// The loader's error of an item names its part, and the index in it.
pub struct Concat<D> {
    parts: Vec<D>,
    /// The index at which each part ends.
    ends: Arc<[usize]>,
    origin: Origin,
}

impl<D: 'static> Part for Concat<D> {
    fn origin(&self) -> Origin {
        self.origin.clone()
    }
}

impl<D: 'static> Concat<D> {
    /// The data sets in their order; of different types as `Box<dyn Dataset<I, E>>`.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`] if they have more items together than can be counted.
    pub fn new<I, E>(parts: Vec<D>) -> Result<Self, Error>
    where
        D: Dataset<I, E>,
        E: StdError + Send + Sync + 'static,
    {
        let lengths: Vec<_> = parts.iter().map(|part| part.len()).collect();
        let Some(ends) = crate::sampler::ends(&lengths) else {
            let most = format_args!("at most {} items in all", usize::MAX);
            return Err(Error::out_of_range("concat", most, format_args!("{lengths:?}")));
        };
        known::<Self>();
        let ends: Arc<[usize]> = ends.into();
        let own = Arc::clone(&ends);
        let origins = parts.iter().map(origin_of).collect();
        let origin = Origin::of_sources(origins, move |index| split(&own, index));
        Ok(Concat { parts, ends, origin })
    }
}

/// The part of an item, and the index in it; `None` if no part has it.
fn split(ends: &[usize], index: usize) -> Option<(usize, usize)> {
    let part = ends.partition_point(|&end| end <= index);
    let start = part.checked_sub(1).map_or(0, |before| ends[before]);
    (part < ends.len()).then(|| (part, index - start))
}

impl<D, I, E> Dataset<I, E> for Concat<D>
where
    D: Dataset<I, E>,
    E: StdError + Send + Sync + 'static,
{
    fn get(&self, index: usize) -> Result<I, E> {
        match split(&self.ends, index) {
            Some((part, index)) => self.parts[part].get(index),
            None => panic!("index {index} of a data set of {}", self.len()),
        }
    }

    fn len(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }
}
