//! Memory that goes back and forth between processes, in parts that each have one owner.
//!
//! A region is made once and used for many messages: whoever writes a large result takes a part of the region
//! that came with its task, writes there, and sends the part's place. Nothing is copied, and no page is
//! mapped a second time.
//!
//! Within a process a table says which bytes have an owner, so that no two parts overlap, also if another
//! process sends places that do. Between processes there is no such table: that a process touches no bytes of
//! which another one has a part is for those to see to who take parts, which is `unsafe` for that reason. So
//! this module is hidden, too: `firebox-data` gives its users other types.

#![allow(unsafe_code, reason = "makes slices of shared memory; each place has its argument")]

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut, Range};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytemuck::Pod;
use serde_core::de::Error as _;
use serde_core::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, ErrorKind};
use crate::sync::crossing::{Carried, carry, take};
use crate::sync::memory::{Access, Memory, inode, system};

/// Where parts begin: what is fit for every element and every instruction.
pub const ALIGNMENT: usize = 64;

/// The number of a region's file, and one drawn by whoever made it.
type Identity = (u64, u64);

/// The regions of this process, so that one that comes again is the same.
static REGIONS: Mutex<BTreeMap<Identity, Weak<Inner>>> = Mutex::new(BTreeMap::new());

/// Memory that several processes have mapped, and of which each byte has one owner at a time.
#[derive(Clone)]
pub struct Region(Arc<Inner>);

struct Inner {
    memory: Memory,
    identity: Identity,
    /// Where each part that has an owner here begins and ends.
    parts: Mutex<BTreeMap<usize, usize>>,
}

impl AsFd for Inner {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.memory.as_fd()
    }
}

impl Region {
    /// A region of so many bytes.
    ///
    /// # Errors
    /// [`ErrorKind::NoMemory`] if there is no room for it.
    pub fn new(bytes: usize) -> Result<Self, Error> {
        let memory = Memory::new("firebox-region", bytes)?;
        let mut drawn = [0; 8];
        rustix::rand::getrandom(&mut drawn[..], rustix::rand::GetRandomFlags::empty())
            .map_err(|error| system("drawing a number for shared memory", error))?;
        let identity = (memory.inode()?, u64::from_ne_bytes(drawn));
        Ok(Self::note(&mut regions(), memory, identity))
    }

    fn note(regions: &mut BTreeMap<Identity, Weak<Inner>>, memory: Memory, identity: Identity) -> Self {
        let inner = Arc::new(Inner { memory, identity, parts: Mutex::default() });
        regions.retain(|_, region| region.strong_count() > 0);
        regions.insert(identity, Arc::downgrade(&inner));
        Region(inner)
    }

    /// The number of bytes.
    pub fn len(&self) -> usize {
        self.0.memory.len()
    }

    /// Tells whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number by which processes that have the region know it.
    pub fn id(&self) -> u64 {
        self.0.identity.1
    }

    /// The number of parts that have an owner in this process.
    pub fn parts(&self) -> usize {
        self.0.parts().len()
    }

    /// Tells whether this is the only handle of it in this process, and no part has an owner here.
    pub fn is_free(&self) -> bool {
        // A part has a handle, and nobody else can make one while we have the only one.
        Arc::strong_count(&self.0) == 1
    }

    /// A part of so many elements that nobody has here; `None` if there is no room for it.
    ///
    /// # Safety
    /// No other process has a part of the same bytes, or takes one, as long as this part lives: as a rule
    /// because the region is with one process at a time.
    pub unsafe fn part<T: Pod>(&self, length: usize) -> Option<Part<T>> {
        let bytes = length.checked_mul(size_of::<T>())?;
        let mut parts = self.0.parts();
        let mut start = 0;
        for (&begin, &end) in &*parts {
            if begin.saturating_sub(start) >= bytes {
                break;
            }
            start = end.next_multiple_of(ALIGNMENT);
        }
        let end = start.checked_add(bytes).filter(|&end| end <= self.len())?;
        if bytes > 0 {
            parts.insert(start, end);
        }
        drop(parts);
        Some(Part { region: self.clone(), start, length, _elements: PhantomData })
    }

