//! Other backends than the default one compute the same losses. Each test needs a build with the backend's feature:
//! `cargo build --features ndarray,wgpu --example training`, then
//! `cargo test --features ndarray,wgpu --test backends`.

#![cfg(any(feature = "ndarray", feature = "wgpu"))]
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may panic, and says what it skips")]

use std::fs;
use std::process::{Command, Output};

use serde_json::Value;

fn training(arguments: &[&str]) -> Command {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.set_file_name(format!("examples/training{}", std::env::consts::EXE_SUFFIX));
    assert!(path.is_file(), "{} is missing: build the example first", path.display());
    let mut command = Command::new(path);
    command.args(arguments);
    command
}

/// The losses of the first training steps, batches of 64.
fn losses(backend: &str, steps: usize) -> Result<Vec<f64>, Output> {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let images = (64 * steps).to_string();
    let recipe = ["--epochs", "1", "--limit-train", &images, "--limit-test", "8", "--backend", backend];
    let output = training(&recipe).arg("--run-dir").arg(&run).output().unwrap();
    if !output.status.success() {
        return Err(output);
    }
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let records = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    Ok(records.filter(|record| record["kind"] == "step").map(|r| r["loss"].as_f64().unwrap()).collect())
}

fn assert_same_losses(backend: &str, steps: usize) {
    let flex = losses("flex", steps).unwrap();
    let other = match losses(backend, steps) {
        Ok(losses) => losses,
        Err(output) => {
            let text = String::from_utf8_lossy(&output.stderr);
            assert!(text.contains("this machine has no device"), "{text}");
            eprintln!("skipped: {backend} has no device on this machine");
            return;
        }
    };
    eprintln!("{backend}: {other:.5?}\nflex: {flex:.5?}");
    assert_eq!((flex.len(), other.len()), (steps, steps));
    for (step, (a, b)) in std::iter::zip(&flex, &other).enumerate() {
        assert!((a - b).abs() <= 1e-3, "step {step}: flex {a}, {backend} {b}");
    }
}

#[cfg(feature = "ndarray")]
#[test]
fn ndarray_gives_the_losses_of_flex() {
    assert_same_losses("ndarray", 5);
}

#[cfg(feature = "wgpu")]
#[test]
fn wgpu_gives_the_losses_of_flex() {
    assert_same_losses("wgpu", 3);
}

#[cfg(all(feature = "wgpu", target_os = "linux"))]
#[test]
fn wgpu_without_an_adapter_is_one_line() {
    // No Vulkan driver and no OpenGL one to be found.
    let nowhere =
        ["VK_DRIVER_FILES", "VK_ICD_FILENAMES", "__EGL_VENDOR_LIBRARY_FILENAMES", "LIBGL_DRIVERS_PATH"];
    let output =
        training(&["--backend", "wgpu"]).envs(nowhere.map(|name| (name, "/nowhere"))).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains("backend wgpu: this machine has no device for it; without one: flex"), "{text}");
}
