//! The loader's settings.

mod indexed;
mod settings;
mod streamed;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use firebox_workers::Pool;

use crate::collate::{Collate, SlotOf};
use crate::dataset::{Dataset, Shards};
use crate::elements::BufferPool;
use crate::error::{BoxError, Error, ErrorKind, check};
use crate::loader::Loader;
use crate::loader::auto::Auto;
use crate::loader::fault::{OnError, Retry};
use crate::loader::source::{ChainAndWrite, Data, Indexed, Source, SourceOf, Streamed};
use crate::loader::work::{ConcurrencyLimit, Executor, StageLimits};
use crate::sampler::UnevenRanks;
use crate::transform::Write;
use crate::transform::{Chain, Keyed, Staged, Transform};
use firebox_core::{SampleRng, StageKey};
pub(super) use settings::Settings;

/// More threads than this are a slip, not a wish.
const MAX_WORKERS: usize = 1024;

/// Settings of a [`Loader`] of the data `D` with the stages `T`: see there for an example.
///
/// Made by [`Loader::builder`] for a data set and by [`Loader::stream`] for shards, with the same settings
/// for both.
///
/// # Stages
/// Each stage has random numbers of its own, which follow from its name: one that is put in front changes
/// nothing that the others draw.
///
/// ```
/// use firebox_data::{Loader, Scalar};
///
/// let loader = Loader::builder(vec!["1", "2", "3"])
///     .map(|text: &str, _| Ok(text.parse::<i64>()?))
///     .map(|number, rng| Ok(number + rng.below(10) as i64))
///     .named("noise")
///     .batch_size(3)
///     .build(Scalar::new(), |number, _, slot| Ok(*slot = number))?;
/// assert_eq!(loader.epoch(0).next().unwrap()?.len(), 3);
/// # Ok::<(), firebox_data::Error>(())
/// ```
pub struct LoaderBuilder<D, T = ()> {
    data: D,
    settings: Settings,
    chain: T,
}

impl<D> LoaderBuilder<D> {
    pub(super) fn new(data: D) -> Self {
        let settings = Settings {
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
            accept_changed_data: false,
            timeout: None,
            rank: None,
            uneven: UnevenRanks::Pad,
        };
        LoaderBuilder { data, settings, chain: () }
    }
}

impl Loader<()> {
    /// A loader of `dataset`, any [`Dataset`].
    ///
    /// As it stands: every item in order, one a batch, a number of workers that suits the machine.
    pub fn builder<D: Dataset>(dataset: D) -> LoaderBuilder<Indexed<D>> {
        LoaderBuilder::new(Indexed { dataset, sampler: None, batches: None, shuffle: false })
    }
}

/// Data whose items can be had again for another try: a data set's always, a stream's if they can be cloned.
///
/// Nobody implements it but this crate.
#[diagnostic::on_unimplemented(
    message = "records of a stream that may be tried again must be `Clone`",
    note = "a record is read once and handed on by value; an `Arc` around it is cheap to clone"
)]
pub trait Repeatable: Data {
    #[doc(hidden)]
    fn keep_items(&mut self);
}

impl<D: Dataset> Repeatable for Indexed<D> {
    fn keep_items(&mut self) {}
}

impl<S: Shards<Record: Clone>> Repeatable for Streamed<S> {
    fn keep_items(&mut self) {
        self.keep_records();
    }
}

impl<D: Repeatable, T> LoaderBuilder<D, T> {
    /// Which errors are worth another try, before [`on_error`](Self::on_error) decides. Default: none.
    ///
    /// Of a stream each try has a clone of the record.
    ///
    /// ```
    /// use std::io;
    /// use std::sync::atomic::{AtomicBool, Ordering};
    /// use std::time::Duration;
    ///
    /// use firebox_data::loader::Retry;
    /// use firebox_data::{Loader, Scalar};
    ///
    /// let failed = AtomicBool::new(false);
    /// let loader = Loader::builder(vec![7])
    ///     .retry(Retry::io(2, Duration::from_millis(1)))
    ///     .build(Scalar::new(), move |number, _, slot| {
    ///         if !failed.swap(true, Ordering::Relaxed) {
    ///             return Err(io::Error::from(io::ErrorKind::TimedOut).into());
    ///         }
    ///         Ok(*slot = number)
    ///     })?;
    /// assert_eq!(*loader.epoch(0).next().unwrap()?, [7]);
    /// # Ok::<(), firebox_data::Error>(())
    /// ```
    pub fn retry(mut self, retry: Retry) -> Self {
        self.settings.retry = Some(retry);
        self.data.keep_items();
        self
    }

