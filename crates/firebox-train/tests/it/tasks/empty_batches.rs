//! Batches of 0 samples, such as a rank has where others have them: of weight 0 in all that is learned and
//! told.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use crate::common::draws;
use std::sync::{Arc, Mutex};

use burn::module::Module;
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use firebox_data::batches::Batches;
use firebox_data::tensors::{OnDevice, SequenceBatch};
use firebox_data::{Loader, Scalar, Stack};
use firebox_models::gan::Logits;
use firebox_models::layers::{Linear, LinearConfig};
use firebox_models::text::{LanguageModelConfig, Seq2SeqConfig};
use firebox_models::{Forward, init};
use firebox_train::event::{End, Event, Record, RecordKind};
use firebox_train::metrics::Metrics;
use firebox_train::optimizer::{AdamConfig, SgdConfig};
use firebox_train::tasks::{Adversarial, Classification, Decode, LanguageModeling, Regression, Translation};
use firebox_train::trainer::LrFinder;
use firebox_train::{ErrorKind, Learner, RunDir, StepContext, Task, Trainer, TrainerConfig};

fn training() -> Device {
    Device::default().autodiff()
}

fn linear(features_in: usize, features_out: usize) -> Linear {
    init(1, &training(), |device| LinearConfig::new(features_in, features_out).init(device)).unwrap()
}

fn adam() -> burn::optim::ModuleOptimizer {
    AdamConfig::new().init().unwrap()
}

fn at(step: usize) -> StepContext {
    StepContext::new(0, step, 0.1)
}

fn floats<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    let values = (0..shape.iter().product()).map(|place| (place as f32).sin()).collect::<Vec<_>>();
    Tensor::from_data(TensorData::new(values, shape), device)
}

fn ints<const D: usize>(shape: [usize; D], below: i64, device: &Device) -> Tensor<D, Int> {
    let values = (0..shape.iter().product::<usize>() as i64).map(|place| place % below).collect::<Vec<_>>();
    Tensor::from_data(TensorData::new(values, shape), device)
}

fn sequences(rows: usize, device: &Device) -> SequenceBatch {
    let lengths = TensorData::new(vec![3i64; rows], [rows]);
    SequenceBatch {
        values: ints([rows, 3], 4, device),
        lengths: Tensor::from_data(lengths, device),
        mask: Tensor::<2, Bool>::from_data(TensorData::new(vec![true; 3 * rows], [rows, 3]), device),
    }
}

fn classification() -> Classification<Linear, Tensor<2>> {
    Classification::new(Learner::new(linear(2, 3), adam()).with_ema(0.5).unwrap())
}

fn classified(rows: usize, device: &Device) -> (Tensor<2>, Tensor<1, Int>) {
    (floats([rows, 2], device), ints([rows], 3, device))
}

fn language() -> LanguageModeling {
    let model = init(1, &training(), |device| LanguageModelConfig::new(5, 4, 4).init(device)).unwrap();
    LanguageModeling::new(Learner::new(model, adam()))
}

fn translation() -> Translation {
    let model = init(1, &training(), |device| Seq2SeqConfig::new(6, 5, 4, 4).init(device)).unwrap();
    Translation::new(Learner::new(model, adam()))
}

#[derive(Module, Debug)]
struct Half {
    linear: Linear,
}

impl Forward<Tensor<2>> for Half {
    type Output = Tensor<2>;

    fn forward(&self, noise: Tensor<2>) -> Tensor<2> {
        self.linear.forward(noise)
    }
}

impl Logits<Tensor<2>> for Half {
    fn logits(&self, samples: Tensor<2>) -> Tensor<2> {
        self.linear.forward(samples)
    }
}

fn gan() -> Adversarial<Half, Half, 2> {
    let half =
        |features_in, features_out| Learner::new(Half { linear: linear(features_in, features_out) }, adam());
    Adversarial::new(half(2, 3), half(3, 1), 2)
}

/// The batch of a task, by its rows.
type Make<B> = fn(usize, &Device) -> B;

