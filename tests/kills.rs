//! The training example killed at random moments, during saves too, and resumed: it ends where it would have ended.

#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![cfg(unix)]

mod common;

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::{losses, training};
use firebox::data::SampleRng;

/// 300 steps of two batches each, with all that draws, averages or schedules.
const RECIPE: [&str; 20] = [
    "--limit-train",
    "2400",
    "--limit-test",
    "64",
    "--batch-size",
    "8",
    "--epochs",
    "2",
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

#[test]
fn a_run_killed_anywhere_ends_where_it_would_have_ended() {
    for (kernels, seed) in [("on", 1), ("off", 2)] {
        let folder = tempfile::tempdir().unwrap();
        let [whole, killed] = ["whole", "killed"].map(|name| folder.path().join(name));
        let begin = |run: &Path| {
            let place = ["--augment", "--run-dir", run.to_str().unwrap()];
            start(kernels, &[&RECIPE[..], &place].concat())
        };
        finish(begin(&whole));
        assert_eq!(losses(&whole).len(), 300);

        let mut rng = SampleRng::new(seed, 0, 0);
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
            drop(run);
            done = steps(&killed);
            // The process that goes on is another one in what doesn't count.
            let workers = ["0", "1", "2", "4"][rng.below(4) as usize];
            let threads = ["1", "2", "3"][rng.below(3) as usize];
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
        assert_eq!(losses(&killed), losses(&whole), "kernels {kernels}");
        for part in ["model", "model.optimizer", "model.ema"] {
            let [killed, whole] = [&killed, &whole]
                .map(|run| fs::read(run.join(format!("checkpoints/last/{part}.safetensors"))).unwrap());
            assert!(killed == whole, "kernels {kernels}: {part} differs");
        }
        println!("kernels {kernels}: {} kills, {in_saves} of them during a save; the same bytes", kills());
    }
}
