//! Arrays that processes share.

#![allow(unsafe_code, reason = "makes slices of shared memory; each place has its argument")]

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use bytemuck::Pod;
use firebox_core::check;
use serde_core::de::Error as _;
use serde_core::{Deserialize, Deserializer, Serialize, Serializer};

use super::memory::{Access, Memory, no_memory};
use crate::error::Error;
use crate::sync::memory::shared::Shared;
use crate::sync::waiting::monitor::{Inside, Monitor, kind};

const KIND: u32 = kind(b"arry");

/// The number that has the length.
const LENGTH: usize = 0;
/// Where the elements begin, if there is a lock before them: aligned for every instruction.
const ELEMENTS: usize = 256;

/// An array of a fixed length in the memory of several processes.
///
/// Its elements are plain data (`bytemuck::Pod`): every pattern of bits is a value. A clone is the same
/// array, and so is what a process receives of it. Elements are read and written under the array's own
/// [lock](Self::lock), which survives whoever dies holding it.
///
/// # Count in several processes
/// ```
/// use firebox_workers::sync::SharedArray;
///
/// let counts = SharedArray::<u64>::new(10)?;
/// {
///     let mut counts = counts.lock()?;
///     counts[3] += 1;
///     counts[4] += 2;
/// }
/// assert_eq!(counts.get(4)?, 2);
/// # Ok::<(), firebox_workers::Error>(())
/// ```
///
/// # Fill once, and share for reading
/// ```
/// use firebox_workers::sync::SharedArray;
///
/// let pixels = SharedArray::<u8>::new(784)?;
/// pixels.lock()?.fill(255);
/// let pixels = pixels.seal()?;
/// assert_eq!(pixels[783], 255);
/// # Ok::<(), firebox_workers::Error>(())
/// ```
pub struct SharedArray<T> {
    monitor: Monitor<KIND>,
    length: usize,
    _elements: PhantomData<T>,
}

impl<T: Pod> SharedArray<T> {
    /// An array of zeros.
    ///
    /// # Errors
    /// [`NoMemory`](crate::ErrorKind::NoMemory) if there is no room for it.
    pub fn new(length: usize) -> Result<Self, Error> {
        const { assert!(align_of::<T>() <= ELEMENTS) };
        let name = "firebox-array";
        let bytes = bytes_of::<T>(length).and_then(|bytes| bytes.checked_add(ELEMENTS));
        let monitor = Monitor::new(name, bytes.ok_or_else(|| no_memory(name, usize::MAX))?)?;
        monitor.enter()?.set(LENGTH, length as u64);
        Ok(SharedArray { monitor, length, _elements: PhantomData })
    }

    /// An array of the same elements.
    ///
    /// # Errors
    /// As of [`new`](Self::new).
    pub fn from_slice(elements: &[T]) -> Result<Self, Error> {
        let array = SharedArray::new(elements.len())?;
        array.lock()?.copy_from_slice(elements);
        Ok(array)
    }

    /// How many elements there are.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Tells whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Waits for the elements.
    ///
    /// # Errors
    /// [`Deadlock`](crate::ErrorKind::Deadlock) if this thread has them already.
    pub fn lock(&self) -> Result<ArrayGuard<'_, T>, Error> {
        Ok(ArrayGuard { _inside: self.monitor.enter()?, array: self })
    }

    /// A copy of one element.
    ///
    /// # Errors
    /// [`OutOfRange`](crate::ErrorKind::OutOfRange) beyond the end; else as of [`lock`](Self::lock).
    pub fn get(&self, index: usize) -> Result<T, Error> {
        self.check(index)?;
        Ok(self.lock()?[index])
    }

    /// Writes one element.
    ///
    /// # Errors
    /// As of [`get`](Self::get).
    pub fn set(&self, index: usize, element: T) -> Result<(), Error> {
        self.check(index)?;
        self.lock()?[index] = element;
        Ok(())
    }

    /// Copies of all elements.
    ///
    /// # Errors
    /// As of [`lock`](Self::lock).
    pub fn to_vec(&self) -> Result<Vec<T>, Error> {
        Ok(self.lock()?.to_vec())
    }

    /// Seals the array: nobody writes it any more, and everybody reads it without a lock.
    ///
    /// It takes the only handle that there is of it in any process.
    ///
    /// # Errors
    /// [`Unsealed`], with the array, while somebody else has a handle of it.
    pub fn seal(self) -> Result<SealedArray<T>, Unsealed<T>> {
        let SharedArray { monitor, length, .. } = self;
        let unsealed = |monitor, error| {
            let array = SharedArray { monitor, length, _elements: PhantomData };
            Unsealed { array: Some(array), error }
        };
        let busy = || {
            Error::new(crate::ErrorKind::System, "sealing an array: expected its only handle, got several")
        };
        let memory = monitor.into_memory().map_err(|monitor| unsealed(monitor, busy()))?;
        let sealed = memory.seal().map_err(|(memory, error)| match memory.map(Monitor::from_memory) {
            Some(Ok(monitor)) => unsealed(monitor, error),
            _ => Unsealed { array: None, error },
        })?;
        Shared::new(sealed)
            .map(|shared| SealedArray { shared, start: ELEMENTS, length, _elements: PhantomData })
            .map_err(|error| Unsealed { array: None, error })
    }

    fn check(&self, index: usize) -> Result<(), Error> {
        check(index < self.length, "index of an array", format!("less than {}", self.length), index)
    }
}

