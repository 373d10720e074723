//! `metrics.jsonl`: the records of a run, a JSON object a line.

use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

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

    /// Opens a file at its end, or at the end of its last whole line.
    pub(crate) fn append(path: PathBuf) -> Result<Self, Error> {
        let failed = |error| Error::io(&path, "cannot be read", error);
        let mut bytes = 0;
        match File::open(&path) {
            Ok(file) => {
                let (mut file, mut line) = (BufReader::new(file), Vec::new());
                while file.read_until(b'\n', &mut line).map_err(failed)? > 0 && line.ends_with(b"\n") {
                    bytes += line.len() as u64;
                    line.clear();
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
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

/// The records in a file, one after the other. A kill, or a writer that is at it, may have left the last line short: that is
/// left out.
#[derive(Debug)]
pub(crate) struct Records {
    path: PathBuf,
    file: BufReader<File>,
    text: Vec<u8>,
    /// Lines read.
    line: usize,
}

impl Records {
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(|error| Error::io(path, "cannot be read", error))?;
        Ok(Records { path: path.to_owned(), file: BufReader::new(file), text: Vec::new(), line: 0 })
    }
}

impl Iterator for Records {
    /// [`ErrorKind::RunDir`] for a line that is no JSON object.
    type Item = Result<Map<String, Value>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.text.clear();
        self.line += 1;
        match self.file.read_until(b'\n', &mut self.text) {
            Ok(0) => return None,
            Ok(_) => {}
            Err(error) => return Some(Err(Error::io(&self.path, "cannot be read", error))),
        }
        match serde_json::from_slice(&self.text) {
            Ok(record) => Some(Ok(record)),
            Err(_) if !self.text.ends_with(b"\n") => None,
            Err(error) => {
                let text = format!("line {}: expected a JSON object", self.line);
                Some(Err(Error::new(ErrorKind::RunDir, text).at_path(&self.path).caused_by(error)))
            }
        }
    }
}
