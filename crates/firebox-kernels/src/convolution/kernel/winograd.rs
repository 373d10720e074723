//! Convolutions of 3×3 with a step of 1 by fewer multiplications: F(2×2, 3×3) of Winograd (1980), as Lavin
//! and Gray (2016, arXiv:1509.09308) have it for networks.
//!
//! A tile of 2×2 outputs, which looks at 4×4 inputs, takes 16 products a pair of channels instead of 36: with
//! Bᵀ·d·B of the inputs, G·g·Gᵀ of the weight and Aᵀ·m·A of their products, where
//!
//! ```text
//!      ⎡1  0 −1  0⎤      ⎡1   0  0⎤        ⎡1  1  1  0⎤
//! Bᵀ = ⎢0  1  1  0⎥  G = ⎢½   ½  ½⎥   Aᵀ = ⎣0  1 −1  1⎦
//!      ⎢0 −1  1  0⎥      ⎢½  −½  ½⎥
//!      ⎣0 −1  0  1⎦      ⎣0   0  1⎦
//! ```
//!
//! An output is a sum over its own window only, as it is without, but one whose terms can be larger than the
//! result: NaN and what is infinite would spread, and one huge value takes digits from the sums of its tile,
//! also where its own weight is 0. Therefore values must be [`tame`].

use pulp::{Simd, WithSimd};

use super::geometry::Geometry;
use super::route::Places;
use crate::algebra::layout::transpose;
use crate::algebra::matrix::Accumulate;
use crate::algebra::product::{Panel, Panels, WIDTH, multiply};
use crate::machine::simd::{dispatch, vectorised};
use crate::machine::tasks::share;
use crate::operation::fused::Order;

/// Elements of a tile's inputs.
const ELEMENTS: usize = 16;

/// Channels and filters must be a multiple of this, as a vector of the widest kind has them.
const LANES: usize = 16;

/// Values below this, which normalised images, weights and gradients are, leave a sum its digits, and are far
/// from overflow.
const LIMIT: f32 = (1u32 << 16) as f32;

/// The cost of packing the weight, in multiplications that the tiles save for each pair of a channel and a
/// filter.
const PACKING: usize = 700;

/// Tells if all values are numbers below the limit.
pub(super) fn tame(values: &[f32]) -> bool {
    // Without their signs, numbers are in the order of their bits, and NaN and what is infinite come last.
    let largest = vectorised(
        #[inline(always)]
        || values.iter().fold(0, |largest, x| (x.to_bits() & (u32::MAX >> 1)).max(largest)),
    );
    largest < LIMIT.to_bits()
}

/// Both ways of a convolution.
#[derive(Debug)]
pub(super) struct Winograd {
    /// The images, for the way there.
    pub(super) images: Grid,
    /// The convolution's gradients, for the way back.
    pub(super) gradients: Grid,
}

/// An image, channels last, with zeros around, as tiles that overlap look at it.
#[derive(Debug)]
pub(super) struct Grid {
    channels: usize,
    /// Height and width of the image.
    size: [usize; 2],
    /// Zeros above and before.
    border: [usize; 2],
    /// Height and width of what comes out.
    out: [usize; 2],
}

impl Winograd {
    /// If this is a convolution of so many images for which it pays.
    pub(super) fn new(geometry: Geometry, filters: usize, count: usize) -> Option<Self> {
        let Geometry { channels, size, kernel, stride, padding, dilation } = geometry;
        let fits = [kernel, stride, dilation] == [[3, 3], [1, 1], [1, 1]];
        let fits = fits && padding.iter().all(|&padding| padding <= 2);
        if !fits || !channels.is_multiple_of(LANES) || !filters.is_multiple_of(LANES) {
            return None;
        }
        let out = geometry.out();
        let images = Grid { channels, size, border: padding, out };
        let gradients =
            Grid { channels: filters, size: out, border: padding.map(|padding| 2 - padding), out: size };
        // The tiles at the far borders may be half empty; and what they save has to be worth the other
        // passes.
        let saved =
            |grid: &Grid| (9 * grid.out[0] * grid.out[1]).saturating_sub(ELEMENTS * 5 / 4 * grid.tiles());
        let pays = count * saved(&images).min(saved(&gradients)) >= PACKING;
        pays.then_some(Winograd { images, gradients })
    }

