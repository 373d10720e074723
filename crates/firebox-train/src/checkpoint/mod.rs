//! Checkpoints: immutable folders that appear whole or not at all.
//!
//! A checkpoint is written into a hidden folder beside its final place, every file and the folder are synced,
//! and a rename makes it `step-N`. Only then is the symlink `last` (and then `best`, if it is) replaced, by
//! another rename. So at every moment, whatever is killed, `last` is absent or leads to a complete
//! checkpoint; and once it is there it stays there. What `best` should lead to is part of each checkpoint's
//! state: should a kill come between the two links, a resume sets `best` right. Where a file system has no
//! symbolic links, `last` and `best` are small files that hold the checkpoint's name.
//!
//! `manifest.json` lists every other file with its size, its SHA-256 and its tensors, and says which program
//! on which CPU has written it; `manifest.sha256` has the manifest's own hash, as `sha256sum` writes it.
//! Loading checks them all. If the last checkpoint is damaged, a resume takes the one before it; if `last` is
//! gone, the newest one that is whole.
//!
//! The last few are kept, and the best few; older ones are renamed, so that they are never half there, and
//! removed. One that can't be removed, a file of it being open on a server perhaps, is a warning.

mod notices;
pub(crate) mod provenance;
pub(crate) mod saver;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::{fs, io};

use firebox_data::LoaderState;
use firebox_weights::StateDict;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use self::notices::Notices;
use self::provenance::{Provenance, hex};
use crate::error::{Error, ErrorKind, io_error};
use crate::metrics::{Metrics, lossless};
use crate::run::json::{from_json, to_json};
use crate::task::TaskState;
use firebox_core::files;

const MANIFEST: &str = "manifest.json";
/// Nothing lists the manifest itself: its hash stands beside it.
const MANIFEST_HASH: &str = "manifest.sha256";
const STATE: &str = "state.json";
const VALUES: &str = "task.json";
const TENSORS: &str = ".safetensors";

/// The position of a run, apart from its task's tensors.
///
/// ```
/// use firebox_data::{Loader, Scalar};
/// use firebox_train::checkpoint::RunState;
///
/// let loader = Loader::builder(vec![1_i64, 2, 3]).seed(7).build(Scalar::<i64>::new(), |number, _, slot| {
///     *slot = number;
///     Ok(())
/// })?;
/// let state = RunState::new(loader.state(0), 7);
/// assert_eq!((state.step, state.trained_epochs()), (0, Some(0)));
/// # Ok::<(), firebox_data::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
#[serde(deny_unknown_fields)]
pub struct RunState {
    /// Steps done, over all epochs.
    pub step: usize,
    /// The position of the batch that the loader delivers next.
    pub loader: LoaderState,
    /// The seed of the steps' random numbers.
    pub seed: u64,
    /// The metrics of this epoch's steps so far.
    pub running: Metrics,
    /// Seconds that this epoch's steps have taken so far.
    pub running_seconds: f64,
    /// Seconds of them spent waiting for data.
    pub running_wait_s: f64,
    /// The best checkpoints so far, as many as are kept, the best one first.
    pub best: Vec<Best>,
    /// Evaluations since the one of `reference`.
    pub stale: usize,
    /// The last evaluation that counted as better than the one before it.
    ///
    /// It was better by [`min_delta`](crate::trainer::TrainerConfig::min_delta).
    #[serde(default)]
    pub reference: Option<Best>,
    /// The schedule's state.
    #[serde(default)]
    pub schedule: Value,
    /// Batches that were not learned from because a number was not finite.
    #[serde(default)]
    pub not_finite: usize,
    /// The step of the last evaluation.
    #[serde(default)]
    pub validated: Option<usize>,
    /// The evaluation that this was saved before, which a resume begins with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<Pending>,
    /// The running average of the gradients' norms, by which one is found that explodes.
    #[serde(default, with = "lossless")]
    pub norm_average: f64,
    /// The steps that the average is of.
    #[serde(default)]
    pub norm_steps: usize,
    /// The trainer's settings that the steps follow from.
    #[serde(default)]
    pub settings: Value,
    /// The learning rate of the next step, by which another schedule is noticed.
    #[serde(default)]
    pub next_lr: Option<f64>,
    /// Seconds of training and validation so far.
    pub seconds: f64,
    /// Seconds of training alone.
    pub train_seconds: f64,
    /// Samples learned from, each as often as it came.
    pub train_samples: usize,
    /// The length of `metrics.jsonl`, in bytes.
    ///
    /// Lines after it belong to steps that will be done again.
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
            best: Vec::new(),
            stale: 0,
            reference: None,
            schedule: Value::Null,
            not_finite: 0,
            validated: None,
            pending: None,
            norm_average: 0.0,
            norm_steps: 0,
            settings: Value::Null,
            next_lr: None,
            seconds: 0.0,
            train_seconds: 0.0,
            train_samples: 0,
            metrics_bytes: 0,
        }
    }

    /// The number of epochs that are trained; `None` within an epoch.
    ///
    /// It is known at the end of an epoch, and at the run's beginning.
    ///
    /// The evaluation of the last one may still be to come: a checkpoint is saved before it.
    pub fn trained_epochs(&self) -> Option<u64> {
        match self.pending {
            Some(Pending::Epoch) => Some(self.loader.epoch + 1),
            _ => (self.loader.delivered() == 0).then_some(self.loader.epoch),
        }
    }
}

