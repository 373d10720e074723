//! The gradients of every block against central differences, in f64.

use std::collections::BTreeMap;
use std::fmt::Debug;

use burn::module::{Module, ModuleMapper, Param};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use firebox_models::gan::{DcganConfig, DiscriminatorConfig, GeneratorConfig};
use firebox_models::layers::{
    AttentionBlockConfig, AttentionMask, AvgPoolingConfig, BatchNorm2dConfig, Cell, ConvBlockConfig,
    EmbeddingConfig, GruBlockConfig, LinearBlockConfig, LinearConfig, LstmBlockConfig, LstmState,
    MaxPoolingConfig, MultiHeadAttentionConfig, Nonlinearity, RecurrentState, RnnBlockConfig, sequence_mask,
};
use firebox_models::text::{LanguageModelConfig, Seq2SeqConfig, SequenceClassifierConfig};
use firebox_models::vision::CnnConfig;
use firebox_models::{Error, Forward, init};
use firebox_weights::paths::{self, PathVisitor};
use firebox_weights::{RawTensor, StateDict};

use crate::common::alone;

/// The step of the differences. They are off by step²/6 times the third derivative, about 1e-11, and by the
/// rounding of the loss divided by the step, about as much. A kink, such as relu's at zero, is seldom so
/// near.
const STEP: f64 = 1e-5;
/// Relative to the largest entry of the gradient's tensor, or to the norm for a direction.
const TOLERANCE: f64 = 1e-6;
/// Relative to the loss: what is left of a gradient that is zero, such as that of a bias before a
/// normalisation.
const SLACK: f64 = 1e-9;
/// Entries of each tensor that are looked at, besides a direction.
const ENTRIES: usize = 4;

/// Numbers within ±1 that follow from the seed (SplitMix64).
struct Draws(u64);

impl Draws {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    fn values(&mut self, count: usize) -> Vec<f64> {
        (0..count).map(|_| self.bits() as f64 / 2f64.powi(63) - 1.0).collect()
    }

    fn tensor<const D: usize>(&mut self, shape: [usize; D], device: &Device) -> Tensor<D> {
        let data = TensorData::new(self.values(shape.iter().product()), shape);
        Tensor::from_data(data, (device, DType::F64))
    }
}

fn float<const D: usize>(seed: u64, shape: [usize; D]) -> Tensor<D> {
    Draws(seed).tensor(shape, &device())
}

fn ints<const D: usize>(values: &[i64], shape: [usize; D]) -> Tensor<D, Int> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), &device())
}

fn device() -> Device {
    Device::flex().autodiff()
}

/// Casts parameters and buffers to f64.
struct Double;

impl ModuleMapper for Double {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (id, value, mapper) = param.consume();
        let trained = value.is_require_grad();
        let value = value.cast(DType::F64).detach().set_require_grad(trained);
        Param::from_mapped_value(id, value, mapper)
    }
}

/// The gradient of each trained parameter, by path.
struct Gradients<'g> {
    of: &'g GradientsParams,
    found: BTreeMap<String, Vec<f64>>,
}

impl PathVisitor for Gradients<'_> {
    fn visit_float<const D: usize>(&mut self, key: &str, param: &Param<Tensor<D>>) {
        assert_eq!(param.val().dtype(), DType::F64, "{key}");
        if param.val().is_require_grad() {
            let gradient = self.of.get::<D>(param.id).unwrap_or_else(|| panic!("no gradient for {key}"));
            self.found.insert(key.to_owned(), doubles(&gradient.into_data()));
        }
    }
}

/// The values of a tensor that must not have lost digits on its way.
fn doubles(data: &TensorData) -> Vec<f64> {
    assert_eq!(data.dtype(), DType::F64);
    data.try_to_vec::<f64>().unwrap()
}

/// What a block gave, weighted by fixed numbers of either sign and summed: no block's gradient vanishes by
/// it.
#[derive(Default)]
struct Loss(Option<Tensor<1>>);

impl Loss {
    fn of<const D: usize>(output: Tensor<D>) -> Tensor<1> {
        Self::default().with(output).sum()
    }

