//! Batch samplers: which positions of an epoch form which batch.

use std::ops::Range;
use std::sync::Arc;

use firebox_core::{Purpose, derive_seed};

use crate::error::{Error, ErrorKind, check};
use crate::sampler::Permutation;
use crate::sampler::per_epoch::PerEpoch;
use crate::sampler::{Ranks, Sampler};

/// An order of samples, cut into batches, for every epoch: a function of its arguments, as a [`Sampler`] is.
///
/// ```
/// use firebox_data::sampler::{BatchSampler, FixedSize, Sequential};
///
/// let batches = FixedSize::new(Sequential::new(10), 4, false)?;
/// assert_eq!((batches.batches(0), batches.samples(0)), (3, 10));
/// assert_eq!(batches.positions(0, 2), 8..10);
/// # Ok::<(), firebox_data::Error>(())
/// ```
pub trait BatchSampler: Send + Sync {
    /// The number of batches in an epoch.
    fn batches(&self, epoch: u64) -> usize;

    /// The number of samples in an epoch's batches.
    fn samples(&self, epoch: u64) -> usize;

    /// The positions of a batch. No two batches share one.
    fn positions(&self, epoch: u64, batch: usize) -> Range<usize>;

    /// The data set index at a position of a batch.
    fn index(&self, epoch: u64, position: usize) -> usize;

    /// Appends the data set indices at some positions of a batch: what [`index`](Self::index) gives for each,
    /// for batch samplers that can do many at once faster.
    fn indices(&self, epoch: u64, positions: Range<usize>, indices: &mut Vec<usize>) {
        indices.extend(positions.map(|position| self.index(epoch, position)));
    }

    /// The number that the sample's random numbers at a position follow from: see
    /// [`Sampler::global_position`].
    fn global_position(&self, epoch: u64, position: usize) -> u64 {
        let _ = epoch;
        position as u64
    }

    /// Appends the global positions of some positions of a batch: what
    /// [`global_position`](Self::global_position) gives for each.
    fn global_positions(&self, epoch: u64, positions: Range<usize>, global: &mut Vec<u64>) {
        global.extend(positions.map(|position| self.global_position(epoch, position)));
    }

    /// The number of samples of every batch but the last one, if that is one number, whatever the epoch.
    ///
    /// So a rank's samples can be counted without asking for each batch.
    fn batch_size(&self) -> Option<usize> {
        None
    }

    /// The length of an item, of which [widths](Self::width) are the largest; `None` of each if none is
    /// known.
    fn length(&self, index: usize) -> Option<usize> {
        let _ = index;
        None
    }

    /// The length of the longest sample of a batch, of all ranks if the batch is a rank's part of one; `None`
    /// of each if none is known.
    ///
    /// A layout that pads gives every rank's part of a batch this width. It follows from the
    /// [lengths](Self::length) unless the order is one rank's share, of which others have theirs.
    fn width(&self, epoch: u64, batch: usize) -> Option<usize> {
        if self.ranks().is_alone() { widest(self, epoch, batch) } else { None }
    }

    /// The ranks that the batches are dealt to already, as they are of an order that is
    /// [`Distributed`](crate::sampler::Distributed), and which of them has these.
    ///
    /// The loader deals all others to its [`rank`](crate::loader::LoaderBuilder::rank).
    fn ranks(&self) -> Ranks {
        Ranks::ALONE
    }

    /// The samples of an epoch's order that are in no batch, since their last batch would be short.
    fn left_out(&self, epoch: u64) -> usize {
        let _ = epoch;
        0
    }

    /// Tells whether it can be used for a data set of `len` items.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if it was made for another one.
    fn check(&self, len: usize) -> Result<(), Error> {
        let _ = len;
        Ok(())
    }

    /// Tells whether its batches can be [dealt](Ranks::run) to so many ranks.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if a rank would not have what belongs together.
    fn check_ranks(&self, ranks: Ranks) -> Result<(), Error> {
        let _ = ranks;
        Ok(())
    }

