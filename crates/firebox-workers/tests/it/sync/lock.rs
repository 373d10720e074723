use std::time::Instant;

use firebox_workers::ErrorKind;
use firebox_workers::sync::{Event, Lock, Process, Queue, SharedValue};

use super::{MOMENT, PATIENCE, stay};

#[test]
fn one_process_at_a_time_has_the_lock() {
    fn counts((lock, count): (Lock, SharedValue<u64>)) {
        for _ in 0..1_000 {
            let _turn = lock.lock().unwrap();
            // Two steps, between which others would come without the lock.
            let seen = count.get().unwrap();
            std::thread::yield_now();
            count.set(seen + 1).unwrap();
        }
    }
    let (lock, count) = (Lock::new().unwrap(), SharedValue::new(0).unwrap());
    let counting = || Process::spawn(counts, (lock.clone(), count.clone())).unwrap();
    let processes = [counting(), counting(), counting()];
    counts((lock.clone(), count.clone()));
    for process in processes {
        assert!(process.join().is_success());
    }
    assert_eq!(count.get().unwrap(), 4_000);
}

fn holds((lock, has_it): (Lock, Event)) {
    let _guard = lock.lock().unwrap();
    has_it.set();
    stay();
}

fn waits((lock, waiting, got): (Lock, Queue<()>, Queue<bool>)) {
    waiting.put(&()).unwrap();
    let guard = lock.lock().unwrap();
    got.put(&guard.was_abandoned()).unwrap();
}

#[test]
fn who_is_killed_with_the_lock_leaves_it_to_the_next_one_who_hears_of_it() {
    let (lock, has_it) = (Lock::new().unwrap(), Event::new().unwrap());
    let (waiting, got) = (Queue::new(3).unwrap(), Queue::new(3).unwrap());
    let holder = Process::spawn(holds, (lock.clone(), has_it.clone())).unwrap();
    assert!(has_it.wait_timeout(PATIENCE));
    assert!(lock.try_lock().unwrap().is_none());
    assert!(lock.lock_timeout(MOMENT).unwrap().is_none());
    let waiters =
        [(); 3].map(|()| Process::spawn(waits, (lock.clone(), waiting.clone(), got.clone())).unwrap());
    for _ in &waiters {
        waiting.take_timeout(PATIENCE).unwrap().unwrap();
    }
    std::thread::sleep(MOMENT);
    assert!(got.is_empty());
    holder.kill();
    let killed = Instant::now();
    let abandoned: Vec<bool> = waiters.iter().map(|_| got.take_timeout(PATIENCE).unwrap().unwrap()).collect();
    assert!(killed.elapsed().as_secs() < 5);
    assert_eq!(abandoned, [true, false, false], "the first one hears of it, and nobody else");
    for process in waiters {
        assert!(process.join().is_success());
    }
    assert!(!lock.lock().unwrap().was_abandoned());
}

#[test]
fn a_thread_that_ends_with_the_lock_abandons_it() {
    let lock = Lock::new().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| std::mem::forget(lock.lock().unwrap()));
    });
    assert!(lock.lock_timeout(PATIENCE).unwrap().unwrap().was_abandoned());
    assert!(!lock.lock().unwrap().was_abandoned());
}

#[test]
fn who_waits_for_itself_gets_an_error() {
    let lock = Lock::new().unwrap();
    let guard = lock.lock().unwrap();
    assert_eq!(lock.lock().unwrap_err().kind(), &ErrorKind::Deadlock);
    assert!(lock.try_lock().unwrap().is_none());
    drop(guard);
    assert!(lock.try_lock().unwrap().is_some());
}
