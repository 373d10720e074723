//! Promises of the loader: every sample once, one order, a resume without replay, errors with a place.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use firebox_data::collate::{Ragged, Stacked};
use firebox_data::elements::Elements;
use firebox_data::error::OutOfRange;
use firebox_data::loader::{BatchTask, SampleId};
use firebox_data::sampler::Sampler;
use firebox_data::{BoxError, Dataset, Error, ErrorKind, Loader, LoaderState, Scalar, Stack};

const WORKERS: [usize; 3] = [0, 1, 4];

type Noisy = (Stack<u64, 1>, Scalar<i64>);

/// A loader of 0..len whose samples hold their number and random bits.
fn noisy(len: usize, batch_size: usize, workers: usize) -> Loader<Noisy> {
    Loader::builder((0..len as i64).collect::<Vec<_>>())
        .shuffle(true)
        .seed(7)
        .batch_size(batch_size)
        .workers(workers)
        .build((Stack::new([2]), Scalar::new()), |number, rng, (noise, slot)| {
            noise.fill_with(|| rng.bits());
            *slot = number;
            Ok(())
        })
        .unwrap()
}

fn all<C: firebox_data::Collate>(epoch: impl Iterator<Item = Result<C::Batch, Error>>) -> Vec<C::Batch> {
    epoch.map(Result::unwrap).collect()
}

#[test]
fn every_index_is_delivered_exactly_once() {
    for workers in WORKERS {
        for len in [0, 1, 2, 7, 64, 65] {
            for size in [1, 2, 8, 64, 100] {
                for drop_last in [false, true] {
                    let loader = Loader::builder((0..len as i64).collect::<Vec<_>>())
                        .shuffle(true)
                        .batch_size(size)
                        .drop_last(drop_last)
                        .workers(workers)
                        .build(Scalar::<i64>::new(), |number, _, slot| {
                            *slot = number;
                            Ok(())
                        })
                        .unwrap();
                    for epoch in 0..2 {
                        let batches: Vec<Elements<i64>> = all::<Scalar<i64>>(loader.epoch(epoch));
                        assert_eq!(batches.len(), loader.batches(epoch).unwrap());
                        for (place, batch) in batches.iter().enumerate() {
                            let last = place + 1 == batches.len() && !drop_last;
                            assert!(batch.len() == size || last && !batch.is_empty());
                        }
                        let mut numbers = batches.concat();
                        assert_eq!(numbers.len(), loader.samples(epoch).unwrap());
                        assert_eq!(
                            loader.samples(epoch).unwrap(),
                            if drop_last { len / size * size } else { len }
                        );
                        numbers.sort_unstable();
                        numbers.dedup();
                        assert_eq!(numbers.len(), loader.samples(epoch).unwrap(), "a number came twice");
                    }
                }
            }
        }
    }
}

#[test]
fn batches_are_the_same_bytes_with_any_number_of_workers() {
    let reference = noisy(1000, 64, 0);
    for workers in [1, 2, 4, 9] {
        let loader = noisy(1000, 64, workers);
        for epoch in [0, 1, 5] {
            let expected = all::<Noisy>(reference.epoch(epoch));
            assert_eq!(all::<Noisy>(loader.epoch(epoch)), expected, "{workers} workers, epoch {epoch}");
        }
        assert_ne!(all::<Noisy>(loader.epoch(0)), all::<Noisy>(loader.epoch(1)));
    }
}

/// Fixed for ever: a change here breaks every saved position and every published run.
#[test]
fn order_and_noise_never_change() {
    let batches = all::<Noisy>(noisy(10, 4, 2).epoch(3));
    let numbers: Vec<i64> = batches.iter().flat_map(|(_, numbers)| numbers.clone()).collect();
    assert_eq!(numbers, GOLDEN_ORDER);
    assert_eq!(batches[0].0.values[..4], GOLDEN_NOISE);
    let large = firebox_data::sampler::Shuffled::new(60_000, 42);
    assert_eq!([0, 1, 2, 59_999].map(|position| large.index(1, position)), GOLDEN_LARGE);
}
const GOLDEN_ORDER: [i64; 10] = [9, 0, 8, 3, 7, 6, 4, 2, 5, 1];
const GOLDEN_NOISE: [u64; 4] =
    [4799001030127256305, 8830411410610047130, 15855291207057760808, 4927207423710935005];
