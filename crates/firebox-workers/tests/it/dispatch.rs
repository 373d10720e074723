//! Promises of handing tasks out one by one, of growing pools, and of tasks that say that they get on.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use firebox_workers::stream::Dispatch;
use firebox_workers::{ErrorKind, Pool, Work, Worker, WorkersExt as _};

use crate::WORKERS;

/// Long enough for anything that is not held up by what the test itself holds up.
const AGES: Duration = Duration::from_secs(30);

/// A door that tasks wait at until it is opened, by a call or by the end of the test.
struct Door {
    opener: mpsc::Sender<()>,
    arrived: mpsc::Receiver<usize>,
}

/// The side of a door that tasks see.
struct Outside {
    closed: Mutex<mpsc::Receiver<()>>,
    arrivals: mpsc::Sender<usize>,
}

fn door() -> (Door, Outside) {
    let (opener, closed) = mpsc::channel();
    let (arrivals, arrived) = mpsc::channel();
    (Door { opener, arrived }, Outside { closed: Mutex::new(closed), arrivals })
}

impl Outside {
    /// Says who is here, and waits for one call of [`Door::open`], or for the door to be dropped.
    fn wait(&self, who: usize) {
        let _ = self.arrivals.send(who);
        let _ = self.closed.lock().unwrap().recv();
    }
}

impl Door {
    fn open(&self) {
        self.opener.send(()).unwrap();
    }

    /// Waits until somebody stands before the door.
    fn arrival(&self) -> usize {
        self.arrived.recv_timeout(AGES).unwrap()
    }
}

#[test]
fn every_task_is_received_once_with_the_index_that_it_was_sent_under() {
    for workers in WORKERS {
        for in_flight in [1, 2, 7, 100] {
            let pool = Pool::threads(workers).unwrap();
            let mut dispatch = pool.dispatch(Arc::new(|x: u64| x * x), in_flight);
            let mut sent = BTreeMap::new();
            let mut left: Vec<u64> = (0..200).rev().map(|x| 3 * x).collect();
            let mut received = 0;
            while let Some(task) = left.pop() {
                match dispatch.send(task) {
                    Ok(index) => {
                        assert_eq!(index, sent.len(), "indices count the tasks");
                        sent.insert(index, task);
                    }
                    Err(back) => {
                        assert_eq!(back, task, "the very task comes back");
                        left.push(back);
                        let (index, result) = dispatch.receive().unwrap();
                        assert_eq!(result.unwrap(), sent[&index].pow(2));
                        received += 1;
                    }
                }
                assert_eq!(dispatch.outstanding(), sent.len() - received);
                assert!(dispatch.outstanding() <= in_flight);
            }
            let mut indices = Vec::new();
            while let Some((index, result)) = dispatch.receive() {
                assert_eq!(result.unwrap(), sent[&index].pow(2));
                indices.push(index);
            }
            assert_eq!(received + indices.len(), 200, "{workers} workers, {in_flight} in flight");
            assert_eq!((dispatch.outstanding(), dispatch.receive().is_none()), (0, true));
        }
    }
}

#[test]
fn one_worker_runs_tasks_in_the_order_of_sending() {
    for workers in [0, 1] {
        let pool = Pool::threads(workers).unwrap();
        let mut dispatch = pool.dispatch(Arc::new(|x: usize| x), 500);
        (0..500).for_each(|task| assert_eq!(dispatch.send(task), Ok(task)));
        let order: Vec<usize> = std::iter::from_fn(|| dispatch.receive()).map(|(index, _)| index).collect();
        assert!(order.into_iter().eq(0..500), "{workers} workers");
    }
}

