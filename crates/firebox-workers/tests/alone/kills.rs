//! Workers that are killed at random, and results that are as if nobody had been.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use firebox_workers::pool::Cause;
use firebox_workers::{Pool, ProcessPool, WorkersExt as _};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize, Serializer};

use crate::leftovers::{alone, is_alive, within};
use crate::work::{Folder, Random, Step, result_of, spared, step, steps};

/// How many workers are killed: `FIREBOX_KILLS` of them.
fn kills() -> usize {
    std::env::var("FIREBOX_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(12)
}

pub(crate) fn send(pid: u32, signal: Signal) {
    // It may have come to its end before.
    let _ = kill_process(Pid::from_raw(pid as i32).unwrap(), signal);
}

/// Kills a worker that was not killed yet, in one of six ways, every 50 ms. Gives the processes.
fn killer(pool: &ProcessPool, folder: &Path, seed: u64, most: usize, is_over: &AtomicBool) -> BTreeSet<u32> {
    let mut random = Random(seed);
    let mut killed = BTreeSet::new();
    while killed.len() < most && !is_over.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(50));
        let is_fit = |pid: &u32| !killed.contains(pid) && !spared(folder, *pid).exists();
        let alive: Vec<u32> = pool.pids().into_iter().flatten().filter(is_fit).collect();
        // Were the others all waiting for their end, one and the same task would be hit again and again.
        if alive.len() < 3 {
            continue;
        }
        let pid = alive[random.next() as usize % alive.len()];
        let own = folder.join(pid.to_string());
        match killed.len() % 6 {
            0 => send(pid, Signal::KILL),
            // The first one is taken by Rust's own handler, which looks for an overflow of the stack and lets
            // the instruction fault again; a signal from outside doesn't come again by itself.
            1 => (0..1000).take_while(|_| is_alive(pid)).for_each(|_| {
                send(pid, Signal::SEGV);
                thread::sleep(Duration::from_millis(5));
            }),
            2 => send(pid, Signal::ABORT),
            3 => send(pid, Signal::STOP),
            // These end with the next task that they begin. Were several waiting for one, they would all get
            // the task that goes out again first, which would so be blamed for what it has not done.
            asked => {
                fs::write(own, if asked == 4 { "exit" } else { "memory" }).unwrap();
                while is_alive(pid) && !is_over.load(Ordering::Relaxed) {
                    thread::sleep(Duration::from_millis(5));
                }
            }
        }
        killed.insert(pid);
    }
    killed
}

/// Ends the killing, also when a test fails.
struct Over<'o>(&'o AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Works on streams until so many workers were killed, and looks at each result.
fn undisturbed_results(pool: &ProcessPool, folder: &Path, seed: u64, kills: usize) {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let _over = Over(&is_over);
        let killing = scope.spawn(|| killer(pool, folder, seed, kills, &is_over));
        let mut round = 0;
        let mut work = || {
            round += 1;
            let mine = steps(40, folder);
            let expected: Vec<Vec<u64>> = (0..40).map(result_of).collect();
            if round % 2 == 0 {
                assert_eq!(pool.map(step, mine).unwrap(), expected);
            } else {
                let results: Vec<_> = pool.imap(step, mine, 8).map(Result::unwrap).collect();
                assert_eq!(results, expected);
            }
        };
        let begun = Instant::now();
        while !killing.is_finished() {
            work();
            assert!(begun.elapsed() < Duration::from_secs(300), "{:?}", pool.statistics());
        }
        let killed = killing.join().unwrap();
        // Those that are stopped, or were asked to end, have to get a task.
        while pool.pids().into_iter().flatten().any(|pid| killed.contains(&pid)) {
            work();
            assert!(begun.elapsed() < Duration::from_secs(300), "{:?}", pool.statistics());
        }
        let is_mended = || {
            let statistics = pool.statistics();
            statistics.replacements == statistics.deaths && statistics.deaths == killed.len() as u64
        };
        within(Duration::from_secs(30), "a worker in the place of each that was killed", is_mended);
        let statistics = pool.statistics();
        let died: BTreeSet<u32> = statistics.incidents.iter().map(|incident| incident.pid).collect();
        assert_eq!(died, killed, "each of them is named, and nobody else");
        assert_eq!((statistics.deaths, statistics.replacements), (killed.len() as u64, killed.len() as u64));
        assert_eq!(statistics.quarantined, 0, "{statistics:?}");
    });
}

fn pool() -> ProcessPool {
    ProcessPool::builder(4).private_memory(768 << 20).build().unwrap()
}