    /// The batch sampler and its settings: see [`Sampler::describe`].
    fn describe(&self) -> String;
}

/// The length of the longest sample of a batch, by the lengths of its items.
pub(crate) fn widest(batches: &(impl BatchSampler + ?Sized), epoch: u64, batch: usize) -> Option<usize> {
    // What is known of one is known of all, also where a batch has none.
    batches.length(0)?;
    let mut lengths = batches.positions(epoch, batch).map(|at| batches.length(batches.index(epoch, at)));
    lengths.try_fold(0, |width, length| Some(width.max(length?)))
}

/// Batches of one size, cut from a sampler's order.
///
/// ```
/// use firebox_data::sampler::{BatchSampler, FixedSize, Shuffled};
///
/// let words = ["a", "deep", "learning", "library"];
/// let lengths: Vec<u32> = words.iter().map(|word| word.len() as u32).collect();
/// let batches = FixedSize::new(Shuffled::new(4, 42), 4, false)?.with_lengths(lengths);
/// assert_eq!((batches.batches(0), batches.width(0, 0)), (1, Some(8)));
/// # Ok::<(), firebox_data::Error>(())
/// ```
pub struct FixedSize<S> {
    order: S,
    size: usize,
    drop_last: bool,
    /// The length of each item of the data set, if they are known.
    lengths: Option<Arc<[u32]>>,
}

impl<S: Sampler> FixedSize<S> {
    /// Batches of `size`; a last one that is shorter is left out if `drop_last` says so.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`] if the size is 0.
    pub fn new(order: S, size: usize, drop_last: bool) -> Result<Self, Error> {
        check_size("batch size", size)?;
        Ok(FixedSize { order, size, drop_last, lengths: None })
    }

    /// With the length of each item, so that several ranks pad their parts of a batch to one width.
    pub fn with_lengths(mut self, lengths: impl Into<Arc<[u32]>>) -> Self {
        self.lengths = Some(lengths.into());
        self
    }
}

impl<S: Sampler> BatchSampler for FixedSize<S> {
    fn batches(&self, _: u64) -> usize {
        match self.drop_last {
            true => self.order.len() / self.size,
            false => self.order.len().div_ceil(self.size),
        }
    }

    fn samples(&self, epoch: u64) -> usize {
        self.order.len() - self.left_out(epoch)
    }

    fn positions(&self, _: u64, batch: usize) -> Range<usize> {
        // A batch that there isn't has no position.
        let start = batch.saturating_mul(self.size).min(self.order.len());
        start..start.saturating_add(self.size).min(self.order.len())
    }

    fn index(&self, epoch: u64, position: usize) -> usize {
        self.order.index(epoch, position)
    }

    fn indices(&self, epoch: u64, positions: Range<usize>, indices: &mut Vec<usize>) {
        self.order.indices(epoch, positions, indices);
    }

    fn global_position(&self, epoch: u64, position: usize) -> u64 {
        self.order.global_position(epoch, position)
    }

    fn global_positions(&self, epoch: u64, positions: Range<usize>, global: &mut Vec<u64>) {
        self.order.global_positions(epoch, positions, global);
    }

    fn batch_size(&self) -> Option<usize> {
        Some(self.size)
    }

    fn length(&self, index: usize) -> Option<usize> {
        self.lengths.as_ref().map(|lengths| length_in(lengths, index))
    }

    fn width(&self, epoch: u64, batch: usize) -> Option<usize> {
        let lengths = self.lengths.as_ref()?;
        // What the other ranks have of the batch, too, if the order is one rank's share.
        let samples = self.positions(epoch, batch).flat_map(|position| {
            (0..self.ranks().world()).map(move |rank| self.order.on_rank(rank, epoch, position).0)
        });
        Some(samples.map(|index| length_in(lengths, index)).fold(0, usize::max))
    }

    fn check(&self, len: usize) -> Result<(), Error> {
        self.lengths.as_ref().map_or(Ok(()), |lengths| check_lengths("batches", lengths, len))
    }

