//! Named numbers and their means.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Means of named quantities over some samples.
///
/// Adding the metrics of two batches weighs each mean by its number of samples, so that a short last batch
/// counts for what it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    samples: f64,
    /// Sums over the samples, by name.
    sums: BTreeMap<String, Sum>,
}

/// A number that is saved whatever it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Sum(#[serde(with = "lossless")] f64);

impl Metrics {
    /// For means over `samples` samples.
    pub fn of(samples: usize) -> Self {
        Metrics { samples: samples as f64, sums: BTreeMap::new() }
    }

    /// Adds a quantity by its mean.
    pub fn with_mean(mut self, name: &str, mean: f64) -> Self {
        self.sums.insert(name.to_owned(), Sum(mean * self.samples));
        self
    }

    /// Adds a quantity by its sum, such as a number of hits.
    pub fn with_sum(mut self, name: &str, sum: f64) -> Self {
        self.sums.insert(name.to_owned(), Sum(sum));
        self
    }

    /// The number of samples behind the means.
    pub fn samples(&self) -> usize {
        self.samples as usize
    }

    /// The mean of a quantity; `None` if it is unknown or there are no samples.
    pub fn mean(&self, name: &str) -> Option<f64> {
        self.sums.get(name).filter(|_| self.samples > 0.0).map(|sum| sum.0 / self.samples)
    }

    /// All means by name.
    pub fn means(&self) -> impl Iterator<Item = (&str, f64)> {
        self.sums.keys().filter_map(|name| Some((name.as_str(), self.mean(name)?)))
    }

    /// Counts other samples in. Both should have the same quantities.
    pub fn add(&mut self, other: &Metrics) {
        self.samples += other.samples;
        for (name, sum) in &other.sums {
            self.sums.entry(name.clone()).or_default().0 += sum.0;
        }
    }
}

/// Numbers in JSON, which has none for infinity and for what is not a number: those are text.
pub(crate) mod lossless {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Number {
        Finite(f64),
        Text(String),
    }

    pub(crate) fn serialize<S: Serializer>(number: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        let number = match number.is_finite() {
            true => Number::Finite(*number),
            false => Number::Text(number.to_string()),
        };
        number.serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        match Number::deserialize(deserializer)? {
            Number::Finite(number) => Ok(number),
            Number::Text(text) => text.parse().map_err(serde::de::Error::custom),
        }
    }
}

/// How often each class was taken for which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confusion {
    classes: usize,
    counts: Vec<usize>,
}

impl Confusion {
    /// An empty matrix.
    pub fn new(classes: usize) -> Self {
        Confusion { classes, counts: vec![0; classes * classes] }
    }

    /// Counts one sample.
    ///
    /// # Panics
    /// If a class is out of range.
    pub fn count(&mut self, class: usize, predicted: usize) {
        assert!(class < self.classes && predicted < self.classes, "a class out of range");
        self.counts[class * self.classes + predicted] += 1;
    }

    /// The number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// How many samples of `class` were taken for `predicted`.
    pub fn get(&self, class: usize, predicted: usize) -> usize {
        self.counts[class * self.classes + predicted]
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
            assert_eq!(back.mean("loss").unwrap().to_bits(), mean.to_bits(), "{text}");
        }
    }

    #[test]
    fn a_short_batch_counts_for_what_it_is() {
        let mut all = Metrics::default();
        assert_eq!(all.mean("loss"), None);
        all.add(&Metrics::of(3).with_mean("loss", 1.0).with_sum("accuracy", 3.0));
        all.add(&Metrics::of(1).with_mean("loss", 5.0).with_sum("accuracy", 0.0));
        assert_eq!(all.samples(), 4);
        assert_eq!(all.means().collect::<Vec<_>>(), [("accuracy", 0.75), ("loss", 2.0)]);
    }
}
