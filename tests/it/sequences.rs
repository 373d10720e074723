//! Text from the loader to models: padding that changes nothing, search and sampling, training without glue.

use std::sync::{Mutex, MutexGuard};

use burn::module::Module;
use burn::tensor::{Device, Distribution, Int, Tensor, TensorData};
use firebox::data::batches::Batches;
use firebox::data::{Loader, Pad, Scalar};
use firebox::models::decoding::{Beam, Hypothesis, Sampling};
use firebox::models::layers::{
    AttentionBlockConfig, AttentionMask, Cell, MultiHeadAttentionConfig, RecurrentConfig, RecurrentState,
    sequence_mask,
};
use firebox::models::text::{
    EncoderConfig, LanguageModelConfig, Seq2Seq, Seq2SeqConfig, SequenceClassifierConfig,
};
use firebox::models::{Forward, init};
use firebox::train::metrics::Metrics;
use firebox::train::optimizer::AdamConfig;
use firebox::train::tasks::Classification;
use firebox::train::{Learner, StepContext, Task};

/// Burn's generator belongs to the process: tests that draw take turns.
fn draws() -> MutexGuard<'static, ()> {
    static DRAWS: Mutex<()> = Mutex::new(());
    DRAWS.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn ints<const D: usize>(values: &[i64], shape: [usize; D]) -> Tensor<D, Int> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), &Device::default())
}

fn assert_close<const D: usize>(what: &str, a: Tensor<D>, b: Tensor<D>) {
    assert_eq!(a.dims(), b.dims(), "{what}");
    let difference = (a - b).abs().max().into_scalar::<f32>();
    assert!(difference <= 1e-6, "{what}: differs by {difference}");
}

const LENGTHS: [usize; 4] = [7, 1, 4, 6];

/// Every sequence of a padded batch has, alone, the same outputs and states, whatever the padding is made of.
#[test]
fn a_padded_sequence_is_as_if_it_were_alone() {
    let _alone = draws();
    let device = Device::default();
    let lengths = LENGTHS.map(|length| length as i64);
    for cell in [Cell::Tanh, Cell::Relu, Cell::Lstm, Cell::Gru] {
        for (layers, bidirectional) in [(1, false), (1, true), (2, false), (3, true)] {
            let what = format!("{cell:?}, {layers} layers, bidirectional {bidirectional}");
            let config =
                RecurrentConfig::new(cell, 3, 5).with_num_layers(layers).with_bidirectional(bidirectional);
            let rnn = init(1, &device, |device| config.init(device)).unwrap();
            let parts = layers * if bidirectional { 2 } else { 1 };
            let random = |shape| Tensor::<3>::random(shape, Distribution::Normal(0.0, 1.0), &device);
            let input = random([4, 7, 3]);
            let state = RecurrentState {
                hidden: random([parts, 4, 5]),
                cell: (cell == Cell::Lstm).then(|| random([parts, 4, 5])),
            };
            let (outputs, last) = rnn.forward(input.clone(), Some(ints(&lengths, [4])), Some(state.clone()));
            for (row, length) in LENGTHS.into_iter().enumerate() {
                let alone = input.clone().narrow(0, row, 1).narrow(1, 0, length);
                let first = RecurrentState {
                    hidden: state.hidden.clone().narrow(1, row, 1),
                    cell: state.cell.clone().map(|cell| cell.narrow(1, row, 1)),
                };
                let (expected, ended) = rnn.forward(alone, None, Some(first));
                let row_outputs = outputs.clone().narrow(0, row, 1);
                assert_close(&what, row_outputs.clone().narrow(1, 0, length), expected);
                if length < 7 {
                    let behind = row_outputs.narrow(1, length, 7 - length).abs().max().into_scalar::<f32>();
                    assert_eq!(behind, 0.0, "{what}");
                }
                assert_close(&what, last.hidden.clone().narrow(1, row, 1), ended.hidden);
                if let (Some(got), Some(expected)) = (last.cell.clone(), ended.cell) {
                    assert_close(&what, got.narrow(1, row, 1), expected);
                }
            }
        }
    }
}

