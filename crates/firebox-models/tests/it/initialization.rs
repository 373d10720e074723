//! Every initial value of every block against the distribution that PyTorch states for it.

use std::collections::BTreeMap;
use std::f64::consts::{PI, SQRT_2};

use burn::module::Module;
use burn::tensor::Device;
use firebox_models::gan::{DcganConfig, DiscriminatorConfig, GeneratorConfig};
use firebox_models::layers::{
    AttentionBlockConfig, BatchNorm2dConfig, Cell, ConvBlockConfig, EmbeddingConfig, GruBlockConfig,
    LinearBlockConfig, LinearConfig, LstmBlockConfig, MultiHeadAttentionConfig, Nonlinearity,
    RecurrentConfig, RnnBlockConfig,
};
use firebox_models::text::{
    DecoderConfig, EncoderConfig, LanguageModelConfig, Seq2SeqConfig, SequenceClassifierConfig,
};
use firebox_models::vision::CnnConfig;
use firebox_models::{Error, init};
use firebox_weights::{DType, StateDict};

use crate::common::alone;

/// The distribution of initial values.
#[derive(Clone, Copy, Debug)]
enum Law {
    Constant(f64),
    /// Within ± the bound.
    Uniform(f64),
    Normal(f64, f64),
    /// The standard normal, but for a row of zeros.
    NormalBut(usize),
}

use Law::{Constant, Normal, NormalBut, Uniform};

/// PyTorch's usual bound, for a unit with `inputs` inputs or a recurrent layer with `inputs` features.
fn within(inputs: usize) -> Law {
    Uniform(1.0 / (inputs as f64).sqrt())
}

impl Law {
    /// The probability of a value of at most `x`.
    fn cdf(self, x: f64) -> f64 {
        match self {
            Constant(value) => f64::from(x >= value),
            Uniform(bound) => ((x + bound) / (2.0 * bound)).clamp(0.0, 1.0),
            Normal(mean, std) => phi((x - mean) / std),
            NormalBut(_) => phi(x),
        }
    }

    /// Half a rounding of f32 is allowed: the bound itself was rounded.
    fn allows(self, x: f64) -> bool {
        match self {
            Constant(value) => x == value,
            Uniform(bound) => x.abs() <= bound * (1.0 + 6e-8),
            // Less likely than one in 10^12.
            Normal(mean, std) => (x - mean).abs() < 7.5 * std,
            NormalBut(_) => x.abs() < 7.5,
        }
    }
}

/// The distribution function of the standard normal, by the continued fraction of its tail or by its series.
fn phi(x: f64) -> f64 {
    let (y, density) = (x.abs(), (-x * x / 2.0).exp() / (2.0 * PI).sqrt());
    let above = if y > 3.0 {
        density / (1..60).rev().fold(y, |below, k| y + f64::from(k) / below)
    } else {
        let mut term = y;
        let series = (1..60).fold(y, |sum, k| {
            term *= y * y / f64::from(2 * k + 1);
            sum + term
        });
        0.5 - density * series
    };
    if x > 0.0 { 1.0 - above } else { above }
}

/// The two-sided one-sample test of Kolmogorov and Smirnov: the probability that values of this distribution
/// lie as far from it as these do. With Stephens' correction for few values.
fn kolmogorov_smirnov(values: &[f64], law: Law) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len() as f64;
    let distance = sorted.iter().enumerate().fold(0f64, |distance, (place, &x)| {
        let p = law.cdf(x);
        distance.max(p - place as f64 / n).max((place + 1) as f64 / n - p)
    });
    let scaled = (n.sqrt() + 0.12 + 0.11 / n.sqrt()) * distance;
    if scaled < 0.2 {
        // The series converges slowly there, and its sum is 1.
        return 1.0;
    }
    let term = |k: i32| f64::from(1 - 2 * ((k + 1) % 2)) * (-2.0 * f64::from(k * k) * scaled * scaled).exp();
    (2.0 * (1..100).map(term).sum::<f64>()).clamp(0.0, 1.0)
}

