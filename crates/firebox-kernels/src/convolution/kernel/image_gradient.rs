//! The gradient of a convolution's images.

use std::sync::OnceLock;

use super::geometry::{Class, Geometry, Transposed};
use super::route::Places;
use crate::algebra::layout::transpose;
use crate::algebra::matrix::Accumulate;
use crate::algebra::product::{Panels, multiply};
use crate::operation::fused::Order;

/// From the convolution's gradient to the image's.
pub(super) struct ImageGradient<'a> {
    /// Of the image.
    order: Order,
    geometry: Geometry,
    filters: usize,
    transposed: Transposed,
    weight: &'a [f32],
    /// The weight for each class of pixels, (tap, filter) × channel; packed for the first image that comes
    /// here.
    packed: OnceLock<Vec<Panels>>,
}

impl<'a> ImageGradient<'a> {
    pub(super) fn new(geometry: Geometry, filters: usize, weight: &'a [f32], order: Order) -> Self {
        let transposed = Transposed::new(geometry, filters);
        ImageGradient { order, geometry, filters, transposed, weight, packed: OnceLock::new() }
    }

    fn pack(&self, class: &Class) -> Panels {
        let (channels, filters) = (self.geometry.channels, self.filters);
        let kernel = self.geometry.kernel[0] * self.geometry.kernel[1];
        let mut turned = Vec::with_capacity(class.kernel.len() * filters * channels);
        for &element in &class.kernel {
            for filter in 0..filters {
                let at = |channel: usize| self.weight[(filter * channels + channel) * kernel + element];
                turned.extend((0..channels).map(at));
            }
        }
        let mut panels = Panels::default();
        panels.pack(&turned, class.kernel.len() * filters, channels, [channels, 1]);
        panels
    }

    /// Elements of the memory for an image's gradient after the convolution, with zeros around.
    pub(super) fn bordered(&self) -> usize {
        self.transposed.padded()
    }

    /// Where in such memory the gradient is put.
    pub(super) fn places<'m>(&self, bordered: &'m mut [f32]) -> Places<'m> {
        let [first, row] = self.transposed.origin();
        Places { values: bordered, first, row, place: self.filters, filters: 0..self.filters }
    }

    /// The gradient of one image, in its order, for that of its convolution; `pixels` is memory of the
    /// image's size.
    pub(super) fn image(&self, to: &mut [f32], gradient: &[f32], pixels: &mut [f32]) {
        let (channels, size) = (self.geometry.channels, to.len() / self.geometry.channels);
        let classes = &self.transposed.classes;
        let weights = self.packed.get_or_init(|| classes.iter().map(|class| self.pack(class)).collect());
        if let ([class], [weight]) = (&classes[..], &weights[..]) {
            match self.order {
                Order::ChannelsLast => self.pixels(to, class, weight, gradient),
                Order::Contiguous => {
                    self.pixels(pixels, class, weight, gradient);
                    transpose(pixels, to, size, channels);
                }
            }
            return;
        }
        for (class, weight) in classes.iter().zip(weights) {
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
            self.geometry.channels,
            Accumulate::Replace,
            weight,
            gradient,
            class.rows.len(),
            |pixel| class.rows[pixel],
            |k| taps[k / filters] + k % filters,
        );
    }
}
