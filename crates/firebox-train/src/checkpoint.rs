//! Checkpoints: immutable folders that appear whole or not at all.
//!
//! A checkpoint is written into a hidden folder beside its final place, every file and the folder are synced, and
//! a rename makes it `step-N`. Only then is the symlink `last` (and then `best`, if it is) replaced, by another
//! rename. So at every moment, whatever is killed, `last` is absent or leads to a complete checkpoint; and once it
//! is there it stays there. What `best` should lead to is part of each checkpoint's state: should a kill come
//! between the two links, a resume sets `best` right.
//!
//! `manifest.json` lists every other file with its size, its SHA-256 and its tensors. Loading checks them all.
//! Checkpoints are kept until somebody removes them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use firebox_data::LoaderState;
use firebox_models::StateDict;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, ErrorKind};
use crate::files;
use crate::metrics::{Metrics, lossless};
use crate::run_dir::{from_json, to_json};
use crate::task::TaskState;

const MANIFEST: &str = "manifest.json";
const STATE: &str = "state.json";
const TENSORS: &str = ".safetensors";

/// Where a run stands, apart from its task's tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RunState {
    /// Steps done, over all epochs.
    pub step: usize,
    /// What the loader delivers next.
    pub loader: LoaderState,
    /// The seed of the steps' random numbers.
    pub seed: u64,
    /// What this epoch's steps have measured so far.
    pub running: Metrics,
    /// Seconds that this epoch's steps have taken so far.
    pub running_seconds: f64,
    /// Seconds of them spent waiting for data.
    pub running_wait_s: f64,
    /// The best checkpoint so far.
    pub best: Option<Best>,
    /// Seconds of training and validation so far.
    pub seconds: f64,
    /// Seconds of training alone.
    pub train_seconds: f64,
    /// Samples learned from, each as often as it came.
    pub train_samples: usize,
    /// The length of `metrics.jsonl`, in bytes: what comes behind belongs to steps that will be done again.
    pub metrics_bytes: u64,
}

impl RunState {
    /// The beginning of a run.
    pub fn new(loader: LoaderState, seed: u64) -> Self {
        RunState {
            step: 0,
            loader,
            seed,
            running: Metrics::default(),
            running_seconds: 0.0,
            running_wait_s: 0.0,
            best: None,
            seconds: 0.0,
            train_seconds: 0.0,
            train_samples: 0,
            metrics_bytes: 0,
        }
    }
}

/// The best checkpoint of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Its step.
    pub step: usize,
    /// The metric that it is best by.
    pub metric: String,
    /// The metric's value.
    #[serde(with = "lossless")]
    pub value: f64,
}

#[derive(Serialize, Deserialize)]
struct Manifest {
    firebox_version: String,
    files: BTreeMap<String, FileRecord>,
}

#[derive(Serialize, Deserialize)]
struct FileRecord {
    bytes: u64,
    sha256: String,
    /// The names of the tensors in it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    tensors: BTreeSet<String>,
}

impl FileRecord {
    fn of(contents: &[u8], tensors: BTreeSet<String>) -> Self {
        FileRecord { bytes: contents.len() as u64, sha256: sha256(contents), tensors }
    }

    fn check(&self, contents: &[u8]) -> Result<(), String> {
        let (bytes, hash) = (contents.len() as u64, sha256(contents));
        match bytes == self.bytes && hash == self.sha256 {
            true => Ok(()),
            false => Err(format!(
                "damaged: expected {} bytes with SHA-256 {}, got {bytes} with {hash}",
                self.bytes, self.sha256
            )),
        }
    }

    fn check_tensors(&self, tensors: &StateDict) -> Result<(), String> {
        let found = names(tensors);
        let missing = self.tensors.difference(&found).map(|name| format!("missing {name}"));
        let unexpected = found.difference(&self.tensors).map(|name| format!("unexpected {name}"));
        match missing.chain(unexpected).collect::<Vec<_>>() {
            wrong if wrong.is_empty() => Ok(()),
            wrong => Err(format!("other tensors than were saved: {}", wrong.join("; "))),
        }
    }
}

