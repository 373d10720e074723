//! Leftovers of shared objects, dropped while those that had them were killed: none.

use std::fs;
use std::time::{Duration, Instant};

use firebox_workers::sync::{
    Barrier, Connection, Event, Lock, Process, Queue, SealedArray, Semaphore, SharedArray, SharedValue, pipe,
};
use firebox_workers::{Pool, WorkersExt as _};

use crate::leftovers::{alone, within};

type Everything = (
    (Lock, Event, Semaphore, Barrier, SharedValue<u64>),
    (Queue<Vec<u8>>, Queue<Event>, Connection<u8, Vec<u8>>, SharedArray<u8>, SealedArray<u8>),
);

/// Has something of everything, and stays.
fn holds(everything: Everything) {
    let ((lock, event, semaphore, barrier, value), (large, events, connection, array, _sealed)) = everything;
    let _permit = semaphore.acquire().unwrap();
    let _guard = lock.lock().unwrap();
    let _elements = array.lock().unwrap();
    let _value = value.lock().unwrap();
    large.put(&vec![1; 100_000]).unwrap();
    events.put(&event).unwrap();
    connection.send(&1).unwrap();
    event.set();
    let _ = barrier.wait();
}

/// Everything there is, shared by two processes that are killed with it.
fn round() {
    let event = Event::new().unwrap();
    let (here, there) = pipe().unwrap();
    let barrier = Barrier::new(3).unwrap();
    let everything: Everything = (
        (
            Lock::new().unwrap(),
            event.clone(),
            Semaphore::new(3).unwrap(),
            barrier.clone(),
            SharedValue::new(1).unwrap(),
        ),
        (
            Queue::new(4).unwrap(),
            Queue::new(4).unwrap(),
            there,
            SharedArray::new(1 << 20).unwrap(),
            SealedArray::from_slice(&[7; 1 << 20]).unwrap(),
        ),
    );
    let process = Process::spawn(holds, everything).unwrap();
    assert!(event.wait_timeout(Duration::from_secs(30)));
    let last: Connection<Vec<u8>, u8> = here;
    last.send(&vec![2; 100_000]).unwrap();
    assert_eq!(last.receive().unwrap(), 1);
    process.kill();
    assert_eq!(process.join().signal(), Some(9));
    assert!(barrier.is_broken());
}

/// Descriptors, mappings of memory files, children.
fn counts() -> [usize; 3] {
    let files = fs::read_dir("/proc/self/fd").unwrap().count();
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let mappings = maps.lines().filter(|line| line.contains("memfd:")).count();
    let parent = format!(" {} ", std::process::id());
    let is_child =
        |stat: &str| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest[1..].starts_with(&parent));
    let processes = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| fs::read_to_string(entry.unwrap().path().join("stat")).ok());
    [files, mappings, processes.filter(|stat| is_child(stat)).count()]
}

#[test]
fn nothing_is_left_of_what_killed_processes_shared() {
    let alone = alone();
    // What is made once, whatever comes after it.
    round();
    // What ends after whoever waited for it takes a moment.
    let settled = |is_settled: &dyn Fn([usize; 3]) -> bool| {
        let begun = Instant::now();
        while !is_settled(counts()) && begun.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(5));
        }
        counts()
    };
    let [before, maps, children] = settled(&|[_, maps, children]| maps + children == 0);
    assert_eq!((maps, children), (0, 0), "memory and children");
    for _ in 0..5 {
        round();
    }
    let after = settled(&|[files, maps, children]| files <= before && maps + children == 0);
    assert!(
        after[0] <= before && after[1..] == [0, 0],
        "files, memory, children: {after:?} after {before} files"
    );
    drop(alone);
}

#[test]
fn semaphores_and_barriers_that_went_with_tasks_are_forgotten_after_them() {
    fn uses((semaphore, barrier): (Semaphore, Barrier)) -> usize {
        let _permit = semaphore.acquire().unwrap();
        barrier.wait().unwrap()
    }
    let alone = alone();
    let pool = Pool::processes(2).unwrap();
    let new = |_| (Semaphore::new(1).unwrap(), Barrier::new(1).unwrap());
    assert!(pool.imap(uses, (0..100).map(new), 8).all(|place| place.unwrap() == 0));
    // The workers live on, and have none of them.
    let maps = || fs::read_to_string("/proc/self/maps").unwrap();
    let none = || !maps().contains("firebox-semaphore") && !maps().contains("firebox-barrier");
    within(Duration::from_secs(10), "they are forgotten", none);
    drop(pool);
    alone.nothing_is_left();
}
