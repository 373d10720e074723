//! Several streams of the same workers.

use std::sync::Arc;
use std::thread;

use firebox_workers::WorkersExt as _;

use super::{Act, Double, Play, Stage, Subject};

pub(crate) fn many_streams_at_once_each_get_their_own_results<S: Subject>(workers: usize) {
    let pool = S::new(workers);
    let mut ordered: Vec<_> = (0..4).map(|k| pool.imap(Double, k * 1000..k * 1000 + 300, 7)).collect();
    let mut single = pool.dispatch(Arc::new(Double), 1);
    for x in 0..300 {
        for (stream, k) in ordered.iter_mut().zip(0..) {
            assert_eq!(stream.next().unwrap().unwrap(), 2 * (k * 1000 + x));
        }
        assert_eq!(single.send(7 * x), Ok(x as usize));
        let handle = pool.submit((Double, 5 * x));
        assert_eq!(single.receive().unwrap().1.unwrap(), 14 * x);
        assert_eq!(handle.wait().unwrap(), 10 * x);
    }
    assert!(ordered.iter_mut().all(|stream| stream.next().is_none()));
}

pub(crate) fn streams_of_several_threads_each_get_their_own_results<S: Subject>(workers: usize) {
    let pool = &S::new(workers);
    thread::scope(|scope| {
        for k in 0..4 {
            scope.spawn(move || {
                for in_flight in [1, 5, 64] {
                    let results = pool.imap(Double, k * 1000..k * 1000 + 300, in_flight).map(Result::unwrap);
                    assert!(results.eq((k * 1000..k * 1000 + 300).map(|x| 2 * x)));
                }
                let doubled = pool.map(Double, k..k + 3000).unwrap();
                assert!(doubled.into_iter().eq((k..k + 3000).map(|x| 2 * x)));
            });
        }
    });
}

pub(crate) fn more_tasks_than_a_queue_holds_are_no_deadlock<S: Subject>(workers: usize) {
    let pool = S::new(workers);
    let a = pool.imap(Double, 0..10_000, 5_000);
    let b = pool.imap(Double, 0..10_000, 5_000);
    let sum: u64 = a.zip(b).map(|(a, b)| a.unwrap() + b.unwrap()).sum();
    assert_eq!(sum, 2 * 9_999 * 10_000);
}

pub(crate) fn a_slow_consumer_holds_up_no_other_stream<S: Subject>(workers: usize) {
    let (pool, stage) = (S::new(workers), Stage::new());
    let mut slow = pool.imap(Play, (0..10).map(|name| Act::Mark { folder: stage.folder(), name }), 2);
    assert_eq!(slow.next().unwrap().unwrap().value, 0);
    for _ in 0..3 {
        let quick = pool.imap(Double, 0..500, 16).map(Result::unwrap);
        assert!(quick.eq((0..500).map(|x| 2 * x)));
    }
    let rest: Vec<u64> = slow.map(|played| played.unwrap().value).collect();
    assert_eq!(rest, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
}

pub(crate) fn a_full_queue_holds_up_nobody_who_only_looks<S: Subject>(workers: usize) {
    let (pool, stage) = (S::new(workers), Stage::new());
    let hang = || Act::Wait { folder: stage.folder(), name: 0, gate: 0 };
    let mut full = pool.dispatch(Arc::new(Play), 60_000);
    while full.send(hang()).is_ok() {}
    let mut other = pool.dispatch(Arc::new(Double), 4);
    assert_eq!(other.send(4), Ok(0), "it is taken over, and goes to the queue when there is room");
    assert!(other.try_receive().is_none() && other.outstanding() == 1);
    assert_eq!(other.send(5), Err(5));
    stage.open(0);
    assert_eq!(other.receive().map(|(index, result)| (index, result.unwrap())), Some((0, 8)));
    assert!(std::iter::from_fn(|| full.receive()).all(|(_, played)| played.is_ok()));
}
