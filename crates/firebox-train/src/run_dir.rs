//! The folder that a run leaves: settings, records, checkpoints, summary, report.
//!
//! Other tools read these files; their names and fields are a contract, and each JSON object in them says its
//! `format_version`.
//!
//! | name | holds |
//! |---|---|
//! | `config.json` | the settings of the run |
//! | `metrics.jsonl` | an object a line for each step, evaluation and epoch |
//! | `checkpoints/` | see [`Checkpoints`](crate::Checkpoints) |
//! | `summary.json` | the result |
//! | `report.html` | curves and pictures, self-contained |

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{Error, ErrorKind};

/// The version of the run folder's files.
pub const FORMAT_VERSION: u32 = 1;

const CONFIG: &str = "config.json";
const METRICS: &str = "metrics.jsonl";
const CHECKPOINTS: &str = "checkpoints";
const SUMMARY: &str = "summary.json";
const REPORT: &str = "report.html";

/// A run's folder.
#[derive(Clone, Debug)]
pub struct RunDir {
    path: PathBuf,
}

impl RunDir {
    /// A folder for a new run: it must not exist, or be empty.
    ///
    /// # Errors
    /// [`ErrorKind::RunDir`] if something is in it, [`ErrorKind::Io`] if it cannot be written to.
    pub fn create(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let path = path.into();
        let used = match fs::read_dir(&path) {
            Ok(mut entries) => entries.next().is_some(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
            Err(error) => return Err(Error::io(&path, "cannot be a run folder", error)),
        };
        if used {
            let text = "the run folder is already used: resume its run, overwrite it, or choose another";
            return Err(Error::new(ErrorKind::RunDir, text).at_path(path));
        }
        RunDir { path }.prepared()
    }

    /// A folder for a new run, called `parent/name-YYYYMMDD-HHMMSS` by the local time.
    ///
    /// # Errors
    /// As for [`create`](Self::create).
    pub fn create_under(parent: impl AsRef<Path>, name: &str) -> Result<Self, Error> {
        let parent = parent.as_ref();
        fs::create_dir_all(parent).map_err(|error| Error::io(parent, "cannot be created", error))?;
        let name = format!("{name}-{}", jiff::Zoned::now().strftime("%Y%m%d-%H%M%S"));
        // Runs that begin in the same second are told apart by a number.
        for suffix in std::iter::once(String::new()).chain((2..).map(|number| format!("-{number}"))) {
            let path = parent.join(format!("{name}{suffix}"));
            match fs::create_dir(&path) {
                Ok(()) => return RunDir { path }.prepared(),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Error::io(&path, "cannot be created", error)),
            }
        }
        unreachable!("there is always a next number")
    }

    /// The newest folder that [`create_under`](Self::create_under) has made and that holds a run.
    ///
    /// # Errors
    /// [`ErrorKind::RunDir`] if there is none.
    pub fn newest_under(parent: impl AsRef<Path>, name: &str) -> Result<Self, Error> {
        let parent = parent.as_ref();
        let runs = fs::read_dir(parent).into_iter().flatten().flatten().filter(|entry| {
            let entry = entry.file_name();
            entry
                .to_str()
                .and_then(|entry| entry.strip_prefix(name))
                .is_some_and(|rest| rest.starts_with('-'))
        });
        let newest = runs.map(|entry| entry.path()).filter(|path| path.join(CONFIG).is_file()).max();
        match newest {
            Some(path) => Self::open(path),
            None => Err(Error::new(ErrorKind::RunDir, format!("no run of {name} in here")).at_path(parent)),
        }
    }

    /// A folder for a new run in the place of an old one, whose files are removed; files that no run writes
    /// are left.
    ///
    /// # Errors
    /// As for [`create`](Self::create), except that the folder may hold a run.
    pub fn overwrite(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let run = RunDir { path: path.into() };
        for name in [CONFIG, METRICS, SUMMARY, REPORT] {
            let path = run.path.join(name);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io(&path, "cannot be removed", error));
                }
                _ => {}
            }
        }
        let checkpoints = run.checkpoints();
        match fs::remove_dir_all(&checkpoints) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io(&checkpoints, "cannot be removed", error))
            }
            _ => run.prepared(),
        }
    }

    /// The folder of a run that was begun before.
    ///
    /// # Errors
    /// [`ErrorKind::RunDir`] if it holds no run.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let run = RunDir { path: path.into() };
        match run.path.join(CONFIG).is_file() {
            true => Ok(run),
            false => {
                Err(Error::new(ErrorKind::RunDir, format!("no run: it has no {CONFIG}")).at_path(run.path))
            }
        }
    }

    /// Makes sure, before any work is done, that the run can be recorded.
    fn prepared(self) -> Result<Self, Error> {
        let checkpoints = self.checkpoints();
        fs::create_dir_all(&checkpoints)
            .map_err(|error| Error::io(&checkpoints, "cannot be created", error))?;
        let metrics = self.metrics();
        File::create(&metrics).map_err(|error| Error::io(&metrics, "cannot be written", error))?;
        Ok(self)
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder of checkpoints.
    pub fn checkpoints(&self) -> PathBuf {
        self.path.join(CHECKPOINTS)
    }

    /// The records, a JSON object a line.
    pub fn metrics(&self) -> PathBuf {
        self.path.join(METRICS)
    }

    /// The report.
    pub fn report(&self) -> PathBuf {
        self.path.join(REPORT)
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
        let text = fs::read_to_string(&path).map_err(|error| Error::io(&path, "cannot be read", error))?;
        from_json(&text).map_err(|text| Error::new(ErrorKind::RunDir, text).at_path(path))
    }

    /// Writes the result.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if the file cannot be written.
    pub fn write_summary(&self, summary: &impl Serialize) -> Result<(), Error> {
        write_json(&self.path.join(SUMMARY), summary)
    }
}

/// Reads an object and checks its version.
pub(crate) fn from_json<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
    let version = value.get("format_version").and_then(Value::as_u64);
    if version != Some(u64::from(FORMAT_VERSION)) {
        let got = version.map_or("none".to_owned(), |version| version.to_string());
        return Err(format!("expected format_version {FORMAT_VERSION}, got {got}"));
    }
    serde_json::from_value(value).map_err(|error| format!("unexpected contents: {error}"))
}

/// An object with its version, as text.
pub(crate) fn to_json(value: &impl Serialize) -> Result<Value, serde_json::Error> {
    let mut value = serde_json::to_value(value)?;
    if let Value::Object(fields) = &mut value {
        fields.insert("format_version".to_owned(), FORMAT_VERSION.into());
    }
    Ok(value)
}

/// Writes a file so that it is there whole or not at all.
fn write_json(path: &Path, value: &impl Serialize) -> Result<(), Error> {
    let failed = |error: std::io::Error| Error::io(path, "cannot be written", error);
    let value = to_json(value).map_err(|error| failed(error.into()))?;
    let text = format!("{value:#}\n");
    let beside = path.with_added_extension("part");
    let mut file = File::create(&beside).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    fs::rename(&beside, path).map_err(failed)
}
