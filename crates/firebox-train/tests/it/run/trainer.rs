//! The trainer: what it records, that it goes on where it was, and how it stops.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use crate::common::draws;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Int, Tensor, TensorData};
use firebox_data::batches::Batches;
use firebox_data::tensors::OnDevice;
use firebox_data::{Loader, Scalar, Stack};
use firebox_models::{Forward, init};
use firebox_train::checkpoint::Checkpoints;
use firebox_train::event::{End, Event, Record, RecordKind};
use firebox_train::optimizer::{AdamConfig, SgdConfig};
use firebox_train::run::{Interrupt, Signal};
use firebox_train::schedule::OneCycle;
use firebox_train::task::TaskState;
use firebox_train::tasks::Classification;
use firebox_train::trainer::Outcome;
use firebox_train::{ErrorKind, Learner, RunDir, StepContext, Task, Trainer, TrainerConfig};
use firebox_weights::StateDict;
use serde_json::Value;

/// A classifier of points that drops out, so that every step draws random numbers.
#[derive(Module, Debug)]
struct Points {
    hidden: Linear,
    dropout: burn::nn::Dropout,
    output: Linear,
}

impl Forward<Tensor<2>> for Points {
    type Output = Tensor<2>;

    fn forward(&self, points: Tensor<2>) -> Tensor<2> {
        let x = burn::tensor::activation::relu(self.hidden.forward(points));
        self.output.forward(self.dropout.forward(x))
    }
}

fn task(width: usize) -> Classification<Points, Tensor<2>> {
    Classification::new(learner(width))
}

fn learner(width: usize) -> Learner<Points> {
    let device = Device::default().autodiff();
    let model = init(1, &device, |device| {
        Ok::<_, firebox_models::Error>(Points {
            hidden: LinearConfig::new(2, width).init(device),
            dropout: burn::nn::DropoutConfig::new(0.3).init(),
            output: LinearConfig::new(width, 2).init(device),
        })
    });
    Learner::new(model.unwrap(), AdamConfig::new().init().unwrap())
}

type Layout = (Stack<f32, 1>, Scalar<i64>);

/// Points inside and outside of a circle, jittered.
fn points(samples: usize, workers: usize, device: &Device) -> OnDevice<Loader<Layout>> {
    let numbers = (0..samples).collect::<Vec<_>>();
    Loader::builder(numbers)
        .batch_size(16)
        .shuffle(true)
        .seed(5)
        .workers(workers)
        .build((Stack::new([2]), Scalar::new()), |number, rng, (point, class)| {
            let angle = number as f32 * 0.7;
            let inside = number % 2 == 0;
            let radius = if inside { 0.5 } else { 1.5 } + rng.uniform() * 0.3;
            point.copy_from_slice(&[radius * angle.cos(), radius * angle.sin()]);
            *class = i64::from(inside);
            Ok(())
        })
        .unwrap()
        .on_device(device)
        .unwrap()
}

const EPOCHS: u64 = 3;
/// 100 samples in batches of 16.
const BATCHES: usize = 7;

struct Run {
    workers: usize,
    interrupt: Interrupt,
    /// Ask to stop after this step.
    stop_after: Option<usize>,
    resume: bool,
}

impl Run {
    fn new() -> Self {
        Run { workers: 0, interrupt: Interrupt::never(), stop_after: None, resume: false }
    }

    fn fit(self, folder: &Path) -> (TaskState, firebox_train::trainer::Outcome) {
        let device = Device::default();
        let run = match self.resume {
            true => RunDir::open(folder).unwrap().resume().unwrap(),
            false => RunDir::create(folder).unwrap(),
        };
        run.write_config(&serde_json::json!({})).unwrap();
        let (interrupt, stop_after) = (self.interrupt.clone(), self.stop_after);
        let mut task = task(8);
        let outcome = Trainer::new(&run, &device)
            .epochs(EPOCHS)
            .seed(9)
            .schedule(OneCycle::new(0.05, EPOCHS as usize * BATCHES).unwrap())
            .resume(self.resume)
            .interrupt(self.interrupt)
            .callback(move |event: &Event<'_>| {
                if let Event::Recorded(Record { kind: RecordKind::Step, step, .. }) = event
                    && Some(*step) == stop_after
                {
                    interrupt.request(Signal::Term);
                }
                Ok(())
            })
            .fit(
                &mut task,
                &points(100, self.workers, &device.clone().autodiff()),
                &points(40, self.workers, &device),
            )
            .unwrap();
        (task.state().unwrap(), outcome)
    }
}