#[test]
fn a_sequence_of_length_zero_keeps_its_state() {
    let _alone = draws();
    let device = Device::default();
    let config = RecurrentConfig::new(Cell::Lstm, 3, 5).with_bidirectional(true);
    let rnn = init(1, &device, |device| config.init(device)).unwrap();
    let random = |shape| Tensor::<3>::random(shape, Distribution::Normal(0.0, 1.0), &device);
    let state = RecurrentState { hidden: random([2, 2, 5]), cell: Some(random([2, 2, 5])) };
    let (outputs, last) = rnn.forward(random([2, 4, 3]), Some(ints(&[0, 4], [2])), Some(state.clone()));
    assert_eq!(outputs.narrow(0, 0, 1).abs().max().into_scalar::<f32>(), 0.0);
    assert_close("h", last.hidden.narrow(1, 0, 1), state.hidden.narrow(1, 0, 1));
    assert_close("c", last.cell.unwrap().narrow(1, 0, 1), state.cell.unwrap().narrow(1, 0, 1));
}

/// Dropout between layers is the same if a layer goes step by step or not.
#[test]
fn dropout_between_layers_does_not_depend_on_the_kernels() {
    let _alone = draws();
    let device = Device::default().autodiff();
    for cell in [Cell::Tanh, Cell::Lstm, Cell::Gru] {
        let config =
            RecurrentConfig::new(cell, 3, 5).with_num_layers(3).with_dropout(0.4).with_bidirectional(true);
        let rnn = init(1, &device, |device| config.init(device)).unwrap();
        let input = Tensor::<3>::random([4, 7, 3], Distribution::Normal(0.0, 1.0), &device);
        let [on, off] = [true, false].map(|kernels| {
            firebox::kernels::set_enabled(kernels);
            device.seed(3);
            let outputs = rnn.forward(input.clone(), None, None).0.detach();
            firebox::kernels::set_enabled(true);
            outputs
        });
        let whole = rnn.valid().forward(input.detach(), None, None).0;
        assert!((whole - on.clone()).abs().max().into_scalar::<f32>() > 1e-2, "nothing was dropped");
        assert_close("dropout", on, off);
    }
}

#[test]
fn states_and_lengths_that_do_not_fit_are_refused() {
    let _alone = draws();
    let device = Device::default();
    let rnn = init(1, &device, |device| RecurrentConfig::new(Cell::Lstm, 3, 5).init(device)).unwrap();
    let input = Tensor::<3>::ones([2, 4, 3], &device);
    let zeros = |shape: [usize; 3]| Tensor::<3>::zeros(shape, &device);
    let state = |hidden, cell| Some(RecurrentState { hidden, cell });
    let refused = |lengths: Option<&[i64]>, state: Option<RecurrentState>| {
        let lengths = lengths.map(|lengths| ints(lengths, [lengths.len()]));
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| rnn.forward(input.clone(), lengths, state)))
            .is_err()
    };
    assert!(!refused(Some(&[4, 2]), state(zeros([1, 2, 5]), Some(zeros([1, 2, 5])))));
    assert!(refused(Some(&[4]), None), "lengths of another batch");
    assert!(refused(None, state(zeros([1, 1, 5]), None)), "a state of another batch");
    assert!(refused(None, state(zeros([1, 2, 5]), Some(zeros([1, 1, 5])))), "a cell of another batch");
    // A cell that isn't given is zero, with lengths and without.
    let lengths = Some(ints(&[4, 4], [2]));
    let (a, last) = rnn.forward(input.clone(), lengths, state(zeros([1, 2, 5]), None));
    let (b, _) = rnn.forward(input, None, None);
    assert_close("without a cell", a, b);
    assert!(last.cell.is_some());
    // A batch of empty sequences.
    let (outputs, last) = rnn.forward(Tensor::zeros([2, 0, 3], &device), Some(ints(&[0, 0], [2])), None);
    assert_eq!((outputs.dims(), last.hidden.dims()), ([2, 0, 5], [1, 2, 5]));
}

