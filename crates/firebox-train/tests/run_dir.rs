//! Run folders: refused when they are in use, overwritten only if they hold a run, found again.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use firebox_train::{ErrorKind, RunDir};
use serde_json::json;

#[test]
fn a_used_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/run");
    drop(RunDir::create(&path).unwrap());
    let error = RunDir::create(&path).unwrap_err();
    assert_eq!((error.kind(), error.path()), (ErrorKind::RunDir, Some(&*path)));
    assert!(RunDir::create(folder.path().join("deep")).is_err(), "there is a folder in it");
    fs::create_dir(folder.path().join("empty")).unwrap();
    assert!(RunDir::create(folder.path().join("empty")).is_ok());
}

#[test]
fn a_run_folder_belongs_to_one_process_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let run = RunDir::create(folder.path()).unwrap();
    run.write_config(&json!({"lr": 1})).unwrap();
    let copy = run.clone();
    drop(run);
    let reader = RunDir::open(folder.path()).unwrap();
    assert_eq!(reader.read_config::<serde_json::Value>().unwrap()["lr"], 1);
    for error in [reader.clone().resume().unwrap_err(), RunDir::overwrite(folder.path()).unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::RunDir);
        assert!(error.to_string().ends_with("another process trains in this run folder"), "{error}");
    }
    assert!(copy.path().join("config.json").exists(), "nothing was removed");
    drop(copy);
    reader.resume().unwrap();
}

#[test]
fn only_a_run_is_overwritten_and_only_its_own_files() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "mine").unwrap();
    };
    let names = |sub: &str| {
        let entries = fs::read_dir(folder.path().join(sub)).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    write("notes.txt");
    write("report.html");
    let error = RunDir::overwrite(folder.path()).unwrap_err();
    assert!(error.to_string().contains("not overwritten: it holds files, but no run"), "{error}");
    write("config.json");
    let error = RunDir::overwrite(folder.path()).unwrap_err();
    assert!(error.to_string().contains("config.json: not JSON"), "{error}");
    assert_eq!(names(""), ["config.json", "notes.txt", "report.html"]);

    fs::write(folder.path().join("config.json"), r#"{"format_version": 3}"#).unwrap();
    for name in ["metrics.jsonl", "summary.json", "checkpoints/step-7/manifest.json", "checkpoints/mine.pt"] {
        write(name);
    }
    write("checkpoints/step-9/mine.pt");
    write("checkpoints/.step-8.part/model.safetensors");
    write("checkpoints/step-by-step/mine");
    std::os::unix::fs::symlink("step-7", folder.path().join("checkpoints/last")).unwrap();
    drop(RunDir::overwrite(folder.path()).unwrap());
    assert_eq!(names(""), [".lock", "checkpoints", "metrics.jsonl", "notes.txt"]);
    assert_eq!(names("checkpoints"), ["mine.pt", "step-9", "step-by-step"]);
    assert_eq!(fs::read_to_string(folder.path().join("metrics.jsonl")).unwrap(), "");

    let unfinished = folder.path().join("unfinished");
    drop(RunDir::create(&unfinished).unwrap());
    fs::write(unfinished.join("config.json.part"), "{").unwrap();
    assert!(RunDir::overwrite(&unfinished).is_ok(), "a run that was killed before it wrote its settings");
    assert!(RunDir::overwrite(folder.path().join("new")).is_ok());
}

#[test]
fn the_newest_run_is_the_one_begun_or_resumed_last() {
    let folder = tempfile::tempdir().unwrap();
    let error = RunDir::newest_under(folder.path(), "training").unwrap_err();
    assert!(error.to_string().ends_with("no run of training in here"), "{error}");
    let begin = |name: &str| {
        let run = RunDir::create_under(folder.path(), name).unwrap();
        run.write_config(&json!({})).unwrap();
        sleep(Duration::from_millis(20));
        run
    };
    // Within one second: the names are told apart by a number.
    let runs: Vec<_> = (0..12).map(|_| begin("training")).collect();
    begin("training-other");
    let named = RunDir::create(folder.path().join("training-zzz")).unwrap();
    named.write_config(&json!({})).unwrap();
    let newest = || RunDir::newest_under(folder.path(), "training").unwrap().path().to_owned();
    assert_eq!(newest(), runs[11].path());
    runs[3].write_config(&json!({})).unwrap();
    assert_eq!(newest(), runs[3].path(), "resumed");
}
