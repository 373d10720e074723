//! The settings that the order of an epoch's records follows from.

use crate::dataset::Shards;
use crate::loader::source::shards::deal::ShardDeal;
use crate::sampler::Permutation;
use firebox_core::{Purpose, derive_seed};

/// The settings of an order of records.
pub(super) struct ShardOrder {
    pub(super) seed: u64,
    pub(super) batch_size: usize,
    pub(super) drop_last: bool,
    /// Records that are shuffled together; `None` if nothing is shuffled.
    pub(super) shuffle: Option<usize>,
    /// Records in a window of the plan.
    pub(super) window: usize,
    /// Shards that take turns.
    pub(super) lanes: usize,
    pub(super) shards: usize,
    /// How often each shard is read in an epoch.
    pub(super) repeats: usize,
    pub(super) deal: ShardDeal,
}

/// One of the times that a shard is read in an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pass {
    pub(super) shard: usize,
    /// How often it was or will be read by passes of lower numbers.
    pub(super) repeat: u32,
}

impl ShardOrder {
    pub(super) fn shuffles(&self) -> bool {
        self.shuffle.is_some()
    }

    /// The number of passes over shards in an epoch, those of all ranks.
    pub(super) fn passes(&self) -> usize {
        self.shards * self.repeats
    }

    /// A rank's passes in an epoch.
    pub(super) fn of_epoch(&self, rank: usize, epoch: u64) -> EpochPasses {
        let key = derive_seed(self.seed, Purpose::Order, epoch, 0);
        EpochPasses {
            shuffled: self.shuffles().then(|| Permutation::new(self.passes(), key)),
            shards: self.shards,
            rank,
            deal: self.deal,
        }
    }

    /// The order of the records of a window.
    pub(super) fn of_window(&self, records: usize, epoch: u64, window: u64) -> Permutation {
        Permutation::new(records, derive_seed(self.seed, Purpose::Order, epoch, 2 + window))
    }

    /// The number of passes that are this rank's.
    pub(super) fn share(&self) -> usize {
        self.deal.share(self.deal.ranks.rank(), self.passes())
    }

    /// How many of a rank's records are in its batches, and how many batches these are.
    pub(super) fn in_batches(&self, records: usize) -> (usize, usize) {
        match (records / self.batch_size, records % self.batch_size) {
            (full, 0) => (records, full),
            (full, _) if self.drop_last => (full * self.batch_size, full),
            (full, _) => (records, full + 1),
        }
    }

    /// The order in words, with so many shards that were to take turns.
    pub(super) fn describe(&self, shards: &impl Shards, taking_turns: usize) -> String {
        let ShardOrder { seed, batch_size, .. } = self;
        let order = match self.shuffle {
            Some(window) => format!("shuffled in windows of {window} (seed {seed})"),
            None => "in order".to_owned(),
        };
        let repeats = if self.repeats > 1 { format!(", each {} times", self.repeats) } else { String::new() };
        let last = if self.drop_last { ", short last batch dropped" } else { "" };
        format!(
            "{}, {} shards {order}{repeats}, {taking_turns} taking turns{}, batches of {batch_size}{last}",
            shards.describe(),
            self.shards,
            self.deal.describe(),
        )
    }
}

/// The passes of an epoch that a rank reads, in their order.
pub(super) struct EpochPasses {
    /// The order of those of all ranks, if it is a random one.
    shuffled: Option<Permutation>,
    shards: usize,
    rank: usize,
    deal: ShardDeal,
}

impl EpochPasses {
    /// The pass at a place.
    pub(super) fn pass(&self, place: usize) -> Pass {
        let place = self.deal.place(self.rank, place);
        let place = self.shuffled.as_ref().map_or(place, |shuffled| shuffled.apply(place));
        Pass { shard: place % self.shards, repeat: (place / self.shards) as u32 }
    }
}
