//! Burn's dashboard on a terminal whose screen a test can read: `script` of util-linux makes one.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::program::{losses, training};

/// The training example with the dashboard, whose keys come from standard input and whose screen goes to
/// standard output.
fn on_a_terminal(run: &Path, recipe: &str) -> Option<Child> {
    if Command::new("script").arg("--version").output().is_err() {
        eprintln!("skipped: no `script` of util-linux here");
        return None;
    }
    let example = training();
    // A new terminal has no size, and nothing is drawn on it. A run that hangs is ended, and is then no
    // success.
    let line = format!(
        "stty cols 120 rows 40; exec timeout --foreground 120 '{}' --dashboard --run-dir '{}' {recipe}",
        example.get_program().to_str().unwrap(),
        run.display()
    );
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
    script
        .current_dir(example.get_current_dir().unwrap())
        .env("SHELL", "/bin/sh")
        .env("TERM", "xterm-256color");
    Some(script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap())
}

/// The screen while the dashboard had it, and what is said after that.
fn screens(written: Vec<u8>) -> (String, String) {
    let text = String::from_utf8_lossy(&written).into_owned();
    let (_, text) = text.split_once("\x1b[?1049h").expect("a screen of its own");
    let (dashboard, after) = text.split_once("\x1b[?1049l").expect("the screen is given back");
    (dashboard.to_owned(), after.to_owned())
}

#[test]
fn the_dashboard_shows_a_run_and_gives_the_terminal_back() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let recipe = "--limit-train 6400 --limit-test 64 --epochs 1";
    let Some(script) = on_a_terminal(&run, recipe) else { return };
    let output = script.wait_with_output().unwrap();
    let (dashboard, after) = screens(output.stdout);
    assert!(output.status.success(), "{}: {after}", output.status);
    for word in ["Metrics", "Progress", "Controls", "loss", "accuracy"] {
        assert!(dashboard.contains(word), "{word}: {dashboard:?}");
    }
    // What a progress bar would have said of the epoch, and the example's own words.
    for word in ["epoch 1/1 train: ", "epoch 1/1 valid: ", "test accuracy: "] {
        assert!(after.contains(word), "{word}: {after}");
    }
    assert_eq!(losses(&run).len(), 100);
}

#[test]
fn the_key_to_stop_leaves_a_checkpoint_as_after_ctrl_c() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let Some(mut script) = on_a_terminal(&run, "--limit-train 6400 --limit-test 64 --epochs 1000") else {
        return;
    };
    let begun = Instant::now();
    while fs::read_to_string(run.join("metrics.jsonl")).map_or(0, |text| text.lines().count()) < 5 {
        assert!(begun.elapsed() < Duration::from_secs(60), "no step is taken");
        assert!(script.try_wait().unwrap().is_none(), "the run is over");
        sleep(Duration::from_millis(10));
    }
    // Quit, and of the answers that are then asked for: stop the training.
    script.stdin.as_mut().unwrap().write_all(b"qs").unwrap();
    let output = script.wait_with_output().unwrap();
    let (_, after) = screens(output.stdout);
    assert_eq!(output.status.code(), Some(130), "{after}");
    assert!(after.contains("stopped by SIGINT after step "), "{after}");
    assert!(run.join("checkpoints/last/manifest.json").is_file());
}
