//! The optimisers against PyTorch: formulas, defaults, what they refuse, and that their state survives.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use crate::common::draws;
use std::collections::BTreeSet;
use std::fmt::{Debug, Display};
use std::fs;
use std::path::Path;

use burn::config::Config;
use burn::module::{Module, Param};
use burn::optim::ModuleOptimizer;
use burn::tensor::{Device, Tensor};
use firebox_train::checkpoint::{Checkpoints, RunState};
use firebox_train::optimizer::{AdamConfig, AdamWConfig, RmsPropConfig, SgdConfig};
use firebox_train::task::TaskState;
use firebox_train::{Error, ErrorKind, Learner};
use firebox_weights::{RawTensor, StateDict};
use serde_json::{Map, Value, json};

const STEPS: usize = 20;

fn fixture() -> StateDict {
    read("optimizers")
}

fn read(name: &str) -> StateDict {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures");
    StateDict::read(folder.join(format!("{name}.safetensors"))).unwrap()
}

/// The fixture's parameters.
#[derive(Module, Debug)]
struct Model {
    matrix: Param<Tensor<2>>,
    vector: Param<Tensor<1>>,
    cube: Param<Tensor<3>>,
}

const PARAMS: [&str; 3] = ["matrix", "vector", "cube"];

/// One step of the fixture's tensors, which have the step as their first dimension.
fn at_step(data: &RawTensor, step: usize) -> RawTensor {
    let shape = data.shape()[1..].to_vec();
    let size: usize = shape.iter().product();
    RawTensor::new(&data.to_vec::<f32>().unwrap()[step * size..][..size], shape).unwrap()
}

/// A learner that goes the fixture's way.
struct Walk<'f> {
    fixture: &'f StateDict,
    rates: Vec<f64>,
    learner: Learner<Model>,
}

impl<'f> Walk<'f> {
    fn new(fixture: &'f StateDict, optimizer: ModuleOptimizer) -> Self {
        let device = Device::default().autodiff();
        let start = |name: &str| fixture.get(&format!("start.{name}")).unwrap().clone();
        let model = Model {
            matrix: Param::from_data(start("matrix"), &device),
            vector: Param::from_data(start("vector"), &device),
            cube: Param::from_data(start("cube"), &device),
        };
        let rates = fixture.get("lr").unwrap().to_vec().unwrap();
        Walk { fixture, rates, learner: Learner::new(model, optimizer) }
    }

    fn clipped(mut self, max_norm: f64) -> Self {
        self.learner = self.learner.with_clip_norm(max_norm).unwrap();
        self
    }

    fn step(&mut self, step: usize) {
        let loss = self.loss(step);
        self.learner.step(loss, self.rates[step]);
    }

    /// The loss Σ gradient · parameter has the fixture's gradient, exactly.
    fn loss(&self, step: usize) -> Tensor<1> {
        fn product<const D: usize>(
            walk: &Walk<'_>,
            name: &str,
            param: &Param<Tensor<D>>,
            step: usize,
        ) -> Tensor<1> {
            let gradient = at_step(walk.fixture.get(&format!("grad.{name}")).unwrap(), step);
            let param = param.val();
            let gradient = Tensor::<D>::from_data(gradient, &param.device());
            (param * gradient).sum()
        }
        let model = self.learner.model();
        product(self, "matrix", &model.matrix, step)
            + product(self, "vector", &model.vector, step)
            + product(self, "cube", &model.cube, step)
    }

    fn model(&self) -> StateDict {
        StateDict::of(self.learner.model())
    }

    fn state(&self) -> TaskState {
        let mut state = TaskState::default();
        self.learner.save("model", &mut state).unwrap();
        state
    }
}

/// The optimiser's config with the given options, by PyTorch's names.
fn config<C: Config>(default: C, options: &Map<String, Value>) -> C {
    let mut fields = serde_json::to_value(default).unwrap();
    for (name, value) in options {
        let field = fields.get_mut(name).unwrap_or_else(|| panic!("no option {name}"));
        *field = value.clone();
    }
    serde_json::from_value(fields).unwrap()
}

fn optimizer(name: &str, options: &Value) -> Result<ModuleOptimizer, Error> {
    let options = options.as_object().unwrap();
    match name {
        "Sgd" => config(SgdConfig::new(), options).init(),
        "Adam" => config(AdamConfig::new(), options).init(),
        "AdamW" => config(AdamWConfig::new(), options).init(),
        "RmsProp" => config(RmsPropConfig::new(), options).init(),
        _ => panic!("no optimiser {name}"),
    }
}

