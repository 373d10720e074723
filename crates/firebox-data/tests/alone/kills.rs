//! Worker processes killed at any time: the epoch is as if nothing had happened, and nothing is left over.
//!
//! `FIREBOX_WORKER_KILLS` says how often; the tests count what the whole process has open, so they take
//! turns.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use firebox_core::SampleRng;
use firebox_data::{BoxError, Error, Loader, OnError, Recipe, Scalar, Stack};
use firebox_workers::ProcessPool;
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use crate::recipes::{Plan, Stacks};
use crate::shards::{Known, Stream};
use crate::turn;

/// Augmented samples, whose workers also end themselves when a file says so.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Doomed {
    plan: Plan,
    /// Whoever takes away the file `exit` or `memory` in this folder exits, or takes more memory than it may
    /// have.
    orders: Option<PathBuf>,
}

type Layout = (Stack<f32, 1>, Scalar<u32>);

impl Recipe for Doomed {
    type Layout = Layout;

    fn loader(&self) -> Result<Loader<Layout>, Error> {
        let (plan, orders) = (self.plan.clone(), self.orders.clone());
        let obey = move || -> Result<(), BoxError> {
            let Some(orders) = &orders else { return Ok(()) };
            if fs::remove_file(orders.join("exit")).is_ok() {
                std::process::exit(0);
            }
            if fs::remove_file(orders.join("memory")).is_ok() {
                std::hint::black_box(vec![1u8; 2 << 30]);
            }
            Ok(())
        };
        self.plan.builder().on_error(OnError::Fail).map(move |number, rng| plan.draw(number, rng)).build(
            (Stack::new([300]), Scalar::new()),
            move |(number, drawn), rng, (row, label)| {
                for to in row {
                    *to = rng.uniform() + drawn as f32;
                }
                obey()?;
                *label = number;
                Ok(())
            },
        )
    }
}

/// The processes of this one whose name begins so.
fn children(name: &str) -> Vec<u32> {
    let prefix = format!("/{}/{name}-", std::process::id());
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(line) = fs::read(entry.path().join("cmdline")) else { continue };
        if String::from_utf8_lossy(&line).contains(&prefix) {
            pids.push(pid);
        }
    }
    pids
}

/// Children that ended and that nobody has reaped.
fn zombies() -> usize {
    let mut zombies = 0;
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
        let mut fields = fields.split(' ');
        let is_zombie = fields.next() == Some("Z");
        let parent = fields.next().and_then(|parent| parent.parse().ok());
        zombies += usize::from(is_zombie && parent == Some(std::process::id()));
    }
    zombies
}

/// The open files of this process, and its mappings of memory files.
fn open() -> (usize, usize) {
    let files = fs::read_dir("/proc/self/fd").unwrap().count();
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    (files, maps.lines().filter(|line| line.contains("memfd:firebox")).count())
}

/// Waits until nothing is open that wasn't before: what is read from a process is closed when its end was
/// read.
fn is_closed_but_for(before: (usize, usize)) {
    let begun = Instant::now();
    while open().0 > before.0 || open().1 > before.1 {
        assert!(begun.elapsed() < Duration::from_secs(10), "left open: {before:?}, then {:?}", open());
        sleep(Duration::from_millis(10));
    }
}

