//! How many workers may be in a stage at the same time.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Lets a number of workers in.
///
/// With a time limit a place lapses: who holds it longer hangs, is given up by the loader, and must not keep the others
/// out for ever.
pub(super) struct Gate {
    places: usize,
    limit: Option<Duration>,
    inside: Mutex<Inside>,
    left: Condvar,
}

#[derive(Default)]
struct Inside {
    /// The number of the next one to come in.
    next: u64,
    /// Who is inside, and when they came in.
    holders: Vec<(u64, Instant)>,
}

impl Gate {
    /// With this many places, at least 1.
    pub(super) fn new(places: usize, limit: Option<Duration>) -> Self {
        Gate { places: places.max(1), limit, inside: Mutex::default(), left: Condvar::new() }
    }

    /// Waits for a place. `waiting` is called now and then meanwhile; its `false` ends the wait without one.
    ///
    /// The wait ends: who is inside waits for no gate, and leaves after a stage of one sample or lapses.
    pub(super) fn enter(&self, waiting: impl Fn() -> bool) -> Option<Place<'_>> {
        let mut inside = self.lock();
        loop {
            if let Some(limit) = self.limit {
                inside.holders.retain(|(_, since)| since.elapsed() < limit);
            }
            if inside.holders.len() < self.places {
                let number = inside.next;
                inside.next += 1;
                inside.holders.push((number, Instant::now()));
                return Some(Place { gate: self, number });
            }
            inside = self.left.wait_timeout(inside, PATIENCE).unwrap_or_else(PoisonError::into_inner).0;
            if !waiting() {
                return None;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        // Nothing panics under this lock.
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long a worker sleeps before it looks whether it is still wanted.
pub(super) const PATIENCE: Duration = Duration::from_millis(10);

/// A place in a stage, left when it is dropped.
pub(super) struct Place<'g> {
    gate: &'g Gate,
    number: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.gate.lock().holders.retain(|(number, _)| *number != self.number);
        self.gate.left.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_and_lapse() {
        let gate = Gate::new(2, None);
        let (a, b) = (gate.enter(|| true), gate.enter(|| true));
        assert!(a.is_some() && b.is_some());
        assert!(gate.enter(|| false).is_none());
        drop(a);
        let c = gate.enter(|| false);
        assert!(c.is_some());
        drop((b, c));
        assert!(gate.lock().holders.is_empty());

        let gate = Gate::new(1, Some(Duration::from_millis(30)));
        let hung = gate.enter(|| true);
        let begun = Instant::now();
        let next = gate.enter(|| true);
        assert!(next.is_some() && begun.elapsed() >= Duration::from_millis(20));
        drop(hung);
        assert!(gate.enter(|| false).is_none(), "who lapsed leaves nobody else's place");
    }
}
