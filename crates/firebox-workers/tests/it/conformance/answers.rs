//! One answer for each task.

use std::sync::Arc;
use std::time::Duration;

use firebox_workers::{ErrorKind, WorkersExt as _};

use super::act::Odd;
use super::{AGES, Act, Checked, Double, Play, PoolSubject, Stage, Subject, ends, wait_until};

pub(crate) fn every_task_is_answered_once_however_it_ends<S: Subject>(workers: usize) {
    let pool = S::new(workers);
    let mut dispatch = pool.dispatch(Arc::new(Play), 300);
    let act = |task: u64| match task % 7 {
        3 | 4 => Act::Panic(format!("no {task}")),
        _ => Act::Echo(task),
    };
    let mut seen = [false; 300];
    let mut hear = |index: usize, result: Result<super::Played, firebox_workers::Error>| {
        assert!(!std::mem::replace(&mut seen[index], true), "task {index} came twice");
        match result {
            Ok(played) => assert_eq!(played.value, index as u64),
            Err(error) => assert_eq!(error.kind(), &ErrorKind::Panicked(format!("no {index}"))),
        }
        !matches!(index % 7, 3 | 4)
    };
    let mut fine = 0;
    for task in 0..300 {
        let mut act = act(task);
        while let Err(back) = dispatch.send(act) {
            act = back;
            let (index, result) = dispatch.receive().unwrap();
            fine += usize::from(hear(index, result));
        }
    }
    while let Some((index, result)) = dispatch.receive() {
        fine += usize::from(hear(index, result));
    }
    assert!(seen.iter().all(|&seen| seen));
    assert_eq!((fine, dispatch.try_receive().is_none()), (300 - 2 * 43, true));
}

pub(crate) fn a_panic_names_its_task_and_worker_and_spares_the_others<S: Subject>(workers: usize) {
    let pool = S::new(workers);
    let act = |task| if task == 3 { Act::Panic("no 3".into()) } else { Act::Echo(task) };
    let results: Vec<_> = pool.imap(Play, (0..6).map(act), 2).collect();
    assert_eq!(results.len(), 6);
    for (task, result) in results.into_iter().enumerate() {
        match result {
            Ok(played) => assert!(played.value == task as u64 && task != 3),
            Err(error) => {
                assert_eq!((error.kind(), error.index()), (&ErrorKind::Panicked("no 3".into()), Some(3)));
                assert_eq!((task, error.worker().is_some()), (3, workers > 0));
                assert!(error.worker().is_none_or(|worker| worker < workers));
            }
        }
    }
    let error = pool.map(Play, (0..9).map(act)).unwrap_err();
    assert_eq!((error.kind(), error.index()), (&ErrorKind::Panicked("no 3".into()), Some(3)));
    assert_eq!(pool.map(Double, [4, 5]).unwrap(), [8, 10], "the workers live on");
}

pub(crate) fn the_first_error_in_order_ends_try_map_and_keeps_its_cause<S: Subject>(workers: usize) {
    let pool = S::new(workers);
    assert_eq!(pool.try_map(Checked, [2, 4, 6]).unwrap(), [1, 2, 3]);
    let error =
        pool.try_map(Checked, (0..1000).map(|x| if x >= 400 { 2 * x + 1 } else { 2 * x })).unwrap_err();
    assert_eq!((error.kind(), error.index()), (&ErrorKind::Failed, Some(400)), "whichever failed first");
    let cause = std::error::Error::source(&error).unwrap();
    assert_eq!(cause.downcast_ref::<Odd>(), Some(&Odd(801)));
    assert!(error.to_string().contains("expected an even number, got 801"), "{error}");
}

pub(crate) fn a_failure_among_many_small_tasks_is_named<S: Subject>(workers: usize) {
    let pool = S::new(workers);
    let doubled = pool.map(Double, 0..100_000).unwrap();
    assert!(doubled.into_iter().eq((0..100_000).map(|x| 2 * x)));
    for bad in [0, 1, 77_777, 99_999] {
        let first = Double::PANICS_AT - bad;
        let error = pool.map(Double, first..first + 100_000).unwrap_err();
        assert_eq!(error.index(), Some(bad as usize));
        assert!(matches!(error.kind(), ErrorKind::Panicked(text) if text.contains("no")), "{error}");
        assert_eq!(error.worker().is_some(), workers > 0);
        let error = pool.try_map(Checked, (0..100_000).map(|x| 2 * x + u64::from(x == bad))).unwrap_err();
        assert_eq!((error.kind(), error.index()), (&ErrorKind::Failed, Some(bad as usize)));
    }
}

