//! The same batches, states and failures as with threads.

use std::fmt::Debug;
use std::time::Duration;

use firebox_data::elements::Elements;
use firebox_data::loader::SampleFailure;
use firebox_data::{Collate, ErrorKind, Loader, Recipe};
use firebox_workers::Pool;

use super::recipes::*;

/// The batches of an epoch.
fn batches<C: Collate>(loader: &Loader<C>, epoch: u64) -> Vec<C::Batch> {
    loader.epoch(epoch).collect::<Result<_, _>>().unwrap()
}

fn processes<R: Recipe>(recipe: R, workers: usize) -> Loader<R::Layout> {
    recipe.workers(Pool::processes(workers).unwrap()).unwrap()
}

/// Any number of threads and of processes makes the same batches of a recipe.
fn are_the_same<R>(plan: Plan)
where
    R: Recipe + From<Plan>,
    <R::Layout as Collate>::Batch: PartialEq + Debug,
{
    let threads = |threads| R::from(Plan { threads: Some(threads), ..plan.clone() }).loader().unwrap();
    let expected: Vec<_> = (0..2).map(|epoch| batches(&threads(0), epoch)).collect();
    let expected_state = threads(0).epoch(1).state();
    let check = |loader: Loader<R::Layout>, with: &str| {
        for (epoch, expected) in expected.iter().enumerate() {
            assert_eq!(&batches(&loader, epoch as u64), expected, "{with}, epoch {epoch}");
        }
        assert_eq!(loader.epoch(1).state(), expected_state, "{with}");
    };
    check(threads(3), "3 threads");
    for workers in [1, 2, 4] {
        check(processes(R::from(plan.clone()), workers), &format!("{workers} processes"));
    }
    check(processes(R::from(plan.clone()), 0), "no process");
    let hybrid = Plan { threads: Some(3), ..plan.clone() };
    check(processes(R::from(hybrid), 2), "2 processes of 3 threads");
}

#[test]
fn stacks_are_the_same() {
    are_the_same::<Stacks>(Plan::default());
}

#[test]
fn stacks_that_are_written_whole_are_the_same() {
    are_the_same::<Wholes>(Plan::default());
}

#[test]
fn scalars_are_the_same() {
    are_the_same::<Scalars>(Plan::default());
}

#[test]
fn padded_sequences_are_the_same() {
    are_the_same::<Pads>(Plan::default());
}

#[test]
fn ragged_batches_are_the_same() {
    are_the_same::<Joins>(Plan::default());
}

#[test]
fn tuples_are_the_same() {
    are_the_same::<Tuples>(Plan::default());
}

#[test]
fn each_rank_has_the_same_batches() {
    for rank in 0..3 {
        are_the_same::<Stacks>(Plan { rank: Some((rank, 3)), samples: 25, ..Plan::default() });
    }
}

/// Failures without what differs: the worker, and the process.
fn told(failures: &[SampleFailure]) -> Vec<String> {
    let told = failures.iter().map(|failure| {
        let error = failure.error.clone().on_worker(None).on_process(None);
        format!("{error}: {:?} {:?} {:?}", failure.action, failure.error.kind(), failure.error.index())
    });
    told.collect()
}

#[test]
fn failures_and_positions_are_the_same() {
    let faults = vec![(3, Fault::Error), (30, Fault::Panic), (31, Fault::Error)];
    for policy in [Policy::Skip, Policy::Replace] {
        let plan = Plan { policy, faults: faults.clone(), ..Plan::default() };
        are_the_same::<Tuples>(plan.clone());
        let report = |loader: Loader<_>| {
            let mut epoch = loader.epoch(0);
            epoch.by_ref().for_each(|batch| drop(batch.unwrap()));
            let report = epoch.report().clone();
            assert!(
                report.failures.iter().all(|failure| failure.error.process() != Some(std::process::id()))
            );
            (told(&report.failures), report.samples, report.batches, report.skipped(), epoch.state())
        };
        let in_threads = report(Stacks(Plan { threads: Some(2), ..plan.clone() }).loader().unwrap());
        let in_processes = report(processes(Stacks(plan), 2));
        assert_eq!(in_threads, in_processes);
        assert_eq!(in_threads.0.len(), 3);
    }
    let plan = Plan { faults, ..Plan::default() };
    let error = |loader: Loader<_>| loader.epoch(0).find_map(Result::err).unwrap();
    let in_threads = error(Stacks(Plan { threads: Some(2), ..plan.clone() }).loader().unwrap());
    let in_process = error(processes(Stacks(plan), 1));
    assert_ne!(in_process.process(), None);
    assert_eq!(in_process.kind(), in_threads.kind());
    let anonymous = |error: firebox_data::Error| error.on_worker(None).on_process(None).to_string();
    assert_eq!(anonymous(in_process), anonymous(in_threads));
}