#[test]
fn workers_that_are_killed_at_random_change_no_result() {
    let alone = alone();
    let folder = Folder::new();
    let pool = pool();
    undisturbed_results(&pool, &folder.0, 1, kills());
    let incidents = pool.statistics().incidents;
    let of = |cause: fn(&Cause) -> bool| incidents.iter().filter(|incident| cause(&incident.cause)).count();
    assert!(of(|cause| *cause == Cause::Signal(9)) > 0 && of(|cause| *cause == Cause::Exit(0)) > 0);
    assert!(of(|cause| *cause == Cause::Stopped) > 0 && of(|cause| *cause == Cause::Signal(11)) > 0);
    let memory = incidents.iter().find(|incident| {
        incident.last_line.as_ref().is_some_and(|line| line.contains("memory allocation of 1073741824 bytes"))
    });
    let memory = memory.unwrap_or_else(|| panic!("nobody ran out of memory: {incidents:#?}"));
    assert_eq!((memory.private_memory, &memory.cause), (Some(768 << 20), &Cause::Signal(6)));
    pool.join();
    alone.nothing_is_left();
}

#[test]
fn two_pools_are_killed_at_once() {
    let alone = alone();
    let (first, second) = (Folder::new(), Folder::new());
    let (a, b) = (pool(), pool());
    thread::scope(|scope| {
        scope.spawn(|| undisturbed_results(&a, &first.0, 2, kills() / 2));
        scope.spawn(|| undisturbed_results(&b, &second.0, 3, kills() / 2));
    });
    drop((a, b));
    alone.nothing_is_left();
}

#[test]
fn all_workers_killed_at_once_are_replaced() {
    let alone = alone();
    let folder = Folder::new();
    let pool = pool();
    let expected: Vec<Vec<u64>> = (0..60).map(result_of).collect();
    let mut stream = pool.imap(step, steps(60, &folder.0), 12);
    let mut results = Vec::new();
    for round in 1..=3 {
        results.extend(stream.by_ref().take(15).map(Result::unwrap));
        pool.pids().into_iter().flatten().for_each(|pid| send(pid, Signal::KILL));
        within(Duration::from_secs(30), "four deaths", || pool.statistics().deaths == 4 * round);
        within(Duration::from_secs(30), "four workers", || pool.statistics().replacements == 4 * round);
    }
    results.extend(stream.map(Result::unwrap));
    assert_eq!(results, expected);
    assert_eq!(pool.statistics().quarantined, 0);
    drop(pool);
    alone.nothing_is_left();
}

/// A large result, at which its worker dies when half of it is written, unless it has died twice.
#[derive(Debug, PartialEq, Deserialize)]
struct Torn {
    folder: std::path::PathBuf,
    numbers: Vec<u64>,
}

const NUMBERS: u64 = 400_000;

impl Serialize for Torn {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct as _;
        struct Numbers<'t>(&'t Torn);
        impl Serialize for Numbers<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let Torn { folder, numbers } = self.0;
                let deaths = fs::read_dir(folder).into_iter().flatten().count();
                serializer.collect_seq(numbers.iter().enumerate().map(|(at, number)| {
                    if at == numbers.len() / 2 && deaths < 2 {
                        fs::write(folder.join(std::process::id().to_string()), "").unwrap();
                        send(std::process::id(), Signal::KILL);
                    }
                    number
                }))
            }
        }
        let mut fields = serializer.serialize_struct("Torn", 2)?;
        fields.serialize_field("folder", &self.folder)?;
        fields.serialize_field("numbers", &Numbers(self))?;
        fields.end()
    }
}

fn torn(step: Step) -> Torn {
    let mut random = Random(step.number);
    Torn { folder: step.folder, numbers: (0..NUMBERS).map(|_| random.next()).collect() }
}

#[test]
fn a_worker_that_dies_in_the_middle_of_a_large_result_delivers_nothing_of_it() {
    let alone = alone();
    let (pool, folder) = (Pool::processes(1).unwrap(), Folder::new());
    let task = |number| Step { number, time: Duration::ZERO, folder: folder.0.clone() };
    // The first to write finds no memory for it yet, and dies as it counts; the second dies in the memory.
    let result = pool.submit((torn, task(5))).wait().unwrap();
    let mut random = Random(5);
    assert!(result.numbers.iter().all(|&number| number == random.next()));
    assert_eq!(result.numbers.len() as u64, NUMBERS);
    assert_eq!((pool.statistics().deaths, pool.statistics().quarantined), (2, 0));
    // And of the same length after it, in the same memory.
    let mut random = Random(6);
    let result = pool.submit((torn, task(6))).wait().unwrap();
    assert!(result.numbers.iter().all(|&number| number == random.next()));
    drop((result, pool));
    alone.nothing_is_left();
}

#[test]
fn an_idle_worker_that_is_killed_is_replaced_at_once() {
    let alone = alone();
    let pool = Arc::new(Pool::processes(2).unwrap());
    for round in 1..=3 {
        send(pool.pids()[1].unwrap(), Signal::KILL);
        within(Duration::from_secs(10), "a new worker", || pool.statistics().replacements == round);
    }
    let incident = pool.statistics().incidents.pop().unwrap();
    assert_eq!((incident.worker, incident.task, incident.part), (1, None, None));
    assert!(incident.to_string().contains("signal 9 (SIGKILL), with no task"), "{incident}");
    assert_eq!(pool.map(|x: u64| x + 1, 0..3).unwrap(), [1, 2, 3]);
    drop(pool);
    alone.nothing_is_left();
}