    fn ranks(&self) -> Ranks {
        self.order.ranks()
    }

    fn left_out(&self, _: u64) -> usize {
        if self.drop_last { self.order.len() % self.size } else { 0 }
    }

    fn describe(&self) -> String {
        let last = if self.drop_last { ", short last batch dropped" } else { "" };
        format!("{}, batches of {}{last}", self.order.describe(), self.size)
    }
}

/// Batches of samples of similar length, so that little is padded.
///
/// The sampler's order is cut into windows; each is sorted by length and cut into batches; then the batches
/// of the epoch are shuffled. An epoch's plan takes 8 bytes an item and 8 a batch, and is made when it is
/// first needed.
///
/// Of an order that is one rank's share, such as [`Distributed`](crate::sampler::Distributed), the batches
/// are planned for all ranks together and then dealt: a size, a budget of tokens and a window are those of
/// each rank, a batch is about as long on every rank, and all have equally many.
///
/// What a sample draws follows from its position in the sampler's order, not from its batch: bucketing, its
/// windows and its seed change no augmentation.
///
/// ```
/// use firebox_data::sampler::{BatchSampler, Bucketed, Sequential};
///
/// let lengths = vec![2, 9, 1, 8];
/// let batches = Bucketed::by_length(Sequential::new(4), lengths, 2, 42)?;
/// let mut widths: Vec<_> = (0..batches.batches(0)).map(|batch| batches.width(0, batch)).collect();
/// widths.sort();
/// assert_eq!(widths, [Some(2), Some(9)]);
/// # Ok::<(), firebox_data::Error>(())
/// ```
pub struct Bucketed<S> {
    order: S,
    /// The length of each item of the data set.
    lengths: Arc<[u32]>,
    cut: BucketLimit,
    /// Samples in a window.
    window: usize,
    seed: u64,
    plans: PerEpoch<BucketPlan>,
}

/// Where a sorted window is cut.
#[derive(Clone, Copy)]
enum BucketLimit {
    /// After so many samples of each rank.
    Size(usize),
    /// Before a batch's padded size, its number of samples on each rank times the length of its longest, gets
    /// above this.
    Tokens(usize),
}

struct BucketPlan {
    samples: Vec<BucketSample>,
    batches: Vec<BucketBatch>,
}

/// A sample, by its index in the data set and its place in the order of all ranks: one has their first
/// positions, then their second ones, and so on.
#[derive(Clone, Copy)]
struct BucketSample {
    index: u32,
    place: u32,
}

/// A batch, or a rank's part of it.
struct BucketBatch {
    /// Where it ends among the samples.
    end: u32,
    /// The length of the longest sample of the whole batch.
    width: u32,
}

impl<S: Sampler> Bucketed<S> {
    /// Batches of `size` samples, the last of a window shorter. Windows have 100 batches.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`] if the size is 0 or there are 2³² positions or more.
    pub fn by_length(
        order: S,
        lengths: impl Into<Arc<[u32]>>,
        size: usize,
        seed: u64,
    ) -> Result<Self, Error> {
        check_size("batch size", size)?;
        Self::new(order, lengths.into(), BucketLimit::Size(size), size.saturating_mul(100), seed)
    }

    /// Batches that hold at most `tokens` tokens once they are padded. Windows have 10,000 samples.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if a sample alone is longer than that, [`ErrorKind::OutOfRange`] if there are
    /// 2³² positions or more.
    pub fn by_tokens(
        order: S,
        lengths: impl Into<Arc<[u32]>>,
        tokens: usize,
        seed: u64,
    ) -> Result<Self, Error> {
        let lengths = lengths.into();
        if let Some(index) = lengths.iter().position(|&length| length as usize > tokens) {
            let text = format!(
                "token budget: sample {index} alone has {} tokens, got a budget of {tokens}",
                lengths[index]
            );
            return Err(Error::new(ErrorKind::Config, text));
        }
        Self::new(order, lengths, BucketLimit::Tokens(tokens), 10_000, seed)
    }

