//! The training example as a person runs it: what it leaves, what it says, and that it can be stopped anywhere.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::{losses, training};
use image::GrayImage;
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
fn a_run_leaves_what_other_tools_read() {
    let (_folder, run, name) = folder();
    let small = ["--limit-train", "150", "--limit-test", "70", "--batch-size", "32", "--epochs", "2"];
    let log = ["--log", "csv,tensorboard"];
    let said = succeed(&[&["--run-dir", &name][..], &small, &log].concat());
    assert!(said.contains("test accuracy: "), "{said}");

    let config = json(&run.join("config.json"));
    assert_eq!(
        (&config["format_version"], &config["batch_size"], &config["seed"]),
        (&3.into(), &32.into(), &42.into())
    );
    let summary = json(&run.join("summary.json"));
    for field in ["test_accuracy", "test_loss", "seconds", "samples_per_s"] {
        assert!(summary[field].is_f64(), "{field}: {summary}");
    }
    assert!(summary["peak_rss_bytes"].is_u64() || !cfg!(target_os = "linux"), "{summary}");
    assert_eq!((&summary["backend"], &summary["epochs"]), (&"flex".into(), &2.into()));
    assert_eq!((&summary["format_version"], &summary["seed"]), (&3.into(), &42.into()));

    // Five steps an epoch, the last one short; then what the epoch was and what it led to; at the end the test.
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let records: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let shape: Vec<_> =
        records.iter().map(|r| (r["kind"].as_str().unwrap(), r["split"].as_str().unwrap())).collect();
    let epoch = [vec![("step", "train"); 5], vec![("epoch", "train"), ("eval", "valid")]].concat();
    assert_eq!(shape, [epoch.clone(), epoch, vec![("eval", "test")]].concat());
    for record in &records {
        for field in ["step", "epoch", "seconds", "loss", "accuracy", "samples_per_s", "data_wait_s"] {
            assert!(record[field].is_number(), "{field}: {record}");
        }
        assert_eq!(record["lr"].is_number(), record["kind"] == "step", "{record}");
        assert_eq!(record["format_version"], 3);
        if record["kind"] == "epoch" {
            assert_eq!((&record["data"]["samples"], &record["data"]["skipped"]), (&150.into(), &0.into()));
            assert!(record["data"]["verdict"].as_str().unwrap().contains("-bound"), "{record}");
        }
    }

    let table = fs::read_to_string(run.join("metrics.csv")).unwrap();
    assert!(table.starts_with("kind,step,epoch,split,seconds,lr,"), "{table}");
    assert_eq!(table.lines().count(), 1 + records.len(), "a row for each record, the test's too");
    let mut events = fs::read_dir(run.join("tensorboard")).unwrap().map(|entry| entry.unwrap());
    assert!(events.next().unwrap().file_name().to_str().unwrap().starts_with("events.out.tfevents."));
    assert!(events.next().is_none(), "one file for one process");

    for link in ["last", "best"] {
        let checkpoint = run.join("checkpoints").join(link);
        assert!(fs::read_link(&checkpoint).unwrap().to_str().unwrap().starts_with("step-"));
        for file in ["manifest.json", "state.json"] {
            assert_eq!(json(&checkpoint.join(file))["format_version"], 3);
        }
    }
    assert!(!run.join("checkpoints/step-0").exists(), "only the last two and the best are kept");

    let report = fs::read_to_string(run.join("report.html")).unwrap();
    for part in
        ["Loss", "Accuracy", "Confusion matrix", "waiting for data", "Recognised", "Taken for", "<svg"]
    {
        assert!(report.contains(part), "the report has no {part}");
    }
    let foreign = report.replace("http://www.w3.org/2000/svg", "");
    assert!(!foreign.contains("http") && !foreign.contains("<script src"), "the report needs other files");
    assert!(!report.contains("refresh"), "a finished run's report does not change any more");

    // Any picture will do, whatever its size, colours and name.
    let picture = run.join("picture.unknown");
    let drawn = GrayImage::from_fn(90, 60, |x, _| [if (30..60).contains(&x) { 40 } else { 255 }].into());
    drawn.save_with_format(&picture, image::ImageFormat::Png).unwrap();
    let said = succeed(&["--run-dir", &name, "--predict", picture.to_str().unwrap()]);
    assert_eq!(said.lines().count(), 3, "{said}");
    assert!(said.lines().all(|line| line.ends_with(" %")), "{said}");
}

