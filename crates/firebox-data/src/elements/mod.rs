//! The elements of a batch, in memory that comes back.

pub(crate) mod buffer_pool;

#[cfg(all(feature = "processes", target_os = "linux"))]
mod crossing;
#[cfg(all(feature = "processes", target_os = "linux"))]
pub(crate) mod shared;

pub use buffer_pool::BufferPool;

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::ops::{Deref, DerefMut};

use bytemuck::NoUninit;
use bytes::Bytes;

#[cfg(all(feature = "processes", target_os = "linux"))]
use shared::SharedPart;

/// The elements of a batch: a slice that owns its memory, and gives it back to its loader when it is dropped.
///
/// # Keep the memory for good
/// [`into_vec`](Self::into_vec) makes it a vector of one's own, without a copy; with one if a worker process
/// has made the batch, in memory that it shares with this one.
///
/// # Lend the memory to another framework's tensor as a vector
/// Where a tensor owns a vector, as candle's do, [`lend`](Self::lend) gives it one, and a [`Loan`] that takes
/// it back. What a worker process has made is copied for it, and not by the next way.
///
/// # Lend the memory to another framework's tensor by reference
/// A tensor that is made over memory of somebody else's holds whoever owns it. An `Arc` of the elements is
/// such an owner, and so are the [`Bytes`] of [`into_bytes`](Self::into_bytes): they can be cloned, and the
/// memory comes back when the last clone is dropped.
///
/// ```
/// use firebox_data::{Loader, Stack};
///
/// let loader = Loader::builder(vec![1f32; 64])
///     .batch_size(32)
///     .workers(0)
///     .build(Stack::new([1]), |value, _, slot: &mut [f32]| Ok(slot.fill(value)))?;
/// let mut epoch = loader.epoch(0);
/// let lent = epoch.next().unwrap()?.values.into_bytes();
/// let place = lent.as_ptr();
/// assert_eq!(lent[..4], 1f32.to_ne_bytes());
/// // Where a tensor would be dropped:
/// drop(lent);
/// assert_eq!(epoch.next().unwrap()?.values.as_ptr().cast(), place);
/// # Ok::<(), firebox_data::Error>(())
/// ```
pub struct Elements<T>(Backing<T>);

/// Where elements are.
enum Backing<T> {
    /// In a vector, and where its memory goes back to; `None` if it came from elsewhere.
    Heap(Vec<T>, Option<Home<T>>),
    /// The first so many of a part of memory that processes share.
    #[cfg(all(feature = "processes", target_os = "linux"))]
    Shared(Box<dyn SharedPart<T>>, usize),
}

/// A pool, and how it takes memory of this type.
struct Home<T> {
    pool: BufferPool,
    give_back: fn(&BufferPool, Vec<T>),
}

impl<T: Send + 'static> Elements<T> {
    /// Elements in memory that is to come back to a pool.
    pub(crate) fn of_pool(values: Vec<T>, pool: &BufferPool) -> Self {
        let home = Home { pool: pool.clone(), give_back: BufferPool::keep_memory };
        Elements(Backing::Heap(values, Some(home)))
    }
}

#[cfg(all(feature = "processes", target_os = "linux"))]
impl<T> Elements<T> {
    /// Elements in memory that processes share.
    pub(crate) fn of_part(part: Box<dyn SharedPart<T>>) -> Self {
        let length = part.elements().len();
        Elements(Backing::Shared(part, length))
    }

    /// The memory that processes share, if the elements are in such, and how many of them count.
    pub(crate) fn part(&self) -> Option<(&dyn SharedPart<T>, usize)> {
        match &self.0 {
            Backing::Shared(part, length) => Some((&**part, *length)),
            Backing::Heap(..) => None,
        }
    }
}

