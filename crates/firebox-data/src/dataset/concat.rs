//! One data set behind the other.

use std::error::Error;

use burn_dataset::Dataset;

/// All items of the first data set, then all of the next, and so on.
pub struct Concat<D> {
    parts: Vec<D>,
    /// The index at which each part ends.
    ends: Vec<usize>,
}

impl<D> Concat<D> {
    /// The data sets in their order; of different types as `Box<dyn Dataset<I, E>>`.
    pub fn new<I, E>(parts: Vec<D>) -> Self
    where
        D: Dataset<I, E>,
        E: Error + Send + Sync + 'static,
    {
        let ends = parts.iter().scan(0, |end, part| {
            *end += part.len();
            Some(*end)
        });
        Concat { ends: ends.collect(), parts }
    }
}

impl<D, I, E> Dataset<I, E> for Concat<D>
where
    D: Dataset<I, E>,
    E: Error + Send + Sync + 'static,
{
    fn get(&self, index: usize) -> Result<I, E> {
        let part = self.ends.partition_point(|&end| end <= index);
        assert!(part < self.parts.len(), "index {index} of a data set of {}", self.len());
        let start = part.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.parts[part].get(index - start)
    }

    fn len(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }
}
