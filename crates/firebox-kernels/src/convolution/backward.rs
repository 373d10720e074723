//! A convolution block's backward pass: first the sums that the normalisation needs, then the gradients of weight and images.

use rayon::prelude::*;

use super::geometry::Windows;
use super::image_gradient::ImageGradient;
use super::kernel::{Affine, ConvBlock, pooled};
use super::moments::{Moments, ROWS};
use crate::fused::Order;
use crate::layout::transpose;
use crate::matrix::Into;
use crate::memory::{Recycled, any, with_scratch};
use crate::product::multiply;
use crate::simd::vectorised;

impl ConvBlock {
    /// For each filter: the sum of the gradient behind the normalisation, and of its product with what was normalised.
    pub(super) fn sums(
        &self,
        inner: &[f32],
        (gradient, order): (&[f32], Order),
        affine: &Affine,
        statistics: &[Moments],
        epsilon: f64,
    ) -> Vec<[f64; 2]> {
        let filters = self.filters;
        let ([_, width], [_, out_width]) = (self.geometry.out(), self.out());
        let chunk = self.chunk();
        let mut sums = vec![[0f64; 2]; self.batch.div_ceil(chunk) * filters];
        sums.par_chunks_mut(filters)
            .zip(inner.par_chunks(chunk * self.inner()))
            .zip(gradient.par_chunks((chunk * self.outer()).max(1)))
            .for_each(|((sums, inner), gradient)| {
                with_scratch(|scratch| {
                    let ([dy, gradients, products, _], _) = scratch.take([self.outer(), filters, filters, 0]);
                    let images = inner.chunks_exact(self.inner());
                    for (inner, gradient) in images.zip(gradient.chunks_exact(self.outer().max(1))) {
                        let dy = self.last(gradient, order, dy);
                        for (block, dy) in dy.chunks(ROWS * filters).enumerate() {
                            gradients.fill(0.0);
                            products.fill(0.0);
                            vectorised(
                                #[inline(always)]
                                || {
                                    for (place, dy) in dy.chunks_exact(filters).enumerate() {
                                        let place = block * ROWS + place;
                                        let window = match self.pool {
                                            true => pooled(inner, place, out_width, width, filters),
                                            false => [&inner[place * filters..][..filters]; 4],
                                        };
                                        self.sum_place(dy, window, affine, gradients, products);
                                    }
                                },
                            );
                            for (sums, (&gradient, &product)) in
                                sums.iter_mut().zip(gradients.iter().zip(&*products))
                            {
                                sums[0] += f64::from(gradient);
                                sums[1] += f64::from(product);
                            }
                        }
                    }
                });
            });
        (0..filters)
            .map(|filter| {
                let chunks = sums.iter().skip(filter).step_by(filters);
                let [gradients, products] =
                    chunks.fold([0.0, 0.0], |all, sums| [all[0] + sums[0], all[1] + sums[1]]);
                // The deviations were from the rounded mean.
                let moments = &statistics[filter];
                let products = products - gradients * (moments.mean() - f64::from(affine.center[filter]));
                [gradients, products / (moments.variance() + epsilon).sqrt()]
            })
            .collect()
    }

    #[inline(always)]
    fn sum_place(
        &self,
        dy: &[f32],
        window: [&[f32]; 4],
        affine: &Affine,
        gradients: &mut [f32],
        products: &mut [f32],
    ) {
        let filters = self.filters;
        let (scale, shift) = (&affine.scale[..filters], &affine.shift[..filters]);
        let (center, dy) = (&affine.center[..filters], &dy[..filters]);
        let (gradients, products) = (&mut gradients[..filters], &mut products[..filters]);
        let window = window.map(|z| &z[..filters]);
        for filter in 0..filters {
            let value = |z: f32| scale[filter] * z + shift[filter];
            let mut z = window[0][filter] - center[filter];
            let mut largest = value(z);
            for other in [window[1][filter], window[2][filter], window[3][filter]] {
                let other = other - center[filter];
                let (larger, new) = (value(other) > largest, value(other));
                z = if larger { other } else { z };
                largest = if larger { new } else { largest };
            }
            let gradient = if largest > 0.0 { dy[filter] } else { 0.0 };
            gradients[filter] += gradient;
            products[filter] += gradient * z;
        }
    }
}

/// Filters that are computed side by side, as a vector of the widest kind has them. They are taken out of their slices
/// first: that the places of the results are none of the operands is beyond what the compiler would check.
const LANES: usize = 16;

#[inline(always)]
fn lanes<const L: usize>(values: &[f32], at: usize) -> [f32; L] {
    let mut lanes = [0.0; L];
    lanes.copy_from_slice(&values[at..at + L]);
    lanes
}

