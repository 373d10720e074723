//! Streams on worker processes: the same batches, states and failures as with threads.

use std::collections::BTreeSet;
use std::time::Duration;

use firebox_data::loader::{Epoch, SampleFailure};
use firebox_data::{Collate, Error, ErrorKind, Loader, LoaderState, Recipe};
use firebox_workers::Pool;

use super::recipes::{Fault, Plan, Policy};
use super::shards::*;

type Batch = <Layout as Collate>::Batch;

fn threads(stream: &Stream, threads: usize) -> Loader<Layout> {
    let plan = Plan { threads: Some(threads), ..stream.plan.clone() };
    Stream { plan, ..stream.clone() }.loader().unwrap()
}

fn processes(stream: &Stream, workers: usize) -> Loader<Layout> {
    stream.clone().workers(Pool::processes(workers).unwrap()).unwrap()
}

/// The batches of an epoch, each with the state after it.
fn all(epoch: Epoch<'_, Layout>) -> Vec<(Batch, LoaderState)> {
    epoch.with_states().collect::<Result<_, _>>().unwrap()
}

const KINDS: [Known; 4] = [Known::All, Known::Counts, Known::CountsForward, Known::Nothing];

#[test]
fn batches_and_states_are_the_same() {
    for known in KINDS {
        for stream in [
            Stream::new(known),
            Stream { lanes: 2, repeats: 2, ..Stream::new(known) },
            Stream::new(known).shuffled(),
            // Several runs in each process.
            Stream {
                plan: Plan { threads: Some(3), ..faulty(Policy::Fail, Vec::new()) },
                ..Stream::new(known).shuffled()
            },
        ] {
            let expected = all(threads(&stream, 0).epoch(1));
            assert_eq!(expected.len(), (169 * stream.repeats).div_ceil(7));
            for workers in [0, 1, 3] {
                let loader = processes(&stream, workers);
                assert!(all(loader.epoch(1)) == expected, "{workers} processes, {stream:?}");
                assert_eq!(loader.batches(1), threads(&stream, 0).batches(1));
            }
        }
    }
}

#[test]
fn each_rank_has_the_same_batches() {
    for known in [Known::All, Known::Counts, Known::CountsForward] {
        for rank in 0..2 {
            let plan = Plan { rank: Some((rank, 2)), ..faulty(Policy::Fail, Vec::new()) };
            let stream = Stream { plan, ..Stream::new(known).shuffled() };
            let batches =
                |loader: Loader<Layout>| -> Vec<Batch> { loader.epoch(0).collect::<Result<_, _>>().unwrap() };
            assert!(batches(processes(&stream, 2)) == batches(threads(&stream, 2)), "{stream:?}");
        }
    }
}

#[test]
fn a_position_goes_from_threads_to_processes_and_back() {
    for known in KINDS {
        let stream = Stream::new(known).shuffled();
        let (here, there) = (threads(&stream, 2), processes(&stream, 2));
        let expected: Vec<Batch> = all(here.epoch(3)).into_iter().map(|(batch, _)| batch).collect();
        let (mut state, mut got) = (here.state(3), Vec::new());
        while got.len() < expected.len() {
            let loader = if got.len() % 2 == 0 { &there } else { &here };
            let text = serde_json::to_string(&state).unwrap();
            let mut epoch = loader.resume(&serde_json::from_str(&text).unwrap()).unwrap();
            got.push(epoch.next().unwrap().unwrap());
            state = epoch.state();
        }
        assert!(got == expected, "{known:?}");
        assert_eq!(there.resume(&state).unwrap().count(), 0);
        let state = here.epoch(3).with_states().nth(11).unwrap().unwrap().1;
        let rest: Vec<Batch> = there.resume(&state).unwrap().collect::<Result<_, _>>().unwrap();
        assert!(rest == expected[12..], "{known:?}");
    }
}

/// Without who met it.
fn anonymous(error: &Error) -> String {
    error.clone().on_worker(None).on_process(None).to_string()
}

/// The account of an epoch, and how it ended.
fn told(loader: &Loader<Layout>) -> (Vec<String>, usize, usize, Option<String>, LoaderState) {
    let mut epoch = loader.epoch(0);
    let error = epoch.by_ref().find_map(Result::err).as_ref().map(anonymous);
    let report = epoch.report();
    let failure = |failure: &SampleFailure| {
        let SampleFailure { error, action, .. } = failure;
        format!("{}: {action:?} {:?} {:?}", anonymous(error), error.kind(), error.index())
    };
    let failures = report.failures.iter().map(failure).collect();
    (failures, report.samples, report.batches, error, epoch.state())
}

