//! `metrics.jsonl`: the records of a run, a JSON object a line.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::path::PathBuf;

use crate::error::{Error, ErrorKind};
use crate::event::Record;
use crate::files;

/// An open file of records.
#[derive(Debug)]
pub(crate) struct MetricsLog {
    path: PathBuf,
    /// Not buffered: whoever follows the file sees each step at once.
    file: File,
    bytes: u64,
}

impl MetricsLog {
    /// Opens a file and cuts it to `bytes`, so that steps which will be done again are not in it twice.
    pub(crate) fn open(path: PathBuf, bytes: u64) -> Result<Self, Error> {
        let failed = |error| Error::io(&path, "cannot be written", error);
        let mut file = files::open(&path).map_err(failed)?;
        let found = file.metadata().map_err(failed)?.len();
        if found < bytes {
            let text = format!("expected at least the {bytes} bytes that the checkpoint counts, got {found}");
            return Err(Error::new(ErrorKind::Checkpoint, text).at_path(path));
        }
        files::cut(&file, &path, bytes).map_err(failed)?;
        file.seek(SeekFrom::End(0)).map_err(failed)?;
        Ok(MetricsLog { path, file, bytes })
    }

    /// Opens a file at its end.
    pub(crate) fn append(path: PathBuf) -> Result<Self, Error> {
        let bytes = match path.metadata() {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
            Err(error) => return Err(Error::io(&path, "cannot be read", error)),
        };
        Self::open(path, bytes)
    }

    pub(crate) fn add(&mut self, record: &Record) -> Result<(), Error> {
        let failed = |error| Error::io(&self.path, "cannot be written", error);
        let mut line = serde_json::to_string(record).map_err(|error| failed(error.into()))?;
        line.push('\n');
        if let Err(error) = files::write(&self.file, &self.path, line.as_bytes()) {
            // A full disk: what is there stays a line for each record, and one that comes later goes behind them.
            let _ = files::cut(&self.file, &self.path, self.bytes);
            let _ = self.file.seek(SeekFrom::Start(self.bytes));
            return Err(failed(error));
        }
        self.bytes += line.len() as u64;
        Ok(())
    }

    /// How long the file is.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The same file, for another thread.
    pub(crate) fn another(&self) -> Result<Self, Error> {
        let file =
            self.file.try_clone().map_err(|error| Error::io(&self.path, "cannot be written", error))?;
        Ok(MetricsLog { path: self.path.clone(), file, bytes: self.bytes })
    }

    /// Makes everything so far survive a loss of power.
    pub(crate) fn sync(&self) -> Result<(), Error> {
        files::sync(&self.file, &self.path).map_err(|error| Error::io(&self.path, "cannot be written", error))
    }
}
