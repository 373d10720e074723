//! The loader's settings.

use std::sync::Arc;
use std::time::Duration;

use firebox_core::{SampleRng, SampleSeed, StageKey};
use firebox_workers::Pool;

use crate::batch_sampler::{BatchSampler, FixedSize};
use crate::collate::{Collate, SlotOf};
use crate::dataset::{Dataset, Lineage};
use crate::error::{BoxError, Error, ErrorKind, check};
use crate::loader::Loader;
use crate::loader::auto::Auto;
use crate::loader::fault::{OnError, Retry};
use crate::loader::gate::Gate;
use crate::loader::slice::{Items, Order, fingerprint};
use crate::loader::task::{Executor, Failure, Fill, Gates, Stages};
use crate::sampler::{Sampler, Sequential, Shuffled};

/// More threads than this are a slip, not a wish.
const MAX_WORKERS: usize = 1024;

/// Settings of a [`Loader`] of the data `S`: see there for an example. Made by [`Loader::builder`].
pub struct LoaderBuilder<S> {
    pub(super) data: S,
    pub(super) settings: Settings,
}

/// Data with random access: a data set, in an order.
pub struct Indexed<D> {
    dataset: D,
    sampler: Option<Box<dyn Sampler>>,
    batches: Option<Box<dyn BatchSampler>>,
    shuffle: bool,
}

/// The settings that don't depend on the kind of data.
pub(super) struct Settings {
    pub(super) seed: u64,
    pub(super) batch_size: usize,
    pub(super) drop_last: bool,
    pub(super) on_error: OnError,
    pub(super) retry: Option<Retry>,
    workers: Option<usize>,
    readers: Option<usize>,
    prefetch: Option<usize>,
    prefetch_bytes: Option<usize>,
    as_completed: bool,
    timeout: Option<Duration>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            seed: 0,
            batch_size: 1,
            drop_last: false,
            on_error: OnError::Fail,
            retry: None,
            workers: None,
            readers: None,
            prefetch: None,
            prefetch_bytes: None,
            as_completed: false,
            timeout: None,
        }
    }
}

impl Loader<()> {
    /// A loader of `dataset`, any [`Dataset`].
    ///
    /// As it stands: every item in order, one a batch, a number of workers that suits the machine.
    pub fn builder<D: Dataset>(dataset: D) -> LoaderBuilder<Indexed<D>> {
        let data = Indexed { dataset, sampler: None, batches: None, shuffle: false };
        LoaderBuilder { data, settings: Settings::default() }
    }
}

impl<S> LoaderBuilder<S> {
    /// Samples a batch; at least 1.
    pub fn batch_size(mut self, samples: usize) -> Self {
        self.settings.batch_size = samples;
        self
    }

    /// Whether a last batch that is shorter than the others is left out. Default: no.
    pub fn drop_last(mut self, drop: bool) -> Self {
        self.settings.drop_last = drop;
        self
    }

    /// What all randomness follows from, the order's and the transform's. Default: 0.
    pub fn seed(mut self, seed: u64) -> Self {
        self.settings.seed = seed;
        self
    }

    /// The number of worker threads. 0 makes each batch in the thread that asks for it. The batches are the same with
    /// any number.
    ///
    /// By default the loader chooses: it begins with half of the cores and adds workers as long as the
    /// consumer waits and they make it faster: to as many as there are cores, and beyond that only if they
    /// spend time on waiting for something else, such as a disk.
    /// [`EpochReport::chosen`](crate::EpochReport::chosen) says what it chose.
    pub fn workers(mut self, workers: usize) -> Self {
        self.settings.workers = Some(workers);
        self
    }

    /// Limits how many samples are read from the data set at the same time, apart from how many are transformed: for
    /// storage that many threads should wait for while few compute. There are `readers` threads beside the
    /// [`workers`](Self::workers), which then say how many samples are transformed at the same time.
    pub fn readers(mut self, readers: usize) -> Self {
        self.settings.readers = Some(readers);
        self
    }

