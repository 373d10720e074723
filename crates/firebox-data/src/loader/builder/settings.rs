//! The settings of a loader, whatever its data.

use std::time::Duration;

use crate::error::Error;
use crate::loader::fault::{OnError, Retry};
use crate::sampler::{Ranks, UnevenRanks};

/// The settings that don't depend on the kind of data.
#[doc(hidden)]
pub struct Settings {
    pub(in crate::loader) seed: u64,
    pub(in crate::loader) batch_size: usize,
    pub(in crate::loader) drop_last: bool,
    pub(in crate::loader) on_error: OnError,
    pub(in crate::loader) retry: Option<Retry>,
    pub(in crate::loader) workers: Option<usize>,
    pub(in crate::loader) readers: Option<usize>,
    pub(in crate::loader) prefetch: Option<usize>,
    pub(in crate::loader) prefetch_bytes: Option<usize>,
    pub(in crate::loader) as_completed: bool,
    pub(in crate::loader) accept_changed_data: bool,
    pub(in crate::loader) timeout: Option<Duration>,
    /// A rank and how many there are, not checked yet.
    pub(in crate::loader) rank: Option<(usize, usize)>,
    pub(in crate::loader) uneven: UnevenRanks,
}

impl Settings {
    /// True if each sample has a time limit.
    pub(in crate::loader) fn has_time_limit(&self) -> bool {
        self.timeout.is_some()
    }

    /// The ranks that batches are dealt to.
    pub(in crate::loader) fn ranks(&self) -> Result<Ranks, Error> {
        self.rank.map_or(Ok(Ranks::ALONE), |(rank, world)| Ranks::new(rank, world))
    }
}