#[test]
fn attention_sees_no_padding() {
    let _alone = draws();
    let device = Device::default();
    let random = |shape| Tensor::<3>::random(shape, Distribution::Normal(0.0, 1.0), &device);
    let additive = init(1, &device, |device| AttentionBlockConfig::new(6).init(device)).unwrap();
    let heads = init(2, &device, |device| MultiHeadAttentionConfig::new(6, 2).init(device)).unwrap();
    let (encoder, decoder) = (random([4, 7, 6]), random([4, 1, 6]));
    let lengths = LENGTHS.map(|length| length as i64);
    let mask = sequence_mask(ints(&lengths, [4]), 7);
    let (context, weights) = additive.forward(encoder.clone(), decoder.clone(), Some(mask.clone()));
    let keys = AttentionMask { keys: Some(mask), ..AttentionMask::default() };
    let (output, _) = heads.forward(decoder.clone(), encoder.clone(), encoder.clone(), keys);
    for (row, length) in LENGTHS.into_iter().enumerate() {
        let alone = encoder.clone().narrow(0, row, 1).narrow(1, 0, length);
        let query = decoder.clone().narrow(0, row, 1);
        let (expected, expected_weights) = additive.forward(alone.clone(), query.clone(), None);
        assert_close("context", context.clone().narrow(0, row, 1), expected);
        let row_weights = weights.clone().narrow(0, row, 1);
        assert_close("weights", row_weights.narrow(1, 0, length), expected_weights);
        let (expected, _) = heads.forward(query, alone.clone(), alone, AttentionMask::default());
        assert_close("heads", output.clone().narrow(0, row, 1), expected);
    }
    // A row without a place has no weight anywhere, and no NaN.
    let nowhere = sequence_mask(ints(&[0; 4], [4]), 7);
    let (context, weights) = additive.forward(encoder, decoder, Some(nowhere));
    assert_eq!(context.abs().max().into_scalar::<f32>(), 0.0);
    assert_eq!(weights.abs().max().into_scalar::<f32>(), 0.0);
}

fn translator(seed: u64, tokens: usize) -> Seq2Seq {
    let config = Seq2SeqConfig::new(9, tokens, 4, 6).with_num_layers(2).with_dropout(0.5);
    // On the training device: what searches must not drop anything there.
    init(seed, &Device::default().autodiff(), |device| config.init(device)).unwrap()
}

fn source() -> (Tensor<2, Int>, Tensor<1, Int>) {
    let rows = [[3, 5, 4, 8, 7, 6, 3], [4, 0, 0, 0, 0, 0, 0], [8, 8, 3, 4, 0, 0, 0], [5, 4, 3, 6, 7, 8, 0]];
    (ints(&rows.concat(), [4, 7]), ints(&LENGTHS.map(|length| length as i64), [4]))
}

#[test]
fn a_search_finds_the_same_for_a_sequence_alone_and_in_a_batch() {
    let _alone = draws();
    let (tokens, lengths) = source();
    for (width, penalty) in [(1, 0.0), (3, 0.0), (4, 1.0)] {
        let model = translator(5, 7);
        let beam = Beam::new(8).with_width(width).with_length_penalty(penalty);
        let all = model.beam((tokens.clone(), lengths.clone()), &beam).unwrap();
        for (row, length) in LENGTHS.into_iter().enumerate() {
            let alone = tokens.clone().narrow(0, row, 1).narrow(1, 0, length);
            let alone = model.beam((alone, lengths.clone().narrow(0, row, 1)), &beam).unwrap();
            assert_eq!(alone[0].len(), all[row].len());
            for (a, b) in std::iter::zip(&alone[0], &all[row]) {
                assert_eq!((&a.tokens, a.ended), (&b.tokens, b.ended));
                assert!((a.log_probability - b.log_probability).abs() < 1e-5);
                for (a, b) in std::iter::zip(&a.attention, &b.attention) {
                    assert!(b[length..].iter().all(|&weight| weight == 0.0));
                    assert!(std::iter::zip(a, b).all(|(a, b)| (a - b).abs() < 1e-5));
                    assert!((a.iter().sum::<f32>() - 1.0).abs() < 1e-5);
                }
            }
        }
    }
}