/// The records without what time decides.
fn records(folder: &Path) -> Vec<Value> {
    let text = fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
    let parse = |line| {
        let mut record: Value = serde_json::from_str(line).unwrap();
        let fields = record.as_object_mut().unwrap();
        for timed in ["seconds", "samples_per_s", "data_wait_s"] {
            assert!(fields.remove(timed).is_some(), "{timed} is missing: {line}");
        }
        // The loader's account, of the part of the epoch that this process has seen.
        assert_eq!(fields.remove("data").is_some(), fields["kind"] == "epoch", "{line}");
        record
    };
    text.lines().map(parse).collect()
}

#[test]
fn a_run_records_every_step_evaluation_and_epoch() {
    let _alone = draws();
    let folder = tempfile::tempdir().unwrap();
    let (_, outcome) = Run::new().fit(folder.path());
    assert_eq!((outcome.steps, outcome.interrupted()), (EPOCHS as usize * BATCHES, None));
    let records = records(folder.path());
    let of = |kind: &str| records.iter().filter(|record| record["kind"] == kind).collect::<Vec<_>>();
    let steps: Vec<_> = of("step").iter().map(|record| record["step"].as_u64().unwrap()).collect();
    assert!(steps.into_iter().eq(1..=EPOCHS * BATCHES as u64));
    assert!(of("step").iter().all(|record| record["lr"].is_f64() && record["loss"].is_f64()));
    for (kind, split) in [("epoch", "train"), ("eval", "valid")] {
        let places: Vec<_> =
            of(kind).iter().map(|record| (record["epoch"].as_u64(), &record["step"])).collect();
        assert_eq!(places.len(), EPOCHS as usize);
        assert!(of(kind).iter().all(|record| record["split"] == split && record.get("lr").is_none()));
    }
    assert!(records.iter().all(|record| record["format_version"] == 3));
    let best = outcome.best.unwrap();
    let accuracies = of("eval").into_iter().map(|record| record["accuracy"].as_f64().unwrap());
    assert_eq!((best.metric.as_str(), best.value), ("accuracy", accuracies.fold(0.0, f64::max)));
    let checkpoints = Checkpoints::new(folder.path().join("checkpoints"));
    assert_eq!(checkpoints.load("best").unwrap().0.step, best.step);
    // The last two and the best one.
    let mut kept = vec![2 * BATCHES, 3 * BATCHES];
    kept.extend((best.step == BATCHES).then_some(BATCHES));
    for step in [0, BATCHES, 2 * BATCHES, 3 * BATCHES] {
        let saved = checkpoints.load(&format!("step-{step}")).ok();
        assert_eq!(saved.map(|(state, _)| state.step), kept.contains(&step).then_some(step));
    }
}

#[test]
fn the_same_run_gives_the_same_bytes_with_any_number_of_workers() {
    let _alone = draws();
    let runs = [0, 0, 1, 4].map(|workers| {
        let folder = tempfile::tempdir().unwrap();
        let (state, _) = Run { workers, ..Run::new() }.fit(folder.path());
        (state, records(folder.path()))
    });
    assert!(runs.iter().all(|run| *run == runs[0]));
}

#[test]
fn a_stopped_run_goes_on_as_if_it_had_not_stopped() {
    let _alone = draws();
    let whole = tempfile::tempdir().unwrap();
    let (expected, _) = Run::new().fit(whole.path());
    // In the first epoch, at its end, right behind it, in the middle, before the last step.
    for stop in [1, BATCHES, BATCHES + 1, 10, 3 * BATCHES - 1] {
        let folder = tempfile::tempdir().unwrap();
        let (_, outcome) = Run { stop_after: Some(stop), ..Run::new() }.fit(folder.path());
        assert_eq!((outcome.interrupted(), outcome.steps), (Some(Signal::Term), stop));
        // Records that were written behind the checkpoint belong to steps that are done again.
        let metrics = folder.path().join("metrics.jsonl");
        let mut text = fs::read_to_string(&metrics).unwrap();
        text.push_str("{\"kind\":\"step\",\"step\":99");
        fs::write(&metrics, text).unwrap();
        let (state, outcome) = Run { workers: 2, resume: true, ..Run::new() }.fit(folder.path());
        assert_eq!(outcome.interrupted(), None);
        assert_eq!(state, expected, "stopped after {stop}");
        assert_eq!(records(folder.path()), records(whole.path()), "stopped after {stop}");
    }
}

