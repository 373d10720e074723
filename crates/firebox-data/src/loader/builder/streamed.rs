//! Settings of data without random access.

use std::sync::Arc;

use crate::dataset::Shards;
use crate::error::BoxError;
use crate::loader::Loader;
use crate::loader::builder::LoaderBuilder;
use crate::loader::source::Streamed;

impl Loader<()> {
    /// A loader of data without random access.
    ///
    /// As it stands: every record of one shard after the other, one a batch.
    ///
    /// ```
    /// use firebox_data::{Loader, Pad};
    /// use firebox_data::formats::Lines;
    /// # let folder = tempfile::tempdir()?;
    /// # let files = [folder.path().join("a.txt"), folder.path().join("b.txt")];
    /// # files.iter().for_each(|file| std::fs::write(file, "one\ntwo\nthree\n").unwrap());
    ///
    /// let loader = Loader::stream(Lines::new(files))
    ///     .shuffle_window(1000)
    ///     .seed(42)
    ///     .batch_size(4)
    ///     .workers(2)
    ///     .build(Pad::with(0), |line, _, letters| {
    ///         letters.extend(line.bytes().map(i64::from));
    ///         Ok(())
    ///     })?;
    /// let mut lines = 0;
    /// for batch in loader.epoch(0) {
    ///     lines += batch?.lengths.len();
    /// }
    /// assert_eq!(lines, 6);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors when it is built
    /// Those of [`build`](LoaderBuilder::build); [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) also
    /// if the shuffle's window or the number of shards that take turns is 0, or the rank is not below the
    /// world; [`ErrorKind::Config`](crate::ErrorKind::Config) for
    /// [`OnError::Replace`](crate::OnError::Replace), which a stream has no substitutes for.
    pub fn stream<S: Shards>(shards: S) -> LoaderBuilder<Streamed<S>> {
        LoaderBuilder::new(Streamed::new(shards))
    }
}

impl<S: Shards, T> LoaderBuilder<Streamed<S>, T> {
    /// Gives each epoch its own random order: of the shards, and of the records in windows of this many. A
    /// window is held in memory, and read again by a resume in its middle.
    pub fn shuffle_window(mut self, records: usize) -> Self {
        self.data.shuffle = Some(records);
        self
    }

    /// How many shards take turns, 16 records each. More mix better, and are read by more workers. Default:
    /// 1.
    pub fn interleave(mut self, shards: usize) -> Self {
        self.data.lanes = shards;
        self
    }

    /// How often each shard is read in an epoch. Default: once.
    ///
    /// Each time it has its own place in the epoch's order, and its records their own random numbers: for
    /// data so few that an epoch would be over at once, or whose records are to be augmented several times.
    pub fn repeat(mut self, times: usize) -> Self {
        self.data.repeats = times;
        self
    }