impl<T> Clone for SharedArray<T> {
    fn clone(&self) -> Self {
        SharedArray { monitor: self.monitor.clone(), length: self.length, _elements: PhantomData }
    }
}

impl<T> fmt::Debug for SharedArray<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedArray").field("length", &self.length).finish_non_exhaustive()
    }
}

impl<T> Serialize for SharedArray<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.monitor.serialize(to)
    }
}

impl<'de, T: Pod> Deserialize<'de> for SharedArray<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let monitor = Monitor::<KIND>::deserialize(from)?;
        let length =
            checked::<T>(monitor.peek(LENGTH), ELEMENTS, monitor.memory()).map_err(D::Error::custom)?;
        Ok(SharedArray { monitor, length, _elements: PhantomData })
    }
}

/// The elements of a [`SharedArray`], which nobody else has until this is dropped.
#[must_use = "the elements are given back when this is dropped"]
pub struct ArrayGuard<'a, T> {
    _inside: Inside,
    array: &'a SharedArray<T>,
}

impl<T> ArrayGuard<'_, T> {
    /// Tells whether the thread that had the elements before ended without giving them back.
    ///
    /// They may then be half written.
    pub fn was_abandoned(&self) -> bool {
        self._inside.is_abandoned()
    }
}

impl<T: Pod> Deref for ArrayGuard<'_, T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        let memory = self.array.monitor.memory();
        // SAFETY: the lock is held, and all handles reach the elements under it only.
        unsafe { elements(memory, ELEMENTS, self.array.length) }
    }
}

impl<T: Pod> DerefMut for ArrayGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut [T] {
        let length = self.array.length;
        let bytes = ELEMENTS..ELEMENTS + length * size_of::<T>();
        // SAFETY: the lock is held, and all handles reach the elements under it only; the guard is borrowed
        // alone.
        let bytes = unsafe { self.array.monitor.memory().bytes_mut(bytes) };
        // SAFETY: the bytes are those of so many elements, aligned as `elements` says, and all bits are a
        // value.
        unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), length) }
    }
}

impl<T: Pod + fmt::Debug> fmt::Debug for ArrayGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// An array that could not be sealed, and why.
#[derive(Debug)]
#[non_exhaustive]
pub struct Unsealed<T> {
    /// The array as it was; none if there was no address left to map it at.
    pub array: Option<SharedArray<T>>,
    /// The error that was in the way.
    pub error: Error,
}

impl<T> From<Unsealed<T>> for Error {
    fn from(unsealed: Unsealed<T>) -> Self {
        unsealed.error
    }
}

/// An array that several processes read, and nobody writes.
///
/// The system itself refuses every write, whoever asks: so a reference to the elements is sound whatever
/// other processes do. A clone is the same array, and so is what a process receives of it: nothing is copied.
///
/// # A data set for all processes
/// ```
/// use firebox_workers::sync::SealedArray;
///
/// let labels = SealedArray::from_slice(&[5_u8, 0, 4])?;
/// assert_eq!(labels[2], 4);
/// assert_eq!(labels.iter().max(), Some(&5));
/// # Ok::<(), firebox_workers::Error>(())
/// ```
pub struct SealedArray<T> {
    shared: Shared,
    start: usize,
    length: usize,
    _elements: PhantomData<T>,
}

impl<T: Pod> SealedArray<T> {
    /// A copy of a slice for all processes.
    ///
    /// # Errors
    /// [`NoMemory`](crate::ErrorKind::NoMemory) if there is no room for it.
    pub fn from_slice(elements: &[T]) -> Result<Self, Error> {
        Self::fill(elements.len(), |places| places.copy_from_slice(elements))
    }

    /// An array whose elements a function makes, from its index each, where they stay.
    ///
    /// # Errors
    /// As of [`from_slice`](Self::from_slice).
    pub fn from_fn(length: usize, mut element: impl FnMut(usize) -> T) -> Result<Self, Error> {
        Self::fill(length, |places| {
            places.iter_mut().enumerate().for_each(|(index, place)| *place = element(index));
        })
    }

    fn fill(length: usize, fill: impl FnOnce(&mut [T])) -> Result<Self, Error> {
        const { assert!(align_of::<T>() <= ELEMENTS) };
        let name = "firebox-sealed";
        let bytes = bytes_of::<T>(length).ok_or_else(|| no_memory(name, usize::MAX))?;
        let memory = Memory::new(name, bytes)?;
        {
            // SAFETY: nobody else has the memory yet.
            let bytes = unsafe { memory.bytes_mut(0..bytes) };
            // SAFETY: the bytes are those of so many elements, aligned as a page is, and all bits are a
            // value.
            fill(unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), length) });
        }
        let shared = Shared::new(memory.seal().map_err(|(_, error)| error)?)?;
        Ok(SealedArray { shared, start: 0, length, _elements: PhantomData })
    }
}