#[test]
fn a_stop_during_the_last_step_leaves_the_evaluation_to_a_resume() {
    let _alone = draws();
    let whole = tempfile::tempdir().unwrap();
    let (expected, of_whole) = Run::new().fit(whole.path());
    let folder = tempfile::tempdir().unwrap();
    let (_, outcome) = Run { stop_after: Some(3 * BATCHES), ..Run::new() }.fit(folder.path());
    assert_eq!((outcome.interrupted(), outcome.steps), (Some(Signal::Term), 3 * BATCHES));
    let all = records(whole.path());
    assert_eq!(records(folder.path()), all[..all.len() - 1], "all but the last evaluation");
    let (state, outcome) = Run { resume: true, ..Run::new() }.fit(folder.path());
    assert_eq!((outcome.end, outcome.steps, &outcome.best), (End::Complete, 3 * BATCHES, &of_whole.best));
    assert_eq!((state, records(folder.path())), (expected, all));
    let (_, again) = Run { resume: true, ..Run::new() }.fit(folder.path());
    assert_eq!((again.steps, again.best), (outcome.steps, outcome.best), "nothing is left to do");
}

#[test]
fn a_checkpoint_of_something_else_is_refused_and_all_differences_are_named() {
    let _alone = draws();
    let mut narrow = task(8);
    let wide = task(9).state().unwrap();
    let before = narrow.state().unwrap();
    let error = narrow.load(&wide).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Checkpoint);
    let text = error.to_string();
    for part in ["hidden.weight: expected shape [2, 8], got [2, 9]", "hidden.bias", "output.weight"] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(narrow.state().unwrap(), before, "nothing was loaded");
    let error = narrow.load(&TaskState::default()).unwrap_err();
    assert!(error.to_string().contains("no part model"), "{error}");
}

#[test]
fn optimiser_state_is_accounted_for_tensor_by_tensor() {
    let _alone = draws();
    let folder = tempfile::tempdir().unwrap();
    let (good, _) = Run::new().fit(folder.path());
    let optimizer = good.get("model.optimizer").unwrap();
    let keys: Vec<_> = optimizer.iter().map(|(key, _)| key.to_owned()).collect();
    assert!(keys.contains(&"hidden.weight/momentum.moment_1".to_owned()), "{keys:?}");
    // Rank, time and two moments for each of four parameters.
    assert_eq!(keys.len(), 16);
    // A whole parameter's state gone is for the manifest to find; here it would be a parameter never trained.
    let without = |gone: &str, extra: Option<&str>| {
        let mut part = StateDict::default();
        for (key, data) in optimizer.iter().filter(|(key, _)| *key != gone) {
            part.insert(key, data.clone());
        }
        if let Some(extra) = extra {
            part.insert(extra, optimizer.get(&keys[0]).unwrap().clone());
        }
        let mut state = good.clone();
        state.insert("model.optimizer", part);
        state
    };
    let mut task = task(8);
    task.load(&good).unwrap();
    assert_eq!(task.state().unwrap(), good);
    for gone in &keys {
        let error = task.load(&without(gone, None)).expect_err(gone);
        assert!(error.to_string().contains("model.optimizer: "), "{gone}: {error}");
        assert_eq!(task.state().unwrap(), good, "nothing was loaded");
    }
    let error = task.load(&without("", Some("stranger.weight/momentum.moment_1"))).unwrap_err();
    assert!(error.to_string().contains("unexpected stranger.weight/momentum.moment_1"), "{error}");
    assert!(!records(folder.path()).is_empty());
}