/// An evaluation that was due when a checkpoint was saved.
///
/// It may take long: what was learned before it is on the disk before it begins.
///
/// ```
/// use firebox_train::checkpoint::{Pending, RunState};
///
/// fn told(state: &RunState) -> &'static str {
///     match state.pending {
///         Some(Pending::Epoch) => "an epoch's evaluation is still to come",
///         Some(_) => "an evaluation is still to come",
///         None => "nothing is pending",
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Pending {
    /// That after a step, of an epoch whose record is still to come.
    Step,
    /// That after an epoch, whose record is written.
    Epoch,
}

/// One of the best checkpoints of a run.
///
/// ```
/// use firebox_train::checkpoint::RunState;
///
/// fn told(state: &RunState) {
///     for best in &state.best {
///         println!("step-{}: {} {}", best.step, best.metric, best.value);
///     }
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Best {
    /// Its step.
    pub step: usize,
    /// The metric that it is best by.
    pub metric: String,
    /// The metric's value.
    #[serde(with = "lossless")]
    pub value: f64,
}

/// The contents of [`VALUES`] besides its version, which no value is taken for.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Values<'a> {
    values: Cow<'a, BTreeMap<String, Value>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    /// The program and the machine that made it: a resume somewhere else warns.
    origin: Provenance,
    /// The run's settings.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    config: Value,
    files: BTreeMap<String, FileRecord>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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
    hex(&Sha256::digest(contents))
}

/// The contents of `manifest.sha256`.
fn manifest_hash(manifest: &[u8]) -> String {
    format!("{}  {MANIFEST}\n", sha256(manifest))
}

/// Reads an object of this module's, whose version comes first: what another one has is not known. A field
/// that this one doesn't know is refused by its name, for it says something.
fn parsed<T: DeserializeOwned>(text: &[u8]) -> Result<T, String> {
    let mut fields: Map<String, Value> = from_json(text)?;
    fields.remove("format_version");
    serde_json::from_value(fields.into()).map_err(|error| format!("unexpected contents: {error}"))
}

fn names(tensors: &StateDict) -> BTreeSet<String> {
    tensors.iter().map(|(name, _)| name.to_owned()).collect()
}

/// The folder with a run's checkpoints: `step-N` for those, and the links `last` and `best`.
///
/// ```
/// use firebox_data::{Loader, Scalar};
/// use firebox_train::checkpoint::{Checkpoints, RunState};
/// use firebox_train::task::TaskState;
///
/// # let folder = tempfile::tempdir()?;
/// # let loader = Loader::builder(vec![1_i64]).build(Scalar::<i64>::new(), |number, _, slot| {
/// #     *slot = number;
/// #     Ok(())
/// # })?;
/// let checkpoints = Checkpoints::new(folder.path());
/// let mut task = TaskState::default();
/// task.insert_value("size", &0.25)?;
/// checkpoints.save(&RunState::new(loader.state(0), 7), &task)?;
///
/// let (state, loaded) = checkpoints.last()?;
/// assert_eq!((state.step, loaded), (0, task));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Checkpoints {
    folder: PathBuf,
    config: Value,
    notices: Notices,
}

