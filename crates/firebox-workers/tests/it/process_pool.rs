//! Pools of processes, beyond what all workers have.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use firebox_workers::process_pool::{RemoteError, RemotePanic};
use firebox_workers::{ErrorKind, Pool, ProcessPool, Work, Worker, WorkersExt as _, remote_work};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::conformance::Stage;

/// Bytes that cross as such.
#[derive(Clone, Debug, PartialEq)]
struct Blob(Vec<u8>);

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl serde::de::Visitor<'_> for Bytes {
            type Value = Blob;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }

            fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Blob, E> {
                Ok(Blob(bytes))
            }
        }
        deserializer.deserialize_byte_buf(Bytes)
    }
}

fn turned(blob: Blob) -> Blob {
    Blob(blob.0.into_iter().rev().collect())
}

#[test]
fn values_of_any_size_cross() {
    let pool = Pool::processes(2).unwrap();
    // Around what a message takes, growing and shrinking, and beyond what is kept.
    let sizes = [
        0, 1, 32_000, 32_639, 32_640, 32_641, 32_768, 65_536, 100_000, 5_000_000, 70_000_000, 3, 40_000,
        300_000,
    ];
    let blob = |size: usize| Blob((0..size).map(|at| (at * 7 + size) as u8).collect());
    let results: Vec<_> = pool.imap(turned, sizes.map(blob), 3).map(Result::unwrap).collect();
    for (size, result) in sizes.into_iter().zip(results) {
        assert_eq!(turned(result), blob(size), "{size} bytes");
    }
    // Small ones that are large together.
    let tasks: Vec<Vec<u64>> = (0..3000).map(|x| vec![x; 100]).collect();
    assert_eq!(pool.map(|x: Vec<u64>| x, tasks.clone()).unwrap(), tasks);
    assert_eq!(pool.statistics().deaths, 0);
}

#[test]
fn what_is_too_large_is_an_error_that_has_the_bytes() {
    let pool = ProcessPool::builder(1).most_bytes(100_000).build().unwrap();
    let sum = |blob: Blob| blob.0.len();
    assert_eq!(pool.submit((sum, Blob(vec![0; 90_000]))).wait().unwrap(), 90_000);
    let error = pool.submit((sum, Blob(vec![0; 100_001]))).wait().unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Crossing);
    assert!(error.to_string().contains("a task: expected at most 100000 bytes, got 100009"), "{error}");
    let make = |size: usize| Blob(vec![7; size]);
    assert_eq!(pool.map(make, [90_000]).unwrap()[0].0.len(), 90_000);
    let error = pool.imap(make, [100_000], 1).next().unwrap().unwrap_err();
    assert!(error.to_string().contains("a result: expected at most 100000 bytes, got 100009"), "{error}");
    assert_eq!(pool.map(make, [5]).unwrap()[0].0, [7; 5], "the worker lives on");
    assert_eq!(pool.statistics().deaths, 0);
}

/// Work that leaves a mark where it is made.
#[derive(Debug)]
struct Marking {
    folder: PathBuf,
    by: u64,
}

impl Serialize for Marking {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (&self.folder, self.by).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Marking {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (folder, by) = <(PathBuf, u64)>::deserialize(deserializer)?;
        let number = fs::read_dir(&folder).unwrap().count();
        fs::write(folder.join(format!("{}-{number}", std::process::id())), "").unwrap();
        Ok(Marking { folder, by })
    }
}

impl Work<u64> for Marking {
    type Output = u64;

    fn run(&self, x: u64, _: Worker<'_>) -> u64 {
        x * self.by
    }
}

remote_work!(Marking);

#[test]
fn work_is_made_of_its_settings_once_in_each_worker() {
    let (pool, stage) = (Pool::processes(2).unwrap(), Stage::new());
    let work = |by| Arc::new(Marking { folder: stage.folder(), by });
    let made = || {
        let mut made = BTreeMap::<String, usize>::new();
        for entry in fs::read_dir(stage.folder()).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            *made.entry(name.split('-').next().unwrap().to_owned()).or_default() += 1;
        }
        made
    };
    let own = std::process::id().to_string();
    for round in 1..=3 {
        // The same settings, in another place each time.
        let results: Vec<u64> = pool.imap_shared(work(3), 0..100, 4).map(Result::unwrap).collect();
        assert!(results.into_iter().eq((0..100).map(|x| 3 * x)));
        let made = made();
        assert!(made.iter().filter(|(pid, _)| **pid != own).all(|(_, &times)| times == 1), "{made:?}");
        // Here it is made to be looked at.
        assert_eq!(made[&own], round);
    }
    // More kinds of work than a worker keeps, over and over.
    for by in (0..12).chain(0..12) {
        let stream = pool.imap_shared(work(by), 0..4, 4).map(Result::unwrap);
        assert!(stream.eq((0..4).map(|x| by * x)));
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Forgets {
    kept: u64,
    #[serde(skip)]
    seed: u64,
}

impl Work<u64> for Forgets {
    type Output = u64;

    fn run(&self, x: u64, _: Worker<'_>) -> u64 {
        x + self.kept + self.seed
    }
}

remote_work!(Forgets);

/// Work that can't be made while there is a file in its folder, which says how.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Moody {
    folder: PathBuf,
}