#[test]
fn a_kill_between_the_links_is_mended_by_a_resume() {
    let _alone = draws();
    let folder = tempfile::tempdir().unwrap();
    let (_, outcome) = Run { stop_after: Some(2 * BATCHES + 1), ..Run::new() }.fit(folder.path());
    assert!(outcome.interrupted().is_some());
    let best = folder.path().join("checkpoints/best");
    let right = fs::read_link(&best).unwrap();
    // Killed after `last` was linked and before `best` was: it leads to an older one, or is not there yet.
    fs::remove_file(&best).unwrap();
    let (_, outcome) =
        Run { resume: true, stop_after: Some(2 * BATCHES + 2), ..Run::new() }.fit(folder.path());
    assert!(outcome.interrupted().is_some());
    assert_eq!(fs::read_link(&best).unwrap(), right);
    fs::remove_file(&best).unwrap();
    std::os::unix::fs::symlink("step-0", &best).unwrap();
    let (_, outcome) =
        Run { resume: true, stop_after: Some(2 * BATCHES + 3), ..Run::new() }.fit(folder.path());
    assert!(outcome.interrupted().is_some());
    assert_eq!(fs::read_link(&best).unwrap(), right);
    // The best checkpoint itself is gone.
    fs::remove_dir_all(folder.path().join("checkpoints").join(&right)).unwrap();
    let run = RunDir::open(folder.path()).unwrap().resume().unwrap();
    let device = Device::default();
    let data = || points(100, 0, &device.clone().autodiff());
    let outcome = Trainer::new(&run, &device)
        .seed(9)
        .resume(true)
        .fit(&mut task(8), &data(), &points(40, 0, &device))
        .unwrap();
    assert!(
        outcome.warnings[0].ends_with("no such checkpoint, although it was among the best"),
        "{outcome:?}"
    );
    assert!(best.symlink_metadata().is_err(), "a link to nothing");
}

/// A trainer of the points at a learning rate that ends in numbers that are none.
fn explode(folder: &Path, config: TrainerConfig) -> (Result<Outcome, firebox_train::Error>, Vec<String>) {
    let device = Device::default();
    let run = RunDir::create(folder).unwrap();
    let warnings = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&warnings);
    let outcome = Trainer::new(&run, &device)
        .config(config)
        .schedule(1e30)
        .callback(move |event: &Event<'_>| {
            if let Event::Warning(text) = event {
                heard.lock().unwrap().push((*text).to_owned());
            }
            Ok(())
        })
        .fit(&mut task(8), &points(100, 1, &device.clone().autodiff()), &points(40, 0, &device));
    let warnings = warnings.lock().unwrap().clone();
    (outcome, warnings)
}

#[test]
fn what_is_not_finite_ends_the_run_with_its_samples_or_is_left_out() {
    let _alone = draws();
    let folder = tempfile::tempdir().unwrap();
    let (outcome, _) = explode(&folder.path().join("stop"), TrainerConfig::default());
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::NotFinite);
    let text = error.to_string();
    assert!(text.starts_with("step 2, epoch 1, batch 1, samples "), "{text}");
    let expected = points(100, 0, &Device::default()).indices(0, 1).unwrap();
    let expected: Vec<_> = expected.iter().map(usize::to_string).collect();
    assert!(text.contains(&format!("samples {}: ", expected.join(", "))), "{text}");
    assert!(text.contains("expected a finite number, got"), "{text}");
    let mut config = TrainerConfig::default();
    config.skip_not_finite = true;
    let (outcome, warnings) = explode(&folder.path().join("skip"), config);
    // The parameters are lost after the first step: all the others are left out, and an evaluation has
    // nothing to say.
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::NotFinite);
    let text = "after step 7, epoch 1, validation data: expected a batch with a finite loss, got none in 3";
    assert_eq!(error.to_string(), text);
    assert_eq!(warnings.len(), BATCHES - 1 + 3, "{warnings:?}");
    assert!(warnings.iter().all(|text| text.ends_with("; the batch is left out")), "{warnings:?}");
    let state = Checkpoints::new(folder.path().join("skip/checkpoints")).load("last").unwrap().0;
    assert_eq!((state.step, state.not_finite), (BATCHES, BATCHES - 1));
    let text = fs::read_to_string(folder.path().join("skip/metrics.jsonl")).unwrap();
    assert!(!text.contains("null"), "what does not apply is left out");
}

