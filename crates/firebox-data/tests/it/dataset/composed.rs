//! Data sets made of data sets.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use firebox_data::batches::{Overlap, SampleSet};
use firebox_data::dataset::{Cache, Concat, Filter, Map, Mix, Subset, random_split};
use firebox_data::formats::Lines;
use firebox_data::loader::{Action, FailureBudget};
use firebox_data::sampler::{Distributed, FixedSize, Sequential, SubsetSampler, UnevenRanks, Weighted};
use firebox_data::{BoxError, Dataset, Error, ErrorKind, Loader, OnError, Scalar};

fn numbers(range: std::ops::Range<i64>) -> Vec<i64> {
    range.collect::<Vec<_>>()
}

fn all(dataset: &impl Dataset<Item = i64>) -> Vec<i64> {
    (0..dataset.len()).map(|index| dataset.get(index).unwrap()).collect()
}

#[test]
fn map_filter_and_concat_do_what_iterators_do() {
    let squares = Map::new(numbers(0..6), |number: i64| number * number);
    assert_eq!(all(&squares), [0, 1, 4, 9, 16, 25]);
    let even = Filter::new(squares, |number| number % 2 == 0).unwrap();
    assert_eq!((all(&even), even.index_in_whole(1)), (vec![0, 4, 16], 2));
    let none = Filter::new(numbers(0..6), |_| false).unwrap();
    assert!(none.is_empty());
    let parts: Vec<Box<dyn Dataset<Item = i64>>> =
        vec![Box::new(numbers(0..0)), Box::new(even), Box::new(numbers(7..9)), Box::new(numbers(0..0))];
    let concat = Concat::new(parts).unwrap();
    assert_eq!(all(&concat), [0, 4, 16, 7, 8]);
    let past = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| concat.get(5).unwrap()));
    assert!(past.is_err(), "as a slice");
}

