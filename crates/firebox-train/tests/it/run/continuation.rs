//! The beginning of a run, its going on, and its end, where something is not as it should be.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::ops::Range;
use std::path::Path;

use crate::common::{Pulled, STEPS, config, fit, folder, numbers, seeds};
use burn::tensor::Device;
use firebox_data::elements::Elements;
use firebox_data::loader::FailureBudget;
use firebox_data::{Loader, OnError, Scalar};
use firebox_train::event::Event;
use firebox_train::metrics::Metrics;
use firebox_train::run::{Interrupt, Signal};
use firebox_train::schedule::OneCycle;
use firebox_train::task::{Goal, TaskState};
use firebox_train::{Error, ErrorKind, RunDir, StepContext, Task, Trainer, TrainerConfig};

#[test]
fn a_run_that_is_there_is_not_begun_anew_by_mistake() {
    let _alone = seeds();
    let place = tempfile::tempdir().unwrap();
    let run = folder(place.path(), false);
    fit(&run, false, &mut Pulled::default(), |trainer| trainer).unwrap();
    let records = fs::read(run.metrics()).unwrap();
    let error = fit(&run, false, &mut Pulled::default(), |trainer| trainer).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::RunDir);
    assert!(error.to_string().contains("Trainer::resume(true) goes on"), "{error}");
    assert_eq!(fs::read(run.metrics()).unwrap(), records, "the old run's records are gone");
    // Nor by two at a time: a folder that was only opened is nobody's.
    drop(run);
    let opened = RunDir::open(place.path()).unwrap();
    let error = fit(&opened, true, &mut Pulled::default(), |trainer| trainer).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::RunDir);
    assert!(error.to_string().contains("it was only opened"), "{error}");
}

#[test]
fn a_run_has_settings_although_nobody_wrote_any() {
    let _alone = seeds();
    let place = tempfile::tempdir().unwrap();
    let run = RunDir::create(place.path()).unwrap();
    fit(&run, false, &mut Pulled::default(), |trainer| trainer).unwrap();
    drop(run);
    let run = RunDir::open(place.path()).unwrap().resume().unwrap();
    assert_eq!(run.read_config::<serde_json::Value>().unwrap()["save_steps"], 2);
    fit(&run, true, &mut Pulled::default(), |trainer| trainer).unwrap();
}

#[test]
fn what_was_the_best_of_a_checkpoint_to_go_back_to_is_kept() {
    let _alone = seeds();
    let place = tempfile::tempdir().unwrap();
    // A checkpoint after each epoch, and an evaluation after every second one, each the best so far: when the
    // fourth is the best, the third is kept as the one before, and knows the second as the best.
    let rarely = |epochs| {
        move |trainer: Trainer| {
            let mut config = TrainerConfig::new();
            (config.max_epochs, config.validate_epochs) = (epochs, 2);
            trainer.config(config)
        }
    };
    let [whole, cut] = ["whole", "cut"].map(|name| folder(&place.path().join(name), false));
    fit(&whole, false, &mut Pulled::default(), rarely(6)).unwrap();
    fit(&cut, false, &mut Pulled::default(), rarely(4)).unwrap();
    let checkpoint =
        |run: &RunDir, epoch: usize| run.checkpoints().path().join(format!("step-{}", epoch * STEPS));
    let weights = |run: &RunDir, epoch: usize| checkpoint(run, epoch).join("model.safetensors");
    let mut bytes = fs::read(weights(&cut, 4)).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(weights(&cut, 4), bytes).unwrap();
    let outcome = fit(&cut, true, &mut Pulled::default(), rarely(6)).unwrap();
    assert!(outcome.warnings[0].ends_with("going back to step 15"), "{:?}", outcome.warnings);
    assert_eq!(outcome.warnings.len(), 1, "{:?}", outcome.warnings);
    assert_eq!(fs::read(weights(&cut, 6)).unwrap(), fs::read(weights(&whole, 6)).unwrap());
    assert_eq!(fs::read_link(cut.checkpoints().path().join("best")).unwrap(), Path::new("step-30"));
}

