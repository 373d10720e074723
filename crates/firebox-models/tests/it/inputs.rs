//! Inputs and configs that don't fit: each is an error, or where there is no error a panic, that says what
//! was expected.

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::config::{Config, config_to_json};
use burn::module::{Module, ModuleVisitor, Param};
use burn::nn::BatchNormConfig;
use burn::tensor::{Bool, Device, Distribution, Gradients, Int, Tensor, TensorData};
use firebox_models::decoding::{Beam, Sampling};
use firebox_models::gan::{DcganConfig, DiscriminatorConfig, GeneratorConfig, Logits};
use firebox_models::layers::{
    AttentionBlockConfig, AttentionMask, AvgPoolingConfig, BatchNorm2d, BatchNorm2dConfig, Cell,
    ConvBlockConfig, EmbeddingConfig, GruBlockConfig, LinearBlockConfig, LinearConfig, LstmBlockConfig,
    LstmState, MaxPoolingConfig, MultiHeadAttentionConfig, RecurrentConfig, RecurrentState, RnnBlockConfig,
    batch_norms,
};
use firebox_models::text::{
    DecoderConfig, EncoderConfig, LanguageModel, LanguageModelConfig, Seq2Seq, Seq2SeqConfig,
    SequenceClassifierConfig, SequenceRegressorConfig,
};
use firebox_models::vision::CnnConfig;
use firebox_models::{Error, ErrorKind, Forward, init};
use serde_json::{Value, json};

use crate::common::{alone, beside_others};

fn device() -> Device {
    Device::default()
}

fn zeros<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    Tensor::zeros(shape, &device())
}

fn ints<const D: usize>(values: &[i64], shape: [usize; D]) -> Tensor<D, Int> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), &device())
}

fn panic_text<T>(run: impl FnOnce() -> T) -> String {
    let payload = catch_unwind(AssertUnwindSafe(run)).err().expect("a panic");
    let literal = || payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    payload.downcast_ref::<String>().cloned().or_else(literal).expect("a message")
}

/// The check refuses with this message, and computing panics with the same.
#[track_caller]
fn refused<T>(expected: &str, check: Result<(), Error>, compute: impl FnOnce() -> T) {
    let error = check.unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (&ErrorKind::Input, expected));
    assert_eq!(panic_text(compute), expected);
}

#[test]
fn images_that_do_not_fit_name_the_layer_what_it_wants_and_what_came() {
    let _turn = beside_others();
    let d = &device();
    let linear = LinearConfig::new(3136, 128).init(d).unwrap();
    let x = zeros([32, 4096]);
    refused(
        "Linear: expected [.., 3136], got [32, 4096] (weight [128, 3136])",
        linear.check_input(&x),
        || linear.forward(x.clone()),
    );
    let x = zeros([7]);
    let small = LinearConfig::new(3, 2).init(d).unwrap();
    refused("Linear: expected [3], got [7] (weight [2, 3])", small.check_input(&x), || {
        small.forward(x.clone())
    });
    let block = LinearBlockConfig::new(3, 2).init(d).unwrap();
    let x = zeros([2, 5, 4]);
    refused(
        "LinearBlock.linear: expected [.., 3], got [2, 5, 4] (weight [2, 3])",
        block.check_input(&x),
        || block.forward(x.clone()),
    );
    let cnn = CnnConfig::new(10).with_channels(1).init(d).unwrap();
    for (shape, expected) in [
        (
            [32, 1, 32, 32],
            "Cnn.fc1: expected 3136 features, got 4096, from images [32, 1, 32, 32]; the model is for 28×28",
        ),
        ([32, 3, 28, 28], "Cnn.conv1.conv: expected [.., 1, .., ..], got [32, 3, 28, 28]"),
        // As many features, from maps of other sides.
        (
            [2, 1, 4, 196],
            "Cnn.fc1: expected 3136 features, got 3136 of 1×49 maps, from images [2, 1, 4, 196]; the model is for 28×28",
        ),
        (
            [2, 1, 1, 28],
            "Cnn.conv1.pooling: expected a height of at least 2 and a width of at least 2, got [2, 32, 1, 28], \
             from images [2, 1, 1, 28]; the model is for 28×28",
        ),
    ] {
        let x = zeros(shape);
        refused(expected, cnn.check_input(&x), || cnn.forward(x.clone()));
        assert_eq!(panic_text(|| cnn.features(x.clone())), expected);
    }
    // Pixels that no window of the poolings reaches.
    assert!(cnn.check_input(&zeros([2, 1, 31, 29])).is_ok());
    assert_eq!(cnn.forward(zeros([2, 1, 31, 29])).dims(), [2, 10]);

    let conv = ConvBlockConfig::new(3, 8, 5).with_padding(1).init(d).unwrap();
    let x = zeros([2, 3, 2, 7]);
    let expected =
        "ConvBlock.conv: expected a height of at least 3 and a width of at least 3, got [2, 3, 2, 7]";
    refused(expected, conv.check_input(&x), || conv.forward(x.clone()));
    let x = zeros([2, 4, 7, 7]);
    refused("ConvBlock.conv: expected [.., 3, .., ..], got [2, 4, 7, 7]", conv.check_input(&x), || {
        conv.forward(x.clone())
    });
    let norm = BatchNorm2dConfig::new(3).init(d).unwrap();
    let x = zeros([2, 4, 7, 7]);
    refused("BatchNorm2d: expected [.., 3, .., ..], got [2, 4, 7, 7]", norm.check_input(&x), || {
        norm.forward(x.clone())
    });
    let (max, avg) = (MaxPoolingConfig::new(3).init().unwrap(), AvgPoolingConfig::new(3).init().unwrap());
    let x = zeros([2, 4, 7, 2]);
    let expected = "Pooling: expected a height of at least 3 and a width of at least 3, got [2, 4, 7, 2]";
    refused(&format!("Max{expected}"), max.check_input(&x), || max.forward(x.clone()));
    refused(&format!("Avg{expected}"), avg.check_input(&x), || avg.forward(x.clone()));
}

