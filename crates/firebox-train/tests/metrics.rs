//! Metrics over uneven batches are those of all samples: values from `fixtures/metrics.py`.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;

use burn::tensor::{Device, Int, Tensor, TensorData};
use firebox_train::{
    Auroc, Average, ClassScore, Confusion, ErrorKind, ErrorRate, Metrics, Quantity, RSquared, Score,
    accuracy, edit_distance, token_accuracy, top_k,
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Fixture {
    logits: Vec<Vec<f32>>,
    classes: Vec<usize>,
    targets: Vec<Vec<f32>>,
    predictions: Vec<Vec<f32>>,
    losses: Vec<f64>,
    perplexity: f64,
    loss: f64,
    scores: BTreeMap<String, Expected>,
    accuracy: f64,
    top_2: f64,
    top_4: f64,
    auroc: f64,
    r2: f64,
    mae: f64,
    mse: f64,
    rmse: f64,
}

#[derive(Deserialize)]
struct Expected {
    classes: Vec<f64>,
    #[serde(rename = "macro")]
    macro_average: f64,
    micro: f64,
}

fn fixture() -> Fixture {
    serde_json::from_str(include_str!("fixtures/metrics.json")).unwrap()
}

const SCORES: [(&str, Score); 3] =
    [("precision", Score::Precision), ("recall", Score::Recall), ("f1", Score::F1)];

impl Fixture {
    /// The metrics of some samples.
    fn batch(&self, from: usize, to: usize) -> Metrics {
        let device = Device::default();
        let (samples, outputs) = (to - from, self.logits[0].len());
        let rows = &self.logits[from..to];
        let logits = Tensor::<2>::from_data(TensorData::new(rows.concat(), [samples, outputs]), &device);
        let labels = &self.classes[from..to];
        let ints = labels.iter().map(|&class| class as i64).collect::<Vec<_>>();
        let classes = Tensor::<1, Int>::from_data(TensorData::new(ints, [samples]), &device);
        let mut confusion = Confusion::new(outputs);
        for (row, &class) in rows.iter().zip(labels) {
            let best = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            confusion.count(class, row.iter().position(|&logit| logit == best).unwrap());
        }
        let (targets, predictions) = (self.targets[from..to].concat(), self.predictions[from..to].concat());
        let numbers = targets.len() as f64;
        let mean = |of: fn(f64) -> f64| {
            let errors = targets.iter().zip(&predictions).map(|(&y, &x)| of(f64::from(x) - f64::from(y)));
            errors.sum::<f64>() / numbers
        };
        let loss = self.losses[from..to].iter().sum::<f64>() / samples as f64;
        let scores: Vec<_> = rows.iter().map(|row| row[0]).collect();
        let positive: Vec<_> = labels.iter().map(|&class| class == 0).collect();
        let mut metrics = Metrics::of(samples)
            .with_mean("loss", loss)
            .with("perplexity", Quantity::perplexity(loss, samples))
            .with("accuracy", accuracy(&logits, &classes).unwrap())
            .with("top_1", top_k(&logits, &classes, 1).unwrap())
            .with("top_2", top_k(&logits, &classes, 2).unwrap())
            .with("top_4", top_k(&logits, &classes, 4).unwrap())
            .with("top_6", top_k(&logits, &classes, 6).unwrap())
            .with("auroc", Quantity::Auroc(Auroc::of(&scores, &positive).unwrap()))
            .with("r2", Quantity::RSquared(RSquared::of(&targets, &predictions, 2).unwrap()))
            .with_weighted_mean("mae", mean(f64::abs), numbers)
            .with_weighted_mean("mse", mean(|error| error * error), numbers)
            .with("rmse", Quantity::root_mean(mean(|error| error * error), numbers));
        for (name, score) in SCORES {
            let of = |average| Quantity::ClassScore(confusion.score(score, average).unwrap());
            metrics = metrics.with(&format!("{name}_macro"), of(Average::Macro));
            metrics = metrics.with(&format!("{name}_micro"), of(Average::Micro));
            for class in 0..outputs {
                metrics = metrics.with(&format!("{name}_{class}"), of(Average::Class(class)));
            }
        }
        metrics
    }
}

#[test]
fn uneven_batches_give_the_values_of_all_samples() {
    let fixture = fixture();
    let samples = fixture.classes.len();
    for cuts in [vec![0, samples], vec![0, 1, 2, 50, 53, 156, samples], (0..=samples).collect()] {
        let mut all = Metrics::default();
        for cut in cuts.windows(2) {
            all.add(&fixture.batch(cut[0], cut[1])).unwrap();
            // As in a checkpoint after every batch.
            let text = serde_json::to_string(&all).unwrap();
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            let back: Metrics = serde_json::from_value(value).unwrap();
            assert_eq!(back, all, "{text}");
            all = back;
        }
        assert_eq!(all.samples(), samples);
        let mut expected = vec![
            ("loss".to_owned(), fixture.loss),
            ("perplexity".to_owned(), fixture.perplexity),
            ("accuracy".to_owned(), fixture.accuracy),
            ("top_1".to_owned(), fixture.accuracy),
            ("top_2".to_owned(), fixture.top_2),
            ("top_4".to_owned(), fixture.top_4),
            ("top_6".to_owned(), 1.0),
            ("auroc".to_owned(), fixture.auroc),
            ("r2".to_owned(), fixture.r2),
            ("mae".to_owned(), fixture.mae),
            ("mse".to_owned(), fixture.mse),
            ("rmse".to_owned(), fixture.rmse),
        ];
        for (name, values) in &fixture.scores {
            expected.push((format!("{name}_macro"), values.macro_average));
            expected.push((format!("{name}_micro"), values.micro));
            let classes = values.classes.iter().enumerate();
            expected.extend(classes.map(|(class, &value)| (format!("{name}_{class}"), value)));
        }
        assert_eq!(all.values().count(), expected.len());
        for (name, expected) in expected {
            let got = all.value(&name).unwrap();
            assert!((got - expected).abs() <= 1e-12 * expected.abs(), "{name}: {got}, expected {expected}");
        }
    }
}

#[test]
fn where_there_is_nothing_to_say_there_is_no_value() {
    let (mean, none) = (Quantity::mean(f64::NAN, 0.0), Quantity::perplexity(f64::NAN, 0));
    assert_eq!((mean.value(), none.value()), (None, None));
    let confusion = Confusion::new(2);
    assert_eq!(confusion.score(Score::F1, Average::Macro).as_ref().map(ClassScore::value).unwrap(), None);
    assert_eq!(Auroc::of(&[1.0, 2.0], &[true, true]).unwrap().value(), None);
    assert_eq!(ErrorRate::default().value(), None);
    assert_eq!(RSquared::of(&[1.0], &[1.0], 1).unwrap().value(), None);
}

#[test]
fn edges_are_as_in_scikit_learn() {
    let r_squared =
        |targets: &[f32], predictions: &[f32]| RSquared::of(targets, predictions, 1).unwrap().value();
    // The same targets: met, and not.
    assert_eq!(r_squared(&[0.1; 7], &[0.1; 7]), Some(1.0));
    assert_eq!(r_squared(&[0.1; 7], &[0.2; 7]), Some(0.0));
    assert_eq!(r_squared(&[3.0, -0.5, 2.0, 7.0], &[2.5, 0.0, 2.0, 8.0]), Some(1.0 - 1.5 / 29.1875));
    // Of scikit-learn's documentation of `roc_auc_score`.
    let auroc = |scores: &[f32], positive: &[bool]| Auroc::of(scores, positive).unwrap().value();
    assert_eq!(auroc(&[0.1, 0.4, 0.35, 0.8], &[false, false, true, true]), Some(0.75));
    assert_eq!(auroc(&[0.0, -0.0], &[false, true]), Some(0.5));
    assert_eq!(auroc(&[f32::NEG_INFINITY, f32::INFINITY], &[false, true]), Some(1.0));
    assert!(auroc(&[f32::NAN, 1.0], &[false, true]).unwrap().is_nan());
    let error = Auroc::of(&[1.0], &[]).unwrap_err();
    assert_eq!(error.to_string(), "AUROC: expected 1 answers, one a score, got 0");
    assert_eq!(RSquared::of(&[1.0; 3], &[1.0; 3], 2).unwrap_err().kind(), ErrorKind::Task);
    let odd = serde_json::from_str::<Auroc>(r#"{"positives": "AAAA", "negatives": ""}"#).unwrap_err();
    assert!(odd.to_string().starts_with("scores: expected 4 bytes each, got 3 in all"), "{odd}");
}

#[test]
fn edits_are_counted() {
    let distance = |a: &str, b: &str| edit_distance(a.as_bytes(), b.as_bytes());
    for (a, b, expected) in [
        ("", "", 0),
        ("", "abc", 3),
        ("abc", "", 3),
        ("kitten", "sitting", 3),
        ("intention", "execution", 5),
        ("flaw", "lawn", 2),
        ("abc", "abc", 0),
    ] {
        assert_eq!((distance(a, b), distance(b, a)), (expected, expected), "{a}, {b}");
    }
    let words = |text: &'static str| text.split(' ').collect::<Vec<_>>();
    let mut rate = ErrorRate::default();
    rate.count(&words("this is a long reference"), &words("this is long reference too"));
    let mut other = Quantity::ErrorRate(rate);
    let mut short = ErrorRate::default();
    short.count(&words("one"), &words("two"));
    other.merge(&Quantity::ErrorRate(short)).unwrap();
    // Not the mean of 2/5 and 1.
    assert_eq!((rate.value(), other.value()), (Some(0.4), Some(0.5)));
}

#[test]
fn padding_is_no_token() {
    let device = Device::default();
    // Two rows of three places, two tokens: the likelier one is 1, 1, 0; 0, 1, 1.
    let logits = Tensor::<3>::from_data(
        [[[0.0, 1.0], [0.0, 2.0], [1.0, 0.0]], [[2.0, 0.0], [0.0, 1.0], [0.0, 1.0]]],
        &device,
    );
    let tokens = Tensor::<2, Int>::from_data([[1, 0, -100], [0, -100, -100]], &device);
    let value = |padding| token_accuracy(&logits, &tokens, padding).unwrap().value();
    assert_eq!(value(Some(-100)), Some(2.0 / 3.0));
    assert_eq!(value(None), Some(2.0 / 6.0));
    let nothing = token_accuracy(&logits, &tokens.full_like(-100), Some(-100)).unwrap();
    assert_eq!(nothing.value(), None);
    let error = token_accuracy(&logits, &tokens.clone().narrow(1, 0, 2), None).unwrap_err();
    assert_eq!(error.to_string(), "token_accuracy: expected classes of shape [2, 3], got [2, 2]");
}

#[test]
fn what_is_not_a_number_is_no_hit() {
    let device = Device::default();
    let logits = Tensor::<2>::from_data([[f32::NAN, 0.0, 0.0], [f32::NAN, 1.0, 0.0]], &device);
    let classes = Tensor::<1, Int>::from_data([0, 1], &device);
    for (k, expected) in [(1, 0.0), (2, 0.5), (3, 0.5)] {
        assert_eq!(top_k(&logits, &classes, k).unwrap().value(), Some(expected), "k = {k}");
    }
    for k in [0, 4] {
        let error = top_k(&logits, &classes, k).unwrap_err();
        assert_eq!(error.to_string(), format!("top_k: expected a number from 1 to 3 classes, got {k}"));
    }
    let error = accuracy(&logits, &classes.narrow(0, 0, 1)).unwrap_err();
    assert_eq!(error.to_string(), "accuracy: expected classes of shape [2], got [1]");
}
