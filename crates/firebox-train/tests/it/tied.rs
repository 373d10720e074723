//! Tied weights: a parameter in two places of a model is one parameter in all that a learner does.
//!
//! `fixtures/tied.safetensors` is PyTorch's: an embedding tied to the output layer, before and after each of
//! three steps of SGD. Beyond it the measure is a model that has the parameter once and uses it twice, whose
//! every step is the same bit for bit.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use crate::common::draws;
use std::path::Path;
use std::process::Command;

use burn::module::{Module, Param};
use burn::optim::ModuleOptimizer;
use burn::tensor::module::embedding;
use burn::tensor::{Device, Int, Tensor, TensorData};
use firebox_models::init;
use firebox_models::layers::{Embedding, EmbeddingConfig, Linear, LinearConfig};
use firebox_train::checkpoint::{Checkpoints, RunState};
use firebox_train::optimizer::{AdamConfig, AdamWConfig, RmsPropConfig, SgdConfig};
use firebox_train::task::TaskState;
use firebox_train::{ErrorKind, Learner, StepContext};
use firebox_weights::{RawTensor, StateDict, Ties};

const PLACES: [&str; 2] = ["embedding.weight", "fc.weight"];

/// The parameter in two places, and one beside them.
#[derive(Module, Debug)]
struct Tied {
    embedding: Embedding,
    scale: Param<Tensor<1>>,
    fc: Linear,
}

/// The parameter in one.
#[derive(Module, Debug)]
struct Single {
    weight: Param<Tensor<2>>,
    scale: Param<Tensor<1>>,
}

trait Words {
    fn logits(&self, tokens: Tensor<2, Int>) -> Tensor<3>;

    /// The mean of the squares of all outputs, and so many times the one parameter that isn't tied.
    fn loss(&self, tokens: &[i64]) -> Tensor<1> {
        let tokens = Tensor::<1, Int>::from_data(tokens, &training()).unsqueeze();
        self.logits(tokens).square().mean()
    }
}

fn output(vectors: Tensor<3>, scale: &Param<Tensor<1>>, weight: &Param<Tensor<2>>) -> Tensor<3> {
    let linear = Linear { weight: weight.clone(), bias: None };
    firebox_models::Forward::forward(&linear, vectors * scale.val().unsqueeze())
}

impl Words for Tied {
    fn logits(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        output(self.embedding.forward(tokens), &self.scale, &self.fc.weight)
    }
}

impl Words for Single {
    fn logits(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        output(embedding(self.weight.val(), tokens), &self.scale, &self.weight)
    }
}

fn training() -> Device {
    Device::default().autodiff()
}

fn fixture() -> StateDict {
    StateDict::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tied.safetensors")).unwrap()
}

fn param<const D: usize>(data: TensorData) -> Param<Tensor<D>> {
    Param::from_data(data, &training())
}

fn scale() -> Param<Tensor<1>> {
    param(TensorData::from([1f32; 8]))
}

fn start() -> TensorData {
    fixture().get("weight.0").unwrap().into()
}

/// Made as a user makes it.
fn tied() -> Tied {
    let device = training();
    let mut embedding = EmbeddingConfig::new(7, 8).init(&device).unwrap();
    let mut fc = LinearConfig::new(8, 7).with_bias(false).init(&device).unwrap();
    embedding.weight = param(start());
    fc.weight = embedding.weight.clone();
    Tied { embedding, scale: scale(), fc }
}

/// With two parameters where the other has one.
fn untied() -> Tied {
    let mut model = tied();
    model.fc.weight = param(start());
    model
}

fn single() -> Single {
    Single { weight: param(start()), scale: scale() }
}

fn bits(data: &RawTensor) -> Vec<u32> {
    data.to_vec::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
}

/// The tied weight's bits, which are the same in both places.
fn weight_of(dict: &StateDict, what: &str) -> Vec<u32> {
    let [embedding, fc] = PLACES.map(|place| bits(dict.get(place).unwrap()));
    assert_eq!(embedding, fc, "{what}: the places have come apart");
    embedding
}