/// Flips the last byte of a checkpoint's weights.
fn damage(run: &RunDir, step: usize) {
    let weights = run.checkpoints().path().join(format!("step-{step}/model.safetensors"));
    let mut bytes = fs::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(weights, bytes).unwrap();
}

/// The steps of which a run has kept checkpoints.
fn kept(run: &RunDir) -> Vec<usize> {
    let entries = fs::read_dir(run.checkpoints().path()).unwrap().map(|entry| entry.unwrap().file_name());
    let mut steps: Vec<_> =
        entries.filter_map(|name| name.to_str()?.strip_prefix("step-")?.parse().ok()).collect();
    steps.sort_unstable();
    steps
}

#[test]
fn a_run_whose_link_is_gone_goes_on_from_the_newest_whole_checkpoint() {
    let _alone = seeds();
    let place = tempfile::tempdir().unwrap();
    let whole = folder(&place.path().join("whole"), false);
    fit(&whole, false, &mut Pulled::default(), |trainer| trainer).unwrap();
    let weights = |run: &RunDir| fs::read(run.checkpoints().path().join("last/model.safetensors")).unwrap();
    // The link is gone, or leads nowhere, or is something else.
    for (name, broken) in [("gone", ""), ("nowhere", "step-99"), ("text", "yesterday's")] {
        for damaged in [false, true] {
            let run = folder(&place.path().join(format!("{name} {damaged}")), false);
            let failing = &mut Pulled { fails: Some(9), ..Pulled::default() };
            fit(&run, false, failing, |trainer| trainer).unwrap_err();
            let last = run.checkpoints().path().join("last");
            let steps = kept(&run);
            fs::remove_file(&last).unwrap();
            match name {
                "nowhere" => std::os::unix::fs::symlink(broken, &last).unwrap(),
                "text" => fs::write(&last, broken).unwrap(),
                _ => {}
            }
            let mut good = steps.clone();
            if damaged {
                damage(&run, good.pop().unwrap());
            }
            assert!(!run.checkpoints().is_empty(), "{name}");
            let error = fit(&run, false, &mut Pulled::default(), |trainer| trainer).unwrap_err();
            assert!(error.to_string().contains("it has checkpoints of a run"), "begun anew: {error}");
            let outcome = fit(&run, true, &mut Pulled::default(), |trainer| trainer).unwrap();
            let first = format!("{}/last: no such checkpoint; ", run.checkpoints().path().display());
            let end = format!("is taken: going back to step {}", good.last().unwrap());
            let warning = &outcome.warnings[0];
            assert!(warning.starts_with(&first) && warning.ends_with(&end), "{name}: {warning}");
            assert_eq!(outcome.warnings.len(), 1 + usize::from(damaged), "{:?}", outcome.warnings);
            assert!(outcome.warnings.iter().all(|warning| warning.ends_with(&end)), "{:?}", outcome.warnings);
            assert_eq!(weights(&run), weights(&whole), "{name}");
            assert_eq!(fs::read_link(&last).unwrap(), Path::new("step-10"));
        }
    }
}

#[test]
fn when_no_checkpoint_is_good_each_is_named() {
    let _alone = seeds();
    let place = tempfile::tempdir().unwrap();
    let run = folder(place.path(), false);
    fit(&run, false, &mut Pulled { fails: Some(9), ..Pulled::default() }, |trainer| trainer).unwrap_err();
    let steps = kept(&run);
    assert!(steps.len() >= 2);
    steps.iter().for_each(|step| damage(&run, *step));
    let error = fit(&run, true, &mut Pulled::default(), |trainer| trainer).unwrap_err();
    let text = error.to_string();
    assert_eq!((error.kind(), error.path()), (&ErrorKind::Checkpoint, Some(run.checkpoints().path())));
    assert!(text.contains("checkpoints: no checkpoint is good: ") && text.lines().count() == 1, "{text}");
    for step in &steps {
        assert_eq!(text.matches(&format!("step-{step}/model.safetensors: damaged")).count(), 1, "{text}");
    }
    // None at all.
    steps
        .iter()
        .for_each(|step| fs::remove_dir_all(run.checkpoints().path().join(format!("step-{step}"))).unwrap());
    let error = fit(&run, true, &mut Pulled::default(), |trainer| trainer).unwrap_err().to_string();
    assert!(error.ends_with("checkpoints/last: no such checkpoint"), "{error}");
}

