//! A language model's state goes from batch to batch, from checkpoint to resume, and nowhere else.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use crate::common::draws;
use burn::tensor::{Device, Int, Tensor};
use firebox_data::collate::Padded;
use firebox_data::formats::text::Vocabulary;
use firebox_data::tensors::{IntoTensors, SequenceBatch};
use firebox_models::init;
use firebox_models::layers::Cell;
use firebox_models::text::{LanguageModel, LanguageModelConfig};
use firebox_train::checkpoint::{Checkpoints, RunState};
use firebox_train::metrics::Metrics;
use firebox_train::optimizer::SgdConfig;
use firebox_train::task::{Goal, TaskState};
use firebox_train::tasks::LanguageModeling;
use firebox_train::{ErrorKind, Learner, StepContext, Task};

const TOKENS: usize = 7;
const ROWS: usize = 3;
const WINDOW: usize = 5;

fn task(cell: Cell) -> LanguageModeling {
    LanguageModeling::new(learner(cell))
}

fn learner(cell: Cell) -> Learner<LanguageModel> {
    let config = LanguageModelConfig::new(TOKENS, 4, 6).with_cell(cell).with_num_layers(2);
    let model = init(1, &Device::default().autodiff(), |device| config.init(device)).unwrap();
    Learner::new(model, SgdConfig::new().init().unwrap())
}

/// Window `number` of each row; rows of `lengths` tokens.
fn batch(number: usize, lengths: &[usize], device: &Device) -> SequenceBatch<Int> {
    let longest = lengths.iter().copied().max().unwrap();
    let token =
        |row: usize, place: usize| ((row * 31 + (number * WINDOW + place) * (row + 5)) % TOKENS) as i64;
    let rows = 0..lengths.len();
    let values: Vec<i64> = rows.flat_map(|row| (0..longest).map(move |place| token(row, place))).collect();
    Padded { values: values.into(), lengths: lengths.to_vec(), longest }.into_tensors(device)
}

fn window(number: usize, device: &Device) -> SequenceBatch<Int> {
    batch(number, &[WINDOW + 1; ROWS], device)
}

/// A step that moves nothing: what it measures depends on the state alone.
fn still(epoch: u64, step: usize) -> StepContext {
    StepContext::new(epoch, step, 0.0)
}

fn loss(metrics: &Metrics) -> f64 {
    metrics.value("loss").unwrap()
}

/// The loss of windows read in one piece, by window.
fn in_one_piece(task: &LanguageModeling, windows: usize) -> Vec<f64> {
    let device = Device::default();
    let parts: Vec<_> = (0..windows).map(|number| window(number, &device).values).collect();
    let read = |part: &Tensor<2, Int>| part.clone().narrow(1, 0, WINDOW);
    let text = Tensor::cat(parts.iter().map(read).collect(), 1);
    let (logits, _) = task.averaged().forward(text, None);
    let chances = burn::tensor::activation::log_softmax(logits, 2);
    let of_window = |(number, part): (usize, &Tensor<2, Int>)| {
        let next = part.clone().narrow(1, 1, WINDOW).unsqueeze_dim::<3>(2);
        let chosen = chances.clone().narrow(1, number * WINDOW, WINDOW).gather(2, next);
        -f64::from(chosen.mean().into_scalar::<f32>())
    };
    parts.iter().enumerate().map(of_window).collect()
}

fn assert_near(got: f64, expected: f64) {
    assert!((got - expected).abs() < 1e-5, "expected {expected}, got {got}");
}

#[test]
fn the_state_is_carried_through_an_epoch_and_no_further() {
    let _alone = draws();
    let (training, device) = (Device::default().autodiff(), Device::default());
    for cell in [Cell::Tanh, Cell::Gru, Cell::Lstm] {
        let mut task = task(cell);
        let whole = in_one_piece(&task, 3);
        let fresh =
            |number| loss(&self::task(cell).train_step(window(number, &training), &still(0, 0)).unwrap());
        assert!((1..3).all(|number| (fresh(number) - whole[number]).abs() > 1e-4), "the state has no effect");
        for epoch in 0..2 {
            for (number, &expected) in whole.iter().enumerate() {
                let step = 3 * epoch as usize + number;
                let metrics = task.train_step(window(number, &training), &still(epoch, step)).unwrap();
                assert_near(loss(&metrics), expected);
                // Two evaluations at once, in the middle of an epoch: each has a state of its own.
                let (mut one, mut other) = (task.evaluator(), task.evaluator());
                for (number, &expected) in whole.iter().enumerate() {
                    assert_near(loss(&one(window(number, &device)).unwrap()), expected);
                    assert_near(loss(&other(window(number, &device)).unwrap()), expected);
                }
            }
        }
        // Batches of one step follow each other, too; a step that doesn't follow begins anew, as another run
        // does.
        let mut task = self::task(cell);
        for (number, &expected) in whole.iter().enumerate() {
            let context = still(0, number / 2).without_update();
            assert_near(loss(&task.train_step(window(number, &training), &context).unwrap()), expected);
        }
        let again = task.train_step(window(1, &training), &still(0, 0)).unwrap();
        assert_near(loss(&again), fresh(1));
    }
}

