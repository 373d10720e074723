//! How what is shared goes to another process: descriptors beside the bytes of a message.
//!
//! A handle of shared memory, of a queue or of an event is a value that serde writes, like any other. It can
//! be written only while somebody collects the files that go along, and read only while somebody supplies
//! them; there the handle notes the number of its file in the message. Elsewhere, as in a JSON file, it is an
//! error that says so.

pub(in crate::sync) mod letter;
pub(in crate::sync) mod socket;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use serde_core::de::{self, DeserializeOwned};
use serde_core::{Deserialize, Deserializer, Serialize, Serializer, ser};

use crate::error::{Error, ErrorKind};
use crate::process::wire;

/// The most files that go with a message: Linux takes 253, and some are for the message itself.
pub(crate) const MOST_FILES: usize = 250;

/// A file that goes with a message, open for as long as the message may be sent again.
#[derive(Clone)]
pub(crate) struct Carried(Arc<dyn AsFd + Send + Sync>);

impl Carried {
    /// A file that goes along. Whatever has it stays as it is.
    pub(crate) fn new(file: Arc<dyn AsFd + Send + Sync>) -> Self {
        Carried(file)
    }
}

impl AsFd for Carried {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl fmt::Debug for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Carried").field(&self.as_fd()).finish()
    }
}

/// A value that was written down, and the files that go with it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Message {
    /// The bytes that a serializer has written.
    pub(crate) bytes: Vec<u8>,
    /// The files that handles among it stand for, by number.
    pub(crate) files: Vec<Carried>,
}

thread_local! {
    /// The files of the message that this thread is writing.
    static WRITTEN: RefCell<Option<Vec<Carried>>> = const { RefCell::new(None) };
    /// The process that the message which this thread is writing goes to, if that is known.
    static RECEIVER: Cell<Option<u32>> = const { Cell::new(None) };
    /// The files of the message that this thread is reading.
    static READ: RefCell<Option<Vec<Arc<OwnedFd>>>> = const { RefCell::new(None) };
}

/// Puts a value where it was, also when a panic comes by.
struct Restore<T: 'static>(&'static std::thread::LocalKey<RefCell<Option<T>>>, Option<T>);

impl<T> Restore<T> {
    fn replace(place: &'static std::thread::LocalKey<RefCell<Option<T>>>, value: T) -> Self {
        Restore(place, place.replace(Some(value)))
    }

    fn finish(mut self) -> Option<T> {
        let value = self.0.replace(self.1.take());
        std::mem::forget(self);
        value
    }
}

impl<T> Drop for Restore<T> {
    fn drop(&mut self) {
        self.0.set(self.1.take());
    }
}

/// Collects the files of the handles that `write` serializes.
pub(crate) fn collect<R>(write: impl FnOnce() -> R) -> (R, Vec<Carried>) {
    let within = Restore::replace(&WRITTEN, Vec::new());
    let result = write();
    (result, within.finish().unwrap_or_default())
}

/// Tells what `write` serializes which process it goes to.
pub(crate) fn to_process<R>(process: u32, write: impl FnOnce() -> R) -> R {
    struct Back(Option<u32>);
    impl Drop for Back {
        fn drop(&mut self) {
            RECEIVER.set(self.0);
        }
    }
    let _back = Back(RECEIVER.replace(Some(process)));
    write()
}

/// The process that the message which is being written goes to, if that is known.
pub(super) fn receiver() -> Option<u32> {
    RECEIVER.get()
}

/// Supplies the files of the handles that `read` deserializes.
///
/// A file that nothing asks for is closed.
pub(crate) fn supply<R>(files: Vec<OwnedFd>, read: impl FnOnce() -> R) -> R {
    let within = Restore::replace(&READ, files.into_iter().map(Arc::new).collect());
    let result = read();
    within.finish();
    result
}

/// Writes a value down.
///
/// # Errors
/// [`ErrorKind::Crossing`] with what its `Serialize` says, and for more than [`MOST_FILES`] handles.
pub(crate) fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Message, Error> {
    let (bytes, files) = collect(|| wire::to_vec(value));
    let bytes = bytes.map_err(|error| refused::<T>("cannot be sent to another process").caused_by(error))?;
    if files.len() > MOST_FILES {
        let got = format!("expected at most {MOST_FILES} shared objects in one message, got {}", files.len());
        return Err(refused::<T>(&got));
    }
    Ok(Message { bytes, files })
}

/// Reads a value that [`encode`] has written, of all the bytes.
///
/// # Errors
/// [`ErrorKind::Crossing`] if they are not such a value.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8], files: Vec<OwnedFd>) -> Result<T, Error> {
    supply(files, || wire::from_slice(bytes))
        .map_err(|error| refused::<T>("what another process sent can't be read").caused_by(error))
}

fn refused<T: ?Sized>(message: &str) -> Error {
    Error::new(ErrorKind::Crossing, format!("{}: {message}", std::any::type_name::<T>()))
}

/// A file that crosses as a part of a handle.
#[derive(Clone, Debug)]
pub(crate) struct File(pub(crate) Arc<OwnedFd>);