#[test]
fn as_many_tasks_are_out_as_the_bound_allows_and_not_one_more() {
    let pool = Pool::threads(2).unwrap();
    let (door, outside) = door();
    let work = move |task: usize| {
        outside.wait(task);
        task
    };
    let mut dispatch = pool.dispatch(Arc::new(work), 3);
    assert_eq!((dispatch.send(10), dispatch.send(11), dispatch.send(12)), (Ok(0), Ok(1), Ok(2)));
    assert_eq!((dispatch.send(13), dispatch.outstanding()), (Err(13), 3));
    assert!(dispatch.try_receive().is_none(), "all of them are held up");
    assert_eq!(dispatch.outstanding(), 3, "nothing was received");
    door.open();
    let (_, result) = dispatch.receive().unwrap();
    assert!([10, 11].contains(&result.unwrap()), "the two that had workers");
    assert_eq!((dispatch.outstanding(), dispatch.send(13)), (2, Ok(3)));
    assert_eq!(dispatch.send(14), Err(14));
    (0..3).for_each(|_| door.open());
    assert_eq!(std::iter::from_fn(|| dispatch.receive()).count(), 3);
    // A bound of nothing would be of no use.
    let mut narrow = pool.dispatch(Arc::new(|x: u8| x), 0);
    assert_eq!((narrow.send(1), narrow.send(2)), (Ok(0), Err(2)));
    assert_eq!(narrow.receive().unwrap().1.unwrap(), 1);
}

#[test]
fn a_result_that_waits_to_be_received_still_counts_against_the_bound() {
    let pool = Pool::threads(2).unwrap();
    let started = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&started);
    let mut dispatch = pool.dispatch(Arc::new(move |()| count.fetch_add(1, Ordering::SeqCst)), 2);
    for _ in 0..100 {
        while dispatch.send(()).is_ok() {}
        assert_eq!(dispatch.outstanding(), 2);
    }
    assert!(started.load(Ordering::SeqCst) <= 2, "nobody received anything");
    assert_eq!(std::iter::from_fn(|| dispatch.receive()).count(), 2);
}

#[test]
fn what_is_there_can_be_received_without_a_wait() {
    let pool = Pool::threads(1).unwrap();
    let (door, outside) = door();
    let work = move |task: usize| {
        outside.wait(task);
        task * 2
    };
    let mut dispatch = pool.dispatch(Arc::new(work), 4);
    assert!(dispatch.try_receive().is_none(), "nothing is out");
    assert_eq!(dispatch.send(21), Ok(0));
    door.arrival();
    assert!(dispatch.try_receive().is_none());
    door.open();
    let begun = Instant::now();
    let (index, result) = loop {
        match dispatch.try_receive() {
            Some(received) => break received,
            None => assert!(begun.elapsed() < AGES, "a result that never comes"),
        }
        thread::yield_now();
    };
    assert_eq!((index, result.unwrap(), dispatch.outstanding()), (0, 42, 0));
    assert!(dispatch.try_receive().is_none() && dispatch.receive().is_none());
}

#[test]
fn a_full_queue_gives_tasks_back_and_loses_none() {
    let pool = Pool::threads(1).unwrap();
    let (door, outside) = door();
    let work = move |task: usize| {
        if task == 0 {
            outside.wait(task);
        }
        task
    };
    let mut dispatch = pool.dispatch(Arc::new(work), 60_000);
    assert_eq!(dispatch.send(0), Ok(0));
    door.arrival();
    let sent = (1..).find(|&task| dispatch.send(task).is_err()).unwrap();
    assert!((1000..10_000).contains(&sent), "the queue is what stopped it, after {sent}");
    assert_eq!(dispatch.send(sent), Err(sent), "and goes on to do so");
    door.open();
    // While the rest is received, more can be sent.
    let (mut next, mut received) = (sent, Vec::new());
    while let Some((index, result)) = dispatch.receive() {
        assert_eq!(result.unwrap(), index);
        received.push(index);
        while next < 5000 && dispatch.send(next).is_ok() {
            next += 1;
        }
    }
    assert!(received.into_iter().eq(0..5000), "one worker, so all in order");
}

