//! The blocks against values that PyTorch computed: outputs, gradients, and three training steps.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::momentum::MomentumConfig;
use burn::optim::{AdamConfig, GradientsParams, ModuleOptimizer, SgdConfig};
use burn::tensor::{Device, Int, Tensor, TensorData};
use firebox_models::{CnnConfig, ConvBlockConfig, Forward, StateDict};

fn fixture(name: &str) -> StateDict {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures");
    StateDict::read(folder.join(format!("{name}.safetensors"))).unwrap()
}

/// The tensors under a prefix, in Burn's layout: PyTorch keeps the weights of a linear map transposed.
fn part(fixture: &StateDict, prefix: &str) -> StateDict {
    let mut part = StateDict::default();
    for (key, data) in fixture.iter() {
        match key.strip_prefix(prefix) {
            Some(key) if key.starts_with("fc") && key.ends_with("weight") => {
                let weight = Tensor::<2>::from_data(data.clone(), &Device::default());
                part.insert(key, weight.transpose().into_data());
            }
            Some(key) => part.insert(key, data.clone()),
            None => {}
        }
    }
    part
}

fn tensor<const D: usize>(fixture: &StateDict, key: &str, device: &Device) -> Tensor<D> {
    Tensor::from_data(fixture.get(key).unwrap().clone(), device)
}

fn assert_close(what: &str, got: &TensorData, expected: &TensorData, tolerance: f32) {
    assert_within(what, got, expected, tolerance, 1e-7);
}

fn assert_within(what: &str, got: &TensorData, expected: &TensorData, tolerance: f32, slack: f32) {
    assert_eq!(got.shape(), expected.shape(), "{what}");
    let (got, expected) = (got.try_to_vec::<f32>().unwrap(), expected.try_to_vec::<f32>().unwrap());
    let largest = expected.iter().fold(0f32, |max, x| max.max(x.abs()));
    let limit = tolerance * largest + slack;
    let worst = std::iter::zip(&got, &expected).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
    assert!(worst <= limit, "{what}: differs by {worst}, allowed {limit}");
}

/// A gradient for each parameter, by path.
struct Gradients<'g> {
    of: &'g GradientsParams,
    path: Vec<String>,
    found: StateDict,
}

impl ModuleVisitor for Gradients<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.of.get::<D>(param.id) {
            self.found.insert(self.path.join("."), gradient.into_data());
        }
    }
}

/// What may differ from the fixture after the training steps.
#[derive(Default)]
struct Exempt {
    /// Parameters whose gradient is zero by algebra: only rounding is left of it, which Adam blows up to full
    /// steps.
    zero: &'static [&'static str],
    /// Buffers that take part in such a step.
    moved: &'static [&'static str],
    /// An absolute difference that parameters may have.
    slack: f32,
}

/// Trains as the fixture's script did and compares what it recorded.
fn check<M: Module>(
    name: &str,
    fixture: &StateDict,
    mut model: M,
    mut optimizer: ModuleOptimizer,
    lr: f64,
    exempt: Exempt,
    loss: impl Fn(&M) -> (StateDict, Tensor<1>),
) -> M {
    model = part(fixture, "state.").apply(model).unwrap();
    let mut losses = Vec::new();
    for step in 0..3 {
        let (outputs, loss) = loss(&model);
        losses.push(loss.clone().into_scalar::<f32>());
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        if step == 0 {
            for (key, data) in outputs.iter() {
                assert_close(
                    &format!("{name} out.{key}"),
                    data,
                    fixture.get(&format!("out.{key}")).unwrap(),
                    1e-5,
                );
            }
            let mut visit = Gradients { of: &gradients, path: Vec::new(), found: StateDict::default() };
            model.visit(&mut visit);
            let expected = part(fixture, "grad.");
            assert_eq!(visit.found.iter().count(), expected.iter().count());
            for (key, data) in visit.found.iter() {
                if !exempt.zero.contains(&key) {
                    assert_close(&format!("{name} grad.{key}"), data, expected.get(key).unwrap(), 1e-4);
                }
            }
        }
        model = optimizer.step(lr, model, gradients);
    }
    let expected = fixture.get("loss").unwrap();
    assert_close(&format!("{name} loss"), &TensorData::new(losses, [3]), expected, 1e-4);
    let (after, expected) = (StateDict::of(&model), part(fixture, "after."));
    assert_eq!(after.iter().count(), expected.iter().count());
    for (key, data) in after.iter() {
        if !exempt.zero.contains(&key) && !exempt.moved.contains(&key) {
            let expected = expected.get(key).unwrap();
            match data.dtype().is_float() {
                true => {
                    assert_within(&format!("{name} after.{key}"), data, expected, 1e-4, 1e-7 + exempt.slack)
                }
                false => assert_eq!(data, expected, "{name} after.{key}"),
            }
        }
    }
    expected.apply(model).unwrap().valid()
}

#[test]
fn conv_block_is_pytorchs() {
    let fixture = fixture("conv_block");
    let device = Device::default().autodiff();
    let block = ConvBlockConfig::new(3, 8, 3).with_stride(2).with_padding(1).init(&device).unwrap();
    let momentum = MomentumConfig::new().with_momentum(0.9).with_dampening(0.0);
    let sgd = SgdConfig::new().with_momentum(Some(momentum)).init();
    let x = tensor::<4>(&fixture, "in.x", &device);
    let exempt = Exempt { zero: &["conv.bias"], ..Exempt::default() };
    let block = check("conv_block", &fixture, block, sgd, 0.1, exempt, |block| {
        let y = block.forward(x.clone());
        let mut outputs = StateDict::default();
        outputs.insert("y", y.to_data());
        (outputs, y.square().mean())
    });
    let y = block.forward(x.without_autodiff());
    assert_close("conv_block eval.y", &y.into_data(), fixture.get("eval.y").unwrap(), 1e-5);
}

#[test]
fn cnn_is_pytorchs() {
    let fixture = fixture("cnn");
    let device = Device::default().autodiff();
    let cnn = CnnConfig::new(10).init(&device).unwrap();
    let adam = AdamConfig::new().with_epsilon(1e-8).init();
    let x = tensor::<4>(&fixture, "in.x", &device);
    let target = Tensor::<1, Int>::from_data(fixture.get("in.target").unwrap().clone(), &device);
    // Adam divides by the gradient's size: where that is near rounding, so is the direction of a step of
    // 1e-3. Two per cent of one step are allowed for it.
    // A convolution's bias shifts the mean that the normalisation behind it takes away again.
    let exempt = Exempt {
        zero: &["conv1.conv.bias", "conv2.conv.bias"],
        moved: &["conv1.bn.running_mean", "conv2.bn.running_mean"],
        slack: 0.02 * 1e-3,
    };
    let cnn = check("cnn", &fixture, cnn, adam, 1e-3, exempt, |cnn| {
        let logits = cnn.forward(x.clone());
        let mut outputs = StateDict::default();
        outputs.insert("logits", logits.to_data());
        let loss = burn::nn::loss::CrossEntropyLossConfig::new().init(&device);
        (outputs, loss.forward(logits, target.clone()))
    });
    let logits = cnn.forward(x.without_autodiff());
    assert_close("cnn eval.logits", &logits.into_data(), fixture.get("eval.logits").unwrap(), 1e-5);
}
