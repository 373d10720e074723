//! The memory of batches that worker processes make, as their parent has it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use firebox_workers::sync::region::Region;

/// The most regions that are kept: as many as there may be batches ahead, twice.
const KEPT: usize = 32;

/// The regions of a loader: those in which batches are, and those whose batches were dropped.
#[derive(Default)]
pub(super) struct Regions(Mutex<Vec<Region>>);

impl Regions {
    fn lock(&self) -> MutexGuard<'_, Vec<Region>> {
        // Nothing panics under this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The smallest free region of at least so many bytes. With it goes its handle: it isn't free any more.
    pub(super) fn take(&self, bytes: usize) -> Option<Region> {
        let regions = self.lock();
        let fitting = regions.iter().filter(|region| region.len() >= bytes && region.is_free());
        fitting.min_by_key(|region| region.len()).cloned()
    }

    /// Keeps a region to be used again, if enough are there instead of the smallest free one.
    pub(super) fn keep(&self, region: Region) {
        let mut regions = self.lock();
        if regions.contains(&region) {
            return;
        }
        if regions.len() >= KEPT {
            let free = regions.iter().enumerate().filter(|(_, region)| region.is_free());
            match free.min_by_key(|(_, region)| region.len()).map(|(place, _)| place) {
                Some(smallest) => drop(regions.swap_remove(smallest)),
                None => return,
            }
        }
        regions.push(region);
    }

    /// Forgets a region that a worker had when it was given up: it may write there until it has ended.
    pub(super) fn forget(&self, region: &Region) {
        self.lock().retain(|kept| kept != region);
    }

    /// The numbers of all regions.
    pub(super) fn ids(&self) -> Vec<u64> {
        self.lock().iter().map(Region::id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_are_given_out_when_nobody_has_them() {
        let regions = Regions::default();
        let [small, large] = [100, 1000].map(|bytes| Region::new(bytes).unwrap());
        #[allow(unsafe_code, reason = "takes a part")]
        // SAFETY: no other process has the region.
        let part = unsafe { small.part::<u8>(1) }.unwrap();
        let (small_id, large_id) = (small.id(), large.id());
        regions.keep(small.clone());
        regions.keep(small);
        regions.keep(large);
        assert_eq!(regions.ids(), [small_id, large_id]);
        assert_eq!(regions.take(10).map(|region| region.id()), Some(large_id), "the small one has a part");
        drop(part);
        let taken = regions.take(10).unwrap();
        assert_eq!((taken.id(), regions.take(101).map(|region| region.id())), (small_id, Some(large_id)));
        assert_eq!(regions.take(10).map(|region| region.id()), Some(large_id), "the small one is out");
        assert!(regions.take(1001).is_none());
        regions.forget(&taken);
        assert_eq!(regions.ids(), [large_id]);
    }

    #[test]
    fn no_more_are_kept_than_may_be_of_use() {
        let regions = Regions::default();
        (1..=2 * KEPT).for_each(|bytes| regions.keep(Region::new(bytes).unwrap()));
        assert_eq!(regions.ids().len(), KEPT);
        assert!(regions.take(2 * KEPT).is_some());
        let out: Vec<_> = (0..KEPT).map_while(|_| regions.take(0)).collect();
        assert_eq!(out.len(), KEPT);
        regions.keep(Region::new(9).unwrap());
        assert_eq!(regions.ids().len(), KEPT, "all are in use");
    }
}