    fn new(order: S, lengths: Arc<[u32]>, cut: BucketLimit, window: usize, seed: u64) -> Result<Self, Error> {
        let positions = order.len().saturating_mul(order.ranks().world()).max(lengths.len());
        check(u32::try_from(positions).is_ok(), "bucketing", "fewer than 2³² positions", positions)?;
        Ok(Bucketed { order, lengths, cut, window, seed, plans: PerEpoch::new() })
    }

    /// Another size of the windows, in samples. Larger windows pad less and mix less.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`] if it is 0.
    pub fn window(mut self, samples: usize) -> Result<Self, Error> {
        check_size("bucketing window", samples)?;
        self.window = samples;
        Ok(self)
    }

    fn plan(&self, epoch: u64) -> Arc<BucketPlan> {
        self.plans.get(epoch, || self.make_plan(epoch))
    }

    fn make_plan(&self, epoch: u64) -> BucketPlan {
        let ranks = self.order.ranks();
        let (positions, world) = (self.order.len(), ranks.world());
        let mut sorted: Vec<BucketSample> = Vec::with_capacity(positions * world);
        let mut batches: Vec<(Range<u32>, u32)> = Vec::new();
        let (mut indices, mut keys) = (Vec::new(), Vec::new());
        for start in (0..positions).step_by(self.window) {
            let end = positions.min(start.saturating_add(self.window));
            indices.clear();
            match ranks.is_alone() {
                true => self.order.indices(epoch, start..end, &mut indices),
                false => indices.extend((start..end).flat_map(|position| {
                    (0..world).map(move |rank| self.order.on_rank(rank, epoch, position).0)
                })),
            }
            // The length in the upper half, the place in the lower: samples of one length stay in the
            // sampler's order, and the table of lengths is asked once a sample. An index that the data set
            // lacks is the loader's to name.
            keys.clear();
            let key = |(place, &index): (usize, &usize)| {
                (length_in(&self.lengths, index) as u64) << 32 | place as u64
            };
            keys.extend(indices.iter().enumerate().map(key));
            keys.sort_unstable();
            let first_place = sorted.len();
            let planned = |&key: &u64| BucketSample {
                // There are fewer items than this index, so that it stands for all that the data set lacks.
                index: u32::try_from(indices[key as u32 as usize]).unwrap_or(u32::MAX),
                place: first_place as u32 + key as u32,
            };
            sorted.extend(keys.iter().map(planned));
            let mut first = 0;
            for end in 1..=keys.len() {
                // Sorted, so that the next sample would be the batch's longest.
                let full = keys.get(end).is_none_or(|&next| match self.cut {
                    BucketLimit::Size(size) => (end + 1 - first).div_ceil(world) > size,
                    BucketLimit::Tokens(tokens) => {
                        (end + 1 - first).div_ceil(world) * (next >> 32) as usize > tokens
                    }
                });
                if full {
                    let width = (keys[end - 1] >> 32) as u32;
                    batches.push(((first_place + first) as u32..(first_place + end) as u32, width));
                    first = end;
                }
            }
        }
        let shuffle = Permutation::new(batches.len(), derive_seed(self.seed, Purpose::Order, epoch, 1));
        let mut plan = BucketPlan {
            samples: Vec::with_capacity(sorted.len().div_ceil(world)),
            batches: Vec::with_capacity(batches.len()),
        };
        for batch in 0..batches.len() {
            let (Range { start, end }, width) = batches[shuffle.apply(batch)];
            plan.samples.extend_from_slice(&sorted[ranks.run(batch, start as usize..end as usize)]);
            plan.batches.push(BucketBatch { end: plan.samples.len() as u32, width });
        }
        plan
    }

