//! The loader's settings.

use std::error::Error as StdError;
use std::marker::PhantomData;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Instant;

use burn_dataset::Dataset;
use firebox_workers::Pool;

use crate::batch_sampler::{BatchSampler, FixedSize};
use crate::collate::{Collate, SlotOf};
use crate::error::{BoxError, Error, ErrorKind};
use crate::loader::Loader;
use crate::loader::fault::{OnError, Retry};
use crate::loader::report::Busy;
use crate::loader::task::{Executor, Failure, Fill};
use crate::sampler::{Sampler, Sequential, Shuffled};
use crate::seed::SampleRng;

/// More threads than this are a slip, not a wish.
const MAX_WORKERS: usize = 1024;

/// Settings of a [`Loader`]: see there for an example. Made by [`Loader::builder`].
pub struct LoaderBuilder<D, I, E> {
    dataset: D,
    sampler: Option<Box<dyn Sampler>>,
    batches: Option<Box<dyn BatchSampler>>,
    shuffle: bool,
    seed: u64,
    batch_size: usize,
    drop_last: bool,
    workers: Option<usize>,
    prefetch: Option<usize>,
    on_error: OnError,
    retry: Option<Retry>,
    item: PhantomData<fn() -> (I, E)>,
}

impl Loader<()> {
    /// A loader of `dataset`, any [`burn_dataset::Dataset`].
    ///
    /// As it stands: every item in order, one a batch, a number of workers that suits the machine.
    pub fn builder<D, I, E>(dataset: D) -> LoaderBuilder<D, I, E>
    where
        D: Dataset<I, E>,
        E: StdError + Send + Sync + 'static,
    {
        LoaderBuilder {
            dataset,
            sampler: None,
            batches: None,
            shuffle: false,
            seed: 0,
            batch_size: 1,
            drop_last: false,
            workers: None,
            prefetch: None,
            on_error: OnError::Fail,
            retry: None,
            item: PhantomData,
        }
    }
}

