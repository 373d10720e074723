//! A quantity as far as some samples tell it.

use serde::{Deserialize, Serialize};

use super::{Auroc, ClassScore, ErrorRate, FrechetDistance, Mean, RSquared};
use crate::error::{Error, ErrorKind};

/// The sums that tell a quantity's value over some samples.
///
/// They can be added to those of other samples: the value over all data is not the mean of the values of
/// batches, unless it is a mean itself and the batches are equally long.
///
/// ```
/// use firebox_train::metrics::Quantity;
///
/// // The root of the mean over both batches, not the mean of their roots.
/// let mut rmse = Quantity::root_mean(1.0, 1.0);
/// rmse.merge(&Quantity::root_mean(9.0, 1.0))?;
/// assert_eq!(rmse.value(), Some(5.0_f64.sqrt()));
/// # Ok::<(), firebox_train::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Quantity {
    /// A mean: a loss, an accuracy, mean squared or absolute errors.
    Mean(Mean),
    /// The root of a mean, as of squared errors.
    RootMean(Mean),
    /// The exponential of a mean: of the negative logarithms, to base e, of what each token was given as its
    /// probability.
    Perplexity(Mean),
    /// R².
    RSquared(RSquared),
    /// Precision, recall or F1.
    ClassScore(ClassScore),
    /// The area under a ROC curve.
    Auroc(Auroc),
    /// Edits for each item of a reference.
    ErrorRate(ErrorRate),
    /// The distance between real and generated samples.
    Frechet(FrechetDistance),
}

impl Quantity {
    /// The mean of numbers of this mean and weight.
    pub fn mean(mean: f64, weight: f64) -> Self {
        Quantity::Mean(Mean::new(mean, weight))
    }

    /// The root of the mean of numbers of this mean and weight: √MSE.
    pub fn root_mean(mean: f64, weight: f64) -> Self {
        Quantity::RootMean(Mean::new(mean, weight))
    }

    /// The perplexity of `tokens` tokens, by their mean cross-entropy in nats.
    pub fn perplexity(mean_loss: f64, tokens: usize) -> Self {
        Quantity::Perplexity(Mean::new(mean_loss, tokens as f64))
    }

    /// The value; `None` when nothing was counted from which it could be said.
    pub fn value(&self) -> Option<f64> {
        match self {
            Quantity::Mean(mean) => mean.value(),
            Quantity::RootMean(mean) => mean.value().map(f64::sqrt),
            Quantity::Perplexity(mean) => mean.value().map(f64::exp),
            Quantity::RSquared(r_squared) => r_squared.value(),
            Quantity::ClassScore(score) => score.value(),
            Quantity::Auroc(auroc) => auroc.value(),
            Quantity::ErrorRate(rate) => rate.value(),
            Quantity::Frechet(distance) => distance.value(),
        }
    }

    /// Tells if anything was counted.
    ///
    /// A quantity that was counted may have no value all the same: an AUROC of one class
    /// alone, the R² of one sample.
    pub fn is_counted(&self) -> bool {
        match self {
            Quantity::Mean(mean) | Quantity::RootMean(mean) | Quantity::Perplexity(mean) => mean.is_counted(),
            Quantity::RSquared(r_squared) => r_squared.is_counted(),
            Quantity::ClassScore(score) => score.is_counted(),
            Quantity::Auroc(auroc) => auroc.is_counted(),
            Quantity::ErrorRate(rate) => rate.is_counted(),
            Quantity::Frechet(distance) => distance.is_counted(),
        }
    }

    /// Counts others' samples in.
    ///
    /// # Errors
    /// [`ErrorKind::Task`] if it is another kind of quantity; then nothing was changed.
    pub fn merge(&mut self, other: &Quantity) -> Result<(), Error> {
        self.check(other)?;
        match (self, other) {
            (Quantity::Mean(to), Quantity::Mean(from))
            | (Quantity::RootMean(to), Quantity::RootMean(from))
            | (Quantity::Perplexity(to), Quantity::Perplexity(from)) => to.merge(from),
            (Quantity::RSquared(to), Quantity::RSquared(from)) => to.merge(from),
            (Quantity::ClassScore(to), Quantity::ClassScore(from)) => to.merge(from),
            (Quantity::Auroc(to), Quantity::Auroc(from)) => to.merge(from),
            (Quantity::ErrorRate(to), Quantity::ErrorRate(from)) => to.merge(from),
            (Quantity::Frechet(to), Quantity::Frechet(from)) => to.merge(from),
            // Refused by the check.
            _ => {}
        }
        Ok(())
    }

    /// Fails if the other can't be merged into this.
    pub(super) fn check(&self, other: &Quantity) -> Result<(), Error> {
        match (self, other) {
            (Quantity::RSquared(one), Quantity::RSquared(other)) => one.check(other),
            (Quantity::ClassScore(one), Quantity::ClassScore(other)) => one.check(other),
            (Quantity::Frechet(one), Quantity::Frechet(other)) => one.check(other),
            _ if std::mem::discriminant(self) == std::mem::discriminant(other) => Ok(()),
            _ => Err(Error::new(ErrorKind::Task, format!("expected {}, got {}", self.kind(), other.kind()))),
        }
    }

    fn kind(&self) -> String {
        match self {
            Quantity::Mean(_) => "a mean".to_owned(),
            Quantity::RootMean(_) => "a root of a mean".to_owned(),
            Quantity::Perplexity(_) => "a perplexity".to_owned(),
            Quantity::RSquared(_) => "an R²".to_owned(),
            Quantity::ClassScore(score) => score.kind(),
            Quantity::Auroc(_) => "an AUROC".to_owned(),
            Quantity::ErrorRate(_) => "an error rate".to_owned(),
            Quantity::Frechet(_) => "a Fréchet distance".to_owned(),
        }
    }
}