    /// The global position of a planned sample.
    fn global(&self, epoch: u64, place: usize) -> u64 {
        let ranks = self.order.ranks();
        match ranks.is_alone() {
            true => self.order.global_position(epoch, place),
            false => self.order.on_rank(place % ranks.world(), epoch, place / ranks.world()).1,
        }
    }
}

impl<S: Sampler> BatchSampler for Bucketed<S> {
    fn batches(&self, epoch: u64) -> usize {
        self.plan(epoch).batches.len()
    }

    fn samples(&self, epoch: u64) -> usize {
        match self.order.ranks().is_alone() {
            true => self.order.len(),
            false => self.plan(epoch).samples.len(),
        }
    }

    fn positions(&self, epoch: u64, batch: usize) -> Range<usize> {
        let plan = self.plan(epoch);
        let start = batch.checked_sub(1).map_or(0, |before| plan.batches[before].end);
        start as usize..plan.batches[batch].end as usize
    }

    fn index(&self, epoch: u64, position: usize) -> usize {
        self.plan(epoch).samples[position].index as usize
    }

    fn indices(&self, epoch: u64, positions: Range<usize>, indices: &mut Vec<usize>) {
        indices.extend(self.plan(epoch).samples[positions].iter().map(|sample| sample.index as usize));
    }

    fn global_position(&self, epoch: u64, position: usize) -> u64 {
        self.global(epoch, self.plan(epoch).samples[position].place as usize)
    }

    fn global_positions(&self, epoch: u64, positions: Range<usize>, global: &mut Vec<u64>) {
        let plan = self.plan(epoch);
        global.extend(plan.samples[positions].iter().map(|sample| self.global(epoch, sample.place as usize)));
    }

    fn length(&self, index: usize) -> Option<usize> {
        Some(length_in(&self.lengths, index))
    }

    fn width(&self, epoch: u64, batch: usize) -> Option<usize> {
        Some(self.plan(epoch).batches[batch].width as usize)
    }

    fn ranks(&self) -> Ranks {
        self.order.ranks()
    }

    fn check(&self, len: usize) -> Result<(), Error> {
        check_lengths("bucketing", &self.lengths, len)
    }

    fn describe(&self) -> String {
        let cut = match self.cut {
            BucketLimit::Size(size) => format!("batches of {size}"),
            BucketLimit::Tokens(tokens) => format!("batches of {tokens} tokens"),
        };
        let lengths = firebox_core::seed::fingerprint(self.lengths.iter().map(|&length| u64::from(length)));
        let (order, window, seed) = (self.order.describe(), self.window, self.seed);
        format!("{order}, {cut} by length (lengths {lengths:016x}, windows of {window}, seed {seed})")
    }
}

/// The length of an item; of one that the data set lacks, which is the loader's to name, 0.
fn length_in(lengths: &[u32], index: usize) -> usize {
    lengths.get(index).map_or(0, |&length| length as usize)
}

fn check_lengths(what: &str, lengths: &[u32], len: usize) -> Result<(), Error> {
    if lengths.len() == len {
        return Ok(());
    }
    let text = format!("{what}: expected a length for each of {len} items, got {}", lengths.len());
    Err(Error::new(ErrorKind::Config, text))
}

fn check_size(what: &str, size: usize) -> Result<(), Error> {
    check(size > 0, what, "at least 1", size)
}

impl Ranks {
    /// How many samples of an epoch's batches are this rank's.
    ///
    /// It is computed at once if the batches are of [one size](BatchSampler::batch_size), and counted
    /// otherwise.
    pub fn samples(self, batches: &(impl BatchSampler + ?Sized), epoch: u64) -> usize {
        let count = batches.batches(epoch);
        let of_batch = |batch| self.run(batch, batches.positions(epoch, batch)).len();
        match (self.is_alone(), batches.batch_size(), count.checked_sub(1)) {
            (true, ..) => batches.samples(epoch),
            (false, _, None) => 0,
            (false, Some(size), Some(last)) => self.of_batches(last, size) + of_batch(last),
            (false, None, _) => (0..count).map(of_batch).sum(),
        }
    }
}
