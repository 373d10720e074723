//! The way of the gradient through pooling, ReLU and normalisation of one image.

#![allow(clippy::needless_range_loop, reason = "loops of this form become vectors")]

use std::ops::Range;

use super::activation::{Activation, Affine, NOWHERE};
use super::lanes::{by_lanes, lanes, store};
use super::moments::ROWS;

/// Of one image, `[places, filters]` and `[out places, filters]`.
pub(super) struct ImageGradients<'a> {
    pub(super) activation: Activation,
    pub(super) affine: &'a Affine,
    /// The convolution's output.
    pub(super) z: &'a [f32],
    /// The gradient of the block's output.
    pub(super) dy: &'a [f32],
    /// What the pooling has chosen in each window, if there is any: where, and what is there.
    pub(super) routes: Option<(&'a [u8], &'a [f32])>,
}

/// From the gradient dy of the block's output to that of the convolution, by filter: constant + slope · (z − center),
/// and routed · dy where the activation lets it through.
#[derive(Debug, Default)]
pub(super) struct Slopes {
    pub(super) routed: Vec<f32>,
    pub(super) constant: Vec<f32>,
    pub(super) slope: Vec<f32>,
}

/// Memory for some of the filters of all places: those of place (y, x) begin at `first + y · row + x · place`.
pub(super) struct Places<'a> {
    pub(super) values: &'a mut [f32],
    pub(super) first: usize,
    pub(super) row: usize,
    pub(super) place: usize,
    pub(super) filters: Range<usize>,
}

impl Places<'_> {
    #[inline(always)]
    fn store<const L: usize>(&mut self, [y, x]: [usize; 2], filter: usize, values: [f32; L]) {
        let at = self.first + y * self.row + x * self.place + filter - self.filters.start;
        store(values, self.values, at);
    }
}

impl ImageGradients<'_> {
    /// Adds to the sums of each filter: the gradient behind the normalisation, and its product with what was normalised,
    /// less its center.
    #[inline(always)]
    pub(super) fn add_sums(&self, sums: &mut [[f64; 2]]) {
        let filters = sums.len();
        let all = self.dy.len() / filters;
        for first in (0..all).step_by(ROWS) {
            let places = first..(first + ROWS).min(all);
            by_lanes!(0..filters, filter, L, self.add_sums_of::<L>(sums, places.clone(), filter));
        }
    }

    #[inline(always)]
    fn add_sums_of<const L: usize>(&self, sums: &mut [[f64; 2]], places: Range<usize>, filter: usize) {
        let filters = self.activation.filters;
        let affine = self.affine.lanes::<L>(filter);
        let (mut gradients, mut products) = ([0f32; L], [0f32; L]);
        for place in places {
            let at = place * filters + filter;
            let mut gradient = lanes::<_, L>(self.dy, at);
            let z = match self.routes {
                Some((routes, peaks)) => {
                    let routes = lanes::<_, L>(routes, at);
                    for l in 0..L {
                        gradient[l] = if routes[l] == NOWHERE { 0.0 } else { gradient[l] };
                    }
                    lanes(peaks, at)
                }
                None => {
                    let z = affine.centered(lanes(self.z, at));
                    gradient = affine.passed(gradient, z);
                    z
                }
            };
            for l in 0..L {
                gradients[l] += gradient[l];
                products[l] += gradient[l] * z[l];
            }
        }
        for l in 0..L {
            let sums = &mut sums[filter + l];
            sums[0] += f64::from(gradients[l]);
            sums[1] += f64::from(products[l]);
        }
    }

    /// Writes the convolution's gradient, the filters of `to`, into it and into what is beside it, which has all filters.
    #[inline(always)]
    pub(super) fn route(&self, slopes: &Slopes, mut to: Places<'_>, mut beside: Option<Places<'_>>) {
        let filters = to.filters.clone();
        let Activation { size: [height, width], .. } = self.activation;
        let Some((routes, _)) = self.routes else {
            for y in 0..height {
                for x in 0..width {
                    by_lanes!(filters.clone(), filter, L, {
                        let at = (y * width + x) * self.activation.filters + filter;
                        let affine = self.affine.lanes::<L>(filter);
                        let z = affine.centered(lanes(self.z, at));
                        let gradient = affine.passed(slopes.routed(filter, lanes::<_, L>(self.dy, at)), z);
                        self.put([y, x], slopes, filter, gradient, &mut to, &mut beside);
                    });
                }
            }
            return;
        };
        let [out_height, out_width] = self.activation.out();
        for y in 0..out_height {
            for x in 0..out_width {
                by_lanes!(filters.clone(), filter, L, {
                    let at = (y * out_width + x) * self.activation.filters + filter;
                    let gradient = slopes.routed(filter, lanes::<_, L>(self.dy, at));
                    let route = lanes::<_, L>(routes, at);
                    for (number, place) in WINDOW.into_iter().enumerate() {
                        let place = [2 * y + place[0], 2 * x + place[1]];
                        let mut here = [0.0; L];
                        for l in 0..L {
                            here[l] = if route[l] == number as u8 { gradient[l] } else { 0.0 };
                        }
                        self.put(place, slopes, filter, here, &mut to, &mut beside);
                    }
                });
            }
        }
        if [2 * out_height, 2 * out_width] == [height, width] {
            return;
        }
        for y in 0..height {
            for x in 0..width {
                // No window covers these.
                if y >= 2 * out_height || x >= 2 * out_width {
                    by_lanes!(filters.clone(), filter, L, {
                        self.put([y, x], slopes, filter, [0.0; L], &mut to, &mut beside);
                    });
                }
            }
        }
    }

    /// constant + slope · (z − center) + gradient
    #[inline(always)]
    fn put<const L: usize>(
        &self,
        place: [usize; 2],
        slopes: &Slopes,
        filter: usize,
        gradient: [f32; L],
        to: &mut Places<'_>,
        beside: &mut Option<Places<'_>>,
    ) {
        let at = (place[0] * self.activation.size[1] + place[1]) * self.activation.filters + filter;
        let z = self.affine.lanes::<L>(filter).centered(lanes(self.z, at));
        let (constant, slope) =
            (lanes::<_, L>(&slopes.constant, filter), lanes::<_, L>(&slopes.slope, filter));
        let mut dz = [0.0; L];
        for l in 0..L {
            dz[l] = constant[l] + slope[l] * z[l] + gradient[l];
        }
        to.store(place, filter, dz);
        if let Some(beside) = beside {
            beside.store(place, filter, dz);
        }
    }
}

/// The places of a window, in the order in which one of equal values is chosen.
const WINDOW: [[usize; 2]; 4] = [[0, 0], [0, 1], [1, 0], [1, 1]];

impl Slopes {
    #[inline(always)]
    fn routed<const L: usize>(&self, filter: usize, dy: [f32; L]) -> [f32; L] {
        let (routed, mut gradient) = (lanes::<_, L>(&self.routed, filter), dy);
        for l in 0..L {
            gradient[l] *= routed[l];
        }
        gradient
    }
}