    /// The weight `[filters, channels, 3, 3]` for [`Grid::convolve`] of the images, if it is tame.
    pub(super) fn weight(&self, weight: &[f32]) -> Option<Panels> {
        let (channels, filters) = (self.images.channels, self.gradients.channels);
        tame(weight).then(|| {
            pack(channels, filters, false, |channel, filter| {
                &weight[(filter * channels + channel) * 9..][..9]
            })
        })
    }

    /// That of the gradients.
    pub(super) fn weight_back(&self, weight: &[f32]) -> Option<Panels> {
        let (channels, filters) = (self.images.channels, self.gradients.channels);
        tame(weight).then(|| {
            pack(filters, channels, true, |filter, channel| &weight[(filter * channels + channel) * 9..][..9])
        })
    }

    /// Elements of the sums for a weight's gradient.
    pub(super) fn sums(&self) -> usize {
        ELEMENTS * self.images.channels * self.gradients.channels
    }

    /// Adds an image and its gradient, both in their grids, to the sums for the weight's gradient.
    pub(super) fn add_weight_gradient(
        &self,
        sums: &mut [f32],
        image: &[f32],
        gradient: &[f32],
        inputs: &mut [f32],
        panels: &mut Panels,
    ) {
        let (channels, filters) = (self.images.channels, self.gradients.channels);
        let tiles = self.images.tiles();
        self.images.look(inputs, image);
        for panel in panels.place(ELEMENTS * tiles, filters) {
            let (images, gradients) = (&self.images, &self.gradients);
            dispatch(Spread { tiled: images, grid: gradients, gradient, panel });
        }
        for (element, sums) in sums.chunks_exact_mut(channels * filters).enumerate() {
            multiply(
                sums,
                filters,
                Accumulate::Add,
                panels.part(element * tiles..(element + 1) * tiles),
                inputs,
                channels,
                |channel| channel,
                |k| k * channels,
            );
        }
    }

    /// Adds what such sums come to to the weight's gradient, `[channels, 3, 3, filters]`.
    pub(super) fn finish_weight_gradient(&self, to: &mut [f32], sums: &[f32]) {
        let (channels, filters) = (self.images.channels, self.gradients.channels);
        dispatch(Finish { to, sums, channels, filters });
    }
}

/// Gᵀ·s·G of the sums of each channel and filter, added to the weight's gradient.
struct Finish<'a> {
    to: &'a mut [f32],
    sums: &'a [f32],
    channels: usize,
    filters: usize,
}

/// Gᵀ·s
#[inline(always)]
fn narrow<S: Simd>(simd: S, s: [S::f32s; 4]) -> [S::f32s; 3] {
    let half = simd.splat_f32s(0.5);
    let sum = simd.mul_f32s(half, simd.add_f32s(s[1], s[2]));
    let difference = simd.mul_f32s(half, simd.sub_f32s(s[1], s[2]));
    [simd.add_f32s(s[0], sum), difference, simd.add_f32s(sum, s[3])]
}

impl WithSimd for Finish<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Finish { to, sums, channels, filters } = self;
        let vectors = filters / S::F32_LANES;
        let (to, sums) = (S::as_mut_simd_f32s(to).0, S::as_simd_f32s(sums).0);
        for channel in 0..channels {
            for vector in 0..vectors {
                let mut s = [[simd.splat_f32s(0.0); 3]; 4];
                for (y, row) in s.iter_mut().enumerate() {
                    let at = |x: usize| sums[((4 * y + x) * channels + channel) * vectors + vector];
                    *row = narrow(simd, [at(0), at(1), at(2), at(3)]);
                }
                for x in 0..3 {
                    let column = narrow(simd, [s[0][x], s[1][x], s[2][x], s[3][x]]);
                    for y in 0..3 {
                        let to = &mut to[(channel * 9 + 3 * y + x) * vectors + vector];
                        *to = simd.add_f32s(*to, column[y]);
                    }
                }
            }
        }
    }
}

