//! Disks that fail, for tests: any of the changes below a folder, or all from one on.
//!
//! ```
//! use firebox_core::files::{self, fault::Watched};
//!
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("state.json");
//! files::replace(&path, b"old")?;
//! // The disk is full from the second change on.
//! let full = Watched::failing(folder.path(), 1..usize::MAX);
//! assert!(files::replace(&path, b"new").is_err());
//! assert_eq!(std::fs::read(&path)?, b"old");
//! # drop(full);
//! # Ok::<(), std::io::Error>(())
//! ```

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use rustix::io::Errno;

use super::Change;

/// The changes below a folder, or of a file, while this lives.
///
/// Other tests of the process have folders of their own.
#[derive(Debug)]
pub struct Watched(PathBuf);

#[derive(Debug)]
struct Fault {
    below: PathBuf,
    /// The changes so far, and who has made them.
    seen: Vec<(Change, PathBuf, Option<String>)>,
    /// Those that fail.
    failing: Range<usize>,
    /// The change that the system refuses: its error, how often, and for which names.
    refused: Option<(Change, Errno, usize, &'static str)>,
    struck: Vec<(Change, PathBuf)>,
}

static FAULTS: Mutex<Vec<Fault>> = Mutex::new(Vec::new());

/// The text of a fault. A full disk has another one, and is told apart.
pub const TEXT: &str = "no room, says the test";

impl Watched {
    /// Has the changes with these numbers fail, counted from 0.
    ///
    /// Things are always removed, and files cut, unless one change alone fails: a full disk has room for
    /// that.
    pub fn failing(below: &Path, failing: Range<usize>) -> Self {
        Self::new(below, failing, None)
    }

    /// Has every change of a kind be refused by the system.
    pub fn refusing(below: &Path, change: Change, errno: Errno) -> Self {
        Self::refusing_names(below, "", change, errno)
    }

    /// Has the changes of a kind be refused by the system, of what has a name that begins so.
    ///
    /// The removal of nothing never is.
    pub fn refusing_names(below: &Path, names: &'static str, change: Change, errno: Errno) -> Self {
        Self::new(below, 0..0, Some((change, errno, usize::MAX, names)))
    }

    /// Has the first change of a kind be refused by the system.
    pub fn refusing_once(below: &Path, change: Change, errno: Errno) -> Self {
        Self::new(below, 0..0, Some((change, errno, 1, "")))
    }

    fn new(
        below: &Path,
        failing: Range<usize>,
        refused: Option<(Change, Errno, usize, &'static str)>,
    ) -> Self {
        let below = below.to_owned();
        faults().push(Fault { below: below.clone(), seen: Vec::new(), failing, refused, struck: Vec::new() });
        Watched(below)
    }

    /// The changes so far, with the names of the threads that have made them.
    pub fn seen(&self) -> Vec<(Change, PathBuf, Option<String>)> {
        faults().iter().find(|fault| fault.below == self.0).map_or(Vec::new(), |fault| fault.seen.clone())
    }

    /// Those that failed.
    pub fn struck(&self) -> Vec<(Change, PathBuf)> {
        faults().iter().find(|fault| fault.below == self.0).map_or(Vec::new(), |fault| fault.struck.clone())
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        faults().retain(|fault| fault.below != self.0);
    }
}

fn faults() -> MutexGuard<'static, Vec<Fault>> {
    FAULTS.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Fails if the change is one of those that should.
pub(super) fn check(change: Change, path: &Path) -> io::Result<()> {
    for fault in faults().iter_mut().filter(|fault| path.starts_with(&fault.below)) {
        let number = fault.seen.len();
        fault.seen.push((change, path.to_owned(), std::thread::current().name().map(str::to_owned)));
        if let Some((refused, errno, left, names)) = &mut fault.refused
            && *refused == change
            && *left > 0
            && path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(*names))
            && (change != Change::Remove || path.symlink_metadata().is_ok())
        {
            *left -= 1;
            fault.struck.push((change, path.to_owned()));
            return Err((*errno).into());
        }
        let frees = matches!(change, Change::Remove | Change::Cut) && fault.failing.len() > 1;
        if fault.failing.contains(&number) && !frees {
            fault.struck.push((change, path.to_owned()));
            return Err(io::Error::new(io::ErrorKind::StorageFull, TEXT));
        }
    }
    Ok(())
}