    fn with<const D: usize>(self, output: Tensor<D>) -> Self {
        assert_eq!(output.dtype(), DType::F64, "an output of another type");
        let weights =
            Draws(output.dims().iter().sum::<usize>() as u64).tensor(output.dims(), &output.device());
        let part = (output * weights).sum();
        Loss(Some(match self.0 {
            Some(sum) => sum + part,
            None => part,
        }))
    }

    fn sum(self) -> Tensor<1> {
        self.0.unwrap()
    }
}

/// Compares the gradients of `run`, for the block's parameters and for the inputs, with differences.
fn check<M: Module + Debug + Send, const D: usize>(
    name: &str,
    make: impl FnOnce(&Device) -> Result<M, Error>,
    inputs: Vec<Tensor<D>>,
    run: impl Fn(&M, &[Tensor<D>]) -> Tensor<1>,
) {
    // Some of the losses draw.
    let _alone = alone();
    let block = init(7, &device(), make).unwrap();
    // The inputs are looked at as if they were parameters.
    let inputs: Vec<_> = inputs.into_iter().map(Param::from_tensor).collect();
    let both = (block, inputs).map(&mut Double);
    let loss = |(block, inputs): &(M, Vec<Param<Tensor<D>>>)| {
        // Each time from the same running statistics.
        run(&block.clone(), &inputs.iter().map(Param::val).collect::<Vec<_>>())
    };
    let value = loss(&both);
    let size = 1.0 + doubles(&value.to_data())[0].abs();
    let gradients = GradientsParams::from_grads(value.backward(), &both);
    let mut visit = Gradients { of: &gradients, found: BTreeMap::new() };
    paths::visit(&both, &mut visit);
    assert!(!visit.found.is_empty(), "{name}: nothing to look at");
    let dict = StateDict::of(&both);
    let mut draws = Draws(3);
    for (key, gradient) in visit.found {
        let data = dict.get(&key).unwrap();
        let values = data.to_vec::<f64>().unwrap();
        // How the loss changes along a direction.
        let slope = |direction: &[f64]| {
            let at = |step: f64| {
                let moved: Vec<_> = std::iter::zip(&values, direction).map(|(x, d)| x + step * d).collect();
                let mut dict = dict.clone();
                dict.insert(key.as_str(), RawTensor::new(&moved, data.shape()).unwrap());
                doubles(&loss(&dict.apply(both.clone()).unwrap()).into_data())[0]
            };
            (at(STEP) - at(-STEP)) / (2.0 * STEP)
        };
        let compare = |what: &str, expected: f64, got: f64, scale: f64| {
            let allowed = TOLERANCE * scale + SLACK * size;
            let apart = (expected - got).abs();
            assert!(
                apart <= allowed,
                "{name} {key} {what}: gradient {got:e}, difference quotient {expected:e}"
            );
        };
        let largest = gradient.iter().fold(0f64, |max, x| max.max(x.abs()));
        for _ in 0..ENTRIES.min(gradient.len()) {
            let entry = draws.bits() as usize % gradient.len();
            let mut unit = vec![0.0; gradient.len()];
            unit[entry] = 1.0;
            compare(&format!("entry {entry}"), slope(&unit), gradient[entry], largest);
        }
        let direction = draws.values(gradient.len());
        let norm = |values: &[f64]| values.iter().map(|x| x * x).sum::<f64>().sqrt();
        let length = norm(&direction);
        let direction: Vec<f64> = direction.into_iter().map(|x| x / length).collect();
        let along = std::iter::zip(&gradient, &direction).map(|(g, d)| g * d).sum();
        compare("in a direction", slope(&direction), along, norm(&gradient));
    }
}

/// A block with one input.
fn check_map<
    M: Module + Debug + Send + Forward<Tensor<D>, Output = Tensor<E>>,
    const D: usize,
    const E: usize,
>(
    name: &str,
    shape: [usize; D],
    make: impl FnOnce(&Device) -> Result<M, Error>,
) {
    check(name, make, vec![float(1, shape)], |block, inputs| Loss::of(block.forward(inputs[0].clone())));
}

/// For models that read tokens only.
const NO_INPUTS: Vec<Tensor<1>> = Vec::new();

