//! The linear map on slices, and its gradients.
//!
//! Each of its three products is cut the way that needs the least packing: with many rows, tasks have rows;
//! with few, they have columns, so that the weight, which is then the largest of all, is read once and where
//! it lies. Only the weight's gradient has sums over all rows, which with many rows come from a fixed number
//! of chunks.

use crate::algebra::layout::transpose;
use crate::algebra::matrix::{Accumulate, Matrix, product};
use crate::algebra::product::{Panels, multiply};
use crate::algebra::scratch::with_scratch;
use crate::linear::activation::Activation;
use crate::machine::memory::{Recycled, recycled};
use crate::machine::simd::vectorised;
use crate::machine::tasks::{SMALL, share, tiles};
use crate::operation::fused::{Array, Computed, Fused, Pass};

/// Columns that a task has, where tasks have columns.
const TILE: usize = 64;

/// Rows of the weight's gradient that a task has, where tasks have rows of it: gemm packs the factor on its
/// right for more than these, and reads it where it lies for fewer.
const NARROW: usize = 48;

/// Rows that a task has at least, where tasks have rows: gemm packs the factor on its right for each.
const LEAST: usize = 128;

/// From so many rows on tasks have rows.
const MANY: usize = 512;

/// Into how many chunks the rows are cut at most.
const CHUNKS: usize = 16;

/// The operation on an input of `rows` × `features_in`, a weight `[features_out, features_in]` and, perhaps,
/// a bias.
#[derive(Clone, Debug)]
pub(crate) struct Linear<const KEEPS_OUTPUT: bool> {
    pub(crate) rows: usize,
    pub(crate) features_in: usize,
    pub(crate) features_out: usize,
    /// The output's.
    pub(crate) shape: Vec<usize>,
    /// With a derivative that its output tells; none if the output is not kept.
    pub(crate) activation: Activation,
}

impl<const KEEPS_OUTPUT: bool, const N: usize> Fused<N> for Linear<KEEPS_OUTPUT> {
    type SavedForBackward = ();
    const KEEPS_OUTPUT: bool = KEEPS_OUTPUT;

    fn forward(&self, inputs: [&[f32]; N], _: bool) -> Computed<()> {
        let (input, weight, bias) = (inputs[0], inputs[1], inputs.get(2).copied());
        let mut output = recycled(self.rows * self.features_out);
        if self.operations() < SMALL {
            let (input, weight) = (self.input(input), self.weight(weight));
            product(&mut output, Accumulate::Replace, input, weight.transposed());
            self.activation.forward(&mut output, bias, self.features_out);
        } else if self.rows >= MANY {
            self.forward_by_rows(&mut output, input, weight, bias);
        } else {
            self.forward_by_columns(&mut output, input, weight, bias);
        }
        Computed { output: Array::new(output, self.shape.clone()), beside: vec![], saved: () }
    }

    fn backward(&self, pass: Pass<'_, (), N>) -> [Option<Vec<f32>>; N] {
        let Pass { inputs, output, gradient, wanted, .. } = pass;
        let (input, weight) = (inputs[0], inputs[1]);
        let (inner, mut bias) = self.behind_the_map(output, gradient, wanted.get(2) == Some(&true));
        let inner = inner.as_deref().unwrap_or(gradient);
        let mut gradients = [const { None }; N];
        if wanted[0] {
            gradients[0] = Some(self.input_gradient(inner, weight));
        }
        if wanted[1] {
            gradients[1] = Some(self.weight_gradient(inner, input));
        }
        if let Some(place) = gradients.get_mut(2) {
            *place = bias.take();
        }
        gradients
    }
}

impl<const KEEPS_OUTPUT: bool> Linear<KEEPS_OUTPUT> {
    /// Multiplications and additions of each of the products.
    fn operations(&self) -> usize {
        2 * self.rows * self.features_in * self.features_out
    }

    /// Rows that a task has, where tasks have rows.
    fn chunk(&self) -> usize {
        self.rows.div_ceil(CHUNKS).max(LEAST)
    }

