//! Blocks: configs that are checked, initialisation under a seed, state that is one's own.

use std::fmt::Display;

use burn::config::{Config, config_to_json};
use burn::module::{Flag, Module, ModuleMapper, ModuleVisitor, Param};
use burn::nn::Relu;
use burn::tensor::{Device, Distribution, Tensor, TensorData};
use firebox_models::decoding::{Beam, Sampling};
use firebox_models::gan::{DcganConfig, DiscriminatorConfig, GeneratorConfig};
use firebox_models::layers::{
    AttentionBlockConfig, AvgPoolingConfig, BatchNorm2dConfig, Cell, ConvBlock, ConvBlockConfig,
    EmbeddingConfig, Flatten, GruBlockConfig, Linear, LinearBlock, LinearBlockConfig, LinearConfig,
    LstmBlockConfig, MaxPooling, MaxPoolingConfig, MultiHeadAttentionConfig, Nonlinearity, RecurrentConfig,
    RnnBlockConfig, Sequential,
};
use firebox_models::text::{
    DecoderConfig, EncoderConfig, LanguageModelConfig, Seq2SeqConfig, SequenceClassifierConfig,
    SequenceRegressorConfig,
};
use firebox_models::vision::{Cnn, CnnConfig};
use firebox_models::{Error, ErrorKind, Forward, init};
use firebox_weights::StateDict;
use serde_json::{Value, json};

use crate::common::{alone, beside_others};

fn cnn(seed: u64) -> Cnn {
    let device = Device::default().autodiff();
    init(seed, &device, |device| CnnConfig::new(10).with_channels(1).with_dropout(0.5).init(device)).unwrap()
}

/// What is wrong with a config: the field, a value, and what its error calls allowed.
type Wrong = (&'static str, Value, &'static str);

/// A config is made as it is, comes back from its JSON, and with any of the wrong values names itself, the
/// field, what is allowed and the value. Each of its fields is among the wrong ones or among those that can
/// have any value.
fn check_config<C: Config, T>(
    name: &str,
    config: C,
    any: &[&str],
    wrong: &[Wrong],
    make: impl Fn(&C) -> Result<T, Error>,
) {
    let json = config_to_json(&config);
    let read = C::load_binary(json.as_bytes()).unwrap();
    assert_eq!(format!("{read:?}"), format!("{config:?}"), "{name} from its JSON");
    make(&read).unwrap_or_else(|error| panic!("{error}"));
    let json: Value = serde_json::from_str(&json).unwrap();
    for field in json.as_object().unwrap().keys() {
        let known = any.contains(&field.as_str()) || wrong.iter().any(|(wrong, ..)| wrong == field);
        assert!(known, "{name}.{field} is not looked at");
    }
    for (field, value, allowed) in wrong {
        let mut json = json.clone();
        *json.get_mut(*field).unwrap_or_else(|| panic!("{name} has no {field}")) = value.clone();
        let error = make(&serde_json::from_value(json).unwrap()).err();
        let error = error.unwrap_or_else(|| panic!("{name}.{field} = {value} was accepted"));
        assert!(matches!(error.kind(), ErrorKind::OutOfRange { .. }), "{error}");
        let value = value.to_string().replace(',', ", ");
        assert_eq!(error.to_string(), format!("{name}.{field}: expected {allowed}, got {value}"));
    }
}

fn zero(field: &'static str) -> Wrong {
    (field, json!(0), "at least 1")
}

/// The wrong values that all recurrent layers share.
fn recurrent() -> [Wrong; 4] {
    [zero("input_size"), zero("hidden_size"), zero("num_layers"), dropout()]
}

fn dropout() -> Wrong {
    ("dropout", json!(1.5), "0 ≤ p < 1")
}

