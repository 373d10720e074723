//! The base of what processes share: memory with a lock, conditions to wait for, and a few
//! numbers.
//!
//! The numbers are written under the lock. Whoever dies holding it leaves them as they were after some store:
//! each object says why that is a state like any other, or what the next one does who hears that the lock was
//! abandoned.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use serde_core::de::Error as _;
use serde_core::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, ErrorKind};
use crate::sync::memory::Memory;
use crate::sync::memory::shared::Shared;
use crate::sync::waiting::condition::Condition;
use crate::sync::waiting::futex::{EVERYBODY, Word};
use crate::sync::waiting::mutex::{self, Held, Patience};

/// Where conditions stand.
const CONDITIONS: usize = mutex::END;
/// How many there are, each of two words of 32 bits.
const MOST_CONDITIONS: usize = 2;
/// Where the numbers begin.
const WORDS: usize = 192;
/// The memory of an object, at least.
pub(in crate::sync) const PAGE: usize = 4096;
/// How many numbers a page has.
pub(in crate::sync) const WORDS_OF_A_PAGE: usize = (PAGE - WORDS) / 8;

/// Who waits looks again so often. Whoever was woken and died before it did anything has woken nobody in its
/// place; the parent that reaps it does, if it knows the object.
const AGAIN: Duration = Duration::from_secs(1);

/// A critical section takes less than this, unless its process is stopped.
const GRACE: Duration = Duration::from_secs(1);

/// Memory with a lock and numbers; `KIND` is the first of these, so that no other memory is taken for it.
#[derive(Clone, Debug)]
pub(in crate::sync) struct Monitor<const KIND: u32> {
    shared: Shared,
}

impl<const KIND: u32> Monitor<KIND> {
    /// A monitor in new memory of `bytes`, or of a page; all of its numbers are zero.
    pub(in crate::sync) fn new(name: &str, bytes: usize) -> Result<Self, Error> {
        let mut memory = Memory::new(name, bytes.max(PAGE))?;
        mutex::create(&mut memory)?;
        memory.words32(0, 1)[0].store(KIND, SeqCst);
        Ok(Monitor { shared: Shared::new(memory)? })
    }

    /// The monitor in shared memory that is known to have one.
    pub(in crate::sync) fn of(shared: Shared) -> Self {
        Monitor { shared }
    }

    pub(in crate::sync) fn shared(&self) -> &Shared {
        &self.shared
    }

    pub(in crate::sync) fn memory(&self) -> &Arc<Memory> {
        self.shared.memory()
    }

    /// The monitor in memory of [`into_memory`](Self::into_memory).
    pub(in crate::sync) fn from_memory(memory: Memory) -> Result<Self, Error> {
        Ok(Monitor { shared: Shared::new(memory)? })
    }

    /// The memory alone, if nobody else in this process has it.
    pub(in crate::sync) fn into_memory(self) -> Result<Memory, Self> {
        self.shared.into_memory().map_err(|shared| Monitor { shared })
    }

    /// A word of its own, for what needs no lock.
    pub(in crate::sync) fn signal_word(&self) -> Word<'_> {
        condition(self.memory(), 0).changes
    }

    /// A number that may be changing just now.
    pub(in crate::sync) fn peek(&self, index: usize) -> u64 {
        word(self.memory(), index).load(SeqCst)
    }

    /// Takes the lock.
    ///
    /// # Errors
    /// Of the system, none that is known.
    pub(in crate::sync) fn enter(&self) -> Result<Inside, Error> {
        match Held::lock(self.memory(), Patience::Forever)? {
            Some(held) => Ok(Inside { held: Some(held), wake: [0; MOST_CONDITIONS] }),
            None => Err(Error::new(ErrorKind::System, "a lock without a time limit took too long")),
        }
    }

    /// Takes the lock, and doesn't wait much longer than until the deadline: that is if its holder is
    /// stopped.
    pub(in crate::sync) fn enter_until(&self, deadline: Option<Instant>) -> Result<Option<Inside>, Error> {
        self.enter_by(deadline.and_then(|deadline| deadline.checked_add(GRACE)))
    }

    /// Takes the lock if that is possible before the deadline.
    pub(in crate::sync) fn enter_by(&self, deadline: Option<Instant>) -> Result<Option<Inside>, Error> {
        let patience = deadline.map_or(Patience::Forever, Patience::Until);
        let held = Held::lock(self.memory(), patience)?;
        Ok(held.map(|held| Inside { held: Some(held), wake: [0; MOST_CONDITIONS] }))
    }
}

impl<const KIND: u32> Serialize for Monitor<KIND> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.shared.serialize(to)
    }
}