/// A checkpoint as it was loaded.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) state: RunState,
    pub(crate) task: TaskState,
    pub(crate) origin: Provenance,
}

impl Checkpoints {
    /// The checkpoints in `folder`, which must exist for saving.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Checkpoints { folder: folder.into(), config: Value::Null, notices: Notices::default() }
    }

    /// True if there is nothing to go on from.
    ///
    /// There is neither a checkpoint nor a link `last`, be it to nothing.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), firebox_train::Error> {
    /// # use firebox_train::RunDir;
    /// # use firebox_train::checkpoint::Checkpoints;
    /// let run = match Checkpoints::new("runs/first/checkpoints").is_empty() {
    ///     true => RunDir::overwrite("runs/first")?,
    ///     false => RunDir::open("runs/first")?.resume()?,
    /// };
    /// # Ok(())
    /// # }
    /// ```
    pub fn is_empty(&self) -> bool {
        let last = self.folder.join("last").symlink_metadata().is_ok();
        // A folder that can't be read is not known to be empty.
        !last && self.steps().map_or(!self.folder.exists(), |steps| steps.is_empty())
    }

    /// The warnings since the last call, in clones of this too.
    pub(crate) fn warnings(&self) -> Vec<String> {
        self.notices.take()
    }

    /// Has the manifests hold the run's settings.
    pub(crate) fn with_config(mut self, config: Value) -> Self {
        self.config = config;
        self
    }

    /// Saves a checkpoint, in the place of one of the same step.
    ///
    /// It lets `last` lead to it, and `best` to what the state says.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if something cannot be written. The other checkpoints are not touched.
    pub fn save(&self, state: &RunState, task: &TaskState) -> Result<PathBuf, Error> {
        task.make()?;
        self.put(state, |folder| self.write(folder, state, task))
    }

    /// Saves the state with the tensors of the checkpoint that is there of the same step, in the place of
    /// that.
    ///
    /// # Errors
    /// As for [`save`](Self::save); [`ErrorKind::Checkpoint`] if there is none.
    pub(crate) fn save_state(&self, state: &RunState) -> Result<PathBuf, Error> {
        self.put(state, |folder| self.rewrite(folder, state))
    }

    /// Has a checkpoint's folder written beside its place, puts it there, and sets the links.
    fn put(
        &self,
        state: &RunState,
        write: impl FnOnce(&Path) -> Result<(), Error>,
    ) -> Result<PathBuf, Error> {
        let place = self.folder.join(name(state.step));
        let failed = |error| cannot(&place, "be written", error);
        let beside = self.hidden(state.step, "").map_err(|error| {
            cannot(&self.folder.join(format!(".{}.part", name(state.step))), "be written", error)
        })?;
        let written = write(&beside).and_then(|()| {
            let aside = self.hidden(state.step, ".old").map_err(failed)?;
            let left = files::replace_folder(&beside, &place, &aside).map_err(failed)?;
            left.into_iter().for_each(|(left, error)| self.stays(&left, &error));
            files::sync_folder(&self.folder).map_err(failed)
        });
        if written.is_err() {
            let _ = files::remove_folder(&beside);
        }
        written?;
        self.link("last", state.step)?;
        if let Some(best) = state.best.first()
            && best.step == state.step
        {
            self.link("best", best.step)?;
        }
        Ok(place)
    }

    fn write(&self, folder: &Path, state: &RunState, task: &TaskState) -> Result<(), Error> {
        let failed = |error| cannot(folder, "be written", error);
        files::create_folder(folder).map_err(failed)?;
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
        if !task.values().is_empty() {
            let values = Values { values: Cow::Borrowed(task.values()) };
            add(VALUES.to_owned(), &json(&values)?, BTreeSet::new())?;
        }
        self.finish(folder, state, records)
    }

    /// As [`write`](Self::write), with the task's files of the checkpoint that is in the place.
    fn rewrite(&self, folder: &Path, state: &RunState) -> Result<(), Error> {
        let failed = |error| cannot(folder, "be written", error);
        let old = self.folder.join(name(state.step));
        let path = old.join(MANIFEST);
        let text = fs::read(&path)
            .map_err(|error| bad(&path, "a checkpoint's file cannot be read").caused_by(error))?;
        let mut records = parsed::<Manifest>(&text).map_err(|text| bad(&path, text))?.files;
        records.remove(STATE);
        files::create_folder(folder).map_err(failed)?;
        for name in records.keys() {
            let path = folder.join(name);
            files::link_file(&old.join(name), &path).map_err(|error| cannot(&path, "be written", error))?;
        }
        self.finish(folder, state, records)
    }

    /// Adds what follows from the state to a folder with the task's files.
    fn finish(
        &self,
        folder: &Path,
        state: &RunState,
        mut records: BTreeMap<String, FileRecord>,
    ) -> Result<(), Error> {
        let failed = |error| cannot(folder, "be written", error);
        let (path, contents) = (folder.join(STATE), json(state)?);
        files::write_synced(&path, &contents).map_err(|error| cannot(&path, "be written", error))?;
        records.insert(STATE.to_owned(), FileRecord::of(&contents, BTreeSet::new()));
        let manifest = Manifest { origin: Provenance::here(), config: self.config.clone(), files: records };
        let manifest = json(&manifest)?;
        for (name, contents) in [(MANIFEST_HASH, manifest_hash(&manifest).as_bytes()), (MANIFEST, &manifest)]
        {
            let path = folder.join(name);
            files::write_synced(&path, contents).map_err(|error| cannot(&path, "be written", error))?;
        }
        files::sync_folder(folder).map_err(failed)
    }

    /// Makes the folder what a loaded state says: `best` may be one checkpoint behind after a kill, and what
    /// was saved later, or not to its end, belongs to steps that will be done again. What the state calls
    /// good and somebody has removed is forgotten, and said.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if something can't be changed.
    pub(crate) fn go_back_to(&self, state: &mut RunState) -> Result<Vec<String>, Error> {
        self.name_copies()?;
        let mut gone = Vec::new();
        state.best.retain(|best| {
            let place = self.folder.join(name(best.step));
            let there = place.join(MANIFEST).is_file();
            if !there {
                gone.push(format!("{}: no such checkpoint, although it was among the best", place.display()));
            }
            there
        });
        self.link("last", state.step)?;
        let place = self.folder.join("best");
        match state.best.first() {
            Some(best) => {
                // A kill between the two links may have left none, too.
                if best.step != state.step && place.symlink_metadata().is_err() {
                    gone.push(format!("{}: no such link, set again to {}", place.display(), name(best.step)));
                }
                self.link("best", best.step)?;
            }
            None => files::remove_any(&place).map_err(|error| cannot(&place, "be removed", error))?,
        }
        for step in self.steps()?.into_iter().filter(|step| *step > state.step) {
            self.remove(step);
        }
        self.clear_parts()?;
        gone.extend(self.warnings());
        Ok(gone)
    }

    /// Fails if nothing can be written here, without changing what is there.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if not.
    pub(crate) fn check_writable(&self) -> Result<(), Error> {
        let path = self.folder.join(".last.part");
        let tried = files::remove_any(&path)
            .and_then(|()| files::write_synced(&path, b"\n"))
            .and_then(|()| files::remove_file(&path));
        tried.map_err(|error| cannot(&self.folder, "be written to", error))
    }

    /// How many there are.
    pub(crate) fn count(&self) -> Result<usize, Error> {
        Ok(self.steps()?.len())
    }

    /// Removes all checkpoints but the last `last` ones up to the state's, and those that one of these says
    /// are the best: a run may have to go back to any of them. One that can't be removed is a warning.
    pub(crate) fn prune(&self, state: &RunState, last: usize) -> Result<(), Error> {
        let mut steps = self.steps()?;
        steps.retain(|step| *step <= state.step);
        let old = steps.len().saturating_sub(last.max(1));
        // Who keeps all of them has nothing to look for.
        if old == 0 {
            return Ok(());
        }
        let mut best: BTreeSet<usize> = state.best.iter().map(|best| best.step).collect();
        for step in steps[old..].iter().filter(|step| **step != state.step) {
            let text = fs::read(self.folder.join(name(*step)).join(STATE)).unwrap_or_default();
            // A damaged one has nothing to say.
            if let Ok(state) = parsed::<RunState>(&text) {
                best.extend(state.best.iter().map(|best| best.step));
            }
        }
        for step in steps[..old].iter().filter(|step| !best.contains(step)) {
            self.remove(*step);
        }
        Ok(())
    }

    /// The steps of which there are checkpoints, in their order.
    fn steps(&self) -> Result<Vec<usize>, Error> {
        let failed = |error| cannot(&self.folder, "be read", error);
        let mut steps = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if let Some(step) = entry.file_name().to_str().and_then(step_of)
                && entry.path().join(MANIFEST).is_file()
            {
                steps.push(step);
            }
        }
        steps.sort_unstable();
        Ok(steps)
    }

    /// Removes a checkpoint, which a rename hides first.
    fn remove(&self, step: usize) {
        match self.hide(step) {
            Ok(beside) => {
                if let Err(error) = files::remove_folder(&beside) {
                    self.stays(&beside, &error);
                }
            }
            Err(error) => self.stays(&self.folder.join(name(step)), &error),
        }
    }

    /// Puts a checkpoint where nobody looks for one.
    fn hide(&self, step: usize) -> io::Result<PathBuf> {
        let (place, beside) = (self.folder.join(name(step)), self.hidden(step, "")?);
        files::rename(&place, &beside).map(|()| beside)
    }

    /// A hidden place for a checkpoint, where nothing is. What a kill has left there is removed; if that
    /// can't be, another place is taken.
    fn hidden(&self, step: usize, which: &str) -> io::Result<PathBuf> {
        const MOST: usize = 16;
        let place = |number| match number {
            0 => self.folder.join(format!(".{}{which}.part", name(step))),
            _ => self.folder.join(format!(".{}{which}.{number}.part", name(step))),
        };
        let mut first = None;
        for path in (0..MOST).map(place) {
            match files::remove_folder(&path) {
                Ok(()) => return Ok(path),
                Err(error) => first = first.or(Some(error)),
            }
        }
        Err(first.unwrap_or_else(|| io::ErrorKind::AlreadyExists.into()))
    }

    /// Warns of a folder that can't be removed.
    fn stays(&self, folder: &Path, error: &io::Error) {
        self.notices.add(folder, || {
            format!("{}: an old checkpoint cannot be removed, and stays: {error}", folder.display())
        });
    }

    /// Removes what a kill has left of a checkpoint.
    fn clear_parts(&self) -> Result<(), Error> {
        let failed = |error| cannot(&self.folder, "be read", error);
        for entry in fs::read_dir(&self.folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if part_of(&path).is_some()
                && let Err(error) = files::remove_folder(&path)
            {
                self.stays(&path, &error);
            }
        }
        Ok(())
    }

    /// Gives checkpoints that stand in the places of links their own names, unless they are there as well:
    /// copying a run with its links followed leaves that.
    fn name_copies(&self) -> Result<(), Error> {
        for link in ["last", "best"].map(|link| self.folder.join(link)) {
            if !link.symlink_metadata().is_ok_and(|there| there.is_dir()) {
                continue;
            }
            let text = fs::read(link.join(STATE)).unwrap_or_default();
            // One that is damaged is in nobody's way.
            let Ok(state) = parsed::<RunState>(&text) else { continue };
            let place = self.folder.join(name(state.step));
            if place.symlink_metadata().is_err() {
                files::rename(&link, &place).map_err(|error| cannot(&link, "be renamed", error))?;
            }
        }
        Ok(())
    }

    /// Lets a link lead to a checkpoint, in one step.
    fn link(&self, link: &str, step: usize) -> Result<(), Error> {
        let (path, beside) = (self.folder.join(link), self.folder.join(format!(".{link}.part")));
        let failed = |error| cannot(&path, "be linked", error);
        let target = name(step);
        if self.target(link).is_some_and(|current| current == Path::new(&target)) {
            return Ok(());
        }
        files::remove_any(&beside).map_err(failed)?;
        match files::symlink_folder(Path::new(&target), &beside) {
            Err(error) if files::is_unsupported(&error) => {
                let pointed = files::write_synced(&beside, format!("{target}\n").as_bytes());
                pointed.map_err(failed)?;
                self.notices.add(&self.folder, || {
                    let text = "the file system has no symbolic links, so that last and best are files that name \
                                a checkpoint";
                    format!("{}: {text}: {error}", self.folder.display())
                });
            }
            linked => linked.map_err(failed)?,
        }
        // Copying a run with its links followed leaves folders in their places.
        let placed = match path.symlink_metadata() {
            Ok(there) if there.is_dir() => {
                let aside = self.hidden(step, &format!(".{link}"));
                aside.and_then(|aside| files::replace_folder(&beside, &path, &aside))
            }
            _ => files::rename(&beside, &path).map(|()| None),
        };
        if placed.is_err() {
            let _ = files::remove_any(&beside);
        }
        if let Some((left, error)) = placed.map_err(failed)? {
            self.stays(&left, &error);
        }
        files::sync_folder(&self.folder).map_err(failed)
    }

    /// Where a link leads to, or the file that stands for one.
    fn target(&self, link: &str) -> Option<PathBuf> {
        const LONGEST: u64 = 64;
        let path = self.folder.join(link);
        if let Ok(target) = fs::read_link(&path) {
            return Some(target);
        }
        let there = path.symlink_metadata().ok()?;
        if !there.is_file() || there.len() > LONGEST {
            return None;
        }
        let text = fs::read_to_string(&path).ok()?;
        let target = text.trim_end();
        step_of(target).map(|_| target.into())
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// Loads the best checkpoint, by the metric that the task [monitors](crate::Task::monitor).
    ///
    /// # Errors
    /// As for [`load`](Self::load).
    pub fn best(&self) -> Result<(RunState, TaskState), Error> {
        self.load("best")
    }

    /// Loads the last checkpoint.
    ///
    /// # Errors
    /// As for [`load`](Self::load).
    pub fn last(&self) -> Result<(RunState, TaskState), Error> {
        self.load("last")
    }

    /// Loads `last`, `best` or `step-N`, and checks every file of it.
    ///
    /// # Errors
    /// [`ErrorKind::Checkpoint`] if it is missing, incomplete, damaged or of another format version; the
    /// error names the file. Where `last` or `best` lead nowhere it names the checkpoints that are there.
    pub fn load(&self, name: &str) -> Result<(RunState, TaskState), Error> {
        const SHOWN: usize = 8;
        if ["last", "best"].contains(&name) && !self.place(name).is_dir() {
            let steps = self.steps().unwrap_or_default();
            let shown: Vec<_> = steps.iter().rev().take(SHOWN).map(|step| self::name(*step)).collect();
            if !shown.is_empty() {
                let rest = if steps.len() > SHOWN { ", …" } else { "" };
                let text = format!("no such checkpoint; there are {}{rest}", shown.join(", "));
                return Err(bad(&self.folder.join(name), text));
            }
        }
        self.load_whole(name).map(|loaded| (loaded.state, loaded.task))
    }

    /// The folder that a name stands for, or would. A link is followed once.
    fn place(&self, name: &str) -> PathBuf {
        self.folder.join(self.target(name).unwrap_or_else(|| name.into()))
    }

    /// The last checkpoint that is good, and what is wrong with those after it: the one that `last` leads
    /// to, or the newest before it; if `last` leads nowhere, the newest of all.
    ///
    /// # Errors
    /// If none is good, what is wrong with each.
    pub(crate) fn load_last(&self) -> Result<(Loaded, Vec<Error>), Error> {
        let first = match self.load_whole("last") {
            Ok(loaded) => return Ok((loaded, Vec::new())),
            Err(error) => error,
        };
        let last = self.target("last").and_then(|target| step_of(target.to_str()?));
        let mut damaged = vec![first];
        let steps = self.steps().unwrap_or_default();
        for step in steps.into_iter().rev().filter(|step| last.is_none_or(|last| *step < last)) {
            match self.load_whole(&name(step)) {
                Ok(loaded) => return Ok((loaded, damaged)),
                Err(error) => damaged.push(error),
            }
        }
        if damaged.len() == 1 {
            return Err(damaged.swap_remove(0));
        }
        let all: Vec<_> = damaged.iter().map(Error::to_string).collect();
        Err(bad(&self.folder, format!("no checkpoint is good: {}", all.join("; "))))
    }

    fn load_whole(&self, name: &str) -> Result<Loaded, Error> {
        // The link is followed once: while a run goes on, it may lead elsewhere a moment later.
        let folder = self.place(name);
        if !folder.is_dir() {
            return Err(bad(&self.folder.join(name), "no such checkpoint"));
        }
        let read = |name: &str| {
            let path = folder.join(name);
            fs::read(&path).map_err(|error| bad(&path, "a checkpoint's file cannot be read").caused_by(error))
        };
        let parse = |name: &str| {
            let path = folder.join(name);
            move |text: String| bad(&path, text)
        };
        // Its version comes first: what another one has beside it is not known.
        let text = read(MANIFEST)?;
        let manifest: Manifest = parsed(&text).map_err(parse(MANIFEST))?;
        let (expected, got) = (manifest_hash(&text), read(MANIFEST_HASH)?);
        if got != expected.as_bytes() {
            let text = format!("damaged, or {MANIFEST_HASH} is: expected there {:?}", expected.trim_end());
            return Err(bad(&folder.join(MANIFEST), text));
        }
        let mut task = TaskState::default();
        let (mut state, mut unknown) = (None, Vec::new());
        for (name, record) in &manifest.files {
            if Path::new(name).file_name().is_none_or(|file| file != name.as_str()) {
                return Err(bad(&folder.join(MANIFEST), format!("{name:?} is no name of a file in here")));
            }
            let contents = read(name)?;
            record.check(&contents).map_err(parse(name))?;
            if name == STATE {
                state = Some(parsed::<RunState>(&contents).map_err(parse(STATE))?);
            } else if name == VALUES {
                let values: Values<'_> = parsed(&contents).map_err(parse(VALUES))?;
                task.set_values(values.values.into_owned());
            } else if let Some(part) = name.strip_suffix(TENSORS) {
                let tensors = StateDict::from_safetensors(&contents)
                    .map_err(|error| bad(&folder.join(name), "unreadable").caused_by(error))?;
                record.check_tensors(&tensors).map_err(parse(name))?;
                task.insert(part, tensors);
            } else {
                unknown.push(name.as_str());
            }
        }
        let state = state.ok_or_else(|| bad(&folder.join(MANIFEST), format!("it lists no {STATE}")))?;
        if !unknown.is_empty() {
            let text = format!("it lists files that say something unknown: {}", unknown.join(", "));
            return Err(bad(&folder.join(MANIFEST), text));
        }
        Ok(Loaded { state, task, origin: manifest.origin })
    }

    /// Removes everything that a run has put here, and nothing else: what can't be removed, but is hidden now
    /// and in nobody's way, as warnings.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if a checkpoint stays in its place.
    pub(crate) fn remove_all(&self) -> Result<Vec<String>, Error> {
        if !self.folder.exists() {
            return Ok(Vec::new());
        }
        // The links first: a checkpoint that something leads to is never half there.
        for link in ["last", "best", ".last.part", ".best.part"].map(|link| self.folder.join(link)) {
            files::remove_any(&link).map_err(|error| cannot(&link, "be removed", error))?;
        }
        // Whole, or not yet: anything else of such a name is somebody else's.
        for step in self.steps()? {
            let place = self.folder.join(name(step));
            self.hide(step).map_err(|error| cannot(&place, "be removed", error))?;
        }
        self.clear_parts()?;
        Ok(self.warnings())
    }
}

/// The step of a checkpoint's name.
fn step_of(name: &str) -> Option<usize> {
    name.strip_prefix("step-")?.parse().ok()
}

/// The step of a checkpoint that is hidden while it is written or removed.
fn part_of(path: &Path) -> Option<usize> {
    let part = path.file_name()?.to_str()?.strip_prefix('.')?.strip_suffix(".part")?;
    step_of(part.split('.').next()?)
}

fn name(step: usize) -> String {
    format!("step-{step}")
}

fn bad(path: &Path, text: impl Into<String>) -> Error {
    Error::new(ErrorKind::Checkpoint, text).at_path(path)
}

fn cannot(path: &Path, what: &str, error: std::io::Error) -> Error {
    io_error(path, &format!("cannot {what}"), error)
}

fn json(value: &impl Serialize) -> Result<Vec<u8>, Error> {
    to_json(value).map_err(|error| Error::new(ErrorKind::Checkpoint, "state").caused_by(error))
}