#[test]
fn linear_maps_have_the_gradients_of_their_values() {
    check_map("Linear", [2, 3, 5], |d| LinearConfig::new(5, 4).init(d));
    check_map("Linear without bias", [3, 5], |d| LinearConfig::new(5, 4).with_bias(false).init(d));
    check_map("LinearBlock", [6, 5], |d| LinearBlockConfig::new(5, 7).init(d));
    check_map("Generator", [3, 5], |d| GeneratorConfig::new(5, 6).init(d));
    check_map("Discriminator", [3, 6], |d| DiscriminatorConfig::new(6).init(d));
}

#[test]
fn convolutions_normalisation_and_pooling_have_the_gradients_of_their_values() {
    check_map("ConvBlock", [3, 2, 7, 6], |d| {
        ConvBlockConfig::new(2, 4, 3).with_stride(2).with_padding(1).init(d)
    });
    // With its running statistics.
    check_map("a frozen ConvBlock", [3, 2, 5, 6], |d| {
        ConvBlockConfig::new(2, 4, 3).init(d).map(|block| block.freeze())
    });
    check(
        "BatchNorm2d",
        |d| BatchNorm2dConfig::new(3).init(d),
        vec![float(1, [4, 3, 2, 5])],
        |block, x| Loss::of(block.forward(x[0].clone())),
    );
    check_map("MaxPooling", [2, 3, 6, 7], |_| MaxPoolingConfig::new(2).init());
    check_map("overlapping MaxPooling", [2, 3, 8, 7], |_| {
        MaxPoolingConfig::new(3).with_stride(Some(2)).init()
    });
    check_map("AvgPooling", [2, 3, 6, 7], |_| AvgPoolingConfig::new(2).init());
    check_map("overlapping AvgPooling", [2, 3, 8, 7], |_| {
        AvgPoolingConfig::new(3).with_stride(Some(2)).init()
    });
    check_map("Cnn", [3, 1, 8, 9], |d| CnnConfig::new(4).with_channels(1).with_size([8, 9]).init(d));
}

#[test]
fn dcgan_has_the_gradients_of_its_values() {
    let config = DcganConfig::new().with_latent(5).with_channels(2).with_size(8).with_features(3);
    check_map("DcganGenerator", [4, 5], |d| config.init_generator(d));
    check_map("DcganDiscriminator", [4, 2, 8, 8], |d| config.init_discriminator(d));
    check(
        "DcganDiscriminator's logits",
        |d| config.init_discriminator(d),
        vec![float(1, [4, 2, 8, 8])],
        |model, x| Loss::of(model.logits(x[0].clone())),
    );
}

/// Layers, both ways, and lengths of three sequences of up to 5 steps.
const RECURRENT: [(usize, bool, Option<[i64; 3]>); 4] =
    [(1, false, None), (2, false, Some([5, 2, 3])), (2, true, None), (2, true, Some([4, 1, 5]))];

fn sequences(layers: usize, bidirectional: bool) -> Vec<Tensor<3>> {
    let parts = if bidirectional { 2 * layers } else { layers };
    vec![float(1, [3, 5, 4]), float(2, [parts, 3, 6]), float(3, [parts, 3, 6])]
}

fn lengths(lengths: [i64; 3]) -> Tensor<1, Int> {
    ints(&lengths, [3])
}

