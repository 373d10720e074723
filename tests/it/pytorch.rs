//! The blocks against values that PyTorch computed: outputs, gradients, and three training steps, tensor by tensor, on
//! every backend of the build that is a CPU's.

use std::path::Path;

use burn::module::{Module, Param};
use burn::nn::loss::CrossEntropyLossConfig;
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::activation::log_sigmoid;
use burn::tensor::{Device, Int, Tensor};
use firebox::models::Forward;
use firebox::models::gan::{DcganConfig, DiscriminatorConfig, GeneratorConfig};
use firebox::models::layers::{
    AttentionBlockConfig, AttentionMask, AvgPoolingConfig, Cell, ConvBlockConfig, GruBlockConfig,
    LinearBlockConfig, LstmBlock, LstmBlockConfig, LstmState, MaxPoolingConfig, MultiHeadAttentionConfig,
    Nonlinearity, RecurrentState, RnnBlockConfig, sequence_mask,
};
use firebox::models::text::{LanguageModelConfig, Seq2SeqConfig, SequenceClassifierConfig};
use firebox::models::vision::CnnConfig;
use firebox::train::optimizer::{AdamConfig, AdamWConfig, RmsPropConfig, SgdConfig};
use firebox::weights::paths::{self, PathVisitor};
use firebox::weights::{RawTensor, StateDict};

/// What PyTorch computed, read for one backend.
struct Fixture {
    name: &'static str,
    tensors: StateDict,
    device: Device,
}

impl Fixture {
    /// The file, once for each backend.
    fn each(name: &'static str, test: impl Fn(&Fixture)) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let tensors = StateDict::read(folder.join(format!("{name}.safetensors"))).unwrap();
        for device in devices() {
            test(&Fixture { name, tensors: tensors.clone(), device });
        }
    }

    fn get(&self, key: &str) -> &RawTensor {
        self.tensors.get(key).unwrap_or_else(|| panic!("{} has no {key}", self.name))
    }

    /// The input `name`, on the device that outputs are wanted on.
    fn float<const D: usize>(&self, name: &str, device: &Device) -> Tensor<D> {
        Tensor::from_data(self.get(&format!("in.{name}")), device)
    }

    fn int<const D: usize>(&self, name: &str, device: &Device) -> Tensor<D, Int> {
        Tensor::from_data(self.get(&format!("in.{name}")), device)
    }

    fn lengths(&self, device: &Device) -> Option<Tensor<1, Int>> {
        self.tensors.get("in.lengths").is_some().then(|| self.int("lengths", device))
    }

    /// The tensors under a prefix, without it.
    fn part(&self, prefix: &str) -> StateDict {
        let mut part = StateDict::default();
        for (key, data) in self.tensors.iter() {
            if let Some(key) = key.strip_prefix(prefix) {
                part.insert(key, data.clone());
            }
        }
        part
    }
}

fn devices() -> Vec<Device> {
    vec![
        Device::flex(),
        #[cfg(feature = "ndarray")]
        #[allow(deprecated, reason = "upstream prefers flex; users name ndarray all the same")]
        Device::ndarray(),
    ]
}

/// What a block gave, by name, and the sum of the means of its squares.
#[derive(Default)]
struct Outputs {
    tensors: StateDict,
    square: Option<Tensor<1>>,
}

impl Outputs {
    fn with<const D: usize>(mut self, name: &str, output: Tensor<D>) -> Self {
        self.tensors.insert(name, output.to_data());
        let square = output.square().mean();
        self.square = Some(match self.square {
            Some(sum) => sum + square,
            None => square,
        });
        self
    }

    /// The loss that most fixtures were made with.
    fn square(self) -> (StateDict, Tensor<1>) {
        let square = self.square.unwrap();
        (self.tensors, square)
    }

    fn loss(self, loss: Tensor<1>) -> (StateDict, Tensor<1>) {
        (self.tensors, loss)
    }
}

fn cross_entropy(logits: Tensor<2>, target: Tensor<1, Int>) -> Tensor<1> {
    CrossEntropyLossConfig::new().init(&logits.device()).forward(logits, target)
}

