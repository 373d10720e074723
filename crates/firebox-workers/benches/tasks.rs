//! The cost of a task: tiny ones through `map` and `imap`, and round trips through `dispatch`.
//!
//! Each line is a name and the nanoseconds of one task, a median of rounds. Arguments are their number, and a
//! part of the names to measure. Two builds are compared by starting them in turn.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark prints, and may panic")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use firebox_workers::{Pool, WorkersExt as _};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let rounds = arguments.iter().find_map(|arg| arg.parse().ok()).unwrap_or(9);
    let wanted = arguments.iter().find(|arg| arg.parse::<usize>().is_err()).map_or("", |arg| arg);
    let report = |name: String, tasks, run: &dyn Fn(u64)| {
        if name.contains(wanted) {
            println!("{name}: {:.1}", nanoseconds(rounds, tasks, run));
        }
    };
    for workers in [0, 1, 2] {
        let pool = Pool::threads(workers).unwrap();
        report(format!("{workers} workers, map"), 1_000_000, &|tasks| {
            black_box(pool.map(|x: u64| x + 1, 0..tasks).unwrap());
        });
        report(format!("{workers} workers, imap, 64 in flight"), 50_000, &|tasks| {
            black_box(pool.imap(|x: u64| x + 1, 0..tasks, 64).fold(0, |sum, x| sum ^ x.unwrap()));
        });
        report(format!("{workers} workers, dispatch, a round trip"), 20_000, &|tasks| {
            round_trips(&pool, tasks)
        });
        report(format!("{workers} workers, dispatch, 64 in flight"), 50_000, &|tasks| stream(&pool, tasks));
        let pool = pool.with_timeout(Duration::from_secs(60));
        report(format!("{workers} workers, dispatch, 64 in flight, a limit"), 50_000, &|tasks| {
            stream(&pool, tasks)
        });
    }
}

fn round_trips(pool: &Pool, tasks: u64) {
    let mut dispatch = pool.dispatch(Arc::new(|x: u64| x + 1), 1);
    for task in 0..tasks {
        dispatch.send(task).unwrap();
        black_box(dispatch.receive().unwrap().1.unwrap());
    }
}

fn stream(pool: &Pool, tasks: u64) {
    let mut dispatch = pool.dispatch(Arc::new(|x: u64| x + 1), 64);
    let mut next = 0;
    loop {
        while next < tasks && dispatch.send(next).is_ok() {
            next += 1;
        }
        match dispatch.receive() {
            Some((_, result)) => drop(black_box(result.unwrap())),
            None => return,
        }
    }
}

/// The nanoseconds of one of so many tasks, the median of the rounds.
fn nanoseconds(rounds: usize, tasks: u64, run: &dyn Fn(u64)) -> f64 {
    run(tasks / 10);
    let round = |_| {
        let begun = Instant::now();
        run(tasks);
        begun.elapsed().as_nanos() as f64 / tasks as f64
    };
    let mut times: Vec<f64> = (0..rounds).map(round).collect();
    times.sort_by(f64::total_cmp);
    times[rounds / 2]
}