impl Serialize for File {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        carry::<S::Error>(Carried::new(self.0.clone()))?.serialize(to)
    }
}

impl<'de> Deserialize<'de> for File {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        take(u32::deserialize(from)?).map(File)
    }
}

/// The number of a file in the message that is being written, which takes it along.
pub(crate) fn carry<E: ser::Error>(file: Carried) -> Result<u32, E> {
    WRITTEN.with_borrow_mut(|files| match files {
        Some(files) => {
            files.push(file);
            Ok(files.len() as u32 - 1)
        }
        None => Err(E::custom("what processes share can be sent to a process only, not written elsewhere")),
    })
}

/// The file with this number of the message that is being read.
pub(crate) fn take<E: de::Error>(number: u32) -> Result<Arc<OwnedFd>, E> {
    READ.with_borrow(|files| match files {
        Some(files) => files.get(number as usize).cloned().ok_or_else(|| {
            E::custom(format!("file {number} of a message: expected less than {}", files.len()))
        }),
        None => {
            Err(E::custom("what processes share can be received from a process only, not read elsewhere"))
        }
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    fn pipe() -> (File, File) {
        let (read, write) = rustix::pipe::pipe().unwrap();
        (File(Arc::new(read)), File(Arc::new(write)))
    }

    /// The kernel's part: other descriptors of the same files.
    fn received(message: &Message) -> Vec<OwnedFd> {
        message.files.iter().map(|file| file.as_fd().try_clone_to_owned().unwrap()).collect()
    }

    #[test]
    fn handles_in_a_value_take_their_files_along() {
        let (read, write) = pipe();
        let message = encode(&("a", vec![&write], Some(&read))).unwrap();
        assert_eq!(message.files.len(), 2);
        let (text, writers, reader): (String, Vec<File>, Option<File>) =
            decode(&message.bytes, received(&message)).unwrap();
        let file = |file: &File| std::fs::File::from(file.0.try_clone().unwrap());
        file(&writers[0]).write_all(b"fire").unwrap();
        let mut bytes = [0; 4];
        file(&reader.unwrap()).read_exact(&mut bytes).unwrap();
        assert_eq!((text.as_str(), &bytes), ("a", b"fire"));
    }

    #[test]
    fn a_handle_is_nothing_outside_of_a_crossing() {
        let (read, _write) = pipe();
        let error = serde_json::to_string(&read).unwrap_err();
        assert!(error.to_string().contains("can be sent to a process only"), "{error}");
        let error = serde_json::from_str::<File>("0").unwrap_err();
        assert!(error.to_string().contains("can be received from a process only"), "{error}");
    }

    #[test]
    fn a_number_without_its_file_is_an_error() {
        let (read, _write) = pipe();
        let message = encode(&read).unwrap();
        let error = decode::<File>(&message.bytes, Vec::new()).unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Crossing);
        assert!(decode::<File>(&[0xFF; 4], received(&message)).is_err());
    }

    #[test]
    fn bytes_that_are_left_are_an_error() {
        let error = decode::<u8>(&[1, 2, 3], Vec::new()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "u8: what another process sent can't be read: expected the end, got 2 bytes more"
        );
        assert!(decode::<u8>(&[], Vec::new()).is_err());
    }

    #[test]
    fn a_claimed_length_takes_no_memory() {
        // A vector that says it has 2^60 elements.
        let bytes = (1_u64 << 60).to_le_bytes();
        assert!(decode::<Vec<u64>>(&bytes, Vec::new()).is_err());
        assert!(decode::<String>(&bytes, Vec::new()).is_err());
    }

    #[test]
    fn too_many_files_are_refused_before_they_are_sent() {
        let (read, _write) = pipe();
        let error = encode(&vec![read; MOST_FILES + 1]).unwrap_err();
        assert!(error.to_string().contains("at most 250 shared objects in one message, got 251"), "{error}");
    }

    #[test]
    fn a_panic_while_a_value_is_written_leaves_nothing_open() {
        struct Panics(File);
        impl Serialize for Panics {
            fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
                let _ = carry::<S::Error>(Carried::new(self.0.0.clone()));
                panic!("no")
            }
        }
        let (read, _write) = pipe();
        let value = Panics(read.clone());
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| encode(&value))).is_err());
        assert_eq!(Arc::strong_count(&read.0), 2);
        assert!(serde_json::to_string(&read).is_err(), "nobody collects any more");
    }

    #[test]
    fn a_message_within_a_message_has_its_own_files() {
        struct Nested(File);
        impl Serialize for Nested {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                let inner = encode(&self.0).map_err(ser::Error::custom)?;
                assert_eq!(inner.files.len(), 1);
                self.0.serialize(to)
            }
        }
        let (read, write) = pipe();
        let message = encode(&(&write, Nested(read))).unwrap();
        assert_eq!((message.files.len(), message.bytes.as_slice()), (2, &[0, 0, 0, 0, 1, 0, 0, 0][..]));
    }
}
