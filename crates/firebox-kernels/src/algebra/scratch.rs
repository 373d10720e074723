//! Memory that a thread works with, from one task to the next.

use std::cell::RefCell;

use crate::algebra::product::Panels;

/// The most pieces that a task takes.
const PIECES: usize = 12;

/// The memory of one thread. It still holds what was written there before.
#[derive(Default)]
struct Scratch {
    pieces: [Vec<f32>; PIECES],
    panels: Panels,
}

/// The pieces that a task hasn't taken yet.
pub(crate) struct Pieces<'a> {
    rest: &'a mut [Vec<f32>],
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Runs a task with the memory of its thread. The task must not come here again.
pub(crate) fn with_scratch<R>(work: impl FnOnce(Pieces<'_>, &mut Panels) -> R) -> R {
    SCRATCH.with_borrow_mut(|Scratch { pieces, panels }| work(Pieces { rest: pieces }, panels))
}

impl<'a> Pieces<'a> {
    /// The next piece, of so many elements with any values.
    pub(crate) fn take(&mut self, size: usize) -> &'a mut [f32] {
        let Some((piece, rest)) = std::mem::take(&mut self.rest).split_first_mut() else {
            unreachable!("a task takes at most {PIECES} pieces")
        };
        self.rest = rest;
        if piece.len() < size {
            piece.resize(size, 0.0);
        }
        &mut piece[..size]
    }

    /// The next piece, filled with zeros.
    pub(crate) fn take_zeros(&mut self, size: usize) -> &'a mut [f32] {
        let piece = self.take(size);
        piece.fill(0.0);
        piece
    }
}
