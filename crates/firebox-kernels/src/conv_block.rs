//! Convolution, batch normalisation, ReLU and 2×2 max pooling as one operation, and its gradients.
//!
//! Inside, channels come last: a place of the convolution's output has its filters side by side, so that all passes go
//! over whole vectors. The batch is cut into a fixed number of chunks, which threads take; each chunk's sums are its own
//! and are put together in the order of the chunks. So results don't depend on the number of threads.

use rayon::prelude::*;

use crate::fused::{Array, Computed, Fused, Pass};
use crate::geometry::{Geometry, Transposed, Windows};
use crate::layout::transpose;
use crate::matrix::Into;
use crate::memory::{Recycled, with_scratch};
use crate::moments::{Moments, observe};
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

/// y = scale · z + shift, by filter.
struct Affine {
    scale: Vec<f32>,
    shift: Vec<f32>,
}

impl ConvBlock {
    /// Images in a chunk; the last one may have fewer.
    fn chunk(&self) -> usize {
        self.batch.div_ceil(CHUNKS).max(1)
    }

    /// Elements of the convolution's output for one image.
    fn inner(&self) -> usize {
        self.filters * self.geometry.places()
    }

    /// Height and width of the output.
    fn out(&self) -> [usize; 2] {
        let [height, width] = self.geometry.out();
        if self.pool { [height / 2, width / 2] } else { [height, width] }
    }

    /// Elements of the output for one image.
    fn outer(&self) -> usize {
        let [height, width] = self.out();
        self.filters * height * width
    }

    fn weight(&self, weight: &[f32]) -> Panels {
        let window = self.geometry.window();
        let mut panels = Panels::default();
        panels.pack(weight, window, self.filters, [1, window]);
        panels
    }

    fn affine(&self, statistics: &[Moments], epsilon: f64, [bias, gamma, beta]: [&[f32]; 3]) -> Affine {
        let (mut scale, mut shift) = (Vec::new(), Vec::new());
        for (filter, moments) in statistics.iter().enumerate() {
            let a = f64::from(gamma[filter]) / (moments.variance() + epsilon).sqrt();
            // The bias moves mean and output alike and is left out of both; where it is no number, so is the output.
            scale.push(a as f32);
            shift.push((f64::from(beta[filter]) - a * moments.mean()) as f32 + 0.0 * bias[filter]);
        }
        Affine { scale, shift }
    }

