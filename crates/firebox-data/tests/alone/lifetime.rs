//! Leftovers of a loader that was dropped: none.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use firebox_data::collate::Ragged;
use firebox_data::{ErrorKind, Loader, Pad, Scalar, Stack};

use crate::{in_a_process_of_its_own, turn};

/// Long enough for anything that comes at all.
const AGES: Duration = Duration::from_secs(30);

/// A number of this process, as the system counts: `Threads`, or `VmRSS` in KiB.
fn status(field: &str) -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

fn open_files() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// The threads of loaders by their names.
fn names() -> BTreeMap<String, usize> {
    let mut names = BTreeMap::new();
    for task in fs::read_dir("/proc/self/task").unwrap() {
        // A thread may end meanwhile.
        let name = fs::read_to_string(task.unwrap().path().join("comm")).unwrap_or_default();
        if name.starts_with("firebox") {
            *names.entry(name.trim().to_owned()).or_insert(0) += 1;
        }
    }
    names
}

/// Waits until as many threads are there: the system counts a thread for a moment after it was joined.
fn wait_for_threads(expected: usize) {
    let begun = Instant::now();
    while status("Threads") != expected {
        assert!(begun.elapsed() < AGES, "{} threads, expected {expected}", status("Threads"));
        thread::yield_now();
    }
}

/// Makes a loader with batches of a megabyte, takes some of them, and drops it.
fn live(life: usize) {
    let mut builder = Loader::builder((0..160u8).collect::<Vec<_>>())
        .shuffle(true)
        .batch_size(16)
        .workers(4)
        .as_completed(life % 3 == 1);
    if life % 4 == 2 {
        builder = builder.readers(2);
    }
    if life % 5 == 3 {
        builder = builder.timeout(AGES);
    }
    let layout = (Stack::<u8, 1>::new([1 << 16]), Pad::with(0u8), Ragged::new(Ok));
    let loader = builder
        .build(layout, |number, _, (row, text, gathered)| {
            row.fill(number);
            text.resize(100 * usize::from(number), number);
            *gathered = Some(vec![number; 100]);
            Ok(())
        })
        .unwrap();
    let mut epoch = loader.epoch(life as u64);
    let stop = life % 12;
    for batch in epoch.by_ref().take(stop) {
        let (rows, texts, gathered) = batch.unwrap();
        assert_eq!((rows.samples, texts.lengths.len(), gathered.len()), (16, 16, 16));
    }
    // In the middle, before the first batch, behind the last; with one epoch and with two.
    let second = life.is_multiple_of(2).then(|| loader.epoch(1).next());
    drop((epoch, second));
}

/// A door that samples wait at.
#[derive(Default)]
struct Door {
    begun: AtomicUsize,
    open: Mutex<bool>,
    opened: Condvar,
}

impl Door {
    fn wait(&self) {
        self.begun.fetch_add(1, Ordering::SeqCst);
        let open = self.open.lock().unwrap();
        drop(self.opened.wait_while(open, |open| !*open).unwrap());
    }

    fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }

    fn wait_for(&self, samples: usize) {
        let begun = Instant::now();
        while self.begun.load(Ordering::SeqCst) < samples {
            assert!(begun.elapsed() < AGES, "no sample was begun");
            thread::yield_now();
        }
    }
}

/// A loader of four threads whose samples all wait at a door.
fn waiting(door: &Arc<Door>, limit: Option<Duration>) -> Loader<Scalar<u8>> {
    let mut builder = Loader::builder(vec![0u8; 100]).batch_size(2).workers(4);
    if let Some(limit) = limit {
        builder = builder.timeout(limit);
    }
    let door = Arc::clone(door);
    builder
        .build(Scalar::<u8>::new(), move |_, _, _| {
            door.wait();
            Ok(())
        })
        .unwrap()
}

/// How long after the end of its last task a loader's drop takes.
fn time_to_join(limit: Option<Duration>) -> Duration {
    let door = Arc::new(Door::default());
    let loader = waiting(&door, limit);
    drop(loader.epoch(0));
    let epoch = loader.epoch(0);
    door.wait_for(4);
    drop(epoch);
    let ending = thread::spawn(move || {
        // The other thread is in the drop by then, as a rule.
        thread::sleep(Duration::from_millis(20));
        let ended = Instant::now();
        door.open();
        ended
    });
    drop(loader);
    let dropped = Instant::now();
    dropped.saturating_duration_since(ending.join().unwrap())
}

/// Has glibc's allocator give back at once what is freed: what it keeps for later, some megabytes now and
/// then, would hide what is lost.
const KEEP_NOTHING: [(&str, &str); 3] =
    [("MALLOC_ARENA_MAX", "1"), ("MALLOC_TRIM_THRESHOLD_", "65536"), ("MALLOC_MMAP_THRESHOLD_", "65536")];

#[test]
fn a_dropped_loader_leaves_nothing_behind() {
    if std::env::var_os(KEEP_NOTHING[0].0).is_none() {
        // The allocator reads its settings when a process begins.
        let _turn = turn();
        return in_a_process_of_its_own("lifetime::a_dropped_loader_leaves_nothing_behind", &KEEP_NOTHING);
    }
    let alone = status("Threads");

    // Threads carry the loader's name while it lives.
    let door = Arc::new(Door::default());
    let loader = waiting(&door, None);
    let epoch = loader.epoch(0);
    door.wait_for(4);
    let expected: BTreeMap<_, _> = (0..4).map(|worker| (format!("firebox-load-{worker}"), 1)).collect();
    assert_eq!(names(), expected);
    door.open();
    assert_eq!(epoch.count(), 50);
    drop(loader);
    wait_for_threads(alone);
    assert!(names().is_empty());

    // The best of some: the machine may be busy with other things.
    for limit in [None, Some(AGES)] {
        let best = (0..5).map(|_| time_to_join(limit)).min().unwrap();
        assert!(best < Duration::from_millis(100), "joined {best:?} after the last task");
        wait_for_threads(alone);
    }

    // A thread that was given up ends with its task, wherever the loader is by then.
    let door = Arc::new(Door::default());
    let loader = waiting(&door, Some(Duration::from_millis(100)));
    let error = loader.epoch(0).next().unwrap().unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::TimedOut);
    drop(loader);
    assert!(status("Threads") > alone, "the sample still hangs");
    door.open();
    wait_for_threads(alone);

    // The first loaders fill what allocators keep.
    (0..20).for_each(live);
    wait_for_threads(alone);
    let (files, memory) = (open_files(), status("VmRSS"));
    (20..120).for_each(live);
    wait_for_threads(alone);
    assert_eq!(open_files(), files);
    let grown = status("VmRSS").saturating_sub(memory);
    assert!(grown < 2 << 10, "{grown} KiB more after 100 loaders");
}
