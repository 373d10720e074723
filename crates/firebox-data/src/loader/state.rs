//! A position in the stream of batches, as a few numbers.

use std::collections::BTreeSet;
use std::fmt::Display;

use serde::{Deserialize, Serialize};

use crate::collate::Collate;
use crate::dataset::Fingerprint;
use crate::error::{Error, ErrorKind};
use crate::loader::{Loader, StreamState};
use crate::sampler::Ranks;

/// Where a loader stands: which batch of which epoch is delivered next, and what the numbers refer to.
///
/// Batches that were prefetched and not delivered are not counted, so that none is lost and none comes
/// twice. Serialize it with any `serde` format.
///
/// It is the position of a whole job: each of its [ranks](crate::loader::LoaderBuilder::rank) goes on from
/// one that any of them has saved. What a rank can know of itself only is told apart:
/// [`faults`](Self::faults), and whose they are.
///
/// ```
/// use firebox_data::{Loader, LoaderState};
///
/// let loader = Loader::builder(vec![0; 10]).batch_size(4).build((), |_, _, ()| Ok(()))?;
/// let mut epoch = loader.epoch(2);
/// epoch.next().unwrap()?;
/// let saved = serde_json::to_string(&epoch.state()).unwrap();
/// // In another process:
/// let state: LoaderState = serde_json::from_str(&saved).unwrap();
/// assert_eq!(state.epoch, 2);
/// assert_eq!(loader.resume(&state)?.collect::<Result<Vec<_>, _>>()?, [4, 2]);
/// # Ok::<(), firebox_data::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
#[serde(deny_unknown_fields)]
pub struct LoaderState {
    /// The format's version: [`LoaderState::VERSION`].
    pub version: u32,
    /// The loader's seed.
    pub seed: u64,
    /// The epoch.
    pub epoch: u64,
    /// The number of batches of this epoch that were delivered; if batches come [as they
    /// complete](crate::loader::LoaderBuilder::as_completed), the first one that wasn't.
    pub batch: usize,
    /// Which batches after that one were delivered, as a bitmap: bit `b` of word `w` stands for batch
    /// `batch + 64 w + b`. Empty if there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ahead: Vec<u64>,
    /// The samples of this epoch that were skipped or replaced in the batches delivered, by the rank that
    /// saved this.
    #[serde(default)]
    pub faults: usize,
    /// Which rank that was, if there are any and it was not alone.
    ///
    /// Only this one goes on counting from them. Any other, and any of another number of ranks, begins at 0:
    /// what it skipped itself is not known here.
    #[serde(default = "alone", skip_serializing_if = "is_alone")]
    pub faults_of: Ranks,
    /// Where a stream stands: what it takes to go on without its beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<StreamState>,
    /// The sampler and the batch settings, in words.
    pub fingerprint: String,
    /// The fingerprint of the data; `None` in a state from before they were noted, which may be of any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Fingerprint>,
}

impl LoaderState {
    /// The version of the format that this release writes, and the only one that it goes on from.
    ///
    /// In version 1 a sample's random numbers followed from its index in the data set.
    pub const VERSION: u32 = 2;

    /// The position before an epoch.
    pub(super) fn new<C: Collate>(loader: &Loader<C>, epoch: u64) -> Self {
        LoaderState {
            seed: loader.executor.seed,
            fingerprint: loader.settings.clone(),
            data: Some(loader.executor.source.fingerprint().clone()),
            ..Self::before(epoch)
        }
    }

    /// The position before an epoch, without what it is compared by: for whoever has nothing to compare.
    pub(super) fn before(epoch: u64) -> Self {
        LoaderState {
            version: Self::VERSION,
            seed: 0,
            epoch,
            batch: 0,
            ahead: Vec::new(),
            faults: 0,
            faults_of: Ranks::ALONE,
            stream: None,
            fingerprint: String::new(),
            data: None,
        }
    }

    /// With the samples that a rank has skipped or replaced.
    pub(super) fn with_faults(self, faults: usize, ranks: Ranks) -> Self {
        LoaderState { faults, faults_of: if faults > 0 { ranks } else { Ranks::ALONE }, ..self }
    }

    /// The samples that a rank has skipped or replaced, as far as they are known here.
    pub(super) fn faults_of(&self, ranks: Ranks) -> usize {
        if self.faults_of == ranks { self.faults } else { 0 }
    }

