use std::time::Instant;

use firebox_workers::ErrorKind;
use firebox_workers::sync::{Connection, Event, Process, pipe};

use super::{MOMENT, PATIENCE, stay};

#[test]
fn two_processes_talk() {
    fn answers(parent: Connection<usize, String>) {
        while let Ok(text) = parent.receive() {
            parent.send(&text.len()).unwrap();
        }
    }
    let (here, there) = pipe::<String, usize>().unwrap();
    let process = Process::spawn(answers, there).unwrap();
    for length in [0, 1, 32 << 10, (32 << 10) + 1, 3 << 20] {
        here.send(&"x".repeat(length)).unwrap();
        assert_eq!(here.receive_timeout(PATIENCE).unwrap(), Some(length));
    }
    drop(here);
    assert!(process.join_timeout(PATIENCE).is_some_and(|exit| exit.is_success()), "it sees that we are gone");
}

#[test]
fn the_death_of_the_other_one_closes_the_pipe_after_what_it_has_sent() {
    fn sends((parent, sent): (Connection<u32, u32>, Event)) {
        parent.send(&1).unwrap();
        parent.send(&2).unwrap();
        sent.set();
        stay();
    }
    let (here, there) = pipe::<u32, u32>().unwrap();
    let sent = Event::new().unwrap();
    let process = Process::spawn(sends, (there, sent.clone())).unwrap();
    assert!(sent.wait_timeout(PATIENCE));
    assert_eq!(here.try_receive().unwrap(), Some(1));
    process.kill();
    process.join();
    assert_eq!(here.receive().unwrap(), 2);
    assert_eq!(here.receive().unwrap_err().kind(), &ErrorKind::Closed);
    assert_eq!(here.try_receive().unwrap_err().kind(), &ErrorKind::Closed);
    assert_eq!(here.send(&3).unwrap_err().kind(), &ErrorKind::Closed);
}

#[test]
fn who_waits_is_woken_by_the_death_of_the_other_one() {
    fn stays((_parent, there): (Connection<u32, u32>, Event)) {
        there.set();
        stay();
    }
    let (here, there) = pipe::<u32, u32>().unwrap();
    let event = Event::new().unwrap();
    let process = Process::spawn(stays, (there, event.clone())).unwrap();
    assert!(event.wait_timeout(PATIENCE));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| here.receive());
        std::thread::sleep(MOMENT);
        let killed = Instant::now();
        process.kill();
        assert_eq!(waiting.join().unwrap().unwrap_err().kind(), &ErrorKind::Closed);
        assert!(killed.elapsed() < PATIENCE / 2);
    });
}

#[test]
fn a_pipe_has_its_bounds() {
    let (here, there) = pipe::<Vec<u8>, ()>().unwrap();
    assert!(there.try_receive().unwrap().is_none() && there.receive_timeout(MOMENT).unwrap().is_none());
    let mut sent = 0;
    while here.send_timeout(&vec![7; 8 << 10], MOMENT).unwrap() {
        sent += 1;
        assert!(sent < 10_000, "a pipe without an end");
    }
    assert!(sent > 4, "{sent}");
    for _ in 0..sent {
        assert_eq!(there.receive().unwrap(), [7; 8 << 10]);
    }
    assert!(here.send_timeout(&vec![], MOMENT).unwrap());
}

#[test]
fn an_end_goes_through_another_pipe() {
    fn answers(ends: Connection<(), Connection<u32, u32>>) {
        let end = ends.receive().unwrap();
        end.send(&(end.receive().unwrap() + 1)).unwrap();
    }
    let (here, there) = pipe().unwrap();
    let process = Process::spawn(answers, there).unwrap();
    let (mine, yours) = pipe().unwrap();
    here.send(&yours).unwrap();
    drop(yours);
    mine.send(&1).unwrap();
    assert_eq!(mine.receive().unwrap(), 2);
    assert!(process.join().is_success());
    assert_eq!(mine.receive().unwrap_err().kind(), &ErrorKind::Closed);
}