#[test]
fn a_link_to_the_best_that_is_gone_is_set_again_and_said() {
    let _alone = seeds();
    let place = tempfile::tempdir().unwrap();
    let run = folder(place.path(), false);
    // Stopped behind the best checkpoint, and again: a kill doesn't explain that its link is gone.
    let stopped = |at: usize| {
        move |trainer: Trainer| {
            let interrupt = Interrupt::never();
            trainer.interrupt(interrupt.clone()).callback(move |event: &Event<'_>| {
                if matches!(event, Event::Recorded(record) if record.step == at) {
                    interrupt.request(Signal::Int);
                }
                Ok(())
            })
        }
    };
    fit(&run, false, &mut Pulled::default(), stopped(7)).unwrap();
    let best = run.checkpoints().path().join("best");
    assert_eq!(fs::read_link(&best).unwrap(), Path::new("step-5"));
    fs::remove_file(&best).unwrap();
    // Who asks for it before that hears what there is.
    let error = run.checkpoints().best().unwrap_err().to_string();
    assert!(error.contains("/best: no such checkpoint; there are step-7, "), "{error}");
    assert!(error.ends_with(", step-5"), "{error}");
    let outcome = fit(&run, true, &mut Pulled::default(), stopped(8)).unwrap();
    assert_eq!(outcome.warnings, [format!("{}: no such link, set again to step-5", best.display())]);
    assert_eq!(fs::read_link(&best).unwrap(), Path::new("step-5"));
}

#[test]
fn a_run_that_was_copied_with_its_links_followed_goes_on() {
    let _alone = seeds();
    let place = tempfile::tempdir().unwrap();
    let whole = folder(&place.path().join("whole"), false);
    fit(&whole, false, &mut Pulled::default(), |trainer| trainer).unwrap();
    // With the checkpoints themselves, and with nothing but what the links led to.
    for keeps in [true, false] {
        let run = folder(&place.path().join(format!("copied {keeps}")), false);
        fit(&run, false, &mut Pulled { fails: Some(9), ..Pulled::default() }, |trainer| trainer).unwrap_err();
        for link in ["last", "best"] {
            let link = run.checkpoints().path().join(link);
            let target = run.checkpoints().path().join(fs::read_link(&link).unwrap());
            fs::remove_file(&link).unwrap();
            fs::create_dir(&link).unwrap();
            for entry in fs::read_dir(target).unwrap().map(Result::unwrap) {
                fs::copy(entry.path(), link.join(entry.file_name())).unwrap();
            }
        }
        if !keeps {
            kept(&run).iter().for_each(|step| {
                fs::remove_dir_all(run.checkpoints().path().join(format!("step-{step}"))).unwrap();
            });
        }
        fit(&run, true, &mut Pulled::default(), |trainer| trainer).unwrap();
        let weights =
            |run: &RunDir| fs::read(run.checkpoints().path().join("last/model.safetensors")).unwrap();
        assert_eq!(weights(&run), weights(&whole));
        for link in ["last", "best"] {
            assert_eq!(fs::read_link(run.checkpoints().path().join(link)).unwrap(), Path::new("step-10"));
        }
    }
}

