//! Images as columns: each window of a convolution is a column, so that the convolution is a product.

/// The sizes of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub(crate) channels: usize,
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) kernel: [usize; 2],
    pub(crate) stride: [usize; 2],
    pub(crate) padding: [usize; 2],
}

impl Geometry {
    /// Elements of an image.
    pub(crate) fn image(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// Height and width of the output.
    pub(crate) fn out(&self) -> [usize; 2] {
        let size = |axis: usize, length: usize| {
            (length + 2 * self.padding[axis] - self.kernel[axis]) / self.stride[axis] + 1
        };
        [size(0, self.height), size(1, self.width)]
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

    /// The first place of the output whose window has column `offset` within the image, and the one behind the last.
    fn inside(&self, axis: usize, offset: usize, length: usize, out: usize) -> (usize, usize) {
        let (stride, padding) = (self.stride[axis], self.padding[axis]);
        let first = padding.saturating_sub(offset).div_ceil(stride);
        // place · stride + offset − padding < length
        let end = (length + padding).saturating_sub(offset).div_ceil(stride);
        (first.min(out), end.min(out).max(first.min(out)))
    }

    /// image `[channels, height, width]` → columns `[window, places]`.
    pub(crate) fn spread(&self, image: &[f32], columns: &mut [f32]) {
        let [out_height, out_width] = self.out();
        let places = out_height * out_width;
        debug_assert_eq!((image.len(), columns.len()), (self.image(), self.window() * places));
        let mut rows = columns.chunks_exact_mut(places.max(1));
        for channel in image.chunks_exact((self.height * self.width).max(1)) {
            for y in 0..self.kernel[0] {
                let (top, bottom) = self.inside(0, y, self.height, out_height);
                for x in 0..self.kernel[1] {
                    let Some(row) = rows.next() else { return };
                    let (left, right) = self.inside(1, x, self.width, out_width);
                    row[..top * out_width].fill(0.0);
                    row[bottom * out_width..].fill(0.0);
                    for out_y in top..bottom {
                        let line = &channel[(out_y * self.stride[0] + y - self.padding[0]) * self.width..]
                            [..self.width];
                        let to = &mut row[out_y * out_width..][..out_width];
                        to[..left].fill(0.0);
                        to[right..].fill(0.0);
                        if left == right {
                            continue;
                        }
                        let first = left * self.stride[1] + x - self.padding[1];
                        match self.stride[1] {
                            1 => to[left..right].copy_from_slice(&line[first..][..right - left]),
                            stride => {
                                let from = line[first..].iter().step_by(stride);
                                to[left..right].iter_mut().zip(from).for_each(|(to, from)| *to = *from);
                            }
                        }
                    }
                }
            }
        }
    }

    /// Adds columns `[window, places]` to where in the image they come from: the reverse of [`spread`](Self::spread).
    pub(crate) fn gather(&self, columns: &[f32], image: &mut [f32]) {
        let [out_height, out_width] = self.out();
        let places = out_height * out_width;
        debug_assert_eq!((image.len(), columns.len()), (self.image(), self.window() * places));
        let mut rows = columns.chunks_exact(places.max(1));
        for channel in image.chunks_exact_mut((self.height * self.width).max(1)) {
            for y in 0..self.kernel[0] {
                let (top, bottom) = self.inside(0, y, self.height, out_height);
                for x in 0..self.kernel[1] {
                    let Some(row) = rows.next() else { return };
                    let (left, right) = self.inside(1, x, self.width, out_width);
                    if left == right {
                        continue;
                    }
                    let first = left * self.stride[1] + x - self.padding[1];
                    for out_y in top..bottom {
                        let start = (out_y * self.stride[0] + y - self.padding[0]) * self.width + first;
                        let from = &row[out_y * out_width + left..out_y * out_width + right];
                        match self.stride[1] {
                            1 => {
                                let to = &mut channel[start..start + from.len()];
                                to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
                            }
                            stride => {
                                let to = channel[start..].iter_mut().step_by(stride);
                                to.zip(from).for_each(|(to, from)| *to += from);
                            }
                        }
                    }
                }
            }
        }
    }
}
