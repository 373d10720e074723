//! A part of a data set.

use std::sync::Arc;

use firebox_core::{Purpose, derive_seed};

use crate::dataset::{Dataset, Fingerprint, Lineage, Location, many};
use crate::error::{BoxError, Error, check};
use crate::sampler::Permutation;

/// Some items of a data set: those listed, or a random part from [`random_split`].
///
/// It knows its [`Lineage`], so that a trainer can tell whether two parts of one data set have items in
/// common. Parts are of one data set if they come from one split, or if they are subsets of clones of one
/// `Subset`:
///
/// ```
/// use firebox_data::dataset::Subset;
///
/// let all = Subset::all((0..100).collect::<Vec<_>>());
/// let train = Subset::new(all.clone(), (0..80).collect::<Vec<_>>())?;
/// let test = Subset::new(all, (80..100).collect::<Vec<_>>())?;
/// # Ok::<(), firebox_data::Error>(())
/// ```
#[derive(Debug)]
pub struct Subset<D> {
    dataset: Arc<D>,
    indices: Arc<Indices>,
    lineage: Lineage,
}

impl<D> Clone for Subset<D> {
    fn clone(&self) -> Self {
        let (dataset, indices) = (Arc::clone(&self.dataset), Arc::clone(&self.indices));
        Subset { dataset, indices, lineage: self.lineage.clone() }
    }
}

#[derive(Debug)]
enum Indices {
    /// As many from the first on.
    First(usize),
    Listed(Box<[usize]>),
    /// `len` places of a permutation, from `start` on.
    Permuted {
        permutation: Permutation,
        start: usize,
        len: usize,
    },
}

impl Indices {
    fn get(&self, index: usize) -> Option<usize> {
        match self {
            Indices::First(len) => (index < *len).then_some(index),
            Indices::Listed(indices) => (**indices).get(index).copied(),
            Indices::Permuted { permutation, start, len } => {
                (index < *len).then(|| permutation.apply(start + index))
            }
        }
    }

    fn len(&self) -> usize {
        match self {
            Indices::Listed(indices) => indices.len(),
            Indices::First(len) | Indices::Permuted { len, .. } => *len,
        }
    }
}

impl<D: Dataset> Subset<D> {
    fn of(dataset: Arc<D>, indices: Indices, whole: &Lineage) -> Self {
        let indices = Arc::new(indices);
        let own = Arc::clone(&indices);
        let lineage = whole.part(move |index| own.get(index));
        Subset { dataset, indices, lineage }
    }

    /// All items, to cut parts from.
    pub fn all(dataset: D) -> Self {
        let (len, lineage) = (dataset.len(), dataset.lineage());
        Self::of(Arc::new(dataset), Indices::First(len), &lineage)
    }

    /// The first `len` items; all of them if there are no more.
    pub fn first(dataset: D, len: usize) -> Self {
        let (len, lineage) = (dataset.len().min(len), dataset.lineage());
        Self::of(Arc::new(dataset), Indices::First(len), &lineage)
    }

    /// The items with these indices, in this order; one that is listed twice is there twice.
    ///
    /// ```
    /// use firebox_data::Dataset;
    /// use firebox_data::dataset::Subset;
    ///
    /// let part = Subset::new(vec!["a", "b", "c", "d"], [3, 1])?;
    /// assert_eq!((part.len(), part.get(0)?, part.index_in_whole(0)), (2, "d", 3));
    /// assert!(Subset::new(vec!["a", "b"], [2]).is_err());
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) if the data set has no item with one of them.
    pub fn new(dataset: D, indices: impl Into<Box<[usize]>>) -> Result<Self, Error> {
        let (len, indices) = (dataset.len(), indices.into());
        for index in &indices {
            check(*index < len, "subset", format_args!("indices below {len}"), index)?;
        }
        let lineage = dataset.lineage();
        Ok(Self::of(Arc::new(dataset), Indices::Listed(indices), &lineage))
    }
}

impl<D> Subset<D> {
    /// The index, in the data set that this is a part of, of this part's item `index`.
    ///
    /// # Panics
    /// If there is no such item, as a slice does.
    pub fn index_in_whole(&self, index: usize) -> usize {
        match self.indices.get(index) {
            Some(index) => index,
            None => panic!("index {index} of a part of {}", self.indices.len()),
        }
    }
}

impl<D: Dataset> Dataset for Subset<D> {
    type Item = D::Item;

    fn len(&self) -> usize {
        self.indices.len()
    }