impl<T: Pod> Deref for SealedArray<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the memory is sealed: nobody can write it.
        unsafe { elements(self.shared.memory(), self.start, self.length) }
    }
}

impl<T> Clone for SealedArray<T> {
    fn clone(&self) -> Self {
        let SealedArray { shared, start, length, .. } = self;
        SealedArray { shared: shared.clone(), start: *start, length: *length, _elements: PhantomData }
    }
}

impl<T> fmt::Debug for SealedArray<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedArray").field("length", &self.length).finish_non_exhaustive()
    }
}

impl<T> Serialize for SealedArray<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        (&self.shared, self.start as u64, self.length as u64).serialize(to)
    }
}

impl<'de, T: Pod> Deserialize<'de> for SealedArray<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let (shared, start, length) = <(Shared, u64, u64)>::deserialize(from)?;
        if shared.memory().access() != Access::Sealed {
            return Err(D::Error::custom("a sealed array: expected sealed memory"));
        }
        let start = usize::try_from(start).map_err(D::Error::custom)?;
        let length = checked::<T>(length, start, shared.memory()).map_err(D::Error::custom)?;
        Ok(SealedArray { shared, start, length, _elements: PhantomData })
    }
}

/// Elements in memory.
///
/// # Safety
/// As long as the reference lives nobody writes them.
unsafe fn elements<T: Pod>(memory: &Arc<Memory>, start: usize, length: usize) -> &[T] {
    // SAFETY: that nobody writes is the caller's word.
    let bytes = unsafe { memory.bytes(start..start + length * size_of::<T>()) };
    // SAFETY: the bytes are those of so many elements, and all bits are a value. A mapping begins on a page,
    // and `start` is a multiple of what aligns every `T` here.
    unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), length) }
}

fn bytes_of<T>(length: usize) -> Option<usize> {
    length.checked_mul(size_of::<T>())
}

/// A length that was received, if the memory has so many elements.
fn checked<T>(length: u64, start: usize, memory: &Memory) -> Result<usize, String> {
    const { assert!(align_of::<T>() <= ELEMENTS) };
    let end = usize::try_from(length).ok().and_then(bytes_of::<T>).and_then(|bytes| bytes.checked_add(start));
    match end {
        // A length that fits into 64 bits and into memory fits into a number of this machine.
        Some(end) if end <= memory.len() && start.is_multiple_of(ELEMENTS) => Ok(length as usize),
        _ => Err(format!(
            "an array: expected {length} elements of {} bytes from byte {start} on, got memory of {} bytes",
            size_of::<T>(),
            memory.len()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::super::crossing::{Message, decode, encode};
    use super::*;

    fn received<T: serde_core::de::DeserializeOwned>(bytes: &[u8], message: &Message) -> Result<T, Error> {
        use std::os::fd::AsFd as _;
        let files = message.files.iter().map(|file| file.as_fd().try_clone_to_owned().unwrap()).collect();
        decode(bytes, files)
    }

    #[test]
    fn lengths_that_are_received_are_checked() {
        let array = SharedArray::<u8>::new(4_000).unwrap();
        let message = encode(&array).unwrap();
        assert_eq!(received::<SharedArray<u8>>(&message.bytes, &message).unwrap().len(), 4_000);
        let error = received::<SharedArray<u64>>(&message.bytes, &message).unwrap_err();
        assert!(error.to_string().contains("expected 4000 elements of 8 bytes from byte 256 on"), "{error}");
        for length in [4_001, u64::MAX, u64::MAX - 255] {
            array.monitor.enter().unwrap().set(LENGTH, length);
            assert!(received::<SharedArray<u8>>(&message.bytes, &message).is_err());
        }
    }

    #[test]
    fn places_of_a_sealed_array_that_are_received_are_checked() {
        let array = SealedArray::from_slice(&[7_u64; 1_000]).unwrap();
        let message = encode(&array).unwrap();
        let of = |start: u64, length: u64| {
            let bytes = with_place(&message, start, length);
            received::<SealedArray<u64>>(&bytes, &message)
        };
        assert_eq!(of(256, 968).unwrap().len(), 968);
        for (start, length) in [(8, 10), (1, 1), (256, 969), (0, 1_001), (0, u64::MAX), (u64::MAX - 255, 1)] {
            assert!(of(start, length).is_err(), "{length} from {start} on");
        }
    }

    /// A message whose last two numbers are these.
    fn with_place(message: &Message, start: u64, length: u64) -> Vec<u8> {
        let mut bytes = message.bytes.clone();
        let end = bytes.len();
        bytes[end - 16..end - 8].copy_from_slice(&start.to_le_bytes());
        bytes[end - 8..].copy_from_slice(&length.to_le_bytes());
        bytes
    }
}
