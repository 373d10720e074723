//! The sizes of a recurrence, and what follows from them.

use crate::recurrent::cell::Cell;
use crate::recurrent::kernel::gates::{places, regions};
use crate::recurrent::kernel::last_states::Ends;

/// The most rows of a block: its gates' sums stay in the cache.
const MOST_ROWS: usize = 64;
/// Blocks have a multiple of so many rows, which a product takes at once.
const GRAIN: usize = 4;

/// The operation on an input `[batch, time, features]`, `weight_ih`, `weight_hh`, `bias_ih` and `bias_hh` as
/// PyTorch has them, and first states `[states · batch, hidden]`: h, and for an LSTM c after it.
///
/// The output is h of all steps `[batch, time, hidden]`. Where that doesn't say the last states, they are
/// among the `ends`.
#[derive(Clone, Debug)]
pub(crate) struct Recurrence {
    pub(crate) cell: Cell,
    pub(crate) batch: usize,
    pub(crate) time: usize,
    pub(crate) features: usize,
    pub(crate) hidden: usize,
    /// Of each row, at most `time`; all are `time` if there are none.
    pub(crate) lengths: Option<Vec<usize>>,
    pub(crate) reverse: bool,
    pub(crate) ends: Ends,
}

impl Recurrence {
    /// How many parts a state has.
    pub(crate) fn states(&self) -> usize {
        if self.cell == Cell::Lstm { 2 } else { 1 }
    }

    /// Tells if the last states are among the outputs, all at the same step.
    pub(crate) fn ends_with_output(&self) -> bool {
        self.states() == 1 && self.lengths.is_none()
    }

    /// The columns of a step's sums.
    pub(crate) fn width(&self) -> usize {
        places(self.cell) * self.hidden
    }

    pub(crate) fn length(&self, row: usize) -> usize {
        self.lengths.as_ref().map_or(self.time, |lengths| lengths[row])
    }

    /// The steps in their order.
    pub(crate) fn steps(&self) -> impl DoubleEndedIterator<Item = usize> + use<> {
        let (last, reverse) = (self.time - 1, self.reverse);
        (0..=last).map(move |number| if reverse { last - number } else { number })
    }

    /// The step before one of a row's; none before its first.
    pub(crate) fn before(&self, row: usize, step: usize) -> Option<usize> {
        match self.reverse {
            false => step.checked_sub(1),
            true => Some(step + 1).filter(|&before| before < self.length(row)),
        }
    }

    /// Rows of a block.
    pub(crate) fn rows(&self) -> usize {
        let share = self.batch.div_ceil(rayon::current_num_threads());
        share.next_multiple_of(GRAIN).min(MOST_ROWS)
    }

    /// Elements of the output that are h of the steps.
    pub(super) fn outputs(&self) -> usize {
        self.batch * self.time * self.hidden
    }

    pub(crate) fn bias(&self, [ih, hh]: [&[f32]; 2]) -> Vec<f32> {
        let mut bias = vec![0.0; self.width()];
        bias[..hh.len()].copy_from_slice(hh);
        for region in regions(self.cell, self.hidden) {
            if let Some(row) = region.input {
                let of_input = &ih[row..][..region.width];
                bias[region.column..][..region.width].iter_mut().zip(of_input).for_each(|(sum, b)| *sum += b);
            }
        }
        bias
    }
}
