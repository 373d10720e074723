//! The share of the variance that is explained.

use serde::{Deserialize, Serialize};

use super::lossless::Lossless;
use crate::error::{Error, ErrorKind};

/// The coefficient of determination R².
///
/// It is 1 − Σ(y − ŷ)² / Σ(y − ȳ)² of each output, and the mean of them, as scikit-learn's `r2_score`.
///
/// Means and squared deviations are put together as by Chan, Golub, LeVeque (1979), which loses no digits
/// where the targets are far from 0 and near to each other, as a difference of sums of squares does.
///
/// ```
/// use firebox_train::metrics::RSquared;
///
/// let r_squared = RSquared::of(&[1.0, 2.0, 3.0], &[1.0, 2.0, 4.0], 1)?;
/// assert_eq!(r_squared.value(), Some(0.5));
/// # Ok::<(), firebox_train::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RSquared {
    samples: usize,
    outputs: Vec<Output>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Output {
    /// ȳ.
    mean: Lossless,
    /// Σ(y − ȳ)².
    spread: Lossless,
    /// Σ(y − ŷ)².
    error: Lossless,
}

impl RSquared {
    /// The sums of samples with `outputs` numbers each, one sample after the other.
    ///
    /// # Errors
    /// [`ErrorKind::Task`] unless there are as many targets as predictions, in whole samples.
    pub fn of(targets: &[f32], predictions: &[f32], outputs: usize) -> Result<Self, Error> {
        let (count, expected) = (targets.len(), predictions.len());
        if count != expected || outputs == 0 || count % outputs != 0 {
            let text = format!(
                "R²: expected as many targets as predictions, {outputs} a sample, got {count} and {expected}"
            );
            return Err(Error::new(ErrorKind::Task, text));
        }
        let samples = count / outputs;
        let output = |output: usize| {
            let column = |values: &[f32]| {
                values.iter().skip(output).step_by(outputs).map(|&value| f64::from(value)).collect::<Vec<_>>()
            };
            let (targets, predictions) = (column(targets), column(predictions));
            // From the first one on, so that equal targets have no spread at all.
            let first = targets.first().copied().unwrap_or_default();
            let mean = first + targets.iter().map(|y| y - first).sum::<f64>() / samples.max(1) as f64;
            let spread = targets.iter().map(|y| (y - mean).powi(2)).sum();
            let error = targets.iter().zip(&predictions).map(|(y, predicted)| (y - predicted).powi(2)).sum();
            Output { mean: Lossless(mean), spread: Lossless(spread), error: Lossless(error) }
        };
        Ok(RSquared { samples, outputs: (0..outputs).map(output).collect() })
    }

    /// The mean over the outputs; `None` of less than two samples.
    ///
    /// Where all targets are the same it is 1 if they were met, else 0, and NaN if a prediction is NaN or
    /// infinite.
    pub fn value(&self) -> Option<f64> {
        let explained = |output: &Output| match (output.spread.0, output.error.0) {
            (0.0, error) if error.is_finite() => f64::from(u8::from(error == 0.0)),
            (0.0, _) => f64::NAN,
            (spread, error) => 1.0 - error / spread,
        };
        let sum: f64 = self.outputs.iter().map(explained).sum();
        (self.samples >= 2).then(|| sum / self.outputs.len() as f64)
    }

    pub(super) fn is_counted(&self) -> bool {
        self.samples > 0
    }

    /// Fails if the samples have other numbers of outputs.
    pub(super) fn check(&self, other: &Self) -> Result<(), Error> {
        let (own, others) = (self.outputs.len(), other.outputs.len());
        match own == others {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::Task, format!("R²: expected {own} outputs, got {others}"))),
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        let (own, others) = (self.samples as f64, other.samples as f64);
        // No counting comes near the largest number; what a file holds may.
        self.samples = self.samples.saturating_add(other.samples);
        if other.samples == 0 {
            return;
        }
        for (to, from) in self.outputs.iter_mut().zip(&other.outputs) {
            let difference = from.mean.0 - to.mean.0;
            to.mean.0 += difference * others / (own + others);
            to.spread.0 += from.spread.0 + difference * difference * own * others / (own + others);
            to.error.0 += from.error.0;
        }
    }
}
