//! Batches as Burn tensors.

mod burn_loader;
mod sequence_batch;

pub use burn_loader::BurnLoader;
pub use sequence_batch::SequenceBatch;

use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use burn::tensor::{AllocationProperty, Bool, Bytes, Device, Element, Float, Int, Tensor, TensorData};

use firebox_workers::stream::Dispatch;
use firebox_workers::{Pool, WorkersExt as _};

use crate::batches::{BatchStream, Batches, Delivered};
use crate::collate::Padded;
use crate::collate::{Collate, Stacked};
use crate::dataset::Lineage;
use crate::elements::Elements;
use crate::error::{Error, ErrorKind};
use crate::loader::{EpochReport, Loader, LoaderState};

/// A batch that has a form as tensors.
///
/// [`Stacked`] arrays of rank R become tensors of rank R + 1 with the samples first, [`Elements`] and a `Vec`
/// one of rank 1, tuples tuples, [`Padded`] sequences a [`SequenceBatch`]; floats, integers and `bool` become
/// tensors of their kind. The values move; on the CPU they are not copied. What worker processes have made
/// stays in the memory that they share, until the tensor is dropped or written.
pub trait IntoTensors {
    /// The tensors.
    type Tensors;

    /// Puts the batch on a device. In Burn the device of a model's input decides whether BatchNorm and
    /// dropout train: pass an autodiff device for training, a plain one for evaluation.
    fn into_tensors(self, device: &Device) -> Self::Tensors;
}

/// Elements as Burn takes them: a vector, or memory of somebody else's.
fn data<E: Element + bytemuck::NoUninit>(values: Elements<E>, shape: Vec<usize>) -> TensorData {
    if values.is_vec() {
        return TensorData::new(values.into_vec(), shape);
    }
    let bytes = Bytes::from_shared(values.into_bytes(), AllocationProperty::Other);
    TensorData::from_bytes(bytes, shape, E::dtype())
}

macro_rules! stacked {
    ($kind:ty: $($element:ty)+) => {$(
        stacked!($element, $kind, 0 1 2 3 4 5);

        impl IntoTensors for Elements<$element> {
            type Tensors = Tensor<1, $kind>;

            fn into_tensors(self, device: &Device) -> Self::Tensors {
                self.into_vec().into_tensors(device)
            }
        }

        impl IntoTensors for Vec<$element> {
            type Tensors = Tensor<1, $kind>;

            fn into_tensors(self, device: &Device) -> Self::Tensors {
                let samples = self.len();
                Tensor::from_data(TensorData::new(self, [samples]), device)
            }
        }
    )+};
    ($element:ty, $kind:ty, $($rank:literal)+) => {$(
        impl IntoTensors for Stacked<$element, $rank> {
            type Tensors = Tensor<{ $rank + 1 }, $kind>;

            fn into_tensors(self, device: &Device) -> Self::Tensors {
                let mut shape = vec![self.samples];
                shape.extend(self.shape);
                Tensor::from_data(data(self.values, shape), device)
            }
        }
    )+};
}

stacked!(Float: f32 f64);
stacked!(Int: i64 i32 i16 i8 u64 u32 u16 u8);
stacked!(Bool: bool);

