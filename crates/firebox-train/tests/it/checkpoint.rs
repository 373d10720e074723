//! Checkpoints: whole or not there, checked on loading, and `last` is never absent once it was there.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use burn::tensor::TensorData;
use firebox_train::ErrorKind;
use firebox_train::checkpoint::{Best, Checkpoints, RunState};
use firebox_train::metrics::Metrics;
use firebox_train::task::TaskState;
use firebox_weights::StateDict;
use sha2::{Digest, Sha256};

fn state(step: usize) -> RunState {
    let loader = format!(r#"{{"version":1,"seed":7,"epoch":0,"batch":{step},"fingerprint":"numbers"}}"#);
    let mut state = RunState::new(serde_json::from_str(&loader).unwrap(), 7);
    state.step = step;
    state
}

/// Tensors that say which step they are of.
fn tensors(step: usize, elements: usize) -> TaskState {
    let mut model = StateDict::default();
    model.insert("weight", TensorData::new(vec![step as f32; elements], [elements]));
    model.insert("bias", TensorData::new(vec![step as i64], [1]));
    let mut task = TaskState::default();
    task.insert("model", model);
    task
}

#[test]
fn what_was_saved_is_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoints = Checkpoints::new(folder.path());
    let best = Best { step: 5, metric: "loss".into(), value: 0.1 + 0.2 };
    let mut states: Vec<_> = [0, 5, 9].map(state).into();
    states[1].best = vec![best.clone()];
    states[2].best = vec![best];
    for state in &states {
        checkpoints.save(state, &tensors(state.step, 10)).unwrap();
        assert_eq!(checkpoints.load("last").unwrap(), (state.clone(), tensors(state.step, 10)));
    }
    assert_eq!(checkpoints.load("best").unwrap().0.step, 5);
    assert_eq!(checkpoints.load("step-0").unwrap().0, states[0]);
    assert_eq!(fs::read_link(folder.path().join("last")).unwrap(), Path::new("step-9"));
    let names: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!names.iter().any(|name| name.to_string_lossy().starts_with('.')), "left over: {names:?}");
}

#[test]
fn equal_states_are_equal_bytes() {
    let read_all = || {
        let folder = tempfile::tempdir().unwrap();
        let path = Checkpoints::new(folder.path()).save(&state(3), &tensors(3, 100)).unwrap();
        ["manifest.json", "manifest.sha256", "model.safetensors", "state.json"]
            .map(|name| fs::read(path.join(name)).unwrap())
    };
    assert_eq!(read_all(), read_all());
}

/// As a task with a moving average and a value of its own saves it.
fn all_parts(step: usize) -> TaskState {
    let mut task = tensors(step, 3);
    for part in ["model.optimizer", "model.ema"] {
        let mut tensor = StateDict::default();
        tensor.insert("weight", TensorData::new(vec![0.5f32; 2], [2]));
        task.insert(part, tensor);
    }
    task.insert_value("carried", &[1, 2, 3]).unwrap();
    // A name that the file has for itself.
    task.insert_value("format_version", &"mine").unwrap();
    task
}

/// Another manifest, with the hash of that.
fn replace_manifest(checkpoint: &Path, manifest: &str) {
    fs::write(checkpoint.join("manifest.json"), manifest).unwrap();
    let hash: String = Sha256::digest(manifest).iter().map(|byte| format!("{byte:02x}")).collect();
    fs::write(checkpoint.join("manifest.sha256"), format!("{hash}  manifest.json\n")).unwrap();
}

#[test]
fn any_flipped_byte_cut_or_missing_file_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoints = Checkpoints::new(folder.path());
    let path = checkpoints.save(&state(1), &all_parts(1)).unwrap();
    let names: Vec<_> = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    let mut names: Vec<_> = names.iter().map(|name| name.to_str().unwrap()).collect();
    names.sort_unstable();
    let expected = [
        "manifest.json",
        "manifest.sha256",
        "model.ema.safetensors",
        "model.optimizer.safetensors",
        "model.safetensors",
        "state.json",
        "task.json",
    ];
    assert_eq!(names, expected);
    for name in names {
        let file = path.join(name);
        let good = fs::read(&file).unwrap();
        let listed = !name.starts_with("manifest.");
        let whose = if name == "manifest.sha256" { "manifest.json" } else { name };
        for place in 0..good.len() {
            // One bit, all, and a blank, which JSON doesn't mind.
            for flipped in [good[place] ^ 1, !good[place], b' '] {
                if flipped == good[place] {
                    continue;
                }
                let mut bad = good.clone();
                bad[place] = flipped;
                fs::write(&file, bad).unwrap();
                let error = checkpoints.load("last").expect_err(name);
                assert_eq!(error.kind(), &ErrorKind::Checkpoint);
                let text = error.to_string();
                assert!(text.contains(&format!("step-1/{whose}: ")), "{text}");
                assert!(!listed || text.contains(": damaged: expected "), "{text}");
            }
        }
        for bad in [&good[1..], &good[..good.len() - 1], &[good.as_slice(), b"\n"].concat(), b""] {
            fs::write(&file, bad).unwrap();
            assert!(checkpoints.load("last").is_err(), "{name}");
        }
        fs::remove_file(&file).unwrap();
        let error = checkpoints.load("last").unwrap_err().to_string();
        assert!(error.contains(&format!("step-1/{name}: a checkpoint's file cannot be read")), "{error}");
        fs::write(&file, good).unwrap();
    }
    let good = fs::read_to_string(path.join("manifest.json")).unwrap();
    fs::copy(path.join("state.json"), path.join("copy.json")).unwrap();
    for (bad, expected) in [
        (good.replace("\"format_version\": 3", "\"format_version\": 1"), "expected format_version 3, got 1"),
        (good.replace("state.json", "../state.json"), "is no name of a file in here"),
        (good.replace("state.json", "copy.json"), "it lists no state.json"),
        ("{}".to_owned(), "expected format_version 3, got none"),
        (good[..good.len() / 2].to_owned(), "not JSON"),
    ] {
        replace_manifest(&path, &bad);
        let error = checkpoints.load("last").unwrap_err().to_string();
        assert!(error.contains("step-1/manifest.json: ") && error.contains(expected), "{error}");
    }
    replace_manifest(&path, &good);
    assert_eq!(checkpoints.load("last").unwrap(), (state(1), all_parts(1)));
    let error = checkpoints.load("step-2").unwrap_err();
    assert!(error.to_string().ends_with("step-2: no such checkpoint"), "{error}");
}

