//! What a checkpoint says of the program and the machine that made it, and what a resume elsewhere says of
//! that.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use crate::common::{Pulled, fit, folder};
use firebox_train::Error;
use firebox_train::event::Event;
use firebox_train::trainer::Outcome;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

fn sha256(contents: impl AsRef<[u8]>) -> String {
    Sha256::digest(contents).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A run, or a part of one up to the step that fails, and what it warns of.
fn part(place: &Path, resume: bool, fails: Option<usize>) -> (Result<Outcome, Error>, Vec<String>) {
    let run = folder(place, resume);
    run.write_config(&json!({ "lr": 0.25, "name": "pulled" })).unwrap();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hear = Arc::clone(&heard);
    let mut task = Pulled { fails, ..Pulled::default() };
    let outcome = fit(&run, resume, &mut task, |trainer| {
        trainer.callback(move |event: &Event<'_>| {
            if let Event::Warning(text) = event {
                hear.lock().unwrap().push((*text).to_owned());
            }
            Ok(())
        })
    });
    let warnings = heard.lock().unwrap().clone();
    (outcome, warnings)
}

fn manifest(checkpoint: &Path) -> Value {
    serde_json::from_slice(&fs::read(checkpoint.join("manifest.json")).unwrap()).unwrap()
}

/// A manifest with another origin, and its hash, so that nothing is damaged.
fn set_origin(checkpoint: &Path, origin: &Value) {
    let mut manifest = manifest(checkpoint);
    manifest["origin"] = origin.clone();
    let text = manifest.to_string();
    fs::write(checkpoint.join("manifest.sha256"), format!("{}  manifest.json\n", sha256(&text))).unwrap();
    fs::write(checkpoint.join("manifest.json"), text).unwrap();
}

#[test]
fn a_resume_elsewhere_says_what_differs() {
    let whole = tempfile::tempdir().unwrap();
    part(whole.path(), false, None).0.unwrap();
    let here = manifest(&whole.path().join("checkpoints/last"))["origin"].clone();
    let named = |field: &str| here[field].as_str().unwrap();
    let (on, off) = match here["kernels"].as_bool().unwrap() {
        true => ("on", "off"),
        false => ("off", "on"),
    };
    let other_build = "0123456789abcdef".repeat(4);
    let differences = [
        ("firebox", json!("0.0.1"), format!("firebox 0.0.1, now {}", named("firebox"))),
        ("burn", json!("0.21.0"), format!("Burn 0.21.0, now {}", named("burn"))),
        ("build", json!(other_build), format!("build 0123456789ab, now {}", &named("build")[..12])),
        ("cpu", json!("Abacus"), format!("CPU Abacus, now {}", named("cpu"))),
        ("instructions", json!("Beads"), format!("instructions Beads, now {}", named("instructions"))),
        ("kernels", json!(off == "on"), format!("kernels {off}, now {on}")),
    ];
    let text =
        "the checkpoint was made elsewhere, so that the last bits may differ from an uninterrupted run: ";
    // Each of them alone, and all of them.
    let alone = differences.iter().map(std::slice::from_ref);
    for differing in alone.chain([&differences[..]]) {
        let place = tempfile::tempdir().unwrap();
        let last = place.path().join("checkpoints/last");
        part(place.path(), false, Some(4)).0.unwrap_err();
        assert_eq!(manifest(&last)["origin"], here);
        let mut origin = here.clone();
        for (field, other, _) in differing {
            origin[*field] = other.clone();
        }
        set_origin(&last, &origin);
        let (outcome, warnings) = part(place.path(), true, Some(8));
        outcome.unwrap_err();
        let differing: Vec<_> = differing.iter().map(|(.., text)| text.as_str()).collect();
        assert_eq!(warnings, [format!("{text}{}", differing.join("; "))]);
        // What it has saved since was made here.
        assert_eq!(manifest(&last)["origin"], here);
        let (outcome, warnings) = part(place.path(), true, None);
        outcome.unwrap();
        assert_eq!(warnings, Vec::<String>::new());
    }
}

