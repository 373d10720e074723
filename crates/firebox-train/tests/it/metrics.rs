//! Metrics over uneven batches are those of all samples: values from `fixtures/metrics.py`.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;

use burn::tensor::{Device, Int, Tensor, TensorData};
use firebox_train::ErrorKind;
use firebox_train::metrics::{
    Auroc, Average, ClassScore, Confusion, ErrorRate, Mean, Metrics, Quantity, RSquared, Score, accuracy,
    edit_distance, token_accuracy, top_k,
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
    serde_json::from_str(include_str!("../fixtures/metrics.json")).unwrap()
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
            confusion.count(class, row.iter().position(|&logit| logit == best).unwrap()).unwrap();
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
    assert_eq!(RSquared::of(&[1.0; 3], &[1.0; 3], 2).unwrap_err().kind(), &ErrorKind::Task);
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
    // A class that the logits lack is no token either, unless it is the padding.
    let error = token_accuracy(&logits, &tokens, None).unwrap_err();
    assert_eq!(error.to_string(), "token_accuracy: row 2: expected a class from 0 to 1, got -100");
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
    for k in 1..=3 {
        assert_eq!(top_k(&logits, &classes, k).unwrap().value(), Some(0.0), "k = {k}");
    }
    for k in [0, 4] {
        let error = top_k(&logits, &classes, k).unwrap_err();
        assert_eq!(error.to_string(), format!("top_k: expected a number from 1 to 3 classes, got {k}"));
    }
    let error = accuracy(&logits, &classes.narrow(0, 0, 1)).unwrap_err();
    assert_eq!(error.to_string(), "accuracy: expected classes of shape [2], got [1]");
}

fn logits(rows: &[Vec<f32>]) -> Tensor<2> {
    let shape = [rows.len(), rows.first().map_or(0, Vec::len)];
    Tensor::from_data(TensorData::new(rows.concat(), shape), &Device::default())
}

fn classes(classes: &[i64]) -> Tensor<1, Int> {
    Tensor::from_data(TensorData::new(classes.to_vec(), [classes.len()]), &Device::default())
}

/// What all counts of hits say of logits: they are the same.
fn hits(rows: &[Vec<f32>], of: &[i64]) -> Option<f64> {
    let (logits, classes) = (logits(rows), classes(of));
    let [samples, outputs] = logits.dims();
    let value = accuracy(&logits, &classes).unwrap().value();
    assert_eq!(top_k(&logits, &classes, 1).unwrap().value(), value);
    let tokens = |padding| {
        let (logits, tokens) =
            (logits.clone().reshape([1, samples, outputs]), classes.clone().reshape([1, samples]));
        token_accuracy(&logits, &tokens, padding).unwrap().value()
    };
    assert_eq!((tokens(None), tokens(Some(-100))), (value, value));
    // Also where rows lie apart in memory.
    let apart = logits.transpose().reshape([samples, outputs]);
    let apart = if samples == 1 { apart } else { apart.reshape([outputs, samples]).transpose() };
    assert_eq!(accuracy(&apart, &classes).unwrap().value(), value);
    value
}

#[test]
fn a_row_with_nan_is_no_hit() {
    // A model that has diverged has no accuracy.
    for outputs in [1, 2, 10, 100] {
        let nothing = vec![vec![f32::NAN; outputs]; 3];
        assert_eq!(hits(&nothing, &[0; 3]), Some(0.0), "{outputs} classes");
        for k in 1..=outputs {
            assert_eq!(top_k(&logits(&nothing), &classes(&[0; 3]), k).unwrap().value(), Some(0.0));
        }
    }
    // One NaN at any place, beside rows that are right and wrong: in short rows, and in such that backends
    // take in pieces.
    for outputs in [3, 8, 33, 100] {
        for place in [0, 1, outputs / 2, outputs - 1] {
            let row = |best: usize| {
                let mut row: Vec<f32> = (0..outputs).map(|class| class as f32 / 100.0).collect();
                row[best] = 7.0;
                row
            };
            for sign in [1.0, -1.0] {
                for best in 0..outputs {
                    let mut spoilt = row(best);
                    spoilt[place] = f32::NAN.copysign(sign);
                    let rows = [row(1), spoilt, row(0), row(2)];
                    assert_eq!(hits(&rows, &[1, best as i64, 0, 0]), Some(0.5), "{outputs}, {place}, {best}");
                }
            }
        }
    }
}

