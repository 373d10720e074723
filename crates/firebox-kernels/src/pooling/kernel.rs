//! Pooling as one operation, and its gradient.
//!
//! A sheet is what all passes go over: `[places, lanes]`, the values of several planes at a place side by
//! side, so that a window is a few vectors. Images whose channels come last are sheets as they are. Of
//! others, some planes at a time are turned into one, whichever images and channels they are of. No sheet
//! knows of another, so that results don't depend on the number of threads.
//!
//! Nothing is saved for the backward pass: to look for a window's maximum again costs less than to write its
//! place down.

use std::ops::Range;

use crate::algebra::layout::transpose;
use crate::algebra::scratch::with_scratch;
use crate::machine::memory::{Recycled, recycled, zeros};
use crate::machine::simd::vectorised;
use crate::machine::tasks::share;
use crate::operation::fused::{Array, Computed, Fused, Order, Pass};
use crate::pooling::settings::PoolSettings;

/// Lanes that are taken at once: a vector of the widest kind, or some of the others.
const LANES: usize = 16;

/// Some lanes of a place.
type Lanes = [f32; LANES];

/// The operation on images `[batch, channels, height, width]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pooling {
    pub(crate) batch: usize,
    pub(crate) channels: usize,
    /// Height and width of the images.
    pub(crate) size: [usize; 2],
    pub(crate) settings: PoolSettings,
    pub(crate) reduction: Reduction,
    /// Of the images, and so of the output.
    pub(crate) order: Order,
}

/// The function that makes one value of a window's.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reduction {
    /// The largest one, or NaN if there is one.
    Max,
    /// Their mean.
    Mean {
        /// Counts the padding among them.
        count_include_pad: bool,
    },
}

/// The part of a window that the image has.
struct Window {
    rows: Range<usize>,
    columns: Range<usize>,
}

impl Fused<1> for Pooling {
    type SavedForBackward = ();
    const KEEPS_OUTPUT: bool = false;
    const ANY_ORDER: Option<usize> = Some(0);

    fn set_order(&mut self, order: Order) {
        self.order = order;
    }

    fn forward(&self, [images]: [&[f32]; 1], _: bool) -> Computed<()> {
        let ([height, width], [places, outs]) = (self.settings.out(self.size), self.places());
        let mut output = recycled(self.planes() * outs);
        let planes = self.planes_of_task();
        let tasks = output.chunks_mut(planes * outs).zip(images.chunks(planes * places));
        share(tasks, self.operations(), |(output, images)| {
            let lanes = images.len() / places;
            if self.order == Order::ChannelsLast {
                return vectorised(
                    #[inline(always)]
                    || self.reduce(output, images, lanes),
                );
            }
            with_scratch(|mut pieces, _| {
                let (sheet, reduced) = (pieces.take(images.len()), pieces.take(output.len()));
                transpose(images, sheet, lanes, places);
                vectorised(
                    #[inline(always)]
                    || self.reduce(reduced, sheet, lanes),
                );
                transpose(reduced, output, outs, lanes);
            });
        });
        let output = Array::new(output, [self.batch, self.channels, height, width]).with_order(self.order);
        Computed { output, beside: vec![], saved: () }
    }