#[test]
fn a_step_over_several_batches_is_that_of_a_large_one() {
    let _alone = draws();
    let device = Device::default().autodiff();
    // Without dropout: its draws are a batch's own.
    let model = init(1, &device, |device| {
        Ok::<_, firebox_models::Error>(Points {
            hidden: LinearConfig::new(2, 8).init(device),
            dropout: burn::nn::DropoutConfig::new(0.0).init(),
            output: LinearConfig::new(8, 2).init(device),
        })
    });
    let model = model.unwrap();
    let key = firebox_data::seed::derive_seed(3, firebox_data::seed::Purpose::Sample, 0, 0);
    let mut rng = firebox_data::SampleRng::from_seed(key);
    let rows = |rng: &mut firebox_data::SampleRng, count: usize| -> (Vec<f32>, Vec<i64>) {
        ((0..2 * count).map(|_| rng.uniform()).collect(), (0..count).map(|_| rng.below(2) as i64).collect())
    };
    let new = || {
        Classification::new(Learner::new(
            model.clone(),
            firebox_train::optimizer::SgdConfig::new().init().unwrap(),
        ))
    };
    for sizes in [&[16, 16, 16, 16][..], &[16, 5, 1], &[1, 30]] {
        let (mut parts, mut whole) = (new(), new());
        let (mut all_points, mut all_classes) = (Vec::new(), Vec::new());
        let tensors = |points: Vec<f32>, classes: Vec<i64>| {
            let count = classes.len();
            (
                Tensor::<2>::from_data(TensorData::new(points, [count, 2]), &device),
                Tensor::<1, Int>::from_data(TensorData::new(classes, [count]), &device),
            )
        };
        let context = StepContext::new(0, 0, 0.5);
        for (place, size) in sizes.iter().enumerate() {
            let (points, classes) = rows(&mut rng, *size);
            all_points.extend(points.clone());
            all_classes.extend(classes.clone());
            let context = if place + 1 == sizes.len() { context } else { context.without_update() };
            parts.train_step(tensors(points, classes), &context).unwrap();
            if place + 1 < sizes.len() {
                assert!(parts.state().is_err(), "a step in the middle has no state");
            }
        }
        whole.train_step(tensors(all_points, all_classes), &context).unwrap();
        let (parts, whole) = (parts.state().unwrap(), whole.state().unwrap());
        for (key, expected) in whole.get("model").unwrap().iter() {
            let got = parts.get("model").unwrap().get(key).unwrap();
            let before = StateDict::of(&model);
            assert_ne!(before.get(key), Some(expected), "{key} did not move");
            for (a, b) in std::iter::zip(got.to_f64_vec(), expected.to_f64_vec()) {
                assert!((a - b).abs() <= 1e-6, "{sizes:?}, {key}: {a}, expected {b}");
            }
        }
    }
}

/// The tensors and the records that a run of the points leaves.
fn fit(
    folder: &Path,
    config: &TrainerConfig,
    resume: bool,
) -> (Result<Outcome, firebox_train::Error>, TaskState) {
    let device = Device::default();
    let run = match resume {
        true => RunDir::open(folder).unwrap().resume().unwrap(),
        false => RunDir::create(folder).unwrap(),
    };
    run.write_config(&serde_json::json!({})).unwrap();
    let mut task = Classification::new(learner(8).with_ema(0.9).unwrap().with_clip_norm(1.0).unwrap());
    let outcome = Trainer::new(&run, &device).config(config.clone()).schedule(0.02).resume(resume).fit(
        &mut task,
        &points(100, 1, &device.clone().autodiff()),
        &points(40, 0, &device),
    );
    (outcome, task.state().unwrap())
}

