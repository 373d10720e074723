//! Runs whose disk gets full: at each change that they make, one after the other.

use std::fs;
use std::path::Path;

use burn::tensor::{Device, TensorData};
use firebox_data::elements::Elements;
use firebox_data::{Loader, Scalar};
use firebox_weights::StateDict;
use rustix::io::Errno;
use serde_json::Value;
use tempfile::TempDir;

use super::{Trainer, TrainerConfig};
use crate::checkpoint::Checkpoints;
use crate::error::{Error, ErrorKind};
use crate::metrics::Metrics;
use crate::run::RunDir;
use crate::task::{Goal, StepContext, Task, TaskState};
use firebox_core::files::Change;
use firebox_core::files::fault::{TEXT, Watched};

/// A point that is drawn towards the numbers it sees, and gets better with each step.
struct Walk {
    place: Vec<f32>,
    steps: i64,
}

impl Task for Walk {
    type Batch = Elements<i64>;

    fn train_step(&mut self, batch: Elements<i64>, context: &StepContext) -> Result<Metrics, Error> {
        for (place, number) in self.place.iter_mut().zip(batch.iter().cycle()) {
            *place += context.lr as f32 * (*number as f32 - *place);
        }
        self.steps += 1;
        Ok(Metrics::of(batch.len()).with_mean("loss", f64::from(self.place[0])))
    }

    fn evaluator(&self) -> impl FnMut(Elements<i64>) -> Result<Metrics, Error> {
        let loss = 1.0 / self.steps as f64;
        move |batch| Ok(Metrics::of(batch.len()).with_mean("loss", loss))
    }

    fn monitor(&self) -> (&'static str, Goal) {
        ("loss", Goal::Minimize)
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
        let place = state.get("walk")?.get("place").and_then(|place| place.to_vec().ok());
        self.place = place.ok_or_else(|| Error::new(ErrorKind::Checkpoint, "no place"))?;
        self.steps = state.value("steps")?;
        Ok(())
    }
}

/// Two epochs of four steps. Every second one is saved, each time after the save before it is over, so that
/// the changes of the checkpoints' thread come in one order.
fn walk(run: RunDir, resume: bool) -> Result<TaskState, Error> {
    Ok(walked(run, resume)?.0)
}

/// The same, with what there was to warn of.
fn walked(run: RunDir, resume: bool) -> Result<(TaskState, Vec<String>), Error> {
    run.write_config(&serde_json::json!({}))?;
    let numbers = |count| {
        let numbers = (0..count).collect::<Vec<i64>>();
        let loader = Loader::builder(numbers).batch_size(3).shuffle(true).workers(0);
        loader.build(Scalar::<i64>::new(), |number, _, slot| {
            *slot = number;
            Ok(())
        })
    };
    // The task tells no norm of its gradients, which is a warning of its own.
    let config = TrainerConfig {
        max_epochs: 2,
        validate_steps: Some(2),
        norm_warning: 0.0,
        ..TrainerConfig::default()
    };
    let mut task = Walk { place: vec![0.0; 20], steps: 0 };
    let mut trainer = Trainer::new(&run, &Device::default()).config(config).schedule(0.3).resume(resume);
    let outcome = trainer.fit(&mut task, &numbers(12).unwrap(), &numbers(3).unwrap())?;
    Ok((task.state()?, outcome.warnings))
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

/// A run whose disk has failed leaves good files, and can go on.
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
    // The training thread waits for the disk before the first step and after the last one, and nowhere
    // between.
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
                let result = RunDir::create(&run).and_then(|run| walked(run, false));
                let Some((change, path)) = watched.struck().first().cloned() else {
                    assert_eq!(result.unwrap().0, expected);
                    break;
                };
                drop(watched);
                let place = format!("{part}, change {number}, {change:?} of {}", path.display());
                // What fails for an old checkpoint that is removed, or for the place of a new one, ends
                // nothing.
                let hidden =
                    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(".step-"));
                let ends_nothing = hidden && [Change::Remove, Change::Rename].contains(&change);
                // Unless something else fails after it.
                if ends_nothing && (!last || result.is_ok()) {
                    let (state, warnings) = result.expect(&place);
                    assert_eq!(state, expected, "{place}");
                    assert!(warnings.iter().all(|text| text.contains(TEXT)), "{place}: {warnings:?}");
                    assert!(warnings.len() <= if last { 2 } else { 1 }, "{place}: {warnings:?}");
                    goes_on(&run, &expected, &all, &place);
                    changes.push(change);
                    continue;
                }
                let error = result.expect_err(&place);
                assert_eq!(error.kind(), &ErrorKind::Io, "{place}: {error}");
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