    /// The convolution's output `[batch, places, filters]`, without its bias, and its statistics.
    fn convolve(&self, images: &[f32], weight: &[f32]) -> Kept {
        let (windows, weight) = (Windows::new(self.geometry), self.weight(weight));
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

    /// Normalisation, ReLU and pooling of one image: `[places, filters]` to `[filters, height, width]`; `memory` has as
    /// many elements.
    fn activate(&self, output: &mut [f32], inner: &[f32], affine: &Affine, memory: &mut [f32]) {
        let filters = self.filters;
        let ([_, width], [out_height, out_width]) = (self.geometry.out(), self.out());
        let (scale, shift) = (&affine.scale[..], &affine.shift[..]);
        vectorised(
            #[inline(always)]
            || {
                if !self.pool {
                    for (to, from) in memory.chunks_exact_mut(filters).zip(inner.chunks_exact(filters)) {
                        let lanes = from.iter().zip(scale).zip(shift);
                        for (to, ((z, scale), shift)) in to.iter_mut().zip(lanes) {
                            *to = rectified(scale * z + shift);
                        }
                    }
                    return;
                }
                for (place, to) in memory.chunks_exact_mut(filters).enumerate() {
                    let window = pooled(inner, place, out_width, width, filters);
                    for (filter, to) in to.iter_mut().enumerate() {
                        let (scale, shift) = (scale[filter], shift[filter]);
                        let [a, b, c, d] = window.map(|z| rectified(scale * z[filter] + shift));
                        *to = larger(larger(a, b), larger(c, d));
                    }
                }
            },
        );
        transpose(memory, output, out_height * out_width, filters);
    }
}

/// The four places of the convolution's output that a place behind the pooling has, each with its filters.
#[inline(always)]
fn pooled(inner: &[f32], place: usize, out_width: usize, width: usize, filters: usize) -> [&[f32]; 4] {
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

    fn forward(&self, [images, weight, bias, gamma, beta]: [&[f32]; 5], _: bool) -> Computed<Option<Kept>> {
        let [height, width] = self.out();
        let mut output = Recycled::new(self.batch * self.outer());
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
                    output: Array::new(output.into_values(), shape),
                    beside: vec![Array::new(statistics, [2, self.filters])],
                    kept: Some(kept),
                }
            }
            Normalisation::Folded => {
                let (windows, weight) = (Windows::new(self.geometry), self.weight(weight));
                let affine = Affine { scale: vec![1.0; self.filters], shift: bias.to_vec() };
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
                Computed { output: Array::new(output.into_values(), shape), beside: vec![], kept: None }
            }
        }
    }

    fn backward(&self, pass: Pass<'_, Option<Kept>, 5>) -> [Option<Vec<f32>>; 5] {
        let Pass { inputs: [images, weight, bias, gamma, beta], kept, gradient, wanted, .. } = pass;
        let (Some(Kept { inner, statistics }), Normalisation::OfBatch(epsilon)) = (kept, self.normalisation)
        else {
            unreachable!("a folded block has no gradient")
        };
        let affine = self.affine(&statistics, epsilon, [bias, gamma, beta]);
        let sums = self.sums(&inner, gradient, &affine, &statistics, epsilon);
        let count = (self.batch * self.geometry.places()) as f64;
        // dz = γ/σ · (dy − Σdy/n − ẑ·Σ(dy·ẑ)/n) = routed·dy + constant + slope·z
        let (mut routed, mut constant, mut slope) = (Vec::new(), Vec::new(), Vec::new());
        for (filter, (moments, [gradients, products])) in statistics.iter().zip(&sums).enumerate() {
            let inverse = 1.0 / (moments.variance() + epsilon).sqrt();
            let factor = f64::from(gamma[filter]) * inverse;
            let steep = -factor * products / count * inverse;
            routed.push(factor as f32);
            slope.push(steep as f32);
            constant.push((-factor * gradients / count - steep * moments.mean()) as f32);
        }
        let backward = Backward { block: self, affine, routed, constant, slope };
        let (images, weight) = backward.products(images, weight, &inner, gradient, wanted[0]);
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

impl ConvBlock {
    /// For each filter: the sum of the gradient behind the normalisation, and of its product with what was normalised.
    fn sums(
        &self,
        inner: &[f32],
        gradient: &[f32],
        affine: &Affine,
        statistics: &[Moments],
        epsilon: f64,
    ) -> Vec<[f64; 2]> {
        let filters = self.filters;
        let ([_, width], [out_height, out_width]) = (self.geometry.out(), self.out());
        let chunk = self.chunk();
        let centers: Vec<f32> = statistics.iter().map(|moments| moments.mean() as f32).collect();
        let mut sums = vec![[0f64; 2]; self.batch.div_ceil(chunk) * filters];
        sums.par_chunks_mut(filters)
            .zip(inner.par_chunks(chunk * self.inner()))
            .zip(gradient.par_chunks((chunk * self.outer()).max(1)))
            .for_each(|((sums, inner), gradient)| {
                with_scratch(|scratch| {
                    let ([dy, gradients, products, _], _) = scratch.take([self.outer(), filters, filters, 0]);
                    let images = inner.chunks_exact(self.inner());
                    for (inner, gradient) in images.zip(gradient.chunks_exact(self.outer().max(1))) {
                        transpose(gradient, dy, filters, out_height * out_width);
                        gradients.fill(0.0);
                        products.fill(0.0);
                        vectorised(
                            #[inline(always)]
                            || {
                                for (place, dy) in dy.chunks_exact(filters).enumerate() {
                                    let window = match self.pool {
                                        true => pooled(inner, place, out_width, width, filters),
                                        false => [&inner[place * filters..][..filters]; 4],
                                    };
                                    self.sum_place(dy, window, affine, &centers, gradients, products);
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
                });
            });
        (0..filters)
            .map(|filter| {
                let chunks = sums.iter().skip(filter).step_by(filters);
                let [gradients, products] =
                    chunks.fold([0.0, 0.0], |all, sums| [all[0] + sums[0], all[1] + sums[1]]);
                // The deviations were from the rounded mean.
                let moments = &statistics[filter];
                let products = products - gradients * (moments.mean() - f64::from(centers[filter]));
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
        centers: &[f32],
        gradients: &mut [f32],
        products: &mut [f32],
    ) {
        let filters = self.filters;
        let (scale, shift) = (&affine.scale[..filters], &affine.shift[..filters]);
        let (centers, dy) = (&centers[..filters], &dy[..filters]);
        let (gradients, products) = (&mut gradients[..filters], &mut products[..filters]);
        let window = window.map(|z| &z[..filters]);
        for filter in 0..filters {
            let value = |z: f32| scale[filter] * z + shift[filter];
            let mut z = window[0][filter];
            let mut largest = value(z);
            for other in [window[1][filter], window[2][filter], window[3][filter]] {
                let (larger, new) = (value(other) > largest, value(other));
                z = if larger { other } else { z };
                largest = if larger { new } else { largest };
            }
            let gradient = if largest > 0.0 { dy[filter] } else { 0.0 };
            gradients[filter] += gradient;
            products[filter] += gradient * (z - centers[filter]);
        }
    }
}

/// The second half of the backward pass.
struct Backward<'a> {
    block: &'a ConvBlock,
    affine: Affine,
    routed: Vec<f32>,
    constant: Vec<f32>,
    slope: Vec<f32>,
}

impl Backward<'_> {
    /// The gradient of one image's convolution, `[places, filters]`, for that of its output, `[out places, filters]`.
    fn unpooled(&self, dz: &mut [f32], inner: &[f32], dy: &[f32]) {
        let filters = self.block.filters;
        let ([_, width], [_, out_width]) = (self.block.geometry.out(), self.block.out());
        let (scale, shift) = (&self.affine.scale[..filters], &self.affine.shift[..filters]);
        let (routed, constant) = (&self.routed[..filters], &self.constant[..filters]);
        let slope = &self.slope[..filters];
        vectorised(
            #[inline(always)]
            || {
                for (dz, z) in dz.chunks_exact_mut(filters).zip(inner.chunks_exact(filters)) {
                    for filter in 0..filters {
                        dz[filter] = constant[filter] + slope[filter] * z[filter];
                    }
                }
                if !self.block.pool {
                    let places = dz.chunks_exact_mut(filters).zip(inner.chunks_exact(filters));
                    for ((dz, z), dy) in places.zip(dy.chunks_exact(filters)) {
                        for filter in 0..filters {
                            let passes = scale[filter] * z[filter] + shift[filter] > 0.0;
                            dz[filter] += if passes { routed[filter] * dy[filter] } else { 0.0 };
                        }
                    }
                    return;
                }
                for (place, dy) in dy.chunks_exact(filters).enumerate() {
                    let window = pooled(inner, place, out_width, width, filters);
                    let first = (place / out_width * 2) * width + place % out_width * 2;
                    let (upper, lower) = dz[first * filters..].split_at_mut(width * filters);
                    let (upper, lower) = (&mut upper[..2 * filters], &mut lower[..2 * filters]);
                    let ((a, b), (c, d)) = (upper.split_at_mut(filters), lower.split_at_mut(filters));
                    for filter in 0..filters {
                        let [z0, z1, z2, z3] = window.map(|z| scale[filter] * z[filter] + shift[filter]);
                        let (mut which, mut largest) = (0, z0);
                        for (number, value) in [(1, z1), (2, z2), (3, z3)] {
                            let larger = value > largest;
                            which = if larger { number } else { which };
                            largest = if larger { value } else { largest };
                        }
                        let gradient = if largest > 0.0 { routed[filter] * dy[filter] } else { 0.0 };
                        let at = |number: i32| if which == number { gradient } else { 0.0 };
                        a[filter] += at(0);
                        b[filter] += at(1);
                        c[filter] += at(2);
                        d[filter] += at(3);
                    }
                }
            },
        );
    }

    /// The gradients of the images, if they are wanted, and of the weight.
    fn products(
        &self,
        images: &[f32],
        weight: &[f32],
        inner: &[f32],
        gradient: &[f32],
        wants_images: bool,
    ) -> (Option<Vec<f32>>, Vec<f32>) {
        let block = self.block;
        let (geometry, filters, chunk) = (block.geometry, block.filters, block.chunk());
        let [out_height, out_width] = block.out();
        let windows = Windows::new(geometry);
        let window = windows.window.len();
        let back = wants_images.then(|| Back::new(geometry, filters, weight));
        let mut images_gradient = vec![0.0; if wants_images { images.len() } else { 0 }];
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
                    let outer = &mut dy[..block.outer()];
                    transpose(gradient, outer, filters, out_height * out_width);
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
        let mut weight = vec![0.0; window * filters];
        transpose(sum, &mut weight, window, filters);
        (wants_images.then_some(images_gradient), weight)
    }
}

/// The place of a chunk's weight gradient, its images, the convolution's output and the output's gradient.
type ChunkInputs<'a> = (((&'a mut [f32], &'a [f32]), &'a [f32]), &'a [f32]);

/// From the convolution's gradient to the image's.
struct Back {
    channels: usize,
    filters: usize,
    transposed: Transposed,
    /// For each class of pixels, (tap, filter) × channel.
    weights: Vec<Panels>,
}

impl Back {
    fn new(geometry: Geometry, filters: usize, weight: &[f32]) -> Self {
        let (channels, kernel) = (geometry.channels, geometry.kernel[0] * geometry.kernel[1]);
        let transposed = Transposed::new(geometry, filters);
        let weights = transposed
            .classes
            .iter()
            .map(|class| {
                let mut turned = Vec::with_capacity(class.kernel.len() * filters * channels);
                for &element in &class.kernel {
                    for filter in 0..filters {
                        turned.extend(
                            (0..channels)
                                .map(|channel| weight[(filter * channels + channel) * kernel + element]),
                        );
                    }
                }
                let mut panels = Panels::default();
                panels.pack(&turned, class.kernel.len() * filters, channels, [channels, 1]);
                panels
            })
            .collect();
        Back { channels, filters, transposed, weights }
    }

    /// The gradient of one image `[channels, height, width]` for that of its convolution `[places, filters]`; `pixels` is
    /// memory of the image's size, `memory` has zeros around where the gradient is put.
    fn image(&self, to: &mut [f32], dz: &[f32], memory: &mut [f32], pixels: &mut [f32]) {
        let gradient = self.transposed.pad(dz, memory);
        let size = to.len() / self.channels;
        for (class, weight) in self.transposed.classes.iter().zip(&self.weights) {
            let (filters, taps) = (self.filters, &class.taps);
            let pixels = &mut pixels[..class.pixels.len() * self.channels];
            multiply(
                pixels,
                self.channels,
                Into::Replace,
                weight,
                gradient,
                class.rows.len(),
                |pixel| class.rows[pixel],
                |k| taps[k / filters] + k % filters,
            );
            if self.transposed.classes.len() == 1 {
                transpose(pixels, to, size, self.channels);
                return;
            }
            for (&pixel, from) in class.pixels.iter().zip(pixels.chunks_exact(self.channels)) {
                for (channel, from) in from.iter().enumerate() {
                    to[channel * size + pixel] = *from;
                }
            }
        }
    }
}