#[test]
fn a_mix_has_exact_counts() {
    let mix = Mix::new(vec![(numbers(0..100), 2), (numbers(100..103), 1)], 12).unwrap();
    assert_eq!(all(&mix), [0, 100, 1, 2, 101, 3, 4, 102, 5, 6, 100, 7]);
    for weights in [vec![1], vec![1, 1], vec![5, 1, 3], vec![7, 2, 2, 11]] {
        let period: usize = weights.iter().sum();
        let parts = weights.iter().map(|&weight| (numbers(0..1000), weight)).collect();
        let mix = Mix::new(parts, period * 10).unwrap();
        for (part, &weight) in weights.iter().enumerate() {
            let sources = || (0..mix.len()).map(|index| mix.source(index));
            let indices: Vec<_> =
                sources().filter(|source| source.0 == part).map(|source| source.1).collect();
            assert!(indices.into_iter().eq(0..weight * 10), "weights {weights:?}, part {part}");
            // Spread evenly: no stretch of the period's length has more or fewer than one too many.
            for start in 0..period * 9 {
                let count = sources().skip(start).take(period).filter(|source| source.0 == part).count();
                assert!(count.abs_diff(weight) <= 1, "weights {weights:?}");
            }
        }
    }
    for (parts, expected) in [
        (vec![], "sum to 1 to 65,536, got 0"),
        (vec![(numbers(0..1), 0)], "part 0, got 1 items and weight 0"),
        (vec![(numbers(0..1), 1), (numbers(0..0), 1)], "part 1, got 0 items and weight 1"),
        (vec![(numbers(0..1), usize::MAX), (numbers(0..1), 2)], "sum to 1 to 65,536"),
    ] {
        let error = Mix::new(parts, 5).err().unwrap();
        assert!(matches!(error.kind(), ErrorKind::OutOfRange { .. }), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

/// Counts how often an item is read.
struct Counted(Arc<AtomicUsize>);

impl Dataset for Counted {
    type Item = Vec<u8>;

    fn get(&self, index: usize) -> Result<Vec<u8>, BoxError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        match index {
            7 => Err(std::io::Error::other("unreadable").into()),
            _ => Ok(vec![index as u8; 10]),
        }
    }

    fn len(&self) -> usize {
        10
    }
}

#[test]
fn a_cache_reads_once_what_fits() {
    for (budget, kept) in [(0, 0), (9, 0), (10, 1), (45, 4), (1000, 9)] {
        let reads = Arc::new(AtomicUsize::new(0));
        let cache = Cache::new(Counted(Arc::clone(&reads)), budget, Vec::len);
        for _ in 0..3 {
            for index in 0..10 {
                match cache.get(index) {
                    Ok(item) => assert_eq!(item, [index as u8; 10]),
                    Err(error) => assert!(index == 7 && error.to_string() == "unreadable"),
                }
            }
        }
        assert_eq!(cache.kept(), (kept, kept * 10));
        assert_eq!(reads.load(Ordering::SeqCst), kept + 3 * (10 - kept), "budget {budget}");
    }
}

#[test]
fn a_cache_keeps_its_budget_with_many_readers() {
    let cache = Arc::new(Cache::new(numbers(0..1000), 8 * 300, |_: &i64| 8));
    for workers in [0, 4] {
        let loader = Loader::builder(Arc::clone(&cache))
            .shuffle(true)
            .batch_size(7)
            .workers(workers)
            .build(Scalar::<i64>::new(), |number, _, slot| {
                *slot = number;
                Ok(())
            })
            .unwrap();
        for epoch in 0..3 {
            let mut seen = loader.epoch(epoch).flat_map(Result::unwrap).collect::<Vec<_>>();
            seen.sort_unstable();
            assert!(seen.into_iter().eq(0..1000));
        }
        assert_eq!(cache.kept(), (300, 2400));
    }
}

#[test]
fn a_cache_keeps_what_could_be_read_at_last() {
    /// Item 3 can't be read at first.
    struct Once(Arc<AtomicUsize>);

    impl Dataset for Once {
        type Item = Vec<u8>;

        fn get(&self, index: usize) -> Result<Vec<u8>, BoxError> {
            match index == 3 && self.0.fetch_add(1, Ordering::SeqCst) == 0 {
                true => Err(std::io::Error::other("busy").into()),
                false => Ok(vec![7; index]),
            }
        }

        fn len(&self) -> usize {
            5
        }
    }

    let tries = Arc::new(AtomicUsize::new(0));
    let cache = Cache::new(Once(Arc::clone(&tries)), usize::MAX, Vec::len);
    assert_eq!(cache.get(3).unwrap_err().to_string(), "busy");
    assert_eq!(cache.kept(), (0, 0), "errors are not kept");
    for _ in 0..3 {
        assert_eq!(cache.get(3).unwrap(), [7, 7, 7]);
    }
    assert_eq!((cache.kept(), tries.load(Ordering::SeqCst)), ((1, 3), 2));
    // Items that take nothing fit any budget; ones of any size none.
    let cache = Cache::new(numbers(0..3), 0, |_: &i64| 0);
    (0..3).for_each(|index| _ = cache.get(index).unwrap());
    assert_eq!(cache.kept(), (3, 0));
    let cache =
        Cache::new(numbers(0..3), usize::MAX, |number: &i64| if *number == 0 { usize::MAX } else { 1 });
    (0..3).for_each(|index| _ = cache.get(index).unwrap());
    assert_eq!(cache.kept(), (1, usize::MAX));
}

#[test]
fn a_cache_that_is_told_odd_sizes_counts_no_less_than_nothing() {
    // A size that grows each time it is asked for, and items that several threads read at the same time.
    let asked = AtomicUsize::new(0);
    let cache = Cache::new(numbers(0..50), 100_000, move |_: &i64| asked.fetch_add(1, Ordering::SeqCst));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..50).for_each(|index| assert_eq!(cache.get(index).unwrap(), index as i64)));
        }
    });
    let (kept, bytes) = cache.kept();
    assert!(kept == 50 && bytes <= 100_000, "{kept} items, {bytes} bytes");
}

