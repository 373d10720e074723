//! Several data sets in a fixed proportion.

use std::sync::Arc;

use crate::dataset::{Dataset, Fingerprint, Lineage, Location, many};
use crate::error::{BoxError, Error, check};

/// Items of several data sets in exact proportions.
///
/// A pattern as long as the sum of the weights, in which each data set has as many places as its weight,
/// spread evenly, is repeated for as long as is asked. A data set that is through begins again.
///
/// With weights 2 and 1: first, second, first, first, second, first, ….
///
/// The loader's error of an item names its part, and the index in it.
///
/// ```
/// use firebox_data::Dataset;
/// use firebox_data::dataset::Mix;
///
/// let mix = Mix::new(vec![(vec!['a', 'b', 'c'], 2), (vec!['-'], 1)], 6)?;
/// let items = (0..6).map(|index| mix.get(index)).collect::<Result<String, _>>()?;
/// assert_eq!(items, "a-bc-a");
/// # Ok::<(), firebox_data::BoxError>(())
/// ```
pub struct Mix<D> {
    parts: Vec<D>,
    order: Arc<MixOrder>,
    lineage: Lineage,
}

/// Which item of which part stands where.
struct MixOrder {
    weights: Vec<usize>,
    lengths: Vec<usize>,
    /// For each place of the pattern its data set, and how many places of that come before it.
    pattern: Vec<(usize, usize)>,
    len: usize,
}

impl MixOrder {
    fn split(&self, index: usize) -> Option<(usize, usize)> {
        if index >= self.len {
            return None;
        }
        let (part, before) = self.pattern[index % self.pattern.len()];
        let seen = index / self.pattern.len() * self.weights[part] + before;
        Some((part, seen % self.lengths[part]))
    }
}

impl<D: Dataset> Mix<D> {
    /// `len` items of the data sets, by their weights.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) if there is no data set, one is empty, a
    /// weight is 0, or the weights sum to more than 65,536.
    pub fn new(parts: Vec<(D, usize)>, len: usize) -> Result<Self, Error> {
        for (place, (part, weight)) in parts.iter().enumerate() {
            let items = part.len();
            let expected = format_args!("items and a weight above 0 of part {place}");
            let got = format_args!("{items} items and weight {weight}");
            check(items > 0 && *weight > 0, "mix", expected, got)?;
        }
        let (parts, weights): (Vec<D>, Vec<usize>) = parts.into_iter().unzip();
        let period = weights.iter().fold(0usize, |sum, &weight| sum.saturating_add(weight));
        check((1..=1 << 16).contains(&period), "mix", "weights that sum to 1 to 65,536", period)?;
        let mut given = vec![0; parts.len()];
        let pattern = (1..=period).map(|place| {
            // Whoever is furthest behind its share of the places so far comes next; the first of equals.
            let behind = |part: &usize| (weights[*part] * place) as i64 - (given[*part] * period) as i64;
            let next = (0..parts.len()).rev().max_by_key(behind).unwrap_or(0);
            given[next] += 1;
            (next, given[next] - 1)
        });
        let pattern = pattern.collect();
        let lengths = parts.iter().map(|part| part.len()).collect();
        let order = Arc::new(MixOrder { weights, lengths, pattern, len });
        let own = Arc::clone(&order);
        let lineages = parts.iter().map(Dataset::lineage).collect();
        let lineage = Lineage::joined(lineages, move |index| own.split(index));
        Ok(Mix { parts, order, lineage })
    }
}

impl<D> Mix<D> {
    /// The part of an item, and the index in it.
    ///
    /// # Panics
    /// If there is no such item, as a slice does.
    pub fn source(&self, index: usize) -> (usize, usize) {
        match self.order.split(index) {
            Some(source) => source,
            None => panic!("index {index} of a mix of {}", self.order.len),
        }
    }
}

impl<D: Dataset> Dataset for Mix<D> {
    type Item = D::Item;

    fn len(&self) -> usize {
        self.order.len
    }

    fn get(&self, index: usize) -> Result<D::Item, BoxError> {
        let (part, index) = self.order.split(index).ok_or_else(|| many::out_of_range(index, self.len()))?;
        self.parts[part].get(index)
    }

    fn get_many(&self, indices: &[usize]) -> Vec<Result<D::Item, BoxError>> {
        many::of_parts(&self.parts, indices, self.len(), |index| self.order.split(index))
    }

    fn reads_many(&self) -> bool {
        self.parts.iter().any(Dataset::reads_many)
    }

    fn locate(&self, index: usize) -> Option<Location> {
        let (part, index) = self.order.split(index)?;
        self.parts[part].locate(index)
    }

    fn fingerprint(&self) -> Fingerprint {
        let weights = self.order.weights.iter().map(|weight| *weight as u64);
        Fingerprint::joined(self.len(), "mix", self.parts.iter().map(Dataset::fingerprint))
            .with_words(weights)
    }

    fn lineage(&self) -> Lineage {
        self.lineage.clone()
    }
}
