//! The Fréchet distance: closed forms, the values of `fixtures/frechet.py`, and batches that are put
//! together.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use burn::tensor::{Device, Tensor, TensorData};
use firebox_train::ErrorKind;
use firebox_train::metrics::{FrechetDistance, Metrics, Quantity};
use serde::Deserialize;

fn tensor(values: &[f32], features: usize) -> Tensor<2> {
    let shape = [values.len() / features, features];
    Tensor::from_data(TensorData::new(values.to_vec(), shape), &Device::default())
}

fn distance(real: &[f32], fake: &[f32], features: usize) -> Option<f64> {
    FrechetDistance::of(&tensor(real, features), &tensor(fake, features)).unwrap().value()
}

fn close(got: f64, expected: f64) -> bool {
    (got - expected).abs() <= 1e-9 * expected.abs().max(1.0)
}

#[derive(Deserialize)]
struct Case {
    features: usize,
    real: Vec<f32>,
    fake: Vec<f32>,
    distance: f64,
}

fn cases() -> Vec<Case> {
    serde_json::from_str(include_str!("../fixtures/frechet.json")).unwrap()
}

#[test]
fn the_values_are_those_of_scipy() {
    for Case { features, real, fake, distance: expected } in cases() {
        let got = distance(&real, &fake, features).unwrap();
        assert!(close(got, expected), "{features} features: {got}, {expected}");
        let turned = distance(&fake, &real, features).unwrap();
        assert!(close(turned, expected), "{features} features: {turned} from the other side, {expected}");
    }
}

#[test]
fn closed_forms_are_met() {
    // One feature: (μ₁ − μ₂)² + (σ₁ − σ₂)², with means 0 and 5, and unbiased variances 2 and 18.
    assert!(close(
        distance(&[-1.0, 1.0], &[2.0, 8.0], 1).unwrap(),
        25.0 + (18_f64.sqrt() - 2_f64.sqrt()).powi(2)
    ));
    for Case { features, real, .. } in cases() {
        assert!(distance(&real, &real, features).unwrap().abs() < 1e-6, "nothing is far from itself");
        // Shifted, and scaled around 0: Σ₂ = 4Σ₁, so that the roots differ by Σ₁^½.
        let shifted: Vec<f32> = real.iter().map(|x| x + 3.0).collect();
        let got = distance(&real, &shifted, features).unwrap();
        assert!((got - 9.0 * features as f64).abs() < 1e-6, "{got}");
        let scaled: Vec<f32> = real.iter().map(|x| x * 2.0).collect();
        let samples = real.len() / features;
        let column =
            |k: usize| real.iter().skip(k).step_by(features).map(|&x| f64::from(x)).collect::<Vec<_>>();
        let expected: f64 = (0..features)
            .map(|k| {
                let values = column(k);
                let mean = values.iter().sum::<f64>() / samples as f64;
                let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (samples - 1) as f64;
                mean * mean + variance
            })
            .sum();
        let got = distance(&real, &scaled, features).unwrap();
        assert!((got - expected).abs() < 1e-6 * expected, "{got}, {expected}");
    }
    // More features than samples, and never below 0: sets that are equal but for their order.
    for features in [2, 5, 16] {
        let rows: Vec<Vec<f32>> = (0..4)
            .map(|row| (0..features).map(|k| ((row * 7 + k * 5) % 11) as f32 / 3.0).collect())
            .collect();
        let turned: Vec<_> = rows.iter().rev().cloned().collect();
        let got = distance(&rows.concat(), &turned.concat(), features).unwrap();
        assert!((0.0..1e-6).contains(&got), "{features} features: {got}");
    }
    // Features without any spread, as of units that never speak.
    assert!(close(distance(&[1.0, 2.0, 1.0, 2.0], &[1.0, 5.0, 1.0, 5.0], 2).unwrap(), 9.0));
}

#[test]
fn uneven_batches_give_the_distance_of_all_samples() {
    for Case { features, real, fake, distance: expected } in cases() {
        let mut all = Metrics::default();
        let mut place = 0;
        // Also batches of a single sample, and such that have none of one side.
        for size in [1, 7, 2, 30, 60] {
            let part = |values: &[f32]| {
                let [from, to] = [place, place + size].map(|sample| (sample * features).min(values.len()));
                tensor(&values[from..to], features)
            };
            let batch = FrechetDistance::of(&part(&real), &part(&fake)).unwrap();
            all.add(&Metrics::of(size).with("distance", Quantity::Frechet(batch))).unwrap();
            place += size;
        }
        let got = all.value("distance").unwrap();
        assert!(close(got, expected), "{features} features: {got}, {expected}");
        let back: Metrics = serde_json::from_str(&serde_json::to_string(&all).unwrap()).unwrap();
        assert_eq!(back, all);
    }
}

#[test]
fn what_cannot_be_said_is_not() {
    assert_eq!(distance(&[1.0, 2.0], &[1.0], 1), None);
    assert_eq!(distance(&[1.0], &[1.0, 2.0], 1), None);
    assert!(distance(&[1.0, f32::NAN], &[1.0, 2.0], 1).unwrap().is_nan());
    assert!(distance(&[1.0, 2.0, 3.0, 4.0], &[1.0, f32::INFINITY, 0.0, 1.0], 2).unwrap().is_nan());
    let counted = |real: &[f32], fake: &[f32]| {
        Quantity::Frechet(FrechetDistance::of(&tensor(real, 1), &tensor(fake, 1)).unwrap()).is_counted()
    };
    assert!(counted(&[1.0], &[]) && counted(&[], &[1.0]) && !counted(&[], &[]));
    let (two, three) = (tensor(&[1.0; 4], 2), tensor(&[1.0; 6], 3));
    let error = FrechetDistance::of(&two, &three).unwrap_err();
    assert_eq!(error.to_string(), "Fréchet distance: expected 2 features, got 3");
    let quantity = |tensor: &Tensor<2>| Quantity::Frechet(FrechetDistance::of(tensor, tensor).unwrap());
    let mut all = Metrics::of(2).with("distance", quantity(&two));
    let error = all.add(&Metrics::of(2).with("distance", quantity(&three))).unwrap_err();
    assert_eq!(error.to_string(), "metric distance: Fréchet distance: expected 2 features, got 3");
    let error = all.add(&Metrics::of(2).with_mean("distance", 1.0)).unwrap_err();
    assert_eq!(error.to_string(), "metric distance: expected a Fréchet distance, got a mean");
    assert_eq!(error.kind(), &ErrorKind::Task);
}
