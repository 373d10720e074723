//! A part of a loader's items as a loader of its own.

use std::ops::Range;
use std::sync::Arc;

use crate::collate::Collate;
use crate::error::{Error, ErrorKind, check};
use crate::loader::Loader;
use crate::sampler::batch_sampler::{BatchSampler, FixedSize, widest};
use crate::sampler::per_epoch::PerEpoch;
use crate::sampler::{Ranks, Sampler, Sequential, Shuffled};

/// Part of a data set, and how its batches are cut: what slices are made by.
#[derive(Clone)]
pub(super) struct Cuts {
    /// The part of the data set.
    pub(super) range: Range<usize>,
    /// The number of items in the whole data set.
    pub(super) len: usize,
    pub(super) order: SliceOrder,
    /// Samples in a batch, about.
    pub(super) size: usize,
    pub(super) drop_last: bool,
    pub(super) seed: u64,
    /// The batches of the whole data set.
    pub(super) whole: Arc<dyn BatchSampler>,
}

/// Where an order of items comes from.
#[derive(Clone, Copy)]
pub(super) enum SliceOrder {
    /// The loader's own, which can be had for any number of items.
    Plain { shuffle: bool },
    /// A sampler with so many positions.
    Sampler { positions: usize },
    /// A batch sampler.
    Batches,
}

impl<C: Collate> Loader<C> {
    /// A loader of some of the items only, counted as this one's are. The range is cut before anything is
    /// sampled: a shuffled slice is shuffled in itself, by the same seed.
    ///
    /// Of an order of your own a slice has the positions whose index is in range, in their order, cut into
    /// batches again; a batch of a [`BatchSampler`] keeps those of its samples that are in range, and is left
    /// out if there is none. They stand in a table, made for each epoch when it begins: 16 bytes a sample. Of
    /// an order that is one rank's share each batch is kept, also if nothing is left of it, so that ranks go
    /// on having as many.
    ///
    /// No two slices have random numbers in common: a sample of an order of your own has those that it has in
    /// the whole; of the loader's own order a slice has the positions from its range's start on.
    ///
    /// Slices have the loader's worker threads in common with it. Prefetching, its limit in bytes, and the
    /// limit of [`OnError`](crate::OnError) are each slice's own.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`] if the range does not lie within the items,
    /// [`ErrorKind::Config`] if the data are a stream.
    pub fn slice(&self, items: Range<usize>) -> Result<Loader<C>, Error> {
        let Some(indexed) = self.executor.source.indexed() else {
            let text = "slice: expected data with random access, got a stream";
            return Err(Error::new(ErrorKind::Config, text));
        };
        let source = Arc::new(indexed.slice(items)?);
        Ok(self.of_source(source))
    }
}

#[cfg(feature = "burn")]
impl<C: Collate> Loader<C> {
    /// The number of items that it is about, if they can be counted.
    pub(crate) fn items(&self) -> Option<usize> {
        Some(self.executor.source.indexed()?.cuts.range.len())
    }

    /// Tells whether each item is in the order once, by the loader's own making.
    pub(crate) fn has_plain_order(&self) -> bool {
        let indexed = self.executor.source.indexed();
        indexed.is_some_and(|indexed| matches!(indexed.cuts.order, SliceOrder::Plain { .. }))
    }
}

impl Cuts {
    /// A part of the part.
    pub(super) fn part(&self, items: Range<usize>) -> Result<Self, Error> {
        let (len, Range { start, end }) = (self.range.len(), items);
        let within = start <= end && end <= len;
        check(within, "slice", format_args!("a range within {len} items"), format_args!("{start}..{end}"))?;
        Ok(Cuts { range: self.range.start + start..self.range.start + end, ..self.clone() })
    }

    /// The batches of the part.
    pub(super) fn batches(&self) -> Result<Arc<dyn BatchSampler>, Error> {
        let Cuts { range, len, order, size, drop_last, seed, whole } = self.clone();
        let cut = match order {
            SliceOrder::Plain { shuffle } => {
                let order: Box<dyn Sampler> = match shuffle {
                    true => Box::new(Shuffled::new(range.len(), seed)),
                    false => Box::new(Sequential::new(range.len())),
                };
                return Ok(Arc::new(FixedSize::new(Shifted { order, range }, size, drop_last)?));
            }
            SliceOrder::Sampler { positions } => SliceBatching::Size { positions, size, drop_last },
            SliceOrder::Batches => SliceBatching::Batches,
        };
        // What another rank's share has in range nobody knows here.
        let cut = if whole.ranks().is_alone() { cut } else { SliceBatching::Batches };
        Ok(Arc::new(Filtered { whole, range, len, cut, tables: PerEpoch::new() }))
    }
}

/// An order of as many items as a range has, moved to the range.
struct Shifted {
    order: Box<dyn Sampler>,
    range: Range<usize>,
}

impl Sampler for Shifted {
    fn len(&self) -> usize {
        self.order.len()
    }

