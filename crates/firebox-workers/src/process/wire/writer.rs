//! Bytes that are written, one after the other.

use crate::sync::memory::Memory;

/// A place that takes bytes: so many into a vector; if there are more, all of them into shared memory.
///
/// It never fails. Bytes for which there is no memory are counted, so that somebody can make it.
pub(crate) struct Writer<'m> {
    /// The bytes from before, and those that aren't in shared memory yet.
    bytes: &'m mut Vec<u8>,
    before: usize,
    /// How many bytes more the vector takes.
    room: usize,
    /// How many bytes it takes in all.
    limit: usize,
    memory: Option<&'m Memory>,
    /// How many bytes went on from the vector.
    spilled: usize,
}

/// Where the bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// In the vector.
    Inline,
    /// In the shared memory, so many of them.
    Shared(usize),
    /// Nowhere: so many bytes of shared memory are needed.
    Needs(usize),
}

impl<'m> Writer<'m> {
    /// To a vector, at its end, without a limit.
    pub(crate) fn vec(bytes: &'m mut Vec<u8>) -> Self {
        Self::new(bytes, usize::MAX, None)
    }

    /// To a vector, at its end, at most so many bytes; more of them to shared memory.
    pub(crate) fn new(bytes: &'m mut Vec<u8>, limit: usize, memory: Option<&'m Memory>) -> Self {
        Writer { before: bytes.len(), bytes, room: limit, limit, memory, spilled: 0 }
    }

    #[inline]
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        if bytes.len() <= self.room {
            self.room -= bytes.len();
            self.bytes.extend_from_slice(bytes);
        } else {
            self.spill(bytes);
        }
    }

    #[cold]
    fn spill(&mut self, bytes: &[u8]) {
        self.flush();
        if bytes.len() <= self.room {
            self.put(bytes);
        } else {
            self.pass_on(bytes);
        }
    }

    /// Empties the vector into the shared memory.
    fn flush(&mut self) {
        let bytes = std::mem::take(self.bytes);
        self.pass_on(&bytes[self.before..]);
        *self.bytes = bytes;
        self.bytes.truncate(self.before);
        self.room = self.limit;
    }

    fn pass_on(&mut self, bytes: &[u8]) {
        let end = self.spilled.saturating_add(bytes.len());
        if let Some(memory) = self.memory
            && end <= memory.len()
        {
            memory.write(self.spilled, bytes);
        }
        self.spilled = end;
    }

    /// Where all bytes are, now that there are no more.
    pub(crate) fn finish(mut self) -> Written {
        if self.spilled == 0 {
            return Written::Inline;
        }
        self.flush();
        match self.memory {
            Some(memory) if self.spilled <= memory.len() => Written::Shared(self.spilled),
            _ => Written::Needs(self.spilled),
        }
    }
}