#[test]
fn metrics_say_the_same_in_their_units() {
    let _alone = draws();
    let mut task = task(Cell::Lstm);
    assert_eq!(task.monitor(), ("loss", Goal::Minimize));
    let metrics = task.train_step(window(0, &Device::default().autodiff()), &still(0, 0)).unwrap();
    let value = |name| metrics.value(name).unwrap();
    assert_eq!(metrics.samples(), ROWS * WINDOW);
    assert!((value("bits_per_character") - value("loss") / 2f64.ln()).abs() < 1e-12);
    assert!((value("perplexity") - value("loss").exp()).abs() < 1e-12);
    // A short last window counts for what it is.
    let mut evaluator = task.evaluator();
    let device = Device::default();
    let mut all = evaluator(window(0, &device)).unwrap();
    let short = evaluator(batch(1, &[3; ROWS], &device)).unwrap();
    let expected =
        (loss(&all) * (ROWS * WINDOW) as f64 + loss(&short) * (ROWS * 2) as f64) / (ROWS * 7) as f64;
    all.add(&short).unwrap();
    assert!((loss(&all) - expected).abs() < 1e-12 && all.samples() == ROWS * 7);
    assert!(task.gradient_norm().is_some_and(|norm| norm > 0.0));
}

fn saved(task: &LanguageModeling) -> TaskState {
    // By way of a file.
    let folder = tempfile::tempdir().unwrap();
    let checkpoints = Checkpoints::new(folder.path());
    let state: RunState = RunState::new(serde_json::from_str(LOADER).unwrap(), 0);
    checkpoints.save(&state, &task.state().unwrap()).unwrap();
    checkpoints.load("last").unwrap().1
}

const LOADER: &str = r#"{"version": 1, "seed": 0, "epoch": 0, "batch": 0, "fingerprint": ""}"#;