    fn input<'a>(&self, values: &'a [f32]) -> Matrix<'a> {
        Matrix::new(values, self.rows, self.features_in)
    }

    fn weight<'a>(&self, values: &'a [f32]) -> Matrix<'a> {
        Matrix::new(values, self.features_out, self.features_in)
    }

    /// The weight is turned once for all tasks.
    fn forward_by_rows(&self, output: &mut [f32], input: &[f32], weight: &[f32], bias: Option<&[f32]>) {
        let (from, to) = (self.features_in, self.features_out);
        let mut turned = Recycled::new(weight.len());
        transpose(weight, &mut turned, to, from);
        let chunk = self.chunk();
        let tasks = output.chunks_mut(chunk * to).zip(input.chunks(chunk * from));
        share(tasks, self.operations(), |(output, input)| {
            let input = Matrix::new(input, input.len() / from, from);
            product(output, Accumulate::Replace, input, Matrix::new(&turned, from, to));
            self.activation.forward(output, bias, to);
        });
    }

    /// The input is packed once for all tasks; their products have the output's columns for rows.
    fn forward_by_columns(&self, output: &mut [f32], input: &[f32], weight: &[f32], bias: Option<&[f32]>) {
        let (rows, from, to) = (self.rows, self.features_in, self.features_out);
        let mut panels = Panels::default();
        panels.pack_shared(input, from, rows, [1, from]);
        share(tiles(output, to, TILE), self.operations(), |(first, parts)| {
            let width = TILE.min(to - first);
            let weight = &weight[first * from..][..width * from];
            with_scratch(|mut pieces, _| {
                let [turned, tile] = [(); 2].map(|()| pieces.take(width * rows));
                multiply(turned, rows, Accumulate::Replace, &panels, weight, width, |m| m * from, |k| k);
                transpose(turned, tile, width, rows);
                self.activation.forward(tile, bias.map(|bias| &bias[first..][..width]), width);
                parts
                    .into_iter()
                    .zip(tile.chunks_exact(width))
                    .for_each(|(to, from)| to.copy_from_slice(from));
            });
        });
    }

    /// The gradient before the activation, unless it is that after it, and the bias's, if wanted.
    fn behind_the_map(
        &self,
        output: &[f32],
        gradient: &[f32],
        bias: bool,
    ) -> (Option<Recycled>, Option<Vec<f32>>) {
        let features = self.features_out;
        let mut inner = KEEPS_OUTPUT.then(|| Recycled::new(gradient.len()));
        if inner.is_none() && !bias {
            return (None, None);
        }
        let chunk = self.rows.div_ceil(CHUNKS) * features;
        let mut sums = Recycled::new(gradient.len().div_ceil(chunk) * features);
        let starts = (0..gradient.len()).step_by(chunk);
        let sums_of = |sums: &mut [f32], gradient: &[f32]| {
            if bias {
                sums.fill(0.0);
                add_rows(sums, gradient);
            }
        };
        // An element takes about ten operations.
        let operations = 10 * gradient.len();
        match &mut inner {
            Some(inner) => {
                let tasks = starts.zip(inner.chunks_mut(chunk)).zip(sums.chunks_exact_mut(features));
                share(tasks, operations, |((start, inner), sums)| {
                    let range = start..start + inner.len();
                    self.activation.backward(inner, &output[range.clone()], &gradient[range]);
                    sums_of(sums, inner);
                });
            }
            None => {
                let tasks = gradient.chunks(chunk).zip(sums.chunks_exact_mut(features));
                share(tasks, operations, |(gradient, sums)| sums_of(sums, gradient));
            }
        }
        let bias = bias.then(|| {
            let mut whole = vec![0.0; features];
            add_rows(&mut whole, &sums);
            whole
        });
        (inner, bias)
    }

    fn input_gradient(&self, inner: &[f32], weight: &[f32]) -> Vec<f32> {
        let (rows, from, to) = (self.rows, self.features_in, self.features_out);
        let mut gradient = recycled(rows * from);
        let weight = self.weight(weight);
        if self.operations() < SMALL {
            product(&mut gradient, Accumulate::Replace, Matrix::new(inner, rows, to), weight);
        } else if rows >= MANY {
            let chunk = self.chunk();
            let tasks = gradient.chunks_mut(chunk * from).zip(inner.chunks(chunk * to));
            share(tasks, self.operations(), |(gradient, inner)| {
                product(gradient, Accumulate::Replace, Matrix::new(inner, inner.len() / to, to), weight);
            });
        } else {
            share(tiles(&mut gradient, from, TILE), self.operations(), |(first, parts)| {
                let width = TILE.min(from - first);
                with_scratch(|mut pieces, _| {
                    let tile = pieces.take(rows * width);
                    let inner = Matrix::new(inner, rows, to);
                    product(tile, Accumulate::Replace, inner, weight.columns(first..first + width));
                    parts
                        .into_iter()
                        .zip(tile.chunks_exact(width))
                        .for_each(|(to, from)| to.copy_from_slice(from));
                });
            });
        }
        gradient
    }

    fn weight_gradient(&self, inner: &[f32], input: &[f32]) -> Vec<f32> {
        let (rows, from, to) = (self.rows, self.features_in, self.features_out);
        let mut gradient = recycled(to * from);
        // Partial gradients are worth their memory if it isn't more than that of what they are made from.
        let chunk = self.chunk();
        if rows < MANY || rows.div_ceil(chunk) * gradient.len() > inner.len() + input.len() {
            let (inner, input) = (Matrix::new(inner, rows, to), self.input(input));
            let tasks = (0..to).step_by(NARROW).zip(gradient.chunks_mut(NARROW * from));
            share(tasks, self.operations(), |(first, gradient)| {
                let inner = inner.columns(first..(first + NARROW).min(to)).transposed();
                product(gradient, Accumulate::Replace, inner, input);
            });
            return gradient;
        }
        let mut parts = Recycled::new(rows.div_ceil(chunk) * gradient.len());
        let tasks = parts
            .chunks_exact_mut(gradient.len())
            .zip(inner.chunks(chunk * to))
            .zip(input.chunks(chunk * from));
        share(tasks, self.operations(), |((gradient, inner), input)| {
            let rows = input.len() / from;
            let (inner, input) = (Matrix::new(inner, rows, to), Matrix::new(input, rows, from));
            product(gradient, Accumulate::Replace, inner.transposed(), input);
        });
        gradient.fill(0.0);
        add_rows(&mut gradient, &parts);
        gradient
    }
}

/// Adds rows as long as `to`, one after the other.
fn add_rows(to: &mut [f32], rows: &[f32]) {
    vectorised(
        #[inline(always)]
        || {
            for row in rows.chunks_exact(to.len()) {
                to.iter_mut().zip(row).for_each(|(to, x)| *to += x);
            }
        },
    );
}
