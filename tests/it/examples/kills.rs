//! The training example killed at random moments, during saves too, and resumed: it ends where it would have
//! ended.
//!
//! A few kills by default. The long form is `FIREBOX_KILLS=20 cargo test --test it kills::`, behind `cargo
//! build --example training`, since naming a test doesn't build the examples.

#![cfg(unix)]

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::{course, losses, training};
use firebox::data::SampleRng;

/// 150 steps an epoch, of two batches each, with all that draws, averages or schedules.
const RECIPE: [&str; 18] = [
    "--limit-train",
    "2400",
    "--limit-test",
    "64",
    "--batch-size",
    "8",
    "--accumulate",
    "2",
    "--save-steps",
    "9",
    "--dropout",
    "0.3",
    "--ema",
    "0.98",
    "--clip-norm",
    "1.5",
    "--seed",
    "6",
];

/// A run in the background, killed by SIGKILL when it goes out of scope.
struct Running(Child);

impl Running {
    /// The signal that ended it: the signal, unless it was over before.
    fn kill(mut self) -> ExitStatus {
        self.0.kill().unwrap();
        self.0.wait().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(kernels: &str, arguments: &[&str]) -> Running {
    let mut command = training();
    command.args(arguments).env("FIREBOX_KERNELS", kernels);
    Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

fn finish(mut run: Running) {
    assert!(run.0.wait().unwrap().success());
}

/// A checkpoint that is being written.
fn saving(run: &Path) -> bool {
    let entries = fs::read_dir(run.join("checkpoints")).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with(".step-"))
}

fn steps(run: &Path) -> usize {
    fs::read_to_string(run.join("metrics.jsonl")).map_or(0, |text| text.lines().count())
}

/// Twenty with `FIREBOX_KILLS=20`, which takes a minute or two; a few else.
fn kills() -> usize {
    std::env::var("FIREBOX_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(5)
}

/// One of some values that isn't the one up to now.
fn another<'v>(values: &[&'v str], now: &str, rng: &mut SampleRng) -> &'v str {
    let others: Vec<_> = values.iter().copied().filter(|value| *value != now).collect();
    others[rng.below(others.len() as u64) as usize]
}

#[test]
fn a_run_killed_anywhere_ends_where_it_would_have_ended() {
    for (kernels, seed) in [("on", 1), ("off", 2)] {
        let folder = tempfile::tempdir().unwrap();
        let [whole, killed] = ["whole", "killed"].map(|name| folder.path().join(name));
        // Long enough for the last kill to come before the end.
        let epochs = 2 + kills() / 10;
        let (mut workers, mut threads) = ("2", "2");
        let begin = |run: &Path| {
            let (place, epochs) = (run.to_str().unwrap(), epochs.to_string());
            let own = ["--augment", "--epochs", &epochs, "--run-dir", place];
            start(kernels, &[&RECIPE[..], &own, &["--workers", workers, "--threads", threads]].concat())
        };
        finish(begin(&whole));
        assert_eq!(losses(&whole).len(), 150 * epochs);

        let mut rng = SampleRng::from_seed(seed);
        let (mut in_saves, mut done) = (0, 0);
        let mut run = begin(&killed);
        for kill in 0..kills() {
            // Once it has a checkpoint and does something new.
            let begun = Instant::now();
            while !killed.join("checkpoints/last").exists() || steps(&killed) <= done {
                assert!(begun.elapsed() < Duration::from_secs(60), "nothing happens");
                assert!(run.0.try_wait().unwrap().is_none(), "kill {kill} comes after the end");
                sleep(Duration::from_millis(1));
            }
            // Every other kill waits for a checkpoint that is half written.
            let moment = Instant::now() + Duration::from_micros(rng.below(60_000));
            while Instant::now() < moment || kill % 2 == 1 && !saving(&killed) {
                if run.0.try_wait().unwrap().is_some() || begun.elapsed() > Duration::from_secs(60) {
                    break;
                }
            }
            in_saves += usize::from(saving(&killed));
            let status = run.kill();
            assert_eq!(status.signal(), Some(9), "kill {kill} comes after the end: {status}");
            done = steps(&killed);
            // The process that goes on is another one in what doesn't count.
            workers = another(&["0", "1", "2", "4"], workers, &mut rng);
            threads = another(&["1", "2", "3"], threads, &mut rng);
            let flags = [
                "--run-dir",
                killed.to_str().unwrap(),
                "--resume",
                "--workers",
                workers,
                "--threads",
                threads,
            ];
            run = start(kernels, &flags);
        }
        finish(run);
        assert!(in_saves > 0, "no kill came during a save");
        assert_eq!(course(&killed), course(&whole), "kernels {kernels}");
        for part in ["model", "model.optimizer", "model.ema"] {
            let [killed, whole] = [&killed, &whole]
                .map(|run| fs::read(run.join(format!("checkpoints/last/{part}.safetensors"))).unwrap());
            assert!(killed == whole, "kernels {kernels}: {part} differs");
        }
        println!("kernels {kernels}: {} kills, {in_saves} of them during a save; the same bytes", kills());
    }
}
