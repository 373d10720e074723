use std::sync::OnceLock;
use std::time::{Duration, Instant};

use firebox_workers::sync::{Event, Process, Queue, Semaphore, SharedArray};
use firebox_workers::{ErrorKind, Pool, WorkersExt as _};
use rustix::process::{Pid, Signal, kill_process};

use super::{MOMENT, PATIENCE, stay};

#[test]
fn no_more_processes_than_permits() {
    /// Counts how many are inside, and the most that ever were.
    fn enters((semaphore, counts): (Semaphore, SharedArray<u64>)) {
        for _ in 0..300 {
            let _permit = semaphore.acquire().unwrap();
            {
                let mut counts = counts.lock().unwrap();
                counts[0] += 1;
                counts[1] = counts[1].max(counts[0]);
                counts[2] += 1;
            }
            std::thread::yield_now();
            counts.lock().unwrap()[0] -= 1;
        }
    }
    let (semaphore, counts) = (Semaphore::new(2).unwrap(), SharedArray::new(3).unwrap());
    let processes = [(); 3].map(|()| Process::spawn(enters, (semaphore.clone(), counts.clone())).unwrap());
    enters((semaphore.clone(), counts.clone()));
    for process in processes {
        assert!(process.join().is_success());
    }
    let counts = counts.to_vec().unwrap();
    assert_eq!((counts[0], counts[2]), (0, 1_200));
    assert!((1..=2).contains(&counts[1]), "{} at once", counts[1]);
    assert_eq!(semaphore.available().unwrap(), 2);
}

#[test]
fn the_permits_of_a_killed_process_come_back() {
    fn holds((semaphore, has_them): (Semaphore, Event)) {
        let _permits = [semaphore.acquire().unwrap(), semaphore.acquire().unwrap()];
        has_them.set();
        stay();
    }
    let (semaphore, has_them) = (Semaphore::new(2).unwrap(), Event::new().unwrap());
    let holder = Process::spawn(holds, (semaphore.clone(), has_them.clone())).unwrap();
    assert!(has_them.wait_timeout(PATIENCE));
    assert!(semaphore.try_acquire().unwrap().is_none());
    assert!(semaphore.acquire_timeout(MOMENT).unwrap().is_none());
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| semaphore.acquire_timeout(PATIENCE).unwrap().is_some());
        std::thread::sleep(MOMENT);
        holder.kill();
        assert!(waiting.join().unwrap());
    });
    assert_eq!(holder.join().signal(), Some(9));
    assert_eq!(semaphore.available().unwrap(), 2);
}

/// Takes a permit once another process has one.
fn takes_after((semaphore, has_one): (Semaphore, Event)) {
    assert!(has_one.wait_timeout(PATIENCE));
    assert!(semaphore.acquire_timeout(PATIENCE).unwrap().is_some());
}

#[test]
fn the_permits_of_a_killed_process_come_back_although_its_parent_has_no_handle() {
    fn holds((semaphore, has_one): (Semaphore, Event)) {
        let _permit = semaphore.acquire().unwrap();
        has_one.set();
        stay();
    }
    let (semaphore, has_one) = (Semaphore::new(1).unwrap(), Event::new().unwrap());
    let holder = Process::spawn(holds, (semaphore.clone(), has_one.clone())).unwrap();
    // The last handle here goes before any of the two has read its argument, as a rule.
    let other = Process::spawn(takes_after, (semaphore, has_one.clone())).unwrap();
    assert!(has_one.wait_timeout(PATIENCE));
    holder.kill();
    assert_eq!(holder.join().signal(), Some(9));
    let exit = other.join_timeout(PATIENCE * 2).unwrap();
    assert!(exit.is_success(), "{exit}");
}

/// The semaphore that a worker of a pool has kept.
static KEPT: OnceLock<Semaphore> = OnceLock::new();

