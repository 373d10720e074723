//! The settings that a run leaves, and the seed that it has.

use std::fs;
use std::path::Path;

use burn::tensor::Device;
use firebox_train::{RunDir, Trainer, TrainerConfig};
use serde_json::{Value, json};

use crate::common::{Pulled, STEPS, config, fit, numbers, seeds};

fn read(path: impl AsRef<Path>) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn manifest(run: &RunDir, checkpoint: &str) -> Value {
    read(run.checkpoints().path().join(checkpoint).join("manifest.json"))
}

#[test]
fn a_run_writes_the_settings_that_it_is_given() {
    let _shared = seeds();
    let folder = tempfile::tempdir().unwrap();
    let run = RunDir::create(folder.path()).unwrap();
    let recipe = json!({"lr": 0.25, "name": "first"});
    fit(&run, false, &mut Pulled::default(), |trainer| trainer.settings(&recipe).unwrap()).unwrap();
    let expected = json!({"format_version": 3, "lr": 0.25, "name": "first"});
    assert_eq!(read(folder.path().join("config.json")), expected);
    // As the first checkpoint has them, and the last.
    let last = format!("step-{}", 2 * STEPS);
    assert_eq!(manifest(&run, &last)["config"], expected);
    assert_eq!(run.read_config::<Value>().unwrap()["name"], "first");
}

#[test]
fn settings_are_written_before_anything_can_fail_and_after_a_resume_was_accepted() {
    let _shared = seeds();
    let folder = tempfile::tempdir().unwrap();
    let run = RunDir::create(folder.path()).unwrap();
    let with = |name: &str| json!({ "name": name });
    let mut failing = Pulled { fails: Some(3), ..Pulled::default() };
    fit(&run, false, &mut failing, |trainer| trainer.settings(&with("first")).unwrap()).unwrap_err();
    assert_eq!(run.read_config::<Value>().unwrap()["name"], "first");
    // Another seed: the checkpoint isn't this run's, and nothing of the folder changes.
    fit(&run, true, &mut Pulled::default(), |trainer| trainer.seed(77).settings(&with("other")).unwrap())
        .unwrap_err();
    assert_eq!(run.read_config::<Value>().unwrap()["name"], "first");
    fit(&run, true, &mut Pulled::default(), |trainer| trainer.settings(&with("moved")).unwrap()).unwrap();
    assert_eq!(run.read_config::<Value>().unwrap()["name"], "moved");
    assert_eq!(manifest(&run, "last")["config"]["name"], "moved");
    // A second run in the same folder is refused before it could write over them.
    fit(&run, false, &mut Pulled::default(), |trainer| trainer.settings(&with("last")).unwrap()).unwrap_err();
    assert_eq!(run.read_config::<Value>().unwrap()["name"], "moved");
}

#[test]
fn without_settings_the_trainers_own_are_written_with_the_seed_that_counts() {
    let _shared = seeds();
    let folder = tempfile::tempdir().unwrap();
    let run = RunDir::create(folder.path()).unwrap();
    fit(&run, false, &mut Pulled::default(), |trainer| trainer).unwrap();
    // That of `numbers`.
    let expected = config().with_seed(3);
    assert_eq!(run.checkpoints().last().unwrap().0.seed, 3);
    let mut written: Value = run.read_config().unwrap();
    written.as_object_mut().unwrap().remove("format_version");
    assert_eq!(serde_json::from_value::<TrainerConfig>(written).unwrap(), expected);
}

#[test]
fn a_seed_that_is_given_once_is_the_runs_for_good() {
    let _shared = seeds();
    let place = tempfile::tempdir().unwrap();
    let run = |name: &str| RunDir::create(place.path().join(name)).unwrap();
    let trained = |run: &RunDir, epochs: u64, resume: bool, seed: Option<u64>| {
        let mut config = config().with_max_epochs(epochs);
        config.seed = seed;
        let mut trainer = Trainer::new(run, &Device::default()).config(config).schedule(0.25).resume(resume);
        let trained = trainer.fit(&mut Pulled::default(), &numbers(20), &numbers(8));
        trained.map(|_| run.checkpoints().last().unwrap().0.seed)
    };
    // The loader's, or another one.
    let (once, twice, other) = (run("once"), run("twice"), run("other"));
    assert_eq!(trained(&once, 2, false, None).unwrap(), 3);
    assert_eq!(trained(&twice, 2, false, Some(3)).unwrap(), 3);
    assert_eq!(trained(&other, 1, false, Some(9)).unwrap(), 9);
    let weights = |run: &RunDir| fs::read(run.checkpoints().path().join("last/model.safetensors")).unwrap();
    assert_eq!(weights(&once), weights(&twice));
    // A run that goes on without being told keeps its own.
    assert_eq!(trained(&other, 2, true, None).unwrap(), 9);
    assert_eq!(trained(&other, 3, true, Some(9)).unwrap(), 9);
    let error = trained(&other, 4, true, Some(3)).unwrap_err().to_string();
    assert!(error.ends_with("the checkpoint's seed: expected 3, got 9"), "{error}");
}

#[test]
fn settings_that_json_has_no_form_for_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let run = RunDir::create(folder.path()).unwrap();
    let strange = std::collections::BTreeMap::from([((1, 2), 3)]);
    let error = Trainer::new(&run, &Device::default()).settings(&strange).map(drop).unwrap_err();
    assert!(error.to_string().starts_with("the run's settings: "), "{error}");
}

#[test]
fn a_config_is_set_by_methods_and_read_from_a_file_alike() {
    let set = TrainerConfig::new()
        .with_seed(1)
        .with_max_epochs(2)
        .with_max_steps(3)
        .with_max_seconds(4.5)
        .with_accumulate(5)
        .with_limit_train(6)
        .with_limit_valid(7)
        .with_validate_epochs(8)
        .with_validate_steps(9)
        .with_save_steps(10)
        .with_save_seconds(11.5)
        .with_keep_last(12)
        .with_keep_best(13)
        .with_patience(14)
        .with_min_delta(0.15)
        .with_skip_not_finite(true)
        .with_allow_overlap(true)
        .with_norm_warning(16.0);
    let read = json!({
        "seed": 1, "max_epochs": 2, "max_steps": 3, "max_seconds": 4.5, "accumulate": 5, "limit_train": 6,
        "limit_valid": 7, "validate_epochs": 8, "validate_steps": 9, "save_steps": 10, "save_seconds": 11.5,
        "keep_last": 12, "keep_best": 13, "patience": 14, "min_delta": 0.15, "skip_not_finite": true,
        "allow_overlap": true, "norm_warning": 16.0,
    });
    // Every setting has its method.
    assert_eq!(serde_json::to_value(&set).unwrap(), read);
    assert_eq!(serde_json::from_value::<TrainerConfig>(read).unwrap(), set);
    // As files of before had it.
    let old: TrainerConfig = serde_json::from_str(r#"{"seed": 42, "max_epochs": 3}"#).unwrap();
    assert_eq!(old, TrainerConfig::new().with_seed(42).with_max_epochs(3));
}
