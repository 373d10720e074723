//! Normalisation, ReLU and pooling of one image after its convolution, `[places, filters]`.

use pulp::{Simd, WithSimd};

use super::moments::Moments;
use crate::machine::simd::{dispatch, load, store, vectorised};

/// y = scale · (z − center) + shift, by filter. The center is near the mean: so no digits cancel, and what is
/// infinite stays so.
#[derive(Clone, Debug)]
pub(super) struct Affine {
    pub(super) center: Vec<f32>,
    pub(super) scale: Vec<f32>,
    pub(super) shift: Vec<f32>,
}

impl Affine {
    /// The normalisation by the batch's statistics.
    pub(super) fn of_batch(statistics: &[Moments], epsilon: f64, [gamma, beta]: [&[f32]; 2]) -> Affine {
        let (mut center, mut scale, mut shift) = (Vec::new(), Vec::new(), Vec::new());
        for (filter, moments) in statistics.iter().enumerate() {
            let a = f64::from(gamma[filter]) / (moments.variance() + epsilon).sqrt();
            center.push(moments.mean() as f32);
            scale.push(a as f32);
            shift.push(beta[filter]);
        }
        Affine { center, scale, shift }
    }

    /// Of a convolution that has the normalisation in its weight.
    pub(super) fn folded(bias: &[f32]) -> Affine {
        Affine { center: vec![0.0; bias.len()], scale: vec![1.0; bias.len()], shift: bias.to_vec() }
    }
}

/// The sizes of one image after the convolution.
#[derive(Clone, Copy, Debug)]
pub(super) struct Activation {
    /// Height and width of the convolution's output.
    pub(super) size: [usize; 2],
    pub(super) filters: usize,
    /// Adds 2×2 max pooling.
    pub(super) pool: bool,
}

impl Activation {
    /// Height and width of the output.
    pub(super) fn out(&self) -> [usize; 2] {
        if self.pool { self.size.map(|length| length / 2) } else { self.size }
    }

    /// `[places, filters]` to `[out places, filters]`; with pooling, what it has chosen, less its filter's
    /// center, goes to `peaks`, if wanted.
    pub(super) fn forward(
        &self,
        output: &mut [f32],
        inner: &[f32],
        affine: &Affine,
        peaks: Option<&mut [f32]>,
    ) {
        if self.pool {
            return dispatch(Pool { activation: self, output, inner, affine, peaks });
        }
        vectorised(
            #[inline(always)]
            || {
                for (to, from) in output.chunks_exact_mut(self.filters).zip(inner.chunks_exact(self.filters))
                {
                    let lanes = from.iter().zip(&affine.center).zip(&affine.scale).zip(&affine.shift);
                    for (to, (((z, center), scale), shift)) in to.iter_mut().zip(lanes) {
                        let value = scale * (z - center) + shift;
                        // NaN stays NaN.
                        *to = if value <= 0.0 { 0.0 } else { value };
                    }
                }
            },
        );
    }

    /// The four places of the convolution's output that a place after the pooling has, each with its filters.
    #[inline(always)]
    fn window<'a>(&self, inner: &'a [f32], place: usize) -> [&'a [f32]; 4] {
        let ([_, width], [_, out_width]) = (self.size, self.out());
        let first = (place / out_width * 2) * width + place % out_width * 2;
        let at = |place: usize| &inner[place * self.filters..][..self.filters];
        [at(first), at(first + 1), at(first + width), at(first + width + 1)]
    }
}

/// Some filters of the normalisation.
#[derive(Clone, Copy)]
pub(super) struct AffineVector<S: Simd> {
    center: S::f32s,
    scale: S::f32s,
    shift: S::f32s,
}

impl Affine {
    #[inline(always)]
    pub(super) fn vector<S: Simd>(&self, simd: S, v: usize) -> AffineVector<S> {
        let Affine { center, scale, shift } = self;
        AffineVector {
            center: load(simd, center, v),
            scale: load(simd, scale, v),
            shift: load(simd, shift, v),
        }
    }
}

impl<S: Simd> AffineVector<S> {
    /// z − center
    #[inline(always)]
    pub(super) fn centered(self, simd: S, z: S::f32s) -> S::f32s {
        simd.sub_f32s(z, self.center)
    }

    /// The normalised values of centered ones.
    #[inline(always)]
    fn value(self, simd: S, z: S::f32s) -> S::f32s {
        simd.add_f32s(simd.mul_f32s(self.scale, z), self.shift)
    }

    /// Those gradients that ReLU lets through, as Burn's does where a value is NaN; and zeros.
    #[inline(always)]
    pub(super) fn passed(self, simd: S, gradient: S::f32s, z: S::f32s) -> S::f32s {
        let zero = simd.splat_f32s(0.0);
        simd.select_f32s(simd.less_than_or_equal_f32s(self.value(simd, z), zero), zero, gradient)
    }
}

struct Pool<'a> {
    activation: &'a Activation,
    output: &'a mut [f32],
    inner: &'a [f32],
    affine: &'a Affine,
    peaks: Option<&'a mut [f32]>,
}

impl WithSimd for Pool<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Pool { activation, output, inner, affine, mut peaks } = self;
        let filters = activation.filters;
        for (place, output) in output.chunks_exact_mut(filters).enumerate() {
            let window = activation.window(inner, place);
            let mut peaks = peaks.as_mut().map(|peaks| &mut peaks[place * filters..][..filters]);
            for v in 0..filters.div_ceil(S::F32_LANES) {
                let (value, peak) = largest(simd, affine.vector(simd, v), window, v);
                store(simd, output, v, value);
                if let Some(peaks) = &mut peaks {
                    store(simd, peaks, v, peak);
                }
            }
        }
    }
}

/// Of some filters of a window: ReLU of the largest value, and the first of the largest ones, centered. The
/// last NaN is the largest, if there is one.
#[inline(always)]
fn largest<S: Simd>(simd: S, affine: AffineVector<S>, window: [&[f32]; 4], v: usize) -> (S::f32s, S::f32s) {
    let mut peak = affine.centered(simd, load(simd, window[0], v));
    let mut largest = affine.value(simd, peak);
    for other in &window[1..] {
        let z = affine.centered(simd, load(simd, other, v));
        let value = affine.value(simd, z);
        let no_number = simd.not_m32s(simd.equal_f32s(value, value));
        let larger = simd.or_m32s(simd.greater_than_f32s(value, largest), no_number);
        peak = simd.select_f32s(larger, z, peak);
        largest = simd.select_f32s(larger, value, largest);
    }
    let zero = simd.splat_f32s(0.0);
    (simd.select_f32s(simd.less_than_or_equal_f32s(largest, zero), zero, largest), peak)
}
