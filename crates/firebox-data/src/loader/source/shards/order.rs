//! What the order of an epoch's records follows from.

use crate::dataset::Shards;
use crate::loader::source::shards::deal::ShardDeal;
use crate::permutation::Permutation;
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
    pub(super) deal: ShardDeal,
}

impl ShardOrder {
    pub(super) fn shuffles(&self) -> bool {
        self.shuffle.is_some()
    }

    /// The order of all shards in an epoch.
    pub(super) fn of_epoch(&self, shards: usize, epoch: u64) -> Permutation {
        Permutation::new(shards, derive_seed(self.seed, Purpose::Order, epoch, 0))
    }

    /// The order of the records of a window.
    pub(super) fn of_window(&self, records: usize, epoch: u64, window: u64) -> Permutation {
        Permutation::new(records, derive_seed(self.seed, Purpose::Order, epoch, 2 + window))
    }

    /// The number of shards that this rank reads.
    pub(super) fn share(&self, shards: usize) -> usize {
        self.deal.share(self.deal.ranks.rank(), shards)
    }

    /// The shard at a place of this rank's order.
    pub(super) fn shard(&self, order: &Permutation, place: usize) -> usize {
        self.shard_of(self.deal.ranks.rank(), order, place)
    }

    /// The shard at a place of a rank's order.
    pub(super) fn shard_of(&self, rank: usize, order: &Permutation, place: usize) -> usize {
        let place = self.deal.place(rank, place);
        if self.shuffles() { order.apply(place) } else { place }
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
        let last = if self.drop_last { ", short last batch dropped" } else { "" };
        format!(
            "{}, {} shards {order}, {taking_turns} taking turns{}, batches of {batch_size}{last}",
            shards.describe(),
            shards.shards(),
            self.deal.describe(),
        )
    }
}