/// ln p of a target under the model, by its training pass.
fn log_probability(model: &Seq2Seq, tokens: &[i64], target: &[usize]) -> f64 {
    let time = tokens.len();
    let full: Vec<i64> = std::iter::once(1).chain(target.iter().map(|&token| token as i64)).collect();
    let source = (ints(tokens, [1, time]), ints(&[time as i64], [1]));
    let logits = model.valid().forward(source, ints(&full, [1, full.len()]), 1.0);
    let logits = burn::tensor::activation::log_softmax(logits, 2).into_data().try_to_vec::<f32>().unwrap();
    let vocabulary = logits.len() / target.len();
    target.iter().enumerate().map(|(place, &token)| f64::from(logits[place * vocabulary + token])).sum()
}

#[test]
fn a_beam_as_wide_as_all_sequences_finds_the_best() {
    let _alone = draws();
    let (vocabulary, longest, tokens) = (5, 4, [3i64, 6, 4]);
    for (seed, penalty) in [(1, 0.0), (2, 0.7), (3, 2.0)] {
        let model = translator(seed, vocabulary);
        // Every sequence that ends, and every one that is cut: token 2 ends.
        let mut all: Vec<(Vec<usize>, bool)> = Vec::new();
        let mut open: Vec<Vec<usize>> = vec![Vec::new()];
        for length in 1..=longest {
            let mut longer = Vec::new();
            for start in open {
                for token in 0..vocabulary {
                    let next = [start.clone(), vec![token]].concat();
                    match (token == 2, length == longest) {
                        (true, _) => all.push((next, true)),
                        (false, true) => all.push((next, false)),
                        (false, false) => longer.push(next),
                    }
                }
            }
            open = longer;
        }
        let score = |target: &Vec<usize>| {
            log_probability(&model, &tokens, target) / ((5.0 + target.len() as f64) / 6.0).powf(penalty)
        };
        let mut scored: Vec<(f64, Vec<usize>, bool)> =
            all.into_iter().map(|(target, ended)| (score(&target), target, ended)).collect();
        scored.sort_by(|a, b| b.0.total_cmp(&a.0));
        let beam = Beam::new(longest).with_width(1000).with_length_penalty(penalty);
        let found = model.beam((ints(&tokens, [1, 3]), ints(&[3], [1])), &beam).unwrap().remove(0);
        assert_eq!(found.len(), scored.len());
        for (found, (score, target, ended)) in std::iter::zip(&found, &scored) {
            assert!((found.score - score).abs() < 1e-5, "{found:?}, expected {target:?} with {score}");
            let length = target.len() - usize::from(*ended);
            assert_eq!((found.tokens.len(), found.ended), (length, *ended));
        }
        let best = scored[0].1.iter().copied().filter(|&token| token != 2).collect::<Vec<_>>();
        assert_eq!(found[0].tokens, best);
    }
}

