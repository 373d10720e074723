//! An LSTM that attends, on slices, and its gradients.
//!
//! The context that a state attends to is part of what the next state is made of, so that no step can be
//! computed before the one before it. But sequences of a batch don't know of each other: each thread takes a
//! block of them through all steps, with weights that were packed once, and the gradients of the weights,
//! sums over all sequences and steps, come at the end as one product. See `recurrent/kernel.rs`, of which
//! this is made, and `attention/kernel.rs`.

use crate::algebra::matrix::Accumulate;
use crate::attention::kernel::Sequence;
use crate::machine::memory::{Recycled, recycled, zeros};
use crate::machine::simd::vectorised;
use crate::operation::fused::{Array, Computed, Fused, Pass};
use crate::recurrent::Cell;
use crate::recurrent::kernel::forward::{Weights, apart};
use crate::recurrent::kernel::weight_gradients::weight_gradients;
use crate::recurrent::kernel::{Ends, Recurrence, each, lstm};

/// The operation on an input `[batch, time, inputs]`, the encoder's outputs mapped `[batch, places, hidden]`,
/// v, the encoder's outputs `[batch, places, features]`, `weight_ih`, `weight_hh`, `bias_ih` and `bias_hh`,
/// first states `[2 · batch, hidden]`, h and after it c, and, perhaps, v's bias.
///
/// The output `[batch, time, hidden + features]` has h after each step and the context before it.
#[derive(Clone, Debug)]
pub(crate) struct AttentiveLstm {
    pub(crate) batch: usize,
    pub(crate) time: usize,
    pub(crate) inputs: usize,
    /// Of the encoder's outputs.
    pub(crate) places: usize,
    pub(crate) hidden: usize,
    pub(crate) features: usize,
    /// `[batch, places]`; all places if there is none.
    pub(crate) mask: Option<Vec<bool>>,
}

/// The forward pass's results that the backward pass needs.
#[derive(Clone, Debug)]
pub(crate) struct SavedForBackward {
    /// The input and the context of each step, `[batch, time, inputs + features]`.
    read: Recycled,
    /// `[batch, time, 4·hidden]`. The backward pass puts the gradients of their sums in their place.
    gates: Recycled,
    /// h and c after each step, `[batch, time, hidden]` each.
    states: Recycled,
    cells: Recycled,
    /// The attention's weights, `[batch, time, places]`.
    shares: Recycled,
}

impl AttentiveLstm {
    /// Features that a step reads.
    fn read(&self) -> usize {
        self.inputs + self.features
    }

    fn width(&self) -> usize {
        Cell::Lstm.gates() * self.hidden
    }

    /// Elements of an output.
    fn out(&self) -> usize {
        self.hidden + self.features
    }

    /// The LSTM in it.
    fn lstm(&self) -> Recurrence {
        Recurrence {
            cell: Cell::Lstm,
            batch: self.batch,
            time: self.time,
            features: self.read(),
            hidden: self.hidden,
            lengths: None,
            reverse: false,
            ends: Ends::default(),
        }
    }
}

/// The inputs of all rows.
#[derive(Clone, Copy)]
struct Inputs<'a> {
    operation: &'a AttentiveLstm,
    input: &'a [f32],
    mapped: &'a [f32],
    v: &'a [f32],
    encoder: &'a [f32],
    bias: f32,
    first: [&'a [f32]; 2],
}

impl<'a> Inputs<'a> {
    fn new<const N: usize>(operation: &'a AttentiveLstm, inputs: &[&'a [f32]; N]) -> Self {
        Inputs {
            operation,
            input: inputs[0],
            mapped: inputs[1],
            v: inputs[2],
            encoder: inputs[3],
            first: inputs[8].split_at(operation.batch * operation.hidden).into(),
            bias: inputs.get(9).map_or(0.0, |bias| bias[0]),
        }
    }

    /// The sequence that a row attends to when its state is `query`.
    #[inline(always)]
    fn attended<'q>(&self, row: usize, query: &'q [f32]) -> Sequence<'q>
    where
        'a: 'q,
    {
        let AttentiveLstm { places, hidden, features, ref mask, .. } = *self.operation;
        Sequence {
            mapped: &self.mapped[row * places * hidden..][..places * hidden],
            query,
            v: self.v,
            encoder: &self.encoder[row * places * features..][..places * features],
            bias: self.bias,
            mask: mask.as_ref().map(|mask| &mask[row * places..][..places]),
            hidden,
            features,
        }
    }
}