fn assert_same(tied: &StateDict, single: &StateDict, what: &str) {
    assert_eq!(weight_of(tied, what), bits(single.get("weight").unwrap()), "{what}: the tied weight");
    assert_eq!(bits(tied.get("scale").unwrap()), bits(single.get("scale").unwrap()), "{what}: the other");
}

#[test]
fn three_steps_are_pytorchs() {
    let _alone = draws();
    let fixture = fixture();
    let mut model = tied();
    model.scale = model.scale.set_require_grad(false);
    let mut learner = Learner::new(model, SgdConfig::new().init().unwrap());
    for step in 1..=3 {
        learner.step(learner.model().loss(&[1, 2, 3, 4]), 0.1);
        let got = StateDict::of(learner.model());
        weight_of(&got, &format!("step {step}"));
        let expected = TensorData::from(fixture.get(&format!("weight.{step}")).unwrap());
        for place in PLACES {
            TensorData::from(got.get(place).unwrap())
                .assert_approx_eq::<f32>(&expected, burn::tensor::Tolerance::absolute(1e-6));
        }
    }
}

/// What kind of step it is, apart from the optimiser.
#[derive(Clone, Copy, Debug, Default)]
struct Setting {
    clip_norm: Option<f64>,
    clip_value: Option<f64>,
    ema: Option<f64>,
    /// The factor of a place's learning rate.
    group: Option<(&'static str, f64)>,
    /// Batches a step.
    accumulate: usize,
}

const SETTINGS: [Setting; 7] = {
    let plain = Setting { clip_norm: None, clip_value: None, ema: None, group: None, accumulate: 1 };
    [
        plain,
        Setting { clip_norm: Some(0.05), ..plain },
        Setting { clip_value: Some(0.01), clip_norm: Some(0.1), ..plain },
        Setting { ema: Some(0.75), ..plain },
        Setting { accumulate: 3, clip_norm: Some(0.05), ..plain },
        Setting { group: Some(("embedding", 0.5)), ..plain },
        Setting { group: Some(("fc", 0.5)), clip_norm: Some(0.05), ema: Some(0.5), accumulate: 2, ..plain },
    ]
};

fn optimizers() -> Vec<(&'static str, ModuleOptimizer)> {
    let sgd = SgdConfig::new();
    vec![
        ("SGD", sgd.init().unwrap()),
        ("SGD with decay", SgdConfig::new().with_weight_decay(0.1).init().unwrap()),
        ("momentum", SgdConfig::new().with_momentum(0.9).with_dampening(0.2).init().unwrap()),
        ("Nesterov", SgdConfig::new().with_momentum(0.9).with_nesterov(true).init().unwrap()),
        ("Adam", AdamConfig::new().init().unwrap()),
        ("AMSGrad", AdamConfig::new().with_amsgrad(true).with_weight_decay(0.1).init().unwrap()),
        ("AdamW", AdamWConfig::new().with_weight_decay(0.1).init().unwrap()),
        ("RMSprop", RmsPropConfig::new().init().unwrap()),
        ("centered", RmsPropConfig::new().with_centered(true).with_momentum(0.9).init().unwrap()),
        ("Burn's SGD", burn::optim::SgdConfig::new().init()),
    ]
}

fn learner<M: Module>(model: M, optimizer: ModuleOptimizer, setting: &Setting, tied: bool) -> Learner<M> {
    let mut learner = Learner::new(model, optimizer);
    if let Some(norm) = setting.clip_norm {
        learner = learner.with_clip_norm(norm).unwrap();
    }
    if let Some(value) = setting.clip_value {
        learner = learner.with_clip_value(value).unwrap();
    }
    if let Some(decay) = setting.ema {
        learner = learner.with_ema(decay).unwrap();
    }
    if let Some((place, factor)) = setting.group {
        learner = learner.with_lr_factor(if tied { place } else { "weight" }, factor).unwrap();
    }
    learner
}

fn learn<M: Module + Words>(learner: &mut Learner<M>, step: usize, batches: usize) {
    let context = StepContext::new(0, step, 0.05);
    for batch in 0..batches {
        let tokens: Vec<i64> =
            (0..3 + batch).map(|place| ((step * 3 + batch * 2 + place) % 7) as i64).collect();
        let context = if batch + 1 == batches { context } else { context.without_update() };
        let loss = learner.model().loss(&tokens);
        learner.learn(loss, tokens.len() as f64, &context).unwrap();
    }
}

fn state<M: Module>(learner: &Learner<M>) -> TaskState {
    let mut state = TaskState::default();
    learner.save("model", &mut state).unwrap();
    state
}

#[test]
fn a_tied_weight_moves_as_one_tensor_does() {
    let _alone = draws();
    for (number, setting) in SETTINGS.iter().enumerate() {
        for ((name, optimizer), (_, other)) in optimizers().into_iter().zip(optimizers()) {
            let what = format!("{name}, setting {number}");
            let mut two = learner(tied(), optimizer, setting, true);
            let mut one = learner(single(), other, setting, false);
            for step in 0..4 {
                learn(&mut two, step, setting.accumulate);
                learn(&mut one, step, setting.accumulate);
                let what = format!("{what}, step {step}");
                assert_same(&StateDict::of(two.model()), &StateDict::of(one.model()), &what);
                assert_eq!(two.gradient_norm(), one.gradient_norm(), "{what}");
                assert_same(&StateDict::of(&two.averaged()), &StateDict::of(&one.averaged()), &what);
            }
            assert_ne!(
                bits(&start().into()),
                weight_of(&StateDict::of(two.model()), &what),
                "{what}: nothing moved"
            );
            // One state of the optimiser, under the path of the first place.
            let (two, one) = (state(&two), state(&one));
            let (two, one) = (two.get("model.optimizer").unwrap(), one.get("model.optimizer").unwrap());
            let renamed: Vec<_> =
                one.iter().map(|(key, data)| (key.replace("weight", PLACES[0]), data)).collect();
            let got: Vec<_> = two.iter().map(|(key, data)| (key.to_owned(), data)).collect();
            let sorted = |mut all: Vec<(String, RawTensor)>| {
                all.sort_by(|a, b| a.0.cmp(&b.0));
                all
            };
            let owned = |all: Vec<(String, &RawTensor)>| {
                sorted(all.into_iter().map(|(k, d)| (k, d.clone())).collect())
            };
            assert_eq!(owned(got), owned(renamed), "{what}");
        }
    }
}

/// The number of threads and the kernels are fixed when a process starts.
#[test]
fn the_same_without_kernels() {
    let _alone = draws();
    let names = ["tied::three_steps_are_pytorchs", "tied::a_tied_weight_moves_as_one_tensor_does"];
    let output = Command::new(std::env::current_exe().unwrap())
        .arg("--exact")
        .args(names)
        .env("FIREBOX_KERNELS", "off")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("2 passed"), "{text}");
}

