//! A part of a data set.

use std::sync::Arc;

use burn_dataset::Dataset;
use firebox_core::{Purpose, derive_seed};

use super::origin::{Origin, Part, known, origin_of};
use crate::error::{Error, check};
use crate::permutation::Permutation;

/// Some items of a data set: those listed, or a random part from [`random_split`].
///
/// It knows its [`Origin`], so that a trainer can tell whether two parts of one data set have items in common. Parts are of
/// one data set if they come from one split, or if they are subsets of clones of one `Subset`:
///
/// ```
/// # use firebox_data::{Error, Subset, burn_dataset::InMemDataset};
/// let all = Subset::all(InMemDataset::new((0..100).collect::<Vec<_>>()));
/// let train = Subset::new(all.clone(), (0..80).collect::<Vec<_>>())?;
/// let test = Subset::new(all, (80..100).collect::<Vec<_>>())?;
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug)]
pub struct Subset<D> {
    dataset: Arc<D>,
    indices: Arc<Indices>,
    origin: Origin,
}

impl<D> Clone for Subset<D> {
    fn clone(&self) -> Self {
        let (dataset, indices) = (Arc::clone(&self.dataset), Arc::clone(&self.indices));
        Subset { dataset, indices, origin: self.origin.clone() }
    }
}

impl<D: 'static> Part for Subset<D> {
    fn origin(&self) -> Origin {
        self.origin.clone()
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
            Indices::Listed(indices) => indices.get(index).copied(),
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

impl<D: 'static> Subset<D> {
    fn of(dataset: Arc<D>, indices: Indices, whole: &Origin) -> Self {
        known::<Self>();
        let indices = Arc::new(indices);
        let own = Arc::clone(&indices);
        let origin = whole.part(move |index| own.get(index));
        Subset { dataset, indices, origin }
    }

    /// All items, to cut parts from.
    pub fn all<I, E>(dataset: D) -> Self
    where
        D: Dataset<I, E>,
        E: std::error::Error + Send + Sync + 'static,
    {
        let (len, origin) = (dataset.len(), origin_of(&dataset));
        Self::of(Arc::new(dataset), Indices::First(len), &origin)
    }

    /// The first `len` items; all of them if there are no more.
    pub fn first<I, E>(dataset: D, len: usize) -> Self
    where
        D: Dataset<I, E>,
        E: std::error::Error + Send + Sync + 'static,
    {
        let (len, origin) = (dataset.len().min(len), origin_of(&dataset));
        Self::of(Arc::new(dataset), Indices::First(len), &origin)
    }

    /// The items with these indices, in this order; one that is listed twice is there twice.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`] if the data set has no item with one of them.
    pub fn new<I, E>(dataset: D, indices: impl Into<Box<[usize]>>) -> Result<Self, Error>
    where
        D: Dataset<I, E>,
        E: std::error::Error + Send + Sync + 'static,
    {
        let (len, indices) = (dataset.len(), indices.into());
        for index in &indices {
            check(*index < len, "subset", format_args!("indices below {len}"), index)?;
        }
        let origin = origin_of(&dataset);
        Ok(Self::of(Arc::new(dataset), Indices::Listed(indices), &origin))
    }
}

impl<D> Subset<D> {
    /// The index, in the data set that this is a part of, of this part's item `index`.
    ///
    /// # Panics
    /// If there is no such item, as [`Dataset::get`] does.
    pub fn index_in_whole(&self, index: usize) -> usize {
        match self.indices.get(index) {
            Some(index) => index,
            None => panic!("index {index} of a part of {}", self.indices.len()),
        }
    }
}

impl<D, I, E> Dataset<I, E> for Subset<D>
where
    D: Dataset<I, E>,
    E: std::error::Error + Send + Sync + 'static,
{
    fn get(&self, index: usize) -> Result<I, E> {
        self.dataset.get(self.index_in_whole(index))
    }

    fn len(&self) -> usize {
        self.indices.len()
    }
}

/// Cuts a data set into a random part of `second` items and the rest, which comes first.
///
/// Which item goes where follows from `seed` alone; every item is in exactly one part.
///
/// # Errors
/// [`ErrorKind::OutOfRange`] if the data set has fewer than `second` items.
pub fn random_split<D, I, E>(dataset: D, second: usize, seed: u64) -> Result<(Subset<D>, Subset<D>), Error>
where
    D: Dataset<I, E> + 'static,
    E: std::error::Error + Send + Sync + 'static,
{
    let len = dataset.len();
    check(second <= len, "split", format_args!("at most the data set's {len} items"), second)?;
    let first = len - second;
    let origin = origin_of(&dataset);
    let dataset = Arc::new(dataset);
    let permutation = Permutation::new(len, derive_seed(seed, Purpose::Split, 0, 0));
    let part = |start, len| {
        let indices = Indices::Permuted { permutation: permutation.clone(), start, len };
        Subset::of(Arc::clone(&dataset), indices, &origin)
    };
    Ok((part(0, first), part(first, second)))
}

#[cfg(test)]
mod tests {
    use burn_dataset::InMemDataset;

    use super::*;

    #[test]
    fn listed_items_come_as_they_are_listed() {
        let subset = Subset::new(InMemDataset::new(vec![10, 11, 12]), [2, 0, 2]).unwrap();
        assert_eq!(subset.iter().map(Result::unwrap).collect::<Vec<i32>>(), [12, 10, 12]);
        assert_eq!((subset.len(), subset.index_in_whole(1)), (3, 0));
        let first = Subset::first(InMemDataset::new(vec![10, 11, 12]), 2);
        assert_eq!(first.iter().map(Result::unwrap).collect::<Vec<i32>>(), [10, 11]);
        assert_eq!(Subset::first(InMemDataset::new(vec![10]), 2).len(), 1);
        let error = Subset::new(InMemDataset::new(vec![10, 11]), [1, 2]).err().unwrap();
        assert_eq!(error.to_string(), "subset: expected indices below 2, got 2");
    }

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