/// Every combination of options in the fixture, as (optimiser, options).
fn combinations(fixture: &StateDict) -> Vec<(String, String)> {
    let keys = fixture.iter().filter_map(|(key, _)| key.strip_prefix("after|"));
    let parts = keys.map(|key| key.split('|').map(str::to_owned).collect::<Vec<_>>());
    let unique: BTreeSet<_> = parts.map(|parts| (parts[0].clone(), parts[1].clone())).collect();
    unique.into_iter().collect()
}

fn assert_close(what: &str, got: &RawTensor, expected: &RawTensor) {
    assert_eq!(got.shape(), expected.shape(), "{what}");
    let (got, expected) = (got.to_vec::<f32>().unwrap(), expected.to_vec::<f32>().unwrap());
    let largest = expected.iter().fold(0f32, |max, x| max.max(x.abs()));
    let limit = 1e-5 * largest + 1e-7;
    for (place, (a, b)) in std::iter::zip(got, expected).enumerate() {
        assert!((a - b).abs() <= limit, "{what}, element {place}: {a}, expected {b} ± {limit}");
    }
}

/// Where this crate's checkpoints have what PyTorch calls `field`.
fn state_key(optimiser: &str, field: &str) -> &'static str {
    match (optimiser, field) {
        ("Sgd", "momentum_buffer") => "momentum.velocity",
        (_, "exp_avg") => "momentum.moment_1",
        (_, "exp_avg_sq") => "momentum.moment_2",
        (_, "max_exp_avg_sq") => "momentum.max_moment_2",
        ("RmsProp", "square_avg") => "square_avg",
        ("RmsProp", "grad_avg") => "grad_avg",
        ("RmsProp", "momentum_buffer") => "momentum_buffer",
        _ => panic!("{optimiser} has no {field}"),
    }
}

#[test]
fn trajectories_are_pytorchs() {
    let _alone = draws();
    let fixture = fixture();
    assert!(combinations(&fixture).len() > 30, "the fixture has too few combinations");
    for (name, options) in combinations(&fixture) {
        let optimizer = optimizer(&name, &serde_json::from_str(&options).unwrap()).unwrap();
        let mut walk = Walk::new(&fixture, optimizer);
        for step in 0..STEPS {
            walk.step(step);
            let model = walk.model();
            for param in PARAMS {
                let expected = fixture.get(&format!("after|{name}|{options}|{param}")).unwrap();
                let what = format!("{name} {options}, step {step}, {param}");
                assert_close(&what, model.get(param).unwrap(), &at_step(expected, step));
            }
        }
        // All of PyTorch's state, and no tensor besides.
        let state = walk.state();
        let state = state.get("model.optimizer").unwrap();
        let prefix = format!("state|{name}|{options}|");
        let mut tensors = 0;
        for (key, expected) in fixture.iter().filter(|(key, _)| key.starts_with(&prefix)) {
            let (param, field) = key[prefix.len()..].split_once('|').unwrap();
            let got = state.get(&format!("{param}/{}", state_key(&name, field)));
            let got = got.unwrap_or_else(|| panic!("{name} {options}: no {field} of {param}"));
            assert_close(&format!("{name} {options}, {field} of {param}"), got, expected);
            tensors += 1;
        }
        assert_eq!(state.iter().filter(|(key, _)| key.contains('/')).count(), tensors, "{name} {options}");
    }
}

/// The learning rate of PyTorch's signature is the schedule's here; nothing else is left out.
#[test]
fn defaults_are_pytorchs() {
    let _alone = draws();
    fn check<C: Config>(fixture: &StateDict, name: &str, default: C) {
        let prefix = format!("default.{name}.");
        let pytorchs: Vec<_> = fixture.iter().filter(|(key, _)| key.starts_with(&prefix)).collect();
        let fields = serde_json::to_value(default).unwrap();
        assert_eq!(fields.as_object().unwrap().len(), pytorchs.len(), "{name}");
        for (key, expected) in pytorchs {
            let option = &key[prefix.len()..];
            let got = match &fields[option] {
                Value::Bool(value) => vec![f64::from(u8::from(*value))],
                Value::Number(value) => vec![value.as_f64().unwrap()],
                Value::Array(values) => values.iter().map(|value| value.as_f64().unwrap()).collect(),
                other => panic!("{name}.{option} is {other}"),
            };
            assert_eq!(got, expected.to_vec::<f64>().unwrap(), "{name}.{option}");
        }
    }
    let fixture = fixture();
    check(&fixture, "Sgd", SgdConfig::new());
    check(&fixture, "Adam", AdamConfig::new());
    check(&fixture, "AdamW", AdamWConfig::new());
    check(&fixture, "RmsProp", RmsPropConfig::new());
}

