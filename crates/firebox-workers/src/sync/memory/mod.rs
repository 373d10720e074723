//! Memory that several processes map.
//!
//! It is a file without a name (`memfd_create`), so that it goes with its last user, whoever that is and
//! however it ends. Its pages are reserved when it is made: where there is no room, that is an error then,
//! and not a signal when somebody writes. And it is sealed against shrinking and growing, so that a mapping
//! is backed for as long as it stands, whatever the other processes do.
//!
//! What another process writes may change at any time. So bytes are read and written by atomic words, which
//! is sound whoever writes beside; references to plain memory are `unsafe`, and whoever takes one says why
//! nobody writes.

#![allow(unsafe_code, reason = "maps memory; each place has its argument")]

#[doc(hidden)]
pub mod region;
mod room;
pub(in crate::sync) mod shared;

use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};

use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags, fallocate, fcntl_add_seals, fcntl_get_seals, fstat};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use rustix::process::{Resource, getrlimit};

use crate::error::{Error, ErrorKind};

/// The size from which memory is asked for with a look at what is left: too much is everybody's misfortune.
const LARGE: usize = 16 << 20;

/// The seals of all memory here.
const SIZE: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW);

/// The purpose of a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Access {
    /// Reading what nobody can write any more.
    Sealed,
    /// Reading and writing.
    Shared,
}

/// A memory file of a fixed size, and its mapping.
#[derive(Debug)]
pub(crate) struct Memory {
    file: OwnedFd,
    mapping: Mapping,
}

impl Memory {
    /// Memory of `bytes` zeros. Its name is seen in `/proc/PID/fd` and `/proc/PID/maps` only.
    ///
    /// # Errors
    /// [`ErrorKind::NoMemory`] if there is no room for it, [`ErrorKind::System`] if the system gives no
    /// memory files.
    pub(crate) fn new(name: &str, bytes: usize) -> Result<Self, Error> {
        let asked = |error: Errno| no_memory(name, bytes).caused_by(std::io::Error::from(error));
        // There is no mapping of nothing.
        let length = bytes.max(1) as u64;
        check_room(name, bytes)?;
        let file = create(name)?;
        retry(|| fallocate(&file, FallocateFlags::empty(), 0, length)).map_err(asked)?;
        fcntl_add_seals(&file, SIZE).map_err(|error| system("sealing memory", error))?;
        let mapping = Mapping::new(file.as_fd(), bytes, Access::Shared).map_err(asked)?;
        Ok(Memory { file, mapping })
    }

    /// The memory of a file that another process has sent.
    ///
    /// Nothing that comes with it is believed: the file has to be sealed against shrinking and growing, and
    /// against writing if it is to be read only; and it has to have `bytes` at least.
    ///
    /// # Errors
    /// [`ErrorKind::Crossing`] for a file that is not that, [`ErrorKind::NoMemory`] if it can't be mapped.
    pub(crate) fn receive(file: OwnedFd, bytes: usize, access: Access) -> Result<Self, Error> {
        let wanted = match access {
            Access::Sealed => SIZE | SealFlags::WRITE,
            Access::Shared => SIZE,
        };
        // Other files than memory files have no seals.
        let seals = fcntl_get_seals(&file).unwrap_or(SealFlags::empty());
        if !seals.contains(wanted) {
            return Err(refused(format!("a memory file: expected the seals {wanted:?}, got {seals:?}")));
        }
        let size = fstat(&file).map_err(|error| system("looking at a memory file", error))?.st_size;
        // A file of the size 0 has no page that a mapping could show.
        if u64::try_from(size).is_ok_and(|size| size < bytes.max(1) as u64) || size < 1 {
            return Err(refused(format!("a memory file: expected {bytes} bytes, got {size}")));
        }
        let mapping = Mapping::new(file.as_fd(), bytes, access)
            .map_err(|error| no_memory("a mapping", bytes).caused_by(std::io::Error::from(error)))?;
        Ok(Memory { file, mapping })
    }

