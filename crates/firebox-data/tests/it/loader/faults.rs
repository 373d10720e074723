//! Samples that cannot be made: skipped, replaced, tried again, counted, reported.

use std::collections::HashMap;
use std::io;
use std::sync::Mutex;
use std::time::Duration;

use firebox_data::collate::{Ragged, Stacked};
use firebox_data::elements::Elements;
use firebox_data::loader::{Action, Bottleneck, FailureBudget, Retry, Stage};
use firebox_data::sampler::{Bucketed, Sequential};
use firebox_data::{BoxError, Dataset, ErrorKind, Loader, LoaderState, OnError, Pad, Scalar, Stack};

const WORKERS: [usize; 3] = [0, 1, 4];
const BAD: [usize; 4] = [0, 17, 18, 49];

/// 0..50, of which some can never be read.
struct Holey;

impl Dataset for Holey {
    type Item = usize;

    fn get(&self, index: usize) -> Result<usize, BoxError> {
        match BAD.contains(&index) {
            true => Err(io::Error::other("bad sector").into()),
            false => Ok(index),
        }
    }

    fn len(&self) -> usize {
        50
    }
}

fn holey(policy: OnError, workers: usize, shuffle: bool) -> Loader<(Stack<u64, 1>, Scalar<i64>)> {
    Loader::builder(Holey)
        .batch_size(8)
        .shuffle(shuffle)
        .seed(3)
        .workers(workers)
        .on_error(policy)
        .build((Stack::new([1]), Scalar::new()), |number, rng, (noise, slot)| {
            noise[0] = rng.bits();
            *slot = number as i64;
            Ok(())
        })
        .unwrap()
}

type Batch = (Stacked<u64, 1>, Elements<i64>);

#[test]
fn skipped_samples_leave_holes_and_shift_nothing() {
    for workers in WORKERS {
        let loader = holey(OnError::Skip { at_most: FailureBudget::Count(4) }, workers, false);
        let mut epoch = loader.epoch(0);
        let batches: Vec<Batch> = epoch.by_ref().map(Result::unwrap).collect();
        assert_eq!(batches.len(), 7);
        for (place, (noise, numbers)) in batches.iter().enumerate() {
            let positions = place * 8..(place * 8 + 8).min(50);
            let good: Vec<i64> = positions.filter(|p| !BAD.contains(p)).map(|p| p as i64).collect();
            assert_eq!(
                (&numbers[..], noise.samples, noise.values.len()),
                (&good[..], good.len(), good.len())
            );
        }
        let report = epoch.report();
        assert_eq!((report.batches, report.samples, report.skipped()), (7, 46, 4));
        let named: Vec<_> = report.failures.iter().map(|incident| incident.error.index().unwrap()).collect();
        assert_eq!(named, BAD);
        assert!(report.failures.iter().all(|incident| incident.action == Action::Skipped));
        assert!(report.failures.iter().all(|i| i.error.worker().is_some() == (workers > 0)));
        let text = report.to_string();
        assert!(text.contains("46 samples in 7 batches, 4 skipped"), "{text}");
        assert!(text.contains("sample 17: the data set failed: bad sector"), "{text}");
    }
}

#[test]
fn batches_with_faults_are_the_same_with_any_number_of_workers() {
    for policy in [
        OnError::Skip { at_most: FailureBudget::Count(4) },
        OnError::Replace { at_most: FailureBudget::Count(4) },
    ] {
        let runs = WORKERS.map(|workers| {
            let loader = holey(policy, workers, true);
            (0..3)
                .flat_map(|epoch| loader.epoch(epoch).map(Result::unwrap).collect::<Vec<_>>())
                .collect::<Vec<_>>()
        });
        assert!(runs.iter().all(|run| *run == runs[0]));
    }
}