    /// The time that a sample may take, each try counted on its own. One that takes longer is an
    /// [error](ErrorKind::TimedOut) of that sample, for [`on_error`](Self::on_error) to deal with, and is not
    /// tried again. Its thread, which nothing can stop, is left to itself and replaced; the others of its
    /// batch are made again, of a stream from clones of their records.
    ///
    /// With [`readers`](Self::readers) reading and transforming have this time each. Default: no limit.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use firebox_data::{ErrorKind, Loader};
    ///
    /// let loader = Loader::builder(vec![10_000])
    ///     .workers(1)
    ///     .timeout(Duration::from_millis(50))
    ///     .build((), |ms, _, ()| Ok(std::thread::sleep(Duration::from_millis(ms))))?;
    /// let error = loader.epoch(0).next().unwrap().unwrap_err();
    /// assert_eq!((error.kind(), error.index()), (&ErrorKind::TimedOut, Some(0)));
    /// # Ok::<(), firebox_data::Error>(())
    /// ```
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.settings.timeout = Some(limit);
        self.data.keep_items();
        self
    }
}

impl<D, T> LoaderBuilder<D, T> {
    /// Samples a batch; at least 1.
    ///
    /// ```
    /// use firebox_data::Loader;
    ///
    /// let loader = Loader::builder(vec![0; 10]).batch_size(4).build((), |_, _, ()| Ok(()))?;
    /// assert_eq!(loader.epoch(0).collect::<Result<Vec<_>, _>>()?, [4, 4, 2]);
    /// # Ok::<(), firebox_data::Error>(())
    /// ```
    pub fn batch_size(mut self, samples: usize) -> Self {
        self.settings.batch_size = samples;
        self
    }

    /// Sets whether a last batch that is shorter than the others is left out. Default: no.
    ///
    /// ```
    /// use firebox_data::Loader;
    ///
    /// let loader = Loader::builder(vec![0; 10]).batch_size(4).drop_last(true).build((), |_, _, ()| Ok(()))?;
    /// assert_eq!(loader.epoch(0).collect::<Result<Vec<_>, _>>()?, [4, 4]);
    /// # Ok::<(), firebox_data::Error>(())
    /// ```
    pub fn drop_last(mut self, drop: bool) -> Self {
        self.settings.drop_last = drop;
        self
    }

    /// Sets the seed, from which the order and all random numbers of stages follow. Default: 0.
    ///
    /// ```
    /// use firebox_data::{Error, Loader, Scalar};
    ///
    /// let first = |seed| -> Result<Vec<u64>, Error> {
    ///     let builder = Loader::builder(vec![(); 4]).seed(seed).batch_size(4);
    ///     let loader = builder.build(Scalar::new(), |(), rng, slot| Ok(*slot = rng.below(1 << 40)))?;
    ///     Ok(loader.epoch(0).next().unwrap()?.into_vec())
    /// };
    /// assert_eq!(first(1)?, first(1)?);
    /// assert_ne!(first(1)?, first(2)?);
    /// # Ok::<(), firebox_data::Error>(())
    /// ```
    pub fn seed(mut self, seed: u64) -> Self {
        self.settings.seed = seed;
        self
    }

    /// The number of worker threads. 0 makes each batch in the thread that asks for it. The batches are the
    /// same with any number.
    ///
    /// By default, and with `None`, the loader chooses: it begins with half of the cores and adds workers as
    /// long as the consumer waits and they make it faster: to as many as there are cores, and beyond that
    /// only if they spend time on waiting for something else, such as a disk.
    /// [`EpochReport::chosen`](crate::loader::EpochReport::chosen) says what it chose.
    ///
    /// ```
    /// use firebox_data::{Error, Loader, Scalar};
    ///
    /// let batches = |workers: Option<usize>| -> Result<Vec<_>, Error> {
    ///     let builder = Loader::builder((0..100).collect::<Vec<u64>>()).shuffle(true).batch_size(8);
    ///     let loader = builder.workers(workers).build(Scalar::new(), |number, rng, slot| {
    ///         *slot = number + rng.below(1000);
    ///         Ok(())
    ///     })?;
    ///     loader.epoch(0).collect()
    /// };
    /// assert_eq!(batches(Some(0))?, batches(Some(3))?);
    /// assert_eq!(batches(Some(0))?, batches(None)?);
    /// # Ok::<(), firebox_data::Error>(())
    /// ```
    pub fn workers(mut self, workers: impl Into<Option<usize>>) -> Self {
        self.settings.workers = workers.into();
        self
    }

