//! Every step of a run is a place to stop at: what goes on from there ends with the same bytes.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use crate::common::draws;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use firebox_data::batches::Batches;
use firebox_data::tensors::OnDevice;
use firebox_data::{Loader, Scalar, Stack};
use firebox_models::{Forward, init};
use firebox_train::checkpoint::Checkpoints;
use firebox_train::event::{End, Event, Record, RecordKind};
use firebox_train::optimizer::AdamWConfig;
use firebox_train::run::{Interrupt, Signal};
use firebox_train::schedule::ReduceOnPlateau;
use firebox_train::task::Goal;
use firebox_train::tasks::Classification;
use firebox_train::trainer::Outcome;
use firebox_train::{Learner, RunDir, StepContext, Task, Trainer, TrainerConfig};
use serde_json::Value;

/// A classifier of points that drops out, so that every batch draws random numbers.
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

/// With all that a task can carry from step to step: optimiser, moving average, groups, clipping.
fn task() -> Classification<Points, Tensor<2>> {
    let device = Device::default().autodiff();
    let model = init(1, &device, |device| {
        Ok::<_, firebox_models::Error>(Points {
            hidden: LinearConfig::new(2, 8).init(device),
            dropout: burn::nn::DropoutConfig::new(0.3).init(),
            output: LinearConfig::new(8, 2).init(device),
        })
    });
    let learner = Learner::new(model.unwrap(), AdamWConfig::new().init().unwrap());
    let learner = learner.with_ema(0.8).unwrap().with_clip_norm(0.5).unwrap();
    Classification::new(learner.with_lr_factor("hidden.bias", 0.5).unwrap())
}

/// Points inside and outside of a circle, jittered. Those of some numbers are none.
fn points(
    samples: usize,
    bad: &'static [usize],
    device: &Device,
) -> OnDevice<Loader<(Stack<f32, 1>, Scalar<i64>)>> {
    told_points(samples, bad, device, || {})
}

/// The same, and somebody hears of each that is made.
fn told_points(
    samples: usize,
    bad: &'static [usize],
    device: &Device,
    tell: impl Fn() + Send + Sync + 'static,
) -> OnDevice<Loader<(Stack<f32, 1>, Scalar<i64>)>> {
    let numbers = (0..samples).collect::<Vec<_>>();
    Loader::builder(numbers)
        .batch_size(8)
        .shuffle(true)
        .seed(5)
        .workers(samples % 3)
        .build((Stack::new([2]), Scalar::new()), move |number, rng, (point, class)| {
            tell();
            let angle = number as f32 * 0.7;
            let inside = number % 2 == 0;
            let radius = if inside { 0.5 } else { 1.5 } + rng.uniform() * 0.3;
            point.copy_from_slice(&[radius * angle.cos(), radius * angle.sin()]);
            if bad.contains(&number) {
                point[0] = f32::NAN;
            }
            *class = i64::from(inside);
            Ok(())
        })
        .unwrap()
        .on_device(device)
        .unwrap()
}

/// 54 samples are 7 batches, and with two batches a step 4 steps an epoch. An epoch has two batches at most
/// that are left out, and where both are of one step, that step has no gradient.
fn config() -> TrainerConfig {
    let mut config = TrainerConfig::new();
    (config.seed, config.max_epochs, config.accumulate) = (Some(9), 7, 2);
    (config.validate_steps, config.validate_epochs, config.save_steps) = (Some(3), 2, Some(5));
    (config.keep_last, config.keep_best, config.patience) = (2, 2, Some(100));
    (config.skip_not_finite, config.norm_warning) = (true, 1.0);
    config
}

#[derive(Debug, PartialEq)]
struct Left {
    files: BTreeMap<String, Vec<u8>>,
    records: Vec<Value>,
    best: Vec<(usize, f64)>,
}

struct Part {
    outcome: Outcome,
    warnings: Vec<String>,
    saved: Vec<usize>,
}