const GOLDEN_LARGE: [usize; 4] = [12945, 20459, 52692, 19532];

#[test]
fn a_resumed_epoch_is_the_tail_of_the_uninterrupted_one() {
    for (before, after) in [(0, 0), (1, 1), (3, 3), (3, 1), (1, 3), (0, 4)] {
        let (first, second) = (noisy(103, 10, before), noisy(103, 10, after));
        let expected = all::<Noisy>(first.epoch(2));
        for stop in 0..=expected.len() {
            let mut epoch = first.epoch(2);
            assert_eq!(all::<Noisy>(epoch.by_ref().take(stop)), expected[..stop]);
            let text = serde_json::to_string(&epoch.state()).unwrap();
            assert_eq!(epoch.state(), epoch.state());
            assert!(text.len() < 400, "{text}");
            let state: LoaderState = serde_json::from_str(&text).unwrap();
            let rest = all::<Noisy>(second.resume(&state).unwrap());
            assert_eq!(rest, expected[stop..], "stopped after {stop}, {before} → {after} workers");
        }
    }
}

#[test]
fn a_position_of_another_loader_is_refused_and_both_sides_are_named() {
    let state = noisy(100, 10, 0).state(0);
    let error = noisy(100, 20, 0).resume(&state).err().unwrap();
    assert_eq!(error.kind(), &ErrorKind::State);
    let text = error.to_string();
    assert!(text.contains("batches of 10") && text.contains("batches of 20"), "{text}");
    let mut newer = state.clone();
    newer.version = 3;
    let text = noisy(100, 10, 0).resume(&newer).err().unwrap().to_string();
    assert!(text.contains("version: saved 3, here 2"), "{text}");
    let mut beyond = state;
    beyond.batch = 11;
    assert!(noisy(100, 10, 0).resume(&beyond).is_err());
}

/// Numbers, of which one cannot be had.
struct Broken {
    bad: usize,
    panics: bool,
}

impl Dataset for Broken {
    type Item = usize;

    fn get(&self, index: usize) -> Result<usize, BoxError> {
        if index != self.bad {
            return Ok(index);
        }
        assert!(!self.panics, "bad sector");
        Err(std::io::Error::other("bad sector").into())
    }

    fn len(&self) -> usize {
        50
    }
}

#[test]
fn a_fault_names_its_sample_and_worker_and_ends_the_epoch_loudly() {
    for workers in WORKERS {
        for bad in [0, 23, 49] {
            for (stage, panics) in
                [("dataset", false), ("dataset", true), ("transform", false), ("transform", true)]
            {
                let in_dataset = stage == "dataset";
                let dataset = Broken { bad: if in_dataset { bad } else { 99 }, panics };
                let loader = Loader::builder(dataset)
                    .batch_size(8)
                    .workers(workers)
                    .build(Scalar::<i64>::new(), move |number, _, slot| {
                        if !in_dataset && number == bad {
                            assert!(!panics, "bad sector");
                            return Err("bad sector".into());
                        }
                        *slot = number as i64;
                        Ok(())
                    })
                    .unwrap();
                let mut epoch = loader.epoch(0);
                let good: Vec<_> = epoch.by_ref().take(bad / 8).map(Result::unwrap).collect();
                assert_eq!(good.concat(), (0..(bad / 8 * 8) as i64).collect::<Vec<_>>());
                let error = epoch.next().unwrap().unwrap_err();
                let kind = match (panics, in_dataset) {
                    (true, _) => ErrorKind::Panic,
                    (false, true) => ErrorKind::Dataset,
                    (false, false) => ErrorKind::Transform,
                };
                assert_eq!((error.kind(), error.index()), (&kind, Some(bad)));
                assert_eq!(error.worker().is_some(), workers > 0);
                assert!(error.to_string().contains("bad sector"), "{error}");
                assert!(epoch.next().is_none() && epoch.next().is_none());
                assert_eq!(epoch.state().batch, bad / 8, "the failed batch is not behind us");
                assert!(loader.epoch(1).next().unwrap().is_ok() || bad < 8, "the loader lives on");
            }
        }
    }
}