impl<D, I, E> LoaderBuilder<D, I, E>
where
    D: Dataset<I, E> + 'static,
    I: 'static,
    E: StdError + Send + Sync + 'static,
{
    /// Samples a batch; at least 1.
    pub fn batch_size(mut self, samples: usize) -> Self {
        self.batch_size = samples;
        self
    }

    /// Whether a last batch that is shorter than the others is left out. Default: no.
    pub fn drop_last(mut self, drop: bool) -> Self {
        self.drop_last = drop;
        self
    }

    /// Whether each epoch has its own random order, fixed by the [`seed`](Self::seed). Default: no.
    pub fn shuffle(mut self, shuffle: bool) -> Self {
        self.shuffle = shuffle;
        self
    }

    /// An order of your own, instead of [`shuffle`](Self::shuffle).
    pub fn sampler(mut self, sampler: impl Sampler + 'static) -> Self {
        self.sampler = Some(Box::new(sampler));
        self
    }

    /// Batches of your own, with their order, instead of [`batch_size`](Self::batch_size) and a sampler.
    pub fn batch_sampler(mut self, batches: impl BatchSampler + 'static) -> Self {
        self.batches = Some(Box::new(batches));
        self
    }

    /// What all randomness follows from, the order's and the transform's. Default: 0.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The number of worker threads. 0 makes each batch in the thread that asks for it. Default: half of the
    /// cores, at least one, at most eight; the batches are the same with any number.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers);
        self
    }

    /// How many batches may be made or waiting ahead of the consumer, at least 1. Default: two a worker, at
    /// least four.
    pub fn prefetch(mut self, batches: usize) -> Self {
        self.prefetch = Some(batches);
        self
    }

    /// What becomes of a sample that cannot be made. Default: [`OnError::Fail`].
    pub fn on_error(mut self, policy: OnError) -> Self {
        self.on_error = policy;
        self
    }

    /// Which errors are worth another try, before [`on_error`](Self::on_error) decides. Default: none.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = Some(retry);
        self
    }

    /// The loader, with a layout and the transform that writes each item into its slot.
    ///
    /// `transform` gets an item of the data set, the sample's own random numbers, and its slot. It is called
    /// by all workers, and may fail with any error.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the batch size or the prefetch depth is 0 or there are more than 1,024 workers,
    /// [`ErrorKind::Workers`] if there are no threads to be had.
    pub fn build<C, F>(self, collate: C, transform: F) -> Result<Loader<C>, Error>
    where
        C: Collate,
        F: for<'a> Fn(I, &mut SampleRng, SlotOf<'a, C>) -> Result<(), BoxError> + Send + Sync + 'static,
    {
        let workers = self.workers.unwrap_or_else(default_workers);
        if workers > MAX_WORKERS {
            let text = format!("workers: expected at most {MAX_WORKERS}, got {workers}");
            return Err(Error::new(ErrorKind::Config, text));
        }
        let prefetch = self.prefetch.unwrap_or((2 * workers).max(4));
        if prefetch == 0 {
            return Err(Error::new(ErrorKind::Config, "prefetch: expected at least 1, got 0"));
        }
        let len = self.dataset.len();
        let batches = match self.batches {
            Some(batches) => batches,
            None => {
                let order = self.sampler.unwrap_or_else(|| match self.shuffle {
                    true => Box::new(Shuffled::new(len, self.seed)),
                    false => Box::new(Sequential::new(len)),
                });
                Box::new(FixedSize::new(order, self.batch_size, self.drop_last)?)
            }
        };
        batches.check(len)?;
        let fingerprint =
            format!("{} of a data set of {len}{}", batches.describe(), self.on_error.describe());
        let pool = Pool::named("firebox-load", workers)
            .map_err(|error| Error::new(ErrorKind::Workers, "no worker threads").caused_by(error))?;
        let fill = Box::new(Filler { dataset: self.dataset, transform, item: PhantomData });
        let executor = Arc::new(Executor {
            fill,
            collate,
            batches,
            seed: self.seed,
            on_error: self.on_error,
            retry: self.retry,
        });
        Ok(Loader { executor, pool, prefetch, seed: self.seed, fingerprint })
    }
}

fn default_workers() -> usize {
    let cores = available_parallelism().map_or(1, usize::from);
    (cores / 2).clamp(1, 8)
}

/// A data set and its transform.
struct Filler<D, F, I, E> {
    dataset: D,
    transform: F,
    item: PhantomData<fn() -> (I, E)>,
}

impl<C, D, F, I, E> Fill<C> for Filler<D, F, I, E>
where
    C: Collate,
    D: Dataset<I, E>,
    F: for<'a> Fn(I, &mut SampleRng, SlotOf<'a, C>) -> Result<(), BoxError> + Send + Sync,
    E: StdError + Send + Sync + 'static,
{
    fn fill(
        &self,
        index: usize,
        rng: &mut SampleRng,
        slot: SlotOf<'_, C>,
        busy: Option<&mut Busy>,
    ) -> Result<(), Failure> {
        let failure = |kind| move |source| Failure { kind, source };
        if index >= self.dataset.len() {
            let text = format!("the sampler gave index {index} of a data set of {}", self.dataset.len());
            return Err(failure(ErrorKind::Dataset)(text.into()));
        }
        let get = || self.dataset.get(index).map_err(|error| failure(ErrorKind::Dataset)(error.into()));
        let transform = |item, rng: &mut SampleRng| {
            (self.transform)(item, rng, slot).map_err(failure(ErrorKind::Transform))
        };
        let Some(busy) = busy else { return transform(get()?, rng) };
        let begun = Instant::now();
        let item = get()?;
        let read = Instant::now();
        let result = transform(item, rng);
        busy.reading += read - begun;
        busy.transforming += read.elapsed();
        result
    }
}
