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
    assert_eq!((error.kind(), error.path()), (&ErrorKind::RunDir, Some(&*path)));
    assert!(RunDir::create(folder.path().join("deep")).is_err(), "there is a folder in it");
    fs::create_dir(folder.path().join("empty")).unwrap();
    assert!(RunDir::create(folder.path().join("empty")).is_ok());
}

#[test]
fn a_used_folder_is_told_by_what_is_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let said = |name: &str| {
        let path = folder.path().join(name);
        let error = RunDir::create(&path).unwrap_err();
        assert_eq!((error.kind(), error.path()), (&ErrorKind::RunDir, Some(&*path)));
        error.to_string().strip_prefix(&format!("{}: ", path.display())).unwrap().to_owned()
    };
    let run = RunDir::create(folder.path().join("run")).unwrap();
    let killed = "a run was killed here before it had settings: overwrite it, or choose another folder";
    assert_eq!(said("run"), killed);
    run.write_config(&json!({})).unwrap();
    let used = "the run folder is already used: resume its run, overwrite it, or choose another";
    assert_eq!(said("run"), used);
    fs::create_dir(folder.path().join("papers")).unwrap();
    fs::write(folder.path().join("papers/thesis.tex"), "").unwrap();
    let none = "it holds files, but no run (no config.json): expected a folder that is new or empty";
    assert_eq!(said("papers"), none);
    assert_eq!(fs::read_dir(folder.path().join("papers")).unwrap().count(), 1);
}

#[test]
fn a_path_of_nothing_is_no_folder() {
    // It would be the current folder to some calls, and nothing to others.
    let before = fs::read_dir(".").unwrap().count();
    for result in [RunDir::create(""), RunDir::overwrite(""), RunDir::open("")] {
        let error = result.unwrap_err();
        assert_eq!(error.to_string(), "run folder: expected a path, got an empty one");
        assert_eq!(error.kind(), &ErrorKind::RunDir);
    }
    assert_eq!(fs::read_dir(".").unwrap().count(), before);
}

#[test]
fn whatever_the_path_is_called_it_is_a_run_or_one_error() {
    use std::os::unix::ffi::OsStrExt;
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("real")).unwrap();
    fs::write(at("file"), "").unwrap();
    for (link, target) in [("to-real", "real"), ("to-file", "file"), ("to-nothing", "nothing")] {
        std::os::unix::fs::symlink(target, at(link)).unwrap();
    }
    let odd = folder.path().join(std::ffi::OsStr::from_bytes(b"caf\xe9 'of' \"mine\"\n"));
    for path in [at("with spaces and 'quotes'"), odd, at("real/../new"), at("to-real/run"), at("deep/er/run")]
    {
        let run = RunDir::create(&path).unwrap();
        run.write_config(&json!({})).unwrap();
        run.write_sample("one.txt", b"x").unwrap();
        drop(run);
        RunDir::open(&path).unwrap().resume().unwrap();
        drop(RunDir::overwrite(&path).unwrap());
        assert!(!path.join("config.json").exists() && path.join("metrics.jsonl").is_file());
    }
    drop(RunDir::create(at("to-real")).unwrap_err());
    for path in [at("file"), at("file/run"), at("to-file"), at("to-nothing"), at("nul\0byte")] {
        for result in [RunDir::create(&path), RunDir::overwrite(&path), RunDir::open(&path)] {
            let text = result.unwrap_err().to_string();
            assert_eq!(text.lines().count(), 1, "{text}");
        }
    }
    assert_eq!(fs::read(at("file")).unwrap(), b"");
}

#[cfg(target_os = "linux")]
#[test]
fn a_folder_that_cannot_be_made_is_one_error() {
    // Where nobody can make a folder, not even root.
    let error = RunDir::create("/sys/run").unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Io);
    let text = error.to_string();
    assert!(text.starts_with("/sys/run") && text.contains(": cannot be created: "), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
}

#[test]
fn a_sample_has_the_name_of_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let run = RunDir::create(folder.path().join("run")).unwrap();
    for name in ["", ".", "..", "../config.json", "a/b", "/etc/passwd", "a/"] {
        let error = run.write_sample(name, b"x").unwrap_err();
        assert!(error.to_string().contains(&format!("expected the name of a file, got {name:?}")), "{error}");
    }
    assert!(!run.samples().exists());
    run.write_sample("epoch 1 \"best\".txt", b"x").unwrap();
}

#[test]
fn samples_are_found_in_the_order_of_their_epochs() {
    let folder = tempfile::tempdir().unwrap();
    let run = RunDir::create(folder.path().join("run")).unwrap();
    assert_eq!(run.samples_by_epoch("png").unwrap(), []);
    let others = ["best.png", "epoch-1.txt", "epoch-.png", "epoch-2", "epoch-3.png.part", "epoch-four.png"];
    for name in ["epoch-1000.png", "epoch-002.png", "epoch-999.png"].iter().chain(&others) {
        run.write_sample(name, b"x").unwrap();
    }
    let expected = [2, 999, 1000].map(|epoch| (epoch, run.samples().join(format!("epoch-{epoch:03}.png"))));
    assert_eq!(run.samples_by_epoch("png").unwrap(), expected);
    fs::remove_dir_all(run.samples()).unwrap();
    fs::write(run.samples(), "no folder").unwrap();
    let error = run.samples_by_epoch("png").unwrap_err();
    assert!(*error.kind() == ErrorKind::Io && error.to_string().contains("cannot be read"), "{error}");
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
        assert_eq!(error.kind(), &ErrorKind::RunDir);
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
    // A clock that was set back, and two of one moment: the name decides.
    let moment = std::time::SystemTime::now() + Duration::from_secs(3600);
    for run in [&runs[7], &runs[5]] {
        let config = fs::File::options().write(true).open(run.path().join("config.json")).unwrap();
        config.set_modified(moment).unwrap();
    }
    let later = runs[5].path().max(runs[7].path());
    assert_eq!(newest(), later);
}
