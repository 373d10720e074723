//! The loader: a data set, an order, a transform and a layout, made into a stream of batches.
//!
//! `README.md` beside this file explains the protocol and why it cannot lose a sample or deadlock.

mod assembly;
mod auto;
mod builder;
mod epoch;
mod fault;
mod plan;
#[cfg(all(feature = "processes", target_os = "linux"))]
mod recipe;
#[cfg(all(feature = "processes", not(target_os = "linux")))]
#[path = "recipe/elsewhere.rs"]
mod recipe;
mod report;
mod slice;
#[cfg_attr(
    not(all(feature = "processes", target_os = "linux")),
    allow(dead_code, reason = "what goes to worker processes is of use where there are some")
)]
mod source;
mod state;
mod window;
mod work;

use std::ops::RangeTo;
use std::sync::Arc;

use firebox_workers::{Pool, Work, Worker, WorkersExt as _};

pub use builder::{LoaderBuilder, Repeatable};
pub use epoch::{Delivered, Epoch, Epochs, Start, WithStates};
pub use fault::{Action, FailureBudget, OnError, Retry, SampleFailure};
#[cfg(feature = "processes")]
pub use recipe::Recipe;
pub use report::{Bottleneck, EpochReport, Stage, TimeSlice, Timeline, WorkerTime};
pub use source::{Data, Indexed, StreamState, Streamed};
pub use state::LoaderState;
pub use work::{BatchTask, SampleId};

use crate::collate::{BatchShape, Collate};
use crate::dataset::Lineage;
use crate::error::{Error, ErrorKind, check};
use auto::{Auto, Span};
use source::Source;
use work::tasks::Tasks;
use work::{BatchBuild, Earlier, EpochExecutor, Executor};