fn assert_close(what: &str, got: &RawTensor, expected: &RawTensor, tolerance: f32) {
    assert_within(what, got, expected, tolerance, 1e-7);
}

fn assert_within(what: &str, got: &RawTensor, expected: &RawTensor, tolerance: f32, slack: f32) {
    assert_eq!(got.shape(), expected.shape(), "{what}");
    let (got, expected) = (got.to_vec::<f32>().unwrap(), expected.to_vec::<f32>().unwrap());
    let largest = expected.iter().fold(0f32, |max, x| max.max(x.abs()));
    let limit = tolerance * largest + slack;
    let worst = std::iter::zip(&got, &expected).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
    assert!(
        worst <= limit && got.iter().all(|x| x.is_finite()),
        "{what}: differs by {worst}, allowed {limit}"
    );
}

/// A gradient for each parameter, by path.
struct Gradients<'g> {
    of: &'g GradientsParams,
    found: StateDict,
}

impl PathVisitor for Gradients<'_> {
    fn visit_float<const D: usize>(&mut self, path: &str, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.of.get::<D>(param.id) {
            self.found.insert(path, gradient.into_data());
        }
    }
}

/// What may differ from the fixture.
#[derive(Clone, Default)]
struct Exempt {
    /// Parameters whose gradient is zero by algebra: only rounding is left of it, which Adam and its like blow up to
    /// full steps.
    zero: &'static [&'static str],
    /// Buffers that take part in such a step.
    moved: &'static [&'static str],
    /// A parameter with an absolute difference that it may have after the steps.
    slack: Option<(&'static str, f32)>,
}

/// Trains as the fixture's script did and compares what it recorded. `run` gives the outputs for inputs on a device, and
/// the loss.
fn check<M: Module>(
    fixture: &Fixture,
    make: impl Fn(&Device) -> M,
    mut optimizer: ModuleOptimizer,
    lr: f64,
    exempt: &Exempt,
    run: impl Fn(&M, &Device) -> (StateDict, Tensor<1>),
) {
    let (name, device) = (fixture.name, fixture.device.clone().autodiff());
    let mut model = fixture.part("state.").apply(make(&device)).unwrap();
    let mut losses = Vec::new();
    for step in 0..3 {
        let (outputs, loss) = run(&model, &device);
        losses.push(loss.clone().into_scalar::<f32>());
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        if step == 0 {
            assert_eq!(outputs.iter().count(), fixture.part("out.").iter().count(), "{name}");
            for (key, data) in outputs.iter() {
                assert_close(&format!("{name} out.{key}"), data, fixture.get(&format!("out.{key}")), 1e-5);
            }
            let mut visit = Gradients { of: &gradients, found: StateDict::default() };
            paths::visit(&model, &mut visit);
            let expected = fixture.part("grad.");
            assert!(visit.found.iter().map(|(key, _)| key).eq(expected.iter().map(|(key, _)| key)), "{name}");
            for (key, data) in visit.found.iter() {
                assert_close(&format!("{name} grad.{key}"), data, expected.get(key).unwrap(), 1e-4);
            }
        }
        model = optimizer.step(lr, model, gradients);
    }
    assert_close(&format!("{name} loss"), &RawTensor::new(&losses, [3]).unwrap(), fixture.get("loss"), 1e-4);
    let (after, expected) = (StateDict::of(&model), fixture.part("after."));
    assert!(after.iter().map(|(key, _)| key).eq(expected.iter().map(|(key, _)| key)), "{name}");
    for (key, data) in after.iter() {
        if key.ends_with("num_batches_tracked") {
            assert_eq!(Some(data), expected.get(key), "{name} after.{key}");
        } else if !exempt.zero.contains(&key) && !exempt.moved.contains(&key) {
            let expected = expected.get(key).unwrap();
            let slack = exempt.slack.filter(|(slack, _)| *slack == key).map_or(0.0, |(_, slack)| slack);
            assert_within(&format!("{name} after.{key}"), data, expected, 1e-4, 1e-7 + slack);
        }
    }
    let model = expected.apply(model).unwrap().valid();
    let (outputs, _) = run(&model, &fixture.device);
    for (key, data) in outputs.iter() {
        assert_close(&format!("{name} eval.{key}"), data, fixture.get(&format!("eval.{key}")), 1e-5);
    }
}

