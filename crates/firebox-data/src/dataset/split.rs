//! A data set cut in two.

use std::sync::Arc;

use burn_dataset::Dataset;

use crate::error::{Error, ErrorKind};
use crate::permutation::Permutation;
use crate::seed::{Stream, derive_seed};

/// A random part of a data set: see [`random_split`].
#[derive(Debug)]
pub struct Part<D> {
    dataset: Arc<D>,
    permutation: Permutation,
    start: usize,
    len: usize,
}

impl<D> Part<D> {
    /// The index in the whole data set of this part's item `index`.
    pub fn index_in_whole(&self, index: usize) -> usize {
        assert!(index < self.len, "index {index} of a part of {}", self.len);
        self.permutation.apply(self.start + index)
    }
}

impl<D, I, E> Dataset<I, E> for Part<D>
where
    D: Dataset<I, E>,
    E: std::error::Error + Send + Sync + 'static,
{
    fn get(&self, index: usize) -> Result<I, E> {
        self.dataset.get(self.index_in_whole(index))
    }

    fn len(&self) -> usize {
        self.len
    }
}

/// Cuts a data set into a random part of `second` items and the rest, which comes first.
///
/// Which item goes where follows from `seed` alone; every item is in exactly one part.
///
/// # Errors
/// [`ErrorKind::Config`] if the data set has fewer than `second` items.
pub fn random_split<D, I, E>(dataset: D, second: usize, seed: u64) -> Result<(Part<D>, Part<D>), Error>
where
    D: Dataset<I, E>,
    E: std::error::Error + Send + Sync + 'static,
{
    let len = dataset.len();
    let first = len.checked_sub(second).ok_or_else(|| {
        Error::new(ErrorKind::Config, format!("a split of {second} items of a data set that has {len}"))
    })?;
    let dataset = Arc::new(dataset);
    let permutation = Permutation::new(len, derive_seed(seed, Stream::Split, 0, 0));
    let part =
        |start, len| Part { dataset: Arc::clone(&dataset), permutation: permutation.clone(), start, len };
    Ok((part(0, first), part(first, second)))
}

#[cfg(test)]
mod tests {
    use burn_dataset::InMemDataset;

    use super::*;

    #[test]
    fn every_item_is_in_one_part() {
        for (len, second) in [(0, 0), (1, 0), (1, 1), (10, 3), (5000, 4999)] {
            let (a, b) = random_split(InMemDataset::new((0..len).collect()), second, 9).unwrap();
            assert_eq!((a.len(), b.len()), (len - second, second));
            let mut all: Vec<usize> = a.iter().chain(b.iter()).map(Result::unwrap).collect();
            assert!(len < 10 || !all.is_sorted());
            all.sort_unstable();
            assert!(all.into_iter().eq(0..len));
        }
        let error = random_split(InMemDataset::new(vec![1]), 2, 0).err().unwrap();
        assert_eq!(error.to_string(), "a split of 2 items of a data set that has 1");
    }
}
