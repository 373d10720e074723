//! Memory that is used again.

use std::cell::RefCell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

use crate::product::Panels;

/// What a thread works with. What was written there before is still there.
#[derive(Default)]
pub(crate) struct Scratch {
    values: [Vec<f32>; 4],
    pub(crate) panels: Panels,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Runs something with the thread's memory. It must not come here again.
pub(crate) fn with_scratch<R>(work: impl FnOnce(&mut Scratch) -> R) -> R {
    SCRATCH.with_borrow_mut(work)
}

impl Scratch {
    /// Places of so many elements each, and the panels.
    pub(crate) fn take(&mut self, sizes: [usize; 4]) -> ([&mut [f32]; 4], &mut Panels) {
        for (memory, size) in self.values.iter_mut().zip(sizes) {
            if memory.len() < size {
                memory.resize(size, 0.0);
            }
        }
        let [a, b, c, d] = &mut self.values;
        ([&mut a[..sizes[0]], &mut b[..sizes[1]], &mut c[..sizes[2]], &mut d[..sizes[3]]], &mut self.panels)
    }
}

/// Values that wait from a forward pass for its backward pass, or become a tensor's. Their memory goes to the next pass that
/// needs as much: asking the system for it anew costs a page fault for every 4 KiB.
pub(crate) struct Recycled {
    values: Vec<f32>,
}

/// Memory that nobody uses; no more than this many pieces.
static FREE: Mutex<Vec<Vec<f32>>> = Mutex::new(Vec::new());
const MOST: usize = 16;

/// Elements below which the allocator is quick enough.
const LEAST: usize = 1 << 14;

impl Recycled {
    /// So many elements, with any values.
    pub(crate) fn new(length: usize) -> Self {
        if length < LEAST {
            return Recycled { values: vec![0.0; length] };
        }
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        // A piece that is much larger is for somebody else.
        let fits = |piece: &Vec<f32>| piece.capacity() >= length && piece.capacity() / 2 <= length;
        // The one that fits best, lest a larger one is missing later.
        let pieces = free.iter().enumerate().filter(|(_, piece)| fits(piece));
        let best = pieces.min_by_key(|(_, piece)| piece.capacity()).map(|(place, _)| place);
        let piece = best.map(|place| free.remove(place));
        drop(free);
        // New memory is zero already where the system gives it.
        let mut values = piece.unwrap_or_else(|| vec![0.0; length]);
        values.resize(length, 0.0);
        Recycled { values }
    }

    /// The values, for good.
    pub(crate) fn into_values(mut self) -> Vec<f32> {
        std::mem::take(&mut self.values)
    }
}

impl From<Vec<f32>> for Recycled {
    fn from(values: Vec<f32>) -> Self {
        Recycled { values }
    }
}

impl Drop for Recycled {
    fn drop(&mut self) {
        if self.values.capacity() < LEAST {
            return;
        }
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() == MOST {
            // The one that has waited longest for somebody.
            free.remove(0);
        }
        free.push(std::mem::take(&mut self.values));
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
