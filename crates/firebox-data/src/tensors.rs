//! Batches as Burn tensors.

use std::time::{Duration, Instant};

use burn::tensor::{Device, Element, Float, Int, Tensor, TensorData};

use crate::batches::{BatchStream, Batches};
use crate::collate::{Collate, Stacked};
use crate::error::Error;
use crate::loader::{Epoch, Loader, LoaderState};
use crate::pad::Padded;

/// A batch that has a form as tensors.
///
/// [`Stacked`] arrays of rank R become `Tensor<R + 1>` with the samples first, integers `Tensor<1, Int>`,
/// tuples tuples. The values move; on the CPU they are not copied.
pub trait IntoTensors {
    /// The tensors.
    type Tensors;

    /// Puts the batch on a device. In Burn the device of a model's input decides whether BatchNorm and
    /// dropout train: pass an autodiff device for training, a plain one for evaluation.
    fn into_tensors(self, device: &Device) -> Self::Tensors;
}

macro_rules! stacked {
    ($($rank:literal)+) => {$(
        impl<T: Element> IntoTensors for Stacked<T, $rank> {
            type Tensors = Tensor<{ $rank + 1 }>;

            fn into_tensors(self, device: &Device) -> Self::Tensors {
                let mut shape = vec![self.samples];
                shape.extend(self.shape);
                Tensor::from_data(TensorData::new(self.values, shape), device)
            }
        }
    )+};
}

stacked!(0 1 2 3 4 5);

impl IntoTensors for Vec<i64> {
    type Tensors = Tensor<1, Int>;

    fn into_tensors(self, device: &Device) -> Self::Tensors {
        let samples = self.len();
        Tensor::from_data(TensorData::new(self, [samples]), device)
    }
}

macro_rules! padded {
    ($($element:ty => $kind:ty),+) => {$(
        /// Values `[batch, longest]` and lengths `[batch]`.
        impl IntoTensors for Padded<$element> {
            type Tensors = (Tensor<2, $kind>, Tensor<1, Int>);

            fn into_tensors(self, device: &Device) -> Self::Tensors {
                let shape = [self.lengths.len(), self.longest];
                let lengths: Vec<i64> = self.lengths.into_iter().map(|length| length as i64).collect();
                (Tensor::from_data(TensorData::new(self.values, shape), device), lengths.into_tensors(device))
            }
        }
    )+};
}

padded!(i64 => Int, f32 => Float);

macro_rules! tuples {
    ($(($($batch:ident $at:tt),+))+) => {$(
        impl<$($batch: IntoTensors),+> IntoTensors for ($($batch,)+) {
            type Tensors = ($($batch::Tensors,)+);

            fn into_tensors(self, device: &Device) -> Self::Tensors {
                ($(self.$at.into_tensors(device),)+)
            }
        }
    )+};
}

tuples! {
    (A 0, B 1)
    (A 0, B 1, C 2)
    (A 0, B 1, C 2, D 3)
}

impl<C: Collate> Loader<C>
where
    C::Batch: IntoTensors,
{
    /// The loader with its batches as tensors on a device: an autodiff device for training, a plain one for
    /// evaluation.
    pub fn on_device(self, device: &Device) -> OnDevice<C> {
        OnDevice { loader: self, device: device.clone() }
    }
}

/// A [`Loader`] whose batches are tensors: made by [`Loader::on_device`].
pub struct OnDevice<C: Collate> {
    loader: Loader<C>,
    device: Device,
}

impl<C: Collate> OnDevice<C> {
    /// The loader behind it.
    pub fn loader(&self) -> &Loader<C> {
        &self.loader
    }

    fn stream<'l>(
        &'l self,
        epoch: Epoch<'l, C>,
    ) -> Box<dyn BatchStream<<C::Batch as IntoTensors>::Tensors> + 'l>
    where
        C::Batch: IntoTensors,
    {
        Box::new(Tensors { epoch, device: &self.device, uploading: Duration::ZERO })
    }
}

impl<C: Collate> Batches for OnDevice<C>
where
    C::Batch: IntoTensors,
{
    type Batch = <C::Batch as IntoTensors>::Tensors;

    fn batches(&self, epoch: u64) -> usize {
        self.loader.batches(epoch)
    }

    fn samples(&self, epoch: u64) -> usize {
        self.loader.samples(epoch)
    }

    fn state(&self, epoch: u64) -> LoaderState {
        self.loader.state(epoch)
    }

    fn check(&self, state: &LoaderState) -> Result<(), Error> {
        self.loader.check(state)
    }

    fn epoch(&self, epoch: u64) -> Box<dyn BatchStream<Self::Batch> + '_> {
        self.stream(self.loader.epoch(epoch))
    }

    fn resume(&self, state: &LoaderState) -> Result<Box<dyn BatchStream<Self::Batch> + '_>, Error> {
        Ok(self.stream(self.loader.resume(state)?))
    }
}

struct Tensors<'l, C: Collate> {
    epoch: Epoch<'l, C>,
    device: &'l Device,
    uploading: Duration,
}

impl<C: Collate> Iterator for Tensors<'_, C>
where
    C::Batch: IntoTensors,
{
    type Item = Result<<C::Batch as IntoTensors>::Tensors, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.epoch.next()?;
        let begun = Instant::now();
        let tensors = batch.map(|batch| batch.into_tensors(self.device));
        self.uploading += begun.elapsed();
        Some(tensors)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.epoch.size_hint()
    }
}

impl<C: Collate> BatchStream<<C::Batch as IntoTensors>::Tensors> for Tensors<'_, C>
where
    C::Batch: IntoTensors,
{
    fn state(&self) -> LoaderState {
        self.epoch.state()
    }

    fn waited(&self) -> Duration {
        self.epoch.waited() + self.uploading
    }
}
