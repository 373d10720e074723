//! The search for a learning rate: what it finds, that it leaves no trace, and what it says when there is
//! nothing to find.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use crate::common::draws;
use std::fs;

use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig, Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use firebox_data::tensors::OnDevice;
use firebox_data::{Loader, Scalar, Stack};
use firebox_models::{Forward, init};
use firebox_train::optimizer::{AdamConfig, SgdConfig};
use firebox_train::run::{Interrupt, Signal};
use firebox_train::tasks::Classification;
use firebox_train::trainer::{LrCurve, LrFinder};
use firebox_train::{ErrorKind, Learner, RunDir, Task, Trainer, TrainerConfig};
use serde_json::Value;
use tempfile::TempDir;

/// A classifier of points whose steps draw random numbers.
#[derive(Module, Debug)]
struct Points {
    hidden: Linear,
    dropout: Dropout,
    output: Linear,
}

impl Forward<Tensor<2>> for Points {
    type Output = Tensor<2>;

    fn forward(&self, points: Tensor<2>) -> Tensor<2> {
        let x = burn::tensor::activation::relu(self.hidden.forward(points));
        self.output.forward(self.dropout.forward(x))
    }
}

type Classifier = Classification<Points, Tensor<2>>;

fn model() -> Points {
    let model = init(1, &Device::default().autodiff(), |device| {
        Ok::<_, firebox_models::Error>(Points {
            hidden: LinearConfig::new(2, 16).init(device),
            dropout: DropoutConfig::new(0.2).init(),
            output: LinearConfig::new(16, 2).init(device),
        })
    });
    model.unwrap()
}

/// With all that a task of this kind has to remember.
fn adam() -> Classifier {
    let learner = Learner::new(model(), AdamConfig::new().init().unwrap());
    Classification::new(learner.with_ema(0.9).unwrap().with_clip_norm(0.5).unwrap())
}

/// 100 points inside and outside of a circle in batches of 16, jittered; `scale` times as far from its
/// centre.
fn points(workers: usize, device: &Device, scale: f32) -> OnDevice<Loader<(Stack<f32, 1>, Scalar<i64>)>> {
    let numbers = (0..100).collect::<Vec<usize>>();
    let builder = Loader::builder(numbers).batch_size(16).shuffle(true).seed(5).workers(workers);
    let loader = builder.build((Stack::new([2]), Scalar::new()), move |number, rng, (point, class)| {
        let (angle, inside) = (number as f32 * 0.7, number % 2 == 0);
        let radius = (if inside { 0.5 } else { 1.5 } + rng.uniform() * 0.3) * scale;
        point.copy_from_slice(&[radius * angle.cos(), radius * angle.sin()]);
        *class = i64::from(inside);
        Ok(())
    });
    loader.unwrap().on_device(device).unwrap()
}

fn train(workers: usize) -> OnDevice<Loader<(Stack<f32, 1>, Scalar<i64>)>> {
    points(workers, &Device::default().autodiff(), 1.0)
}

/// A trainer, and the folder that is to live as long.
fn trainer(config: TrainerConfig) -> (TempDir, RunDir, Trainer) {
    let folder = tempfile::tempdir().unwrap();
    let run = RunDir::create(folder.path().join("run")).unwrap();
    let trainer = Trainer::new(&run, &Device::default()).config(config);
    (folder, run, trainer)
}

fn config() -> TrainerConfig {
    let mut config = TrainerConfig::new();
    (config.seed, config.max_epochs) = (Some(9), 2);
    config
}

fn found(config: TrainerConfig, finder: &LrFinder, workers: usize) -> LrCurve {
    let (_folder, _run, trainer) = trainer(config);
    trainer.find_lr(finder, &mut adam(), &train(workers)).unwrap()
}

#[test]
fn the_curve_follows_from_the_seed_alone() {
    let _alone = draws();
    let curve = found(config(), &LrFinder::new(), 0);
    assert!(curve.points().len() > 20, "{curve:?}");
    for workers in [0, 1, 3] {
        // A generator in another state changes nothing either.
        Device::default().seed(workers as u64);
        assert_eq!(found(config(), &LrFinder::new(), workers), curve, "{workers} workers");
    }
    let mut other = config();
    other.seed = Some(10);
    assert_ne!(found(other, &LrFinder::new(), 0), curve, "what drops out doesn't follow from the seed");
}