#[test]
fn configs_of_layers_survive_json_and_name_field_value_and_range() {
    let _alone = alone();
    let d = &Device::default();
    check_config(
        "CnnConfig",
        CnnConfig::new(10).with_channels(2).with_size([9, 8]).with_dropout(0.25),
        &[],
        &[
            zero("classes"),
            zero("channels"),
            ("size", json!([28, 3]), "a height and width of at least 4"),
            dropout(),
        ],
        |config| config.init(d),
    );
    check_config(
        "ConvBlockConfig",
        ConvBlockConfig::new(3, 8, 5).with_stride(2).with_padding(1).with_pooling(MaxPoolingConfig::new(2)),
        &["padding", "pooling", "channels_last"],
        &[zero("in_channels"), zero("out_channels"), zero("kernel_size"), zero("stride")],
        |config| config.init(d),
    );
    check_config(
        "BatchNorm2dConfig",
        BatchNorm2dConfig::new(3).with_eps(1e-3).with_momentum(0.5),
        &[],
        &[
            zero("channels"),
            ("eps", json!(-0.5), "a number above 0"),
            ("momentum", json!(1.5), "0 to 1"),
            ("momentum", json!(-0.5), "0 to 1"),
        ],
        |config| config.init(d),
    );
    let pooling = [zero("kernel_size"), zero("stride")];
    let config = MaxPoolingConfig::new(3).with_stride(Some(2));
    check_config("MaxPoolingConfig", config, &[], &pooling, |config| config.init());
    let config = AvgPoolingConfig::new(3).with_stride(Some(2));
    check_config("AvgPoolingConfig", config, &[], &pooling, |config| config.init());
    let linear = [zero("in_features"), zero("out_features")];
    let config = LinearConfig::new(3, 4).with_bias(false);
    check_config("LinearConfig", config, &["bias"], &linear, |config| config.init(d));
    let linear = [zero("features_in"), zero("features_out")];
    check_config("LinearBlockConfig", LinearBlockConfig::new(3, 4), &[], &linear, |config| config.init(d));
    check_config(
        "EmbeddingConfig",
        EmbeddingConfig::new(7, 4).with_padding_idx(Some(6)),
        &[],
        &[zero("vocab_size"), zero("embedding_dim"), ("padding_idx", json!(7), "below 7")],
        |config| config.init(d),
    );
    check_config(
        "AttentionBlockConfig",
        AttentionBlockConfig::new(4),
        &[],
        &[zero("hidden_size")],
        |config| config.init(d),
    );
    check_config(
        "MultiHeadAttentionConfig",
        MultiHeadAttentionConfig::new(6, 2).with_dropout(0.5),
        &[],
        &[
            zero("embed_dim"),
            ("num_heads", json!(0), "a divisor of 6 features"),
            ("num_heads", json!(4), "a divisor of 6 features"),
            dropout(),
        ],
        |config| config.init(d),
    );
    // What JSON cannot say.
    let errors = [
        CnnConfig::new(10).with_dropout(f64::NAN).init(d).unwrap_err(),
        DiscriminatorConfig::new(3).with_negative_slope(f64::INFINITY).init(d).unwrap_err(),
        BatchNorm2dConfig::new(3).with_eps(f64::INFINITY).init(d).unwrap_err(),
    ];
    assert_eq!(
        errors.map(|error| error.to_string()),
        [
            "CnnConfig.dropout: expected 0 ≤ p < 1, got NaN",
            "DiscriminatorConfig.negative_slope: expected a finite number, got inf",
            "BatchNorm2dConfig.eps: expected a number above 0, got inf",
        ]
    );
}

#[test]
fn configs_of_recurrent_blocks_survive_json_and_name_field_value_and_range() {
    let _alone = alone();
    let d = &Device::default();
    let config = RnnBlockConfig::new(3, 4).with_nonlinearity(Nonlinearity::Relu).with_num_layers(2);
    let any = ["nonlinearity", "bidirectional"];
    check_config("RnnBlockConfig", config.with_dropout(0.5), &any, &recurrent(), |config| config.init(d));
    let config = LstmBlockConfig::new(3, 4).with_num_layers(2).with_bidirectional(true);
    check_config("LstmBlockConfig", config, &["bidirectional"], &recurrent(), |config| config.init(d));
    let config = GruBlockConfig::new(3, 4).with_num_layers(2).with_bidirectional(true);
    check_config("GruBlockConfig", config, &["bidirectional"], &recurrent(), |config| config.init(d));
    for cell in [Cell::Tanh, Cell::Relu, Cell::Lstm, Cell::Gru] {
        let config = RecurrentConfig::new(cell, 3, 4).with_dropout(0.5);
        let any = ["cell", "bidirectional"];
        check_config("RecurrentConfig", config, &any, &recurrent(), |config| config.init(d));
    }
}