/// A beam search as one would write it down: the best beginnings of each length, by the model's training
/// pass.
fn plain_search(
    model: &Seq2Seq,
    tokens: &[i64],
    vocabulary: usize,
    beam: &Beam,
) -> Vec<(f64, Vec<usize>, bool)> {
    let penalty = |length: usize| ((5.0 + length as f64) / 6.0).powf(beam.length_penalty);
    let mut live: Vec<(f64, Vec<usize>)> = vec![(0.0, Vec::new())];
    let mut found: Vec<(f64, Vec<usize>, bool)> = Vec::new();
    for length in 1..=beam.max_length {
        let mut next: Vec<(f64, Vec<usize>)> = Vec::new();
        for (_, start) in &live {
            for token in 0..vocabulary {
                let target = [start.clone(), vec![token]].concat();
                next.push((log_probability(model, tokens, &target), target));
            }
        }
        next.sort_by(|a, b| b.0.total_cmp(&a.0));
        live.clear();
        for (rank, (log, target)) in next.into_iter().enumerate() {
            let ends = target.last() == Some(&2);
            if live.len() == beam.width || ends && rank >= beam.width {
                continue;
            }
            match ends || length == beam.max_length {
                // One that is cut takes a place, too.
                true if !ends && found.iter().filter(|(.., ended)| !ended).count() == beam.width => {}
                true => found.push((log / penalty(length), target, ends)),
                false => live.push((log, target)),
            }
        }
    }
    found.sort_by(|a, b| b.0.total_cmp(&a.0));
    found.truncate(beam.width);
    found
}

#[test]
fn a_narrow_beam_follows_the_best_beginnings() {
    let _alone = draws();
    let (vocabulary, tokens) = (6, [3i64, 6, 4]);
    let mut stopped = 0;
    for seed in 0..6 {
        let model = translator(seed, vocabulary);
        for width in 1..=4 {
            for penalty in [0.0, 0.7, 2.0] {
                let beam = Beam::new(5).with_width(width).with_length_penalty(penalty);
                let found = model.beam((ints(&tokens, [1, 3]), ints(&[3], [1])), &beam).unwrap().remove(0);
                let expected = plain_search(&model, &tokens, vocabulary, &beam);
                let what = format!("seed {seed}, width {width}, penalty {penalty}");
                assert_eq!(found.len(), expected.len(), "{what}");
                for (found, (score, target, ended)) in std::iter::zip(&found, &expected) {
                    let length = target.len() - usize::from(*ended);
                    assert_eq!((&found.tokens[..], found.ended), (&target[..length], *ended), "{what}");
                    assert!((found.score - score).abs() < 1e-5, "{what}");
                    assert!((found.log_probability - log_probability(&model, &tokens, target)).abs() < 1e-5);
                    assert_eq!(found.attention.len(), target.len());
                }
                stopped += usize::from(found.iter().all(|found| found.ended && found.tokens.len() < 4));
            }
        }
    }
    assert!(stopped > 0, "no search ended before the greatest length");
}

#[test]
fn a_beam_of_one_is_the_greedy_search() {
    let _alone = draws();
    let (tokens, lengths) = source();
    for seed in 0..10 {
        let model = translator(seed, 6);
        let greedy: Vec<Hypothesis> = model.greedy((tokens.clone(), lengths.clone()), 9).unwrap();
        for (row, found) in greedy.iter().enumerate() {
            // Step by step: the likeliest token, until the end token.
            let length = LENGTHS[row];
            let alone = tokens.clone().narrow(0, row, 1).narrow(1, 0, length);
            let encoded = model.valid().encoder.forward((alone, lengths.clone().narrow(0, row, 1)));
            let valid = model.valid();
            let mut decoding = valid.decoder.begin(encoded);
            let (mut token, mut expected, mut ended) = (1, Vec::new(), false);
            while expected.len() < 9 && !ended {
                let (logits, _) = decoding.step(ints(&[token], [1]));
                token = logits.argmax(1).into_data().iter::<i64>().next().unwrap();
                ended = token == 2;
                expected.push(token as usize);
            }
            if ended {
                expected.pop();
            }
            assert_eq!((&found.tokens, found.ended), (&expected, ended), "seed {seed}, row {row}");
        }
    }
}

