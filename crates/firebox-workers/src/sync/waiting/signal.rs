//! An event's state, in one word.
//!
//! The word counts: it is odd while the event is set, and each change adds one. So somebody who saw it clear
//! and then sees another number knows that it was set in between, also when it was cleared again before he
//! was awake: nobody who waited when an event was set goes on waiting.

use std::time::Instant;

use super::futex::{EVERYBODY, Word};

/// A word that is set or clear.
#[derive(Clone, Copy)]
pub(crate) struct Signal<'m>(pub(crate) Word<'m>);

impl Signal<'_> {
    pub(crate) fn is_set(self) -> bool {
        self.0.load() % 2 == 1
    }

    pub(crate) fn set(self) {
        if self.change(false) {
            self.0.wake(EVERYBODY);
        }
    }

    pub(crate) fn clear(self) {
        self.change(true);
    }

    /// Waits until it is set; `false` means that the deadline has passed before.
    pub(crate) fn wait(self, deadline: Option<Instant>) -> bool {
        let seen = self.0.load();
        if seen % 2 == 1 {
            return true;
        }
        loop {
            let in_time = self.0.wait(seen, deadline);
            if self.0.load() != seen {
                return true;
            }
            if !in_time {
                return false;
            }
        }
    }

    /// Changes what is so set into its contrary, and says whether it had to.
    fn change(self, set: bool) -> bool {
        loop {
            let seen = self.0.load();
            if (seen % 2 == 1) != set {
                return false;
            }
            if self.0.replace(seen, seen.wrapping_add(1)) {
                return true;
            }
        }
    }
}