/// Nothing is read past: what a file says beside what is known here may be what the rest depends on.
#[test]
fn a_field_that_is_unknown_is_refused_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoints = Checkpoints::new(folder.path());
    let path = checkpoints.save(&state(1), &all_parts(1)).unwrap();
    let manifest = fs::read_to_string(path.join("manifest.json")).unwrap();
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    for (file, place) in [
        ("state.json", ""),
        ("state.json", "/loader"),
        ("task.json", ""),
        ("manifest.json", ""),
        ("manifest.json", "/files/state.json"),
    ] {
        let good = fs::read_to_string(path.join(file)).unwrap();
        let mut changed = json(&good);
        changed.pointer_mut(place).unwrap()["later"] = 3.into();
        let changed = changed.to_string();
        match file {
            "manifest.json" => replace_manifest(&path, &changed),
            _ => {
                let hash: String =
                    Sha256::digest(&changed).iter().map(|byte| format!("{byte:02x}")).collect();
                let mut manifest = json(&manifest);
                let record = &mut manifest["files"][file];
                (record["bytes"], record["sha256"]) = (changed.len().into(), hash.into());
                fs::write(path.join(file), changed).unwrap();
                replace_manifest(&path, &manifest.to_string());
            }
        }
        let error = checkpoints.load("step-1").unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Checkpoint);
        let text = format!("{}: unexpected contents: unknown field `later`", path.join(file).display());
        assert!(error.to_string().starts_with(&text), "{error}");
        fs::write(path.join(file), good).unwrap();
        replace_manifest(&path, &manifest);
        checkpoints.load("step-1").unwrap();
    }
    let mut more = json(&manifest);
    more["files"]["later.json"] = more["files"]["state.json"].clone();
    fs::copy(path.join("state.json"), path.join("later.json")).unwrap();
    replace_manifest(&path, &more.to_string());
    let error = checkpoints.load("step-1").unwrap_err().to_string();
    assert!(
        error.ends_with("manifest.json: it lists files that say something unknown: later.json"),
        "{error}"
    );
}

#[test]
fn a_tensor_that_is_gone_is_found_even_if_the_hash_is_right() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoints = Checkpoints::new(folder.path());
    let path = checkpoints.save(&state(1), &tensors(1, 3)).unwrap();
    // The same file without one of its tensors, and a manifest whose size and hash are made to fit.
    let mut fewer = StateDict::default();
    fewer.insert("weight", TensorData::new(vec![1f32; 3], [3]));
    fewer.insert("stranger", TensorData::new(vec![1f32; 3], [3]));
    let fewer = fewer.to_safetensors().unwrap();
    let other = tempfile::tempdir().unwrap();
    let mut task = TaskState::default();
    task.insert("model", StateDict::from_safetensors(&fewer).unwrap());
    let donor = Checkpoints::new(other.path()).save(&state(1), &task).unwrap();
    let read = |path: &Path| -> serde_json::Value {
        serde_json::from_slice(&fs::read(path.join("manifest.json")).unwrap()).unwrap()
    };
    let (mut manifest, right) = (read(&path), read(&donor));
    for field in ["bytes", "sha256"] {
        manifest["files"]["model.safetensors"][field] = right["files"]["model.safetensors"][field].clone();
    }
    replace_manifest(&path, &manifest.to_string());
    fs::write(path.join("model.safetensors"), fewer).unwrap();
    let error = checkpoints.load("last").unwrap_err().to_string();
    let expected = "other tensors than were saved: missing bias; unexpected stranger";
    assert!(error.contains(expected), "{error}");
}

