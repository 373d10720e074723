//! A position in the stream of batches, as a few numbers.

use serde::{Deserialize, Serialize};

use crate::collate::Collate;
use crate::error::{Error, ErrorKind};
use crate::loader::Loader;

/// Where a loader stands: which batch of which epoch is delivered next, and what the numbers refer to.
///
/// Batches that were prefetched and not delivered are not counted, so that none is lost and none comes
/// twice. Serialise it with any `serde` format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LoaderState {
    /// The format's version: [`LoaderState::VERSION`].
    pub version: u32,
    /// The loader's seed.
    pub seed: u64,
    /// The epoch.
    pub epoch: u64,
    /// The number of batches of this epoch that were delivered.
    pub batch: usize,
    /// The samples of this epoch that were skipped or replaced in the batches delivered.
    #[serde(default)]
    pub faults: usize,
    /// The sampler and the batch settings, in words.
    pub fingerprint: String,
}

impl LoaderState {
    /// The version of the format that this release writes, and the only one that it reads.
    pub const VERSION: u32 = 1;

    pub(super) fn new<C: Collate>(loader: &Loader<C>, epoch: u64, batch: usize, faults: usize) -> Self {
        let (seed, fingerprint) = (loader.seed, loader.fingerprint.clone());
        LoaderState { version: Self::VERSION, seed, epoch, batch, faults, fingerprint }
    }

    pub(super) fn check<C: Collate>(&self, loader: &Loader<C>) -> Result<(), Error> {
        let mut differences = Vec::new();
        let mut compare = |what: &str, saved: &dyn std::fmt::Display, here: &dyn std::fmt::Display| {
            let (saved, here) = (saved.to_string(), here.to_string());
            if saved != here {
                differences.push(format!("{what}: saved {saved}, here {here}"));
            }
        };
        compare("version", &self.version, &Self::VERSION);
        compare("seed", &self.seed, &loader.seed);
        compare("settings", &self.fingerprint, &loader.fingerprint);
        let batches = loader.batches(self.epoch);
        if self.batch > batches {
            differences.push(format!("batch: saved {}, epoch {} here has {batches}", self.batch, self.epoch));
        }
        match differences.is_empty() {
            true => Ok(()),
            false => {
                let text = format!("the saved position is of another loader: {}", differences.join("; "));
                Err(Error::new(ErrorKind::State, text))
            }
        }
    }
}