#[test]
fn samples_and_noise_that_do_not_fit_are_refused() {
    let _turn = beside_others();
    let d = &device();
    let generator = GeneratorConfig::new(5, 6).init(d).unwrap();
    let x = zeros([2, 4]);
    let expected = "Generator.main.0: expected [.., 5], got [2, 4] (weight [256, 5])";
    refused(expected, generator.check_input(&x), || generator.forward(x.clone()));
    let discriminator = DiscriminatorConfig::new(6).init(d).unwrap();
    let expected = "Discriminator.main.0: expected [.., 6], got [2, 4] (weight [512, 6])";
    refused(expected, discriminator.check_input(&x), || discriminator.forward(x.clone()));
    refused(expected, discriminator.check_samples(&x), || Logits::logits(&discriminator, x.clone()));
    let config = DcganConfig::new().with_latent(5).with_size(8).with_features(2);
    let generator = config.init_generator(d).unwrap();
    let expected = "DcganGenerator.main.0: expected noise [2, 5], got [2, 4]";
    refused(expected, generator.check_input(&x), || generator.forward(x.clone()));
    // Images of 16×16 had four logits a sample.
    let discriminator = config.init_discriminator(d).unwrap();
    for shape in [[2, 1, 16, 16], [2, 3, 8, 8], [2, 1, 8, 9]] {
        let x = zeros(shape);
        let expected = format!("DcganDiscriminator: expected images [2, 1, 8, 8], got {shape:?}");
        refused(&expected, discriminator.check_input(&x), || discriminator.forward(x.clone()));
        refused(&expected, discriminator.check_samples(&x), || Logits::logits(&discriminator, x.clone()));
    }
}

#[test]
fn sequences_states_and_masks_that_do_not_fit_are_refused() {
    let _turn = beside_others();
    let d = &device();
    let two = ints(&[4, 2], [2]);
    let state = |hidden, cell| RecurrentState { hidden, cell };
    let rnn = RecurrentConfig::new(Cell::Lstm, 3, 5).init(d).unwrap();
    let x = zeros([2, 4, 3]);
    let bad = [
        (zeros([2, 4, 6]), None, None, "[batch, time, 3], got [2, 4, 6]"),
        (x.clone(), Some(ints(&[4], [1])), None, "lengths [2], got [1]"),
        (x.clone(), None, Some(state(zeros([1, 1, 5]), None)), "a state [1, 2, 5], got [1, 1, 5]"),
        (
            x.clone(),
            Some(two.clone()),
            Some(state(zeros([1, 2, 5]), Some(zeros([1, 1, 5])))),
            "a cell [1, 2, 5], got [1, 1, 5]",
        ),
    ];
    for (x, lengths, state, expected) in bad {
        let check = rnn.check_input(&x, lengths.as_ref(), state.as_ref());
        refused(&format!("Recurrent: expected {expected}"), check, || rnn.forward(x, lengths, state));
    }
    let x = zeros([2, 4, 6]);
    let expected = |block: &str| format!("{block}.rnn: expected [batch, time, 3], got [2, 4, 6]");
    let rnn = RnnBlockConfig::new(3, 5).init(d).unwrap();
    refused(&expected("RnnBlock"), rnn.check_input(&x, None, None), || rnn.forward(x.clone(), None, None));
    let gru = GruBlockConfig::new(3, 5).init(d).unwrap();
    refused(&expected("GruBlock"), gru.check_input(&x, None, None), || gru.forward(x.clone(), None, None));
    let lstm = LstmBlockConfig::new(3, 5).init(d).unwrap();
    refused(&expected("LstmBlock"), lstm.check_input(&x, None, None), || lstm.forward(x.clone(), None, None));
    let wrong = LstmState { hidden: zeros([1, 2, 5]), cell: zeros([2, 2, 5]) };
    refused(
        "LstmBlock.rnn: expected a cell [1, 2, 5], got [2, 2, 5]",
        lstm.check_input(&zeros([2, 4, 3]), None, Some(&wrong)),
        || lstm.forward(zeros([2, 4, 3]), None, Some(wrong.clone())),
    );
    let regressor = SequenceRegressorConfig::new(3, 5, 1).init(d).unwrap();
    let check = regressor.check_input(&x);
    refused(&expected("SequenceRegressor"), check, || regressor.forward(x.clone()));

    let attention = AttentionBlockConfig::new(4).init(d).unwrap();
    let mask = |shape: [usize; 2]| Tensor::<2, Bool>::full(shape, true, &device());
    for (encoder, query, mask, expected) in [
        ([2, 3, 5], [2, 1, 4], None, "an encoder's outputs [2, 3, 4], got [2, 3, 5]"),
        ([2, 3, 4], [2, 3, 4], None, "a decoder's state [2, 1, 4], got [2, 3, 4]"),
        ([2, 3, 4], [2, 1, 4], Some(mask([2, 4])), "a mask [2, 3], got [2, 4]"),
    ] {
        let (encoder, query) = (zeros(encoder), zeros(query));
        let check = attention.check_input(&encoder, &query, mask.as_ref());
        let expected = format!("AttentionBlock: expected {expected}");
        refused(&expected, check, || attention.forward(encoder.clone(), query.clone(), mask.clone()));
    }
    let heads = MultiHeadAttentionConfig::new(4, 2).init(d).unwrap();
    let masked = |keys, pairs| AttentionMask { keys, pairs };
    for (shapes, mask, expected) in [
        ([[2, 3, 5], [2, 6, 4], [2, 6, 4]], masked(None, None), "queries [2, 3, 4], got [2, 3, 5]"),
        ([[2, 3, 4], [1, 6, 4], [2, 6, 4]], masked(None, None), "keys [2, 6, 4], got [1, 6, 4]"),
        ([[2, 3, 4], [2, 6, 4], [2, 5, 4]], masked(None, None), "values [2, 6, 4], got [2, 5, 4]"),
        (
            [[2, 3, 4], [2, 6, 4], [2, 6, 4]],
            masked(Some(mask([2, 3])), None),
            "a mask of keys [2, 6], got [2, 3]",
        ),
        (
            [[2, 3, 4], [2, 6, 4], [2, 6, 4]],
            masked(None, Some(mask([6, 3]))),
            "a mask of pairs [3, 6], got [6, 3]",
        ),
    ] {
        let [q, k, v] = shapes.map(zeros);
        let check = heads.check_input(&q, &k, &v, &mask);
        let expected = format!("MultiHeadAttention: expected {expected}");
        refused(&expected, check, || heads.forward(q.clone(), k.clone(), v.clone(), mask.clone()));
    }
}

