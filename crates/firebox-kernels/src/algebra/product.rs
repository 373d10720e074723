//! Products whose left factor is packed once and whose right one is read where it lies.
//!
//! `gemm` and its kin take matrices with strides and pack them at each call. Here the left factor, such as a
//! convolution's weight or the weight of a recurrent layer, is packed once for a whole pass; and an element
//! of the right one is at `row(n) + column(k)`, whatever these two functions are: the windows of an image,
//! for one, need no copy.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use crate::algebra::matrix::Accumulate;
use crate::machine::memory::{give_back, recycled};
use crate::machine::simd::dispatch;
use crate::machine::tasks::share;

/// Outputs side by side that a tile has: two vectors of AVX-512, four of AVX2, eight of NEON. Layouts don't
/// depend on the CPU.
pub(crate) const WIDTH: usize = 32;

/// Steps of the sum in one go: so much of a panel stays in the cache, and rounding errors of long sums stay
/// small.
const DEPTH: usize = 512;

/// A matrix of `depth` × `width`, cut into columns of [`WIDTH`], filled up with zeros.
#[derive(Default)]
pub(crate) struct Panels {
    values: Vec<f32>,
    depth: usize,
    width: usize,
}

/// Some rows of a packed matrix.
#[derive(Clone)]
pub(crate) struct Part<'a> {
    panels: &'a Panels,
    depth: Range<usize>,
}

impl<'a> From<&'a Panels> for Part<'a> {
    fn from(panels: &'a Panels) -> Self {
        panels.part(0..panels.depth)
    }
}

/// One panel that is to be filled.
pub(crate) struct Panel<'a> {
    /// Row by row, `lanes` each; those after the columns are zeros.
    pub(crate) values: &'a mut [f32],
    /// Which columns of the matrix it has.
    pub(crate) columns: Range<usize>,
    pub(crate) lanes: usize,
}

/// Where the columns of a panel begin, and how wide it is in memory.
fn panels(width: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..width)
        .step_by(WIDTH)
        .map(move |first| (first, if width - first <= WIDTH / 2 { WIDTH / 2 } else { WIDTH }))
}

impl Panels {
    /// Element (k, m) is `values[k · strides[0] + m · strides[1]]`.
    pub(crate) fn pack(&mut self, values: &[f32], depth: usize, width: usize, strides: [usize; 2]) {
        self.place(depth, width).for_each(|panel| panel.pack(values, strides));
    }

    /// [`pack`](Self::pack) by all threads: not for a task that holds its thread's memory.
    pub(crate) fn pack_shared(&mut self, values: &[f32], depth: usize, width: usize, strides: [usize; 2]) {
        // An element takes as long as many operations of a product.
        share(self.place(depth, width), 64 * depth * width, |panel| panel.pack(values, strides));
    }

    /// [`pack`](Self::pack) of a matrix whose element (k, m) is `values[row(k) + m]`.
    pub(crate) fn gather(
        &mut self,
        values: &[f32],
        depth: usize,
        width: usize,
        row: impl Fn(usize) -> usize,
    ) {
        for Panel { values: panel, columns, lanes } in self.place(depth, width) {
            for (k, to) in panel.chunks_exact_mut(lanes).enumerate() {
                to[..columns.len()].copy_from_slice(&values[row(k) + columns.start..][..columns.len()]);
            }
        }
    }

    /// The panels of a matrix of that size, to be filled.
    pub(crate) fn place(&mut self, depth: usize, width: usize) -> impl Iterator<Item = Panel<'_>> {
        (self.depth, self.width) = (depth, width);
        let all: usize = panels(width).map(|(_, lanes)| lanes).sum();
        self.make_room(all * depth);
        let values = self.values.chunks_mut((WIDTH * depth).max(1));
        panels(width).zip(values).map(move |((first, lanes), values)| {
            let columns = first..(first + lanes).min(width);
            if columns.len() < lanes {
                values.chunks_exact_mut(lanes).for_each(|row| row[columns.len()..].fill(0.0));
            }
            Panel { values, columns, lanes }
        })
    }

    /// The rows `depth`; a product's sum goes over these.
    pub(crate) fn part(&self, depth: Range<usize>) -> Part<'_> {
        Part { panels: self, depth }
    }

    /// Memory for so many elements, whatever is in it.
    fn make_room(&mut self, length: usize) {
        if self.values.len() != length {
            give_back(std::mem::take(&mut self.values));
            self.values = recycled(length);
        }
    }
}

impl Panel<'_> {
    fn pack(self, values: &[f32], strides: [usize; 2]) {
        let Panel { values: panel, columns, lanes } = self;
        for (k, row) in panel.chunks_exact_mut(lanes).enumerate() {
            let (from, row) =
                (&values[k * strides[0] + columns.start * strides[1]..], &mut row[..columns.len()]);
            if strides[1] == 1 {
                row.copy_from_slice(&from[..row.len()]);
            } else {
                for (to, from) in row.iter_mut().zip(from.iter().step_by(strides[1])) {
                    *to = *from;
                }
            }
        }
    }
}

