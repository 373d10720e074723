//! Memory for all processes on systems that have no worker processes: memory of the one there is.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use bytemuck::Pod;
use serde_core::de::Error as _;
use serde_core::ser::Error as _;
use serde_core::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::Error;

/// Elements that nobody can change: on this system in memory of this process.
///
/// On Linux it goes to a worker process without a copy. Here it goes nowhere: to write it down is an error.
#[derive(Clone)]
pub struct SealedArray<T>(Arc<[T]>);

impl<T: Pod> SealedArray<T> {
    /// A copy of a slice.
    ///
    /// # Errors
    /// None on this system.
    pub fn from_slice(elements: &[T]) -> Result<Self, Error> {
        Ok(SealedArray(elements.into()))
    }

    /// An array whose elements a function makes, from its index each.
    ///
    /// # Errors
    /// None on this system.
    pub fn from_fn(length: usize, element: impl FnMut(usize) -> T) -> Result<Self, Error> {
        Ok(SealedArray((0..length).map(element).collect()))
    }
}

impl<T: Pod> Deref for SealedArray<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T> fmt::Debug for SealedArray<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedArray").field("length", &self.0.len()).finish_non_exhaustive()
    }
}

impl<T> Serialize for SealedArray<T> {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(S::Error::custom(no_processes()))
    }
}

impl<'de, T> Deserialize<'de> for SealedArray<T> {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(D::Error::custom(no_processes()))
    }
}

fn no_processes() -> String {
    format!("a sealed array: expected Linux for another process, got {}", std::env::consts::OS)
}