#[test]
fn a_resume_in_the_middle_is_the_same_run() {
    let _alone = draws();
    let setting = &SETTINGS[6];
    for place in 0..optimizers().len() {
        let new = || {
            let (name, optimizer) = optimizers().swap_remove(place);
            (name, learner(tied(), optimizer, setting, true))
        };
        let ((name, mut whole), (_, mut resumed)) = (new(), new());
        for step in 0..3 {
            learn(&mut whole, step, 2);
        }
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(folder.path());
        checkpoints.save(&RunState::new(crate::common::numbers(4).state(0), 7), &state(&whole)).unwrap();
        resumed.load("model", &checkpoints.load("last").unwrap().1).unwrap();
        for step in 3..6 {
            assert_eq!(state(&resumed), state(&whole), "{name}, step {step}");
            learn(&mut whole, step, 2);
            learn(&mut resumed, step, 2);
            weight_of(&StateDict::of(resumed.model()), name);
        }
        assert_eq!(state(&resumed), state(&whole), "{name}");
    }
}

#[test]
fn a_move_does_not_part_them() {
    let _alone = draws();
    let adam = || AdamConfig::new().init().unwrap();
    let mut reference = Learner::new(single(), adam());
    let device = training();
    let moved = [
        tied().fork(&device),
        tied().valid().train(),
        tied().to_device(&device),
        tied().map(&mut Identity),
        StateDict::of(&tied()).apply(tied()).unwrap(),
        init(3, &device, |_| Ok::<_, firebox_models::Error>(tied())).unwrap(),
    ];
    let mut learners = moved.map(|model| Learner::new(model, adam()));
    for step in 0..3 {
        learn(&mut reference, step, 1);
        for (number, learner) in learners.iter_mut().enumerate() {
            learn(learner, step, 1);
            let what = format!("move {number}, step {step}");
            assert_same(&StateDict::of(learner.model()), &StateDict::of(reference.model()), &what);
        }
    }
}

