//! Convolution, batch normalisation, ReLU and 2×2 max pooling as one operation, and its gradients.
//!
//! Inside, channels come last: a place of the convolution's output has its filters side by side, so that all passes go
//! over whole vectors. The batch is cut into a fixed number of chunks, which threads take; each chunk's sums are its own
//! and are put together in the order of the chunks. So results don't depend on the number of threads.

use std::ops::Range;

use rayon::prelude::*;

use crate::convolution::kernel::activation::{Activation, Affine};
use crate::convolution::kernel::backward::Backward;
use crate::convolution::kernel::forward::Forward;
use crate::convolution::kernel::moments::{Moments, observe};
use crate::fused::{Array, Computed, Fused, Order, Pass};
use crate::layout::transpose;
use crate::memory::{Recycled, any, with_scratch};
use crate::simd::vectorised;
use crate::tasks::spread;

mod activation;
mod backward;
mod forward;
mod geometry;
mod gradients;
mod image_gradient;
mod moments;
mod route;
mod winograd;

pub(crate) use geometry::Geometry;

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
    affine: Affine,
    /// What the pooling has chosen, less the filter's center: `[batch, out places, filters]`.
    peaks: Option<Recycled>,
}

impl ConvBlock {
    /// Images in a chunk; the last one may have fewer.
    fn chunk(&self) -> usize {
        self.batch.div_ceil(CHUNKS).max(1)
    }

    fn chunks(&self) -> usize {
        self.batch.div_ceil(self.chunk())
    }

    fn images_of(&self, chunk: usize) -> Range<usize> {
        chunk * self.chunk()..((chunk + 1) * self.chunk()).min(self.batch)
    }

    /// What is done with each image behind the convolution.
    fn activation(&self) -> Activation {
        Activation { size: self.geometry.out(), filters: self.filters, pool: self.pool }
    }

    /// Elements of the convolution's output for one image.
    fn inner(&self) -> usize {
        self.filters * self.geometry.places()
    }

    /// Elements of the output for one image.
    fn outer(&self) -> usize {
        let [height, width] = self.activation().out();
        self.filters * height * width
    }