#[test]
fn configs_of_models_survive_json_and_name_field_value_and_range() {
    let _alone = alone();
    let d = &Device::default();
    let tokens = [zero("vocab_size"), zero("embedding_dim"), zero("num_layers"), dropout()];
    let with = |rest: &[Wrong]| [&tokens[..], rest].concat();
    let padding = ("padding_idx", json!(9), "below 9");
    let even = [padding.clone(), ("hidden_size", json!(7), "an even number above 0")];
    let config = EncoderConfig::new(9, 4, 6).with_num_layers(2).with_dropout(0.5).with_padding_idx(8);
    check_config("EncoderConfig", config, &["bidirectional"], &with(&even), |config| config.init(d));
    let hidden = with(&[padding.clone(), zero("hidden_size")]);
    let config = EncoderConfig::new(9, 4, 5).with_bidirectional(false);
    check_config("EncoderConfig", config, &["bidirectional"], &hidden, |config| config.init(d));
    let config = DecoderConfig::new(9, 4, 5).with_num_layers(2).with_dropout(0.5).with_padding_idx(8);
    check_config("DecoderConfig", config, &[], &hidden, |config| config.init(d));
    let config = SequenceClassifierConfig::new(3, 9, 4, 5).with_cell(Cell::Gru).with_padding_idx(8);
    let classifier = [&hidden[..], &[zero("classes")]].concat();
    let any = ["cell", "bidirectional"];
    check_config("SequenceClassifierConfig", config, &any, &classifier, |config| config.init(d));
    let config = LanguageModelConfig::new(9, 4, 5).with_cell(Cell::Gru).with_dropout(0.5);
    check_config("LanguageModelConfig", config, &["cell"], &with(&[zero("hidden_size")]), |config| {
        config.init(d)
    });
    let config = Seq2SeqConfig::new(12, 9, 4, 6).with_padding_idx(3).with_begin(4).with_end(5);
    check_config(
        "Seq2SeqConfig",
        config,
        &["bidirectional"],
        &[
            ("source_vocab_size", json!(3), "above 3"),
            ("vocab_size", json!(2), "at least 3"),
            zero("embedding_dim"),
            ("hidden_size", json!(7), "an even number above 0"),
            ("hidden_size", json!(0), "an even number above 0"),
            zero("num_layers"),
            dropout(),
            ("padding_idx", json!(9), "below 9"),
            ("begin", json!(3), "below 9 and not the padding 3"),
            ("begin", json!(9), "below 9 and not the padding 3"),
            ("end", json!(4), "below 9, not the padding 3 and not the begin 4"),
        ],
        |config| config.init(d),
    );
    let config = GeneratorConfig::new(3, 4);
    check_config("GeneratorConfig", config, &[], &[zero("latent"), zero("out_features")], |config| {
        config.init(d)
    });
    let config = DiscriminatorConfig::new(4).with_negative_slope(0.1);
    check_config("DiscriminatorConfig", config, &["negative_slope"], &[zero("in_features")], |config| {
        config.init(d)
    });
    let config = DcganConfig::new().with_latent(3).with_channels(2).with_size(8).with_features(4);
    let dcgan = [
        zero("latent"),
        zero("channels"),
        ("size", json!(0), "a multiple of 4"),
        ("size", json!(6), "a multiple of 4"),
        zero("features"),
    ];
    check_config("DcganConfig", config.clone(), &[], &dcgan, |config| config.init_generator(d));
    check_config("DcganConfig", config, &[], &dcgan, |config| config.init_discriminator(d));
}

/// As they were written before settings had PyTorch's names.
#[test]
fn settings_are_read_under_their_old_names() {
    fn check<C: Config>(old: Value, new: C) {
        let read: C = serde_json::from_value(old.clone()).unwrap_or_else(|error| panic!("{old}: {error}"));
        assert_eq!(config_to_json(&read), config_to_json(&new));
    }
    check(
        json!({"features_in": 3, "features_out": 4, "bias": false}),
        LinearConfig::new(3, 4).with_bias(false),
    );
    check(json!({"channels": 3, "epsilon": 0.5, "momentum": 0.25}), {
        BatchNorm2dConfig::new(3).with_eps(0.5).with_momentum(0.25)
    });
    check(json!({"tokens": 7, "features": 4}), EmbeddingConfig::new(7, 4));
    let padded = EmbeddingConfig::new(7, 4).with_padding_idx(Some(6));
    check(json!({"tokens": 7, "features": 4, "padding": 6}), padded);
    check(json!({"hidden": 4}), AttentionBlockConfig::new(4));
    let heads = MultiHeadAttentionConfig::new(6, 2).with_dropout(0.5);
    check(json!({"features": 6, "heads": 2, "dropout": 0.5}), heads);
    let recurrent = json!({
        "features_in": 3, "hidden": 4, "num_layers": 2, "dropout": 0.5, "bidirectional": true,
        "nonlinearity": "Relu", "cell": "Gru", "outputs": 5,
    });
    check(recurrent.clone(), {
        let config = RnnBlockConfig::new(3, 4).with_nonlinearity(Nonlinearity::Relu).with_num_layers(2);
        config.with_dropout(0.5).with_bidirectional(true)
    });
    check(recurrent.clone(), {
        LstmBlockConfig::new(3, 4).with_num_layers(2).with_dropout(0.5).with_bidirectional(true)
    });
    check(recurrent.clone(), {
        GruBlockConfig::new(3, 4).with_num_layers(2).with_dropout(0.5).with_bidirectional(true)
    });
    check(recurrent.clone(), {
        RecurrentConfig::new(Cell::Gru, 3, 4).with_num_layers(2).with_dropout(0.5).with_bidirectional(true)
    });
    check(recurrent, {
        SequenceRegressorConfig::new(3, 4, 5).with_cell(Cell::Gru).with_num_layers(2).with_dropout(0.5)
    });
    let text = json!({
        "tokens": 9, "embedding": 4, "hidden": 6, "num_layers": 2, "dropout": 0.5, "bidirectional": false,
        "padding": 8, "cell": "Tanh", "classes": 3, "source_tokens": 12, "begin": 4, "end": 5,
    });
    check(text.clone(), {
        let config = EncoderConfig::new(9, 4, 6).with_num_layers(2).with_dropout(0.5);
        config.with_bidirectional(false).with_padding_idx(8)
    });
    check(text.clone(), {
        DecoderConfig::new(9, 4, 6).with_num_layers(2).with_dropout(0.5).with_padding_idx(8)
    });
    check(text.clone(), {
        LanguageModelConfig::new(9, 4, 6).with_cell(Cell::Tanh).with_num_layers(2).with_dropout(0.5)
    });
    check(text.clone(), {
        let config = SequenceClassifierConfig::new(3, 9, 4, 6).with_cell(Cell::Tanh).with_num_layers(2);
        config.with_dropout(0.5).with_bidirectional(false).with_padding_idx(8)
    });
    check(text, {
        let config = Seq2SeqConfig::new(12, 9, 4, 6).with_num_layers(2).with_dropout(0.5);
        config.with_bidirectional(false).with_padding_idx(8).with_begin(4).with_end(5)
    });
    check(json!({"latent": 3, "features_out": 4}), GeneratorConfig::new(3, 4));
    check(json!({"features_in": 4, "negative_slope": 0.5}), {
        DiscriminatorConfig::new(4).with_negative_slope(0.5)
    });
}