const ACCEPTED: f64 = 1e-4;
const SEEDS: u64 = 200;
/// As many values as tell a standard deviation from one that is 5 % larger.
const ENOUGH: usize = 60_000;

/// A row of the table: the end of a key, and the distribution of its values.
type Row = (&'static str, Law);

/// Makes a module under several seeds; each of its tensors must be in the table, and each row in the module.
fn check<M: Module>(module: &str, table: &[Row], make: impl Fn(&Device) -> Result<M, Error>) {
    let mut pooled: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for seed in 0..SEEDS {
        let dict = StateDict::of(&init(seed, &Device::default(), &make).unwrap());
        let mut drawn: Vec<(&str, Vec<f64>)> = Vec::new();
        let mut used = vec![false; table.len()];
        let mut more = false;
        for (key, data) in dict.iter().filter(|(key, _)| !key.ends_with("num_batches_tracked")) {
            let row = table.iter().position(|(end, _)| key.ends_with(end));
            let row = row.unwrap_or_else(|| panic!("{module}: no row for {key}"));
            used[row] = true;
            let law = table[row].1;
            assert_eq!(data.dtype(), DType::F32, "{module} {key}");
            let values: Vec<f64> = data.to_f64_vec();
            let values = match law {
                NormalBut(zero) => without_zeros(&values, data.shape()[1], zero),
                _ => values,
            };
            let wrong = values.iter().find(|&&value| !law.allows(value));
            assert!(wrong.is_none(), "{module} {key}: {wrong:?} is not of {law:?}");
            if let Constant(_) = law {
                continue;
            }
            for (other, drawn) in &drawn {
                assert!(!repeats(drawn, &uniforms(&values, law)), "{module}: {key} repeats {other}");
            }
            drawn.push((key, uniforms(&values, law)));
            let pool = pooled.entry(key.to_owned()).or_default();
            if pool.len() < ENOUGH {
                pool.extend(values);
            }
            more |= pool.len() < ENOUGH;
        }
        assert!(used.iter().all(|&used| used), "{module}: a row for no key: {used:?}");
        if !more {
            break;
        }
    }
    for (key, values) in pooled {
        let law = table.iter().find(|(end, _)| key.ends_with(end)).unwrap().1;
        let p = kolmogorov_smirnov(&values, law);
        assert!(p > ACCEPTED, "{module} {key}: {} values are not of {law:?}: p = {p:.1e}", values.len());
    }
}

/// The values of a matrix without the row of zeros.
fn without_zeros(values: &[f64], width: usize, zero: usize) -> Vec<f64> {
    let row = zero * width..(zero + 1) * width;
    assert!(values[row.clone()].iter().all(|&x| x == 0.0), "row {zero} is {:?}", &values[row]);
    let rest = values.iter().enumerate().filter(|(place, _)| !row.contains(place));
    rest.map(|(_, &x)| x).collect()
}

/// The values as uniform ones of 0 to 1, which are equal for equal draws, whatever the distribution.
fn uniforms(values: &[f64], law: Law) -> Vec<f64> {
    values.iter().map(|&x| law.cdf(x)).collect()
}

/// Whether both begin with the same draws. Of few values it would happen by chance.
fn repeats(a: &[f64], b: &[f64]) -> bool {
    a.len().min(b.len()) >= 3 && std::iter::zip(a, b).all(|(a, b)| (a - b).abs() < 1e-5)
}

/// The rows of recurrent layers with `hidden` features in each direction.
fn recurrent(layers: &[&'static str], hidden: usize) -> Vec<Row> {
    layers.iter().map(|&layer| (layer, within(hidden))).collect()
}

const BN: [Row; 4] = [
    ("bn.weight", Constant(1.0)),
    ("bn.bias", Constant(0.0)),
    ("bn.running_mean", Constant(0.0)),
    ("bn.running_var", Constant(1.0)),
];
/// The parameters of a stack of two layers that is read both ways.
const TWO_BOTH: [&str; 16] = [
    "weight_ih_l0",
    "weight_hh_l0",
    "bias_ih_l0",
    "bias_hh_l0",
    "weight_ih_l0_reverse",
    "weight_hh_l0_reverse",
    "bias_ih_l0_reverse",
    "bias_hh_l0_reverse",
    "weight_ih_l1",
    "weight_hh_l1",
    "bias_ih_l1",
    "bias_hh_l1",
    "weight_ih_l1_reverse",
    "weight_hh_l1_reverse",
    "bias_ih_l1_reverse",
    "bias_hh_l1_reverse",
];

/// Those of one layer, forwards; the backward ones of one layer; one layer both ways; two layers forwards.
fn one() -> &'static [&'static str] {
    &TWO_BOTH[..4]
}

fn reverse() -> &'static [&'static str] {
    &TWO_BOTH[4..8]
}

