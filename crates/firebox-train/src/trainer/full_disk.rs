//! Runs whose disk gets full: at each change that they make, one after the other.

use std::fs;
use std::path::Path;

use burn::tensor::{Device, TensorData};
use burn_dataset::InMemDataset;
use firebox_data::{Loader, Scalar};
use firebox_models::StateDict;
use serde_json::Value;
use tempfile::TempDir;

use super::{Trainer, TrainerConfig};
use crate::checkpoint::Checkpoints;
use crate::error::{Error, ErrorKind};
use crate::files::Change;
use crate::files::fault::{TEXT, Watched};
use crate::metrics::Metrics;
use crate::run_dir::RunDir;
use crate::task::{Goal, StepContext, Task, TaskState};

/// A point that is drawn towards the numbers it sees, and gets better with each step.
struct Walk {
    place: Vec<f32>,
    steps: i64,
}

impl Task for Walk {
    type Batch = Vec<i64>;

    fn train_step(&mut self, batch: Vec<i64>, context: &StepContext) -> Result<Metrics, Error> {
        for (place, number) in self.place.iter_mut().zip(batch.iter().cycle()) {
            *place += context.lr as f32 * (*number as f32 - *place);
        }
        self.steps += 1;
        Ok(Metrics::of(batch.len()).with_mean("loss", f64::from(self.place[0])))
    }

    fn evaluator(&self) -> impl FnMut(Vec<i64>) -> Result<Metrics, Error> {
        let loss = 1.0 / self.steps as f64;
        move |batch| Ok(Metrics::of(batch.len()).with_mean("loss", loss))
    }

    fn monitor(&self) -> (&'static str, Goal) {
        ("loss", Goal::Minimise)
    }

    fn state(&self) -> Result<TaskState, Error> {
        let mut part = StateDict::default();
        part.insert("place", TensorData::new(self.place.clone(), [self.place.len()]));
        let mut state = TaskState::default();
        state.insert("walk", part);
        state.insert_value("steps", &self.steps)?;
        Ok(state)
    }

    fn load(&mut self, state: &TaskState) -> Result<(), Error> {
        let place = state.get("walk")?.get("place").map(|place| place.iter().collect());
        self.place = place.ok_or_else(|| Error::new(ErrorKind::Checkpoint, "no place"))?;
        self.steps = state.value("steps")?;
        Ok(())
    }
}

/// Two epochs of four steps. Every second one is saved, each time after the save before it is over, so that the changes of
/// the checkpoints' thread come in one order.
fn walk(run: RunDir, resume: bool) -> Result<TaskState, Error> {
    run.write_config(&serde_json::json!({}))?;
    let numbers = |count| {
        let numbers = InMemDataset::new((0..count).collect::<Vec<i64>>());
        let loader = Loader::builder(numbers).batch_size(3).shuffle(true).workers(0);
        loader.build(Scalar::<i64>::new(), |number, _, slot| {
            *slot = number;
            Ok(())
        })
    };
    let config = TrainerConfig { max_epochs: 2, validate_steps: Some(2), ..TrainerConfig::default() };
    let mut task = Walk { place: vec![0.0; 20], steps: 0 };
    let mut trainer = Trainer::new(&run, &Device::default()).config(config).schedule(0.3).resume(resume);
    trainer.fit(&mut task, &numbers(12)?, &numbers(3)?)?;
    task.state()
}

/// The records without what time decides.
fn records(text: &str) -> Vec<Value> {
    let parse = |line| {
        let mut record: Value = serde_json::from_str(line).unwrap();
        let fields = record.as_object_mut().unwrap();
        fields
            .retain(|name, _| !["seconds", "samples_per_s", "data_wait_s", "data"].contains(&name.as_str()));
        record
    };
    text.lines().map(parse).collect()
}