macro_rules! padded {
    ($($element:ty => $kind:ty),+) => {$(
        impl IntoTensors for Padded<$element> {
            type Tensors = SequenceBatch<$kind>;

            fn into_tensors(self, device: &Device) -> Self::Tensors {
                let shape = [self.lengths.len(), self.longest];
                let mask = Tensor::from_data(TensorData::new(self.mask(), shape), device);
                let lengths: Vec<i64> = self.lengths.into_iter().map(|length| length as i64).collect();
                let values = Tensor::from_data(data(self.values, shape.to_vec()), device);
                SequenceBatch { values, lengths: lengths.into_tensors(device), mask }
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
    /// One thread of its own, which lives as long as the loader, puts the next two batches on the device
    /// while the consumer is busy with one. With a loader without workers the consumer does that itself.
    ///
    /// # Errors
    /// [`ErrorKind::Workers`] if there is no thread to be had; [`ErrorKind::Config`] if it is not
    /// [known](Loader::check_counted) how many batches there are.
    pub fn on_device(self, device: &Device) -> Result<OnDevice<Self>, Error> {
        self.check_counted()?;
        let uploads = device_thread(self.workers())?;
        Ok(OnDevice { loader: self, device: device.clone(), uploads })
    }
}

/// The thread that puts a loader's batches on a device; none if the loader has no workers.
pub(crate) fn device_thread(workers: usize) -> Result<Pool, Error> {
    Pool::named("firebox-device", workers.min(1))
        .map_err(|error| Error::new(ErrorKind::Workers, "no device thread").caused_by(error))
}

/// Tells whether a device computes on the cores that the loader's workers have, too.
///
/// Burn tells in words only which backend a device belongs to: these compute on the processor, whatever they
/// are built with.
fn is_cpu(device: &Device) -> bool {
    names_cpu(&format!("{device:?}"))
}

fn names_cpu(device: &str) -> bool {
    ["Flex", "NdArray", "Cpu"].iter().any(|name| device.contains(name))
}

/// Batches on the device, and not yet taken by the consumer.
const AHEAD: usize = 2;

/// A loader whose batches are tensors: made by [`Loader::on_device`].
///
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// use firebox_data::tensors::OnDevice;
/// use firebox_data::{Loader, Scalar, Stack};
///
/// let points = vec![([1.0, 2.0], 0), ([3.0, 4.0], 1), ([5.0, 6.0], 1)];
/// let layout = (Stack::<f32, 1>::new([2]), Scalar::<i64>::new());
/// let loader = Loader::builder(points).batch_size(2).build(layout, |(at, label), _, (row, class)| {
///     row.copy_from_slice(&at);
///     *class = label;
///     Ok(())
/// })?;
/// let batches: OnDevice<_> = loader.on_device(&Device::default())?;
/// for batch in firebox_data::batches::Batches::epoch(&batches, 0) {
///     let (rows, classes): (Tensor<2>, Tensor<1, Int>) = batch?;
///     assert_eq!(rows.dims(), [classes.dims()[0], 2]);
/// }
/// # Ok::<(), firebox_data::Error>(())
/// ```
pub struct OnDevice<L> {
    loader: L,
    device: Device,
    uploads: Pool,
}

type TensorsOf<L> = <<L as Batches>::Batch as IntoTensors>::Tensors;

impl<L: Batches> OnDevice<L>
where
    L::Batch: IntoTensors + Send + 'static,
    TensorsOf<L>: Send + 'static,
{
    /// The loader behind it.
    pub fn loader(&self) -> &L {
        &self.loader
    }

    fn stream<'l>(
        &'l self,
        host: Box<dyn BatchStream<L::Batch> + 'l>,
    ) -> Box<dyn BatchStream<TensorsOf<L>> + 'l> {
        let device = self.device.clone();
        let on_cpu = is_cpu(&device);
        let uploaded = Uploaded::new(&self.uploads, host, move |batch: L::Batch| batch.into_tensors(&device));
        Box::new(Uploaded { on_cpu: Some(on_cpu), ..uploaded })
    }
}

impl<L: Batches> Batches for OnDevice<L>
where
    L::Batch: IntoTensors + Send + 'static,
    TensorsOf<L>: Send + 'static,
{
    type Batch = TensorsOf<L>;

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

    fn indices(&self, epoch: u64, batch: usize) -> Option<Vec<usize>> {
        self.loader.indices(epoch, batch)
    }

    fn lineage(&self) -> Option<&Lineage> {
        self.loader.lineage()
    }

    fn why_empty(&self, epoch: u64) -> Option<String> {
        self.loader.why_empty(epoch)
    }

    fn device(&self) -> Option<&Device> {
        Some(&self.device)
    }

    fn epoch(&self, epoch: u64) -> Box<dyn BatchStream<Self::Batch> + '_> {
        self.stream(self.loader.epoch(epoch))
    }

    fn resume(&self, state: &LoaderState) -> Result<Box<dyn BatchStream<Self::Batch> + '_>, Error> {
        Ok(self.stream(self.loader.resume(state)?))
    }
}

/// The consumer's state once it has a batch. The stream is ahead of that.
#[derive(Clone)]
struct Behind {
    state: LoaderState,
    delivered: Delivered,
}

/// Puts a batch on the device.
type Upload<B, T> = dyn Fn((B, Behind)) -> (T, Behind, Duration) + Send + Sync;

/// The batches of an epoch on the device, made there [`AHEAD`] of the consumer.
pub(crate) struct Uploaded<'l, B: Send + 'static, T: Send + 'static> {
    host: Box<dyn BatchStream<B> + 'l>,
    /// The device thread is one, so that batches come back in their order.
    uploads: Dispatch<'l, (B, Behind), Box<Upload<B, T>>>,
    /// A batch that the device thread had no room for.
    waiting: Option<(B, Behind)>,
    /// True if the host's batches are at an end, and the error that ended them, if one did.
    ended: bool,
    error: Option<Error>,
    /// True if an error was delivered: nothing comes behind it.
    failed: bool,
    behind: Behind,
    begun: Instant,
    /// Until the last delivery.
    elapsed: Duration,
    waited: Duration,
    /// The device thread's time on the batches delivered.
    uploading: Duration,
    /// True if the consumer computes on the cores of the workers, if that is known.
    on_cpu: Option<bool>,
}

