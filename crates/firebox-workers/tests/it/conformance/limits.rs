//! Tasks that must end in time.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use firebox_workers::{ErrorKind, WorkersExt as _};

use super::{AGES, Act, Double, Play, PoolSubject, Stage, Subject, wait_until};

const LIMIT: Duration = Duration::from_millis(300);

pub(crate) fn a_task_past_its_limit_is_given_up_and_the_others_go_on<S: Subject>(workers: usize) {
    let (pool, stage) = (S::with_limit(workers, Some(LIMIT)), Stage::new());
    let act = |task| match task {
        2 => Act::Wait { folder: stage.folder(), name: task, gate: 0 },
        _ => Act::Echo(task),
    };
    let begun = Instant::now();
    let results: Vec<_> = pool.imap(Play, (0..6).map(act), 3).collect();
    assert!(begun.elapsed() >= LIMIT, "it had its time");
    assert_eq!(results.len(), 6);
    for (task, result) in results.into_iter().enumerate() {
        match result {
            Ok(played) => assert!(played.value == task as u64 && task != 2),
            Err(error) => {
                assert_eq!((error.kind(), error.index()), (&ErrorKind::TimedOut(LIMIT), Some(2)));
                assert!(task == 2 && error.worker().is_some_and(|worker| worker < workers));
            }
        }
    }
    let error = pool.map(Play, (0..6).map(act)).unwrap_err();
    assert_eq!((error.kind(), error.index()), (&ErrorKind::TimedOut(LIMIT), Some(2)));
}

pub(crate) fn a_task_past_its_limit_is_given_up_for_who_only_looks<S: Subject>(workers: usize) {
    let (pool, stage) = (S::with_limit(workers, Some(LIMIT)), Stage::new());
    let mut dispatch = pool.dispatch(Arc::new(Play), 8);
    let hang = Act::Wait { folder: stage.folder(), name: 0, gate: 0 };
    assert_eq!(dispatch.send(hang), Ok(0));
    stage.wait_for_marks(1);
    // Nobody waits for a result, here or in another stream.
    let begun = Instant::now();
    let (index, result) = loop {
        match dispatch.try_receive() {
            Some(received) => break received,
            None => assert!(begun.elapsed() < AGES, "nobody gives it up"),
        }
        thread::sleep(Duration::from_millis(1));
    };
    assert_eq!((index, result.unwrap_err().kind()), (0, &ErrorKind::TimedOut(LIMIT)));
    // Its place has another worker.
    assert_eq!(dispatch.send(Act::Echo(7)), Ok(1));
    assert_eq!(dispatch.receive().unwrap().1.unwrap().value, 7);
}

pub(crate) fn a_task_that_ends_after_it_was_given_up_is_not_answered_again<S: Subject>(workers: usize) {
    let (pool, stage) = (S::with_limit(workers, Some(LIMIT)), Stage::new());
    let mut dispatch = pool.dispatch(Arc::new(Play), 8);
    assert_eq!(dispatch.send(Act::Wait { folder: stage.folder(), name: 0, gate: 0 }), Ok(0));
    let (index, result) = dispatch.receive().unwrap();
    assert_eq!((index, result.unwrap_err().kind()), (0, &ErrorKind::TimedOut(LIMIT)));
    stage.open(0);
    // Time enough for it to end, and for what it might say.
    for task in 1..30 {
        let step = Act::Step { steps: 1, each: Duration::from_millis(5), told: false };
        assert_eq!(dispatch.send(step), Ok(task));
        assert_eq!(dispatch.receive().map(|(index, result)| (index, result.is_ok())), Some((task, true)));
    }
    assert!(dispatch.try_receive().is_none());
}