/// Makes each place a leaf of its own.
struct Identity;

impl burn::module::ModuleMapper for Identity {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|tensor| tensor.detach().require_grad())
    }
}

#[test]
fn clones_with_other_numbers_are_parameters_of_their_own() {
    let _alone = draws();
    let mut model = tied();
    let other = start().try_to_vec::<f32>().unwrap().into_iter().map(|x| x * 0.5).collect();
    let other = Tensor::<2>::from_data(TensorData::new(other, [7, 8]), &training());
    model.fc.weight = model.fc.weight.map(|_| other.clone().require_grad());
    assert_eq!(model.fc.weight.id, model.embedding.weight.id);
    let mut apart = untied();
    apart.fc.weight = param(other.into_data());
    let mut cloned = Learner::new(model, AdamConfig::new().init().unwrap());
    let mut apart = Learner::new(apart, AdamConfig::new().init().unwrap());
    for step in 0..3 {
        learn(&mut cloned, step, 1);
        learn(&mut apart, step, 1);
        assert_eq!(state(&cloned), state(&apart), "step {step}");
    }
}

#[test]
fn a_checkpoint_of_an_untied_model_is_refused_whole() {
    let _alone = draws();
    let adam = || AdamConfig::new().init().unwrap();
    let mut apart = Learner::new(untied(), adam());
    learn(&mut apart, 0, 1);
    let mut learner = Learner::new(tied(), adam());
    learn(&mut learner, 0, 1);
    let before = state(&learner);
    let error = learner.load("model", &state(&apart)).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Checkpoint);
    let text = "model: the weights don't fit the module: embedding.weight and fc.weight are one parameter of the module: \
                expected equal tensors, got different ones";
    assert_eq!(error.to_string(), text);
    assert_eq!(state(&learner), before);
    // Before its first step it has one weight, and a state of the optimiser for none; after one, that of both
    // places.
    let fresh = state(&Learner::new(untied(), adam()));
    learner.load("model", &fresh).unwrap();
    let mut mixed = TaskState::default();
    mixed.insert("model", fresh.get("model").unwrap().clone());
    mixed.insert("model.optimizer", state(&apart).get("model.optimizer").unwrap().clone());
    let error = learner.load("model", &mixed).unwrap_err();
    assert!(error.to_string().contains("unexpected fc.weight/momentum.moment_1"), "{error}");
}

#[test]
fn names_and_norms_have_it_once() {
    let _alone = draws();
    let setting = Setting { accumulate: 1, ..Setting::default() };
    let mut learner = learner(tied(), SgdConfig::new().init().unwrap(), &setting, true);
    let bad = learner.model().loss(&[1, 2]).mul_scalar(f32::MAX).mul_scalar(1e3);
    let finite = learner.model().loss(&[1, 2]) * (learner.model().fc.weight.val().sum() * f32::INFINITY);
    for loss in [bad, finite] {
        let before = state(&learner);
        let error = learner.try_step(loss, 0.1).unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::NotFinite);
        let names = error.to_string().split_once(", by ").unwrap().1.to_owned();
        assert!(names == "embedding.weight" || names == "embedding.weight, scale", "{error}");
        assert_eq!(state(&learner), before);
    }
}

