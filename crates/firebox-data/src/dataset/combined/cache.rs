//! Items kept in memory.

use std::collections::HashMap;
use std::sync::{Mutex, RwLock};

use crate::dataset::{Dataset, Fingerprint, Lineage, Location, many};
use crate::error::BoxError;

/// Keeps items in memory once they were read, for as long as they fit into a budget of bytes.
///
/// What is kept stays: an epoch reads every item once, so that throwing out the oldest for the newest would
/// keep nothing. What didn't fit is read each time. Errors are not kept.
///
/// ```
/// use firebox_data::Dataset;
/// use firebox_data::dataset::{Cache, from_fn};
///
/// let files = from_fn(10, |index| Ok(vec![0u8; index]));
/// let cached = Cache::new(files, 1 << 30, Vec::len);
/// assert_eq!((cached.get(7)?.len(), cached.get(7)?.len(), cached.kept()), (7, 7, (1, 7)));
/// # Ok::<(), firebox_data::BoxError>(())
/// ```
pub struct Cache<D: Dataset, S> {
    dataset: D,
    lineage: Lineage,
    size: S,
    budget: usize,
    kept: RwLock<HashMap<usize, D::Item>>,
    /// The bytes of the items kept. Behind a lock of its own, so that the budget is checked before an item is
    /// let in.
    bytes: Mutex<usize>,
}

impl<D: Dataset, S: Fn(&D::Item) -> usize> Cache<D, S> {
    /// Keeps items up to `budget` bytes, by what `size` says that an item takes. Items are cloned when they
    /// are given out: make that cheap, for example with `bytes::Bytes` or an `Arc`.
    pub fn new(dataset: D, budget: usize, size: S) -> Self {
        let (lineage, kept, bytes) = (dataset.lineage(), RwLock::default(), Mutex::new(0));
        Cache { dataset, lineage, size, budget, kept, bytes }
    }

    /// The number of items kept, and their bytes.
    pub fn kept(&self) -> (usize, usize) {
        let bytes = *self.bytes.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        (self.kept.read().unwrap_or_else(|poisoned| poisoned.into_inner()).len(), bytes)
    }

    /// The size of an item if it may be let in, by which it is counted.
    fn admit(&self, item: &D::Item) -> Option<usize> {
        let size = (self.size)(item);
        let mut bytes = self.bytes.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        // No more than the budget was ever let in.
        let admitted = size <= self.budget - *bytes;
        if admitted {
            *bytes += size;
        }
        admitted.then_some(size)
    }
}

impl<D, S> Cache<D, S>
where
    D: Dataset,
    D::Item: Clone,
    S: Fn(&D::Item) -> usize,
{
    fn find(&self, index: usize) -> Option<D::Item> {
        self.kept.read().unwrap_or_else(|poisoned| poisoned.into_inner()).get(&index).cloned()
    }

    /// Keeps an item if it may be let in.
    fn keep(&self, index: usize, item: &D::Item) {
        let Some(size) = self.admit(item) else { return };
        let mut kept = self.kept.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        if kept.insert(index, item.clone()).is_some() {
            // Two workers read it at the same time: it was counted twice, with the size that each of them was
            // told.
            let mut bytes = self.bytes.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            *bytes -= size;
        }
    }
}

impl<D, S> Dataset for Cache<D, S>
where
    D: Dataset,
    D::Item: Clone + Sync,
    S: Fn(&D::Item) -> usize + Send + Sync + 'static,
{
    type Item = D::Item;

    fn len(&self) -> usize {
        self.dataset.len()
    }

    fn is_empty(&self) -> bool {
        self.dataset.is_empty()
    }

    fn get(&self, index: usize) -> Result<D::Item, BoxError> {
        if let Some(item) = self.find(index) {
            return Ok(item);
        }
        let item = self.dataset.get(index)?;
        self.keep(index, &item);
        Ok(item)
    }

    fn get_many(&self, indices: &[usize]) -> Vec<Result<D::Item, BoxError>> {
        let found: Vec<_> = indices.iter().map(|index| self.find(*index)).collect();
        let missing =
            indices.iter().zip(&found).filter(|(_, found)| found.is_none()).map(|(index, _)| *index);
        let missing: Vec<usize> = missing.collect();
        let mut read = match missing.is_empty() {
            true => Vec::new(),
            false => many::answers(&self.dataset, &missing),
        };
        for (index, item) in missing.iter().zip(&read) {
            if let Ok(item) = item {
                self.keep(*index, item);
            }
        }
        let mut read = read.drain(..);
        let take = |(found, index): (Option<D::Item>, &usize)| match found {
            Some(item) => Ok(item),
            // There is an answer for each that was missing.
            None => read.next().unwrap_or_else(|| Err(many::out_of_range(*index, self.len()))),
        };
        found.into_iter().zip(indices).map(take).collect()
    }

    fn reads_many(&self) -> bool {
        self.dataset.reads_many()
    }

    fn locate(&self, index: usize) -> Option<Location> {
        self.dataset.locate(index)
    }

    fn fingerprint(&self) -> Fingerprint {
        self.dataset.fingerprint()
    }

    fn lineage(&self) -> Lineage {
        self.lineage.clone()
    }
}
