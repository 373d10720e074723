//! Messages as bytes: for tests of what reads those of another process.

use std::os::fd::{AsFd as _, OwnedFd};

use serde_core::Serialize;
use serde_core::de::DeserializeOwned;

use crate::error::{Error, ErrorKind};
use crate::sync::crossing::{decode, encode};

/// The bytes that a value crosses as, and copies of the files that go with them.
///
/// # Errors
/// As when it crosses; and if the process has too many files open.
pub fn write<T: Serialize>(value: &T) -> Result<(Vec<u8>, Vec<OwnedFd>), Error> {
    let message = encode(value)?;
    let copies: std::io::Result<Vec<OwnedFd>> =
        message.files.iter().map(|file| file.as_fd().try_clone_to_owned()).collect();
    let copies = copies.map_err(|error| Error::new(ErrorKind::System, "copying a file").caused_by(error))?;
    Ok((message.bytes, copies))
}

/// The value that such bytes and files stand for.
///
/// # Errors
/// If they stand for none.
pub fn read<T: DeserializeOwned>(bytes: &[u8], files: Vec<OwnedFd>) -> Result<T, Error> {
    decode(bytes, files)
}