    /// Limits how many samples are read from the data set at the same time, apart from how many are
    /// transformed: for storage that many threads should wait for while few compute. There are `readers`
    /// threads beside the [`workers`](Self::workers), which then say how many samples are transformed at the
    /// same time.
    pub fn readers(mut self, readers: usize) -> Self {
        self.settings.readers = Some(readers);
        self
    }

    /// How many batches may be made or waiting ahead of the consumer, at least 1. Default: four, or more if
    /// they hold fewer than four samples a worker; and up to 16, or 4 MiB, if batches are made so fast that
    /// four are less than 1 ms of work for each worker. Until the first samples are made, it is as many as
    /// hold two for each worker: the first batch is waited for, and is there sooner if it has the cores to
    /// itself.
    pub fn prefetch(mut self, batches: usize) -> Self {
        self.settings.prefetch = Some(batches);
        self
    }

    /// How many bytes the batches ahead of the consumer may take together. One is always made, however large.
    /// In a layout whose batches have no fixed size, such as [`Pad`](crate::Pad), it shows when a batch is
    /// made what it takes: there, one batch is made at a time, and the last one may exceed the limit. Records
    /// that a stream has read and not put into a batch yet are not counted. Default: no limit but
    /// [`prefetch`](Self::prefetch).
    pub fn prefetch_bytes(mut self, bytes: usize) -> Self {
        self.settings.prefetch_bytes = Some(bytes);
        self
    }

    /// Which of `world` processes that train together this is, from 0. Default: the only one.
    ///
    /// The [`batch_size`](Self::batch_size), as a budget of tokens or batches of your own, is then that of
    /// all ranks together: each batch is planned for all of them, and each rank delivers its
    /// [run](crate::sampler::Ranks::run) of every one, so that all ranks have as many batches. A run may have
    /// no sample, and is delivered all the same, as a batch of 0 samples; so is one whose samples were all
    /// skipped. Together the runs are the batch that one rank would have: the same samples with the same
    /// random numbers, on any number of ranks. [`Pad`](crate::Pad) gives them one width, which the batch
    /// sampler must [know](crate::sampler::BatchSampler::width), or the [layout](crate::Pad::to).
    ///
    /// A [`LoaderState`](crate::LoaderState) is that of the whole job: any rank goes on from one that any
    /// rank has saved, also with another number of ranks. The limit of [`on_error`](Self::on_error) is each
    /// rank's own, a share of it that of the rank's samples; a rank that goes on from another one's position
    /// begins to count at 0.
    ///
    /// Shards are dealt in the same way, by record, if all of them know their [`records`](Shards::records)
    /// and can be [opened in their middle](Shards::is_seekable): each rank reads all records, and transforms
    /// its own. Others are dealt whole: every `world`th shard of the epoch's order, in batches of
    /// `batch_size` on each rank. What becomes of ranks that end before others
    /// [`uneven_ranks`](Self::uneven_ranks) says; if they can't know it of each other, since shards don't
    /// know their records, they need a [`sum_over_ranks`](LoaderBuilder::sum_over_ranks). Their positions are
    /// any rank's, but not of another number of ranks.
    ///
    /// ```
    /// use firebox_data::{Loader, Scalar};
    ///
    /// let numbers: Vec<i32> = (0..10).collect();
    /// let builder = Loader::builder(numbers).batch_size(4).rank(1, 2);
    /// let second = builder.build(Scalar::new(), |number, _, slot| {
    ///     *slot = number;
    ///     Ok(())
    /// })?;
    /// let batches: Vec<_> = second.epoch(0).collect::<Result<_, _>>()?;
    /// assert_eq!(batches, [vec![2, 3], vec![6, 7], vec![9]]);
    /// # Ok::<(), firebox_data::Error>(())
    /// ```
    pub fn rank(mut self, rank: usize, world: usize) -> Self {
        self.settings.rank = Some((rank, world));
        self
    }

    /// Sets what becomes of ranks of a stream whose shards are dealt whole, and so differ in their numbers of
    /// records. All ranks have as many batches in any case: with [`UnevenRanks::Pad`], the default, those
    /// that have no more go on with batches of 0 samples; with [`UnevenRanks::Trim`] all stop with the first
    /// one that has no more.
    pub fn uneven_ranks(mut self, uneven: UnevenRanks) -> Self {
        self.settings.uneven = uneven;
        self
    }

    /// Sets whether batches are delivered as they complete: the same batches, in an order that time decides.
    /// A slow one then keeps none of the next ones waiting. Default: no, in order.
    pub fn as_completed(mut self, as_completed: bool) -> Self {
        self.settings.as_completed = as_completed;
        self
    }

