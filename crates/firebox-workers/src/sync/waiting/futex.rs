//! A word that processes wait at.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use rustix::io::Errno;
use rustix::thread::futex;

/// A word in shared memory, with a queue of those who wait until it changes.
#[derive(Clone, Copy)]
pub(in crate::sync) struct Word<'m>(pub(in crate::sync) &'m AtomicU32);

impl Word<'_> {
    pub(in crate::sync) fn load(self) -> u32 {
        self.0.load(Ordering::SeqCst)
    }

    /// Replaces `current`, and says whether it was there.
    pub(in crate::sync) fn replace(self, current: u32, new: u32) -> bool {
        self.0.compare_exchange(current, new, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    pub(in crate::sync) fn add(self, number: i32) -> u32 {
        self.0.fetch_add(number.cast_unsigned(), Ordering::SeqCst)
    }

    /// Waits while the word is `current`, and not beyond the deadline; `false` means that this has passed.
    ///
    /// It may return for no reason: whoever waits looks again.
    pub(in crate::sync) fn wait(self, current: u32, deadline: Option<Instant>) -> bool {
        let left = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
            Some(left) if left.is_zero() => return false,
            left => left,
        };
        // Longer than the system can count is for ever.
        let left = left.and_then(|left| left.try_into().ok());
        futex::wait(self.0, futex::Flags::empty(), current, left.as_ref()) != Err(Errno::TIMEDOUT)
    }

    /// Wakes so many of those who wait.
    pub(in crate::sync) fn wake(self, count: u32) {
        // The only errors are those of words that are none.
        let _ = futex::wake(self.0, futex::Flags::empty(), count);
    }
}

/// Everybody, for [`Word::wake`].
pub(in crate::sync) const EVERYBODY: u32 = i32::MAX as u32;
