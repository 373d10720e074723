//! The forecasting example as a person runs it: what it leaves, what its forecasts are worth, and that it can
//! be killed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
#[cfg(unix)]
use std::process::{Child, Command, Stdio};
#[cfg(unix)]
use std::thread::sleep;
#[cfg(unix)]
use std::time::{Duration, Instant};

use super::{example, losses, records};
use serde_json::Value;
use tempfile::TempDir;

fn outcome(arguments: &[&str]) -> Output {
    example("forecast").args(arguments).output().unwrap()
}

fn succeed(arguments: &[&str]) -> String {
    let output = outcome(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn folder() -> (TempDir, PathBuf, String) {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let text = run.to_str().unwrap().to_owned();
    (folder, run, text)
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn a_run_leaves_what_other_tools_read_and_beats_the_baselines() {
    let (_folder, run, name) = folder();
    let recipe = ["--hours", "6000", "--hidden", "32", "--epochs", "8", "--past", "24", "--lr", "0.01"];
    let said = succeed(&[&["--run-dir", &name][..], &recipe].concat());
    assert!(
        said.contains("test: mean absolute error ") && said.contains(" % less than the week before's"),
        "{said}"
    );
    let config = json(&run.join("config.json"));
    assert_eq!(
        (&config["cell"], &config["past"], &config["hours"]),
        (&"rnn".into(), &24.into(), &6000.into())
    );
    let summary = json(&run.join("summary.json"));
    let value = |field: &str| summary[field].as_f64().unwrap();
    let [error, week, last] = ["test_mae", "last_week_mae", "last_value_mae"].map(value);
    assert!(error < 0.75 * week && error < 0.75 * last, "{summary}");
    // Nobody can do better, but by chance: the forecasts of these seven weeks have most of their errors in
    // common.
    assert!(error > 0.95 * value("best_possible_mae"), "{summary}");

    let records = records(&run);
    let evaluations: Vec<_> = records.iter().filter(|record| record["kind"] == "eval").collect();
    assert_eq!(evaluations.len(), 9);
    assert!(evaluations.iter().all(|record| record["mae"].is_number() && record["loss"].is_number()));
    assert_eq!(evaluations[8]["split"], "test");
    let report = fs::read_to_string(run.join("report.html")).unwrap();
    for part in ["Two weeks of the test part", "what came", "forecast at midnight", "the week before", "<svg"]
    {
        assert!(report.contains(part), "the report has no {part}");
    }
    let foreign = report.replace("http://www.w3.org/2000/svg", "");
    assert!(!foreign.contains("http") && !foreign.contains("<script src"), "the report needs other files");

    // One that has hardly learned is worse than they are, and says so.
    let (_folder, _, short) = folder();
    let said = succeed(&["--run-dir", &short, "--hours", "2000", "--max-steps", "1"]);
    assert!(said.contains(" % more than the week before's"), "{said}");

    let said = succeed(&["--run-dir", &name, "--forecast"]);
    assert_eq!(said.lines().count(), 24, "{said}");
    let values: Vec<f64> =
        said.lines().map(|line| line.split_whitespace().next_back().unwrap().parse().unwrap()).collect();
    assert!(values.iter().all(|value| (40.0..160.0).contains(value)), "{said}");
}

#[test]
fn settings_matter() {
    let run = |extra: &[&str]| {
        let (_folder, run, name) = folder();
        let few = ["--hours", "600", "--epochs", "1", "--hidden", "8", "--past", "12", "--batch-size", "32"];
        succeed(&[&few[..], extra, &["--run-dir", &name]].concat());
        losses(&run)
    };
    let plain = run(&[]);
    assert_eq!(run(&["--workers", "3", "--threads", "1"]), plain, "what changes no result does");
    for extra in [
        &["--cell", "lstm"][..],
        &["--cell", "gru"],
        &["--layers", "2"],
        &["--dropout", "0.5"],
        &["--clip-norm", "0.001"],
        &["--lr", "0.03"],
        &["--seed", "1"],
    ] {
        assert_ne!(run(extra), plain, "{extra:?} changes nothing");
    }
}

/// A run in the background, killed by SIGKILL when it goes out of scope.
#[cfg(unix)]
struct Running(Child);

#[cfg(unix)]
impl Running {
    fn start(arguments: &[&str]) -> Self {
        let mut command = example("forecast");
        Running(command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// Sends a signal once so many lines are recorded, and gives the code that the run exits with, if it
    /// does.
    fn stop(mut self, run: &Path, records: usize, signal: &str) -> Option<i32> {
        let begun = Instant::now();
        while fs::read_to_string(run.join("metrics.jsonl")).map_or(0, |text| text.lines().count()) < records {
            assert!(begun.elapsed() < Duration::from_secs(120), "record {records} was not reached");
            sleep(Duration::from_millis(1));
        }
        assert!(Command::new("kill").args([signal, &self.0.id().to_string()]).status().unwrap().success());
        self.0.wait().unwrap().code()
    }
}

#[cfg(unix)]
impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(unix)]
#[test]
fn a_killed_run_goes_on_to_the_same_end() {
    let long = [
        &["--hours", "2000", "--past", "24", "--hidden", "16", "--layers", "2", "--batch-size", "8"][..],
        &["--epochs", "2", "--dropout", "0.3", "--ema", "0.98", "--save-steps", "7"],
    ]
    .concat();
    let (_whole_folder, whole, whole_name) = folder();
    succeed(&[&["--run-dir", &whole_name][..], &long].concat());
    assert!(losses(&whole).len() > 250);
    for after in [45, 180] {
        let (_folder, run, name) = folder();
        let running = Running::start(&[&["--run-dir", &name][..], &long].concat());
        assert_eq!(running.stop(&run, after, "-KILL"), None);
        assert!(!run.join("summary.json").exists());
        succeed(&["--run-dir", &name, "--resume", "--workers", "2", "--threads", "1"]);
        assert_eq!(losses(&run), losses(&whole), "killed after {after}");
        for part in ["model", "model.optimizer", "model.ema"] {
            let [got, expected] = [&run, &whole]
                .map(|run| fs::read(run.join(format!("checkpoints/last/{part}.safetensors"))).unwrap());
            assert!(got == expected, "killed after {after}: {part} differs");
        }
    }
}

/// Each of the command lines is refused with a code and one line, which has all the parts, and leaves no
/// folder.
fn assert_refused(folder: &Path, cases: &[(&[&str], i32, &[&str])]) {
    let fresh = folder.join("fresh").to_str().unwrap().to_owned();
    for (arguments, code, parts) in cases {
        let mut arguments = arguments.to_vec();
        if !arguments.contains(&"--run-dir") {
            arguments.extend(["--run-dir", &fresh]);
        }
        let output = outcome(&arguments);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(*code), "{arguments:?}: {text}");
        assert_eq!(text.lines().count(), 1, "{arguments:?}: {text}");
        assert!(text.starts_with("error: "), "{arguments:?}: {text}");
        for part in *parts {
            assert!(text.contains(part), "{arguments:?} doesn't say {part}: {text}");
        }
        assert!(!Path::new(&fresh).exists(), "{arguments:?} left a run folder");
    }
}

#[test]
fn bad_input_is_one_line_that_says_what_and_where() {
    let (folder, run, name) = folder();
    let small = ["--hours", "400", "--hidden", "4", "--epochs", "1"];
    succeed(&[&["--run-dir", &name][..], &small].concat());
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let text = at("text");
    let few = [
        "--limit-train",
        "400",
        "--limit-test",
        "100",
        "--epochs",
        "1",
        "--hidden",
        "4",
        "--batch-size",
        "4",
    ];
    assert!(
        example("text").args([&few[..], &["--run-dir", &text]].concat()).output().unwrap().status.success()
    );
    let mixed = at("mixed");
    assert!(std::process::Command::new("cp").args(["-a", &text, &mixed]).status().unwrap().success());
    fs::copy(run.join("config.json"), Path::new(&mixed).join("config.json")).unwrap();

    let never = at("never.toml");
    fs::write(&never, "epochs = 0\n").unwrap();
    let before = fs::read(run.join("metrics.jsonl")).unwrap();
    assert_refused(
        folder.path(),
        &[
            (&["--config", &never], 1, &[&never, "--epochs", "0 is not in 1.."]),
            (&["--hours", "100"], 1, &["--hours", "expected from 280", "48 past hours", "got 100"]),
            (&["--hours", "99999999999"], 1, &["--hours", "got 99999999999"]),
            (&["--past", "5000000000"], 1, &["--hours", "5000000000 past hours"]),
            (&["--past", "0"], 2, &["--past", "expected at least 1"]),
            (&["--cell", "tube"], 2, &["--cell", "tube"]),
            (&["--lr", "nan"], 2, &["--lr", "expected a number above 0"]),
            (&["--forecast", "--resume", "--run-dir", &name], 2, &["--forecast", "--resume"]),
            (&["--forecast", "--lr", "1", "--run-dir", &name], 1, &["--lr", "no effect with --forecast"]),
            (&["--run-dir", &text, "--resume"], 1, &[&text, "config.json"]),
            (&["--run-dir", &text, "--forecast"], 1, &[&text, "config.json"]),
            (&["--run-dir", &mixed, "--resume"], 1, &["mixed/checkpoints"]),
            (&["--run-dir", &mixed, "--forecast"], 1, &["mixed/checkpoints"]),
            (&["--run-dir", &name, "--resume", "--hidden", "8"], 1, &["--hidden", "4", "8"]),
        ],
    );
    assert_eq!(fs::read(run.join("metrics.jsonl")).unwrap(), before, "a refused run changed the old one");
}
