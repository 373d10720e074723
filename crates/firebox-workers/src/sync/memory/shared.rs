//! A handle of memory that crosses to other processes.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use serde_core::de::Error as _;
use serde_core::ser::Error as _;
use serde_core::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::Error;
use crate::sync::crossing::{Carried, carry, take};
use crate::sync::memory::{Access, Memory, inode};

/// Memory as several processes know it: the number of its file, and one drawn by whoever made it.
type Identity = (u64, u64, Access);

/// The memory that this process has mapped, so that a handle which comes again is the same memory, at the
/// same address.
static MAPPED: Mutex<BTreeMap<Identity, Weak<Memory>>> = Mutex::new(BTreeMap::new());

/// Shared memory, and its identity.
#[derive(Clone, Debug)]
pub(in crate::sync) struct Shared {
    memory: Arc<Memory>,
    inode: u64,
    drawn: u64,
}

impl Shared {
    /// New memory for others to map.
    pub(in crate::sync) fn new(memory: Memory) -> Result<Self, Error> {
        let mut drawn = [0; 8];
        rustix::rand::getrandom(&mut drawn[..], rustix::rand::GetRandomFlags::empty())
            .map_err(|error| crate::sync::memory::system("drawing a number for shared memory", error))?;
        let shared =
            Shared { inode: memory.inode()?, drawn: u64::from_ne_bytes(drawn), memory: Arc::new(memory) };
        let mut mapped = MAPPED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.note(&mut mapped);
        Ok(shared)
    }

    fn received(file: &OwnedFd, drawn: u64, bytes: usize, access: Access) -> Result<Self, Error> {
        use std::os::fd::AsFd as _;
        let inode = inode(file.as_fd())?;
        // Held while mapping, so that two threads map it once.
        let mut mapped = MAPPED.lock().unwrap_or_else(PoisonError::into_inner);
        let known = mapped.get(&(inode, drawn, access)).and_then(Weak::upgrade);
        if let Some(memory) = known.filter(|memory| memory.len() == bytes) {
            return Ok(Shared { memory, inode, drawn });
        }
        let file = file
            .try_clone()
            .map_err(|error| Error::new(crate::ErrorKind::System, "keeping a file").caused_by(error))?;
        let shared = Shared { memory: Arc::new(Memory::receive(file, bytes, access)?), inode, drawn };
        shared.note(&mut mapped);
        Ok(shared)
    }

    fn note(&self, mapped: &mut BTreeMap<Identity, Weak<Memory>>) {
        mapped.retain(|_, memory| memory.strong_count() > 0);
        mapped.insert((self.inode, self.drawn, self.memory.access()), Arc::downgrade(&self.memory));
    }

    pub(in crate::sync) fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// The number of the memory's file.
    pub(in crate::sync) fn inode(&self) -> u64 {
        self.inode
    }

    /// The memory alone, if nobody else in this process has it.
    pub(in crate::sync) fn into_memory(self) -> Result<Memory, Self> {
        let Shared { memory, inode, drawn } = self;
        Arc::try_unwrap(memory).map_err(|memory| Shared { memory, inode, drawn })
    }
}

impl Serialize for Shared {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let file = carry::<S::Error>(Carried::new(self.memory.clone()))?;
        let bytes = u64::try_from(self.memory.len()).map_err(S::Error::custom)?;
        (file, self.drawn, bytes, self.memory.access() == Access::Sealed).serialize(to)
    }
}

impl<'de> Deserialize<'de> for Shared {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let (file, drawn, bytes, sealed) = <(u32, u64, u64, bool)>::deserialize(from)?;
        let access = if sealed { Access::Sealed } else { Access::Shared };
        let bytes = usize::try_from(bytes).map_err(D::Error::custom)?;
        Shared::received(&*take::<D::Error>(file)?, drawn, bytes, access).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::sync::crossing::{Message, decode, encode};

    fn files(message: &Message) -> Vec<OwnedFd> {
        use std::os::fd::AsFd as _;
        message.files.iter().map(|file| file.as_fd().try_clone_to_owned().unwrap()).collect()
    }

    #[test]
    fn what_comes_twice_is_mapped_once() {
        let shared = Shared::new(Memory::new("test", 4096).unwrap()).unwrap();
        let message = encode(&shared).unwrap();
        let [one, other] = [(); 2].map(|()| decode::<Shared>(&message.bytes, files(&message)).unwrap());
        assert!(Arc::ptr_eq(&one.memory, &shared.memory) && Arc::ptr_eq(&other.memory, &shared.memory));
        // What nobody has any more is mapped anew, and is what it was.
        shared.memory().write(9, b"fire");
        let kept = files(&message);
        let sent = message.bytes.clone();
        drop((message, shared, one, other));
        let again = decode::<Shared>(&sent, kept).unwrap();
        let mut text = [0; 4];
        again.memory().read(9, &mut text);
        assert_eq!(&text, b"fire");
    }

    #[test]
    fn other_memory_is_never_taken_for_what_is_known() {
        let [one, other] = [(); 2].map(|()| Shared::new(Memory::new("test", 64).unwrap()).unwrap());
        let (of_one, of_other) = (encode(&one).unwrap(), encode(&other).unwrap());
        // The number of the one with the file of the other, as after a file's number has come round.
        let mixed = decode::<Shared>(&of_one.bytes, files(&of_other)).unwrap();
        assert!(!Arc::ptr_eq(&mixed.memory, &one.memory));
        other.memory().write(0, &[7]);
        let mut byte = [0];
        mixed.memory().read(0, &mut byte);
        assert_eq!(byte, [7]);
    }

    #[test]
    fn what_a_message_says_of_memory_is_checked() {
        let shared = Shared::new(Memory::new("test", 4096).unwrap()).unwrap();
        let message = encode(&shared).unwrap();
        let mut refused = 0;
        for (bytes, sealed) in [(4096, true), (1 << 40, false), (u64::MAX, false), (8192, true)] {
            let lie = crate::process::wire::to_vec(&(0_u32, shared.drawn, bytes, sealed)).unwrap();
            // Of a length of less than a page there may be one, which is a mapping of its own.
            let error = decode::<Shared>(&lie, files(&message)).unwrap_err();
            assert_eq!(error.kind(), &ErrorKind::Crossing, "{error}");
            refused += 1;
        }
        assert_eq!(refused, 4);
    }
}
