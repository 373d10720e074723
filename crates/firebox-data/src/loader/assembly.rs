//! A batch's buffer while several workers write into it: the one place of this crate with `unsafe`.
//!
//! A buffer's slots borrow it. Workers outlive the function that makes the slots, so that the borrow can't be
//! written as a lifetime; here it is kept by ownership instead:
//!
//! * An [`Assembly`] owns the buffer, in an allocation that never moves. Its slots are made once, before any
//!   worker knows of it, and are cut into [`Run`]s by safe code: so no two runs have a slot in common.
//! * Each run holds its slots and, behind them, a reference to the assembly. So the buffer lives at least as
//!   long as every slot, also if a worker is given up in the middle of its run and never comes back.
//! * The buffer is touched again only by the run that is [finished](Run::finish) last. Each run drops its
//!   slots and then counts down, with release order; who finds that it was the last has seen, with acquire
//!   order, all that the others wrote. A run that is dropped unfinished doesn't count down: then nobody ever
//!   gets the buffer, and it is freed with the last reference.
//!
//! `tests/it/assembly.rs` runs this file under loom, which tries the orders in which threads can run it.
#![allow(unsafe_code, reason = "see above")]

use std::cell::UnsafeCell;
use std::mem::{ManuallyDrop, MaybeUninit};

use crate::collate::{Collate, Slots};
use crate::sync::{Arc, AtomicUsize, Ordering};

/// A buffer that is being written.
struct Assembly<C: Collate> {
    /// Borrowed, mutably, by the slots of all runs that are not finished; `None` once it was given out.
    buffer: UnsafeCell<Option<C::Buffer>>,
    /// The number of runs that are not finished.
    unfinished: AtomicUsize,
}

// SAFETY: threads share an assembly for two things. The counter is atomic. The buffer is moved out by one
// thread only, which is sending it: `C::Buffer` is `Send`.
unsafe impl<C: Collate> Sync for Assembly<C> {}

// SAFETY: as above. The buffer may also be dropped by another thread than the one that opened it, which is
// sending, too.
unsafe impl<C: Collate> Send for Assembly<C> {}

/// Some consecutive slots of a batch, and the duty to say that they are written.
pub(crate) struct Run<C: Collate> {
    /// There as long as `held`. `MaybeUninit`, because to pass a `Run` to a function must not claim that the
    /// slots live until the function returns: in `finish` they don't.
    slots: MaybeUninit<C::Slots<'static>>,
    held: bool,
    assembly: Arc<Assembly<C>>,
}

impl<C: Collate> Run<C> {
    /// The slot of the run's sample `sample`, from 0; `None` if the layout has none.
    pub(crate) fn slot(&mut self, sample: usize) -> Option<C::Slot<'_>> {
        // SAFETY: only `finish`, which takes the run, and `drop` let go of them.
        unsafe { self.slots.assume_init_mut() }.get(sample)
    }

    /// Ends the run. Whoever ends the last one of a batch gets its buffer.
    pub(crate) fn finish(mut self) -> Option<C::Buffer> {
        self.let_go();
        if self.assembly.unfinished.fetch_sub(1, Ordering::AcqRel) > 1 {
            return None;
        }
        // SAFETY: every run has dropped its slots before it counted down, and all counted down: nothing
        // borrows the buffer any more. What happened to it before the others' countdowns has happened before
        // this one, and there is no second run that finds itself the last.
        unsafe { (*self.assembly.buffer.get()).take() }
    }

    fn let_go(&mut self) {
        if std::mem::take(&mut self.held) {
            // SAFETY: `held` was set: they are there, and dropped here for the only time.
            unsafe { self.slots.assume_init_drop() };
        }
    }
}

impl<C: Collate> Drop for Run<C> {
    fn drop(&mut self) {
        // Before the reference to the assembly, which is dropped with the fields.
        self.let_go();
    }
}

/// Cuts a buffer into runs of these lengths. There must be one at least, and their sum must be the number of
/// the buffer's samples.
pub(crate) fn runs<C: Collate>(layout: &C, buffer: C::Buffer, lengths: &[usize]) -> Vec<Run<C>> {
    let unfinished = AtomicUsize::new(lengths.len());
    let assembly = Arc::new(Assembly { buffer: UnsafeCell::new(Some(buffer)), unfinished });
    // SAFETY: nobody else knows the assembly yet, so that the borrow is the only one.
    let Some(buffer) = (unsafe { &mut *assembly.buffer.get() }) else { return Vec::new() };
    // SAFETY: the buffer stays where it is, behind the `Arc`, until all parts of these slots are dropped:
    // each part goes into a run that holds a reference to the assembly, and only `finish` reaches the buffer.
    let mut rest = Some(unsafe { forget_lifetime::<C>(layout.slots(buffer)) });
    let mut runs = Vec::with_capacity(lengths.len());
    for (run, &length) in lengths.iter().enumerate() {
        let Some(left) = rest.take() else { break };
        let slots = if run + 1 == lengths.len() {
            left
        } else {
            let (slots, right) = left.split_at(length);
            rest = Some(right);
            slots
        };
        runs.push(Run { slots: MaybeUninit::new(slots), held: true, assembly: Arc::clone(&assembly) });
    }
    runs
}

/// # Safety
/// What the slots borrow must stay in place, and be used by nothing else, until all parts of them are
/// dropped.
unsafe fn forget_lifetime<C: Collate>(slots: C::Slots<'_>) -> C::Slots<'static> {
    let slots = ManuallyDrop::new(slots);
    // SAFETY: the two types differ in a lifetime only, which has no part in their layout; and `slots` is not
    // used or dropped again, so that the value is moved, not copied. A layout can't act on the longer
    // lifetime: code is the same for all lifetimes, and `Run` gives slots out under borrows of itself only.
    unsafe { std::mem::transmute_copy::<ManuallyDrop<C::Slots<'_>>, C::Slots<'static>>(&slots) }
}
