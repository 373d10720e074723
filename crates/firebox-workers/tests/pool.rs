//! What a pool promises: order, bounds, one answer a task, and errors that say where.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::thread;

use firebox_workers::{ErrorKind, Pool, Work, Worker};

const WORKERS: [usize; 4] = [0, 1, 2, 5];

#[test]
fn results_come_in_the_order_of_the_tasks() {
    for workers in WORKERS {
        let pool = Pool::threads(workers).unwrap();
        for n in [0u64, 1, 2, 7, 5000] {
            let expected: Vec<u64> = (0..n).map(|x| x * 3).collect();
            assert_eq!(pool.map(|x| x * 3, 0..n).unwrap(), expected, "{workers} workers, {n} tasks");
        }
    }
}

#[test]
fn a_first_task_that_ends_last_still_comes_first() {
    let pool = Pool::threads(2).unwrap();
    let (release, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let work = move |task: usize| {
        if task == 0 {
            gate.lock().unwrap().recv().unwrap();
        } else if task == 3 {
            release.send(()).unwrap();
        }
        task
    };
    let results: Vec<usize> = pool.imap(work, 0..4, 4).map(Result::unwrap).collect();
    assert_eq!(results, [0, 1, 2, 3]);
}

#[test]
fn tasks_run_at_the_same_time_on_as_many_threads_as_there_are_workers() {
    let pool = Pool::threads(3).unwrap();
    let barrier = Arc::new(Barrier::new(3));
    let names = pool.map(
        move |_: usize| {
            barrier.wait();
            thread::current().name().unwrap().to_owned()
        },
        0..3,
    );
    let mut names = names.unwrap();
    names.sort();
    assert_eq!(names, ["firebox-0", "firebox-1", "firebox-2"]);
}

#[test]
fn a_panic_names_its_task_and_worker_and_spares_the_others() {
    for workers in WORKERS {
        let pool = Pool::threads(workers).unwrap();
        let work = |x: i32| if x == 3 { panic!("no {x}") } else { x };
        let results: Vec<_> = pool.imap(work, 0..6, 2).collect();
        for (task, result) in results.iter().enumerate() {
            match result {
                Ok(x) => assert_eq!((*x as usize, task != 3), (task, true)),
                Err(error) => {
                    assert_eq!(error.kind(), &ErrorKind::Panicked("no 3".into()));
                    assert_eq!(error.task(), Some(3));
                    assert_eq!(error.worker().is_some(), workers > 0);
                    assert!(error.to_string().starts_with("task 3 panicked: no 3"), "{error}");
                }
            }
        }
        assert_eq!(results.len(), 6);
        assert_eq!(pool.map(work, 4..6).unwrap(), [4, 5], "the pool lives on");
    }
}

#[test]
fn an_error_keeps_its_cause() {
    for workers in WORKERS {
        let pool = Pool::threads(workers).unwrap();
        let error = pool.try_map(|text: &str| text.parse::<u8>(), ["1", "2", "300", "x"]).unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Failed);
        assert_eq!(error.task(), Some(2), "the first in order, whichever failed first");
        let cause = std::error::Error::source(&error).unwrap();
        assert!(cause.downcast_ref::<std::num::ParseIntError>().is_some());
        assert!(error.to_string().contains("number too large"), "{error}");
    }
}

#[test]
fn no_more_tasks_start_than_the_stream_allows() {
    for workers in [1, 2, 5] {
        let pool = Pool::threads(workers).unwrap();
        let started = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&started);
        let mut stream = pool.imap(move |_: usize| count.fetch_add(1, Ordering::SeqCst), 0.., 4);
        for consumed in 1..200 {
            stream.next().unwrap().unwrap();
            assert!(started.load(Ordering::SeqCst) < consumed + 4);
        }
    }
}

#[test]
fn without_workers_a_task_runs_when_its_result_is_asked_for() {
    let pool = Pool::threads(0).unwrap();
    let here = thread::current().id();
    let mut stream = pool.imap(move |x: u8| (x, thread::current().id() == here), [1, 2], 8);
    assert_eq!(stream.size_hint(), (2, Some(2)));
    assert_eq!(stream.next().unwrap().unwrap(), (1, true));
    assert_eq!(stream.consumed(), 1);
}

#[test]
fn a_dropped_stream_starts_nothing_more() {
    let pool = Pool::threads(1).unwrap();
    let started = Arc::new(AtomicUsize::new(0));
    let (release, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let count = Arc::clone(&started);
    let stream = pool.imap(
        move |_: usize| {
            count.fetch_add(1, Ordering::SeqCst);
            let _ = gate.lock().unwrap().recv();
        },
        0..100,
        100,
    );
    while started.load(Ordering::SeqCst) == 0 {
        thread::yield_now();
    }
    drop(stream);
    drop(release);
    pool.map(|()| (), [()]).unwrap();
    assert_eq!(started.load(Ordering::SeqCst), 1, "only the task that had started ran");
}

#[test]
fn more_tasks_than_the_queue_holds_are_no_deadlock() {
    let pool = Pool::threads(2).unwrap();
    let a = pool.imap(|x: usize| x, 0..10_000, 5_000);
    let b = pool.imap(|x: usize| x, 0..10_000, 5_000);
    let sum: usize = a.zip(b).map(|(a, b)| a.unwrap() + b.unwrap()).sum();
    assert_eq!(sum, 9_999 * 10_000);
}

#[test]
fn a_worker_that_uses_its_own_pool_does_not_wait_for_itself() {
    let pool = Arc::new(Pool::threads(1).unwrap());
    let inner = Arc::clone(&pool);
    let sums =
        pool.map(move |n: usize| inner.map(|x: usize| x, 0..n).unwrap().into_iter().sum::<usize>(), [3, 4]);
    assert_eq!(sums.unwrap(), [3, 6]);
}

struct WhoRan;

impl Work<()> for WhoRan {
    type Output = Option<usize>;

    fn run(&self, (): (), worker: Worker) -> Option<usize> {
        worker.id()
    }
}

#[test]
fn work_is_told_its_worker() {
    assert_eq!(Pool::threads(1).unwrap().map(WhoRan, [()]).unwrap(), [Some(0)]);
    assert_eq!(Pool::threads(0).unwrap().map(WhoRan, [()]).unwrap(), [None]);
}

#[test]
fn dropping_a_pool_ends_its_threads() {
    struct Tells(Arc<AtomicUsize>);
    impl Drop for Tells {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    thread_local! {
        static HERE: std::cell::RefCell<Option<Tells>> = const { std::cell::RefCell::new(None) };
    }
    let ended = Arc::new(AtomicUsize::new(0));
    let barrier = Arc::new(Barrier::new(4));
    let pool = Pool::threads(4).unwrap();
    let tells = Arc::clone(&ended);
    pool.map(
        move |_: usize| {
            HERE.set(Some(Tells(Arc::clone(&tells))));
            barrier.wait();
        },
        0..4,
    )
    .unwrap();
    assert_eq!(ended.load(Ordering::SeqCst), 0);
    pool.join();
    assert_eq!(ended.load(Ordering::SeqCst), 4);
}