#[test]
fn replaced_samples_keep_the_batch_size() {
    let loader = holey(OnError::Replace { at_most: FailureBudget::Count(4) }, 2, false);
    let mut epoch = loader.epoch(0);
    let batches: Vec<Batch> = epoch.by_ref().map(Result::unwrap).collect();
    let numbers: Vec<i64> = batches.iter().flat_map(|(_, numbers)| numbers.clone()).collect();
    assert_eq!(numbers.len(), 50);
    let mut replaced = Vec::new();
    for (position, number) in numbers.iter().enumerate() {
        match BAD.contains(&position) {
            true => replaced.push(Action::Replaced(*number as usize)),
            false => assert_eq!(*number, position as i64),
        }
    }
    let report = epoch.report();
    assert_eq!(report.failures.iter().map(|incident| incident.action).collect::<Vec<_>>(), replaced);
    assert_eq!((report.samples, report.skipped()), (50, 0));
    // Nothing takes its place that the order would not give.
    let order = firebox_data::sampler::SubsetSampler::new(vec![17, 3, 18, 5]).shuffled(1);
    let loader = Loader::builder(Holey)
        .sampler(order)
        .batch_size(2)
        .on_error(OnError::Replace { at_most: FailureBudget::Count(4) })
        .build(Scalar::<i64>::new(), |number, _, slot| {
            *slot = number as i64;
            Ok(())
        })
        .unwrap();
    for epoch in 0..20 {
        for batch in loader.epoch(epoch) {
            match batch {
                Ok(batch) => assert!(batch.iter().all(|number| [3, 5].contains(number)), "{batch:?}"),
                Err(error) => assert!([Some(17), Some(18)].contains(&error.index()), "a batch of bad ones"),
            }
        }
    }
    // Where nothing good is left to take its place, the sample's own error ends the epoch.
    let loader = Loader::builder(vec![0u8; 3])
        .on_error(OnError::Replace { at_most: FailureBudget::Count(9) })
        .workers(1)
        .build((), |_, _, ()| Err("never".into()))
        .unwrap();
    let mut epoch = loader.epoch(0);
    let error = epoch.next().unwrap().unwrap_err();
    assert_eq!((error.kind(), error.index()), (&ErrorKind::Transform, Some(0)));
    assert_eq!(epoch.report().failures.last().unwrap().action, Action::None, "what ended it is reported too");
}

#[test]
fn limits_are_judged_in_the_order_of_delivery_and_survive_a_resume() {
    for workers in WORKERS {
        for policy in [
            OnError::Skip { at_most: FailureBudget::Count(2) },
            OnError::Replace { at_most: FailureBudget::Count(2) },
        ] {
            let loader = holey(policy, workers, false);
            let mut epoch = loader.epoch(0);
            let good: Vec<Batch> = epoch.by_ref().take(2).map(Result::unwrap).collect();
            assert_eq!(good.len(), 2);
            // The third batch has two bad samples, 17 and 18; one of the two allowed was in the first.
            let state = epoch.state();
            assert_eq!((state.batch, state.faults), (2, 1));
            let error = epoch.next().unwrap().unwrap_err();
            assert_eq!((error.kind(), error.index()), (&ErrorKind::Dataset, Some(18)));
            assert!(error.to_string().contains("more than 2 samples of epoch 0 cannot be made"), "{error}");
            assert!(epoch.next().is_none());
            assert_eq!(epoch.state(), state, "a resume meets it again");
            assert_eq!(epoch.report().failures.last().unwrap().action, Action::None);
            let state: LoaderState = serde_json::from_str(&serde_json::to_string(&state).unwrap()).unwrap();
            assert!(
                loader.resume(&state).unwrap().next().unwrap().is_err(),
                "the count belongs to the state"
            );
            assert!(loader.epoch(1).next().unwrap().is_ok(), "each epoch begins at 0");
        }
    }
    let other = holey(OnError::Skip { at_most: FailureBudget::Count(9) }, 0, false).state(0);
    let error =
        holey(OnError::Replace { at_most: FailureBudget::Count(9) }, 0, false).resume(&other).err().unwrap();
    assert!(
        error.to_string().contains("bad samples skipped")
            && error.to_string().contains("bad samples replaced")
    );
}

