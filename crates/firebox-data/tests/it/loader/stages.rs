//! Stages between an item and its slot: each draws for itself, the same ones serve data sets and streams.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use firebox_core::seed::RecordSeeds;
use firebox_data::collate::Ragged;
use firebox_data::dataset::Records;
use firebox_data::elements::Elements;
use firebox_data::seed::StageKey;
use firebox_data::transform::Write;
use firebox_data::{BoxError, ErrorKind, Loader, OnError, SampleRng, Scalar, Shards, Transform};

const SEED: u64 = 11;

/// The numbers of a list, as shards of ten.
#[derive(Clone)]
struct Tens(usize);

struct Ten(std::ops::Range<usize>);

impl Iterator for Ten {
    type Item = Result<Number, std::io::Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|number| Ok(Number(number)))
    }
}

impl Records<Number, std::io::Error> for Ten {}

impl Shards for Tens {
    type Record = Number;
    type Error = std::io::Error;

    fn shards(&self) -> usize {
        self.0
    }

    fn open(&self, shard: usize, _: u64) -> Result<Box<dyn Records<Number, std::io::Error>>, std::io::Error> {
        Ok(Box::new(Ten(10 * shard..10 * shard + 10)))
    }

    fn describe(&self) -> String {
        "tens".to_owned()
    }
}

/// An item that can't be copied: stages get it by value.
#[derive(Debug, PartialEq)]
struct Number(usize);

fn numbers(
    len: usize,
) -> firebox_data::dataset::FromFn<impl Fn(usize) -> Result<Number, BoxError> + Send + Sync> {
    firebox_data::dataset::from_fn(len, |index| Ok(Number(index)))
}

/// Adds noise, and says how often it was asked.
struct Noise(Arc<AtomicUsize>);

impl Transform<Number> for Noise {
    type Out = (usize, u64);

    fn apply(&self, Number(number): Number, rng: &mut SampleRng) -> Result<(usize, u64), BoxError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok((number, rng.bits()))
    }
}

/// Writes what noise made, with a number of its own.
struct Drawn;

type Layout = (Scalar<usize>, Scalar<u64>, Scalar<u64>);

impl Write<(usize, u64), Layout> for Drawn {
    fn write(
        &self,
        (number, noise): (usize, u64),
        rng: &mut SampleRng,
        (slot, first, second): (&mut usize, &mut u64, &mut u64),
    ) -> Result<(), BoxError> {
        (*slot, *first, *second) = (number, noise, rng.bits());
        Ok(())
    }
}

/// Number, noise, and what the last stage drew.
type Sample = (usize, u64, u64);

fn samples(loader: &Loader<Layout>, epoch: u64) -> Vec<Sample> {
    let batches = loader.epoch(epoch).map(Result::unwrap);
    let samples = |(numbers, first, second): (Elements<usize>, Elements<u64>, Elements<u64>)| {
        std::iter::zip(numbers, first).zip(second).map(|((number, first), second)| (number, first, second))
    };
    batches.flat_map(samples).collect()
}

#[test]
fn one_transform_serves_data_sets_and_streams() {
    let asked = Arc::new(AtomicUsize::new(0));
    let noise = StageKey::new("Noise", 0);
    for workers in [0, 3] {
        let data_set = Loader::builder(numbers(40))
            .seed(SEED)
            .batch_size(7)
            .workers(workers)
            .transform(Noise(Arc::clone(&asked)))
            .build_with(Layout::default(), Drawn)
            .unwrap();
        let stream = Loader::stream(Tens(4))
            .seed(SEED)
            .batch_size(7)
            .workers(workers)
            .transform(Noise(Arc::clone(&asked)))
            .build_with(Layout::default(), Drawn)
            .unwrap();
        for epoch in [0, 3] {
            let of_position = |position| {
                let bits = |key| SampleRng::new(SEED, epoch, position, key).bits();
                (position as usize, bits(&noise), bits(&StageKey::WRITE))
            };
            assert_eq!(samples(&data_set, epoch), (0..40).map(of_position).collect::<Vec<_>>());
            let of_record = |number: u64| {
                let sample = RecordSeeds::new(SEED, epoch).at(number / 10, number % 10, 0);
                (number as usize, sample.stage(&noise).bits(), sample.stage(&StageKey::WRITE).bits())
            };
            assert_eq!(samples(&stream, epoch), (0..40).map(of_record).collect::<Vec<_>>());
        }
    }
    assert_eq!(asked.load(Ordering::Relaxed), 2 * 2 * 2 * 40, "once a sample");
}