#[test]
fn what_cannot_be_is_refused() {
    let _alone = draws();
    let not_negative =
        |field: &str, got: &str| format!("{field}: expected a number of at least 0, got {got}");
    let weight = |field: &str, got: &str| format!("{field}: expected a number from 0, below 1, got {got}");
    let nesterov = |momentum: &str, dampening: &str| {
        format!(
            "SgdConfig.nesterov: expected false unless momentum is above 0 and dampening is 0, \
             got true with momentum {momentum} and dampening {dampening}"
        )
    };
    let mut cases = vec![
        ("Sgd", json!({"momentum": -0.1}), not_negative("SgdConfig.momentum", "-0.1")),
        ("Sgd", json!({"weight_decay": -1.0}), not_negative("SgdConfig.weight_decay", "-1")),
        ("Sgd", json!({"nesterov": true}), nesterov("0", "0")),
        ("Sgd", json!({"nesterov": true, "momentum": 0.9, "dampening": 0.5}), nesterov("0.9", "0.5")),
        ("RmsProp", json!({"alpha": 1.0}), weight("RmsPropConfig.alpha", "1")),
        ("RmsProp", json!({"alpha": -0.5}), weight("RmsPropConfig.alpha", "-0.5")),
        ("RmsProp", json!({"eps": -1e-8}), not_negative("RmsPropConfig.eps", "-0.00000001")),
        ("RmsProp", json!({"weight_decay": -1.0}), not_negative("RmsPropConfig.weight_decay", "-1")),
        ("RmsProp", json!({"momentum": -1.0}), not_negative("RmsPropConfig.momentum", "-1")),
    ];
    for name in ["Adam", "AdamW"] {
        let field = |field: &str| format!("{name}Config.{field}");
        cases.extend([
            (name, json!({"betas": [1.0, 0.9]}), weight(&field("betas[0]"), "1")),
            (name, json!({"betas": [0.9, -0.1]}), weight(&field("betas[1]"), "-0.1")),
            (name, json!({"eps": -1.0}), not_negative(&field("eps"), "-1")),
            (name, json!({"weight_decay": -1.0}), not_negative(&field("weight_decay"), "-1")),
        ]);
    }
    for (name, options, expected) in cases {
        let error = optimizer(name, &options).map(drop).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::OutOfRange { .. }), "{error}");
        assert_eq!(error.to_string(), expected);
    }
    for bad in [f64::NAN, f64::INFINITY] {
        let text = SgdConfig::new().with_dampening(bad).init().map(drop).unwrap_err().to_string();
        assert_eq!(text, format!("SgdConfig.dampening: expected a finite number, got {bad}"));
        for refused in [
            SgdConfig::new().with_momentum(bad).init(),
            AdamConfig::new().with_betas([bad, 0.9]).init(),
            AdamWConfig::new().with_weight_decay(bad).init(),
            RmsPropConfig::new().with_alpha(bad).init(),
            RmsPropConfig::new().with_eps(bad).init(),
        ] {
            let text = refused.map(drop).unwrap_err().to_string();
            assert!(text.ends_with(&format!("got {bad}")), "{text}");
        }
    }
}

#[test]
fn configs_are_read_as_they_were_written() {
    let _alone = draws();
    fn check<C: Config + Debug + Display>(config: C) {
        let read = C::load_binary(format!("{config}").as_bytes()).unwrap();
        assert_eq!(format!("{read:?}"), format!("{config:?}"));
    }
    check(SgdConfig::new().with_momentum(0.9).with_weight_decay(5e-4).with_nesterov(true));
    check(SgdConfig::new().with_dampening(0.1));
    check(AdamConfig::new().with_betas([0.5, 0.999]).with_eps(1e-7).with_amsgrad(true));
    check(AdamWConfig::new().with_weight_decay(0.3));
    check(RmsPropConfig::new().with_alpha(0.9).with_momentum(0.5).with_centered(true));
}

#[test]
fn a_checkpoint_changes_nothing() {
    let _alone = draws();
    let fixture = fixture();
    let folder = tempfile::tempdir().unwrap();
    for (place, (name, options)) in combinations(&fixture).into_iter().enumerate() {
        let new = || Walk::new(&fixture, optimizer(&name, &serde_json::from_str(&options).unwrap()).unwrap());
        let mut whole = new();
        for step in 0..7 {
            whole.step(step);
        }
        let loader = r#"{"version":1,"seed":7,"epoch":0,"batch":7,"fingerprint":"numbers"}"#;
        let run = RunState::new(serde_json::from_str(loader).unwrap(), 7);
        let place = folder.path().join(place.to_string());
        fs::create_dir(&place).unwrap();
        let checkpoints = Checkpoints::new(place);
        checkpoints.save(&run, &whole.state()).unwrap();
        let (_, saved) = checkpoints.load("last").unwrap();
        let mut resumed = new();
        resumed.learner.load("model", &saved).unwrap();
        assert_eq!(resumed.state(), whole.state(), "{name} {options}");
        for step in 7..STEPS {
            whole.step(step);
            resumed.step(step);
            assert_eq!(resumed.state(), whole.state(), "{name} {options}, step {step}");
        }
    }
}

