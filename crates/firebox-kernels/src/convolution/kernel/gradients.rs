//! The gradients of one image and of the weight, for that of the image's convolution.

use super::geometry::{Geometry, Windows};
use super::image_gradient::ImageGradient;
use super::route::{ImageGradients, Places, Slopes};
use super::winograd::{Grid, Winograd, tame};
use crate::algebra::layout::transpose;
use crate::algebra::matrix::Accumulate;
use crate::algebra::product::{Panel, Panels, multiply};
use crate::algebra::scratch::Pieces;
use crate::operation::fused::Order;

/// The gradients of any image of a batch.
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

/// Memory for the gradients of images, one after the other.
pub(super) struct GradientScratch<'a> {
    /// The image with zeros around, which nothing overwrites.
    padded: &'a mut [f32],
    /// The convolution's gradient with zeros around, likewise.
    bordered: &'a mut [f32],
    /// Image and gradient in the grids of their tiles, likewise.
    image_grid: &'a mut [f32],
    gradient_grid: &'a mut [f32],
    /// Sums over all images for the weight's gradient.
    sums: &'a mut [f32],
    /// An image with its channels last.
    pixels: &'a mut [f32],
    /// The tiles' inputs, and their products with the weight.
    inputs: &'a mut [f32],
    products: &'a mut [f32],
}

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

    /// The memory that [`add`](Self::add) takes.
    pub(super) fn scratch<'m>(&self, pieces: &mut Pieces<'m>) -> GradientScratch<'m> {
        let [mut image_grid, mut gradient_grid, mut sums, mut inputs, mut products] = [0; 5];
        if let Some((winograd, weight)) = &self.winograd {
            let Winograd { images, gradients } = winograd;
            [image_grid, gradient_grid] = [images, gradients].map(Grid::elements);
            inputs = images.inputs();
            if self.wants_weight {
                sums = winograd.sums();
            }
            if weight.is_some() {
                inputs = inputs.max(gradients.inputs());
                products = gradients.products(self.geometry.channels);
            }
        }
        GradientScratch {
            padded: pieces.take_zeros(self.windows.padded()),
            bordered: pieces.take_zeros(self.back.as_ref().map_or(0, ImageGradient::bordered)),
            image_grid: pieces.take_zeros(image_grid),
            gradient_grid: pieces.take_zeros(gradient_grid),
            sums: pieces.take_zeros(sums),
            pixels: pieces.take(self.geometry.image()),
            inputs: pieces.take(inputs),
            products: pieces.take(products),
        }
    }

    /// Adds an image's part to the weight's gradient and writes its own gradient, those that are wanted.
    ///
    /// The weight's, `[channels, kernel height, kernel width, filters]`, goes there or to the sums in
    /// `scratch`, the image's has its order.
    pub(super) fn add(
        &self,
        image: &[f32],
        behind: &ImageGradients<'_>,
        slopes: &Slopes,
        [d_weight, d_image]: [Option<&mut [f32]>; 2],
        scratch: &mut GradientScratch<'_>,
        panels: &mut Panels,
    ) {
        let GradientScratch { padded, bordered, image_grid, gradient_grid, sums, pixels, inputs, products } =
            scratch;
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
            multiply(to, self.filters, Accumulate::Add, &*panels, image, elements.len(), element, place);
        }
        if let (Some(back), Some(to)) = (&self.back, d_image) {
            back.image(to, bordered, pixels);
        }
    }

    /// Adds to a weight's gradient what is in the sums.
    pub(super) fn finish(&self, d_weight: &mut [f32], scratch: &GradientScratch<'_>) {
        if let Some((winograd, _)) = &self.winograd {
            winograd.finish_weight_gradient(d_weight, scratch.sums);
        }
    }
}