fn kills() -> usize {
    std::env::var("FIREBOX_WORKER_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(12)
}

/// Has a random worker die in a random way, and waits until it is gone.
fn kill_one(name: &str, orders: &Path, rng: &mut SampleRng) {
    let way = rng.below(6) as usize;
    let begun = Instant::now();
    let wait_for = |what: &str, is_there: &dyn Fn() -> bool| {
        while is_there() {
            // One that is stopped before it has begun is missed after a minute.
            assert!(begun.elapsed() < Duration::from_secs(120), "{what} has come to nothing");
            sleep(Duration::from_millis(1));
        }
    };
    wait_for("a worker", &|| children(name).is_empty());
    let workers = children(name);
    if let Some(order) = ["exit", "memory"].get(way) {
        fs::write(orders.join(order), "").unwrap();
        wait_for(order, &|| {
            let left = children(name);
            orders.join(order).exists() || workers.iter().all(|worker| left.contains(worker))
        });
    } else {
        let worker = workers[rng.below(workers.len() as u64) as usize];
        let signal = [Signal::KILL, Signal::SEGV, Signal::ABORT, Signal::STOP][way - 2];
        let pid = Pid::from_raw(worker as i32).unwrap();
        kill_process(pid, signal).unwrap();
        wait_for("a signal", &|| {
            // The first SIGSEGV without a fault only has Rust's own handler go away.
            let _ = (signal == Signal::SEGV).then(|| kill_process(pid, signal));
            children(name).contains(&worker)
        });
    }
}

#[test]
fn workers_that_are_killed_at_any_time_change_nothing() {
    let _turn = turn();
    let orders = tempfile::tempdir().unwrap();
    let batches = (kills() * 15).clamp(200, 1000);
    let plan = Plan {
        samples: 4 * batches as u32,
        batch_size: 4,
        cost: Duration::from_millis(1),
        ..Plan::default()
    };
    let threads = Plan { threads: Some(2), ..plan.clone() };
    let undisturbed = Doomed { plan: threads, orders: None }.loader().unwrap();
    let expected: Vec<_> = undisturbed.epoch(0).collect::<Result<_, _>>().unwrap();
    drop(undisturbed);
    let before = open();

    let pool = ProcessPool::builder(4).name("kill-test").private_memory(1 << 30).build().unwrap();
    let loader = Doomed { plan, orders: Some(orders.path().to_owned()) }.workers(pool).unwrap();
    let (mut deaths, mut incidents, mut epochs) = (0, Vec::new(), 0);
    thread::scope(|scope| {
        let killer = scope.spawn(|| {
            let mut rng = SampleRng::from_seed(5);
            for _ in 0..kills() {
                sleep(Duration::from_millis(50));
                kill_one("kill-test", orders.path(), &mut rng);
            }
        });
        // Epoch 0 again and again, until all kills are through, and once more in peace.
        loop {
            let last = killer.is_finished();
            let mut epoch = loader.epoch(0);
            for (number, expected) in expected.iter().enumerate() {
                let batch = epoch.next().expect("as many batches").unwrap();
                assert!(batch == *expected, "batch {number} of pass {epochs} is another one");
            }
            assert!(epoch.next().is_none());
            let report = epoch.report();
            assert!(report.failures.is_empty(), "nothing is quarantined: {report}");
            deaths += report.deaths;
            incidents.extend(report.incidents.clone());
            epochs += 1;
            if last {
                break;
            }
        }
        killer.join().unwrap();
    });
    let killed = kills();
    assert_eq!((deaths as usize, incidents.len()), (killed, killed), "{incidents:#?}");
    let pids: BTreeSet<_> = incidents.iter().map(|incident| incident.split(&['(', ')'][..]).nth(1)).collect();
    assert_eq!(pids.len(), killed, "each incident names its process: {incidents:#?}");
    assert_eq!(children("kill-test").len(), 4, "replacements equal kills");
    drop(loader);
    drop(expected);
    assert_eq!((children("kill-test"), zombies()), (Vec::new(), 0));
    is_closed_but_for(before);
}

#[test]
fn all_workers_at_once_are_replaced() {
    let _turn = turn();
    let plan = Plan { samples: 400, batch_size: 4, cost: Duration::from_millis(1), ..Plan::default() };
    let expected: Vec<_> = Stacks(plan.clone()).loader().unwrap().epoch(0).map(Result::unwrap).collect();
    let pool = ProcessPool::builder(4).name("all-at-once").build().unwrap();
    let loader = Stacks(plan).workers(pool).unwrap();
    let mut epoch = loader.epoch(0);
    for (number, expected) in expected.iter().enumerate() {
        if number % 40 == 20 {
            for pid in children("all-at-once") {
                let _ = kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::KILL);
            }
        }
        assert_eq!(&epoch.next().unwrap().unwrap(), expected, "batch {number}");
    }
    assert_eq!(epoch.report().deaths, 8, "{}", epoch.report());
}