/// G·g of as many as there are lanes.
#[inline(always)]
fn widen(g: [&Lanes; 3]) -> [Lanes; 4] {
    let mut wide = [*g[0], [0.0; WIDTH], [0.0; WIDTH], *g[2]];
    for lane in 0..WIDTH {
        let sum = 0.5 * (g[0][lane] + g[2][lane]);
        wide[1][lane] = sum + 0.5 * g[1][lane];
        wide[2][lane] = sum - 0.5 * g[1][lane];
    }
    wide
}

type Lanes = [f32; WIDTH];

/// The weight of `from` channels to `to` as a matrix (element, from) × to: `window` are the nine elements of
/// a pair, the last one first if it is turned.
fn pack<'a>(
    from: usize,
    to: usize,
    turned: bool,
    window: impl Fn(usize, usize) -> &'a [f32] + Sync,
) -> Panels {
    let mut panels = Panels::default();
    // An element takes as long as many operations of a product.
    share(
        panels.place(ELEMENTS * from, to),
        64 * ELEMENTS * from * to,
        |Panel { values, columns, lanes }| {
            vectorised(
                #[inline(always)]
                || {
                    for input in 0..from {
                        let mut weight: [Lanes; 9] = [[0.0; WIDTH]; 9];
                        for (lane, output) in columns.clone().enumerate() {
                            for (place, value) in window(input, output).iter().enumerate() {
                                weight[if turned { 8 - place } else { place }][lane] = *value;
                            }
                        }
                        let rows: [[Lanes; 4]; 3] =
                            [0, 3, 6].map(|y| widen([0, 1, 2].map(|x| &weight[y + x])));
                        let [top, middle, bottom] = &rows;
                        for (x, ((top, middle), bottom)) in top.iter().zip(middle).zip(bottom).enumerate() {
                            for (y, all) in widen([top, middle, bottom]).iter().enumerate() {
                                let place = ((4 * y + x) * from + input) * lanes;
                                values[place..][..lanes].copy_from_slice(&all[..lanes]);
                            }
                        }
                    }
                },
            );
        },
    );
    panels
}

impl Grid {
    /// Rows and columns of tiles.
    fn tiling(&self) -> [usize; 2] {
        self.out.map(|length| length.div_ceil(2))
    }

    fn tiles(&self) -> usize {
        let [rows, columns] = self.tiling();
        rows * columns
    }

    /// Height and width with all that tiles look at.
    fn padded(&self) -> [usize; 2] {
        self.tiling().map(|tiles| 2 * tiles + 2)
    }

    /// Elements with all that tiles look at.
    pub(super) fn elements(&self) -> usize {
        let [height, width] = self.padded();
        height * width * self.channels
    }

    /// Elements of what is computed from the tiles' inputs.
    pub(super) fn inputs(&self) -> usize {
        ELEMENTS * self.tiles() * self.channels
    }

    /// Elements of the products with a weight to so many channels.
    pub(super) fn products(&self, channels: usize) -> usize {
        ELEMENTS * self.tiles() * channels
    }

