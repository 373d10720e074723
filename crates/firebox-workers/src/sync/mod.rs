//! The toolbox of Python's `multiprocessing`, among the processes of one parent.
//!
//! | type | is | whoever dies holding it |
//! |---|---|---|
//! | [`Process`] | a function of the program that runs in a process | |
//! | [`Queue`] | values that any process puts and any process takes | holds nothing |
//! | [`pipe`], [`Connection`] | values from one process to another and back | closes its end |
//! | [`Lock`] | one at a time | leaves it to the next one, who can hear of it |
//! | [`Semaphore`] | some at a time | has its permits given back |
//! | [`Event`] | something that happens | holds nothing |
//! | [`Barrier`] | a point that all pass together | breaks it: the others get an error |
//! | [`SharedValue`], [`SharedArray`] | plain data that processes change | leaves it to the next one |
//! | [`SealedArray`] | plain data that nobody changes | holds nothing |
//!
//! All of them are values that serde writes, and go to another process as an argument, within a task, or
//! through a queue: a clone there is the same object. They can be written to no other place. Their memory is
//! a file without a name, which goes with its last user, however that ends. They are for processes of one
//! program that trust each other; of the arrays, a [`SealedArray`] can be read beside processes that don't
//! deserve it.

mod array;
mod barrier;
pub(crate) mod crossing;
mod event;
mod lock;
pub(crate) mod memory;
mod pipe;
mod process;
mod queue;
mod semaphore;
mod value;
mod waiting;

pub use array::{ArrayGuard, SealedArray, SharedArray, Unsealed};
pub use barrier::Barrier;
pub use event::Event;
pub use lock::{Lock, LockGuard};
#[doc(hidden)]
pub use memory::region;
pub use pipe::{Connection, pipe};
pub use process::{Exit, Process};
pub use queue::Queue;
pub use semaphore::{Permit, Semaphore};
pub use value::{SharedValue, ValueGuard};
pub(crate) use waiting::mending::{mend, note_child};

#[cfg(test)]
mod tests {
    use std::os::fd::{AsFd as _, OwnedFd};

    use super::crossing::{Message, decode, encode};
    use super::*;
    use crate::error::ErrorKind;

    fn files(message: &Message) -> Vec<OwnedFd> {
        message.files.iter().map(|file| file.as_fd().try_clone_to_owned().unwrap()).collect()
    }

    #[test]
    fn one_object_is_never_taken_for_another() {
        let lock = encode(&Lock::new().unwrap()).unwrap();
        let error = decode::<Event>(&lock.bytes, files(&lock)).unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Crossing);
        assert!(error.to_string().contains("expected evnt, got lock"), "{error}");
        assert!(decode::<Semaphore>(&lock.bytes, files(&lock)).is_err());
        // Memory whose bytes are the user's has no lock in it, whatever they are.
        let bytes = SealedArray::from_slice(&[u32::from_le_bytes(*b"lock"); 1024]).unwrap();
        let sealed = encode(&bytes).unwrap();
        let shared = &sealed.bytes[..sealed.bytes.len() - 16];
        let error = decode::<Lock>(shared, files(&sealed)).unwrap_err();
        assert!(error.to_string().contains("expected memory with a lock"), "{error}");
    }

    /// A generator of numbers that is the same each time.
    struct Numbers(u64);

    impl Numbers {
        fn next(&mut self, below: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 % below as u64) as usize
        }
    }

    #[test]
    fn messages_that_are_changed_are_values_or_errors() {
        type All =
            (Queue<u8>, SharedArray<u16>, SealedArray<u32>, Semaphore, Barrier, Connection<u8, u8>, Event);
        let all: All = (
            Queue::new(1).unwrap(),
            SharedArray::new(3).unwrap(),
            SealedArray::from_slice(&[1]).unwrap(),
            Semaphore::new(1).unwrap(),
            Barrier::new(1).unwrap(),
            pipe().unwrap().0,
            Event::new().unwrap(),
        );
        let message = encode(&all).unwrap();
        let mut numbers = Numbers(0x5EED);
        let (mut read, mut refused) = (0, 0);
        for _ in 0..10_000 {
            let mut bytes = message.bytes.clone();
            for _ in 0..=numbers.next(3) {
                let at = numbers.next(bytes.len());
                bytes[at] = [0, 1, 0x7F, 0x80, 0xFF, numbers.next(256) as u8][numbers.next(6)];
            }
            bytes.truncate(bytes.len() - numbers.next(4) / 3 * numbers.next(bytes.len()));
            match decode::<All>(&bytes, files(&message)) {
                Ok((queue, array, sealed, ..)) => {
                    read += 1;
                    let _ = (queue.len(), array.to_vec().map(|array| array.len()), sealed.iter().max());
                }
                Err(error) => {
                    refused += 1;
                    assert_eq!(error.kind(), &ErrorKind::Crossing, "{error}");
                }
            }
        }
        assert!(read > 100 && refused > 100, "{read} read, {refused} refused");
    }
}