#[test]
fn a_fault_in_collation_names_its_batch() {
    for workers in WORKERS {
        for panics in [false, true] {
            let layout = Ragged::new(move |samples: Vec<i32>| {
                if samples.contains(&5) {
                    assert!(!panics, "ragged");
                    return Err("ragged".into());
                }
                Ok(samples)
            });
            let loader = Loader::builder((0..9).collect::<Vec<i32>>())
                .batch_size(3)
                .workers(workers)
                .build(layout, |number, _, slot| {
                    *slot = Some(number);
                    Ok(())
                })
                .unwrap();
            let results: Vec<_> = loader.epoch(0).collect();
            assert_eq!(results.len(), 2);
            assert_eq!(results[0].as_ref().unwrap(), &[0, 1, 2]);
            let error = results[1].as_ref().unwrap_err();
            assert_eq!(error.kind(), &ErrorKind::Collate);
            assert!(error.to_string().contains("batch 1 of epoch 0 failed: ragged"), "{error}");
        }
    }
}

#[test]
fn an_epoch_may_be_dropped_at_any_batch() {
    for workers in WORKERS {
        let loader = noisy(100, 10, workers);
        let expected = all::<Noisy>(loader.epoch(0));
        for stop in 0..=10 {
            assert_eq!(all::<Noisy>(loader.epoch(0).take(stop)), expected[..stop]);
        }
        let (mut a, mut b) = (loader.epoch(0), loader.epoch(0));
        for batch in &expected {
            assert_eq!(&a.next().unwrap().unwrap(), batch, "two epochs at once");
            assert_eq!(&b.next().unwrap().unwrap(), batch);
        }
    }
}

#[test]
fn a_consumer_that_stops_pulling_stops_the_workers() {
    let made = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&made);
    let loader = Loader::builder(vec![0u8; 1000])
        .batch_size(10)
        .workers(2)
        .prefetch(3)
        .build((), move |_, _, ()| {
            count.fetch_add(1, Ordering::SeqCst);
            Ok(())
        })
        .unwrap();
    let mut epoch = loader.epoch(0);
    for delivered in 1..=20 {
        assert_eq!(epoch.next().unwrap().unwrap(), 10);
        assert!(made.load(Ordering::SeqCst) <= (delivered + 3) * 10);
    }
}

#[test]
fn settings_are_checked() {
    let builder = || Loader::builder(vec![0u8; 10]).workers(0);
    let error = builder().batch_size(0).build((), |_, _, ()| Ok(())).err().unwrap();
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        (
            &ErrorKind::OutOfRange(OutOfRange {
                field: "batch size".to_owned(),
                expected: "at least 1".to_owned(),
                got: "0".to_owned()
            }),
            "batch size: expected at least 1, got 0"
        )
    );
    let error = builder().workers(1025).build((), |_, _, ()| Ok(())).err().unwrap();
    assert_eq!(error.to_string(), "workers: expected at most 1024, got 1025");
    let error = builder().prefetch(0).build((), |_, _, ()| Ok(())).err().unwrap();
    assert_eq!(error.to_string(), "prefetch: expected at least 1, got 0");
    assert!(matches!(error.kind(), ErrorKind::OutOfRange { .. }), "{error}");
    let loader = builder()
        .batch_size(4)
        .sampler(firebox_data::sampler::Sequential::new(11))
        .build((), |_, _, ()| Ok(()))
        .unwrap();
    let error = loader.epoch(0).find_map(Result::err).unwrap();
    assert_eq!(error.index(), Some(10));
    assert!(error.to_string().contains("index 10 of a data set of 10"), "{error}");
}

#[test]
fn a_task_is_plain_data() {
    let text = concat!(
        r#"{"epoch":3,"batch":2,"attempt":1,"run":{"start":1,"end":3},"samples":["#,
        r#"{"Item":{"index":7,"position":129}},{"Record":{"shard":4,"record":65,"repeat":0}}]}"#
    );
    let task: BatchTask = serde_json::from_str(text).unwrap();
    assert_eq!((task.epoch, task.batch, task.attempt, task.run.clone()), (3, 2, 1, 1..3));
    let expected =
        [SampleId::Item { index: 7, position: 129 }, SampleId::Record { shard: 4, record: 65, repeat: 0 }];
    assert_eq!(task.samples, expected);
    assert_eq!(serde_json::to_string(&task).unwrap(), text);
    assert!(serde_json::from_str::<BatchTask>(&text.replace("attempt", "try")).is_err());
}

