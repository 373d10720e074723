//! Checkpoints: immutable folders that appear whole or not at all.
//!
//! A checkpoint is written into a hidden folder beside its final place, every file and the folder are synced,
//! and a rename makes it `step-N`. Only then is the symlink `last` (and `best`, if it is) replaced, by another
//! rename. So at every moment, whatever is killed, `last` is absent or leads to a complete checkpoint; and once
//! it is there it stays there.
//!
//! `manifest.json` lists every other file with its size and SHA-256. Loading checks them all.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use firebox_data::LoaderState;
use firebox_models::StateDict;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, ErrorKind};
use crate::metrics::Metrics;
use crate::run_dir::{from_json, to_json};
use crate::task::TaskState;

const MANIFEST: &str = "manifest.json";
const STATE: &str = "state.json";
const TENSORS: &str = "safetensors";

/// Where a run stands, apart from its task's tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunState {
    /// Steps done, over all epochs.
    pub step: usize,
    /// What the loader delivers next. Behind an epoch's last batch, its evaluation is still to come.
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
    pub value: f64,
}

#[derive(Serialize, Deserialize)]
struct Manifest {
    firebox_version: String,
    files: BTreeMap<String, FileRecord>,
}

#[derive(PartialEq, Eq, Serialize, Deserialize)]
struct FileRecord {
    bytes: u64,
    sha256: String,
}

impl FileRecord {
    fn of(contents: &[u8]) -> Self {
        let hash = Sha256::digest(contents);
        let sha256 = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        FileRecord { bytes: contents.len() as u64, sha256 }
    }
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

    /// Saves a checkpoint and lets `last` lead to it, and `best` if the state says so.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if something cannot be written. The checkpoints that were there are not touched.
    pub fn save(&self, state: &RunState, task: &TaskState) -> Result<PathBuf, Error> {
        let name = format!("step-{}", state.step);
        let place = self.folder.join(&name);
        if self.target("last").as_deref() != Some(Path::new(&name)) {
            self.write(&place, state, task)?;
            self.link("last", &name)?;
        }
        if state.best.as_ref().is_some_and(|best| best.step == state.step) {
            self.link("best", &name)?;
        }
        Ok(place)
    }

    fn write(&self, place: &Path, state: &RunState, task: &TaskState) -> Result<(), Error> {
        let beside = self.folder.join(format!(".step-{}.part", state.step));
        let failed = |path: &Path, error: std::io::Error| Error::io(path, "cannot be written", error);
        remove_all(&beside).map_err(|error| failed(&beside, error))?;
        fs::create_dir(&beside).map_err(|error| failed(&beside, error))?;
        let mut files = BTreeMap::new();
        let mut add = |name: String, contents: &[u8]| {
            let path = beside.join(&name);
            write_synced(&path, contents).map_err(|error| failed(&path, error))?;
            files.insert(name, FileRecord::of(contents));
            Ok::<(), Error>(())
        };
        for (part, tensors) in task.iter() {
            let bytes = tensors
                .to_safetensors()
                .map_err(|error| Error::new(ErrorKind::Checkpoint, part).caused_by(error))?;
            add(format!("{part}.{TENSORS}"), &bytes)?;
        }
        add(STATE.to_owned(), &json(state)?)?;
        let manifest = Manifest { firebox_version: env!("CARGO_PKG_VERSION").to_owned(), files };
        let path = beside.join(MANIFEST);
        write_synced(&path, &json(&manifest)?).map_err(|error| failed(&path, error))?;
        sync_folder(&beside).map_err(|error| failed(&beside, error))?;
        // A folder of that name is of a run that was killed between this rename and the next link, or that
        // was resumed from an earlier checkpoint: nothing leads to it.
        remove_all(place).map_err(|error| failed(place, error))?;
        fs::rename(&beside, place).map_err(|error| failed(place, error))?;
        sync_folder(&self.folder).map_err(|error| failed(&self.folder, error))
    }