fn fit(
    folder: &Path,
    config: &TrainerConfig,
    resume: bool,
    stop: impl Fn(&Event<'_>) -> bool + 'static,
) -> Part {
    let valid = points(20, &[], &Device::default());
    fit_on(&valid, &Interrupt::never(), folder, config, resume, stop)
}

fn fit_on(
    valid: &OnDevice<Loader<(Stack<f32, 1>, Scalar<i64>)>>,
    interrupt: &Interrupt,
    folder: &Path,
    config: &TrainerConfig,
    resume: bool,
    stop: impl Fn(&Event<'_>) -> bool + 'static,
) -> Part {
    let device = Device::default();
    let run = match resume {
        true => RunDir::open(folder).unwrap().resume().unwrap(),
        false => RunDir::create(folder).unwrap(),
    };
    run.write_config(&serde_json::json!({})).unwrap();
    let heard = Arc::new(Mutex::new((Vec::new(), Vec::new())));
    let (interrupt, hear) = (interrupt.clone(), Arc::clone(&heard));
    let schedule =
        ReduceOnPlateau::new(0.05, Goal::Maximize).unwrap().with_patience(0).with_factor(0.7).unwrap();
    let mut task = task();
    let outcome = Trainer::new(&run, &device)
        .config(config.clone())
        .schedule(schedule)
        .resume(resume)
        .interrupt(interrupt.clone())
        .callback(move |event: &Event<'_>| {
            if stop(event) {
                interrupt.request(Signal::Term);
            }
            match event {
                Event::Warning(text) => hear.lock().unwrap().0.push((*text).to_owned()),
                Event::Saving { state, .. } => hear.lock().unwrap().1.push(state.step),
                _ => {}
            }
            Ok(())
        })
        .fit(&mut task, &points(54, &[7, 30], &device.clone().autodiff()), valid)
        .unwrap();
    let (warnings, saved) = heard.lock().unwrap().clone();
    Part { outcome, warnings, saved }
}

fn after(step: usize) -> impl Fn(&Event<'_>) -> bool {
    move |event| matches!(event, Event::Recorded(Record { kind: RecordKind::Step, step: at, .. }) if *at == step)
}

/// All that a run leaves and that doesn't say how long it took.
fn left(folder: &Path) -> Left {
    let last = folder.join("checkpoints/last");
    let tensors = fs::read_dir(&last).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let tensors = tensors.filter(|name| name.ends_with(".safetensors"));
    let files = tensors.map(|name| (name.clone(), fs::read(last.join(name)).unwrap())).collect();
    let parse = |line| {
        let mut record: Value = serde_json::from_str(line).unwrap();
        let fields = record.as_object_mut().unwrap();
        fields
            .retain(|name, _| !["seconds", "samples_per_s", "data_wait_s", "data"].contains(&name.as_str()));
        record
    };
    let text = fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
    let (state, _) = Checkpoints::new(folder.join("checkpoints")).load("last").unwrap();
    let best = state.best.iter().map(|best| (best.step, best.value)).collect();
    Left { files, records: text.lines().map(parse).collect(), best }
}

#[test]
fn a_run_stopped_after_any_step_ends_where_it_would_have_ended() {
    let _alone = draws();
    let config = config();
    let whole = tempfile::tempdir().unwrap();
    let part = fit(whole.path(), &config, false, |_| false);
    let expected = left(whole.path());
    let steps = part.outcome.steps;
    assert_eq!((steps, part.outcome.end), (28, End::Complete));
    // That this run has what it is about.
    assert_eq!(expected.files.len(), 3, "model, optimiser, average");
    assert!(part.outcome.not_finite >= 7, "{}", part.outcome.not_finite);
    let of_steps = || expected.records.iter().filter(|record| record["kind"] == "step");
    let rates: std::collections::BTreeSet<_> = of_steps().map(|record| record["lr"].to_string()).collect();
    assert!(rates.len() > 2, "the plateau is never reached: {rates:?}");
    assert!(
        part.warnings.iter().any(|text| text.contains("the norm of the gradients is ")),
        "{:?}",
        part.warnings
    );
    for stop in 1..steps {
        let folder = tempfile::tempdir().unwrap();
        let first = fit(folder.path(), &config, false, after(stop));
        assert_eq!((first.outcome.steps, first.outcome.interrupted()), (stop, Some(Signal::Term)));
        let second = fit(folder.path(), &config, true, |_| false);
        assert_eq!(
            (second.outcome.steps, second.outcome.end),
            (steps, End::Complete),
            "stopped after {stop}"
        );
        assert_eq!(second.outcome.not_finite, part.outcome.not_finite, "stopped after {stop}");
        assert_eq!([first.warnings, second.warnings].concat(), part.warnings, "stopped after {stop}");
        assert_eq!(left(folder.path()), expected, "stopped after {stop}");
    }
    // After each of them.
    let folder = tempfile::tempdir().unwrap();
    for stop in 1..=steps {
        fit(folder.path(), &config, stop > 1, after(stop));
    }
    // The last stop left an evaluation.
    fit(folder.path(), &config, true, |_| false);
    assert_eq!(left(folder.path()), expected, "stopped after every step");
}

#[test]
fn a_stop_during_a_save_waits_for_it_and_one_before_an_evaluation_does_not() {
    let _alone = draws();
    let config = config();
    let whole = tempfile::tempdir().unwrap();
    fit(whole.path(), &config, false, |_| false);
    let expected = left(whole.path());
    // The first evaluation's checkpoint is the best one so far: it is saved at once, whatever else is being
    // written.
    let saving = |event: &Event<'_>| matches!(event, Event::Saving { state, .. } if state.step == 3);
    let validating = |event: &Event<'_>| matches!(event, Event::Validating { state } if state.step == 6);
    for (stop, step) in [(Box::new(saving) as Box<dyn Fn(&Event<'_>) -> bool>, 3), (Box::new(validating), 6)]
    {
        let folder = tempfile::tempdir().unwrap();
        let part = fit(folder.path(), &config, false, stop);
        assert_eq!((part.outcome.steps, part.outcome.interrupted()), (step, Some(Signal::Term)));
        let checkpoints = Checkpoints::new(folder.path().join("checkpoints"));
        assert_eq!(checkpoints.load("last").unwrap().0.step, step);
        fit(folder.path(), &config, true, |_| false);
        assert_eq!(left(folder.path()), expected);
    }
}

#[test]
fn patience_counts_over_all_parts_of_a_run() {
    let _alone = draws();
    let mut config = config();
    (config.patience, config.min_delta) = (Some(2), 2.0);
    let whole = tempfile::tempdir().unwrap();
    let part = fit(whole.path(), &config, false, |_| false);
    let expected = left(whole.path());
    // No accuracy is better by 2 than the first evaluation's.
    let steps = part.outcome.steps;
    assert_eq!((steps, part.outcome.end), (8, End::Stale));
    for stop in 1..=steps {
        let folder = tempfile::tempdir().unwrap();
        fit(folder.path(), &config, false, after(stop));
        let part = fit(folder.path(), &config, true, |_| false);
        assert_eq!((part.outcome.steps, part.outcome.end), (steps, End::Stale), "stopped after {stop}");
        assert_eq!(left(folder.path()), expected, "stopped after {stop}");
    }
}

#[test]
fn what_is_kept_and_how_long_it_goes_on_may_change_on_a_resume() {
    let _alone = draws();
    let whole = tempfile::tempdir().unwrap();
    fit(whole.path(), &config(), false, |_| false);
    let expected = left(whole.path());
    let folder = tempfile::tempdir().unwrap();
    fit(folder.path(), &config(), false, after(10));
    let mut other = config();
    (other.keep_last, other.keep_best, other.save_steps, other.save_seconds) = (4, 1, None, Some(1e-9));
    let part = fit(folder.path(), &other, true, |_| false);
    let text = "other settings";
    assert!(!part.warnings.iter().any(|warning| warning.contains(text)), "{:?}", part.warnings);
    let ended = left(folder.path());
    assert_eq!((&ended.files, &ended.records, ended.best.len()), (&expected.files, &expected.records, 1));
    assert_eq!(ended.best[0], expected.best[0]);
    // Time is always up: a checkpoint follows the other as soon as that is written.
    assert!(part.saved.len() >= 4, "{:?}", part.saved);
    let steps = fs::read_dir(folder.path().join("checkpoints")).unwrap();
    let steps =
        steps.filter(|entry| entry.as_ref().unwrap().file_name().to_str().unwrap().starts_with("step-"));
    assert!((4..=5).contains(&steps.count()));
    // More epochs go on where the last one ended.
    other.max_epochs = 8;
    let part = fit(folder.path(), &other, true, |_| false);
    assert_eq!((part.outcome.steps, part.outcome.end), (32, End::Complete));
    let records = left(folder.path()).records;
    assert_eq!(records[..expected.records.len()], expected.records);
    // Another course is another run: it goes on, and says so.
    (other.max_epochs, other.accumulate, other.min_delta) = (9, 3, 0.5);
    let part = fit(folder.path(), &other, true, |_| false);
    let expected = "the run goes on with other settings than before, so that it isn't the same run: \
                    accumulate 2, now 3; min_delta 0.0, now 0.5";
    assert_eq!(part.warnings[0], expected);
    // And is the one to be compared with from then on.
    other.max_epochs = 10;
    let part = fit(folder.path(), &other, true, |_| false);
    assert!(!part.warnings.iter().any(|warning| warning.contains(text)), "{:?}", part.warnings);
}

#[test]
fn a_state_is_that_of_its_step_whenever_it_is_looked_at() {
    let _alone = draws();
    let device = Device::default().autodiff();
    let batches: Vec<_> = points(54, &[], &device).epoch(0).map(Result::unwrap).collect();
    let context = StepContext::new(0, 0, 0.05);
    let mut tasks = [task(), task()];
    let mut states = Vec::new();
    for (place, batch) in batches.into_iter().enumerate() {
        for task in &mut tasks {
            device.seed(place as u64);
            task.train_step(batch.clone(), &context).unwrap();
        }
        // Looked at now, and after all other steps.
        let [now, later] = [&tasks[0], &tasks[1]].map(|task| task.state().unwrap());
        assert!(now.get("model.optimizer").unwrap().iter().count() > 0);
        states.push((now, later));
    }
    for (place, (now, later)) in states.iter().enumerate() {
        assert_eq!(later, now, "step {place}");
        assert!(place == 0 || now != &states[place - 1].0, "a step changes something");
    }
}

/// Points to validate by, of three batches made one by one in the training thread, whose number `at` calls
/// `then`.
fn validation(
    at: usize,
    then: impl Fn() + Send + Sync + 'static,
) -> OnDevice<Loader<(Stack<f32, 1>, Scalar<i64>)>> {
    let made = AtomicUsize::new(0);
    told_points(VALID, &[], &Device::default(), move || {
        if made.fetch_add(1, Ordering::SeqCst) + 1 == at {
            then();
        }
    })
}

const VALID: usize = 21;

/// The evaluations of the runs below: after which steps, and whether an epoch ends there.
fn evaluations() -> Vec<(usize, bool)> {
    let at = |step: &usize| step.is_multiple_of(3) || step.is_multiple_of(8) || *step == 28;
    (1..=28).filter(at).map(|step| (step, step.is_multiple_of(4))).collect()
}

#[test]
fn a_run_stopped_within_any_evaluation_makes_it_again_and_ends_where_it_would_have_ended() {
    let _alone = draws();
    let config = config();
    let whole = tempfile::tempdir().unwrap();
    let never = Interrupt::never();
    let part = fit_on(&validation(0, || {}), &never, whole.path(), &config, false, |_| false);
    let expected = left(whole.path());
    assert_eq!(
        expected.records.iter().filter(|record| record["kind"] == "eval").count(),
        evaluations().len()
    );
    for (number, (step, _)) in evaluations().into_iter().enumerate() {
        // While the first batch is made, the second, and the last one.
        for sample in [1, 10, VALID] {
            let case = format!("evaluation after step {step}, sample {sample}");
            let (interrupt, folder) = (Interrupt::never(), tempfile::tempdir().unwrap());
            let asks = interrupt.clone();
            let valid = validation(VALID * number + sample, move || asks.request(Signal::Term));
            let first = fit_on(&valid, &interrupt, folder.path(), &config, false, |_| false);
            assert_eq!(
                (first.outcome.steps, first.outcome.interrupted()),
                (step, Some(Signal::Term)),
                "{case}"
            );
            let (state, _) = Checkpoints::new(folder.path().join("checkpoints")).load("last").unwrap();
            assert_eq!((state.step, state.pending.is_some()), (step, true), "{case}");
            let text = fs::read_to_string(folder.path().join("metrics.jsonl")).unwrap();
            assert_eq!(text.matches("\"eval\"").count(), number, "{case}: nothing of half an evaluation");
            // And once more within it.
            let interrupt = Interrupt::never();
            let asks = interrupt.clone();
            let valid = validation(sample, move || asks.request(Signal::Int));
            let second = fit_on(&valid, &interrupt, folder.path(), &config, true, |_| false);
            assert_eq!(
                (second.outcome.steps, second.outcome.interrupted()),
                (step, Some(Signal::Int)),
                "{case}"
            );
            let third = fit_on(&validation(0, || {}), &never, folder.path(), &config, true, |_| false);
            assert_eq!((third.outcome.steps, third.outcome.end), (28, End::Complete), "{case}");
            assert_eq!(left(folder.path()), expected, "{case}");
            assert_eq!(third.outcome.best, part.outcome.best, "{case}");
        }
    }
}

#[test]
fn a_kill_within_the_evaluation_of_an_epoch_loses_no_step() {
    let _alone = draws();
    let config = config();
    let whole = tempfile::tempdir().unwrap();
    let never = Interrupt::never();
    fit_on(&validation(0, || {}), &never, whole.path(), &config, false, |_| false);
    let expected = left(whole.path());
    for (number, (step, _)) in evaluations().into_iter().enumerate().filter(|(_, (_, ends))| *ends) {
        let (run, killed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let copy = killed.path().join("run");
        let (from, to) = (run.path().to_owned(), copy.clone());
        // What a kill leaves once the checkpoint that was begun before the evaluation is written.
        let kill = move || {
            let name = format!("step-{step}");
            let last = from.join("checkpoints/last");
            let begun = Instant::now();
            while fs::read_link(&last).is_ok_and(|last| last != Path::new(&name)) {
                assert!(begun.elapsed() < Duration::from_secs(60), "no checkpoint before the evaluation");
                std::thread::sleep(Duration::from_millis(1));
            }
            copy_folder(&from, &to);
        };
        let valid = validation(VALID * number + 10, kill);
        fit_on(&valid, &never, run.path(), &config, false, |_| false);
        let (state, _) = Checkpoints::new(copy.join("checkpoints")).load("last").unwrap();
        assert_eq!((state.step, state.pending.is_some(), state.validated == Some(step)), (step, true, false));
        let part = fit_on(&validation(0, || {}), &never, &copy, &config, true, |_| false);
        assert_eq!((part.outcome.steps, part.outcome.end), (28, End::Complete), "killed after {step}");
        assert_eq!(left(&copy), expected, "killed after {step}");
        assert_eq!(left(run.path()), expected, "the one that was not killed");
    }
}

/// Old checkpoints may be removed meanwhile.
fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).into_iter().flatten().flatten() {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        match fs::read_link(&from) {
            Ok(target) => std::os::unix::fs::symlink(target, to).unwrap(),
            Err(_) if from.is_dir() => copy_folder(&from, &to),
            Err(_) => drop(fs::copy(from, to)),
        }
    }
}

#[test]
fn time_that_is_up_within_an_evaluation_ends_it_too() {
    let _alone = draws();
    let mut config = config();
    (config.max_seconds, config.validate_steps) = (Some(0.3), None);
    let folder = tempfile::tempdir().unwrap();
    let sleep = || std::thread::sleep(Duration::from_millis(400));
    let part = fit_on(&validation(10, sleep), &Interrupt::never(), folder.path(), &config, false, |_| false);
    // If the machine is slow, it is up before: then nothing is pending.
    assert_eq!(part.outcome.end, End::OutOfTime);
    let (state, _) = Checkpoints::new(folder.path().join("checkpoints")).load("last").unwrap();
    assert_eq!(state.pending.is_some(), state.step == 8, "stopped after step {}", state.step);
    assert!(!fs::read_to_string(folder.path().join("metrics.jsonl")).unwrap().contains("eval"));
}

#[test]
fn a_checkpoint_that_was_begun_before_an_evaluation_is_written_once() {
    let _alone = draws();
    let folder = tempfile::tempdir().unwrap();
    let mut config = config();
    (config.validate_steps, config.validate_epochs, config.save_steps) = (None, 1, None);
    let part = fit(folder.path(), &config, false, |_| false);
    assert_eq!(part.saved, [0, 4, 8, 12, 16, 20, 24, 28], "handed over once each");
    let (state, _) = Checkpoints::new(folder.path().join("checkpoints")).load("last").unwrap();
    assert_eq!((state.validated, state.pending), (Some(28), None));
    let text = fs::read_to_string(folder.path().join("checkpoints/last/state.json")).unwrap();
    assert!(!text.contains("pending"), "{text}");
}