#[test]
fn settings_of_searches_and_samples_survive_json_and_name_field_value_and_range() {
    let _alone = alone();
    let d = &Device::default();
    let model = Seq2SeqConfig::new(5, 5, 3, 4).init(d).unwrap();
    check_config(
        "Beam",
        Beam::new(3).with_width(2).with_length_penalty(0.5),
        &[],
        &[zero("max_length"), zero("width"), ("length_penalty", json!(-0.5), "a number of at least 0")],
        |beam| model.beam((Tensor::from_data([[3, 4]], d), Tensor::from_data([2], d)), beam),
    );
    let model = LanguageModelConfig::new(5, 3, 4).init(d).unwrap();
    check_config(
        "Sampling",
        Sampling::new().with_temperature(0.5).with_top_p(0.9).with_seed(3),
        &["seed"],
        &[
            ("temperature", json!(-0.5), "a number of at least 0"),
            ("top_p", json!(1.5), "0 < p ≤ 1"),
            ("top_p", json!(-0.5), "0 < p ≤ 1"),
        ],
        |sampling| model.generate(&[1], 2, sampling),
    );
}

#[test]
fn parameters_follow_from_the_seed_alone() {
    let _alone = alone();
    let first = StateDict::of(&cnn(1));
    // Draws of others, between and at the same time, change nothing.
    let device = Device::default();
    let _ = Tensor::<1>::random([1000], Distribution::Default, &device).into_data();
    assert_eq!(first, StateDict::of(&cnn(1)));
    assert_ne!(first, StateDict::of(&cnn(2)));
}

#[test]
fn shapes_follow_from_the_config() {
    let _alone = alone();
    let device = Device::default();
    for (channels, [height, width], classes) in [(1, [28, 28], 10), (3, [33, 18], 4), (2, [4, 7], 1)] {
        let config = CnnConfig::new(classes).with_channels(channels).with_size([height, width]);
        let cnn = config.init(&device).unwrap();
        let logits = cnn.forward(Tensor::zeros([5, channels, height, width], &device));
        assert_eq!(logits.dims(), [5, classes]);
    }
    let overlapping = MaxPoolingConfig::new(3).with_stride(Some(2)).init().unwrap();
    assert_eq!(overlapping.forward(Tensor::zeros([1, 1, 8, 7], &device)).dims(), [1, 1, 3, 3]);
}

fn batch(device: &Device) -> Tensor<4> {
    Tensor::random([8, 1, 28, 28], Distribution::Normal(1.0, 2.0), device)
}

#[test]
fn a_clone_has_running_statistics_of_its_own() {
    let _alone = alone();
    let live = cnn(4);
    let copy = live.clone();
    let before = StateDict::of(&live);
    copy.forward(batch(&Device::default().autodiff()));
    assert_eq!(StateDict::of(&live), before, "training the copy changed the original");
    assert_ne!(StateDict::of(&copy), before, "training updates running statistics, seen at once");
    // Loading weights into a copy leaves the original alone too.
    let loaded = StateDict::of(&cnn(5)).apply(live.clone()).unwrap();
    assert_eq!(StateDict::of(&live), before);
    assert_eq!(StateDict::of(&loaded), StateDict::of(&cnn(5)));
}

/// Takes 1 off everything, as an average of weights changes everything.
struct Less;

impl ModuleMapper for Less {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (id, value, mapper) = param.consume();
        let trained = value.is_require_grad();
        let value = value.sub_scalar(1.0).detach().set_require_grad(trained);
        Param::from_mapped_value(id, value, mapper)
    }
}