#[test]
fn a_saved_state_goes_on_to_the_same_bits() {
    let _alone = draws();
    let training = Device::default().autodiff();
    for cell in [Cell::Tanh, Cell::Gru, Cell::Lstm] {
        let mut whole =
            LanguageModeling::new(learner(cell).with_clip_norm(1.0).unwrap().with_ema(0.5).unwrap());
        for step in 0..6 {
            let context = StepContext::new(0, step, 0.5);
            let mut resumed =
                LanguageModeling::new(learner(cell).with_clip_norm(1.0).unwrap().with_ema(0.5).unwrap());
            resumed.load(&saved(&whole)).unwrap();
            let expected = whole.train_step(window(step, &training), &context).unwrap();
            assert_eq!(
                resumed.train_step(window(step, &training), &context).unwrap(),
                expected,
                "{cell:?} {step}"
            );
            assert_eq!(resumed.state().unwrap(), whole.state().unwrap(), "{cell:?} {step}");
        }
        // Without what was carried it would be another run.
        let mut without = LanguageModeling::new(learner(cell).with_ema(0.5).unwrap());
        let mut state = saved(&whole);
        state.insert_value("carried", &serde_json::Value::Null).unwrap();
        without.load(&state).unwrap();
        let context = StepContext::new(0, 6, 0.5);
        let expected = whole.train_step(window(6, &training), &context).unwrap();
        assert_ne!(without.train_step(window(6, &training), &context).unwrap(), expected);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let _alone = draws();
    let training = Device::default().autodiff();
    let mut task = task(Cell::Lstm);
    let before = task.state().unwrap();
    for (lengths, text) in [
        (
            &[6, 5, 6][..],
            "row 1 of a window: expected 6 tokens, as many as in each row and at least 2, got 5",
        ),
        (&[1, 1, 1], "row 0 of a window: expected 2 tokens, as many as in each row and at least 2, got 1"),
    ] {
        let error = task.train_step(batch(0, lengths, &training), &still(0, 0)).unwrap_err();
        assert_eq!((error.kind(), error.to_string()), (&ErrorKind::Task, text.to_owned()));
    }
    task.train_step(window(0, &training), &still(0, 0)).unwrap();
    let error = task.train_step(batch(1, &[6, 6], &training), &still(0, 1)).unwrap_err();
    let text = "a window: expected 3 rows, as in the batch before, whose state is carried, got 2";
    assert_eq!(error.to_string(), text);

    let [one, other] = ["abcdefg", "abcdefh"].map(Vocabulary::of);
    let mut named = self::task(Cell::Lstm).with_vocabulary(one.clone());
    assert_eq!(LanguageModeling::vocabulary_of(&named.state().unwrap()).unwrap(), one);
    assert_eq!(named.load(&before).unwrap_err().kind(), &ErrorKind::Checkpoint, "it has none");
    let error = named.load(&self::task(Cell::Lstm).with_vocabulary(other).state().unwrap()).unwrap_err();
    let text = "vocabulary: expected 7 characters \"abcdefg\", got 7 characters \"abcdefh\"";
    assert_eq!((error.kind(), error.to_string()), (&ErrorKind::Checkpoint, text.to_owned()));

    // Another cell's state, in part or as a whole.
    let mut gru = self::task(Cell::Gru);
    gru.train_step(window(0, &training), &still(0, 0)).unwrap();
    let mut mixed = gru.state().unwrap();
    assert_eq!(task.load(&mixed).unwrap_err().kind(), &ErrorKind::Checkpoint);
    let mut part = mixed.get("carried").unwrap().clone();
    part.insert("hidden", burn::tensor::TensorData::zeros::<f32, _>([1, 3, 6]));
    mixed.insert("carried", part);
    let error = gru.load(&mixed).unwrap_err();
    assert_eq!(error.to_string(), "carried: hidden: expected shape [2, 3, 6], got [1, 3, 6]");
}

#[test]
fn a_batch_that_is_left_out_spoils_no_state() {
    let _alone = draws();
    let training = Device::default().autodiff();
    let mut task = task(Cell::Lstm);
    task.train_step(window(0, &training), &still(0, 0)).unwrap();
    let good = task.state().unwrap();
    // A step that goes too far leaves weights that are no numbers: the next batch has no loss.
    task.train_step(window(1, &training), &StepContext::new(0, 1, f64::MAX)).unwrap();
    let carried = task.state().unwrap().get("carried").unwrap().clone();
    let error = task.train_step(window(2, &training), &still(0, 2)).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::NotFinite);
    assert_eq!(*task.state().unwrap().get("carried").unwrap(), carried);
    assert_ne!(*good.get("carried").unwrap(), carried, "another batch, another state");
}

#[test]
fn a_batch_that_an_evaluation_leaves_out_spoils_none_behind_it() {
    let _alone = draws();
    let training = Device::default().autodiff();
    let config = LanguageModelConfig::new(TOKENS, 4, 6).with_cell(Cell::Gru);
    let mut model = init(1, &training, |device| config.init(device)).unwrap();
    // What follows the last token is no number.
    model.embedding.weight = model.embedding.weight.map(|weight| {
        let spoilt = Tensor::full([1, 4], f32::NAN, &training);
        Tensor::cat(vec![weight.narrow(0, 0, TOKENS - 1), spoilt], 0).detach().require_grad()
    });
    let task = LanguageModeling::new(Learner::new(model, SgdConfig::new().init().unwrap()));
    let window = |values: [i64; 4]| -> SequenceBatch<Int> {
        let padded = Padded { values: values.to_vec().into(), lengths: vec![4], longest: 4 };
        padded.into_tensors(&Device::default())
    };
    let good = [window([0, 1, 2, 3]), window([3, 4, 5, 0])];
    let mut evaluator = task.evaluator();
    let expected = good.clone().map(|window| loss(&evaluator(window).unwrap()));
    let mut evaluator = task.evaluator();
    let first = loss(&evaluator(good[0].clone()).unwrap());
    assert!(loss(&evaluator(window([1, 6, 2, 3])).unwrap()).is_nan());
    assert_eq!([first, loss(&evaluator(good[1].clone()).unwrap())], expected);
    assert!(expected.iter().all(|loss| loss.is_finite()));
}
