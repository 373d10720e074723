//! Where the windows of a convolution lie.

use crate::operation::fused::Order;

/// The sizes of a convolution; each pair is of height and width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub(crate) channels: usize,
    pub(crate) size: [usize; 2],
    pub(crate) kernel: [usize; 2],
    pub(crate) stride: [usize; 2],
    pub(crate) padding: [usize; 2],
    pub(crate) dilation: [usize; 2],
}

impl Geometry {
    /// Elements of an image.
    pub(crate) fn image(&self) -> usize {
        self.channels * self.size[0] * self.size[1]
    }

    /// The pixels of a window beyond its first one.
    fn reach(&self, axis: usize) -> usize {
        (self.kernel[axis] - 1) * self.dilation[axis]
    }

    /// Height and width of the output.
    pub(crate) fn out(&self) -> [usize; 2] {
        [0, 1].map(|axis| {
            (self.size[axis] + 2 * self.padding[axis] - self.reach(axis) - 1) / self.stride[axis] + 1
        })
    }

    /// Places of the output.
    pub(crate) fn places(&self) -> usize {
        let [height, width] = self.out();
        height * width
    }

    /// Elements of a window.
    pub(crate) fn window(&self) -> usize {
        self.channels * self.kernel[0] * self.kernel[1]
    }

    /// Height and width with the zeros around.
    fn padded(&self) -> [usize; 2] {
        [0, 1].map(|axis| self.size[axis] + 2 * self.padding[axis])
    }
}

/// A convolution as a sum over an image with zeros around: what place `n` of the output multiplies with
/// element `k` of the window is at `places[n] + window[k]`.
#[derive(Debug)]
pub(crate) struct Windows {
    geometry: Geometry,
    order: Order,
    pub(crate) places: Vec<usize>,
    pub(crate) window: Vec<usize>,
}

impl Windows {
    pub(crate) fn new(geometry: Geometry, order: Order) -> Self {
        let ([height, width], [padded_height, padded_width]) = (geometry.out(), geometry.padded());
        let Geometry { channels, kernel, stride, dilation, .. } = geometry;
        // How far apart neighbours are, and channels.
        let (pixel, plane) = match order {
            Order::Contiguous => (1, padded_height * padded_width),
            Order::ChannelsLast => (channels, 1),
        };
        let place = |n: usize| (n / width * stride[0] * padded_width + n % width * stride[1]) * pixel;
        let element = |k: usize| {
            let (channel, y, x) = (k / (kernel[0] * kernel[1]), k / kernel[1] % kernel[0], k % kernel[1]);
            channel * plane + (y * dilation[0] * padded_width + x * dilation[1]) * pixel
        };
        Windows {
            geometry,
            order,
            places: (0..height * width).map(place).collect(),
            window: (0..channels * kernel[0] * kernel[1]).map(element).collect(),
        }
    }

    /// Elements of an image with the zeros around.
    pub(crate) fn padded(&self) -> usize {
        let [height, width] = self.geometry.padded();
        self.geometry.channels * height * width
    }

    /// The image with its zeros around: as it is if there are none, else in `memory`, which has
    /// [`padded`](Self::padded) elements and zeros where this never writes.
    pub(crate) fn pad<'a>(&self, image: &'a [f32], memory: &'a mut [f32]) -> &'a [f32] {
        let Geometry { channels, size: [height, width], padding: [above, before], .. } = self.geometry;
        if [above, before] == [0, 0] {
            return image;
        }
        let [padded_height, padded_width] = self.geometry.padded();
        // With channels last there is one plane, and a row has all channels.
        let row = match self.order {
            Order::Contiguous => 1,
            Order::ChannelsLast => channels,
        };
        let planes = memory.chunks_exact_mut(padded_height * padded_width * row);
        for (to, from) in planes.zip(image.chunks_exact(height * width * row)) {
            let rows = to.chunks_exact_mut(padded_width * row).skip(above);
            for (to, from) in rows.zip(from.chunks_exact(width * row)) {
                to[before * row..][..width * row].copy_from_slice(from);
            }
        }
        memory
    }
}

/// The way back, for the gradient of an image: the pixels with the same place within a stride have the same
/// elements of the window over them. What pixel `n` of such a class multiplies with tap `t` is, in the
/// output's gradient `[height, width, filters]` with zeros around, at `pixels[n] + taps[t]` and behind, for
/// all filters.
#[derive(Debug)]
pub(crate) struct Class {
    /// Where its pixels are in a channel.
    pub(crate) pixels: Vec<usize>,
    /// The same as rows of the gradient.
    pub(crate) rows: Vec<usize>,
    /// The elements of the kernel over them, `y · width + x`.
    pub(crate) kernel: Vec<usize>,
    pub(crate) taps: Vec<usize>,
}

