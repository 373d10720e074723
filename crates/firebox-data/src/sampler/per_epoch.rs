//! Values that are made once for an epoch and needed again and again in it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// The epochs that are kept: two may be delivered at the same time.
const KEPT: usize = 2;

/// A cache of plans by epoch: what it holds follows from the epoch, so that it may forget.
#[derive(Debug)]
pub(crate) struct PerEpoch<T> {
    kept: Mutex<VecDeque<(u64, Arc<T>)>>,
}

impl<T> PerEpoch<T> {
    pub(crate) fn new() -> Self {
        PerEpoch { kept: Mutex::default() }
    }

    /// The plan of an epoch, made if it is not there. Others wait meanwhile, for they want it, too.
    pub(crate) fn get(&self, epoch: u64, make: impl FnOnce() -> T) -> Arc<T> {
        // A poisoned lock means that making one panicked; those that are kept are whole.
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, plan)) = kept.iter().find(|(kept, _)| *kept == epoch) {
            return Arc::clone(plan);
        }
        // The oldest goes first, so that its memory is free for the new one.
        kept.truncate(KEPT - 1);
        let plan = Arc::new(make());
        kept.push_front((epoch, Arc::clone(&plan)));
        plan
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_epochs_are_kept() {
        let (cache, mut made) = (PerEpoch::new(), 0);
        for epoch in [0, 1, 0, 1, 0, 2, 1] {
            let plan = cache.get(epoch, || {
                made += 1;
                10 * epoch
            });
            assert_eq!(*plan, 10 * epoch);
        }
        assert_eq!(made, 3);
    }
}
