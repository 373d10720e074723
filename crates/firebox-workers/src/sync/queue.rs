//! A queue of values among processes.
//!
//! It is a ring of places in shared memory, under a lock that survives whoever dies holding it. What is in
//! the queue follows from two numbers, how many values were put and how many were taken, and each changes by
//! one store, at the end: who dies in the middle of a put has put nothing, and who dies in the middle of
//! taking has taken nothing or one value. So there is nothing to mend.
//!
//! Files can't stand in memory: those of a value go through a pair of sockets beside it, under the same lock
//! and with a number that is never used twice. A place says which number it has; packets with a smaller one
//! are of the dead.

use std::fmt;
use std::marker::PhantomData;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use firebox_core::check;
use serde_core::de::{DeserializeOwned, Error as _};
use serde_core::{Deserialize, Deserializer, Serialize, Serializer};

use super::crossing::{self, File};
use crate::error::{Error, ErrorKind};
use crate::sync::crossing::letter::Letter;
use crate::sync::crossing::socket::{self, NotReceived, Unsent};
use crate::sync::memory::shared::Shared;
use crate::sync::waiting::mending::{self, Sweep};
use crate::sync::waiting::monitor::{Inside, Monitor, PAGE, after, kind};

const KIND: u32 = kind(b"queu");

/// How many places there are.
const CAPACITY: usize = 0;
/// How many bytes a place has for a value.
const INLINE: usize = 1;
/// How many values were put, ever.
const PUT: usize = 2;
/// How many were taken.
const TAKEN: usize = 3;
/// True if nothing is put any more.
const IS_CLOSED: usize = 4;
/// The last number of a packet of files.
const PACKETS: usize = 5;

/// There is a value more, or there will be none.
const FILLED: usize = 0;
/// There is a place more, or none is wanted.
const EMPTIED: usize = 1;

/// The head before a value in its place: its length, that of what is enclosed, the number of its packet of
/// files.
const HEADER: usize = 24;
/// Memory of all places together, unless there are very many.
const MEMORY: usize = 1 << 20;
/// The bytes of a place, at least and at most.
const LEAST_INLINE: usize = 64;
const MOST_INLINE: usize = 32 << 10;
const MOST_CAPACITY: usize = 1 << 20;

/// A queue of at most so many values, which any process puts and any process takes.
///
/// A clone is the same queue, and so is what a process receives of it. A value is put whole or not at all,
/// and taken by one; a process that dies, also in the middle of either, leaves the queue to the others. A
/// value of more bytes than a place has (32 KiB in a queue of up to 32, fewer in longer ones) goes into
/// memory of its own; of these, and of values that share something, a few hundred may be on their way.
///
/// # Producer and consumer
/// ```
/// use firebox_workers::sync::Queue;
///
/// let queue = Queue::new(2)?;
/// std::thread::scope(|scope| {
///     scope.spawn(|| {
///         for word in ["fire", "box", "crate"] {
///             queue.put(&word.to_owned())?; // Waits while two are there.
///         }
///         queue.close()
///     });
///     let mut words = Vec::new();
///     while let Some(word) = queue.take()? {
///         words.push(word);
///     }
///     assert_eq!(words, ["fire", "box", "crate"]);
///     Ok::<(), firebox_workers::Error>(())
/// })?;
/// # Ok::<(), firebox_workers::Error>(())
/// ```
pub struct Queue<T> {
    ring: Arc<Ring>,
    _values: PhantomData<fn(T) -> T>,
}

/// A process's view of a queue.
#[derive(Debug)]
struct Ring {
    monitor: Monitor<KIND>,
    capacity: u64,
    inline: usize,
    /// Where files go in, and where they come out.
    files: (File, File),
    _sweep: Sweep,
}

impl<T> Queue<T> {
    /// An empty queue of so many places.
    ///
    /// # Errors
    /// [`OutOfRange`](ErrorKind::OutOfRange) for none, or more than a million;
    /// [`NoMemory`](ErrorKind::NoMemory) if there is no room for it.
    pub fn new(capacity: usize) -> Result<Self, Error> {
        let expected = format!("from 1 to {MOST_CAPACITY}");
        check((1..=MOST_CAPACITY).contains(&capacity), "places of a queue", expected, capacity)?;
        let inline = (MEMORY / capacity).clamp(LEAST_INLINE, MOST_INLINE) / 8 * 8;
        let monitor = Monitor::<KIND>::new("firebox-queue", PAGE + capacity * (HEADER + inline))?;
        {
            let inside = monitor.enter()?;
            inside.set(CAPACITY, capacity as u64);
            inside.set(INLINE, inline as u64);
        }
        let (one, other) = socket::pair()?;
        Self::of(monitor, (File(Arc::new(one)), File(Arc::new(other))))
    }