#[test]
fn dispatches_that_share_a_full_queue_all_come_to_their_end() {
    let pool = Pool::threads(2).unwrap();
    let mut dispatches: Vec<_> = (0..4).map(|_| pool.dispatch(Arc::new(|x: usize| x), 3000)).collect();
    let mut sent = [0; 4];
    for (dispatch, sent) in dispatches.iter_mut().zip(&mut sent) {
        while *sent < 3000 && dispatch.send(*sent).is_ok() {
            *sent += 1;
        }
    }
    for (dispatch, sent) in dispatches.iter_mut().zip(&mut sent) {
        let mut seen = [false; 3000];
        while let Some((index, result)) = dispatch.receive() {
            assert!(result.unwrap() == index && !std::mem::replace(&mut seen[index], true));
            while *sent < 3000 && dispatch.send(*sent).is_ok() {
                *sent += 1;
            }
        }
        assert!(seen.iter().all(|&seen| seen));
    }
}

#[test]
fn a_dropped_dispatch_starts_nothing_more() {
    let pool = Pool::threads(1).unwrap();
    let (door, outside) = door();
    let started = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&started);
    let work = move |task: usize| {
        count.fetch_add(1, Ordering::SeqCst);
        outside.wait(task);
    };
    let mut dispatch = pool.dispatch(Arc::new(work), 100);
    (0..100).for_each(|task| assert!(dispatch.send(task).is_ok()));
    door.arrival();
    drop(dispatch);
    drop(door);
    // Behind all of them in the queue.
    assert_eq!(pool.map(|x: u8| x, [1]).unwrap(), [1]);
    assert_eq!(started.load(Ordering::SeqCst), 1, "only the one that had started");
}

#[test]
fn tasks_of_a_dropped_dispatch_are_dropped_too() {
    let pool = Pool::threads(1).unwrap();
    let (door, outside) = door();
    let token = Arc::new(());
    let mut dispatch = pool.dispatch(Arc::new(move |_: Arc<()>| outside.wait(0)), 10);
    (0..10).for_each(|_| assert!(dispatch.send(Arc::clone(&token)).is_ok()));
    door.arrival();
    drop(dispatch);
    drop(door);
    assert_eq!(pool.map(|x: u8| x, [1]).unwrap(), [1]);
    assert_eq!(Arc::strong_count(&token), 1);
}

#[test]
fn without_workers_tasks_run_here_in_order_and_only_when_received() {
    let pool = Pool::threads(0).unwrap();
    let ran = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&ran);
    let here = thread::current().id();
    let work = move |x: usize| {
        count.fetch_add(1, Ordering::SeqCst);
        assert_eq!(thread::current().id(), here);
        x
    };
    let mut dispatch = pool.dispatch(Arc::new(work), 3);
    assert_eq!((dispatch.send(7), dispatch.send(8), dispatch.send(9)), (Ok(0), Ok(1), Ok(2)));
    assert_eq!(dispatch.send(10), Err(10), "the bound holds here, too");
    assert!(dispatch.try_receive().is_none());
    assert_eq!((ran.load(Ordering::SeqCst), dispatch.outstanding()), (0, 3));
    for (index, task) in [7, 8, 9].into_iter().enumerate() {
        let (received, result) = dispatch.receive().unwrap();
        assert_eq!((received, result.unwrap(), ran.load(Ordering::SeqCst)), (index, task, index + 1));
    }
    assert!(dispatch.receive().is_none());
    assert_eq!(dispatch.send(11), Ok(3));
    drop(dispatch);
    assert_eq!(ran.load(Ordering::SeqCst), 3, "dropped before it was asked for");
}

#[test]
fn a_panic_is_the_error_of_its_task_and_the_dispatch_goes_on() {
    for workers in WORKERS {
        let pool = Pool::threads(workers).unwrap();
        let work = |x: usize| if x % 3 == 1 { panic!("no {x}") } else { x };
        let mut dispatch = pool.dispatch(Arc::new(work), 30);
        (0..30).for_each(|task| assert!(dispatch.send(task).is_ok()));
        let mut seen = 0;
        while let Some((index, result)) = dispatch.receive() {
            match result {
                Ok(x) => assert!(x == index && index % 3 != 1),
                Err(error) => {
                    assert_eq!(error.kind(), &ErrorKind::Panicked(format!("no {index}")));
                    assert_eq!((error.index(), index % 3), (Some(index), 1));
                    assert_eq!(error.worker().is_some(), workers > 0);
                }
            }
            seen += 1;
        }
        assert_eq!(seen, 30, "{workers} workers");
    }
}