fn seq2seq() -> Seq2Seq {
    init(3, &device(), |d| Seq2SeqConfig::new(9, 8, 4, 6).init(d)).unwrap()
}

#[test]
fn texts_that_do_not_fit_are_refused() {
    let _turn = beside_others();
    let d = &device();
    let (tokens, lengths) = (ints(&[3, 4, 5, 6], [2, 2]), ints(&[2, 1], [2]));
    let classifier = SequenceClassifierConfig::new(3, 9, 4, 5).init(d).unwrap();
    let wrong = (tokens.clone(), ints(&[2, 1, 1], [3]));
    let expected = "SequenceClassifier: expected lengths [2], got [3]";
    refused(expected, classifier.check_input(&wrong), || classifier.forward(wrong.clone()));

    let model = seq2seq();
    for (target, expected) in [
        (ints(&[1, 3, 2], [1, 3]), "a target for each source [2, 3], got [1, 3]"),
        (ints(&[1, 1], [2, 1]), "a target with at least 2 places, got [2, 1]"),
    ] {
        let source = (tokens.clone(), lengths.clone());
        let check = model.check_input(source.clone(), &target);
        refused(&format!("Seq2Seq: expected {expected}"), check, || {
            model.forward(source, target.clone(), 1.0)
        });
    }
    let encoded = model.encoder.forward((tokens.clone(), lengths.clone()));
    let expected = "Decoder: expected tokens [2], got [3]";
    assert_eq!(panic_text(|| model.decoder.begin(encoded.clone()).step(ints(&[1, 1, 1], [3]))), expected);
    let expected = "Decoder: expected tokens [2, 1], got [3, 1]";
    assert_eq!(panic_text(|| model.decoder.begin(encoded.clone()).steps(ints(&[1, 1, 1], [3, 1]))), expected);
    let expected = "Decoder: expected at least one step, got none";
    let none = Tensor::<2, Int>::zeros([2, 0], d);
    assert_eq!(panic_text(|| model.decoder.begin(encoded.clone()).steps(none)), expected);
    let other = DecoderConfig::new(8, 4, 8).init(d).unwrap();
    refused(
        "Decoder: expected an encoder's outputs [2, 2, 8], got [2, 2, 6]",
        other.check_encoded(&encoded),
        || drop(other.begin(encoded.clone())),
    );
    let deep = DecoderConfig::new(8, 4, 6).with_num_layers(2).init(d).unwrap();
    refused("Decoder: expected a state [2, 2, 6], got [1, 2, 6]", deep.check_encoded(&encoded), || {
        drop(deep.begin(encoded.clone()))
    });

    let model = LanguageModelConfig::new(9, 4, 5).init(d).unwrap();
    let state = RecurrentState { hidden: zeros([1, 3, 5]), cell: None };
    let expected = "LanguageModel.rnn: expected a state [1, 2, 5], got [1, 3, 5]";
    let check = model.check_input(&tokens, Some(&state));
    refused(expected, check, || model.forward(tokens.clone(), Some(state.clone())));
}

#[test]
fn tokens_beyond_the_vocabulary_name_their_place() {
    let _turn = beside_others();
    let d = &device();
    let input = |result: Result<(), Error>| {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Input);
        error.to_string()
    };
    // The padding token is one of the vocabulary.
    let embedding = EmbeddingConfig::new(9, 4).with_padding_idx(Some(0)).init(d).unwrap();
    let known = ints(&[0, 8, 3, 0], [2, 2]);
    assert!(embedding.check_tokens(&known).is_ok());
    for (bad, value) in [(9, "9"), (-1, "-1"), (i64::from(i32::MAX), "2147483647")] {
        let tokens = ints(&[0, 8, 3, bad], [2, 2]);
        assert_eq!(
            input(embedding.check_tokens(&tokens)),
            format!("Embedding: token {value} at row 1, place 1: expected a token below 9")
        );
        assert!(catch_unwind(AssertUnwindSafe(|| embedding.forward(tokens.clone()))).is_err());
    }
    assert!(embedding.check_tokens(&Tensor::zeros([0, 3], d)).is_ok());
    assert!(embedding.check_tokens(&Tensor::zeros([3, 0], d)).is_ok());
    // Not in the order of memory.
    let turned = ints(&[1, 2, 3, 4, 5, 99], [2, 3]).transpose();
    let expected = "Embedding: token 99 at row 2, place 1: expected a token below 9";
    assert_eq!(input(embedding.check_tokens(&turned)), expected);

    let (bad, lengths) = (ints(&[3, 9], [1, 2]), ints(&[2], [1]));
    let classifier = SequenceClassifierConfig::new(3, 9, 4, 5).init(d).unwrap();
    assert_eq!(
        input(classifier.check_tokens(&(bad.clone(), lengths.clone()))),
        "SequenceClassifier.embedding: token 9 at row 0, place 1: expected a token below 9"
    );
    let model = LanguageModelConfig::new(9, 4, 5).init(d).unwrap();
    let expected = "LanguageModel.embedding: token 9 at row 0, place 1: expected a token below 9";
    assert_eq!(input(model.check_tokens(&bad)), expected);
    let model = seq2seq();
    let source = "Seq2Seq.encoder.embedding: token 9 at row 0, place 1: expected a token below 9";
    let target = "Seq2Seq.decoder.embedding: token 8 at row 0, place 1: expected a token below 8";
    let good = ints(&[3, 4], [1, 2]);
    assert_eq!(input(model.check_tokens((bad.clone(), lengths.clone()), &good)), source);
    let eight = ints(&[3, 8], [1, 2]);
    assert_eq!(input(model.check_tokens((good.clone(), lengths.clone()), &eight)), target);
    assert!(model.check_tokens((good.clone(), lengths.clone()), &good).is_ok());
    for found in [
        model.greedy((bad.clone(), lengths.clone()), 3).map(drop),
        model.beam((bad, lengths.clone()), &Beam::new(3)).map(drop),
    ] {
        assert_eq!(input(found), source);
    }
    let expected = "Seq2Seq.encoder: expected lengths [1], got [2]";
    assert_eq!(input(model.greedy((good, ints(&[2, 2], [2])), 3).map(drop)), expected);
}

