use std::io::{BufRead as _, BufReader};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use firebox_workers::ErrorKind;
use firebox_workers::sync::{Event, Process, Queue};

use super::{MOMENT, PATIENCE, stay};

fn add((left, right, sums): (u64, u64, Queue<u64>)) {
    sums.put(&(left + right)).unwrap();
}

#[test]
fn a_function_runs_in_another_process() {
    let sums = Queue::new(1).unwrap();
    let process = Process::spawn(add, (40, 2, sums.clone())).unwrap();
    assert_ne!(process.pid(), std::process::id());
    assert_eq!(sums.take_timeout(PATIENCE).unwrap(), Some(42));
    let exit = process.join();
    assert!(exit.is_success() && !process.is_alive(), "{exit}");
    assert_eq!((exit.code(), exit.signal()), (Some(0), None));
    assert_eq!(process.exit(), Some(exit));
}

#[test]
fn what_a_function_returns_is_the_exit_status() {
    fn fails(message: String) -> Result<(), String> {
        Err(message)
    }
    fn status(number: u8) -> ExitCode {
        ExitCode::from(number)
    }
    let exit = Process::spawn(fails, "no coal".to_owned()).unwrap().join();
    assert_eq!((exit.code(), exit.last_line()), (Some(1), Some("Error: \"no coal\"")));
    assert_eq!(exit.to_string(), "exited with status 1; its last line: Error: \"no coal\"");
    for number in [0, 7, 255] {
        assert_eq!(Process::spawn(status, number).unwrap().join().code(), Some(i32::from(number)));
    }
}

#[test]
fn a_panic_comes_back_with_its_message() {
    fn panics(number: u32) {
        panic!("no {number}");
    }
    let exit = Process::spawn(panics, 3).unwrap().join();
    assert_eq!((exit.code(), exit.panic()), (Some(101), Some("no 3")));
    assert_eq!(exit.to_string(), "exited with status 101: panicked: no 3");
}

#[test]
fn a_signal_is_told() {
    fn aborts((): ()) {
        std::process::abort();
    }
    fn stays((): ()) {
        stay();
    }
    let exit = Process::spawn(aborts, ()).unwrap().join();
    assert_eq!((exit.code(), exit.signal()), (None, Some(6)));
    let process = Process::spawn(stays, ()).unwrap();
    assert!(process.join_timeout(MOMENT).is_none());
    process.kill();
    assert_eq!(process.join().signal(), Some(9));
    process.kill();
    let process = Process::spawn(stays, ()).unwrap();
    process.terminate();
    assert_eq!(process.join().signal(), Some(15));
}

#[test]
fn an_argument_may_be_large() {
    fn sums((bytes, sums): (Vec<u8>, Queue<u64>)) {
        sums.put(&bytes.iter().map(|&byte| u64::from(byte)).sum()).unwrap();
    }
    let sum = Queue::new(1).unwrap();
    let process = Process::spawn(sums, (vec![3; 1 << 21], sum.clone())).unwrap();
    assert_eq!(sum.take_timeout(PATIENCE).unwrap(), Some(3 << 21));
    assert!(process.join().is_success());
}

#[test]
fn a_process_has_no_processes() {
    fn nests(errors: Queue<String>) {
        fn nothing((): ()) {}
        let error = Process::spawn(nothing, ()).unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::NoProcess);
        errors.put(&error.to_string()).unwrap();
    }
    let errors = Queue::new(1).unwrap();
    let exit = Process::spawn(nests, errors.clone()).unwrap().join();
    assert!(exit.is_success(), "{exit}");
    assert!(errors.take().unwrap().unwrap().contains("a call within one of them"));
}

#[test]
fn a_handle_that_is_dropped_leaves_the_process_alone() {
    fn sets(event: Event) {
        std::thread::sleep(MOMENT);
        event.set();
    }
    let event = Event::new().unwrap();
    drop(Process::spawn(sets, event.clone()).unwrap());
    assert!(event.wait_timeout(PATIENCE));
}

const PARENT: &str = "FIREBOX_TEST_PARENT";

/// The program of the test after it: a parent that has a process and stays.
#[test]
fn a_parent_with_a_process() {
    if std::env::var_os(PARENT).is_none() {
        return;
    }
    fn says((): ()) {
        println!("\nprocess {}", std::process::id());
        stay();
    }
    let _process = Process::spawn(says, ()).unwrap();
    stay();
}

/// How long a process runs on after its parent was killed.
fn outlived() -> Duration {
    let mut parent = Command::new(std::env::current_exe().unwrap())
        .args(["sync::process::a_parent_with_a_process", "--exact", "--nocapture"])
        .env(PARENT, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(parent.stdout.take().unwrap()).lines();
    let pid =
        lines.map(Result::unwrap).find_map(|line| Some(line.strip_prefix("process ")?.to_owned())).unwrap();
    let process = format!("/proc/{pid}");
    assert!(std::fs::exists(&process).unwrap());
    parent.kill().unwrap();
    parent.wait().unwrap();
    let killed = Instant::now();
    // It may be a zombie as long as whoever has it now doesn't look after it.
    let runs = || {
        let stat = std::fs::read_to_string(format!("{process}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
    };
    while runs() {
        assert!(killed.elapsed() < PATIENCE, "process {pid} runs on");
        std::thread::sleep(Duration::from_millis(1));
    }
    killed.elapsed()
}

#[test]
fn a_process_ends_with_its_parent_however_that_ends() {
    // A machine that does other things as well holds it up now and then, but not each time.
    let times: Vec<Duration> = (0..8).map(|_| outlived()).take_while(|time| time.as_secs() >= 1).collect();
    assert!(times.len() < 8, "{times:?}");
}