#[test]
fn losses_are_the_same_with_any_number_of_workers() {
    let runs = ["0", "0", "1", "4"].map(|workers| {
        let (_folder, run, name) = folder();
        let recipe = ["--limit-train", "1600", "--limit-test", "8", "--batch-size", "8", "--epochs", "1"];
        let random =
            ["--augment", "--dropout", "0.3", "--seed", "3", "--workers", workers, "--run-dir", &name];
        succeed(&[&recipe[..], &random].concat());
        (losses(&run), fs::read(run.join("checkpoints/last/model.safetensors")).unwrap())
    });
    assert_eq!(runs[0].0.len(), 200);
    for (index, run) in runs.iter().enumerate() {
        assert_eq!(run.0, runs[0].0, "run {index}");
        assert_eq!(run.1, runs[0].1, "run {index} ends with other weights");
    }
}

#[test]
fn settings_matter() {
    let run = |extra: &[&str]| {
        let (_folder, run, name) = folder();
        let recipe = ["--limit-train", "24", "--limit-test", "8", "--batch-size", "8", "--epochs", "1"];
        succeed(&[&recipe[..], extra, &["--run-dir", &name]].concat());
        losses(&run)
    };
    let plain = run(&[]);
    for extra in [&["--augment"][..], &["--dropout", "0.5"], &["--seed", "1"], &["--lr", "0.03"]] {
        let other = run(extra);
        assert_eq!(other.len(), plain.len());
        assert_ne!(other, plain, "{extra:?} changes nothing");
        assert_eq!(run(extra), other, "{extra:?} is not repeatable");
    }
}

#[cfg(unix)]
#[test]
fn a_console_that_is_gone_does_not_stop_the_training() {
    let (_folder, run, name) = folder();
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = training();
    command.args([
        "--limit-train",
        "24",
        "--limit-test",
        "8",
        "--batch-size",
        "8",
        "--epochs",
        "1",
        "--run-dir",
        &name,
    ]);
    let status = command.stdout(full.try_clone().unwrap()).stderr(full).status().unwrap();
    assert!(status.success());
    assert!(run.join("summary.json").exists());
}

#[cfg(unix)]
#[test]
fn a_second_signal_ends_the_run_at_once() {
    let (_folder, run, name) = folder();
    // Steps of some seconds each: the run cannot end by itself between the two signals.
    let recipe = ["--limit-train", "8192", "--limit-test", "8", "--batch-size", "4096", "--epochs", "2"];
    let running = Running::start(&[&["--run-dir", &name][..], &recipe].concat());
    let begun = Instant::now();
    while !run.join("checkpoints/last").exists() {
        assert!(begun.elapsed() < Duration::from_secs(120), "no checkpoint before the first step");
        sleep(Duration::from_millis(2));
    }
    running.signal("-INT");
    sleep(Duration::from_millis(200));
    running.signal("-TERM");
    let output = running.output();
    let code = std::os::unix::process::ExitStatusExt::signal(&output.status);
    assert!(code.is_some(), "ended by {:?}", output.status);
    assert!(run.join("checkpoints/last/manifest.json").exists());
}