    /// How [ranks](LoaderBuilder::rank) tell each other when they end, which is needed if shards don't know
    /// their records: a sum over all ranks, as a library of collective communication has it.
    ///
    /// It gives each rank the sum of the numbers that all ranks have given, and waits for them. The thread
    /// that asks for batches calls it: in [`next`](Iterator::next) once before each batch and once at the
    /// end; in place of that, once with the number for *gone*, where the epoch ends by an error, or where it
    /// is dropped between its first `next` and its end. So all ranks call it equally often, whatever becomes
    /// of one: if it is gone, the others hear it when they ask next, and their epochs end with an
    /// [error](crate::ErrorKind::Ranks) that names it. [`try_next`](crate::loader::Epoch::try_next) never
    /// calls it.
    ///
    /// It is a collective call, with those that a job makes besides: all ranks must make them in the same
    /// order, and a rank that waits in this one can't hear of another. An error of it ends the epoch, and it
    /// is not called again; so a limit for its wait belongs in here.
    ///
    /// ```
    /// use std::sync::{Arc, Barrier, Mutex};
    /// use firebox_data::{Loader, Scalar};
    /// use firebox_data::formats::Lines;
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let files = ["a.txt", "b.txt"].map(|name| folder.path().join(name));
    /// # std::fs::write(&files[0], "one\ntwo\nthree\n")?;
    /// # std::fs::write(&files[1], "four\n")?;
    /// // Two threads that are ranks; between processes it is an all-reduce.
    /// let (barrier, sums) = (Arc::new(Barrier::new(2)), Arc::new(Mutex::new([0, 0])));
    /// let batches = std::thread::scope(|scope| {
    ///     let ranks = [0, 1].map(|rank| {
    ///         let (barrier, sums) = (Arc::clone(&barrier), Arc::clone(&sums));
    ///         let stream = Loader::stream(Lines::new(files.clone())).rank(rank, 2);
    ///         let loader = stream.sum_over_ranks(move |number| {
    ///             sums.lock().map_err(|_| "a rank has panicked")?[rank] = number;
    ///             barrier.wait();
    ///             let sum = sums.lock().map_err(|_| "a rank has panicked")?.iter().sum();
    ///             barrier.wait();
    ///             Ok(sum)
    ///         });
    ///         scope.spawn(move || {
    ///             let loader = loader.build(Scalar::new(), |line: String, _, slot| Ok(*slot = line.len()))?;
    ///             let batches = loader.epoch(0).map(|batch| Ok(batch?.into_vec()));
    ///             batches.collect::<Result<Vec<_>, firebox_data::Error>>()
    ///         })
    ///     });
    ///     ranks.map(|rank| rank.join().expect("no panic"))
    /// });
    /// let [first, second] = batches;
    /// assert_eq!((first?, second?), (vec![vec![3], vec![3], vec![5]], vec![vec![4], vec![], vec![]]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn sum_over_ranks(
        mut self,
        sum: impl Fn(usize) -> Result<usize, BoxError> + Send + Sync + 'static,
    ) -> Self {
        self.data.sum = Some(Arc::new(sum));
        self
    }
}

#[cfg(all(feature = "processes", target_os = "linux"))]
impl<S: Shards<Record: firebox_workers::process_pool::Crosses>, T> LoaderBuilder<Streamed<S>, T> {
    /// Lets worker processes have records that they can't read themselves: the parent reads them, and sends
    /// each along with its batch.
    ///
    /// Shards that know their [`records`](Shards::records) and can be [opened in their
    /// middle](Shards::is_seekable) are read by the workers of a [`Recipe`](crate::Recipe), and don't need
    /// it. Records of others cross, as many threads reading as shards take turns, and at most as many as
    /// there are processes; stages and writing are the workers'. A record is written down once, by the thread
    /// that has read it. [`Packed`](firebox_workers::Packed) bytes cross in one piece, other vectors element
    /// by element. With threads for workers it changes nothing.
    ///
    /// ```
    /// use firebox_data::{Error, Loader, Pad, Recipe};
    /// use firebox_data::formats::Lines;
    /// use firebox_workers::Pool;
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Debug, Serialize, Deserialize)]
    /// struct Letters {
    ///     file: std::path::PathBuf,
    /// }
    ///
    /// impl Recipe for Letters {
    ///     type Layout = Pad<i64>;
    ///
    ///     fn loader(&self) -> Result<Loader<Pad<i64>>, Error> {
    ///         // How many lines a file has nobody knows before it is read.
    ///         Loader::stream(Lines::new([&self.file])).send_records().batch_size(2).build(
    ///             Pad::with(0),
    ///             |line: String, _, letters| Ok(letters.extend(line.bytes().map(i64::from))),
    ///         )
    ///     }
    /// }
    ///
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     firebox_workers::init();
    ///     # let folder = tempfile::tempdir()?;
    ///     # let file = folder.path().join("a.txt");
    ///     # std::fs::write(&file, "one\ntwo\nthree\n")?;
    ///     let loader = Letters { file }.workers(Pool::processes(1)?)?;
    ///     let lengths: Result<Vec<_>, Error> = loader.epoch(0).map(|batch| Ok(batch?.lengths)).collect();
    ///     assert_eq!(lengths?, [vec![3, 3], vec![5]]);
    ///     Ok(())
    /// }
    /// ```
    pub fn send_records(mut self) -> Self {
        self.data.send_records();
        self
    }
}
