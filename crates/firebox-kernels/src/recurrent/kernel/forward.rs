//! A block of rows through all steps.

use pulp::{Simd, WithSimd};

use crate::algebra::matrix::Accumulate;
use crate::machine::simd::dispatch;
use crate::recurrent::cell::Cell;
use crate::recurrent::kernel::gates::regions;
use crate::recurrent::kernel::recurrence::Recurrence;
use crate::recurrent::kernel::weight::{TransposedWeight, Weight};
use crate::recurrent::kernel::{gru, lstm, rnn};

/// The weights, packed for one of the passes.
pub(crate) struct Weights<'a> {
    /// U, or its transpose.
    pub(crate) hidden: Weight<'a>,
    /// W, or its transpose, in the regions that it has, with the column at which the sums of each begin.
    pub(crate) input: Vec<(usize, Weight<'a>)>,
    /// Of all columns of the sums.
    pub(crate) bias: Vec<f32>,
}

impl<'a> Weights<'a> {
    pub(crate) fn forward(operation: &Recurrence, weight_ih: &'a [f32], weight_hh: &'a [f32]) -> Self {
        let Recurrence { cell, time, features, hidden, .. } = *operation;
        let input = regions(cell, hidden).into_iter().filter_map(|region| {
            let values = &weight_ih[region.input? * features..];
            let weight =
                TransposedWeight { values, depth: features, width: region.width, strides: [1, features] };
            Some((region.column, Weight::new(weight, time)))
        });
        let width = cell.gates() * hidden;
        let of_hidden = TransposedWeight { values: weight_hh, depth: hidden, width, strides: [1, hidden] };
        Weights { input: input.collect(), hidden: Weight::new(of_hidden, time), bias: Vec::new() }
    }

    pub(crate) fn backward(
        operation: &Recurrence,
        weight_ih: &'a [f32],
        weight_hh: &'a [f32],
        wants_input: bool,
    ) -> Self {
        let Recurrence { cell, time, features, hidden, .. } = *operation;
        let input = regions(cell, hidden).into_iter().filter(|_| wants_input).filter_map(|region| {
            let values = &weight_ih[region.input? * features..];
            let weight =
                TransposedWeight { values, depth: region.width, width: features, strides: [features, 1] };
            Some((region.column, Weight::new(weight, time)))
        });
        let depth = cell.gates() * hidden;
        let of_hidden = TransposedWeight { values: weight_hh, depth, width: hidden, strides: [hidden, 1] };
        Weights { input: input.collect(), hidden: Weight::new(of_hidden, time), bias: Vec::new() }
    }
}

/// The distance of rows in memory of its own: were it a power of two, rows would share places of the cache.
pub(crate) fn apart(width: usize) -> usize {
    width + 16
}

/// A block of rows and where its results go.
pub(crate) struct ForwardBlock<'a> {
    pub(crate) operation: &'a Recurrence,
    pub(crate) weights: &'a Weights<'a>,
    /// The first row.
    pub(crate) row: usize,
    /// Of the whole batch, as the first states h and c.
    pub(crate) input: &'a [f32],
    pub(crate) first: [&'a [f32]; 2],
    /// Of these rows, as the last states.
    pub(crate) outputs: &'a mut [f32],
    pub(crate) last: [&'a mut [f32]; 2],
    /// Where the backward pass will find gates and states c.
    pub(crate) gates: Option<&'a mut [f32]>,
    pub(crate) cells: Option<&'a mut [f32]>,
}

impl ForwardBlock<'_> {
    pub(crate) fn run(mut self) {
        let Recurrence { cell, time, features, hidden, .. } = *self.operation;
        let (width, rows) = (self.operation.width(), self.last[0].len() / hidden);
        let [h, c] = &mut self.last;
        h.copy_from_slice(&self.first[0][self.row * hidden..][..rows * hidden]);
        if cell == Cell::Lstm {
            c.copy_from_slice(&self.first[1][self.row * hidden..][..rows * hidden]);
        }
        let (mut x, mut sums) = (vec![0.0; rows * apart(features)], vec![0.0; rows * apart(width)]);
        for step in self.operation.steps() {
            for (n, x) in x.chunks_exact_mut(apart(features)).enumerate() {
                let from = &self.input[((self.row + n) * time + step) * features..][..features];
                x[..features].copy_from_slice(from);
            }
            let to = Accumulate::Replace;
            self.weights.hidden.multiply(&mut sums, apart(width), to, self.last[0], hidden, rows);
            for (column, weight) in &self.weights.input {
                // Behind what U gives there is nothing yet.
                let to = if *column < cell.gates() * hidden { Accumulate::Add } else { Accumulate::Replace };
                weight.multiply(&mut sums[*column..], apart(width), to, &x, apart(features), rows);
            }
            dispatch(Step { block: &mut self, step, sums: &mut sums });
        }
    }
}

/// From the sums to the state after a step. It is no closure: the compiler would not always make one of the
/// function for the instructions that are chosen.
struct Step<'a, 'b> {
    block: &'a mut ForwardBlock<'b>,
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
        let bias = &block.weights.bias[..];
        let [h, c] = &mut block.last;
        let rows = sums.chunks_exact_mut(apart(width)).zip(h.chunks_exact_mut(hidden));
        for (n, (sums, h)) in rows.enumerate() {
            let place = n * time + step;
            let output = &mut block.outputs[place * hidden..][..hidden];
            if step >= block.operation.length(block.row + n) {
                output.fill(0.0);
                continue;
            }
            let sums = &mut sums[..width];
            match cell {
                Cell::Tanh => rnn::tanh_forward(sums, bias, h),
                Cell::Relu => rnn::relu_forward(sums, bias, h),
                Cell::Gru => gru::forward(sums, bias, h),
                Cell::Lstm => {
                    let c = &mut c[n * hidden..][..hidden];
                    lstm::forward(sums, bias, h, c);
                    if let Some(cells) = &mut block.cells {
                        cells[place * hidden..][..hidden].copy_from_slice(c);
                    }
                }
            }
            if let Some(gates) = &mut block.gates {
                gates[place * width..][..width].copy_from_slice(sums);
            }
            output.copy_from_slice(h);
        }
    }
}