#[test]
fn a_position_goes_from_threads_to_processes_and_back() {
    let plan = Plan { policy: Policy::Skip, faults: vec![(7, Fault::Error)], ..Plan::default() };
    let loaders = || {
        let threads = Plan { threads: Some(2), ..plan.clone() };
        [Tuples(threads).loader().unwrap(), processes(Tuples(plan.clone()), 2)]
    };
    let [threads, in_processes] = loaders();
    let expected = batches(&threads, 3);
    let (mut state, mut got) = (threads.state(3), Vec::new());
    for turn in 0..expected.len() {
        let loader = if turn % 2 == 0 { &threads } else { &in_processes };
        // As if the run had ended there and gone on in another way.
        let state_text = serde_json::to_string(&state).unwrap();
        let mut epoch = loader.resume(&serde_json::from_str(&state_text).unwrap()).unwrap();
        got.push(epoch.next().unwrap().unwrap());
        state = epoch.state();
    }
    assert_eq!(got, expected);
    assert_eq!(in_processes.resume(&state).unwrap().count(), 0);
    let [threads, in_processes] = loaders();
    let state = threads.epoch(3).with_states().nth(2).unwrap().unwrap().1;
    let rest: Vec<_> = in_processes.resume(&state).unwrap().collect::<Result<_, _>>().unwrap();
    assert_eq!(rest, expected[3..]);
}

#[test]
fn slices_are_the_same() {
    let plan = Plan { policy: Policy::Replace, faults: vec![(12, Fault::Error)], ..Plan::default() };
    let threads = Tuples(Plan { threads: Some(0), ..plan.clone() }).loader().unwrap();
    let in_processes = processes(Tuples(plan), 2);
    for items in [0..20, 10..50, 50..50] {
        let (slice, same) =
            (in_processes.slice(items.clone()).unwrap(), threads.slice(items.clone()).unwrap());
        assert_eq!(batches(&slice, 0), batches(&same, 0), "{items:?}");
    }
    let (part, same) = (in_processes.slice(10..50).unwrap(), threads.slice(10..50).unwrap());
    assert_eq!(batches(&part.slice(5..30).unwrap(), 1), batches(&same.slice(5..30).unwrap(), 1));
}

#[test]
fn batches_as_they_complete_are_the_same_ones() {
    let plan = Plan { samples: 100, cost: Duration::from_micros(200), ..Plan::default() };
    let expected = batches(&Scalars(plan.clone()).loader().unwrap(), 0);
    #[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
    struct Completed(Plan);
    impl Recipe for Completed {
        type Layout = firebox_data::Scalar<u64>;
        fn loader(&self) -> Result<Loader<Self::Layout>, firebox_data::Error> {
            let plan = self.0.clone();
            let builder = self.0.builder().as_completed(true).prefetch_bytes(200);
            builder.map(move |number, rng| plan.draw(number, rng)).build(
                firebox_data::Scalar::new(),
                |(number, drawn), _, slot| {
                    *slot = 1000 * u64::from(number) + drawn;
                    Ok(())
                },
            )
        }
    }
    let mut got = batches(&processes(Completed(plan), 3), 0);
    let order = |batch: &Elements<u64>| expected.iter().position(|other| other == batch).unwrap();
    got.sort_by_key(order);
    assert_eq!(got, expected);
}

