//! A convolution block's backward pass: first the sums that the normalisation needs, then the gradients of
//! weight and images.

use rayon::prelude::*;

use super::block::{ConvBlock, SavedForBackward};
use super::gradients::Gradients;
use super::route::{ImageGradients, Slopes};
use crate::algebra::layout::transpose;
use crate::algebra::scratch::with_scratch;
use crate::machine::memory::{Recycled, recycled};
use crate::machine::simd::vectorised;
use crate::machine::tasks::spread;
use crate::operation::fused::Order;

/// The inputs of the whole backward pass.
pub(super) struct Backward<'a> {
    pub(super) block: &'a ConvBlock,
    pub(super) saved: &'a SavedForBackward,
    /// The number that is added to the variance.
    pub(super) epsilon: f64,
    /// Of the block's output, in its order.
    pub(super) gradient: &'a [f32],
    pub(super) order: Order,
}

impl Backward<'_> {
    /// The forward pass's results for one image; `memory` has as many elements as its output.
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
        let peaks = self.saved.peaks.as_ref().map(|peaks| &peaks[number * outer..][..outer]);
        let z = &self.saved.inner[number * inner..][..inner];
        ImageGradients { activation: block.activation(), affine: &self.saved.affine, z, dy, peaks }
    }

    /// For each filter: the sum of the gradient after the normalisation, and of its product with what was
    /// normalised.
    pub(super) fn sums(&self) -> Vec<[f64; 2]> {
        let Backward { block, saved, .. } = self;
        let filters = block.filters;
        let mut sums = vec![[0f64; 2]; block.chunks() * filters];
        sums.par_chunks_mut(filters).enumerate().for_each(|(chunk, sums)| {
            with_scratch(|mut pieces, _| {
                let memory = pieces.take(block.outer());
                for number in block.images_of(chunk) {
                    let image = self.image(number, memory);
                    image.add_sums(sums);
                }
            });
        });
        (0..filters)
            .map(|filter| {
                let chunks = sums.iter().skip(filter).step_by(filters);
                let [gradients, products] =
                    chunks.fold([0.0, 0.0], |all, sums| [all[0] + sums[0], all[1] + sums[1]]);
                // The deviations were from the rounded mean.
                let moments = &saved.statistics[filter];
                let products =
                    products - gradients * (moments.mean() - f64::from(saved.affine.center[filter]));
                [gradients, products / (moments.variance() + self.epsilon).sqrt()]
            })
            .collect()
    }

    /// dz = γ/σ · (dy − Σdy/n − ẑ·Σ(dy·ẑ)/n) = routed·dy + constant + slope·(z − center)
    pub(super) fn slopes(&self, gamma: &[f32], sums: &[[f64; 2]]) -> Slopes {
        let Backward { block, saved, .. } = self;
        let count = (block.batch * block.geometry.places()) as f64;
        let mut slopes = Slopes::default();
        for (filter, (moments, [gradients, products])) in saved.statistics.iter().zip(sums).enumerate() {
            let inverse = 1.0 / (moments.variance() + self.epsilon).sqrt();
            let factor = f64::from(gamma[filter]) * inverse;
            let steep = -factor * products / count * inverse;
            let rounded = moments.mean() - f64::from(saved.affine.center[filter]);
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
        if wanted == [false, false] {
            return [None, None];
        }
        let block = self.block;
        let (geometry, filters) = (block.geometry, block.filters);
        let gradients = Gradients::new(geometry, filters, weight, block.order, block.batch, wanted);
        let mut d_images = recycled(if wanted[0] { images.len() } else { 0 });
        let mut d_weights = Recycled::new(if wanted[1] { block.chunks() * weight.len() } else { 0 });
        let mut of_images = d_images.chunks_mut(block.chunk() * geometry.image());
        let mut of_weights = d_weights.chunks_mut(weight.len());
        let tasks: Vec<_> =
            (0..block.chunks()).map(|chunk| (chunk, of_images.next(), of_weights.next())).collect();
        spread(tasks, |(chunk, d_images, mut d_weight)| {
            with_scratch(|mut pieces, panels| {
                let memory = pieces.take(block.outer());
                let mut scratch = gradients.scratch(&mut pieces);
                if let Some(to) = &mut d_weight {
                    to.fill(0.0);
                }
                let mut d_images = d_images.map(|to| to.chunks_exact_mut(geometry.image()));
                for number in block.images_of(chunk) {
                    let after = self.image(number, memory);
                    let image = &images[number * geometry.image()..][..geometry.image()];
                    let d_image = d_images.as_mut().and_then(Iterator::next);
                    let to = [d_weight.as_deref_mut(), d_image];
                    gradients.add(image, &after, slopes, to, &mut scratch, panels);
                }
                if let Some(to) = d_weight {
                    gradients.finish(to, &scratch);
                }
            });
        });
        let d_weight = wanted[1].then(|| {
            let (sum, rest) = d_weights.split_at_mut(weight.len());
            vectorised(
                #[inline(always)]
                || {
                    for chunk in rest.chunks_exact(weight.len()) {
                        sum.iter_mut().zip(chunk).for_each(|(sum, x)| *sum += x);
                    }
                },
            );
            let mut turned = recycled(weight.len());
            transpose(sum, &mut turned, geometry.window(), filters);
            turned
        });
        [wanted[0].then_some(d_images), d_weight]
    }
}
