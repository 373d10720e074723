//! The gradients of one image and of the weight, for that of the image's convolution.

use super::geometry::{Geometry, Windows};
use super::image_gradient::ImageGradient;
use super::route::{ImageGradients, Places, Slopes};
use super::winograd::{Grid, Winograd, tame};
use crate::fused::Order;
use crate::layout::transpose;
use crate::matrix::Into;
use crate::product::{Panel, Panels, multiply};

/// What is the same for all images of a batch.
pub(super) struct Gradients<'a> {
    geometry: Geometry,
    filters: usize,
    order: Order,
    windows: Windows,
    /// The way to the images, if their gradients are wanted.
    back: Option<ImageGradient<'a>>,
    /// The faster way, if there is one; with a weight, if the images' gradients are wanted.
    winograd: Option<(Winograd, Option<Panels>)>,
    wants_weight: bool,
}

/// Pieces of memory that an image's gradients take, and how many of them, the first ones, must be zero before the first
/// image.
pub(super) const PIECES: usize = 8;
pub(super) const ZEROS: usize = 5;

impl<'a> Gradients<'a> {
    pub(super) fn new(
        geometry: Geometry,
        filters: usize,
        weight: &'a [f32],
        order: Order,
        images: usize,
        [wants_images, wants_weight]: [bool; 2],
    ) -> Self {
        let winograd = Winograd::new(geometry, filters, images).and_then(|winograd| {
            let back = wants_images.then(|| winograd.weight_back(weight));
            match back {
                // The weight is wild.
                Some(None) => None,
                back => Some((winograd, back.flatten())),
            }
        });
        Gradients {
            geometry,
            filters,
            order,
            windows: Windows::new(geometry, order),
            back: wants_images.then(|| ImageGradient::new(geometry, filters, weight, order)),
            winograd,
            wants_weight,
        }
    }

    /// Of the memory that [`add`](Self::add) takes.
    pub(super) fn sizes(&self) -> [usize; PIECES] {
        let bordered = self.back.as_ref().map_or(0, ImageGradient::bordered);
        let (padded, image) = (self.windows.padded(), self.geometry.image());
        let Some((winograd, weight)) = &self.winograd else {
            return [padded, bordered, 0, 0, 0, image, 0, 0];
        };
        let Winograd { images, gradients } = winograd;
        let (inputs, products) = match weight {
            Some(_) => (gradients.inputs(), gradients.products(self.geometry.channels)),
            None => (0, 0),
        };
        let sums = if self.wants_weight { winograd.sums() } else { 0 };
        let inputs = inputs.max(images.inputs());
        let [images, gradients] = [images, gradients].map(Grid::elements);
        [padded, bordered, images, gradients, sums, image, inputs, products]
    }

    /// What an image adds to the weight's gradient, to that itself, `[channels, kernel height, kernel width, filters]`, or
    /// to the sums among the memory; and its own gradient, in its order. Those that are wanted.
    pub(super) fn add(
        &self,
        image: &[f32],
        behind: &ImageGradients<'_>,
        slopes: &Slopes,
        [d_weight, d_image]: [Option<&mut [f32]>; 2],
        memory: &mut [&mut [f32]; PIECES],
        panels: &mut Panels,
    ) {
        let [padded, bordered, image_grid, gradient_grid, sums, pixels, inputs, products] = memory;
        if let Some((winograd, weight)) = &self.winograd
            && tame(image)
        {
            let Winograd { images, gradients } = winograd;
            behind.route(slopes, gradients.places(gradient_grid), None);
            if tame(gradient_grid) {
                if d_weight.is_some() {
                    images.put(image_grid, image, self.order, pixels);
                    let inputs = &mut inputs[..images.inputs()];
                    winograd.add_weight_gradient(sums, image_grid, gradient_grid, inputs, panels);
                }
                if let (Some(to), Some(weight)) = (d_image, weight) {
                    let inputs = &mut inputs[..gradients.inputs()];
                    match self.order {
                        Order::ChannelsLast => {
                            gradients.convolve(to, gradient_grid, weight, inputs, products)
                        }
                        Order::Contiguous => {
                            gradients.convolve(pixels, gradient_grid, weight, inputs, products);
                            let channels = self.geometry.channels;
                            transpose(pixels, to, pixels.len() / channels, channels);
                        }
                    }
                }
                return;
            }
        }
        let (places, elements) = (&self.windows.places, &self.windows.window);
        for Panel { values, columns, lanes } in panels.place(places.len(), self.filters) {
            let row = lanes * self.geometry.out()[1];
            let panel = Places { values, first: 0, row, place: lanes, filters: columns };
            let bordered = self.back.as_ref().map(|back| back.places(bordered));
            behind.route(slopes, panel, bordered);
        }
        if let Some(to) = d_weight {
            let image = self.windows.pad(image, padded);
            let (element, place) = (|m: usize| elements[m], |k: usize| places[k]);
            multiply(to, self.filters, Into::Add, &*panels, image, elements.len(), element, place);
        }
        if let (Some(back), Some(to)) = (&self.back, d_image) {
            back.image(to, bordered, pixels);
        }
    }

    /// Adds to a weight's gradient what is in the sums.
    pub(super) fn finish(&self, d_weight: &mut [f32], memory: &[&mut [f32]; PIECES]) {
        let [_, _, _, _, sums, ..] = memory;
        if let Some((winograd, _)) = &self.winograd {
            winograd.finish_weight_gradient(d_weight, sums);
        }
    }
}
