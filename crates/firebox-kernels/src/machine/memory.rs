//! Memory that is used again.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

use burn::tensor::{AllocationProperty, Bytes};

/// Memory that nobody uses.
static FREE: Mutex<Free> = Mutex::new(Free { pieces: Vec::new(), clock: 0 });

struct Free {
    /// Each with the time when it came, the one that has waited longest first.
    pieces: Vec<(u64, Vec<f32>)>,
    /// How many have come.
    clock: u64,
}

/// No more pieces wait than this.
const MOST: usize = 32;

/// A piece that nobody wanted while so many others came, which are several steps of a model, goes back to the
/// system.
const PATIENCE: u64 = 256;

/// Fewer elements are left to the allocator, which has them at hand.
const FEWEST: usize = 1 << 14;

/// So many elements, with any values, in memory that an earlier pass has left if there is such: to ask the
/// system for it anew costs a page fault for every 4 KiB.
pub(crate) fn recycled(length: usize) -> Vec<f32> {
    if length < FEWEST {
        return vec![0.0; length];
    }
    let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
    // A piece that is much larger is for somebody else.
    let fits = |(_, piece): &(u64, Vec<f32>)| piece.capacity() >= length && piece.capacity() / 2 <= length;
    let piece = free.pieces.iter().rposition(fits).map(|place| free.pieces.remove(place));
    drop(free);
    let Some((_, mut values)) = piece else { return vec![0.0; length] };
    values.resize(length, 0.0);
    values
}

/// So many zeros, likewise.
pub(crate) fn zeros(length: usize) -> Vec<f32> {
    let mut values = recycled(length);
    values.fill(0.0);
    values
}

pub(crate) fn give_back(values: Vec<f32>) {
    if values.capacity() < FEWEST {
        return;
    }
    let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
    free.clock += 1;
    let now = free.clock;
    free.pieces.push((now, values));
    let stale = free.pieces.iter().take_while(|(since, _)| now - since > PATIENCE).count();
    let stale = stale.max(free.pieces.len().saturating_sub(MOST));
    let unwanted: Vec<_> = free.pieces.drain(..stale).collect();
    drop(free);
    // Not while other threads wait.
    drop(unwanted);
}

/// The elements of a tensor, whose memory is for the next one when that is dropped.
pub(crate) fn lend(values: Vec<f32>) -> Bytes {
    match values.len() < FEWEST {
        true => Bytes::from_elems(values),
        false => Bytes::from_shared(bytes::Bytes::from_owner(Lent(values)), AllocationProperty::Other),
    }
}

struct Lent(Vec<f32>);

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        give_back(std::mem::take(&mut self.0));
    }
}

/// Values that wait from a forward pass for its backward pass.
pub(crate) struct Recycled {
    values: Vec<f32>,
}

impl Recycled {
    /// So many elements, with any values.
    pub(crate) fn new(length: usize) -> Self {
        Recycled { values: recycled(length) }
    }

    /// The values, for good.
    pub(crate) fn into_values(mut self) -> Vec<f32> {
        std::mem::take(&mut self.values)
    }
}

impl Drop for Recycled {
    fn drop(&mut self) {
        give_back(std::mem::take(&mut self.values));
    }
}

impl Clone for Recycled {
    fn clone(&self) -> Self {
        let mut clone = Recycled::new(self.values.len());
        clone.copy_from_slice(&self.values);
        clone
    }
}

impl fmt::Debug for Recycled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recycled").field("len", &self.values.len()).finish_non_exhaustive()
    }
}

impl Deref for Recycled {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.values
    }
}

impl DerefMut for Recycled {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }
}