/// Batches of a data set or of shards, epoch after epoch.
///
/// Made by [`Loader::builder`] or [`Loader::stream`]. Each epoch is an iterator of its own; any epoch can be
/// asked for, at any time and more than once, and gives the same bytes each time, with any number of workers.
///
/// # Images and labels from a data set
/// ```
/// use firebox_data::{Loader, Scalar, Stack};
///
/// let images: Vec<([u8; 4], i64)> = (0..100).map(|number| ([number; 4], i64::from(number) % 10)).collect();
/// let layout = (Stack::<f32, 3>::new([1, 2, 2]), Scalar::<i64>::new());
/// let loader = Loader::builder(images)
///     .shuffle(true)
///     .seed(42)
///     .batch_size(32)
///     .workers(2)
///     .build(layout, |(pixels, label), _, (image, class)| {
///         for (to, from) in image.iter_mut().zip(pixels) {
///             *to = f32::from(from) / 255.0;
///         }
///         *class = label;
///         Ok(())
///     })?;
/// for batch in loader.epoch(0) {
///     let (images, classes) = batch?;
///     assert_eq!(images.samples, classes.len());
/// }
/// # Ok::<(), firebox_data::Error>(())
/// ```
///
/// # Augment at random, and equally each time
/// A stage draws from the generator that it is given. Its numbers follow from (seed, epoch, position), and
/// not from who made the sample when.
/// ```
/// use firebox_data::{Loader, Scalar};
///
/// let noisy = |workers| {
///     let builder = Loader::builder((0..100).collect::<Vec<u64>>()).seed(42).batch_size(32);
///     builder.workers(workers).build(Scalar::new(), |number, rng, slot| {
///         *slot = number + rng.below(1000);
///         Ok(())
///     })
/// };
/// assert!(noisy(0)?.epoch(3).map(Result::unwrap).eq(noisy(2)?.epoch(3).map(Result::unwrap)));
/// # Ok::<(), firebox_data::Error>(())
/// ```
///
/// # Resume in the middle of an epoch
/// ```
/// use firebox_data::{Loader, LoaderState, Scalar};
///
/// # let numbers: Vec<i64> = (0..100).collect();
/// # let builder = Loader::builder(numbers).shuffle(true).batch_size(32);
/// # let loader = builder.build(Scalar::new(), |number, _, slot| Ok(*slot = number))?;
/// let mut saved: Option<LoaderState> = None;
/// for step in loader.epoch(0).with_states() {
///     let (_batch, state) = step?;
///     saved = Some(state);
///     # break;
/// }
/// // In another process, perhaps: the rest of the epoch that the state is of, and those after it, to
/// // epoch 3.
/// let mut samples = 0;
/// for epoch in loader.epochs(saved, ..3)? {
///     for batch in epoch {
///         samples += batch?.len();
///     }
/// }
/// assert_eq!(samples, 3 * 100 - 32);
/// # Ok::<(), firebox_data::Error>(())
/// ```
///
/// # Skip samples that cannot be read, and name them
/// ```
/// use firebox_data::loader::FailureBudget;
/// use firebox_data::{Loader, OnError, Scalar};
///
/// let loader = Loader::builder(vec!["1", "two", "3", "4"])
///     .batch_size(2)
///     .on_error(OnError::Skip { at_most: FailureBudget::Count(1) })
///     .build(Scalar::new(), |text: &str, _, slot| Ok(*slot = text.parse::<i64>()?))?;
/// let mut epoch = loader.epoch(0);
/// assert_eq!(epoch.by_ref().map(|batch| batch.unwrap().len()).collect::<Vec<_>>(), [1, 2]);
/// let failure = &epoch.report().failures[0];
/// assert_eq!(failure.error.index(), Some(1));
/// # Ok::<(), firebox_data::Error>(())
/// ```
///
/// # Lines of files, in order or mixed
/// ```
/// use firebox_data::formats::Lines;
/// use firebox_data::{Loader, Pad};
///
/// # let folder = tempfile::tempdir()?;
/// # let files = ["a.txt", "b.txt"].map(|name| folder.path().join(name));
/// # files.iter().for_each(|file| std::fs::write(file, "one\ntwo\n").unwrap());
/// let loader = Loader::stream(Lines::new(files))
///     .shuffle_window(1000)
///     .batch_size(3)
///     .build(Pad::with(0), |line, _, letters| Ok(letters.extend(line.bytes())))?;
/// let lines: usize = loader.epoch(0).map(|batch| batch.unwrap().lengths.len()).sum();
/// assert_eq!(lines, 4);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Share the batches among the ranks of a job
/// ```
/// use firebox_data::{Error, Loader, Scalar};
///
/// let batches = |rank| -> Result<Vec<Vec<i64>>, Error> {
///     let builder = Loader::builder((0..8).collect::<Vec<i64>>()).batch_size(4).rank(rank, 2);
///     let loader = builder.build(Scalar::new(), |number, _, slot| Ok(*slot = number))?;
///     loader.epoch(0).map(|batch| Ok(batch?.into_vec())).collect()
/// };
/// assert_eq!((batches(0)?, batches(1)?), (vec![vec![0, 1], vec![4, 5]], vec![vec![2, 3], vec![6, 7]]));
/// # Ok::<(), firebox_data::Error>(())
/// ```
pub struct Loader<C: Collate> {
    executor: Arc<Executor<C>>,
    /// Shared with its slices. It has no threads if worker processes make the batches.
    pool: Arc<Pool>,
    #[cfg(all(feature = "processes", target_os = "linux"))]
    remote: Option<Arc<dyn recipe::Remote<C>>>,
    /// Batches begun and not yet delivered, at most; `None` if it follows from the number of workers.
    prefetch: Option<usize>,
    /// The bytes that they may take together; one may always take what it needs.
    prefetch_bytes: Option<usize>,
    /// True if batches are delivered as they complete, not in order.
    as_completed: bool,
    accept_changed_data: bool,
    /// The chooser of the number of workers, if it is not fixed.
    auto: Option<Arc<Auto>>,
    /// Samples in a batch, about.
    batch_size: usize,
    /// The keys of the stages, in words.
    stages: String,
    /// The settings that a position depends on, in words.
    settings: String,
}