#[test]
fn one_value_per_channel_in_training_is_refused_by_name() {
    let _turn = beside_others();
    let (plain, trains) = (device(), device().autodiff());
    let norm = BatchNorm2dConfig::new(8).init(&trains).unwrap();
    let one = Tensor::<4>::zeros([1, 8, 1, 1], &trains);
    let expected =
        "BatchNorm2d: expected more than one value per channel in training, got input [1, 8, 1, 1]";
    refused(expected, norm.check_input(&one), || norm.forward(one.clone()));
    let none = Tensor::<4>::zeros([0, 8, 3, 3], &trains);
    let expected =
        "BatchNorm2d: expected more than one value per channel in training, got input [0, 8, 3, 3]";
    refused(expected, norm.check_input(&none), || norm.forward(none.clone()));
    // Nothing was counted, and what has two values passes; so does one in evaluation, or if the layer is
    // frozen.
    assert_eq!(norm.num_batches_tracked.value(), 0);
    norm.forward(Tensor::zeros([1, 8, 2, 1], &trains));
    assert!(norm.valid().check_input(&Tensor::zeros([1, 8, 1, 1], &plain)).is_ok());
    let frozen = norm.freeze();
    frozen.forward(one);
    assert_eq!(frozen.num_batches_tracked.value(), 1);
    let block = ConvBlockConfig::new(1, 8, 3).init(&trains).unwrap();
    let image = Tensor::<4>::zeros([1, 1, 3, 3], &trains);
    let expected =
        "ConvBlock.bn: expected more than one value per channel in training, got input [1, 8, 1, 1]";
    refused(expected, block.check_input(&image), || block.forward(image.clone()));
    assert!(block.valid().check_input(&image.without_autodiff()).is_ok());
    let config = DcganConfig::new().with_latent(3).with_size(4).with_features(2);
    let generator = config.init_generator(&trains).unwrap();
    let noise = Tensor::<2>::zeros([1, 3], &trains);
    let more = "expected more than one value per channel in training, got input [1, 4, 1, 1]";
    let expected = format!("DcganGenerator.main.1: {more}");
    refused(&expected, generator.check_input(&noise), || generator.forward(noise.clone()));
    let discriminator = config.init_discriminator(&trains).unwrap();
    let image = Tensor::<4>::zeros([1, 1, 4, 4], &trains);
    let expected = format!("DcganDiscriminator.main.3: {more}");
    refused(&expected, discriminator.check_samples(&image), || Logits::logits(&discriminator, image.clone()));
}

#[derive(Module, Debug)]
struct Nested {
    blocks: Vec<BatchNorm2d>,
    theirs: burn::nn::BatchNorm,
}

#[test]
fn batch_norms_are_found_wherever_they_are() {
    let _turn = beside_others();
    let d = &device().autodiff();
    let config = DcganConfig::new();
    assert_eq!(batch_norms(&config.init_generator(d).unwrap()), ["main.1", "main.4"]);
    assert_eq!(batch_norms(&config.init_discriminator(d).unwrap()), ["main.3"]);
    let norm = BatchNorm2dConfig::new(2).init(d).unwrap();
    assert_eq!(batch_norms(&norm), [""]);
    // Frozen ones use their running statistics, and so does a model in evaluation.
    assert!(batch_norms(&norm.clone().freeze()).is_empty());
    assert!(batch_norms(&norm.valid()).is_empty());
    let nested =
        Nested { blocks: vec![norm.clone().freeze(), norm], theirs: BatchNormConfig::new(2).init(d) };
    assert_eq!(batch_norms(&nested), ["blocks.1", "theirs"]);
    // Dropout has a flag as well.
    let lstm = LstmBlockConfig::new(3, 4).with_dropout(0.5).init(d).unwrap();
    assert!(batch_norms(&lstm).is_empty());
}

/// Sets elements of a parameter.
fn set<const D: usize>(param: &mut Param<Tensor<D>>, at: impl Fn(usize) -> bool, value: f32) {
    let shape = param.val().shape();
    let mut values = param.val().into_data().try_to_vec::<f32>().unwrap();
    values.iter_mut().enumerate().filter(|(place, _)| at(*place)).for_each(|(_, x)| *x = value);
    *param = Param::from_tensor(Tensor::from_data(TensorData::new(values, shape), &device()));
}

#[track_caller]
fn no_value<T: Debug>(expected: &str, result: Result<T, Error>) {
    let error = result.unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (&ErrorKind::Value, expected));
}