    /// Where the image's places lie in memory that is zero elsewhere.
    pub(super) fn places<'a>(&self, memory: &'a mut [f32]) -> Places<'a> {
        let row = self.padded()[1] * self.channels;
        Places {
            values: memory,
            first: self.border[0] * row + self.border[1] * self.channels,
            row,
            place: self.channels,
            filters: 0..self.channels,
        }
    }

    /// Puts an image there; `turned` has its size.
    pub(super) fn put(&self, memory: &mut [f32], image: &[f32], order: Order, turned: &mut [f32]) {
        let [height, width] = self.size;
        let image = match order {
            Order::ChannelsLast => image,
            Order::Contiguous => {
                transpose(image, turned, self.channels, height * width);
                turned
            }
        };
        let Places { values, first, row, .. } = self.places(memory);
        for (y, from) in image.chunks_exact(width * self.channels).enumerate() {
            values[first + y * row..][..from.len()].copy_from_slice(from);
        }
    }

    /// The inputs of all tiles: `[elements, tiles, channels]`.
    fn look(&self, inputs: &mut [f32], image: &[f32]) {
        dispatch(Look { grid: self, inputs, image });
    }

    /// The convolution's output `[places, channels]`, for an image in its grid; with memory for inputs and
    /// products.
    pub(super) fn convolve(
        &self,
        to: &mut [f32],
        image: &[f32],
        weight: &Panels,
        inputs: &mut [f32],
        products: &mut [f32],
    ) {
        let (tiles, channels) = (self.tiles(), self.channels);
        let to_channels = to.len() / (self.out[0] * self.out[1]);
        self.look(inputs, image);
        for (element, products) in products.chunks_exact_mut(tiles * to_channels).enumerate() {
            multiply(
                products,
                to_channels,
                Accumulate::Replace,
                weight.part(element * channels..(element + 1) * channels),
                inputs,
                tiles,
                |tile| (element * tiles + tile) * channels,
                |k| k - element * channels,
            );
        }
        dispatch(Gather { grid: self, to, products });
    }
}

/// Bᵀ·d·B of each tile.
struct Look<'a> {
    grid: &'a Grid,
    inputs: &'a mut [f32],
    image: &'a [f32],
}

/// Bᵀ·d
#[inline(always)]
fn look<S: Simd>(simd: S, d: [S::f32s; 4]) -> [S::f32s; 4] {
    [
        simd.sub_f32s(d[0], d[2]),
        simd.add_f32s(d[1], d[2]),
        simd.sub_f32s(d[2], d[1]),
        simd.sub_f32s(d[3], d[1]),
    ]
}

impl WithSimd for Look<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Look { grid, inputs, image } = self;
        let ([rows, columns], [_, width]) = (grid.tiling(), grid.padded());
        let (vectors, tiles) = (grid.channels / S::F32_LANES, rows * columns);
        let (image, inputs) = (S::as_simd_f32s(image).0, S::as_mut_simd_f32s(inputs).0);
        for tile in 0..tiles {
            let first = (tile / columns * 2 * width + tile % columns * 2) * vectors;
            for vector in 0..vectors {
                let mut d = [[simd.splat_f32s(0.0); 4]; 4];
                for (y, row) in d.iter_mut().enumerate() {
                    let at = first + y * width * vectors + vector;
                    let at = |x: usize| image[at + x * vectors];
                    *row = look(simd, [at(0), at(1), at(2), at(3)]);
                }
                for x in 0..4 {
                    let column = look(simd, [d[0][x], d[1][x], d[2][x], d[3][x]]);
                    for y in 0..4 {
                        inputs[((4 * y + x) * tiles + tile) * vectors + vector] = column[y];
                    }
                }
            }
        }
    }
}

/// Aᵀ·m·A of each tile.
struct Gather<'a> {
    grid: &'a Grid,
    to: &'a mut [f32],
    products: &'a [f32],
}

/// Aᵀ·m
#[inline(always)]
fn gather<S: Simd>(simd: S, m: [S::f32s; 4]) -> [S::f32s; 2] {
    [simd.add_f32s(simd.add_f32s(m[0], m[1]), m[2]), simd.add_f32s(simd.sub_f32s(m[1], m[2]), m[3])]
}

impl WithSimd for Gather<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Gather { grid, to, products } = self;
        let ([rows, columns], [height, width]) = (grid.tiling(), grid.out);
        let tiles = rows * columns;
        let (to, products) = (S::as_mut_simd_f32s(to).0, S::as_simd_f32s(products).0);
        let vectors = to.len() / (height * width);
        for tile in 0..tiles {
            let (first_y, first_x) = (tile / columns * 2, tile % columns * 2);
            for vector in 0..vectors {
                let mut m = [[simd.splat_f32s(0.0); 2]; 4];
                for (y, row) in m.iter_mut().enumerate() {
                    let at = |x: usize| products[((4 * y + x) * tiles + tile) * vectors + vector];
                    *row = gather(simd, [at(0), at(1), at(2), at(3)]);
                }
                let column = |x: usize| gather(simd, [m[0][x], m[1][x], m[2][x], m[3][x]]);
                let columns = [column(0), column(1)];
                for (y, x) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                    let place = [first_y + y, first_x + x];
                    if place[0] < height && place[1] < width {
                        to[(place[0] * width + place[1]) * vectors + vector] = columns[x][y];
                    }
                }
            }
        }
    }
}

