//! Promises of a pool: order, bounds, one answer a task, and errors that say where.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use firebox_workers::error::OutOfRange;
use firebox_workers::{Error, ErrorKind, Handle, Pool, Work, Worker, WorkersExt as _};

use crate::WORKERS;

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
                    assert_eq!(error.index(), Some(3));
                    assert_eq!(error.worker().is_some(), workers > 0);
                    assert!(error.to_string().starts_with("task 3: panicked: no 3"), "{error}");
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
        assert_eq!(error.index(), Some(2), "the first in order, whichever failed first");
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
            assert!(started.load(Ordering::SeqCst) <= consumed + 4);
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
    drop(pool);
    assert_eq!(ended.load(Ordering::SeqCst), 4);
}

#[test]
fn unordered_results_come_as_they_are_ready_and_all_come() {
    let pool = Pool::threads(2).unwrap();
    let (release, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let work = move |task: usize| {
        if task == 0 {
            gate.lock().unwrap().recv().unwrap();
        }
        task * 2
    };
    let mut stream = pool.imap_unordered(work, 0..5, 5);
    let mut seen: Vec<_> = stream.by_ref().take(4).map(|(task, result)| (task, result.unwrap())).collect();
    seen.sort_unstable();
    assert_eq!(seen, [(1, 2), (2, 4), (3, 6), (4, 8)], "the first task is still held back");
    release.send(()).unwrap();
    assert_eq!(stream.next().map(|(task, result)| (task, result.unwrap())), Some((0, 0)));
    assert!(stream.next().is_none() && stream.next().is_none());
    for workers in WORKERS {
        let pool = Pool::threads(workers).unwrap();
        let mut results: Vec<_> =
            pool.imap_unordered(|x: usize| x, 0..3000, 64).map(|(task, _)| task).collect();
        results.sort_unstable();
        assert!(results.into_iter().eq(0..3000), "{workers} workers");
    }
}

#[test]
fn a_submitted_task_has_a_handle() {
    for workers in WORKERS {
        let pool = Pool::threads(workers).unwrap();
        let handles: Vec<_> = (0..50).map(|x| pool.submit(move || x * x)).collect();
        let squares: Vec<i32> = handles.into_iter().map(|handle| handle.wait().unwrap()).collect();
        assert_eq!(squares, (0..50).map(|x| x * x).collect::<Vec<_>>());
        let error = pool.submit(|| -> () { panic!("no") }).wait().unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Panicked("no".into()));
    }
}

#[test]
fn a_handle_can_be_waited_for_with_a_limit() {
    let pool = Pool::threads(1).unwrap();
    let (release, gate) = mpsc::channel::<()>();
    let handle = pool.submit(move || gate.recv().is_ok());
    let handle = handle.try_wait().unwrap_err();
    let handle = handle.wait_timeout(Duration::from_millis(20)).unwrap_err();
    release.send(()).unwrap();
    assert!(handle.wait_timeout(Duration::from_secs(60)).unwrap().unwrap());
}

#[test]
fn a_task_past_its_limit_is_given_up_and_the_others_go_on() {
    for workers in [1, 2] {
        let pool = Pool::threads(workers).unwrap().with_timeout(Duration::from_millis(60));
        let (release, gate) = mpsc::channel::<()>();
        let gate = Mutex::new(gate);
        let work = move |task: usize| {
            if task == 2 {
                let _ = gate.lock().unwrap().recv();
            }
            task
        };
        let begun = Instant::now();
        let results: Vec<_> = pool.imap(work, 0..6, 3).collect();
        assert!(begun.elapsed() < Duration::from_secs(30));
        for (task, result) in results.iter().enumerate() {
            match result {
                Ok(done) => assert!(*done == task && task != 2),
                Err(error) => {
                    assert_eq!((error.index(), task), (Some(2), 2));
                    assert_eq!(error.kind(), &ErrorKind::TimedOut(Duration::from_millis(60)));
                    assert!(error.worker().is_some());
                    assert!(
                        error.to_string().starts_with("task 2: took longer than 60ms (worker "),
                        "{error}"
                    );
                }
            }
        }
        assert_eq!(results.len(), 6);
        assert_eq!(pool.map(|x: u8| x, [1, 2, 3]).unwrap(), [1, 2, 3], "the place has a new thread");
        // The thread that was given up is still in its task: the pool's end doesn't wait for it.
        let begun = Instant::now();
        drop(pool);
        assert!(begun.elapsed() < Duration::from_secs(30));
        drop(release);
    }
}

