//! A run's folder: its paths, its lock, and how it begins, goes on and is overwritten.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::checkpoint::Checkpoints;
use crate::error::{Error, ErrorKind, io_error};
use crate::run::json::{from_json, to_json};
use firebox_core::files::{self, Lock};

const CONFIG: &str = "config.json";
/// The file that a kill leaves of the settings while they are written.
const CONFIG_PART: &str = "config.json.part";
const METRICS: &str = "metrics.jsonl";
const CSV: &str = "metrics.csv";
const TENSORBOARD: &str = "tensorboard";
const CHECKPOINTS: &str = "checkpoints";
/// The files that a kill leaves of the table while it is rewritten, and of the report.
const CSV_PART: &str = "metrics.csv.part";
const REPORT_PART: &str = "report.html.part";
const SUMMARY: &str = "summary.json";
const REPORT: &str = "report.html";
const SAMPLES: &str = "samples";
const LR_POINTS: &str = "lr-find.jsonl";
const LR_PLOT: &str = "lr-find.html";
const LOCK: &str = ".lock";

/// The entries that a run has left which was killed before it wrote its settings, and no others.
const BEFORE_SETTINGS: [&str; 5] = [METRICS, CHECKPOINTS, SAMPLES, LOCK, CONFIG_PART];

/// A run's folder. One that was made or [resumed](RunDir::resume) belongs to this process until it is
/// dropped.
///
/// ```
/// use firebox_train::RunDir;
///
/// # let folder = tempfile::tempdir()?;
/// # let place = folder.path().join("first");
/// let run = RunDir::create(&place)?;
/// run.write_config(&serde_json::json!({"lr": 0.1}))?;
/// // Nothing is written over by accident.
/// assert!(RunDir::create(&place).is_err());
/// assert_eq!(RunDir::open(&place)?.read_config::<serde_json::Value>()?["lr"], 0.1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct RunDir {
    path: PathBuf,
    /// Held for the run's life; `None` if the folder is only read.
    lock: Option<Arc<Claim>>,
    /// Warnings of the run to come.
    left: Vec<String>,
}

/// A process's claim to a run folder, until it is dropped.
#[derive(Debug)]
struct Claim {
    /// Its lock is the system's, which takes it back from a process that has ended in any way.
    _file: File,
    /// Why there is no lock.
    unlocked: Option<String>,
}

