//! Fashion-MNIST: 60,000 + 10,000 grey images of ten kinds of clothing, 28×28 (Xiao, Rasul, Vollgraf 2017).

use std::path::Path;

use crate::error::{Error, ErrorKind};
use crate::formats::gzip::find;
use crate::formats::idx::LabelledImages;

/// The names of the classes, by label.
pub const CLASSES: [&str; 10] = [
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
];

/// The mean of the training pixels, as a fraction of 255.
pub const MEAN: f32 = 0.2860;

/// The standard deviation of the training pixels, as a fraction of 255.
pub const STD: f32 = 0.3530;

/// The 60,000 images for training, from the four files in `folder`, with or without `.gz`.
pub fn train(folder: impl AsRef<Path>) -> Result<LabelledImages, Error> {
    open(folder.as_ref(), "train")
}

/// The 10,000 images for testing: see [`train`].
pub fn test(folder: impl AsRef<Path>) -> Result<LabelledImages, Error> {
    open(folder.as_ref(), "t10k")
}

fn open(folder: &Path, part: &str) -> Result<LabelledImages, Error> {
    let file = |kind: &str| find(folder, &format!("{part}-{kind}-ubyte"));
    let images = LabelledImages::open(file("images-idx3")?, file("labels-idx1")?, CLASSES.len())?;
    match images.size() {
        [28, 28] => Ok(images),
        [height, width] => {
            let text = format!("expected images of 28×28 pixels, got {height}×{width}");
            Err(Error::new(ErrorKind::Format, text).at_path(file("images-idx3")?))
        }
    }
}
