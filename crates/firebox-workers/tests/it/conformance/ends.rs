//! How streams and workers end.

use std::sync::Arc;
use std::thread;

use firebox_workers::{Error, ErrorKind, Handle, Workers as _, WorkersExt as _};

use super::{Act, Double, Play, Played, PoolSubject, Stage, Subject};

pub(crate) fn closed_workers_answer_every_task_as_lost<S: Subject>(workers: usize) {
    let pool = S::new(workers);
    let mut dispatch = pool.dispatch(Arc::new(Double), 4);
    assert!(!pool.is_closed());
    pool.close();
    pool.close();
    assert!(pool.is_closed());
    assert_eq!(pool.submit((Double, 1)).wait().unwrap_err().kind(), &ErrorKind::Lost);
    assert_eq!(pool.map(Double, [1]).unwrap_err().kind(), &ErrorKind::Lost);
    assert_eq!(pool.imap(Double, [1], 1).next().unwrap().unwrap_err().kind(), &ErrorKind::Lost);
    (0..4).for_each(|task| assert!(dispatch.send(task).is_ok()));
    let mut lost: Vec<usize> = std::iter::from_fn(|| dispatch.receive())
        .map(|(index, result)| {
            let error = result.unwrap_err();
            assert_eq!((error.kind(), error.index()), (&ErrorKind::Lost, Some(index)));
            index
        })
        .collect();
    lost.sort_unstable();
    assert_eq!(lost, [0, 1, 2, 3]);
}

pub(crate) fn tasks_that_are_out_when_the_workers_close_are_answered_once<S: Subject>(workers: usize) {
    let pool = S::new(workers);
    let mut dispatch = pool.dispatch(Arc::new(Double), 200);
    let mut sent = 0;
    while sent < 100 && dispatch.send(sent).is_ok() {
        sent += 1;
    }
    pool.close();
    while sent < 200 && dispatch.send(sent).is_ok() {
        sent += 1;
    }
    let mut seen = vec![false; sent as usize];
    while let Some((index, result)) = dispatch.receive() {
        assert!(!std::mem::replace(&mut seen[index], true), "task {index} came twice");
        match result {
            Ok(doubled) => assert!(doubled == 2 * index as u64 && index < 100 && workers > 0),
            Err(error) => assert_eq!((error.kind(), error.index()), (&ErrorKind::Lost, Some(index))),
        }
    }
    assert!(seen.into_iter().all(|seen| seen));
}

pub(crate) fn a_stream_dropped_at_any_point_leaves_the_workers_whole<S: Subject>(workers: usize) {
    let pool = S::new(workers);
    for consumed in 0..20 {
        let mut stream = pool.imap(Double, 0..20, 6);
        (0..consumed).for_each(|x| assert_eq!(stream.next().unwrap().unwrap(), 2 * x));
        drop(stream);
        let mut unordered = pool.imap_unordered(Double, 0..20, 6);
        assert_eq!(unordered.by_ref().take(consumed as usize).count(), consumed as usize);
        drop(unordered);
        assert_eq!(pool.map(Double, [3, 4]).unwrap(), [6, 8]);
    }
}

pub(crate) fn a_submitted_task_runs_although_its_handle_is_dropped<S: Subject>(workers: usize) {
    let (pool, stage) = (S::new(workers), Stage::new());
    drop(pool.submit((Play, Act::Mark { folder: stage.folder(), name: 0 })));
    stage.wait_for_marks(1);
}

/// Workers that are all held up at gate 0, ten tasks that wait for them, and the stage where those leave
/// marks.
pub(super) fn held_up<S: Subject>(workers: usize) -> (S::Workers, Stage, Vec<Handle<Played>>) {
    let (pool, stage) = (S::new(workers), Stage::new());
    for name in 0..workers as u64 {
        drop(pool.submit((Play, Act::Wait { folder: stage.folder(), name, gate: 0 })));
    }
    stage.wait_for_marks(workers);
    let mark = |name| pool.submit((Play, Act::Mark { folder: stage.folder(), name }));
    let handles = (100..110).map(mark).collect();
    (pool, stage, handles)
}

pub(crate) fn joining_finishes_what_was_handed_out<S: Subject>(workers: usize) {
    let (pool, stage, handles) = held_up::<S>(workers);
    let ending = thread::spawn(move || S::join(pool));
    stage.open(0);
    ending.join().unwrap();
    assert_eq!(stage.marks(), workers + 10);
    let values: Result<Vec<u64>, Error> =
        handles.into_iter().map(|handle| handle.wait().map(|played| played.value)).collect();
    assert!(values.unwrap().into_iter().eq(100..110));
}

pub(crate) fn dropping_answers_what_waits_as_lost<S: Subject>(workers: usize) {
    let (pool, stage, handles) = held_up::<S>(workers);
    let ending = thread::spawn(move || drop(pool));
    // They are answered while the workers are still held up.
    for handle in handles {
        assert_eq!(handle.wait().unwrap_err().kind(), &ErrorKind::Lost);
    }
    stage.open(0);
    ending.join().unwrap();
    assert_eq!(stage.marks(), workers);
}

pub(crate) fn terminating_answers_all_that_is_out_as_lost_at_once<S: PoolSubject>(workers: usize) {
    for limit in [None, Some(super::AGES)] {
        let (pool, stage) = (S::with_limit(workers, limit), Stage::new());
        let wait = |name| pool.submit((Play, Act::Wait { folder: stage.folder(), name, gate: 0 }));
        let running: Vec<_> = (0..workers as u64).map(wait).collect();
        stage.wait_for_marks(workers);
        let mark = |name| pool.submit((Play, Act::Mark { folder: stage.folder(), name }));
        let waiting: Vec<_> = (100..110).map(mark).collect();
        // Nobody opens the gate.
        S::terminate(pool);
        for handle in running.into_iter().chain(waiting) {
            assert_eq!(handle.wait().unwrap_err().kind(), &ErrorKind::Lost);
        }
        assert_eq!(stage.marks(), workers);
    }
}

pub(crate) fn a_dropped_stream_starts_nothing_more<S: Subject>(workers: usize) {
    let (pool, stage) = (S::new(workers), Stage::new());
    let acts = (0..100).map(|name| Act::Wait { folder: stage.folder(), name, gate: 0 });
    let stream = pool.imap(Play, acts, 100);
    stage.wait_for_marks(workers);
    drop(stream);
    stage.open(0);
    // After all of them in the queue.
    assert_eq!(pool.map(Double, [1, 2]).unwrap(), [2, 4]);
    assert_eq!(stage.marks(), workers, "only what had started ran");
}

pub(crate) fn a_task_of_a_dropped_stream_hears_that_nobody_waits<S: Subject>(workers: usize) {
    for limit in [None, Some(super::AGES)] {
        let (pool, stage) = (S::with_limit(workers, limit), Stage::new());
        let stream = pool.imap(Play, [Act::WhileWanted { folder: stage.folder() }], 1);
        stage.wait_for_marks(1);
        drop(stream);
        stage.wait_for_marks(2);
    }
}