    /// The queue in memory, which may have been received.
    fn of(monitor: Monitor<KIND>, files: (File, File)) -> Result<Self, Error> {
        let (capacity, inline) = (monitor.peek(CAPACITY), monitor.peek(INLINE));
        // Looked at once, and kept: nobody can change them for this process any more.
        let places = (1..=MOST_CAPACITY as u64).contains(&capacity)
            && (LEAST_INLINE as u64..=MOST_INLINE as u64).contains(&inline)
            && inline.is_multiple_of(8);
        let end = capacity.saturating_mul(inline.saturating_add(HEADER as u64)).saturating_add(PAGE as u64);
        if !places || end > monitor.memory().len() as u64 {
            let bytes = monitor.memory().len();
            let message =
                format!("a queue: expected {capacity} places of {inline} bytes, got memory of {bytes}");
            return Err(Error::new(ErrorKind::Crossing, message));
        }
        mending::watch(monitor.shared(), mend);
        let ring = Ring { monitor, capacity, inline: inline as usize, files, _sweep: Sweep };
        Ok(Queue { ring: Arc::new(ring), _values: PhantomData })
    }

    /// How many values the queue may have.
    pub fn capacity(&self) -> usize {
        self.ring.capacity as usize
    }

    /// How many values the queue has just now.
    pub fn len(&self) -> usize {
        let monitor = &self.ring.monitor;
        // The first number only grows, so that there is never less than nothing.
        let taken = monitor.peek(TAKEN);
        monitor.peek(PUT).saturating_sub(taken).min(self.ring.capacity) as usize
    }

    /// Tells whether the queue has no value just now.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Ends the queue: nothing is put any more, and who takes gets what is there, and `None` after it.
    ///
    /// # Errors
    /// Of the system, none that is known.
    pub fn close(&self) -> Result<(), Error> {
        let mut inside = self.ring.monitor.enter()?;
        inside.set(IS_CLOSED, 1);
        inside.tell_all(FILLED);
        inside.tell_all(EMPTIED);
        Ok(())
    }
}

impl<T: Serialize> Queue<T> {
    /// Puts a value, and waits for a place if there is none.
    ///
    /// # Errors
    /// [`Closed`](ErrorKind::Closed) if the queue was closed; [`Crossing`](ErrorKind::Crossing) if the value
    /// can't be written down; [`NoMemory`](ErrorKind::NoMemory) if there is no room for a large one.
    pub fn put(&self, value: &T) -> Result<(), Error> {
        self.put_until(value, None).map(drop)
    }

    /// Puts a value if there is a place; `false` means that there is none.
    ///
    /// # Errors
    /// As of [`put`](Self::put).
    pub fn try_put(&self, value: &T) -> Result<bool, Error> {
        self.put_until(value, Some(Instant::now()))
    }

    /// Puts a value, and waits for a place `limit` at most; `false` means that there was none.
    ///
    /// # Errors
    /// As of [`put`](Self::put).
    pub fn put_timeout(&self, value: &T, limit: Duration) -> Result<bool, Error> {
        self.put_until(value, after(limit))
    }

    fn put_until(&self, value: &T, deadline: Option<Instant>) -> Result<bool, Error> {
        let ring = &self.ring;
        let letter = Letter::write(value, ring.inline)?;
        let Some(mut inside) = ring.monitor.enter_until(deadline)? else { return Ok(false) };
        let mut in_time = true;
        loop {
            if inside.get(IS_CLOSED) != 0 {
                return Err(Error::new(ErrorKind::Closed, "putting into a queue"));
            }
            let put = inside.get(PUT);
            if put.wrapping_sub(inside.get(TAKEN)) < ring.capacity && ring.place(&inside, put, &letter)? {
                inside.set(PUT, put + 1);
                inside.tell_one(FILLED);
                return Ok(true);
            }
            if !in_time {
                return Ok(false);
            }
            (inside, in_time) = inside.wait(EMPTIED, deadline)?;
        }
    }
}

impl<T: DeserializeOwned> Queue<T> {
    /// Waits for a value; `None` if the queue was closed and is empty.
    ///
    /// # Errors
    /// [`Crossing`](ErrorKind::Crossing) if what is there is no such value: it is taken out.
    pub fn take(&self) -> Result<Option<T>, Error> {
        loop {
            match self.take_until(None)? {
                Taken::Value(value) => return Ok(Some(value)),
                Taken::Closed => return Ok(None),
                Taken::TooLate => {}
            }
        }
    }

