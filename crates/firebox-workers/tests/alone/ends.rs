//! How pools, and their parents, end.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use firebox_workers::{ErrorKind, Pool, WorkersExt as _};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::kills::send;
use crate::leftovers::{PATIENCE, alone, is_alive, soon, within};

fn endless(_: u64) -> u64 {
    loop {
        thread::sleep(Duration::from_secs(3600));
    }
}

/// A result of many bytes, over and over.
fn large(x: u64) -> Vec<u64> {
    vec![x; 1 << 20]
}

/// Not a test by itself: a program that others start, and kill.
#[test]
fn program() {
    let Ok(what) = std::env::var("FIREBOX_TEST_PROGRAM") else { return };
    let pool = Pool::processes(4).unwrap();
    let pids: Vec<String> = pool.pids().into_iter().flatten().map(|pid| pid.to_string()).collect();
    println!("pids {}", pids.join(" "));
    match what.as_str() {
        "busy" => drop(pool.imap(endless, 0..4, 4).count()),
        "writing" => pool.imap(large, 0.., 8).for_each(|result| drop(result.unwrap())),
        "stopped" => {
            pool.pids().into_iter().flatten().for_each(|pid| send(pid, Signal::STOP));
            thread::sleep(Duration::from_secs(3600));
        }
        "idle" => thread::sleep(Duration::from_secs(3600)),
        "exits" => std::process::exit(0),
        other => panic!("{other}"),
    }
}

/// Starts the program, and gives it with its workers.
fn start(what: &str) -> (Child, Vec<u32>) {
    use std::os::unix::process::CommandExt as _;
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "ends::program", "--nocapture"])
        .env("FIREBOX_TEST_PROGRAM", what)
        .process_group(0)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut lines = lines.map(Result::unwrap);
    let line = lines.find(|line| line.contains("pids ")).unwrap();
    let pids = line.rsplit_once("pids ").unwrap().1.split(' ').map(|pid| pid.parse().unwrap()).collect();
    thread::spawn(move || lines.for_each(drop));
    (child, pids)
}

#[test]
fn workers_end_within_a_second_when_their_parent_does() {
    let alone = alone();
    for what in ["idle", "busy", "writing", "stopped", "exits"] {
        soon(Duration::from_secs(1), what, || {
            let (mut program, pids) = start(what);
            thread::sleep(Duration::from_millis(100));
            assert!(what == "exits" || pids.iter().all(|&pid| is_alive(pid)));
            let _ = program.kill();
            program.wait().unwrap();
            // Their memory goes with them: nobody else has it.
            within(PATIENCE, what, || !pids.iter().any(|&pid| is_alive(pid)))
        });
    }
    alone.nothing_is_left();
}

#[test]
fn a_signal_to_the_group_of_a_program_reaches_its_workers_by_its_end_only() {
    let alone = alone();
    soon(Duration::from_secs(1), "the workers' end", || {
        let (mut program, pids) = start("idle");
        let group_of = |pid: u32| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
            stat.rsplit_once(") ").unwrap().1.split(' ').nth(2).unwrap().parse::<u32>().unwrap()
        };
        assert_eq!(group_of(program.id()), program.id());
        assert!(
            pids.iter().all(|&pid| group_of(pid) == pid),
            "what a terminal sends is for the parent to hear"
        );
        // As the signal of Ctrl-C, which a program that was begun in the background may have been told to
        // ignore.
        kill_process_group(Pid::from_raw(program.id() as i32).unwrap(), Signal::TERM).unwrap();
        program.wait().unwrap();
        within(PATIENCE, "the workers' end", || !pids.iter().any(|&pid| is_alive(pid)))
    });
    alone.nothing_is_left();
}

#[test]
fn terminating_answers_what_is_out_as_lost_at_once() {
    let alone = alone();
    soon(Duration::from_secs(1), "the end of a pool", || {
        let pool = Pool::processes(2).unwrap();
        let handles: Vec<_> = (0..10).map(|x| pool.submit((endless, x))).collect();
        thread::sleep(Duration::from_millis(50));
        let begun = Instant::now();
        pool.terminate();
        let took = begun.elapsed();
        for handle in handles {
            assert_eq!(handle.wait().unwrap_err().kind(), &ErrorKind::Lost);
        }
        took
    });
    alone.nothing_is_left();
}

#[test]
fn pools_that_come_and_go_leave_nothing() {
    let alone = alone();
    for workers in [0, 1, 3] {
        let pool = Pool::processes(workers).unwrap();
        assert_eq!(pool.map(|x: u64| x + 1, 0..100).unwrap().len(), 100);
        assert!(pool.imap(large, 0..4, 2).all(|result| result.unwrap().len() == 1 << 20));
        pool.grow(workers + 1).unwrap();
        drop(pool);
    }
    alone.nothing_is_left();
}
