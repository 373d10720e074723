//! The images of Fashion-MNIST in three parts.

use firebox::data::dataset::Subset;
use firebox::data::formats::fashion_mnist;
use firebox::data::formats::idx::{LabelledImages, SealedImages};
use firebox::data::loader::{Indexed, LoaderBuilder};
use firebox::data::{self, BoxError, Dataset};
use firebox::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{Recipe, judge};

/// Images to learn from, to choose the best checkpoint by, and to measure it with at the end.
pub(crate) struct Data {
    pub(crate) train: Images,
    pub(crate) valid: Images,
    pub(crate) test: Images,
}

impl Data {
    pub(crate) fn open(recipe: &Recipe) -> Result<Self, BoxError> {
        let all = fashion_mnist::train(&recipe.data_dir)?.seal()?;
        let tests = fashion_mnist::test(&recipe.data_dir)?.seal()?;
        let part = |part, images: &SealedImages, limit: Option<usize>| Images {
            part,
            images: images.clone(),
            limit: limit.unwrap_or(usize::MAX),
            batch_size: recipe.batch_size,
            seed: recipe.common.seed(),
            shuffle: false,
            threads: recipe.common.threads.in_recipe(),
        };
        let data = Data {
            train: part(Part::Train, &all, recipe.limit_train),
            valid: part(Part::Valid, &all, recipe.limit_test),
            test: part(Part::Test, &tests, recipe.limit_test),
        };
        let [train, valid, test] = [data.train.count()?, data.valid.count()?, data.test.count()?];
        // A distance needs two of each.
        if train == 0 || valid < 2 || test < 2 {
            let counts = format!("{train} to train, {valid} to validate and {test} to test");
            return Err(format!("{}: expected images, got {counts}", recipe.data_dir.display()).into());
        }
        Ok(data)
    }
}

/// The images that a loader has.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Part {
    Train,
    Valid,
    Test,
}

/// The images that a loader has, and their order, as data, so that worker processes can make it, too.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Images {
    part: Part,
    images: SealedImages,
    limit: usize,
    batch_size: usize,
    seed: u64,
    shuffle: bool,
    threads: Option<usize>,
}

impl Images {
    /// The same images in another order in each epoch.
    pub(crate) fn shuffled(&self) -> Self {
        Images { shuffle: true, ..self.clone() }
    }

    /// The same images in batches of another size, with another seed.
    pub(crate) fn batched(self, batch_size: usize, seed: u64) -> Self {
        Images { batch_size, seed, ..self }
    }

    pub(crate) fn count(&self) -> Result<usize, data::Error> {
        Ok(self.subset()?.len())
    }

    /// A `Subset` knows what it is a part of: the trainer looks whether images that it trains on are among
    /// those of the validation.
    fn subset(&self) -> Result<Subset<Subset<LabelledImages>>, data::Error> {
        let images = self.images.open();
        let twelfth = images.len() / 12;
        let part = match self.part {
            Part::Train => random_split(images, twelfth, judge::SEED)?.0,
            Part::Valid => random_split(images, twelfth, judge::SEED)?.1,
            Part::Test => Subset::all(images),
        };
        Ok(Subset::first(part, self.limit))
    }

    /// A loader's beginning, without the layout of its batches.
    pub(crate) fn builder(
        &self,
    ) -> Result<LoaderBuilder<Indexed<Subset<Subset<LabelledImages>>>>, data::Error> {
        let builder = Loader::builder(self.subset()?).batch_size(self.batch_size).seed(self.seed);
        Ok(builder.shuffle(self.shuffle).workers(self.threads))
    }
}
