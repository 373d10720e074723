//! Translation: what is learned from, what isn't, and what is counted.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use crate::common::draws;
use burn::tensor::activation::log_softmax;
use burn::tensor::{DType, Device};
use firebox_data::SampleRng;
use firebox_data::collate::Padded;
use firebox_data::seed::{Purpose, derive_seed};
use firebox_data::tensors::{IntoTensors, SequenceBatch};
use firebox_models::decoding::Beam;
use firebox_models::init;
use firebox_models::text::{Seq2Seq, Seq2SeqConfig};
use firebox_train::metrics::{Metrics, spearman};
use firebox_train::optimizer::AdamConfig;
use firebox_train::task::Goal;
use firebox_train::tasks::{Decode, TeacherForcing, Translation};
use firebox_train::{ErrorKind, Learner, StepContext, Task};
use firebox_weights::StateDict;

fn device() -> Device {
    Device::default().autodiff()
}

fn model(layers: usize) -> Seq2Seq {
    let config = Seq2SeqConfig::new(9, 8, 6, 10).with_num_layers(layers);
    init(5, &device(), |device| config.init(device)).unwrap()
}

fn translation(layers: usize) -> Translation {
    Translation::new(Learner::new(model(layers), AdamConfig::new().init().unwrap()))
}

/// Sequences, padded with some places more than they need, whatever stands there.
fn batch(sequences: &[Vec<i64>], more: usize, filler: i64, device: &Device) -> SequenceBatch {
    let lengths: Vec<usize> = sequences.iter().map(Vec::len).collect();
    let longest = lengths.iter().max().unwrap() + more;
    let mut values = Vec::new();
    for sequence in sequences {
        values.extend(sequence);
        values.resize(values.len() + longest - sequence.len(), filler);
    }
    Padded { values: values.into(), lengths, longest }.into_tensors(device)
}

fn sources() -> Vec<Vec<i64>> {
    vec![vec![3, 4, 5, 6], vec![8, 1], vec![7]]
}

/// Each with its begin token 1 and its end token 2.
fn targets() -> Vec<Vec<i64>> {
    vec![vec![1, 4, 5, 2], vec![1, 3, 3, 7, 6, 2], vec![1, 2]]
}

fn plain(more: usize, filler: i64) -> (SequenceBatch, SequenceBatch) {
    let device = device();
    (batch(&sources(), more, filler, &device), batch(&targets(), more, filler, &device))
}

fn step(task: &mut Translation, batch: (SequenceBatch, SequenceBatch), step: usize) -> Metrics {
    device().seed(3);
    task.train_step(batch, &StepContext::new(0, step, 1e-2)).unwrap()
}

#[test]
fn padding_changes_nothing() {
    let _alone = draws();
    for layers in [1, 2] {
        // Two steps: the second one sees what the first one has done to the parameters.
        let run = |more, filler| {
            let mut task = translation(layers).with_label_smoothing(0.1).unwrap();
            let losses =
                [0, 1].map(|number| step(&mut task, plain(more, filler), number).value("loss").unwrap());
            (losses, StateDict::of(task.model()))
        };
        let (losses, weights) = run(0, 0);
        assert_ne!(losses[0], losses[1]);
        for (more, filler) in [(3, 0), (1, 6)] {
            let (others, other) = run(more, filler);
            for (a, b) in losses.iter().zip(others) {
                assert!((a - b).abs() < 1e-6, "{a} and {b}");
            }
            for ((name, a), (_, b)) in weights.iter().zip(other.iter()) {
                let [a, b] = [a, b].map(|x| x.to_f64_vec());
                let apart = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                // Where a gradient is nearly 0, Adam's first steps are its sign; the sum of a bias that moves
                // all scores.
                let allowed = if name.ends_with("attention.V.bias") { 0.03 } else { 2e-4 };
                assert!(apart < allowed, "{name}: {apart}");
            }
        }
    }
}

/// The mean of −log p over tokens, with targets that are mixed with the uniform distribution.
fn by_hand(model: &Seq2Seq, share: f64) -> (f64, f64) {
    let (source, target) = plain(0, 0);
    let logits = log_softmax(model.forward(source, target.values, 1.0), 2);
    let [_, steps, tokens] = logits.dims();
    let logits: Vec<f64> = logits.cast(DType::F64).into_data().try_to_vec().unwrap();
    let (mut sum, mut hits, mut count) = (0.0, 0, 0);
    for (row, target) in targets().iter().enumerate() {
        for (step, &token) in target[1..].iter().enumerate() {
            let logs = &logits[(row * steps + step) * tokens..][..tokens];
            sum -= (1.0 - share) * logs[token as usize] + share * logs.iter().sum::<f64>() / tokens as f64;
            hits += usize::from(logs.iter().all(|&other| other <= logs[token as usize]));
            count += 1;
        }
    }
    (sum / f64::from(count), hits as f64 / f64::from(count))
}

#[test]
fn the_loss_is_the_mean_over_tokens() {
    let _alone = draws();
    for (layers, share) in [(1, 0.0), (1, 0.2), (2, 0.2)] {
        let mut task = translation(layers).with_label_smoothing(share).unwrap();
        let (expected, accuracy) = by_hand(task.model(), share);
        let metrics = step(&mut task, plain(0, 0), 0);
        assert!((metrics.value("loss").unwrap() - expected).abs() < 1e-5);
        assert!((metrics.value("token_accuracy").unwrap() - accuracy).abs() < 1e-9);
        assert_eq!(metrics.samples(), 3);
        // An evaluation's loss is not smoothed.
        let (expected, _) = by_hand(task.model(), 0.0);
        let metrics = task.evaluator()(plain(0, 0)).unwrap();
        assert!((metrics.value("loss").unwrap() - expected).abs() < 1e-5);
        assert_eq!(metrics.value("token_error_rate"), None);
        assert_eq!(task.monitor(), ("loss", Goal::Minimize));
    }
}