#[test]
fn recurrent_blocks_have_the_gradients_of_their_values() {
    for (layers, bidirectional, ends) in RECURRENT {
        let mut inputs = sequences(layers, bidirectional);
        let lstm = LstmBlockConfig::new(4, 6).with_num_layers(layers).with_bidirectional(bidirectional);
        let name = |block| format!("{block} {layers} {bidirectional} {ends:?}");
        check(
            &name("LstmBlock"),
            |d| lstm.init(d),
            inputs.clone(),
            |block, inputs| {
                let state = LstmState { hidden: inputs[1].clone(), cell: inputs[2].clone() };
                let (y, state) = block.forward(inputs[0].clone(), ends.map(lengths), Some(state));
                Loss::default().with(y).with(state.hidden).with(state.cell).sum()
            },
        );
        // Begins with zeros.
        check(
            &name("LstmBlock without state"),
            |d| lstm.init(d),
            inputs[..1].to_vec(),
            |block, inputs| {
                let (y, state) = block.forward(inputs[0].clone(), ends.map(lengths), None);
                Loss::default().with(y).with(state.hidden).with(state.cell).sum()
            },
        );
        inputs.pop();
        let gru = GruBlockConfig::new(4, 6).with_num_layers(layers).with_bidirectional(bidirectional);
        check(
            &name("GruBlock"),
            |d| gru.init(d),
            inputs.clone(),
            |block, inputs| {
                let (y, h) = block.forward(inputs[0].clone(), ends.map(lengths), Some(inputs[1].clone()));
                Loss::default().with(y).with(h).sum()
            },
        );
        for nonlinearity in [Nonlinearity::Tanh, Nonlinearity::Relu] {
            let rnn = RnnBlockConfig::new(4, 6).with_num_layers(layers).with_bidirectional(bidirectional);
            let make = |d: &Device| rnn.with_nonlinearity(nonlinearity).init(d);
            check(&name("RnnBlock"), make, inputs.clone(), |block, inputs| {
                let (y, h) = block.forward(inputs[0].clone(), ends.map(lengths), Some(inputs[1].clone()));
                Loss::default().with(y).with(h).sum()
            });
        }
    }
}

#[test]
fn attention_has_the_gradients_of_its_values() {
    // The last row may look nowhere.
    for ends in [None, Some([4, 2, 0])] {
        let inputs = vec![float(1, [3, 4, 6]), float(2, [3, 1, 6])];
        check(
            "AttentionBlock",
            |d| AttentionBlockConfig::new(6).init(d),
            inputs,
            |block, inputs| {
                let mask = ends.map(|ends| sequence_mask(lengths(ends), 4));
                let (context, weights) = block.forward(inputs[0].clone(), inputs[1].clone(), mask);
                Loss::default().with(context).with(weights).sum()
            },
        );
    }
}

#[test]
fn multi_head_attention_has_the_gradients_of_its_values() {
    let keys = || Some(sequence_mask(lengths([4, 2, 0]), 4));
    let causal = || AttentionMask::causal(4, &device());
    for mask in [
        AttentionMask::default(),
        AttentionMask { keys: keys(), pairs: None },
        causal(),
        AttentionMask { keys: keys(), ..causal() },
    ] {
        let inputs = vec![float(1, [3, 4, 6]), float(2, [3, 4, 6]), float(3, [3, 4, 6])];
        let make = |d: &Device| MultiHeadAttentionConfig::new(6, 2).init(d);
        check("MultiHeadAttention", make, inputs, |block, inputs| {
            let [query, key, value] = [0, 1, 2].map(|input| inputs[input].clone());
            let (y, weights) = block.forward(query, key, value, mask.clone());
            Loss::default().with(y).with(weights).sum()
        });
    }
}

#[test]
fn embeddings_have_the_gradients_of_their_values_and_none_for_padding() {
    let tokens = || ints(&[1, 4, 4, 2, 1, 3], [2, 3]);
    for padding in [None, Some(0)] {
        check(
            "Embedding",
            |d| EmbeddingConfig::new(6, 4).with_padding_idx(padding).init(d),
            NO_INPUTS,
            |block, _| Loss::of(block.forward(tokens())),
        );
    }
    let block = init(7, &device(), |d| EmbeddingConfig::new(6, 4).with_padding_idx(Some(4)).init(d)).unwrap();
    let gradients = block.forward(tokens()).sum().backward();
    let gradient = block.weight.val().grad(&gradients).unwrap().into_data().try_to_vec::<f32>().unwrap();
    let rows = [0f32, 2.0, 1.0, 1.0, 0.0, 0.0];
    assert_eq!(gradient, rows.iter().flat_map(|&row| [row; 4]).collect::<Vec<_>>());
}

/// Three sequences of up to 4 tokens of 1 to 6, filled up with 0.
fn tokens() -> Tensor<2, Int> {
    ints(&[3, 1, 6, 2, 5, 4, 0, 0, 1, 2, 3, 0], [3, 4])
}

