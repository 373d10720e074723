//! How many workers may be in a stage at the same time.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A number of permits, which workers take in turn.
///
/// With a time limit a permit lapses: who holds it longer hangs, is given up by the loader, and must not keep
/// the others out for ever.
pub(in crate::loader) struct ConcurrencyLimit {
    permits: usize,
    limit: Option<Duration>,
    held: Mutex<Held>,
    released: Condvar,
}

#[derive(Default)]
struct Held {
    /// The number of the next permit.
    next: u64,
    /// Who has one, and since when.
    holders: Vec<(u64, Instant)>,
}

impl ConcurrencyLimit {
    /// With this many permits, at least 1.
    pub(in crate::loader) fn new(permits: usize, limit: Option<Duration>) -> Self {
        ConcurrencyLimit { permits: permits.max(1), limit, held: Mutex::default(), released: Condvar::new() }
    }

    /// Waits for a permit. `waiting` is called now and then meanwhile; its `false` ends the wait without one.
    ///
    /// The wait ends: who holds a permit waits for no other, and gives it back after a stage of one sample or
    /// lapses.
    pub(in crate::loader) fn acquire(&self, waiting: impl Fn() -> bool) -> Option<Permit<'_>> {
        let mut held = self.lock();
        loop {
            if let Some(limit) = self.limit {
                held.holders.retain(|(_, since)| since.elapsed() < limit);
            }
            if held.holders.len() < self.permits {
                let number = held.next;
                held.next += 1;
                held.holders.push((number, Instant::now()));
                return Some(Permit { of: self, number });
            }
            held = self.released.wait_timeout(held, PATIENCE).unwrap_or_else(PoisonError::into_inner).0;
            if !waiting() {
                return None;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        // Nothing panics under this lock.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long a worker sleeps before it looks whether it is still wanted.
pub(in crate::loader) const PATIENCE: Duration = Duration::from_millis(10);

/// The permission to be in a stage, given back when it is dropped.
pub(in crate::loader) struct Permit<'l> {
    of: &'l ConcurrencyLimit,
    number: u64,
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.of.lock().holders.retain(|(number, _)| *number != self.number);
        self.of.released.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_are_counted_and_lapse() {
        let limit = ConcurrencyLimit::new(2, None);
        let (a, b) = (limit.acquire(|| true), limit.acquire(|| true));
        assert!(a.is_some() && b.is_some());
        assert!(limit.acquire(|| false).is_none());
        drop(a);
        let c = limit.acquire(|| false);
        assert!(c.is_some());
        drop((b, c));
        assert!(limit.lock().holders.is_empty());

        let limit = ConcurrencyLimit::new(1, Some(Duration::from_millis(30)));
        let hung = limit.acquire(|| true);
        let begun = Instant::now();
        let next = limit.acquire(|| true);
        assert!(next.is_some() && begun.elapsed() >= Duration::from_millis(20));
        drop(hung);
        assert!(limit.acquire(|| false).is_none(), "who lapsed gives back nobody else's permit");
    }
}
