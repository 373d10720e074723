//! Data sets and streams in one engine: the same reports, the same positions, the same loops.

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use firebox_data::dataset::{Described, Fingerprint, Records};
use firebox_data::elements::Elements;
use firebox_data::loader::{Action, FailureBudget, LoaderBuilder, Repeatable, Retry, Start};
use firebox_data::{BoxError, Dataset, ErrorKind, Loader, LoaderState, OnError, Scalar, Shards};

/// Numbers, as a data set and as shards of 16, of which some can't be read: always, or at first.
#[derive(Clone, Default)]
struct Faulty {
    len: usize,
    bad: BTreeSet<usize>,
    passing: BTreeSet<usize>,
    met: Arc<Mutex<BTreeSet<usize>>>,
}

impl Faulty {
    fn read(&self, number: usize) -> Result<usize, io::Error> {
        let first = self.passing.contains(&number) && self.met.lock().unwrap().insert(number);
        match first || self.bad.contains(&number) {
            true => Err(io::Error::other(format!("no {number}"))),
            false => Ok(number),
        }
    }
}

impl Dataset for Faulty {
    type Item = usize;

    fn len(&self) -> usize {
        self.len
    }

    fn get(&self, index: usize) -> Result<usize, BoxError> {
        Ok(self.read(index)?)
    }
}

/// Reads the numbers of a range that are left.
struct Reader(Faulty, std::ops::Range<usize>);

impl Iterator for Reader {
    type Item = Result<usize, io::Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.1.next().map(|number| self.0.read(number))
    }
}

impl Records<usize, io::Error> for Reader {
    fn offset(&self) -> Option<u64> {
        // At the end of its shard it begins where there is nothing.
        Some(16 - self.1.len() as u64)
    }
}

impl Shards for Faulty {
    type Record = usize;
    type Error = io::Error;

    fn shards(&self) -> usize {
        self.len / 16
    }

    fn open(&self, shard: usize, offset: u64) -> Result<Box<dyn Records<usize, io::Error>>, io::Error> {
        Ok(Box::new(Reader(self.clone(), 16 * shard + offset as usize..16 * shard + 16)))
    }

    fn describe(&self) -> String {
        "faulty".to_owned()
    }
}

fn build<D: Repeatable<Item = usize>>(builder: LoaderBuilder<D>, workers: usize) -> Loader<Scalar<usize>> {
    builder
        .batch_size(10)
        .workers(workers)
        .retry(Retry::io(1, Duration::ZERO))
        .on_error(OnError::Skip { at_most: FailureBudget::Count(4) })
        .build(Scalar::new(), |number, _, slot| {
            if number == 77 {
                return Err("odd".into());
            }
            *slot = number;
            Ok(())
        })
        .unwrap()
}

#[test]
fn a_stream_and_a_data_set_with_the_same_faults_have_the_same_report() {
    let (bad, passing) = (BTreeSet::from([3, 40]), BTreeSet::from([18, 64]));
    let faulty = || Faulty { len: 96, bad: bad.clone(), passing: passing.clone(), met: Arc::default() };
    for workers in [0, 1, 3] {
        let loaders = [build(Loader::builder(faulty()), workers), build(Loader::stream(faulty()), workers)];
        let told = loaders.map(|loader| {
            let mut epoch = loader.epoch(0);
            let read: Vec<usize> = epoch.by_ref().flat_map(Result::unwrap).collect();
            let report = epoch.report();
            let failures: Vec<_> = report
                .failures
                .iter()
                .map(|failure| (failure.error.index(), failure.error.kind().clone(), failure.action))
                .collect();
            (read, failures, report.samples, report.batches, report.skipped(), epoch.state().faults)
        });
        assert_eq!(told[0], told[1], "{workers} workers");
        let (kind, retried) = (ErrorKind::Dataset, Action::Retried(1));
        let expected = [
            (Some(3), kind.clone(), Action::Skipped),
            (Some(18), kind.clone(), retried),
            (Some(40), kind.clone(), Action::Skipped),
            (Some(64), kind, retried),
            (Some(77), ErrorKind::Transform, Action::Skipped),
        ];
        assert_eq!(told[0].1, expected);
        assert_eq!((told[0].2, told[0].3, told[0].4, told[0].5), (93, 10, 3, 3));
    }
}

/// The epochs of both kinds of data, for a resume to be compared with.
fn both(workers: usize) -> [Loader<Scalar<usize>>; 2] {
    let faulty = Faulty { len: 96, ..Faulty::default() };
    let shuffled = Loader::stream(faulty.clone()).shuffle_window(20).interleave(2).seed(3);
    [build(Loader::builder(faulty).shuffle(true).seed(3), workers), build(shuffled, workers)]
}

type Batches = Vec<Elements<usize>>;

fn rest(loader: &Loader<Scalar<usize>>, from: impl Into<Start>, end: u64) -> Vec<(u64, Batches)> {
    let epochs = loader.epochs(from, ..end).unwrap();
    epochs.map(|epoch| (epoch.report().epoch, epoch.map(Result::unwrap).collect())).collect()
}

