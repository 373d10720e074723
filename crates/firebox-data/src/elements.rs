//! Memory of batches, used again when the consumer is done with it.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard};

/// The most that waits to be used again. A consumer takes batches one at a time: one or two wait as a rule.
const KEPT: usize = 8;

/// Things to be used again, shared by all clones.
pub(crate) struct Shelf<V>(Arc<Mutex<Vec<V>>>);

impl<V> Shelf<V> {
    pub(crate) fn take(&self) -> Option<V> {
        self.lock().pop()
    }

    /// Keeps a thing, unless enough are there.
    pub(crate) fn put(&self, thing: V) {
        let mut kept = self.lock();
        if kept.len() < KEPT {
            kept.push(thing);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<V>> {
        // Nothing panics under this lock.
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl<V> Default for Shelf<V> {
    fn default() -> Self {
        Shelf(Arc::default())
    }
}

impl<V> Clone for Shelf<V> {
    fn clone(&self) -> Self {
        Shelf(Arc::clone(&self.0))
    }
}

impl<V> fmt::Debug for Shelf<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shelf").field("kept", &self.lock().len()).finish()
    }
}

/// The elements of a batch: a slice that owns its memory, and gives it back to its loader when it is dropped.
///
/// [`into_vec`](Self::into_vec) keeps the memory for good.
pub struct Elements<T> {
    values: Vec<T>,
    /// Where the memory goes back to; `None` if it came from elsewhere.
    shelf: Option<Shelf<Vec<T>>>,
}

impl<T> Elements<T> {
    pub(crate) fn from_shelf(values: Vec<T>, shelf: &Shelf<Vec<T>>) -> Self {
        Elements { values, shelf: Some(shelf.clone()) }
    }

    /// The elements as a vector of the caller's own. They are not copied.
    pub fn into_vec(mut self) -> Vec<T> {
        self.shelf = None;
        std::mem::take(&mut self.values)
    }

    /// Has some of the elements taken out.
    pub(crate) fn keep(&mut self, some: impl FnOnce(&mut Vec<T>)) {
        some(&mut self.values);
    }
}

impl<T> Drop for Elements<T> {
    fn drop(&mut self) {
        if let Some(shelf) = self.shelf.take() {
            shelf.put(std::mem::take(&mut self.values));
        }
    }
}

impl<T> Deref for Elements<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.values
    }
}

impl<T> DerefMut for Elements<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.values
    }
}

impl<T> From<Vec<T>> for Elements<T> {
    fn from(values: Vec<T>) -> Self {
        Elements { values, shelf: None }
    }
}

impl<T: Clone> Clone for Elements<T> {
    fn clone(&self) -> Self {
        self.values.clone().into()
    }
}

impl<T: fmt::Debug> fmt::Debug for Elements<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.values.fmt(f)
    }
}

impl<T: PartialEq> PartialEq for Elements<T> {
    fn eq(&self, other: &Self) -> bool {
        self.values == other.values
    }
}

macro_rules! equal_to {
    ($(($($length:tt)*) $other:ty),+) => {$(
        impl<T: PartialEq, $($length)*> PartialEq<$other> for Elements<T> {
            fn eq(&self, other: &$other) -> bool {
                self.values[..] == other[..]
            }
        }
    )+};
}

equal_to!(() [T], () &[T], () Vec<T>, (const N: usize) [T; N]);

impl<T> AsRef<[T]> for Elements<T> {
    fn as_ref(&self) -> &[T] {
        self
    }
}

impl<T> IntoIterator for Elements<T> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.into_vec().into_iter()
    }
}

impl<'a, T> IntoIterator for &'a Elements<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_comes_back_once_and_up_to_a_bound() {
        let shelf = Shelf::default();
        let elements = Elements::from_shelf(vec![1u8; 100], &shelf);
        let place = elements.as_ptr();
        let copy = elements.clone();
        drop(elements);
        drop(copy);
        let again = shelf.take().unwrap();
        assert_eq!((again.as_ptr(), shelf.take()), (place, None));
        assert_eq!(Elements::from_shelf(again, &shelf).into_vec().len(), 100);
        assert_eq!(shelf.take(), None, "a vector of the caller's own");
        let many: Vec<_> = (0..3 * KEPT).map(|_| Elements::from_shelf(vec![0u8], &shelf)).collect();
        drop(many);
        assert_eq!(shelf.lock().len(), KEPT);
    }
}