#[test]
fn the_decoder_is_told_the_truth_as_often_as_the_schedule_says() {
    let _alone = draws();
    let loss = |forcing: TeacherForcing, number| {
        let mut task = translation(1).with_teacher_forcing(forcing).unwrap();
        step(&mut task, plain(0, 0), number).value("loss").unwrap()
    };
    let always = loss(TeacherForcing::ALWAYS, 0);
    let never = loss(TeacherForcing::Constant { probability: 0.0 }, 0);
    assert!((always - never).abs() > 1e-3, "{always}, {never}");
    let line = TeacherForcing::Linear { first: 1.0, last: 0.0, steps: 10 };
    assert_eq!(loss(line, 0), always);
    assert_eq!(loss(line, 10), never);
    // In between some rows are told and some aren't.
    assert!([always, never].iter().all(|other| (loss(line, 5) - other).abs() > 1e-4));
    let error = translation(1).with_teacher_forcing(TeacherForcing::Constant { probability: 2.0 });
    assert!(
        matches!(error.err().unwrap().kind(), ErrorKind::OutOfRange(setting) if setting.field == "TeacherForcing.probability")
    );
}

#[test]
fn what_is_no_target_is_refused() {
    let _alone = draws();
    let device = device();
    let refused = |targets: Vec<Vec<i64>>| {
        let batch = (batch(&sources(), 0, 0, &device), batch(&targets, 0, 0, &device));
        let error = translation(1).train_step(batch, &StepContext::new(0, 0, 1e-2)).unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Task);
        error.to_string()
    };
    assert_eq!(
        refused(vec![vec![1, 2], vec![1], vec![1, 2]]),
        "target 1 of the batch: expected a begin token and an end token, got 1 tokens"
    );
    assert_eq!(refused(vec![vec![1, 2]]), "translation: expected a target for each of 3 sources, got 1");
    for share in [-0.1, 1.1, f64::NAN] {
        let error = translation(1).with_label_smoothing(share).err().unwrap().to_string();
        assert_eq!(error, format!("label smoothing: expected a number from 0 to 1, got {share}"));
    }
}

/// Learns to write down what it reads, each token one higher: decoded, counted, with its attention.
#[test]
fn a_small_task_is_learned_and_the_attention_moves_on() {
    let _alone = draws();
    let mut task = Translation::new(Learner::new(
        init(7, &device(), |device| Seq2SeqConfig::new(9, 10, 16, 32).init(device)).unwrap(),
        AdamConfig::new().init().unwrap(),
    ));
    task = task.with_decoding(Decode::greedy(12).with_names("per", "wer"));
    assert_eq!(task.monitor(), ("per", Goal::Minimize));
    let mut rng = SampleRng::from_seed(derive_seed(1, Purpose::Sample, 0, 0));
    let mut draw = |samples: usize, device: &Device| {
        // A target's tokens come behind its end token, 2.
        let mut token = |_| 2 + rng.below(7) as i64;
        let sources: Vec<Vec<i64>> =
            (0..samples).map(|sample| (0..3 + sample % 5).map(&mut token).collect()).collect();
        let target = |source: &Vec<i64>| {
            [&[1], &source.iter().map(|token| token + 1).collect::<Vec<_>>()[..], &[2]].concat()
        };
        let targets: Vec<Vec<i64>> = sources.iter().map(target).collect();
        (batch(&sources, 0, 0, device), batch(&targets, 0, 0, device))
    };
    let judge = |task: &Translation, batch| task.evaluator()(batch).unwrap();
    let plain = Device::default();
    let before = judge(&task, draw(64, &plain));
    assert!(before.value("wer").unwrap() > 0.9);
    for number in 0..400 {
        let batch = draw(32, &device());
        task.train_step(batch, &StepContext::new(0, number, 1e-2)).unwrap();
    }
    let held_out = draw(64, &plain);
    let after = judge(&task, held_out.clone());
    let (per, wer) = (after.value("per").unwrap(), after.value("wer").unwrap());
    assert!(per < 0.05 && wer < 0.2, "PER {per}, WER {wer}");

    let mut found = Vec::new();
    let beam = Decode::new(Beam::new(12).with_width(3));
    let metrics = task.translator(&beam, &mut found)(held_out).unwrap();
    assert_eq!((found.len(), metrics.samples()), (64, 64));
    let wrong = found.iter().filter(|sample| sample.edits > 0).count();
    assert_eq!(metrics.value("sequence_error_rate"), Some(wrong as f64 / 64.0));
    let mut sum = 0.0;
    for sample in &found {
        let places: Vec<f64> = (0..sample.found.tokens.len()).map(|place| place as f64).collect();
        let centroids: Vec<f64> = sample.found.attention[..places.len()]
            .iter()
            .map(|weights| {
                let (own, padding) = weights.split_at(sample.source.len());
                assert!((own.iter().sum::<f32>() - 1.0).abs() < 1e-5 && padding.iter().all(|&w| w == 0.0));
                own.iter().enumerate().map(|(place, &weight)| place as f64 * f64::from(weight)).sum()
            })
            .collect();
        sum += spearman(&places, &centroids).unwrap();
    }
    assert!(sum / 64.0 > 0.9, "{}", sum / 64.0);
}
