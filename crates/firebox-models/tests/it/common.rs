//! Turns at Burn's generator, which belongs to the process.

use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

static GENERATOR: RwLock<()> = RwLock::new(());

/// A turn of a test that counts on a seed: nothing else may draw at the same time.
pub(crate) fn alone() -> RwLockWriteGuard<'static, ()> {
    GENERATOR.write().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// A turn of a test that draws, as making a layer does, and counts on no number.
pub(crate) fn beside_others() -> RwLockReadGuard<'static, ()> {
    GENERATOR.read().unwrap_or_else(|poisoned| poisoned.into_inner())
}