#[test]
fn bad_input_is_one_line_that_says_what_and_where() {
    let (folder, run, name) = folder();
    let small = ["--limit-train", "20", "--limit-test", "10", "--batch-size", "10", "--epochs", "1"];
    succeed(&[&["--run-dir", &name][..], &small].concat());
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/fashion-mnist");

    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let spoilt = |name: &str, file: &str, contents: &[u8]| {
        let spoilt = folder.path().join(name);
        fs::create_dir(&spoilt).unwrap();
        for entry in fs::read_dir(&data).unwrap().map(Result::unwrap) {
            fs::copy(entry.path(), spoilt.join(entry.file_name())).unwrap();
        }
        fs::write(spoilt.join(file), contents).unwrap();
        spoilt.to_str().unwrap().to_owned()
    };
    let images = "train-images-idx3-ubyte.gz";
    let labels = "train-labels-idx1-ubyte.gz";
    let cut = spoilt("cut", images, &fs::read(data.join(images)).unwrap()[..100_000]);
    let foreign = spoilt("foreign", images, b"<html>not found</html>");
    let other = spoilt("other", labels, &fs::read(data.join("t10k-labels-idx1-ubyte.gz")).unwrap());
    fs::create_dir(at("shelf")).unwrap();
    fs::write(at("shelf/book"), "").unwrap();
    // Ten images, and a JPEG that is cut off.
    let few = spoilt(
        "few",
        images,
        &[&[0, 0, 8, 3, 0, 0, 0, 10, 0, 0, 0, 28, 0, 0, 0, 28][..], &[0; 7840]].concat(),
    );
    fs::write(Path::new(&few).join(labels), [0, 0, 8, 1, 0, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).unwrap();
    let half = at("half.jpg");
    let mut jpeg = std::io::Cursor::new(Vec::new());
    GrayImage::new(64, 64).write_to(&mut jpeg, image::ImageFormat::Jpeg).unwrap();
    fs::write(&half, &jpeg.get_ref()[..jpeg.get_ref().len() / 3]).unwrap();
    let in_file = at("run/config.json/run");
    let picture = at("run/summary.json");
    let copy = |name: &str| {
        let copied = Command::new("cp").arg("-a").arg(&run).arg(at(name)).status().unwrap();
        assert!(copied.success());
        PathBuf::from(at(name))
    };
    // None of the checkpoints is good: of one that is, a resume makes use.
    let checkpoints = |run: PathBuf| {
        let entries = fs::read_dir(run.join("checkpoints")).unwrap().map(|entry| entry.unwrap().path());
        let all: Vec<_> = entries.filter(|path| path.is_dir() && !path.is_symlink()).collect();
        assert_eq!(all.len(), 2);
        all
    };
    for checkpoint in checkpoints(copy("missing")) {
        fs::remove_dir_all(checkpoint).unwrap();
    }
    for checkpoint in checkpoints(copy("damaged")) {
        let damaged = checkpoint.join("model.optimizer.safetensors");
        let mut bytes = fs::read(&damaged).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&damaged, bytes).unwrap();
    }
    // A whole checkpoint of a network of another shape.
    let alien = copy("alien").join("checkpoints/step-2");
    let device = burn::tensor::Device::default();
    let narrow = firebox::models::vision::CnnConfig::new(10).init(&device).unwrap();
    let mut task = firebox::train::task::TaskState::default();
    task.insert("model", firebox::weights::StateDict::of(&narrow));
    task.insert("model.optimizer", firebox::weights::StateDict::default());
    let checkpoints = firebox::train::checkpoint::Checkpoints::new(alien.parent().unwrap());
    let (mut state, _) = checkpoints.load("last").unwrap();
    state.step = 3;
    checkpoints.save(&state, &task).unwrap();

    let cases: &[(&[&str], i32, &[&str])] = &[
        (&["--batch-size", "0"], 2, &["--batch-size", "expected at least 1", "'0'"]),
        (&["--lr", "nan"], 2, &["--lr", "expected a number above 0", "nan"]),
        (&["--lr", "0"], 2, &["--lr", "expected a number above 0"]),
        (&["--dropout", "1"], 2, &["--dropout", "expected a number from 0, below 1"]),
        (&["--epochs", "0"], 2, &["--epochs"]),
        (&["--nonsense"], 2, &["--nonsense"]),
        (&["--log", "csv,parchment"], 2, &["--log", "parchment"]),
        (&["--log", "csv", "--predict", &picture], 2, &["--log", "--predict"]),
        (&["--resume", "--overwrite", "--run-dir", &name], 2, &["--resume", "--overwrite"]),
        (&["--epochs", "18446744073709551615"], 2, &["--epochs", "1000000"]),
        (&["--workers", "18446744073709551615"], 1, &["workers", "at most 1024"]),
        (&["--threads", "0"], 2, &["--threads", "expected at least 1"]),
        (&["--threads", "1025"], 1, &["threads", "from 1 to 1024", "1025"]),
        (&["--backend", "abacus"], 1, &["no backend abacus", "flex"]),
        (&["--data-dir", "/nowhere"], 1, &["/nowhere/train-images-idx3-ubyte", "no such file"]),
        (&["--data-dir", &cut], 1, &[&cut, images, "damaged or cut short"]),
        (&["--data-dir", &foreign], 1, &[&foreign, images, "not an IDX file", "expected magic"]),
        (&["--data-dir", &other], 1, &[&other, labels, "expected 60000 labels", "got 10000"]),
        (&["--run-dir", &name], 1, &[&name, "already used", "--resume", "--overwrite"]),
        (&["--run-dir", &in_file], 1, &[&in_file, "Not a directory"]),
        (&["--run-dir", &at("shelf")], 1, &["shelf: it holds files, but no run", "new or empty"]),
        (&["--run-dir", &at("none"), "--resume"], 1, &[&at("none"), "no run"]),
        (&["--run-dir", &at("missing"), "--resume"], 1, &["missing/checkpoints/last", "no such checkpoint"]),
        (&["--run-dir", &at("damaged"), "--resume"], 1, &["step-2/model.optimizer.safetensors", "damaged"]),
        (&["--run-dir", &at("damaged"), "--predict", &picture], 1, &["step-2/model.optimizer", "damaged"]),
        (
            &["--run-dir", &at("alien"), "--resume"],
            1,
            &["alien/checkpoints/last", "conv1.conv.weight: expected shape [32, 1, 3, 3], got [32, 3, 3, 3]"],
        ),
        (&["--run-dir", &name, "--resume", "--batch-size", "20"], 1, &["--batch-size", "10", "20"]),
        (&["--run-dir", &name, "--predict", &picture], 1, &[&picture, "not a PNG or JPEG"]),
        (&["--run-dir", &name, "--predict", &half], 1, &[&half]),
        (&["--run-dir", &name, "--predict", "/nowhere.png"], 1, &["/nowhere.png"]),
        (&["--run-dir", &name, "--predict", &picture, "--lr", "1"], 1, &["--lr", "no effect with --predict"]),
        (&["--run-dir", &at("shelf"), "--overwrite"], 1, &["shelf", "no run"]),
        (&["--data-dir", &few], 1, &[&few, "expected images, got 10 to train, 0 to validate"]),
        #[cfg(not(feature = "cuda"))]
        (&["--backend", "cuda"], 1, &["this build has no backend cuda", "flex"]),
    ];
    let before = fs::read(run.join("metrics.jsonl")).unwrap();
    for (arguments, code, parts) in cases {
        // Should one of them begin to train after all, it is over soon and leaves nothing in this folder.
        let mut arguments = arguments.to_vec();
        let fresh = at("fresh");
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
    assert_eq!(fs::read(run.join("metrics.jsonl")).unwrap(), before, "a refused run changed the old one");
    let output = outcome(&["--overwrite"]);
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    let again = succeed(&[&["--run-dir", &name, "--overwrite"][..], &small].concat());
    assert!(again.contains("test accuracy"));
}

const LONG: [&str; 8] = ["--limit-train", "640", "--limit-test", "16", "--batch-size", "8", "--epochs", "2"];

/// A run in the background, killed when it goes out of scope.
struct Running(Child);

impl Running {
    fn start(arguments: &[&str]) -> Self {
        Running::by(&mut training(), arguments)
    }

    fn by(command: &mut Command, arguments: &[&str]) -> Self {
        Running(command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }

    fn until_step(&self, run: &Path, step: usize) {
        let begun = Instant::now();
        while fs::read_to_string(run.join("metrics.jsonl")).map_or(0, |text| text.lines().count()) < step {
            assert!(begun.elapsed() < Duration::from_secs(120), "step {step} was not reached");
            sleep(Duration::from_millis(2));
        }
    }

    fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.0.id().to_string()]).status().unwrap().success());
    }

    fn output(mut self) -> Output {
        let status = self.0.wait().unwrap();
        let read = |pipe: Option<&mut dyn std::io::Read>| {
            let mut bytes = Vec::new();
            pipe.unwrap().read_to_end(&mut bytes).unwrap();
            bytes
        };
        let stdout = read(self.0.stdout.as_mut().map(|pipe| pipe as _));
        let stderr = read(self.0.stderr.as_mut().map(|pipe| pipe as _));
        Output { status, stdout, stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(unix)]
#[test]
fn a_stopped_or_killed_run_goes_on_to_the_same_end() {
    let (_whole_folder, whole, whole_name) = folder();
    succeed(&[&["--run-dir", &whole_name][..], &LONG].concat());
    let weights = |run: &Path| fs::read(run.join("checkpoints/last/model.safetensors")).unwrap();
    for (signal, code, after) in [("-INT", Some(130), 30), ("-TERM", Some(143), 95), ("-KILL", None, 110)] {
        // A name that a shell would take for several.
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("the \"run's\" $folder");
        let name = run.to_str().unwrap().to_owned();
        // As a person starts it who doesn't do so by cargo.
        let mut command = training();
        let arguments = [&["--run-dir", &name, "--log", "csv"][..], &LONG].concat();
        let running = Running::by(command.env_remove("CARGO"), &arguments);
        running.until_step(&run, after);
        running.signal(signal);
        let output = running.output();
        let (said, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), code, "{signal}: {told}");
        if code.is_some() {
            assert!(told.contains(&format!("stopped by SIG{} after step ", &signal[1..])), "{told}");
            assert!(told.contains("checkpoint saved: "), "{told}");
        }
        let line = said.lines().find_map(|line| line.strip_prefix("go on with: "));
        assert_eq!(line.is_some(), code.is_some(), "{said}");
        assert!(!run.join("summary.json").exists());
        let report = fs::read_to_string(run.join("report.html")).unwrap();
        let says = if code.is_some() { "a resume goes on" } else { "Running: step " };
        assert!(
            report.contains(says) && report.contains("refresh") == code.is_none(),
            "{signal}: {report:.900}"
        );
        match line {
            // The line as it is said, pasted.
            Some(line) => {
                assert!(line.ends_with(" --log csv"), "{line}");
                let mut shell = Command::new("sh");
                shell.arg("-c").arg(format!("{line} --workers 2 --threads 1"));
                shell.current_dir(training().get_current_dir().unwrap());
                let output = shell.output().unwrap();
                let told = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success(), "{line}: {told}");
                assert!(told.contains("going on after step "), "{told}");
            }
            None => {
                succeed(&[
                    "--run-dir",
                    &name,
                    "--resume",
                    "--workers",
                    "2",
                    "--threads",
                    "1",
                    "--log",
                    "csv",
                ]);
            }
        }
        let rows = fs::read_to_string(run.join("metrics.csv")).unwrap().lines().count();
        let records = fs::read_to_string(run.join("metrics.jsonl")).unwrap().lines().count();
        assert_eq!(rows, 1 + records, "{signal}");
        assert_eq!(losses(&run), losses(&whole), "{signal}");
        assert_eq!(weights(&run), weights(&whole), "{signal}");
    }
}

