//! A point that processes pass together.

use std::sync::Arc;
use std::time::{Duration, Instant};

use firebox_core::check;
use serde_core::{Deserialize, Deserializer, Serialize, Serializer};

use super::crossing;
use crate::error::{Error, ErrorKind};
use crate::sync::memory::shared::Shared;
use crate::sync::waiting::members::Members;
use crate::sync::waiting::mending::{self, Sweep};
use crate::sync::waiting::monitor::{Inside, Monitor, WORDS_OF_A_PAGE, after, kind};
use crate::sync::waiting::rounds::Rounds;

const KIND: u32 = kind(b"barr");

/// How many pass together.
const PARTIES: usize = 0;
/// The number of the round, and in the lowest bits how many have arrived.
const ROUND: usize = 1;
/// True if the barrier is broken.
const IS_BROKEN: usize = 2;
/// How the last rounds ended.
const ENDINGS: usize = 3;
/// Who has a handle of the barrier.
const MEMBERS: Members = Members { first: 8, places: WORDS_OF_A_PAGE - 8 };
/// A round has ended, one way or the other.
const ENDED: usize = 0;

/// The bits of [`ROUND`] for those who have arrived.
const ARRIVED: u32 = 16;
const MOST_PARTIES: usize = (1 << ARRIVED) - 1;

/// A point that so many parties pass together, as often as they like.
///
/// A clone is the same barrier, and so is what a process receives of it. If a process ends while it has the
/// barrier, or a party waits longer than it wants to, the barrier is broken: all who wait and all who come
/// get [`Broken`](ErrorKind::Broken), until somebody [resets](Self::reset) it. The parent need not keep the
/// barrier for that, if it once had it; but one that it sends through a queue or a pipe it has to keep until
/// it was taken there.
///
/// # Pass together
/// ```
/// use firebox_workers::sync::Barrier;
///
/// let barrier = Barrier::new(2)?;
/// let last = std::thread::scope(|scope| {
///     let other = scope.spawn(|| barrier.wait());
///     (barrier.wait(), other.join().expect("no panic"))
/// });
/// // Of two parties, one was the second to come.
/// assert_eq!(last.0? + last.1?, 0 + 1);
/// # Ok::<(), firebox_workers::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Barrier {
    point: Arc<Point>,
}

/// A process' share in a barrier.
#[derive(Debug)]
struct Point {
    monitor: Monitor<KIND>,
    _sweep: Sweep,
}

impl Barrier {
    /// A barrier for so many parties, which are threads of any processes.
    ///
    /// # Errors
    /// [`OutOfRange`](ErrorKind::OutOfRange) for none, or more than 65,535; [`NoMemory`](ErrorKind::NoMemory)
    /// if there is no room for a page of shared memory.
    pub fn new(parties: usize) -> Result<Self, Error> {
        let expected = format!("from 1 to {MOST_PARTIES}");
        check((1..=MOST_PARTIES).contains(&parties), "parties of a barrier", expected, parties)?;
        let monitor = Monitor::<KIND>::new("firebox-barrier", 0)?;
        {
            let inside = monitor.enter()?;
            inside.set(PARTIES, parties as u64);
            MEMBERS.add(&inside, std::process::id())?;
        }
        Ok(Barrier::of(monitor))
    }

    fn of(monitor: Monitor<KIND>) -> Self {
        mending::watch(monitor.shared(), mend);
        Barrier { point: Arc::new(Point { monitor, _sweep: Sweep }) }
    }

    /// Waits until all parties have come, and tells as which of them this one did, from 0.
    ///
    /// # Errors
    /// [`Broken`](ErrorKind::Broken).
    pub fn wait(&self) -> Result<usize, Error> {
        self.wait_until(None)
    }

    /// Waits until all parties have come, `limit` at most.
    ///
    /// # Errors
    /// [`Broken`](ErrorKind::Broken); beyond the limit, too, for all parties.
    pub fn wait_timeout(&self, limit: Duration) -> Result<usize, Error> {
        self.wait_until(after(limit))
    }

    /// Breaks the barrier: all who wait and all who come get [`Broken`](ErrorKind::Broken).
    ///
    /// # Errors
    /// Of the system, none that is known.
    pub fn abort(&self) -> Result<(), Error> {
        change(&mut self.point.monitor.enter()?, Rounds::break_now);
        Ok(())
    }