    fn backward(&self, pass: Pass<'_, (), 1>) -> [Option<Vec<f32>>; 1] {
        let Pass { inputs: [images], gradient, order, wanted: [wanted], .. } = pass;
        if !wanted {
            return [None];
        }
        let [places, outs] = self.places();
        let turned = (order != self.order).then(|| self.in_order(gradient, order));
        let gradient = turned.as_deref().unwrap_or(gradient);
        let mut d_images = match self.order {
            Order::ChannelsLast => zeros(images.len()),
            Order::Contiguous => recycled(images.len()),
        };
        let planes = self.planes_of_task();
        let tasks = d_images
            .chunks_mut(planes * places)
            .zip(images.chunks(planes * places))
            .zip(gradient.chunks(planes * outs));
        share(tasks, 2 * self.operations(), |((d_images, images), gradient)| {
            let lanes = images.len() / places;
            if self.order == Order::ChannelsLast {
                return vectorised(
                    #[inline(always)]
                    || self.spread(d_images, images, gradient, lanes),
                );
            }
            with_scratch(|mut pieces, _| {
                let sheet = match self.reduction {
                    Reduction::Max => pieces.take(images.len()),
                    // It doesn't depend on the images.
                    Reduction::Mean { .. } => pieces.take(0),
                };
                if !sheet.is_empty() {
                    transpose(images, sheet, lanes, places);
                }
                let d_sheet = pieces.take_zeros(images.len());
                let d_reduced = pieces.take(gradient.len());
                transpose(gradient, d_reduced, lanes, outs);
                vectorised(
                    #[inline(always)]
                    || self.spread(d_sheet, sheet, d_reduced, lanes),
                );
                transpose(d_sheet, d_images, places, lanes);
            });
        });
        [Some(d_images)]
    }
}

impl Pooling {
    fn planes(&self) -> usize {
        self.batch * self.channels
    }

    /// Planes of a sheet; the last one may have fewer.
    fn planes_of_task(&self) -> usize {
        match self.order {
            Order::ChannelsLast => self.channels,
            Order::Contiguous => LANES,
        }
    }

    /// Places of a plane, before and after.
    fn places(&self) -> [usize; 2] {
        [self.size, self.settings.out(self.size)].map(|[height, width]| height * width)
    }

    /// An element of a window takes about two operations, and to turn a plane about as many an element.
    fn operations(&self) -> usize {
        let ([places, outs], [rows, columns]) = (self.places(), self.settings.kernel_size);
        2 * self.planes() * (places + outs * rows * columns)
    }

    /// A gradient of the output in the order of the images.
    fn in_order(&self, gradient: &[f32], order: Order) -> Recycled {
        let [_, outs] = self.places();
        let [rows, columns] = match order {
            Order::Contiguous => [self.channels, outs],
            Order::ChannelsLast => [outs, self.channels],
        };
        let mut turned = Recycled::new(gradient.len());
        let image = self.channels * outs;
        let tasks = turned.chunks_mut(image).zip(gradient.chunks(image));
        share(tasks, gradient.len(), |(to, from)| transpose(from, to, rows, columns));
        turned
    }

    /// The windows in the order of the output's places.
    #[inline(always)]
    fn windows(&self) -> impl Iterator<Item = Window> + use<> {
        let Pooling { size, settings: PoolSettings { kernel_size, stride, padding }, .. } = *self;
        let [height, width] = self.settings.out(size);
        let within = move |axis: usize, place: usize| {
            // A window begins in the padding, at the earliest, and has a value of the image.
            let first = place * stride[axis];
            let end = (first + kernel_size[axis]).saturating_sub(padding[axis]).min(size[axis]);
            first.saturating_sub(padding[axis])..end
        };
        (0..height * width)
            .map(move |place| Window { rows: within(0, place / width), columns: within(1, place % width) })
    }

    /// A sheet to that of its windows.
    #[inline(always)]
    fn reduce(&self, to: &mut [f32], sheet: &[f32], lanes: usize) {
        for (window, to) in self.windows().zip(to.chunks_exact_mut(lanes)) {
            for first in (0..lanes).step_by(LANES) {
                let width = LANES.min(lanes - first);
                let result = match self.reduction {
                    Reduction::Max => self.largest(sheet, &window, lanes, first).0,
                    Reduction::Mean { .. } => {
                        let mut sum = [0.0; LANES];
                        window.each(
                            self.size,
                            #[inline(always)]
                            |_, place| {
                                let x = read(&sheet[place * lanes + first..], width);
                                (0..LANES).for_each(|lane| sum[lane] += x[lane]);
                            },
                        );
                        let count = self.count(&window);
                        sum.iter_mut().for_each(|sum| *sum /= count);
                        sum
                    }
                };
                write(&mut to[first..], &result, width);
            }
        }
    }

