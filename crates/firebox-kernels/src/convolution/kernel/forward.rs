//! The convolution of one image.

use std::sync::OnceLock;

use super::geometry::{Geometry, Windows};
use super::winograd::{Winograd, tame};
use crate::fused::Order;
use crate::matrix::Into;
use crate::product::{Panels, multiply};

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

/// Pieces of memory that an image's convolution takes.
pub(super) const PIECES: usize = 5;

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

    /// Of the memory that [`image`](Self::image) takes. The first two pieces are zeros before the first image.
    pub(super) fn sizes(&self) -> [usize; PIECES] {
        let padded = self.windows.padded();
        match &self.winograd {
            None => [padded, 0, 0, 0, 0],
            Some((Winograd { images, .. }, _)) => {
                [padded, images.elements(), padded, images.inputs(), images.products(self.filters)]
            }
        }
    }

    fn pack(&self) -> Panels {
        let (window, mut panels) = (self.windows.window.len(), Panels::default());
        panels.pack(self.weight, window, self.filters, [1, window]);
        panels
    }

    /// `[places, filters]`
    pub(super) fn image(&self, to: &mut [f32], image: &[f32], memory: &mut [&mut [f32]; PIECES]) {
        let [padded, grid, turned, inputs, products] = memory;
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
            Into::Replace,
            self.packed.get_or_init(|| self.pack()),
            image,
            places.len(),
            |place| places[place],
            |element| window[element],
        );
    }
}