/// The first error of an epoch of a data set whose item `bad` has no transform, and all of its report's text.
fn fails<D: Dataset<Item = i64>>(dataset: D, bad: i64, policy: OnError) -> (Error, String) {
    let loader = Loader::builder(dataset)
        .batch_size(4)
        .on_error(policy)
        .workers(1)
        .build(Scalar::<i64>::new(), move |number, _, slot| {
            *slot = number;
            if number == bad { Err("the picture is cut off".into()) } else { Ok(()) }
        })
        .unwrap();
    let mut epoch = loader.epoch(0);
    let error = epoch.by_ref().find_map(Result::err);
    let error = error.unwrap_or_else(|| epoch.report().failures[0].error.clone());
    (error, epoch.report().to_string())
}

#[test]
fn an_error_in_a_part_names_the_row_of_the_whole() {
    let (rest, part) = random_split(numbers(0..2000), 1000, 7).unwrap();
    let row = part.index_in_whole(502);
    let text = |row| {
        format!(
            "sample 502 (row {row} of the whole data set): the transform failed: the picture is cut off (worker 0)"
        )
    };
    let fail = |part, bad| fails(part, bad, OnError::Fail).0;
    let error = fail(part.clone(), row as i64);
    assert_eq!((error.index(), error.row(), error.to_string()), (Some(502), Some(row), text(row)));
    // Also in an Arc and a Box, through a function, and of a part of a part.
    let error = fails(Arc::new(part.clone()), row as i64, OnError::Fail).0;
    assert_eq!((error.row(), error.to_string()), (Some(row), text(row)));
    let error = fails(Box::new(part.clone()), row as i64, OnError::Fail).0;
    assert_eq!((error.row(), error.to_string()), (Some(row), text(row)));
    let error = fails(Map::new(part.clone(), |number: i64| -number), -(row as i64), OnError::Fail).0;
    assert_eq!((error.row(), error.to_string()), (Some(row), text(row)));
    let cached = Cache::new(part.clone(), 1000, |_: &i64| 8);
    let error = fails(cached, row as i64, OnError::Fail).0;
    assert_eq!((error.row(), error.to_string()), (Some(row), text(row)));
    let odd = Filter::new(rest.clone(), |number| number % 2 == 1).unwrap();
    let of_odd = Subset::new(Arc::new(odd), (10..300).rev().collect::<Vec<_>>()).unwrap();
    let number = of_odd.get(9).unwrap();
    let error = fails(of_odd, number, OnError::Fail).0;
    assert_eq!((error.index(), error.row()), (Some(9), Some(number as usize)));
    assert!(
        error.to_string().starts_with(&format!("sample 9 (row {number} of the whole data set): ")),
        "{error}"
    );
    // A whole data set has no other row, and says nothing of one.
    let error = fails(numbers(0..30), 7, OnError::Fail).0;
    assert_eq!((error.index(), error.row()), (Some(7), Some(7)));
    assert_eq!(error.to_string(), "sample 7: the transform failed: the picture is cut off (worker 0)");
    // The report's incidents, and who takes the place.
    let (error, report) = fails(part.clone(), row as i64, OnError::Skip { at_most: FailureBudget::Count(1) });
    assert_eq!(error.row(), Some(row));
    assert!(report.contains(&format!("{}; skipped", text(row))), "{report}");
    let policy = OnError::Replace { at_most: FailureBudget::Count(1) };
    let loader = Loader::builder(part.clone()).batch_size(4).on_error(policy).workers(0);
    let loader = loader.build(Scalar::<i64>::new(), move |number, _, slot| {
        *slot = number;
        if number == row as i64 { Err("cut off".into()) } else { Ok(()) }
    });
    let loader = loader.unwrap();
    let mut epoch = loader.epoch(0);
    assert!(epoch.by_ref().all(|batch| batch.is_ok()));
    let incident = &epoch.report().failures[0];
    let Action::Replaced(instead) = incident.action else { panic!("{incident}") };
    let substitute = format!(
        "; sample {instead} (row {} of the whole data set) took its place",
        part.index_in_whole(instead)
    );
    assert!(incident.to_string().ends_with(&substitute), "{incident}");
}