#[test]
fn decoding_refuses_what_is_no_number_and_names_sentence_and_step() {
    let _turn = beside_others();
    let source = || (ints(&[3, 4, 5, 7, 8, 0], [2, 3]), ints(&[3, 2], [2]));
    // Token 7 of the sources, which only the second sentence has.
    let mut model = seq2seq();
    set(&mut model.encoder.embedding.weight, |at| at / 4 == 7, f32::NAN);
    let expected = "sentence 1, step 0: the logit of token 0: expected a finite number, got NaN";
    no_value(expected, model.greedy(source(), 5));
    for beam in [Beam::new(5), Beam::new(5).with_width(100).with_length_penalty(0.6)] {
        no_value(expected, model.beam(source(), &beam));
    }
    // The first sentence alone has nothing of it.
    assert!(model.greedy((ints(&[3, 4, 5], [1, 3]), ints(&[3], [1])), 5).is_ok());

    // The decoder writes 3 at first, and what follows 3 is no number.
    let mut model = seq2seq();
    set(model.decoder.fc.bias.as_mut().unwrap(), |at| at == 3, 50.0);
    set(&mut model.decoder.embedding.weight, |at| at / 4 == 3, f32::NAN);
    let expected = "sentence 0, step 1: the logit of token 0: expected a finite number, got NaN";
    no_value(expected, model.greedy(source(), 5));

    let with_bias = |at: &dyn Fn(usize) -> bool, value: f32| {
        let mut model = seq2seq();
        set(model.decoder.fc.bias.as_mut().unwrap(), at, value);
        model
    };
    let infinite = with_bias(&|at| at == 4, f32::INFINITY);
    let expected = "sentence 0, step 0: the logit of token 4: expected a finite number, got inf";
    no_value(expected, infinite.greedy(source(), 5));
    no_value(expected, infinite.beam(source(), &Beam::new(5)));
    let none = with_bias(&|_| true, f32::NEG_INFINITY);
    let expected =
        "sentence 0, step 0: the logits of 8 tokens: expected a finite number among them, got -inf for all";
    no_value(expected, none.greedy(source(), 5));
    no_value(expected, none.beam(source(), &Beam::new(5)));
}

#[test]
fn a_token_whose_logit_is_minus_infinity_cannot_come() {
    let _turn = beside_others();
    let source = (ints(&[3, 4, 5, 7, 8, 0], [2, 3]), ints(&[3, 2], [2]));
    let mut model = seq2seq();
    // Two tokens and the end are left.
    set(model.decoder.fc.bias.as_mut().unwrap(), |at| ![2, 4, 6].contains(&at), f32::NEG_INFINITY);
    let beam = Beam::new(4).with_width(100);
    for found in model.beam(source.clone(), &beam).unwrap() {
        // All of up to four tokens: 1 + 2 + 4 + 8 with an end, and 16 that are cut.
        assert_eq!(found.len(), 31);
        for hypothesis in &found {
            assert!(hypothesis.score.is_finite() && hypothesis.log_probability.is_finite());
            assert!(hypothesis.tokens.iter().all(|token| [4, 6].contains(token)), "{hypothesis:?}");
        }
        let all: f64 = found.iter().map(|hypothesis| hypothesis.log_probability.exp()).sum();
        assert!((all - 1.0).abs() < 1e-5, "{all}");
    }
    // Only the end.
    set(model.decoder.fc.bias.as_mut().unwrap(), |at| at != 2, f32::NEG_INFINITY);
    for found in model.beam(source, &Beam::new(usize::MAX).with_width(usize::MAX)).unwrap() {
        assert_eq!(found.len(), 1);
        assert!(found[0].ended && found[0].tokens.is_empty());
    }
}

fn language_model() -> LanguageModel {
    init(5, &device(), |d| LanguageModelConfig::new(6, 3, 4).init(d)).unwrap()
}

#[test]
fn text_is_not_drawn_from_what_is_no_number() {
    let _turn = beside_others();
    let with_bias = |at: &dyn Fn(usize) -> bool, value: f32| {
        let mut model = language_model();
        set(model.fc.bias.as_mut().unwrap(), at, value);
        model
    };
    for sampling in [Sampling::new(), Sampling::new().with_temperature(0.0), Sampling::new().with_top_p(0.5)]
    {
        for (bad, text) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf")] {
            let expected = format!("step 0: the logit of token 3: expected a finite number, got {text}");
            no_value(&expected, with_bias(&|at| at == 3, bad).generate(&[1], 5, &sampling));
        }
        let none = with_bias(&|_| true, f32::NEG_INFINITY);
        let expected =
            "step 0: the logits of 6 tokens: expected a finite number among them, got -inf for all";
        no_value(expected, none.generate(&[1], 5, &sampling));
        let two = with_bias(&|at| ![2, 5].contains(&at), f32::NEG_INFINITY);
        let text = two.generate(&[1], 50, &sampling).unwrap();
        assert!(text.iter().all(|token| [2, 5].contains(token)), "{text:?}");
    }
    // A step later: what follows token 2 is no number.
    let mut model = with_bias(&|at| at == 2, 80.0);
    set(&mut model.embedding.weight, |at| at / 3 == 2, f32::NAN);
    let expected = "step 1: the logit of token 0: expected a finite number, got NaN";
    no_value(expected, model.generate(&[1], 5, &Sampling::new()));
}

