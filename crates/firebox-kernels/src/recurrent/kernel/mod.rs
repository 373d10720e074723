//! One direction of a recurrent layer over whole sequences as one operation, and its gradients.
//!
//! Sequences of a batch don't know of each other. So a batch is cut into blocks of rows, and each thread takes its block
//! through all steps without waiting for another. A row's bits don't depend on what other rows its block has, so that
//! there may be as many blocks as threads. The gradients of the weights are sums over all rows and steps: their order is
//! fixed, and threads take parts of the weights.

use crate::fused::{Array, Computed, Fused, Pass};
use crate::memory::{Recycled, any};
use crate::recurrent::cell::Cell;
use crate::recurrent::kernel::backward::BackwardBlock;
use crate::recurrent::kernel::forward::{ForwardBlock, Weights};
use crate::recurrent::kernel::gates::{places, regions};
use crate::recurrent::kernel::weight_gradients::weight_gradients;
use crate::tasks::spread;

mod backward;
pub(crate) mod forward;
mod gates;
mod gru;
mod last_states;
pub(crate) mod lstm;
mod rnn;
mod weight;
pub(crate) mod weight_gradients;

pub(crate) use last_states::{Ends, LastStates};

/// The operation on an input `[batch, time, features]`, `weight_ih`, `weight_hh`, `bias_ih` and `bias_hh` as PyTorch has
/// them, and first states `[states · batch, hidden]`: h, and for an LSTM c behind it.
///
/// The output is h of all steps `[batch, time, hidden]`. Where that doesn't say the last states, they are among the `ends`.
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

/// What the forward pass leaves besides its output.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    /// `[batch, time, places · hidden]`, of cells whose output alone doesn't say them. The backward pass puts the gradients
    /// of their sums in their place.
    gates: Option<Recycled>,
    /// The states c after each step `[batch, time, hidden]`, of an LSTM.
    cells: Option<Recycled>,
}

/// The most rows of a block: its gates' sums stay in the cache.
const MOST_ROWS: usize = 64;
/// Blocks have a multiple of so many rows, which a product takes at once.
const GRAIN: usize = 4;

impl Recurrence {
    /// How many parts a state has.
    pub(crate) fn states(&self) -> usize {
        if self.cell == Cell::Lstm { 2 } else { 1 }
    }

    /// Whether the last states are among the outputs, all at the same step.
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
    fn outputs(&self) -> usize {
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

/// Pieces of memory that may not be there, one for each block.
fn pieces(memory: Option<&mut [f32]>, length: usize) -> impl Iterator<Item = Option<&mut [f32]>> {
    let mut chunks = memory.map(|memory| memory.chunks_mut(length));
    std::iter::repeat_with(move || chunks.as_mut().and_then(Iterator::next))
}

/// Runs blocks, a single one in this thread.
pub(crate) fn each<B: Send>(mut blocks: Vec<B>, run: impl Fn(B) + Sync + Send) {
    match blocks.len() {
        1 => blocks.drain(..).for_each(run),
        _ => spread(blocks, run),
    }
}

impl Fused<6> for Recurrence {
    type Kept = Kept;

    const KEEPS_OUTPUT: bool = true;

    fn forward(&self, inputs: [&[f32]; 6], tracked: bool) -> Computed<Kept> {
        let [input, weight_ih, weight_hh, bias_ih, bias_hh, first] = inputs;
        let (state, states) = (self.batch * self.hidden, self.states());
        let mut outputs = any(self.outputs());
        let mut last = vec![0.0; states * state];
        let places = self.batch * self.time;
        let gates = (tracked && self.width() > self.hidden).then(|| Recycled::new(places * self.width()));
        let cells = (tracked && states > 1).then(|| Recycled::new(places * self.hidden));
        let mut kept = Kept { gates, cells };
        let weights =
            Weights { bias: self.bias([bias_ih, bias_hh]), ..Weights::forward(self, weight_ih, weight_hh) };
        let rows = self.rows();
        let (last_h, last_c) = last.split_at_mut(state);
        let (first_h, first_c) = first.split_at(state);
        let mut gates = pieces(kept.gates.as_deref_mut(), rows * self.time * self.width());
        let mut cells = pieces(kept.cells.as_deref_mut(), rows * self.time * self.hidden);
        let mut last_c = pieces(Some(last_c), rows * self.hidden);
        let blocks = outputs
            .chunks_mut(rows * self.time * self.hidden)
            .zip(last_h.chunks_mut(rows * self.hidden))
            .zip((0..self.batch).step_by(rows))
            .map(|((outputs, last_h), row)| ForwardBlock {
                operation: self,
                weights: &weights,
                row,
                input,
                first: [first_h, first_c],
                outputs,
                last: [last_h, last_c.next().flatten().unwrap_or_default()],
                gates: gates.next().flatten(),
                cells: cells.next().flatten(),
            });
        each(blocks.collect(), ForwardBlock::run);
        drop((gates, cells, last_c));
        if !self.ends_with_output() {
            self.ends.put(last);
        }
        let output = Array::new(outputs, [self.batch, self.time, self.hidden]);
        Computed { output, beside: Vec::new(), kept }
    }

    fn backward(&self, pass: Pass<'_, Kept, 6>) -> [Option<Vec<f32>>; 6] {
        let [input, weight_ih, weight_hh, .., first] = pass.inputs;
        let [wants_input, wants_ih, wants_hh, wants_bias_ih, wants_bias_hh, wants_first] = pass.wanted;
        let Kept { gates, mut cells } = pass.kept;
        let state = self.batch * self.hidden;
        let mut gates = gates.unwrap_or_else(|| Recycled::new(self.batch * self.time * self.width()));
        let mut input_gradient = wants_input.then(|| any(input.len()));
        let mut first_gradient = vec![0.0; first.len()];
        let weights = Weights::backward(self, weight_ih, weight_hh, wants_input);
        let rows = self.rows();
        let d_outputs = pass.gradient;
        let d_last = self.ends.take().unwrap_or_default();
        let outputs = pass.output;
        {
            let (dh, dc) = first_gradient.split_at_mut(state);
            let mut dc = pieces(Some(dc), rows * self.hidden);
            let mut d_input = pieces(input_gradient.as_deref_mut(), rows * self.time * self.features);
            let blocks = gates
                .chunks_mut(rows * self.time * self.width())
                .zip(dh.chunks_mut(rows * self.hidden))
                .zip((0..self.batch).step_by(rows))
                .map(|((gates, dh), row)| BackwardBlock {
                    operation: self,
                    weights: &weights,
                    row,
                    outputs,
                    cells: cells.as_deref().unwrap_or_default(),
                    first: first.split_at(state).into(),
                    d_outputs,
                    d_last: d_last.split_at(state.min(d_last.len())).into(),
                    gates,
                    dh,
                    dc: dc.next().flatten().unwrap_or_default(),
                    d_input: d_input.next().flatten(),
                    wants_first,
                });
            each(blocks.collect(), BackwardBlock::run);
        }
        cells.take();
        let mut gradients = [input_gradient, None, None, None, None, wants_first.then_some(first_gradient)];
        if wants_ih || wants_hh || wants_bias_ih || wants_bias_hh {
            let of_weights = weight_gradients(self, &gates, input, outputs, &first[..state]);
            let wanted = [wants_ih, wants_hh, wants_bias_ih, wants_bias_hh];
            for ((to, gradient), wanted) in gradients[1..].iter_mut().zip(of_weights).zip(wanted) {
                *to = wanted.then_some(gradient);
            }
        }
        gradients
    }
}
