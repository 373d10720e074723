//! A value on its way: a few bytes as they are, many in memory that the receiver maps.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use serde_core::Serialize;
use serde_core::de::DeserializeOwned;

use crate::error::{Error, ErrorKind};
use crate::sync::crossing::{self, Carried};
use crate::sync::memory::{Access, Memory};

/// A value that was written down.
#[derive(Debug)]
pub(in crate::sync) struct Letter {
    /// The value's bytes, or none if they are in the first file.
    pub(in crate::sync) bytes: Vec<u8>,
    /// How many bytes there are in the first file.
    pub(in crate::sync) enclosed: u64,
    /// The files that go along.
    pub(in crate::sync) files: Vec<Carried>,
}

impl Letter {
    /// Writes a value down; more than `most` bytes go into memory of their own.
    pub(in crate::sync) fn write<T: Serialize + ?Sized>(value: &T, most: usize) -> Result<Self, Error> {
        let message = crossing::encode(value)?;
        if message.bytes.len() <= most {
            return Ok(Letter { bytes: message.bytes, enclosed: 0, files: message.files });
        }
        let memory = Memory::new("firebox-message", message.bytes.len())?;
        memory.write(0, &message.bytes);
        // Sealed, it is read where it is, whatever the sender does.
        let file = Carried::new(Arc::new(memory.into_sealed_file()?));
        let files = std::iter::once(file).chain(message.files).collect();
        Ok(Letter { bytes: Vec::new(), enclosed: message.bytes.len() as u64, files })
    }

    /// Reads what was written.
    pub(in crate::sync) fn read<T: DeserializeOwned>(
        bytes: &[u8],
        enclosed: u64,
        files: Vec<OwnedFd>,
    ) -> Result<T, Error> {
        if enclosed == 0 {
            return crossing::decode(bytes, files);
        }
        let refused = |message: String| Error::new(ErrorKind::Crossing, message);
        let mut files = files.into_iter();
        let file =
            files.next().ok_or_else(|| refused("a message: expected its memory, got no file".to_owned()))?;
        let length = usize::try_from(enclosed)
            .map_err(|_| refused(format!("a message: expected its length, got {enclosed}")))?;
        let memory = Memory::receive(file, length, Access::Sealed)?;
        crossing::decode(memory.sealed_bytes(), files.collect())
    }
}