/// The second half of the backward pass.
pub(super) struct Backward<'a> {
    pub(super) block: &'a ConvBlock,
    pub(super) affine: Affine,
    pub(super) routed: Vec<f32>,
    pub(super) constant: Vec<f32>,
    pub(super) slope: Vec<f32>,
}

impl Backward<'_> {
    /// The gradient of one image's convolution, `[places, filters]`, for that of its output, `[out places, filters]`.
    fn unpooled(&self, dz: &mut [f32], inner: &[f32], dy: &[f32]) {
        let filters = self.block.filters;
        let ([height, width], [out_height, out_width]) = (self.block.geometry.out(), self.block.out());
        let whole = filters - filters % LANES;
        vectorised(
            #[inline(always)]
            || {
                if !self.block.pool {
                    let places = dz.chunks_exact_mut(filters).zip(inner.chunks_exact(filters));
                    for ((dz, z), dy) in places.zip(dy.chunks_exact(filters)) {
                        for block in 0..whole / LANES {
                            self.passed::<LANES>(block * LANES, dz, z, dy);
                        }
                        for at in whole..filters {
                            self.passed::<1>(at, dz, z, dy);
                        }
                    }
                    return;
                }
                if [2 * out_height, 2 * out_width] != [height, width] {
                    // For what no window covers.
                    for (dz, z) in dz.chunks_exact_mut(filters).zip(inner.chunks_exact(filters)) {
                        let coefficients = self.affine.center.iter().zip(&self.constant).zip(&self.slope);
                        for ((dz, z), ((center, constant), slope)) in dz.iter_mut().zip(z).zip(coefficients) {
                            *dz = constant + slope * (z - center);
                        }
                    }
                }
                for (place, dy) in dy.chunks_exact(filters).enumerate() {
                    let z = pooled(inner, place, out_width, width, filters);
                    let first = (place / out_width * 2) * width + place % out_width * 2;
                    let (upper, lower) = dz[first * filters..].split_at_mut(width * filters);
                    let ((d0, d1), (d2, d3)) = (upper.split_at_mut(filters), lower.split_at_mut(filters));
                    let mut dz = [d0, d1, d2, d3];
                    for block in 0..whole / LANES {
                        self.routed::<LANES>(block * LANES, &mut dz, z, dy);
                    }
                    for at in whole..filters {
                        self.routed::<1>(at, &mut dz, z, dy);
                    }
                }
            },
        );
    }

    /// `L` filters of a place, from filter `at`.
    #[inline(always)]
    fn passed<const L: usize>(&self, at: usize, dz: &mut [f32], z: &[f32], dy: &[f32]) {
        let (z, dy) = (self.centered::<L>(z, at), lanes::<L>(dy, at));
        let (scale, shift) = (lanes::<L>(&self.affine.scale, at), lanes::<L>(&self.affine.shift, at));
        let [routed, constant, slope] =
            [&self.routed, &self.constant, &self.slope].map(|x| lanes::<L>(x, at));
        let mut new = [0.0; L];
        for l in 0..L {
            let passes = scale[l] * z[l] + shift[l] > 0.0;
            let gradient = if passes { routed[l] * dy[l] } else { 0.0 };
            new[l] = constant[l] + slope[l] * z[l] + gradient;
        }
        dz[at..at + L].copy_from_slice(&new);
    }

    /// `L` filters of the four places of a window, from filter `at`: the gradient goes to the first of the largest values.
    /// A value that is no number is only chosen if it comes first.
    #[inline(always)]
    fn routed<const L: usize>(&self, at: usize, dz: &mut [&mut [f32]; 4], z: [&[f32]; 4], dy: &[f32]) {
        let (z, dy) = (z.map(|z| self.centered::<L>(z, at)), lanes::<L>(dy, at));
        let (scale, shift) = (lanes::<L>(&self.affine.scale, at), lanes::<L>(&self.affine.shift, at));
        let [routed, constant, slope] =
            [&self.routed, &self.constant, &self.slope].map(|x| lanes::<L>(x, at));
        let mut new = [[0.0; L]; 4];
        for l in 0..L {
            let [v0, v1, v2, v3] = [0, 1, 2, 3].map(|place| scale[l] * z[place][l] + shift[l]);
            let larger = |a: f32, b: f32| if b > a { b } else { a };
            let two = larger(v0, v1);
            let three = larger(two, v2);
            let gradient = if larger(three, v3) > 0.0 { routed[l] * dy[l] } else { 0.0 };
            let chosen = |is: bool, gradient: f32| if is { gradient } else { 0.0 };
            let (is_3, is_2, is_1) = (v3 > three, v2 > two, v1 > v0);
            let at_3 = chosen(is_3, gradient);
            let at_2 = chosen(is_2 & !is_3, gradient);
            let at_1 = chosen(is_1 & !is_2 & !is_3, gradient);
            let at_0 = chosen(!is_1 & !is_2 & !is_3, gradient);
            for (place, gradient) in [at_0, at_1, at_2, at_3].into_iter().enumerate() {
                new[place][l] = constant[l] + slope[l] * z[place][l] + gradient;
            }
        }
        for (dz, new) in dz.iter_mut().zip(&new) {
            dz[at..at + L].copy_from_slice(new);
        }
    }

    #[inline(always)]
    fn centered<const L: usize>(&self, z: &[f32], at: usize) -> [f32; L] {
        let (mut z, center) = (lanes::<L>(z, at), lanes::<L>(&self.affine.center, at));
        z.iter_mut().zip(center).for_each(|(z, center)| *z -= center);
        z
    }

    /// The gradients of the images, if they are wanted, and of the weight.
    pub(super) fn products(
        &self,
        images: &[f32],
        weight: &[f32],
        inner: &[f32],
        (gradient, order): (&[f32], Order),
        wants_images: bool,
    ) -> (Option<Vec<f32>>, Vec<f32>) {
        let block = self.block;
        let (geometry, filters, chunk) = (block.geometry, block.filters, block.chunk());
        let windows = Windows::new(geometry, block.order);
        let window = windows.window.len();
        let back = wants_images.then(|| ImageGradient::new(geometry, filters, weight, block.order));
        let mut images_gradient = any(if wants_images { images.len() } else { 0 });
        let mut weights = Recycled::new(block.batch.div_ceil(chunk) * window * filters);
        weights.fill(0.0);
        let work = |(((weights, images), inner), gradient): ChunkInputs<'_>, mut to: Option<&mut [f32]>| {
            let numbers = images
                .chunks_exact(geometry.image())
                .zip(inner.chunks_exact(block.inner()))
                .zip(gradient.chunks_exact(block.outer().max(1)))
                .enumerate();
            for (number, ((image, inner), gradient)) in numbers {
                with_scratch(|scratch| {
                    let bordered = back.as_ref().map_or(0, |back| back.transposed.padded());
                    let pixels = if wants_images { geometry.image() } else { 0 };
                    let sizes = [windows.padded(), block.inner(), block.outer().max(pixels), bordered];
                    let ([padded, dz, dy, memory], panels) = scratch.take(sizes);
                    if number == 0 {
                        memory.fill(0.0);
                    }
                    padded.fill(0.0);
                    let outer = block.last(gradient, order, &mut dy[..block.outer()]);
                    self.unpooled(dz, inner, outer);
                    panels.pack(dz, windows.places.len(), filters, [filters, 1]);
                    let (places, elements) = (&windows.places, &windows.window);
                    let image = windows.pad(image, padded);
                    multiply(
                        weights,
                        filters,
                        Into::Add,
                        panels,
                        image,
                        window,
                        |element| elements[element],
                        |place| places[place],
                    );
                    if let (Some(back), Some(to)) = (&back, &mut to) {
                        let to = &mut to[number * geometry.image()..][..geometry.image()];
                        back.image(to, dz, memory, &mut dy[..pixels]);
                    }
                });
            }
        };
        let inputs = weights
            .par_chunks_mut(window * filters)
            .zip(images.par_chunks(chunk * geometry.image()))
            .zip(inner.par_chunks(chunk * block.inner()))
            .zip(gradient.par_chunks((chunk * block.outer()).max(1)));
        match wants_images {
            false => inputs.for_each(|inputs| work(inputs, None)),
            true => inputs
                .zip(images_gradient.par_chunks_mut(chunk * geometry.image()))
                .for_each(|(inputs, to)| work(inputs, Some(to))),
        }
        let (sum, rest) = weights.split_at_mut(window * filters);
        vectorised(
            #[inline(always)]
            || {
                for chunk in rest.chunks_exact(window * filters) {
                    sum.iter_mut().zip(chunk).for_each(|(sum, x)| *sum += x);
                }
            },
        );
        let mut weight = any(window * filters);
        transpose(sum, &mut weight, window, filters);
        (wants_images.then_some(images_gradient), weight)
    }
}

/// The place of a chunk's weight gradient, its images, the convolution's output and the output's gradient.
type ChunkInputs<'a> = (((&'a mut [f32], &'a [f32]), &'a [f32]), &'a [f32]);
