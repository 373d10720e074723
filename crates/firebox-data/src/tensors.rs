//! Batches as Burn tensors.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use burn::tensor::{Device, Element, Float, Int, Tensor, TensorData};

use firebox_workers::Pool;

use crate::batches::{BatchStream, Batches};
use crate::collate::{Collate, Stacked};
use crate::error::{Error, ErrorKind};
use crate::loader::{Epoch, EpochReport, Loader, LoaderState};
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
                Tensor::from_data(TensorData::new(self.values.into_vec(), shape), device)
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
                (Tensor::from_data(TensorData::new(self.values.into_vec(), shape), device), lengths.into_tensors(device))
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
    ///
    /// One thread of its own, which lives as long as the loader, puts the next two batches on the device while the
    /// consumer is busy with one. With a loader without workers the consumer does that itself.
    ///
    /// # Errors
    /// [`ErrorKind::Workers`] if there is no thread to be had.
    pub fn on_device(self, device: &Device) -> Result<OnDevice<C>, Error> {
        let uploads = Pool::named("firebox-device", self.workers().min(1))
            .map_err(|error| Error::new(ErrorKind::Workers, "no device thread").caused_by(error))?;
        Ok(OnDevice { loader: self, device: device.clone(), uploads })
    }
}

/// Batches on the device, and not yet taken by the consumer.
const AHEAD: usize = 2;

/// A [`Loader`] whose batches are tensors: made by [`Loader::on_device`].
pub struct OnDevice<C: Collate> {
    loader: Loader<C>,
    device: Device,
    uploads: Pool,
}

impl<C: Collate> OnDevice<C>
where
    C::Batch: IntoTensors,
    <C::Batch as IntoTensors>::Tensors: Send + 'static,
{
    /// The loader behind it.
    pub fn loader(&self) -> &Loader<C> {
        &self.loader
    }

    fn stream<'l>(
        &'l self,
        epoch: Epoch<'l, C>,
    ) -> Box<dyn BatchStream<<C::Batch as IntoTensors>::Tensors> + 'l> {
        // The stream begins with waiting for its first batches.
        let begun = Instant::now();
        let delivered = Delivered { state: epoch.state(), samples: 0, batches: 0 };
        let epoch = Rc::new(RefCell::new(epoch));
        let batches = HostBatches(Rc::clone(&epoch));
        let device = self.device.clone();
        let upload = move |batch: HostBatch<C>| {
            batch.map(|(batch, delivered)| (batch.into_tensors(&device), delivered))
        };
        let uploads = self.uploads.imap(upload, batches, AHEAD);
        let waited = begun.elapsed();
        Box::new(Tensors { uploads: Some(uploads), epoch, delivered, begun, elapsed: waited, waited })
    }
}

impl<C: Collate> Batches for OnDevice<C>
where
    C::Batch: IntoTensors,
    <C::Batch as IntoTensors>::Tensors: Send + 'static,
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

/// What the consumer has got once it has a batch. The epoch behind it is ahead of that.
#[derive(Clone)]
struct Delivered {
    state: LoaderState,
    samples: usize,
    batches: usize,
}

/// A batch on its way to the device.
type HostBatch<C> = Result<(<C as Collate>::Batch, Delivered), Error>;

/// The batches of an epoch on their way to the device.
struct HostBatches<'l, C: Collate>(Rc<RefCell<Epoch<'l, C>>>);

impl<C: Collate> Iterator for HostBatches<'_, C> {
    type Item = HostBatch<C>;

    fn next(&mut self) -> Option<HostBatch<C>> {
        let mut epoch = self.0.borrow_mut();
        let batch = epoch.next()?;
        let (samples, batches) = (epoch.report().samples, epoch.report().batches);
        Some(batch.map(|batch| (batch, Delivered { state: epoch.state(), samples, batches })))
    }
}

/// The batches of an epoch on the device.
struct Tensors<'l, C: Collate, U> {
    /// `None` once an error was delivered.
    uploads: Option<U>,
    epoch: Rc<RefCell<Epoch<'l, C>>>,
    delivered: Delivered,
    begun: Instant,
    /// Until the last delivery.
    elapsed: Duration,
    waited: Duration,
}

impl<C, T, U> Iterator for Tensors<'_, C, U>
where
    C: Collate,
    U: Iterator<Item = Result<Result<(T, Delivered), Error>, firebox_workers::Error>>,
{
    type Item = Result<T, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let asked = Instant::now();
        let result = self.uploads.as_mut()?.next();
        self.waited += asked.elapsed();
        self.elapsed = self.begun.elapsed();
        let lost = |error: firebox_workers::Error| {
            let text = "a batch was not put on its device";
            Err(Error::new(ErrorKind::Workers, text).on_worker(error.worker()).caused_by(error))
        };
        match result?.unwrap_or_else(lost) {
            Ok((tensors, delivered)) => {
                self.delivered = delivered;
                Some(Ok(tensors))
            }
            Err(error) => {
                self.uploads = None;
                Some(Err(error))
            }
        }
    }
}

impl<C, T, U> BatchStream<T> for Tensors<'_, C, U>
where
    C: Collate,
    U: Iterator<Item = Result<Result<(T, Delivered), Error>, firebox_workers::Error>>,
{
    fn state(&self) -> LoaderState {
        self.delivered.state.clone()
    }

    fn waited(&self) -> Duration {
        self.waited
    }

    fn report(&self) -> EpochReport {
        let Delivered { samples, batches, .. } = self.delivered;
        let (elapsed, waited) = (self.elapsed, self.waited);
        EpochReport { samples, batches, elapsed, waited, ..self.epoch.borrow().report().clone() }
    }
}