/// The text of a system's error.
fn text(errno: Errno) -> String {
    std::io::Error::from(errno).to_string()
}

#[test]
fn an_old_checkpoint_that_cannot_be_removed_is_a_warning_and_the_run_goes_on() {
    let whole = folder();
    let expected = walk(RunDir::create(whole.path().join("run")).unwrap(), false).unwrap();
    let all = records(&fs::read_to_string(whole.path().join("run/metrics.jsonl")).unwrap());
    // A file that is open on a server's client, where the folder was renamed; and a folder that can't even be
    // renamed.
    for (change, errno, left) in
        [(Change::Remove, Errno::BUSY, ".step-"), (Change::Rename, Errno::ACCESS, "step-")]
    {
        let folder = folder();
        let run = folder.path().join("run");
        let watched = Watched::refusing_names(&run.join("checkpoints"), ".step-", change, errno);
        let (state, warnings) = walked(RunDir::create(&run).unwrap(), false).unwrap();
        assert_eq!(state, expected);
        assert!(watched.struck().len() >= warnings.len() && warnings.len() >= 2, "{warnings:?}");
        let mut once = warnings.clone();
        once.sort();
        once.dedup();
        assert_eq!(once.len(), warnings.len(), "a folder is told of once: {warnings:?}");
        for warning in &warnings {
            let told = warning.strip_prefix(&format!("{}/{left}", run.join("checkpoints").display()));
            let end = format!(": an old checkpoint cannot be removed, and stays: {}", text(errno));
            assert!(told.is_some_and(|told| told.ends_with(&end)), "{warning}");
        }
        // A resume can't remove them either, and then it can.
        let (state, again) = walked(RunDir::open(&run).unwrap().resume().unwrap(), true).unwrap();
        assert_eq!(state, expected);
        if change == Change::Remove {
            assert_eq!(again.len(), warnings.len(), "{again:?}");
        }
        drop(watched);
        goes_on(&run, &expected, &all, &format!("{change:?}"));
    }
}

#[test]
fn a_run_is_overwritten_although_an_old_checkpoint_cannot_be_removed() {
    for (change, names) in [(Change::Remove, ".step-"), (Change::Rename, ".step-")] {
        let folder = folder();
        let run = folder.path().join("run");
        let expected = walk(RunDir::create(&run).unwrap(), false).unwrap();
        let steps = Checkpoints::new(run.join("checkpoints")).count().unwrap();
        let watched = Watched::refusing_names(&run.join("checkpoints"), names, change, Errno::ACCESS);
        let begun = RunDir::overwrite(&run);
        if change == Change::Rename {
            let text = begun.unwrap_err().to_string();
            assert!(text.contains("/checkpoints/step-") && text.contains("cannot be removed"), "{text}");
            continue;
        }
        let begun = begun.unwrap();
        drop(watched);
        let (state, warnings) = walked(begun, false).unwrap();
        assert_eq!((state, warnings.len()), (expected, steps));
        let end = format!(": an old checkpoint cannot be removed, and stays: {}", text(Errno::ACCESS));
        assert!(warnings.iter().all(|warning| warning.ends_with(&end)), "{warnings:?}");
    }
}