impl<'de> Deserialize<'de> for Moody {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let folder = PathBuf::deserialize(deserializer)?;
        match fs::read_to_string(folder.join("mood")).as_deref() {
            Ok("panic") => panic!("a bad mood"),
            Ok(mood) => Err(serde::de::Error::custom(mood)),
            Err(_) => Ok(Moody { folder }),
        }
    }
}

impl Work<u64> for Moody {
    type Output = u64;

    fn run(&self, x: u64, _: Worker<'_>) -> u64 {
        x + 1
    }
}

remote_work!(Moody);

#[test]
fn work_that_could_not_be_made_once_is_made_for_a_later_task() {
    let (pool, stage) = (Pool::processes(1).unwrap(), Stage::new());
    let mood = stage.folder().join("mood");
    let mut dispatch = pool.dispatch(Arc::new(Moody { folder: stage.folder() }), 1);
    let mut result_of = |x| {
        assert!(dispatch.send(x).is_ok());
        dispatch.receive().unwrap().1
    };
    // The parent makes it when the first task is packed, and the worker after this one knows nothing of it.
    assert_eq!(result_of(1).unwrap(), 2);
    pool.map(|_: u64| -> u64 { std::process::exit(0) }, [0]).unwrap_err();
    for round in 0..3 {
        fs::write(&mood, "no mood").unwrap();
        let error = result_of(2).unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Crossing, "in round {round}");
        assert!(error.to_string().contains("the work: ") && error.to_string().contains("no mood"), "{error}");
        fs::write(&mood, "panic").unwrap();
        let error = result_of(3).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Panicked(text) if text == "a bad mood"), "{error}");
    }
    fs::remove_file(&mood).unwrap();
    assert_eq!(result_of(4).unwrap(), 5);
    // It is made by now, and stays.
    fs::write(&mood, "no mood").unwrap();
    assert_eq!(result_of(5).unwrap(), 6);
}

#[test]
fn settings_that_do_not_survive_are_named_by_field() {
    let pool = Pool::processes(1).unwrap();
    assert!(pool.check_work::<u64, _>(&Forgets { kept: 1, seed: 0 }).is_ok());
    let text = "expected `seed: 7` to come back in another process, got `seed: 0`";
    let error = pool.check_work::<u64, _>(&Forgets { kept: 1, seed: 7 }).unwrap_err();
    assert!(error.kind() == &ErrorKind::Crossing && error.to_string().contains(text), "{error}");
    let error = pool.map(Forgets { kept: 1, seed: 7 }, [1]).unwrap_err();
    assert!(error.to_string().contains(text) && error.to_string().contains("Forgets"), "{error}");
    assert_eq!(error.index(), Some(0));
    assert_eq!(pool.map(Forgets { kept: 1, seed: 0 }, [1]).unwrap(), [2]);
}

/// Work with a parameter.
#[derive(Debug, Serialize, Deserialize)]
struct With<S>(S);

impl<S: Send + Sync + Copy + Into<u64> + 'static> Work<u64> for With<S> {
    type Output = u64;

    fn run(&self, x: u64, _: Worker<'_>) -> u64 {
        x + self.0.into()
    }
}

remote_work!([S: Send + Sync + Copy + Into<u64> + std::fmt::Debug + Serialize + serde::de::DeserializeOwned + 'static] With<S>);

#[test]
fn work_with_parameters_is_registered() {
    let pool = Pool::processes(1).unwrap();
    assert_eq!(pool.map(With(3_u8), [1, 2]).unwrap(), [4, 5]);
    assert_eq!(pool.map(With(300_u32), [1, 2]).unwrap(), [301, 302]);
}

/// A value that cannot be written, or not be read, or panics at it.
#[derive(Debug, Clone, Copy)]
enum Awkward {
    Fine,
    Unwritten,
    Unread,
    Panics,
}

impl Serialize for Awkward {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Awkward::Fine => 0_u8.serialize(serializer),
            Awkward::Unread => 1_u8.serialize(serializer),
            Awkward::Unwritten => Err(serde::ser::Error::custom("no pen")),
            Awkward::Panics => panic!("no paper"),
        }
    }
}