impl RunDir {
    /// A folder for a new run: it must not exist, or be empty.
    ///
    /// ```
    /// use firebox_train::{ErrorKind, RunDir};
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("first");
    /// let run = RunDir::create(&path)?;
    /// run.write_config(&serde_json::json!({"lr": 0.1}))?;
    /// drop(run);
    /// // Nothing is written over: `open` reads what is there, `overwrite` begins anew.
    /// assert_eq!(RunDir::create(&path).unwrap_err().kind(), &ErrorKind::RunDir);
    /// assert!(RunDir::open(&path)?.checkpoints().is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::RunDir`] if something is in it, [`ErrorKind::Io`] if it cannot be written to.
    pub fn create(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let path = some(path.into())?;
        let used = match fs::read_dir(&path) {
            Ok(mut entries) => entries.next().is_some(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
            Err(error) => return Err(io_error(&path, "cannot be a run folder", error)),
        };
        if used {
            let text = if path.join(CONFIG).exists() {
                "the run folder is already used: resume its run, overwrite it, or choose another".to_owned()
            } else if holds_only(&path, &BEFORE_SETTINGS) {
                "a run was killed here before it had settings: overwrite it, or choose another folder"
                    .to_owned()
            } else {
                format!("it holds files, but no run (no {CONFIG}): expected a folder that is new or empty")
            };
            return Err(Error::new(ErrorKind::RunDir, text).at_path(path));
        }
        RunDir { path, lock: None, left: Vec::new() }.prepared()
    }

    /// A folder for a new run, called `parent/name-YYYYMMDD-HHMMSS` by the local time.
    ///
    /// # Errors
    /// As for [`create`](Self::create).
    pub fn create_under(parent: impl AsRef<Path>, name: &str) -> Result<Self, Error> {
        let parent = parent.as_ref();
        fs::create_dir_all(parent).map_err(|error| io_error(parent, "cannot be created", error))?;
        let name = format!("{name}-{}", jiff::Zoned::now().strftime("%Y%m%d-%H%M%S"));
        // Runs that begin in the same second are told apart by a number.
        for suffix in std::iter::once(String::new()).chain((2..).map(|number| format!("-{number}"))) {
            let path = parent.join(format!("{name}{suffix}"));
            match fs::create_dir(&path) {
                Ok(()) => return RunDir { path, lock: None, left: Vec::new() }.prepared(),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(io_error(&path, "cannot be created", error)),
            }
        }
        unreachable!("there is always a next number")
    }

    /// The run that was begun or resumed last, among the folders that [`create_under`](Self::create_under)
    /// has made. For reading, as [`open`](Self::open).
    ///
    /// # Errors
    /// [`ErrorKind::RunDir`] if there is none.
    pub fn newest_under(parent: impl AsRef<Path>, name: &str) -> Result<Self, Error> {
        let parent = parent.as_ref();
        let runs = fs::read_dir(parent).into_iter().flatten().flatten().filter(|entry| {
            let entry = entry.file_name();
            let time = entry.to_str().and_then(|entry| entry.strip_prefix(name)?.strip_prefix('-'));
            time.is_some_and(|time| {
                time.len() >= 15 && time.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')
            })
        });
        let begun = |path: &PathBuf| path.join(CONFIG).metadata().and_then(|config| config.modified()).ok();
        // The name decides among those of one moment.
        let runs = runs.filter_map(|entry| Some((begun(&entry.path())?, entry.path())));
        let newest = runs.max().map(|(_, path)| path);
        match newest {
            Some(path) => Self::open(path),
            None => Err(Error::new(ErrorKind::RunDir, format!("no run of {name} in here")).at_path(parent)),
        }
    }

    /// A folder for a new run in the place of an old one.
    ///
    /// The old one's files are removed. Files that no run writes are left.
    ///
    /// # Errors
    /// As for [`create`](Self::create), except that the folder may hold a run, which must not be going on. A
    /// folder that holds something else is refused, and nothing of it touched. An old checkpoint that can be
    /// hidden and not removed is a warning of the new run.
    pub fn overwrite(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let path = some(path.into())?;
        if !path.join(CONFIG).exists() && !holds_only(&path, &BEFORE_SETTINGS) {
            let text = format!("not overwritten: it holds files, but no run (no {CONFIG})");
            return Err(Error::new(ErrorKind::RunDir, text).at_path(path));
        }
        let mut run = RunDir { path, lock: None, left: Vec::new() };
        if run.path.join(CONFIG).exists() {
            run.read_config::<Value>()?;
        }
        if run.path.is_dir() {
            run.lock = Some(Arc::new(run.acquire()?));
        }
        run.left = run.checkpoints().remove_all()?;
        remove_event_files(&run.tensorboard())?;
        let samples = run.samples();
        files::remove_folder(&samples).map_err(|error| io_error(&samples, "cannot be removed", error))?;
        let tables = [METRICS, CSV, CSV_PART, LR_POINTS, LR_PLOT];
        // The settings last: while they are there, a kill leaves what can be overwritten again.
        for name in [SUMMARY, REPORT, REPORT_PART].into_iter().chain(tables).chain([CONFIG_PART, CONFIG]) {
            let path = run.path.join(name);
            files::remove_file(&path).map_err(|error| io_error(&path, "cannot be removed", error))?;
        }
        run.prepared()
    }

    /// The folder of a run that was begun before, for reading.
    ///
    /// It doesn't matter if the run goes on.
    ///
    /// # Errors
    /// [`ErrorKind::RunDir`] if it holds no run.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let run = RunDir { path: some(path.into())?, lock: None, left: Vec::new() };
        match run.path.join(CONFIG).is_file() {
            true => Ok(run),
            false => {
                Err(Error::new(ErrorKind::RunDir, format!("no run: it has no {CONFIG}")).at_path(run.path))
            }
        }
    }