/// As [`check`], with the optimiser and loss of `make_more_fixtures.py`.
fn check_sgd<M: Module>(
    fixture: &Fixture,
    make: impl Fn(&Device) -> M,
    run: impl Fn(&M, &Device) -> (StateDict, Tensor<1>),
) {
    check(fixture, make, SgdConfig::new().init().unwrap(), 0.1, &Exempt::default(), run);
}

#[test]
fn conv_block_is_pytorchs() {
    Fixture::each("conv_block", |fixture| {
        let make = |d: &Device| ConvBlockConfig::new(3, 8, 3).with_stride(2).with_padding(1).init(d).unwrap();
        let sgd = SgdConfig::new().with_momentum(0.9).init().unwrap();
        check(fixture, make, sgd, 0.1, &Exempt::default(), |block, device| {
            Outputs::default().with("y", block.forward(fixture.float("x", device))).square()
        });
    });
}

#[test]
fn linear_block_is_pytorchs() {
    Fixture::each("linear_block", |fixture| {
        let make = |d: &Device| LinearBlockConfig::new(6, 5).init(d).unwrap();
        check_sgd(fixture, make, |block, device| {
            Outputs::default().with("y", block.forward(fixture.float::<2>("x", device))).square()
        });
    });
}

#[test]
fn poolings_are_pytorchs() {
    Fixture::each("pooling", |fixture| {
        let device = fixture.device.clone().autodiff();
        let pools: [(&str, &dyn Fn(Tensor<4>) -> Tensor<4>); 4] = [
            ("avg2", &|x| AvgPoolingConfig::new(2).init().unwrap().forward(x)),
            ("avg3_2", &|x| AvgPoolingConfig::new(3).with_stride(Some(2)).init().unwrap().forward(x)),
            ("max2", &|x| MaxPoolingConfig::new(2).init().unwrap().forward(x)),
            ("max3_2", &|x| MaxPoolingConfig::new(3).with_stride(Some(2)).init().unwrap().forward(x)),
        ];
        for (name, pool) in pools {
            let x = fixture.float::<4>("x", &device).require_grad();
            let y = pool(x.clone());
            assert_close(name, &y.to_data().into(), fixture.get(&format!("out.{name}")), 1e-5);
            let gradient = x.grad(&y.square().mean().backward()).unwrap();
            assert_close(name, &gradient.into_data().into(), fixture.get(&format!("grad.{name}")), 1e-4);
        }
    });
}

#[test]
fn cnn_is_pytorchs() {
    // Adam divides by the gradient's size: where that is near rounding, so is the direction of a step of 1e-3. In the
    // largest tensor four per cent of one step are allowed for it, by which PyTorch's two memory layouts differ there.
    // A convolution's bias shifts the mean that the normalisation behind it takes away again.
    let exempt = Exempt {
        zero: &["conv1.conv.bias", "conv2.conv.bias"],
        moved: &["conv1.bn.running_mean", "conv2.bn.running_mean"],
        slack: Some(("fc1.linear.weight", 0.04 * 1e-3)),
    };
    Fixture::each("cnn", |fixture| {
        let make = |d: &Device| CnnConfig::new(10).init(d).unwrap();
        check(fixture, make, AdamConfig::new().init().unwrap(), 1e-3, &exempt, |cnn, device| {
            let logits = cnn.forward(fixture.float("x", device));
            let loss = cross_entropy(logits.clone(), fixture.int("target", device));
            Outputs::default().with("logits", logits).loss(loss)
        });
    });
}

fn rms_prop() -> ModuleOptimizer {
    RmsPropConfig::new().init().unwrap()
}