pub(crate) fn a_long_task_that_tells_of_its_progress_is_not_given_up<S: Subject>(workers: usize) {
    let pool = S::with_limit(workers, Some(LIMIT));
    let step = |told| Act::Step { steps: 8, each: LIMIT / 4, told };
    let told = pool.imap(Play, [step(true)], 1).next().unwrap();
    assert_eq!(told.unwrap().value, 8, "somebody waited at each step");
    // The same task without a word is past its limit: else the above would show nothing.
    let untold = pool.imap(Play, [step(false)], 1).next().unwrap();
    assert_eq!(untold.unwrap_err().kind(), &ErrorKind::TimedOut(LIMIT));
}

pub(crate) fn a_task_that_hangs_holds_up_no_other_stream<S: Subject>(workers: usize) {
    let (pool, stage) = (S::with_limit(workers, Some(LIMIT)), Stage::new());
    let hang = |name| Act::Wait { folder: stage.folder(), name, gate: 0 };
    let mut stuck = pool.imap(Play, (0..workers as u64).map(hang), workers);
    stage.wait_for_marks(workers);
    // All workers hang in the other stream's tasks, and nobody waits there.
    let other: Vec<u64> = pool.imap(Double, 0..5, 2).map(Result::unwrap).collect();
    assert_eq!(other, [0, 2, 4, 6, 8]);
    assert!(matches!(stuck.next().unwrap().unwrap_err().kind(), ErrorKind::TimedOut(_)));
}

pub(crate) fn every_place_has_a_worker_after_tasks_were_given_up<S: Subject>(workers: usize) {
    // Long enough that a task which meets the others at once never reaches it.
    let limit = Duration::from_secs(1);
    let (pool, stage) = (S::with_limit(workers, Some(limit)), Stage::new());
    let mut dispatch = pool.dispatch(Arc::new(Play), 2 * workers);
    for name in 0..workers as u64 {
        let hang = Act::Wait { folder: stage.folder(), name, gate: 0 };
        assert!(dispatch.send(hang).is_ok());
    }
    while let Some((_, result)) = dispatch.receive() {
        assert_eq!(result.unwrap_err().kind(), &ErrorKind::TimedOut(limit));
    }
    let met = Stage::new();
    for name in 0..workers as u64 {
        let meet = Act::Meet { folder: met.folder(), name, marks: workers };
        assert!(dispatch.send(meet).is_ok());
    }
    let mut ids: Vec<_> = std::iter::from_fn(|| dispatch.receive())
        .map(|(_, played)| played.unwrap().worker.unwrap())
        .collect();
    ids.sort_unstable();
    assert!(ids.into_iter().eq(0..workers));
}

pub(crate) fn an_end_waits_for_no_task_longer_than_its_limit<S: Subject>(workers: usize) {
    for join in [false, true] {
        let (pool, stage) = (S::with_limit(workers, Some(LIMIT)), Stage::new());
        let hang = |name| Act::Wait { folder: stage.folder(), name, gate: 0 };
        let mut dispatch = pool.dispatch(Arc::new(Play), workers);
        (0..workers as u64).for_each(|name| assert!(dispatch.send(hang(name)).is_ok()));
        stage.wait_for_marks(workers);
        drop(dispatch);
        let begun = Instant::now();
        let ending = thread::spawn(move || if join { S::join(pool) } else { drop(pool) });
        ending.join().unwrap();
        assert!(begun.elapsed() < AGES, "the stage still holds up the tasks");
    }
}

pub(crate) fn statistics_count_the_workers_that_were_given_up<S: PoolSubject>(workers: usize) {
    let (pool, stage) = (S::with_limit(workers, Some(LIMIT)), Stage::new());
    let hang = Act::Wait { folder: stage.folder(), name: 0, gate: 0 };
    let error = pool.imap(Play, [hang], 1).next().unwrap().unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::TimedOut(LIMIT));
    assert_eq!(pool.map(Double, [1, 2]).unwrap(), [2, 4]);
    wait_until(|| S::statistics(&pool).workers == workers && S::statistics(&pool).replacements == 1);
    assert_eq!(S::statistics(&pool).deaths, 1);
    wait_until(|| S::statistics(&pool).tasks == 2);
}