/// Copies, changed copies and copies for evaluation stay apart from the model that is trained, in both
/// directions.
fn check_copies<M: Module>(name: &str, live: M, train: impl Fn(&M)) {
    let before = StateDict::of(&live);
    let (copy, changed, evaluated) = (live.clone(), live.clone().map(&mut Less), live.valid());
    assert_eq!(StateDict::of(&live), before, "{name}: a changed copy changed the original");
    let less = StateDict::of(&changed);
    let running = |dict: &StateDict| {
        let buffers = dict.iter().filter(|(key, _)| key.contains("running_"));
        buffers.map(|(key, data)| (key.to_owned(), data.clone())).collect::<Vec<_>>()
    };
    assert_ne!(running(&less), running(&before), "{name}: buffers are changed like parameters");
    train(&live);
    let after = StateDict::of(&live);
    for ((key, new), (_, old)) in std::iter::zip(running(&after), running(&before)) {
        assert_ne!(new, old, "{name}: {key} is behind");
    }
    for (copy, expected) in [(copy, &before), (changed.clone(), &less), (evaluated, &before)] {
        assert_eq!(StateDict::of(&copy), *expected, "{name}: training the original changed a copy");
    }
    train(&changed);
    assert_ne!(StateDict::of(&changed), less, "{name}: a copy is trained");
    assert_eq!(StateDict::of(&live), after, "{name}: training a copy changed the original");
}

#[test]
fn copies_are_independent_and_a_checkpoint_is_never_behind() {
    let _alone = alone();
    let d = &Device::default().autodiff();
    let image = |shape: [usize; 4]| Tensor::<4>::random(shape, Distribution::Normal(1.0, 2.0), d);
    let block = ConvBlockConfig::new(1, 2, 3).init(d).unwrap();
    check_copies("ConvBlock", block, |block| drop(block.forward(image([2, 1, 5, 5]))));
    check_copies("Cnn", cnn(11), |cnn| drop(cnn.forward(batch(d))));
    let config = DcganConfig::new().with_latent(3).with_size(8).with_features(2);
    check_copies("DcganGenerator", config.init_generator(d).unwrap(), |model| {
        drop(model.forward(Tensor::random([4, 3], Distribution::Normal(0.0, 1.0), d)));
    });
    check_copies("DcganDiscriminator", config.init_discriminator(d).unwrap(), |model| {
        drop(model.forward(image([4, 1, 8, 8])));
    });
}

/// The flags by which layers behave as in training.
#[derive(Default)]
struct Flags(Vec<bool>);

impl ModuleVisitor for Flags {
    fn visit_flag(&mut self, flag: &Param<Flag>) {
        self.0.push(flag.is_enabled());
    }
}

fn check_flags<M: Module>(model: M) {
    let flags = |model: &M| {
        let mut flags = Flags::default();
        model.visit(&mut flags);
        flags.0
    };
    let count = flags(&model).len();
    assert!(count > 0);
    assert_eq!(flags(&model), vec![true; count]);
    assert_eq!(flags(&model.valid()), vec![false; count]);
    assert_eq!(flags(&model.valid().train()), vec![true; count]);
    assert_eq!(flags(&model.freeze()), vec![false; count]);
}

#[test]
fn all_layers_of_a_model_change_to_evaluation_and_back() {
    let _alone = alone();
    let d = &Device::default().autodiff();
    check_flags(cnn(13));
    check_flags(LstmBlockConfig::new(3, 4).with_num_layers(2).with_dropout(0.5).init(d).unwrap());
    check_flags(MultiHeadAttentionConfig::new(4, 2).with_dropout(0.5).init(d).unwrap());
    check_flags(Seq2SeqConfig::new(9, 8, 4, 6).with_num_layers(2).with_dropout(0.5).init(d).unwrap());
    check_flags(LanguageModelConfig::new(9, 4, 6).with_num_layers(2).with_dropout(0.5).init(d).unwrap());
    check_flags(SequenceClassifierConfig::new(3, 9, 4, 6).with_dropout(0.5).init(d).unwrap());
    check_flags(DcganConfig::new().init_generator(d).unwrap());
    check_flags(DcganConfig::new().init_discriminator(d).unwrap());
}

/// The printed module ends with its own number of parameters, which leaves buffers out.
fn check_display<M: Module + Display>(model: M) {
    let text = model.to_string();
    let buffers = ["running_mean", "running_var", "num_batches_tracked"];
    let dict = StateDict::of(&model);
    let trained = dict.iter().filter(|(key, _)| !buffers.iter().any(|buffer| key.ends_with(buffer)));
    let expected: usize = trained.map(|(_, data)| data.shape().iter().product::<usize>()).sum();
    let last = text.trim_end_matches(['\n', '}']);
    assert!(last.ends_with(&format!(" params: {expected}")), "not {expected}:\n{text}");
    assert_eq!(model.num_params(), expected);
}