#[test]
fn a_batch_of_which_nothing_is_left_is_not_gathered() {
    for workers in WORKERS {
        let loader = Loader::builder(Holey)
            .workers(workers)
            .on_error(OnError::Skip { at_most: FailureBudget::Count(4) })
            .build(Ragged::new(|samples: Vec<usize>| Ok(samples[0])), |number, _, slot| {
                *slot = Some(number);
                Ok(())
            })
            .unwrap();
        let numbers: Vec<usize> = loader.epoch(0).map(Result::unwrap).collect();
        assert!(numbers.into_iter().eq((0..50).filter(|number| !BAD.contains(number))));
    }
}

#[test]
fn an_index_without_a_length_is_the_loaders_error() {
    let lengths = vec![1; 50];
    let batches = Bucketed::by_length(Sequential::new(60), lengths, 8, 1).unwrap();
    let loader = Loader::builder(vec![0u8; 50]).batch_sampler(batches).build((), |_, _, ()| Ok(())).unwrap();
    let error = loader.epoch(0).find_map(Result::err).unwrap();
    assert!(error.to_string().contains("of a data set of 50"), "{error}");
}

#[test]
fn a_share_of_an_epoch_may_be_bad() {
    // Four of fifty are.
    for (share, ends) in [(0.08, true), (0.0799, false), (0.0, false), (1.0, true)] {
        for workers in WORKERS {
            let loader = holey(OnError::Skip { at_most: FailureBudget::Share(share) }, workers, true);
            assert_eq!(loader.epoch(0).all(|batch| batch.is_ok()), ends, "{share}");
        }
    }
    for share in [-0.1, 1.1, f64::NAN] {
        let builder = Loader::builder(Holey).on_error(OnError::Skip { at_most: FailureBudget::Share(share) });
        let error = builder.build((), |_, _, ()| Ok(())).err().unwrap();
        assert!(error.to_string().starts_with("on error: expected a share from 0 to 1, got"), "{error}");
    }
}

#[test]
fn a_batch_of_which_nothing_is_left_is_not_delivered() {
    for workers in WORKERS {
        let loader = Loader::builder((0..12).collect::<Vec<i64>>())
            .batch_size(3)
            .workers(workers)
            .on_error(OnError::Skip { at_most: FailureBudget::Count(6) })
            .build(Scalar::<i64>::new(), |number, _, slot| match (3..9).contains(&number) {
                true => panic!("no {number}"),
                false => {
                    *slot = number;
                    Ok(())
                }
            })
            .unwrap();
        let mut epoch = loader.epoch(0);
        assert_eq!(epoch.by_ref().map(Result::unwrap).collect::<Vec<_>>(), [[0, 1, 2], [9, 10, 11]]);
        assert_eq!((epoch.state().batch, epoch.state().faults), (4, 6));
        let report = epoch.report();
        assert_eq!((report.batches, report.samples, report.skipped()), (2, 6, 6));
        assert!(report.failures.iter().all(|incident| *incident.error.kind() == ErrorKind::Panic));
    }
}

/// Items that fail a number of times before they can be read.
struct Flaky {
    failures: usize,
    kind: fn() -> BoxError,
    tries: Mutex<HashMap<usize, usize>>,
}

impl Dataset for Flaky {
    type Item = Vec<i64>;

    fn get(&self, index: usize) -> Result<Vec<i64>, BoxError> {
        let mut tries = self.tries.lock().unwrap();
        let tries = tries.entry(index).or_insert(0);
        *tries += 1;
        match index % 3 == 1 && *tries <= self.failures {
            true => Err((self.kind)()),
            false => Ok(vec![index as i64; index]),
        }
    }

    fn len(&self) -> usize {
        9
    }
}

fn timed_out() -> BoxError {
    io::Error::from(io::ErrorKind::TimedOut).into()
}

fn corrupt() -> BoxError {
    "x".parse::<u8>().unwrap_err().into()
}