fn folder() -> TempDir {
    // Where waiting for the disk takes no time, if there is such a place.
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// What a run whose disk has failed leaves is good, and the run can go on.
fn goes_on(run: &Path, expected: &TaskState, all: &[Value], place: &str) {
    let checkpoints = Checkpoints::new(run.join("checkpoints"));
    let state = if fs::symlink_metadata(run.join("checkpoints/last")).is_ok() {
        let (loaded, damaged) = checkpoints.load_last().unwrap();
        assert!(damaged.is_empty(), "{place}: {damaged:?}");
        let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
        let counted = &text[..loaded.state.metrics_bytes as usize];
        assert!(counted.is_empty() || counted.ends_with('\n'), "{place}: {counted}");
        let counted = records(counted);
        assert_eq!(counted, all[..counted.len()], "{place}");
        walk(RunDir::open(run).unwrap().resume().unwrap(), true)
    } else {
        walk(RunDir::overwrite(run).unwrap(), false)
    };
    assert_eq!(&state.unwrap(), expected, "{place}");
    assert_eq!(records(&fs::read_to_string(run.join("metrics.jsonl")).unwrap()), all, "{place}");
    let left = fs::read_dir(run.join("checkpoints")).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = left.filter(|name| name.to_string_lossy().starts_with('.')).collect();
    assert!(left.is_empty(), "{place}: left over: {left:?}");
}

#[test]
fn a_disk_that_gets_full_anywhere_loses_neither_checkpoint_nor_records() {
    let whole = folder();
    let whole = whole.path().join("run");
    let watched = Watched::failing(&whole, 0..0);
    let expected = walk(RunDir::create(&whole).unwrap(), false).unwrap();
    let changes = watched.seen();
    assert!(changes.len() > 100, "only {} changes", changes.len());
    drop(watched);
    // The training thread waits for the disk before the first step and after the last one, and nowhere between.
    let waits = changes
        .iter()
        .filter(|(change, _, thread)| *change == Change::Sync && thread.as_deref() != Some("checkpoints"));
    let waits: Vec<_> =
        waits.map(|(_, path, _)| path.strip_prefix(&whole).unwrap().to_str().unwrap()).collect();
    assert_eq!(waits, ["config.json.part", "", "checkpoints/.last.part", "metrics.jsonl"]);
    let all = records(&fs::read_to_string(whole.join("metrics.jsonl")).unwrap());
    assert_eq!(all.len(), 8 + 2 + 4, "steps, epochs, evaluations");
    // Together, and each thread's in their own order.
    for part in ["", "checkpoints", "metrics.jsonl"] {
        // One change alone fails, or all from it on.
        for last in [false, true] {
            let mut changes = Vec::new();
            for number in 0.. {
                let folder = folder();
                let run = folder.path().join("run");
                let end = if last { usize::MAX } else { number + 1 };
                let watched = Watched::failing(&run.join(part), number..end);
                let result = RunDir::create(&run).and_then(|run| walk(run, false));
                let Some((change, path)) = watched.struck().first().cloned() else {
                    assert_eq!(result.unwrap(), expected);
                    break;
                };
                drop(watched);
                let place = format!("{part}, change {number}, {change:?} of {}", path.display());
                let error = result.expect_err(&place);
                assert_eq!(error.kind(), ErrorKind::Io, "{place}: {error}");
                assert!(error.path().is_some_and(|path| path.starts_with(&run)), "{place}: {error}");
                let text = error.to_string();
                assert!(text.matches(TEXT).count() == 1 && text.lines().count() == 1, "{place}: {text}");
                goes_on(&run, &expected, &all, &place);
                changes.push(change);
            }
            let kinds = changes.iter().fold(Vec::new(), |mut kinds: Vec<_>, kind| {
                if !kinds.contains(kind) {
                    kinds.push(*kind);
                }
                kinds
            });
            println!(
                "{part:?}, all from one on {last}: {} changes failed, of the kinds {kinds:?}",
                changes.len()
            );
        }
    }
}

#[test]
fn a_folder_that_cannot_be_written_to_is_found_before_the_first_step() {
    let folder = folder();
    let run = folder.path().join("run");
    walk(RunDir::create(&run).unwrap(), false).unwrap();
    let before = fs::read(run.join("metrics.jsonl")).unwrap();
    let open = RunDir::open(&run).unwrap().resume().unwrap();
    let watched = Watched::failing(&run.join("checkpoints"), 0..usize::MAX);
    let error = walk(open, true).unwrap_err();
    assert_eq!(watched.struck().len(), 1);
    let text = format!("{}: cannot be written to: {TEXT}", run.join("checkpoints").display());
    assert_eq!(error.to_string(), text);
    assert_eq!(fs::read(run.join("metrics.jsonl")).unwrap(), before);
}
