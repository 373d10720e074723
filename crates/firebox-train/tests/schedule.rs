//! The schedules have PyTorch's values, step by step: `fixtures/schedules.py`.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use firebox_train::{Schedule, ScheduleConfig};
use serde::Deserialize;

#[derive(Deserialize)]
struct Fixture {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    config: ScheduleConfig,
    steps: usize,
    lrs: Vec<f64>,
    /// What is heard after each step; `None` is not a number.
    observed: Option<Vec<Option<f64>>>,
}

fn cases() -> Vec<Case> {
    serde_json::from_str::<Fixture>(include_str!("fixtures/schedules.json")).unwrap().cases
}

#[test]
fn every_rate_is_pytorchs() {
    let cases = cases();
    assert_eq!(cases.len(), 37);
    for case in cases {
        let mut schedule = case.config.init(case.steps).unwrap();
        for (step, &expected) in case.lrs.iter().enumerate() {
            let got = schedule.lr(step);
            // Of the rate, or where that is next to nothing, of the largest.
            let largest = case.lrs.iter().copied().fold(0.0, f64::max);
            let close = (got - expected).abs() <= (1e-12 * expected).max(1e-17 * largest);
            assert!(close, "{:?}, step {step}: {got:e}, expected {expected:e}", case.config);
            if let Some(observed) = &case.observed {
                schedule.observe(observed[step].unwrap_or(f64::NAN));
            }
        }
    }
}

/// A checkpoint after any step: the schedule is made anew, and its state goes through text.
#[test]
fn a_resumed_schedule_has_the_same_rates() {
    for case in cases().into_iter().filter(|case| case.observed.is_some()) {
        let mut schedule = case.config.init(case.steps).unwrap();
        for (step, &expected) in case.lrs.iter().enumerate() {
            assert!(
                (schedule.lr(step) - expected).abs() <= 1e-12 * expected,
                "{:?}, step {step}",
                case.config
            );
            schedule.observe(case.observed.as_ref().unwrap()[step].unwrap_or(f64::NAN));
            let text = schedule.state().to_string();
            let lr = schedule.lr(step);
            schedule = case.config.init(case.steps).unwrap();
            schedule.load(&serde_json::from_str(&text).unwrap()).unwrap();
            assert_eq!(schedule.lr(step).to_bits(), lr.to_bits(), "{text}");
        }
    }
}

/// A sequence forwards what it hears, and its state is that of its parts.
#[test]
fn a_sequence_remembers_for_its_parts() {
    let config = serde_json::json!({"kind": "sequential", "milestones": [2], "schedules": [
        {"kind": "constant", "lr": 0.5},
        {"kind": "reduce-on-plateau", "lr": 0.1, "patience": 1, "factor": 0.5}]});
    let config: ScheduleConfig = serde_json::from_value(config).unwrap();
    let mut schedule = config.init(10).unwrap();
    [1.0, 1.0, 1.0].into_iter().for_each(|value| schedule.observe(value));
    assert_eq!((schedule.lr(0), schedule.lr(1), schedule.lr(2)), (0.5, 0.5, 0.05));
    let mut other = config.init(10).unwrap();
    assert_eq!(other.lr(2), 0.1);
    other.load(&schedule.state()).unwrap();
    assert_eq!(other.lr(2), 0.05);
    let error = other.load(&serde_json::json!([null])).unwrap_err().to_string();
    assert_eq!(error, "schedule state: expected null or that of 2 schedules, got [null]");
}