#[derive(Debug)]
pub(crate) struct Transposed {
    filters: usize,
    /// Rows of zeros above, columns before.
    border: [usize; 2],
    /// Height and width of the gradient with the zeros around.
    size: [usize; 2],
    pub(crate) classes: Vec<Class>,
}

impl Transposed {
    pub(crate) fn new(geometry: Geometry, filters: usize) -> Self {
        let Geometry { size, kernel, stride, padding, dilation, .. } = geometry;
        let out = geometry.out();
        let border =
            [0, 1].map(|axis| geometry.reach(axis).saturating_sub(padding[axis]).div_ceil(stride[axis]));
        // The last pixel's first element of the window may lie after the output.
        let padded = [0, 1].map(|axis| {
            let last = (size[axis] - 1 + padding[axis]) / stride[axis];
            border[axis] + out[axis].max(last + 1)
        });
        let mut classes = Vec::new();
        for y in 0..stride[0].min(size[0]) {
            for x in 0..stride[1].min(size[1]) {
                // Element k of the kernel lies over a pixel with remainder r if (r + padding − k · dilation)
                // is a multiple of the stride; then that many rows of the output away.
                let over = |axis: usize, remainder: usize| {
                    (0..kernel[axis]).filter_map(move |k| {
                        let from = (remainder + padding[axis]) as isize - (k * dilation[axis]) as isize;
                        let stride = stride[axis] as isize;
                        (from.rem_euclid(stride) == 0)
                            .then(|| (k, (from.div_euclid(stride) + border[axis] as isize) as usize))
                    })
                };
                let (mut elements, mut taps) = (Vec::new(), Vec::new());
                for (element_y, row) in over(0, y) {
                    for (element_x, column) in over(1, x) {
                        elements.push(element_y * kernel[1] + element_x);
                        taps.push((row * padded[1] + column) * filters);
                    }
                }
                let (mut pixels, mut rows) = (Vec::new(), Vec::new());
                for pixel_y in (y..size[0]).step_by(stride[0]) {
                    for pixel_x in (x..size[1]).step_by(stride[1]) {
                        pixels.push(pixel_y * size[1] + pixel_x);
                        rows.push((pixel_y / stride[0] * padded[1] + pixel_x / stride[1]) * filters);
                    }
                }
                classes.push(Class { pixels, rows, kernel: elements, taps });
            }
        }
        Transposed { filters, border, size: padded, classes }
    }

    /// Elements of the gradient with the zeros around.
    pub(crate) fn padded(&self) -> usize {
        self.size[0] * self.size[1] * self.filters
    }

    /// Where the gradient `[height, width, filters]` begins in it, and how far apart its rows are.
    pub(crate) fn origin(&self) -> [usize; 2] {
        let row = self.size[1] * self.filters;
        [self.border[0] * row + self.border[1] * self.filters, row]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both ways of each small convolution give the sum over the same pairs.
    #[test]
    fn the_way_back_has_the_pairs_of_the_way_there() {
        for number in 0..4 * 3 * 3 * 3 * 4 * 3 {
            let digit = |place: usize, base: usize| number / place % base;
            let geometry = Geometry {
                channels: 1,
                size: [4 + digit(1, 4), 7],
                kernel: [1 + digit(4, 3), 3],
                stride: [1 + digit(12, 3), 1 + digit(36, 3)],
                padding: [digit(108, 4), 1],
                dilation: [1 + digit(432, 3), 1],
            };
            if geometry.size[0] + 2 * geometry.padding[0] <= geometry.reach(0) {
                continue;
            }
            let windows = Windows::new(geometry, Order::Contiguous);
            let mut padded = vec![usize::MAX; windows.padded()];
            let [_, width] = geometry.padded();
            for pixel in 0..geometry.image() {
                let (y, x) = (pixel / geometry.size[1], pixel % geometry.size[1]);
                padded[(y + geometry.padding[0]) * width + x + geometry.padding[1]] = pixel;
            }
            // (pixel, place, element)
            let mut there = Vec::new();
            for (n, place) in windows.places.iter().enumerate() {
                for (k, element) in windows.window.iter().enumerate() {
                    there.push((padded[place + element], n, k));
                }
            }
            there.retain(|&(pixel, ..)| pixel != usize::MAX);
            let transposed = Transposed::new(geometry, 1);
            let mut gradient = vec![0; transposed.padded()];
            let ([first, row], [_, width]) = (transposed.origin(), geometry.out());
            for place in 0..geometry.places() {
                gradient[first + place / width * row + place % width] = place + 1;
            }
            let mut back = Vec::new();
            for class in &transposed.classes {
                for (&pixel, row) in class.pixels.iter().zip(&class.rows) {
                    for (&element, tap) in class.kernel.iter().zip(&class.taps) {
                        let place = gradient[row + tap];
                        if place > 0 {
                            back.push((pixel, place - 1, element));
                        }
                    }
                }
            }
            there.sort_unstable();
            back.sort_unstable();
            assert_eq!(there, back, "{geometry:?}");
        }
    }
}
