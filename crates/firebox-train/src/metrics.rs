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
    sums: BTreeMap<String, f64>,
}

impl Metrics {
    /// For means over `samples` samples.
    pub fn of(samples: usize) -> Self {
        Metrics { samples: samples as f64, sums: BTreeMap::new() }
    }

    /// Adds a quantity by its mean.
    pub fn with_mean(mut self, name: &str, mean: f64) -> Self {
        self.sums.insert(name.to_owned(), mean * self.samples);
        self
    }

    /// Adds a quantity by its sum, such as a number of hits.
    pub fn with_sum(mut self, name: &str, sum: f64) -> Self {
        self.sums.insert(name.to_owned(), sum);
        self
    }

    /// The number of samples behind the means.
    pub fn samples(&self) -> usize {
        self.samples as usize
    }

    /// The mean of a quantity; `None` if it is unknown or there are no samples.
    pub fn mean(&self, name: &str) -> Option<f64> {
        self.sums.get(name).filter(|_| self.samples > 0.0).map(|sum| sum / self.samples)
    }

    /// All means by name.
    pub fn means(&self) -> impl Iterator<Item = (&str, f64)> {
        self.sums.keys().filter_map(|name| Some((name.as_str(), self.mean(name)?)))
    }

    /// Counts other samples in. Both should have the same quantities.
    pub fn add(&mut self, other: &Metrics) {
        self.samples += other.samples;
        for (name, sum) in &other.sums {
            *self.sums.entry(name.clone()).or_default() += sum;
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
    fn a_short_batch_counts_for_what_it_is() {
        let mut all = Metrics::default();
        assert_eq!(all.mean("loss"), None);
        all.add(&Metrics::of(3).with_mean("loss", 1.0).with_sum("accuracy", 3.0));
        all.add(&Metrics::of(1).with_mean("loss", 5.0).with_sum("accuracy", 0.0));
        assert_eq!(all.samples(), 4);
        assert_eq!(all.means().collect::<Vec<_>>(), [("accuracy", 0.75), ("loss", 2.0)]);
    }
}
