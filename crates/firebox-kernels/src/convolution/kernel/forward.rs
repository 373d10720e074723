//! The convolution of one image.

use std::sync::OnceLock;

use super::geometry::{Geometry, Windows};
use super::winograd::{Winograd, tame};
use crate::algebra::matrix::Accumulate;
use crate::algebra::product::{Panels, multiply};
use crate::algebra::scratch::Pieces;
use crate::operation::fused::Order;

/// A weight, ready for all images of a batch.
pub(super) struct Forward<'a> {
    order: Order,
    filters: usize,
    windows: Windows,
    weight: &'a [f32],
    /// The weight as window × filter; packed for the first image that needs it.
    packed: OnceLock<Panels>,
    /// The faster way, if there is one, with its weight.
    winograd: Option<(Winograd, Panels)>,
}

/// Memory for the convolutions of images, one after the other.
pub(super) struct ForwardScratch<'a> {
    /// The image with zeros around, which nothing overwrites.
    padded: &'a mut [f32],
    /// The image in the grid of its tiles, likewise.
    grid: &'a mut [f32],
    /// The image with its channels last.
    turned: &'a mut [f32],
    /// The tiles' inputs, and their products with the weight.
    inputs: &'a mut [f32],
    products: &'a mut [f32],
}

impl<'a> Forward<'a> {
    pub(super) fn new(
        geometry: Geometry,
        filters: usize,
        weight: &'a [f32],
        order: Order,
        images: usize,
    ) -> Self {
        let winograd = Winograd::new(geometry, filters, images);
        let winograd = winograd.and_then(|winograd| Some((winograd.weight(weight)?, winograd)));
        Forward {
            order,
            filters,
            windows: Windows::new(geometry, order),
            weight,
            packed: OnceLock::new(),
            winograd: winograd.map(|(weight, winograd)| (winograd, weight)),
        }
    }

    /// The memory that [`image`](Self::image) takes.
    pub(super) fn scratch<'m>(&self, pieces: &mut Pieces<'m>) -> ForwardScratch<'m> {
        let padded = self.windows.padded();
        let [grid, turned, inputs, products] = match &self.winograd {
            None => [0; 4],
            Some((Winograd { images, .. }, _)) => {
                [images.elements(), padded, images.inputs(), images.products(self.filters)]
            }
        };
        ForwardScratch {
            padded: pieces.take_zeros(padded),
            grid: pieces.take_zeros(grid),
            turned: pieces.take(turned),
            inputs: pieces.take(inputs),
            products: pieces.take(products),
        }
    }

    fn pack(&self) -> Panels {
        let (window, mut panels) = (self.windows.window.len(), Panels::default());
        panels.pack(self.weight, window, self.filters, [1, window]);
        panels
    }

    /// `[places, filters]`
    pub(super) fn image(&self, to: &mut [f32], image: &[f32], scratch: &mut ForwardScratch<'_>) {
        let ForwardScratch { padded, grid, turned, inputs, products } = scratch;
        if let Some((winograd, weight)) = &self.winograd
            && tame(image)
        {
            winograd.images.put(grid, image, self.order, &mut turned[..image.len()]);
            return winograd.images.convolve(to, grid, weight, inputs, products);
        }
        let (places, window) = (&self.windows.places, &self.windows.window);
        let image = self.windows.pad(image, padded);
        multiply(
            to,
            self.filters,
            Accumulate::Replace,
            self.packed.get_or_init(|| self.pack()),
            image,
            places.len(),
            |place| places[place],
            |element| window[element],
        );
    }
}
