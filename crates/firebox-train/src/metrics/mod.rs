//! Named quantities over some samples.
//!
//! Burn's metrics, those of burn-train, keep their state to themselves: it can't be saved in a checkpoint in
//! the middle of an epoch, nor put together with another's. These here are data, so that a resumed epoch ends
//! with the same numbers.

mod auroc;
mod confusion;
mod edit_distance;
mod frechet;
mod hits;
mod logits;
pub(crate) mod lossless;
mod mean;
mod predictions;
mod quantity;
mod r_squared;
mod spearman;
mod symmetric;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use auroc::Auroc;
pub use confusion::{Average, ClassScore, Confusion, Score};
pub use edit_distance::{ErrorRate, edit_distance};
pub use frechet::FrechetDistance;
pub use hits::{accuracy, token_accuracy, top_k};
pub use logits::{auroc, class_score};
pub use mean::Mean;
pub use predictions::Predictions;
pub use quantity::Quantity;
pub use r_squared::RSquared;
pub use spearman::spearman;

use crate::error::{Error, ErrorKind};

/// Named quantities over some samples.
///
/// Adding the metrics of two batches gives those of all their samples, however uneven the batches are: a
/// short last one counts for what it is.
///
/// ```
/// use firebox_train::metrics::Metrics;
///
/// let mut all = Metrics::of(3).with_mean("loss", 1.0).with_sum("accuracy", 3.0);
/// all.add(&Metrics::of(1).with_mean("loss", 5.0).with_sum("accuracy", 0.0))?;
/// assert_eq!((all.samples(), all.value("loss"), all.value("accuracy")), (4, Some(2.0), Some(0.75)));
/// # Ok::<(), firebox_train::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    samples: usize,
    quantities: BTreeMap<String, Quantity>,
}

impl Metrics {
    /// Metrics of so many samples, without quantities.
    pub fn of(samples: usize) -> Self {
        Metrics { samples, quantities: BTreeMap::new() }
    }

    /// Adds a quantity, or replaces it.
    pub fn with(mut self, name: &str, quantity: Quantity) -> Self {
        self.quantities.insert(name.to_owned(), quantity);
        self
    }

    /// Adds a quantity by its mean over the samples.
    pub fn with_mean(self, name: &str, mean: f64) -> Self {
        let weight = self.samples as f64;
        self.with_weighted_mean(name, mean, weight)
    }

    /// Adds a quantity by its mean over another weight than the samples.
    ///
    /// That is a number of tokens for a loss over tokens.
    pub fn with_weighted_mean(self, name: &str, mean: f64, weight: f64) -> Self {
        self.with(name, Quantity::mean(mean, weight))
    }

    /// Adds a quantity by its sum over the samples, such as a number of hits.
    pub fn with_sum(self, name: &str, sum: f64) -> Self {
        let weight = self.samples as f64;
        self.with(name, Quantity::Mean(Mean::of_sum(sum, weight)))
    }