#[test]
fn a_printed_model_shows_its_number_of_parameters() {
    let _alone = alone();
    let d = &Device::default();
    check_display(LinearConfig::new(3, 4).init(d).unwrap());
    check_display(LinearBlockConfig::new(3, 4).init(d).unwrap());
    check_display(BatchNorm2dConfig::new(3).init(d).unwrap());
    check_display(ConvBlockConfig::new(3, 8, 5).init(d).unwrap());
    check_display(cnn(12));
    check_display(EmbeddingConfig::new(5, 4).init(d).unwrap());
    check_display(RecurrentConfig::new(Cell::Gru, 3, 4).init(d).unwrap());
    check_display(RnnBlockConfig::new(3, 4).init(d).unwrap());
    check_display(LstmBlockConfig::new(3, 4).with_num_layers(2).with_bidirectional(true).init(d).unwrap());
    check_display(GruBlockConfig::new(3, 4).init(d).unwrap());
    check_display(AttentionBlockConfig::new(4).init(d).unwrap());
    check_display(MultiHeadAttentionConfig::new(4, 2).init(d).unwrap());
    check_display(EncoderConfig::new(9, 4, 6).init(d).unwrap());
    check_display(DecoderConfig::new(9, 4, 6).init(d).unwrap());
    check_display(Seq2SeqConfig::new(9, 8, 4, 6).init(d).unwrap());
    check_display(LanguageModelConfig::new(9, 4, 6).init(d).unwrap());
    check_display(SequenceClassifierConfig::new(3, 9, 4, 6).init(d).unwrap());
    check_display(GeneratorConfig::new(3, 4).init(d).unwrap());
    check_display(DiscriminatorConfig::new(3).init(d).unwrap());
    let config = DcganConfig::new();
    check_display(config.init_generator(d).unwrap());
    check_display(config.init_discriminator(d).unwrap());
}

#[test]
fn a_printed_layer_takes_a_line() {
    let _alone = alone();
    let d = &Device::default();
    let lstm = LstmBlockConfig::new(3, 4).with_num_layers(2).with_bidirectional(true).init(d).unwrap();
    assert_eq!(
        lstm.to_string(),
        "LstmBlock {\n  rnn: Recurrent {cell: Lstm, input_size: 3, hidden_size: 4, num_layers: 2, dropout: 0, \
         bidirectional: true, params: 736}\n  params: 736\n}"
    );
    let discriminator = DiscriminatorConfig::new(3).init(d).unwrap();
    assert_eq!(
        discriminator.to_string(),
        "Discriminator {\n  main: Sequential {\n    \
         0: Linear {in_features: 3, out_features: 512, bias: true, params: 2048}\n    \
         2: Linear {in_features: 512, out_features: 256, bias: true, params: 131328}\n    \
         4: Linear {in_features: 256, out_features: 1, bias: true, params: 257}\n    \
         params: 133633\n  }\n  negative_slope: 0.2\n  params: 133633\n}"
    );
    let attention = MultiHeadAttentionConfig::new(4, 2).init(d).unwrap();
    assert_eq!(
        attention.to_string(),
        "MultiHeadAttention {embed_dim: 4, num_heads: 2, dropout: 0, params: 80}"
    );
    let embedding = EmbeddingConfig::new(5, 4).with_padding_idx(Some(0)).init(d).unwrap();
    assert_eq!(
        embedding.to_string(),
        "Embedding {vocab_size: 5, embedding_dim: 4, padding_idx: 0, params: 20}"
    );
    assert_eq!(
        MaxPoolingConfig::new(2).init().unwrap().to_string(),
        "MaxPooling {kernel_size: 2, stride: 2}"
    );
    assert_eq!(
        AvgPoolingConfig::new(3).init().unwrap().to_string(),
        "AvgPooling {kernel_size: 3, stride: 3}"
    );
}

#[test]
fn evaluation_neither_updates_nor_drops() {
    let _alone = alone();
    let device = Device::default();
    let model = cnn(6).valid();
    let before = StateDict::of(&model);
    let input = batch(&device);
    let (a, b) = (model.forward(input.clone()).into_data(), model.forward(input).into_data());
    assert_eq!(a, b);
    assert_eq!(StateDict::of(&model), before);
}

#[test]
fn a_frozen_block_keeps_its_statistics_in_training() {
    let _alone = alone();
    let model = cnn(7).freeze();
    let before = StateDict::of(&model);
    model.forward(batch(&Device::default().autodiff()));
    assert_eq!(StateDict::of(&model), before);
}

#[test]
fn running_variance_is_unbiased() {
    let _turn = beside_others();
    let device = Device::default().autodiff();
    let layer = BatchNorm2dConfig::new(1).init(&device).unwrap();
    layer.forward(Tensor::from_data([[[[1.0f32, 3.0]]]], &device));
    // Mean 2, unbiased variance 2, each weighted 0.1 against 0 and 1.
    assert_eq!(layer.running_mean.value().into_data(), TensorData::from([0.2f32]));
    assert_eq!(layer.running_var.value().into_data(), TensorData::from([1.1f32]));
}

#[test]
fn weights_that_do_not_fit_are_all_named() {
    let _alone = alone();
    let mut dict = StateDict::default();
    for (key, data) in StateDict::of(&cnn(8)).iter().filter(|(key, _)| *key != "fc2.bias") {
        dict.insert(key, data.clone());
    }
    dict.insert("conv1.bn.weight", TensorData::from([1f32, 2.0]));
    dict.insert("conv1.bn.bias", TensorData::from([1i64; 32]));
    dict.insert("extra", TensorData::from([1f32]));
    let error = dict.apply(cnn(9)).unwrap_err();
    assert_eq!(error.kind(), &firebox_weights::ErrorKind::Mismatch);
    assert_eq!(
        error.to_string(),
        "the weights don't fit the module: conv1.bn.weight: expected shape [32], got [2]; \
         conv1.bn.bias: expected F32, got I64; missing fc2.bias; unexpected extra"
    );
}