fn flaky(failures: usize, kind: fn() -> BoxError, retry: Retry, workers: usize) -> Loader<Pad<i64>> {
    Loader::builder(Flaky { failures, kind, tries: Mutex::default() })
        .batch_size(3)
        .workers(workers)
        .retry(retry)
        .build(Pad::with(0), |item, _, slot| {
            slot.extend(item);
            Ok(())
        })
        .unwrap()
}

#[test]
fn passing_io_errors_are_tried_again_and_change_no_byte() {
    let expected: Vec<_> =
        flaky(0, timed_out, Retry::io(0, Duration::ZERO), 0).epoch(0).map(Result::unwrap).collect();
    for workers in WORKERS {
        let loader = flaky(2, timed_out, Retry::io(2, Duration::from_millis(1)), workers);
        let mut epoch = loader.epoch(0);
        assert_eq!(epoch.by_ref().map(Result::unwrap).collect::<Vec<_>>(), expected);
        let incidents = &epoch.report().failures;
        assert_eq!(incidents.len(), 3);
        assert!(incidents.iter().all(|incident| incident.action == Action::Retried(2)));
        assert!(incidents[0].to_string().contains("sample 1: "), "{}", incidents[0]);
        assert_eq!(epoch.state().faults, 0);

        let once_too_often = flaky(3, timed_out, Retry::io(2, Duration::ZERO), workers);
        let error = once_too_often.epoch(0).next().unwrap().unwrap_err();
        assert_eq!((error.kind(), error.index()), (&ErrorKind::Dataset, Some(1)));
    }
}

#[test]
fn only_errors_worth_it_are_tried_again() {
    let loader = flaky(1, corrupt, Retry::io(5, Duration::ZERO), 1);
    assert!(loader.epoch(0).next().unwrap().is_err(), "a corrupt file stays corrupt");
    let any = Retry::when(5, Duration::ZERO, |error| error.is::<std::num::ParseIntError>());
    let loader = flaky(1, corrupt, any, 1);
    assert!(loader.epoch(0).all(|batch| batch.is_ok()));
}

#[test]
fn a_failed_try_leaves_nothing_in_its_slot() {
    let tries = Mutex::new(0);
    let loader = Loader::builder(vec![0u8; 4])
        .batch_size(4)
        .workers(0)
        .retry(Retry::io(3, Duration::ZERO))
        .build(
            (Pad::with(-1i64), Stack::<i64, 1>::new([2]), Scalar::<i64>::new()),
            move |_, _, (text, row, number)| {
                let mut tries = tries.lock().unwrap();
                *tries += 1;
                text.push(7);
                row[*tries % 2] = 7;
                *number += 7;
                match *tries {
                    3 | 4 => Err(io::Error::other("half written").into()),
                    _ => Ok(()),
                }
            },
        )
        .unwrap();
    let (text, rows, numbers) = loader.epoch(0).next().unwrap().unwrap();
    assert_eq!((text.values.into_vec(), text.lengths), (vec![7; 4], vec![1; 4]));
    assert_eq!(rows.values, [0, 7, 7, 0, 0, 7, 7, 0]);
    assert_eq!(numbers, [7; 4]);
}

#[test]
fn the_report_says_who_was_slow() {
    let slow = |reading: u64, transforming: u64, computing: u64| {
        let dataset = firebox_data::dataset::Map::new(vec![0u8; 64], move |item: u8| {
            std::thread::sleep(Duration::from_micros(reading));
            item
        });
        let loader = Loader::builder(dataset)
            .batch_size(8)
            .workers(1)
            .build((), move |_, _, ()| {
                std::thread::sleep(Duration::from_micros(transforming));
                Ok(())
            })
            .unwrap();
        let mut epoch = loader.epoch(0);
        for batch in epoch.by_ref() {
            assert_eq!(batch.unwrap(), 8);
            std::thread::sleep(Duration::from_micros(computing));
        }
        let report = epoch.report();
        assert!(report.waited <= report.elapsed && report.samples_per_s() > 0.0);
        report.bottleneck()
    };
    assert_eq!(slow(2000, 0, 0), Bottleneck::DataBound(Stage::Reading));
    assert_eq!(slow(0, 2000, 0), Bottleneck::DataBound(Stage::Transforming));
    assert_eq!(slow(0, 0, 80_000), Bottleneck::ComputeBound);
}

