//! Convolution, batch normalisation, ReLU and 2×2 max pooling as one operation, and its gradients.
//!
//! Inside, channels come last: a place of the convolution's output has its filters side by side, so that all
//! passes go over whole vectors. The batch is cut into a fixed number of chunks, which threads take; each
//! chunk's sums are its own and are put together in the order of the chunks. So results don't depend on the
//! number of threads.

use rayon::prelude::*;

use crate::algebra::layout::transpose;
use crate::algebra::scratch::with_scratch;
use crate::convolution::kernel::activation::Affine;
use crate::convolution::kernel::backward::Backward;
use crate::convolution::kernel::block::SavedForBackward;
use crate::convolution::kernel::forward::Forward;
use crate::convolution::kernel::moments::{Moments, observe};
use crate::machine::memory::{Recycled, recycled};
use crate::machine::simd::vectorised;
use crate::machine::tasks::spread;
use crate::operation::fused::{Array, Computed, Fused, Order, Pass};

mod activation;
mod backward;
mod block;
mod forward;
mod geometry;
mod gradients;
mod image_gradient;
mod moments;
mod route;
mod winograd;

pub(crate) use block::{ConvBlock, Normalisation};
pub(crate) use geometry::Geometry;

impl ConvBlock {
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
                with_scratch(|mut pieces, _| {
                    let [sums, centers] = [(); 2].map(|()| pieces.take(self.filters));
                    let mut scratch = forward.scratch(&mut pieces);
                    let images = images.chunks_exact(self.geometry.image());
                    for (inner, image) in inner.chunks_exact_mut(self.inner()).zip(images) {
                        forward.image(inner, image, &mut scratch);
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

    /// Takes the convolution of one image, `[places, filters]`, to the output in its order.
    ///
    /// `memory` has as many elements as that.
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
                with_scratch(|mut pieces, _| {
                    let (inner, behind) = (pieces.take(self.inner()), pieces.take(self.outer()));
                    let mut scratch = forward.scratch(&mut pieces);
                    forward.image(inner, image, &mut scratch);
                    self.activate(output, inner, &affine, behind, None);
                });
            },
        );
    }
}

impl Fused<5> for ConvBlock {
    type SavedForBackward = Option<SavedForBackward>;
    const KEEPS_OUTPUT: bool = false;
    const ANY_ORDER: Option<usize> = Some(0);

    fn set_order(&mut self, order: Order) {
        self.order = order;
    }

    fn forward(
        &self,
        [images, weight, bias, gamma, beta]: [&[f32]; 5],
        tracked: bool,
    ) -> Computed<Option<SavedForBackward>> {
        let [height, width] = self.activation().out();
        let mut output = recycled(self.batch * self.outer());
        let shape = [self.batch, self.filters, height, width];
        let Normalisation::OfBatch(epsilon) = self.normalisation else {
            self.folded(&mut output, images, weight, bias);
            let output = Array::new(output, shape).with_order(self.output_order);
            return Computed { output, beside: vec![], saved: None };
        };
        let (inner, mut statistics) = self.convolve(images, weight);
        // The bias moves mean and output alike and is left out of both; where it is NaN, so are variance and
        // output.
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
            with_scratch(|mut pieces, _| {
                let memory = pieces.take(self.outer());
                self.activate(output, inner, &affine, memory, peaks);
            });
        });
        let means = statistics.iter().map(|moments| moments.mean() as f32);
        let beside = means.chain(statistics.iter().map(|moments| moments.variance() as f32)).collect();
        Computed {
            output: Array::new(output, shape).with_order(self.output_order),
            beside: vec![Array::new(beside, [2, self.filters])],
            saved: Some(SavedForBackward { inner, statistics, affine, peaks }),
        }
    }

    fn backward(&self, pass: Pass<'_, Option<SavedForBackward>, 5>) -> [Option<Vec<f32>>; 5] {
        let Pass { inputs: [images, weight, _, gamma, _], saved, gradient, order, wanted, .. } = pass;
        let (Some(saved), Normalisation::OfBatch(epsilon)) = (saved, self.normalisation) else {
            unreachable!("a folded block has no gradient")
        };
        let backward = Backward { block: self, saved: &saved, epsilon, gradient, order };
        let sums = backward.sums();
        let slopes = backward.slopes(gamma, &sums);
        let [images, weight] = backward.products(&slopes, images, weight, [wanted[0], wanted[1]]);
        let narrow = |which: usize| sums.iter().map(|sums| sums[which] as f32).collect();
        [images, weight, Some(slopes.of_bias()), Some(narrow(1)), Some(narrow(0))]
    }
}
