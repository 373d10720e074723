//! Other backends than the default one compute the same losses.

use std::process::Output;

use super::program;

/// Images a step. Few: the backends are built without optimization here.
const BATCH_SIZE: usize = 8;

/// The losses of the first training steps.
fn losses(backend: &str, steps: usize) -> Result<Vec<f64>, Output> {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let (batch_size, images) = (BATCH_SIZE.to_string(), (BATCH_SIZE * steps).to_string());
    let recipe = ["--epochs", "1", "--limit-train", &images, "--limit-test", "8", "--backend", backend];
    let recipe = [&recipe[..], &["--batch-size", &batch_size]].concat();
    let output = program::training().args(recipe).arg("--run-dir").arg(&run).output().unwrap();
    match output.status.success() {
        true => Ok(program::losses(&run).into_iter().map(|(_, loss)| loss).collect()),
        false => Err(output),
    }
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

#[test]
fn ndarray_gives_the_losses_of_flex() {
    assert_same_losses("ndarray", 3);
}

#[test]
fn wgpu_gives_the_losses_of_flex() {
    assert_same_losses("wgpu", 3);
}

#[cfg(target_os = "linux")]
#[test]
fn wgpu_without_an_adapter_is_one_line() {
    // No Vulkan driver and no OpenGL one to be found.
    let nowhere =
        ["VK_DRIVER_FILES", "VK_ICD_FILENAMES", "__EGL_VENDOR_LIBRARY_FILENAMES", "LIBGL_DRIVERS_PATH"];
    let output = program::training()
        .args(["--backend", "wgpu"])
        .envs(nowhere.map(|name| (name, "/nowhere")))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains("backend wgpu: this machine has no device for it; without one: flex"), "{text}");
}
