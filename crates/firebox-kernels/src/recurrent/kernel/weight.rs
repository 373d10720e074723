//! A weight by which a few rows at a time are multiplied, again and again or once.

use crate::algebra::matrix::Accumulate;
use crate::algebra::product::{Panels, multiply};

/// A matrix of `depth` × `width` whose element (k, m) is `values[k · strides[0] + m · strides[1]]`.
#[derive(Clone, Copy)]
pub(crate) struct TransposedWeight<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) depth: usize,
    pub(crate) width: usize,
    pub(crate) strides: [usize; 2],
}

/// How a weight is multiplied.
pub(crate) enum Weight<'a> {
    /// Many times.
    Packed(Panels),
    /// Once: to pack the weight would take as long as its product with a few rows. These are packed in its
    /// place.
    Once(TransposedWeight<'a>),
}

impl<'a> Weight<'a> {
    /// For so many products.
    pub(crate) fn new(weight: TransposedWeight<'a>, products: usize) -> Self {
        if products <= 1 {
            return Weight::Once(weight);
        }
        let mut panels = Panels::default();
        panels.pack(weight.values, weight.depth, weight.width, weight.strides);
        Weight::Packed(panels)
    }

    /// to[n · stride + m] ← Σₖ weight(k, m) · right[n · right_stride + k] for n below `rows`, or that added
    /// to it. A row's bits are the same among any number of rows.
    pub(crate) fn multiply(
        &self,
        to: &mut [f32],
        stride: usize,
        accumulate: Accumulate,
        right: &[f32],
        right_stride: usize,
        rows: usize,
    ) {
        match self {
            Weight::Packed(panels) => {
                multiply(to, stride, accumulate, panels, right, rows, |n| n * right_stride, |k| k);
            }
            &Weight::Once(TransposedWeight { values, depth, width, strides }) => {
                let mut panels = Panels::default();
                panels.pack(right, depth, rows, [1, right_stride]);
                let mut turned = vec![0.0; width * rows];
                let (row, column) = (|m| m * strides[1], |k| k * strides[0]);
                multiply(&mut turned, rows, Accumulate::Replace, &panels, values, width, row, column);
                for (m, turned) in turned.chunks_exact(rows).enumerate() {
                    for (n, value) in turned.iter().enumerate() {
                        let to = &mut to[n * stride + m];
                        *to = if accumulate == Accumulate::Add { *to + value } else { *value };
                    }
                }
            }
        }
    }
}