impl<C: Collate> Loader<C> {
    /// The number of batches in an epoch; `None` of a stream whose shards don't all know their records.
    ///
    /// ```
    /// use firebox_data::Loader;
    ///
    /// let loader = Loader::builder(vec![0; 10]).batch_size(4).build((), |_, _, ()| Ok(()))?;
    /// assert_eq!((loader.batches(0), loader.samples(0)), (Some(3), Some(10)));
    /// # Ok::<(), firebox_data::Error>(())
    /// ```
    pub fn batches(&self, epoch: u64) -> Option<usize> {
        self.executor.source.batches(epoch)
    }

    /// The number of samples in an epoch's batches, those of this [rank](LoaderBuilder::rank); `None` if that
    /// of [`batches`](Self::batches) is.
    pub fn samples(&self, epoch: u64) -> Option<usize> {
        self.executor.source.samples(epoch)
    }

    /// Tells whether it is known how many batches there are, which a trainer must plan with.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a stream of which a shard doesn't know its records, or with more than can be
    /// counted.
    pub fn check_counted(&self) -> Result<(), Error> {
        match (self.batches(0), self.why_empty(0)) {
            (None, Some(why)) => Err(Error::new(ErrorKind::Config, why)),
            _ => Ok(()),
        }
    }

    /// The indices of the samples of a batch, in their order; `None` if there is no such batch, or they have
    /// none.
    ///
    /// ```
    /// use firebox_data::Loader;
    ///
    /// let loader = Loader::builder(vec![0; 10]).batch_size(4).build((), |_, _, ()| Ok(()))?;
    /// assert_eq!(loader.indices(0, 2), Some(vec![8, 9]));
    /// assert_eq!(loader.indices(0, 3), None);
    /// # Ok::<(), firebox_data::Error>(())
    /// ```
    pub fn indices(&self, epoch: u64, batch: usize) -> Option<Vec<usize>> {
        let indexed = self.executor.source.indexed()?;
        (batch < indexed.samples.batches(epoch)).then(|| indexed.samples.indices(epoch, batch))
    }

    /// Where the items of its data set come from. All slices of a loader have the same; `None` of a stream.
    pub fn lineage(&self) -> Option<&Lineage> {
        Some(&self.executor.source.indexed()?.lineage)
    }

    /// Why an epoch has no batch, in words: how many samples there are, how large a batch is, and whether
    /// [`drop_last`](LoaderBuilder::drop_last) left nothing; or why nobody knows. `None` if it has one.
    ///
    /// An epoch without a batch is no error of the loader, whose part of a data set may be empty; for who
    /// needs one it is.
    pub fn why_empty(&self, epoch: u64) -> Option<String> {
        self.executor.source.why_empty(epoch)
    }

    /// The number of worker threads, or processes; 0 means that batches are made in the thread that asks for
    /// them. It grows if it was left to the loader and more are of use: the [report](EpochReport::chosen)
    /// says why.
    pub fn workers(&self) -> usize {
        #[cfg(all(feature = "processes", target_os = "linux"))]
        if let Some(remote) = &self.remote {
            return remote.workers();
        }
        self.pool.workers()
    }

    /// Tells whether worker processes make its batches.
    fn is_remote(&self) -> bool {
        #[cfg(all(feature = "processes", target_os = "linux"))]
        return self.remote.is_some();
        #[cfg(not(all(feature = "processes", target_os = "linux")))]
        false
    }

