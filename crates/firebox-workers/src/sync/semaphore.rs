//! A number of permits for processes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use firebox_core::check;
use serde_core::{Deserialize, Deserializer, Serialize, Serializer};

use super::crossing;
use crate::error::Error;
use crate::sync::memory::shared::Shared;
use crate::sync::waiting::members::Members;
use crate::sync::waiting::mending::{self, Sweep};
use crate::sync::waiting::monitor::{Monitor, WORDS_OF_A_PAGE, after, kind};

const KIND: u32 = kind(b"sema");

/// How many permits there are.
const PERMITS: usize = 0;
/// Who has how many of them. What is free is what nobody has: it stands nowhere, so that nothing contradicts
/// it.
const HOLDERS: Members = Members { first: 8, places: WORDS_OF_A_PAGE - 8 };
/// Permits have come back.
const RETURNED: usize = 0;

/// A number of permits, of which each process takes some and gives them back.
///
/// A clone is the same semaphore, and so is what a process receives of it. What a process has when it ends
/// comes back as soon as its parent reaps it. The parent need not keep the semaphore for that, if it once had
/// it; but one that it sends through a queue or a pipe it has to keep until it was taken there.
///
/// # Two at a time
/// ```
/// use firebox_workers::sync::Semaphore;
///
/// let downloads = Semaphore::new(2)?;
/// let one = downloads.acquire()?;
/// let _two = downloads.acquire()?;
/// assert!(downloads.try_acquire()?.is_none());
/// drop(one);
/// assert_eq!(downloads.available()?, 1);
/// # Ok::<(), firebox_workers::Error>(())
/// ```
///
/// # Tell somebody that there is work
/// ```
/// use firebox_workers::sync::Semaphore;
///
/// let work = Semaphore::new(0)?;
/// work.add(1)?; // One process adds a permit,
/// work.acquire()?.consume()?; // and another one uses it up.
/// assert_eq!(work.available()?, 0);
/// # Ok::<(), firebox_workers::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Semaphore {
    permits: Arc<Permits>,
}

#[derive(Debug)]
struct Permits {
    monitor: Monitor<KIND>,
    _sweep: Sweep,
}

impl Semaphore {
    /// A semaphore with so many permits; there may be none yet.
    ///
    /// # Errors
    /// [`NoMemory`](crate::ErrorKind::NoMemory) if there is no room for a page of shared memory;
    /// [`OutOfRange`](crate::ErrorKind::OutOfRange) for more than 2³² − 1 permits.
    pub fn new(permits: usize) -> Result<Self, Error> {
        check_permits(permits as u64)?;
        let semaphore = Semaphore::of(Monitor::new("firebox-semaphore", 0)?);
        semaphore.permits.monitor.enter()?.set(PERMITS, permits as u64);
        Ok(semaphore)
    }

    fn of(monitor: Monitor<KIND>) -> Self {
        mending::watch(monitor.shared(), mend);
        Semaphore { permits: Arc::new(Permits { monitor, _sweep: Sweep }) }
    }