#[test]
fn rnn_block_is_pytorchs() {
    for (name, layers) in [("rnn_1layer", 1), ("rnn_2layer", 2)] {
        Fixture::each(name, |fixture| {
            let make = |d: &Device| RnnBlockConfig::new(5, 7).with_num_layers(layers).init(d).unwrap();
            check(fixture, make, rms_prop(), 1e-2, &Exempt::default(), |block, device| {
                let (x, h) = (fixture.float("x", device), fixture.float("h0", device));
                let (y, h) = block.forward(x, None, Some(h));
                Outputs::default().with("y", y).with("h", h).square()
            });
        });
    }
    for (name, nonlinearity, bidirectional) in [
        ("rnn_2layer_relu", Nonlinearity::Relu, false),
        ("rnn_2layer_bi", Nonlinearity::Tanh, true),
        ("rnn_2layer_bi_lengths", Nonlinearity::Tanh, true),
    ] {
        Fixture::each(name, |fixture| {
            let config = RnnBlockConfig::new(5, 6).with_num_layers(2).with_bidirectional(bidirectional);
            let make = |d: &Device| config.clone().with_nonlinearity(nonlinearity).init(d).unwrap();
            check_sgd(fixture, make, |block, device| {
                let (x, h) = (fixture.float("x", device), fixture.float("h0", device));
                let (y, h) = block.forward(x, fixture.lengths(device), Some(h));
                Outputs::default().with("y", y).with("h", h).square()
            });
        });
    }
}

#[test]
fn gru_block_is_pytorchs() {
    Fixture::each("gru_2layer", |fixture| {
        let make = |d: &Device| GruBlockConfig::new(5, 7).with_num_layers(2).init(d).unwrap();
        check(fixture, make, rms_prop(), 1e-2, &Exempt::default(), |block, device| {
            let (y, h) = block.forward(fixture.float("x", device), None, Some(fixture.float("h0", device)));
            Outputs::default().with("y", y).with("h", h).square()
        });
    });
    for (name, layers, bidirectional) in
        [("gru_1layer", 1, false), ("gru_2layer_bi", 2, true), ("gru_2layer_bi_lengths", 2, true)]
    {
        Fixture::each(name, |fixture| {
            let config = GruBlockConfig::new(5, 6).with_num_layers(layers).with_bidirectional(bidirectional);
            check_sgd(
                fixture,
                |d| config.init(d).unwrap(),
                |block, device| {
                    let (x, h) = (fixture.float("x", device), fixture.float("h0", device));
                    let (y, h) = block.forward(x, fixture.lengths(device), Some(h));
                    Outputs::default().with("y", y).with("h", h).square()
                },
            );
        });
    }
}

fn run_lstm(fixture: &Fixture, block: &LstmBlock, device: &Device) -> (StateDict, Tensor<1>) {
    let state = LstmState { hidden: fixture.float("h0", device), cell: fixture.float("c0", device) };
    let (y, state) = block.forward(fixture.float("x", device), fixture.lengths(device), Some(state));
    Outputs::default().with("y", y).with("h", state.hidden).with("c", state.cell).square()
}

#[test]
fn lstm_block_is_pytorchs() {
    for (name, layers, bidirectional) in
        [("lstm_1layer", 1, false), ("lstm_2layer", 2, false), ("lstm_2layer_bi", 2, true)]
    {
        Fixture::each(name, |fixture| {
            let config = LstmBlockConfig::new(5, 7).with_num_layers(layers).with_bidirectional(bidirectional);
            check(
                fixture,
                |d| config.init(d).unwrap(),
                rms_prop(),
                1e-2,
                &Exempt::default(),
                |block, device| run_lstm(fixture, block, device),
            );
        });
    }
    for (name, bidirectional) in [("lstm_2layer_lengths", false), ("lstm_2layer_bi_lengths", true)] {
        Fixture::each(name, |fixture| {
            let config = LstmBlockConfig::new(5, 6).with_num_layers(2).with_bidirectional(bidirectional);
            check_sgd(fixture, |d| config.init(d).unwrap(), |block, device| run_lstm(fixture, block, device));
        });
    }
}

