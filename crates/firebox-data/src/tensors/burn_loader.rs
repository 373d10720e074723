//! A loader as one of Burn's own: a [`DataLoader`] for `burn_train::SupervisedTraining` and whatever else
//! takes one.
//!
//! What the loader guarantees holds here, too: batches come in their order, each epoch is whole or ends in an
//! error that names the sample. (A worker of Burn's own loader that panics ends the epoch early, and nothing
//! says so.)

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use burn::data::dataloader::{DataLoader, DataLoaderIterator, Progress};
use burn::tensor::Device;
use burn_dataset::DatasetError;

use firebox_workers::Pool;

use crate::batches::BatchStream;
use crate::collate::Collate;
use crate::error::{Error, ErrorKind};
use crate::loader::Loader;
use crate::tensors::{IntoTensors, Uploaded, device_thread};

impl<C: Collate> Loader<C>
where
    C::Batch: IntoTensors,
{
    /// The loader as one of Burn's, which puts its batches on a device and makes them what the model takes: a
    /// struct, or the [tensors](IntoTensors) as they are, with `|tensors| tensors`.
    ///
    /// ```no_run
    /// use std::sync::Arc;
    /// use burn::data::dataloader::DataLoader;
    /// use burn::tensor::{Device, Int, Tensor};
    /// use firebox_data::{Error, Loader, Scalar, Stack};
    ///
    /// /// What the model's `TrainStep` takes.
    /// struct Images {
    ///     images: Tensor<4>,
    ///     labels: Tensor<1, Int>,
    /// }
    ///
    /// fn train(loader: Loader<(Stack<f32, 3>, Scalar<i64>)>, device: &Device) -> Result<(), Error> {
    ///     let train = loader.into_burn(device, |(images, labels)| Images { images, labels })?;
    ///     // If the run goes on behind its second epoch: `SupervisedTraining::checkpoint(2)`.
    ///     train.set_epoch(2);
    ///     let train: Arc<dyn DataLoader<Images>> = Arc::new(train);
    ///     // SupervisedTraining::new("run", train, valid)
    /// #   let _ = train;
    ///     Ok(())
    /// }
    /// ```
    ///
    /// `batch` is called in the loader's device thread, in the order of the batches, while the consumer is
    /// busy with earlier ones; see [`on_device`](Self::on_device).
    ///
    /// # Errors
    /// [`ErrorKind::Workers`] if there is no thread to be had;
    /// [`ErrorKind::Config`] for a stream, whose items can't be shared out.
    pub fn into_burn<B: Send + 'static>(
        self,
        device: &Device,
        batch: impl Fn(<C::Batch as IntoTensors>::Tensors) -> B + Send + Sync + 'static,
    ) -> Result<BurnLoader<C, B>, Error> {
        if self.items().is_none() {
            let text = "a loader of Burn's: expected data with random access, got a stream";
            return Err(Error::new(ErrorKind::Config, text));
        }
        let uploads = Arc::new(device_thread(self.workers())?);
        let upload = move |host: C::Batch, device: &Device| batch(host.into_tensors(device));
        let (loader, upload, epoch) = (Arc::new(self), Arc::new(upload), Arc::default());
        Ok(BurnLoader { loader, upload, device: device.clone(), uploads, epoch })
    }
}

/// A [`Loader`] as a Burn [`DataLoader`]: made by [`Loader::into_burn`].
///
/// Burn's loaders know no epochs. This one counts: each [`iter`](DataLoader::iter) is the next epoch, from 0
/// or what [`set_epoch`](Self::set_epoch) said, with the batches of [`Loader::epoch`] in their order.
///
/// **Errors.** An iterator ends after the last batch, or after the first error: a [`DatasetError`] whose
/// source is this crate's [`Error`]. `SupervisedTraining` stops at it and has it in its result's `error`.
///
/// **Progress** is in samples. Those that a batch went without ([`OnError::Skip`](crate::OnError::Skip))
/// count as processed.
///
/// **Devices.** [`to_device`](DataLoader::to_device) gives the same loader with another device: the workers
/// and the count of epochs are shared. `SupervisedTraining` takes the training loader to its device with
/// autodiff and the validation loader to the same one without, so that both get their mode, whatever device
/// they were made with. (Its `DistributedDataParallel` doesn't if it has one device only: make the training
/// loader with autodiff for that.)
///
/// **Slices.** [`slice`](DataLoader::slice), by which Burn shares the data among devices, is
/// [`Loader::slice`]: the range is cut before anything is sampled. A slice has the workers and the device
/// thread in common with the loader, and counts epochs for itself, from where the loader stands. It panics if
/// the range is not within the items.
///
/// Burn takes [`num_items`](DataLoader::num_items), the samples of the next epoch, for the items that there
/// are to share. Where they differ, none is lost: without its short last batch a loader has fewer samples,
/// and an `end` of `num_items` is the end of the items; with an order of your own, the range is stretched to
/// the items.
pub struct BurnLoader<C: Collate, B> {
    loader: Arc<Loader<C>>,
    upload: Arc<ToDevice<C, B>>,
    device: Device,
    /// The device thread: one for the loader's life and for all devices, since slices and moves can't fail.
    uploads: Arc<Pool>,
    /// The epoch of the next iterator.
    epoch: Arc<AtomicU64>,
}