#[test]
fn infinite_logits_have_an_order() {
    const INF: f32 = f32::INFINITY;
    let rows = [vec![0.0, INF, -INF], vec![-INF, -3.0, -INF], vec![3e38, 3e38, -3e38], vec![INF, INF, -INF]];
    assert_eq!(hits(&rows, &[1, 1, 0, 0]), Some(1.0));
    assert_eq!(hits(&rows, &[0, 0, 1, 1]), Some(0.0));
    // Their sum is NaN, as that of a row with one; the other rows stand.
    let rows = [vec![INF, -INF], vec![INF, f32::NAN], vec![-INF, f32::NAN], vec![1.0, 2.0]];
    assert_eq!(hits(&rows, &[0, 0, 1, 1]), Some(0.5));
    assert_eq!(top_k(&logits(&rows), &classes(&[1, 0, 1, 0]), 2).unwrap().value(), Some(0.5));
}

#[test]
fn a_class_out_of_range_is_an_error_and_no_class_has_no_value() {
    let rows = vec![vec![0.0, 1.0, 2.0]; 3];
    for bad in [-1, 3, i64::from(i32::MAX), i64::from(i32::MIN), -100] {
        let (logits, classes) = (logits(&rows), classes(&[2, bad, 0]));
        let text = |what: &str| format!("{what}: row 1: expected a class from 0 to 2, got {bad}");
        let error = accuracy(&logits, &classes).unwrap_err();
        assert_eq!((error.kind(), error.to_string()), (&ErrorKind::Task, text("accuracy")));
        let error = top_k(&logits, &classes, 2).unwrap_err();
        assert_eq!((error.kind(), error.to_string()), (&ErrorKind::Task, text("top_k")));
        let (logits, tokens) = (logits.reshape([1, 3, 3]), classes.reshape([1, 3]));
        let error = token_accuracy(&logits, &tokens, Some(7)).unwrap_err();
        assert_eq!((error.kind(), error.to_string()), (&ErrorKind::Task, text("token_accuracy")));
        assert_eq!(token_accuracy(&logits, &tokens, Some(bad)).unwrap().value(), Some(0.5));
    }
    let device = Device::default();
    let (none, no_class) = (Tensor::<2>::zeros([0, 3], &device), Tensor::<2>::zeros([2, 0], &device));
    let nothing = Tensor::<1, Int>::zeros([0], &device);
    for counted in [accuracy(&none, &nothing), top_k(&none, &nothing, 3)] {
        let counted = counted.unwrap();
        assert_eq!((counted.value(), counted.is_counted()), (None, false));
    }
    let error = accuracy(&no_class, &classes(&[0, 0])).unwrap_err();
    assert_eq!(error.to_string(), "accuracy: expected logits of at least 1 class, got 0");
    let (none, nothing) = (none.reshape([0, 1, 3]), nothing.reshape([0, 1]));
    assert_eq!(token_accuracy(&none, &nothing, None).unwrap().value(), None);
}

#[test]
fn a_sample_that_was_taken_for_no_class_lowers_recall_and_no_precision() {
    // sklearn.metrics.precision_recall_fscore_support of these, with −1 for None and labels=[0, 1, 2].
    let samples = [(0, Some(0)), (0, None), (1, Some(1)), (1, Some(0)), (2, Some(2)), (2, None), (2, None)];
    let mut confusion = Confusion::new(3);
    for (class, predicted) in samples {
        confusion.count(class, predicted).unwrap();
    }
    let value = |score, average| confusion.score(score, average).unwrap().value().unwrap();
    for (score, each, macro_average, micro) in [
        (Score::Precision, [0.5, 1.0, 1.0], 0.8333333333333334, 0.75),
        (Score::Recall, [0.5, 0.5, 0.3333333333333333], 0.4444444444444444, 0.42857142857142855),
        (Score::F1, [0.5, 0.6666666666666666, 0.5], 0.5555555555555555, 0.5454545454545454),
    ] {
        for (class, expected) in each.into_iter().enumerate() {
            assert!((value(score, Average::Class(class)) - expected).abs() < 1e-15, "{score:?} {class}");
        }
        assert!((value(score, Average::Macro) - macro_average).abs() < 1e-15, "{score:?}");
        assert!((value(score, Average::Micro) - micro).abs() < 1e-15, "{score:?}");
    }
    assert_eq!([0, 1, 2].map(|class| confusion.undecided(class)), [1, 0, 2]);
    assert_eq!((confusion.get(1, 0), confusion.get(0, 1)), (1, 0));
    // Out of range there is nothing, and nothing is counted.
    assert_eq!((confusion.get(0, 5), confusion.get(7, 0), confusion.undecided(3)), (0, 0, 0));
    let before = confusion.clone();
    for (class, predicted) in [(3, Some(0)), (0, Some(3)), (3, None)] {
        let error = confusion.count(class, predicted).unwrap_err();
        let text = "confusion: expected a class below 3, got 3";
        assert_eq!((error.kind(), error.to_string().as_str()), (&ErrorKind::Task, text));
    }
    assert_eq!(confusion, before);
    // As many classes as there are numbers can be counted, but not told of one by one.
    let mut huge = Confusion::new(usize::MAX);
    huge.count(usize::MAX - 1, 3).unwrap();
    assert_eq!(huge.get(usize::MAX - 1, 3), 1);
    let error = huge.score(Score::F1, Average::Micro).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::OutOfRange { .. }), "{error}");
    assert_eq!(Confusion::new(0).score(Score::F1, Average::Macro).unwrap().value(), None);
}