#[test]
fn attention_block_is_pytorchs() {
    // V's bias moves all scores alike, which softmax doesn't see.
    let exempt = Exempt { zero: &["V.bias"], ..Exempt::default() };
    Fixture::each("attention_block", |fixture| {
        let make = |d: &Device| AttentionBlockConfig::new(16).init(d).unwrap();
        check(fixture, make, AdamWConfig::new().init().unwrap(), 1e-2, &exempt, |block, device| {
            let (encoder, decoder) =
                (fixture.float("encoder_outputs", device), fixture.float("decoder_hidden", device));
            let (context, weights) = block.forward(encoder, decoder, None);
            Outputs::default().with("context", context).with("weights", weights).square()
        });
    });
    Fixture::each("attention_block_mask", |fixture| {
        let make = |d: &Device| AttentionBlockConfig::new(8).init(d).unwrap();
        check_sgd(fixture, make, |block, device| {
            let (encoder, decoder) =
                (fixture.float("encoder_outputs", device), fixture.float("decoder_hidden", device));
            let mask = sequence_mask(fixture.int("lengths", device), 9);
            let (context, weights) = block.forward(encoder, decoder, Some(mask));
            Outputs::default().with("context", context).with("weights", weights).square()
        });
    });
}

#[test]
fn multi_head_attention_is_pytorchs() {
    for name in ["multi_head_attention", "multi_head_attention_mask", "multi_head_attention_causal"] {
        Fixture::each(name, |fixture| {
            let make = |d: &Device| MultiHeadAttentionConfig::new(12, 3).init(d).unwrap();
            check_sgd(fixture, make, |block, device| {
                let [q, k, v] = ["q", "k", "v"].map(|name| fixture.float::<3>(name, device));
                let mask = match name {
                    "multi_head_attention_mask" => AttentionMask {
                        keys: Some(sequence_mask(fixture.int("lengths", device), 9)),
                        ..AttentionMask::default()
                    },
                    "multi_head_attention_causal" => AttentionMask::causal(9, device),
                    _ => AttentionMask::default(),
                };
                let (y, weights) = block.forward(q, k, v, mask);
                Outputs::default().with("y", y).with("weights", weights).square()
            });
        });
    }
}

#[test]
fn generators_are_pytorchs() {
    Fixture::each("generator", |fixture| {
        let make = |d: &Device| GeneratorConfig::new(16, 36).init(d).unwrap();
        let adam = AdamConfig::new().with_betas([0.5, 0.999]).init().unwrap();
        check(fixture, make, adam, 2e-4, &Exempt::default(), |model, device| {
            Outputs::default().with("y", model.forward(fixture.float("z", device))).square()
        });
    });
    Fixture::each("dcgan_generator", |fixture| {
        let config = DcganConfig::new().with_latent(5).with_channels(2).with_size(8).with_features(4);
        check_sgd(
            fixture,
            |d| config.init_generator(d).unwrap(),
            |model, device| Outputs::default().with("y", model.forward(fixture.float("z", device))).square(),
        );
    });
}

#[test]
fn discriminators_are_pytorchs() {
    Fixture::each("discriminator", |fixture| {
        let make = |d: &Device| DiscriminatorConfig::new(36).init(d).unwrap();
        let adam = AdamConfig::new().with_betas([0.5, 0.999]).init().unwrap();
        check(fixture, make, adam, 2e-4, &Exempt::default(), |model, device| {
            let x = fixture.float::<2>("x", device);
            let loss = log_sigmoid(model.logits(x.clone())).mean().neg();
            Outputs::default().with("p", model.forward(x)).loss(loss)
        });
    });
    Fixture::each("dcgan_discriminator", |fixture| {
        let config = DcganConfig::new().with_channels(2).with_size(8).with_features(4);
        check_sgd(
            fixture,
            |d| config.init_discriminator(d).unwrap(),
            |model, device| {
                let logits = model.logits(fixture.float("x", device));
                let loss = log_sigmoid(logits.clone()).mean().neg();
                Outputs::default().with("logits", logits).loss(loss)
            },
        );
    });
}

