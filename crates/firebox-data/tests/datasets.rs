//! Data sets made of data sets.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use burn_dataset::{Dataset, DatasetError, InMemDataset};
use firebox_data::{Cache, Concat, ErrorKind, Filter, Loader, Map, Mix, Scalar};

fn numbers(range: std::ops::Range<i64>) -> InMemDataset<i64> {
    InMemDataset::new(range.collect())
}

fn all(dataset: &impl Dataset<i64>) -> Vec<i64> {
    (0..dataset.len()).map(|index| dataset.get(index).unwrap()).collect()
}

#[test]
fn map_filter_and_concat_do_what_iterators_do() {
    let squares = Map::new(numbers(0..6), |number: i64| number * number);
    assert_eq!(all(&squares), [0, 1, 4, 9, 16, 25]);
    let even = Filter::new(squares, |number| number % 2 == 0).unwrap();
    assert_eq!((all(&even), even.index_in_whole(1)), (vec![0, 4, 16], 2));
    let none = Filter::new(numbers(0..6), |_| false).unwrap();
    assert!(Dataset::<i64>::is_empty(&none));
    let parts: Vec<Box<dyn Dataset<i64, DatasetError>>> =
        vec![Box::new(numbers(0..0)), Box::new(even), Box::new(numbers(7..9)), Box::new(numbers(0..0))];
    let concat = Concat::new(parts);
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
            let origins = || (0..mix.len()).map(|index| mix.origin::<i64, DatasetError>(index));
            let indices: Vec<_> =
                origins().filter(|origin| origin.0 == part).map(|origin| origin.1).collect();
            assert!(indices.into_iter().eq(0..weight * 10), "weights {weights:?}, part {part}");
            // Spread evenly: no stretch of the period's length has more or fewer than one too many.
            for start in 0..period * 9 {
                let count = origins().skip(start).take(period).filter(|origin| origin.0 == part).count();
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
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(expected), "{error}");
    }
}

/// Counts how often an item is read.
struct Counted(Arc<AtomicUsize>);

impl Dataset<Vec<u8>> for Counted {
    fn get(&self, index: usize) -> Result<Vec<u8>, DatasetError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        match index {
            7 => Err(DatasetError::new(std::io::Error::other("unreadable"))),
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

    impl Dataset<Vec<u8>> for Once {
        fn get(&self, index: usize) -> Result<Vec<u8>, DatasetError> {
            match index == 3 && self.0.fetch_add(1, Ordering::SeqCst) == 0 {
                true => Err(DatasetError::new(std::io::Error::other("busy"))),
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
    let cache = Cache::new(numbers(0..50), 100_000, |_: &i64| asked.fetch_add(1, Ordering::SeqCst));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..50).for_each(|index| assert_eq!(cache.get(index).unwrap(), index as i64)));
        }
    });
    let (kept, bytes) = cache.kept();
    assert!(kept == 50 && bytes <= 100_000, "{kept} items, {bytes} bytes");
}