    /// The same folder, to go on with the run.
    ///
    /// # Errors
    /// [`ErrorKind::RunDir`] if another process trains in it.
    pub fn resume(mut self) -> Result<Self, Error> {
        if self.lock.is_none() {
            self.lock = Some(Arc::new(self.acquire()?));
        }
        Ok(self)
    }

    fn acquire(&self) -> Result<Claim, Error> {
        let path = self.path.join(LOCK);
        let refused = |error| io_error(&path, "cannot be locked", error);
        let file = files::create(&path).map_err(refused)?;
        match files::lock(&file, &path).map_err(refused)? {
            Lock::Taken => Ok(Claim { _file: file, unlocked: None }),
            Lock::Busy => {
                let text = "another process trains in this run folder";
                Err(Error::new(ErrorKind::RunDir, text).at_path(&self.path))
            }
            Lock::Unsupported(error) => {
                let text =
                    "the file system has no locks, so that nothing keeps a second process from training here";
                Ok(Claim { _file: file, unlocked: Some(format!("{}: {text}: {error}", path.display())) })
            }
        }
    }

    /// The warnings before a run begins here.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let unlocked = self.lock.iter().filter_map(|claim| claim.unlocked.clone());
        unlocked.chain(self.left.iter().cloned()).collect()
    }

    /// Makes sure, before any work is done, that the run can be recorded.
    fn prepared(mut self) -> Result<Self, Error> {
        let checkpoints = self.path.join(CHECKPOINTS);
        fs::create_dir_all(&checkpoints)
            .map_err(|error| io_error(&checkpoints, "cannot be created", error))?;
        if self.lock.is_none() {
            self.lock = Some(Arc::new(self.acquire()?));
        }
        let metrics = self.metrics();
        files::create(&metrics).map_err(|error| io_error(&metrics, "cannot be written", error))?;
        Ok(self)
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The run's checkpoints.
    pub fn checkpoints(&self) -> Checkpoints {
        Checkpoints::new(self.path.join(CHECKPOINTS))
    }

    /// The records, a JSON object a line.
    pub fn metrics(&self) -> PathBuf {
        self.path.join(METRICS)
    }

    /// The records as a table, where `firebox_report::CsvLog` writes it.
    pub fn csv(&self) -> PathBuf {
        self.path.join(CSV)
    }

    /// The folder of event files, where `firebox_report::TensorBoard` writes them.
    pub fn tensorboard(&self) -> PathBuf {
        self.path.join(TENSORBOARD)
    }

    /// The report.
    pub fn report(&self) -> PathBuf {
        self.path.join(REPORT)
    }

    /// The folder of what a generator made on the way, as pictures or texts:
    /// [`write_sample`](RunDir::write_sample).
    pub fn samples(&self) -> PathBuf {
        self.path.join(SAMPLES)
    }

    /// The points of a search for a learning rate, a JSON object a line:
    /// [`LrCurve::write`](crate::trainer::LrCurve::write).
    pub fn lr_points(&self) -> PathBuf {
        self.path.join(LR_POINTS)
    }

    /// The plot of that search.
    pub fn lr_plot(&self) -> PathBuf {
        self.path.join(LR_PLOT)
    }

    /// Writes the settings.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if the file cannot be written.
    pub fn write_config(&self, config: &impl Serialize) -> Result<(), Error> {
        write_json(&self.path.join(CONFIG), config)
    }

    /// Reads the settings.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] or [`ErrorKind::RunDir`] if there are none, or of another version or form.
    pub fn read_config<T: DeserializeOwned>(&self) -> Result<T, Error> {
        let path = self.path.join(CONFIG);
        let text = fs::read(&path).map_err(|error| io_error(&path, "cannot be read", error))?;
        from_json(&text).map_err(|text| Error::new(ErrorKind::RunDir, text).at_path(path))
    }

    /// Fails unless a trainer may begin here, or go on: a run that is there already is not written over, and
    /// no other process is at it.
    pub(crate) fn check_ready(&self, resume: bool) -> Result<(), Error> {
        let refused = |text: &str| Err(Error::new(ErrorKind::RunDir, text.to_owned()).at_path(&self.path));
        if self.lock.is_none() {
            return refused(
                "expected a folder that is this process's, by create, overwrite or resume; it was only opened",
            );
        }
        if !resume && !self.checkpoints().is_empty() {
            return refused(
                "it has checkpoints of a run: Trainer::resume(true) goes on, RunDir::overwrite begins anew",
            );
        }
        Ok(())
    }

    /// Writes `settings` if nobody has written any: without them nobody can open the folder.
    pub(crate) fn ensure_config(&self, settings: &impl Serialize) -> Result<(), Error> {
        if self.path.join(CONFIG).exists() { Ok(()) } else { self.write_config(settings) }
    }

    /// Writes the result.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if the file cannot be written.
    pub fn write_summary(&self, summary: &impl Serialize) -> Result<(), Error> {
        write_json(&self.path.join(SUMMARY), summary)
    }

    /// Writes a file into the folder of [`samples`](RunDir::samples).
    ///
    /// It takes the place of one that may be there. Whoever reads it, a live report perhaps, finds one of
    /// them whole.
    ///
    /// # Errors
    /// [`ErrorKind::RunDir`] if the name is not that of a file in the folder, [`ErrorKind::Io`] if the folder
    /// or the file cannot be written.
    pub fn write_sample(&self, name: &str, contents: &[u8]) -> Result<(), Error> {
        if Path::new(name).file_name().is_none_or(|file| file != name) {
            let text = format!("a sample: expected the name of a file, got {name:?}");
            return Err(Error::new(ErrorKind::RunDir, text).at_path(self.samples()));
        }
        let folder = self.samples();
        fs::create_dir_all(&folder).map_err(|error| io_error(&folder, "cannot be made", error))?;
        let path = folder.join(name);
        files::replace(&path, contents).map_err(|error| io_error(&path, "cannot be written", error))
    }
}

