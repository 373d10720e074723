//! Samplers and batch samplers: which indices an epoch has, exactly, small cases exhaustively.

use std::collections::BTreeMap;

use firebox_data::ErrorKind;
use firebox_data::sampler::{
    BatchSampler, Bucketed, Chained, Distributed, FixedSize, Permutation, Sampler, Sequential, Shuffled,
    SubsetSampler, UnevenRanks, Weighted, WeightedWithoutReplacement,
};

fn order(sampler: &impl Sampler, epoch: u64) -> Vec<usize> {
    (0..sampler.len()).map(|position| sampler.index(epoch, position)).collect()
}

fn sorted(mut indices: Vec<usize>) -> Vec<usize> {
    indices.sort_unstable();
    indices
}

fn batches(sampler: &impl BatchSampler, epoch: u64) -> Vec<Vec<usize>> {
    let batch = |batch| {
        let positions = sampler.positions(epoch, batch);
        let mut at_once = vec![7];
        sampler.indices(epoch, positions.clone(), &mut at_once);
        let one_by_one: Vec<_> = positions.map(|position| sampler.index(epoch, position)).collect();
        assert_eq!(at_once[1..], one_by_one, "{}", sampler.describe());
        one_by_one
    };
    (0..sampler.batches(epoch)).map(batch).collect()
}

#[test]
fn ranks_share_an_epoch_without_overlap() {
    for len in 0..40 {
        for world in 1..=7 {
            for uneven in [UnevenRanks::Pad, UnevenRanks::Trim] {
                for epoch in 0..2 {
                    let rank = |rank| Distributed::new(Shuffled::new(len, 3), rank, world, uneven).unwrap();
                    let shares: Vec<_> = (0..world).map(|r| order(&rank(r), epoch)).collect();
                    let expected = match uneven {
                        UnevenRanks::Pad => len.div_ceil(world),
                        UnevenRanks::Trim => len / world,
                    };
                    assert!(shares.iter().all(|share| share.len() == expected));
                    let mut counts = BTreeMap::new();
                    shares.concat().into_iter().for_each(|index| *counts.entry(index).or_insert(0) += 1);
                    let times = counts.values().copied().collect::<std::collections::BTreeSet<_>>();
                    match uneven {
                        // Every index, and none more than once more than another, unless ranks outnumber
                        // items.
                        UnevenRanks::Pad => {
                            assert!(counts.len() == len, "{len} items, {world} ranks");
                            assert!(times.iter().max().unwrap_or(&0) - times.iter().min().unwrap_or(&0) <= 1);
                        }
                        UnevenRanks::Trim => assert!(times.is_empty() || times == [1].into()),
                    }
                }
            }
        }
    }
    let error = Distributed::new(Sequential::new(3), 2, 2, UnevenRanks::Pad).err().unwrap();
    assert_eq!(error.to_string(), "rank: expected a number below the world's size 2, got 2");
}

#[test]
fn a_subset_has_its_indices_and_no_others() {
    let subset = SubsetSampler::new(vec![5, 1, 9]);
    assert_eq!(order(&subset, 0), [5, 1, 9]);
    let shuffled = subset.shuffled(1);
    let epochs: Vec<_> = (0..20).map(|epoch| order(&shuffled, epoch)).collect();
    assert!(epochs.iter().all(|epoch| sorted(epoch.clone()) == [1, 5, 9]));
    assert!(epochs.iter().any(|epoch| *epoch != epochs[0]));
    assert!(SubsetSampler::new(vec![]).is_empty());
}

#[test]
fn chained_samplers_follow_each_other() {
    let parts: Vec<Box<dyn Sampler>> = vec![
        Box::new(Sequential::new(0)),
        Box::new(SubsetSampler::new(vec![7, 8])),
        Box::new(Sequential::new(0)),
        Box::new(Sequential::new(3)),
    ];
    assert_eq!(order(&Chained::new(parts).unwrap(), 0), [7, 8, 0, 1, 2]);
    assert!(Chained::new(vec![]).unwrap().is_empty());
}