/// Samples of which all are bad but every tenth.
fn hopeless(samples: usize, policy: OnError, workers: usize) -> Loader<Scalar<i64>> {
    Loader::builder((0..samples as i64).collect::<Vec<_>>())
        .batch_size(100)
        .workers(workers)
        .on_error(policy)
        .build(Scalar::<i64>::new(), |number, _, slot| {
            *slot = number;
            if number % 10 == 9 { Ok(()) } else { Err("torn".into()) }
        })
        .unwrap()
}

#[test]
fn a_report_of_any_number_of_incidents_is_small_and_counts_them_all() {
    const SAMPLES: usize = 30_000;
    for workers in [0, 2] {
        let loader = hopeless(SAMPLES, OnError::Skip { at_most: FailureBudget::Share(1.0) }, workers);
        let mut epoch = loader.epoch(0);
        assert_eq!(epoch.by_ref().map(|batch| batch.unwrap().len()).sum::<usize>(), SAMPLES / 10);
        let report = epoch.report();
        assert_eq!((report.skipped(), epoch.state().faults), (SAMPLES * 9 / 10, SAMPLES * 9 / 10));
        let first = (0..).filter(|index| index % 10 != 9).take(report.failures.len());
        assert!(report.failures.iter().map(|incident| incident.error.index().unwrap()).eq(first));
        assert_eq!((report.failures.len(), report.more_failures), (100, SAMPLES * 9 / 10 - 100));
        assert!(serde_json::to_string(report).unwrap().len() < 50_000);

        // What an epoch may lack is counted, not looked up.
        let loader = hopeless(SAMPLES, OnError::Skip { at_most: FailureBudget::Count(5000) }, workers);
        let mut epoch = loader.epoch(0);
        let error = epoch.by_ref().find_map(Result::err).unwrap();
        let text = format!("sample {}: more than 5000 samples of epoch 0 cannot be made", 5000 / 9 * 10 + 5);
        assert!(error.to_string().starts_with(&text), "{error}");
        let last = epoch.report().failures.last().unwrap();
        assert_eq!((last.action, last.error.index()), (Action::None, error.index()));
    }
}

#[test]
fn work_is_reported_when_it_was_done_and_for_no_longer_than_there_was() {
    for (workers, as_completed) in [(1, false), (2, false), (4, false), (3, true), (0, false)] {
        let loader = Loader::builder((0..96u64).collect::<Vec<_>>())
            .batch_size(4)
            .workers(workers)
            .prefetch(16)
            .as_completed(as_completed)
            .build((), |number, _, ()| {
                // The first batch holds up some others, which are then delivered at once.
                std::thread::sleep(Duration::from_millis(if number % 32 == 0 { 30 } else { 1 }));
                Ok(())
            })
            .unwrap();
        let mut epoch = loader.epoch(0);
        epoch.by_ref().for_each(|batch| _ = batch.unwrap());
        let report = epoch.report();
        let work = |slice: &firebox_data::loader::TimeSlice| {
            slice.reading_s + slice.transforming_s + slice.collating_s
        };
        let slices: Vec<_> = report.timeline.slices().collect();
        for slice in &slices {
            let most = workers.max(1) as f64 * slice.seconds;
            // The clock is read a moment before and after.
            assert!(work(slice) <= most + 2e-4, "{workers} workers: {slice:?}");
        }
        let busy = report.busy.reading + report.busy.transforming + report.busy.collating;
        let sum: f64 = slices.iter().map(work).sum();
        assert!((sum - busy.as_secs_f64()).abs() < 1e-6, "{sum} of {busy:?}");
        assert!(busy >= Duration::from_millis(90), "{busy:?}");
        // Who sleeps needs no core; without workers nobody can tell.
        let computing = report.busy.computing;
        assert!(if workers == 0 { computing == busy } else { computing <= busy }, "{computing:?}");
    }
}

