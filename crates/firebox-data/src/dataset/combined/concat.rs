//! One data set after the other.

use std::sync::Arc;

use crate::dataset::{Dataset, Fingerprint, Lineage, Location, many};
use crate::error::{BoxError, Error};

/// All items of the first data set, then all of the next, and so on.
///
/// The loader's error of an item names its part, and the index in it.
///
/// ```
/// use firebox_data::Dataset;
/// use firebox_data::dataset::{Concat, from_fn};
///
/// let parts: Vec<Box<dyn Dataset<Item = usize>>> =
///     vec![Box::new(vec![7, 8]), Box::new(from_fn(3, |index| Ok(index)))];
/// let all = Concat::new(parts)?;
/// assert_eq!((all.len(), all.get(1)?, all.get(4)?), (5, 8, 2));
/// # Ok::<(), firebox_data::BoxError>(())
/// ```
pub struct Concat<D> {
    parts: Vec<D>,
    /// The index at which each part ends.
    ends: Arc<[usize]>,
    lineage: Lineage,
}

impl<D: Dataset> Concat<D> {
    /// The data sets in their order; of different types as `Box<dyn Dataset<Item = T>>`.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) if they have more items together than can be
    /// counted.
    pub fn new(parts: Vec<D>) -> Result<Self, Error> {
        let lengths: Vec<_> = parts.iter().map(|part| part.len()).collect();
        let Some(ends) = crate::sampler::ends(&lengths) else {
            let most = format_args!("at most {} items in all", usize::MAX);
            return Err(Error::out_of_range("concat", most, format_args!("{lengths:?}")));
        };
        let ends: Arc<[usize]> = ends.into();
        let own = Arc::clone(&ends);
        let lineages = parts.iter().map(Dataset::lineage).collect();
        let lineage = Lineage::joined(lineages, move |index| split(&own, index));
        Ok(Concat { parts, ends, lineage })
    }
}

/// The part of an item, and the index in it; `None` if no part has it.
fn split(ends: &[usize], index: usize) -> Option<(usize, usize)> {
    let part = ends.partition_point(|&end| end <= index);
    let start = part.checked_sub(1).map_or(0, |before| ends[before]);
    (part < ends.len()).then(|| (part, index - start))
}

impl<D: Dataset> Dataset for Concat<D> {
    type Item = D::Item;

    fn len(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    fn get(&self, index: usize) -> Result<D::Item, BoxError> {
        let (part, index) = split(&self.ends, index).ok_or_else(|| many::out_of_range(index, self.len()))?;
        self.parts[part].get(index)
    }

    fn get_many(&self, indices: &[usize]) -> Vec<Result<D::Item, BoxError>> {
        many::of_parts(&self.parts, indices, self.len(), |index| split(&self.ends, index))
    }

    fn reads_many(&self) -> bool {
        self.parts.iter().any(Dataset::reads_many)
    }

    fn locate(&self, index: usize) -> Option<Location> {
        let (part, index) = split(&self.ends, index)?;
        self.parts[part].locate(index)
    }

    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::joined(self.len(), "concat", self.parts.iter().map(Dataset::fingerprint))
    }

    fn lineage(&self) -> Lineage {
        self.lineage.clone()
    }
}