    /// Takes a value if one is there.
    ///
    /// # Errors
    /// [`Closed`](ErrorKind::Closed) if the queue was closed and is empty; else as of [`take`](Self::take).
    pub fn try_take(&self) -> Result<Option<T>, Error> {
        self.take_until(Some(Instant::now()))?.in_time()
    }

    /// Waits for a value, `limit` at most.
    ///
    /// # Errors
    /// As of [`try_take`](Self::try_take).
    pub fn take_timeout(&self, limit: Duration) -> Result<Option<T>, Error> {
        self.take_until(after(limit))?.in_time()
    }

    fn take_until(&self, deadline: Option<Instant>) -> Result<Taken<T>, Error> {
        let ring = &self.ring;
        let Some(mut inside) = ring.monitor.enter_until(deadline)? else { return Ok(Taken::TooLate) };
        let mut in_time = true;
        let (bytes, enclosed, files) = loop {
            let taken = inside.get(TAKEN);
            if taken != inside.get(PUT) {
                let seen = ring.look(taken);
                // Before its files: who dies in between has taken the value, and the next one is not given
                // them.
                inside.set(TAKEN, taken + 1);
                inside.tell_one(EMPTIED);
                let (bytes, enclosed, packet) = seen?;
                let files = if packet == 0 { Vec::new() } else { ring.files_of(packet)? };
                break (bytes, enclosed, files);
            }
            if inside.get(IS_CLOSED) != 0 {
                return Ok(Taken::Closed);
            }
            if !in_time {
                return Ok(Taken::TooLate);
            }
            (inside, in_time) = inside.wait(FILLED, deadline)?;
        };
        drop(inside);
        Letter::read(&bytes, enclosed, files).map(Taken::Value)
    }
}

/// The outcome of waiting for a value.
enum Taken<T> {
    Value(T),
    Closed,
    TooLate,
}

impl<T> Taken<T> {
    fn in_time(self) -> Result<Option<T>, Error> {
        match self {
            Taken::Value(value) => Ok(Some(value)),
            Taken::Closed => Err(Error::new(ErrorKind::Closed, "taking from a queue")),
            Taken::TooLate => Ok(None),
        }
    }
}

impl Ring {
    /// Where the place of a value begins.
    fn at(&self, number: u64) -> usize {
        PAGE + (number % self.capacity) as usize * (HEADER + self.inline)
    }

    /// Writes a letter into its place; `false` if its files have no room just now.
    fn place(&self, inside: &Inside, number: u64, letter: &Letter) -> Result<bool, Error> {
        let mut packet = 0;
        if !letter.files.is_empty() {
            packet = inside.get(PACKETS) + 1;
            // First: should the process die after it has sent them, nobody takes them for those of another
            // value.
            inside.set(PACKETS, packet);
            match socket::try_send(self.files.0.0.as_fd(), [&packet.to_le_bytes(), &[]], &letter.files) {
                Ok(()) => {}
                // Room comes when a value is taken; if none is there, it never would.
                Err(Unsent::Full) if inside.get(TAKEN) != number => return Ok(false),
                Err(Unsent::Full | Unsent::Closed) => {
                    let message = "a queue: expected room for the files of one value, got none";
                    return Err(Error::new(ErrorKind::System, message));
                }
                Err(Unsent::Failed(error)) => return Err(error),
            }
        }
        let (at, memory) = (self.at(number), self.monitor.memory());
        let header = [letter.bytes.len() as u64, letter.enclosed, packet].map(u64::to_le_bytes);
        memory.write(at, header.as_flattened());
        memory.write(at + HEADER, &letter.bytes);
        Ok(true)
    }

    /// A copy of what is in a place: the bytes, the length of what is enclosed, the number of its packet of
    /// files.
    fn look(&self, number: u64) -> Result<(Vec<u8>, u64, u64), Error> {
        let (at, memory) = (self.at(number), self.monitor.memory());
        let mut header = [[0; 8]; 3];
        memory.read(at, header.as_flattened_mut());
        let [length, enclosed, packet] = header.map(u64::from_le_bytes);
        if length > self.inline as u64 {
            let message = format!("a queue: expected a value of at most {} bytes, got {length}", self.inline);
            return Err(Error::new(ErrorKind::Crossing, message));
        }
        let mut bytes = vec![0; length as usize];
        memory.read(at + HEADER, &mut bytes);
        Ok((bytes, enclosed, packet))
    }

