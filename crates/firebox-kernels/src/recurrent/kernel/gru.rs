//! The gated recurrent unit on slices: one row of a batch, one step.
//!
//! Four places lie side by side: the gates r and z, U·h of the new state, on which the reset gate acts, and
//! its W·x, which becomes n.

use crate::algebra::math::tanh;
use crate::recurrent::kernel::gates::{four, sigmoids};

/// The sums become r, z, U·h + b and n; h goes one step further.
#[inline(always)]
pub(crate) fn forward(gates: &mut [f32], bias: &[f32], h: &mut [f32]) {
    let size = h.len();
    sigmoids(&mut gates[..2 * size], bias);
    let [r, z, u, n] = four(gates, size);
    let (bias_u, bias_n) = (&bias[2 * size..3 * size], &bias[3 * size..4 * size]);
    for j in 0..size {
        u[j] += bias_u[j];
    }
    for j in 0..size {
        n[j] = tanh(n[j] + bias_n[j] + r[j] * u[j]);
    }
    for j in 0..size {
        h[j] = n[j] + z[j] * (h[j] - n[j]);
    }
}

/// The places become the gradients of their sums, from that of h, which came after `before`. The latter
/// becomes what of `before`'s does not come by way of the sums.
#[inline(always)]
pub(crate) fn backward(gates: &mut [f32], before: &[f32], dh: &mut [f32]) {
    let size = dh.len();
    let [r, z, u, n] = four(gates, size);
    let before = &before[..size];
    for j in 0..size {
        let (update, new) = (z[j], n[j]);
        z[j] = dh[j] * (before[j] - new) * (update * (1.0 - update));
        n[j] = dh[j] * (1.0 - update) * (1.0 - new * new);
        dh[j] *= update;
    }
    for j in 0..size {
        let reset = r[j];
        r[j] = n[j] * u[j] * (reset * (1.0 - reset));
        u[j] = n[j] * reset;
    }
}