/// Tells whether counts are as expected within five standard deviations of each.
fn assert_counts(counts: &[f64], shares: &[f64], draws: f64) {
    for (index, (count, share)) in std::iter::zip(counts, shares).enumerate() {
        let deviation = (draws * share * (1.0 - share)).sqrt();
        let expected = draws * share;
        assert!((count - expected).abs() <= 5.0 * deviation, "index {index}: {count}, expected {expected}");
    }
}

#[test]
fn draws_follow_the_weights() {
    for weights in [
        vec![1.0],
        vec![0.0, 1.0],
        vec![1.0, 2.0, 3.0, 4.0],
        vec![0.5, 0.0, 1e-3, 7.0, 0.0, 2.0],
        vec![1e300; 3],
    ] {
        let draws = 50_000;
        let sampler = Weighted::new(&weights, draws, 1).unwrap();
        let mut counts = vec![0.0; weights.len()];
        order(&sampler, 2).into_iter().for_each(|index| counts[index] += 1.0);
        let largest = weights.iter().copied().fold(0.0, f64::max);
        let sum: f64 = weights.iter().map(|weight| weight / largest).sum();
        let shares: Vec<_> = weights.iter().map(|weight| weight / largest / sum).collect();
        assert_counts(&counts, &shares, draws as f64);
        let several = counts.iter().filter(|count| **count > 0.0).count() > 1;
        assert_eq!(order(&sampler, 0) != order(&sampler, 1), several, "each epoch draws anew");
    }
}

#[test]
fn drawn_once_every_index_comes_once_and_heavy_ones_come_first() {
    let weights = vec![1.0, 2.0, 0.0, 5.0];
    let sampler = WeightedWithoutReplacement::new(weights, 3, 4).unwrap();
    let epochs = 20_000;
    let mut first = [0.0; 4];
    for epoch in 0..epochs {
        let order = order(&sampler, epoch);
        first[order[0]] += 1.0;
        assert_eq!(sorted(order), [0, 1, 3]);
    }
    assert_counts(&first, &[1.0 / 8.0, 2.0 / 8.0, 0.0, 5.0 / 8.0], epochs as f64);
    // A shorter epoch is the beginning of the whole one.
    let weights: Vec<f64> = (0..1000).map(f64::from).collect();
    let whole = order(&WeightedWithoutReplacement::new(weights.clone(), 999, 4).unwrap(), 7);
    let short = order(&WeightedWithoutReplacement::new(weights, 10, 4).unwrap(), 7);
    assert_eq!(short, whole[..10]);
    assert_eq!(sorted(whole), (1..1000).collect::<Vec<_>>());
}

#[test]
fn weights_are_checked() {
    for (weights, len, expected) in [
        (vec![1.0, -1.0], 1, "weight 1: expected a number of at least 0, got -1"),
        (vec![f64::NAN], 1, "weight 0: expected a number of at least 0, got NaN"),
        (vec![f64::INFINITY], 1, "weight 0: expected a number of at least 0, got inf"),
        (vec![0.0, 0.0], 1, "expected"),
        (vec![], 1, "expected"),
    ] {
        let once = WeightedWithoutReplacement::new(weights.clone(), len, 0).err().unwrap();
        let often = Weighted::new(&weights, len, 0).err().unwrap();
        for error in [&once, &often] {
            assert!(matches!(error.kind(), ErrorKind::OutOfRange { .. }), "{error}");
        }
        assert!(
            once.to_string().contains(expected) && often.to_string().contains(expected),
            "{once}, {often}"
        );
    }
    assert!(WeightedWithoutReplacement::new(vec![1.0, 0.0], 2, 0).is_err());
    assert!(Weighted::new(&[], 0, 0).unwrap().is_empty());
}