fn both() -> &'static [&'static str] {
    &TWO_BOTH[..8]
}

fn two() -> Vec<&'static str> {
    [one(), &TWO_BOTH[8..12]].concat()
}

#[test]
fn layers_and_convolutions_begin_as_pytorchs() {
    let _turn = alone();
    check("Linear", &[("weight", within(7)), ("bias", within(7))], |d| LinearConfig::new(7, 30).init(d));
    check("Linear without bias", &[("weight", within(7))], |d| {
        LinearConfig::new(7, 30).with_bias(false).init(d)
    });
    let rows = [("linear.weight", within(30)), ("linear.bias", within(30))];
    check("LinearBlock", &rows, |d| LinearBlockConfig::new(30, 7).init(d));
    let conv = [("conv.weight", within(3 * 25)), ("conv.bias", within(3 * 25))];
    check("ConvBlock", &[&conv[..], &BN].concat(), |d| ConvBlockConfig::new(3, 8, 5).init(d));
    let norm = BN.map(|(key, law)| (key.strip_prefix("bn.").unwrap(), law));
    check("BatchNorm2d", &norm, |d| BatchNorm2dConfig::new(9).init(d));
    let rows = [
        ("conv1.conv.weight", within(2 * 9)),
        ("conv1.conv.bias", within(2 * 9)),
        ("conv2.conv.weight", within(32 * 9)),
        ("conv2.conv.bias", within(32 * 9)),
        ("fc1.linear.weight", within(64 * 4)),
        ("fc1.linear.bias", within(64 * 4)),
        ("fc2.weight", within(128)),
        ("fc2.bias", within(128)),
    ];
    check("Cnn", &[&rows[..], &BN].concat(), |d| {
        CnnConfig::new(5).with_channels(2).with_size([8, 8]).init(d)
    });
    let normal = Normal(0.0, 1.0);
    check("Embedding", &[("weight", normal)], |d| EmbeddingConfig::new(50, 60).init(d));
    check("Embedding with padding", &[("weight", NormalBut(3))], |d| {
        EmbeddingConfig::new(50, 60).with_padding_idx(Some(3)).init(d)
    });
}

#[test]
fn recurrent_blocks_begin_as_pytorchs() {
    let _turn = alone();
    for nonlinearity in [Nonlinearity::Tanh, Nonlinearity::Relu] {
        check("RnnBlock", &recurrent(one(), 6), |d| {
            RnnBlockConfig::new(40, 6).with_nonlinearity(nonlinearity).init(d)
        });
    }
    check("LstmBlock", &recurrent(&two(), 5), |d| LstmBlockConfig::new(2, 5).with_num_layers(2).init(d));
    check("RnnBlock, 2 layers, both ways", &recurrent(&TWO_BOTH, 6), |d| {
        RnnBlockConfig::new(3, 6).with_num_layers(2).with_bidirectional(true).init(d)
    });
    check("LstmBlock, 2 layers, both ways", &recurrent(&TWO_BOTH, 6), |d| {
        LstmBlockConfig::new(3, 6).with_num_layers(2).with_bidirectional(true).init(d)
    });
    check("GruBlock, 2 layers, both ways", &recurrent(&TWO_BOTH, 6), |d| {
        GruBlockConfig::new(3, 6).with_num_layers(2).with_bidirectional(true).init(d)
    });
    check("Recurrent", &recurrent(one(), 20), |d| RecurrentConfig::new(Cell::Gru, 3, 20).init(d));
}