impl<'l, B: Send + 'static, T: Send + 'static> Uploaded<'l, B, T> {
    pub(crate) fn new(
        pool: &'l Pool,
        host: Box<dyn BatchStream<B> + 'l>,
        upload: impl Fn(B) -> T + Send + Sync + 'static,
    ) -> Self {
        let behind = Behind { state: host.state(), delivered: Delivered::default() };
        let upload: Box<Upload<B, T>> = Box::new(move |(batch, behind)| {
            let begun = Instant::now();
            (upload(batch), behind, begun.elapsed())
        });
        let uploads = pool.dispatch(Arc::new(upload), AHEAD);
        let (elapsed, waited) = (Duration::ZERO, Duration::ZERO);
        Uploaded {
            host,
            uploads,
            waiting: None,
            ended: false,
            error: None,
            failed: false,
            behind,
            begun: Instant::now(),
            elapsed,
            waited,
            uploading: Duration::ZERO,
            on_cpu: None,
        }
    }

    /// Hands out what the host has ready; waits for it only if there is nothing else to wait for.
    fn hand_out(&mut self, wait: bool) {
        while self.uploads.outstanding() < AHEAD {
            if self.waiting.is_none() && !self.ended {
                match wait && self.uploads.outstanding() == 0 {
                    true => {
                        let batch = self.host.next();
                        self.note(batch);
                    }
                    false => match self.host.try_next() {
                        Poll::Ready(batch) => self.note(batch),
                        Poll::Pending => return,
                    },
                }
            }
            let Some(batch) = self.waiting.take() else { return };
            if let Err(batch) = self.uploads.send(batch) {
                self.waiting = Some(batch);
                return;
            }
        }
    }

    fn note(&mut self, batch: Option<Result<B, Error>>) {
        match batch {
            Some(Ok(batch)) => {
                let behind = Behind { state: self.host.state(), delivered: self.host.delivered() };
                self.waiting = Some((batch, behind));
            }
            Some(Err(error)) => (self.ended, self.error) = (true, Some(error)),
            None => self.ended = true,
        }
    }

    fn poll(&mut self, wait: bool) -> Poll<Option<Result<T, Error>>> {
        if self.failed {
            return Poll::Ready(None);
        }
        let asked = Instant::now();
        self.hand_out(wait);
        let received = match wait {
            true => self.uploads.receive(),
            false => self.uploads.try_receive(),
        };
        if received.is_none() && self.uploads.outstanding() > 0 {
            return Poll::Pending;
        }
        // While the consumer is busy with this batch, the device thread is with the next.
        self.hand_out(false);
        self.waited += asked.elapsed();
        self.elapsed = self.begun.elapsed();
        match received {
            Some((_, Ok((tensors, behind, took)))) => {
                self.behind = behind;
                self.uploading += took;
                Poll::Ready(Some(Ok(tensors)))
            }
            Some((_, Err(error))) => {
                self.failed = true;
                let text = "a batch was not put on its device";
                let worker = error.worker();
                Poll::Ready(Some(Err(Error::new(ErrorKind::Workers, text)
                    .on_worker(worker)
                    .caused_by(error))))
            }
            None if self.ended && self.waiting.is_none() => Poll::Ready(self.error.take().map(Err)),
            None => Poll::Pending,
        }
    }
}

impl<B: Send + 'static, T: Send + 'static> Iterator for Uploaded<'_, B, T> {
    type Item = Result<T, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.poll(true) {
            Poll::Ready(batch) => batch,
            Poll::Pending => None,
        }
    }
}

impl<B: Send + 'static, T: Send + 'static> BatchStream<T> for Uploaded<'_, B, T> {
    fn try_next(&mut self) -> Poll<Option<Result<T, Error>>> {
        self.poll(false)
    }

    fn delivered(&self) -> Delivered {
        self.behind.delivered
    }

    fn state(&self) -> LoaderState {
        self.behind.state.clone()
    }

    fn waited(&self) -> Duration {
        self.waited
    }

    fn report(&self) -> EpochReport {
        let Delivered { samples, batches, .. } = self.behind.delivered;
        let (elapsed, waited) = (self.elapsed, self.waited);
        let on_cpu = self.on_cpu;
        let mut report = EpochReport { samples, batches, elapsed, waited, on_cpu, ..self.host.report() };
        report.busy.uploading = self.uploading;
        report
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_that_compute_on_the_processor_are_known_by_name() {
        for name in
            ["Device<Flex(Cpu)>", "Device<Autodiff { device: NdArray(Cpu) }>", "Device<LibTorch(Cpu)>"]
        {
            assert!(names_cpu(name), "{name}");
        }
        for name in [
            "Device<Cube(Cuda(0))>",
            "Device<Autodiff { device: Cube(Wgpu(DefaultDevice)) }>",
            "Device<Remote>",
        ] {
            assert!(!names_cpu(name), "{name}");
        }
    }
}
