//! What comes behind a convolution: normalisation, ReLU and pooling of one image, `[places, filters]`.

#![allow(clippy::needless_range_loop, reason = "loops of this form become vectors")]

use bytemuck::{cast_slice, cast_slice_mut};

use super::lanes::{by_lanes, lanes, store};
use super::moments::Moments;
use crate::memory::Recycled;
use crate::simd::vectorised;

/// y = scale · (z − center) + shift, by filter. The center is near the mean: so no digits cancel, and what is infinite stays
/// so.
#[derive(Clone, Debug)]
pub(super) struct Affine {
    pub(super) center: Vec<f32>,
    pub(super) scale: Vec<f32>,
    pub(super) shift: Vec<f32>,
}

impl Affine {
    /// The normalisation by the batch's statistics.
    pub(super) fn of_batch(statistics: &[Moments], epsilon: f64, [bias, gamma, beta]: [&[f32]; 3]) -> Affine {
        let (mut center, mut scale, mut shift) = (Vec::new(), Vec::new(), Vec::new());
        for (filter, moments) in statistics.iter().enumerate() {
            let a = f64::from(gamma[filter]) / (moments.variance() + epsilon).sqrt();
            // The bias moves mean and output alike and is left out of both; where it is no number, so is the output.
            center.push(moments.mean() as f32);
            scale.push(a as f32);
            shift.push(beta[filter] + 0.0 * bias[filter]);
        }
        Affine { center, scale, shift }
    }

    /// Of a convolution that has the normalisation in its weight.
    pub(super) fn folded(bias: &[f32]) -> Affine {
        Affine { center: vec![0.0; bias.len()], scale: vec![1.0; bias.len()], shift: bias.to_vec() }
    }
}

/// What the pooling has chosen, for the gradient's way back: `[batch, out places, filters]`.
#[derive(Clone, Debug)]
pub(super) struct Routes {
    /// Which place of the window has the gradient, 0 to 3, or [`NOWHERE`]; as bytes.
    places: Recycled,
    /// What that place has, less the filter's center.
    peaks: Recycled,
}

/// Where the gradient goes that ReLU stops.
pub(super) const NOWHERE: u8 = 4;

impl Routes {
    pub(super) fn new(length: usize) -> Self {
        Routes { places: Recycled::new(length.div_ceil(size_of::<f32>())), peaks: Recycled::new(length) }
    }

    /// Of the image of that number, whose output has so many elements.
    pub(super) fn image(&self, number: usize, outer: usize) -> (&[u8], &[f32]) {
        let places: &[u8] = cast_slice(&self.places);
        (&places[number * outer..][..outer], &self.peaks[number * outer..][..outer])
    }

    /// Of each image.
    pub(super) fn images(&mut self, outer: usize) -> impl Iterator<Item = ImageRoutes<'_>> {
        let places: &mut [u8] = cast_slice_mut(&mut self.places);
        places.chunks_exact_mut(outer.max(1)).zip(self.peaks.chunks_exact_mut(outer.max(1)))
    }
}

/// Of one image, to be filled.
pub(super) type ImageRoutes<'a> = (&'a mut [u8], &'a mut [f32]);

/// The sizes of one image behind the convolution.
#[derive(Clone, Copy, Debug)]
pub(super) struct Activation {
    /// Height and width of the convolution's output.
    pub(super) size: [usize; 2],
    pub(super) filters: usize,
    /// Whether 2×2 max pooling is part of it.
    pub(super) pool: bool,
}

impl Activation {
    /// Height and width of the output.
    pub(super) fn out(&self) -> [usize; 2] {
        if self.pool { self.size.map(|length| length / 2) } else { self.size }
    }

