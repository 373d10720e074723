//! Convolution, batch normalisation, ReLU and 2×2 max pooling as one operation, and its gradients.
//!
//! Inside, channels come last: a place of the convolution's output has its filters side by side, so that all passes go
//! over whole vectors. The batch is cut into a fixed number of chunks, which threads take; each chunk's sums are its own
//! and are put together in the order of the chunks. So results don't depend on the number of threads.

use rayon::prelude::*;

use super::backward::Backward;
use super::geometry::{Geometry, Windows};
use crate::convolution::moments::{Moments, observe};
use crate::fused::{Array, Computed, Fused, Order, Pass};
use crate::layout::transpose;
use crate::matrix::Into;
use crate::memory::{Recycled, any, with_scratch};
use crate::product::{Panels, multiply};
use crate::simd::vectorised;

/// Into how many chunks a batch is cut, if it is that large.
const CHUNKS: usize = 16;

/// The operation on images `[batch, channels, height, width]`, a weight `[filters, channels, kernel height, kernel width]`
/// and a bias, γ and β of `[filters]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConvBlock {
    pub(crate) batch: usize,
    pub(crate) filters: usize,
    pub(crate) geometry: Geometry,
    /// Whether 2×2 max pooling follows.
    pub(crate) pool: bool,
    pub(crate) normalisation: Normalisation,
    /// Of the images.
    pub(crate) order: Order,
    /// Of the output.
    pub(crate) output_order: Order,
}

/// What comes between convolution and ReLU.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Normalisation {
    /// γ, β and the batch's own statistics, which are given beside: mean and biased variance of the convolution's output
    /// without its bias, `[2, filters]`. With what is added to the variance.
    OfBatch(f64),
    /// The bias alone, for a weight that has the normalisation in it. γ and β are not used; there is no gradient.
    Folded,
}

/// What the forward pass leaves.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    /// The convolution's output `[batch, places, filters]`, without its bias.
    inner: Recycled,
    statistics: Vec<Moments>,
}

/// y = scale · (z − center) + shift, by filter. The center is near the mean: so no digits cancel, and what is infinite stays
/// so.
pub(super) struct Affine {
    pub(super) center: Vec<f32>,
    pub(super) scale: Vec<f32>,
    pub(super) shift: Vec<f32>,
}

impl ConvBlock {
    /// Images in a chunk; the last one may have fewer.
    pub(super) fn chunk(&self) -> usize {
        self.batch.div_ceil(CHUNKS).max(1)
    }

    /// Elements of the convolution's output for one image.
    pub(super) fn inner(&self) -> usize {
        self.filters * self.geometry.places()
    }

    /// Height and width of the output.
    pub(super) fn out(&self) -> [usize; 2] {
        let [height, width] = self.geometry.out();
        if self.pool { [height / 2, width / 2] } else { [height, width] }
    }

    /// Elements of the output for one image.
    pub(super) fn outer(&self) -> usize {
        let [height, width] = self.out();
        self.filters * height * width
    }

    fn weight(&self, weight: &[f32]) -> Panels {
        let window = self.geometry.window();
        let mut panels = Panels::default();
        panels.pack(weight, window, self.filters, [1, window]);
        panels
    }

