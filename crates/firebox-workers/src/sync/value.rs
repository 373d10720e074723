//! A value that processes share.

use std::fmt;
use std::ops::{Deref, DerefMut};

use bytemuck::Pod;
use serde_core::de::Error as _;
use serde_core::{Deserialize, Deserializer, Serialize, Serializer};

use super::array::{ArrayGuard, SharedArray};
use crate::error::Error;

/// A value in the memory of several processes.
///
/// It is plain data (`bytemuck::Pod`): every pattern of bits is a value. A clone is the same value, and so is
/// what a process receives of it.
///
/// # Count in several processes
/// ```
/// use firebox_workers::sync::SharedValue;
///
/// let count = SharedValue::new(40_u64)?;
/// count.update(|count| *count += 2)?;
/// assert_eq!(count.get()?, 42);
/// # Ok::<(), firebox_workers::Error>(())
/// ```
pub struct SharedValue<T> {
    /// Of one element.
    array: SharedArray<T>,
}

impl<T: Pod> SharedValue<T> {
    /// A shared value, which begins as `value`.
    ///
    /// # Errors
    /// [`NoMemory`](crate::ErrorKind::NoMemory) if there is no room for it.
    pub fn new(value: T) -> Result<Self, Error> {
        Ok(SharedValue { array: SharedArray::from_slice(&[value])? })
    }

    /// A copy of the value.
    ///
    /// # Errors
    /// [`Deadlock`](crate::ErrorKind::Deadlock) if this thread has the value locked.
    pub fn get(&self) -> Result<T, Error> {
        self.array.get(0)
    }

    /// Writes the value.
    ///
    /// # Errors
    /// As of [`get`](Self::get).
    pub fn set(&self, value: T) -> Result<(), Error> {
        self.array.set(0, value)
    }

    /// Changes the value, while nobody else has it.
    ///
    /// # Errors
    /// As of [`get`](Self::get).
    pub fn update<R>(&self, change: impl FnOnce(&mut T) -> R) -> Result<R, Error> {
        Ok(change(&mut *self.lock()?))
    }

    /// Waits for the value.
    ///
    /// # Errors
    /// As of [`get`](Self::get).
    pub fn lock(&self) -> Result<ValueGuard<'_, T>, Error> {
        Ok(ValueGuard { guard: self.array.lock()? })
    }
}

impl<T> Clone for SharedValue<T> {
    fn clone(&self) -> Self {
        SharedValue { array: self.array.clone() }
    }
}

impl<T> fmt::Debug for SharedValue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedValue").finish_non_exhaustive()
    }
}

impl<T> Serialize for SharedValue<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.array.serialize(to)
    }
}

impl<'de, T: Pod> Deserialize<'de> for SharedValue<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let array = SharedArray::deserialize(from)?;
        if array.len() != 1 {
            let got = array.len();
            return Err(D::Error::custom(format!("a shared value: expected one element, got {got}")));
        }
        Ok(SharedValue { array })
    }
}

/// A [`SharedValue`] that nobody else has until this is dropped.
#[must_use = "the value is given back when this is dropped"]
pub struct ValueGuard<'v, T> {
    guard: ArrayGuard<'v, T>,
}

impl<T> ValueGuard<'_, T> {
    /// Tells whether the thread that had the value before ended without giving it back.
    ///
    /// It may then be half written.
    pub fn was_abandoned(&self) -> bool {
        self.guard.was_abandoned()
    }
}

impl<T: Pod> Deref for ValueGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard[0]
    }
}

impl<T: Pod> DerefMut for ValueGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard[0]
    }
}

impl<T: Pod + fmt::Debug> fmt::Debug for ValueGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