    /// Hands out the tasks of an epoch.
    fn tasks<'l>(&'l self, executor: &Arc<EpochExecutor<C>>, most: usize) -> Box<dyn Tasks<C> + 'l> {
        #[cfg(all(feature = "processes", target_os = "linux"))]
        if let Some(remote) = &self.remote {
            return remote.tasks(executor);
        }
        Box::new(self.pool.dispatch(Arc::clone(executor), most))
    }

    /// How many worker processes have died since this was last asked, and how, in words.
    fn new_deaths(&self) -> (u64, Vec<String>) {
        #[cfg(all(feature = "processes", target_os = "linux"))]
        if let Some(remote) = &self.remote {
            return remote.new_deaths();
        }
        Default::default()
    }

    /// Has the number of workers follow what the consumer saw, and says what was chosen, if it is not fixed.
    fn adapt(&self, span: Span) -> Option<String> {
        let auto = self.auto.as_ref()?;
        let workers = auto.learn(self.workers(), span);
        // No more threads to be had: those that there are will do.
        let _ = self.pool.grow(workers);
        Some(auto.describe(self.workers()))
    }

    /// The position before the first batch of an epoch.
    ///
    /// ```
    /// use firebox_data::Loader;
    ///
    /// let loader = Loader::builder(vec![0; 3]).build((), |_, _, ()| Ok(()))?;
    /// assert_eq!(loader.state(4).epoch, 4);
    /// assert_eq!(loader.resume(&loader.state(4))?.count(), 3);
    /// # Ok::<(), firebox_data::Error>(())
    /// ```
    pub fn state(&self, epoch: u64) -> LoaderState {
        LoaderState::new(self, epoch)
    }

    /// Tells whether [`resume`](Self::resume) would take a state.
    ///
    /// # Errors
    /// As for `resume`.
    pub fn check(&self, state: &LoaderState) -> Result<(), Error> {
        state.check(self)
    }

    /// All batches of an epoch.
    ///
    /// ```
    /// use firebox_data::{Loader, Scalar};
    ///
    /// let builder = Loader::builder(vec![1, 2, 3]);
    /// let loader = builder.build(Scalar::new(), |number, _, slot| Ok(*slot = number))?;
    /// let mut sum = 0;
    /// for batch in loader.epoch(0) {
    ///     sum += batch?[0];
    /// }
    /// assert_eq!(sum, 6);
    /// # Ok::<(), firebox_data::Error>(())
    /// ```
    pub fn epoch(&self, epoch: u64) -> Epoch<'_, C> {
        Epoch::new(self, &LoaderState::before(epoch))
    }

    /// The rest of the epoch in which `state` was taken: the batches that were not yet delivered.
    ///
    /// No batch is made twice for it, and none of the delivered ones is made again. The number of workers
    /// and the prefetch depth may differ.
    ///
    /// ```
    /// use firebox_data::{Loader, Scalar};
    ///
    /// let builder = Loader::builder(vec![1, 2, 3]);
    /// let loader = builder.build(Scalar::new(), |number, _, slot| Ok(*slot = number))?;
    /// let mut epoch = loader.epoch(5);
    /// epoch.next().unwrap()?;
    /// let state = epoch.state();
    /// drop(epoch);
    /// let rest: Vec<i32> = loader.resume(&state)?.map(|batch| batch.unwrap()[0]).collect();
    /// assert_eq!(rest, [2, 3]);
    /// # Ok::<(), firebox_data::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::State`] if the state was taken from a loader with another data set length, sampler, seed
    /// or batch size, or of [other data](LoaderBuilder::accept_changed_data).
    pub fn resume(&self, state: &LoaderState) -> Result<Epoch<'_, C>, Error> {
        state.check(self)?;
        Ok(Epoch::new(self, state))
    }

    /// The epochs from a start on, to the one before `until.end`.
    ///
    /// From a [`LoaderState`] the first is the [rest](Self::resume) of its epoch, which is empty if all of
    /// its batches were delivered; from a number it is that epoch, and from `None` epoch 0.
    ///
    /// ```
    /// use firebox_data::Loader;
    ///
    /// let loader = Loader::builder(vec![0; 3]).build((), |_, _, ()| Ok(()))?;
    /// let mut samples = 0;
    /// for epoch in loader.epochs(None, ..2)? {
    ///     for batch in epoch {
    ///         samples += batch?;
    ///     }
    /// }
    /// assert_eq!(samples, 2 * 3);
    /// # Ok::<(), firebox_data::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`resume`](Self::resume).
    pub fn epochs(&self, from: impl Into<Start>, until: RangeTo<u64>) -> Result<Epochs<'_, C>, Error> {
        Epochs::new(self, from.into(), until.end)
    }

    /// The task by which a worker makes a batch: see [`BatchTask`].
    ///
    /// Of shards it takes a time that grows with the batch's place in the epoch.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`] if the epoch has no such batch, [`ErrorKind::Config`] for shards that don't
    /// know their [records](crate::Shards::records) or can't be [opened in their
    /// middle](crate::Shards::is_seekable): what they have is not known before they are read.
    pub fn task(&self, epoch: u64, batch: usize) -> Result<BatchTask, Error> {
        let source = &self.executor.source;
        source.alone(&self.executor.reading())?;
        self.check_batch(epoch, batch as u64)?;
        let planned = source.planned(epoch, batch);
        if let Some(error) = planned.error {
            return Err(error);
        }
        let run = 0..planned.samples.len() as u32;
        Ok(BatchTask { epoch, batch: batch as u64, attempt: 0, run, samples: planned.samples })
    }

    /// Makes the batch of a task, which may be another loader's with the same settings, in this thread;
    /// `None` if no sample of it is left.
    ///
    /// Records of shards are read for it alone, each from where its shard
    /// [can be opened](crate::Shards::offset_of) or from the shard's beginning.
    ///
    /// # Errors
    /// That of the batch; [`ErrorKind::OutOfRange`] if the task is not that of a whole batch of this
    /// loader's, [`ErrorKind::Config`] as for [`task`](Self::task).
    pub fn run(&self, task: BatchTask) -> Result<Option<C::Batch>, Error> {
        let source = &self.executor.source;
        let items = source.alone(&self.executor.reading())?;
        let batch = self.check_batch(task.epoch, task.batch)?;
        let (start, width) = source.place(task.epoch, batch);
        let samples = task.samples.len();
        let whole = task.run == (0..samples as u32);
        let expected = format_args!("a run of all {samples} samples in it");
        check(whole, "task", expected, format_args!("{:?}", task.run))?;
        let executor = EpochExecutor::new(Arc::clone(&self.executor), items);
        let shape = BatchShape::from(samples).with_width(width);
        let build = BatchBuild::new(start, shape, [0].into_iter(), Earlier::default(), None);
        executor.begin(task.batch, task.attempt, build);
        match executor.run(task, Worker::CALLER).built {
            Some(built) => built.batch,
            None => Err(Error::new(ErrorKind::Workers, "the batch was not made")),
        }
    }

    /// The place of a batch, which an epoch must have.
    fn check_batch(&self, epoch: u64, batch: u64) -> Result<usize, Error> {
        let batches = self.batches(epoch).unwrap_or(0);
        match usize::try_from(batch) {
            Ok(batch) if batch < batches => Ok(batch),
            _ => {
                let expected = format_args!("a batch below {batches} in epoch {epoch}");
                Err(Error::out_of_range("task", expected, batch))
            }
        }
    }

    /// A loader of other data with these settings and these workers.
    fn of_source(&self, source: Arc<dyn Source<C>>) -> Self {
        let executor = self.executor.with_source(source);
        Loader {
            settings: executor.settings(&self.stages),
            executor: Arc::new(executor),
            pool: Arc::clone(&self.pool),
            #[cfg(all(feature = "processes", target_os = "linux"))]
            remote: self.remote.clone(),
            prefetch: self.prefetch,
            prefetch_bytes: self.prefetch_bytes,
            as_completed: self.as_completed,
            accept_changed_data: self.accept_changed_data,
            auto: self.auto.clone(),
            batch_size: self.batch_size,
            stages: self.stages.clone(),
        }
    }
}