    /// Seals the memory against writing, for ever and for everybody, and keeps it for reading.
    ///
    /// # Errors
    /// [`ErrorKind::System`] while somebody else has the memory mapped for writing. The memory comes back
    /// with it, unless the system had no address for it any more.
    pub(crate) fn seal(self) -> Result<Self, (Option<Self>, Error)> {
        let Memory { file, mapping } = self;
        let bytes = mapping.bytes;
        // Ours would be in the way like anybody's.
        drop(mapping);
        let map = |access| Mapping::new(file.as_fd(), bytes, access);
        let sealed = fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::SEAL);
        let access = if sealed.is_ok() { Access::Sealed } else { Access::Shared };
        match (sealed, map(access)) {
            (Ok(()), Ok(mapping)) => Ok(Memory { file, mapping }),
            (Ok(()), Err(error)) => Err((None, system("mapping sealed memory", error))),
            (Err(error), mapping) => {
                let error = system("sealing memory, which others must not have for writing", error);
                Err((mapping.ok().map(|mapping| Memory { file, mapping }), error))
            }
        }
    }

    /// Seals the memory against writing, for somebody else to read.
    ///
    /// # Errors
    /// As of [`seal`](Self::seal).
    pub(crate) fn into_sealed_file(self) -> Result<OwnedFd, Error> {
        let Memory { file, mapping } = self;
        drop(mapping);
        fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::SEAL)
            .map_err(|error| system("sealing memory", error))?;
        Ok(file)
    }

    /// How many bytes the memory has.
    pub(crate) fn len(&self) -> usize {
        self.mapping.bytes
    }

    /// The purpose that the memory is mapped for.
    pub(crate) fn access(&self) -> Access {
        self.mapping.access
    }

    /// The number of the file, which no other memory file has as long as this one is open anywhere.
    pub(crate) fn inode(&self) -> Result<u64, Error> {
        inode(self.file.as_fd())
    }

    /// The address of the first byte.
    pub(crate) fn start(&self) -> NonNull<u8> {
        self.mapping.start
    }

    /// Reads the bytes from `at` on.
    ///
    /// # Panics
    /// If the memory ends before.
    pub(crate) fn read(&self, at: usize, into: &mut [u8]) {
        let (head, words, tail) = self.split(at, into.len());
        let (first, rest) = into.split_at_mut(head.len());
        let (middle, last) = rest.split_at_mut(words.len() * 8);
        for (to, from) in first.iter_mut().zip(head).chain(last.iter_mut().zip(tail)) {
            *to = from.load(Relaxed);
        }
        for (to, from) in middle.chunks_exact_mut(8).zip(words) {
            to.copy_from_slice(&from.load(Relaxed).to_ne_bytes());
        }
    }

    /// Writes bytes from `at` on.
    ///
    /// # Panics
    /// If the memory ends before, or is sealed.
    pub(crate) fn write(&self, at: usize, bytes: &[u8]) {
        assert!(self.access() == Access::Shared, "sealed memory is not written");
        let (head, words, tail) = self.split(at, bytes.len());
        let (first, rest) = bytes.split_at(head.len());
        let (middle, last) = rest.split_at(words.len() * 8);
        for (from, to) in first.iter().zip(head).chain(last.iter().zip(tail)) {
            to.store(*from, Relaxed);
        }
        for (from, to) in middle.chunks_exact(8).zip(words) {
            let mut word = [0; 8];
            word.copy_from_slice(from);
            to.store(u64::from_ne_bytes(word), Relaxed);
        }
    }

    /// The `count` 32-bit words from byte `at` on.
    ///
    /// # Panics
    /// If the memory ends before, is sealed, or `at` is no multiple of 4.
    pub(crate) fn words32(&self, at: usize, count: usize) -> &[AtomicU32] {
        assert!(self.access() == Access::Shared, "words of sealed memory are plain");
        self.within(at, count.saturating_mul(4));
        assert!(at.is_multiple_of(4), "byte {at} begins no word");
        // SAFETY: the range lies within the mapping, which lives as long as `self`; a mapping begins on a
        // page, so that the words are aligned; all bits are a number; and every access of this process to
        // them is atomic, for memory that is written as words is read as words.
        unsafe { std::slice::from_raw_parts(self.start().add(at).cast().as_ptr(), count) }
    }

    /// The `count` 64-bit words from byte `at` on.
    ///
    /// # Panics
    /// If the memory ends before, is sealed, or `at` is no multiple of 8.
    pub(crate) fn words64(&self, at: usize, count: usize) -> &[AtomicU64] {
        assert!(self.access() == Access::Shared, "words of sealed memory are plain");
        self.within(at, count.saturating_mul(8));
        assert!(at.is_multiple_of(8), "byte {at} begins no word");
        // SAFETY: as of `words32`.
        unsafe { std::slice::from_raw_parts(self.start().add(at).cast().as_ptr(), count) }
    }

    /// The bytes of sealed memory.
    ///
    /// # Panics
    /// If the memory is not sealed.
    pub(crate) fn sealed_bytes(&self) -> &[u8] {
        assert!(self.access() == Access::Sealed, "memory that others write is not read in place");
        // SAFETY: the memory is sealed: nobody can write it.
        unsafe { self.bytes(0..self.len()) }
    }

    /// The bytes as plain memory.
    ///
    /// # Safety
    /// As long as the reference lives nobody writes them: the memory is sealed, or nobody else is able or
    /// allowed to.
    pub(crate) unsafe fn bytes(&self, range: Range<usize>) -> &[u8] {
        self.within(range.start, range.len());
        // SAFETY: the range lies within the mapping, which lives as long as `self`; that nobody writes is the
        // caller's word.
        unsafe { std::slice::from_raw_parts(self.start().add(range.start).as_ptr(), range.len()) }
    }

    /// The bytes as plain memory to write.
    ///
    /// # Safety
    /// As long as the reference lives nobody else reads or writes them.
    ///
    /// # Panics
    /// If the memory ends before, or is sealed.
    #[allow(
        clippy::mut_from_ref,
        reason = "whose turn it is, other processes decide, too: it is the caller's to know"
    )]
    pub(crate) unsafe fn bytes_mut(&self, range: Range<usize>) -> &mut [u8] {
        assert!(self.access() == Access::Shared, "sealed memory is not written");
        self.within(range.start, range.len());
        // SAFETY: as of `bytes`; that the reference is the only one is the caller's word.
        unsafe { std::slice::from_raw_parts_mut(self.start().add(range.start).as_ptr(), range.len()) }
    }

    fn within(&self, at: usize, bytes: usize) {
        let end = at.checked_add(bytes);
        assert!(end.is_some_and(|end| end <= self.len()), "{bytes} bytes from {at} of {}", self.len());
    }

    /// The bytes up to the first word, the words, and the bytes after the last one.
    fn split(&self, at: usize, bytes: usize) -> (&[AtomicU8], &[AtomicU64], &[AtomicU8]) {
        self.within(at, bytes);
        let head = (at.next_multiple_of(8) - at).min(bytes);
        let words = (bytes - head) / 8;
        let tail = bytes - head - words * 8;
        // SAFETY: the three lie in a row within the mapping, which lives as long as `self`; `at + head` is a
        // multiple of 8 or there are no words, and a mapping begins on a page; all bits are a number. That
        // sealed memory is not written is seen to by `write`; it may be read by atomic loads of a word.
        unsafe {
            let start = self.start().add(at);
            let middle = start.add(head);
            (
                std::slice::from_raw_parts(start.cast().as_ptr(), head),
                if words == 0 { &[] } else { std::slice::from_raw_parts(middle.cast().as_ptr(), words) },
                std::slice::from_raw_parts(middle.add(words * 8).cast().as_ptr(), tail),
            )
        }
    }
}

