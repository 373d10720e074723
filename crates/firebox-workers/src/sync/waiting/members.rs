//! A table of processes, and how much each of them has.

use std::sync::atomic::Ordering::SeqCst;

use crate::error::Error;
use crate::sync::waiting::monitor::Inside;

/// A place for each process among an object's numbers: its id and its count are one number, so that a process
/// which dies while it writes has written both or neither.
#[derive(Clone, Copy, Debug)]
pub(in crate::sync) struct Members {
    /// The first of the numbers.
    pub(in crate::sync) first: usize,
    /// How many processes there may be.
    pub(in crate::sync) places: usize,
}

impl Members {
    /// Counts one more for a process.
    ///
    /// # Errors
    /// [`OutOfRange`](crate::ErrorKind::OutOfRange) for one process too many.
    pub(in crate::sync) fn add(self, inside: &Inside, process: u32) -> Result<(), Error> {
        let free = || self.position(inside, |entry| entry == 0);
        let Some(index) = self.find(inside, process).or_else(free) else {
            let expected = format!("at most {} processes", self.places);
            return Err(Error::out_of_range("a shared object", expected, "one more"));
        };
        let count = u64::from(count_of(inside.get(index))) + 1;
        if count > u64::from(u32::MAX) {
            return Err(Error::out_of_range(
                "a shared object",
                format!("at most {} a process", u32::MAX),
                count,
            ));
        }
        inside.set(index, u64::from(process) << 32 | count);
        Ok(())
    }

    /// Counts one less for a process; `false` if it has none.
    pub(in crate::sync) fn remove(self, inside: &Inside, process: u32) -> bool {
        let Some(index) = self.find(inside, process) else { return false };
        let left = u64::from(count_of(inside.get(index)).saturating_sub(1));
        inside.set(index, if left == 0 { 0 } else { u64::from(process) << 32 | left });
        true
    }

    /// Takes a process out, and tells what it had.
    pub(in crate::sync) fn forget(self, inside: &Inside, process: u32) -> u32 {
        let Some(index) = self.find(inside, process) else { return 0 };
        let count = count_of(inside.get(index));
        inside.set(index, 0);
        count
    }

    /// The sum over all processes.
    pub(in crate::sync) fn total(self, inside: &Inside) -> u64 {
        let entries = inside.numbers(self.first, self.places).iter();
        entries.map(|entry| u64::from(count_of(entry.load(SeqCst)))).sum()
    }

    fn find(self, inside: &Inside, process: u32) -> Option<usize> {
        self.position(inside, |entry| entry >> 32 == u64::from(process))
    }

    /// The number that has the first such entry.
    fn position(self, inside: &Inside, is_it: impl Fn(u64) -> bool) -> Option<usize> {
        let mut entries = inside.numbers(self.first, self.places).iter();
        entries.position(|entry| is_it(entry.load(SeqCst))).map(|position| self.first + position)
    }
}

fn count_of(entry: u64) -> u32 {
    (entry & u64::from(u32::MAX)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::waiting::monitor::{Monitor, PAGE, WORDS_OF_A_PAGE, kind};

    const MEMBERS: Members = Members { first: 2, places: 3 };

    #[test]
    fn processes_are_counted_each() {
        let monitor = Monitor::<{ kind(b"test") }>::new("test", PAGE).unwrap();
        let inside = monitor.enter().unwrap();
        for process in [7, 9, 7, u32::MAX, 7] {
            MEMBERS.add(&inside, process).unwrap();
        }
        assert_eq!(MEMBERS.total(&inside), 5);
        let error = MEMBERS.add(&inside, 8).unwrap_err();
        assert_eq!(error.to_string(), "a shared object: expected at most 3 processes, got one more");
        assert!(!MEMBERS.remove(&inside, 8));
        assert!(MEMBERS.remove(&inside, 9) && !MEMBERS.remove(&inside, 9));
        MEMBERS.add(&inside, 8).unwrap();
        assert_eq!((MEMBERS.forget(&inside, 7), MEMBERS.forget(&inside, 7)), (3, 0));
        assert_eq!(MEMBERS.total(&inside), 2);
        // Its neighbors are as they were.
        assert_eq!((inside.get(1), inside.get(5)), (0, 0));
    }

    #[test]
    fn a_page_has_all_its_places() {
        let monitor = Monitor::<{ kind(b"test") }>::new("test", PAGE).unwrap();
        let inside = monitor.enter().unwrap();
        let members = Members { first: 0, places: WORDS_OF_A_PAGE };
        for process in 0..members.places {
            members.add(&inside, process as u32 + 1).unwrap();
        }
        assert!(members.add(&inside, 1_000_000).is_err());
        assert_eq!(members.total(&inside), members.places as u64);
    }
}