#[test]
fn a_task_that_hangs_holds_up_neither_another_stream_nor_the_pools_end() {
    let pool = Pool::threads(1).unwrap().with_timeout(Duration::from_millis(60));
    let (_release, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let hangs = move |task: usize| {
        if task == 1 {
            let _ = gate.lock().unwrap().recv();
        }
        task
    };
    let mut stuck = pool.imap(hangs, 0..3, 3);
    assert_eq!(stuck.next().unwrap().unwrap(), 0);
    // The only worker hangs in the other stream's task; nobody waits there.
    let mut other = pool.imap(|x: usize| x, 0..3, 3);
    assert_eq!(other.next().unwrap().unwrap(), 0);
    assert!(matches!(stuck.next().unwrap().unwrap_err().kind(), ErrorKind::TimedOut(_)));
    assert_eq!(stuck.next().unwrap().unwrap(), 2);
    drop((stuck, other));

    let (_release, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let mut stream = pool.imap(
        move |task: usize| {
            if task == 1 {
                let _ = gate.lock().unwrap().recv();
            }
        },
        0..2,
        2,
    );
    assert!(stream.next().unwrap().is_ok());
    drop(stream);
    drop(pool);
}

#[test]
fn an_endless_limit_is_none() {
    let pool = Pool::threads(2).unwrap().with_timeout(Duration::MAX);
    assert_eq!(pool.map(|x: u8| x, [1, 2, 3]).unwrap(), [1, 2, 3]);
}

#[test]
fn the_next_task_starts_while_the_consumer_is_busy() {
    let pool = Pool::threads(1).unwrap();
    let (started, starts) = mpsc::channel();
    let mut stream = pool.imap(move |task: usize| started.send(task).unwrap(), 0..3, 1);
    stream.next().unwrap().unwrap();
    assert_eq!(starts.recv_timeout(Duration::from_secs(60)), Ok(0));
    assert_eq!(starts.recv_timeout(Duration::from_secs(60)), Ok(1), "before it is asked for");
}

#[test]
fn a_task_just_within_its_limit_is_not_answered_twice() {
    let pool = Pool::threads(4).unwrap().with_timeout(Duration::from_millis(2));
    let work = |task: u64| {
        thread::sleep(Duration::from_micros(1500 + task % 7 * 150));
        task
    };
    let results: Vec<_> = pool.imap(work, 0..400, 16).collect();
    assert_done_or_too_late(results);
}

#[test]
fn a_thread_that_is_given_up_takes_no_other_task_with_it() {
    let pool = Pool::threads(4).unwrap().with_timeout(Duration::from_micros(50));
    // About as long as the limit, so that threads come back while they are given up.
    let work = |task: u64| {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_micros(40 + task % 8 * 3) {
            std::hint::spin_loop();
        }
        task
    };
    assert_done_or_too_late(pool.imap(work, 0..20_000, 16).collect());
}

/// Each task has its own result, or was given up for its limit.
fn assert_done_or_too_late(results: Vec<Result<u64, Error>>) {
    for (task, result) in results.into_iter().enumerate() {
        match result {
            Ok(done) => assert_eq!(done, task as u64),
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::TimedOut(_)), "task {task}: {error}");
                assert_eq!(error.index(), Some(task));
            }
        }
    }
}

/// A pool of one worker that is held up, ten tasks that wait behind it, and a count of those that ran.
#[allow(clippy::type_complexity)]
fn held_up() -> (Pool, mpsc::Sender<()>, Vec<Handle<usize>>, Arc<AtomicUsize>) {
    let pool = Pool::threads(1).unwrap();
    let (release, gate) = mpsc::channel::<()>();
    let (begin, begun) = mpsc::channel::<()>();
    drop(pool.submit(move || {
        begin.send(()).unwrap();
        gate.recv().is_ok()
    }));
    begun.recv().unwrap();
    let ran = Arc::new(AtomicUsize::new(0));
    let submit = |_| {
        let ran = Arc::clone(&ran);
        pool.submit(move || ran.fetch_add(1, Ordering::SeqCst))
    };
    let handles = (0..10).map(submit).collect();
    (pool, release, handles, ran)
}

#[test]
fn joining_finishes_what_waits() {
    let (pool, release, handles, ran) = held_up();
    let ending = thread::spawn(move || pool.join());
    release.send(()).unwrap();
    ending.join().unwrap();
    assert_eq!(ran.load(Ordering::SeqCst), 10);
    assert!(handles.into_iter().all(|handle| handle.wait().is_ok()));
}

#[test]
fn dropping_answers_what_waits_as_lost() {
    let (pool, release, handles, ran) = held_up();
    let ending = thread::spawn(move || drop(pool));
    // They are answered while the first task is still held up.
    for handle in handles {
        assert_eq!(handle.wait().unwrap_err().kind(), &ErrorKind::Lost);
    }
    release.send(()).unwrap();
    ending.join().unwrap();
    assert_eq!(ran.load(Ordering::SeqCst), 0);
}