#[test]
fn a_closed_pool_answers_every_task_as_lost() {
    for workers in WORKERS {
        let pool = Pool::threads(workers).unwrap();
        let mut dispatch = pool.dispatch(Arc::new(|x: u8| x), 4);
        pool.close();
        (0..4).for_each(|task| assert!(dispatch.send(task).is_ok()));
        let mut lost = Vec::new();
        while let Some((index, result)) = dispatch.receive() {
            let error = result.unwrap_err();
            assert_eq!((error.kind(), error.index()), (&ErrorKind::Lost, Some(index)));
            lost.push(index);
        }
        lost.sort_unstable();
        assert_eq!(lost, [0, 1, 2, 3], "{workers} workers");
    }
}

#[test]
fn a_worker_that_dispatches_in_its_own_pool_runs_the_tasks_itself() {
    for workers in [1, 2] {
        let pool = Arc::new(Pool::threads(workers).unwrap());
        let inner = Arc::clone(&pool);
        let outer = move |n: usize| {
            let me = thread::current().id();
            let work = move |x: usize| (x, thread::current().id() == me);
            let mut dispatch = inner.dispatch(Arc::new(work), n);
            (0..n).for_each(|task| assert!(dispatch.send(task).is_ok()));
            let mut sum = 0;
            while let Some((_, result)) = dispatch.receive() {
                let (x, by_me) = result.unwrap();
                assert!(by_me);
                sum += x;
            }
            sum
        };
        let mut dispatch = pool.dispatch(Arc::new(outer), 8);
        (1..=8).for_each(|n| assert!(dispatch.send(n).is_ok()));
        let mut sums = [0; 8];
        while let Some((index, result)) = dispatch.receive() {
            sums[index] = result.unwrap();
        }
        assert_eq!(sums, [0, 1, 3, 6, 10, 15, 21, 28]);
    }
}

#[test]
fn a_pool_grows_to_what_is_asked_and_never_shrinks() {
    let pool = Pool::threads(1).unwrap();
    assert_eq!(pool.workers(), 1);
    pool.grow(3).unwrap();
    assert_eq!(pool.workers(), 3);
    // Three tasks that wait for each other need three threads.
    let barrier = Arc::new(Barrier::new(3));
    let meet = move |_: usize| {
        barrier.wait();
        thread::current().name().unwrap().to_owned()
    };
    let mut dispatch = pool.dispatch(Arc::new(meet), 3);
    (0..3).for_each(|task| assert!(dispatch.send(task).is_ok()));
    let mut names: Vec<_> =
        std::iter::from_fn(|| dispatch.receive()).map(|(_, name)| name.unwrap()).collect();
    names.sort();
    assert_eq!(names, ["firebox-0", "firebox-1", "firebox-2"]);
    for workers in [0, 1, 2, 3] {
        pool.grow(workers).unwrap();
        assert_eq!(pool.workers(), 3);
    }
}

#[test]
fn a_pool_grows_while_a_dispatch_waits_for_its_only_worker() {
    let pool = Pool::threads(1).unwrap();
    let (door, outside) = door();
    let work = move |task: usize| {
        if task == 0 {
            outside.wait(task);
        }
        task
    };
    let mut dispatch = pool.dispatch(Arc::new(work), 3);
    (0..3).for_each(|task| assert!(dispatch.send(task).is_ok()));
    door.arrival();
    pool.grow(2).unwrap();
    // The new thread takes what waits behind the first task.
    let mut first: Vec<_> = (0..2).map(|_| dispatch.receive().unwrap().0).collect();
    first.sort_unstable();
    assert_eq!(first, [1, 2]);
    door.open();
    assert_eq!(dispatch.receive().map(|(index, _)| index), Some(0));
}

#[test]
fn a_pool_without_workers_stays_one() {
    let pool = Pool::threads(0).unwrap();
    pool.grow(4).unwrap();
    assert_eq!(pool.workers(), 0);
    assert_eq!(pool.map(|x: u8| x, [1, 2]).unwrap(), [1, 2]);
}