#[test]
fn steps_epochs_and_evaluations_end_a_run() {
    let _alone = draws();
    let folder = tempfile::tempdir().unwrap();
    let mut config = TrainerConfig::new();
    (config.max_epochs, config.accumulate) = (3, 3);
    let (outcome, whole) = fit(&folder.path().join("whole"), &config, false);
    // Seven batches are three steps.
    assert_eq!((outcome.as_ref().unwrap().steps, outcome.unwrap().end), (9, End::Complete));
    // In parts: each begins with the next `max_steps`.
    let parts = folder.path().join("parts");
    for steps in 1..=9 {
        config.max_steps = Some(steps);
        let (outcome, state) = fit(&parts, &config, steps > 1);
        let outcome = outcome.unwrap();
        assert_eq!((outcome.steps, outcome.end), (steps, End::Complete));
        if steps == 9 {
            assert_eq!(state, whole);
        }
    }
    config.max_steps = None;
    // A metric that can't get better.
    (config.patience, config.min_delta, config.max_epochs) = (Some(2), 2.0, 30);
    let stale = folder.path().join("stale");
    let outcome = fit(&stale, &config, false).0.unwrap();
    assert_eq!((outcome.steps, outcome.end), (9, End::Stale));
    assert_eq!(fit(&stale, &config, true).0.unwrap().end, End::Stale, "it remembers");
    (config.patience, config.max_seconds) = (None, Some(1e-6));
    let outcome = fit(&folder.path().join("time"), &config, false).0.unwrap();
    assert_eq!((outcome.steps, outcome.end), (1, End::OutOfTime));
    let outcome = fit(&folder.path().join("quick"), &TrainerConfig::new().fast_dev_run(), false).0.unwrap();
    assert_eq!(outcome.steps, 1);
}

#[test]
fn checkpoints_are_saved_and_kept_as_asked() {
    let _alone = draws();
    let folder = tempfile::tempdir().unwrap();
    let mut config = TrainerConfig::new();
    (config.max_epochs, config.keep_last, config.keep_best) = (4, 3, 2);
    config.validate_steps = Some(2);
    let outcome = fit(folder.path(), &config, false).0.unwrap();
    assert_eq!(outcome.steps, 4 * BATCHES);
    let checkpoints = Checkpoints::new(folder.path().join("checkpoints"));
    let (state, _) = checkpoints.load("last").unwrap();
    assert_eq!(state.best.len(), 2);
    assert_eq!(outcome.best.as_ref(), state.best.first());
    assert!(state.best[0].value >= state.best[1].value);
    let evaluations = records(folder.path()).into_iter().filter(|record| record["kind"] == "eval");
    // After every second step, and at the ends of epochs that fall between.
    let at: Vec<_> = evaluations.map(|record| record["step"].as_u64().unwrap()).collect();
    assert_eq!(at, [2, 4, 6, 7, 8, 10, 12, 14, 16, 18, 20, 21, 22, 24, 26, 28]);
    for best in &state.best {
        let (saved, _) = checkpoints.load(&format!("step-{}", best.step)).unwrap();
        assert_eq!(saved.step, best.step);
    }
    let mut steps: Vec<usize> = fs::read_dir(folder.path().join("checkpoints"))
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.strip_prefix("step-")?.parse().ok())
        .collect();
    steps.retain(|step| !state.best.iter().any(|best| best.step == *step));
    assert!(steps.len() <= 3 && steps.contains(&(4 * BATCHES)), "{steps:?}");
}

#[test]
fn a_damaged_checkpoint_is_passed_over_and_the_run_ends_as_it_would_have() {
    let _alone = draws();
    let folder = tempfile::tempdir().unwrap();
    let mut config = TrainerConfig::new();
    config.max_epochs = 3;
    let (whole, cut) = (folder.path().join("whole"), folder.path().join("cut"));
    let (_, expected) = fit(&whole, &config, false);
    config.max_steps = Some(2 * BATCHES);
    fit(&cut, &config, false).0.unwrap();
    let file = cut.join(format!("checkpoints/step-{}/model.ema.safetensors", 2 * BATCHES));
    let mut bytes = fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&file, bytes).unwrap();
    config.max_steps = None;
    let (outcome, state) = fit(&cut, &config, true);
    assert_eq!(outcome.unwrap().steps, 3 * BATCHES);
    assert_eq!(state, expected);
    assert_eq!(records(&cut), records(&whole));
}