#[test]
fn failures_are_the_same() {
    let reading = vec![(5, ReadFault::Error), (310, ReadFault::Error), (620, ReadFault::Once)];
    for known in KINDS {
        for policy in [Policy::Skip, Policy::Fail] {
            for in_stage in [true, false] {
                let stages = vec![(9, Fault::Error), (31, Fault::Panic), (650, Fault::Error)];
                let plan = faulty(policy, if in_stage { stages } else { Vec::new() });
                let faults = if in_stage { Vec::new() } else { reading.clone() };
                let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
                let stream = Stream { plan, faults, retries: true, ..Stream::new(known) };
                let of = |folder: &tempfile::TempDir| Stream {
                    folder: Some(folder.path().to_owned()),
                    ..stream.clone()
                };
                let expected = told(&threads(&of(&here), 2));
                // A record that another one has passed over was read once already.
                let workers = if known == Known::Counts { 1 } else { 2 };
                assert_eq!(told(&processes(&of(&there), workers)), expected, "{stream:?}");
                let is_skipping = matches!(policy, Policy::Skip);
                assert_eq!(
                    (expected.3.is_none(), expected.0.len()),
                    (is_skipping, if is_skipping { 3 } else { 1 })
                );
            }
        }
    }
}

#[test]
fn a_shard_that_ends_or_panics_ends_the_epoch_in_the_same_way() {
    for known in KINDS {
        for fault in [ReadFault::End, ReadFault::Panic] {
            if known == Known::Nothing && fault == ReadFault::End {
                // Nobody knows better.
                continue;
            }
            let plan = faulty(Policy::Skip, Vec::new());
            let stream = Stream { plan, faults: vec![(312, fault)], ..Stream::new(known) };
            let expected = told(&threads(&stream, 2));
            let got = told(&processes(&stream, 2));
            assert_eq!(got, expected, "{stream:?}");
            let error = processes(&stream, 2).epoch(0).find_map(Result::err).unwrap();
            assert_eq!(error.kind(), &ErrorKind::Shard, "{error}");
        }
    }
}

#[test]
fn a_shard_with_more_records_than_it_said_is_an_error() {
    for known in [Known::All, Known::Counts] {
        let base = Stream::new(known);
        let mut said = base.lengths.clone();
        said[3] -= 1;
        let stream = Stream { said: Some(said), ..base };
        let error = processes(&stream, 2).epoch(0).find_map(Result::err).unwrap();
        assert_eq!(error.kind(), &ErrorKind::Shard);
        assert!(error.to_string().contains("shard 3: expected 32 records, got more"), "{error}");
    }
}

#[test]
fn records_are_read_once_and_by_the_workers_if_they_can() {
    for known in KINDS {
        let folder = tempfile::tempdir().unwrap();
        let stream = Stream { folder: Some(folder.path().to_owned()), ..Stream::new(known) };
        let loader = processes(&stream, 1);
        assert_eq!(loader.epoch(0).count(), 169_usize.div_ceil(7));
        drop(loader);
        let by_workers = matches!(known, Known::All | Known::Counts);
        let openings = stream.openings();
        for (process, _) in &openings {
            assert_eq!(*process != std::process::id(), by_workers, "{known:?}");
        }
        // Batches in order go on where the one before has ended. A worker looks into no empty shard.
        let shards: BTreeSet<usize> = openings.iter().map(|(_, shard)| *shard).collect();
        assert_eq!(shards.len(), if by_workers { 7 } else { 8 });
        assert_eq!(openings.len(), shards.len(), "{known:?} {openings:?}");
    }
}

#[test]
fn workers_that_die_in_the_middle_of_an_epoch_change_nothing() {
    for known in KINDS {
        for stream in [Stream::new(known), Stream::new(known).shuffled()] {
            let expected = all(threads(&stream, 0).epoch(0));
            let folder = tempfile::tempdir().unwrap();
            let by_workers = matches!(known, Known::All | Known::Counts);
            // A parent that dies with a record is another matter.
            let faults = if by_workers {
                vec![(12, ReadFault::AbortOnce), (640, ReadFault::AbortOnce)]
            } else {
                Vec::new()
            };
            let (killers, folder) = (vec![3, 33, 305, 655], Some(folder.path().to_owned()));
            let stream = Stream { faults, killers, folder, ..stream };
            let loader = processes(&stream, 3);
            let mut epoch = loader.epoch(0).with_states();
            let got: Vec<_> = epoch.by_ref().collect::<Result<_, _>>().unwrap();
            assert!(got == expected, "{stream:?}");
            let report = epoch.epoch().report();
            let deaths = stream.killers.len() + stream.faults.len();
            assert_eq!((report.deaths as usize, report.failures.len()), (deaths, 0), "{report}");
        }
    }
}

