//! The way of the gradient through pooling, ReLU and normalisation of one image.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::activation::{Activation, Affine};
use super::moments::ROWS;
use crate::machine::simd::{dispatch, load, store};

/// Of one image, `[places, filters]` and `[out places, filters]`.
pub(super) struct ImageGradients<'a> {
    pub(super) activation: Activation,
    pub(super) affine: &'a Affine,
    /// The convolution's output.
    pub(super) z: &'a [f32],
    /// The gradient of the block's output.
    pub(super) dy: &'a [f32],
    /// The values that the pooling has chosen, centered, if there is any.
    pub(super) peaks: Option<&'a [f32]>,
}

/// From the gradient dy of the block's output to that of the convolution, by filter: constant + slope · (z −
/// center), and routed · dy where the activation lets it through.
#[derive(Debug, Default)]
pub(super) struct Slopes {
    pub(super) routed: Vec<f32>,
    pub(super) constant: Vec<f32>,
    pub(super) slope: Vec<f32>,
}

impl Slopes {
    /// The gradient of the convolution's bias, which moves all values of a filter alike: the normalisation
    /// takes that away. Where the convolution's gradient is NaN, so is this.
    pub(super) fn of_bias(&self) -> Vec<f32> {
        let slopes = self.routed.iter().zip(&self.constant).zip(&self.slope);
        slopes.map(|((routed, constant), slope)| 0.0 * routed + 0.0 * constant + 0.0 * slope).collect()
    }
}

/// Memory for some of the filters of all places: those of place (y, x) begin at
/// `first + y · row + x · place`.
pub(super) struct Places<'a> {
    pub(super) values: &'a mut [f32],
    pub(super) first: usize,
    pub(super) row: usize,
    pub(super) place: usize,
    pub(super) filters: Range<usize>,
}

impl Places<'_> {
    #[inline(always)]
    fn store<S: Simd>(&mut self, simd: S, [y, x]: [usize; 2], v: usize, values: S::f32s) {
        let place = self.first + y * self.row + x * self.place;
        let filters = self.filters.len();
        store(simd, &mut self.values[place..][..filters], v - self.filters.start / S::F32_LANES, values);
    }
}

impl ImageGradients<'_> {
    /// Adds to the sums of each filter: the gradient after the normalisation, and its product with what was
    /// normalised, less its center.
    pub(super) fn add_sums(&self, sums: &mut [[f64; 2]]) {
        dispatch(AddSums { image: self, sums });
    }

    /// Writes the convolution's gradient, the filters of `to`, into it and into what is beside it, which has
    /// all filters.
    pub(super) fn route(&self, slopes: &Slopes, to: Places<'_>, beside: Option<Places<'_>>) {
        dispatch(Route { image: self, slopes, to, beside });
    }
}

struct AddSums<'a> {
    image: &'a ImageGradients<'a>,
    sums: &'a mut [[f64; 2]],
}

impl WithSimd for AddSums<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let AddSums { image: ImageGradients { affine, z, dy, peaks, .. }, sums } = self;
        let filters = sums.len();
        let all = dy.len() / filters;
        for first in (0..all).step_by(ROWS) {
            for (v, sums) in sums.chunks_mut(S::F32_LANES).enumerate() {
                let affine = affine.vector(simd, v);
                let (mut gradients, mut products) = (simd.splat_f32s(0.0), simd.splat_f32s(0.0));
                for place in first..(first + ROWS).min(all) {
                    let row = |values: &[f32]| load(simd, &values[place * filters..][..filters], v);
                    let z = match peaks {
                        Some(peaks) => row(peaks),
                        None => affine.centered(simd, row(z)),
                    };
                    let gradient = affine.passed(simd, row(dy), z);
                    gradients = simd.add_f32s(gradients, gradient);
                    products = simd.add_f32s(products, simd.mul_f32s(gradient, z));
                }
                let mut lanes = [[0.0; MOST_LANES]; 2];
                store(simd, &mut lanes[0][..S::F32_LANES], 0, gradients);
                store(simd, &mut lanes[1][..S::F32_LANES], 0, products);
                for (lane, sums) in sums.iter_mut().enumerate() {
                    sums[0] += f64::from(lanes[0][lane]);
                    sums[1] += f64::from(lanes[1][lane]);
                }
            }
        }
    }
}

/// Of any vector.
const MOST_LANES: usize = 16;

struct Route<'a> {
    image: &'a ImageGradients<'a>,
    slopes: &'a Slopes,
    to: Places<'a>,
    beside: Option<Places<'a>>,
}

/// The places of a window, in the order in which the first of equal values is chosen.
const WINDOW: [[usize; 2]; 4] = [[0, 0], [0, 1], [1, 0], [1, 1]];

impl WithSimd for Route<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let Activation { size: [height, width], filters, pool } = self.image.activation;
        let [out_height, out_width] = self.image.activation.out();
        let vectors = self.to.filters.start / S::F32_LANES..self.to.filters.end.div_ceil(S::F32_LANES);
        for y in 0..out_height {
            for x in 0..out_width {
                let dy = &self.image.dy[(y * out_width + x) * filters..][..filters];
                let peaks = self.image.peaks.map(|peaks| &peaks[(y * out_width + x) * filters..][..filters]);
                for v in vectors.clone() {
                    let affine = self.image.affine.vector(simd, v);
                    let gradient = simd.mul_f32s(load(simd, &self.slopes.routed, v), load(simd, dy, v));
                    let Some(peaks) = peaks else {
                        let z = self.z(simd, [y, x], v);
                        self.put(simd, [y, x], v, z, affine.passed(simd, gradient, z));
                        continue;
                    };
                    let peak = load(simd, peaks, v);
                    let zero = simd.splat_f32s(0.0);
                    let mut left = affine.passed(simd, gradient, peak);
                    for place in WINDOW {
                        let place = [2 * y + place[0], 2 * x + place[1]];
                        let z = self.z(simd, place, v);
                        let chosen = simd.equal_f32s(z, peak);
                        self.put(simd, place, v, z, simd.select_f32s(chosen, left, zero));
                        left = simd.select_f32s(chosen, zero, left);
                    }
                }
            }
        }
        if !pool || [2 * out_height, 2 * out_width] == [height, width] {
            return;
        }
        for y in 0..height {
            for x in 0..width {
                // No window covers these.
                if y >= 2 * out_height || x >= 2 * out_width {
                    for v in vectors.clone() {
                        let z = self.z(simd, [y, x], v);
                        self.put(simd, [y, x], v, z, simd.splat_f32s(0.0));
                    }
                }
            }
        }
    }
}

impl Route<'_> {
    /// z − center
    #[inline(always)]
    fn z<S: Simd>(&self, simd: S, [y, x]: [usize; 2], v: usize) -> S::f32s {
        let Activation { size: [_, width], filters, .. } = self.image.activation;
        let z = &self.image.z[(y * width + x) * filters..][..filters];
        self.image.affine.vector(simd, v).centered(simd, load(simd, z, v))
    }

    /// Writes constant + slope · (z − center) + gradient.
    #[inline(always)]
    fn put<S: Simd>(&mut self, simd: S, place: [usize; 2], v: usize, z: S::f32s, gradient: S::f32s) {
        let (constant, slope) = (load(simd, &self.slopes.constant, v), load(simd, &self.slopes.slope, v));
        let dz = simd.add_f32s(simd.add_f32s(constant, simd.mul_f32s(slope, z)), gradient);
        self.to.store(simd, place, v, dz);
        if let Some(beside) = &mut self.beside {
            beside.store(simd, place, v, dz);
        }
    }
}