#[test]
fn models_of_sequences_have_the_gradients_of_their_values() {
    let state = || vec![float(1, [2, 3, 5]), float(2, [2, 3, 5])];
    for cell in [Cell::Lstm, Cell::Gru] {
        let config = LanguageModelConfig::new(7, 4, 5).with_num_layers(2).with_cell(cell);
        check(
            "LanguageModel",
            |d| config.init(d),
            state(),
            |model, state| {
                let cells = (cell == Cell::Lstm).then(|| state[1].clone());
                // A gated unit has no cell: its input takes part for itself.
                let rest = state[1].clone().square();
                let state = RecurrentState { hidden: state[0].clone(), cell: cells };
                let (logits, state) = model.forward(tokens(), Some(state));
                Loss::default().with(logits).with(state.cell.unwrap_or(rest)).sum()
            },
        );
        let config = SequenceClassifierConfig::new(3, 7, 4, 5).with_num_layers(2).with_cell(cell);
        check(
            "SequenceClassifier",
            |d| config.init(d),
            NO_INPUTS,
            |model, _| Loss::of(model.forward((tokens(), lengths([4, 2, 3])))),
        );
    }
    let target = || ints(&[1, 3, 4, 2, 1, 5, 2, 2, 1, 4, 4, 5], [3, 4]);
    for (layers, bidirectional) in [(1, false), (2, true)] {
        let config = Seq2SeqConfig::new(7, 6, 4, 6).with_num_layers(layers).with_bidirectional(bidirectional);
        check(
            "Seq2Seq",
            |d| config.init(d),
            NO_INPUTS,
            |model, _| Loss::of(model.forward((tokens(), lengths([4, 2, 3])), target(), 1.0)),
        );
    }
}

#[test]
fn what_is_drawn_in_training_is_part_of_the_gradient() {
    // The same draws each time.
    let seeded = || device().seed(5);
    let lstm = LstmBlockConfig::new(4, 6).with_num_layers(2).with_dropout(0.4);
    check(
        "LstmBlock with dropout",
        |d| lstm.init(d),
        vec![float(1, [3, 5, 4])],
        |block, inputs| {
            seeded();
            let (y, state) = block.forward(inputs[0].clone(), None, None);
            Loss::default().with(y).with(state.cell).sum()
        },
    );
    let inputs = vec![float(1, [3, 4, 6])];
    let make = |d: &Device| MultiHeadAttentionConfig::new(6, 2).with_dropout(0.4).init(d);
    check("MultiHeadAttention with dropout", make, inputs, |block, inputs| {
        seeded();
        let [query, key, value] = [(); 3].map(|()| inputs[0].clone());
        let (y, weights) = block.forward(query, key, value, AttentionMask::causal(4, &device()));
        Loss::default().with(y).with(weights).sum()
    });
    let config = Seq2SeqConfig::new(7, 6, 4, 6).with_dropout(0.4);
    let make = |d: &Device| {
        let mut model = config.init(d)?;
        // The padding, whose vector has no gradient, is never the model's own token.
        model.decoder.fc.bias = Some(Param::from_data([-9f32, 0.0, 0.0, 0.0, 0.0, 0.0], d));
        Ok(model)
    };
    check("Seq2Seq with dropout and half of teacher forcing", make, NO_INPUTS, |model, _| {
        seeded();
        let target = ints(&[1, 3, 4, 2, 1, 5, 2, 2, 1, 4, 4, 5], [3, 4]);
        Loss::of(model.forward((tokens(), lengths([4, 2, 3])), target, 0.5))
    });
}

#[test]
#[should_panic(expected = "LinearBlock 1.0 entry")]
fn a_gradient_that_is_three_parts_in_a_million_off_is_found() {
    check(
        "LinearBlock",
        |d| LinearBlockConfig::new(5, 7).init(d),
        vec![float(1, [6, 5])],
        |block, x| {
            // A part of the input has no gradient.
            let input = x[0].clone().mul_scalar(1.0 - 3e-6) + x[0].clone().detach().mul_scalar(3e-6);
            Loss::of(block.forward(input))
        },
    );
}
