use std::time::{Duration, Instant};

use firebox_workers::ErrorKind;
use firebox_workers::sync::{Barrier, Process, Queue, SharedArray};

use super::{MOMENT, PATIENCE, stay};

const ROUNDS: u64 = 300;

#[test]
fn processes_pass_together_round_by_round() {
    /// Writes down its round in its own place, and after the barrier looks at all of them.
    fn passes((barrier, counts, who): (Barrier, SharedArray<u64>, u64)) {
        for round in 1..=ROUNDS {
            counts.set(who as usize, round).unwrap();
            let place = barrier.wait().unwrap();
            let seen = counts.to_vec().unwrap();
            assert!(
                seen[..3].iter().all(|&count| (round..=round + 1).contains(&count)),
                "{seen:?} in {round}"
            );
            if place == 0 {
                counts.lock().unwrap()[3] += 1;
            }
        }
    }
    let (barrier, counts) = (Barrier::new(3).unwrap(), SharedArray::new(4).unwrap());
    let processes = [0, 1].map(|who| Process::spawn(passes, (barrier.clone(), counts.clone(), who)).unwrap());
    passes((barrier.clone(), counts.clone(), 2));
    for process in processes {
        let exit = process.join();
        assert!(exit.is_success(), "{exit}");
    }
    assert_eq!(counts.to_vec().unwrap(), [ROUNDS; 4], "and one was the first in each round");
}

fn comes((barrier, coming): (Barrier, Queue<()>)) {
    coming.put(&()).unwrap();
    let _ = barrier.wait();
    stay();
}

fn stays((_barrier, coming): (Barrier, Queue<()>)) {
    coming.put(&()).unwrap();
    stay();
}

/// Two wait at least, a process and this one; the victim may be the third; and one of four parties is
/// missing.
fn killed(party: fn((Barrier, Queue<()>)), meanwhile: impl FnOnce(&Process)) {
    let (barrier, coming) = (Barrier::new(4).unwrap(), Queue::new(2).unwrap());
    let other = Process::spawn(comes, (barrier.clone(), coming.clone())).unwrap();
    let victim = Process::spawn(party, (barrier.clone(), coming.clone())).unwrap();
    meanwhile(&victim);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| barrier.wait());
        std::thread::sleep(MOMENT);
        victim.kill();
        let killed = Instant::now();
        let error = waiting.join().unwrap().unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Broken);
        assert!(killed.elapsed() < Duration::from_secs(5));
    });
    assert!(barrier.is_broken());
    assert_eq!(barrier.wait().unwrap_err().kind(), &ErrorKind::Broken);
    other.kill();
    other.join();
}

#[test]
fn a_party_that_is_killed_while_it_waits_breaks_the_barrier() {
    killed(comes, |_| std::thread::sleep(MOMENT * 2));
}

#[test]
fn a_party_that_is_killed_before_it_comes_breaks_the_barrier() {
    killed(stays, |_| std::thread::sleep(MOMENT * 2));
}

#[test]
fn a_party_that_is_killed_before_it_has_read_its_argument_breaks_the_barrier() {
    killed(stays, |victim| victim.kill());
}

#[test]
fn a_party_that_panics_breaks_the_barrier() {
    fn panics((_barrier, coming): (Barrier, Queue<()>)) {
        coming.put(&()).unwrap();
        panic!("no");
    }
    killed(panics, |_| ());
}

#[test]
fn a_party_that_is_killed_breaks_the_barrier_although_the_parent_has_no_handle() {
    /// Comes with others, and one is missing.
    fn waits((barrier, coming): (Barrier, Queue<()>)) {
        coming.put(&()).unwrap();
        assert_eq!(barrier.wait_timeout(PATIENCE).unwrap_err().kind(), &ErrorKind::Broken);
        assert!(barrier.is_broken());
    }
    let (barrier, coming) = (Barrier::new(3).unwrap(), Queue::new(2).unwrap());
    let victim = Process::spawn(stays, (barrier.clone(), coming.clone())).unwrap();
    let other = Process::spawn(waits, (barrier, coming.clone())).unwrap();
    for _ in 0..2 {
        coming.take_timeout(PATIENCE).unwrap().unwrap();
    }
    let killed = Instant::now();
    victim.kill();
    let exit = other.join_timeout(PATIENCE * 2).unwrap();
    assert!(exit.is_success(), "{exit}");
    assert!(killed.elapsed() < PATIENCE / 2, "by its death, and not since somebody lost patience");
}

#[test]
fn a_party_that_ends_well_after_its_round_breaks_nothing() {
    fn passes(barrier: Barrier) {
        barrier.wait().unwrap();
    }
    let barrier = Barrier::new(2).unwrap();
    for _ in 0..5 {
        let process = Process::spawn(passes, barrier.clone()).unwrap();
        barrier.wait_timeout(PATIENCE).unwrap();
        assert!(process.join().is_success());
        assert!(!barrier.is_broken());
    }
}

#[test]
fn who_loses_patience_breaks_the_barrier_for_all_until_it_is_reset() {
    let barrier = Barrier::new(3).unwrap();
    std::thread::scope(|scope| {
        let other = scope.spawn(|| barrier.wait().unwrap_err());
        std::thread::sleep(MOMENT);
        assert_eq!(barrier.wait_timeout(MOMENT).unwrap_err().kind(), &ErrorKind::Broken);
        assert_eq!(other.join().unwrap().kind(), &ErrorKind::Broken);
    });
    assert!(barrier.is_broken());
    barrier.reset().unwrap();
    assert!(!barrier.is_broken());
    std::thread::scope(|scope| {
        let others = [(); 2].map(|()| scope.spawn(|| barrier.wait().unwrap()));
        let mine = barrier.wait().unwrap();
        let places: usize = others.map(|other| other.join().unwrap()).iter().sum();
        assert_eq!(mine + places, 1 + 2);
    });
}

#[test]
fn a_reset_sends_home_who_waits_and_nobody_else() {
    let barrier = Barrier::new(2).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| barrier.wait());
        std::thread::sleep(MOMENT);
        barrier.reset().unwrap();
        assert_eq!(waiting.join().unwrap().unwrap_err().kind(), &ErrorKind::Broken);
        let waiting = scope.spawn(|| barrier.wait());
        assert_eq!(barrier.wait().unwrap() + waiting.join().unwrap().unwrap(), 1);
        let waiting = scope.spawn(|| barrier.wait());
        std::thread::sleep(MOMENT);
        barrier.abort().unwrap();
        assert_eq!(waiting.join().unwrap().unwrap_err().kind(), &ErrorKind::Broken);
    });
}

#[test]
fn a_barrier_of_one_party_holds_nobody() {
    let barrier = Barrier::new(1).unwrap();
    assert_eq!((barrier.wait().unwrap(), barrier.wait().unwrap(), barrier.parties()), (0, 0, 1));
    for parties in [0, 65_536] {
        let error = Barrier::new(parties).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::OutOfRange { .. }), "{error}");
    }
}