    /// The files of a packet. Those before it are of processes that died while they put or took.
    fn files_of(&self, packet: u64) -> Result<Vec<OwnedFd>, Error> {
        loop {
            let mut number = [0; 8];
            match socket::try_receive(self.files.1.0.as_fd(), &mut number) {
                Ok((8, files)) if u64::from_le_bytes(number) == packet => return Ok(files),
                Ok((8, _)) if u64::from_le_bytes(number) < packet => {}
                Ok(_) | Err(NotReceived::Empty | NotReceived::Closed) => {
                    let message = "a queue: expected the files of a value, got none";
                    return Err(Error::new(ErrorKind::Crossing, message));
                }
                Err(NotReceived::Failed(error)) => return Err(error),
            }
        }
    }
}

fn mend(shared: Shared, _: u32, deadline: Option<Instant>) -> Result<bool, Error> {
    mending::within(&Monitor::<KIND>::of(shared), deadline, |inside| {
        // It may have been the one that was woken.
        inside.tell_all(FILLED);
        inside.tell_all(EMPTIED);
    })
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Queue { ring: self.ring.clone(), _values: PhantomData }
    }
}

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut queue = f.debug_struct("Queue");
        queue.field("capacity", &self.capacity()).field("len", &self.len()).finish_non_exhaustive()
    }
}

impl<T> Serialize for Queue<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if let Some(process) = crossing::receiver() {
            mending::give(self.ring.monitor.shared(), process);
        }
        (&self.ring.monitor, &self.ring.files.0, &self.ring.files.1).serialize(to)
    }
}

impl<'de, T> Deserialize<'de> for Queue<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let (monitor, one, other) = <(Monitor<KIND>, File, File)>::deserialize(from)?;
        Self::of(monitor, (one, other)).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::super::crossing::{decode, encode};
    use super::super::event::Event;
    use super::*;

    #[test]
    fn files_of_the_dead_are_passed_over() {
        let queue = Queue::<Event>::new(4).unwrap();
        let dead = Event::new().unwrap();
        let alive = [Event::new().unwrap(), Event::new().unwrap()];
        let dies = || {
            // All of a put, but for its end.
            let inside = queue.ring.monitor.enter().unwrap();
            let letter = Letter::write(&dead, queue.ring.inline).unwrap();
            assert!(queue.ring.place(&inside, inside.get(PUT), &letter).unwrap());
        };
        dies();
        queue.put(&alive[0]).unwrap();
        dies();
        dies();
        queue.put(&alive[1]).unwrap();
        // And all of a take, but for its files.
        let inside = queue.ring.monitor.enter().unwrap();
        inside.set(TAKEN, inside.get(TAKEN) + 1);
        drop(inside);
        queue.take().unwrap().unwrap().set();
        assert_eq!([dead.is_set(), alive[0].is_set(), alive[1].is_set()], [false, false, true]);
        assert!(queue.is_empty());
    }

    #[test]
    fn a_place_that_lies_is_an_error_and_gone() {
        let queue = Queue::<u64>::new(2).unwrap();
        let lie = |at: usize, word: u64| {
            queue.put(&1).unwrap();
            let inside = queue.ring.monitor.enter().unwrap();
            let place = queue.ring.at(inside.get(TAKEN));
            queue.ring.monitor.memory().write(place + at * 8, &word.to_le_bytes());
            drop(inside);
            let error = queue.take().unwrap_err();
            assert_eq!(error.kind(), &ErrorKind::Crossing, "{error}");
            queue.put(&5).unwrap();
            assert_eq!(queue.take().unwrap(), Some(5));
        };
        for length in [u64::MAX, 1 << 40, 32 * 1024 + 1, 7, 0] {
            lie(0, length);
        }
        for enclosed in [1, u64::MAX] {
            lie(1, enclosed);
        }
        lie(2, 99);
    }

    #[test]
    fn a_queue_that_was_received_is_believed_nothing() {
        let claims = |index: usize, value: u64| {
            let queue = Queue::<u64>::new(2).unwrap();
            queue.ring.monitor.enter().unwrap().set(index, value);
            let message = encode(&queue).unwrap();
            let files = message.files.iter().map(|file| file.as_fd().try_clone_to_owned().unwrap()).collect();
            decode::<Queue<u64>>(&message.bytes, files).map(drop)
        };
        assert!(claims(CAPACITY, 2).is_ok());
        for capacity in [0, 3, u64::MAX] {
            let error = claims(CAPACITY, capacity).unwrap_err();
            assert_eq!(error.kind(), &ErrorKind::Crossing, "{error}");
        }
        for inline in [0, 60, 65, 1 << 20, u64::MAX - 23] {
            assert!(claims(INLINE, inline).is_err());
        }
    }
}