    /// Sets whether a position that was saved with other data is gone on from all the same. Default: no, it
    /// is refused.
    ///
    /// What is compared is their [`Fingerprint`](crate::dataset::Fingerprint).
    pub fn accept_changed_data(mut self, accept: bool) -> Self {
        self.settings.accept_changed_data = accept;
        self
    }

    /// Sets the policy for samples that cannot be made. Default: [`OnError::Fail`].
    ///
    /// ```
    /// use firebox_data::loader::FailureBudget;
    /// use firebox_data::{Loader, OnError, Scalar};
    ///
    /// let loader = Loader::builder(vec!["1", "two", "3"])
    ///     .on_error(OnError::Skip { at_most: FailureBudget::Count(1) })
    ///     .batch_size(3)
    ///     .build(Scalar::new(), |text: &str, _, slot| Ok(*slot = text.parse::<i64>()?))?;
    /// let mut epoch = loader.epoch(0);
    /// assert_eq!(*epoch.next().unwrap()?, [1, 3]);
    /// assert_eq!(epoch.report().failures[0].error.index(), Some(1));
    /// # Ok::<(), firebox_data::Error>(())
    /// ```
    pub fn on_error(mut self, policy: OnError) -> Self {
        self.settings.on_error = policy;
        self
    }
}

impl<D: Data, T: Chain<D::Item>> LoaderBuilder<D, T> {
    /// Adds a stage: a closure that makes something of the item, with the stage's own random numbers.
    ///
    /// ```
    /// use firebox_data::{Loader, Scalar};
    ///
    /// let loader = Loader::builder(vec!["1", "2"])
    ///     .map(|text: &str, _| Ok(text.parse::<i64>()?))
    ///     .map(|number, rng| Ok(number + rng.below(2) as i64))
    ///     .build(Scalar::new(), |number, _, slot| Ok(*slot = number))?;
    /// assert!([1, 2].contains(&loader.epoch(0).next().unwrap()?[0]));
    /// # Ok::<(), firebox_data::Error>(())
    /// ```
    pub fn map<Out, F>(self, stage: F) -> LoaderBuilder<D, Staged<T, F>>
    where
        F: Fn(T::Out, &mut SampleRng) -> Result<Out, BoxError> + Send + Sync + 'static,
    {
        self.transform(stage)
    }

    /// Adds a stage of any type.
    ///
    /// ```
    /// use firebox_data::{BoxError, Loader, SampleRng, Scalar, Transform};
    ///
    /// struct Scale(f32);
    ///
    /// impl Transform<f32> for Scale {
    ///     type Out = f32;
    ///
    ///     fn apply(&self, value: f32, _: &mut SampleRng) -> Result<f32, BoxError> {
    ///         Ok(self.0 * value)
    ///     }
    /// }
    ///
    /// let builder = Loader::builder(vec![1.0, 2.0]).transform(Scale(0.5)).batch_size(2);
    /// let loader = builder.build(Scalar::new(), |value, _, slot| Ok(*slot = value))?;
    /// assert_eq!(*loader.epoch(0).next().unwrap()?, [0.5, 1.0]);
    /// # Ok::<(), firebox_data::Error>(())
    /// ```
    pub fn transform<F: Transform<T::Out>>(self, stage: F) -> LoaderBuilder<D, Staged<T, F>> {
        let LoaderBuilder { data, settings, chain } = self;
        let name = stage.name();
        LoaderBuilder { data, settings, chain: Staged::new(chain, stage, name) }
    }

