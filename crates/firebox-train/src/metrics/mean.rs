//! A weighted mean.

use serde::{Deserialize, Serialize};

use super::lossless;

/// A sum of weighted numbers, and the sum of their weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Mean {
    #[serde(with = "lossless")]
    sum: f64,
    #[serde(with = "lossless")]
    weight: f64,
}

impl Mean {
    /// Numbers of a mean and a weight, such as their count. What weighs nothing adds nothing, also if it is no number:
    /// the mean over no tokens.
    pub fn new(mean: f64, weight: f64) -> Self {
        Self::of_sum(if weight == 0.0 { 0.0 } else { mean * weight }, weight)
    }

    /// Numbers of a sum and a weight, such as hits among samples.
    pub fn of_sum(sum: f64, weight: f64) -> Self {
        Mean { sum, weight }
    }

    /// The mean; `None` if nothing weighs anything.
    pub fn value(&self) -> Option<f64> {
        (self.weight != 0.0).then(|| self.sum / self.weight)
    }

    pub(super) fn is_counted(&self) -> bool {
        self.weight != 0.0
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.sum += other.sum;
        self.weight += other.weight;
    }
}