#[test]
fn weights_survive_a_file() {
    let _alone = alone();
    let dict = StateDict::of(&cnn(10));
    let bytes = dict.to_safetensors().unwrap();
    assert_eq!(StateDict::from_safetensors(&bytes).unwrap(), dict);
    assert_eq!(bytes, StateDict::of(&cnn(10)).to_safetensors().unwrap(), "equal models, equal bytes");
    let error = StateDict::from_safetensors(&bytes[..bytes.len() - 1]).unwrap_err();
    assert_eq!(error.kind(), &firebox_weights::ErrorKind::Format);
    let error = StateDict::read("/nowhere/model.safetensors").unwrap_err();
    assert!(error.to_string().starts_with("/nowhere/model.safetensors: cannot be read: "), "{error}");
}

#[test]
fn the_features_of_a_cnn_are_what_its_last_map_makes_classes_of() {
    let _turn = alone();
    let cnn = cnn(6).valid();
    let device = Device::default();
    let images = Tensor::<4>::random([5, 1, 28, 28], Distribution::Normal(0.0, 1.0), &device);
    let features = cnn.features(images.clone());
    assert_eq!(features.dims(), [5, 128]);
    assert!(features.clone().min().into_scalar::<f32>() >= 0.0);
    let state = StateDict::of(&cnn);
    let of = |key: &str| state.get(key).unwrap().clone();
    let weight = Tensor::<2>::from_data(of("fc2.weight"), &device);
    let bias = Tensor::<1>::from_data(of("fc2.bias"), &device);
    let expected = features.clone().matmul(weight.transpose()) + bias.unsqueeze();
    let expected = expected.into_data().try_to_vec::<f32>().unwrap();
    for logits in [cnn.forward(images), cnn.classify(features)] {
        let logits = logits.into_data().try_to_vec::<f32>().unwrap();
        assert_eq!(logits.len(), expected.len());
        assert!(logits.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-4), "{logits:?}, {expected:?}");
    }
}

/// A struct of the public blocks, as a user has it.
#[derive(Module, Debug)]
struct OwnNet {
    conv1: ConvBlock,
    conv2: ConvBlock,
    fc1: LinearBlock,
    fc2: Linear,
}

fn own_block(from: usize, to: usize) -> ConvBlockConfig {
    ConvBlockConfig::new(from, to, 3).with_padding(1)
}

fn own_net(device: &Device) -> Result<OwnNet, Error> {
    let pooling = MaxPoolingConfig::new(2);
    Ok(OwnNet {
        conv1: own_block(1, 32).with_pooling(pooling.clone()).init(device)?,
        conv2: own_block(32, 64).with_pooling(pooling).init(device)?,
        fc1: LinearBlockConfig::new(64 * 7 * 7, 128).init(device)?,
        fc2: LinearConfig::new(128, 10).init(device)?,
    })
}

type OwnChain = Sequential<(ConvBlock, MaxPooling, ConvBlock, MaxPooling, Flatten, LinearBlock, Linear)>;

fn own_chain(device: &Device) -> Result<OwnChain, Error> {
    let pooling = MaxPoolingConfig::new(2).init()?;
    Ok(Sequential::new((
        own_block(1, 32).init(device)?,
        pooling.clone(),
        own_block(32, 64).init(device)?,
        pooling,
        Flatten::new(),
        LinearBlockConfig::new(64 * 7 * 7, 128).init(device)?,
        LinearConfig::new(128, 10).init(device)?,
    )))
}

impl Forward<Tensor<4>> for OwnNet {
    type Output = Tensor<2>;

    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let maps = self.conv2.forward(self.conv1.forward(images));
        self.fc2.forward(self.fc1.forward(maps.flatten::<2>(1, 3)))
    }
}

/// Output, running statistics and gradients of a network for a batch, as bits, by the tensors' order.
fn pass<M: Module + Forward<Tensor<4>, Output = Tensor<2>>>(model: &M, images: Tensor<4>) -> Vec<Vec<u32>> {
    let bits = |data: TensorData| data.iter::<f32>().map(f32::to_bits).collect::<Vec<_>>();
    let output = model.forward(images);
    let [rows, columns] = output.dims();
    let slopes = (0..rows * columns).map(|at| (at % 5) as f32 - 1.5).collect::<Vec<_>>();
    let slopes = Tensor::<2>::from_data(TensorData::new(slopes, [rows, columns]), &output.device());
    let gradients = (output.clone() * slopes).sum().backward();
    let mut all = vec![bits(output.into_data())];
    all.extend(StateDict::of(model).iter().map(|(_, data)| bits(data.into())));
    struct Visit<'a>(&'a burn::tensor::Gradients, Vec<TensorData>);
    impl ModuleVisitor for Visit<'_> {
        fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
            self.1.extend(parameter.val().grad(self.0).map(Tensor::into_data));
        }
    }
    let mut visit = Visit(&gradients, vec![]);
    model.visit(&mut visit);
    assert_eq!(visit.1.len(), 12, "all parameters learn");
    all.extend(visit.1.into_iter().map(bits));
    all
}

