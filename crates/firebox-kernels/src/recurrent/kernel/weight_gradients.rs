//! The gradients of a recurrent layer's weights: sums over all rows of a batch and all steps.

use crate::algebra::layout::transpose;
use crate::algebra::matrix::Accumulate;
use crate::algebra::product::multiply;
use crate::algebra::scratch::with_scratch;
use crate::machine::memory::recycled;
use crate::machine::tasks::spread;
use crate::recurrent::kernel::gates::regions;
use crate::recurrent::kernel::recurrence::Recurrence;

/// Columns of the gates that a thread takes at a time.
const TILE: usize = 64;
/// Places whose gradients are packed at a time.
const DEPTH: usize = 512;

/// A row's step that its sequence has.
struct Place {
    /// `row · time + step`
    this: usize,
    /// Where the state before is, as the place of the step before or as a row of the first states.
    before: usize,
}

/// Columns of the gates, and the gradients that they give.
struct Tile<'a> {
    column: usize,
    width: usize,
    weight_ih: Option<&'a mut [f32]>,
    weight_hh: Option<&'a mut [f32]>,
    bias: &'a mut [f32],
}

/// Those of `weight_ih`, `weight_hh`, `bias_ih` and `bias_hh`, from those of the gates' sums
/// `[batch, time, places·hidden]`.
pub(crate) fn weight_gradients(
    operation: &Recurrence,
    gates: &[f32],
    input: &[f32],
    outputs: &[f32],
    first: &[f32],
) -> [Vec<f32>; 4] {
    let Recurrence { cell, features, hidden, .. } = *operation;
    let rows = cell.gates() * hidden;
    let (mut weight_ih, mut weight_hh) = (recycled(rows * features), recycled(rows * hidden));
    let mut bias = vec![0.0; operation.width()];
    let (begins, inner) = parts(operation);
    let [mut of_ih, mut of_hh, mut of_bias] = [&mut weight_ih[..], &mut weight_hh, &mut bias];
    let mut tiles = Vec::new();
    for region in regions(cell, hidden) {
        for column in (region.column..region.column + region.width).step_by(TILE) {
            let width = TILE.min(region.column + region.width - column);
            tiles.push(Tile {
                column,
                width,
                weight_ih: region.input.map(|_| split(&mut of_ih, width * features)),
                weight_hh: region.hidden.then(|| split(&mut of_hh, width * hidden)),
                bias: split(&mut of_bias, width),
            });
        }
    }
    spread(tiles, |tile| {
        with_scratch(|mut pieces, panels| {
            let Tile { column, width, .. } = tile;
            let [ih, hh, sums] =
                [width * features, width * hidden, width].map(|size| pieces.take_zeros(size));
            for (places, states) in [(&begins, first), (&inner, outputs)] {
                for places in places.chunks(DEPTH) {
                    let depth = places.len();
                    panels.gather(gates, depth, width, |k| places[k].this * operation.width() + column);
                    multiply(sums, width, Accumulate::Add, &*panels, &[1.0], 1, |_| 0, |_| 0);
                    if tile.weight_ih.is_some() {
                        let at = |k: usize| places[k].this * features;
                        multiply(ih, width, Accumulate::Add, &*panels, input, features, |n| n, at);
                    }
                    if tile.weight_hh.is_some() {
                        let at = |k: usize| places[k].before * hidden;
                        multiply(hh, width, Accumulate::Add, &*panels, states, hidden, |n| n, at);
                    }
                }
            }
            tile.bias.copy_from_slice(sums);
            if let Some(to) = tile.weight_ih {
                transpose(ih, to, features, width);
            }
            if let Some(to) = tile.weight_hh {
                transpose(hh, to, hidden, width);
            }
        });
    });
    let mut bias_ih = vec![0.0; rows];
    for region in regions(cell, hidden) {
        if let Some(row) = region.input {
            bias_ih[row..][..region.width].copy_from_slice(&bias[region.column..][..region.width]);
        }
    }
    bias.truncate(rows);
    [weight_ih, weight_hh, bias_ih, bias]
}

/// All places that sequences have: those where they begin, and the others.
fn parts(operation: &Recurrence) -> (Vec<Place>, Vec<Place>) {
    let (mut begins, mut inner) = (Vec::new(), Vec::new());
    for row in 0..operation.batch {
        for step in 0..operation.length(row) {
            let this = row * operation.time + step;
            match operation.before(row, step) {
                None => begins.push(Place { this, before: row }),
                Some(before) => inner.push(Place { this, before: row * operation.time + before }),
            }
        }
    }
    (begins, inner)
}

fn split<'a>(from: &mut &'a mut [f32], length: usize) -> &'a mut [f32] {
    let (part, rest) = std::mem::take(from).split_at_mut(length);
    *from = rest;
    part
}