    /// Waits for a permit.
    ///
    /// # Errors
    /// [`OutOfRange`](crate::ErrorKind::OutOfRange) if some 480 other processes have permits.
    pub fn acquire(&self) -> Result<Permit<'_>, Error> {
        loop {
            if let Some(permit) = self.acquire_until(None)? {
                return Ok(permit);
            }
        }
    }

    /// Takes a permit if there is one.
    ///
    /// # Errors
    /// As of [`acquire`](Self::acquire).
    pub fn try_acquire(&self) -> Result<Option<Permit<'_>>, Error> {
        self.acquire_until(Some(Instant::now()))
    }

    /// Waits for a permit, `limit` at most.
    ///
    /// # Errors
    /// As of [`acquire`](Self::acquire).
    pub fn acquire_timeout(&self, limit: Duration) -> Result<Option<Permit<'_>>, Error> {
        self.acquire_until(after(limit))
    }

    /// Adds permits, as a sign for those who wait.
    ///
    /// # Errors
    /// [`OutOfRange`](crate::ErrorKind::OutOfRange) for more than 2³² − 1 permits.
    pub fn add(&self, permits: usize) -> Result<(), Error> {
        let mut inside = self.permits.monitor.enter()?;
        let sum = inside.get(PERMITS).saturating_add(permits as u64);
        check_permits(sum)?;
        inside.set(PERMITS, sum);
        inside.tell_all(RETURNED);
        Ok(())
    }

    /// How many permits nobody has just now.
    ///
    /// # Errors
    /// Of the system, none that is known.
    pub fn available(&self) -> Result<usize, Error> {
        let inside = self.permits.monitor.enter()?;
        let free = inside.get(PERMITS).saturating_sub(HOLDERS.total(&inside));
        Ok(usize::try_from(free).unwrap_or(usize::MAX))
    }

    fn acquire_until(&self, deadline: Option<Instant>) -> Result<Option<Permit<'_>>, Error> {
        let Some(mut inside) = self.permits.monitor.enter_until(deadline)? else { return Ok(None) };
        let mut in_time = true;
        loop {
            if HOLDERS.total(&inside) < inside.get(PERMITS) {
                HOLDERS.add(&inside, std::process::id())?;
                return Ok(Some(Permit { permits: &self.permits, returned: false }));
            }
            if !in_time {
                return Ok(None);
            }
            (inside, in_time) = inside.wait(RETURNED, deadline)?;
        }
    }
}

fn check_permits(permits: u64) -> Result<(), Error> {
    check(permits <= u64::from(u32::MAX), "permits of a semaphore", format!("at most {}", u32::MAX), permits)
}

#[cfg(test)]
impl Semaphore {
    /// Gives another process a permit.
    pub(super) fn add_holder(&self, process: u32) {
        HOLDERS.add(&self.permits.monitor.enter().unwrap(), process).unwrap();
    }

    /// The number of its memory's file.
    pub(super) fn inode(&self) -> u64 {
        self.permits.monitor.shared().inode()
    }

    /// Does something while the semaphore's numbers are locked.
    pub(super) fn with_lock(&self, then: impl FnOnce()) {
        let _inside = self.permits.monitor.enter().unwrap();
        then();
    }
}

fn mend(shared: Shared, process: u32, deadline: Option<Instant>) -> Result<bool, Error> {
    mending::within(&Monitor::<KIND>::of(shared), deadline, |inside| {
        HOLDERS.forget(inside, process);
        // Also if it had none: it may have been the one that was woken for a permit.
        inside.tell_all(RETURNED);
    })
}

impl Serialize for Semaphore {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if let Some(process) = crossing::receiver() {
            mending::give(self.permits.monitor.shared(), process);
        }
        self.permits.monitor.serialize(to)
    }
}

impl<'de> Deserialize<'de> for Semaphore {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Semaphore::of(Monitor::deserialize(from)?))
    }
}

/// A permit of a [`Semaphore`], given back when it is dropped.
#[derive(Debug)]
#[must_use = "a permit is given back when it is dropped"]
pub struct Permit<'s> {
    permits: &'s Permits,
    returned: bool,
}

impl Permit<'_> {
    /// Uses the permit up: there is one less from now on.
    ///
    /// # Errors
    /// Of the system, none that is known.
    pub fn consume(mut self) -> Result<(), Error> {
        let inside = self.permits.monitor.enter()?;
        self.returned = true;
        // Should the process die in between, there is one permit more rather than one less.
        HOLDERS.remove(&inside, std::process::id());
        inside.set(PERMITS, inside.get(PERMITS).saturating_sub(1));
        Ok(())
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if self.returned {
            return;
        }
        // A lock that fails has nobody who could wait for the permit.
        if let Ok(mut inside) = self.permits.monitor.enter() {
            HOLDERS.remove(&inside, std::process::id());
            inside.tell_one(RETURNED);
        }
    }
}