/// A block of rows and where its results go; all but the inputs are of these rows.
struct ForwardBlock<'a> {
    inputs: Inputs<'a>,
    weights: &'a Weights<'a>,
    /// The first row.
    row: usize,
    output: &'a mut [f32],
    read: &'a mut [f32],
    gates: &'a mut [f32],
    states: &'a mut [f32],
    cells: &'a mut [f32],
    shares: &'a mut [f32],
}

impl ForwardBlock<'_> {
    fn run(self) {
        let inputs = self.inputs;
        let AttentiveLstm { time, inputs: own, places, hidden, .. } = *inputs.operation;
        let (read, width, out) = (inputs.operation.read(), inputs.operation.width(), inputs.operation.out());
        let rows = self.output.len() / (time * out);
        let [mut h, mut c] = inputs.first.map(|first| first[self.row * hidden..][..rows * hidden].to_vec());
        let (mut x, mut sums) = (vec![0.0; rows * apart(read)], vec![0.0; rows * apart(width)]);
        let bias = &self.weights.bias[..];
        for step in 0..time {
            for (n, (x, h)) in x.chunks_exact_mut(apart(read)).zip(h.chunks_exact(hidden)).enumerate() {
                let (row, at) = (self.row + n, n * time + step);
                let (input, context) = x[..read].split_at_mut(own);
                input.copy_from_slice(&inputs.input[(row * time + step) * own..][..own]);
                let shares = &mut self.shares[at * places..][..places];
                vectorised(
                    #[inline(always)]
                    || inputs.attended(row, h).attend(context, shares),
                );
                self.output[at * out + hidden..][..context.len()].copy_from_slice(context);
                self.read[at * read..][..read].copy_from_slice(&x[..read]);
            }
            self.weights.hidden.multiply(&mut sums, apart(width), Accumulate::Replace, &h, hidden, rows);
            for (_, weight) in &self.weights.input {
                weight.multiply(&mut sums, apart(width), Accumulate::Add, &x, apart(read), rows);
            }
            let of_rows = h.chunks_exact_mut(hidden).zip(c.chunks_exact_mut(hidden));
            for (n, (sums, (h, c))) in sums.chunks_exact_mut(apart(width)).zip(of_rows).enumerate() {
                let (at, sums) = (n * time + step, &mut sums[..width]);
                vectorised(
                    #[inline(always)]
                    || lstm::forward(sums, bias, h, c),
                );
                self.gates[at * width..][..width].copy_from_slice(sums);
                self.states[at * hidden..][..hidden].copy_from_slice(h);
                self.cells[at * hidden..][..hidden].copy_from_slice(c);
                self.output[at * out..][..hidden].copy_from_slice(h);
            }
        }
    }
}

/// A block of rows on its way back, and where its gradients go.
struct BackwardBlock<'a> {
    inputs: Inputs<'a>,
    weights: &'a Weights<'a>,
    /// The first row.
    row: usize,
    /// Of the whole batch.
    states: &'a [f32],
    cells: &'a [f32],
    shares: &'a [f32],
    d_output: &'a [f32],
    /// Of these rows: the gates, which become the gradients of their sums.
    gates: &'a mut [f32],
    d_input: &'a mut [f32],
    /// Zeros before.
    d_mapped: &'a mut [f32],
    d_encoder: &'a mut [f32],
    /// v's part and the bias's of each row, `[rows, hidden + 1]`; zeros before.
    d_scores: &'a mut [f32],
    /// The gradients of the states, which become those of the first ones; zeros before.
    dh: &'a mut [f32],
    dc: &'a mut [f32],
}