impl<'de> Deserialize<'de> for Awkward {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u8::deserialize(deserializer)? {
            0 => Ok(Awkward::Fine),
            _ => Err(serde::de::Error::custom("no glasses")),
        }
    }
}

#[test]
fn values_that_cannot_cross_are_errors_and_spare_the_others() {
    let pool = Pool::processes(1).unwrap();
    let tasks = [Awkward::Fine, Awkward::Unwritten, Awkward::Unread, Awkward::Panics, Awkward::Fine];
    let expected = [None, Some("no pen"), Some("no glasses"), Some("no paper"), None];
    let results: Vec<_> = pool.imap(|_: Awkward| 1, tasks, 5).collect();
    for (task, (result, expected)) in results.into_iter().zip(expected).enumerate() {
        match expected {
            None => assert_eq!(result.unwrap(), 1),
            Some(text) => {
                let error = result.unwrap_err();
                assert_eq!((error.kind(), error.index()), (&ErrorKind::Crossing, Some(task)));
                assert!(error.to_string().contains(text), "{error}");
            }
        }
    }
    let make = |kind: u8| [Awkward::Fine, Awkward::Unwritten][usize::from(kind)];
    let error = pool.imap(make, [1], 1).next().unwrap().unwrap_err();
    assert!(error.to_string().contains("could not write its result: no pen"), "{error}");
    // In a chunk it is the very task, too.
    let error = pool.map(make, std::iter::repeat_n(0, 500).chain([1])).unwrap_err();
    assert_eq!((error.kind(), error.index()), (&ErrorKind::Crossing, Some(500)), "{error}");
    assert_eq!(pool.statistics().deaths, 0, "no worker had to die for it");
    // A result that only the parent can't read: no worker is right.
    let unread = |_: u64| Awkward::Unread;
    let error = pool.imap(unread, [1], 1).next().unwrap().unwrap_err();
    assert!(error.to_string().contains("no glasses"), "{error}");
    assert_eq!(pool.map(|x: u64| x, [1]).unwrap(), [1]);
}

#[test]
fn workers_have_the_environment_that_is_asked_for() {
    let read = |name: String| std::env::var(name).ok();
    let names = || ["FIREBOX_A", "FIREBOX_B", "CARGO_MANIFEST_DIR"].map(str::to_owned);
    let pool = ProcessPool::builder(1)
        .env("FIREBOX_A", "1")
        .env("FIREBOX_B", "2")
        .env_remove("FIREBOX_B")
        .env_remove("CARGO_MANIFEST_DIR")
        .build()
        .unwrap();
    assert_eq!(pool.map(read, names()).unwrap(), [Some("1".to_owned()), None, None]);
    let pool = ProcessPool::builder(1).env_clear().env("FIREBOX_A", "3").build().unwrap();
    let all = |_: u8| std::env::vars().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(pool.map(all, [0]).unwrap(), [["FIREBOX_A"]]);
    let error = ProcessPool::builder(1).env("A=B", "").build().unwrap_err();
    assert!(error.to_string().contains("env: expected a name without = and NUL"), "{error}");
}

fn status(field: String) -> String {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(&format!("{field}:")));
    line.unwrap().trim().to_owned()
}

#[test]
fn workers_have_the_cores_and_niceness_that_are_asked_for() {
    let allowed = status("Cpus_allowed_list".to_owned());
    let first: usize = allowed.split([',', '-']).next().unwrap().parse().unwrap();
    let pool = ProcessPool::builder(2).affinity([vec![first]]).niceness(3).build().unwrap();
    let cores = pool.imap(status, ["Cpus_allowed_list".to_owned(), "Cpus_allowed_list".to_owned()], 2);
    assert!(cores.map(Result::unwrap).all(|cores| cores == first.to_string()));
    let niceness = |pid: String| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit_once(") ").unwrap().1.split(' ').nth(16).unwrap().parse::<i32>().unwrap()
    };
    let own = niceness("thread-self".to_owned());
    let expected = (own + 3).min(19);
    assert_eq!(pool.map(niceness, ["thread-self".to_owned()]).unwrap(), [expected]);
    let score =
        |_: u8| fs::read_to_string("/proc/self/oom_score_adj").unwrap().trim().parse::<i32>().unwrap();
    assert_eq!(
        pool.map(score, [0]).unwrap()[0],
        (score(0) + 300).min(1000),
        "the kernel takes it before its parent"
    );
    for cores in [vec![], vec![1 << 20]] {
        let error = ProcessPool::builder(1).affinity([cores]).build().unwrap_err();
        assert!(error.to_string().contains("affinity"), "{error}");
    }
}