#[test]
fn threads_that_were_added_end_with_the_pool() {
    struct Tells(Arc<AtomicUsize>);
    impl Drop for Tells {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    thread_local! {
        static HERE: std::cell::RefCell<Option<Tells>> = const { std::cell::RefCell::new(None) };
    }
    let pool = Pool::threads(1).unwrap();
    pool.grow(4).unwrap();
    let (ended, barrier) = (Arc::new(AtomicUsize::new(0)), Arc::new(Barrier::new(4)));
    let tells = Arc::clone(&ended);
    let mark = move |_: usize| {
        HERE.set(Some(Tells(Arc::clone(&tells))));
        barrier.wait();
    };
    pool.map(mark, 0..4).unwrap();
    assert_eq!(ended.load(Ordering::SeqCst), 0);
    drop(pool);
    assert_eq!(ended.load(Ordering::SeqCst), 4);
}

/// Ten steps of a quarter of the limit each.
struct Steps {
    /// True if each step is told.
    told: bool,
}

const LIMIT: Duration = Duration::from_millis(400);

impl Work<usize> for Steps {
    type Output = bool;

    fn run(&self, _: usize, worker: Worker<'_>) -> bool {
        (0..10).all(|_| {
            thread::sleep(LIMIT / 4);
            !self.told || worker.progress()
        })
    }
}

#[test]
fn a_long_task_that_gets_on_is_not_given_up() {
    let pool = Pool::threads(2).unwrap().with_timeout(LIMIT);
    let mut silent = pool.dispatch(Arc::new(Steps { told: false }), 1);
    let mut telling = pool.dispatch(Arc::new(Steps { told: true }), 1);
    assert!(silent.send(0).is_ok() && telling.send(0).is_ok());
    assert!(telling.receive().unwrap().1.unwrap(), "somebody waited for it at each step");
    // The same task without a word is past its limit: else the above would show nothing.
    let error = silent.receive().unwrap().1.unwrap_err();
    assert_eq!((error.kind(), error.index()), (&ErrorKind::TimedOut(LIMIT), Some(0)));
}

/// Tells that it began, waits at a door, and then tells what it hears about its progress.
struct Asks {
    outside: Outside,
    heard: mpsc::Sender<bool>,
}

impl Work<usize> for Asks {
    type Output = ();

    fn run(&self, task: usize, worker: Worker<'_>) {
        let _ = self.heard.send(worker.progress());
        self.outside.wait(task);
        let _ = self.heard.send(worker.progress());
    }
}

#[test]
fn a_task_of_a_dropped_dispatch_hears_that_nobody_waits() {
    for limit in [None, Some(AGES)] {
        let mut pool = Pool::threads(1).unwrap();
        if let Some(limit) = limit {
            pool = pool.with_timeout(limit);
        }
        let ((door, outside), (heard, hears)) = (door(), mpsc::channel());
        let mut dispatch = pool.dispatch(Arc::new(Asks { outside, heard }), 1);
        assert!(dispatch.send(0).is_ok());
        door.arrival();
        assert_eq!(hears.recv_timeout(AGES), Ok(true));
        drop(dispatch);
        door.open();
        assert_eq!(hears.recv_timeout(AGES), Ok(false));
    }
}

#[test]
fn a_task_that_was_given_up_hears_that_nobody_waits() {
    let pool = Pool::threads(1).unwrap().with_timeout(Duration::from_millis(100));
    let ((door, outside), (heard, hears)) = (door(), mpsc::channel());
    let mut dispatch = pool.dispatch(Arc::new(Asks { outside, heard }), 2);
    assert!(dispatch.send(0).is_ok());
    let error = dispatch.receive().unwrap().1.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::TimedOut(_)));
    assert_eq!(hears.recv_timeout(AGES), Ok(true));
    door.open();
    assert_eq!(hears.recv_timeout(AGES), Ok(false), "although its dispatch is still there");
    // Another thread has the place.
    assert_eq!(dispatch.send(1), Ok(1));
    assert_eq!(door.arrival(), 0);
    assert_eq!(door.arrival(), 1);
    door.open();
    assert!(dispatch.receive().unwrap().1.is_ok());
}