    /// The names of the quantities, also of those without a value.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.quantities.keys().map(String::as_str)
    }

    /// The number of samples behind the quantities.
    pub fn samples(&self) -> usize {
        self.samples
    }

    /// The value of a quantity, if it is known and was counted.
    pub fn value(&self, name: &str) -> Option<f64> {
        self.quantities.get(name)?.value()
    }

    /// All values by name, without those for which nothing was counted.
    pub fn values(&self) -> impl Iterator<Item = (&str, f64)> {
        self.quantities.iter().filter_map(|(name, quantity)| Some((name.as_str(), quantity.value()?)))
    }

    /// The quantities for which [nothing was counted](Quantity::is_counted).
    pub(crate) fn uncounted(&self) -> impl Iterator<Item = &str> {
        self.quantities.iter().filter(|(_, quantity)| !quantity.is_counted()).map(|(name, _)| name.as_str())
    }

    /// The values that are infinite or NaN, by name.
    pub(crate) fn not_finite(&self) -> impl Iterator<Item = (&str, f64)> {
        self.values().filter(|(_, value)| !value.is_finite())
    }

    /// Counts other samples in.
    ///
    /// # Errors
    /// [`ErrorKind::Task`] if quantities of one name are of different kinds, or there are more samples than
    /// can be counted; then nothing was changed.
    pub fn add(&mut self, other: &Metrics) -> Result<(), Error> {
        let Some(samples) = self.samples.checked_add(other.samples) else {
            let (own, others) = (self.samples, other.samples);
            let text = format!("samples: expected at most {} in all, got {own} and {others}", usize::MAX);
            return Err(Error::new(ErrorKind::Task, text));
        };
        for (name, quantity) in &other.quantities {
            if let Some(own) = self.quantities.get(name) {
                let wrong = |error| Error::new(ErrorKind::Task, format!("metric {name}")).caused_by(error);
                own.check(quantity).map_err(wrong)?;
            }
        }
        self.samples = samples;
        for (name, quantity) in &other.quantities {
            match self.quantities.get_mut(name) {
                Some(own) => own.merge(quantity)?,
                None => drop(self.quantities.insert(name.clone(), quantity.clone())),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_number_survives_a_file() {
        for mean in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.1 + 0.2] {
            let metrics = Metrics::of(1).with_mean("loss", mean);
            let text = serde_json::to_string(&metrics).unwrap();
            let back: Metrics = serde_json::from_str(&text).unwrap();
            assert_eq!(back.value("loss").unwrap().to_bits(), mean.to_bits(), "{text}");
        }
    }

    #[test]
    fn a_short_batch_counts_for_what_it_is() {
        let mut all = Metrics::default();
        assert_eq!(all.value("loss"), None);
        all.add(&Metrics::of(3).with_mean("loss", 1.0).with_sum("accuracy", 3.0)).unwrap();
        all.add(&Metrics::of(1).with_mean("loss", 5.0).with_sum("accuracy", 0.0)).unwrap();
        assert_eq!(all.samples(), 4);
        assert_eq!(all.values().collect::<Vec<_>>(), [("accuracy", 0.75), ("loss", 2.0)]);
    }

    #[test]
    fn what_weighs_nothing_adds_nothing() {
        let mut all = Metrics::of(1).with_weighted_mean("loss", f64::NAN, 0.0);
        assert_eq!((all.value("loss"), all.values().count()), (None, 0));
        assert!(all.uncounted().eq(["loss"]));
        // A quantity that only some batches have is a mean over those.
        all.add(&Metrics::of(2).with_weighted_mean("loss", 3.0, 5.0)).unwrap();
        all.add(&Metrics::of(7)).unwrap();
        assert_eq!((all.value("loss"), all.samples()), (Some(3.0), 10));
        assert_eq!(all.uncounted().count(), 0);
    }

    #[test]
    fn what_was_counted_may_have_no_value() {
        let confusion = Confusion::new(2);
        let score = |confusion: &Confusion| confusion.score(Score::F1, Average::Macro).unwrap();
        let mut sample = confusion.clone();
        sample.count(0, 1).unwrap();
        let mut rate = ErrorRate::default();
        rate.count(&[] as &[u8], &[]);
        let nothing = [
            Quantity::mean(f64::NAN, 0.0),
            Quantity::root_mean(1.0, 0.0),
            Quantity::perplexity(1.0, 0),
            Quantity::RSquared(RSquared::of(&[], &[], 1).unwrap()),
            Quantity::ClassScore(score(&confusion)),
            Quantity::Auroc(Auroc::default()),
            Quantity::ErrorRate(rate),
        ];
        assert!(nothing.iter().all(|quantity| !quantity.is_counted() && quantity.value().is_none()));
        rate.count(&[], &[1]);
        let one = [
            (Quantity::mean(f64::NAN, 1.0), true),
            (Quantity::RSquared(RSquared::of(&[1.0], &[1.0], 1).unwrap()), false),
            (Quantity::ClassScore(score(&sample)), true),
            (Quantity::Auroc(Auroc::of(&[0.5], &[true]).unwrap()), false),
            (Quantity::ErrorRate(rate), false),
        ];
        assert!(
            one.iter().all(|(quantity, known)| quantity.is_counted() && quantity.value().is_some() == *known)
        );
    }

    #[test]
    fn quantities_of_different_kinds_are_not_added() {
        let confusion = Confusion::new(3);
        let score = |score, average| Quantity::ClassScore(confusion.score(score, average).unwrap());
        let f1 = score(Score::F1, Average::Macro);
        let r_squared = |outputs| Quantity::RSquared(RSquared::of(&[1.0; 6], &[1.0; 6], outputs).unwrap());
        let cases = [
            (Quantity::mean(1.0, 1.0), Quantity::perplexity(1.0, 1), "expected a mean, got a perplexity"),
            (Quantity::Auroc(Auroc::default()), f1.clone(), "expected an AUROC, got Macro F1 of 3 classes"),
            (
                f1,
                score(Score::Recall, Average::Class(1)),
                "expected Macro F1 of 3 classes, got Class(1) Recall of 3 classes",
            ),
            (r_squared(2), r_squared(3), "R²: expected 2 outputs, got 3"),
        ];
        for (one, other, text) in cases {
            let mut all = Metrics::of(1).with("a", Quantity::mean(1.0, 1.0)).with("name", one);
            let before = all.clone();
            let more = Metrics::of(1).with("a", Quantity::mean(1.0, 1.0)).with("name", other);
            let error = all.add(&more).unwrap_err();
            assert_eq!(error.to_string(), format!("metric name: {text}"));
            assert_eq!((error.kind(), all), (&ErrorKind::Task, before));
        }
        let error = confusion.score(Score::F1, Average::Class(3)).unwrap_err();
        assert_eq!(error.to_string(), "Average.Class: expected a class below 3, got 3");
    }
}