#[test]
fn a_closed_pool_takes_no_more_tasks() {
    for workers in WORKERS {
        let pool = Pool::threads(workers).unwrap();
        pool.close();
        assert_eq!(pool.submit(|| 1).wait().unwrap_err().kind(), &ErrorKind::Lost);
        assert_eq!(pool.map(|x: u8| x, [1]).unwrap_err().kind(), &ErrorKind::Lost);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn pools_leave_no_thread_behind() {
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    let before = threads();
    for _ in 0..100 {
        let pool = Pool::threads(8).unwrap();
        pool.map(|x: usize| x, 0..20).unwrap();
    }
    // Other tests of this program come and go beside this one.
    assert!(threads() < before + 100, "{before} threads before, {} after", threads());
}

/// A value that cannot even be dropped without a panic.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(thread::panicking(), "boom");
    }
}

#[test]
fn a_value_that_panics_when_dropped_kills_no_worker() {
    let pool = Pool::threads(1).unwrap();
    let (release, gate) = mpsc::channel::<()>();
    // Nobody takes the result: the worker drops it.
    drop(pool.submit(move || {
        let _ = gate.recv();
        Bomb
    }));
    release.send(()).unwrap();
    assert_eq!(pool.map(|x: u8| x, [1, 2]).unwrap(), [1, 2]);
}

#[test]
fn in_a_million_small_tasks_the_one_that_fails_is_named() {
    for workers in WORKERS {
        let pool = Pool::threads(workers).unwrap();
        let sum: u64 = pool.map(|x: u64| x * 2, 0..1_000_000).unwrap().into_iter().sum();
        assert_eq!(sum, 999_999 * 1_000_000);
        for bad in [0, 1, 777_777, 999_999] {
            let work = move |x: usize| if x == bad { panic!("no {x}") } else { x };
            let error = pool.map(work, 0..1_000_000).unwrap_err();
            assert_eq!((error.index(), error.kind()), (Some(bad), &ErrorKind::Panicked(format!("no {bad}"))));
            assert_eq!(error.worker().is_some(), workers > 0);
            let work = move |x: usize| if x >= bad { Err(format!("not {x}")) } else { Ok(x) };
            let error = pool.try_map(work, 0..1_000_000).unwrap_err();
            assert_eq!((error.index(), error.kind()), (Some(bad), &ErrorKind::Failed));
            assert!(error.to_string().contains(&format!("not {bad}")), "{error}");
        }
    }
}

/// Sleeps for a while if the task is among the slow ones, and says who did it.
struct SlowFrom(usize);

impl Work<usize> for SlowFrom {
    type Output = usize;

    fn run(&self, task: usize, worker: Worker) -> usize {
        if task >= self.0 {
            thread::sleep(Duration::from_micros(200));
        }
        worker.id().unwrap()
    }
}

#[test]
fn slow_tasks_behind_cheap_ones_are_shared_out() {
    let pool = Pool::threads(4).unwrap();
    let who = pool.map(SlowFrom(100_000), 0..104_000).unwrap();
    let mut counts = [0; 4];
    who[100_000..].iter().for_each(|&worker| counts[worker] += 1);
    assert!(counts.iter().all(|&count| count >= 400), "4,000 slow tasks by worker: {counts:?}");
}

/// The text that `fn main() -> Result<(), BoxError>` prints of an error.
fn printed(error: firebox_workers::Error) -> String {
    let main = || -> Result<(), Box<dyn std::error::Error + Send + Sync>> { Err(error.into()) };
    format!("Error: {:?}", main().unwrap_err())
}

#[test]
fn an_error_prints_in_one_line_with_its_causes() {
    let pool = Pool::threads(1).unwrap();
    let sides = |task: usize| assert_eq!(task, 1, "no sides but one");
    let error = pool.imap(sides, [2], 1).next().unwrap().unwrap_err();
    let text = "Error: task 0: panicked: assertion `left == right` failed: no sides but one, left: 2, right: 1 (worker 0)";
    assert_eq!(printed(error), text);
    let parse = |text: &str| text.parse::<u8>();
    let error = pool.try_map(parse, ["1", "x"]).unwrap_err();
    assert_eq!(printed(error), "Error: task 1: failed: invalid digit found in string (worker 0)");
    let error = Pool::threads(0).unwrap().imap(|_: u8| panic!("{}", "two\n\n lines\n"), [1], 1).next();
    assert_eq!(printed(error.unwrap().unwrap_err()), "Error: task 0: panicked: two, lines");
    pool.close();
    assert_eq!(
        printed(pool.map(|x: u8| x, [1]).unwrap_err()),
        "Error: task 0: was lost: the pool ended before it ran"
    );
}

