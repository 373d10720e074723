//! Mutual exclusion among processes.

use std::time::Duration;

use serde_core::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::Error;
use crate::sync::waiting::monitor::{Monitor, after, kind};
use crate::sync::waiting::mutex::{Held, Patience};

const KIND: u32 = kind(b"lock");

/// A lock that one thread of all processes has at a time.
///
/// A clone is the same lock, and so is what a process receives of it. A process that dies holding it, however
/// it dies, leaves it to the next one, who can [hear of it](LockGuard::was_abandoned).
///
/// # Take turns
/// ```
/// use firebox_workers::sync::Lock;
///
/// let lock = Lock::new()?;
/// {
///     let _turn = lock.lock()?;
///     println!("one line at a time");
/// }
/// assert!(lock.try_lock()?.is_some());
/// # Ok::<(), firebox_workers::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Lock {
    monitor: Monitor<KIND>,
}

impl Lock {
    /// A lock that nobody holds.
    ///
    /// # Errors
    /// [`NoMemory`](crate::ErrorKind::NoMemory) if there is no room for a page of shared memory.
    pub fn new() -> Result<Self, Error> {
        Ok(Lock { monitor: Monitor::new("firebox-lock", 0)? })
    }

    /// Waits for the lock.
    ///
    /// # Errors
    /// [`Deadlock`](crate::ErrorKind::Deadlock) if this thread holds it already.
    pub fn lock(&self) -> Result<LockGuard<'_>, Error> {
        loop {
            if let Some(guard) = self.take(Patience::Forever)? {
                return Ok(guard);
            }
        }
    }

    /// Takes the lock if nobody holds it.
    ///
    /// # Errors
    /// Of the system, none that is known.
    pub fn try_lock(&self) -> Result<Option<LockGuard<'_>>, Error> {
        self.take(Patience::Try)
    }

    /// Waits for the lock, `limit` at most.
    ///
    /// # Errors
    /// As of [`lock`](Self::lock).
    pub fn lock_timeout(&self, limit: Duration) -> Result<Option<LockGuard<'_>>, Error> {
        self.take(after(limit).map_or(Patience::Forever, Patience::Until))
    }

    fn take(&self, patience: Patience) -> Result<Option<LockGuard<'_>>, Error> {
        let held = Held::lock(self.monitor.memory(), patience)?;
        Ok(held.map(|held| LockGuard { held, _lock: self }))
    }
}

impl Serialize for Lock {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.monitor.serialize(to)
    }
}

impl<'de> Deserialize<'de> for Lock {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Lock { monitor: Monitor::deserialize(from)? })
    }
}

/// A [`Lock`] that is held until this is dropped, by the thread that took it.
#[derive(Debug)]
#[must_use = "a lock is given back when its guard is dropped"]
pub struct LockGuard<'l> {
    held: Held,
    _lock: &'l Lock,
}

impl LockGuard<'_> {
    /// Tells whether the thread that held the lock before ended without giving it back.
    ///
    /// What the lock protects may then be half done.
    pub fn was_abandoned(&self) -> bool {
        self.held.is_abandoned()
    }
}