impl<'de, const KIND: u32> Deserialize<'de> for Monitor<KIND> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let shared = Shared::deserialize(from)?;
        let memory = shared.memory();
        let shared_kind = |memory: &Memory| memory.words32(0, 1)[0].load(SeqCst);
        if memory.access() != crate::sync::memory::Access::Shared || memory.len() < PAGE {
            return Err(D::Error::custom("what processes share: expected memory with a lock"));
        }
        if shared_kind(memory) != KIND {
            let [expected, got] = [KIND, shared_kind(memory)].map(name_of);
            return Err(D::Error::custom(format!("what processes share: expected {expected}, got {got}")));
        }
        Ok(Monitor { shared })
    }
}

/// The number of a kind, which is its name.
pub(in crate::sync) const fn kind(name: &[u8; 4]) -> u32 {
    u32::from_le_bytes(*name)
}

fn name_of(kind: u32) -> String {
    String::from_utf8_lossy(&kind.to_le_bytes()).escape_debug().to_string()
}

/// The lock of a monitor, and what it protects.
#[derive(Debug)]
pub(in crate::sync) struct Inside {
    /// Always there, but while it waits.
    held: Option<Held>,
    /// How many are to be woken when the lock is given back.
    wake: [u32; MOST_CONDITIONS],
}

impl Inside {
    /// True if the one before ended in here.
    pub(in crate::sync) fn is_abandoned(&self) -> bool {
        self.held.as_ref().is_some_and(Held::is_abandoned)
    }

    pub(in crate::sync) fn get(&self, index: usize) -> u64 {
        self.numbers(index, 1).first().map_or(0, |number| number.load(SeqCst))
    }

    /// So many numbers from one on.
    pub(in crate::sync) fn numbers(&self, first: usize, count: usize) -> &[AtomicU64] {
        self.held.as_ref().map_or(&[], |held| held.memory().words64(WORDS + first * 8, count))
    }

    pub(in crate::sync) fn set(&self, index: usize, value: u64) {
        if let Some(held) = &self.held {
            word(held.memory(), index).store(value, SeqCst);
        }
    }

    /// Tells one of those who wait that something has changed.
    pub(in crate::sync) fn tell_one(&mut self, number: usize) {
        self.tell(number, 1);
    }

    /// Tells all who wait that something has changed.
    pub(in crate::sync) fn tell_all(&mut self, number: usize) {
        self.tell(number, EVERYBODY);
    }

    fn tell(&mut self, number: usize, count: u32) {
        if self.held.as_ref().is_some_and(|held| condition(held.memory(), number).count()) {
            self.wake[number] = self.wake[number].saturating_add(count).min(EVERYBODY);
        }
    }

    /// Gives the lock up until something has changed, or for no reason; `false` if the deadline has passed.
    ///
    /// # Errors
    /// As of [`Monitor::enter`].
    pub(in crate::sync) fn wait(
        mut self,
        number: usize,
        deadline: Option<Instant>,
    ) -> Result<(Self, bool), Error> {
        let Some(held) = self.held.take() else { return Ok((self, false)) };
        let memory = Arc::clone(held.memory());
        let condition = condition(&memory, number);
        let prepared = condition.prepare();
        drop(held);
        self.wake_those_told(&memory);
        let again = Instant::now() + AGAIN;
        condition.sleep(prepared, Some(deadline.map_or(again, |deadline| deadline.min(again))));
        let in_time = deadline.is_none_or(|deadline| Instant::now() < deadline);
        self.held = Held::lock(&memory, Patience::Forever)?;
        Ok((self, in_time))
    }

    fn wake_those_told(&mut self, memory: &Memory) {
        for (number, count) in self.wake.iter_mut().enumerate() {
            match std::mem::take(count) {
                0 => {}
                count => condition(memory, number).wake(count),
            }
        }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let Some(held) = self.held.take() else { return };
        if self.wake == [0; MOST_CONDITIONS] {
            return;
        }
        let memory = Arc::clone(held.memory());
        drop(held);
        self.wake_those_told(&memory);
    }
}

fn word(memory: &Memory, index: usize) -> &AtomicU64 {
    &memory.words64(WORDS + index * 8, 1)[0]
}

fn condition(memory: &Memory, number: usize) -> Condition<'_> {
    assert!(number < MOST_CONDITIONS);
    let words = memory.words32(CONDITIONS + number * 8, 2);
    Condition { changes: Word(&words[0]), waiting: Word(&words[1]) }
}

/// The end of a time limit; none if it is too far away to come.
pub(in crate::sync) fn after(limit: Duration) -> Option<Instant> {
    Instant::now().checked_add(limit)
}
