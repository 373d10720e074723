//! Convolution, batch normalisation, ReLU and 2×2 max pooling as one operation, and its gradients.
//!
//! The batch is cut into a fixed number of chunks, which threads take; each chunk's sums are its own and are put together
//! in the order of the chunks. So results don't depend on the number of threads.

use std::cell::RefCell;

use rayon::prelude::*;

use crate::columns::Geometry;
use crate::matrix::{Into, Matrix, product};

/// Into how many chunks a batch is cut, if it is that large.
const CHUNKS: usize = 16;

/// The sizes of the operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) batch: usize,
    pub(crate) filters: usize,
    pub(crate) geometry: Geometry,
    /// Whether 2×2 max pooling follows.
    pub(crate) pool: bool,
}

impl Shape {
    /// Images in a chunk; the last one may have fewer.
    fn chunk(&self) -> usize {
        self.batch.div_ceil(CHUNKS).max(1)
    }

    /// Elements of the convolution's output for one image.
    fn inner(&self) -> usize {
        self.filters * self.geometry.places()
    }

    /// Height and width of the output.
    pub(crate) fn out(&self) -> [usize; 2] {
        let [height, width] = self.geometry.out();
        if self.pool { [height / 2, width / 2] } else { [height, width] }
    }

    fn outer(&self) -> usize {
        let [height, width] = self.out();
        self.filters * height * width
    }
}

/// The parameters.
#[derive(Clone, Copy)]
pub(crate) struct Parameters<'a> {
    /// `[filters, window]`
    pub(crate) weight: &'a [f32],
    /// `[filters]`, as all that follow.
    pub(crate) bias: &'a [f32],
    pub(crate) gamma: &'a [f32],
    pub(crate) beta: &'a [f32],
    pub(crate) epsilon: f64,
}

/// The batch's statistics of the convolution's output, without its bias, by filter.
#[derive(Clone, Debug)]
pub(crate) struct Statistics {
    pub(crate) mean: Vec<f64>,
    /// Biased.
    pub(crate) variance: Vec<f64>,
}

/// y = scale · z + shift, by filter.
struct Affine {
    scale: Vec<f32>,
    shift: Vec<f32>,
}

impl Statistics {
    fn affine(&self, parameters: &Parameters<'_>) -> Affine {
        let (mut scale, mut shift) = (Vec::new(), Vec::new());
        for filter in 0..self.mean.len() {
            let a = f64::from(parameters.gamma[filter]) / (self.variance[filter] + parameters.epsilon).sqrt();
            // The bias moves mean and output alike and is left out of both; where it is no number, so is the output.
            let bias = parameters.bias[filter];
            scale.push(a as f32);
            shift.push((f64::from(parameters.beta[filter]) - a * self.mean[filter]) as f32 + 0.0 * bias);
        }
        Affine { scale, shift }
    }
}

thread_local! {
    /// Memory of a thread: columns, and their gradient or that of the convolution's output.
    static SCRATCH: RefCell<[Vec<f32>; 3]> = const { RefCell::new([Vec::new(), Vec::new(), Vec::new()]) };
}

fn scratch<R>(sizes: [usize; 3], work: impl FnOnce([&mut [f32]; 3]) -> R) -> R {
    SCRATCH.with_borrow_mut(|kept| {
        for (memory, size) in kept.iter_mut().zip(sizes) {
            if memory.len() < size {
                memory.resize(size, 0.0);
            }
        }
        let [a, b, c] = kept;
        work([&mut a[..sizes[0]], &mut b[..sizes[1]], &mut c[..sizes[2]]])
    })
}

/// Count, mean and sum of squared deviations of some values.
#[derive(Clone, Copy, Default)]
struct Moments {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Moments {
    fn of(values: &[f32]) -> Self {
        let count = values.len() as f64;
        let mean = f64::from(sum(values, |x| x)) / count;
        let center = mean as f32;
        let squares = f64::from(sum(values, |x| (x - center) * (x - center)));
        // What rounding the mean has moved.
        Moments { count, mean, squares: squares - count * (mean - f64::from(center)).powi(2) }
    }