#[test]
fn attention_begins_as_pytorchs() {
    let _turn = alone();
    let rows =
        [("W.weight", within(9)), ("W.bias", within(9)), ("V.weight", within(9)), ("V.bias", within(9))];
    check("AttentionBlock", &rows, |d| AttentionBlockConfig::new(9).init(d));
    let rows = [
        // Xavier's rule for the three maps as one matrix, from 8 features to 24.
        ("in_proj_weight", Uniform((6f64 / (8.0 + 24.0)).sqrt())),
        ("in_proj_bias", Constant(0.0)),
        ("out_proj.weight", within(8)),
        ("out_proj.bias", Constant(0.0)),
    ];
    check("MultiHeadAttention", &rows, |d| MultiHeadAttentionConfig::new(8, 2).init(d));
}

#[test]
fn models_of_sequences_begin_as_pytorchs() {
    let _turn = alone();
    let normal = Normal(0.0, 1.0);
    let with =
        |rows: &[Row], layers: &[&'static str], hidden| [rows, &recurrent(layers, hidden)[..]].concat();
    let embedding = ("embedding.weight", NormalBut(1));
    // Each direction has half of the encoder's features.
    check("Encoder", &with(&[embedding], both(), 4), |d| {
        EncoderConfig::new(20, 5, 8).with_padding_idx(1).init(d)
    });
    let decoder: Vec<Row> =
        [("fc.weight", 16), ("fc.bias", 16), ("W.weight", 8), ("W.bias", 8), ("V.weight", 8)]
            .into_iter()
            .chain([("V.bias", 8)])
            .map(|(key, inputs)| (key, within(inputs)))
            .chain([embedding])
            .collect();
    check("Decoder", &with(&decoder, &two(), 8), |d| {
        DecoderConfig::new(20, 5, 8).with_num_layers(2).with_padding_idx(1).init(d)
    });
    let halves = [("encoder.embedding.weight", NormalBut(0)), ("decoder.embedding.weight", NormalBut(0))];
    let layers = |part: &str| {
        let keys = one().iter().map(move |key| format!("{part}.rnn.{key}"));
        keys.map(|key| &*key.leak()).collect::<Vec<&'static str>>()
    };
    let encoder = [recurrent(&layers("encoder"), 4), recurrent(reverse(), 4)].concat();
    let decoder = [&decoder[..6], &recurrent(&layers("decoder"), 8)].concat();
    check("Seq2Seq", &[&halves[..], &encoder, &decoder].concat(), |d| {
        Seq2SeqConfig::new(20, 15, 5, 8).init(d)
    });
    let rows = [("embedding.weight", normal), ("fc.weight", within(7)), ("fc.bias", within(7))];
    for cell in [Cell::Lstm, Cell::Gru, Cell::Tanh, Cell::Relu] {
        check("LanguageModel", &with(&rows, one(), 7), |d| {
            LanguageModelConfig::new(20, 5, 7).with_cell(cell).init(d)
        });
    }
    let rows = [("embedding.weight", NormalBut(2)), ("fc.weight", within(14)), ("fc.bias", within(14))];
    check("SequenceClassifier", &with(&rows, both(), 7), |d| {
        SequenceClassifierConfig::new(3, 20, 5, 7).with_padding_idx(2).init(d)
    });
}

#[test]
fn generators_and_discriminators_begin_as_pytorchs() {
    let _turn = alone();
    let rows = |[first, second, last]: [usize; 3]| {
        [
            ("main.0.weight", within(first)),
            ("main.0.bias", within(first)),
            ("main.2.weight", within(second)),
            ("main.2.bias", within(second)),
            ("main.4.weight", within(last)),
            ("main.4.bias", within(last)),
        ]
    };
    check("Generator", &rows([6, 256, 512]), |d| GeneratorConfig::new(6, 9).init(d));
    check("Discriminator", &rows([9, 512, 256]), |d| DiscriminatorConfig::new(9).init(d));
    let (weight, scale) = (Normal(0.0, 0.02), Normal(1.0, 0.02));
    let norm = |rows: &mut Vec<Row>, weight, bias, mean, var| {
        rows.extend([(weight, scale), (bias, Constant(0.0)), (mean, Constant(0.0)), (var, Constant(1.0))]);
    };
    let config = DcganConfig::new().with_latent(10).with_channels(2).with_size(8).with_features(6);
    let mut generator = vec![("0.weight", weight), ("3.weight", weight), ("6.weight", weight)];
    norm(&mut generator, "1.weight", "1.bias", "1.running_mean", "1.running_var");
    norm(&mut generator, "4.weight", "4.bias", "4.running_mean", "4.running_var");
    check("DcganGenerator", &generator, |d| config.init_generator(d));
    let mut discriminator = vec![("0.weight", weight), ("2.weight", weight), ("5.weight", weight)];
    norm(&mut discriminator, "3.weight", "3.bias", "3.running_mean", "3.running_var");
    check("DcganDiscriminator", &discriminator, |d| config.init_discriminator(d));
}

#[test]
fn the_test_of_distributions_rejects_wrong_ones() {
    let _turn = alone();
    let values = |dict: &StateDict, key: &str| dict.get(key).unwrap().to_f64_vec();
    let linear = init(1, &Device::default(), |d| LinearConfig::new(20, 30).init(d)).unwrap();
    let weight = values(&StateDict::of(&linear), "weight");
    assert!(kolmogorov_smirnov(&weight, within(20)) > ACCEPTED);
    // Xavier's bound, Kaiming's, a bound from the outputs, and a normal of the right variance.
    for wrong in [
        Uniform((6f64 / 50.0).sqrt()),
        Uniform((3f64 / 20.0).sqrt()),
        within(30),
        Normal(0.0, 1.0 / 60f64.sqrt()),
    ] {
        assert!(kolmogorov_smirnov(&weight, wrong) < ACCEPTED, "{wrong:?}");
    }
    let embedding = init(1, &Device::default(), |d| EmbeddingConfig::new(600, 100).init(d)).unwrap();
    let weight = values(&StateDict::of(&embedding), "weight");
    assert_eq!(weight.len(), ENOUGH);
    assert!(kolmogorov_smirnov(&weight, Normal(0.0, 1.0)) > ACCEPTED);
    for wrong in [Normal(0.0, 1.05), Normal(0.0, 0.95), Normal(0.03, 1.0), Uniform(3f64.sqrt())] {
        assert!(kolmogorov_smirnov(&weight, wrong) < ACCEPTED, "{wrong:?}");
    }
    // The distribution function and the test's own probability, against tables.
    for (x, p) in [(0.0, 0.5), (1.0, 0.841344746), (-2.0, 0.022750132), (SQRT_2 * 3.0, 0.999988955)] {
        assert!((phi(x) - p).abs() < 1e-8, "{x}: {}", phi(x));
    }
    let quantiles: Vec<f64> = (0..10_000).map(|k| f64::from(k) / 5_000.0 - 1.0 + 0.0272).collect();
    let p = kolmogorov_smirnov(&quantiles, Uniform(1.0));
    assert!((p - 0.049).abs() < 2e-3, "a distance of 1.36/√n has the probability 0.049, not {p}");
}

#[test]
fn a_repeated_draw_is_found() {
    let _turn = alone();
    assert!(repeats(&[0.1, 0.2, 0.3, 0.4], &[0.1, 0.2, 0.3]));
    assert!(!repeats(&[0.1, 0.2, 0.3], &[0.1, 0.2, 0.4]));
}