#[test]
fn groups_clips_and_averages_are_what_they_say() {
    let _alone = draws();
    let device = Device::default().autodiff();
    let batch = || {
        let points = (0..32).map(|x| (x as f32 * 0.37).sin()).collect::<Vec<_>>();
        let classes = (0..16).map(|x| x % 2).collect::<Vec<i64>>();
        (
            Tensor::<2>::from_data(TensorData::new(points, [16, 2]), &device),
            Tensor::<1, Int>::from_data(TensorData::new(classes, [16]), &device),
        )
    };
    let sgd = || Learner::new(learner(8).model().clone(), SgdConfig::new().init().unwrap());
    let weights = |task: &Classification<Points, Tensor<2>>,
                   part: &str|
     -> std::collections::BTreeMap<String, Vec<f64>> {
        let state = task.state().unwrap();
        state.get(part).unwrap().iter().map(|(key, data)| (key.to_owned(), data.to_f64_vec())).collect()
    };
    let step = |task: &mut Classification<Points, Tensor<2>>, lr: f64| {
        device.seed(5);
        task.train_step(batch(), &StepContext::new(0, 0, lr)).unwrap();
    };
    let before = weights(&Classification::new(sgd()), "model");
    let mut plain = Classification::new(sgd());
    step(&mut plain, 0.1);
    let moved = weights(&plain, "model");
    // One layer with a tenth of the rate, its bias with none.
    let grouped = sgd().with_lr_factor("hidden", 0.1).unwrap().with_lr_factor("hidden.bias", 0.0).unwrap();
    let mut grouped = Classification::new(grouped);
    step(&mut grouped, 0.1);
    for (key, values) in weights(&grouped, "model") {
        let factor = match key.as_str() {
            "hidden.weight" => 0.1,
            "hidden.bias" => 0.0,
            _ => 1.0,
        };
        for (place, value) in values.iter().enumerate() {
            let expected = before[&key][place] + factor * (moved[&key][place] - before[&key][place]);
            assert!((value - expected).abs() < 1e-7, "{key}: {value}, expected {expected}");
        }
    }
    let error = sgd().with_lr_factor("hid", 0.1).err().unwrap().to_string();
    assert!(error.contains("expected one of hidden.weight, hidden.bias, output.weight"), "{error}");
    // The gradient is (before − after) / rate.
    let mut clipped = Classification::new(sgd().with_clip_value(1e-2).unwrap());
    step(&mut clipped, 0.1);
    let mut reached = false;
    for (key, values) in weights(&clipped, "model") {
        for (place, value) in values.iter().enumerate() {
            let gradient = (before[&key][place] - moved[&key][place]) / 0.1;
            let expected = before[&key][place] - 0.1 * gradient.clamp(-1e-2, 1e-2);
            reached |= gradient.abs() > 1e-2;
            assert!((value - expected).abs() < 1e-7, "{key}: {value}, expected {expected}");
        }
    }
    assert!(reached, "this test needs a gradient to clip");
    let mut averaged = Classification::new(sgd().with_ema(0.75).unwrap());
    let mut expected = before.clone();
    for _ in 0..5 {
        step(&mut averaged, 0.1);
        for (key, now) in weights(&averaged, "model") {
            let average = expected.get_mut(&key).unwrap();
            average.iter_mut().zip(now).for_each(|(average, now)| *average = 0.75 * *average + 0.25 * now);
        }
    }
    for (key, values) in weights(&averaged, "model.ema") {
        for (value, expected) in values.iter().zip(&expected[&key]) {
            assert!((value - expected).abs() < 1e-6, "{key}: {value}, expected {expected}");
        }
    }
}

#[test]
fn a_callbacks_error_ends_the_run_and_is_its_error() {
    let _alone = draws();
    let folder = tempfile::tempdir().unwrap();
    let device = Device::default();
    let run = RunDir::create(folder.path()).unwrap();
    let data = points(100, 0, &device.clone().autodiff());
    let error = Trainer::new(&run, &device)
        .callback(|event: &Event<'_>| match event {
            Event::Recorded(record) if record.step == 3 => Err("disk of the tracker is full".into()),
            _ => Ok(()),
        })
        .fit(&mut task(8), &data, &points(40, 0, &device))
        .unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Callback);
    assert_eq!(error.to_string(), "a callback failed: disk of the tracker is full");
}

