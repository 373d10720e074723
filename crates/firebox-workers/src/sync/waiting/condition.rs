//! Waiting for a change of what a lock protects.
//!
//! Whoever waits notes the number of changes while it has the lock, gives the lock up, and sleeps while the
//! number is still that one. A change is counted under the lock, so that none falls between. Those who wait
//! are counted, so that a change that nobody waits for costs no call of the system; if one of them dies the
//! count stays too high, which costs just that.

use std::time::Instant;

use super::futex::Word;

/// Two words: how many changes there were, and how many wait for one.
#[derive(Clone, Copy)]
pub(crate) struct Condition<'m> {
    pub(crate) changes: Word<'m>,
    pub(crate) waiting: Word<'m>,
}

impl Condition<'_> {
    /// Begins to wait, under the lock.
    pub(crate) fn prepare(self) -> u32 {
        self.waiting.add(1);
        self.changes.load()
    }

    /// Sleeps until there was a change, without the lock; `false` means that the deadline has passed.
    pub(crate) fn sleep(self, prepared: u32, deadline: Option<Instant>) -> bool {
        let in_time = self.changes.wait(prepared, deadline);
        self.waiting.add(-1);
        in_time
    }

    /// Counts a change, under the lock, and says whether somebody has to be woken after it.
    pub(crate) fn count(self) -> bool {
        self.changes.add(1);
        self.waiting.load() != 0
    }

    /// Wakes so many, after the lock.
    pub(crate) fn wake(self, count: u32) {
        self.changes.wake(count);
    }
}