    /// With the batches that were delivered out of order.
    pub(super) fn with_ahead(mut self, delivered: &BTreeSet<usize>) -> Self {
        for place in delivered.iter().filter_map(|batch| batch.checked_sub(self.batch)) {
            let word = place / 64;
            self.ahead.resize(self.ahead.len().max(word + 1), 0);
            self.ahead[word] |= 1 << (place % 64);
        }
        self
    }

    /// The batches that were delivered out of order, of a state that was checked.
    pub(super) fn delivered_ahead(&self) -> BTreeSet<usize> {
        let bits = self.ahead.iter().enumerate().flat_map(|(word, bits)| {
            (0..64).filter(move |bit| bits >> bit & 1 == 1).map(move |bit| 64 * word + bit)
        });
        bits.map(|place| self.batch.saturating_add(place)).collect()
    }

    /// How many batches of this epoch were delivered.
    pub fn delivered(&self) -> usize {
        let ahead: usize = self.ahead.iter().map(|bits| bits.count_ones() as usize).sum();
        self.batch.saturating_add(ahead)
    }

    /// Tells whether a batch of this epoch was delivered.
    pub fn has_delivered(&self, batch: usize) -> bool {
        let bit = |place: usize| self.ahead.get(place / 64).is_some_and(|bits| bits >> (place % 64) & 1 == 1);
        batch.checked_sub(self.batch).is_none_or(bit)
    }

    pub(super) fn check<C: Collate>(&self, loader: &Loader<C>) -> Result<(), Error> {
        let source = &loader.executor.source;
        let mut differences = self.of_settings(loader.executor.seed, &loader.settings)?;
        if let Some(saved) = self.data.as_ref().filter(|_| !loader.accept_changed_data) {
            differences.extend(saved.difference(source.fingerprint()));
        }
        differences.extend(source.differences(self));
        match differences.is_empty() {
            true => Ok(()),
            false => {
                let text = format!("the saved position is of another loader: {}", differences.join("; "));
                Err(Error::new(ErrorKind::State, text))
            }
        }
    }

    /// The fault in the batches that it says were delivered, in an epoch of so many, if that is known.
    pub(super) fn overrun(&self, batches: Option<usize>) -> Option<String> {
        let word = self.ahead.iter().rposition(|bits| *bits != 0);
        let last = word.map(|word| 64 * word + 63 - self.ahead[word].leading_zeros() as usize);
        // The first batch that was not delivered was not delivered.
        if self.ahead.first().is_some_and(|bits| bits & 1 == 1) {
            return Some(format!("batch: saved {}, and that it was delivered", self.batch));
        }
        let last = last.map(|last| self.batch.saturating_add(last));
        let batches = batches.unwrap_or(usize::MAX);
        (self.batch > batches || last.is_some_and(|last| last >= batches)).then(|| {
            let saved = last.unwrap_or(self.batch);
            format!("batch: saved {saved}, epoch {} here has {batches}", self.epoch)
        })
    }

    /// In which settings a loader differs from the one that the state was taken from.
    ///
    /// # Errors
    /// If it is of another version, whose fields may say something else.
    fn of_settings(&self, seed: u64, fingerprint: &str) -> Result<Vec<String>, Error> {
        if self.version != Self::VERSION {
            let why = match self.version {
                1 => {
                    ": there, a sample's random numbers followed from its index in the data set; now from its position \
                     in the epoch, so that what is left would not be augmented as it was begun"
                }
                _ => "",
            };
            let text = format!(
                "the saved position is of another version: saved {}, here {}{why}",
                self.version,
                Self::VERSION
            );
            return Err(Error::new(ErrorKind::State, text));
        }
        let mut differences = Vec::new();
        let mut compare = |what: &str, saved: &dyn Display, here: &dyn Display| {
            let (saved, here) = (saved.to_string(), here.to_string());
            if saved != here {
                differences.push(format!("{what}: saved {saved}, here {here}"));
            }
        };
        compare("seed", &self.seed, &seed);
        // What one process had, before positions became those of all ranks.
        let saved = self.fingerprint.replacen(" taking turns, rank 0 of 1,", " taking turns,", 1);
        compare("settings", &saved, &fingerprint);
        Ok(differences)
    }
}

fn alone() -> Ranks {
    Ranks::ALONE
}

fn is_alone(ranks: &Ranks) -> bool {
    ranks.is_alone()
}
