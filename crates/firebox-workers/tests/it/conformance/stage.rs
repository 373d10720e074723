//! Where tasks and tests meet: a folder.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::wait_until;

/// A folder in which tasks leave marks and wait for files that a test makes. It is removed at the test's end,
/// which sends all that still wait on their way.
pub(crate) struct Stage {
    folder: PathBuf,
}

impl Stage {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("firebox-stage-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        fs::create_dir(&folder).unwrap();
        Stage { folder }
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.folder.clone()
    }

    /// Opens a gate, for all that wait there and those who come later.
    pub(crate) fn open(&self, gate: u64) {
        File::create(gate_in(&self.folder, gate)).unwrap();
    }

    /// How many marks there are.
    pub(crate) fn marks(&self) -> usize {
        marks_in(&self.folder)
    }

    /// Waits until there are so many marks.
    #[track_caller]
    pub(crate) fn wait_for_marks(&self, marks: usize) {
        wait_until(|| self.marks() >= marks);
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // A task may leave a mark while this goes on.
        for _ in 0..100 {
            if fs::remove_dir_all(&self.folder).is_ok() {
                return;
            }
        }
    }
}

/// Leaves a mark, which is there before it can be counted, and counted once.
pub(super) fn leave_mark(folder: &Path, name: u64) {
    let _ = File::create(folder.join(format!("mark-{name}")));
}

/// Waits at a gate until it is open, or nobody is there any more to open it.
pub(super) fn wait_at(folder: &Path, gate: u64) {
    let gate = gate_in(folder, gate);
    while folder.exists() && !gate.exists() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Waits until there are so many marks, or nobody is there any more to count them.
pub(super) fn wait_for_marks(folder: &Path, marks: usize) {
    while folder.exists() && marks_in(folder) < marks {
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn gate_in(folder: &Path, gate: u64) -> PathBuf {
    folder.join(format!("gate-{gate}"))
}

fn marks_in(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("mark-")).count()
}