impl Drop for Panels {
    fn drop(&mut self) {
        give_back(std::mem::take(&mut self.values));
    }
}

/// to[n · stride + m] ← Σₖ left(k, m) · right[row(n) + column(k)] for n below `rows`, or that added to it.
#[allow(clippy::too_many_arguments, reason = "three matrices, each with where its elements lie")]
pub(crate) fn multiply<'a>(
    to: &mut [f32],
    stride: usize,
    accumulate: Accumulate,
    left: impl Into<Part<'a>>,
    right: &[f32],
    rows: usize,
    row: impl Fn(usize) -> usize,
    column: impl Fn(usize) -> usize,
) {
    let Part { panels: left, depth } = left.into();
    if depth.is_empty() && accumulate == Accumulate::Replace {
        for n in 0..rows {
            to[n * stride..][..left.width].fill(0.0);
        }
    }
    for start in depth.clone().step_by(DEPTH) {
        let accumulate = if start == depth.start { accumulate } else { Accumulate::Add };
        let depth = start..(start + DEPTH).min(depth.end);
        dispatch(Multiply { to, stride, accumulate, left, right, rows, row: &row, column: &column, depth });
    }
}

struct Multiply<'a, R, C> {
    to: &'a mut [f32],
    stride: usize,
    accumulate: Accumulate,
    left: &'a Panels,
    right: &'a [f32],
    rows: usize,
    row: R,
    column: C,
    depth: Range<usize>,
}

impl<R: Fn(usize) -> usize, C: Fn(usize) -> usize> WithSimd for Multiply<'_, R, C> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let left = self.left;
        for (first, lanes) in panels(left.width) {
            let panel = &left.values[first * left.depth..][lanes * self.depth.start..lanes * self.depth.end];
            match (S::F32_LANES, lanes) {
                (16, WIDTH) => self.panel::<S, 2, 8>(simd, first, panel),
                (16, _) => self.panel::<S, 1, 8>(simd, first, panel),
                (8, WIDTH) => self.panel::<S, 4, 3>(simd, first, panel),
                (8, _) => self.panel::<S, 2, 6>(simd, first, panel),
                (4, WIDTH) => self.panel::<S, 8, 3>(simd, first, panel),
                (4, _) => self.panel::<S, 4, 6>(simd, first, panel),
                (_, WIDTH) => self.panel::<S, WIDTH, 1>(simd, first, panel),
                _ => self.panel::<S, { WIDTH / 2 }, 1>(simd, first, panel),
            }
        }
    }
}

impl<R: Fn(usize) -> usize, C: Fn(usize) -> usize> Multiply<'_, R, C> {
    #[inline(always)]
    fn panel<S: Simd, const V: usize, const N: usize>(&mut self, simd: S, first: usize, panel: &[f32]) {
        let mut n = 0;
        while n + N <= self.rows {
            self.tile::<S, V, N>(simd, first, panel, n);
            n += N;
        }
        while N > 4 && n + 4 <= self.rows {
            self.tile::<S, V, 4>(simd, first, panel, n);
            n += 4;
        }
        while n < self.rows {
            self.tile::<S, V, 1>(simd, first, panel, n);
            n += 1;
        }
    }

    #[inline(always)]
    fn tile<S: Simd, const V: usize, const N: usize>(
        &mut self,
        simd: S,
        first: usize,
        panel: &[f32],
        n: usize,
    ) {
        let lanes = S::F32_LANES;
        // Loops, for what makes arrays by closures is not always inlined.
        let mut starts = [&self.right[..0]; N];
        for (i, start) in starts.iter_mut().enumerate() {
            *start = &self.right[(self.row)(n + i)..];
        }
        let mut sums = [[simd.splat_f32s(0.0); V]; N];
        let (vectors, _) = S::as_simd_f32s(panel);
        for (k, vectors) in vectors.chunks_exact(V).enumerate() {
            let at = (self.column)(self.depth.start + k);
            for i in 0..N {
                let factor = simd.splat_f32s(starts[i][at]);
                for v in 0..V {
                    sums[i][v] = simd.mul_add_f32s(vectors[v], factor, sums[i][v]);
                }
            }
        }
        let width = (self.left.width - first).min(V * lanes);
        for (i, sums) in sums.iter().enumerate() {
            let to = &mut self.to[(n + i) * self.stride + first..][..width];
            let (whole, rest) = S::as_mut_simd_f32s(to);
            let full = whole.len();
            for (v, sum) in sums.iter().enumerate() {
                if v < full {
                    whole[v] =
                        if self.accumulate == Accumulate::Add { simd.add_f32s(whole[v], *sum) } else { *sum };
                } else if v == full && !rest.is_empty() {
                    let before = simd.partial_load_f32s(rest);
                    let sum =
                        if self.accumulate == Accumulate::Add { simd.add_f32s(before, *sum) } else { *sum };
                    simd.partial_store_f32s(rest, sum);
                }
            }
        }
    }
}
