//! Elman's cell on slices: one row of a batch, one step.

use crate::algebra::math::tanh;

/// h ← tanh(sums + bias)
#[inline(always)]
pub(crate) fn tanh_forward(sums: &[f32], bias: &[f32], h: &mut [f32]) {
    let size = h.len();
    let (sums, bias) = (&sums[..size], &bias[..size]);
    for j in 0..size {
        h[j] = tanh(sums[j] + bias[j]);
    }
}

/// h ← max(0, sums + bias); NaN stays NaN.
#[inline(always)]
pub(crate) fn relu_forward(sums: &[f32], bias: &[f32], h: &mut [f32]) {
    let size = h.len();
    let (sums, bias) = (&sums[..size], &bias[..size]);
    for j in 0..size {
        let sum = sums[j] + bias[j];
        h[j] = if sum <= 0.0 { 0.0 } else { sum };
    }
}

/// The gradient of the sums, from the output and its gradient.
#[inline(always)]
pub(crate) fn tanh_backward(sums: &mut [f32], h: &[f32], dh: &[f32]) {
    let size = sums.len();
    let (h, dh) = (&h[..size], &dh[..size]);
    for j in 0..size {
        sums[j] = dh[j] * (1.0 - h[j] * h[j]);
    }
}

/// The gradient of the sums, from the output and its gradient.
#[inline(always)]
pub(crate) fn relu_backward(sums: &mut [f32], h: &[f32], dh: &[f32]) {
    let size = sums.len();
    let (h, dh) = (&h[..size], &dh[..size]);
    for j in 0..size {
        sums[j] = if h[j] <= 0.0 { 0.0 } else { dh[j] };
    }
}