#[test]
fn a_weight_that_is_none_spoils_what_it_is_added_to() {
    let sum = |means: &[(f64, f64)]| {
        let mut all = Metrics::default();
        for &(mean, weight) in means {
            all.add(&Metrics::of(1).with_weighted_mean("loss", mean, weight)).unwrap();
        }
        all.value("loss")
    };
    assert_eq!(sum(&[(2.0, 0.0), (3.0, 1.0), (f64::NAN, -0.0)]), Some(3.0));
    for weight in [-1.0, f64::NAN, f64::INFINITY] {
        assert!(sum(&[(2.0, weight), (3.0, 1.0)]).unwrap().is_nan(), "{weight}");
        assert!(Quantity::Mean(Mean::of_sum(0.0, weight)).value().unwrap().is_nan(), "{weight}");
    }
    // A sum of nothing is no part of a mean over something.
    let mut all = Metrics::of(0).with_sum("hits", 5.0);
    all.add(&Metrics::of(2).with_sum("hits", 1.0)).unwrap();
    assert_eq!(all.value("hits"), Some(0.5));
    assert_eq!(sum(&[(f64::INFINITY, 1.0), (3.0, 1.0)]), Some(f64::INFINITY));
    assert!(sum(&[(f64::INFINITY, 1.0), (f64::NEG_INFINITY, 1.0)]).unwrap().is_nan());
    // More samples than can be counted are refused, and change nothing.
    let mut all = Metrics::of(usize::MAX).with_mean("loss", 1.0);
    let before = all.clone();
    let error = all.add(&Metrics::of(1).with_mean("loss", 3.0)).unwrap_err();
    assert!(error.to_string().starts_with("samples: expected at most"), "{error}");
    assert_eq!((error.kind(), all), (&ErrorKind::Task, before));
}

#[test]
fn predictions_that_are_not_finite_explain_nothing() {
    let value = |targets: &[f32], predictions: &[f32]| {
        RSquared::of(targets, predictions, 1).unwrap().value().unwrap()
    };
    // Also of targets that are all the same, of which any error would be 0.
    for targets in [[3.0, 3.0, 3.0], [1.0, 2.0, 3.0]] {
        assert!(value(&targets, &[3.0, 3.0, f32::NAN]).is_nan(), "{targets:?}");
        let infinite = value(&targets, &[3.0, 3.0, f32::INFINITY]);
        assert!(!infinite.is_finite(), "{targets:?}: {infinite}");
    }
    assert!(value(&[1.0, f32::NAN], &[1.0, 2.0]).is_nan());
    assert!(value(&[1.0, f32::INFINITY], &[1.0, 2.0]).is_nan());
    assert_eq!(value(&[3.0, 3.0, 3.0], &[3.0, 3.0, 4.0]), 0.0);
    // And what a file holds is counted without a panic.
    let rate = |edits: usize, items: usize| {
        let text = format!(r#"{{"kind": "error-rate", "edits": {edits}, "items": {items}}}"#);
        serde_json::from_str::<Quantity>(&text).unwrap()
    };
    let mut huge = rate(usize::MAX, usize::MAX);
    huge.merge(&rate(1, 1)).unwrap();
    assert_eq!(huge.value(), Some(1.0));
}