    /// Of both together (Chan, Golub, LeVeque 1979).
    fn with(self, other: Moments) -> Self {
        if self.count == 0.0 {
            return other;
        }
        let count = self.count + other.count;
        let apart = other.mean - self.mean;
        Moments {
            count,
            mean: self.mean + apart * other.count / count,
            squares: self.squares + other.squares + apart * apart * self.count * other.count / count,
        }
    }
}

/// A sum in 16 lanes, which the compiler makes vectors of.
fn sum(values: &[f32], of: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0f32; 16];
    let chunks = values.chunks_exact(16);
    let rest: f32 = chunks.remainder().iter().map(|&x| of(x)).sum();
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane += of(x);
        }
    }
    lanes.iter().sum::<f32>() + rest
}

/// The convolution's output `[batch, filters, places]`, without its bias, and its statistics.
pub(crate) fn convolve(shape: &Shape, images: &[f32], weight: &[f32]) -> (Vec<f32>, Statistics) {
    let (geometry, places) = (&shape.geometry, shape.geometry.places());
    let mut output = vec![0.0; shape.batch * shape.inner()];
    let chunk = shape.chunk();
    let chunks = shape.batch.div_ceil(chunk);
    let mut moments = vec![Moments::default(); chunks * shape.filters];
    let weight = Matrix::new(weight, shape.filters, geometry.window());
    output
        .par_chunks_mut(chunk * shape.inner())
        .zip(images.par_chunks(chunk * geometry.image()))
        .zip(moments.par_chunks_mut(shape.filters))
        .for_each(|((output, images), moments)| {
            scratch([geometry.window() * places, 0, 0], |[columns, ..]| {
                for (output, image) in
                    output.chunks_exact_mut(shape.inner()).zip(images.chunks_exact(geometry.image()))
                {
                    geometry.spread(image, columns);
                    let columns = Matrix::new(columns, geometry.window(), places);
                    product(output, Into::Replace, weight, columns);
                    for (moments, values) in moments.iter_mut().zip(output.chunks_exact(places)) {
                        *moments = moments.with(Moments::of(values));
                    }
                }
            });
        });
    let whole = |filter: usize| {
        let chunks = moments.iter().skip(filter).step_by(shape.filters);
        chunks.fold(Moments::default(), |all, &chunk| all.with(chunk))
    };
    let whole: Vec<Moments> = (0..shape.filters).map(whole).collect();
    let mean = whole.iter().map(|moments| moments.mean).collect();
    let variance = whole.iter().map(|moments| moments.squares / moments.count).collect();
    (output, Statistics { mean, variance })
}

/// Normalisation, ReLU and pooling of the convolution's output: `[batch, filters, height, width]`.
pub(crate) fn activate(
    shape: &Shape,
    inner: &[f32],
    statistics: &Statistics,
    parameters: &Parameters<'_>,
) -> Vec<f32> {
    let affine = statistics.affine(parameters);
    let (chunk, places) = (shape.chunk(), shape.geometry.places());
    let [_, width] = shape.geometry.out();
    let [out_height, out_width] = shape.out();
    let mut output = vec![0.0; shape.batch * shape.outer()];
    output
        .par_chunks_mut((chunk * shape.outer()).max(1))
        .zip(inner.par_chunks(chunk * shape.inner()))
        .for_each(|(output, inner)| {
            let planes =
                output.chunks_exact_mut((out_height * out_width).max(1)).zip(inner.chunks_exact(places));
            for (plane, (output, inner)) in planes.enumerate() {
                let (scale, shift) =
                    (affine.scale[plane % shape.filters], affine.shift[plane % shape.filters]);
                if !shape.pool {
                    for (y, &z) in output.iter_mut().zip(inner) {
                        *y = rectified(scale * z + shift);
                    }
                    continue;
                }
                for (y, row) in output.chunks_exact_mut(out_width).enumerate() {
                    let (upper, lower) =
                        (&inner[2 * y * width..][..width], &inner[(2 * y + 1) * width..][..width]);
                    let windows = upper.chunks_exact(2).zip(lower.chunks_exact(2));
                    for (y, (upper, lower)) in row.iter_mut().zip(windows) {
                        let value = |z: f32| rectified(scale * z + shift);
                        *y = larger(
                            larger(value(upper[0]), value(upper[1])),
                            larger(value(lower[0]), value(lower[1])),
                        );
                    }
                }
            }
        });
    output
}

