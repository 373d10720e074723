//! Tasks, as workers are handed them.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// Which samples to make: some or all of those of one batch.
///
/// Everything that it takes to make them follows from these numbers and the loader's settings, so that the
/// same task gives the same bytes wherever it runs:
///
/// ```
/// use firebox_data::{Loader, Scalar};
/// use firebox_data::loader::BatchTask;
///
/// let build = || {
///     Loader::builder((0..100).collect::<Vec<u64>>()).shuffle(true).batch_size(8).workers(0).build(
///         Scalar::new(),
///         |number, rng, slot| Ok(*slot = number + rng.below(10)),
///     )
/// };
/// let text = serde_json::to_string(&build()?.task(0, 3)?)?;
/// let task: BatchTask = serde_json::from_str(&text)?;
/// assert_eq!(build()?.run(task)?, build()?.epoch(0).nth(3).transpose()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct BatchTask {
    /// The epoch.
    pub epoch: u64,
    /// The batch's place in its epoch.
    pub batch: u64,
    /// How often the batch was begun before.
    pub attempt: u32,
    /// The slots of the batch that are to be written.
    pub run: Range<u32>,
    /// The samples that are written into them.
    pub samples: Vec<SampleId>,
}

/// A sample of an epoch: what is read, and what its random numbers follow from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum SampleId {
    /// An item of a data set.
    Item {
        /// Its index.
        index: usize,
        /// Its [global position](crate::sampler::Sampler::global_position) in the epoch.
        position: u64,
    },
    /// A record of a shard.
    Record {
        /// The shard.
        shard: usize,
        /// The record's place in the shard.
        record: u64,
        /// How often the record has come before in the epoch.
        repeat: u32,
    },
}

impl SampleId {
    /// The shard and the record's place in it; `None` of an item of a data set.
    pub(in crate::loader) fn record(self) -> Option<(usize, u64)> {
        match self {
            SampleId::Item { .. } => None,
            SampleId::Record { shard, record, .. } => Some((shard, record)),
        }
    }

    /// The index in the data set; `None` of a record.
    pub fn index(self) -> Option<usize> {
        match self {
            SampleId::Item { index, .. } => Some(index),
            SampleId::Record { .. } => None,
        }
    }
}