#[test]
fn two_factors_for_one_parameter_are_refused() {
    let _alone = draws();
    let new = || Learner::new(tied(), SgdConfig::new().init().unwrap());
    let error =
        new().with_lr_factor("embedding", 0.1).unwrap().with_lr_factor("fc", 0.5).map(drop).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Config);
    let text = "learning rate's factor: expected one factor for embedding.weight and fc.weight, which are one parameter, \
                got 0.1 and 0.5";
    assert_eq!(error.to_string(), text);
    for same in [["embedding", "fc"], ["fc", "embedding.weight"]] {
        let both = new().with_lr_factor(same[0], 0.1).unwrap().with_lr_factor(same[1], 0.1);
        assert!(both.is_ok());
    }
    // Of groups within each other the last still counts.
    new().with_lr_factor("embedding", 0.1).unwrap().with_lr_factor("embedding.weight", 0.5).unwrap();
}

#[test]
fn a_frozen_tied_weight_stays() {
    let _alone = draws();
    let mut model = tied().no_grad();
    model.scale = model.scale.set_require_grad(true);
    let setting = Setting { ema: Some(0.5), clip_norm: Some(0.05), ..Setting::default() };
    let mut learner = learner(model, AdamWConfig::new().init().unwrap(), &setting, true);
    for step in 0..2 {
        learn(&mut learner, step, 1);
        let dict = StateDict::of(learner.model());
        assert_eq!(weight_of(&dict, "frozen"), bits(&start().into()));
        assert_eq!(weight_of(&StateDict::of(&learner.averaged()), "frozen"), bits(&start().into()));
        assert_ne!(dict.get("scale").unwrap(), &RawTensor::from([1f32; 8]));
    }
}

#[test]
fn parameters_are_counted_once() {
    let _alone = draws();
    let (tied, untied) = (tied(), untied());
    assert_eq!(Ties::of(&tied).num_params(&tied), 7 * 8 + 8);
    assert_eq!(Ties::of(&untied).num_params(&untied), 2 * 7 * 8 + 8);
    assert!(Ties::of(&untied).is_empty());
}

/// A student, and a teacher that is a frozen clone of it, as in distillation.
#[derive(Module, Debug)]
struct Taught {
    teacher: Param<Tensor<2>>,
    student: Param<Tensor<2>>,
}

#[test]
fn a_frozen_clone_of_a_trained_parameter_is_one_of_its_own() {
    let _alone = draws();
    for teacher_first in [true, false] {
        for ema in [None, Some(0.5)] {
            let trained: Param<Tensor<2>> = param(start());
            let frozen = trained.clone().set_require_grad(false);
            let model = match teacher_first {
                true => Taught { teacher: frozen, student: trained },
                false => Taught { teacher: trained, student: frozen },
            };
            let (frozen, trained) =
                if teacher_first { ("teacher", "student") } else { ("student", "teacher") };
            let mut learner = Learner::new(model, AdamConfig::new().init().unwrap());
            if let Some(decay) = ema {
                learner = learner.with_ema(decay).unwrap();
            }
            for _ in 0..3 {
                let model = learner.model();
                learner.try_step((model.teacher.val() + model.student.val()).square().mean(), 0.1).unwrap();
                for model in [learner.model().clone(), learner.averaged()] {
                    let dict = StateDict::of(&model);
                    assert_eq!(bits(dict.get(frozen).unwrap()), bits(&start().into()), "{teacher_first}");
                    assert_ne!(bits(dict.get(trained).unwrap()), bits(&start().into()), "{teacher_first}");
                }
            }
            let saved = state(&learner);
            learner.load("model", &saved).unwrap();
            assert_eq!(state(&learner), saved);
            // Loaded where nobody has told them apart.
            let fresh: Param<Tensor<2>> = param(start());
            let fresh = Taught { teacher: fresh.clone().set_require_grad(false), student: fresh };
            let dict = saved.get("model").unwrap();
            assert_eq!(&StateDict::of(&dict.apply(fresh).unwrap()), dict);
        }
    }
}