#[test]
fn a_finished_run_goes_on_for_more_epochs() {
    let _alone = seeds();
    let place = tempfile::tempdir().unwrap();
    let longer = |trainer: Trainer| {
        let mut config = config();
        config.max_epochs = 4;
        trainer.config(config)
    };
    let [whole, cut] = ["whole", "cut"].map(|name| folder(&place.path().join(name), false));
    fit(&whole, false, &mut Pulled::default(), longer).unwrap();
    assert_eq!(fit(&cut, false, &mut Pulled::default(), |trainer| trainer).unwrap().steps, 2 * STEPS);
    // At one rate, the run is that of four epochs.
    let outcome = fit(&cut, true, &mut Pulled::default(), longer).unwrap();
    assert_eq!((outcome.steps, outcome.warnings.len()), (4 * STEPS, 0));
    let weights = |run: &RunDir| fs::read(run.checkpoints().path().join("last/model.safetensors")).unwrap();
    assert_eq!(weights(&cut), weights(&whole));
    // By a schedule of so many steps it isn't, and says so.
    let cycle = |steps| OneCycle::new(0.3, steps).unwrap();
    let cut = folder(&place.path().join("cycle"), false);
    fit(&cut, false, &mut Pulled::default(), |trainer| trainer.schedule(cycle(2 * STEPS))).unwrap();
    let outcome =
        fit(&cut, true, &mut Pulled::default(), |trainer| longer(trainer).schedule(cycle(4 * STEPS)));
    let outcome = outcome.unwrap();
    assert_eq!((outcome.steps, outcome.warnings.len()), (4 * STEPS, 1));
    assert!(
        outcome.warnings[0].contains("goes on by another schedule than before"),
        "{:?}",
        outcome.warnings
    );
}

#[test]
fn another_schedule_is_noticed_on_a_resume() {
    let _alone = seeds();
    let place = tempfile::tempdir().unwrap();
    let run = folder(place.path(), false);
    let few = |trainer: Trainer| {
        let mut config = config();
        config.max_steps = Some(3);
        trainer.config(config)
    };
    fit(&run, false, &mut Pulled::default(), few).unwrap();
    let outcome = fit(&run, true, &mut Pulled::default(), |trainer| trainer.schedule(0.5)).unwrap();
    assert!(
        outcome.warnings[0].ends_with("the learning rate of step 3 was to be 0.25, and is 0.5"),
        "{:?}",
        outcome.warnings
    );
    assert_eq!(outcome.steps, 10);
}

#[test]
fn a_run_that_ends_by_its_steps_is_evaluated() {
    let _alone = seeds();
    let place = tempfile::tempdir().unwrap();
    let run = folder(place.path(), false);
    let rarely = |trainer: Trainer| {
        let mut config = config();
        (config.max_epochs, config.max_steps, config.validate_epochs) = (9, Some(STEPS), 3);
        trainer.config(config)
    };
    let outcome = fit(&run, false, &mut Pulled::default(), rarely).unwrap();
    assert_eq!(outcome.best.unwrap().step, STEPS);
}

/// Which batches were told that the parameters move, and what each batch's loss and an evaluation's are.
struct Told {
    batches: Vec<(Elements<i64>, bool)>,
    losses: [f64; 2],
}

impl Task for Told {
    type Batch = Elements<i64>;

    fn train_step(&mut self, batch: Elements<i64>, context: &StepContext) -> Result<Metrics, Error> {
        let samples = batch.len();
        self.batches.push((batch, context.is_optimizer_step));
        Ok(Metrics::of(samples).with_mean("loss", self.losses[0]))
    }

    fn evaluator(&self) -> impl FnMut(Elements<i64>) -> Result<Metrics, Error> {
        |batch| Ok(Metrics::of(batch.len()).with_mean("loss", self.losses[1]))
    }

    fn monitor(&self) -> (&'static str, Goal) {
        ("loss", Goal::Minimize)
    }

    fn state(&self) -> Result<TaskState, Error> {
        Ok(TaskState::default())
    }

    fn load(&mut self, _: &TaskState) -> Result<(), Error> {
        Ok(())
    }
}

/// The numbers up to 11 by twos, in their order, without some that are bad.
fn without(bad: Range<i64>) -> Loader<Scalar<i64>> {
    Loader::builder((0..12i64).collect::<Vec<_>>())
        .batch_size(2)
        .workers(0)
        .on_error(OnError::Skip { at_most: FailureBudget::Count(9) })
        .build(Scalar::<i64>::new(), move |number, _, slot| match bad.contains(&number) {
            true => Err("a bad sample".into()),
            false => {
                *slot = number;
                Ok(())
            }
        })
        .unwrap()
}

