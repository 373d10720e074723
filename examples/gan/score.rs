//! The judge's opinion of samples, all of them together.

use burn::tensor::{Int, Tensor};
use firebox::data::BoxError;
use firebox::data::formats::fashion_mnist;
use firebox::models::vision::Cnn;
use firebox::prelude::*;
use firebox::train::Error;
use firebox::train::metrics::{FrechetDistance, Metrics, accuracy};
use serde_json::{Map, Value, json};

use crate::judge::{features, measured, numbers};

/// The judge's opinion of samples, which are added batch by batch.
pub(crate) struct Score {
    cnn: Cnn,
    metrics: Metrics,
    /// The numbers of samples that were taken for each class.
    counts: Vec<usize>,
}

impl Score {
    pub(crate) fn new(cnn: Cnn) -> Self {
        Score { cnn, metrics: Metrics::default(), counts: vec![0; fashion_mnist::CLASSES.len()] }
    }

    /// Looks at samples beside real images, whose classes tell how good the judge is itself.
    pub(crate) fn add(
        &mut self,
        (real, classes): (Tensor<4>, Tensor<1, Int>),
        fake: Tensor<4>,
    ) -> Result<Metrics, Error> {
        let features = features(&self.cnn, real);
        let judged = accuracy(&self.cnn.classify(features.clone()), &classes)?;
        let (metrics, logits) = measured(&self.cnn, &features, fake)?;
        for class in numbers(logits.argmax(1).float())? {
            self.counts[class as usize] += 1;
        }
        let metrics = metrics.with("judge_accuracy", judged);
        self.metrics.add(&metrics)?;
        Ok(metrics)
    }

    pub(crate) fn value(&self, name: &str) -> f64 {
        self.metrics.value(name).unwrap_or(f64::NAN)
    }

    /// The classes' names and the share of the samples that was taken for each.
    fn shares(&self) -> impl Iterator<Item = (&'static str, f64)> + '_ {
        let samples = self.metrics.samples().max(1) as f64;
        fashion_mnist::CLASSES.into_iter().zip(self.counts.iter().map(move |&count| count as f64 / samples))
    }

    /// All of it for `summary.json`.
    pub(crate) fn summary(&self) -> Map<String, Value> {
        let mut summary = Map::new();
        for name in ["frechet_distance", "confidence", "judge_accuracy"] {
            summary.insert(name.to_owned(), json!(self.value(name)));
        }
        let classes: Map<_, _> = self.shares().map(|(name, share)| (name.to_owned(), json!(share))).collect();
        let shares = self.shares().map(|(_, share)| share);
        let (largest, smallest) = shares.fold((0.0, 1.0), |(l, s): (f64, f64), x| (l.max(x), s.min(x)));
        summary.insert("classes".to_owned(), Value::Object(classes));
        summary.insert("largest_class_share".to_owned(), json!(largest));
        summary.insert("smallest_class_share".to_owned(), json!(smallest));
        summary
    }

    /// All of it for people.
    pub(crate) fn facts(&self) -> [(&'static str, String); 4] {
        let percent = |share: f64| format!("{:.1} %", 100.0 * share);
        let classes: Vec<_> =
            self.shares().map(|(name, share)| format!("{name} {}", percent(share))).collect();
        [
            ("Fréchet distance of the samples", format!("{:.2}", self.value("frechet_distance"))),
            ("samples taken for", classes.join(", ")),
            ("the judge is sure of the samples by", percent(self.value("confidence"))),
            ("the judge's accuracy on test images", percent(self.value("judge_accuracy"))),
        ]
    }
}

/// The distance between two sets of real images: what a perfect generator would reach.
pub(crate) fn distance_of_real<B>(cnn: &Cnn, some: &B, others: &B) -> Result<f64, BoxError>
where
    B: Batches<Batch = (Tensor<4>, Tensor<1, Int>)>,
{
    let all = |images: &B| -> Result<Tensor<2>, BoxError> {
        let parts: Result<Vec<_>, BoxError> =
            images.epoch(0).map(|batch| Ok(features(cnn, batch?.0))).collect();
        Ok(Tensor::cat(parts?, 0))
    };
    Ok(FrechetDistance::of(&all(some)?, &all(others)?)?.value().unwrap_or(f64::NAN))
}
