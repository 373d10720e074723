//! The items of a data set that batches are made of.

use std::collections::HashMap;

use crate::batches::Batches;
use crate::dataset::Lineage;

/// More samples of an epoch than these are not looked at: so many take seconds, and a sampler may have any
/// number.
const MOST: usize = 1 << 26;

/// The items of a data set that the batches of an epoch are made of.
///
/// Held as a bit for each, where they lie close.
///
/// ```
/// use firebox_data::Loader;
/// use firebox_data::batches::SampleSet;
/// use firebox_data::dataset::Subset;
///
/// let all = Subset::all((0..100).collect::<Vec<i32>>());
/// let loader = |indices: Vec<usize>| {
///     let part = Subset::new(all.clone(), indices)?;
///     Loader::builder(part).workers(0).build((), |_, _, ()| Ok(()))
/// };
/// let (train, valid) = (loader(vec![0, 1, 2])?, loader(vec![2, 3])?);
/// let samples = |loader| SampleSet::of(loader, 0);
/// let overlap = samples(&train).and_then(|train| train.overlap(&samples(&valid)?));
/// assert_eq!(overlap.unwrap().first, [2]);
/// # Ok::<(), firebox_data::Error>(())
/// ```
pub struct SampleSet {
    lineage: Lineage,
    /// 64 neighbours each.
    words: HashMap<usize, u64>,
}

/// The items that two sources of batches have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Overlap {
    /// Items that are in both.
    pub items: usize,
    /// The least of their indices in the whole data set that both come from, ten at most.
    pub first: Vec<usize>,
}

impl SampleSet {
    /// The items of an epoch of these batches, up to its first 67 million samples; `None` if their lineage is
    /// not known.
    pub fn of(batches: &impl Batches, epoch: u64) -> Option<Self> {
        let mut set = SampleSet { lineage: batches.lineage()?.clone(), words: HashMap::new() };
        let mut samples = 0;
        for batch in 0..batches.batches(epoch) {
            let indices = batches.indices(epoch, batch)?;
            samples += indices.len();
            // An index that the data set doesn't have is the loader's to name.
            for row in indices.into_iter().filter_map(|index| set.lineage.row(index)) {
                *set.words.entry(row / 64).or_default() |= 1 << (row % 64);
            }
            if samples >= MOST {
                break;
            }
        }
        Some(set)
    }

    /// The items that are here and there; `None` if there is none, or nothing is known of it.
    pub fn overlap(&self, other: &SampleSet) -> Option<Overlap> {
        if !self.lineage.is_shared_with(&other.lineage) {
            return None;
        }
        let both = |(word, bits): (&usize, &u64)| Some((*word, bits & other.words.get(word)?));
        let mut shared: Vec<_> = self.words.iter().filter_map(both).filter(|(_, bits)| *bits != 0).collect();
        shared.sort_unstable();
        let items = shared.iter().map(|(_, bits)| bits.count_ones() as usize).sum();
        let indices = shared.iter().flat_map(|(word, bits)| {
            (0..64).filter(move |bit| bits >> bit & 1 == 1).map(move |bit| word * 64 + bit)
        });
        (items > 0).then(|| Overlap { items, first: indices.take(10).collect() })
    }
}
