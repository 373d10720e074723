//! Tasks with which every worker dies.

use std::path::PathBuf;
use std::sync::Arc;

use firebox_workers::pool::Cause;
use firebox_workers::{ErrorKind, Pool, Work, Worker, WorkersExt as _, remote_work};
use serde::{Deserialize, Deserializer, Serialize};

use crate::leftovers::alone;
use crate::work::Folder;

/// Aborts at 77, always.
fn fragile(x: u64) -> u64 {
    if x == 77 {
        std::process::abort();
    }
    x * 2
}

#[track_caller]
fn is_quarantined(error: &firebox_workers::Error, task: usize) {
    assert_eq!(error.index(), Some(task), "{error}");
    let ErrorKind::Died(incident) = error.kind() else { panic!("{error}") };
    assert_eq!(incident.cause, Cause::Signal(6));
    assert_eq!(error.worker(), Some(incident.worker));
    let text = error.to_string();
    for part in [&format!("task {task}: its worker died"), "SIGABRT", &format!("process {}", incident.pid)] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn exactly_the_task_that_aborts_its_worker_is_given_up_and_named() {
    let alone = alone();
    let pool = Pool::processes(2).unwrap();
    // One by one.
    for (task, result) in pool.imap(fragile, 0..100, 10).enumerate() {
        match result {
            Ok(doubled) => assert!(doubled == 2 * task as u64 && task != 77),
            Err(error) => is_quarantined(&error, 77),
        }
    }
    assert_eq!((pool.statistics().deaths, pool.statistics().quarantined), (3, 1));
    // In a chunk, which begins when chunks are large.
    let tasks: Vec<u64> = (1000..21_000).chain([77]).chain(0..50).collect();
    is_quarantined(&pool.map(fragile, tasks).unwrap_err(), 20_000);
    assert_eq!((pool.statistics().deaths, pool.statistics().quarantined), (6, 2));
    // By hand.
    let mut dispatch = pool.dispatch(Arc::new(fragile), 8);
    (75..80).for_each(|x| assert!(dispatch.send(x).is_ok()));
    while let Some((index, result)) = dispatch.receive() {
        match result {
            Ok(doubled) => assert!(doubled == 2 * (75 + index as u64) && index != 2),
            Err(error) => is_quarantined(&error, 2),
        }
    }
    drop(dispatch);
    assert_eq!((pool.statistics().deaths, pool.statistics().quarantined), (9, 3));
    pool.join();
    alone.nothing_is_left();
}

#[test]
fn results_before_a_task_that_is_given_up_come_first() {
    let alone = alone();
    let pool = Pool::processes(1).unwrap();
    // An earlier error in order is the one that `try_map` gives.
    let checked = |x: u64| if x == 7 { Err("seven".to_owned()) } else { Ok(fragile(x)) };
    let error = pool.try_map(checked, (0..6).chain([7, 77])).unwrap_err();
    assert_eq!((error.kind(), error.index()), (&ErrorKind::Failed, Some(6)));
    drop(pool);
    alone.nothing_is_left();
}

#[test]
fn many_bad_tasks_in_a_row_are_each_given_up_and_the_pool_goes_on() {
    let alone = alone();
    let pool = Pool::processes(1).unwrap();
    let results: Vec<_> = pool.imap(fragile, [77, 77, 77, 1], 4).collect();
    assert_eq!(results.iter().filter(|result| result.is_err()).count(), 3);
    assert_eq!(results[3].as_ref().unwrap(), &2);
    assert_eq!(pool.statistics().deaths, 9);
    drop(pool);
    alone.nothing_is_left();
}

/// Work whose parts are marked, one of which aborts.
#[derive(Debug, Serialize, Deserialize)]
struct Parts {
    alone: bool,
}

impl Work<Vec<u64>> for Parts {
    type Output = u64;

    fn run(&self, numbers: Vec<u64>, worker: Worker<'_>) -> u64 {
        let parts = numbers.into_iter().enumerate();
        parts
            .map(|(part, x)| {
                if self.alone {
                    worker.begin_alone(part)
                } else {
                    worker.begin(part)
                }
                fragile(x)
            })
            .sum()
    }
}

remote_work!(Parts);

#[test]
fn a_part_that_is_marked_is_blamed_and_left_to_whoever_has_the_task() {
    let alone = alone();
    let pool = Pool::processes(1).unwrap();
    for (work, deaths) in [(Parts { alone: false }, 2), (Parts { alone: true }, 1)] {
        let before = pool.statistics().deaths;
        let results: Vec<_> = pool.imap(work, [vec![1, 2], vec![5, 6, 77, 8], vec![3]], 3).collect();
        assert_eq!((results[0].as_ref().unwrap(), results[2].as_ref().unwrap()), (&6, &6));
        let error = results[1].as_ref().unwrap_err();
        let ErrorKind::Died(incident) = error.kind() else { panic!("{error}") };
        assert_eq!((incident.task, incident.part, error.index()), (Some(1), Some(2), Some(1)));
        assert_eq!(pool.statistics().deaths - before, deaths);
    }
    drop(pool);
    alone.nothing_is_left();
}

/// Work that nobody can make: its worker dies before it begins a task.
#[derive(Debug, Serialize)]
struct Unmakeable {
    folder: PathBuf,
}

impl<'de> Deserialize<'de> for Unmakeable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let folder = PathBuf::deserialize(deserializer)?;
        if std::process::id().to_string() != std::fs::read_to_string(folder.join("parent")).unwrap() {
            eprintln!("the library is not there");
            std::process::exit(3);
        }
        Ok(Unmakeable { folder })
    }
}

impl Work<u64> for Unmakeable {
    type Output = u64;

    fn run(&self, x: u64, _: Worker<'_>) -> u64 {
        x
    }
}

remote_work!(Unmakeable);

#[test]
fn a_pool_whose_workers_die_before_they_begin_ends_with_an_error_and_not_never() {
    let alone = alone();
    let folder = Folder::new();
    std::fs::write(folder.0.join("parent"), std::process::id().to_string()).unwrap();
    let pool = Pool::processes(2).unwrap();
    let error = pool.map(Unmakeable { folder: folder.0.clone() }, 0..100).unwrap_err();
    let ErrorKind::GaveUp(incident) = error.kind() else { panic!("{error}") };
    assert_eq!((&incident.cause, incident.part), (&Cause::Exit(3), None));
    assert_eq!(incident.last_line.as_deref(), Some("the library is not there"));
    let statistics = pool.statistics();
    assert_eq!((statistics.workers, statistics.quarantined), (0, 0));
    assert_eq!(statistics.deaths, 10, "five in each place");
    // Others are answered, too.
    assert!(matches!(pool.map(fragile, [1]).unwrap_err().kind(), ErrorKind::GaveUp(_)));
    pool.join();
    alone.nothing_is_left();
}
