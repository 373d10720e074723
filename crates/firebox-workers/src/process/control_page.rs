//! A page on which parent and worker tell each other of a task while it runs.
//!
//! One page of shared memory for each worker. Everything in it is a word, so that nothing is ever half
//! written; and whatever a worker writes there, the parent believes no more of it than which task to blame
//! and how long to wait.
//!
//! ```text
//! parent: clear ── Task ──▶ worker: begin(1), begin(2), … progress … ── Reply ──▶ parent
//!             cancel ────────────────▶ (seen by progress)
//! ```
//!
//! The parent clears the page before it sends a task, when the worker has none and writes nothing. The
//! message that follows, and the one that answers, order the rest.

use super::atomic::{AtomicU64, Ordering};

/// The bytes of the page.
pub(crate) const BYTES: usize = 4096;

/// How many words are used.
pub(crate) const WORDS: usize = 3;

/// Marks a part as run alone.
const ALONE: u64 = 1 << 63;

/// The words of a page.
#[derive(Clone, Copy)]
pub(crate) struct ControlPage<'m> {
    words: &'m [AtomicU64],
}

/// The part of its task that a worker has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Begun {
    /// The part, counted from 0; `None` for the task as a whole.
    pub(crate) part: Option<usize>,
    /// True if the task has said that nothing else runs beside it.
    pub(crate) alone: bool,
}

impl<'m> ControlPage<'m> {
    /// A page over the first [`WORDS`] words.
    pub(crate) fn new(words: &'m [AtomicU64]) -> Self {
        ControlPage { words }
    }

    fn begun_word(self) -> &'m AtomicU64 {
        &self.words[0]
    }

    fn beat(self) -> &'m AtomicU64 {
        &self.words[1]
    }

    fn cancelled(self) -> &'m AtomicU64 {
        &self.words[2]
    }

    /// The parent's, before a task: nothing is begun.
    pub(crate) fn clear(self) {
        self.words.iter().for_each(|word| word.store(0, Ordering::Relaxed));
    }

    /// The worker's, before it runs a part of its task.
    pub(crate) fn begin(self, begun: Begun) {
        // 0 is nothing, 1 the task as a whole.
        let part = begun.part.map_or(1, |part| (part as u64).saturating_add(2).min(ALONE - 1));
        let alone = if begun.alone { ALONE } else { 0 };
        // Released: what the worker did of the parts before is done for whoever sees that this one is begun.
        self.begun_word().store(part | alone, Ordering::Release);
    }

    /// The parent's: what the worker has begun last; `None` if nothing.
    pub(crate) fn begun(self) -> Option<Begun> {
        let word = self.begun_word().load(Ordering::Acquire);
        let part = match word & !ALONE {
            0 => return None,
            1 => None,
            part => Some(usize::try_from(part - 2).unwrap_or(usize::MAX)),
        };
        Some(Begun { part, alone: word & ALONE != 0 })
    }

    /// The worker's: its task gets on, now.
    pub(crate) fn tell_progress(self, now: u64) {
        self.beat().store(now, Ordering::Relaxed);
    }

    /// The parent's: when the worker told of progress last, by its own word; 0 for never.
    pub(crate) fn progress(self) -> u64 {
        self.beat().load(Ordering::Relaxed)
    }

    /// The parent's: nobody waits for the task any more.
    pub(crate) fn cancel(self) {
        self.cancelled().store(1, Ordering::Relaxed);
    }

    /// The worker's: whether somebody still waits.
    pub(crate) fn is_wanted(self) -> bool {
        self.cancelled().load(Ordering::Relaxed) == 0
    }
}