    /// The part at a place that another process has sent.
    fn claim<T: Pod>(&self, start: u64, length: u64) -> Result<Part<T>, String> {
        let wrong = |why: &str| {
            Err(format!(
                "a part of a region: expected {length} elements of {} bytes from byte {start} of {} on, {why}",
                size_of::<T>(),
                self.len()
            ))
        };
        let (start_at, length_of) = (usize::try_from(start).ok(), usize::try_from(length).ok());
        let bytes = length_of.and_then(|length| length.checked_mul(size_of::<T>()));
        let (Some(at), Some(elements), Some(bytes)) = (start_at, length_of, bytes) else {
            return wrong("got more than can be counted");
        };
        let end = at.checked_add(bytes).filter(|&end| end <= self.len());
        let Some(end) = end.filter(|_| at.is_multiple_of(ALIGNMENT)) else {
            return wrong("which lies elsewhere");
        };
        let mut parts = self.0.parts();
        let before = parts.range(..end).next_back();
        if bytes > 0 && before.is_some_and(|(_, &before)| before > at) {
            return wrong("where another part is");
        }
        if bytes > 0 {
            parts.insert(at, end);
        }
        drop(parts);
        Ok(Part { region: self.clone(), start: at, length: elements, _elements: PhantomData })
    }
}

impl Inner {
    fn parts(&self) -> MutexGuard<'_, BTreeMap<usize, usize>> {
        // Nothing panics under this lock.
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn regions() -> MutexGuard<'static, BTreeMap<Identity, Weak<Inner>>> {
    // Nor under this one.
    REGIONS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl PartialEq for Region {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Region").field("bytes", &self.len()).field("parts", &self.parts()).finish()
    }
}

impl Serialize for Region {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let file = carry::<S::Error>(Carried::new(Arc::clone(&self.0) as _))?;
        (file, self.0.identity.1, self.len() as u64).serialize(to)
    }
}

impl<'de> Deserialize<'de> for Region {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let (file, drawn, bytes) = <(u32, u64, u64)>::deserialize(from)?;
        let file = take::<D::Error>(file)?;
        let bytes = usize::try_from(bytes).map_err(D::Error::custom)?;
        let identity = (inode(file.as_fd()).map_err(D::Error::custom)?, drawn);
        // Held while mapping, so that two threads map it once.
        let mut regions = regions();
        if let Some(inner) = regions.get(&identity).and_then(Weak::upgrade) {
            return match inner.memory.len() == bytes {
                true => Ok(Region(inner)),
                false => Err(D::Error::custom("a region: expected its size to be what it was")),
            };
        }
        let file = file
            .try_clone()
            .map_err(|error| Error::new(ErrorKind::System, "keeping a file").caused_by(error))
            .map_err(D::Error::custom)?;
        let memory = Memory::receive(file, bytes, Access::Shared).map_err(D::Error::custom)?;
        Ok(Self::note(&mut regions, memory, identity))
    }
}

/// Some elements in a [`Region`], of one owner.
pub struct Part<T> {
    region: Region,
    start: usize,
    length: usize,
    _elements: PhantomData<T>,
}

impl<T> Part<T> {
    /// The region in which the part lies.
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// The first byte in the region, and the number of elements: for whoever takes the part over.
    pub fn place(&self) -> (u64, u64) {
        (self.start as u64, self.length as u64)
    }

    fn range(&self) -> Range<usize> {
        self.start..self.start + self.length * size_of::<T>()
    }
}

impl<T: Pod> Part<T> {
    /// The part at a [`place`](Self::place) that another process has sent.
    ///
    /// # Errors
    /// A message, if the region doesn't have it, or another part is there.
    ///
    /// # Safety
    /// The process that has sent the place has given up its part there, and no other process has a part of
    /// the same bytes, or takes one, as long as this part lives.
    pub unsafe fn taken_over(region: &Region, (start, length): (u64, u64)) -> Result<Self, String> {
        region.claim(start, length)
    }
}

impl<T: Pod> Deref for Part<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        const { assert!(align_of::<T>() <= ALIGNMENT) };
        // SAFETY: the region's table says that the bytes are this part's alone in this process, and who wants
        // to write them borrows the part mutably. That no other process has them is the word of whoever took
        // the part; one that breaks it changes values, of which each pattern of bits is one.
        let bytes = unsafe { self.region.0.memory.bytes(self.range()) };
        // SAFETY: the bytes are those of so many elements, aligned since a mapping begins on a page and the
        // part on a multiple of the alignment, and all bits are a value.
        unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), self.length) }
    }
}

impl<T: Pod> DerefMut for Part<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        const { assert!(align_of::<T>() <= ALIGNMENT) };
        let (range, length) = (self.range(), self.length);
        // SAFETY: as above; the part is borrowed mutably.
        let bytes = unsafe { self.region.0.memory.bytes_mut(range) };
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), length) }
    }
}