    /// How many batches may be made or waiting ahead of the consumer, at least 1. Default: four, or more if they
    /// hold fewer than four samples a worker; and up to 16 if batches are made so fast that four are less than 250 µs of
    /// work for each worker.
    pub fn prefetch(mut self, batches: usize) -> Self {
        self.settings.prefetch = Some(batches);
        self
    }

    /// How many bytes the batches ahead of the consumer may take together. One is always made, however large. In a
    /// layout whose batches have no fixed size, such as [`Pad`](crate::Pad), it shows when a batch is made what it takes:
    /// there, one batch is made at a time, and the last one may exceed the limit. Records that a stream has read and not
    /// put into a batch yet are not counted. Default: no limit but [`prefetch`](Self::prefetch).
    pub fn prefetch_bytes(mut self, bytes: usize) -> Self {
        self.settings.prefetch_bytes = Some(bytes);
        self
    }

    /// Whether batches are delivered as they complete: the same batches, in an order that time decides. A slow one
    /// then keeps none of the next ones waiting. Default: no, in order.
    pub fn as_completed(mut self, as_completed: bool) -> Self {
        self.settings.as_completed = as_completed;
        self
    }

    /// The time that a sample may take, each try counted on its own. One that takes longer is an
    /// [error](ErrorKind::TimedOut) of that sample, for [`on_error`](Self::on_error) to deal with, and is not
    /// tried again. Its thread, which nothing can stop, is left to itself and replaced.
    ///
    /// With [`readers`](Self::readers) reading and transforming have this time each. Default: no limit.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.settings.timeout = Some(limit);
        self
    }

    /// What becomes of a sample that cannot be made. Default: [`OnError::Fail`].
    pub fn on_error(mut self, policy: OnError) -> Self {
        self.settings.on_error = policy;
        self
    }

    /// Which errors are worth another try, before [`on_error`](Self::on_error) decides. Default: none.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.settings.retry = Some(retry);
        self
    }
}

impl<D: Dataset> LoaderBuilder<Indexed<D>> {
    /// Whether each epoch has its own random order, fixed by the [`seed`](Self::seed). Default: no.
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

    /// The loader, with a layout and the transform that writes each item into its slot.
    ///
    /// `transform` gets an item of the data set, the sample's own random numbers, and its slot. It is called
    /// by all workers, and may fail with any error.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the batch size, the prefetch depth or the number of readers is 0, if there
    /// are more than 1,024 workers and readers, if a sample takes more bytes than can be addressed, or if
    /// there is a time limit or there are readers, but no workers; [`ErrorKind::Workers`] if there are no
    /// threads to be had.
    pub fn build<C, F>(self, collate: C, transform: F) -> Result<Loader<C>, Error>
    where
        C: Collate,
        F: for<'a> Fn(D::Item, &mut SampleRng, SlotOf<'a, C>) -> Result<(), BoxError> + Send + Sync + 'static,
    {
        let LoaderBuilder { data: Indexed { dataset, sampler, batches, shuffle, .. }, settings } = self;
        let len = dataset.len();
        let order = match (&batches, &sampler) {
            (Some(_), _) => Order::Batches,
            (None, Some(sampler)) => Order::Sampler { positions: sampler.len() },
            (None, None) => Order::Plain { shuffle },
        };
        let batches: Arc<dyn BatchSampler> = match batches {
            Some(batches) => batches.into(),
            None => {
                let order = sampler.unwrap_or_else(|| match shuffle {
                    true => Box::new(Shuffled::new(len, settings.seed)),
                    false => Box::new(Sequential::new(len)),
                });
                Arc::new(FixedSize::new(order, settings.batch_size, settings.drop_last)?)
            }
        };
        batches.check(len)?;
        let stage = StageKey::WRITE;
        let fingerprint = fingerprint(&*batches, len, settings.on_error, &stage);
        let (whole, drop_last) = (Arc::clone(&batches), settings.drop_last);
        let lineage = Some(dataset.lineage());
        let fill = Arc::new(Filler { dataset, transform, stage });
        let loader = settings.loader(collate, fill, batches, lineage, fingerprint)?;
        Ok(Loader { items: Some(Items { range: 0..len, len, order, drop_last, whole }), ..loader })
    }
}