#[test]
fn a_step_ends_with_the_last_batch_that_comes() {
    let _alone = seeds();
    let place = tempfile::tempdir().unwrap();
    let run = folder(place.path(), false);
    // Six batches of two, of which the last one has nothing but bad samples.
    let train = without(10..12);
    let mut config = config();
    (config.max_epochs, config.accumulate) = (1, 2);
    let mut task = Told { batches: vec![], losses: [1.0; 2] };
    Trainer::new(&run, &Device::default()).config(config).fit(&mut task, &train, &numbers(8)).unwrap();
    let updates: Vec<_> = task.batches.iter().map(|(batch, updates)| (batch[0], *updates)).collect();
    assert_eq!(updates, [(0, false), (2, true), (4, false), (6, true), (8, true)]);
}

#[test]
fn a_step_that_looks_for_its_next_batch_stays_within_the_limit() {
    let _alone = seeds();
    let place = tempfile::tempdir().unwrap();
    let run = folder(place.path(), false);
    // Of the four batches that are trained on the third has nothing but bad samples: the fourth comes in its
    // place.
    let train = without(4..6);
    let mut config = config();
    (config.max_epochs, config.accumulate, config.limit_train) = (1, 8, Some(4));
    let mut task = Told { batches: vec![], losses: [1.0; 2] };
    Trainer::new(&run, &Device::default()).config(config).fit(&mut task, &train, &numbers(8)).unwrap();
    let updates: Vec<_> = task.batches.iter().map(|(batch, updates)| (batch[0], *updates)).collect();
    assert_eq!(updates, [(0, false), (2, false), (6, true)]);
}

#[test]
fn a_loss_that_is_no_number_stops_any_task() {
    let _alone = seeds();
    let place = tempfile::tempdir().unwrap();
    let run = |name: &str, losses| {
        let run = folder(&place.path().join(name), false);
        let mut task = Told { batches: vec![], losses };
        Trainer::new(&run, &Device::default()).config(config()).fit(&mut task, &numbers(8), &numbers(4))
    };
    let error = run("training", [f64::NAN, 1.0]).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::NotFinite);
    assert!(error.to_string().contains("step 1, epoch 1, batch 0, samples"), "{error}");
    let error = run("validation", [1.0, f64::INFINITY]).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::NotFinite);
    let text = error.to_string();
    assert!(text.starts_with("after step 2, epoch 1, validation data, batch 0, samples "), "{text}");
    assert!(text.ends_with(": loss: expected a finite number, got inf"), "{text}");
}

#[test]
fn each_loss_of_several_is_looked_at_in_an_evaluation() {
    let _alone = seeds();
    let place = tempfile::tempdir().unwrap();
    let run = folder(place.path(), false);
    let mut trainer = Trainer::new(&run, &Device::default());
    let mut judged = |name: &'static str| {
        let judge = move |batch: Elements<i64>| {
            Ok(Metrics::of(batch.len()).with_mean(name, f64::NAN).with_mean("loss_discriminator", 1.0))
        };
        trainer.evaluate(&numbers(4), "valid", judge)
    };
    let error = judged("loss_generator").unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::NotFinite);
    let text = error.to_string();
    assert!(text.starts_with("after step 0, epoch 1, validation data, batch 0, samples "), "{text}");
    assert!(text.ends_with(": loss_generator: expected a finite number, got NaN"), "{text}");
    // Another metric is warned of.
    assert!(judged("lossless").is_ok());
}

#[test]
fn a_metric_has_a_name_of_its_own() {
    let _alone = seeds();
    let place = tempfile::tempdir().unwrap();
    let run = folder(place.path(), false);
    let mut trainer = Trainer::new(&run, &Device::default());
    let timed = |batch: Elements<i64>| Ok(Metrics::of(batch.len()).with_mean("seconds", 1.0));
    let error = trainer.evaluate(&numbers(4), "test", timed).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Task);
    assert!(error.to_string().starts_with("metric seconds: expected another name"), "{error}");
}