#[test]
fn a_manifest_has_the_files_the_settings_and_the_versions() {
    let place = tempfile::tempdir().unwrap();
    part(place.path(), false, None).0.unwrap();
    let last = place.path().join("checkpoints/last");
    let found = manifest(&last);
    assert_eq!(found["format_version"], 3);
    let config = json!({ "format_version": 3, "lr": 0.25, "name": "pulled" });
    assert_eq!(found["config"], config);

    let mut files = serde_json::Map::new();
    for entry in fs::read_dir(&last).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if !name.starts_with("manifest.") {
            let contents = fs::read(last.join(&name)).unwrap();
            let mut file = json!({ "bytes": contents.len(), "sha256": sha256(&contents) });
            if name.ends_with(".safetensors") {
                file["tensors"] = json!(["layer.weight"]);
            }
            files.insert(name, file);
        }
    }
    let names: Vec<_> = files.keys().collect();
    assert_eq!(names, ["model.optimizer.safetensors", "model.safetensors", "state.json"]);
    assert_eq!(found["files"], Value::Object(files));
    let hash = sha256(fs::read(last.join("manifest.json")).unwrap());
    let beside = fs::read_to_string(last.join("manifest.sha256")).unwrap();
    assert_eq!(beside, format!("{hash}  manifest.json\n"));

    let origin = &found["origin"];
    let fields: Vec<_> = origin.as_object().unwrap().keys().collect();
    assert_eq!(fields, ["build", "burn", "cpu", "firebox", "instructions", "kernels"]);
    assert_eq!(origin["firebox"], env!("CARGO_PKG_VERSION"));
    assert_eq!(origin["build"], sha256(fs::read(std::env::current_exe().unwrap()).unwrap()));
    for field in ["cpu", "instructions"] {
        assert!(!origin[field].as_str().unwrap().is_empty(), "{field}");
    }
    assert!(origin["kernels"].is_boolean());
}

#[test]
fn the_version_of_burn_is_the_one_that_is_locked() {
    let place = tempfile::tempdir().unwrap();
    part(place.path(), false, None).0.unwrap();
    let found = manifest(&place.path().join("checkpoints/last"))["origin"]["burn"].clone();
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.lock");
    let lock: toml::Table = toml::from_str(&fs::read_to_string(lock).unwrap()).unwrap();
    let packages = lock["package"].as_array().unwrap().iter();
    let locked = packages.filter(|package| package["name"].as_str() == Some("burn"));
    let locked: Vec<_> = locked.map(|package| package["version"].as_str().unwrap()).collect();
    assert_eq!(locked, [found.as_str().unwrap()]);
}

const CHILD: &str = "FIREBOX_TEST_PROGRAM_IS_REPLACED";

/// The child of the next test: a program whose file is another one's by the time of its first checkpoint.
#[test]
fn child_that_is_replaced() {
    let Some(place) = std::env::var_os(CHILD) else { return };
    let program = std::env::current_exe().unwrap();
    fs::remove_file(&program).unwrap();
    fs::write(&program, "built anew").unwrap();
    part(Path::new(&place), false, None).0.unwrap();
}

#[test]
fn a_program_that_is_built_anew_while_it_runs_is_still_the_one_that_was_begun() {
    // Others don't tell what runs.
    if !cfg!(target_os = "linux") {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let (program, run) = (place.path().join("program"), place.path().join("run"));
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let expected = sha256(fs::read(&program).unwrap());
    let mut command = Command::new(&program);
    command.args(["--exact", "provenance::child_that_is_replaced", "--test-threads=1"]).env(CHILD, &run);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(fs::read(&program).unwrap(), b"built anew");
    assert_eq!(manifest(&run.join("checkpoints/last"))["origin"]["build"], expected);
}