#[cfg(unix)]
#[test]
fn a_run_that_cargo_has_started_is_gone_on_with_by_cargo() {
    let (_folder, run, name) = folder();
    let mut command = training();
    let arguments = [&["--run-dir", &name][..], &LONG].concat();
    let running = Running::by(command.env("CARGO", "/somewhere/cargo"), &arguments);
    running.until_step(&run, 3);
    running.signal("-INT");
    let output = running.output();
    let said = String::from_utf8_lossy(&output.stdout);
    let program = training().get_program().to_owned();
    let profile = Path::new(&program).components().rev().nth(2).unwrap();
    let release = if profile.as_os_str() == "release" { "--release " } else { "" };
    let begins = format!("go on with: cargo run {release}");
    let line = said.lines().find(|line| line.starts_with(&begins)).expect(&said);
    assert!(line.ends_with(&format!("--example training -- --resume --run-dir {name}")), "{line}");
}

#[test]
fn a_finished_run_goes_on_for_more_epochs() {
    let (_folder, run, name) = folder();
    let small = ["--limit-train", "40", "--limit-test", "10", "--batch-size", "10", "--epochs", "3"];
    succeed(&[&["--run-dir", &name][..], &small].concat());
    assert_eq!(losses(&run).len(), 12);
    let output = outcome(&["--run-dir", &name, "--resume", "--epochs", "5"]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    let steps: Vec<_> = losses(&run).iter().map(|(step, _)| *step).collect();
    assert_eq!(steps, (1..=20).collect::<Vec<_>>());
    assert_eq!(
        (&json(&run.join("config.json"))["epochs"], &json(&run.join("summary.json"))["epochs"]),
        (&5.into(), &5.into())
    );
    // Its cycle is that of five epochs from here on; that is said, and before the line that it is a reason for.
    let lines: Vec<_> = told.lines().collect();
    let warned = lines
        .iter()
        .position(|line| line.starts_with("warning: ") && line.contains("another schedule than before"));
    let goes_on = lines.iter().position(|line| *line == "going on after step 12 of 20");
    assert!(warned.is_some() && goes_on.is_some() && warned < goes_on, "{told}");
    assert!(told.contains("epoch 5/5 train: ") && told.contains("  data, 40 samples in "), "{told}");
    assert!(!told.contains("epoch 0"), "people count from 1: {told}");
    // Nothing else may change, and what may is named.
    let output = outcome(&["--run-dir", &name, "--resume", "--lr", "0.1"]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    for part in
        ["--lr: the run was begun with 0.003, got 0.1", "what may change is", "--epochs", "--data-dir"]
    {
        assert!(told.contains(part) && told.lines().count() == 1, "{part}: {told}");
    }
    assert!(!told.contains("--seed"), "{told}");
}

#[cfg(unix)]
#[test]
fn a_resume_without_the_link_says_where_it_goes_on_and_why() {
    let (_folder, run, name) = folder();
    let small = ["--limit-train", "40", "--limit-test", "10", "--batch-size", "10", "--epochs", "2"];
    succeed(&[&["--run-dir", &name][..], &small].concat());
    fs::remove_file(run.join("checkpoints/last")).unwrap();
    let output = outcome(&["--run-dir", &name, "--resume"]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    let lines: Vec<_> = told.lines().collect();
    let warning = format!(
        "warning: {name}/checkpoints/last: no such checkpoint; the newest checkpoint that is whole is taken: going back to step 8"
    );
    assert_eq!(lines[..2], [warning.as_str(), "going on after step 8 of 8"], "{told}");
    assert_eq!(fs::read_link(run.join("checkpoints/last")).unwrap(), Path::new("step-8"));
}