impl AsFd for Memory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Addresses that show a file.
#[derive(Debug)]
struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
    access: Access,
}

// SAFETY: a mapping belongs to the process and not to a thread; what is reached through it is reached by
// atomics, or by the word of whoever calls an `unsafe` function.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(file: BorrowedFd<'_>, bytes: usize, access: Access) -> Result<Self, Errno> {
        let (protection, flags) = match access {
            // Nobody writes, so that both kinds show the same pages; kernels before 6.7 refuse the shared
            // one.
            Access::Sealed => (ProtFlags::READ, MapFlags::PRIVATE),
            Access::Shared => (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED),
        };
        // No slice may be longer.
        if isize::try_from(bytes).is_err() {
            return Err(Errno::NOMEM);
        }
        // SAFETY: the system chooses the address, so that nothing is mapped over; the file is as long as the
        // mapping and can't shrink.
        let start = unsafe { mmap(std::ptr::null_mut(), bytes.max(1), protection, flags, file, 0) }?;
        Ok(Mapping { start: NonNull::new(start.cast()).ok_or(Errno::NOMEM)?, bytes, access })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's, and every reference into it borrows its owner.
        let unmapped = unsafe { munmap(self.start.as_ptr().cast(), self.bytes.max(1)) };
        debug_assert!(unmapped.is_ok(), "a mapping that was made can be unmade: {unmapped:?}");
    }
}