#[test]
fn searches_and_samples_of_settings_that_are_no_numbers_are_refused() {
    let _turn = beside_others();
    let source = (ints(&[3, 4], [1, 2]), ints(&[2], [1]));
    let error = |result: Result<(), Error>| {
        let error = result.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::OutOfRange { .. }), "{error}");
        error.to_string()
    };
    for bad in [f64::NAN, f64::INFINITY, -1.0] {
        let beam = Beam::new(3).with_length_penalty(bad);
        let expected = format!("Beam.length_penalty: expected a number of at least 0, got {bad}");
        assert_eq!(error(seq2seq().beam(source.clone(), &beam).map(drop)), expected);
        let sampling = Sampling::new().with_temperature(bad);
        let expected = format!("Sampling.temperature: expected a number of at least 0, got {bad}");
        assert_eq!(error(language_model().generate(&[1], 3, &sampling).map(drop)), expected);
        let sampling = Sampling::new().with_top_p(bad);
        let expected = format!("Sampling.top_p: expected 0 < p ≤ 1, got {bad}");
        assert_eq!(error(language_model().generate(&[1], 3, &sampling).map(drop)), expected);
    }
    let expected = "Sampling.top_p: expected 0 < p ≤ 1, got 0";
    let sampling = Sampling::new().with_top_p(0.0);
    assert_eq!(error(language_model().generate(&[1], 3, &sampling).map(drop)), expected);
    // Of equal ones the first comes first, however cold it is.
    let mut model = language_model();
    set(&mut model.fc.weight, |_| true, 0.0);
    set(model.fc.bias.as_mut().unwrap(), |_| true, 0.0);
    for sampling in [Sampling::new().with_temperature(0.0), Sampling::new().with_top_p(f64::MIN_POSITIVE)] {
        assert_eq!(model.generate(&[1], 3, &sampling).unwrap(), [0, 0, 0]);
    }
    set(model.fc.bias.as_mut().unwrap(), |at| at == 4, 1e-3);
    let cold = Sampling::new().with_temperature(f64::MIN_POSITIVE);
    assert_eq!(model.generate(&[1], 3, &cold).unwrap(), [4, 4, 4]);
    assert_eq!(model.generate(&[1], 0, &cold).unwrap(), [0usize; 0]);
}

#[test]
fn batches_without_rows_or_steps_give_outputs_without_them() {
    let _turn = beside_others();
    let d = &device();
    let (none, short) = (Tensor::<2, Int>::zeros([0, 3], d), Tensor::<2, Int>::zeros([2, 0], d));
    let lengths = |rows: usize| Tensor::<1, Int>::zeros([rows], d);
    let classifier = SequenceClassifierConfig::new(3, 9, 4, 5).init(d).unwrap();
    assert_eq!(classifier.forward((none.clone(), lengths(0))).dims(), [0, 3]);
    let logits = classifier.forward((short.clone(), lengths(2)));
    assert_eq!(logits.dims(), [2, 3]);
    assert!(logits.into_data().iter::<f32>().all(f32::is_finite));
    let model = language_model();
    assert_eq!(model.forward(none.clone(), None).0.dims(), [0, 3, 6]);
    assert_eq!(model.forward(short.clone(), None).0.dims(), [2, 0, 6]);
    let model = seq2seq();
    assert_eq!(model.beam((none.clone(), lengths(0)), &Beam::new(3)).unwrap().len(), 0);
    assert_eq!(model.forward((none.clone(), lengths(0)), none, 1.0).dims(), [0, 2, 8]);
    // A source without a place is attended to nowhere.
    let found = model.greedy((short.clone(), lengths(2)), 3).unwrap();
    assert!(found.len() == 2 && found.iter().all(|found| found.score.is_finite()));
    for cell in [Cell::Tanh, Cell::Relu, Cell::Lstm, Cell::Gru] {
        let config = RecurrentConfig::new(cell, 3, 4).with_num_layers(2).with_bidirectional(true);
        let rnn = config.init(d).unwrap();
        let (outputs, state) = rnn.forward(zeros([0, 5, 3]), None, None);
        assert_eq!((outputs.dims(), state.hidden.dims()), ([0, 5, 8], [4, 0, 4]));
    }
    let cnn = CnnConfig::new(10).init(d).unwrap();
    assert_eq!(cnn.forward(zeros([0, 3, 28, 28])).dims(), [0, 10]);
    let heads = MultiHeadAttentionConfig::new(4, 2).init(d).unwrap();
    for (batch, queries, keys) in [(0, 3, 3), (2, 0, 3), (2, 3, 0)] {
        let (q, k) = (zeros([batch, queries, 4]), zeros([batch, keys, 4]));
        let (output, weights) = heads.forward(q, k.clone(), k, AttentionMask::default());
        assert_eq!((output.dims(), weights.dims()), ([batch, queries, 4], [batch, queries, keys]));
        assert!(output.into_data().iter::<f32>().all(f32::is_finite));
    }
    assert_eq!(GeneratorConfig::new(5, 6).init(d).unwrap().forward(zeros([0, 5])).dims(), [0, 6]);
}

/// The gradients of all parameters, one after the other.
struct Slopes {
    gradients: Gradients,
    values: Vec<f32>,
}

impl ModuleVisitor for Slopes {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let slopes = param.val().grad(&self.gradients).unwrap();
        self.values.extend(slopes.into_data().iter::<f32>());
    }
}

#[test]
fn what_lies_behind_the_end_of_a_sequence_is_not_looked_at_even_if_it_is_no_number() {
    let _turn = beside_others();
    let trains = device().autodiff();
    for cell in [Cell::Tanh, Cell::Relu, Cell::Lstm, Cell::Gru] {
        let config = RecurrentConfig::new(cell, 3, 4).with_num_layers(2).with_bidirectional(true);
        let rnn = init(4, &trains, |d| config.init(d)).unwrap();
        let values: Vec<f32> = (0..4 * 5 * 3).map(|at| ((at * 7) % 11) as f32 / 5.0 - 1.0).collect();
        // Unsorted, none at all, and longer than the batch.
        let lengths = [2usize, 0, 9, 4];
        let run = |padding: f32| {
            let mut values = values.clone();
            for (row, length) in lengths.iter().enumerate() {
                let from = row * 15 + length.min(&5) * 3;
                values[from..(row + 1) * 15].fill(padding);
            }
            let input = Tensor::<3>::from_data(TensorData::new(values, [4, 5, 3]), &trains).require_grad();
            let lengths = lengths.map(|length| length as i64);
            let lengths = Tensor::<1, Int>::from_data(lengths, &trains);
            let (outputs, state) = rnn.forward(input.clone(), Some(lengths), None);
            let gradients =
                ((outputs.clone() + 1.0).square().sum() + state.hidden.clone().square().sum()).backward();
            let of = |tensor: Tensor<3>| tensor.into_data().try_to_vec::<f32>().unwrap();
            let mut of_weights = Slopes { gradients, values: Vec::new() };
            rnn.visit(&mut of_weights);
            let of_input = of(input.grad(&of_weights.gradients).unwrap());
            [of(outputs), of(state.hidden), of_input, of_weights.values]
        };
        let (zero, nan) = (run(0.0), run(f32::NAN));
        assert!(zero.iter().flatten().all(|x| x.is_finite()));
        assert_eq!(zero, nan, "{cell:?}");
    }
}

