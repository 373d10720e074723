//! Samples with which workers die.

use std::time::{Duration, Instant};

use firebox_data::loader::Action;
use firebox_data::{ErrorKind, Loader, Recipe};
use firebox_workers::{Pool, ProcessPool};

use super::recipes::*;

fn processes(plan: Plan, workers: usize) -> Loader<<Tuples as Recipe>::Layout> {
    Tuples(plan).workers(Pool::processes(workers).unwrap()).unwrap()
}

#[test]
fn a_sample_that_aborts_is_quarantined_by_name_and_the_policy_decides() {
    let faults = vec![(23, Fault::Abort)];
    let as_error = vec![(23, Fault::Error)];
    for workers in [1, 3] {
        let error = processes(Plan { faults: faults.clone(), ..Plan::default() }, workers)
            .epoch(0)
            .find_map(Result::err);
        let error = error.unwrap();
        assert_eq!((error.kind(), error.index()), (&ErrorKind::Died, Some(23)), "{error}");
        let text = error.to_string();
        assert!(text.contains("signal 6 (SIGABRT)") && text.contains(", process "), "{text}");

        for policy in [Policy::Skip, Policy::Replace] {
            let plan = Plan { policy, faults: faults.clone(), ..Plan::default() };
            let loader = processes(plan.clone(), workers);
            let mut epoch = loader.epoch(0);
            let got: Vec<_> = epoch.by_ref().collect::<Result<_, _>>().unwrap();
            // As if the sample had failed by itself.
            let threads = Plan { threads: Some(0), faults: as_error.clone(), ..plan };
            let threads = Tuples(threads).loader().unwrap();
            let expected: Vec<_> = threads.epoch(0).collect::<Result<_, _>>().unwrap();
            assert_eq!(got, expected);
            let report = epoch.report();
            assert_eq!((report.failures.len(), report.deaths), (1, 3), "{report}");
            let failure = &report.failures[0];
            assert_eq!((failure.error.kind(), failure.error.index()), (&ErrorKind::Died, Some(23)));
            assert_ne!(failure.action, Action::None);
            assert_eq!(report.incidents.len(), 3);
            assert!(report.incidents.iter().all(|incident| incident.contains("SIGABRT")), "{report}");
            // The next epoch has deaths of its own.
            let mut epoch = loader.epoch(1);
            epoch.by_ref().for_each(|batch| drop(batch.unwrap()));
            assert_eq!((epoch.report().deaths, epoch.report().incidents.len()), (3, 3));
        }
    }
}

#[test]
fn samples_that_end_their_worker_in_other_ways_are_quarantined() {
    let plan = Plan {
        policy: Policy::Skip,
        faults: vec![(5, Fault::Exit), (6, Fault::Memory), (7, Fault::Abort)],
        samples: 30,
        ..Plan::default()
    };
    let pool = ProcessPool::builder(2).private_memory(256 << 20).build().unwrap();
    let loader = Tuples(plan).workers(pool).unwrap();
    let mut epoch = loader.epoch(0);
    let samples: usize = epoch.by_ref().map(|batch| batch.unwrap().1.len()).sum();
    assert_eq!(samples, 27);
    let report = epoch.report();
    let mut failed: Vec<_> = report.failures.iter().map(|failure| failure.error.index().unwrap()).collect();
    failed.sort_unstable();
    assert_eq!(failed, [5, 6, 7], "{report}");
    assert!(report.incidents.iter().any(|incident| incident.contains("status 3")), "{report}");
    assert!(report.incidents.iter().any(|incident| incident.contains("private memory")), "{report}");
}

#[test]
fn a_batch_of_two_bad_samples_goes_without_both() {
    // In the order of no shuffle they would be neighbors; in one batch they are in any case.
    let faults = vec![(1, Fault::Abort), (8, Fault::Abort), (4, Fault::Error)];
    let plan = Plan { policy: Policy::Skip, faults, samples: 10, batch_size: 10, ..Plan::default() };
    let loader = processes(plan, 2);
    let batch = loader.epoch(0).next().unwrap().unwrap();
    let mut labels = batch.1;
    labels.sort_unstable();
    assert_eq!(labels, [0, 2, 3, 5, 6, 7, 9]);
}

#[test]
fn a_sample_that_takes_too_long_is_given_up_and_its_worker_replaced() {
    let limit = Duration::from_millis(300);
    let plan = |policy| Plan {
        policy,
        faults: vec![(9, Fault::Hang)],
        timeout: Some(limit),
        samples: 40,
        ..Plan::default()
    };
    let begun = Instant::now();
    let error = processes(plan(Policy::Fail), 1).epoch(0).find_map(Result::err).unwrap();
    assert_eq!((error.kind(), error.index()), (&ErrorKind::TimedOut, Some(9)), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(20));
    let loader = processes(plan(Policy::Skip), 2);
    let mut epoch = loader.epoch(0);
    let samples: usize = epoch.by_ref().map(|batch| batch.unwrap().1.len()).sum();
    let report = epoch.report();
    assert_eq!((samples, report.failures.len()), (39, 1), "{report}");
    assert_eq!(report.failures[0].error.index(), Some(9));
    assert!(report.failures[0].error.process().is_some());
    // The sample is given up before its worker is ended: a later batch's report may be the one that tells of
    // it.
    let mut deaths = report.deaths;
    let mut epoch = loader.epoch(1);
    epoch.by_ref().for_each(|batch| drop(batch.unwrap()));
    deaths += epoch.report().deaths;
    assert!((1..=2).contains(&deaths), "{}", epoch.report());
}

#[test]
fn what_dies_with_a_whole_batch_only_fails_in_the_end() {
    /// Has its worker abort when its batch is closed.
    #[derive(Debug, serde::Serialize, serde::Deserialize)]
    struct Closes;
    impl Recipe for Closes {
        type Layout = Join;
        fn loader(&self) -> Result<Loader<Join>, firebox_data::Error> {
            let layout: Join = firebox_data::collate::Ragged::new(|_| std::process::abort());
            Loader::builder(vec!["a", "b"]).batch_size(2).build(layout, |text: &str, _, slot| {
                *slot = Some(text.to_owned());
                Ok(())
            })
        }
    }
    let loader = Closes.workers(Pool::processes(1).unwrap()).unwrap();
    let error = loader.epoch(0).next().unwrap().unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Died);
    assert!(error.to_string().starts_with("collation of batch 0 of epoch 0 workers died with it"), "{error}");
}