#[test]
fn epochs_go_on_from_any_batch_and_end_where_they_are_to() {
    for (before, after) in both(2).into_iter().zip(both(0)) {
        let whole = rest(&before, 0, 4);
        assert!(whole.iter().map(|(epoch, _)| *epoch).eq(0..4));
        assert!(whole.iter().all(|(_, batches)| batches.len() == 10));
        assert_eq!(rest(&after, None::<LoaderState>, 4), whole);
        assert_eq!(rest(&after, 2, 4), whole[2..]);
        assert_eq!(rest(&after, 4, 4), []);
        for stop in 0..=10 {
            let mut epoch = before.epoch(1);
            epoch.by_ref().take(stop).for_each(drop);
            let state = epoch.state();
            let gone_on = rest(&after, &state, 4);
            assert_eq!(gone_on[0], (1, whole[1].1[stop..].to_vec()), "after {stop}");
            assert_eq!(gone_on[1..], whole[2..]);
            assert_eq!(rest(&after, state, 1), []);
        }
        let mut other = before.state(0);
        other.seed += 1;
        assert_eq!(after.epochs(other, ..9).err().unwrap().kind(), &ErrorKind::State);
    }
}

#[test]
fn an_epoch_that_fails_is_the_last_and_its_state_the_way_on() {
    for workers in [0, 2] {
        let broken = Arc::new(AtomicBool::new(true));
        let breaks = Arc::clone(&broken);
        let items = firebox_data::dataset::from_fn(30, move |index| {
            match index == 17 && breaks.load(Ordering::Relaxed) {
                true => Err("gone".into()),
                false => Ok(index),
            }
        });
        let loader =
            Loader::builder(items).batch_size(5).workers(workers).build(Scalar::new(), |item, _, slot| {
                *slot = item;
                Ok(())
            });
        let loader = loader.unwrap();
        let mut epochs = loader.epochs(3, ..6).unwrap();
        assert_eq!(epochs.size_hint(), (0, Some(3)));
        assert_eq!(
            epochs.next().unwrap().take(2).map(Result::unwrap).count(),
            2,
            "one that is left is none that fails"
        );
        let mut failing = epochs.next().unwrap();
        assert_eq!(failing.by_ref().map_while(Result::ok).count(), 3);
        assert!(epochs.next().is_none() && epochs.next().is_none());
        broken.store(false, Ordering::Relaxed);
        let rest = rest(&loader, failing.state(), 6);
        let batches: Vec<(u64, usize)> =
            rest.iter().map(|(epoch, batches)| (*epoch, batches.len())).collect();
        assert_eq!(batches, [(4, 3), (5, 6)]);
        assert_eq!(rest[0].1[0], [15, 16, 17, 18, 19]);
    }
}

#[test]
fn a_state_can_be_asked_for_in_a_for_loop() {
    for loader in both(3) {
        let expected: Batches = loader.epoch(5).map(Result::unwrap).collect();
        let mut batches = 0;
        for step in loader.epoch(5).with_states() {
            let (batch, state) = step.unwrap();
            assert_eq!(batch, expected[batches]);
            batches += 1;
            assert_eq!(state.batch, batches);
            let left: Batches = loader.resume(&state).unwrap().map(Result::unwrap).collect();
            assert_eq!(left, expected[batches..]);
        }
        assert_eq!(batches, 10);
    }
}

/// Numbers that are better read together, of which some can't be; it counts both ways of asking.
#[derive(Clone)]
struct Remote {
    faulty: Faulty,
    together: Arc<AtomicUsize>,
    alone: Arc<AtomicUsize>,
    /// The fault of requests for many.
    broken: fn(),
}

impl Dataset for Remote {
    type Item = usize;

    fn len(&self) -> usize {
        self.faulty.len
    }

    fn get(&self, index: usize) -> Result<usize, BoxError> {
        self.alone.fetch_add(1, Ordering::Relaxed);
        Ok(self.faulty.read(index)?)
    }

    fn get_many(&self, indices: &[usize]) -> Vec<Result<usize, BoxError>> {
        self.together.fetch_add(1, Ordering::Relaxed);
        (self.broken)();
        indices.iter().map(|&index| Ok(self.faulty.read(index)?)).collect()
    }

    fn reads_many(&self) -> bool {
        true
    }
}