/// A step of these batches, with Burn's generator at the same place in each.
fn step<T: Task>(task: &mut T, make: Make<T::Batch>, number: usize, batches: &[usize]) -> Metrics {
    let mut all = Metrics::default();
    for (place, &rows) in batches.iter().enumerate() {
        let last = place + 1 == batches.len();
        let context = if last { at(number) } else { at(number).without_update() };
        training().seed(7);
        all.add(&task.train_step(make(rows, &training()), &context).unwrap()).unwrap();
    }
    all
}

/// An empty batch changes nothing, of the task or of what is measured, wherever it comes.
fn assert_weightless<T: Task>(new: impl Fn() -> T, make: Make<T::Batch>) {
    let _alone = draws();
    let mut task = new();
    let before = task.state().unwrap();
    let nothing = step(&mut task, make, 0, &[0]);
    assert_eq!((nothing.samples(), nothing.values().count()), (0, 0));
    assert_eq!((task.gradient_norm(), task.state().unwrap()), (None, before.clone()), "nothing moves");
    let one = step(&mut task, make, 1, &[4]);
    assert_ne!(task.state().unwrap(), before);
    for around in [&[0, 4][..], &[4, 0], &[0, 4, 0, 0]] {
        let mut other = new();
        let metrics = step(&mut other, make, 1, around);
        assert_eq!(metrics, one, "{around:?}");
        assert_eq!(other.state().unwrap(), task.state().unwrap(), "{around:?}");
    }
    // Two batches that make a step, with nothing between.
    let (mut two, mut three) = (new(), new());
    assert_eq!(step(&mut two, make, 0, &[4, 4]), step(&mut three, make, 0, &[4, 0, 4]));
    assert_eq!(two.state().unwrap(), three.state().unwrap());
    let judged = |rows: &[usize]| {
        let (device, mut evaluator, mut all) = (Device::default(), task.evaluator(), Metrics::default());
        for &rows in rows {
            device.seed(7);
            all.add(&evaluator(make(rows, &device)).unwrap()).unwrap();
        }
        all
    };
    assert_eq!(judged(&[0]), Metrics::default());
    assert_eq!(judged(&[0, 4, 0, 4]), judged(&[4, 4]));
}

#[test]
fn an_empty_batch_has_no_weight_in_any_task() {
    assert_weightless(classification, classified);
    assert_weightless(
        || Regression::<Linear, Tensor<2>>::new(Learner::new(linear(2, 3), adam())),
        |rows, device| (floats([rows, 2], device), floats([rows, 3], device)),
    );
    assert_weightless(language, sequences);
    let pair: Make<_> = |rows, device| (sequences(rows, device), sequences(rows, device));
    assert_weightless(translation, pair);
    assert_weightless(|| translation().with_decoding(Decode::greedy(4)), pair);
    assert_weightless(gan, |rows, device| floats([rows, 3], device));
}

#[test]
fn the_state_of_a_language_model_is_carried_over_an_empty_batch() {
    let _alone = draws();
    let (mut with, mut without) = (language(), language());
    let first = step(&mut with, sequences, 0, &[4]);
    assert_eq!(step(&mut without, sequences, 0, &[4]), first);
    step(&mut with, sequences, 1, &[0]);
    let carried = step(&mut with, sequences, 2, &[4]);
    assert_eq!(carried, step(&mut without, sequences, 1, &[4]));
    // Had it begun with zeros, it would say something else.
    let (mut anew, mut later) = (language(), at(5));
    step(&mut anew, sequences, 0, &[4]);
    later.is_optimizer_step = true;
    let zeros = anew.train_step(sequences(4, &training()), &later).unwrap();
    assert_ne!(zeros, carried);
}

#[test]
fn a_learning_rate_that_is_none_is_refused_of_an_empty_batch_too() {
    let _alone = draws();
    let mut task = classification();
    let error = task.train_step(classified(0, &training()), &StepContext::new(0, 0, f64::NAN)).unwrap_err();
    assert_eq!(error.to_string(), "learning rate: expected a number of at least 0, got NaN");
}

type Points = OnDevice<Loader<(Stack<f32, 1>, Scalar<i64>)>>;

