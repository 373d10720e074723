//! The schedules have PyTorch's values, step by step: `fixtures/schedules.py`.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use firebox_train::ErrorKind;
use firebox_train::schedule::{Schedule, ScheduleConfig};
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
    /// The values heard after each step; `None` is NaN.
    observed: Option<Vec<Option<f64>>>,
}

fn cases() -> Vec<Case> {
    serde_json::from_str::<Fixture>(include_str!("../fixtures/schedules.json")).unwrap().cases
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
    // What one part can't take the others don't keep either.
    let config = serde_json::json!({"kind": "sequential", "milestones": [2], "schedules": [
        {"kind": "reduce-on-plateau", "lr": 0.1}, {"kind": "constant", "lr": 0.5}]});
    let config: ScheduleConfig = serde_json::from_value(config).unwrap();
    let mut schedule = config.init(10).unwrap();
    let before = schedule.state();
    let state = serde_json::json!([{"lr": 0.7, "best": 1.0, "bad": 0, "resting": 0}, {"lr": 1}]);
    let error = schedule.load(&state).unwrap_err();
    assert_eq!(error.to_string(), r#"schedule state: expected null, got {"lr":1}"#);
    assert_eq!((schedule.state(), schedule.lr(0)), (before, 0.1));
}

/// All kinds, with the largest numbers of steps that there are.
#[test]
fn the_longest_schedules_have_a_rate_at_every_step() {
    const MOST: usize = usize::MAX;
    let configs = serde_json::json!([
        {"kind": "constant", "lr": 0.1},
        {"kind": "step", "lr": 0.1, "step_size": MOST},
        {"kind": "step", "lr": 0.1, "step_size": 1},
        {"kind": "multi-step", "lr": 0.1, "milestones": []},
        {"kind": "multi-step", "lr": 0.1, "milestones": [0, 1, 1, MOST, MOST]},
        {"kind": "exponential", "lr": 0.1, "gamma": 0.5},
        {"kind": "cosine", "lr": 0.1, "t_max": MOST},
        {"kind": "cosine", "lr": 0.1, "t_max": MOST / 2 + 1},
        {"kind": "cosine", "lr": 0.1, "t_max": 1},
        {"kind": "cosine-restarts", "lr": 0.1, "t_0": MOST, "t_mult": MOST},
        {"kind": "cosine-restarts", "lr": 0.1, "t_0": 1, "t_mult": 1},
        {"kind": "cosine-restarts", "lr": 0.1, "t_0": 1, "t_mult": 2},
        {"kind": "cosine-restarts", "lr": 0.1, "t_0": 1, "t_mult": MOST},
        {"kind": "one-cycle", "max_lr": 0.1, "total_steps": MOST},
        {"kind": "one-cycle", "max_lr": 0.1, "total_steps": MOST, "three_phase": true},
        {"kind": "one-cycle", "max_lr": 0.1},
        {"kind": "linear-warmup", "lr": 0.1, "total_iters": MOST},
        {"kind": "polynomial", "lr": 0.1, "total_iters": MOST, "power": 1e300},
        {"kind": "polynomial", "lr": 0.1, "total_iters": MOST, "power": 0.0},
        {"kind": "sequential", "milestones": [0, MOST], "schedules": [
            {"kind": "constant", "lr": 0.5}, {"kind": "cosine", "lr": 0.1}, {"kind": "polynomial", "lr": 0.1}]},
        {"kind": "reduce-on-plateau", "lr": 0.1, "patience": MOST, "cooldown": MOST}
    ]);
    let configs: Vec<ScheduleConfig> = serde_json::from_value(configs).unwrap();
    for config in configs {
        for total in [1, 2, MOST] {
            let schedule = config.init(total).unwrap();
            for step in [0, 1, 2, MOST / 2, MOST / 2 + 1, MOST - 1, MOST] {
                let lr = schedule.lr(step);
                assert!((0.0..=0.1 + 1e-15).contains(&lr), "{config:?} of {total}, step {step}: {lr}");
            }
        }
    }
}

/// Numbers that a file can hold and no schedule has.
#[test]
fn nonsense_in_a_file_is_refused() {
    for (text, expected) in [
        (
            r#"{"kind": "step", "lr": 0.1, "step_size": 0}"#,
            "StepLr.step_size: expected at least 1 step, got 0",
        ),
        (
            r#"{"kind": "step", "lr": 0.1, "step_size": 3, "gamma": -1}"#,
            "StepLr.gamma: expected a number above 0",
        ),
        (
            r#"{"kind": "multi-step", "lr": 0.1, "milestones": [5, 3]}"#,
            "MultiStep.milestones: expected ascending",
        ),
        (r#"{"kind": "cosine", "lr": -0.1}"#, "Cosine.lr: expected a number above 0, got -0.1"),
        (
            r#"{"kind": "cosine-restarts", "lr": 0.1, "t_0": 3, "t_mult": 0}"#,
            "CosineRestarts.t_mult: expected at least 1, got 0",
        ),
        (
            r#"{"kind": "one-cycle", "max_lr": 0.1, "pct_start": 1.5}"#,
            "OneCycle.pct_start: expected a number from 0",
        ),
        (
            r#"{"kind": "sequential", "milestones": [], "schedules": []}"#,
            "SequentialSchedule.schedules: expected at least 1, got 0",
        ),
        (
            r#"{"kind": "sequential", "milestones": [9, 3], "schedules": [
                {"kind": "cosine", "lr": 1}, {"kind": "cosine", "lr": 1}, {"kind": "cosine", "lr": 1}]}"#,
            "SequentialSchedule.milestones: expected rising steps, got [9, 3]",
        ),
        (
            r#"{"kind": "sequential", "milestones": [1, 2, 3], "schedules": [{"kind": "cosine", "lr": 1}]}"#,
            "SequentialSchedule.milestones: expected one between each two of 1 schedules, got 3",
        ),
        (
            r#"{"kind": "reduce-on-plateau", "lr": 0.1, "factor": 1}"#,
            "ReduceOnPlateau.factor: expected a number",
        ),
        (
            r#"{"kind": "reduce-on-plateau", "lr": 0.1, "threshold": {"abs": -1}}"#,
            "ReduceOnPlateau.threshold: expected a number of at least 0, got -1",
        ),
    ] {
        let config: ScheduleConfig = serde_json::from_str(text).unwrap();
        let error = config.init(10).map(drop).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::OutOfRange { .. }), "{error}");
        assert!(error.to_string().starts_with(expected), "{error}");
    }
    for text in [
        r#"{"kind": "step", "lr": 0.1, "step_size": -1}"#,
        r#"{"kind": "step", "lr": 0.1, "step_size": 1.5}"#,
        r#"{"kind": "constant", "lr": "fast"}"#,
        r#"{"kind": "constant", "lr": null}"#,
    ] {
        assert!(serde_json::from_str::<ScheduleConfig>(text).is_err(), "{text}");
    }
}
