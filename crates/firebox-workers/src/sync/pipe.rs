//! A connection of two processes.

use std::fmt;
use std::marker::PhantomData;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_core::de::DeserializeOwned;
use serde_core::{Deserialize, Deserializer, Serialize, Serializer};

use super::crossing::File;
use crate::error::{Error, ErrorKind};
use crate::sync::crossing::letter::Letter;
use crate::sync::crossing::socket::{self, NotReceived, Unsent, Until};
use crate::sync::waiting::monitor::after;

/// The most bytes that go through the socket itself: more takes longer than memory that is mapped.
const INLINE: usize = 32 << 10;

/// The head before a value: the length of what is enclosed.
const HEADER: usize = 8;

/// One end of a [`pipe`]: it sends values of one type and receives values of another.
///
/// Threads may share it. Sent to a process, it is there and here; who drops it here sees that the other end
/// is closed when the process ends, however it ends.
///
/// # Ask and answer
/// ```
/// use firebox_workers::sync::pipe;
///
/// let (here, there) = pipe::<String, usize>()?;
/// here.send(&"fire".to_owned())?;
/// there.send(&there.receive()?.len())?; // As a rule in another process.
/// assert_eq!(here.receive()?, 4);
/// # Ok::<(), firebox_workers::Error>(())
/// ```
///
/// # See that the other one is gone
/// ```
/// use firebox_workers::ErrorKind;
/// use firebox_workers::sync::pipe;
///
/// let (here, there) = pipe::<u32, u32>()?;
/// there.send(&7)?;
/// drop(there);
/// assert_eq!(here.receive()?, 7); // What was sent before comes.
/// assert_eq!(here.receive().unwrap_err().kind(), &ErrorKind::Closed);
/// assert_eq!(here.send(&1).unwrap_err().kind(), &ErrorKind::Closed);
/// # Ok::<(), firebox_workers::Error>(())
/// ```
pub struct Connection<S, R> {
    socket: File,
    _values: PhantomData<fn(S) -> R>,
}

/// Two connected ends: what one sends, the other one receives, in order.
///
/// Some 200 KB of small values may be on their way; larger ones take memory of their own.
///
/// # Errors
/// [`System`](ErrorKind::System) if there are no more descriptors.
#[expect(
    clippy::type_complexity,
    reason = "the types of the two ends, and that they are each other's, are the point"
)]
pub fn pipe<A, B>() -> Result<(Connection<A, B>, Connection<B, A>), Error> {
    let (one, other) = socket::pair()?;
    Ok((Connection::new(File(Arc::new(one))), Connection::new(File(Arc::new(other)))))
}

impl<S, R> Connection<S, R> {
    fn new(socket: File) -> Self {
        Connection { socket, _values: PhantomData }
    }
}

impl<S: Serialize, R> Connection<S, R> {
    /// Sends a value, and waits for room if there is none.
    ///
    /// # Errors
    /// [`Closed`](ErrorKind::Closed) if the other end is gone; [`Crossing`](ErrorKind::Crossing) if the value
    /// can't be written down; [`NoMemory`](ErrorKind::NoMemory) if there is no room for a large one.
    pub fn send(&self, value: &S) -> Result<(), Error> {
        self.send_until(value, None).map(drop)
    }

    /// Sends a value, and waits for room `limit` at most; `false` means that there was none.
    ///
    /// # Errors
    /// As of [`send`](Self::send).
    pub fn send_timeout(&self, value: &S, limit: Duration) -> Result<bool, Error> {
        self.send_until(value, after(limit))
    }

    fn send_until(&self, value: &S, deadline: Option<Instant>) -> Result<bool, Error> {
        let letter = Letter::write(value, INLINE)?;
        let socket = self.socket.0.as_fd();
        loop {
            match socket::try_send(socket, [&letter.enclosed.to_le_bytes(), &letter.bytes], &letter.files) {
                Ok(()) => return Ok(true),
                Err(Unsent::Closed) => return Err(closed()),
                Err(Unsent::Failed(error)) => return Err(error),
                Err(Unsent::Full) => {}
            }
            if !socket::wait(socket, Until::Writable, deadline)? {
                return Ok(false);
            }
        }
    }
}

impl<S, R: DeserializeOwned> Connection<S, R> {
    /// Waits for a value.
    ///
    /// # Errors
    /// [`Closed`](ErrorKind::Closed) if the other end is gone and everything it sent was received;
    /// [`Crossing`](ErrorKind::Crossing) if what it sent is no such value.
    pub fn receive(&self) -> Result<R, Error> {
        loop {
            if let Some(value) = self.receive_until(None)? {
                return Ok(value);
            }
        }
    }

    /// Takes a value if one is there.
    ///
    /// # Errors
    /// As of [`receive`](Self::receive).
    pub fn try_receive(&self) -> Result<Option<R>, Error> {
        self.receive_until(Some(Instant::now()))
    }

    /// Waits for a value, `limit` at most.
    ///
    /// # Errors
    /// As of [`receive`](Self::receive).
    pub fn receive_timeout(&self, limit: Duration) -> Result<Option<R>, Error> {
        self.receive_until(after(limit))
    }

    fn receive_until(&self, deadline: Option<Instant>) -> Result<Option<R>, Error> {
        let socket = self.socket.0.as_fd();
        let mut buffer = vec![0; HEADER + INLINE];
        loop {
            match socket::try_receive(socket, &mut buffer) {
                Ok((bytes, files)) => {
                    let Some((enclosed, value)) = buffer[..bytes].split_first_chunk::<HEADER>() else {
                        let message = format!("a message: expected {HEADER} bytes or more, got {bytes}");
                        return Err(Error::new(ErrorKind::Crossing, message));
                    };
                    return Letter::read(value, u64::from_le_bytes(*enclosed), files).map(Some);
                }
                Err(NotReceived::Closed) => return Err(closed()),
                Err(NotReceived::Failed(error)) => return Err(error),
                Err(NotReceived::Empty) => {}
            }
            if !socket::wait(socket, Until::Readable, deadline)? {
                return Ok(None);
            }
        }
    }
}

fn closed() -> Error {
    Error::from(ErrorKind::Closed)
}

impl<S, R> fmt::Debug for Connection<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("socket", &self.socket.0).finish()
    }
}

impl<S, R> Serialize for Connection<S, R> {
    fn serialize<Z: Serializer>(&self, to: Z) -> Result<Z::Ok, Z::Error> {
        self.socket.serialize(to)
    }
}

impl<'de, S, R> Deserialize<'de> for Connection<S, R> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        File::deserialize(from).map(Self::new)
    }
}
