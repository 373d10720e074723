//! Bytes that are read, one after the other.

use super::WireError;
use crate::sync::memory::Memory;

/// How many bytes of shared memory are copied at a time.
const BLOCK: usize = 4096;

/// A place in bytes.
pub(crate) enum Reader<'m> {
    /// In memory that is this process's alone.
    Slice(&'m [u8]),
    /// In memory that another process may write meanwhile.
    Shared(SharedReader<'m>),
}

/// A place in shared memory, and a copy of what comes next.
pub(crate) struct SharedReader<'m> {
    memory: &'m Memory,
    /// The next byte, and the end.
    next: usize,
    end: usize,
    /// A copy of the bytes from `from` on.
    block: Vec<u8>,
    from: usize,
}

impl<'m> Reader<'m> {
    pub(crate) fn slice(bytes: &'m [u8]) -> Self {
        Reader::Slice(bytes)
    }

    /// The first `length` bytes of shared memory.
    ///
    /// # Errors
    /// If it has fewer.
    pub(crate) fn shared(memory: &'m Memory, length: u64) -> Result<Self, WireError> {
        match usize::try_from(length) {
            Ok(end) if end <= memory.len() => {
                Ok(Reader::Shared(SharedReader { memory, next: 0, end, block: Vec::new(), from: 0 }))
            }
            _ => Err(WireError::new(format!(
                "a message in shared memory: expected at most {} bytes, got {length}",
                memory.len()
            ))),
        }
    }

    /// How many bytes are left.
    #[inline]
    pub(crate) fn left(&self) -> usize {
        match self {
            Reader::Slice(bytes) => bytes.len(),
            Reader::Shared(shared) => shared.end - shared.next,
        }
    }

    /// Fails unless all has been read.
    pub(crate) fn end(&self) -> Result<(), WireError> {
        match self.left() {
            0 => Ok(()),
            left => Err(WireError::new(format!("expected the end, got {left} bytes more"))),
        }
    }

    #[inline]
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        match self {
            Reader::Slice(bytes) => match bytes.split_first_chunk() {
                Some((first, rest)) => {
                    *bytes = rest;
                    Ok(*first)
                }
                None => Err(WireError::short(N, bytes.len())),
            },
            Reader::Shared(shared) => shared.array(),
        }
    }

    /// A copy of the next bytes. Nothing is allocated unless they are there.
    pub(crate) fn vec(&mut self, length: usize) -> Result<Vec<u8>, WireError> {
        if length > self.left() {
            return Err(WireError::short(length, self.left()));
        }
        match self {
            Reader::Slice(bytes) => {
                let (first, rest) = bytes.split_at(length);
                *bytes = rest;
                Ok(first.to_vec())
            }
            Reader::Shared(shared) => {
                let mut copy = vec![0; length];
                shared.memory.read(shared.next, &mut copy);
                shared.next += length;
                Ok(copy)
            }
        }
    }
}

impl SharedReader<'_> {
    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        // What was read as a vector has gone beyond the copy.
        let copied = self.block.get(self.next - self.from..).and_then(|rest| rest.first_chunk());
        let bytes = match copied {
            Some(bytes) => *bytes,
            None => self.refill()?,
        };
        self.next += N;
        Ok(bytes)
    }

    fn refill<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let left = self.end - self.next;
        self.from = self.next;
        self.block.resize(left.min(BLOCK), 0);
        self.memory.read(self.next, &mut self.block);
        self.block.first_chunk().copied().ok_or_else(|| WireError::short(N, left))
    }
}
