//! Memory of batches, used again when the consumer is done with it.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::elements::Elements;
#[cfg(all(feature = "processes", target_os = "linux"))]
use crate::elements::shared::SharedMemory;

/// The most that waits to be used again, of one kind: as many as there may be batches ahead, twice.
const KEPT: usize = 32;

/// From this size on, memory is asked for before it is taken: a few times what a batch has as a rule.
const LARGE: usize = 1 << 28;

/// The memory that a loader's batches are made in, and come back to when they are dropped: shared by all
/// clones.
///
/// A layout gets it when it opens a batch, and asks it for [`elements`](Self::elements), or for something
/// that it has [kept](Self::keep) from an earlier batch.
///
/// ```
/// use firebox_data::elements::BufferPool;
///
/// let pool = BufferPool::default();
/// let elements = pool.elements::<f32>(4, 1000);
/// let place = elements.as_ptr();
/// drop(elements);
/// assert_eq!(pool.elements::<f32>(2, 1000).as_ptr(), place);
/// ```
#[derive(Clone, Default)]
pub struct BufferPool {
    shelves: Arc<Mutex<Shelves>>,
    /// In a worker process: the memory for the batch that it makes.
    #[cfg(all(feature = "processes", target_os = "linux"))]
    shared: Option<Arc<SharedMemory>>,
}

/// Kept memory, by its type; each of the `Any`s is a vector of that type.
type Shelves = HashMap<TypeId, Box<dyn Any + Send>>;

impl BufferPool {
    /// Memory for so many samples, each with so many elements. It may hold anything that was written to it
    /// before.
    ///
    /// # Panics
    /// If there isn't any. The loader makes that the error of the batch; an allocation that fails would end
    /// the process.
    pub fn elements<T: Clone + Default + Send + 'static>(
        &self,
        samples: usize,
        elements: usize,
    ) -> Elements<T> {
        if let Some(shared) = samples.checked_mul(elements).and_then(|all| self.shared(all)) {
            return shared;
        }
        let values = match samples.checked_mul(elements) {
            // Of an earlier batch, so that there can be no more than that.
            Some(all) => self.take_memory(all).map(|mut used| {
                used.resize(all, T::default());
                used
            }),
            None => None,
        };
        Elements::of_pool(values.unwrap_or_else(|| blank(samples, elements)), self)
    }

    /// Memory that other processes see, for elements that are numbers, if the batch is made in a worker
    /// process. It may hold anything.
    #[cfg(all(feature = "processes", target_os = "linux"))]
    pub(crate) fn shared<T: 'static>(&self, elements: usize) -> Option<Elements<T>> {
        Some(Elements::of_part(self.shared.as_ref()?.part(elements)?))
    }

    /// Memory that other processes see: there are none.
    #[cfg(not(all(feature = "processes", target_os = "linux")))]
    pub(crate) fn shared<T>(&self, _: usize) -> Option<Elements<T>> {
        None
    }

    /// The pool for a batch whose elements are written into memory that processes share.
    #[cfg(all(feature = "processes", target_os = "linux"))]
    pub(crate) fn within(&self, shared: Arc<SharedMemory>) -> Self {
        BufferPool { shared: Some(shared), ..self.clone() }
    }

    /// Something that was kept: the last that fits.
    pub fn take<V: Send + 'static>(&self, fits: impl Fn(&V) -> bool) -> Option<V> {
        let mut shelves = self.lock();
        let shelf = shelf(&mut shelves)?;
        let place = shelf.iter().rposition(fits)?;
        Some(shelf.swap_remove(place))
    }

    /// Keeps something to be used again, unless enough of its type is there.
    pub fn keep<V: Send + 'static>(&self, thing: V) {
        let mut shelves = self.lock();
        if let Some(shelf) = shelf(&mut shelves).filter(|shelf| shelf.len() < KEPT) {
            shelf.push(thing);
        }
    }

    /// Keeps memory; if enough is there, instead of the smallest, if that is smaller.
    pub(crate) fn keep_memory<T: Send + 'static>(&self, memory: Vec<T>) {
        let mut shelves = self.lock();
        let Some(shelf) = shelf(&mut shelves) else { return };
        if shelf.len() < KEPT {
            return shelf.push(memory);
        }
        let smallest = shelf.iter_mut().min_by_key(|kept| kept.capacity());
        if let Some(smallest) = smallest.filter(|smallest| smallest.capacity() < memory.capacity()) {
            *smallest = memory;
        }
    }

    /// Memory for so many elements: the smallest that is large enough, so that layouts of several sizes share
    /// one pool.
    fn take_memory<T: Send + 'static>(&self, elements: usize) -> Option<Vec<T>> {
        let mut shelves = self.lock();
        let shelf = shelf::<Vec<T>>(&mut shelves)?;
        let fitting = shelf.iter().enumerate().filter(|(_, kept)| kept.capacity() >= elements);
        let (place, _) = fitting.min_by_key(|(_, kept)| kept.capacity())?;
        Some(shelf.swap_remove(place))
    }

    fn lock(&self) -> MutexGuard<'_, Shelves> {
        // What panics under this lock, if anything, is a test of what fits, which changes nothing.
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Kept memory of a type; there always is such a shelf.
fn shelf<V: Send + 'static>(shelves: &mut Shelves) -> Option<&mut Vec<V>> {
    shelves.entry(TypeId::of::<V>()).or_insert_with(|| Box::new(Vec::<V>::new())).downcast_mut()
}

impl fmt::Debug for BufferPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BufferPool").field("kinds", &self.lock().len()).finish()
    }
}

/// New memory for so many samples, `elements` each.
///
/// # Panics
/// If there isn't any.
fn blank<T: Clone + Default>(samples: usize, elements: usize) -> Vec<T> {
    let all = samples.checked_mul(elements);
    let bytes = all.and_then(|all| all.checked_mul(size_of::<T>()));
    let there =
        |all| bytes.is_some_and(|bytes| bytes < LARGE) || Vec::<T>::new().try_reserve_exact(all).is_ok();
    match all {
        Some(all) if there(all) => vec![T::default(); all],
        _ => {
            let bytes =
                bytes.map_or("more bytes than can be counted".to_owned(), |bytes| format!("{bytes} bytes"));
            panic!("no memory for {samples} samples of {elements} elements: they take {bytes}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_bounded_and_the_largest_stays() {
        let pool = BufferPool::default();
        let many: Vec<_> = (0..3 * KEPT).map(|size| pool.elements::<u8>(size, 10)).collect();
        drop(many);
        let sizes = || std::iter::from_fn(|| pool.take::<Vec<u8>>(|_| true)).map(|kept| kept.capacity());
        let mut kept: Vec<usize> = sizes().collect();
        kept.sort_unstable();
        assert_eq!(kept, (2 * KEPT..3 * KEPT).map(|size| 10 * size).collect::<Vec<_>>());
    }

    #[test]
    fn layouts_of_several_sizes_share_one_pool() {
        let pool = BufferPool::default();
        let places = |sizes: [usize; 3]| {
            let elements = sizes.map(|size| pool.elements::<f32>(size, 10));
            elements.each_ref().map(|elements| elements.as_ptr())
        };
        let [small, middle, large] = places([1, 50, 400]);
        assert_eq!(places([400, 1, 50]), [large, small, middle]);
        assert_ne!(pool.elements::<i32>(1, 10).as_ptr().cast(), small, "of another type");
    }
}
