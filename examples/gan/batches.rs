//! The ways of images into a batch: as a generator makes them, and with their classes.

use firebox::data;
use firebox::data::formats::fashion_mnist;
use firebox::data::formats::idx::LabelledImage;
use firebox::prelude::*;
use serde::{Deserialize, Serialize};

use crate::images::Images;

/// Images of `K` dimensions as a generator makes them.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Drawn<const K: usize> {
    pub(crate) images: Images,
    /// Those of an image.
    pub(crate) dims: Vec<usize>,
}

impl<const K: usize> data::Recipe for Drawn<K> {
    type Layout = Stack<f32, K>;

    fn loader(&self) -> Result<Loader<Self::Layout>, data::Error> {
        let mut dims = [1; K];
        dims.copy_from_slice(&self.dims);
        self.images.builder()?.build(Stack::new(dims), |image: LabelledImage, _, pixels| {
            fill(pixels, &image, drawn);
            Ok(())
        })
    }
}

/// Images with their classes, as a generator makes them or as the judge learns them.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Labelled {
    pub(crate) images: Images,
    pub(crate) for_judge: bool,
}

impl data::Recipe for Labelled {
    type Layout = (Stack<f32, 3>, Scalar<i64>);

    fn loader(&self) -> Result<Loader<Self::Layout>, data::Error> {
        let (layout, for_judge) = ((Stack::new([1, 28, 28]), Scalar::new()), self.for_judge);
        self.images.builder()?.build(layout, move |image: LabelledImage, _, (pixels, class)| {
            if for_judge {
                fill(pixels, &image, learned)
            } else {
                fill(pixels, &image, drawn)
            }
            *class = i64::from(image.label);
            Ok(())
        })
    }
}

/// Writes an image into its slot.
fn fill(pixels: &mut [f32], image: &LabelledImage, value: impl Fn(f32) -> f32) {
    pixels.iter_mut().zip(&*image.pixels).for_each(|(to, &from)| *to = value(f32::from(from)));
}

/// From -1 for black to 1 for white, as a generator's tanh has it.
fn drawn(grey: f32) -> f32 {
    grey / 127.5 - 1.0
}

/// With mean 0 and variance 1.
fn learned(grey: f32) -> f32 {
    (grey / 255.0 - fashion_mnist::MEAN) / fashion_mnist::STD
}