#[test]
fn a_task_makes_the_same_batch_in_another_loader() {
    for workers in WORKERS {
        let (here, there) = (noisy(53, 8, workers), noisy(53, 8, 0));
        for epoch in [0, 5] {
            let batches = all::<Noisy>(here.epoch(epoch));
            assert_eq!(batches.len(), 7);
            for (batch, expected) in batches.into_iter().enumerate() {
                let text = serde_json::to_string(&here.task(epoch, batch).unwrap()).unwrap();
                let task: BatchTask = serde_json::from_str(&text).unwrap();
                assert_eq!(there.run(task).unwrap(), Some(expected));
            }
        }
    }
}

#[test]
fn a_task_that_is_no_batch_of_the_loader_is_refused() {
    let loader = noisy(53, 8, 0);
    let said = |error: Error| error.to_string();
    assert_eq!(said(loader.task(2, 7).unwrap_err()), "task: expected a batch below 7 in epoch 2, got 7");
    let whole = loader.task(2, 6).unwrap();
    let mut part = whole.clone();
    part.run = 1..5;
    let expected = "task: expected a run of all 5 samples in it, got 1..5";
    assert_eq!(said(loader.run(part).unwrap_err()), expected);
    let mut other = whole.clone();
    other.batch = u64::MAX;
    assert!(said(loader.run(other).unwrap_err()).contains("expected a batch below 7 in epoch 2"));
    let mut record = whole.clone();
    record.samples[3] = SampleId::Record { shard: 0, record: 0, repeat: 0 };
    assert!(said(loader.run(record).unwrap_err()).contains("expected an item of a data set, got a record"));
    let mut unknown = whole;
    unknown.samples[0] = SampleId::Item { index: 53, position: 0 };
    assert!(said(loader.run(unknown).unwrap_err()).contains("index 53 of a data set of 53"));
}

#[test]
fn a_panic_of_the_order_is_an_error_too() {
    struct Odd;
    impl Sampler for Odd {
        fn len(&self) -> usize {
            3
        }
        fn index(&self, _: u64, position: usize) -> usize {
            assert!(position != 1, "odd");
            position
        }
        fn describe(&self) -> String {
            "odd".to_owned()
        }
    }
    for workers in WORKERS {
        let loader =
            Loader::builder(vec![0u8; 3]).sampler(Odd).workers(workers).build((), |_, _, ()| Ok(())).unwrap();
        let results: Vec<_> = loader.epoch(0).collect();
        assert_eq!(results.len(), 2);
        let error = results[1].as_ref().unwrap_err();
        // The thread that plans asks the order, not a worker.
        assert_eq!((error.kind(), error.worker()), (&ErrorKind::Panic, None));
        assert!(error.to_string().starts_with("batch 1 of epoch 0 was not made: panicked: odd"), "{error}");
    }
}

#[test]
fn a_data_sets_own_error_can_name_its_file() {
    struct Files;
    impl Dataset for Files {
        type Item = u8;

        fn get(&self, _: usize) -> Result<u8, BoxError> {
            Err(Error::new(ErrorKind::Io, "no such picture").at_path("shelf/17.png").into())
        }
        fn len(&self) -> usize {
            1
        }
    }
    let loader = Loader::builder(Files).workers(1).build((), |_, _, ()| Ok(())).unwrap();
    let error = loader.epoch(0).next().unwrap().unwrap_err();
    assert_eq!(error.path(), Some(std::path::Path::new("shelf/17.png")));
    assert_eq!(error.to_string(), "sample 0: the data set failed: shelf/17.png: no such picture (worker 0)");
}

#[test]
fn a_trillion_samples_begin_at_once() {
    struct Virtual;
    impl Dataset for Virtual {
        type Item = usize;

        fn get(&self, index: usize) -> Result<usize, BoxError> {
            Ok(index)
        }
        fn len(&self) -> usize {
            1_000_000_000_000
        }
    }
    let loader = Loader::builder(Virtual)
        .shuffle(true)
        .batch_size(64)
        .workers(1)
        .build(Stack::<u64, 0>::new([]), |number, _, slot| {
            slot[0] = number as u64;
            Ok(())
        })
        .unwrap();
    let mut state = loader.epoch(0).state();
    state.batch = loader.batches(0).unwrap() / 2;
    let batch: Stacked<u64, 0> = loader.resume(&state).unwrap().next().unwrap().unwrap();
    assert_eq!(batch.values.len(), 64);
    assert!(batch.values.iter().any(|&number| number > 500_000_000_000));
}