#[test]
fn items_that_are_better_read_together_are_and_each_has_its_own_error() {
    let faulty = Faulty {
        len: 100,
        bad: BTreeSet::from([3, 4]),
        passing: BTreeSet::from([40, 41, 90]),
        ..Faulty::default()
    };
    let expected: Vec<usize> = (0..100).filter(|number| ![3, 4, 77].contains(number)).collect();
    for (broken, alone) in [((|| ()) as fn(), 2 + 3), (|| panic!("the line is dead"), 100 + 2 + 3)] {
        for workers in [0, 2] {
            faulty.met.lock().unwrap().clear();
            let (together, asked_alone) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let remote = Remote {
                faulty: faulty.clone(),
                together: Arc::clone(&together),
                alone: Arc::clone(&asked_alone),
                broken,
            };
            let loader = build(Loader::builder(remote), workers);
            let mut epoch = loader.epoch(0);
            let read: Vec<usize> = epoch.by_ref().flat_map(Result::unwrap).collect();
            assert_eq!(read, expected);
            let failures = &epoch.report().failures;
            let of = |action| {
                let failures = failures.iter().filter(move |failure| failure.action == action);
                failures.filter_map(|failure| failure.error.index()).collect::<Vec<_>>()
            };
            assert_eq!((of(Action::Skipped), of(Action::Retried(1))), (vec![3, 4, 77], vec![40, 41, 90]));
            // Without workers a batch is one run. With them it is cut by what samples take: into as many as
            // that of two samples each, or more, that read theirs alone; the first batch is cut before
            // anybody knows.
            let together = together.load(Ordering::Relaxed);
            assert!(if workers == 0 { together == 10 } else { (1..=50).contains(&together) }, "{together}");
            let asked_alone = asked_alone.load(Ordering::Relaxed);
            assert!(workers > 0 || asked_alone == alone, "{asked_alone} of {alone}");
        }
    }
}

#[test]
fn a_time_limit_is_each_sample_s_own() {
    let (together, alone) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let remote = Remote {
        faulty: Faulty { len: 40, ..Faulty::default() },
        together: Arc::clone(&together),
        alone: Arc::clone(&alone),
        broken: || (),
    };
    let builder = Loader::builder(remote).batch_size(10).workers(2).timeout(Duration::from_secs(60));
    let loader = builder
        .build(Scalar::new(), |number, _, slot| {
            *slot = number;
            Ok(())
        })
        .unwrap();
    assert!(loader.epoch(0).flat_map(Result::unwrap).eq(0..40));
    assert_eq!((together.load(Ordering::Relaxed), alone.load(Ordering::Relaxed)), (0, 40));
}

#[test]
fn data_that_have_changed_are_refused_with_both_sides_unless_they_are_accepted() {
    let loader = |contents: &str, accept: bool| {
        let fingerprint = Fingerprint::new(96, "numbers").with_contents(contents);
        let data = Described::new((0..96).collect::<Vec<usize>>(), fingerprint);
        Loader::builder(data)
            .shuffle(true)
            .accept_changed_data(accept)
            .build(Scalar::new(), |number, _, slot| {
                *slot = number;
                Ok(())
            })
            .unwrap()
    };
    let before = loader("a", false);
    let state: LoaderState = serde_json::from_str(&serde_json::to_string(&before.state(2)).unwrap()).unwrap();
    assert!(loader("a", false).resume(&state).is_ok());
    let error = loader("b", false).resume(&state).err().unwrap();
    let (saved, here) = (before.state(0).data.unwrap(), loader("b", false).state(0).data.unwrap());
    assert_eq!(error.kind(), &ErrorKind::State);
    let text = error.to_string();
    assert!(text.ends_with(&format!("data: saved {saved}, here {here}")), "{text}");
    assert!(loader("b", true).resume(&state).is_ok());
    // Of a state from before they were noted nobody knows.
    let mut json = serde_json::to_value(&state).unwrap();
    json.as_object_mut().unwrap().remove("data").unwrap();
    let old: LoaderState = serde_json::from_value(json).unwrap();
    assert!(loader("b", false).resume(&old).is_ok());
    // What is accepted are contents, not another number of items, to which positions would mean something
    // else.
    let fewer = Loader::builder((0..95).collect::<Vec<usize>>()).shuffle(true).accept_changed_data(true);
    let fewer = fewer
        .build(Scalar::new(), |number, _, slot| {
            *slot = number;
            Ok(())
        })
        .unwrap();
    let text = fewer.resume(&state).err().unwrap().to_string();
    assert!(text.contains("of a data set of 96") && !text.contains("data: saved"), "{text}");
    let of_stream = |len| Loader::stream(Faulty { len, ..Faulty::default() });
    let of_stream = |len| of_stream(len).build((), |_, _, ()| Ok(())).unwrap();
    assert!(of_stream(96).state(0).data.is_some() && of_stream(96).resume(&of_stream(96).state(0)).is_ok());
}

#[test]
fn what_needs_random_access_is_refused_of_a_stream() {
    let [_, stream] = both(0);
    let said = "expected data with random access, got a stream";
    assert_eq!(stream.slice(0..1).err().unwrap().to_string(), format!("slice: {said}"));
    let said =
        "expected samples that are known without reading, got shards: shard 0 does not know its records";
    assert_eq!(stream.task(0, 0).err().unwrap().to_string(), format!("task: {said}"));
    assert!(stream.lineage().is_none() && stream.indices(0, 0).is_none());
}