    /// Makes the barrier whole again, with nobody there: those who wait get [`Broken`](ErrorKind::Broken).
    ///
    /// # Errors
    /// Of the system, none that is known.
    pub fn reset(&self) -> Result<(), Error> {
        change(&mut self.point.monitor.enter()?, Rounds::reset);
        Ok(())
    }

    /// Tells whether the barrier is broken.
    pub fn is_broken(&self) -> bool {
        self.point.monitor.peek(IS_BROKEN) != 0
    }

    /// How many pass together.
    pub fn parties(&self) -> usize {
        usize::try_from(self.point.monitor.peek(PARTIES)).unwrap_or(usize::MAX)
    }

    fn wait_until(&self, deadline: Option<Instant>) -> Result<usize, Error> {
        let broken = |_| Error::from(ErrorKind::Broken);
        let inside = self.point.monitor.enter_until(deadline)?;
        let mut inside = inside.ok_or_else(|| Error::from(ErrorKind::Broken))?;
        let ticket = change(&mut inside, Rounds::arrive).map_err(broken)?;
        loop {
            if let Some(outcome) = change(&mut inside, |rounds| rounds.outcome(ticket)) {
                return outcome.map_err(broken).map(|place| usize::try_from(place).unwrap_or(usize::MAX));
            }
            let in_time;
            (inside, in_time) = inside.wait(ENDED, deadline)?;
            if !in_time {
                change(&mut inside, |rounds| rounds.give_up(ticket));
            }
        }
    }
}

/// Changes what is counted, and wakes who has to hear of it.
fn change<R>(inside: &mut Inside, change: impl FnOnce(&mut Rounds) -> R) -> R {
    let round = inside.get(ROUND);
    let (number, arrived) = (round >> ARRIVED, round & MOST_PARTIES as u64);
    let before = Rounds {
        parties: inside.get(PARTIES),
        number,
        arrived,
        is_broken: inside.get(IS_BROKEN) != 0,
        endings: inside.get(ENDINGS),
    };
    let mut rounds = before;
    if inside.is_abandoned() {
        // Somebody has ended in the middle of changing this: which of the numbers are new, nobody knows.
        rounds.break_now();
    }
    let result = change(&mut rounds);
    if rounds != before {
        // The round comes last: how it has ended is known before anybody sees that it has.
        inside.set(ENDINGS, rounds.endings);
        inside.set(IS_BROKEN, rounds.is_broken.into());
        inside.set(ROUND, rounds.number << ARRIVED | rounds.arrived);
    }
    if (rounds.number, rounds.is_broken) != (before.number, before.is_broken) {
        inside.tell_all(ENDED);
    }
    result
}

fn mend(shared: Shared, process: u32, deadline: Option<Instant>) -> Result<bool, Error> {
    mending::within(&Monitor::<KIND>::of(shared), deadline, |inside| {
        if MEMBERS.forget(inside, process) > 0 {
            change(inside, Rounds::break_now);
        }
    })
}

impl Drop for Point {
    fn drop(&mut self) {
        // Who gives its share up is waited for by those who count on it, until they lose patience, as with
        // threads. Who panics has not given it up: its process is about to end, and breaks the barrier.
        if std::thread::panicking() {
            return;
        }
        if let Ok(inside) = self.monitor.enter() {
            MEMBERS.remove(&inside, std::process::id());
        }
    }
}

impl Serialize for Barrier {
    /// If the receiver is known, it is a member from now on: it may end before it reads this.
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let receiver = crossing::receiver();
        if let Some(process) = receiver {
            mending::give(self.point.monitor.shared(), process);
            let add = |inside| MEMBERS.add(&inside, process);
            self.point.monitor.enter().and_then(add).map_err(serde_core::ser::Error::custom)?;
        }
        (&self.point.monitor, receiver.is_some()).serialize(to)
    }
}

impl<'de> Deserialize<'de> for Barrier {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let (monitor, is_member) = <(Monitor<KIND>, bool)>::deserialize(from)?;
        if !is_member {
            let add = |inside| MEMBERS.add(&inside, std::process::id());
            monitor.enter().and_then(add).map_err(serde_core::de::Error::custom)?;
        }
        Ok(Barrier::of(monitor))
    }
}