#[test]
fn a_worker_that_wants_too_much_memory_is_replaced_and_the_limit_is_named() {
    let pool = ProcessPool::builder(1).private_memory(256 << 20).build().unwrap();
    let take = |bytes: usize| std::hint::black_box(vec![1_u8; bytes]).len();
    let results: Vec<_> = pool.imap(take, [1 << 20, 512 << 20, 2 << 20], 3).collect();
    assert_eq!((results[0].as_ref().unwrap(), results[2].as_ref().unwrap()), (&(1 << 20), &(2 << 20)));
    let text = results[1].as_ref().unwrap_err().to_string();
    for part in
        ["limited to 268435456 bytes of private memory", "memory allocation of 536870912 bytes failed"]
    {
        assert!(text.contains(part), "{text}");
    }
    // What is shared doesn't count.
    let len = |blob: Blob| blob.0.len();
    assert_eq!(pool.submit((len, Blob(vec![0; 100 << 20]))).wait().unwrap(), 100 << 20);
    assert!(ProcessPool::builder(1).private_memory(5).build().is_err());
}

#[test]
fn a_panic_comes_back_with_its_process_and_a_backtrace_if_asked() {
    fn divide(x: u32) -> u32 {
        12 / x
    }
    for wanted in [false, true] {
        let pool = ProcessPool::builder(1).backtrace(wanted).build().unwrap();
        let pid = pool.pids()[0].unwrap();
        let of_map = pool.map(divide, [1, 2, 0]).unwrap_err();
        let of_imap = pool.imap(divide, [1, 2, 0], 2).nth(2).unwrap().unwrap_err();
        for error in [of_map, of_imap] {
            assert_eq!((error.index(), error.worker()), (Some(2), Some(0)));
            let text = format!("task 2: panicked: attempt to divide by zero: in process {pid} (worker 0)");
            assert_eq!(error.to_string(), text);
            let source = std::error::Error::source(&error).unwrap();
            let panic = source.downcast_ref::<RemotePanic>().unwrap();
            assert_eq!((panic.pid(), panic.backtrace().is_some()), (pid, wanted));
            assert!(panic.backtrace().is_none_or(|trace| trace.contains("divide")), "{panic:?}");
        }
    }
}

#[test]
fn an_error_of_any_type_comes_back_as_its_texts() {
    #[derive(Debug)]
    struct Outer(std::num::ParseIntError);
    impl std::fmt::Display for Outer {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("no number")
        }
    }
    impl std::error::Error for Outer {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }
    fn parse(text: String) -> Result<u32, RemoteError> {
        Ok(text.parse().map_err(Outer)?)
    }
    let pool = Pool::processes(1).unwrap();
    let pid = pool.pids()[0].unwrap();
    let error = pool.try_map(parse, ["1".to_owned(), "x".to_owned()]).unwrap_err();
    let expected =
        format!("task 1: failed: in process {pid}: no number: invalid digit found in string (worker 0)");
    assert_eq!((error.kind(), error.to_string()), (&ErrorKind::Failed, expected));
    let cause = pool.imap(parse, ["y".to_owned()], 1).next().unwrap().unwrap().unwrap_err();
    assert_eq!((cause.pid(), cause.to_string().as_str()), (pid, "no number: invalid digit found in string"));
}

#[test]
fn no_pool_of_processes_is_made_within_a_worker() {
    let pool = Pool::processes(1).unwrap();
    let within = |workers: usize| Pool::processes(workers).map(drop).map_err(|error| error.to_string());
    let errors = pool.map(within, [1, 0]).unwrap();
    assert!(
        errors.iter().all(|error| error.as_ref().unwrap_err().contains("within one of them")),
        "{errors:?}"
    );
    // Threads are.
    let threads = |x: u64| Pool::threads(2).unwrap().map(move |y: u64| x * y, 0..4).unwrap();
    assert_eq!(pool.map(threads, [10]).unwrap(), [[0, 10, 20, 30]]);
}

#[test]
fn a_task_that_takes_too_long_is_told_with_its_worker() {
    let limit = Duration::from_millis(100);
    let pool = Pool::processes(1).unwrap().with_timeout(limit);
    let pid = pool.pids()[0].unwrap();
    let sleep = |milliseconds: u64| std::thread::sleep(Duration::from_millis(milliseconds));
    let error = pool.imap(sleep, [60_000], 1).next().unwrap().unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::TimedOut(limit));
    assert!(error.to_string().contains(&format!("process {pid}")), "{error}");
}