/// A path that says something. An empty one would be the current folder in some calls, and nothing in others.
fn some(path: PathBuf) -> Result<PathBuf, Error> {
    match path.as_os_str().is_empty() {
        true => Err(Error::new(ErrorKind::RunDir, "run folder: expected a path, got an empty one")),
        false => Ok(path),
    }
}

/// True if a folder has no other entries than these. One that is not there has none.
fn holds_only(folder: &Path, names: &[&str]) -> bool {
    let mut entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.all(|entry| names.iter().any(|name| entry.file_name() == *name))
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), Error> {
    let failed = |error: std::io::Error| io_error(path, "cannot be written", error);
    let contents = to_json(value).map_err(|error| failed(error.into()))?;
    files::replace(path, &contents).map_err(failed)
}

/// The beginning of the names of TensorBoard's event files.
const EVENTS: &str = "events.out.tfevents.";

/// Removes the event files of a folder, and the folder if nothing else is in it.
fn remove_event_files(folder: &Path) -> Result<(), Error> {
    let failed = |error| io_error(folder, "cannot be read", error);
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(failed)?,
    };
    for entry in entries {
        let entry = entry.map_err(failed)?;
        if entry.file_name().to_str().is_some_and(|name| name.starts_with(EVENTS)) {
            let path = entry.path();
            files::remove_file(&path).map_err(|error| io_error(&path, "cannot be removed", error))?;
        }
    }
    // One that holds something else stays.
    let _ = fs::remove_dir(folder);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_files_are_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["notes", "events.out.tfevents.9000000000.elsewhere.1", "events.out.tfevents.1"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        remove_event_files(folder.path()).unwrap();
        let left: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["notes"]);
        fs::remove_file(folder.path().join("notes")).unwrap();
        remove_event_files(folder.path()).unwrap();
        assert!(!folder.path().exists());
        remove_event_files(folder.path()).unwrap();
    }
}