/// The number of a file that is open.
pub(crate) fn inode(file: BorrowedFd<'_>) -> Result<u64, Error> {
    Ok(fstat(file).map_err(|error| system("looking at a file", error))?.st_ino)
}

fn create(name: &str) -> Result<OwnedFd, Error> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Kernels before 6.3 don't know the flag; later ones may insist on it.
    match rustix::fs::memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL) {
        Err(Errno::INVAL) => rustix::fs::memfd_create(name, flags),
        made => made,
    }
    .map_err(|error| system("making a memory file", error))
}

/// Fails where reserving would end the process, by the signal for too large a file, or by that of a system
/// out of memory.
fn check_room(name: &str, bytes: usize) -> Result<(), Error> {
    if let Some(limit) = getrlimit(Resource::Fsize).current.filter(|&limit| limit < bytes as u64) {
        return Err(no_memory(name, bytes).within(format!("files of this process may have {limit} bytes")));
    }
    if bytes < LARGE {
        return Ok(());
    }
    match room::left() {
        Some((left, who)) if left < bytes as u64 => {
            Err(no_memory(name, bytes).within(format!("{who} has {left} bytes left")))
        }
        _ => Ok(()),
    }
}

/// An error that has the bytes asked for.
pub(crate) fn no_memory(name: &str, bytes: usize) -> Error {
    Error::new(ErrorKind::NoMemory { bytes }, name)
}

/// An error of a call of the system.
pub(crate) fn system(doing: &str, error: Errno) -> Error {
    Error::new(ErrorKind::System, doing).caused_by(std::io::Error::from(error))
}

fn refused(message: String) -> Error {
    Error::new(ErrorKind::Crossing, message)
}

