//! The cost of idle workers: nothing.

use std::fs;
use std::thread;
use std::time::Duration;

use firebox_workers::{Pool, WorkersExt as _};

use crate::leftovers::alone;

/// The ticks of a core that a process or a thread has taken.
fn ticks(stat: &str) -> u64 {
    let stat = fs::read_to_string(stat).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn idle_workers_and_their_attendants_use_no_core() {
    let alone = alone();
    let pool = Pool::processes(4).unwrap();
    assert_eq!(pool.map(|x: u64| x, 0..10_000).unwrap().len(), 10_000);
    thread::sleep(Duration::from_millis(200));
    let attendants = || {
        let threads = fs::read_dir("/proc/self/task").unwrap().flatten();
        threads.filter(|thread| {
            fs::read_to_string(thread.path().join("comm")).is_ok_and(|name| name.starts_with("firebox-"))
        })
    };
    // One for each worker, and one for its standard error.
    assert_eq!(attendants().count(), 8);
    let all = || -> Vec<u64> {
        let of_workers = pool.pids().into_iter().flatten().map(|pid| ticks(&format!("/proc/{pid}/stat")));
        let of_attendants = attendants().map(|thread| ticks(&thread.path().join("stat").to_string_lossy()));
        of_workers.chain(of_attendants).collect()
    };
    let before = all();
    thread::sleep(Duration::from_secs(5));
    assert_eq!(all(), before);
    drop(pool);
    alone.nothing_is_left();
}