#[test]
fn loaders_that_come_and_go_leave_nothing() {
    let _turn = turn();
    let make = || {
        let pool = ProcessPool::builder(2).name("come-and-go").build().unwrap();
        let loader = Stacks(Plan::default()).workers(pool).unwrap();
        assert_eq!(loader.epoch(0).count(), 7);
        // In the middle of an epoch.
        let mut epoch = loader.epoch(1);
        epoch.next().unwrap().unwrap();
    };
    make();
    let before = open();
    (0..3).for_each(|_| make());
    assert_eq!((children("come-and-go"), zombies()), (Vec::new(), 0));
    is_closed_but_for(before);
}

/// Not a test of its own: what [`workers_end_with_their_parent`] starts, and kills.
#[test]
#[ignore = "is started by another test"]
fn parent_in_the_middle_of_an_epoch() {
    let Ok(file) = std::env::var("FIREBOX_TEST_PIDS") else { return };
    let pool = ProcessPool::builder(3).name("orphans").build().unwrap();
    let plan = Plan { samples: 100_000, cost: Duration::from_millis(1), ..Plan::default() };
    let loader = Stacks(plan).workers(pool).unwrap();
    for (number, batch) in loader.epoch(0).enumerate() {
        drop(batch.unwrap());
        if number == 5 {
            let pids: Vec<String> = children("orphans").iter().map(u32::to_string).collect();
            fs::write(format!("{file}.new"), pids.join(" ")).unwrap();
            fs::rename(format!("{file}.new"), &file).unwrap();
        }
    }
}

#[test]
fn workers_end_with_their_parent() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pids");
    let mut parent = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kills::parent_in_the_middle_of_an_epoch", "--ignored"])
        .env("FIREBOX_TEST_PIDS", &file)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while !file.exists() {
        assert!(begun.elapsed() < Duration::from_secs(60), "the parent has not begun");
        sleep(Duration::from_millis(10));
    }
    let pids: Vec<String> = fs::read_to_string(&file).unwrap().split(' ').map(str::to_owned).collect();
    assert_eq!(pids.len(), 3);
    parent.kill().unwrap();
    parent.wait().unwrap();
    let begun = Instant::now();
    let is_there = |pid: &String| {
        // A zombie has none.
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.windows(7).any(|part| part == b"firebox")
    };
    while pids.iter().any(is_there) {
        assert!(begun.elapsed() < Duration::from_secs(20), "workers without a parent");
        sleep(Duration::from_millis(5));
    }
}

#[test]
fn loaders_in_two_pools_lose_nothing_while_workers_of_both_are_killed() {
    let _turn = turn();
    for (one, other) in [(Known::All, Known::Nothing), (Known::Counts, Known::CountsForward)] {
        let lengths = vec![90, 99, 80, 95, 98, 99];
        let plan = Plan { batch_size: 7, cost: Duration::from_millis(1), ..Plan::default() };
        let stream =
            |known| Stream { plan: plan.clone(), lengths: lengths.clone(), ..Stream::new(known) }.shuffled();
        let images = Plan { samples: 561, ..plan.clone() };
        let expected: Vec<_> = stream(one).loader().unwrap().epoch(0).map(Result::unwrap).collect();
        let expected_items: Vec<_> =
            Stacks(images.clone()).loader().unwrap().epoch(0).map(Result::unwrap).collect();
        let pool = |name| ProcessPool::builder(2).name(name).build().unwrap();
        let first = stream(one).workers(pool("first-pool")).unwrap();
        let second = stream(other).workers(pool("second-pool")).unwrap();
        let third = Stacks(images).workers(pool("third-pool")).unwrap();
        let (mut firsts, mut seconds, mut thirds) = (first.epoch(0), second.epoch(0), third.epoch(0));
        for (number, expected) in expected.iter().enumerate() {
            if number % 20 == 10 {
                let names = ["first-pool", "second-pool", "third-pool"];
                for pid in names.into_iter().flat_map(children) {
                    let _ = kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::KILL);
                }
            }
            assert!(firsts.next().unwrap().unwrap() == *expected, "batch {number} of {one:?}");
            assert!(seconds.next().unwrap().unwrap() == *expected, "batch {number} of {other:?}");
            assert!(thirds.next().unwrap().unwrap() == expected_items[number], "batch {number} of items");
        }
        assert!(firsts.next().is_none() && seconds.next().is_none());
        for report in [firsts.report(), seconds.report(), thirds.report()] {
            assert_eq!((report.deaths, report.failures.len()), (8, 0), "{report}");
        }
    }
}
