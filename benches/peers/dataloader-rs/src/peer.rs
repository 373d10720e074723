//! dataloader-rs, set up as its documentation advises for samples in memory.

use std::marker::PhantomData;

use candle_core::{Device, Tensor};
use dataloader_rs::{Collator, DataLoader, Dataset, RandomSampler, Result};

use crate::measure::{BATCH, Contestant};
use crate::samples::{COUNT, ELEMENTS, Sample};

/// A loader in random order, and its consumer.
pub(crate) struct Peer<S: Sample>(DataLoader<Samples<S>, RandomSampler, IntoTensor>);

impl<S: Sample> Peer<S> {
    pub(crate) fn new(workers: usize, prefetch_depth: usize) -> Self {
        let builder = DataLoader::builder(Samples(PhantomData)).batch_size(BATCH).num_workers(workers);
        let builder = builder.prefetch_depth(prefetch_depth).sampler(RandomSampler::new(1));
        Peer(builder.collator(IntoTensor).build())
    }
}

impl<S: Sample> Contestant for Peer<S> {
    fn batches(&mut self, most: usize, look: &mut dyn FnMut(&Tensor) -> Result<()>) -> Result<()> {
        for batch in self.0.iter().take(most) {
            look(&batch?)?;
        }
        Ok(())
    }
}

struct Samples<S>(PhantomData<fn() -> S>);

impl<S: Sample> Dataset for Samples<S> {
    type Item = S;

    fn get(&self, index: usize) -> Result<S> {
        Ok(S::get(index))
    }

    fn len(&self) -> usize {
        COUNT
    }
}

/// Writes a batch into one buffer, each element once, and makes that the tensor.
struct IntoTensor;

impl<S: Sample> Collator<S> for IntoTensor {
    type Batch = Tensor;

    fn collate(&self, samples: Vec<S>) -> Result<Tensor> {
        let mut values = Vec::with_capacity(samples.len() * ELEMENTS);
        samples.iter().for_each(|sample| sample.append(&mut values));
        Tensor::from_vec(values, (samples.len(), 3, 32, 32), &Device::Cpu).map_err(Into::into)
    }
}
