//! `metrics.jsonl`: the records of a run, a JSON object a line.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::error::{Error, ErrorKind, io_error};
use crate::event::Record;
use firebox_core::files;

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
        let failed = |error| io_error(&path, "cannot be written", error);
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
        let failed = |error| io_error(&path, "cannot be read", error);
        let bytes = match File::open(&path) {
            Ok(file) => whole_lines(file).map_err(failed)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(failed(error)),
        };
        Self::open(path, bytes)
    }

    pub(crate) fn add(&mut self, record: &Record) -> Result<(), Error> {
        let failed = |error| io_error(&self.path, "cannot be written", error);
        let mut line = serde_json::to_string(record).map_err(|error| failed(error.into()))?;
        line.push('\n');
        if let Err(error) = files::write(&self.file, &self.path, line.as_bytes()) {
            // A full disk: what is there stays a line for each record, and one that comes later goes after
            // them.
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
        let file = self.file.try_clone().map_err(|error| io_error(&self.path, "cannot be written", error))?;
        Ok(MetricsLog { path: self.path.clone(), file, bytes: self.bytes })
    }

    /// Makes everything so far survive a loss of power.
    pub(crate) fn sync(&self) -> Result<(), Error> {
        files::sync(&self.file, &self.path).map_err(|error| io_error(&self.path, "cannot be written", error))
    }
}

/// The bytes of a file up to the end of its last whole line, which is looked for from the end: a long run's
/// file is large.
fn whole_lines(mut file: File) -> io::Result<u64> {
    const BLOCK: u64 = 1 << 16;
    let mut end = file.seek(SeekFrom::End(0))?;
    let mut block = Vec::new();
    while end > 0 {
        let begin = end.saturating_sub(BLOCK);
        file.seek(SeekFrom::Start(begin))?;
        block.clear();
        file.by_ref().take(end - begin).read_to_end(&mut block)?;
        if let Some(place) = block.iter().rposition(|byte| *byte == b'\n') {
            return Ok(begin + place as u64 + 1);
        }
        end = begin;
    }
    Ok(0)
}

/// Iterator over the records in a `metrics.jsonl`.
///
/// A kill, or a writer that is at it, may have left the last line short: that is left out.
///
/// ```
/// use firebox_train::run::Records;
///
/// # let folder = tempfile::tempdir()?;
/// let path = folder.path().join("metrics.jsonl");
/// std::fs::write(&path, "{\"step\": 1, \"loss\": 0.5}\n{\"step\": 2, \"lo")?;
/// let records: Vec<_> = Records::open(&path)?.collect::<Result<_, _>>()?;
/// assert_eq!(records.len(), 1);
/// assert_eq!(records[0]["loss"], 0.5);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Records {
    path: PathBuf,
    file: BufReader<File>,
    text: Vec<u8>,
    /// The lines read, and their bytes.
    lines: usize,
    bytes: u64,
    /// The last line counts although it has no end, if it is a record.
    last_as_it_is: bool,
}

/// No record is as long: what has no line's end in so many bytes is something else, and is not read to its
/// end.
const LONGEST: u64 = 1 << 26;

impl Records {
    /// All records of a file.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if the file cannot be read.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::at(path, 0, 0, true)
    }

    /// The records after a [position](Self::position), for who follows a run.
    ///
    /// The last line counts once it has its end: what comes after that is read another time.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if the file cannot be read.
    pub fn after(path: &Path, (bytes, lines): (u64, usize)) -> Result<Self, Error> {
        Self::at(path, bytes, lines, false)
    }

    fn at(path: &Path, bytes: u64, lines: usize, last_as_it_is: bool) -> Result<Self, Error> {
        let failed = |error| io_error(path, "cannot be read", error);
        let mut file = File::open(path).map_err(failed)?;
        file.seek(SeekFrom::Start(bytes)).map_err(failed)?;
        let (path, file) = (path.to_owned(), BufReader::new(file));
        Ok(Records { path, file, text: Vec::new(), lines, bytes, last_as_it_is })
    }

    /// The bytes and the lines that were read.
    pub fn position(&self) -> (u64, usize) {
        (self.bytes, self.lines)
    }
}

impl Iterator for Records {
    /// [`ErrorKind::RunDir`] for a line that is no JSON object.
    type Item = Result<Map<String, Value>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.text.clear();
        match self.file.by_ref().take(LONGEST).read_until(b'\n', &mut self.text) {
            Ok(0) => return None,
            Ok(_) => {}
            Err(error) => return Some(Err(io_error(&self.path, "cannot be read", error))),
        }
        let whole = self.text.ends_with(b"\n");
        let short = !whole && (self.text.len() as u64) < LONGEST;
        if short && !self.last_as_it_is {
            return None;
        }
        (self.lines, self.bytes) = (self.lines + 1, self.bytes + self.text.len() as u64);
        match serde_json::from_slice(&self.text) {
            Ok(record) => Some(Ok(record)),
            Err(_) if short => None,
            Err(error) => {
                let text = format!("line {}: expected a JSON object", self.lines);
                Some(Err(Error::new(ErrorKind::RunDir, text).at_path(&self.path).caused_by(error)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_gone_on_with_after_its_last_whole_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let long = "x".repeat(200_000);
        for (text, whole) in [
            (String::new(), 0),
            ("{}".to_owned(), 0),
            ("\n".to_owned(), 1),
            ("{}\n{}\n".to_owned(), 6),
            ("{}\n{}\n{\"k".to_owned(), 6),
            (format!("{{}}\n{long}"), 3),
            (long.clone(), 0),
            (format!("{long}\n"), 200_001),
            // As a loss of power may leave it.
            (format!("{{}}\n{}", "\0".repeat(65_536)), 3),
        ] {
            std::fs::write(&path, &text).unwrap();
            assert_eq!(MetricsLog::append(path.clone()).unwrap().bytes(), whole, "{:.20}", text);
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text[..whole as usize]);
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(MetricsLog::append(path).unwrap().bytes(), 0);
    }
}
