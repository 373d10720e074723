//! firebox's loader, with each prefetch depth that the peer is tried with.

use candle_core::{Device, Tensor};
use firebox_candle::InputTensor;
use firebox_data::Loader;
use firebox_data::collate::StackWhole;
use firebox_data::dataset::from_fn;
use firebox_data::loader::Epoch;

use crate::measure::{BATCH, Contestant, Result};
use crate::samples::{COUNT, Sample};

type Layout = StackWhole<f32, 3>;

/// How a batch becomes a tensor.
#[derive(Clone, Copy)]
pub(crate) enum Way {
    /// `Tensor::from_vec`: the memory is the tensor's for good.
    GivenAway,
    /// [`InputTensor`]: the memory comes back.
    Lent,
}

/// A loader in random order, and its consumer.
pub(crate) struct Ours {
    loader: Loader<Layout>,
    way: Way,
    input: InputTensor,
    epoch: u64,
}

impl Ours {
    pub(crate) fn new<S: Sample>(workers: usize, prefetch_depth: usize, way: Way) -> Result<Self> {
        let loader = Loader::builder(from_fn(COUNT, |index| Ok(S::get(index))))
            .shuffle(true)
            .seed(1)
            .batch_size(BATCH)
            .workers(workers)
            .prefetch(prefetch_depth)
            .build(StackWhole::new([3, 32, 32]), |sample, _, slot| sample.fill(slot))?;
        Ok(Ours { loader, way, input: InputTensor::new(), epoch: 0 })
    }
}

impl Contestant for Ours {
    fn batches(&mut self, most: usize, look: &mut dyn FnMut(&Tensor) -> Result<()>) -> Result<()> {
        self.epoch += 1;
        let mut epoch: Epoch<'_, Layout> = self.loader.epoch(self.epoch);
        for batch in epoch.by_ref().take(most) {
            let batch = batch?;
            let shape = (batch.samples, 3, 32, 32);
            match self.way {
                Way::GivenAway => look(&Tensor::from_vec(batch.values.into_vec(), shape, &Device::Cpu)?)?,
                Way::Lent => look(self.input.load(batch)?)?,
            }
        }
        Ok(())
    }
}