#[test]
fn steps_are_those_that_training_would_take() {
    let _alone = draws();
    // At rates next to nothing the first losses are those of a run at a rate next to nothing.
    let finder = LrFinder::new().with_range(1e-12, 1.1e-12).unwrap().with_steps(9).unwrap();
    for accumulate in [1, 3] {
        let mut config = config();
        (config.accumulate, config.max_epochs) = (accumulate, 4);
        let (_folder, run, trainer) = trainer(config);
        let mut trainer = trainer.schedule(1e-12);
        let mut task = adam();
        let curve = trainer.find_lr(&finder, &mut task, &train(1)).unwrap();
        trainer.fit(&mut task, &train(0), &points(0, &Device::default(), 1.0)).unwrap();
        let text = fs::read_to_string(run.metrics()).unwrap();
        let records = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let steps = records.filter(|record| record["kind"] == "step");
        let losses: Vec<_> = steps.map(|record| record["loss"].as_f64().unwrap()).take(9).collect();
        let seen: Vec<_> = curve.points().iter().map(|point| point.loss).collect();
        assert_eq!((seen.len(), curve.diverged()), (9, false));
        for (seen, expected) in seen.iter().zip(&losses) {
            assert!((seen - expected).abs() < 1e-6, "{accumulate}: {seen} {expected}");
        }
    }
}

#[test]
fn nothing_of_the_search_is_left() {
    let _alone = draws();
    let fit = |search: bool, config: TrainerConfig| {
        let (_folder, run, trainer) = trainer(config);
        let mut trainer = trainer.schedule(0.02);
        let mut task = adam();
        // Moments, averages and a count of steps that are not those of the beginning.
        trainer.fit(&mut task, &train(0), &points(0, &Device::default(), 1.0)).unwrap();
        let before = task.state().unwrap();
        let records = fs::read(run.metrics()).unwrap();
        if search {
            let curve = trainer.find_lr(&LrFinder::new(), &mut task, &train(0)).unwrap();
            assert!(curve.points().len() > 20);
            assert!(curve.points().last().unwrap().lr > 0.01, "the rates were too low to move anything");
        }
        assert!(task.state().unwrap() == before);
        assert_eq!(fs::read(run.metrics()).unwrap(), records, "the search was recorded");
        // And training goes on from there as if nothing had been.
        let next = RunDir::create(run.path().join("next")).unwrap();
        let mut trainer = Trainer::new(&next, &Device::default()).schedule(0.02).seed(3);
        trainer.fit(&mut task, &train(0), &points(0, &Device::default(), 1.0)).unwrap();
        task.state().unwrap()
    };
    let mut accumulating = config();
    accumulating.accumulate = 3;
    for config in [config(), accumulating] {
        assert!(fit(true, config.clone()) == fit(false, config));
    }
}

#[test]
fn an_error_leaves_the_task_as_it_was_too() {
    let _alone = draws();
    let (_folder, _run, trainer) = trainer(config());
    let mut task = adam();
    let before = task.state().unwrap();
    let finder = LrFinder::new().with_metric("charm");
    let error = trainer.find_lr(&finder, &mut task, &train(0)).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Task);
    let text = error.to_string();
    assert!(text.contains("expected the metric charm, got") && text.contains("loss"), "{text}");
    assert!(task.state().unwrap() == before);
}

#[test]
fn a_loss_that_was_never_finite_is_an_error() {
    let _alone = draws();
    let (_folder, _run, trainer) = trainer(config());
    let mut task = adam();
    let before = task.state().unwrap();
    let infinite = points(0, &Device::default().autodiff(), f32::INFINITY);
    let error = trainer.find_lr(&LrFinder::new(), &mut task, &infinite).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::NotFinite);
    let text = error.to_string();
    assert!(text.contains("the loss was never finite") && text.contains("rate 1e-7"), "{text}");
    assert!(task.state().unwrap() == before);
}

