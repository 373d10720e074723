//! Cases that hang, or lose tasks in flight, with pools of processes in Python: an answer within a
//! second.
//!
//! Each is an open report against `multiprocessing.Pool` or `concurrent.futures`, written anew.

use std::thread;
use std::time::{Duration, Instant};

use firebox_workers::{ErrorKind, Pool, ProcessPool, WorkersExt as _};
use rustix::process::Signal;

use crate::kills::send;
use crate::leftovers::{PATIENCE, alone, soon, within};

/// How soon there has to be an answer after the event.
const SOON: Duration = Duration::from_secs(1);

fn slow(x: u64) -> u64 {
    thread::sleep(Duration::from_millis(300));
    x
}

#[test]
fn a_worker_killed_during_map_holds_nothing_up() {
    let alone = alone();
    soon(SOON, "a new worker", || {
        let pool = Pool::processes(2).unwrap();
        thread::scope(|scope| {
            let mapping = scope.spawn(|| pool.map(slow, 0..4));
            thread::sleep(Duration::from_millis(100));
            send(pool.pids()[0].unwrap(), Signal::KILL);
            let took = within(PATIENCE, "a new worker", || pool.statistics().replacements == 1);
            assert_eq!(mapping.join().unwrap().unwrap(), [0, 1, 2, 3]);
            took
        })
    });
    alone.nothing_is_left();
}

#[test]
fn a_task_that_raises_is_an_error_that_names_it() {
    let alone = alone();
    soon(SOON, "an error", || {
        // What a backtrace takes is none of the pool's.
        let pool = ProcessPool::builder(2).env("RUST_BACKTRACE", "0").build().unwrap();
        let begun = Instant::now();
        let error = pool.map(|x: u64| 12 / x, [3, 0, 4]).unwrap_err();
        let took = begun.elapsed();
        assert_eq!(error.index(), Some(1));
        assert!(error.to_string().contains("divide by zero"), "{error}");
        assert_eq!(pool.statistics().deaths, 0, "it lives on");
        took
    });
    alone.nothing_is_left();
}

#[test]
fn a_task_that_exits_is_an_error_that_names_it() {
    let alone = alone();
    // Three workers in turn, each of which has to start.
    soon(3 * SOON, "an error", || {
        let pool = Pool::processes(2).unwrap();
        let begun = Instant::now();
        let exits = |x: u64| if x == 1 { std::process::exit(9) } else { x };
        let results: Vec<_> = pool.imap(exits, 0..3, 3).collect();
        let took = begun.elapsed();
        assert_eq!((results[0].as_ref().unwrap(), results[2].as_ref().unwrap()), (&0, &2));
        let error = results[1].as_ref().unwrap_err();
        assert!(error.to_string().contains("exited with status 9"), "{error}");
        took
    });
    alone.nothing_is_left();
}

#[test]
fn a_task_that_never_ends_is_an_error_at_its_limit() {
    let alone = alone();
    let limit = Duration::from_millis(200);
    let forever = |x: u64| {
        if x > 0 {
            return x;
        }
        loop {
            thread::park();
        }
    };
    soon(limit + SOON, "an error", || {
        let pool = Pool::processes(1).unwrap();
        let pool = pool.with_timeout(limit);
        let begun = Instant::now();
        let mut results = pool.imap(forever, 0..1, 1);
        let error = results.next().unwrap().unwrap_err();
        let took = begun.elapsed();
        assert!(took >= limit, "it had its time");
        assert_eq!(error.kind(), &ErrorKind::TimedOut(limit));
        drop(results);
        // Without a limit of time, which a busy machine might exceed.
        assert_eq!(pool.submit((forever, 1)).wait().unwrap(), 1);
        took
    });
    alone.nothing_is_left();
}
