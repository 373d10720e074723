//! Where the gates of a cell lie, and functions that all of their elements go through.

use crate::algebra::math::{sigmoid, tanh};
use crate::recurrent::cell::Cell;

/// Sums side by side that belong together: a run of columns of a step's sums `[batch, places·hidden]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Region {
    pub(crate) column: usize,
    pub(crate) width: usize,
    /// The first of the rows of `weight_ih` that give them, if any do.
    pub(crate) input: Option<usize>,
    /// The first of the rows of `weight_hh` that give them, if any do: it is `column`.
    pub(crate) hidden: bool,
}

/// How many times the size of the state the sums have.
pub(crate) fn places(cell: Cell) -> usize {
    match cell {
        Cell::Tanh | Cell::Relu => 1,
        Cell::Lstm | Cell::Gru => 4,
    }
}

/// The regions of a cell, from the first column to the last. What `weight_hh` gives lies at the columns of
/// its rows.
pub(crate) fn regions(cell: Cell, hidden: usize) -> Vec<Region> {
    let region = |first: usize, width: usize, input: Option<usize>, by_hidden: bool| Region {
        column: first * hidden,
        width: width * hidden,
        input: input.map(|row| row * hidden),
        hidden: by_hidden,
    };
    match cell {
        Cell::Tanh | Cell::Relu | Cell::Lstm => vec![region(0, cell.gates(), Some(0), true)],
        // The reset gate acts on U·h alone: so that is apart from W·x.
        Cell::Gru => {
            vec![region(0, 2, Some(0), true), region(2, 1, None, true), region(3, 1, Some(2), false)]
        }
    }
}

/// Four parts side by side.
#[inline(always)]
pub(crate) fn four(gates: &mut [f32], size: usize) -> [&mut [f32]; 4] {
    let (a, rest) = gates.split_at_mut(size);
    let (b, rest) = rest.split_at_mut(size);
    let (c, rest) = rest.split_at_mut(size);
    [a, b, c, &mut rest[..size]]
}

/// The logistic function of sums and bias.
#[inline(always)]
pub(crate) fn sigmoids(sums: &mut [f32], bias: &[f32]) {
    for (sum, bias) in sums.iter_mut().zip(bias) {
        *sum = sigmoid(*sum + bias);
    }
}

/// The hyperbolic tangent of sums and bias.
#[inline(always)]
pub(crate) fn tangents(sums: &mut [f32], bias: &[f32]) {
    for (sum, bias) in sums.iter_mut().zip(bias) {
        *sum = tanh(*sum + bias);
    }
}