/// 1 − 0.99999999 is 0 in 32 bits, and a division by it.
#[test]
fn a_weight_near_1_is_a_weight() {
    let _alone = draws();
    let fixture = fixture();
    for optimizer in [
        AdamConfig::new().with_betas([0.9, 0.99999999]).init(),
        AdamWConfig::new().with_betas([0.99999999, 0.99999999]).init(),
        RmsPropConfig::new().with_alpha(0.99999999).init(),
    ] {
        let mut walk = Walk::new(&fixture, optimizer.unwrap());
        walk.step(0);
        let moved = walk.model();
        assert!(PARAMS.iter().all(|param| {
            let values = moved.get(param).unwrap().to_vec::<f32>().unwrap();
            values.iter().all(|value| value.is_finite())
        }));
    }
}

#[test]
fn clipped_trajectories_are_pytorchs() {
    let _alone = draws();
    let fixture = read("clipping");
    let max_norm = fixture.get("max_norm").unwrap().to_vec::<f64>().unwrap()[0];
    let norms = fixture.get("norm").unwrap().to_vec::<f32>().unwrap();
    assert!(norms.iter().any(|&norm| f64::from(norm) > max_norm));
    let mut walks: Vec<_> = combinations(&fixture)
        .into_iter()
        .map(|(name, options)| {
            let optimizer = optimizer(&name, &serde_json::from_str(&options).unwrap()).unwrap();
            (name, options, optimizer)
        })
        .collect();
    // One that doesn't know of the factor.
    walks.push(("Sgd".to_owned(), "{}".to_owned(), burn::optim::SgdConfig::new().init()));
    assert_eq!(walks.len(), 7);
    for (name, options, optimizer) in walks {
        let mut walk = Walk::new(&fixture, optimizer).clipped(max_norm);
        assert_eq!(walk.learner.gradient_norm(), None);
        for (step, &expected) in norms.iter().enumerate() {
            walk.step(step);
            let norm = walk.learner.gradient_norm().unwrap();
            assert!((norm - f64::from(expected)).abs() <= 1e-6 * f64::from(expected), "{norm}, {expected}");
            let model = walk.model();
            for param in PARAMS {
                let expected = fixture.get(&format!("after|{name}|{options}|{param}")).unwrap();
                let what = format!("{name} {options}, clipped, step {step}, {param}");
                assert_close(&what, model.get(param).unwrap(), &at_step(expected, step));
            }
        }
    }
}

/// A gradient that is no number is refused where that is wanted, and spoils the parameters where it isn't, as
/// in PyTorch.
#[test]
fn gradients_that_are_no_numbers() {
    let _alone = draws();
    let fixture = read("clipping");
    for (bad, said) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf")] {
        for clips in [true, false] {
            let mut walk = Walk::new(&fixture, AdamConfig::new().init().unwrap());
            if clips {
                walk = walk.clipped(1.0);
            }
            walk.step(0);
            let before = walk.state();
            let loss = walk.loss(1) + walk.learner.model().vector.val().mul_scalar(bad).sum();
            let error = walk.learner.try_step(loss, 0.1).unwrap_err();
            assert_eq!(error.kind(), &ErrorKind::NotFinite);
            assert_eq!(
                error.to_string(),
                format!("norm of the gradients: expected a finite number, got {said}, by vector")
            );
            assert_eq!(walk.state(), before);
            walk.learner.try_step(walk.loss(1), 0.1).unwrap();
            assert_ne!(walk.state(), before);
        }
        let mut walk = Walk::new(&fixture, SgdConfig::new().init().unwrap()).clipped(1.0);
        walk.step(0);
        let loss = walk.loss(1) + walk.learner.model().vector.val().mul_scalar(bad).sum();
        walk.learner.step(loss, 0.1);
        let after = walk.model().get("vector").unwrap().to_vec::<f32>().unwrap();
        assert!(after.iter().all(|value| value.is_nan()), "{after:?}");
    }
}

#[test]
fn norms_that_cannot_be_are_refused() {
    let _alone = draws();
    let fixture = read("clipping");
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let walk = Walk::new(&fixture, SgdConfig::new().init().unwrap());
        let error = walk.learner.with_clip_norm(bad).map(drop).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::OutOfRange { .. }), "{error}");
        assert_eq!(error.to_string(), format!("clip norm: expected a number above 0, got {bad}"));
    }
}
