//! Something that happens, for processes that wait for it.

use std::time::{Duration, Instant};

use serde_core::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::Error;
use crate::sync::waiting::monitor::{Monitor, after, kind};
use crate::sync::waiting::signal::Signal;

const KIND: u32 = kind(b"evnt");

/// A flag that processes set, clear and wait for.
///
/// A clone is the same event, and so is what a process receives of it. Everybody who waits when it is set
/// goes on, also if it is cleared at once. Nobody holds an event, so that no death of a process leaves one
/// waiting.
///
/// # Begin together
/// ```
/// use std::time::Duration;
///
/// use firebox_workers::sync::Event;
///
/// let begin = Event::new()?;
/// assert!(!begin.wait_timeout(Duration::from_millis(1)));
/// begin.set();
/// begin.wait();
/// assert!(begin.is_set());
/// # Ok::<(), firebox_workers::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Event {
    monitor: Monitor<KIND>,
}

impl Event {
    /// An event that is not set.
    ///
    /// # Errors
    /// [`NoMemory`](crate::ErrorKind::NoMemory) if there is no room for a page of shared memory.
    pub fn new() -> Result<Self, Error> {
        Ok(Event { monitor: Monitor::new("firebox-event", 0)? })
    }

    /// Sets the event, and lets go on who waits.
    pub fn set(&self) {
        self.signal().set();
    }

    /// Clears the event: who comes from now on waits.
    pub fn clear(&self) {
        self.signal().clear();
    }

    /// Tells whether the event is set.
    pub fn is_set(&self) -> bool {
        self.signal().is_set()
    }

    /// Waits until the event is set.
    pub fn wait(&self) {
        self.wait_until(None);
    }

    /// Waits until the event is set, `limit` at most; `false` means that it was not.
    pub fn wait_timeout(&self, limit: Duration) -> bool {
        self.wait_until(after(limit))
    }

    fn wait_until(&self, deadline: Option<Instant>) -> bool {
        self.signal().wait(deadline)
    }

    fn signal(&self) -> Signal<'_> {
        Signal(self.monitor.signal_word())
    }
}

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.monitor.serialize(to)
    }
}

impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Event { monitor: Monitor::deserialize(from)? })
    }
}