#[test]
fn a_step_saved_again_replaces_the_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoints = Checkpoints::new(folder.path());
    let mut first = state(4);
    first.best = vec![Best { step: 4, metric: "loss".into(), value: 2.0 }];
    checkpoints.save(&first, &tensors(4, 3)).unwrap();
    let mut second = first.clone();
    second.loader.epoch = 1;
    checkpoints.save(&second, &tensors(5, 3)).unwrap();
    for link in ["last", "best"] {
        assert_eq!(checkpoints.load(link).unwrap(), (second.clone(), tensors(5, 3)));
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3, "step-4, last, best");
}

#[test]
fn numbers_that_json_lacks_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoints = Checkpoints::new(folder.path());
    let mut state = state(1);
    state.running = Metrics::of(3).with_mean("loss", f64::NAN).with_mean("other", f64::INFINITY);
    state.best = vec![Best { step: 1, metric: "loss".into(), value: f64::NEG_INFINITY }];
    checkpoints.save(&state, &tensors(1, 3)).unwrap();
    let loaded = checkpoints.load("last").unwrap().0;
    assert_eq!(loaded.best, state.best);
    assert!(loaded.running.value("loss").unwrap().is_nan());
    assert_eq!(loaded.running.value("other"), Some(f64::INFINITY));
}

#[test]
fn leftovers_of_a_killed_save_do_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoints = Checkpoints::new(folder.path());
    checkpoints.save(&state(1), &tensors(1, 3)).unwrap();
    // Killed while writing, between the folder's rename and the link's, and between the link and its rename.
    fs::create_dir(folder.path().join(".step-2.part")).unwrap();
    fs::write(folder.path().join(".step-2.part/model.safetensors"), "half").unwrap();
    fs::create_dir(folder.path().join("step-2")).unwrap();
    fs::write(folder.path().join("step-2/model.safetensors"), "of another run").unwrap();
    std::os::unix::fs::symlink("step-2", folder.path().join(".last.part")).unwrap();
    assert_eq!(checkpoints.load("last").unwrap().0.step, 1);
    checkpoints.save(&state(2), &tensors(2, 3)).unwrap();
    assert_eq!(checkpoints.load("last").unwrap(), (state(2), tensors(2, 3)));
}

#[test]
fn a_folder_that_cannot_be_written_to_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let error = Checkpoints::new(&file).save(&state(0), &tensors(0, 3)).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Io);
    assert!(error.to_string().contains("file/.step-0.part: cannot be written: "), "{error}");
}

const CHILD: &str = "FIREBOX_TEST_SAVE_INTO";

/// The child of the next test: it saves as fast as it can, until it is killed.
#[test]
fn child_that_saves_for_ever() {
    let Some(folder) = std::env::var_os(CHILD) else { return };
    let folder = PathBuf::from(folder);
    let checkpoints = Checkpoints::new(&folder);
    let first = checkpoints.load("last").map_or(0, |(state, _)| state.step + 1);
    for step in first.. {
        let mut state = state(step);
        state.best =
            Vec::from_iter(step.is_multiple_of(3).then(|| Best { step, metric: "loss".into(), value: 1.0 }));
        checkpoints.save(&state, &tensors(step, 50_000)).unwrap();
        // All but those that `best` may lead to.
        if let Some(old) = step.checked_sub(2).filter(|old| !old.is_multiple_of(3)) {
            let _ = fs::remove_dir_all(folder.join(format!("step-{old}")));
        }
    }
}

/// A child that doesn't outlive the test, also if it fails.
struct Killed(Child);

impl Killed {
    fn spawn(folder: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "checkpoint::child_that_saves_for_ever", "--test-threads=1"])
            .env(CHILD, folder);
        Killed(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Killed {
    /// By SIGKILL.
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_process_killed_while_it_saves_leaves_a_loadable_last() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoints = Checkpoints::new(folder.path());
    let last = folder.path().join("last");
    let (mut reached, mut moment) = (None, 0x9E37_79B9u64);
    for round in 0..40 {
        let before = fs::read_link(&last).ok();
        let child = Killed::spawn(folder.path());
        let begun = Instant::now();
        while fs::read_link(&last).ok() == before {
            assert!(begun.elapsed() < Duration::from_secs(60), "the child saved nothing");
            sleep(Duration::from_millis(1));
        }
        // From here on `last` leads to a complete checkpoint at every moment, the one of the kill included.
        moment = moment.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let until = begun.elapsed() + Duration::from_micros(moment >> 33 & 0x7fff);
        while begun.elapsed() < until {
            let target = fs::read_link(&last).expect("`last` was absent");
            let complete = folder.path().join(&target).join("manifest.json").exists();
            // The child removes old checkpoints, which may be what `last` led to a moment ago.
            assert!(complete || fs::read_link(&last).unwrap() != target, "round {round}: {target:?}");
        }
        drop(child);
        let (state, task) = checkpoints.load("last").unwrap();
        assert_eq!(task, tensors(state.step, 50_000), "the parts are of one step");
        assert!(Some(state.step) >= reached, "went back from {reached:?} to {}", state.step);
        reached = Some(state.step);
    }
    assert!(reached > Some(40), "only {reached:?} checkpoints in 40 rounds: the kills hit nothing");
}