/// Does again what a signal has interrupted.
pub(crate) fn retry<R>(call: impl FnMut() -> Result<R, Errno>) -> Result<R, Errno> {
    rustix::io::retry_on_intr(call)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::SeqCst;

    use super::*;

    fn file_of(bytes: u64, seals: SealFlags) -> OwnedFd {
        let file = create("test").unwrap();
        rustix::fs::ftruncate(&file, bytes).unwrap();
        fcntl_add_seals(&file, seals).unwrap();
        file
    }

    #[test]
    fn bytes_come_back_from_every_place_in_every_length() {
        let memory = Memory::new("test", 40).unwrap();
        for at in 0..40 {
            for length in 0..=40 - at {
                memory.write(0, &[0xEE; 40]);
                let bytes: Vec<u8> = (0..length as u8).map(|number| number + 1).collect();
                memory.write(at, &bytes);
                let mut all = [0; 40];
                memory.read(0, &mut all);
                let mut expected = [0xEE; 40];
                expected[at..at + length].copy_from_slice(&bytes);
                assert_eq!(all, expected, "{length} bytes at {at}");
                let mut read = vec![0; length];
                memory.read(at, &mut read);
                assert_eq!(read, bytes, "{length} bytes at {at}");
            }
        }
    }

    #[test]
    fn what_is_beyond_the_end_is_never_touched() {
        let memory = Memory::new("test", 40).unwrap();
        let panics = |call: &dyn Fn()| {
            let call = std::panic::AssertUnwindSafe(call);
            assert!(std::panic::catch_unwind(call).is_err());
        };
        panics(&|| memory.read(40, &mut [0]));
        panics(&|| memory.write(usize::MAX, &[0, 0]));
        panics(&|| _ = memory.words32(36, 2));
        panics(&|| _ = memory.words64(0, usize::MAX));
        panics(&|| _ = memory.words64(4, 1));
        memory.read(40, &mut []);
        assert_eq!(memory.words64(32, 1).len(), 1);
    }

    #[test]
    fn two_mappings_of_a_file_show_each_others_writes() {
        let memory = Memory::new("test", 4096).unwrap();
        let other = Memory::receive(memory.file.try_clone().unwrap(), 4096, Access::Shared).unwrap();
        memory.words32(8, 1)[0].store(7, SeqCst);
        assert_eq!(other.words32(8, 1)[0].load(SeqCst), 7);
        assert_eq!(memory.inode().unwrap(), other.inode().unwrap());
    }

    #[test]
    fn memory_of_zero_bytes_is_memory() {
        let memory = Memory::new("test", 0).unwrap();
        memory.read(0, &mut []);
        assert_eq!(memory.len(), 0);
        assert!(Memory::receive(memory.file.try_clone().unwrap(), 0, Access::Shared).is_ok());
    }

    #[test]
    fn a_received_file_is_believed_nothing() {
        let refused = |file: OwnedFd, bytes: usize, access| {
            let error = Memory::receive(file, bytes, access).unwrap_err();
            assert_eq!(error.kind(), &ErrorKind::Crossing, "{error}");
            error.to_string()
        };
        let text = refused(file_of(4096, SealFlags::empty()), 4096, Access::Shared);
        assert!(text.contains("expected the seals") && text.contains("SHRINK"), "{text}");
        refused(file_of(4096, SealFlags::SHRINK), 4096, Access::Shared);
        // Sealed in size only: somebody may still write, so that it can't be read as plain memory.
        refused(file_of(4096, SIZE), 4096, Access::Sealed);
        let text = refused(file_of(4096, SIZE), 4097, Access::Shared);
        assert!(text.contains("expected 4097 bytes, got 4096"), "{text}");
        refused(file_of(4096, SIZE), usize::MAX, Access::Shared);
        refused(file_of(0, SIZE), 0, Access::Shared);
        refused(std::fs::File::open("/proc/self/exe").unwrap().into(), 1, Access::Shared);
        let (end, _other) = rustix::pipe::pipe().unwrap();
        refused(end, 1, Access::Shared);
    }

    #[test]
    fn sealed_memory_is_written_by_nobody() {
        let memory = Memory::new("test", 4096).unwrap();
        memory.write(100, b"fire");
        let other = Memory::receive(memory.file.try_clone().unwrap(), 4096, Access::Shared).unwrap();
        let (memory, error) = memory.seal().unwrap_err();
        assert!(error.to_string().contains("which others must not have for writing"), "{error}");
        drop(other);
        let memory = memory.unwrap();
        memory.write(104, b"box");
        let memory = memory.seal().unwrap();
        let mut text = [0; 7];
        memory.read(100, &mut text);
        assert_eq!(&text, b"firebox");
        assert!(Memory::receive(memory.file.try_clone().unwrap(), 4096, Access::Sealed).is_ok());
        // Neither by a mapping, nor by a call.
        assert!(Memory::receive(memory.file.try_clone().unwrap(), 4096, Access::Shared).is_err());
        assert!(rustix::io::pwrite(&memory, b"x", 0).is_err());
        assert!(rustix::fs::ftruncate(&memory, 1).is_err());
    }

    #[test]
    fn too_much_is_an_error_that_has_the_bytes_asked_for() {
        for bytes in [usize::MAX, isize::MAX as usize, 1 << 60, 1 << 50] {
            let error = Memory::new("the ring", bytes).unwrap_err();
            assert_eq!(error.kind(), &ErrorKind::NoMemory { bytes });
            let text = error.to_string();
            assert!(text.contains(&bytes.to_string()) && text.contains("the ring"), "{text}");
        }
    }

    #[test]
    fn memory_is_given_back() {
        let inode = Memory::new("test", 1 << 20).unwrap().inode().unwrap();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        assert!(!maps.lines().any(|line| line.split_whitespace().nth(4) == Some(&inode.to_string())));
    }
}
