//! How far a sequence is from another.

use serde::{Deserialize, Serialize};

/// The Levenshtein distance of two sequences.
///
/// It is the least number of items to insert, remove or replace that makes `prediction` of `reference`. Takes
/// time in the product of their lengths, and memory in that of the shorter.
///
/// ```
/// use firebox_train::metrics::edit_distance;
///
/// assert_eq!(edit_distance(b"kitten", b"sitting"), 3);
/// ```
pub fn edit_distance<T: PartialEq>(reference: &[T], prediction: &[T]) -> usize {
    // It is the same both ways.
    let (long, short) = match reference.len() < prediction.len() {
        true => (prediction, reference),
        false => (reference, prediction),
    };
    let mut row: Vec<_> = (0..=short.len()).collect();
    for (i, a) in long.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in short.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = (diagonal + usize::from(a != b)).min(above + 1).min(row[j] + 1);
            diagonal = above;
        }
    }
    row[short.len()]
}

/// Edits for each item of the references, over all pairs.
///
/// That is the rate of wrong characters, words or phonemes. Above 1 if the predictions are too long.
///
/// ```
/// use firebox_train::metrics::ErrorRate;
///
/// let mut rate = ErrorRate::default();
/// rate.count(b"abcd", b"abcd");
/// rate.count(b"abcd", b"axcd");
/// assert_eq!(rate.value(), Some(0.125));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorRate {
    edits: usize,
    items: usize,
}

impl ErrorRate {
    /// Counts one pair of sequences.
    pub fn count<T: PartialEq>(&mut self, reference: &[T], prediction: &[T]) {
        let edits = edit_distance(reference, prediction);
        self.merge(&ErrorRate { edits, items: reference.len() });
    }

    /// The rate; `None` if the references have no item.
    pub fn value(&self) -> Option<f64> {
        (self.items > 0).then(|| self.edits as f64 / self.items as f64)
    }

    pub(super) fn is_counted(&self) -> bool {
        self.items > 0 || self.edits > 0
    }

    /// No counting comes near the largest number; what a file holds may.
    pub(super) fn merge(&mut self, other: &Self) {
        self.edits = self.edits.saturating_add(other.edits);
        self.items = self.items.saturating_add(other.items);
    }
}
