//! A convolution block's backward pass: first the sums that the normalisation needs, then the gradients of weight and images.

use rayon::prelude::*;

use super::geometry::Windows;
use super::image_gradient::ImageGradient;
use super::kernel::{ConvBlock, Kept};
use super::route::{ImageGradients, Places, Slopes};
use crate::fused::Order;
use crate::layout::transpose;
use crate::matrix::Into;
use crate::memory::{Recycled, any, with_scratch};
use crate::product::{Panel, multiply};
use crate::simd::vectorised;

/// What the whole backward pass reads.
pub(super) struct Backward<'a> {
    pub(super) block: &'a ConvBlock,
    pub(super) kept: &'a Kept,
    /// What is added to the variance.
    pub(super) epsilon: f64,
    /// Of the block's output, in its order.
    pub(super) gradient: &'a [f32],
    pub(super) order: Order,
}

impl Backward<'_> {
    /// What is known of one image; `memory` has as many elements as its output.
    fn image<'a>(&'a self, number: usize, memory: &'a mut [f32]) -> ImageGradients<'a> {
        let block = self.block;
        let (inner, outer) = (block.inner(), block.outer());
        let gradient = &self.gradient[number * outer..][..outer];
        let dy = match self.order {
            Order::ChannelsLast => gradient,
            Order::Contiguous => {
                transpose(gradient, memory, block.filters, outer / block.filters);
                memory
            }
        };
        let routes = self.kept.routes.as_ref().map(|routes| routes.image(number, outer));
        let z = &self.kept.inner[number * inner..][..inner];
        ImageGradients { activation: block.activation(), affine: &self.kept.affine, z, dy, routes }
    }

    /// For each filter: the sum of the gradient behind the normalisation, and of its product with what was normalised.
    pub(super) fn sums(&self) -> Vec<[f64; 2]> {
        let Backward { block, kept, .. } = self;
        let filters = block.filters;
        let mut sums = vec![[0f64; 2]; block.chunks() * filters];
        sums.par_chunks_mut(filters).enumerate().for_each(|(chunk, sums)| {
            with_scratch(|scratch| {
                let ([memory, ..], _) = scratch.take([block.outer(), 0, 0, 0]);
                for number in block.images_of(chunk) {
                    let image = self.image(number, memory);
                    vectorised(
                        #[inline(always)]
                        || image.add_sums(sums),
                    );
                }
            });
        });
        (0..filters)
            .map(|filter| {
                let chunks = sums.iter().skip(filter).step_by(filters);
                let [gradients, products] =
                    chunks.fold([0.0, 0.0], |all, sums| [all[0] + sums[0], all[1] + sums[1]]);
                // The deviations were from the rounded mean.
                let moments = &kept.statistics[filter];
                let products =
                    products - gradients * (moments.mean() - f64::from(kept.affine.center[filter]));
                [gradients, products / (moments.variance() + self.epsilon).sqrt()]
            })
            .collect()
    }

    /// dz = γ/σ · (dy − Σdy/n − ẑ·Σ(dy·ẑ)/n) = routed·dy + constant + slope·(z − center)
    pub(super) fn slopes(&self, gamma: &[f32], sums: &[[f64; 2]]) -> Slopes {
        let Backward { block, kept, .. } = self;
        let count = (block.batch * block.geometry.places()) as f64;
        let mut slopes = Slopes::default();
        for (filter, (moments, [gradients, products])) in kept.statistics.iter().zip(sums).enumerate() {
            let inverse = 1.0 / (moments.variance() + self.epsilon).sqrt();
            let factor = f64::from(gamma[filter]) * inverse;
            let steep = -factor * products / count * inverse;
            let rounded = moments.mean() - f64::from(kept.affine.center[filter]);
            slopes.routed.push(factor as f32);
            slopes.slope.push(steep as f32);
            slopes.constant.push((-factor * gradients / count - steep * rounded) as f32);
        }
        slopes
    }

    /// The gradients of images and weight, those that are wanted.
    pub(super) fn products(
        &self,
        slopes: &Slopes,
        images: &[f32],
        weight: &[f32],
        wanted: [bool; 2],
    ) -> [Option<Vec<f32>>; 2] {
        let block = self.block;
        let (geometry, filters) = (block.geometry, block.filters);
        let windows = Windows::new(geometry, block.order);
        let window = windows.window.len();
        let back = wanted[0].then(|| ImageGradient::new(geometry, filters, weight, block.order));
        let mut d_images = any(if wanted[0] { images.len() } else { 0 });
        let mut d_weights = Recycled::new(if wanted[1] { block.chunks() * window * filters } else { 0 });
        let mut of_images = d_images.chunks_mut(block.chunk() * geometry.image());
        let mut of_weights = d_weights.chunks_mut(window * filters);
        let tasks: Vec<_> =
            (0..block.chunks()).map(|chunk| (chunk, of_images.next(), of_weights.next())).collect();
        tasks.into_par_iter().with_max_len(1).for_each(|(chunk, mut d_images, mut d_weight)| {
            with_scratch(|scratch| {
                let bordered = back.as_ref().map_or(0, ImageGradient::bordered);
                let pixels = if wanted[0] { geometry.image() } else { 0 };
                let sizes = [windows.padded(), block.outer(), pixels, bordered];
                let ([padded, memory, pixels, bordered], panels) = scratch.take(sizes);
                padded.fill(0.0);
                bordered.fill(0.0);
                for (number, which) in block.images_of(chunk).enumerate() {
                    let image = self.image(which, memory);
                    for Panel { values, columns, lanes } in panels.place(windows.places.len(), filters) {
                        let row = lanes * geometry.out()[1];
                        let panel = Places { values, first: 0, row, place: lanes, filters: columns };
                        let bordered = back.as_ref().map(|back| back.places(bordered));
                        vectorised(
                            #[inline(always)]
                            || image.route(slopes, panel, bordered),
                        );
                    }
                    let image = &images[which * geometry.image()..][..geometry.image()];
                    if let Some(to) = &mut d_weight {
                        let into = if number == 0 { Into::Replace } else { Into::Add };
                        let (places, elements) = (&windows.places, &windows.window);
                        let image = windows.pad(image, padded);
                        multiply(to, filters, into, panels, image, window, |m| elements[m], |k| places[k]);
                    }
                    if let (Some(back), Some(to)) = (&back, &mut d_images) {
                        back.image(&mut to[number * image.len()..][..image.len()], bordered, pixels);
                    }
                }
            });
        });
        drop((of_images, of_weights));
        let d_weight = wanted[1].then(|| {
            let (sum, rest) = d_weights.split_at_mut(window * filters);
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
            weight
        });
        [wanted[0].then_some(d_images), d_weight]
    }
}