#[test]
fn an_error_in_data_sets_put_together_names_the_part() {
    let concat = || Concat::new(vec![numbers(0..5), numbers(100..110)]).unwrap();
    let error = fails(concat(), 103, OnError::Fail).0;
    assert_eq!((error.index(), error.row()), (Some(8), Some(8)));
    assert!(error.to_string().starts_with("sample 8 (item 3 of part 1): the transform failed"), "{error}");
    let error = fails(Subset::new(concat(), [0, 8]).unwrap(), 103, OnError::Fail).0;
    assert_eq!((error.index(), error.row()), (Some(1), Some(8)));
    let expected = "sample 1 (row 8 of the whole data set, item 3 of part 1): the transform failed";
    assert!(error.to_string().starts_with(expected), "{error}");
    let mix = Mix::new(vec![(numbers(0..5), 2), (numbers(100..110), 1)], 12).unwrap();
    let error = fails(mix, 101, OnError::Fail).0;
    assert!(error.to_string().starts_with("sample 4 (item 1 of part 1): "), "{error}");
    // All folds but one.
    let whole = Subset::all(numbers(0..30));
    let fold = |from: usize| Subset::new(whole.clone(), (from..from + 10).collect::<Vec<_>>()).unwrap();
    let error = fails(Concat::new(vec![fold(0), fold(20)]).unwrap(), 23, OnError::Fail).0;
    let expected = "sample 13 (item 3 of part 1: row 23 of the whole data set): the transform failed";
    assert!(error.to_string().starts_with(expected), "{error}");
}

#[test]
fn an_index_that_a_part_lacks_is_an_error_of_that_sample() {
    let part = || Subset::first(numbers(0..9), 4);
    let loader = Loader::builder(part()).sampler(SubsetSampler::new(vec![0, 4, 1])).workers(0);
    let loader = loader.build((), |_: i64, _, ()| Ok(())).unwrap();
    let error = loader.epoch(0).find_map(Result::err).unwrap();
    assert_eq!((error.index(), error.row()), (Some(4), None));
    assert_eq!(
        error.to_string(),
        "sample 4: the data set failed: the sampler gave index 4 of a data set of 4"
    );
    // Who looks at the samples beforehand leaves it to the loader to say so.
    assert!(SampleSet::of(&loader, 0).unwrap().overlap(&SampleSet::of(&loader, 0).unwrap()).is_some());
}

#[test]
fn what_two_loaders_share_is_told_in_rows_of_the_whole() {
    let whole = Subset::all(numbers(0..100));
    let loader = |part: Subset<Subset<Vec<i64>>>, weights: Option<Vec<f64>>| {
        let len = part.len();
        let mut builder = Loader::builder(part).batch_size(3).workers(0);
        if let Some(weights) = weights {
            builder = builder.sampler(Weighted::new(&weights, 4 * len, 1).unwrap());
        }
        builder.build((), |_: i64, _, ()| Ok(())).unwrap()
    };
    // Listed twice, and drawn several times: an item is one all the same.
    let train = Subset::new(whole.clone(), [90, 91, 90, 7, 91]).unwrap();
    let valid = Subset::new(whole.clone(), [7, 7, 91, 3]).unwrap();
    let both =
        |a: &Loader<()>, b: &Loader<()>| SampleSet::of(a, 0).unwrap().overlap(&SampleSet::of(b, 0).unwrap());
    let (train, valid) = (loader(train, None), loader(valid, Some(vec![1.0; 4])));
    for overlap in [both(&train, &valid), both(&valid, &train)] {
        let Overlap { items, first, .. } = overlap.unwrap();
        assert_eq!((items, first), (2, vec![7, 91]));
    }
    let other = loader(Subset::new(whole, [1, 2]).unwrap(), None);
    assert_eq!(both(&train, &other), None);
    let stranger = loader(Subset::all(Subset::all(numbers(0..100))), None);
    assert_eq!(both(&train, &stranger), None);
}

