//! A weighted mean.

use serde::{Deserialize, Serialize};

use super::lossless;

/// A sum of weighted numbers, and the sum of their weights.
///
/// ```
/// use firebox_train::metrics::Mean;
///
/// assert_eq!(Mean::of_sum(6.0, 4.0).value(), Some(1.5));
/// assert_eq!(Mean::new(0.5, 0.0).value(), None);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Mean {
    #[serde(with = "lossless")]
    sum: f64,
    #[serde(with = "lossless")]
    weight: f64,
}

impl Mean {
    /// Numbers of a mean and a weight, such as their count.
    ///
    /// A mean of weight 0 adds nothing, also if it is NaN: the mean over no tokens. A weight that is
    /// negative, infinite or NaN has no mean: it makes NaN of all that it is added to.
    pub fn new(mean: f64, weight: f64) -> Self {
        Self::of_sum(mean * weight, weight)
    }

    /// Numbers of a sum and a weight, such as hits among samples. Weights are taken as by [`new`](Self::new).
    pub fn of_sum(sum: f64, weight: f64) -> Self {
        match weight {
            0.0 => Mean::default(),
            _ if weight.is_finite() && weight > 0.0 => Mean { sum, weight },
            _ => Mean { sum: f64::NAN, weight: f64::NAN },
        }
    }

    /// The mean; `None` if nothing weighs anything. NaN of infinities of both signs.
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