    fn index(&self, epoch: u64, position: usize) -> usize {
        self.range.start + self.order.index(epoch, position)
    }

    fn global_position(&self, epoch: u64, position: usize) -> u64 {
        self.range.start as u64 + self.order.global_position(epoch, position)
    }

    fn global_len(&self) -> u64 {
        self.range.start as u64 + self.order.global_len()
    }

    fn describe(&self) -> String {
        format!("items {:?} in the order {}", self.range, self.order.describe())
    }
}

/// The rest of someone's batches if only the items of a range are wanted.
struct Filtered {
    whole: Arc<dyn BatchSampler>,
    range: Range<usize>,
    /// The number of items in the whole data set.
    len: usize,
    cut: SliceBatching,
    tables: PerEpoch<Table>,
}

/// Where what is left is cut into batches.
enum SliceBatching {
    /// After so many samples of all the positions.
    Size { positions: usize, size: usize, drop_last: bool },
    /// Where it was.
    Batches,
}

struct Table {
    indices: Vec<usize>,
    /// The global positions that they have in the whole.
    global: Vec<u64>,
    /// Where each batch ends.
    ends: Vec<usize>,
    /// How wide each was in the whole, if that is known, where it was a batch there.
    widths: Vec<Option<usize>>,
    /// How many samples would have been a short last batch.
    left_out: usize,
}

impl Filtered {
    fn table(&self, epoch: u64) -> Arc<Table> {
        self.tables.get(epoch, || self.make_table(epoch))
    }

    fn make_table(&self, epoch: u64) -> Table {
        // An index that the data set doesn't have is in every slice, to be the error that it is without
        // slices.
        let is_wanted = |index: usize| self.range.contains(&index) || index >= self.len;
        let (mut indices, mut global, mut ends, mut left_out) = (Vec::new(), Vec::new(), Vec::new(), 0);
        let mut widths = Vec::new();
        let mut take = |positions: Range<usize>| {
            for position in positions {
                let index = self.whole.index(epoch, position);
                if is_wanted(index) {
                    indices.push(index);
                    global.push(self.whole.global_position(epoch, position));
                }
            }
            indices.len()
        };
        match self.cut {
            SliceBatching::Size { positions, size, drop_last } => {
                let count = take(0..positions);
                ends.extend((size..=count).step_by(size));
                match (count % size, drop_last) {
                    (0, _) => {}
                    (rest, true) => left_out = rest,
                    (_, false) => ends.push(count),
                }
            }
            SliceBatching::Batches => {
                for batch in 0..self.whole.batches(epoch) {
                    let count = take(self.whole.positions(epoch, batch));
                    if ends.last().copied().unwrap_or(0) < count || !self.whole.ranks().is_alone() {
                        ends.push(count);
                        widths.push(self.whole.width(epoch, batch));
                    }
                }
            }
        }
        Table { indices, global, ends, widths, left_out }
    }
}

impl BatchSampler for Filtered {
    fn batches(&self, epoch: u64) -> usize {
        self.table(epoch).ends.len()
    }

    fn samples(&self, epoch: u64) -> usize {
        self.table(epoch).ends.last().copied().unwrap_or(0)
    }

    fn positions(&self, epoch: u64, batch: usize) -> Range<usize> {
        let table = self.table(epoch);
        let start = batch.checked_sub(1).map_or(0, |before| table.ends[before]);
        start..table.ends[batch]
    }

    fn index(&self, epoch: u64, position: usize) -> usize {
        self.table(epoch).indices[position]
    }

    fn indices(&self, epoch: u64, positions: Range<usize>, indices: &mut Vec<usize>) {
        indices.extend_from_slice(&self.table(epoch).indices[positions]);
    }

    fn global_position(&self, epoch: u64, position: usize) -> u64 {
        self.table(epoch).global[position]
    }

    fn global_positions(&self, epoch: u64, positions: Range<usize>, global: &mut Vec<u64>) {
        global.extend_from_slice(&self.table(epoch).global[positions]);
    }

    fn length(&self, index: usize) -> Option<usize> {
        self.whole.length(index)
    }

    /// That of what is left, or of the whole batch where nobody knows what is left on other ranks.
    fn width(&self, epoch: u64, batch: usize) -> Option<usize> {
        let of_rest = if self.ranks().is_alone() { widest(self, epoch, batch) } else { None };
        of_rest.or_else(|| self.table(epoch).widths.get(batch).copied().flatten())
    }

    fn ranks(&self) -> Ranks {
        self.whole.ranks()
    }

    fn left_out(&self, epoch: u64) -> usize {
        self.table(epoch).left_out
    }

    fn describe(&self) -> String {
        let of = match self.cut {
            SliceBatching::Size { .. } => "of",
            SliceBatching::Batches => "in each batch of",
        };
        format!("items {:?} {of} {}", self.range, self.whole.describe())
    }
}