type ToDevice<C, B> = dyn Fn(<C as Collate>::Batch, &Device) -> B + Send + Sync;

impl<C: Collate, B> BurnLoader<C, B> {
    /// The loader behind it.
    pub fn loader(&self) -> &Loader<C> {
        &self.loader
    }

    /// The epoch that the next iterator has.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Relaxed)
    }

    /// Says which epoch the next iterator has: for a resumed run, the number of epochs behind it, which is
    /// what `SupervisedTraining::checkpoint` is given. The loader for validation needs it, too, if anything
    /// in it is random.
    pub fn set_epoch(&self, epoch: u64) {
        self.epoch.store(epoch, Ordering::Relaxed);
    }

    /// The samples of an epoch, which are known of every data set.
    fn samples(&self, epoch: u64) -> usize {
        self.loader.samples(epoch).unwrap_or(0)
    }

    /// The items that Burn means by a range.
    fn items(&self, start: usize, end: usize) -> Range<usize> {
        let (items, samples) = (self.loader.items().unwrap_or(0), self.samples(self.epoch()));
        let to_items = |at: usize| (at as u128 * items as u128 / samples.max(1) as u128) as usize;
        match self.loader.has_plain_order() {
            true if start < end && end == samples => start..items,
            true => start..end,
            false => to_items(start)..to_items(end),
        }
    }
}

impl<C: Collate, B: Send + 'static> DataLoader<B> for BurnLoader<C, B> {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<B> + 'a> {
        let epoch = self.epoch.fetch_add(1, Ordering::Relaxed);
        let (device, upload) = (self.device.clone(), Arc::clone(&self.upload));
        let upload = move |batch| upload(batch, &device);
        let batches = Uploaded::new(&self.uploads, Box::new(self.loader.epoch(epoch)), upload);
        Box::new(Iter { batches, samples: self.samples(epoch) })
    }

    fn num_items(&self) -> usize {
        self.samples(self.epoch())
    }

    fn to_device(&self, device: &Device) -> Arc<dyn DataLoader<B>> {
        Arc::new(BurnLoader {
            loader: Arc::clone(&self.loader),
            upload: Arc::clone(&self.upload),
            device: device.clone(),
            uploads: Arc::clone(&self.uploads),
            epoch: Arc::clone(&self.epoch),
        })
    }

    fn slice(&self, start: usize, end: usize) -> Arc<dyn DataLoader<B>> {
        let loader = match self.loader.slice(self.items(start, end)) {
            Ok(loader) => loader,
            Err(error) => panic!("{error}"),
        };
        Arc::new(BurnLoader {
            loader: Arc::new(loader),
            upload: Arc::clone(&self.upload),
            device: self.device.clone(),
            uploads: Arc::clone(&self.uploads),
            epoch: Arc::new(AtomicU64::new(self.epoch())),
        })
    }
}

/// The batches of one epoch.
struct Iter<'l, H: Send + 'static, B: Send + 'static> {
    batches: Uploaded<'l, H, B>,
    /// All of the epoch.
    samples: usize,
}

impl<H: Send + 'static, B: Send + 'static> Iterator for Iter<'_, H, B> {
    type Item = Result<B, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.batches.next()?.map_err(DatasetError::new))
    }
}

impl<H: Send + 'static, B: Send + 'static> DataLoaderIterator<B> for Iter<'_, H, B> {
    fn progress(&self) -> Progress {
        let delivered = self.batches.delivered();
        Progress::new(delivered.samples + delivered.skipped, self.samples, Some("items".to_owned()))
    }
}
