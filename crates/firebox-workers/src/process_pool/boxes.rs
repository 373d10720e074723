//! The shared memory through which large tasks and results go, as the parent has it.

use std::os::fd::{AsFd as _, BorrowedFd};

use crate::error::{Error, ErrorKind};
use crate::process::wire::{Reader, WireError};
use crate::sync::memory::Memory;

/// The least that is worth a file.
const LEAST: usize = 64 << 10;

/// Up to here memory is doubled, so that growing ends soon.
const DOUBLED: usize = 16 << 20;

/// More than this isn't kept for the next task.
const KEPT: usize = 64 << 20;

/// One worker's memory for tasks, or for results. It belongs to the parent, and the worker is given it.
#[derive(Debug, Default)]
pub(super) struct PayloadBox {
    memory: Option<Memory>,
    /// True if the worker has what is here: this memory, or none.
    is_known: bool,
}

impl PayloadBox {
    pub(super) fn memory(&self) -> Option<&Memory> {
        self.memory.as_ref()
    }

    pub(super) fn len(&self) -> usize {
        self.memory.as_ref().map_or(0, Memory::len)
    }

    /// Makes it so large, or somewhat larger, but never larger than the most that it may be.
    ///
    /// # Errors
    /// [`ErrorKind::Crossing`] beyond the most, [`ErrorKind::NoMemory`] if there is no room: both have the
    /// bytes asked for.
    pub(super) fn grow(&mut self, what: &str, bytes: usize, most: usize) -> Result<(), Error> {
        // First the old one goes, so that both need not fit; the worker gives it up, too.
        (self.memory, self.is_known) = (None, false);
        if bytes > most {
            let message = format!("{what}: expected at most {most} bytes, got {bytes}");
            return Err(Error::new(ErrorKind::Crossing, message));
        }
        let bytes = match bytes {
            ..=DOUBLED => bytes.max(LEAST).next_power_of_two(),
            _ => bytes.next_multiple_of(1 << 20),
        };
        self.memory = Some(Memory::new("firebox-payload", bytes.min(most))?);
        Ok(())
    }

    /// The message to the worker about it: nothing if it has it, the bytes of the file that comes along, or
    /// that it is gone.
    pub(super) fn to_tell(&self) -> Option<(u64, Option<BorrowedFd<'_>>)> {
        match &self.memory {
            _ if self.is_known => None,
            Some(memory) => Some((memory.len() as u64, Some(memory.as_fd()))),
            None => Some((0, None)),
        }
    }

    /// Notes that the worker has been told.
    pub(super) fn told(&mut self) {
        self.is_known = true;
    }

    /// Gives back what is too large to be kept.
    pub(super) fn shrink(&mut self) {
        if self.len() > KEPT {
            (self.memory, self.is_known) = (None, false);
        }
    }

    /// Its contents.
    ///
    /// # Errors
    /// If it is smaller than that.
    pub(super) fn reader(&self, bytes: u64) -> Result<Reader<'_>, WireError> {
        match &self.memory {
            Some(memory) => Reader::shared(memory, bytes),
            None => Err(WireError::new(format!("expected no message in shared memory, got {bytes} bytes"))),
        }
    }
}