    fn get(&self, index: usize) -> Result<D::Item, BoxError> {
        let row = self.indices.get(index).ok_or_else(|| many::out_of_range(index, self.len()))?;
        self.dataset.get(row)
    }

    fn get_many(&self, indices: &[usize]) -> Vec<Result<D::Item, BoxError>> {
        many::of_part(&*self.dataset, indices, self.len(), |index| self.indices.get(index))
    }

    fn reads_many(&self) -> bool {
        self.dataset.reads_many()
    }

    fn locate(&self, index: usize) -> Option<Location> {
        self.dataset.locate(self.indices.get(index)?)
    }

    fn fingerprint(&self) -> Fingerprint {
        let (whole, len) = (self.dataset.fingerprint(), self.len());
        match &*self.indices {
            // The same items in the same order: the same data.
            Indices::First(first) if *first == self.dataset.len() => whole,
            Indices::First(_) => whole.within(len, "first"),
            Indices::Listed(rows) => {
                whole.within(len, "subset").with_words(rows.iter().map(|row| *row as u64))
            }
            Indices::Permuted { permutation, start, .. } => {
                // The permutation is told by some of its values: all of them may be a trillion.
                let told =
                    (0..self.dataset.len().min(MOST_TOLD)).map(|index| permutation.apply(index) as u64);
                whole.within(len, "random part").with_words([*start as u64].into_iter().chain(told))
            }
        }
    }

    fn lineage(&self) -> Lineage {
        self.lineage.clone()
    }
}

/// So many values of a permutation tell it from another.
const MOST_TOLD: usize = 64;

/// Cuts a data set into a random part of `second` items and the rest, which comes first.
///
/// Which item goes where follows from `seed` alone; every item is in exactly one part.
///
/// # Errors
/// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) if the data set has fewer than `second` items.
///
/// ```
/// use firebox_data::Dataset;
/// use firebox_data::dataset::random_split;
///
/// let (train, valid) = random_split((0..100).collect::<Vec<_>>(), 20, 42)?;
/// assert_eq!((train.len(), valid.len()), (80, 20));
/// # Ok::<(), firebox_data::Error>(())
/// ```
pub fn random_split<D: Dataset>(
    dataset: D,
    second: usize,
    seed: u64,
) -> Result<(Subset<D>, Subset<D>), Error> {
    let len = dataset.len();
    check(second <= len, "split", format_args!("at most the data set's {len} items"), second)?;
    let first = len - second;
    let lineage = dataset.lineage();
    let dataset = Arc::new(dataset);
    let permutation = Permutation::new(len, derive_seed(seed, Purpose::Split, 0, 0));
    let part = |start, len| {
        let indices = Indices::Permuted { permutation: permutation.clone(), start, len };
        Subset::of(Arc::clone(&dataset), indices, &lineage)
    };
    Ok((part(0, first), part(first, second)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items<T>(dataset: &impl Dataset<Item = T>) -> Vec<T> {
        (0..dataset.len()).map(|index| dataset.get(index).unwrap()).collect()
    }

    #[test]
    fn listed_items_come_as_they_are_listed() {
        let subset = Subset::new(vec![10, 11, 12], [2, 0, 2]).unwrap();
        assert_eq!(items(&subset), [12, 10, 12]);
        assert_eq!((subset.len(), subset.index_in_whole(1)), (3, 0));
        let first = Subset::first(vec![10, 11, 12], 2);
        assert_eq!(items(&first), [10, 11]);
        assert_eq!(Subset::first(vec![10], 2).len(), 1);
        let error = Subset::new(vec![10, 11], [1, 2]).err().unwrap();
        assert_eq!(error.to_string(), "subset: expected indices below 2, got 2");
    }

    #[test]
    fn every_item_is_in_one_part() {
        for (len, second) in [(0, 0), (1, 0), (1, 1), (10, 3), (5000, 4999)] {
            let (a, b) = random_split((0..len).collect::<Vec<usize>>(), second, 9).unwrap();
            assert_eq!((a.len(), b.len()), (len - second, second));
            let mut all: Vec<usize> = [items(&a), items(&b)].concat();
            assert!(len < 10 || !all.is_sorted());
            all.sort_unstable();
            assert!(all.into_iter().eq(0..len));
        }
        let error = random_split(vec![1], 2, 0).err().unwrap();
        assert_eq!(error.to_string(), "split: expected at most the data set's 1 items, got 2");
    }
}