/// The fields that are whole numbers, or lists of them, each with the largest there is; and all of them large
/// together.
fn check_sizes<C: Config, T>(name: &str, config: C, any: &[&str], make: impl Fn(&C) -> Result<T, Error>) {
    let whole: Value = serde_json::from_str(&config_to_json(&config)).unwrap();
    let with = |field: &str, size: u64| {
        let mut json = whole.clone();
        let value = json.get_mut(field).unwrap();
        match value {
            Value::Array(list) => list.iter_mut().for_each(|value| *value = json!(size)),
            value => *value = json!(size),
        }
        json
    };
    let counts = |value: &Value| value.is_u64() || value.as_array().is_some_and(|list| list[0].is_u64());
    let fields: Vec<&String> = whole
        .as_object()
        .unwrap()
        .iter()
        .filter(|(_, value)| counts(value))
        .map(|(field, _)| field)
        .collect();
    let refuse = |json: Value, field: Option<&str>| {
        let error = make(&serde_json::from_value(json).unwrap()).err();
        let error = error.unwrap_or_else(|| panic!("{name}.{field:?} is accepted"));
        assert!(matches!(error.kind(), ErrorKind::OutOfRange { .. }), "{error}");
        let place = error.to_string();
        let named = |field: &str| place.starts_with(&format!("{name}.{field}: expected "));
        match field {
            Some(field) => assert!(named(field), "{field}: {error}"),
            None => assert!(fields.iter().any(|field| named(field)), "{error}"),
        }
    };
    let sizes: Vec<&str> =
        fields.iter().map(|field| field.as_str()).filter(|field| !any.contains(field)).collect();
    assert!(!sizes.is_empty());
    for &field in &sizes {
        for size in [u64::MAX, u64::MAX - 3, 1 << 63] {
            refuse(with(field, size), Some(field));
        }
    }
    if sizes.len() > 1 {
        let mut all = whole.clone();
        for field in &sizes {
            all[*field] = with(field, 1 << 59)[*field].clone();
        }
        refuse(all, None);
    }
}

#[test]
fn configs_that_no_memory_could_hold_name_the_field() {
    let _turn = beside_others();
    let d = &device();
    check_sizes("LinearConfig", LinearConfig::new(3, 4), &[], |config| config.init(d));
    check_sizes("LinearBlockConfig", LinearBlockConfig::new(3, 4), &[], |config| config.init(d));
    check_sizes("EmbeddingConfig", EmbeddingConfig::new(3, 4).with_padding_idx(Some(1)), &[], |config| {
        config.init(d)
    });
    check_sizes("ConvBlockConfig", ConvBlockConfig::new(3, 4, 3), &[], |config| config.init(d));
    check_sizes("BatchNorm2dConfig", BatchNorm2dConfig::new(3), &[], |config| config.init(d));
    let stride = Some(2);
    check_sizes("MaxPoolingConfig", MaxPoolingConfig::new(3).with_stride(stride), &[], |config| {
        config.init()
    });
    check_sizes("AvgPoolingConfig", AvgPoolingConfig::new(3).with_stride(stride), &[], |config| {
        config.init()
    });
    check_sizes("CnnConfig", CnnConfig::new(3), &[], |config| config.init(d));
    check_sizes("RecurrentConfig", RecurrentConfig::new(Cell::Gru, 3, 4), &[], |config| config.init(d));
    check_sizes("RnnBlockConfig", RnnBlockConfig::new(3, 4), &[], |config| config.init(d));
    check_sizes("LstmBlockConfig", LstmBlockConfig::new(3, 4), &[], |config| config.init(d));
    check_sizes("GruBlockConfig", GruBlockConfig::new(3, 4), &[], |config| config.init(d));
    check_sizes("AttentionBlockConfig", AttentionBlockConfig::new(3), &[], |config| config.init(d));
    let one = MultiHeadAttentionConfig::new(3, 1);
    check_sizes("MultiHeadAttentionConfig", one, &[], |config| config.init(d));
    let odd = EncoderConfig::new(9, 4, 6).with_bidirectional(false);
    check_sizes("EncoderConfig", odd, &[], |config| config.init(d));
    check_sizes("DecoderConfig", DecoderConfig::new(9, 4, 6), &[], |config| config.init(d));
    let model = Seq2SeqConfig::new(9, 8, 4, 6).with_bidirectional(false);
    check_sizes("Seq2SeqConfig", model, &["padding_idx", "begin", "end"], |config| config.init(d));
    check_sizes("LanguageModelConfig", LanguageModelConfig::new(9, 4, 6), &[], |config| config.init(d));
    let classifier = SequenceClassifierConfig::new(3, 9, 4, 6);
    check_sizes("SequenceClassifierConfig", classifier, &[], |config| config.init(d));
    check_sizes("SequenceRegressorConfig", SequenceRegressorConfig::new(3, 4, 1), &[], |config| {
        config.init(d)
    });
    check_sizes("GeneratorConfig", GeneratorConfig::new(3, 4), &[], |config| config.init(d));
    check_sizes("DiscriminatorConfig", DiscriminatorConfig::new(3), &[], |config| config.init(d));
    // 2⁶⁴ − 1 is no multiple of 4, but 2⁶⁴ − 4 and 2⁶³ are.
    check_sizes("DcganConfig", DcganConfig::new(), &[], |config| config.init_generator(d));
    check_sizes("DcganConfig", DcganConfig::new(), &[], |config| config.init_discriminator(d));
    // Just what can be: parameters are not drawn before they are used.
    assert!(LinearConfig::new(1 << 30, 1 << 29).with_bias(false).init(d).is_ok());
    assert!(LinearConfig::new(1 << 30, 1 << 30).with_bias(false).init(d).is_err());
    let errors = [
        LinearConfig::new(1 << 31, 1 << 30).init(d).unwrap_err().to_string(),
        MultiHeadAttentionConfig::new(usize::MAX, 1).init(d).unwrap_err().to_string(),
    ];
    assert_eq!(
        errors,
        [
            "LinearConfig.out_features: expected at most 536870911, for its tensors have to fit into memory, \
             got 1073741824",
            "MultiHeadAttentionConfig.embed_dim: expected at most 384307168202282325, for its tensors have to fit \
             into memory, got 18446744073709551615",
        ]
    );
}