#[test]
fn sequence_classifier_is_pytorchs() {
    Fixture::each("sequence_classifier", |fixture| {
        let config = SequenceClassifierConfig::new(3, 11, 5, 6).with_cell(Cell::Gru).with_num_layers(2);
        check_sgd(
            fixture,
            |d| config.init(d).unwrap(),
            |model, device| {
                let logits = model.forward((fixture.int("tokens", device), fixture.int("lengths", device)));
                let loss = cross_entropy(logits.clone(), fixture.int("target", device));
                Outputs::default().with("logits", logits).loss(loss)
            },
        );
    });
}

#[test]
fn language_model_is_pytorchs() {
    Fixture::each("language_model", |fixture| {
        let config = LanguageModelConfig::new(11, 5, 6).with_num_layers(2);
        check_sgd(
            fixture,
            |d| config.init(d).unwrap(),
            |model, device| {
                let text = fixture.int::<2>("text", device);
                let state = RecurrentState {
                    hidden: fixture.float("h0", device),
                    cell: Some(fixture.float("c0", device)),
                };
                let (logits, state) = model.forward(text.clone().narrow(1, 0, 7), Some(state));
                let loss = cross_entropy(logits.clone().flatten(0, 1), text.narrow(1, 1, 7).flatten(0, 1));
                let outputs = Outputs::default().with("logits", logits).with("h", state.hidden);
                outputs.with("c", state.cell.unwrap()).loss(loss)
            },
        );
    });
}

#[test]
fn seq2seq_is_pytorchs() {
    for (name, layers, bidirectional, forcing) in [("seq2seq", 2, true, 1.0), ("seq2seq_free", 1, false, 0.0)]
    {
        Fixture::each(name, |fixture| {
            let config =
                Seq2SeqConfig::new(11, 9, 5, 8).with_num_layers(layers).with_bidirectional(bidirectional);
            let sgd = SgdConfig::new().init().unwrap();
            check(
                fixture,
                |d| config.init(d).unwrap(),
                sgd,
                0.1,
                &Exempt::default(),
                |model, device| {
                    let (tokens, target) =
                        (fixture.int("tokens", device), fixture.int::<2>("target", device));
                    let logits =
                        model.forward((tokens, fixture.int("lengths", device)), target.clone(), forcing);
                    let places = target.narrow(1, 1, 5).flatten(0, 1);
                    let loss =
                        CrossEntropyLossConfig::new().with_pad_tokens(Some(vec![0])).init(&places.device());
                    let loss = loss.forward(logits.clone().flatten(0, 1), places);
                    Outputs::default().with("logits", logits).loss(loss)
                },
            );
        });
    }
}

#[test]
fn dropout_lies_between_layers_and_has_pytorchs_spread() {
    Fixture::each("lstm_dropout", |fixture| {
        let device = fixture.device.clone().autodiff();
        let config = LstmBlockConfig::new(4, 6).with_num_layers(3).with_dropout(0.5);
        let block = fixture.part("state.").apply(config.init(&device).unwrap()).unwrap();
        let (y, _) = block.valid().forward(fixture.float("x", &fixture.device), None, None);
        assert_close("lstm_dropout eval.y", &y.into_data().into(), fixture.get("eval.y"), 1e-5);
        device.seed(1);
        // Each row is a draw of its own, so that many rows are many draws.
        let draws = 4000;
        let x = fixture.float::<3>("x", &device).unsqueeze::<4>().repeat_dim(0, draws).flatten::<3>(0, 1);
        let (y, _) = block.forward(x, None, None);
        let y = y.without_autodiff().reshape([draws as i32, -1]);
        let [mean, std] = ["mean.y", "std.y"].map(|key| fixture.get(key).to_vec::<f32>().unwrap());
        let got_mean = y.clone().mean_dim(0).into_data().try_to_vec::<f32>().unwrap();
        let got_std = y.var(0).sqrt().into_data().try_to_vec::<f32>().unwrap();
        for place in 0..mean.len() {
            // Both sides are estimates: five standard errors of the means' difference; those of a standard deviation are
            // smaller.
            let error = 5.0 * (2.0f32 / draws as f32).sqrt() * std[place];
            assert!((got_mean[place] - mean[place]).abs() <= error + 1e-6, "mean at {place}");
            assert!((got_std[place] - std[place]).abs() <= error + 1e-6, "standard deviation at {place}");
        }
    });
}