impl Settings {
    /// A loader of samples that `fill` makes.
    pub(super) fn loader<C: Collate>(
        self,
        collate: C,
        fill: Arc<dyn Fill<C>>,
        batches: Arc<dyn BatchSampler>,
        lineage: Option<Lineage>,
        fingerprint: String,
    ) -> Result<Loader<C>, Error> {
        let auto = self.workers.is_none().then(|| Auto::new(self.readers.unwrap_or(0)));
        let workers = self.workers.or(auto.as_ref().map(Auto::first)).unwrap_or(0);
        let readers = self.readers.unwrap_or(0);
        let threads = workers.saturating_add(readers);
        check(threads <= MAX_WORKERS, "workers", format_args!("at most {MAX_WORKERS}"), threads)?;
        check(self.prefetch != Some(0), "prefetch", "at least 1", 0)?;
        check(self.timeout != Some(Duration::ZERO), "timeout", "more than 0 s", "0 s")?;
        check(self.readers != Some(0), "readers", "at least 1", 0)?;
        if let Some(share) = self.on_error.share() {
            check((0.0..=1.0).contains(&share), "on error", "a share from 0 to 1", share)?;
        }
        let most = isize::MAX as usize;
        let fits = collate.fixed_bytes(1).is_none_or(|bytes| bytes <= most);
        check(fits, "layout", format_args!("samples of at most {most} bytes"), "more")?;
        for (what, is_set) in [("readers", readers > 0), ("timeout", self.timeout.is_some())] {
            if workers == 0 && is_set {
                let text = format!("{what}: expected at least 1 worker, got 0");
                return Err(Error::new(ErrorKind::Config, text));
            }
        }
        let mut pool = Pool::named("firebox-load", threads)
            .map_err(|error| Error::new(ErrorKind::Workers, "no worker threads").caused_by(error))?;
        if let Some(limit) = self.timeout {
            pool = pool.with_timeout(limit);
        }
        let gates = self.readers.map(|readers| {
            let (reading, transforming) =
                (Gate::new(readers, self.timeout), Gate::new(workers, self.timeout));
            Arc::new(Gates { reading, transforming })
        });
        let executor = Arc::new(Executor {
            fill,
            collate: Arc::new(collate),
            batches,
            lineage,
            seed: self.seed,
            on_error: self.on_error,
            retry: self.retry,
            gates,
        });
        Ok(Loader {
            executor,
            pool: Arc::new(pool),
            prefetch: self.prefetch,
            prefetch_bytes: self.prefetch_bytes,
            as_completed: self.as_completed,
            auto: auto.map(Arc::new),
            batch_size: self.batch_size.max(1),
            seed: self.seed,
            fingerprint,
            items: None,
        })
    }
}

/// A data set and its transform.
struct Filler<D, F> {
    dataset: D,
    transform: F,
    stage: StageKey,
}

impl<C, D, F> Fill<C> for Filler<D, F>
where
    C: Collate,
    D: Dataset,
    F: for<'a> Fn(D::Item, &mut SampleRng, SlotOf<'a, C>) -> Result<(), BoxError> + Send + Sync,
{
    fn fill(
        &self,
        index: usize,
        seed: SampleSeed,
        slot: SlotOf<'_, C>,
        stages: &mut Stages<'_>,
    ) -> Result<(), Failure> {
        let failure = |kind| move |source| Failure { kind, source };
        if index >= self.dataset.len() {
            let text = format!("the sampler gave index {index} of a data set of {}", self.dataset.len());
            return Err(failure(ErrorKind::Dataset)(text.into()));
        }
        let item = stages.read(|| self.dataset.get(index))?;
        let item = item.map_err(failure(ErrorKind::Dataset))?;
        let mut rng = seed.stage(&self.stage);
        stages.transform(|| (self.transform)(item, &mut rng, slot))?.map_err(failure(ErrorKind::Transform))
    }

    fn stage(&self) -> &StageKey {
        &self.stage
    }
}