impl BackwardBlock<'_> {
    fn run(mut self) {
        let AttentiveLstm { time, hidden, places, .. } = *self.inputs.operation;
        let (read, width) = (self.inputs.operation.read(), self.inputs.operation.width());
        let rows = self.dh.len() / hidden;
        let (mut sums, mut dx) = (vec![0.0; rows * apart(width)], vec![0.0; rows * apart(read)]);
        let mut scratch = vec![0.0; 2 * places + hidden];
        for step in (0..time).rev() {
            for (n, sums) in sums.chunks_exact_mut(apart(width)).enumerate() {
                self.gates(n, step, &mut sums[..width]);
            }
            for (_, weight) in &self.weights.input {
                weight.multiply(&mut dx, apart(read), Accumulate::Replace, &sums, apart(width), rows);
            }
            self.weights.hidden.multiply(self.dh, hidden, Accumulate::Add, &sums, apart(width), rows);
            for (n, dx) in dx.chunks_exact_mut(apart(read)).enumerate() {
                self.attention(n, step, &mut dx[..read], &mut scratch);
            }
        }
    }

    /// From the gradient of a row's state after a step to that of the step's sums.
    fn gates(&mut self, n: usize, step: usize, sums: &mut [f32]) {
        let AttentiveLstm { time, hidden, .. } = *self.inputs.operation;
        let (width, out) = (self.inputs.operation.width(), self.inputs.operation.out());
        let (row, place) = (self.row + n, (self.row + n) * time + step);
        let c = &self.cells[place * hidden..][..hidden];
        let before = match step {
            0 => &self.inputs.first[1][row * hidden..][..hidden],
            _ => &self.cells[(place - 1) * hidden..][..hidden],
        };
        let d_output = &self.d_output[place * out..][..hidden];
        let gates = &mut self.gates[(n * time + step) * width..][..width];
        let (dh, dc) = (&mut self.dh[n * hidden..][..hidden], &mut self.dc[n * hidden..][..hidden]);
        vectorised(
            #[inline(always)]
            || {
                dh.iter_mut().zip(d_output).for_each(|(dh, dy)| *dh += dy);
                lstm::backward(gates, c, before, dh, dc);
                dh.fill(0.0);
            },
        );
        sums.copy_from_slice(gates);
    }

    /// From the gradient of what a row's step has read to those of input, encoder and the state that asked.
    fn attention(&mut self, n: usize, step: usize, dx: &mut [f32], scratch: &mut [f32]) {
        let AttentiveLstm { time, inputs: own, places, hidden, features, .. } = *self.inputs.operation;
        let out = self.inputs.operation.out();
        let (row, place) = (self.row + n, (self.row + n) * time + step);
        let (input, context) = dx.split_at_mut(own);
        self.d_input[(n * time + step) * own..][..own].copy_from_slice(input);
        let query = match step {
            0 => &self.inputs.first[0][row * hidden..][..hidden],
            _ => &self.states[(place - 1) * hidden..][..hidden],
        };
        let attended = self.inputs.attended(row, query);
        let shares = &self.shares[place * places..][..places];
        let d_output = &self.d_output[place * out + hidden..][..features];
        let (scores, rest) = scratch.split_at_mut(places);
        // Nobody asks for the attention's weights themselves.
        let (none, spare) = rest.split_at_mut(places);
        let d_mapped = &mut self.d_mapped[n * places * hidden..][..places * hidden];
        let d_encoder = &mut self.d_encoder[n * places * features..][..places * features];
        let (v, bias) = self.d_scores[n * (hidden + 1)..][..hidden + 1].split_at_mut(hidden);
        let dh = &mut self.dh[n * hidden..][..hidden];
        vectorised(
            #[inline(always)]
            || {
                context.iter_mut().zip(d_output).for_each(|(dx, dy)| *dx += dy);
                attended.score_gradients(scores, shares, context, none);
                bias[0] += scores.iter().sum::<f32>();
                for (to, share) in d_encoder.chunks_exact_mut(features).zip(shares) {
                    to.iter_mut().zip(&*context).for_each(|(to, x)| *to += share * x);
                }
                for (place, to) in d_mapped.chunks_exact_mut(hidden).enumerate() {
                    if attended.named(place) {
                        attended.tangents(place, scores[place], spare, dh, v);
                        to.iter_mut().zip(&*spare).for_each(|(to, x)| *to += x);
                    }
                }
            },
        );
    }
}

impl<const N: usize> Fused<N> for AttentiveLstm {
    type SavedForBackward = SavedForBackward;

    const KEEPS_OUTPUT: bool = false;