#[test]
fn fixed_batches_cover_every_index_exactly_as_promised() {
    for len in 0..20 {
        for size in 1..9 {
            for drop_last in [false, true] {
                for epoch in 0..2 {
                    let sampler = FixedSize::new(Shuffled::new(len, 1), size, drop_last).unwrap();
                    let batches = batches(&sampler, epoch);
                    let covered = if drop_last { len / size * size } else { len };
                    assert_eq!(sampler.samples(epoch), covered);
                    assert!(batches.iter().rev().skip(1).all(|batch| batch.len() == size));
                    let mut all = sorted(batches.concat());
                    assert_eq!(all.len(), covered);
                    all.dedup();
                    assert_eq!(all.len(), covered);
                }
            }
        }
    }
    assert!(FixedSize::new(Sequential::new(3), 0, false).is_err());
}

fn lengths(items: u32) -> Vec<u32> {
    (0..items).map(|item| item.wrapping_mul(2_654_435_761) >> 26).collect()
}

#[test]
fn bucketed_batches_cover_every_index_and_pad_little() {
    for items in [0, 1, 7, 100, 1003] {
        let lengths = lengths(items);
        let by_size = Bucketed::by_length(Shuffled::new(items as usize, 5), lengths.clone(), 8, 5).unwrap();
        let by_size = by_size.window(64).unwrap();
        let by_tokens =
            Bucketed::by_tokens(Shuffled::new(items as usize, 5), lengths.clone(), 300, 5).unwrap();
        for epoch in 0..2 {
            let plain = (0..items as usize).collect::<Vec<_>>();
            let batches_of_8 = batches(&by_size, epoch);
            assert_eq!(sorted(batches_of_8.concat()), plain);
            assert!(batches_of_8.iter().all(|batch| (1..=8).contains(&batch.len())));
            let short = batches_of_8.iter().filter(|batch| batch.len() < 8).count();
            assert!(short <= 1, "only the last window has a rest");
            let batches_of_300 = batches(&by_tokens, epoch);
            assert_eq!(sorted(batches_of_300.concat()), plain);
            let longest = |batch: &[usize]| batch.iter().map(|&index| lengths[index]).max().unwrap();
            for batch in &batches_of_300 {
                assert!(!batch.is_empty() && batch.len() * longest(batch) as usize <= 300);
            }
            for (number, batch) in batches_of_300.iter().enumerate() {
                assert_eq!(by_tokens.width(epoch, number), Some(longest(batch) as usize));
            }
            if items > 500 {
                let tokens: u32 = lengths.iter().sum();
                let padded = |batches: &[Vec<usize>]| {
                    batches.iter().map(|batch| batch.len() as u32 * longest(batch)).sum::<u32>() as f64
                };
                let plain = FixedSize::new(Shuffled::new(items as usize, 5), 8, false).unwrap();
                let unbucketed = padded(&batches(&plain, epoch)) / f64::from(tokens);
                let bucketed = padded(&batches_of_8) / f64::from(tokens);
                assert!(unbucketed > 1.5 && bucketed < 1.25, "{unbucketed} → {bucketed}");
                let order: Vec<_> = batches_of_8.iter().map(|batch| longest(batch)).collect();
                assert!(!order.is_sorted(), "batches are shuffled");
            }
        }
        assert!(items < 100 || batches(&by_size, 0) != batches(&by_size, 1));
    }
}

#[test]
fn bucketing_is_checked() {
    let order = || Sequential::new(3);
    let error = Bucketed::by_tokens(order(), vec![3, 9, 1], 8, 0).err().unwrap();
    assert_eq!(error.to_string(), "token budget: sample 1 alone has 9 tokens, got a budget of 8");
    assert!(Bucketed::by_length(order(), vec![1, 2, 3], 0, 0).is_err());
    let short = Bucketed::by_length(order(), vec![1, 2], 1, 0).unwrap();
    let loader = firebox_data::Loader::builder(vec![0u8; 3]).batch_sampler(short);
    let error = loader.build((), |_, _, ()| Ok(())).err().unwrap();
    assert_eq!(error.to_string(), "bucketing: expected a length for each of 3 items, got 2");
    assert!(Bucketed::by_length(order(), vec![1, 2, 3], 1, 0).unwrap().window(0).is_err());
}

