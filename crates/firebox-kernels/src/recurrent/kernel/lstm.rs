//! The LSTM's cell on slices: one row of a batch, one step. The gates i, f, g, o lie side by side.
//!
//! Loops over few slices each: so the compiler can tell at run time that none overlap, and makes vectors of
//! them.

use crate::algebra::math::tanh;
use crate::recurrent::kernel::gates::{four, sigmoids, tangents};

/// The gates' sums become the gates; h and c go one step further.
#[inline(always)]
pub(crate) fn forward(gates: &mut [f32], bias: &[f32], h: &mut [f32], c: &mut [f32]) {
    let size = h.len();
    sigmoids(&mut gates[..2 * size], bias);
    tangents(&mut gates[2 * size..3 * size], &bias[2 * size..]);
    sigmoids(&mut gates[3 * size..], &bias[3 * size..]);
    let [i, f, g, o] = four(gates, size);
    let c = &mut c[..size];
    for j in 0..size {
        c[j] = f[j] * c[j] + i[j] * g[j];
    }
    for j in 0..size {
        h[j] = o[j] * tanh(c[j]);
    }
}

/// The gates become the gradients of their sums, from those of h and of the cell state c, which came after
/// `before`. The latter becomes that of `before`.
#[inline(always)]
pub(crate) fn backward(gates: &mut [f32], c: &[f32], before: &[f32], dh: &[f32], dc: &mut [f32]) {
    let size = dc.len();
    let [i, f, g, o] = four(gates, size);
    let (c, before, dh) = (&c[..size], &before[..size], &dh[..size]);
    for j in 0..size {
        let tangent = tanh(c[j]);
        dc[j] += dh[j] * o[j] * (1.0 - tangent * tangent);
        o[j] = dh[j] * tangent * (o[j] * (1.0 - o[j]));
    }
    for j in 0..size {
        let (input, candidate) = (i[j], g[j]);
        i[j] = dc[j] * candidate * (input * (1.0 - input));
        g[j] = dc[j] * input * (1.0 - candidate * candidate);
    }
    for j in 0..size {
        let forget = f[j];
        f[j] = dc[j] * before[j] * (forget * (1.0 - forget));
        dc[j] *= forget;
    }
}