    /// The convolution's output `[batch, places, filters]`, without its bias, and its statistics.
    fn convolve(&self, images: &[f32], weight: &[f32]) -> (Recycled, Vec<Moments>) {
        let forward = Forward::new(self.geometry, self.filters, weight, self.order, self.batch);
        let mut inner = Recycled::new(self.batch * self.inner());
        let chunk = self.chunk();
        let mut moments = vec![Moments::default(); self.chunks() * self.filters];
        inner
            .par_chunks_mut(chunk * self.inner())
            .zip(images.par_chunks(chunk * self.geometry.image()))
            .zip(moments.par_chunks_mut(self.filters))
            .for_each(|((inner, images), moments)| {
                with_scratch(|scratch| {
                    let [a, b, c, d, e] = forward.sizes();
                    let sizes = [self.filters, self.filters, a, b, c, d, e];
                    let ([sums, centers, memory @ ..], _) = scratch.take(sizes);
                    let mut memory = memory;
                    memory[..2].iter_mut().for_each(|memory| memory.fill(0.0));
                    let images = images.chunks_exact(self.geometry.image());
                    for (inner, image) in inner.chunks_exact_mut(self.inner()).zip(images) {
                        forward.image(inner, image, &mut memory);
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
        (inner, (0..self.filters).map(whole).collect())
    }

    /// What comes behind the convolution of one image: `[places, filters]` to the output in its order; `memory` has as many
    /// elements.
    fn activate(
        &self,
        output: &mut [f32],
        inner: &[f32],
        affine: &Affine,
        memory: &mut [f32],
        peaks: Option<&mut [f32]>,
    ) {
        match self.output_order {
            Order::ChannelsLast => self.activation().forward(output, inner, affine, peaks),
            Order::Contiguous => {
                self.activation().forward(memory, inner, affine, peaks);
                transpose(memory, output, output.len() / self.filters, self.filters);
            }
        }
    }

    /// The whole operation for inference.
    fn folded(&self, output: &mut [f32], images: &[f32], weight: &[f32], bias: &[f32]) {
        let forward = Forward::new(self.geometry, self.filters, weight, self.order, self.batch);
        let affine = Affine::folded(bias);
        output.par_chunks_mut(self.outer().max(1)).zip(images.par_chunks(self.geometry.image())).for_each(
            |(output, image)| {
                with_scratch(|scratch| {
                    let [a, b, c, d, e] = forward.sizes();
                    let sizes = [self.inner(), self.outer(), a, b, c, d, e];
                    let ([inner, behind, memory @ ..], _) = scratch.take(sizes);
                    let mut memory = memory;
                    memory[..2].iter_mut().for_each(|memory| memory.fill(0.0));
                    forward.image(inner, image, &mut memory);
                    self.activate(output, inner, &affine, behind, None);
                });
            },
        );
    }
}

impl Fused<5> for ConvBlock {
    type Kept = Option<Kept>;
    const KEEPS_OUTPUT: bool = false;
    const ANY_ORDER: Option<usize> = Some(0);

    fn set_order(&mut self, order: Order) {
        self.order = order;
    }

    fn forward(
        &self,
        [images, weight, bias, gamma, beta]: [&[f32]; 5],
        tracked: bool,
    ) -> Computed<Option<Kept>> {
        let [height, width] = self.activation().out();
        let mut output = any(self.batch * self.outer());
        let shape = [self.batch, self.filters, height, width];
        let Normalisation::OfBatch(epsilon) = self.normalisation else {
            self.folded(&mut output, images, weight, bias);
            let output = Array::new(output, shape).with_order(self.output_order);
            return Computed { output, beside: vec![], kept: None };
        };
        let (inner, mut statistics) = self.convolve(images, weight);
        // The bias moves mean and output alike and is left out of both; where it is no number, so are variance and output.
        statistics.iter_mut().zip(bias).for_each(|(moments, &bias)| *moments = moments.beside(bias));
        let affine = Affine::of_batch(&statistics, epsilon, [gamma, beta]);
        let mut peaks = (self.pool && tracked).then(|| Recycled::new(output.len()));
        let mut of_images = peaks.as_mut().map(|peaks| peaks.chunks_mut(self.outer().max(1)));
        let tasks: Vec<_> = output
            .chunks_mut(self.outer().max(1))
            .zip(inner.chunks(self.inner()))
            .map(|(output, inner)| (output, inner, of_images.as_mut().and_then(Iterator::next)))
            .collect();
        spread(tasks, |(output, inner, peaks)| {
            with_scratch(|scratch| {
                let ([memory, ..], _) = scratch.take([self.outer(), 0, 0, 0]);
                self.activate(output, inner, &affine, memory, peaks);
            });
        });
        let means = statistics.iter().map(|moments| moments.mean() as f32);
        let beside = means.chain(statistics.iter().map(|moments| moments.variance() as f32)).collect();
        Computed {
            output: Array::new(output, shape).with_order(self.output_order),
            beside: vec![Array::new(beside, [2, self.filters])],
            kept: Some(Kept { inner, statistics, affine, peaks }),
        }
    }

    fn backward(&self, pass: Pass<'_, Option<Kept>, 5>) -> [Option<Vec<f32>>; 5] {
        let Pass { inputs: [images, weight, _, gamma, _], kept, gradient, order, wanted, .. } = pass;
        let (Some(kept), Normalisation::OfBatch(epsilon)) = (kept, self.normalisation) else {
            unreachable!("a folded block has no gradient")
        };
        let backward = Backward { block: self, kept: &kept, epsilon, gradient, order };
        let sums = backward.sums();
        let slopes = backward.slopes(gamma, &sums);
        let [images, weight] = backward.products(&slopes, images, weight, [wanted[0], wanted[1]]);
        let narrow = |which: usize| sums.iter().map(|sums| sums[which] as f32).collect();
        [images, weight, Some(slopes.of_bias()), Some(narrow(1)), Some(narrow(0))]
    }
}