#[test]
fn a_program_prints_an_error_in_one_line_with_sample_file_and_worker() {
    /// A file that ends too early.
    struct Cells;

    impl Dataset for Cells {
        type Item = u8;

        fn get(&self, index: usize) -> Result<u8, BoxError> {
            let early = io::Error::new(io::ErrorKind::UnexpectedEof, "unexpected end of file");
            match index {
                5 => Err(firebox_data::Error::new(ErrorKind::Format, "not a picture")
                    .at_path("cells/cell0005.png")
                    .caused_by(early)
                    .into()),
                _ => Ok(index as u8),
            }
        }

        fn len(&self) -> usize {
            8
        }
    }

    let program = |workers: usize, batch: usize| -> Result<(), BoxError> {
        let transform = |cell: u8, _: &mut firebox_data::SampleRng, _: ()| {
            assert_eq!(cell % 7, cell, "a cell of another plate");
            Ok(())
        };
        let loader = Loader::builder(Cells).batch_size(batch).workers(workers).build((), transform)?;
        for batch in loader.epoch(0) {
            batch?;
        }
        Ok(())
    };
    // What `fn main() -> Result<(), BoxError>` prints.
    let printed = |workers, batch| format!("Error: {:?}", program(workers, batch).unwrap_err());
    let file =
        "Error: sample 5: the data set failed: cells/cell0005.png: not a picture: unexpected end of file";
    assert_eq!(printed(0, 8), file);
    assert_eq!(printed(1, 8), format!("{file} (worker 0)"));
    let none = |workers: usize| -> Result<(), BoxError> {
        let numbers = vec![7u8];
        let transform = |cell: u8, _: &mut firebox_data::SampleRng, _: ()| {
            assert_eq!(cell % 7, cell, "a cell of another plate");
            Ok(())
        };
        Loader::builder(numbers).workers(workers).build((), transform)?.epoch(0).next().unwrap()?;
        Ok(())
    };
    assert_eq!(
        format!("Error: {:?}", none(1).unwrap_err()),
        "Error: sample 0: panicked: assertion `left == right` failed: a cell of another plate, left: 0, right: 7 \
         (worker 0)"
    );
    let error = Loader::builder(Cells).batch_size(0).build((), |_, _, ()| Ok(())).err().unwrap();
    assert_eq!(format!("{error:?}"), "batch size: expected at least 1, got 0");
}

#[test]
fn a_layout_that_no_memory_holds_is_an_error() {
    let build = |shape: [usize; 2], workers: usize| {
        Loader::builder(vec![0u8; 4])
            .batch_size(2)
            .workers(workers)
            .build((Stack::<f32, 2>::new(shape), Scalar::<i64>::new()), |_, _, _| Ok(()))
    };
    for shape in [[usize::MAX, 2], [usize::MAX, 1], [1 << 62, 1]] {
        let error = build(shape, 1).err().unwrap();
        assert!(matches!(error.kind(), ErrorKind::OutOfRange { .. }), "{error}");
        assert!(
            error.to_string().starts_with("layout: expected samples of at most 9223372036854775807 bytes"),
            "{error}"
        );
    }
    for workers in [0, 2] {
        // It could be addressed, and isn't there.
        let loader = build([1 << 44, 2], workers).unwrap();
        let error = loader.epoch(0).next().unwrap().unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Panic);
        assert!(
            error
                .to_string()
                .starts_with("batch 0 of epoch 0 was not made: panicked: no memory for 2 samples"),
            "{error}"
        );
        assert!(build([3, 0], workers).unwrap().epoch(0).all(|batch| batch.unwrap().0.values.is_empty()));
    }
}