#[test]
fn a_stage_put_in_front_changes_nothing_that_the_others_draw() {
    let build = || Loader::builder(numbers(30)).seed(SEED).batch_size(4).workers(2);
    let noise = || Noise(Arc::default());
    let plain = build().transform(noise()).build_with(Layout::default(), Drawn).unwrap();
    let drawing = |item: Number, rng: &mut SampleRng| {
        rng.bits();
        Ok(item)
    };
    let loaders = [
        build().map(drawing).transform(noise()).build_with(Layout::default(), Drawn),
        // Of a name that others have: they are counted from the end.
        build().map(drawing).named("Noise").transform(noise()).build_with(Layout::default(), Drawn),
        build().map(drawing).named("write").transform(noise()).build_with(Layout::default(), Drawn),
        build().map(drawing).map(drawing).transform(noise()).build_with(Layout::default(), Drawn),
        build()
            .transform(noise())
            .map(|noisy, rng| {
                rng.bits();
                Ok(noisy)
            })
            .build_with(Layout::default(), Drawn),
    ];
    for (place, loader) in loaders.into_iter().enumerate() {
        let loader = loader.unwrap();
        assert_eq!(samples(&loader, 1), samples(&plain, 1), "{place}");
        // They are other settings all the same.
        let error = loader.check(&plain.state(0)).unwrap_err().to_string();
        assert!(error.contains("stages Noise 0, write 0, here") && error.contains(", write 0"), "{error}");
    }
    let renamed = build().transform(noise()).named("other").build_with(Layout::default(), Drawn).unwrap();
    for (renamed, plain) in std::iter::zip(samples(&renamed, 1), samples(&plain, 1)) {
        assert!(renamed.1 != plain.1 && (renamed.0, renamed.2) == (plain.0, plain.2));
    }
}

#[test]
fn equal_stages_draw_different_numbers() {
    let draw = |mut drawn: Vec<u64>, rng: &mut SampleRng| {
        drawn.push(rng.bits());
        Ok(drawn)
    };
    let loader = Loader::builder(vec![(); 50])
        .map(|(), _| Ok(Vec::new()))
        .named("none")
        .map(draw)
        .map(draw)
        .map(draw)
        .build(Ragged::new(Ok), |mut drawn: Vec<u64>, rng, slot| {
            drawn.push(rng.bits());
            *slot = Some(drawn);
            Ok(())
        })
        .unwrap();
    let mut all: Vec<u64> = loader.epoch(0).flat_map(Result::unwrap).flatten().collect();
    assert_eq!(all.len(), 200);
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 200);
}

#[test]
fn the_error_of_a_stage_names_it() {
    let torn = |Number(number): Number, _: &mut SampleRng| match number {
        13 => Err("torn".into()),
        _ => Ok(number),
    };
    let budget = OnError::Skip { at_most: firebox_data::loader::FailureBudget::Count(1) };
    for workers in [0, 2] {
        let of_data_set = Loader::builder(numbers(20)).workers(workers).on_error(budget).map(torn);
        let of_stream = Loader::stream(Tens(2)).workers(workers).on_error(budget).map(torn);
        let loaders = [
            of_data_set.named("crop").build(Scalar::new(), |number, _, slot| {
                *slot = number;
                Ok(())
            }),
            of_stream.named("crop").build(Scalar::new(), |number, _, slot| {
                *slot = number;
                Ok(())
            }),
        ];
        for (loader, place) in loaders.into_iter().zip(["", " (shard 1, record 3)"]) {
            let loader = loader.unwrap();
            let mut epoch = loader.epoch(0);
            let left: Vec<usize> = epoch.by_ref().flat_map(Result::unwrap).collect();
            assert!(left.into_iter().eq((0..20).filter(|&number| number != 13)));
            let [failure] = &epoch.report().failures[..] else { panic!("{}", epoch.report()) };
            assert_eq!((failure.error.kind(), failure.error.index()), (&ErrorKind::Transform, Some(13)));
            let text = failure.error.to_string();
            assert!(text.starts_with(&format!("sample 13{place}: the stage crop 0 failed: torn")), "{text}");
        }
    }
}