impl<T> Elements<T> {
    /// The elements as a vector, and the way back for its memory.
    ///
    /// ```
    /// use firebox_data::{Loader, Stack};
    ///
    /// let loader = Loader::builder(vec![1f32; 64])
    ///     .batch_size(32)
    ///     .workers(0)
    ///     .build(Stack::new([1]), |value, _, slot: &mut [f32]| Ok(slot.fill(value)))?;
    /// let mut epoch = loader.epoch(0);
    /// let (vector, loan) = epoch.next().unwrap()?.values.lend();
    /// let place = vector.as_ptr();
    /// loan.give_back(vector);
    /// assert_eq!(epoch.next().unwrap()?.values.as_ptr(), place);
    /// # Ok::<(), firebox_data::Error>(())
    /// ```
    pub fn lend(mut self) -> (Vec<T>, Loan<T>) {
        let (values, home) = self.take();
        (values, Loan { home })
    }

    /// The elements in a vector, and where its memory goes back to.
    fn take(&mut self) -> (Vec<T>, Option<Home<T>>) {
        match &mut self.0 {
            Backing::Heap(values, home) => (std::mem::take(values), home.take()),
            #[cfg(all(feature = "processes", target_os = "linux"))]
            Backing::Shared(part, length) => (part.to_vec(*length), None),
        }
    }
}

/// The way back for memory that [`Elements::lend`] gave out. Dropped, it leaves the memory to whoever has it.
pub struct Loan<T> {
    home: Option<Home<T>>,
}

impl<T> Loan<T> {
    /// Gives memory back, whatever it holds now.
    pub fn give_back(self, memory: Vec<T>) {
        if let Some(Home { pool, give_back }) = self.home {
            give_back(&pool, memory);
        }
    }
}

impl<T> fmt::Debug for Loan<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loan").field("comes_back", &self.home.is_some()).finish()
    }
}

impl<T: NoUninit + Send + Sync> Elements<T> {
    /// The elements as bytes that can be shared. They are not copied, and the memory comes back to the loader
    /// with the last clone.
    pub fn into_bytes(self) -> Bytes {
        Bytes::from_owner(OwnedBytes(self))
    }
}

/// Elements, seen as bytes.
struct OwnedBytes<T>(Elements<T>);

impl<T: NoUninit> AsRef<[u8]> for OwnedBytes<T> {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

impl<T> Elements<T> {
    /// The elements as a vector of the caller's own. They are not copied, unless a worker process has made
    /// them.
    pub fn into_vec(mut self) -> Vec<T> {
        self.take().0
    }

    /// Tells whether the elements are in a vector, and not in memory that processes share.
    #[cfg(feature = "burn")]
    pub(crate) fn is_vec(&self) -> bool {
        matches!(self.0, Backing::Heap(..))
    }

    /// Puts some of the elements first, and keeps so many as are said.
    pub(crate) fn keep(&mut self, some: impl FnOnce(&mut [T]) -> usize) {
        let kept = some(self);
        match &mut self.0 {
            Backing::Heap(values, _) => values.truncate(kept),
            #[cfg(all(feature = "processes", target_os = "linux"))]
            Backing::Shared(_, length) => *length = kept.min(*length),
        }
    }
}

impl<T> Drop for Elements<T> {
    fn drop(&mut self) {
        if let Backing::Heap(values, home) = &mut self.0
            && let Some(Home { pool, give_back }) = home.take()
        {
            give_back(&pool, std::mem::take(values));
        }
    }
}

impl<T> Deref for Elements<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match &self.0 {
            Backing::Heap(values, _) => values,
            #[cfg(all(feature = "processes", target_os = "linux"))]
            Backing::Shared(part, length) => &part.elements()[..*length],
        }
    }
}

impl<T> DerefMut for Elements<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        match &mut self.0 {
            Backing::Heap(values, _) => values,
            #[cfg(all(feature = "processes", target_os = "linux"))]
            Backing::Shared(part, length) => &mut part.elements_mut()[..*length],
        }
    }
}