fn sha256(contents: &[u8]) -> String {
    Sha256::digest(contents).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn names(tensors: &StateDict) -> BTreeSet<String> {
    tensors.iter().map(|(name, _)| name.to_owned()).collect()
}

/// The folder with a run's checkpoints: `step-N` for those, and the links `last` and `best`.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    folder: PathBuf,
}

impl Checkpoints {
    /// The checkpoints in `folder`, which must exist for saving.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Checkpoints { folder: folder.into() }
    }

    /// Saves a checkpoint in the place of one of the same step, if there is one; lets `last` lead to it, and `best`
    /// to what the state says.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if something cannot be written. The other checkpoints are not touched.
    pub fn save(&self, state: &RunState, task: &TaskState) -> Result<PathBuf, Error> {
        let place = self.folder.join(name(state.step));
        let beside = self.folder.join(format!(".{}.part", name(state.step)));
        let written = self.write(&beside, state, task).and_then(|()| {
            let failed = |error| cannot(&place, "be written", error);
            files::replace_folder(&beside, &place).map_err(failed)?;
            files::sync_folder(&self.folder).map_err(failed)
        });
        if written.is_err() {
            let _ = files::remove_folder(&beside);
        }
        written?;
        self.link("last", state.step)?;
        if let Some(best) = &state.best
            && best.step == state.step
        {
            self.link("best", best.step)?;
        }
        Ok(place)
    }

    fn write(&self, folder: &Path, state: &RunState, task: &TaskState) -> Result<(), Error> {
        let failed = |error| cannot(folder, "be written", error);
        files::remove_folder(folder).map_err(failed)?;
        fs::create_dir(folder).map_err(failed)?;
        let mut records = BTreeMap::new();
        let mut add = |name: String, contents: &[u8], tensors| {
            let path = folder.join(&name);
            files::write_synced(&path, contents).map_err(|error| cannot(&path, "be written", error))?;
            records.insert(name, FileRecord::of(contents, tensors));
            Ok::<(), Error>(())
        };
        for (part, tensors) in task.iter() {
            let bytes = tensors
                .to_safetensors()
                .map_err(|error| Error::new(ErrorKind::Checkpoint, part).caused_by(error))?;
            add(format!("{part}{TENSORS}"), &bytes, names(tensors))?;
        }
        add(STATE.to_owned(), &json(state)?, BTreeSet::new())?;
        let manifest = Manifest { firebox_version: env!("CARGO_PKG_VERSION").to_owned(), files: records };
        let path = folder.join(MANIFEST);
        let manifest = json(&manifest)?;
        files::write_synced(&path, &manifest).map_err(|error| cannot(&path, "be written", error))?;
        files::sync_folder(folder).map_err(failed)
    }

    /// Lets the links lead to what a loaded state says: `best` may be one checkpoint behind after a kill.
    ///
    /// # Errors
    /// [`ErrorKind::Checkpoint`] if the best checkpoint is gone, [`ErrorKind::Io`] if a link can't be made.
    pub(crate) fn relink(&self, state: &RunState) -> Result<(), Error> {
        self.link("last", state.step)?;
        let Some(best) = &state.best else { return Ok(()) };
        let place = self.folder.join(name(best.step));
        if !place.is_dir() {
            let text = "no such checkpoint, although the last one says that it is the best";
            return Err(Error::new(ErrorKind::Checkpoint, text).at_path(place));
        }
        self.link("best", best.step)
    }

    /// Lets a link lead to a checkpoint, in one step.
    fn link(&self, link: &str, step: usize) -> Result<(), Error> {
        let (path, beside) = (self.folder.join(link), self.folder.join(format!(".{link}.part")));
        let failed = |error| cannot(&path, "be linked", error);
        let target = PathBuf::from(name(step));
        if fs::read_link(&path).is_ok_and(|current| current == target) {
            return Ok(());
        }
        files::remove_file(&beside).map_err(failed)?;
        files::symlink_folder(&target, &beside).map_err(failed)?;
        let renamed = fs::rename(&beside, &path);
        if renamed.is_err() {
            let _ = files::remove_file(&beside);
        }
        renamed.map_err(failed)?;
        files::sync_folder(&self.folder).map_err(failed)
    }

    /// Loads `last`, `best` or `step-N`, and checks every file of it.
    ///
    /// # Errors
    /// [`ErrorKind::Checkpoint`] if it is missing, incomplete, damaged or of another format version; the error
    /// names the file.
    pub fn load(&self, name: &str) -> Result<(RunState, TaskState), Error> {
        // The link is followed once: while a run goes on, it may lead elsewhere a moment later.
        let link = self.folder.join(name);
        let folder = fs::read_link(&link).map_or(link.clone(), |target| self.folder.join(target));
        if !folder.is_dir() {
            return Err(bad(&link, "no such checkpoint"));
        }
        let read = |name: &str| {
            let path = folder.join(name);
            fs::read(&path).map_err(|error| bad(&path, "a checkpoint's file cannot be read").caused_by(error))
        };
        let parse = |name: &str| {
            let path = folder.join(name);
            move |text: String| bad(&path, text)
        };
        let manifest: Manifest = from_json(&read(MANIFEST)?).map_err(parse(MANIFEST))?;
        let mut task = TaskState::default();
        let mut state = None;
        for (name, record) in &manifest.files {
            if Path::new(name).file_name().is_none_or(|file| file != name.as_str()) {
                return Err(bad(&folder.join(MANIFEST), format!("{name:?} is no name of a file in here")));
            }
            let contents = read(name)?;
            record.check(&contents).map_err(parse(name))?;
            if name == STATE {
                state = Some(from_json::<RunState>(&contents).map_err(parse(STATE))?);
            } else if let Some(part) = name.strip_suffix(TENSORS) {
                let tensors = StateDict::from_safetensors(&contents)
                    .map_err(|error| bad(&folder.join(name), "unreadable").caused_by(error))?;
                record.check_tensors(&tensors).map_err(parse(name))?;
                task.insert(part, tensors);
            }
        }
        let state = state.ok_or_else(|| bad(&folder.join(MANIFEST), format!("it lists no {STATE}")))?;
        Ok((state, task))
    }

    /// Removes everything that a run has put here, and nothing else.
    pub(crate) fn remove_all(&self) -> Result<(), Error> {
        let failed = |error| cannot(&self.folder, "be removed", error);
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            entries => entries.map_err(failed)?,
        };
        // The links first: a checkpoint that something leads to is never half there.
        for link in ["last", "best", ".last.part", ".best.part"] {
            files::remove_file(&self.folder.join(link)).map_err(failed)?;
        }
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let part = name.strip_prefix('.').and_then(|name| name.strip_suffix(".part"));
            let step =
                part.unwrap_or(&name).strip_prefix("step-").and_then(|step| step.parse::<usize>().ok());
            // Whole, or not yet: anything else of such a name is somebody else's.
            if step.is_some() && (part.is_some() || entry.path().join(MANIFEST).is_file()) {
                files::remove_folder(&entry.path()).map_err(failed)?;
            }
        }
        Ok(())
    }
}

fn name(step: usize) -> String {
    format!("step-{step}")
}

fn bad(path: &Path, text: impl Into<String>) -> Error {
    Error::new(ErrorKind::Checkpoint, text).at_path(path)
}

fn cannot(path: &Path, what: &str, error: std::io::Error) -> Error {
    Error::io(path, &format!("cannot {what}"), error)
}

fn json(value: &impl Serialize) -> Result<Vec<u8>, Error> {
    to_json(value).map_err(|error| Error::new(ErrorKind::Checkpoint, "state").caused_by(error))
}
