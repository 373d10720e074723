//! When ranks end that can't know it of each other.

use crate::error::{BoxError, Error, ErrorKind, check};
use crate::sampler::UnevenRanks;
use crate::sync::Arc;

/// A sum over all ranks, as a library of collective communication has it.
pub(super) type SumOverRanks = dyn Fn(usize) -> Result<usize, BoxError> + Send + Sync;

/// How ranks end together whose numbers of batches nobody knows before: they tell each other before each
/// step.
///
/// All of them ask before each batch that is delivered, and once more at the end: so often as every other
/// one, since all get the same answer.
pub(super) struct RankEnds {
    pub(super) sum: Arc<SumOverRanks>,
    pub(super) world: usize,
    pub(super) uneven: UnevenRanks,
}

impl RankEnds {
    /// Whether all ranks take another step, of which this one has a batch or has none.
    pub(super) fn go_on(&self, has_batch: bool) -> Result<bool, Error> {
        let having = (self.sum)(usize::from(has_batch)).map_err(|source| {
            Error::new(ErrorKind::Ranks, "the ranks could not tell each other whether they go on")
                .caused_by(source)
        })?;
        let possible = usize::from(has_batch)..=self.world;
        check(possible.contains(&having), "sum over ranks", format_args!("{possible:?}"), having)?;
        Ok(match self.uneven {
            UnevenRanks::Trim => having == self.world,
            UnevenRanks::Pad => having > 0,
        })
    }
}