/// A·dy·Aᵀ of each tile, some of the channels, as rows (element, tile) of a panel.
struct Spread<'a> {
    /// The grid of the tiles.
    tiled: &'a Grid,
    /// Where the gradient is.
    grid: &'a Grid,
    gradient: &'a [f32],
    panel: Panel<'a>,
}

/// A·y
#[inline(always)]
fn spread<S: Simd>(simd: S, y: [S::f32s; 2]) -> [S::f32s; 4] {
    [y[0], simd.add_f32s(y[0], y[1]), simd.sub_f32s(y[0], y[1]), y[1]]
}

impl WithSimd for Spread<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Spread { tiled, grid, gradient, panel: Panel { values, columns: filters, lanes } } = self;
        let ([rows, columns], [_, width]) = (tiled.tiling(), grid.padded());
        let (tiles, vectors) = (rows * columns, grid.channels / S::F32_LANES);
        let (gradient, values) = (S::as_simd_f32s(gradient).0, S::as_mut_simd_f32s(values).0);
        let (in_panel, skipped) = (lanes / S::F32_LANES, filters.start / S::F32_LANES);
        for tile in 0..tiles {
            let (y, x) = (tile / columns * 2 + grid.border[0], tile % columns * 2 + grid.border[1]);
            let first = (y * width + x) * vectors + skipped;
            for vector in 0..filters.len() / S::F32_LANES {
                let mut dy = [[simd.splat_f32s(0.0); 4]; 2];
                for (y, row) in dy.iter_mut().enumerate() {
                    let at = |x: usize| gradient[first + (y * width + x) * vectors + vector];
                    *row = spread(simd, [at(0), at(1)]);
                }
                for x in 0..4 {
                    let column = spread(simd, [dy[0][x], dy[1][x]]);
                    for y in 0..4 {
                        values[((4 * y + x) * tiles + tile) * in_panel + vector] = column[y];
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_OF_A_CNN: Geometry = Geometry {
        channels: 32,
        size: [14, 14],
        kernel: [3, 3],
        stride: [1, 1],
        padding: [1, 1],
        dilation: [1, 1],
    };

    #[test]
    fn only_what_pays_goes_by_tiles() {
        let is = |geometry: Geometry, filters: usize| Winograd::new(geometry, filters, 64).is_some();
        assert!(is(SECOND_OF_A_CNN, 64));
        // The weight is packed once, for however many images. The tests of blocks have batches that are large
        // enough.
        let small = Geometry { size: [6, 7], ..SECOND_OF_A_CNN };
        assert!(Winograd::new(small, 64, 5).is_none() && Winograd::new(small, 64, 6).is_some());
        assert!(!is(SECOND_OF_A_CNN, 65));
        assert!(!is(Geometry { channels: 3, ..SECOND_OF_A_CNN }, 64));
        assert!(!is(Geometry { stride: [1, 2], ..SECOND_OF_A_CNN }, 64));
        assert!(!is(Geometry { dilation: [2, 1], ..SECOND_OF_A_CNN }, 64));
        assert!(!is(Geometry { padding: [3, 1], ..SECOND_OF_A_CNN }, 64));
        assert!(!is(Geometry { kernel: [3, 5], ..SECOND_OF_A_CNN }, 64));
        // A single output would take sixteen products instead of nine.
        assert!(!is(Geometry { size: [3, 3], padding: [0, 0], ..SECOND_OF_A_CNN }, 64));
    }

    #[test]
    fn small_numbers_are_tame() {
        assert!(tame(&[]) && tame(&[0.0, -0.0, 65_535.0, -65_535.0]));
        for wild in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 65_536.0, -65_536.0] {
            assert!(!tame(&[0.0, wild, 1.0]), "{wild}");
        }
    }
}