#[test]
fn shares_that_are_none_are_refused() {
    let _turn = beside_others();
    let d = &device();
    for bad in [f64::NAN, f64::INFINITY, 1.0, -1.0] {
        let expected = |name: &str| format!("{name}.dropout: expected 0 ≤ p < 1, got {bad}");
        let errors = [
            ("CnnConfig", CnnConfig::new(3).with_dropout(bad).init(d).err()),
            ("LstmBlockConfig", LstmBlockConfig::new(3, 4).with_dropout(bad).init(d).err()),
            ("EncoderConfig", EncoderConfig::new(9, 4, 6).with_dropout(bad).init(d).err()),
            ("DecoderConfig", DecoderConfig::new(9, 4, 6).with_dropout(bad).init(d).err()),
            ("Seq2SeqConfig", Seq2SeqConfig::new(9, 8, 4, 6).with_dropout(bad).init(d).err()),
            ("LanguageModelConfig", LanguageModelConfig::new(9, 4, 6).with_dropout(bad).init(d).err()),
            (
                "SequenceClassifierConfig",
                SequenceClassifierConfig::new(3, 9, 4, 6).with_dropout(bad).init(d).err(),
            ),
            (
                "SequenceRegressorConfig",
                SequenceRegressorConfig::new(3, 4, 1).with_dropout(bad).init(d).err(),
            ),
            ("MultiHeadAttentionConfig", MultiHeadAttentionConfig::new(4, 2).with_dropout(bad).init(d).err()),
        ]
        .map(|(name, error)| (name, error.unwrap().to_string()));
        for (name, error) in errors {
            assert_eq!(error, expected(name));
        }
    }
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let error = DiscriminatorConfig::new(3).with_negative_slope(bad).init(d).unwrap_err().to_string();
        assert_eq!(error, format!("DiscriminatorConfig.negative_slope: expected a finite number, got {bad}"));
        let error = BatchNorm2dConfig::new(3).with_momentum(bad).init(d).unwrap_err().to_string();
        assert_eq!(error, format!("BatchNorm2dConfig.momentum: expected 0 to 1, got {bad}"));
    }
    let error = BatchNorm2dConfig::new(3).with_eps(f64::NAN).init(d).unwrap_err().to_string();
    assert_eq!(error, "BatchNorm2dConfig.eps: expected a number above 0, got NaN");
}

/// `torch.nn.functional.max_pool2d` passes NaN on.
#[test]
fn pooling_of_odd_sizes_leaves_the_rest_out_and_passes_nan_on() {
    let _turn = beside_others();
    let values: Vec<f32> = (0..15).map(|at| if at == 1 { f32::NAN } else { at as f32 }).collect();
    let image = Tensor::<4>::from_data(TensorData::new(values, [1, 1, 3, 5]), &device());
    let of = |pooled: Tensor<4>| pooled.into_data().try_to_vec::<f32>().unwrap();
    let max = of(MaxPoolingConfig::new(2).init().unwrap().forward(image.clone()));
    assert!(max[0].is_nan() && max[1..] == [8.0], "{max:?}");
    let avg = of(AvgPoolingConfig::new(2).init().unwrap().forward(image.clone()));
    assert!(avg[0].is_nan() && avg[1..] == [5.0], "{avg:?}");
    let overlapping = MaxPoolingConfig::new(3).with_stride(Some(1)).init().unwrap();
    let max = of(overlapping.forward(image));
    assert!(max[..2].iter().all(|x| x.is_nan()) && max[2..] == [14.0], "{max:?}");
}

#[test]
fn views_give_what_their_copies_give() {
    let _turn = alone();
    let d = &device();
    d.seed(3);
    let same = |what: &str, view: TensorData, copy: TensorData| {
        let (view, copy) = (view.iter::<f32>().collect::<Vec<_>>(), copy.iter::<f32>().collect::<Vec<_>>());
        assert!(std::iter::zip(&view, &copy).all(|(a, b)| (a - b).abs() < 1e-5), "{what}: {view:?} {copy:?}");
    };
    let cnn = init(1, d, |d| CnnConfig::new(3).with_channels(2).with_size([9, 8]).init(d)).unwrap();
    let view = Tensor::<4>::random([4, 8, 9, 3], Distribution::Normal(0.0, 1.0), d).permute([0, 3, 2, 1]);
    let view = view.narrow(1, 1, 2).narrow(0, 1, 3);
    let copy = Tensor::<4>::from_data(view.to_data(), d);
    same("Cnn", cnn.forward(view).into_data(), cnn.forward(copy).into_data());
    let rnn = init(1, d, |d| RecurrentConfig::new(Cell::Lstm, 3, 4).init(d)).unwrap();
    let view =
        Tensor::<3>::random([5, 3, 6], Distribution::Normal(0.0, 1.0), d).swap_dims(1, 2).narrow(1, 1, 4);
    let copy = Tensor::<3>::from_data(view.to_data(), d);
    same(
        "Recurrent",
        rnn.forward(view, None, None).0.into_data(),
        rnn.forward(copy, None, None).0.into_data(),
    );
}