#[test]
fn a_loader_without_a_batch_says_why() {
    let build = |len, size, drop| {
        let builder = Loader::builder(numbers(0..len)).batch_size(size).drop_last(drop).workers(0);
        builder.build((), |_: i64, _, ()| Ok(())).unwrap()
    };
    let short = "200 samples, batch size 256: drop_last leaves out the only batch, which is short";
    assert_eq!(build(200, 256, true).why_empty(0).as_deref(), Some(short));
    assert_eq!(
        build(0, 256, true).why_empty(3).as_deref(),
        Some("0 samples in the data set, batch size 256")
    );
    assert_eq!(build(200, 256, false).why_empty(0), None);
    assert_eq!(build(256, 256, true).why_empty(0), None);
    let slice = build(200, 64, true).slice(20..20).unwrap();
    assert_eq!(slice.why_empty(0).as_deref(), Some("0 samples in the slice 20..20 of a data set of 200"));
    let slice = build(200, 64, true).slice(20..50).unwrap();
    let short = "30 samples, batch size 64: drop_last leaves out the only batch, which is short";
    assert_eq!(slice.why_empty(0).as_deref(), Some(short));
    let of = |sampler| Loader::builder(numbers(0..3)).sampler(sampler).batch_size(2).drop_last(true);
    let trimmed = Distributed::new(Sequential::new(3), 3, 4, UnevenRanks::Trim).unwrap();
    let expected = "0 samples of a data set of 3, by the order: share of 4 ranks (trimmed) of sequential(len 3), batches of 2, \
                    short last batch dropped";
    let loader = of(trimmed).build((), |_: i64, _, ()| Ok(())).unwrap();
    assert_eq!(loader.why_empty(0).as_deref(), Some(expected));
    let padded = Distributed::new(Sequential::new(3), 3, 4, UnevenRanks::Pad).unwrap();
    let loader = of(padded).build((), |_: i64, _, ()| Ok(())).unwrap();
    let short = "1 sample, batch size 2: drop_last leaves out the only batch, which is short";
    assert_eq!(loader.why_empty(0).as_deref(), Some(short));
    let slice = loader.slice(1..3).unwrap();
    assert!(
        slice.why_empty(0).is_some_and(|why| why.starts_with("0 samples of a data set of 3, by the order: "))
    );
    let fixed = FixedSize::new(Sequential::new(0), 2, false).unwrap();
    let builder = Loader::builder(numbers(0..3)).batch_sampler(fixed);
    let loader = builder.build((), |_: i64, _, ()| Ok(())).unwrap();
    assert!(
        loader.why_empty(0).is_some_and(|why| why.ends_with("by the order: sequential(len 0), batches of 2"))
    );
    let none: [&str; 0] = [];
    let stream = Loader::stream(Lines::new(none)).build((), |_, _, ()| Ok(())).unwrap();
    assert_eq!(stream.why_empty(0).as_deref(), Some("0 records in 0 of 0 shards, those of rank 0 of 1"));
}

/// So many items of nothing.
struct Endless(usize);

impl Dataset for Endless {
    type Item = i64;

    fn get(&self, index: usize) -> Result<i64, BoxError> {
        Ok(index as i64)
    }

    fn len(&self) -> usize {
        self.0
    }
}

#[test]
fn more_items_than_can_be_counted_are_refused() {
    let error = Concat::new(vec![Endless(usize::MAX), Endless(1)]).err().unwrap();
    assert!(matches!(error.kind(), ErrorKind::OutOfRange { .. }), "{error}");
    assert!(error.to_string().starts_with("concat: expected at most 18446744073709551615 items"), "{error}");
    let concat = Concat::new(vec![Endless(usize::MAX - 1), Endless(1)]).unwrap();
    assert_eq!((concat.len(), concat.get(usize::MAX - 1).unwrap()), (usize::MAX, 0));
    let mix = Mix::new(vec![(Endless(usize::MAX), 65_535), (Endless(3), 1)], usize::MAX).unwrap();
    assert_eq!(mix.len(), usize::MAX);
    assert!(mix.get(usize::MAX - 1).is_ok());
    let (first, second) = random_split(Endless(usize::MAX), usize::MAX / 2, 3).unwrap();
    assert_eq!((first.len(), second.len()), (usize::MAX / 2 + 1, usize::MAX / 2));
    assert_ne!(first.get(usize::MAX / 2).unwrap(), second.get(usize::MAX / 2 - 1).unwrap());
}
