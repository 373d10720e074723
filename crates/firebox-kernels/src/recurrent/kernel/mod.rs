//! One direction of a recurrent layer over whole sequences as one operation, and its gradients.
//!
//! Sequences of a batch don't know of each other. So a batch is cut into blocks of rows, and each thread
//! takes its block through all steps without waiting for another. A row's bits don't depend on what other
//! rows its block has, so that there may be as many blocks as threads. The gradients of the weights are sums
//! over all rows and steps: their order is fixed, and threads take parts of the weights.

use crate::machine::memory::{Recycled, recycled};
use crate::machine::tasks::spread;
use crate::operation::fused::{Array, Computed, Fused, Pass};
use crate::recurrent::kernel::backward::BackwardBlock;
use crate::recurrent::kernel::forward::{ForwardBlock, Weights};
use crate::recurrent::kernel::weight_gradients::weight_gradients;

mod backward;
pub(crate) mod forward;
mod gates;
mod gru;
mod last_states;
pub(crate) mod lstm;
mod recurrence;
mod rnn;
mod weight;
pub(crate) mod weight_gradients;

pub(crate) use last_states::{Ends, LastStates};
pub(crate) use recurrence::Recurrence;

/// The forward pass's results that the backward pass needs, besides its output.
#[derive(Clone, Debug)]
pub(crate) struct SavedForBackward {
    /// `[batch, time, places · hidden]`, of cells whose output alone doesn't say them. The backward pass puts
    /// the gradients of their sums in their place.
    gates: Option<Recycled>,
    /// The states c after each step `[batch, time, hidden]`, of an LSTM.
    cells: Option<Recycled>,
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
    type SavedForBackward = SavedForBackward;

    const KEEPS_OUTPUT: bool = true;

    fn forward(&self, inputs: [&[f32]; 6], tracked: bool) -> Computed<SavedForBackward> {
        let [input, weight_ih, weight_hh, bias_ih, bias_hh, first] = inputs;
        let (state, states) = (self.batch * self.hidden, self.states());
        let mut outputs = recycled(self.outputs());
        let mut last = vec![0.0; states * state];
        let places = self.batch * self.time;
        let gates = (tracked && self.width() > self.hidden).then(|| Recycled::new(places * self.width()));
        let cells = (tracked && states > 1).then(|| Recycled::new(places * self.hidden));
        let mut saved = SavedForBackward { gates, cells };
        let weights =
            Weights { bias: self.bias([bias_ih, bias_hh]), ..Weights::forward(self, weight_ih, weight_hh) };
        let rows = self.rows();
        let (last_h, last_c) = last.split_at_mut(state);
        let (first_h, first_c) = first.split_at(state);
        let mut gates = pieces(saved.gates.as_deref_mut(), rows * self.time * self.width());
        let mut cells = pieces(saved.cells.as_deref_mut(), rows * self.time * self.hidden);
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
        Computed { output, beside: Vec::new(), saved }
    }

    fn backward(&self, pass: Pass<'_, SavedForBackward, 6>) -> [Option<Vec<f32>>; 6] {
        let [input, weight_ih, weight_hh, .., first] = pass.inputs;
        let [wants_input, wants_ih, wants_hh, wants_bias_ih, wants_bias_hh, wants_first] = pass.wanted;
        let SavedForBackward { gates, mut cells } = pass.saved;
        let state = self.batch * self.hidden;
        let mut gates = gates.unwrap_or_else(|| Recycled::new(self.batch * self.time * self.width()));
        let mut input_gradient = wants_input.then(|| recycled(input.len()));
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
