//! Examples as tests run them.

mod arguments;
mod backends;
mod dashboard;
mod earlier_runs;
mod forecast;
mod gan;
mod kills;
mod pronounce;
mod recipe;
mod solar;
mod text;
mod training;
mod worker_kind;

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// An example, built by the same `cargo test`.
pub(super) fn example(name: &str) -> Command {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.set_file_name(format!("examples/{name}{}", std::env::consts::EXE_SUFFIX));
    assert!(path.is_file(), "{} is missing: `cargo build --example {name}`", path.display());
    let mut command = Command::new(path);
    command.current_dir(env!("CARGO_TARGET_TMPDIR")).env("RUST_BACKTRACE", "1");
    command
}

pub(super) fn training() -> Command {
    example("training")
}

/// (step, loss) of every training step recorded.
pub(super) fn losses(run: &Path) -> Vec<(u64, f64)> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let records = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let steps = records.filter(|record| record["kind"] == "step");
    steps.map(|record| (record["step"].as_u64().unwrap(), record["loss"].as_f64().unwrap())).collect()
}

/// All that is recorded, of steps, evaluations and epochs.
pub(super) fn records(run: &Path) -> Vec<Value> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// All that is recorded, except what time decides and what only one process has seen.
pub(super) fn course(run: &Path) -> Vec<Value> {
    let keep = |mut record: Value| {
        for timed in ["seconds", "samples_per_s", "data_wait_s", "data"] {
            record.as_object_mut().unwrap().remove(timed);
        }
        record
    };
    records(run).into_iter().map(keep).collect()
}

/// The state in the last checkpoint; null while there is none.
pub(super) fn last_state(run: &Path) -> Value {
    let text = fs::read_to_string(run.join("checkpoints/last/state.json")).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}
