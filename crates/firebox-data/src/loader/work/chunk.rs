//! The result of a task.

use std::time::Duration;

use crate::error::{Error, ErrorKind};
use crate::loader::fault::SampleFailure;
use crate::loader::report::Stint;

/// The result of one task: some samples of a batch.
pub(in crate::loader) struct ChunkResult<B> {
    /// The batch, if the run was its last.
    pub(in crate::loader) built: Option<Box<BuiltBatch<B>>>,
    pub(in crate::loader) samples: usize,
    pub(in crate::loader) took: Duration,
}

impl<B> ChunkResult<B> {
    /// The result of a task that nobody waits for any more.
    pub(super) fn none() -> Self {
        ChunkResult { built: None, samples: 0, took: Duration::ZERO }
    }

    pub(super) fn failed(error: Error) -> Self {
        ChunkResult { built: Some(Box::new(BuiltBatch::failed(error))), ..Self::none() }
    }
}

/// A batch, with what happened on the way.
pub(in crate::loader) struct BuiltBatch<B> {
    /// `None` if no sample is left of it.
    pub(in crate::loader) batch: Result<Option<B>, Error>,
    /// The memory that it takes.
    pub(in crate::loader) bytes: usize,
    /// The samples in it.
    pub(in crate::loader) samples: usize,
    /// In the order of the samples.
    pub(in crate::loader) failures: Vec<SampleFailure>,
    /// The workers' stints for it.
    pub(in crate::loader) stints: Vec<Stint>,
}

impl<B> BuiltBatch<B> {
    /// A batch that was not made at all.
    pub(in crate::loader) fn failed(error: Error) -> Self {
        BuiltBatch { batch: Err(error), bytes: 0, samples: 0, failures: Vec::new(), stints: Vec::new() }
    }
}

/// The error of a batch that a panic has cost.
pub(in crate::loader) fn not_made(batch: u64, epoch: u64, panic: &str) -> Error {
    let text = format!("batch {batch} of epoch {epoch} was not made: panicked: {panic}");
    Error::new(ErrorKind::Panic, text)
}