impl<T> From<Vec<T>> for Elements<T> {
    fn from(values: Vec<T>) -> Self {
        Elements(Backing::Heap(values, None))
    }
}

impl<T: Clone> Clone for Elements<T> {
    fn clone(&self) -> Self {
        self.to_vec().into()
    }
}

impl<T: fmt::Debug> fmt::Debug for Elements<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: PartialEq> PartialEq for Elements<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Eq> Eq for Elements<T> {}

impl<T: PartialOrd> PartialOrd for Elements<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (**self).partial_cmp(&**other)
    }
}

impl<T: Ord> Ord for Elements<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        (**self).cmp(&**other)
    }
}

macro_rules! equal_to {
    ($(($($length:tt)*) $other:ty),+) => {$(
        impl<T: PartialEq, $($length)*> PartialEq<$other> for Elements<T> {
            fn eq(&self, other: &$other) -> bool {
                self[..] == other[..]
            }
        }
    )+};
}

equal_to!(() [T], () &[T], () Vec<T>, (const N: usize) [T; N]);

impl<T: PartialEq> PartialEq<Elements<T>> for Vec<T> {
    fn eq(&self, other: &Elements<T>) -> bool {
        **self == other[..]
    }
}

/// So that those of several batches can be put together by `concat`.
impl<T> Borrow<[T]> for Elements<T> {
    fn borrow(&self) -> &[T] {
        self
    }
}

impl<T> From<Elements<T>> for Vec<T> {
    fn from(elements: Elements<T>) -> Self {
        elements.into_vec()
    }
}

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
    fn memory_comes_back_once() {
        let pool = BufferPool::default();
        let elements = Elements::of_pool(vec![1u8; 100], &pool);
        let place = elements.as_ptr();
        let copy = elements.clone();
        drop(elements);
        drop(copy);
        let again: Vec<u8> = pool.take(|_| true).unwrap();
        assert_eq!((again.as_ptr(), pool.take::<Vec<u8>>(|_| true)), (place, None));
        assert_eq!(Elements::of_pool(again, &pool).into_vec().len(), 100);
        assert_eq!(pool.take::<Vec<u8>>(|_| true), None, "a vector of the caller's own");
    }

    #[test]
    fn memory_that_is_lent_comes_back_with_the_last_who_has_it() {
        let pool = BufferPool::default();
        let elements = Elements::of_pool(vec![0x0102_0304u32; 3], &pool);
        let place = elements.as_ptr();
        let lent = elements.into_bytes();
        assert_eq!((lent.as_ptr(), lent.len()), (place.cast(), 12));
        let part = lent.slice(4..8);
        drop(lent);
        assert_eq!(part[..], 0x0102_0304u32.to_ne_bytes());
        assert_eq!(pool.take::<Vec<u32>>(|_| true), None, "somebody has it");
        drop(part);
        assert_eq!(pool.take::<Vec<u32>>(|_| true).map(|back| back.as_ptr()), Some(place));

        let (memory, loan) = Elements::of_pool(vec![1f32; 9], &pool).lend();
        let place = memory.as_ptr();
        assert_eq!(pool.take::<Vec<f32>>(|_| true), None);
        loan.give_back(memory);
        assert_eq!(pool.take::<Vec<f32>>(|_| true).map(|back| back.as_ptr()), Some(place));
        let (memory, loan) = Elements::from(vec![1f32]).lend();
        loan.give_back(memory);
        assert_eq!(pool.take::<Vec<f32>>(|_| true), None, "it came from elsewhere");

        let shared = std::sync::Arc::new(Elements::of_pool(vec![7i64], &pool));
        let other = std::sync::Arc::clone(&shared);
        drop(shared);
        assert_eq!((&other[..], pool.take::<Vec<i64>>(|_| true)), (&[7][..], None));
        drop(other);
        assert_eq!(pool.take::<Vec<i64>>(|_| true), Some(vec![7]));
    }
}