/// max(0, x); what is no number stays none.
fn rectified(x: f32) -> f32 {
    if x <= 0.0 { 0.0 } else { x }
}

/// The larger one; what is no number wins.
fn larger(a: f32, b: f32) -> f32 {
    if a >= b || a.is_nan() { a } else { b }
}

/// What the backward pass computes.
pub(crate) struct Gradients {
    /// `[batch, channels, height, width]`, if asked for.
    pub(crate) images: Option<Vec<f32>>,
    pub(crate) weight: Vec<f32>,
    pub(crate) gamma: Vec<f32>,
    pub(crate) beta: Vec<f32>,
}

/// A pass over the places where the gradient goes through ReLU and pooling.
struct Route<'a> {
    shape: &'a Shape,
    affine: &'a Affine,
}

impl Route<'_> {
    /// Calls `each` with the place in the plane and its gradient, for those whose gradient isn't blocked.
    #[inline(always)]
    fn plane(&self, filter: usize, inner: &[f32], gradient: &[f32], mut each: impl FnMut(usize, f32)) {
        let (scale, shift) = (self.affine.scale[filter], self.affine.shift[filter]);
        if !self.shape.pool {
            for (place, (&z, &gradient)) in inner.iter().zip(gradient).enumerate() {
                if scale * z + shift > 0.0 {
                    each(place, gradient);
                }
            }
            return;
        }
        let [_, width] = self.shape.geometry.out();
        let [_, out_width] = self.shape.out();
        for (y, gradients) in gradient.chunks_exact(out_width).enumerate() {
            let start = 2 * y * width;
            for (x, &gradient) in gradients.iter().enumerate() {
                let first = start + 2 * x;
                let places = [first, first + 1, first + width, first + width + 1];
                let value = |place: usize| scale * inner[place] + shift;
                let (mut place, mut largest) = (places[0], value(places[0]));
                for &other in &places[1..] {
                    let value = value(other);
                    if value > largest {
                        (place, largest) = (other, value);
                    }
                }
                if largest > 0.0 {
                    each(place, gradient);
                }
            }
        }
    }
}

/// The place of a chunk's weight gradient, its images, the convolution's output and the output's gradient.
type ChunkInputs<'a> = (((&'a mut [f32], &'a [f32]), &'a [f32]), &'a [f32]);

