//! The text example as a person runs it: what it leaves, writes and says, and that it can be killed.

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

/// A small network on a piece of the novel: 32 steps an epoch, the last one with short windows.
const SMALL: [&str; 14] = [
    "--limit-train",
    "4000",
    "--limit-test",
    "600",
    "--batch-size",
    "8",
    "--window",
    "16",
    "--hidden",
    "24",
    "--embedding",
    "8",
    "--lr",
    "0.02",
];

fn outcome(arguments: &[&str]) -> Output {
    example("text").args(arguments).output().unwrap()
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
fn a_run_leaves_what_other_tools_read_and_writes_on() {
    let (_folder, run, name) = folder();
    let said = succeed(&[&["--run-dir", &name, "--epochs", "2"][..], &SMALL].concat());
    assert!(said.contains("test: ") && said.contains(" bits per character, "), "{said}");

    let config = json(&run.join("config.json"));
    assert_eq!(
        (&config["cell"], &config["window"], &config["seed"]),
        (&"lstm".into(), &16.into(), &42.into())
    );
    let summary = json(&run.join("summary.json"));
    for field in ["test_bits_per_character", "test_loss", "test_perplexity", "seconds", "samples_per_s"] {
        assert!(summary[field].is_f64(), "{field}: {summary}");
    }
    let records = records(&run);
    let shape: Vec<_> =
        records.iter().map(|r| (r["kind"].as_str().unwrap(), r["split"].as_str().unwrap())).collect();
    let epoch = [vec![("step", "train"); 32], vec![("epoch", "train"), ("eval", "valid")]].concat();
    assert_eq!(shape, [epoch.clone(), epoch, vec![("eval", "test")]].concat());
    for record in &records {
        let value = |field: &str| record[field].as_f64().unwrap();
        assert!((value("bits_per_character") - value("loss") / 2f64.ln()).abs() < 1e-9, "{record}");
        assert!((value("perplexity") - value("loss").exp()).abs() < 1e-6, "{record}");
    }
    assert_eq!(records.last().unwrap()["bits_per_character"], summary["test_bits_per_character"]);

    // What it wrote at the end of each epoch goes on from one piece of the novel, and is in the report.
    let texts =
        [1, 2].map(|epoch| fs::read_to_string(run.join(format!("samples/epoch-000{epoch}.txt"))).unwrap());
    assert!(texts.iter().all(|text| text.chars().count() == 332), "{texts:?}");
    assert!(texts[0][..32] == texts[1][..32] && texts[0] != texts[1], "{texts:?}");
    let report = fs::read_to_string(run.join("report.html")).unwrap();
    for part in ["What it wrote", "after epoch 1", "after epoch 2", "waiting for data", "<svg"] {
        assert!(report.contains(part), "the report has no {part}");
    }
    let foreign = report.replace("http://www.w3.org/2000/svg", "");
    assert!(!foreign.contains("http") && !foreign.contains("<script src"), "the report needs other files");

    let ask = |flags: &[&str]| succeed(&[&["--run-dir", &name, "--sample", "60"][..], flags].concat());
    let prompt = ["--prompt", "Mr. Darcy"];
    let text = ask(&prompt);
    assert!(text.starts_with("Mr. Darcy") && text.chars().count() == 9 + 60 + 1, "{text:?}");
    assert_eq!(ask(&prompt), text, "the same seed writes the same");
    assert_ne!(ask(&[&prompt[..], &["--seed", "7"]].concat()), text);
    // The likeliest characters alone: by temperature 0, or by a nucleus in which there is no second one.
    let likeliest = ask(&[&prompt[..], &["--temperature", "0"]].concat());
    assert_ne!(likeliest, text);
    for flags in [["--top-p", "0.0001", "--seed", "7"], ["--temperature", "0", "--seed", "9"]] {
        assert_eq!(ask(&[&prompt[..], &flags].concat()), likeliest, "{flags:?}");
    }

    // A new run in the same place leaves nothing of the old one.
    succeed(&[&["--run-dir", &name, "--overwrite", "--epochs", "1"][..], &SMALL].concat());
    assert!(!run.join("samples/epoch-0002.txt").exists());
}

#[test]
fn the_last_tenth_is_held_out() {
    let (folder, run, name) = folder();
    let file = folder.path().join("text.txt");
    // Two letters in turn, and in the last tenth each twice: who has not read that takes it for the same.
    fs::write(&file, "ab".repeat(4500) + &"aabb".repeat(250)).unwrap();
    let recipe =
        ["--hidden", "16", "--embedding", "4", "--batch-size", "8", "--window", "16", "--lr", "0.02"];
    let place = ["--data", file.to_str().unwrap(), "--run-dir", &name, "--epochs", "2"];
    succeed(&[&recipe[..], &place].concat());
    let bits = |split: &str| {
        let records = records(&run);
        let last = records.iter().rfind(|record| record["kind"] == "eval" && record["split"] == split);
        last.unwrap()["bits_per_character"].as_f64().unwrap()
    };
    assert!(bits("valid") < 0.1, "validation: {} bits", bits("valid"));
    assert!(bits("test") > 1.0, "test: {} bits", bits("test"));
}

#[test]
fn settings_matter() {
    let run = |extra: &[&str]| {
        let (_folder, run, name) = folder();
        let few = ["--limit-train", "1000", "--epochs", "1", "--limit-test", "100"];
        let small = ["--hidden", "8", "--embedding", "4", "--batch-size", "4", "--window", "25"];
        succeed(&[&few[..], &small, extra, &["--run-dir", &name]].concat());
        losses(&run)
    };
    let plain = run(&[]);
    assert_eq!(plain.len(), 10);
    assert_eq!(run(&["--workers", "3", "--threads", "1"]), plain, "what changes no result does");
    for extra in [
        &["--cell", "gru"][..],
        &["--cell", "rnn"],
        &["--layers", "2"],
        &["--dropout", "0.5"],
        &["--clip-norm", "0.001"],
        &["--lr", "0.03"],
        &["--seed", "1"],
    ] {
        let other = run(extra);
        assert_eq!(other.len(), plain.len());
        assert_ne!(other, plain, "{extra:?} changes nothing");
    }
}

/// A run in the background, killed by SIGKILL when it goes out of scope.
#[cfg(unix)]
struct Running(Child);

#[cfg(unix)]
impl Running {
    fn start(arguments: &[&str]) -> Self {
        let mut command = example("text");
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
fn a_stopped_or_killed_run_goes_on_to_the_same_end() {
    let long = [
        &["--limit-train", "12804", "--limit-test", "100", "--batch-size", "4", "--window", "16"][..],
        &["--hidden", "32", "--embedding", "8", "--epochs", "2", "--dropout", "0.3", "--ema", "0.98"],
        &["--save-steps", "7", "--layers", "2"],
    ]
    .concat();
    let (_whole_folder, whole, whole_name) = folder();
    succeed(&[&["--run-dir", &whole_name][..], &long].concat());
    assert_eq!(losses(&whole).len(), 400);
    for (signal, code, after) in [("-KILL", None, 45), ("-TERM", Some(143), 130), ("-KILL", None, 260)] {
        let (_folder, run, name) = folder();
        let running = Running::start(&[&["--run-dir", &name][..], &long].concat());
        assert_eq!(running.stop(&run, after, signal), code, "{signal}");
        assert!(!run.join("summary.json").exists());
        succeed(&["--run-dir", &name, "--resume", "--workers", "2", "--threads", "1"]);
        assert_eq!(losses(&run), losses(&whole), "{signal} after {after}");
        for part in ["model", "model.optimizer", "model.ema", "carried"] {
            let [got, expected] = [&run, &whole]
                .map(|run| fs::read(run.join(format!("checkpoints/last/{part}.safetensors"))).unwrap());
            assert!(got == expected, "{signal} after {after}: {part} differs");
        }
        for text in ["epoch-0001.txt", "epoch-0002.txt"] {
            let [got, expected] =
                [&run, &whole].map(|run| fs::read_to_string(run.join("samples").join(text)).unwrap());
            assert_eq!(got, expected, "{signal} after {after}");
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
    succeed(&[&["--run-dir", &name, "--epochs", "1"][..], &SMALL].concat());
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let file = |name: &str, contents: &[u8]| {
        fs::write(at(name), contents).unwrap();
        at(name)
    };
    let empty = file("empty.txt", b"");
    let steep = file("steep.toml", b"warmup = 2.0\n");
    let image = file("image.png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR");
    let zeros = file("zeros.bin", &[0; 4096]);
    let short = file("short.txt", b"It is a truth universally acknowledged");
    let other =
        file("other.txt", "Es ist eine allgemein anerkannte Wahrheit: ä ö ü.\n".repeat(400).as_bytes());

    // A run of another example, and a folder of this one with the checkpoints of another.
    let forecast = at("forecast");
    let small = ["--hours", "400", "--hidden", "4", "--epochs", "1", "--run-dir", &forecast];
    assert!(example("forecast").args(small).output().unwrap().status.success());
    let mixed = at("mixed");
    assert!(std::process::Command::new("cp").args(["-a", &forecast, &mixed]).status().unwrap().success());
    fs::copy(run.join("config.json"), Path::new(&mixed).join("config.json")).unwrap();

    let before = fs::read(run.join("metrics.jsonl")).unwrap();
    let sample = ["--run-dir", &name, "--sample", "9"];
    assert_refused(
        folder.path(),
        &[
            (&["--config", &steep], 1, &[&steep, "--warmup", "expected a number from 0, below 1"]),
            (&["--data", &empty], 1, &[&empty, "empty file"]),
            (&["--data", &image], 1, &[&image, "expected text in UTF-8", "byte 0"]),
            (&["--data", &zeros], 1, &[&zeros, "control character", "byte 0"]),
            (&["--data", "/nowhere.txt"], 1, &["/nowhere.txt", "cannot be read"]),
            (&["--data", &short], 1, &[&short, "part: contiguous batches: expected more than"]),
            (&["--batch-size", "700000"], 1, &["training part", "expected more than 700000 tokens"]),
            (&["--window", "0"], 2, &["--window", "expected at least 1"]),
            (&["--cell", "tube"], 2, &["--cell", "tube"]),
            (&["--dropout", "1"], 2, &["--dropout", "expected a number from 0, below 1"]),
            (&["--prompt", "Mr."], 2, &["--sample"]),
            (&["--sample", "0"], 2, &["--sample", "expected at least 1"]),
            (&[&sample[..], &["--prompt", "naïve"]].concat(), 1, &["--prompt: character 3", "'ï'"]),
            (&[&sample[..], &["--prompt", ""]].concat(), 1, &["prompt", "at least one", "none"]),
            (
                &[&sample[..], &["--top-p", "0"]].concat(),
                2,
                &["--top-p", "expected a number above 0, up to 1"],
            ),
            (&[&sample[..], &["--temperature", "nan"]].concat(), 2, &["--temperature", "at least 0"]),
            (&[&sample[..], &["--lr", "1"]].concat(), 1, &["--lr", "no effect with --sample"]),
            (&["--run-dir", &forecast, "--resume"], 1, &[&forecast, "config.json"]),
            (&["--run-dir", &forecast, "--sample", "9"], 1, &[&forecast, "config.json"]),
            (&["--run-dir", &mixed, "--resume"], 1, &["mixed/checkpoints"]),
            (&["--run-dir", &mixed, "--sample", "9"], 1, &["mixed/checkpoints/best", "vocabulary"]),
            (&["--run-dir", &name, "--resume", "--cell", "gru"], 1, &["--cell", "lstm", "gru"]),
            (&["--run-dir", &name, "--resume", "--data", &other], 1, &[&name]),
        ],
    );
    assert_eq!(fs::read(run.join("metrics.jsonl")).unwrap(), before, "a refused run changed the old one");
}
