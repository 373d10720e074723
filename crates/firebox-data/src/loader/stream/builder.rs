//! The settings of a stream's loader.

use std::ops::Range;

use firebox_core::{RecordSeeds, SampleRng, StageKey};

use crate::batch_sampler::BatchSampler;
use crate::collate::{Collate, SlotOf};
use crate::dataset::Shards;
use crate::error::{BoxError, Error, ErrorKind, check};
use crate::loader::Loader;
use crate::loader::builder::{LoaderBuilder, Settings as Common};
use crate::loader::fault::OnError;
use crate::loader::stream::{Filler, Settings, StreamLoader};
use crate::sync::Arc;

/// Data without random access: shards, in an order.
pub struct Sharded<S> {
    shards: S,
    shuffle: Option<usize>,
    lanes: usize,
    rank: usize,
    world: usize,
}

impl Loader<()> {
    /// A loader of data without random access.
    ///
    /// As it stands: every record of one shard after the other, one a batch.
    ///
    /// ```
    /// use firebox_data::{Lines, Loader, Pad};
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
    pub fn stream<S: Shards>(shards: S) -> LoaderBuilder<Sharded<S>> {
        let data = Sharded { shards, shuffle: None, lanes: 1, rank: 0, world: 1 };
        LoaderBuilder { data, settings: Common::default() }
    }
}

impl<S: Shards> LoaderBuilder<Sharded<S>> {
    /// Gives each epoch its own random order: of the shards, and of the records in windows of this many. A window is
    /// held in memory, and read again by a resume in its middle.
    pub fn shuffle_window(mut self, records: usize) -> Self {
        self.data.shuffle = Some(records);
        self
    }

    /// How many shards take turns, 16 records each. More mix better, and are read by more workers. Default: 1.
    pub fn interleave(mut self, shards: usize) -> Self {
        self.data.lanes = shards;
        self
    }

    /// Which of `world` processes this is, from 0. Each has shards of its own: every `world`th of the epoch's order. Their
    /// numbers of records differ as their shards do.
    pub fn rank(mut self, rank: usize, world: usize) -> Self {
        (self.data.rank, self.data.world) = (rank, world);
        self
    }

    /// The loader, with a layout and the transform that writes each record into its slot: see
    /// [`LoaderBuilder::build`].
    ///
    /// # Errors
    /// As there; [`ErrorKind::OutOfRange`] also if the shuffle's window or the number of shards that take turns is 0, if the
    /// rank is not below the world; [`ErrorKind::Config`] for [`OnError::Replace`], which a stream has no substitutes for.
    pub fn build<C, F>(self, collate: C, transform: F) -> Result<StreamLoader<C, S>, Error>
    where
        C: Collate,
        F: for<'a> Fn(&S::Record, &mut SampleRng, SlotOf<'a, C>) -> Result<(), BoxError>
            + Send
            + Sync
            + 'static,
    {
        let LoaderBuilder { data: Sharded { shards, shuffle, lanes, rank, world }, settings } = self;
        let Common { seed, batch_size, drop_last, on_error, .. } = settings;
        check(batch_size > 0, "batch size", "at least 1", batch_size)?;
        // No batch is ever so large, so that to cut it there changes nothing, and positions can be counted.
        let batch_size = batch_size.min(usize::MAX / 4);
        check(shuffle != Some(0), "shuffle window", "at least 1", 0)?;
        check(lanes > 0, "interleave", "at least 1", lanes)?;
        check(rank < world, "rank", format_args!("less than {world}"), rank)?;
        if let OnError::Replace { .. } = on_error {
            let text = "on error: a stream has nothing to replace a record by, expected fail or skip";
            return Err(Error::new(ErrorKind::Config, text));
        }
        let unknown = (0..shards.shards()).find(|&shard| shards.records(shard).is_none());
        if let (Some(_), Some(shard)) = (on_error.share(), unknown) {
            let text = format!("on error: a share of how many? shard {shard} does not know its records");
            return Err(Error::new(ErrorKind::Config, text));
        }
        let order = match shuffle {
            Some(window) => format!("shuffled in windows of {window} (seed {seed})"),
            None => "in order".to_owned(),
        };
        let last = if drop_last { ", short last batch dropped" } else { "" };
        let fingerprint = format!(
            "{}, {} shards {order}, {lanes} taking turns, rank {rank} of {world}, batches of {batch_size}{last}{}, stage {}",
            shards.describe(),
            shards.shards(),
            on_error.describe(),
            StageKey::WRITE
        );
        let window = shuffle.unwrap_or(batch_size);
        let transform = Arc::new(transform);
        // A loader's own epochs have nothing to read: those of the stream bring their records with them.
        let none = Filler::<C, S> {
            shared: Arc::default(),
            seeds: RecordSeeds::new(seed, 0),
            stage: StageKey::WRITE,
            batch_size,
            transform: Arc::clone(&transform) as _,
        };
        let loader = settings.loader(collate, Arc::new(none), Arc::new(Positions), None, fingerprint)?;
        let mut settings = Settings { seed, batch_size, drop_last, shuffle, window, lanes, rank, world };
        // Of more lanes than shards the rest would be empty, at any rate.
        settings.lanes = lanes.min(settings.share(shards.shards()).max(1));
        Ok(StreamLoader { loader, shards: Arc::new(shards), settings: Arc::new(settings), transform })
    }
}

/// A stream has no indices: a record is known by its position in the epoch.
struct Positions;

impl BatchSampler for Positions {
    fn batches(&self, _: u64) -> usize {
        0
    }

    fn samples(&self, _: u64) -> usize {
        0
    }

    fn positions(&self, _: u64, _: usize) -> Range<usize> {
        0..0
    }

    fn index(&self, _: u64, position: usize) -> usize {
        position
    }

    fn describe(&self) -> String {
        "positions".to_owned()
    }
}