#[test]
fn a_number_of_threads_that_nobody_can_mean_is_refused() {
    for workers in [usize::MAX, usize::MAX / 2, 16_385] {
        let too_many = ErrorKind::OutOfRange(OutOfRange {
            field: "workers".to_owned(),
            expected: "at most 16384".to_owned(),
            got: workers.to_string(),
        });
        let error = Pool::threads(workers).unwrap_err();
        assert_eq!(error.kind(), &too_many);
        assert_eq!(error.to_string(), format!("workers: expected at most 16384, got {workers}"));
        let pool = Pool::threads(1).unwrap();
        assert_eq!(pool.grow(workers).unwrap_err().kind(), &too_many);
        assert_eq!((pool.workers(), pool.map(|x: u8| x, [7]).unwrap()), (1, vec![7]));
    }
    let error = Pool::named("fire\0box", 1).unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string()),
        (
            &ErrorKind::Spawn,
            "no thread: expected a name without NUL, got \"fire\\0box\" (worker 0)".to_owned()
        )
    );
}

/// A payload of a panic that panics itself, with another such payload.
struct Payload(usize);

impl Drop for Payload {
    fn drop(&mut self) {
        if self.0 > 0 {
            std::panic::panic_any(Payload(self.0 - 1));
        }
    }
}

#[test]
fn a_panic_with_any_payload_is_answered() {
    let (to, from) = mpsc::channel();
    // In a thread of its own: were a task not answered, the stream would wait for ever.
    thread::spawn(move || {
        for workers in WORKERS {
            for limit in [None, Some(Duration::MAX)] {
                let mut pool = Pool::threads(workers).unwrap();
                if let Some(limit) = limit {
                    pool = pool.with_timeout(limit);
                }
                let work = |task: usize| match task % 3 {
                    1 => std::panic::panic_any(7u32),
                    2 => std::panic::panic_any(Payload(3)),
                    _ => task,
                };
                for (task, result) in pool.imap(work, 0..30, 4).enumerate() {
                    let text = "a panic whose payload is not text".to_owned();
                    match (task % 3, result) {
                        (0, result) => assert_eq!(result.unwrap(), task),
                        (_, result) => assert_eq!(result.unwrap_err().kind(), &ErrorKind::Panicked(text)),
                    }
                }
                let handle = pool.submit(|| std::panic::panic_any(Payload(1)));
                assert!(matches!(handle.wait().unwrap_err().kind(), ErrorKind::Panicked(_)));
                assert_eq!(pool.map(|x: usize| x, 0..9).unwrap(), (0..9).collect::<Vec<_>>());
            }
        }
        to.send(()).unwrap();
    });
    from.recv_timeout(Duration::from_secs(60)).unwrap();
}

#[test]
fn tasks_without_an_end_are_no_overflow() {
    for workers in WORKERS {
        let pool = Pool::threads(workers).unwrap();
        let mut stream = pool.imap(|x: u64| x, 0u64.., 3);
        assert_eq!(stream.size_hint(), (usize::MAX, None));
        assert_eq!(stream.by_ref().take(5).map(Result::unwrap).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        assert_eq!(stream.size_hint(), (usize::MAX, None));
        drop(stream);
        let unordered = pool.imap_unordered(|x: u64| x, 0..u64::MAX, usize::MAX);
        assert!(unordered.size_hint().0 >= usize::MAX - (1 << 16));
        drop(unordered);
        // As many results as are promised would not fit any memory.
        let until = |x: u64| if x < 1000 { Ok(x) } else { Err("far enough") };
        let error = pool.try_map(until, 0u64..).unwrap_err();
        assert_eq!((error.index(), error.kind()), (Some(1000), &ErrorKind::Failed));
        assert!(pool.try_map(until, 0..u64::MAX).is_err());
    }
}

#[test]
fn limits_of_any_length_end_what_they_must_and_nothing_else() {
    let none = Duration::ZERO;
    for workers in WORKERS {
        let pool = Pool::threads(workers).unwrap().with_timeout(none);
        // Each task is answered: by its result if it was quick, or as late.
        let results: Vec<_> = pool.imap(|x: usize| x, 0..50, 4).collect();
        assert_eq!(results.len(), 50);
        for (task, result) in results.into_iter().enumerate() {
            match result {
                Ok(done) => assert_eq!(done, task),
                Err(error) => assert_eq!(error.kind(), &ErrorKind::TimedOut(none)),
            }
        }
        let handle = pool.submit(|| 7);
        assert_eq!(handle.wait_timeout(Duration::MAX).unwrap().unwrap(), 7);
        let (release, gate) = mpsc::channel::<()>();
        if workers > 0 {
            let waits = pool.submit(move || gate.recv().is_ok());
            let waits = waits.wait_timeout(none).unwrap_err();
            release.send(()).unwrap();
            assert!(waits.wait().unwrap());
        }
        pool.close();
        pool.close();
        assert_eq!(pool.submit(|| 7).wait().unwrap_err().kind(), &ErrorKind::Lost);
        pool.join();
    }
}
