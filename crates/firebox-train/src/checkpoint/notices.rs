//! Warnings about a run's files, each thing once.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Warnings about files and folders, gathered where they arise and told where the run is. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notices(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    /// The files that there was a warning about.
    known: BTreeSet<PathBuf>,
    /// Warnings that nobody has taken yet.
    new: Vec<String>,
}

impl Notices {
    /// Adds a warning about a file or folder, unless there was one.
    pub(crate) fn add(&self, about: &Path, text: impl FnOnce() -> String) {
        let mut inner = self.inner();
        if inner.known.insert(about.to_owned()) {
            inner.new.push(text());
        }
    }

    /// Takes the warnings since the last call.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.inner().new)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Each change is one call: nothing is left half done where a panic could be.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thing_is_told_once() {
        let notices = Notices::default();
        notices.clone().add(Path::new("a"), || "first".to_owned());
        notices.add(Path::new("a"), || "again".to_owned());
        notices.add(Path::new("b"), || "other".to_owned());
        assert_eq!(notices.take(), ["first", "other"]);
        notices.add(Path::new("a"), || "later".to_owned());
        assert_eq!(notices.take(), Vec::<String>::new());
    }
}