impl<T> Drop for Part<T> {
    fn drop(&mut self) {
        if !self.range().is_empty() {
            self.region.0.parts().remove(&self.start);
        }
    }
}

impl<T: Pod + fmt::Debug> fmt::Debug for Part<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use super::*;
    use crate::process::wire;
    use crate::sync::crossing::{collect, supply};

    /// The kernel's part: other descriptors of the same files.
    fn received(files: &[Carried]) -> Vec<OwnedFd> {
        files.iter().map(|file| file.as_fd().try_clone_to_owned().unwrap()).collect()
    }

    fn part<T: Pod>(region: &Region, length: usize) -> Option<Part<T>> {
        // SAFETY: no other process has the region.
        unsafe { region.part(length) }
    }

    fn taken_over(region: &Region, place: (u64, u64)) -> Result<Part<u32>, String> {
        // SAFETY: no other process has the region; where two mappings of it are tested the one part is not
        // touched while the other one is.
        unsafe { Part::taken_over(region, place) }
    }

    #[test]
    fn parts_are_apart_and_their_room_comes_back() {
        let region = Region::new(1000).unwrap();
        let mut first = part::<u8>(&region, 3).unwrap();
        let mut second = part::<f64>(&region, 10).unwrap();
        first.fill(1);
        second.fill(2.0);
        assert_eq!((first.place(), second.place(), region.parts()), ((0, 3), (64, 10), 2));
        assert_eq!((&*first, second.iter().sum::<f64>()), (&[1; 3][..], 20.0));
        assert!(part::<u64>(&region, 105).is_none(), "it would end after 1,032 bytes");
        let third = part::<u64>(&region, 101).unwrap();
        assert_eq!(third.place(), (192, 101));
        drop(second);
        assert_eq!(part::<u8>(&region, 129).map(|part| part.place()), None, "no gap is so large");
        assert_eq!(part::<u8>(&region, 128).unwrap().place(), (64, 128));
        let empty = part::<f32>(&region, 0).unwrap();
        assert_eq!((empty.len(), region.parts(), region.is_free()), (0, 2, false));
        drop((first, third, empty));
        assert_eq!((region.parts(), region.is_free()), (0, true));
        assert!(part::<u64>(&region, usize::MAX).is_none());
    }

    #[test]
    fn a_region_that_comes_again_is_the_same() {
        let region = Region::new(100).unwrap();
        let (bytes, files) = collect(|| wire::to_vec(&region).unwrap());
        let same: Region = supply(received(&files), || wire::from_slice(&bytes)).unwrap();
        assert_eq!((&same, same.id()), (&region, region.id()));
        drop(same);
        let mut other = bytes.clone();
        // Another number: to this process it is other memory, mapped elsewhere.
        other[4] ^= 1;
        let other: Region = supply(received(&files), || wire::from_slice(&other)).unwrap();
        assert_ne!(other, region);
        let mut longer = bytes.clone();
        longer[12] = 200;
        assert!(supply(received(&files), || wire::from_slice::<Region>(&longer)).is_err());
        longer[13] = 200;
        longer[4] ^= 2;
        let error = supply(received(&files), || wire::from_slice::<Region>(&longer)).unwrap_err();
        assert!(error.to_string().contains("bytes, got"), "{error}");
        // As another process would see it.
        let part = part::<u32>(&region, 4).unwrap();
        let mut there = taken_over(&other, part.place()).unwrap();
        there.copy_from_slice(&[1, 2, 3, 4]);
        assert_eq!(&*part, &[1, 2, 3, 4]);
    }

    #[test]
    fn places_that_are_none_are_refused() {
        let region = Region::new(1024).unwrap();
        let held = taken_over(&region, (128, 40)).unwrap();
        for (start, length) in [
            (128, 40),
            (64, 17),
            (256, 1),
            (0, 256),
            (1, 1),
            (1024, 1),
            (0, 257),
            (u64::MAX, 1),
            (0, u64::MAX),
            (64, u64::MAX / 4),
        ] {
            assert!(taken_over(&region, (start, length)).is_err(), "{length} from {start}");
        }
        for (start, length) in [(0, 32), (320, 176), (1024, 0)] {
            assert!(taken_over(&region, (start, length)).is_ok(), "{length} from {start}");
        }
        drop(held);
        assert!(taken_over(&region, (0, 256)).is_ok());
    }
}