#[test]
fn descriptions_tell_settings_apart() {
    let weights = [1.0, 2.0];
    let descriptions = [
        Sequential::new(2).describe(),
        Sequential::new(3).describe(),
        Shuffled::new(2, 0).describe(),
        Shuffled::new(2, 1).describe(),
        SubsetSampler::new(vec![0, 1]).describe(),
        SubsetSampler::new(vec![1, 0]).describe(),
        SubsetSampler::new(vec![0, 1]).shuffled(0).describe(),
        Weighted::new(&weights, 2, 0).unwrap().describe(),
        Weighted::new(&[2.0, 1.0], 2, 0).unwrap().describe(),
        WeightedWithoutReplacement::new(weights.into(), 2, 0).unwrap().describe(),
        Distributed::new(Sequential::new(2), 0, 2, UnevenRanks::Pad).unwrap().describe(),
        Distributed::new(Sequential::new(2), 0, 3, UnevenRanks::Pad).unwrap().describe(),
        Distributed::new(Sequential::new(2), 0, 2, UnevenRanks::Trim).unwrap().describe(),
        FixedSize::new(Sequential::new(2), 1, false).unwrap().describe(),
        FixedSize::new(Sequential::new(2), 1, true).unwrap().describe(),
        FixedSize::new(Sequential::new(2), 2, true).unwrap().describe(),
        Bucketed::by_length(Sequential::new(2), vec![1, 2], 2, 0).unwrap().describe(),
        Bucketed::by_length(Sequential::new(2), vec![2, 1], 2, 0).unwrap().describe(),
        Bucketed::by_tokens(Sequential::new(2), vec![1, 2], 2, 0).unwrap().describe(),
    ];
    let distinct: std::collections::BTreeSet<_> = descriptions.iter().collect();
    assert_eq!(distinct.len(), descriptions.len(), "{descriptions:#?}");
    // A position is that of all ranks.
    let rank = |rank| Distributed::new(Sequential::new(2), rank, 2, UnevenRanks::Pad).unwrap();
    assert_eq!(rank(0).describe(), rank(1).describe());
}

#[test]
fn orders_as_long_as_can_be_counted_are_exact_or_refused() {
    const MOST: usize = usize::MAX;
    let last = Permutation::new(MOST, 5);
    let places: std::collections::BTreeSet<usize> =
        [0, 1, MOST / 2, MOST - 1].into_iter().map(|position| last.apply(position)).collect();
    assert!(places.len() == 4 && places.iter().all(|&place| place < MOST));
    assert_eq!(Permutation::new(1, 5).apply(0), 0);
    let shuffled = Shuffled::new(MOST, 1);
    assert!(shuffled.index(u64::MAX, MOST - 1) < MOST);
    let mut at_once = Vec::new();
    shuffled.indices(u64::MAX, MOST - 3..MOST, &mut at_once);
    assert_eq!(at_once.len(), 3);

    for size in [1, 2, MOST - 1, MOST] {
        for len in [0, 1, 7, MOST - 1, MOST] {
            for drop_last in [false, true] {
                let fixed = FixedSize::new(Sequential::new(len), size, drop_last).unwrap();
                let (batches, samples) = (fixed.batches(0), fixed.samples(0));
                assert_eq!(samples, if drop_last { len / size * size } else { len });
                assert_eq!(samples + fixed.left_out(0), len);
                if let Some(last) = batches.checked_sub(1) {
                    assert_eq!(fixed.positions(0, last).end, samples, "{len} in batches of {size}");
                }
                assert!(fixed.positions(0, MOST).is_empty());
            }
        }
    }

    for uneven in [UnevenRanks::Pad, UnevenRanks::Trim] {
        let error = Distributed::new(Sequential::new(MOST), 0, 7, uneven).err().unwrap();
        assert_eq!(
            error.to_string(),
            "distributed: expected at most 18446744073709551608 positions for 7 ranks, got 18446744073709551615"
        );
        let rank = Distributed::new(Sequential::new(MOST - 7), 6, 7, uneven).unwrap();
        assert!(rank.index(0, rank.len() - 1) < MOST - 7);
        assert!(rank.global_position(0, rank.len() - 1) >= (MOST / 7 * 6) as u64);
        let empty = Distributed::new(Sequential::new(0), 3, MOST, uneven).unwrap();
        assert_eq!((empty.len(), empty.global_len()), (0, 0));
        assert!(Distributed::new(Sequential::new(3), 0, 0, uneven).is_err());
    }
    let many = Distributed::new(Sequential::new(2), MOST - 3, MOST - 2, UnevenRanks::Pad).unwrap();
    assert_eq!((many.len(), many.index(0, 0), many.global_position(0, 0)), (1, 0, MOST as u64 - 3));
    let parts: Vec<Box<dyn Sampler>> = vec![Box::new(Sequential::new(MOST)), Box::new(Sequential::new(1))];
    let error = Chained::new(parts).err().unwrap();
    assert!(
        error.to_string().starts_with("chained: expected at most 18446744073709551615 positions"),
        "{error}"
    );
    // Drawn without end.
    let weighted = Weighted::new(&[0.0, 5e-324, -0.0], MOST, 0).unwrap();
    assert_eq!((weighted.index(u64::MAX, MOST - 1), weighted.len()), (1, MOST));
}