    fn forward(&self, inputs: [&[f32]; N], _: bool) -> Computed<SavedForBackward> {
        let AttentiveLstm { batch, time, places, hidden, .. } = *self;
        let (read, width, out) = (self.read(), self.width(), self.out());
        let recurrence = self.lstm();
        let weights = Weights {
            bias: recurrence.bias([inputs[6], inputs[7]]),
            ..Weights::forward(&recurrence, inputs[4], inputs[5])
        };
        let mut saved = SavedForBackward {
            read: Recycled::new(batch * time * read),
            gates: Recycled::new(batch * time * width),
            states: Recycled::new(batch * time * hidden),
            cells: Recycled::new(batch * time * hidden),
            shares: Recycled::new(batch * time * places),
        };
        let mut output = recycled(batch * time * out);
        let rows = recurrence.rows();
        let blocks = output
            .chunks_mut(rows * time * out)
            .zip(saved.read.chunks_mut(rows * time * read))
            .zip(saved.gates.chunks_mut(rows * time * width))
            .zip(saved.states.chunks_mut(rows * time * hidden))
            .zip(saved.cells.chunks_mut(rows * time * hidden))
            .zip(saved.shares.chunks_mut(rows * time * places))
            .enumerate()
            .map(|(number, (((((output, read), gates), states), cells), shares))| ForwardBlock {
                inputs: Inputs::new(self, &inputs),
                weights: &weights,
                row: number * rows,
                output,
                read,
                gates,
                states,
                cells,
                shares,
            });
        each(blocks.collect(), ForwardBlock::run);
        Computed { output: Array::new(output, [batch, time, out]), beside: Vec::new(), saved }
    }

    fn backward(&self, pass: Pass<'_, SavedForBackward, N>) -> [Option<Vec<f32>>; N] {
        let AttentiveLstm { batch, time, inputs: own, places, hidden, features, .. } = *self;
        let width = self.width();
        let SavedForBackward { read, mut gates, states, cells, shares } = pass.saved;
        let recurrence = self.lstm();
        let weights = Weights::backward(&recurrence, pass.inputs[4], pass.inputs[5], true);
        let rows = recurrence.rows();
        let mut d_input = recycled(batch * time * own);
        let mut d_mapped = zeros(batch * places * hidden);
        let mut d_encoder = zeros(batch * places * features);
        let mut d_scores = zeros(batch * (hidden + 1));
        let mut d_first = vec![0.0; 2 * batch * hidden];
        {
            let (dh, dc) = d_first.split_at_mut(batch * hidden);
            let blocks = gates
                .chunks_mut(rows * time * width)
                .zip(d_input.chunks_mut(rows * time * own))
                .zip(d_mapped.chunks_mut(rows * places * hidden))
                .zip(d_encoder.chunks_mut(rows * places * features))
                .zip(d_scores.chunks_mut(rows * (hidden + 1)))
                .zip(dh.chunks_mut(rows * hidden).zip(dc.chunks_mut(rows * hidden)))
                .enumerate()
                .map(|(number, (((((gates, d_input), d_mapped), d_encoder), d_scores), (dh, dc)))| {
                    BackwardBlock {
                        inputs: Inputs::new(self, &pass.inputs),
                        weights: &weights,
                        row: number * rows,
                        states: &states,
                        cells: &cells,
                        shares: &shares,
                        d_output: pass.gradient,
                        gates,
                        d_input,
                        d_mapped,
                        d_encoder,
                        d_scores,
                        dh,
                        dc,
                    }
                });
            each(blocks.collect(), BackwardBlock::run);
        }
        let first = &pass.inputs[8][..batch * hidden];
        let [weight_ih, weight_hh, bias_ih, bias_hh] =
            weight_gradients(&recurrence, &gates, &read, &states, first);
        // In the order of the rows, however many blocks there were.
        let mut d_v = vec![0.0; hidden + 1];
        for row in d_scores.chunks_exact(hidden + 1) {
            d_v.iter_mut().zip(row).for_each(|(to, x)| *to += x);
        }
        let d_bias = d_v.split_off(hidden);
        let all =
            [d_input, d_mapped, d_v, d_encoder, weight_ih, weight_hh, bias_ih, bias_hh, d_first, d_bias];
        let mut all = all.into_iter();
        pass.wanted.map(|wanted| all.next().filter(|_| wanted))
    }
}
