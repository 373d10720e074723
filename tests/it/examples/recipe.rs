//! The training example's settings: a run is repeated by its `config.json`, files and flags have an order,
//! and a search for a learning rate or a quick check are runs too.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

use super::{course, losses, training};
use serde_json::Value;
use tempfile::TempDir;

fn outcome(arguments: &[&str]) -> Output {
    training().args(arguments).output().unwrap()
}

fn succeed(arguments: &[&str]) -> String {
    let output = outcome(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A folder, and the names of places in it.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Place(tempfile::tempdir().unwrap())
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn name(&self, name: &str) -> String {
        self.at(name).to_str().unwrap().to_owned()
    }

    fn file(&self, name: &str, text: &str) -> String {
        fs::write(self.at(name), text).unwrap();
        self.name(name)
    }
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// The bytes of all tensors of a run's last and best checkpoints, by their place. Which others are kept
/// depends on when the thread that writes them was done with the one before.
fn tensors(run: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut tensors = BTreeMap::new();
    for checkpoint in ["last", "best"].map(|name| run.join("checkpoints").join(name)) {
        for file in fs::read_dir(&checkpoint).unwrap().map(|entry| entry.unwrap().path()) {
            if file.extension().is_some_and(|extension| extension == "safetensors") {
                tensors.insert(file.strip_prefix(run).unwrap().to_owned(), fs::read(file).unwrap());
            }
        }
    }
    tensors
}

const SMALL: [&str; 8] = ["--limit-train", "48", "--limit-test", "16", "--batch-size", "8", "--epochs", "2"];

#[test]
fn config_json_alone_repeats_a_run() {
    let place = Place::new();
    let all = [
        "--augment",
        "--dropout",
        "0.3",
        "--ema",
        "0.9",
        "--accumulate",
        "2",
        "--clip-norm",
        "0.5",
        "--seed",
        "11",
        "--lr",
        "0.01",
        "--save-steps",
        "2",
        "--patience",
        "5",
        "--max-steps",
        "5",
    ];
    succeed(&[&SMALL[..], &all, &["--run-dir", &place.name("first")]].concat());
    // Another number of workers changes nothing, and a flag comes before the file.
    let config = place.name("first/config.json");
    succeed(&["--config", &config, "--run-dir", &place.name("second"), "--workers", "3"]);

    let (first, second) = (place.at("first"), place.at("second"));
    assert_eq!((losses(&first).len(), course(&first)), (5, course(&second)));
    let expected = tensors(&first);
    let of_last: Vec<_> = expected.keys().filter(|path| path.starts_with("checkpoints/last")).collect();
    assert_eq!(of_last.len(), 3, "model, optimiser and average: {of_last:?}");
    assert!(expected.contains_key(Path::new("checkpoints/best/model.safetensors")));
    assert!(tensors(&second) == expected, "the weights differ");
    let mut config = json(&second.join("config.json"));
    assert_eq!(config["workers"], 3);
    config["workers"] = Value::Null;
    assert_eq!(config, json(&first.join("config.json")));
}

#[test]
fn every_flag_that_decides_a_result_is_in_config_json() {
    let place = Place::new();
    succeed(&["--fast-dev-run", "--batch-size", "8", "--limit-train", "8", "--run-dir", &place.name("run")]);
    let config = json(&place.at("run/config.json"));
    let help = succeed(&["--help"]);
    let flags = help.lines().filter_map(|line| {
        let flag = line.trim_start().split("--").nth(1).filter(|_| line.trim_start().starts_with('-'))?;
        Some(flag.split([' ', '=']).next().unwrap().to_owned())
    });
    // Where the run has its folder, how it begins, what is written beside, and what is done instead of
    // training.
    let apart = ["run-dir", "resume", "config", "overwrite", "log", "predict", "find-lr", "help"];
    let (other, settings): (Vec<_>, Vec<_>) = flags.partition(|flag| apart.contains(&flag.as_str()));
    assert_eq!((other.len(), settings.len() > 15), (apart.len(), true), "{settings:?}");
    for flag in &settings {
        assert!(config.get(flag.replace('-', "_")).is_some(), "config.json has no {flag}: {config}");
    }
    assert_eq!(config.as_object().unwrap().len(), settings.len() + 1, "and the format's version: {config}");
}

#[test]
fn a_flag_comes_before_the_file_and_that_before_the_default() {
    let place = Place::new();
    let text = "# A quick one\nbatch_size = 4\nlimit_train = 24\nlimit_test = 8\nepochs = 1\nseed = 5\naugment = true\n";
    let file = place.file("quick.toml", text);
    succeed(&["--config", &file, "--seed", "7", "--run-dir", &place.name("run")]);
    let config = json(&place.at("run/config.json"));
    for (setting, value) in [
        ("seed", Value::from(7)),
        ("batch_size", 4.into()),
        ("augment", true.into()),
        ("lr", 3e-3.into()),
        ("accumulate", 1.into()),
        ("patience", Value::Null),
    ] {
        assert_eq!(config[setting], value, "{setting}");
    }
    // And that is what was done.
    let flags =
        ["--batch-size", "4", "--limit-train", "24", "--limit-test", "8", "--epochs", "1", "--augment"];
    succeed(&[&flags[..], &["--seed", "7", "--run-dir", &place.name("by-flags")]].concat());
    assert_eq!(losses(&place.at("run")).len(), 6);
    assert_eq!(losses(&place.at("run")), losses(&place.at("by-flags")));
    // A flag that repeats the default comes before the file, too.
    succeed(&["--config", &file, "--seed", "42", "--run-dir", &place.name("default")]);
    assert_eq!(json(&place.at("default/config.json"))["seed"], 42);
}

#[test]
fn a_file_of_settings_that_are_none_is_refused_in_one_line() {
    let place = Place::new();
    for (name, text, parts) in [
        ("a.toml", "batch_sise = 8", &["expected settings among", "batch_size", "got batch_sise"][..]),
        ("a.toml", "[training]\nseed = 1", &["got training"]),
        ("a.toml", "batch_size = \"many\"", &["unexpected settings", "\"many\""]),
        ("a.toml", "batch_size = 2.5", &["unexpected settings", "2.5"]),
        ("a.toml", "seed = -1", &["unexpected settings", "-1"]),
        ("a.toml", "augment = 1", &["unexpected settings", "boolean"]),
        ("a.toml", "seed = ", &["not TOML"]),
        ("a.json", "{\"seed\": 1", &["not a JSON object"]),
        ("a.json", "{\"seed\": null}", &["unexpected settings", "null"]),
    ] {
        refused(&place, name, text, &[&[name], parts].concat());
    }
    // Values that flags can't have, a file can't have either.
    for (text, part) in [
        ("batch_size = 0", "--batch-size"),
        ("accumulate = 0", "--accumulate"),
        ("epochs = 0", "--epochs"),
        ("max_steps = 0", "--max-steps"),
        ("save_steps = 0", "--save-steps"),
        ("patience = 0", "--patience"),
        ("lr = 0.0", "--lr"),
        ("dropout = 1.0", "--dropout"),
        ("ema = 1.0", "--ema"),
        ("clip_norm = -1.0", "--clip-norm"),
        ("threads = 0", "--threads"),
        ("limit_train = 0", "--limit-train"),
        ("backend = \"abacus\"", "no backend abacus"),
    ] {
        refused(&place, "a.toml", text, &[part]);
    }
    let nowhere = place.name("nowhere.toml");
    let output = outcome(&["--config", &nowhere, "--run-dir", &place.name("run")]);
    assert!(String::from_utf8_lossy(&output.stderr).contains(&nowhere));
}

fn refused(place: &Place, name: &str, text: &str, parts: &[&str]) {
    let file = place.file(name, text);
    let output = outcome(&[&SMALL[2..4], &["--config", &file, "--run-dir", &place.name("run")]].concat());
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}: {said}");
    assert!(said.starts_with("error: ") && said.lines().count() == 1, "{text}: {said}");
    for part in parts {
        assert!(said.contains(part), "{text} doesn't say {part}: {said}");
    }
    assert!(!place.at("run").exists(), "{text} left a run folder");
}

#[test]
fn a_fast_run_goes_through_everything_in_seconds() {
    let place = Place::new();
    let begun = Instant::now();
    // With all data, and settings that would evaluate and save often.
    let often = ["--save-steps", "1", "--accumulate", "2", "--ema", "0.9", "--epochs", "9"];
    let run = place.at("run");
    let said = succeed(&[&["--fast-dev-run", "--run-dir", &place.name("run")][..], &often].concat());
    assert!(begun.elapsed() < Duration::from_secs(60), "it took {:?}", begun.elapsed());
    assert!(said.contains("test accuracy: "), "{said}");
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let all: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let shape: Vec<_> =
        all.iter().map(|r| (r["kind"].as_str().unwrap(), r["split"].as_str().unwrap())).collect();
    assert_eq!(shape, [("step", "train"), ("epoch", "train"), ("eval", "valid"), ("eval", "test")]);
    assert!(all[1]["data"]["samples"].as_u64().unwrap() >= 128, "two batches a step: {}", all[1]);
    for file in ["config.json", "summary.json", "report.html", "checkpoints/last/manifest.json"] {
        assert!(run.join(file).is_file(), "{file} is missing");
    }
    assert!(run.join("checkpoints/best/model.ema.safetensors").is_file());
    // One batch of validation and of test: as many images as this has at all.
    let one = ["--limit-test", "64", "--fast-dev-run", "--run-dir", &place.name("one")];
    succeed(&[&one[..], &often].concat());
    assert_eq!(course(&place.at("one")), course(&run));
    // A run like others, that its settings repeat.
    succeed(&["--config", &place.name("run/config.json"), "--run-dir", &place.name("again")]);
    assert_eq!(course(&place.at("again")), course(&run));
}

#[test]
fn a_search_says_which_rate_to_begin_with_and_plots_it() {
    let place = Place::new();
    let recipe = ["--limit-train", "2000", "--limit-test", "200", "--batch-size", "32", "--seed", "4"];
    let run = place.at("run");
    let said = succeed(&[&recipe[..], &["--find-lr", "--run-dir", &place.name("run")]].concat());
    let points = fs::read_to_string(run.join("lr-find.jsonl")).unwrap();
    let points: Vec<Value> = points.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!((50..=100).contains(&points.len()), "{} points", points.len());
    let page = fs::read_to_string(run.join("lr-find.html")).unwrap();
    assert!(page.contains("<svg") && page.contains("steepest: "), "{page}");
    assert!(json(&run.join("config.json"))["seed"] == 4);
    // A search trains nothing.
    assert!(fs::read_to_string(run.join("metrics.jsonl")).is_ok_and(|text| text.is_empty()));
    assert!(!run.join("checkpoints/last").exists() && !run.join("summary.json").exists());

    // The same numbers come again, with other workers.
    let workers = ["--find-lr", "--workers", "2", "--run-dir", &place.name("again")];
    let again = succeed(&[&recipe[..], &workers].concat());
    let suggestion = |said: &str| {
        let text = said.lines().find_map(|line| line.strip_prefix("suggested learning rate: ")).unwrap();
        text.split(' ').next().unwrap().to_owned()
    };
    let lr = suggestion(&said);
    assert_eq!(suggestion(&again), lr);
    assert_eq!(
        fs::read(place.at("again/lr-find.jsonl")).unwrap(),
        fs::read(run.join("lr-find.jsonl")).unwrap()
    );

    // The network learns at it, and hardly at a thousandth of it.
    let accuracy = |lr: &str, name: &str| {
        let flags = ["--epochs", "1", "--lr", lr, "--run-dir", &place.name(name)];
        succeed(&[&recipe[..], &flags].concat());
        json(&place.at(name).join("summary.json"))["test_accuracy"].as_f64().unwrap()
    };
    let slow = format!("{:e}", lr.parse::<f64>().unwrap() / 1000.0);
    let (at_it, below) = (accuracy(&lr, "fast"), accuracy(&slow, "slow"));
    println!("{at_it} at {lr}, {below} at {slow}");
    assert!(at_it > 0.6 && at_it > below + 0.1, "{at_it} at {lr}, {below} at {slow}");

    for other in [&["--lr", "0.1"][..], &["--resume"], &["--predict", "a.png"], &["--fast-dev-run"]] {
        let output = outcome(&[&["--find-lr"][..], other].concat());
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{other:?}: {said}");
        assert!(said.contains("--find-lr") && said.contains(other[0]), "{other:?}: {said}");
    }
}
