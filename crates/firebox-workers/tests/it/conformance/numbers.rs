//! How many workers there are, from none on.

use std::sync::Arc;

use firebox_workers::{Workers as _, WorkersExt as _};

use super::act::Place;
use super::{Act, Double, Play, Stage, Subject};

pub(crate) fn tasks_run_in_the_caller_and_only_when_their_result_is_asked_for<S: Subject>(workers: usize) {
    let (pool, stage) = (S::new(workers), Stage::new());
    assert_eq!(pool.capacity(), 0);
    let act = |name| Act::Mark { folder: stage.folder(), name };
    let mut stream = pool.imap(Play, (0..4).map(act), 8);
    let mut dispatch = pool.dispatch(Arc::new(Play), 3);
    assert_eq!(
        (dispatch.send(act(10)), dispatch.send(act(11)), dispatch.send(act(12))),
        (Ok(0), Ok(1), Ok(2))
    );
    assert_eq!(dispatch.send(act(13)), Err(act(13)), "the bound holds here, too");
    assert!(dispatch.try_receive().is_none());
    assert_eq!(stage.marks(), 0);
    for name in 0..3 {
        let played = stream.next().unwrap().unwrap();
        assert_eq!((played.value, played.worker, played.place), (name, None, Place::here()));
        let (index, played) = dispatch.receive().unwrap();
        assert_eq!((index as u64, played.unwrap().value), (name, 10 + name), "in the order of sending");
        assert_eq!(stage.marks() as u64, 2 * (name + 1));
    }
    drop(stream);
    assert_eq!(stage.marks(), 6, "the last one was never asked for");
    assert_eq!(pool.submit((Play, act(20))).wait().unwrap().place, Place::here());
}

pub(crate) fn no_workers_stay_none<S: Subject>(workers: usize) {
    let pool = S::new(workers);
    pool.grow(4).unwrap();
    assert_eq!(pool.capacity(), 0);
    assert_eq!(pool.map(Double, [1, 2]).unwrap(), [2, 4]);
}

/// The workers of so many tasks that wait for each other.
fn meet<S: Subject>(pool: &S::Workers, tasks: usize) -> Vec<usize> {
    let stage = Stage::new();
    let acts = (0..tasks as u64).map(|name| Act::Meet { folder: stage.folder(), name, marks: tasks });
    let mut ids: Vec<_> =
        pool.imap(Play, acts, tasks).map(|played| played.unwrap().worker.unwrap()).collect();
    ids.sort_unstable();
    ids
}

pub(crate) fn as_many_tasks_run_at_the_same_time_as_there_are_workers<S: Subject>(workers: usize) {
    let pool = S::new(workers);
    assert_eq!(pool.capacity(), workers);
    assert!(meet::<S>(&pool, workers).into_iter().eq(0..workers), "each worker has one of the tasks");
}

pub(crate) fn workers_that_are_added_take_tasks_and_none_is_taken_away<S: Subject>(workers: usize) {
    let pool = S::new(workers);
    pool.grow(workers + 2).unwrap();
    for fewer in [workers + 2, workers, 1, 0] {
        assert_eq!(pool.capacity(), workers + 2);
        assert!(meet::<S>(&pool, workers + 2).into_iter().eq(0..workers + 2));
        pool.grow(fewer).unwrap();
    }
}

pub(crate) fn a_worker_that_is_added_takes_what_waits<S: Subject>(workers: usize) {
    let (pool, stage) = (S::new(workers), Stage::new());
    let mut dispatch = pool.dispatch(Arc::new(Play), workers + 2);
    for name in 0..workers as u64 {
        assert!(dispatch.send(Act::Wait { folder: stage.folder(), name, gate: 0 }).is_ok());
    }
    stage.wait_for_marks(workers);
    (0..2).for_each(|value| assert!(dispatch.send(Act::Echo(value)).is_ok()));
    pool.grow(workers + 1).unwrap();
    for task in 0..2 {
        let (index, played) = dispatch.receive().unwrap();
        assert_eq!((index, played.unwrap().worker), (workers + task, Some(workers)));
    }
    stage.open(0);
    assert_eq!(std::iter::from_fn(|| dispatch.receive()).count(), workers);
}

pub(crate) fn a_task_that_ran_in_the_caller_is_not_cancelled<S: Subject>(workers: usize) {
    let pool = S::new(workers);
    let handle = pool.submit((Double, 5));
    assert!(!handle.cancel());
    assert_eq!(handle.wait().unwrap(), 10);
}
