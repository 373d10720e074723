//! Convolution, batch normalisation, ReLU and 2×2 max pooling as one operation, and its gradients.
//!
//! Inside, channels come last: a place of the convolution's output has its filters side by side, so that all passes go
//! over whole vectors. The batch is cut into a fixed number of chunks, which threads take; each chunk's sums are its own
//! and are put together in the order of the chunks. So results don't depend on the number of threads.

use rayon::prelude::*;

use super::geometry::{Class, Geometry, Transposed, Windows};
use crate::convolution::moments::{Moments, observe};
use crate::fused::{Array, Computed, Fused, Order, Pass};
use crate::layout::transpose;
use crate::matrix::Into;
use crate::memory::{Recycled, any, with_scratch, zeros};
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
        let (scale, shift) = (&affine.scale[..], &affine.shift[..]);
        vectorised(
            #[inline(always)]
            || {
                if !self.pool {
                    for (to, from) in output.chunks_exact_mut(filters).zip(inner.chunks_exact(filters)) {
                        let lanes = from.iter().zip(scale).zip(shift);
                        for (to, ((z, scale), shift)) in to.iter_mut().zip(lanes) {
                            *to = rectified(scale * z + shift);
                        }
                    }
                    return;
                }
                for (place, to) in output.chunks_exact_mut(filters).enumerate() {
                    let [z0, z1, z2, z3] = pooled(inner, place, out_width, width, filters);
                    let (scale, shift, to) = (&scale[..filters], &shift[..filters], &mut to[..filters]);
                    for filter in 0..filters {
                        let value = |z: f32| rectified(scale[filter] * z + shift[filter]);
                        let (a, b) = (value(z0[filter]), value(z1[filter]));
                        let (c, d) = (value(z2[filter]), value(z3[filter]));
                        to[filter] = larger(larger(a, b), larger(c, d));
                    }
                }
            },
        );
    }

    /// The gradient of one image's output as `[out places, filters]`; `memory` has as many elements.
    fn last<'a>(&self, gradient: &'a [f32], order: Order, memory: &'a mut [f32]) -> &'a [f32] {
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
fn pooled(inner: &[f32], place: usize, out_width: usize, width: usize, filters: usize) -> [&[f32]; 4] {
    let first = (place / out_width * 2) * width + place % out_width * 2;
    [first, first + 1, first + width, first + width + 1].map(|place| &inner[place * filters..][..filters])
}

/// Filters that are computed side by side, as a vector of the widest kind has them. They are taken out of their slices
/// first: that the places of the results are none of the operands is beyond what the compiler would check.
const LANES: usize = 16;

#[inline(always)]
fn lanes<const L: usize>(values: &[f32], at: usize) -> [f32; L] {
    let values = &values[at..at + L];
    std::array::from_fn(|l| values[l])
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

impl ConvBlock {
    /// For each filter: the sum of the gradient behind the normalisation, and of its product with what was normalised.
    fn sums(
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
                        let dy = self.last(gradient, order, dy);
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
                        for ((dz, z), (constant, slope)) in
                            dz.iter_mut().zip(z).zip(self.constant.iter().zip(&self.slope))
                        {
                            *dz = constant + slope * z;
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
        let [z, dy] = [z, dy].map(|values| lanes::<L>(values, at));
        let (scale, shift) = (lanes::<L>(&self.affine.scale, at), lanes::<L>(&self.affine.shift, at));
        let [routed, constant, slope] =
            [&self.routed, &self.constant, &self.slope].map(|x| lanes::<L>(x, at));
        let new: [f32; L] = std::array::from_fn(|l| {
            let passes = scale[l] * z[l] + shift[l] > 0.0;
            let gradient = if passes { routed[l] * dy[l] } else { 0.0 };
            constant[l] + slope[l] * z[l] + gradient
        });
        dz[at..at + L].copy_from_slice(&new);
    }

    /// `L` filters of the four places of a window, from filter `at`: the gradient goes to the first of the largest values.
    /// A value that is no number is only chosen if it comes first.
    #[inline(always)]
    fn routed<const L: usize>(&self, at: usize, dz: &mut [&mut [f32]; 4], z: [&[f32]; 4], dy: &[f32]) {
        let (z, dy) = (z.map(|z| lanes::<L>(z, at)), lanes::<L>(dy, at));
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

    /// The gradients of the images, if they are wanted, and of the weight.
    fn products(
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
        let back = wants_images.then(|| Back::new(geometry, filters, weight, block.order));
        let mut images_gradient = zeros(if wants_images { images.len() } else { 0 });
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

/// From the convolution's gradient to the image's.
struct Back {
    /// Of the image.
    order: Order,
    channels: usize,
    filters: usize,
    transposed: Transposed,
    /// For each class of pixels, (tap, filter) × channel.
    weights: Vec<Panels>,
}

impl Back {
    fn new(geometry: Geometry, filters: usize, weight: &[f32], order: Order) -> Self {
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
        Back { order, channels, filters, transposed, weights }
    }

    /// The gradient of one image, in its order, for that of its convolution `[places, filters]`; `pixels` is memory of the
    /// image's size, `memory` has zeros around where the gradient is put.
    fn image(&self, to: &mut [f32], dz: &[f32], memory: &mut [f32], pixels: &mut [f32]) {
        let gradient = self.transposed.pad(dz, memory);
        let (channels, size) = (self.channels, to.len() / self.channels);
        if let ([class], [weight]) = (&self.transposed.classes[..], &self.weights[..]) {
            match self.order {
                Order::ChannelsLast => self.pixels(to, class, weight, gradient),
                Order::Contiguous => {
                    self.pixels(pixels, class, weight, gradient);
                    transpose(pixels, to, size, channels);
                }
            }
            return;
        }
        for (class, weight) in self.transposed.classes.iter().zip(&self.weights) {
            self.pixels(pixels, class, weight, gradient);
            for (&pixel, from) in class.pixels.iter().zip(pixels.chunks_exact(channels)) {
                match self.order {
                    Order::ChannelsLast => to[pixel * channels..][..channels].copy_from_slice(from),
                    Order::Contiguous => {
                        from.iter()
                            .enumerate()
                            .for_each(|(channel, from)| to[channel * size + pixel] = *from);
                    }
                }
            }
        }
    }

    /// The gradients of a class of pixels, each with its channels.
    fn pixels(&self, to: &mut [f32], class: &Class, weight: &Panels, gradient: &[f32]) {
        let (filters, taps) = (self.filters, &class.taps);
        multiply(
            to,
            self.channels,
            Into::Replace,
            weight,
            gradient,
            class.rows.len(),
            |pixel| class.rows[pixel],
            |k| taps[k / filters] + k % filters,
        );
    }
}