#[test]
fn a_rate_that_breaks_the_model_ends_the_search_with_what_was_seen() {
    let _alone = draws();
    let (_folder, _run, trainer) = trainer(config());
    let mut task = Classifier::new(Learner::new(model(), SgdConfig::new().init().unwrap()));
    let finder = LrFinder::new().with_range(1e-3, 1e300).unwrap().with_divergence(f64::INFINITY).unwrap();
    let curve = trainer.find_lr(&finder, &mut task, &train(0)).unwrap();
    assert!(curve.diverged() && (2..100).contains(&curve.points().len()), "{curve:?}");
    assert!(curve.points().iter().all(|point| point.loss.is_finite() && point.smoothed.is_finite()));
}

#[test]
fn a_signal_ends_the_search_with_what_was_seen() {
    let _alone = draws();
    let (_folder, _run, trainer) = trainer(config());
    let interrupt = Interrupt::never();
    interrupt.request(Signal::Term);
    let trainer = trainer.interrupt(interrupt);
    let curve = trainer.find_lr(&LrFinder::new(), &mut adam(), &train(0)).unwrap();
    assert_eq!((curve.points().len(), curve.diverged()), (1, false));
}

/// Accuracy after so many epochs at a rate.
fn accuracy(lr: f64) -> f64 {
    let mut config = config();
    config.max_epochs = 12;
    let (_folder, _run, trainer) = trainer(config);
    let mut task = Classifier::new(Learner::new(model(), AdamConfig::new().init().unwrap()));
    let valid = points(0, &Device::default(), 1.0);
    let mut trainer = trainer.schedule(lr);
    trainer.fit(&mut task, &train(0), &valid).unwrap().best.unwrap().value
}

#[test]
fn the_suggested_rate_is_one_at_which_the_task_learns() {
    let _alone = draws();
    let (_folder, _run, trainer) = trainer(config());
    let mut task = Classifier::new(Learner::new(model(), AdamConfig::new().init().unwrap()));
    let curve = trainer.find_lr(&LrFinder::new(), &mut task, &train(0)).unwrap();
    let steepest = curve.steepest().unwrap();
    assert!((1e-3..1.0).contains(&steepest), "{steepest}");
    let (at_it, below) = (accuracy(steepest), accuracy(steepest / 1000.0));
    println!("{at_it} at {steepest}, {below} at a thousandth");
    assert!(at_it > 0.95 && below < 0.8, "{at_it} at {steepest}, {below} at a thousandth");
}

#[test]
fn points_are_written_for_others_to_read() {
    let _alone = draws();
    let (_folder, run, trainer) = trainer(config());
    run.write_config(&serde_json::json!({})).unwrap();
    let curve = trainer.find_lr(&LrFinder::new(), &mut adam(), &train(0)).unwrap();
    curve.write(&run.lr_points()).unwrap();
    let lines: Vec<Value> = fs::read_to_string(run.lr_points())
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), curve.points().len());
    for (line, point) in lines.iter().zip(curve.points()) {
        assert_eq!((&line["step"], &line["format_version"]), (&point.step.into(), &3.into()));
        let numbers = [&line["lr"], &line["loss"], &line["smoothed"]].map(|number| number.as_f64().unwrap());
        assert_eq!(numbers, [point.lr, point.loss, point.smoothed]);
    }
    fs::write(run.lr_plot(), "a page").unwrap();
    // They belong to the run: one that is begun anew in its folder has none.
    let path = run.path().to_owned();
    drop((trainer, run));
    let anew = RunDir::overwrite(&path).unwrap();
    assert!(!anew.lr_points().exists() && !anew.lr_plot().exists());
}

#[test]
fn data_that_have_no_batch_are_refused() {
    let _alone = draws();
    let (_folder, _run, trainer) = trainer(config());
    let none = Loader::builder(Vec::<usize>::new())
        .batch_size(4)
        .build((Stack::new([2]), Scalar::new()), |_, _, (_, _): (&mut [f32], &mut i64)| Ok(()))
        .unwrap()
        .on_device(&Device::default().autodiff())
        .unwrap();
    let error = trainer.find_lr(&LrFinder::new(), &mut adam(), &none).unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        (&ErrorKind::Config, "the training data have no batch: 0 samples in the data set, batch size 4")
    );
}