#[test]
fn own_networks_of_public_blocks_are_the_cnn_bit_for_bit() {
    let _alone = alone();
    let device = Device::default().autodiff();
    let cnn = init(3, &device, |d| CnnConfig::new(10).with_channels(1).init(d)).unwrap();
    let own = init(3, &device, own_net).unwrap();
    let chain = init(3, &device, own_chain).unwrap();
    let keys = |dict: StateDict| dict.iter().map(|(key, _)| key.to_owned()).collect::<Vec<_>>();
    assert_eq!(StateDict::of(&cnn), StateDict::of(&own));
    let numbered = keys(StateDict::of(&cnn)).into_iter().map(|key| {
        let places = [("conv1.", "0."), ("conv2.", "2."), ("fc1.", "5."), ("fc2.", "6.")];
        let (name, place) = places.into_iter().find(|(name, _)| key.starts_with(name)).unwrap();
        key.replacen(name, place, 1)
    });
    assert_eq!(keys(StateDict::of(&chain)), numbered.collect::<Vec<_>>());
    let images = Tensor::<4>::random([5, 1, 28, 28], Distribution::Normal(0.0, 1.0), &device);
    let expected = pass(&cnn, images.clone());
    assert!(pass(&own, images.clone()) == expected, "a struct");
    assert!(pass(&chain, images.clone()) == expected, "a sequence");
    // For inference, too.
    let images = images.inner();
    let bits = |logits: Tensor<2>| logits.into_data().iter::<f32>().map(f32::to_bits).collect::<Vec<_>>();
    let expected = bits(cnn.valid().forward(images.clone()));
    assert_eq!(bits(own.valid().forward(images.clone())), expected);
    assert_eq!(bits(chain.valid().forward(images)), expected);
}

/// What a sequence puts together gives what its layers give one after the other.
#[test]
fn sequences_are_their_layers_one_after_the_other() {
    let _alone = alone();
    let d = &Device::default().autodiff();
    let images = || Tensor::<4>::random([4, 3, 16, 15], Distribution::Normal(0.0, 1.0), d);
    let bits = |maps: Tensor<4>| maps.into_data().iter::<f32>().map(f32::to_bits).collect::<Vec<_>>();
    let block = |from, to| ConvBlockConfig::new(from, to, 3).init(d).unwrap();
    let max = |size, stride| MaxPoolingConfig::new(size).with_stride(Some(stride)).init().unwrap();
    // A pooling that no block takes over, one after another, and one after a block that pools already.
    let (a, b, c) = (block(3, 5), block(5, 4), block(4, 6));
    let x = images();
    let whole = Sequential::new((a.clone(), max(3, 1), b.clone(), max(2, 2), max(2, 1), c.clone()));
    let apart = max(2, 1).forward(max(2, 2).forward(b.forward(max(3, 1).forward(a.forward(x.clone())))));
    assert!(bits(whole.forward(x.clone())) == bits(c.forward(apart)));
    let pooling = own_block(3, 4).with_pooling(MaxPoolingConfig::new(2)).init(d).unwrap();
    let whole = Sequential::new((pooling.clone(), max(2, 2)));
    assert!(bits(whole.forward(x.clone())) == bits(max(2, 2).forward(pooling.forward(x.clone()))));
    // Sequences in a sequence, and Burn's layers.
    let inner = Sequential::new((a.clone(), max(2, 2)));
    let whole = Sequential::new((inner, AvgPoolingConfig::new(2).init().unwrap(), Relu::new()));
    let apart = AvgPoolingConfig::new(2).init().unwrap().forward(max(2, 2).forward(a.forward(x.clone())));
    assert!(bits(whole.forward(x.clone())) == bits(apart));
    assert!(keys_of(&whole).iter().any(|key| key == "0.0.conv.weight"));
    // An input that does not fit names the layer.
    let error = whole.check_input(&Tensor::zeros([1, 2, 9, 9], d)).unwrap_err();
    assert_eq!(error.to_string(), "Sequential.0.0.conv: expected [.., 3, .., ..], got [1, 2, 9, 9]");
    check_display(whole);
}

fn keys_of<M: Module>(model: &M) -> Vec<String> {
    StateDict::of(model).iter().map(|(key, _)| key.to_owned()).collect()
}

/// A config that was saved before it had pooling, under the names that it had then.
#[test]
fn a_block_saved_under_its_old_names_is_read() {
    let old = r#"{"channels_in": 3, "channels_out": 8, "kernel_size": 5, "stride": 2, "padding": 1}"#;
    let read = ConvBlockConfig::load_binary(old.as_bytes()).unwrap();
    let expected = ConvBlockConfig::new(3, 8, 5).with_stride(2).with_padding(1);
    assert_eq!(format!("{read:?}"), format!("{expected:?}"));
    assert!(expected.to_string().contains("\"in_channels\": 3"), "{expected}");
}
