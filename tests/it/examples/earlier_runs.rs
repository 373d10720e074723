//! Run folders that were made before crates, settings and names changed: they are gone on with, and repeated, to the bytes that
//! their own programs came to. `tests/fixtures/runs/README.md` says how they were made.

use std::fs;
use std::path::{Path, PathBuf};

use firebox::weights::StateDict;
use serde_json::Value;

use super::example;

/// Each example with the flag and the place of its data.
const RUNS: [(&str, Option<[&str; 2]>); 3] = [
    ("forecast", None),
    ("text", Some(["--data", "datasets/pride-and-prejudice/pride-and-prejudice.txt.gz"])),
    ("pronounce", Some(["--data-dir", "datasets/cmudict"])),
];

/// Whether the machine that the fixtures were made on has AVX-512.
#[cfg(target_arch = "x86_64")]
const THEIR_AVX512: bool = false;

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().unwrap();
        if kind.is_symlink() {
            #[cfg(unix)]
            std::os::unix::fs::symlink(fs::read_link(&path).unwrap(), target).unwrap();
        } else if kind.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, target).unwrap();
        }
    }
}

/// Whether a checkpoint's numbers were computed with the instructions that those of the fixtures were: products of Burn's
/// use AVX-512 where a CPU has it, which the manifest doesn't tell.
fn has_their_instructions(checkpoint: &Path) -> bool {
    let text = fs::read_to_string(checkpoint.join("manifest.json")).unwrap();
    let manifest: Value = serde_json::from_str(&text).unwrap();
    #[cfg(target_arch = "x86_64")]
    let alike = std::arch::is_x86_feature_detected!("avx512f") == THEIR_AVX512;
    #[cfg(not(target_arch = "x86_64"))]
    let alike = false;
    alike && manifest.pointer("/origin/instructions") == Some(&Value::from("Avx2"))
}

/// Compares the tensors of two folders: bit for bit where both were computed with the same instructions.
fn assert_same(expected: &Path, got: &Path, same_instructions: bool) {
    let parts = fs::read_dir(expected).unwrap().flatten().map(|entry| entry.path());
    let parts: Vec<_> =
        parts.filter(|path| path.extension().is_some_and(|end| end == "safetensors")).collect();
    assert!(parts.len() >= 2, "{}", expected.display());
    for part in parts {
        let other = got.join(part.file_name().unwrap());
        if same_instructions {
            assert!(fs::read(&part).unwrap() == fs::read(&other).unwrap(), "{} differs", other.display());
            continue;
        }
        let [expected, got] = [&part, &other].map(|path| StateDict::read(path).unwrap());
        assert_eq!(expected.iter().count(), got.iter().count());
        for ((name, expected), (key, got)) in expected.iter().zip(got.iter()) {
            assert_eq!(name, key);
            let pairs = expected.to_f64_vec().into_iter().zip(got.to_f64_vec());
            for (expected, got) in pairs {
                assert!((expected - got).abs() < 1e-3, "{name}: {expected}, {got}");
            }
        }
    }
}

fn run(name: &str, arguments: &[&str], data: Option<[&str; 2]>) {
    let mut command = example(name);
    command.args(arguments).args(["--threads", "1", "--workers", "0"]);
    if let Some([flag, place]) = data {
        command.arg(flag).arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(place));
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/runs").join(name)
}

#[cfg(unix)]
#[test]
fn earlier_runs_are_gone_on_with_to_their_own_bytes() {
    for (name, data) in RUNS {
        let folder = tempfile::tempdir().unwrap();
        let (whole, made) = (folder.path().join("run"), fixture(name));
        copy(&made.join("run"), &whole);
        run(name, &["--run-dir", whole.to_str().unwrap(), "--resume", "--max-steps", "12"], data);
        let last = whole.join("checkpoints/last");
        assert_same(&made.join("resumed"), &last, has_their_instructions(&last));
    }
}

#[cfg(unix)]
#[test]
fn earlier_configs_repeat_their_runs() {
    for (name, data) in RUNS {
        let folder = tempfile::tempdir().unwrap();
        let (again, made) = (folder.path().join("run"), fixture(name));
        let config = made.join("run/config.json");
        run(name, &["--run-dir", again.to_str().unwrap(), "--config", config.to_str().unwrap()], data);
        let last = again.join("checkpoints/last");
        assert_same(&made.join("run/checkpoints/step-6"), &last, has_their_instructions(&last));
    }
}