    pub(super) fn affine(
        &self,
        statistics: &[Moments],
        epsilon: f64,
        [bias, gamma, beta]: [&[f32]; 3],
    ) -> Affine {
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

    /// The convolution's output `[batch, places, filters]`, without its bias, and its statistics.
    fn convolve(&self, images: &[f32], weight: &[f32]) -> Kept {
        let (windows, weight) = (Windows::new(self.geometry, self.order), self.weight(weight));
        let mut inner = Recycled::new(self.batch * self.inner());
        let chunk = self.chunk();
        let mut moments = vec![Moments::default(); self.batch.div_ceil(chunk) * self.filters];
        inner
            .par_chunks_mut(chunk * self.inner())
            .zip(images.par_chunks(chunk * self.geometry.image()))
            .zip(moments.par_chunks_mut(self.filters))
            .for_each(|((inner, images), moments)| {
                with_scratch(|scratch| {
                    let sizes = [windows.padded(), self.filters, self.filters, 0];
                    let ([memory, sums, centers, _], _) = scratch.take(sizes);
                    memory.fill(0.0);
                    let images = images.chunks_exact(self.geometry.image());
                    for (inner, image) in inner.chunks_exact_mut(self.inner()).zip(images) {
                        self.convolve_image(inner, image, &windows, &weight, memory);
                        vectorised(
                            #[inline(always)]
                            || observe(moments, inner, sums, centers),
                        );
                    }
                });
            });
        let whole = |filter: usize| {
            let chunks = moments.iter().skip(filter).step_by(self.filters);
            chunks.fold(Moments::default(), |all, &chunk| all.with(chunk))
        };
        Kept { inner, statistics: (0..self.filters).map(whole).collect() }
    }

    fn convolve_image(
        &self,
        inner: &mut [f32],
        image: &[f32],
        windows: &Windows,
        weight: &Panels,
        memory: &mut [f32],
    ) {
        let (places, window) = (&windows.places, &windows.window);
        let image = windows.pad(image, memory);
        multiply(
            inner,
            self.filters,
            Into::Replace,
            weight,
            image,
            places.len(),
            |place| places[place],
            |element| window[element],
        );
    }

    /// Normalisation, ReLU and pooling of one image: `[places, filters]` to the output in its order; `memory` has as many
    /// elements.
    fn activate(&self, output: &mut [f32], inner: &[f32], affine: &Affine, memory: &mut [f32]) {
        let [height, width] = self.out();
        match self.output_order {
            Order::ChannelsLast => self.activate_places(output, inner, affine),
            Order::Contiguous => {
                self.activate_places(memory, inner, affine);
                transpose(memory, output, height * width, self.filters);
            }
        }
    }

    /// `[places, filters]` to `[out places, filters]`.
    fn activate_places(&self, output: &mut [f32], inner: &[f32], affine: &Affine) {
        let filters = self.filters;
        let ([_, width], [_, out_width]) = (self.geometry.out(), self.out());
        let Affine { center, scale, shift } = affine;
        vectorised(
            #[inline(always)]
            || {
                if !self.pool {
                    for (to, from) in output.chunks_exact_mut(filters).zip(inner.chunks_exact(filters)) {
                        let lanes = from.iter().zip(center).zip(scale).zip(shift);
                        for (to, (((z, center), scale), shift)) in to.iter_mut().zip(lanes) {
                            *to = rectified(scale * (z - center) + shift);
                        }
                    }
                    return;
                }
                for (place, to) in output.chunks_exact_mut(filters).enumerate() {
                    let [z0, z1, z2, z3] = pooled(inner, place, out_width, width, filters);
                    let (center, scale) = (&center[..filters], &scale[..filters]);
                    let (shift, to) = (&shift[..filters], &mut to[..filters]);
                    for filter in 0..filters {
                        let value = |z: f32| rectified(scale[filter] * (z - center[filter]) + shift[filter]);
                        let (a, b) = (value(z0[filter]), value(z1[filter]));
                        let (c, d) = (value(z2[filter]), value(z3[filter]));
                        to[filter] = larger(larger(a, b), larger(c, d));
                    }
                }
            },
        );
    }

    /// The gradient of one image's output as `[out places, filters]`; `memory` has as many elements.
    pub(super) fn last<'a>(&self, gradient: &'a [f32], order: Order, memory: &'a mut [f32]) -> &'a [f32] {
        let [height, width] = self.out();
        match order {
            Order::ChannelsLast => gradient,
            Order::Contiguous => {
                transpose(gradient, memory, self.filters, height * width);
                memory
            }
        }
    }
}

/// The four places of the convolution's output that a place behind the pooling has, each with its filters.
#[inline(always)]
pub(super) fn pooled(
    inner: &[f32],
    place: usize,
    out_width: usize,
    width: usize,
    filters: usize,
) -> [&[f32]; 4] {
    let first = (place / out_width * 2) * width + place % out_width * 2;
    [first, first + 1, first + width, first + width + 1].map(|place| &inner[place * filters..][..filters])
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

impl Fused<5> for ConvBlock {
    type Kept = Option<Kept>;
    const KEEPS_OUTPUT: bool = false;
    const ANY_ORDER: Option<usize> = Some(0);

    fn set_order(&mut self, order: Order) {
        self.order = order;
    }

    fn forward(&self, [images, weight, bias, gamma, beta]: [&[f32]; 5], _: bool) -> Computed<Option<Kept>> {
        let [height, width] = self.out();
        let mut output = any(self.batch * self.outer());
        let shape = [self.batch, self.filters, height, width];
        match self.normalisation {
            Normalisation::OfBatch(epsilon) => {
                let kept = self.convolve(images, weight);
                let affine = self.affine(&kept.statistics, epsilon, [bias, gamma, beta]);
                output.par_chunks_mut(self.outer().max(1)).zip(kept.inner.par_chunks(self.inner())).for_each(
                    |(output, inner)| {
                        with_scratch(|scratch| {
                            let ([memory, ..], _) = scratch.take([self.outer(), 0, 0, 0]);
                            self.activate(output, inner, &affine, memory);
                        });
                    },
                );
                let statistics = kept.statistics.iter();
                let means = statistics.clone().map(|moments| moments.mean() as f32);
                let statistics = means.chain(statistics.map(|moments| moments.variance() as f32)).collect();
                Computed {
                    output: Array::new(output, shape).with_order(self.output_order),
                    beside: vec![Array::new(statistics, [2, self.filters])],
                    kept: Some(kept),
                }
            }
            Normalisation::Folded => {
                let (windows, weight) = (Windows::new(self.geometry, self.order), self.weight(weight));
                let affine = Affine {
                    center: vec![0.0; self.filters],
                    scale: vec![1.0; self.filters],
                    shift: bias.to_vec(),
                };
                output
                    .par_chunks_mut(self.outer().max(1))
                    .zip(images.par_chunks(self.geometry.image()))
                    .for_each(|(output, image)| {
                        with_scratch(|scratch| {
                            let sizes = [windows.padded(), self.inner(), self.outer(), 0];
                            let ([padded, inner, memory, _], _) = scratch.take(sizes);
                            padded.fill(0.0);
                            self.convolve_image(inner, image, &windows, &weight, padded);
                            self.activate(output, inner, &affine, memory);
                        });
                    });
                let output = Array::new(output, shape).with_order(self.output_order);
                Computed { output, beside: vec![], kept: None }
            }
        }
    }

    fn backward(&self, pass: Pass<'_, Option<Kept>, 5>) -> [Option<Vec<f32>>; 5] {
        let Pass { inputs: [images, weight, bias, gamma, beta], kept, gradient, order, wanted, .. } = pass;
        let (Some(Kept { inner, statistics }), Normalisation::OfBatch(epsilon)) = (kept, self.normalisation)
        else {
            unreachable!("a folded block has no gradient")
        };
        let affine = self.affine(&statistics, epsilon, [bias, gamma, beta]);
        let sums = self.sums(&inner, (gradient, order), &affine, &statistics, epsilon);
        let count = (self.batch * self.geometry.places()) as f64;
        // dz = γ/σ · (dy − Σdy/n − ẑ·Σ(dy·ẑ)/n) = routed·dy + constant + slope·(z − center)
        let (mut routed, mut constant, mut slope) = (Vec::new(), Vec::new(), Vec::new());
        for (filter, (moments, [gradients, products])) in statistics.iter().zip(&sums).enumerate() {
            let inverse = 1.0 / (moments.variance() + epsilon).sqrt();
            let factor = f64::from(gamma[filter]) * inverse;
            let steep = -factor * products / count * inverse;
            routed.push(factor as f32);
            slope.push(steep as f32);
            constant.push(
                (-factor * gradients / count - steep * (moments.mean() - f64::from(affine.center[filter])))
                    as f32,
            );
        }
        let backward = Backward { block: self, affine, routed, constant, slope };
        let (images, weight) = backward.products(images, weight, &inner, (gradient, order), wanted[0]);
        let narrow = |which: usize| sums.iter().map(|sums| sums[which] as f32).collect();
        [
            images,
            Some(weight),
            // The bias moves all values of a filter alike, which the normalisation takes away.
            Some(vec![0.0; self.filters]),
            Some(narrow(1)),
            Some(narrow(0)),
        ]
    }
}