#[test]
fn the_permits_of_a_killed_worker_come_back_although_nobody_but_workers_has_a_handle() {
    /// Goes when the other task of the two has come, so that each worker has one.
    fn meets((mine, other): (Event, Event)) {
        mine.set();
        assert!(other.wait_timeout(PATIENCE));
    }
    /// Keeps the semaphore, and a permit if told so.
    fn keeps((semaphore, holds, both): (Semaphore, bool, (Event, Event))) -> u32 {
        let semaphore = KEPT.get_or_init(|| semaphore);
        if holds {
            std::mem::forget(semaphore.acquire().unwrap());
        }
        meets(both);
        std::process::id()
    }
    /// Tells whether a permit was to be had by a worker that has kept the semaphore.
    fn takes((): ()) -> Option<bool> {
        KEPT.get().map(|semaphore| semaphore.acquire_timeout(PATIENCE).unwrap().is_some())
    }
    let pool = Pool::processes(2).unwrap();
    let pair = || {
        let (one, other) = (Event::new().unwrap(), Event::new().unwrap());
        ((one.clone(), other.clone()), (other, one))
    };
    let semaphore = Semaphore::new(1).unwrap();
    let (first, second) = pair();
    let holder = pool.submit((keeps, (semaphore.clone(), true, first)));
    let second = pool.submit((keeps, (semaphore, false, second)));
    let holder = holder.wait().unwrap();
    assert_ne!(second.wait().unwrap(), holder);
    // Once others have begun, the tasks before them are gone here, and with them the last handles.
    let (first, second) = pair();
    let both = [first, second].map(|events| pool.submit((meets, events)));
    both.into_iter().for_each(|handle| handle.wait().unwrap());
    kill_process(Pid::from_raw(holder as i32).unwrap(), Signal::KILL).unwrap();
    let begun = Instant::now();
    let taken = loop {
        if let Some(taken) = pool.submit((takes, ())).wait().unwrap() {
            break taken;
        }
        // It was the new worker's turn, which has kept nothing.
        assert!(begun.elapsed() < PATIENCE);
    };
    assert!(taken);
}

#[test]
fn who_is_killed_waiting_takes_nothing_along() {
    fn waits((semaphore, waiting): (Semaphore, Queue<()>)) {
        waiting.put(&()).unwrap();
        let _ = semaphore.acquire();
    }
    let (semaphore, waiting) = (Semaphore::new(1).unwrap(), Queue::new(2).unwrap());
    let permit = semaphore.acquire().unwrap();
    let waiters = [(); 2].map(|()| Process::spawn(waits, (semaphore.clone(), waiting.clone())).unwrap());
    for _ in &waiters {
        waiting.take_timeout(PATIENCE).unwrap().unwrap();
    }
    std::thread::sleep(MOMENT);
    waiters[0].kill();
    drop(permit);
    assert_eq!(waiters[0].join().signal(), Some(9));
    assert!(waiters[1].join_timeout(PATIENCE).is_some_and(|exit| exit.is_success()));
    assert_eq!(semaphore.available().unwrap(), 1);
}

#[test]
fn processes_that_are_killed_at_any_time_leave_all_permits() {
    fn takes((semaphore, begun): (Semaphore, Event)) {
        loop {
            let one = semaphore.acquire().unwrap();
            begun.set();
            let other = semaphore.try_acquire().unwrap();
            drop((one, other));
        }
    }
    let semaphore = Semaphore::new(3).unwrap();
    for turn in 0..15 {
        let begun = Event::new().unwrap();
        let processes = [(); 2].map(|()| Process::spawn(takes, (semaphore.clone(), begun.clone())).unwrap());
        assert!(begun.wait_timeout(PATIENCE));
        std::thread::sleep(Duration::from_micros(turn * 150));
        processes.iter().for_each(Process::kill);
        for process in processes {
            assert_eq!(process.join().signal(), Some(9));
        }
        assert_eq!(semaphore.available().unwrap(), 3, "in turn {turn}");
    }
}

#[test]
fn permits_are_added_and_used_up() {
    fn adds(semaphore: Semaphore) {
        semaphore.add(2).unwrap();
    }
    let semaphore = Semaphore::new(0).unwrap();
    assert!(semaphore.try_acquire().unwrap().is_none());
    let process = Process::spawn(adds, semaphore.clone()).unwrap();
    semaphore.acquire_timeout(PATIENCE).unwrap().unwrap().consume().unwrap();
    assert!(process.join().is_success());
    assert_eq!(semaphore.available().unwrap(), 1);
    drop(semaphore.acquire().unwrap());
    assert_eq!(semaphore.available().unwrap(), 1);
    let error = semaphore.add(u32::MAX as usize).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::OutOfRange { .. }), "{error}");
    assert_eq!(semaphore.available().unwrap(), 1);
}