    /// `[places, filters]` to `[out places, filters]`; with pooling, what it has chosen is put down in `routes`, if wanted.
    pub(super) fn forward(
        &self,
        output: &mut [f32],
        inner: &[f32],
        affine: &Affine,
        routes: Option<ImageRoutes<'_>>,
    ) {
        let filters = self.filters;
        vectorised(
            #[inline(always)]
            || match (self.pool, routes) {
                (false, _) => {
                    for (to, from) in output.chunks_exact_mut(filters).zip(inner.chunks_exact(filters)) {
                        let lanes = from.iter().zip(&affine.center).zip(&affine.scale).zip(&affine.shift);
                        for (to, (((z, center), scale), shift)) in to.iter_mut().zip(lanes) {
                            *to = rectified(scale * (z - center) + shift);
                        }
                    }
                }
                (true, None) => {
                    for (place, to) in output.chunks_exact_mut(filters).enumerate() {
                        let window = self.window(inner, place);
                        by_lanes!(0..filters, at, L, store(affine.chosen::<L>(window, at).output, to, at));
                    }
                }
                (true, Some((places, peaks))) => {
                    let kept = places.chunks_exact_mut(filters).zip(peaks.chunks_exact_mut(filters));
                    let outputs = output.chunks_exact_mut(filters).zip(kept);
                    for (place, (output, (places, peaks))) in outputs.enumerate() {
                        let window = self.window(inner, place);
                        by_lanes!(0..filters, at, L, {
                            let chosen = affine.chosen::<L>(window, at);
                            store(chosen.output, output, at);
                            store(chosen.place, places, at);
                            store(chosen.peak, peaks, at);
                        });
                    }
                }
            },
        );
    }

    /// The four places of the convolution's output that a place behind the pooling has, each with its filters.
    #[inline(always)]
    fn window<'a>(&self, inner: &'a [f32], place: usize) -> [&'a [f32]; 4] {
        let ([_, width], [_, out_width]) = (self.size, self.out());
        let first = (place / out_width * 2) * width + place % out_width * 2;
        let at = |place: usize| &inner[place * self.filters..][..self.filters];
        [at(first), at(first + 1), at(first + width), at(first + width + 1)]
    }
}

/// Of some filters of a window.
struct Chosen<const L: usize> {
    output: [f32; L],
    /// Where the gradient goes.
    place: [u8; L],
    /// What is there, less the center.
    peak: [f32; L],
}

impl Affine {
    /// Those filters from `at`. The gradient goes to the first of the largest values; one that is no number is only chosen
    /// if it comes first, but makes an output that is none.
    #[inline(always)]
    fn chosen<const L: usize>(&self, window: [&[f32]; 4], at: usize) -> Chosen<L> {
        let affine = self.lanes::<L>(at);
        let mut peak = affine.centered(lanes(window[0], at));
        let mut largest = affine.values(peak);
        let mut output = largest;
        let mut route = [0u32; L];
        for number in 1..4 {
            let z = affine.centered(lanes(window[number], at));
            let value = affine.values(z);
            for l in 0..L {
                let is = value[l] > largest[l];
                peak[l] = if is { z[l] } else { peak[l] };
                largest[l] = if is { value[l] } else { largest[l] };
                route[l] = if is { number as u32 } else { route[l] };
                output[l] = larger(output[l], value[l]);
            }
        }
        let mut place = [0; L];
        for l in 0..L {
            place[l] = if largest[l] > 0.0 { route[l] as u8 } else { NOWHERE };
            output[l] = rectified(output[l]);
        }
        Chosen { output, place, peak }
    }

    #[inline(always)]
    pub(super) fn lanes<const L: usize>(&self, at: usize) -> AffineLanes<L> {
        let Affine { center, scale, shift } = self;
        AffineLanes { center: lanes(center, at), scale: lanes(scale, at), shift: lanes(shift, at) }
    }
}

/// The normalisation of some filters.
#[derive(Clone, Copy)]
pub(super) struct AffineLanes<const L: usize> {
    center: [f32; L],
    scale: [f32; L],
    shift: [f32; L],
}

impl<const L: usize> AffineLanes<L> {
    /// z − center
    #[inline(always)]
    pub(super) fn centered(self, mut z: [f32; L]) -> [f32; L] {
        for l in 0..L {
            z[l] -= self.center[l];
        }
        z
    }

    /// The normalised values of what is centered.
    #[inline(always)]
    fn values(self, mut z: [f32; L]) -> [f32; L] {
        for l in 0..L {
            z[l] = self.scale[l] * z[l] + self.shift[l];
        }
        z
    }

    /// The gradients of those whose normalised value is greater than zero, and zeros.
    #[inline(always)]
    pub(super) fn passed(self, mut gradient: [f32; L], z: [f32; L]) -> [f32; L] {
        let values = self.values(z);
        for l in 0..L {
            gradient[l] = if values[l] > 0.0 { gradient[l] } else { 0.0 };
        }
        gradient
    }
}

/// max(0, x); what is no number stays none.
#[inline(always)]
fn rectified(x: f32) -> f32 {
    if x <= 0.0 { 0.0 } else { x }
}

/// The larger one; what is no number wins.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if a >= b || a.is_nan() { a } else { b }
}
