//! Items kept in memory.

use std::collections::HashMap;
use std::error::Error;
use std::sync::{Mutex, RwLock};

use burn_dataset::Dataset;

use super::origin::{Origin, Part, known, origin_of};

/// Keeps items in memory once they were read, for as long as they fit into a budget of bytes.
///
/// What is kept stays: an epoch reads every item once, so that throwing out the oldest for the newest would keep
/// nothing. What didn't fit is read each time. Errors are not kept.
pub struct Cache<D, I, S> {
    dataset: D,
    origin: Origin,
    size: S,
    budget: usize,
    kept: RwLock<HashMap<usize, I>>,
    /// The bytes of the items kept. Behind a lock of its own, so that the budget is checked before an item is let in.
    bytes: Mutex<usize>,
}

impl<D: 'static, I: 'static, S: 'static> Part for Cache<D, I, S> {
    fn origin(&self) -> Origin {
        self.origin.clone()
    }
}

impl<D: 'static, I: 'static, S: Fn(&I) -> usize + 'static> Cache<D, I, S> {
    /// Keeps items up to `budget` bytes, by what `size` says that an item takes. Items are cloned when they are
    /// given out: make that cheap, for example with `bytes::Bytes` or an `Arc`.
    pub fn new(dataset: D, budget: usize, size: S) -> Self {
        known::<Self>();
        let origin = origin_of(&dataset);
        Cache { dataset, origin, size, budget, kept: RwLock::default(), bytes: Mutex::new(0) }
    }
}

impl<D, I, S: Fn(&I) -> usize> Cache<D, I, S> {
    /// The number of items kept, and their bytes.
    pub fn kept(&self) -> (usize, usize) {
        let bytes = *self.bytes.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        (self.kept.read().unwrap_or_else(|poisoned| poisoned.into_inner()).len(), bytes)
    }

    /// The size of an item if it may be let in, by which it is counted.
    fn admit(&self, item: &I) -> Option<usize> {
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

impl<D, I, S, E> Dataset<I, E> for Cache<D, I, S>
where
    D: Dataset<I, E>,
    I: Clone + Send + Sync,
    S: Fn(&I) -> usize + Send + Sync,
    E: Error + Send + Sync + 'static,
{
    fn get(&self, index: usize) -> Result<I, E> {
        let found = self.kept.read().unwrap_or_else(|poisoned| poisoned.into_inner()).get(&index).cloned();
        if let Some(item) = found {
            return Ok(item);
        }
        let item = self.dataset.get(index)?;
        if let Some(size) = self.admit(&item) {
            let mut kept = self.kept.write().unwrap_or_else(|poisoned| poisoned.into_inner());
            if kept.insert(index, item.clone()).is_some() {
                // Two workers read it at the same time: it was counted twice, with the size that each of them
                // was told.
                let mut bytes = self.bytes.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                *bytes -= size;
            }
        }
        Ok(item)
    }

    fn len(&self) -> usize {
        self.dataset.len()
    }
}