#[test]
fn a_record_with_which_every_worker_dies_is_quarantined_by_name() {
    for known in KINDS {
        for in_stage in [true, false] {
            // Whoever must pass over the record to get on dies again.
            if !in_stage && known != Known::All {
                continue;
            }
            let abort = if in_stage { vec![(312, Fault::Abort)] } else { Vec::new() };
            let faults = if in_stage { Vec::new() } else { vec![(312, ReadFault::Abort)] };
            let stream =
                Stream { plan: faulty(Policy::Skip, abort), faults, ..Stream::new(known).shuffled() };
            // As if the record had failed by itself.
            let as_error = Stream {
                plan: faulty(Policy::Skip, vec![(312, Fault::Error)]),
                faults: Vec::new(),
                ..stream.clone()
            };
            let expected = all(threads(&as_error, 0).epoch(0));
            let loader = processes(&stream, 2);
            let mut epoch = loader.epoch(0).with_states();
            let got: Vec<Batch> = epoch.by_ref().map(|step| step.unwrap().0).collect();
            assert!(got.iter().eq(expected.iter().map(|(batch, _)| batch)), "{stream:?}");
            let report = epoch.epoch().report();
            let text = format!("{report}");
            assert_eq!(report.failures.len(), 1, "{text}");
            let error = &report.failures[0].error;
            assert_eq!(error.kind(), &ErrorKind::Died, "{text}");
            assert!(error.to_string().contains("(shard 3, record 12)"), "{error}");
            assert!(error.to_string().contains("SIGABRT"), "{error}");
            let fail =
                Stream { plan: Plan { policy: Policy::Fail, ..stream.plan.clone() }, ..stream.clone() };
            let error = processes(&fail, 2).epoch(0).find_map(Result::err).unwrap();
            assert_eq!(error.kind(), &ErrorKind::Died, "{error}");
        }
    }
}

#[test]
fn a_record_that_takes_too_long_is_skipped() {
    for known in KINDS {
        for in_stage in [true, false] {
            let hang = if in_stage { vec![(312, Fault::Hang)] } else { Vec::new() };
            let faults = if in_stage { Vec::new() } else { vec![(312, ReadFault::Hang)] };
            let plan = Plan { timeout: Some(Duration::from_millis(500)), ..faulty(Policy::Skip, hang) };
            // Whoever must pass over the record to get on hangs again.
            if !in_stage && known != Known::All {
                continue;
            }
            let stream = Stream { plan, faults, ..Stream::new(known) };
            let loader = processes(&stream, 2);
            let mut epoch = loader.epoch(0);
            let samples: usize = epoch.by_ref().map(|batch| batch.unwrap().0.len()).sum();
            let report = epoch.report();
            assert_eq!((samples, report.failures.len()), (168, 1), "{report}");
            let error = &report.failures[0].error;
            assert_eq!(error.kind(), &ErrorKind::TimedOut);
            let text = error.to_string();
            assert!(text.contains("shard 3, record 12") && text.contains("took longer than 500ms"), "{text}");
        }
    }
}

#[test]
fn records_that_cannot_cross_are_refused_by_name() {
    for (known, why) in [
        (Known::CountsForward, "they cannot be opened in their middle"),
        (Known::Nothing, "shard 0 does not know its records"),
    ] {
        let stream = Stream { sends: false, ..Stream::new(known) };
        let error = stream.workers(Pool::processes(1).unwrap()).err().unwrap();
        assert_eq!(error.kind(), &ErrorKind::Config);
        let text = error.to_string();
        assert!(text.contains("LoaderBuilder::send_records") && text.ends_with(why), "{text}");
    }
    for known in [Known::All, Known::Counts] {
        let stream = Stream { sends: false, ..Stream::new(known) };
        assert!(all(processes(&stream, 1).epoch(0)) == all(threads(&stream, 1).epoch(0)));
    }
}