    /// The loader, with a layout and the closure that writes each item into its slot.
    ///
    /// `write` gets what the stages made of an item, the sample's own random numbers, and its slot. It is
    /// called by all workers, and may fail with any error.
    ///
    /// ```
    /// use firebox_data::{Loader, Scalar, Stack};
    ///
    /// let points = vec![([1.0, 2.0], true), ([3.0, 4.0], false)];
    /// let layout = (Stack::<f32, 1>::new([2]), Scalar::new());
    /// let loader = Loader::builder(points).batch_size(2).build(layout, |(at, is_red), _, (row, label)| {
    ///     row.copy_from_slice(&at);
    ///     *label = is_red;
    ///     Ok(())
    /// })?;
    /// let (rows, labels) = loader.epoch(0).next().unwrap()?;
    /// assert_eq!((&*rows.values, &*labels), (&[1.0, 2.0, 3.0, 4.0][..], &[true, false][..]));
    /// # Ok::<(), firebox_data::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`] if the batch size, the prefetch depth or the number of readers is 0, if
    /// there are more than 1,024 workers and readers, or if a sample takes more bytes than can be addressed;
    /// [`ErrorKind::Config`] if there is a time limit or there are readers, but no workers;
    /// [`ErrorKind::Workers`] if there are no threads to be had.
    pub fn build<C, F>(self, collate: C, write: F) -> Result<Loader<C>, Error>
    where
        C: Collate,
        F: for<'a> Fn(T::Out, &mut SampleRng, SlotOf<'a, C>) -> Result<(), BoxError> + Send + Sync + 'static,
    {
        self.build_with(collate, write)
    }

    /// The loader, with a layout and a last stage of any type: see [`build`](Self::build).
    ///
    /// # Errors
    /// As there.
    pub fn build_with<C, W>(self, collate: C, write: W) -> Result<Loader<C>, Error>
    where
        C: Collate,
        W: Write<T::Out, C>,
    {
        let LoaderBuilder { data, settings, mut chain } = self;
        chain.assign(&mut HashMap::from([("write".to_owned(), 1)]));
        let mut keys = Vec::new();
        chain.keys(&mut keys);
        let stages: Vec<String> = keys.iter().chain([&StageKey::WRITE]).map(StageKey::to_string).collect();
        let SourceOf(source) = data.source(&settings, ChainAndWrite { chain, write })?;
        settings.loader(collate, source, stages)
    }
}

impl<D, A: Keyed, F> LoaderBuilder<D, Staged<A, F>> {
    /// Names the stage that was added last: what it draws follows from its name, not from its place.
    ///
    /// ```
    /// use firebox_data::{Error, Loader, Scalar};
    ///
    /// let noise = |twice: bool| -> Result<Vec<u64>, Error> {
    ///     let builder = Loader::builder(vec![1u64]).map(move |x, _| Ok(if twice { 2 * x } else { x }));
    ///     let builder = builder.map(|_, rng| Ok(rng.below(1 << 40))).named("noise");
    ///     let loader = builder.build(Scalar::new(), |number, _, slot| Ok(*slot = number))?;
    ///     Ok(loader.epoch(0).next().unwrap()?.into_vec())
    /// };
    /// // The name, and not what stands in front of the stage, decides what it draws.
    /// assert_eq!(noise(false)?, noise(true)?);
    /// # Ok::<(), firebox_data::Error>(())
    /// ```
    pub fn named(self, name: impl Into<Cow<'static, str>>) -> Self {
        LoaderBuilder { chain: self.chain.named(name.into()), ..self }
    }
}

impl Settings {
    /// A loader of a source whose samples go through these stages.
    fn loader<C: Collate>(
        self,
        collate: C,
        source: Arc<dyn Source<C>>,
        stages: Vec<String>,
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
        let world = source.world();
        if self.as_completed && world > 1 {
            let text = format!(
                "as completed: expected batches in order for {world} ranks, which take a step with the same batch"
            );
            return Err(Error::new(ErrorKind::Config, text));
        }
        if world > 1 && collate.pads() && !source.knows_width() {
            let text = format!(
                "layout: expected a width that {world} ranks pad their parts of a batch to, got one that is not known: \
                 batch samplers know it by lengths, and Pad::to sets it"
            );
            return Err(Error::new(ErrorKind::Config, text));
        }
        let mut pool = Pool::named("firebox-load", threads)
            .map_err(|error| Error::new(ErrorKind::Workers, "no worker threads").caused_by(error))?;
        if let Some(limit) = self.timeout {
            pool = pool.with_timeout(limit);
        }
        let limits = self.readers.map(|readers| {
            let limit = |permits| ConcurrencyLimit::new(permits, self.timeout);
            Arc::new(StageLimits { reading: limit(readers), transforming: limit(workers) })
        });
        let executor = Executor {
            source,
            collate: Arc::new(collate),
            memory: BufferPool::default(),
            seed: self.seed,
            on_error: self.on_error,
            retry: self.retry,
            limits,
            process: None,
        };
        let stages = match &*stages {
            [write] => format!("stage {write}"),
            stages => format!("stages {}", stages.join(", ")),
        };
        Ok(Loader {
            settings: executor.settings(&stages),
            executor: Arc::new(executor),
            pool: Arc::new(pool),
            #[cfg(all(feature = "processes", target_os = "linux"))]
            remote: None,
            prefetch: self.prefetch,
            prefetch_bytes: self.prefetch_bytes,
            as_completed: self.as_completed,
            accept_changed_data: self.accept_changed_data,
            auto: auto.map(Arc::new),
            batch_size: self.batch_size.max(1),
            stages,
        })
    }
}