/// Ten points, one a batch, dealt to some ranks.
fn points(rank: usize, world: usize, device: &Device) -> Points {
    let builder = Loader::builder((0..10usize).collect::<Vec<_>>()).batch_size(1).workers(0);
    let loader =
        builder.rank(rank, world).build((Stack::new([2]), Scalar::new()), |number, _, (point, class)| {
            point.copy_from_slice(&[number as f32, 1.0]);
            *class = number as i64 % 3;
            Ok(())
        });
    loader.unwrap().on_device(device).unwrap()
}

#[test]
fn a_run_takes_steps_without_samples() {
    let _alone = draws();
    let folder = tempfile::tempdir().unwrap();
    let run = RunDir::create(folder.path()).unwrap();
    run.write_config(&serde_json::json!({})).unwrap();
    let mut config = TrainerConfig::new();
    (config.max_epochs, config.norm_warning) = (1, 10.0);
    let seen = Arc::new(Mutex::new((Vec::new(), Vec::new())));
    let told = Arc::clone(&seen);
    let mut task = Classification::<Linear, Tensor<2>>::new(Learner::new(
        linear(2, 3),
        SgdConfig::new().init().unwrap(),
    ));
    // The second of two ranks: the first step is the other one's.
    let (train, valid) = (points(1, 2, &training()), points(1, 2, &Device::default()));
    assert_eq!((train.batches(0), train.samples(0)), (10, 5));
    let outcome = Trainer::new(&run, &Device::default())
        .config(config)
        .schedule(0.05)
        .callback(move |event: &Event<'_>| {
            let (records, warnings) = &mut *told.lock().unwrap();
            match event {
                Event::Recorded(record) => records.push((*record).clone()),
                Event::Warning(text) => warnings.push((*text).to_owned()),
                _ => {}
            }
            Ok(())
        })
        .fit(&mut task, &train, &valid)
        .unwrap();
    assert_eq!((outcome.end, outcome.steps), (End::Complete, 10));
    let (records, warnings) = &*seen.lock().unwrap();
    assert_eq!(*warnings, Vec::<String>::new());
    let samples = |kind: RecordKind| -> Vec<usize> {
        records.iter().filter(|record| record.kind == kind).map(|record| record.metrics.samples()).collect()
    };
    assert_eq!(samples(RecordKind::Step), [0, 1, 0, 1, 0, 1, 0, 1, 0, 1]);
    assert_eq!((samples(RecordKind::Epoch), samples(RecordKind::Eval)), (vec![5], vec![5]));
    let finite = |record: &Record| record.metrics.values().all(|(_, value)| value.is_finite());
    assert!(records.iter().all(finite));
    // By hand, without what is empty.
    let mut alone = Classification::<Linear, Tensor<2>>::new(Learner::new(
        linear(2, 3),
        SgdConfig::new().init().unwrap(),
    ));
    for (step, batch) in train.epoch(0).enumerate() {
        let batch = batch.unwrap();
        if batch.1.dims()[0] > 0 {
            alone.train_step(batch, &StepContext::new(0, step, 0.05)).unwrap();
        }
    }
    assert_eq!(alone.state().unwrap(), task.state().unwrap());

    // A search learns at the rates at which there is something to learn from.
    let finder = LrFinder::new().with_steps(4).unwrap();
    let curve = Trainer::new(&run, &Device::default()).find_lr(&finder, &mut task, &train).unwrap();
    assert_eq!(curve.points().len(), 4);

    // A rank that has nothing at all says so.
    let empty = Loader::builder(vec![0usize; 2]).batch_size(1).rank(2, 3).workers(0);
    let empty = empty.build((Stack::<f32, 1>::new([2]), Scalar::<i64>::new()), |_, _, _| Ok(())).unwrap();
    let empty = empty.on_device(&Device::default()).unwrap();
    assert_eq!((empty.batches(0), empty.samples(0)), (2, 0));
    let mut trainer = Trainer::new(&run, &Device::default());
    let error = trainer.evaluate(&empty, "test", task.evaluator()).unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        (&ErrorKind::Config, "the test data have no sample")
    );
}