    /// Adds the gradient of a sheet's windows to that of the sheet.
    #[inline(always)]
    fn spread(&self, d_sheet: &mut [f32], sheet: &[f32], gradient: &[f32], lanes: usize) {
        for (window, gradient) in self.windows().zip(gradient.chunks_exact(lanes)) {
            for first in (0..lanes).step_by(LANES) {
                let width = LANES.min(lanes - first);
                let mut dy = read(&gradient[first..], width);
                match self.reduction {
                    Reduction::Max => {
                        let (_, chosen) = self.largest(sheet, &window, lanes, first);
                        window.each(
                            self.size,
                            #[inline(always)]
                            |number, place| {
                                let to = &mut d_sheet[place * lanes + first..];
                                let mut dx = read(to, width);
                                for lane in 0..LANES {
                                    dx[lane] += if chosen[lane] == number { dy[lane] } else { 0.0 };
                                }
                                write(to, &dx, width);
                            },
                        );
                    }
                    Reduction::Mean { .. } => {
                        let count = self.count(&window);
                        dy.iter_mut().for_each(|dy| *dy /= count);
                        window.each(
                            self.size,
                            #[inline(always)]
                            |_, place| {
                                let to = &mut d_sheet[place * lanes + first..];
                                let mut dx = read(to, width);
                                (0..LANES).for_each(|lane| dx[lane] += dy[lane]);
                                write(to, &dx, width);
                            },
                        );
                    }
                }
            }
        }
    }

    /// The largest values of a window, and which of its places has them: the first one, or the last NaN.
    #[inline(always)]
    fn largest(&self, sheet: &[f32], window: &Window, lanes: usize, first: usize) -> (Lanes, [u32; LANES]) {
        let width = LANES.min(lanes - first);
        let (mut largest, mut chosen) = ([f32::NEG_INFINITY; LANES], [0; LANES]);
        window.each(
            self.size,
            #[inline(always)]
            |number, place| {
                let x = read(&sheet[place * lanes + first..], width);
                for lane in 0..LANES {
                    // No lazy or: vectors have none.
                    let larger = (x[lane] > largest[lane]) | x[lane].is_nan();
                    largest[lane] = if larger { x[lane] } else { largest[lane] };
                    chosen[lane] = if larger { number } else { chosen[lane] };
                }
            },
        );
        (largest, chosen)
    }

    /// The number of values that a window's mean is of.
    #[inline(always)]
    fn count(&self, window: &Window) -> f32 {
        let [rows, columns] = match self.reduction {
            Reduction::Mean { count_include_pad: true } => self.settings.kernel_size,
            _ => [window.rows.len(), window.columns.len()],
        };
        (rows * columns) as f32
    }
}

impl Window {
    /// Runs something for each place that the window has, row by row: the place's number, and where it is in
    /// a plane of this size.
    #[inline(always)]
    fn each(&self, [_, width]: [usize; 2], mut run: impl FnMut(u32, usize)) {
        let mut number = 0;
        for row in self.rows.clone() {
            for column in self.columns.clone() {
                run(number, row * width + column);
                number += 1;
            }
        }
    }
}

/// So many lanes of a row; the others are 0.
#[inline(always)]
fn read(row: &[f32], width: usize) -> Lanes {
    match row.first_chunk() {
        Some(lanes) if width == LANES => *lanes,
        _ => {
            let mut lanes = [0.0; LANES];
            lanes[..width].copy_from_slice(&row[..width]);
            lanes
        }
    }
}

#[inline(always)]
fn write(row: &mut [f32], lanes: &Lanes, width: usize) {
    match row.first_chunk_mut() {
        Some(to) if width == LANES => *to = *lanes,
        _ => row[..width].copy_from_slice(&lanes[..width]),
    }
}