    /// Lets a link lead to a checkpoint, in one step.
    fn link(&self, link: &str, name: &str) -> Result<(), Error> {
        let (path, beside) = (self.folder.join(link), self.folder.join(format!(".{link}.part")));
        let failed = |error: std::io::Error| Error::io(&path, "cannot be linked", error);
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        symlink_dir(Path::new(name), &beside).map_err(failed)?;
        fs::rename(&beside, &path).map_err(failed)?;
        sync_folder(&self.folder).map_err(failed)
    }

    /// What a link leads to; `None` if it is not there.
    fn target(&self, link: &str) -> Option<PathBuf> {
        fs::read_link(self.folder.join(link)).ok()
    }

    /// Loads `last`, `best` or `step-N`, and checks every file of it.
    ///
    /// # Errors
    /// [`ErrorKind::Checkpoint`] if it is missing, incomplete, damaged or of another format version; the error
    /// names the file.
    pub fn load(&self, name: &str) -> Result<(RunState, TaskState), Error> {
        let folder = self.folder.join(name);
        let bad = |path: &Path, text: String| Error::new(ErrorKind::Checkpoint, text).at_path(path);
        if !folder.is_dir() {
            return Err(bad(&folder, "no such checkpoint".to_owned()));
        }
        let read = |name: &str| {
            let path = folder.join(name);
            fs::read(&path)
                .map_err(|error| bad(&path, "a checkpoint's file cannot be read".to_owned()).caused_by(error))
        };
        let parse_error = |name: &str| {
            let path = folder.join(name);
            move |text: String| bad(&path, text)
        };
        let text = String::from_utf8_lossy(&read(MANIFEST)?).into_owned();
        let manifest: Manifest = from_json(&text).map_err(parse_error(MANIFEST))?;
        let mut task = TaskState::default();
        let mut state = None;
        for (name, expected) in &manifest.files {
            if Path::new(name).components().count() != 1 || name.starts_with('.') {
                return Err(bad(&folder.join(MANIFEST), format!("{name:?} is no name of a file in here")));
            }
            let contents = read(name)?;
            let got = FileRecord::of(&contents);
            if got != *expected {
                let text = format!(
                    "damaged: expected {} bytes with SHA-256 {}, got {} with {}",
                    expected.bytes, expected.sha256, got.bytes, got.sha256
                );
                return Err(bad(&folder.join(name), text));
            }
            if name == STATE {
                let text = String::from_utf8_lossy(&contents);
                state = Some(from_json::<RunState>(&text).map_err(parse_error(STATE))?);
            } else if let Some(part) = name.strip_suffix(&format!(".{TENSORS}")) {
                let tensors = StateDict::from_safetensors(&contents)
                    .map_err(|error| bad(&folder.join(name), "unreadable".to_owned()).caused_by(error))?;
                task.insert(part, tensors);
            }
        }
        match state {
            Some(state) => Ok((state, task)),
            None => Err(bad(&folder.join(MANIFEST), format!("it lists no {STATE}"))),
        }
    }
}

fn json(value: &impl Serialize) -> Result<Vec<u8>, Error> {
    let value =
        to_json(value).map_err(|error| Error::new(ErrorKind::Checkpoint, "state").caused_by(error))?;
    Ok(format!("{value:#}\n").into_bytes())
}

fn write_synced(path: &Path, contents: &[u8]) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(contents)?;
    file.sync_all()
}

fn remove_all(path: &Path) -> std::io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Makes the names in a folder survive a loss of power. Only Unix opens folders.
fn sync_folder(path: &Path) -> std::io::Result<()> {
    if cfg!(unix) { File::open(path)?.sync_all() } else { Ok(()) }
}

#[cfg(unix)]
fn symlink_dir(target: &Path, link: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

#[cfg(windows)]
fn symlink_dir(target: &Path, link: &Path) -> std::io::Result<()> {
    std::os::windows::fs::symlink_dir(target, link)
}