#[test]
fn settings_of_a_search_are_checked() {
    let _alone = draws();
    let (tokens, lengths) = source();
    let model = translator(1, 6);
    for (beam, text) in [
        (Beam::new(0), "Beam.max_length: expected at least 1, got 0"),
        (Beam::new(3).with_width(0), "Beam.width: expected at least 1, got 0"),
        (
            Beam::new(3).with_length_penalty(-1.0),
            "Beam.length_penalty: expected a number of at least 0, got -1",
        ),
    ] {
        assert_eq!(model.beam((tokens.clone(), lengths.clone()), &beam).unwrap_err().to_string(), text);
    }
    let error = model.greedy((tokens, lengths), 0).unwrap_err();
    assert_eq!(error.to_string(), "Beam.max_length: expected at least 1, got 0");
}

#[test]
fn teacher_forcing_mixes_target_and_own_tokens() {
    let _alone = draws();
    let device = Device::default().autodiff();
    let model = Seq2SeqConfig::new(9, 7, 4, 6).init(&device).unwrap();
    let (tokens, lengths) = source();
    let target = ints(&[[1, 3, 4, 5, 6, 2]; 4].concat(), [4, 6]);
    let run = |ratio| {
        model
            .forward((tokens.clone(), lengths.clone()), target.clone(), ratio)
            .into_data()
            .try_to_vec::<f32>()
            .unwrap()
    };
    let (forced, free) = (run(1.0), run(0.0));
    assert_ne!(forced, free);
    device.seed(1);
    let mixed = run(0.5);
    assert!(mixed != forced && mixed != free);
    device.seed(1);
    assert_eq!(run(0.5), mixed, "the draws follow from the device's seed");
    // What is read first is the target's in any case.
    let first = |logits: &[f32]| logits.chunks(5 * 7).map(|row| row[..7].to_vec()).collect::<Vec<_>>();
    assert_eq!(first(&forced), first(&free));
}

#[test]
fn a_language_model_goes_on_where_it_stood() {
    let _alone = draws();
    let device = Device::default();
    for cell in [Cell::Tanh, Cell::Lstm, Cell::Gru] {
        let config = LanguageModelConfig::new(9, 4, 6).with_cell(cell).with_num_layers(2);
        let model = init(1, &device, |device| config.init(device)).unwrap();
        let text = ints(&[3, 1, 4, 1, 5, 8, 2, 6], [1, 8]);
        let (whole, end) = model.forward(text.clone(), None);
        let (first, state) = model.forward(text.clone().narrow(1, 0, 3), None);
        let (second, state) = model.forward(text.narrow(1, 3, 5), Some(state));
        assert_close("logits", Tensor::cat(vec![first, second], 1), whole);
        assert_close("state", state.hidden, end.hidden);
    }
}

#[test]
fn generated_text_follows_from_prompt_and_seed() {
    let _alone = draws();
    let config = LanguageModelConfig::new(9, 4, 6).with_dropout(0.5);
    let model = init(1, &Device::default().autodiff(), |device| config.init(device)).unwrap();
    let sampling = Sampling::new().with_seed(3);
    let text = model.generate(&[1, 2, 3], 20, &sampling).unwrap();
    assert!(text.len() == 20 && text.iter().all(|&token| token < 9));
    assert_eq!(model.generate(&[1, 2, 3], 20, &sampling).unwrap(), text);
    assert_eq!(model.generate(&[1, 2, 3], 5, &sampling).unwrap(), text[..5]);
    assert_ne!(model.generate(&[1, 2, 3], 20, &sampling.clone().with_seed(4)).unwrap(), text);
    let greedy = Sampling::new().with_temperature(0.0);
    let likeliest = model.generate(&[1], 6, &greedy).unwrap();
    for place in 0..6 {
        let read: Vec<i64> =
            [&[1], &likeliest[..place]].concat().into_iter().map(|token| token as i64).collect();
        let (logits, _) = model.valid().forward(ints(&read, [1, read.len()]), None);
        let last = logits.narrow(1, read.len() - 1, 1).argmax(2).into_data().iter::<i64>().next().unwrap();
        assert_eq!(last as usize, likeliest[place]);
    }
    for (prompt, sampling, text) in [
        (&[][..], Sampling::new(), "prompt: expected at least one token, got none"),
        (&[1, 9], Sampling::new(), "prompt: expected tokens below 9, got 9"),
        (&[1], Sampling::new().with_top_p(0.0), "Sampling.top_p: expected 0 < p ≤ 1, got 0"),
        (
            &[1],
            Sampling::new().with_temperature(-1.0),
            "Sampling.temperature: expected a number of at least 0, got -1",
        ),
    ] {
        assert_eq!(model.generate(prompt, 1, &sampling).unwrap_err().to_string(), text);
    }
}