#[test]
fn the_smallest_weights_are_drawn_as_fairly_as_others() {
    let epochs = 4000;
    // Their times are beyond the largest number, and must not be one and the same.
    let weights = vec![5e-324, 1e-323, 5e-324, 1e-323];
    let once = WeightedWithoutReplacement::new(weights.clone(), 4, 4).unwrap();
    let mut first = [0.0; 4];
    for epoch in 0..epochs {
        let order = order(&once, epoch);
        first[order[0]] += 1.0;
        assert_eq!(sorted(order), [0, 1, 2, 3]);
    }
    assert_counts(&first, &[1.0 / 6.0, 2.0 / 6.0, 1.0 / 6.0, 2.0 / 6.0], epochs as f64);
    let often = Weighted::new(&weights, 40_000, 4).unwrap();
    let mut counts = [0.0; 4];
    order(&often, 0).into_iter().for_each(|index| counts[index] += 1.0);
    assert_counts(&counts, &[1.0 / 6.0, 2.0 / 6.0, 1.0 / 6.0, 2.0 / 6.0], 40_000.0);
    // Beside an ordinary weight they come last, in a random order.
    let beside = WeightedWithoutReplacement::new(vec![5e-324, 1.0, 5e-324], 3, 4).unwrap();
    let orders: std::collections::BTreeSet<_> = (0..50).map(|epoch| order(&beside, epoch)).collect();
    assert_eq!(orders, [vec![1, 0, 2], vec![1, 2, 0]].into());
}

#[test]
fn buckets_of_odd_lengths_and_windows_are_whole() {
    let order = |len| Shuffled::new(len, 3);
    // Nothing to pad, ties, the longest possible, one window of all.
    for lengths in [vec![0; 50], vec![7; 50], (0..50).map(|item| u32::MAX - item % 3).collect()] {
        for window in [1, 3, usize::MAX] {
            for batched in [
                Bucketed::by_length(order(50), lengths.clone(), usize::MAX, 1).unwrap(),
                Bucketed::by_tokens(order(50), lengths.clone(), usize::MAX, 1).unwrap(),
                Bucketed::by_tokens(order(50), lengths.clone(), u32::MAX as usize, 1).unwrap(),
            ] {
                let batched = batched.window(window).unwrap();
                assert!(sorted(batches(&batched, u64::MAX).concat()).into_iter().eq(0..50));
            }
        }
    }
    let ones = Bucketed::by_tokens(order(50), vec![u32::MAX; 50], u32::MAX as usize, 1).unwrap();
    assert_eq!(ones.batches(0), 50);
    // An index that the data set lacks must not become another by being cut to 32 bits.
    let beyond = SubsetSampler::new(vec![1, 1 << 32, (1 << 32) + 1]);
    let batched = Bucketed::by_length(beyond, vec![4, 5, 6], 3, 1).unwrap();
    assert_eq!(sorted(batches(&batched, 0).concat()), [1, u32::MAX as usize, u32::MAX as usize]);
}