pub(crate) fn a_submitted_task_is_answered<S: Subject>(workers: usize) {
    let pool = S::new(workers);
    let handles: Vec<_> = (0..50).map(|x| pool.submit((Double, x))).collect();
    let doubled: Vec<u64> = handles.into_iter().map(|handle| handle.wait().unwrap()).collect();
    assert!(doubled.into_iter().eq((0..50).map(|x| 2 * x)));
    let error = pool.submit((Play, Act::Panic("no".into()))).wait().unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Panicked("no".into()));
}

pub(crate) fn a_handle_can_be_waited_for_with_a_limit<S: Subject>(workers: usize) {
    let (pool, stage) = (S::new(workers), Stage::new());
    let handle = pool.submit((Play, Act::Wait { folder: stage.folder(), name: 5, gate: 0 }));
    let handle = handle.try_wait().unwrap_err();
    let handle = handle.wait_timeout(Duration::from_millis(20)).unwrap_err();
    stage.open(0);
    assert_eq!(handle.wait_timeout(AGES).unwrap().unwrap().value, 5);
}

pub(crate) fn a_cancelled_task_never_begins_and_is_answered_at_once<S: Subject>(workers: usize) {
    let (pool, stage, handles) = ends::held_up::<S>(workers);
    for handle in &handles {
        assert!(handle.cancel());
        assert!(handle.cancel(), "and is so for whoever asks again");
    }
    // The workers are still held up.
    for handle in handles {
        let error = handle.wait().unwrap_err();
        assert_eq!((error.kind(), error.index(), error.worker()), (&ErrorKind::Cancelled, Some(0), None));
    }
    let after = pool.submit((Play, Act::Mark { folder: stage.folder(), name: 200 }));
    stage.open(0);
    assert_eq!(after.wait().unwrap().value, 200, "those behind it have their turn");
    assert_eq!(stage.marks(), workers + 1, "no other one began");
}

pub(crate) fn a_task_that_is_cancelled_while_it_runs_is_answered_at_once_and_hears_of_it<S: Subject>(
    workers: usize,
) {
    let (pool, stage) = (S::new(workers), Stage::new());
    let handle = pool.submit((Play, Act::WhileWanted { folder: stage.folder() }));
    stage.wait_for_marks(1);
    assert!(handle.cancel());
    assert_eq!(handle.wait().unwrap_err().kind(), &ErrorKind::Cancelled);
    stage.wait_for_marks(2);
    // One that does not ask goes on, and nobody waits for it.
    let held = Stage::new();
    let handle = pool.submit((Play, Act::Wait { folder: held.folder(), name: 0, gate: 0 }));
    held.wait_for_marks(1);
    assert!(handle.cancel());
    assert_eq!(handle.try_wait().unwrap().unwrap_err().kind(), &ErrorKind::Cancelled);
    held.open(0);
    assert_eq!(pool.map(Double, [1, 2]).unwrap(), [2, 4], "its worker lives on");
}

pub(crate) fn a_task_that_was_answered_is_not_cancelled<S: PoolSubject>(workers: usize) {
    let pool = S::new(workers);
    let handle = pool.submit((Double, 4));
    // What is counted was answered.
    wait_until(|| S::statistics(&pool).tasks == 1);
    assert!(!handle.cancel());
    assert_eq!(handle.wait().unwrap(), 8);
}

pub(crate) fn statistics_count_what_was_answered<S: PoolSubject>(workers: usize) {
    let pool = S::new(workers);
    assert_eq!(S::statistics(&pool).workers, workers);
    assert_eq!(S::statistics(&pool).tasks, 0);
    assert_eq!(pool.imap(Double, 0..40, 8).map(Result::unwrap).sum::<u64>(), 39 * 40);
    assert!(pool.submit((Play, Act::Panic("no".into()))).wait().is_err());
    // A worker counts a task beside its answer.
    wait_until(|| S::statistics(&pool).tasks == 41);
    let statistics = S::statistics(&pool);
    assert_eq!((statistics.deaths, statistics.replacements, statistics.quarantined), (0, 0, 0));
}