#[test]
fn an_encoder_joins_its_directions() {
    let _alone = draws();
    let device = Device::default();
    let encoder =
        init(1, &device, |device| EncoderConfig::new(9, 4, 6).with_num_layers(2).init(device)).unwrap();
    let (tokens, lengths) = source();
    let encoded = encoder.forward((tokens, lengths));
    assert_eq!(encoded.outputs.dims(), [4, 7, 6]);
    assert_eq!(encoded.state.hidden.dims(), [2, 4, 6]);
    // The last layer's state: forwards it is the output at the end, backwards that at the beginning.
    for (row, length) in LENGTHS.into_iter().enumerate() {
        let outputs = encoded.outputs.clone().narrow(0, row, 1).squeeze_dim::<2>(0);
        let state = encoded.state.hidden.clone().narrow(0, 1, 1).narrow(1, row, 1).flatten::<1>(0, 2);
        let forwards = outputs.clone().narrow(0, length - 1, 1).narrow(1, 0, 3).flatten::<1>(0, 1);
        let backwards = outputs.narrow(0, 0, 1).narrow(1, 3, 3).flatten::<1>(0, 1);
        assert_close("state", state, Tensor::cat(vec![forwards, backwards], 0));
    }
}

/// Sequences whose class is whether a certain token is in them, of lengths from 1 to 12, through the loader's
/// padding to the model and its task, with nothing in between.
#[test]
fn text_goes_from_the_loader_to_a_classifier() {
    let _alone = draws();
    let device = Device::default().autodiff();
    let loader = Loader::builder((0..512usize).collect::<Vec<_>>())
        .shuffle(true)
        .batch_size(32)
        .workers(2)
        .build((Pad::with(0i64), Scalar::<i64>::new()), |number, rng, (tokens, class)| {
            let length = 1 + rng.below(12);
            tokens.extend((0..length).map(|_| 2 + rng.below(8) as i64));
            *class = (number % 2) as i64;
            if *class == 1 {
                let place = rng.below(length) as usize;
                tokens[place] = 1;
            }
            Ok(())
        })
        .unwrap()
        .on_device(&device)
        .unwrap();
    let config = SequenceClassifierConfig::new(2, 10, 8, 16).with_cell(Cell::Gru);
    let model = init(3, &device, |device| config.init(device)).unwrap();
    let mut task = Classification::new(Learner::new(model, AdamConfig::new().init().unwrap()));
    let mut last = Metrics::of(0);
    for epoch in 0..6 {
        last = Metrics::of(0);
        for batch in loader.epoch(epoch) {
            last.add(&task.train_step(batch.unwrap(), &StepContext::new(epoch, 0, 0.01)).unwrap()).unwrap();
        }
    }
    assert!(last.value("accuracy").unwrap() > 0.97, "{last:?}");
    // The model takes the batch, and equally its parts.
    let batch = loader.epoch(0).next().unwrap().unwrap().0;
    let mask = sequence_mask(batch.lengths.clone(), batch.values.dims()[1]);
    assert_eq!(mask.into_data(), batch.mask.clone().into_data());
    let (a, b) = (task.model().forward(batch.clone()), task.model().forward((batch.values, batch.lengths)));
    assert_eq!(a.into_data(), b.into_data());
}
