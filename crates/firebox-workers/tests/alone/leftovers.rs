//! Leftovers of a pool: none.

use std::collections::BTreeSet;
use std::fs;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// One test at a time, and a look at the process before it.
pub(crate) struct Alone {
    _turn: MutexGuard<'static, ()>,
    files: BTreeSet<String>,
}

/// Waits for the turn of a test.
pub(crate) fn alone() -> Alone {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    Alone { _turn: turn, files: files() }
}

impl Alone {
    /// Fails unless the process is as it was when the test began: no child, no zombie, no descriptor more, no
    /// shared memory.
    #[track_caller]
    pub(crate) fn nothing_is_left(self) {
        assert_eq!(children(), Vec::<u32>::new(), "children, zombies among them");
        // Threads that end after whoever waits for them, and the harness's own files, take a moment.
        let begun = Instant::now();
        // The folder of the test before may have been open when this one began.
        let more = || files().difference(&self.files).cloned().collect::<Vec<_>>();
        while !more().is_empty() && begun.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(more(), Vec::<String>::new(), "open files");
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        assert!(!maps.contains("memfd:"), "shared memory is mapped:\n{maps}");
        let shm = fs::read_dir("/dev/shm").into_iter().flatten().flatten();
        assert!(!shm.into_iter().any(|entry| entry.file_name().to_string_lossy().contains("firebox")));
    }
}

/// The children of this process that nobody has reaped.
pub(crate) fn children() -> Vec<u32> {
    let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
    let of = |task: fs::DirEntry| fs::read_to_string(task.path().join("children")).unwrap_or_default();
    let mut children: Vec<u32> = tasks
        .flat_map(|task| of(task).split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>())
        .collect();
    children.sort_unstable();
    children
}

/// The open files of this process, each with its number.
fn files() -> BTreeSet<String> {
    let entries = fs::read_dir("/proc/self/fd").unwrap().flatten();
    entries
        .filter_map(|entry| {
            let target = fs::read_link(entry.path()).ok()?.to_string_lossy().into_owned();
            // The folder that is just being read.
            (!target.contains("/fd")).then(|| format!("{}: {target}", entry.file_name().to_string_lossy()))
        })
        .collect()
}

/// Tells whether there is such a process, zombies not counted.
pub(crate) fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// Waits until it is so, and fails if that takes longer than the limit. Gives the time that it took.
#[track_caller]
pub(crate) fn within(limit: Duration, what: &str, is_so: impl Fn() -> bool) -> Duration {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < limit, "{what}: not within {limit:?}");
        thread::sleep(Duration::from_millis(2));
    }
    begun.elapsed()
}

/// Far beyond what anything here takes, on a machine that does other things as well.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Fails unless what `time` measures is within the limit in one of several attempts: a machine that
/// does other things as well holds up everything now and then, but what is too slow is so each time.
#[track_caller]
pub(crate) fn soon(limit: Duration, what: &str, mut time: impl FnMut() -> Duration) {
    let mut times = Vec::new();
    while times.len() < 8 {
        times.push(time());
        if times.last() < Some(&limit) {
            return;
        }
    }
    panic!("{what}: expected at most {limit:?}, got {times:?}");
}
