//! Which part of the shards a rank has.

use std::ops::Range;

use crate::dataset::Shards;
use crate::error::{Error, ErrorKind};
use crate::sampler::{Ranks, UnevenRanks};

/// The first shard that doesn't know its records.
pub(super) fn uncounted(shards: &impl Shards) -> Option<usize> {
    (0..shards.shards()).find(|&shard| shards.records(shard).is_none())
}

/// Why nobody can know the order of all records and begin anywhere in it, if so.
pub(super) fn why_not_by_record(shards: &impl Shards) -> Option<String> {
    match uncounted(shards) {
        Some(shard) => Some(format!("shard {shard} does not know its records")),
        None => (!shards.is_seekable()).then(|| "they cannot be opened in their middle".to_owned()),
    }
}

/// How the records of shards are dealt to ranks.
#[derive(Clone, Copy, Debug)]
pub(super) struct ShardDeal {
    pub(super) ranks: Ranks,
    /// The rule for ranks that end before others, if shards are dealt whole; `None` if all ranks plan the
    /// batches of all shards, and each has a run of every one.
    pub(super) whole: Option<UnevenRanks>,
}

impl ShardDeal {
    /// By record, if every rank can know the order of all records and begin anywhere in it; by shard
    /// otherwise.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if shards are dealt whole and are fewer than ranks, or don't know their records
    /// and ranks have no way of telling each other: then no rank could know when another one ends.
    pub(super) fn new(
        ranks: Ranks,
        uneven: UnevenRanks,
        (shards, passes): (&impl Shards, usize),
        tell: bool,
    ) -> Result<Self, Error> {
        let Some(why) = why_not_by_record(shards).filter(|_| !ranks.is_alone()) else {
            return Ok(ShardDeal { ranks, whole: None });
        };
        let world = ranks.world();
        if passes < world {
            let text = format!(
                "rank: expected at least {world} shards for {world} ranks, got {passes}, which are dealt whole, since {why}"
            );
            return Err(Error::new(ErrorKind::Config, text));
        }
        if let Some(shard) = uncounted(shards).filter(|_| !tell) {
            let text = format!(
                "rank: expected shards that know their records, or a sum over ranks, so that {world} ranks end \
                 together, got shard {shard}, which does not"
            );
            return Err(Error::new(ErrorKind::Config, text));
        }
        Ok(ShardDeal { ranks, whole: Some(uneven) })
    }

    /// How many of so many shards a rank reads.
    pub(super) fn share(self, rank: usize, shards: usize) -> usize {
        match self.whole {
            None => shards,
            Some(_) => shards.saturating_sub(rank).div_ceil(self.ranks.world()),
        }
    }

    /// A place in a rank's order of shards, as a place in the order of all.
    pub(super) fn place(self, rank: usize, place: usize) -> usize {
        match self.whole {
            None => place,
            Some(_) => place * self.ranks.world() + rank,
        }
    }

    /// This rank's part of the records that it has planned as a batch.
    pub(super) fn run(self, batch: usize, records: usize) -> Range<usize> {
        match self.whole {
            None => self.ranks.run(batch, 0..records),
            Some(_) => 0..records,
        }
    }

    /// The number of batches that all ranks have, from what each of them has by itself.
    pub(super) fn agreed(self, batches: impl Iterator<Item = usize>) -> usize {
        match self.whole {
            Some(UnevenRanks::Trim) => batches.min(),
            _ => batches.max(),
        }
        .unwrap_or(0)
    }

    /// The rank that a position belongs to: none in particular, as long as all ranks read the same shards.
    pub(super) fn state_rank(self) -> usize {
        self.whole.map_or(0, |_| self.ranks.rank())
    }

    /// The deal in words, as far as positions depend on it.
    pub(super) fn describe(self) -> String {
        let world = self.ranks.world();
        match self.whole {
            None => String::new(),
            Some(UnevenRanks::Pad) => format!(", dealt whole to {world} ranks (padded)"),
            Some(UnevenRanks::Trim) => format!(", dealt whole to {world} ranks (trimmed)"),
        }
    }
}