#[test]
fn a_dropped_epoch_stops_and_the_next_one_goes_on() {
    let plan = Plan { samples: 400, cost: Duration::from_micros(100), ..Plan::default() };
    let loader = processes(Stacks(plan.clone()), 2);
    for epoch in 0..5 {
        let mut epoch = loader.epoch(epoch);
        epoch.next().unwrap().unwrap();
    }
    assert_eq!(batches(&loader, 9), batches(&Stacks(plan).loader().unwrap(), 9));
    // Two at once.
    let (mut one, mut other) = (loader.epoch(0), loader.epoch(1));
    let mut pairs = 0;
    while let (Some(one), Some(other)) = (one.next(), other.next()) {
        assert_ne!(one.unwrap(), other.unwrap());
        pairs += 1;
    }
    assert_eq!(pairs, 50);
}

#[test]
fn memory_of_dropped_batches_is_used_again_and_that_of_others_is_not() {
    let loader = processes(Stacks(Plan { samples: 800, ..Plan::default() }), 2);
    let (mut places, mut held) = (std::collections::HashSet::new(), Vec::new());
    for (number, batch) in loader.epoch(0).enumerate() {
        let batch = batch.unwrap();
        places.insert(place(&batch.values));
        if number % 10 == 0 {
            held.push((batch.clone(), batch));
        }
    }
    assert!(held.iter().all(|(copy, batch)| copy == batch), "no batch was written into that somebody has");
    assert!(places.len() <= 10 + 40, "{} of 100 batches are in memory of their own", places.len());
    drop(loader);
    let (copy, batch) = held.pop().unwrap();
    assert_eq!(copy, batch, "a batch outlives its loader and its processes");
}

#[test]
fn a_recipe_that_is_no_function_of_its_settings_is_named() {
    #[derive(Debug, serde::Serialize, serde::Deserialize)]
    struct Fickle;
    impl Recipe for Fickle {
        type Layout = firebox_data::Scalar<u32>;
        fn loader(&self) -> Result<Loader<Self::Layout>, firebox_data::Error> {
            let count = std::process::id();
            Loader::builder((0..count % 50_000 + 1).collect::<Vec<u32>>()).build(
                firebox_data::Scalar::new(),
                |number, _, slot| {
                    *slot = number;
                    Ok(())
                },
            )
        }
    }
    let error = processes(Fickle, 1).epoch(0).next().unwrap().unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Config);
    let text = error.to_string();
    assert!(text.contains("makes another loader in a worker process: settings: expected"), "{text}");
}

#[test]
fn settings_that_do_not_come_back_are_named_by_field() {
    #[derive(Debug, serde::Serialize, serde::Deserialize)]
    struct Forgetful {
        size: usize,
        #[serde(skip)]
        lost: u32,
    }
    impl Recipe for Forgetful {
        type Layout = firebox_data::Scalar<u32>;
        fn loader(&self) -> Result<Loader<Self::Layout>, firebox_data::Error> {
            Loader::builder(vec![self.lost; self.size]).build(
                firebox_data::Scalar::new(),
                |number, _, slot| {
                    *slot = number;
                    Ok(())
                },
            )
        }
    }
    let error = Forgetful { size: 3, lost: 5 }.workers(Pool::processes(1).unwrap()).err().unwrap();
    assert_eq!(error.kind(), &ErrorKind::Config);
    assert!(error.to_string().contains("expected `lost: 5`"), "{error}");
}

#[test]
fn a_recipe_that_fails_in_a_worker_is_the_error_of_the_batch() {
    #[derive(Debug, serde::Serialize, serde::Deserialize)]
    struct Local(u32);
    impl Recipe for Local {
        type Layout = firebox_data::Scalar<u32>;
        fn loader(&self) -> Result<Loader<Self::Layout>, firebox_data::Error> {
            if std::process::id() != self.0 {
                return Err(firebox_data::Error::new(ErrorKind::Io, "no such folder").at_path("/far/away"));
            }
            Loader::builder(vec![1, 2]).build(firebox_data::Scalar::new(), |number, _, slot| {
                *slot = number;
                Ok(())
            })
        }
    }
    let error = processes(Local(std::process::id()), 1).epoch(0).next().unwrap().unwrap_err();
    assert_eq!((error.kind(), error.worker()), (&ErrorKind::Io, Some(0)));
    assert!(error.to_string().starts_with("/far/away: no such folder (worker 0, process "), "{error}");
}
