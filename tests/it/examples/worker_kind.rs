//! The examples with worker processes: the same bytes, killed workers, Ctrl-C for the whole group.

#![cfg(target_os = "linux")]

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::{course, example, losses, training};
use tempfile::TempDir;

const LONG: [&str; 9] =
    ["--limit-train", "640", "--limit-test", "16", "--batch-size", "8", "--epochs", "2", "--augment"];
const PROCESSES: [&str; 4] = ["--worker-kind", "processes", "--workers", "2"];

fn succeed(mut command: Command, arguments: &[&str]) {
    let output = command.args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn folder() -> (TempDir, PathBuf, String) {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let text = run.to_str().unwrap().to_owned();
    (folder, run, text)
}

fn weights(run: &Path) -> Vec<u8> {
    fs::read(run.join("checkpoints/last/model.safetensors")).unwrap()
}

/// The processes whose parent is `parent`.
fn children(parent: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| parent_of(*pid) == Some(parent)).collect()
}

/// The parent of a process, if it runs.
fn parent_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may have anything in it.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    fields.next()?.parse().ok().filter(|_| state != "Z")
}

/// A run in a process group of its own, as a shell starts one; killed when it goes out of scope.
struct Running(Child);

impl Running {
    fn start(arguments: &[&str]) -> Self {
        let mut command = training();
        command.args(arguments).process_group(0).stdout(Stdio::null()).stderr(Stdio::null());
        Running(command.spawn().unwrap())
    }

    fn until_step(&mut self, run: &Path, step: usize) {
        let begun = Instant::now();
        while fs::read_to_string(run.join("metrics.jsonl")).map_or(0, |text| text.lines().count()) < step {
            assert!(self.0.try_wait().unwrap().is_none(), "the run ended before step {step}");
            assert!(begun.elapsed() < Duration::from_secs(120), "step {step} was not reached");
            sleep(Duration::from_millis(2));
        }
    }

    /// The loader's workers.
    fn workers(&self) -> Vec<u32> {
        let workers = children(self.0.id());
        assert!(!workers.is_empty(), "expected worker processes");
        workers
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn signal(name: &str, target: &str) {
    assert!(Command::new("kill").args([name, "--", target]).status().unwrap().success());
}

#[test]
fn every_example_is_the_same_with_worker_processes() {
    let small = |example| match example {
        "training" => &["--augment", "--limit-train", "96", "--limit-test", "32", "--epochs", "2"][..],
        "gan" => &["--limit-train", "64", "--limit-test", "16", "--epochs", "1", "--judge-epochs", "1"],
        "text" => &[
            "--hidden",
            "8",
            "--embedding",
            "4",
            "--limit-train",
            "40000",
            "--limit-test",
            "8000",
            "--epochs",
            "1",
        ],
        "forecast" => &["--hidden", "4", "--hours", "4000", "--past", "12", "--epochs", "1"],
        _ => &[
            "--hidden",
            "8",
            "--embedding",
            "4",
            "--limit-train",
            "300",
            "--limit-test",
            "20",
            "--epochs",
            "1",
        ],
    };
    for name in ["training", "gan", "text", "forecast", "pronounce"] {
        let (_threads_folder, threads, threads_name) = folder();
        let (_processes_folder, processes, processes_name) = folder();
        succeed(example(name), &[&["--run-dir", &threads_name][..], small(name)].concat());
        succeed(example(name), &[&["--run-dir", &processes_name], small(name), &PROCESSES].concat());
        assert_eq!(course(&processes), course(&threads), "{name}");
        let parts = fs::read_dir(threads.join("checkpoints/last")).unwrap().flatten();
        for part in parts.filter(|part| part.path().extension().is_some_and(|kind| kind == "safetensors")) {
            let other = processes.join("checkpoints/last").join(part.file_name());
            assert!(fs::read(part.path()).unwrap() == fs::read(&other).unwrap(), "{}", other.display());
        }
    }
}

#[test]
fn killed_workers_change_nothing() {
    let (_whole_folder, whole, whole_name) = folder();
    succeed(training(), &[&["--run-dir", &whole_name][..], &LONG].concat());
    let (_folder, run, name) = folder();
    let mut running = Running::start(&[&["--run-dir", &name][..], &LONG, &PROCESSES].concat());
    for step in [10, 40, 90] {
        running.until_step(&run, step);
        for worker in running.workers() {
            signal("-KILL", &worker.to_string());
        }
    }
    assert!(running.0.wait().unwrap().success());
    assert_eq!(losses(&run), losses(&whole));
    assert!(weights(&run) == weights(&whole));
}

#[test]
fn ctrl_c_for_the_whole_group_stops_in_order_and_threads_go_on() {
    let (_whole_folder, whole, whole_name) = folder();
    succeed(training(), &[&["--run-dir", &whole_name][..], &LONG].concat());
    let (_folder, run, name) = folder();
    let mut running = Running::start(&[&["--run-dir", &name][..], &LONG, &PROCESSES].concat());
    running.until_step(&run, 30);
    let workers = running.workers();
    // As the terminal sends it, to the run and whatever else is in its group.
    signal("-INT", &format!("-{}", running.0.id()));
    assert_eq!(running.0.wait().unwrap().code(), Some(130));
    assert!(run.join("checkpoints/last/manifest.json").is_file());
    assert!(!run.join("summary.json").exists());
    let begun = Instant::now();
    while workers.iter().any(|worker| parent_of(*worker).is_some()) {
        assert!(begun.elapsed() < Duration::from_secs(5), "a worker outlives its run");
        sleep(Duration::from_millis(5));
    }

    let threads = ["--run-dir", &name, "--resume", "--worker-kind", "threads"];
    succeed(training(), &threads);
    assert_eq!(losses(&run), losses(&whole));
    assert!(weights(&run) == weights(&whole));
}