#[test]
fn a_bad_sample_ends_the_run_and_names_itself() {
    let _alone = draws();
    let folder = tempfile::tempdir().unwrap();
    let device = Device::default();
    let run = RunDir::create(folder.path()).unwrap();
    let broken = Loader::builder(vec![0; 100])
        .batch_size(10)
        .workers(1)
        .build((Stack::<f32, 1>::new([2]), Scalar::<i64>::new()), |_, rng, _| match rng.below(20) {
            0 => Err("no such pixel".into()),
            _ => Ok(()),
        })
        .unwrap()
        .on_device(&device.clone().autodiff())
        .unwrap();
    let error = Trainer::new(&run, &device).fit(&mut task(8), &broken, &points(40, 0, &device)).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Data);
    assert!(error.to_string().contains("the transform failed: no such pixel (worker 0)"), "{error}");
    assert_eq!(run.checkpoints().last().unwrap().0.step, 0, "step 0 was saved");
}

#[test]
fn batches_on_the_device_are_the_loaders_and_their_waiting_is_counted() {
    let _alone = draws();
    let device = Device::default();
    for workers in [0, 1, 3] {
        let data = points(100, workers, &device);
        let values = |batch: (Tensor<2>, Tensor<1, burn::tensor::Int>)| {
            (batch.0.into_data(), batch.1.try_into_vec_as::<i64>().unwrap())
        };
        let host: Vec<_> = data.loader().epoch(2).map(Result::unwrap).collect();
        let mut stream = data.epoch(2);
        let mut all = Vec::new();
        for (place, (points, classes)) in host.iter().enumerate() {
            assert_eq!((stream.state().epoch, stream.state().batch), (2, place), "what the consumer has got");
            let batch = values(stream.next().unwrap().unwrap());
            assert_eq!(points.values, batch.0.try_to_vec::<f32>().unwrap());
            assert_eq!(&batch.1, classes);
            all.push(batch);
            let rest: Vec<_> =
                data.resume(&stream.state()).unwrap().map(|batch| values(batch.unwrap())).collect();
            assert_eq!(rest.len(), host.len() - place - 1);
        }
        assert!(stream.next().is_none());
        let report = stream.report();
        assert_eq!((report.samples, report.batches, report.workers), (100, BATCHES, workers));
        assert!(report.waited <= report.elapsed);
        let tail: Vec<_> =
            data.resume(&data.loader().state(2)).unwrap().map(|b| values(b.unwrap())).collect();
        assert_eq!(tail, all);
    }
    // Ten batches that take 20 ms each, which a consumer without work waits for, from the first on.
    for workers in [0, 1] {
        let slow = Loader::builder(vec![0u8; 10])
            .workers(workers)
            .build(Scalar::<i64>::new(), |_, _, _| {
                std::thread::sleep(std::time::Duration::from_millis(20));
                Ok(())
            })
            .unwrap()
            .on_device(&device)
            .unwrap();
        let mut stream = slow.epoch(0);
        assert_eq!(stream.by_ref().map(Result::unwrap).count(), 10);
        let report = stream.report();
        assert!(report.elapsed.as_millis() >= 200 && report.waited >= report.elapsed / 2, "{report}");
        assert!(matches!(report.bottleneck(), firebox_data::loader::Bottleneck::DataBound(_)), "{report}");
    }
}

#[test]
fn each_epoch_may_lack_as_many_samples_as_the_policy_allows() {
    let _alone = draws();
    let folder = tempfile::tempdir().unwrap();
    let device = Device::default();
    let run = RunDir::create(folder.path()).unwrap();
    let train = Loader::builder((0..40).collect::<Vec<_>>())
        .batch_size(8)
        .workers(1)
        .on_error(firebox_data::OnError::Skip { at_most: firebox_data::loader::FailureBudget::Count(1) })
        .build((Stack::<f32, 1>::new([2]), Scalar::<i64>::new()), |number, _, _| match number {
            7 => Err("never".into()),
            _ => Ok(()),
        })
        .unwrap()
        .on_device(&device.clone().autodiff())
        .unwrap();
    let outcome =
        Trainer::new(&run, &device).epochs(3).fit(&mut task(8), &train, &points(40, 0, &device)).unwrap();
    assert_eq!(outcome.steps, 15);
    let state = run.checkpoints().last().unwrap().0;
    assert_eq!((state.loader.epoch, state.loader.batch, state.loader.faults), (3, 0, 0));
}