#[test]
fn a_task_in_the_caller_always_gets_on() {
    struct Gets;
    impl Work<()> for Gets {
        type Output = (bool, Option<usize>);
        fn run(&self, (): (), worker: Worker<'_>) -> (bool, Option<usize>) {
            (worker.progress() && worker.progress(), worker.id())
        }
    }
    let pool = Pool::threads(0).unwrap().with_timeout(Duration::ZERO);
    let mut dispatch = pool.dispatch(Arc::new(Gets), 1);
    assert!(dispatch.send(()).is_ok());
    assert_eq!(dispatch.receive().unwrap().1.unwrap(), (true, None));
    assert!(Worker::CALLER.progress());
}

#[test]
fn a_pool_that_grows_beside_threads_that_were_given_up_has_all_its_workers() {
    let pool = Pool::threads(2).unwrap().with_timeout(Duration::from_millis(200));
    let (door, outside) = door();
    let hang = move |task: usize| outside.wait(task);
    let mut dispatch = pool.dispatch(Arc::new(hang), 2);
    (0..2).for_each(|task| assert!(dispatch.send(task).is_ok()));
    while let Some((_, result)) = dispatch.receive() {
        assert!(matches!(result.unwrap_err().kind(), ErrorKind::TimedOut(_)));
    }
    pool.grow(4).unwrap();
    let met = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&met);
    // Each waits until all four are here, but not for ever: without four threads the test fails, and ends.
    let meet = move |_: usize| {
        count.fetch_add(1, Ordering::SeqCst);
        let begun = Instant::now();
        while count.load(Ordering::SeqCst) < 4 && begun.elapsed() < Duration::from_millis(150) {
            thread::yield_now();
        }
    };
    let all_met = (0..20).any(|_| {
        met.store(0, Ordering::SeqCst);
        let mut dispatch = pool.dispatch(Arc::new(meet.clone()), 4);
        (0..4).for_each(|task| assert!(dispatch.send(task).is_ok()));
        let ended: Vec<_> = std::iter::from_fn(|| dispatch.receive()).collect();
        ended.len() == 4 && ended.iter().all(|(_, result)| result.is_ok()) && met.load(Ordering::SeqCst) == 4
    });
    assert!(all_met);
    drop(door);
}

/// Sends tasks until the pool's queue takes no more.
fn fill<W: Work<usize>>(dispatch: &mut Dispatch<'_, usize, W>) {
    let refused = (1..).find(|&task| dispatch.send(task).is_err()).unwrap();
    assert!(refused < 10_000, "no end of the queue");
}

#[test]
fn a_task_that_hangs_before_a_full_queue_does_not_hold_up_another_dispatch() {
    for abandoned in [false, true] {
        let pool = Pool::threads(1).unwrap().with_timeout(Duration::from_millis(100));
        let (door, outside) = door();
        let work = move |task: usize| {
            if task == 0 {
                outside.wait(task);
            }
        };
        let mut stuck = pool.dispatch(Arc::new(work), 60_000);
        assert!(stuck.send(0).is_ok());
        door.arrival();
        fill(&mut stuck);
        let stuck = (!abandoned).then_some(stuck);
        let in_time = thread::scope(|scope| {
            let (ended, end) = mpsc::channel();
            let pool = &pool;
            scope.spawn(move || {
                let mut other = pool.dispatch(Arc::new(|x: usize| x), 1);
                assert_eq!(other.send(7), Ok(0));
                assert_eq!(other.receive().unwrap().1.unwrap(), 7);
                let _ = ended.send(());
            });
            let in_time = end.recv_timeout(Duration::from_secs(5)).is_ok();
            // Whatever is held up goes on now, so that the test ends in any case.
            drop(door);
            in_time
        });
        drop(stuck);
        assert!(in_time, "the other dispatch waited for a task past its limit (abandoned: {abandoned})");
    }
}
