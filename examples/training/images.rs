//! The images of Fashion-MNIST in three parts, and their way into a batch.

use firebox::data::dataset::Subset;
use firebox::data::formats::fashion_mnist;
use firebox::data::formats::idx::{LabelledImage, LabelledImages, SealedImages};
use firebox::data::{self, BoxError, Dataset};
use firebox::prelude::*;
use serde::{Deserialize, Serialize};

use crate::Recipe;

/// The images that a loader has.
///
/// A twelfth of the training images, 5,000, decides which checkpoint is the best; the test images are seen
/// once, at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Part {
    Train,
    Valid,
    Test,
}

/// A loader of images as data, so that worker processes can make it, too.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Images {
    part: Part,
    images: SealedImages,
    limit: Option<usize>,
    batch_size: usize,
    seed: u64,
    augment: bool,
    threads: Option<usize>,
}

impl Images {
    /// The images for training, validation and test; none of the three is empty.
    pub(crate) fn parts(recipe: &Recipe) -> Result<[Self; 3], BoxError> {
        let all = fashion_mnist::train(&recipe.data_dir)?.seal()?;
        let tests = fashion_mnist::test(&recipe.data_dir)?.seal()?;
        let part = |part, images: &SealedImages| {
            let one_batch = recipe.fast_dev_run.then_some(recipe.batch_size);
            let limit = match part {
                Part::Train => recipe.limit_train,
                Part::Valid => recipe.limit_test,
                Part::Test => one_batch.into_iter().chain(recipe.limit_test).min(),
            };
            Images {
                part,
                images: images.clone(),
                limit,
                batch_size: recipe.batch_size,
                seed: recipe.common.seed(),
                augment: recipe.augment && part == Part::Train,
                threads: recipe.common.threads.in_recipe(),
            }
        };
        let parts = [part(Part::Train, &all), part(Part::Valid, &all), part(Part::Test, &tests)];
        let [train, valid, test] = &parts;
        let counts = [train.subset()?.len(), valid.subset()?.len(), test.subset()?.len()];
        if counts.contains(&0) {
            let [train, valid, test] = counts;
            let counts = format!("{train} to train, {valid} to validate and {test} to test");
            return Err(format!("{}: expected images, got {counts}", recipe.data_dir.display()).into());
        }
        Ok(parts)
    }

    /// A `Subset` knows what it is a part of: the trainer looks whether images that it trains on are among
    /// those of the validation.
    pub(crate) fn subset(&self) -> Result<Subset<Subset<LabelledImages>>, data::Error> {
        let images = self.images.open();
        let twelfth = images.len() / 12;
        let part = match self.part {
            Part::Train => random_split(images, twelfth, self.seed)?.0,
            Part::Valid => random_split(images, twelfth, self.seed)?.1,
            Part::Test => Subset::all(images),
        };
        Ok(Subset::first(part, self.limit.unwrap_or(usize::MAX)))
    }
}

/// Grey images of one channel, and their classes.
type Layout = (Stack<f32, 3>, Scalar<i64>);

impl data::Recipe for Images {
    type Layout = Layout;

    fn loader(&self) -> Result<Loader<Layout>, data::Error> {
        let builder = Loader::builder(self.subset()?).batch_size(self.batch_size).seed(self.seed);
        let builder = builder.shuffle(self.part == Part::Train).workers(self.threads);
        let layout = (Stack::new([1, 28, 28]), Scalar::new());
        builder.build(layout, sample(self.augment))
    }
}

/// The slot of an image and its class.
type Slot<'a> = (&'a mut [f32], &'a mut i64);

/// Writes an image into its slot with mean 0 and variance 1.
///
/// Augmented, it is shifted by up to two pixels, and mirrored half of the time.
pub(crate) fn sample(
    augment: bool,
) -> impl for<'a> Fn(LabelledImage, &mut SampleRng, Slot<'a>) -> Result<(), BoxError> {
    move |image, rng, (pixels, class)| {
        let mut shift = || if augment { rng.below(5) as usize } else { 2 };
        let (down, right) = (shift(), shift());
        let mirror = augment && rng.chance(0.5);
        for (place, to) in pixels.iter_mut().enumerate() {
            let (row, column) = (place / 28, place % 28);
            let column = if mirror { 27 - column } else { column };
            let from = match (row + down, column + right) {
                (row @ 2..30, column @ 2..30) => image.pixels[(row - 2) * 28 + column - 2],
                _ => 0,
            };
            *to = (f32::from(from) / 255.0 - fashion_mnist::MEAN) / fashion_mnist::STD;
        }
        *class = i64::from(image.label);
        Ok(())
    }
}
