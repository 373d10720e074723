//! Settings of data with random access.

use crate::dataset::Dataset;
use crate::loader::builder::LoaderBuilder;
use crate::loader::source::Indexed;
use crate::sampler::{BatchSampler, Sampler};

impl<D: Dataset, T> LoaderBuilder<Indexed<D>, T> {
    /// Sets whether each epoch has its own random order, fixed by the [`seed`](Self::seed). Default: no.
    pub fn shuffle(mut self, shuffle: bool) -> Self {
        self.data.shuffle = shuffle;
        self
    }

    /// An order of your own, instead of [`shuffle`](Self::shuffle).
    pub fn sampler(mut self, sampler: impl Sampler + 'static) -> Self {
        self.data.sampler = Some(Box::new(sampler));
        self
    }

    /// Batches of your own, with their order, instead of [`batch_size`](Self::batch_size) and a sampler.
    pub fn batch_sampler(mut self, batches: impl BatchSampler + 'static) -> Self {
        self.data.batches = Some(Box::new(batches));
        self
    }
}