/// The gradients of all inputs for that of the output.
pub(crate) fn backward(
    shape: &Shape,
    images: &[f32],
    inner: &[f32],
    statistics: &Statistics,
    parameters: &Parameters<'_>,
    gradient: &[f32],
    wants_images: bool,
) -> Gradients {
    let (geometry, places, filters) = (&shape.geometry, shape.geometry.places(), shape.filters);
    let affine = statistics.affine(parameters);
    let route = Route { shape, affine: &affine };
    let [out_height, out_width] = shape.out();
    let out_plane = (out_height * out_width).max(1);
    let chunk = shape.chunk();
    let chunks = shape.batch.div_ceil(chunk);
    let inverse: Vec<f64> =
        statistics.variance.iter().map(|v| 1.0 / (v + parameters.epsilon).sqrt()).collect();

    // For each chunk and filter: the sum of the gradient behind the normalisation, and of its product with what was
    // normalised.
    let mut sums = vec![[0f64; 2]; chunks * filters];
    sums.par_chunks_mut(filters)
        .zip(inner.par_chunks(chunk * shape.inner()))
        .zip(gradient.par_chunks((chunk * shape.outer()).max(1)))
        .for_each(|((sums, inner), gradient)| {
            for (plane, (inner, gradient)) in
                inner.chunks_exact(places).zip(gradient.chunks_exact(out_plane)).enumerate()
            {
                let filter = plane % filters;
                let (mut plain, mut product) = (0f32, 0f32);
                let center = statistics.mean[filter] as f32;
                route.plane(filter, inner, gradient, |place, gradient| {
                    plain += gradient;
                    product += gradient * (inner[place] - center);
                });
                sums[filter][0] += f64::from(plain);
                sums[filter][1] += f64::from(product) * inverse[filter];
            }
        });
    let total = |filter: usize, which: usize| -> f64 {
        sums.iter().skip(filter).step_by(filters).map(|sums| sums[which]).sum()
    };
    let beta: Vec<f64> = (0..filters).map(|filter| total(filter, 0)).collect();
    let gamma: Vec<f64> = (0..filters).map(|filter| total(filter, 1)).collect();

    // dz = γ/σ · (dy − Σdy/n − ẑ·Σ(dy·ẑ)/n) = routed·dy + constant + slope·z
    let count = (shape.batch * places) as f64;
    let coefficients: Vec<[f32; 3]> = (0..filters)
        .map(|filter| {
            let routed = f64::from(parameters.gamma[filter]) * inverse[filter];
            let slope = -routed * gamma[filter] / count * inverse[filter];
            let constant = -routed * beta[filter] / count - slope * statistics.mean[filter];
            [routed as f32, constant as f32, slope as f32]
        })
        .collect();
    let mut images_gradient = vec![0.0; if wants_images { images.len() } else { 0 }];
    let mut weights = vec![0.0; chunks * filters * geometry.window()];
    let weight = Matrix::new(parameters.weight, filters, geometry.window()).transposed();
    let work = |(((weights, images), inner), gradient): ChunkInputs<'_>, mut to: Option<&mut [f32]>| {
        let spread = geometry.window() * places;
        scratch([spread, shape.inner(), if wants_images { spread } else { 0 }], |[columns, dz, dcolumns]| {
            let each = images
                .chunks_exact(geometry.image())
                .zip(inner.chunks_exact(shape.inner()))
                .zip(gradient.chunks_exact(shape.outer().max(1)));
            for (number, ((image, inner), gradient)) in each.enumerate() {
                let planes = dz
                    .chunks_exact_mut(places)
                    .zip(inner.chunks_exact(places))
                    .zip(gradient.chunks_exact(out_plane));
                for (filter, ((dz, inner), gradient)) in planes.enumerate() {
                    let [routed, constant, slope] = coefficients[filter];
                    dz.iter_mut().zip(inner).for_each(|(dz, z)| *dz = constant + slope * z);
                    route.plane(filter, inner, gradient, |place, gradient| dz[place] += routed * gradient);
                }
                geometry.spread(image, columns);
                let dz = Matrix::new(dz, filters, places);
                let columns = Matrix::new(columns, geometry.window(), places);
                product(weights, Into::Add, dz, columns.transposed());
                if let Some(to) = &mut to {
                    product(dcolumns, Into::Replace, weight, dz);
                    geometry.gather(dcolumns, &mut to[number * geometry.image()..][..geometry.image()]);
                }
            }
        });
    };
    let inputs = weights
        .par_chunks_mut(filters * geometry.window())
        .zip(images.par_chunks(chunk * geometry.image()))
        .zip(inner.par_chunks(chunk * shape.inner()))
        .zip(gradient.par_chunks((chunk * shape.outer()).max(1)));
    match wants_images {
        false => inputs.for_each(|inputs| work(inputs, None)),
        true => inputs
            .zip(images_gradient.par_chunks_mut(chunk * geometry.image()))
            .for_each(|(inputs, to)| work(inputs, Some(to))),
    }
    let (first, rest) = weights.split_at(filters * geometry.window());
    let mut weight = first.to_vec();
    for chunk in rest.chunks_exact(weight.len()) {
        weight.iter_mut().zip(chunk).for_each(|(sum, x)| *sum += x);
    }
    let narrow = |values: Vec<f64>| values.into_iter().map(|x| x as f32).collect();
    Gradients {
        images: wants_images.then_some(images_gradient),
        weight,
        gamma: narrow(gamma),
        beta: narrow(beta),
    }
}