#[test]
fn a_file_system_without_links_gets_files_that_name_a_checkpoint() {
    let whole = folder();
    let expected = walk(RunDir::create(whole.path().join("run")).unwrap(), false).unwrap();
    let all = records(&fs::read_to_string(whole.path().join("run/metrics.jsonl")).unwrap());
    for errno in [Errno::PERM, Errno::NOSYS, Errno::OPNOTSUPP] {
        let folder = folder();
        let run = folder.path().join("run");
        let watched = Watched::refusing(&run, Change::Link, errno);
        let (state, warnings) = walked(RunDir::create(&run).unwrap(), false).unwrap();
        assert_eq!(state, expected);
        let end = format!("last and best are files that name a checkpoint: {}", text(errno));
        assert!(warnings.len() == 1 && warnings[0].ends_with(&end), "{warnings:?}");
        let checkpoints = Checkpoints::new(run.join("checkpoints"));
        for link in ["last", "best"] {
            let path = run.join("checkpoints").join(link);
            assert!(path.symlink_metadata().unwrap().is_file());
            assert_eq!(fs::read_to_string(path).unwrap(), "step-8\n");
            assert_eq!(checkpoints.load(link).unwrap().0.step, 8);
        }
        assert!(!checkpoints.is_empty());
        // From a damaged one the run goes back to the one before, and on to the end.
        fs::write(run.join("checkpoints/step-8/state.json"), "{}").unwrap();
        let (loaded, damaged) = checkpoints.load_last().unwrap();
        assert!(loaded.state.step < 8 && damaged.len() == 1, "{damaged:?}");
        let (state, _) = walked(RunDir::open(&run).unwrap().resume().unwrap(), true).unwrap();
        assert_eq!(state, expected);
        drop(watched);
        goes_on(&run, &expected, &all, &format!("{errno:?}"));
    }
}

#[test]
fn a_file_system_without_locks_is_a_warning() {
    for errno in [Errno::NOSYS, Errno::NOLCK, Errno::OPNOTSUPP] {
        let folder = folder();
        let run = folder.path().join("run");
        let _watched = Watched::refusing(&run, Change::Lock, errno);
        let (_, warnings) = walked(RunDir::create(&run).unwrap(), false).unwrap();
        let end = format!("nothing keeps a second process from training here: {}", text(errno));
        assert!(warnings.len() == 1 && warnings[0].ends_with(&end), "{warnings:?}");
        assert!(warnings[0].starts_with(&format!("{}/.lock: ", run.display())), "{warnings:?}");
    }
    // An error of the disk is none of that.
    let folder = folder();
    let run = folder.path().join("run");
    let _watched = Watched::refusing(&run, Change::Lock, Errno::IO);
    let error = RunDir::create(&run).unwrap_err();
    assert!(
        *error.kind() == ErrorKind::Io && error.to_string().contains(".lock: cannot be locked: "),
        "{error}"
    );
}

#[test]
fn a_file_system_that_neither_exchanges_nor_syncs_folders_will_do() {
    let whole = folder();
    let expected = walk(RunDir::create(whole.path().join("run")).unwrap(), false).unwrap();
    let folder = folder();
    let run = folder.path().join("run");
    // A sync of files is refused nowhere: those of folders are told apart by their names here.
    let synced = Watched::refusing_names(&run, "checkpoints", Change::Sync, Errno::INVAL);
    assert_eq!(walk(RunDir::create(&run).unwrap(), false).unwrap(), expected);
    assert!(synced.struck().len() > 5);
    drop(synced);
    // The same step again, in the place of the one that is there.
    let checkpoints = Checkpoints::new(run.join("checkpoints"));
    let (state, task) = checkpoints.load("last").unwrap();
    let place = run.join("checkpoints/step-8");
    let exchanged = Watched::refusing_once(&place, Change::Rename, Errno::INVAL);
    assert_eq!(checkpoints.save(&state, &task).unwrap(), place);
    assert_eq!(exchanged.struck().len(), 1);
    assert_eq!(checkpoints.load("last").unwrap(), (state, task));
    let left: Vec<_> =
        fs::read_dir(run.join("checkpoints")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with('.')), "{left:?}");
}
