//! A block of rows back through all steps.

use pulp::{Simd, WithSimd};

use crate::algebra::matrix::Accumulate;
use crate::machine::simd::dispatch;
use crate::recurrent::cell::Cell;
use crate::recurrent::kernel::forward::{Weights, apart};
use crate::recurrent::kernel::recurrence::Recurrence;
use crate::recurrent::kernel::{gru, lstm, rnn};

/// A block of rows and where its gradients go.
pub(crate) struct BackwardBlock<'a> {
    pub(crate) operation: &'a Recurrence,
    pub(crate) weights: &'a Weights<'a>,
    /// The first row.
    pub(crate) row: usize,
    /// Of the whole batch, as the states c after each step, the first states h and c, and the gradients of
    /// the outputs and of the last states, which may be empty.
    pub(crate) outputs: &'a [f32],
    pub(crate) cells: &'a [f32],
    pub(crate) first: [&'a [f32]; 2],
    pub(crate) d_outputs: &'a [f32],
    pub(crate) d_last: [&'a [f32]; 2],
    /// Of these rows: the gates, which become the gradients of their sums.
    pub(crate) gates: &'a mut [f32],
    /// Those of the states h and c, which become those of the first ones.
    pub(crate) dh: &'a mut [f32],
    pub(crate) dc: &'a mut [f32],
    pub(crate) d_input: Option<&'a mut [f32]>,
    pub(crate) wants_first: bool,
}

impl BackwardBlock<'_> {
    pub(crate) fn run(mut self) {
        let Recurrence { time, features, hidden, .. } = *self.operation;
        let (width, rows) = (self.operation.width(), self.dh.len() / hidden);
        if !self.d_last[0].is_empty() {
            self.dh.copy_from_slice(&self.d_last[0][self.row * hidden..][..rows * hidden]);
        }
        if !self.d_last[1].is_empty() {
            self.dc.copy_from_slice(&self.d_last[1][self.row * hidden..][..rows * hidden]);
        }
        let mut sums = vec![0.0; rows * apart(width)];
        for (number, step) in self.operation.steps().rev().enumerate() {
            dispatch(Step { block: &mut self, step, sums: &mut sums });
            if let Some(d_input) = &mut self.d_input {
                for (column, weight) in &self.weights.input {
                    let to = if *column == 0 { Accumulate::Replace } else { Accumulate::Add };
                    let d_input = &mut d_input[step * features..];
                    weight.multiply(d_input, time * features, to, &sums[*column..], apart(width), rows);
                }
            }
            if self.wants_first || number + 1 < time {
                self.weights.hidden.multiply(self.dh, hidden, Accumulate::Add, &sums, apart(width), rows);
            }
        }
    }
}

/// From the gradient of the state after a step to that of the step's sums, and what does not come by way of
/// them.
struct Step<'a, 'b> {
    block: &'a mut BackwardBlock<'b>,
    step: usize,
    sums: &'a mut [f32],
}

impl WithSimd for Step<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Step { block, step, sums } = self;
        let Recurrence { cell, time, hidden, .. } = *block.operation;
        let width = block.operation.width();
        let rows = sums.chunks_exact_mut(apart(width)).zip(block.dh.chunks_exact_mut(hidden));
        for (n, (sums, dh)) in rows.enumerate() {
            let (row, sums) = (block.row + n, &mut sums[..width]);
            if step >= block.operation.length(row) {
                sums.fill(0.0);
                continue;
            }
            let place = (row * time + step) * hidden;
            let before = block.operation.before(row, step).map(|before| (row * time + before) * hidden);
            let h = &block.outputs[place..][..hidden];
            dh.iter_mut().zip(&block.d_outputs[place..][..hidden]).for_each(|(dh, dy)| *dh += dy);
            let gates = &mut block.gates[(n * time + step) * width..][..width];
            match cell {
                Cell::Tanh => rnn::tanh_backward(gates, h, dh),
                Cell::Relu => rnn::relu_backward(gates, h, dh),
                Cell::Gru => {
                    let before = either(block.outputs, before, block.first[0], row, hidden);
                    gru::backward(gates, before, dh);
                }
                Cell::Lstm => {
                    let c = &block.cells[place..][..hidden];
                    let before = either(block.cells, before, block.first[1], row, hidden);
                    lstm::backward(gates, c, before, dh, &mut block.dc[n * hidden..][..hidden]);
                }
            }
            if cell != Cell::Gru {
                dh.fill(0.0);
            }
            sums.copy_from_slice(gates);
        }
    }
}

/// A row's state before a step: of the step before, or the first one.
#[inline(always)]
fn either<'a>(
    states: &'a [f32],
    before: Option<usize>,
    first: &'a [f32],
    row: usize,
    hidden: usize,
) -> &'a [f32] {
    match before {
        Some(before) => &states[before..][..hidden],
        None => &first[row * hidden..][..hidden],
    }
}
