//! Which indices the batches of an epoch hold: exactly those that the sampler promises, in its order, from
//! the loader itself. Small cases exhaustively, then some larger ones.

use std::collections::{BTreeMap, BTreeSet};

use firebox_data::elements::Elements;
use firebox_data::sampler::{
    BatchSampler, Bucketed, Chained, Distributed, FixedSize, Sampler, Sequential, Shuffled, SubsetSampler,
    UnevenRanks, Weighted, WeightedWithoutReplacement,
};
use firebox_data::{Loader, Scalar};

const WORKERS: [usize; 2] = [0, 3];

/// The batches of an epoch by a loader of the numbers below `items`.
fn batches(loader: &Loader<Scalar<usize>>, epoch: u64) -> Vec<Elements<usize>> {
    let batches: Vec<_> = loader.epoch(epoch).map(Result::unwrap).collect();
    assert_eq!(batches.len(), loader.batches(epoch).unwrap());
    assert_eq!(batches.iter().map(|batch| batch.len()).sum::<usize>(), loader.samples(epoch).unwrap());
    batches
}

macro_rules! loader {
    ($items:expr, $workers:expr $(, $setting:ident($value:expr))*) => {
        Loader::builder((0..$items).collect::<Vec<usize>>())
            .workers($workers)
            $(.$setting($value))*
            .build(Scalar::<usize>::new(), |number, _, slot| {
                *slot = number;
                Ok(())
            })
            .unwrap()
    };
}

/// Runs a sampler through loaders with several batch sizes, with and without a short last batch, and gives
/// what all of an epoch's batches hold to `promise`.
fn covers(items: usize, make: impl Fn() -> Box<dyn Sampler>, promise: impl Fn(&[usize])) {
    let sampler = make();
    let order = |epoch| (0..sampler.len()).map(|place| sampler.index(epoch, place)).collect::<Vec<_>>();
    let orders = [order(0), order(1)];
    for workers in WORKERS {
        // With workers, one size will do: which indices come is not for them to decide.
        let sizes = if workers == 0 { &[1, 2, 3, 5][..] } else { &[3] };
        for &size in sizes {
            for drop_last in [false, true] {
                if workers > 0 && drop_last != sampler.len().is_multiple_of(2) {
                    continue;
                }
                let loader = loader!(items, workers, sampler(make()), batch_size(size), drop_last(drop_last));
                for (epoch, order) in orders.iter().enumerate() {
                    let batches = batches(&loader, epoch as u64);
                    let (last, whole) = match batches.split_last() {
                        Some((last, whole)) => (last.len(), whole),
                        None => (size, &[][..]),
                    };
                    assert!(whole.iter().all(|batch| batch.len() == size));
                    assert!(last == size || !drop_last && (1..size).contains(&last));
                    let covered = if drop_last { order.len() / size * size } else { order.len() };
                    assert_eq!(batches.concat(), order[..covered], "{}", sampler.describe());
                    if !drop_last {
                        promise(&batches.concat());
                    }
                }
            }
        }
    }
}

fn sorted(indices: &[usize]) -> Vec<usize> {
    let mut sorted = indices.to_vec();
    sorted.sort_unstable();
    sorted
}

fn counts(indices: &[usize]) -> BTreeMap<usize, usize> {
    let mut counts = BTreeMap::new();
    indices.iter().for_each(|&index| *counts.entry(index).or_insert(0) += 1);
    counts
}

const SMALL: std::ops::RangeInclusive<usize> = 0..=13;

#[test]
fn in_order_and_shuffled_every_index_comes_once() {
    for items in SMALL.chain([50]) {
        covers(items, || Box::new(Sequential::new(items)), |all| assert!(all.iter().copied().eq(0..items)));
        covers(
            items,
            || Box::new(Shuffled::new(items, 3)),
            |all| assert!(sorted(all).into_iter().eq(0..items)),
        );
    }
    for workers in WORKERS {
        for (shuffle, items) in [(false, 4097), (true, 4096), (true, 4097)] {
            let loader = loader!(items, workers, shuffle(shuffle), batch_size(200));
            let all = batches(&loader, 7).concat();
            assert!(sorted(&all).into_iter().eq(0..items) && all.is_sorted() != shuffle);
        }
    }
}

#[test]
fn a_subset_comes_whole_and_alone() {
    for bits in 0..1usize << 5 {
        let indices: Vec<usize> = (0..5).filter(|index| bits >> index & 1 == 1).rev().collect();
        covers(5, || Box::new(SubsetSampler::new(indices.clone())), |all| assert_eq!(all, indices));
        let shuffled = || Box::new(SubsetSampler::new(indices.clone()).shuffled(5)) as Box<dyn Sampler>;
        covers(5, shuffled, |all| assert_eq!(sorted(all), sorted(&indices)));
    }
    let odd: Vec<usize> = (0..200).filter(|index| index % 2 == 1).collect();
    covers(
        200,
        || Box::new(SubsetSampler::new(odd.clone()).shuffled(5)),
        |all| {
            assert!(sorted(all) == odd && all != odd);
        },
    );
    // An index that is listed twice comes twice.
    covers(4, || Box::new(SubsetSampler::new(vec![3, 0, 3, 3])), |all| assert_eq!(all, [3, 0, 3, 3]));
}

/// Weights of which some are 0, and the first is not.
fn weights(items: usize) -> Vec<f64> {
    (0..items).map(|item| if item % 4 == 2 { 0.0 } else { 0.5 + (item % 5) as f64 }).collect()
}

#[test]
fn draws_with_weights_are_as_many_as_asked_and_have_weight() {
    for items in SMALL.skip(1).chain([30]) {
        for draws in [0, 1, items, 3 * items + 1] {
            let weights = weights(items);
            let make = || Box::new(Weighted::new(&weights, draws, 9).unwrap()) as Box<dyn Sampler>;
            covers(items, make, |all| {
                assert_eq!(all.len(), draws);
                assert!(all.iter().all(|&index| weights[index] > 0.0));
            });
        }
    }
}

#[test]
fn draws_without_putting_back_are_distinct_and_have_weight() {
    for items in SMALL.chain([30]) {
        let weights = weights(items);
        let drawable = weights.iter().filter(|&&weight| weight > 0.0).count();
        for draws in [0, drawable / 2, drawable] {
            let make = || {
                Box::new(WeightedWithoutReplacement::new(weights.clone(), draws, 9).unwrap())
                    as Box<dyn Sampler>
            };
            covers(items, make, |all| {
                let distinct: BTreeSet<usize> = all.iter().copied().collect();
                assert_eq!((all.len(), distinct.len()), (draws, draws));
                assert!(distinct.iter().all(|&index| weights[index] > 0.0));
            });
        }
    }
}

#[test]
fn the_ranks_together_cover_every_index_exactly_as_promised() {
    for items in SMALL.chain([100]) {
        for world in 1..=4 {
            for uneven in [UnevenRanks::Pad, UnevenRanks::Trim] {
                for shuffle in [false, true] {
                    let order = || -> Box<dyn Sampler> {
                        match shuffle {
                            false => Box::new(Sequential::new(items)),
                            true => Box::new(Shuffled::new(items, 21)),
                        }
                    };
                    let whole: [Vec<usize>; 2] =
                        [0, 1].map(|epoch| (0..items).map(|place| order().index(epoch, place)).collect());
                    let share = match uneven {
                        UnevenRanks::Pad => items.div_ceil(world),
                        UnevenRanks::Trim => items / world,
                    };
                    for workers in if world == 3 && shuffle { &WORKERS[..] } else { &[0] } {
                        let loaders: Vec<_> = (0..world)
                            .map(|rank| {
                                let sampler = Distributed::new(order(), rank, world, uneven).unwrap();
                                loader!(items, *workers, sampler(sampler), batch_size(3))
                            })
                            .collect();
                        for (epoch, whole) in whole.iter().enumerate() {
                            let ranks: Vec<Vec<usize>> =
                                loaders.iter().map(|loader| batches(loader, epoch as u64).concat()).collect();
                            assert!(
                                ranks.iter().all(|rank| rank.len() == share),
                                "all ranks take as many steps"
                            );
                            let seen = counts(&ranks.concat());
                            // Once each; then padding begins again at the first positions, trimming leaves
                            // out the last.
                            let expected: Vec<usize> = (0..share * world).map(|p| whole[p % items]).collect();
                            assert_eq!(seen, counts(&expected), "{items} items, {world} ranks, {uneven:?}");
                            if uneven == UnevenRanks::Pad {
                                assert_eq!(seen.len(), items);
                            } else {
                                assert!(seen.len() == share * world && items - seen.len() < world);
                            }
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn chained_samplers_come_whole_one_after_the_other() {
    for first in 0..=5 {
        for second in 0..=5 {
            let make = || -> Box<dyn Sampler> {
                Box::new(
                    Chained::new(vec![
                        Box::new(Shuffled::new(first, 1)),
                        Box::new(Sequential::new(0)),
                        Box::new(SubsetSampler::new((0..second).rev().collect::<Vec<_>>())),
                        Box::new(Distributed::new(Sequential::new(7), 1, 2, UnevenRanks::Pad).unwrap()),
                    ])
                    .unwrap(),
                )
            };
            covers(7, make, |all| {
                assert!(sorted(&all[..first]).into_iter().eq(0..first));
                assert!(all[first..first + second].iter().copied().eq((0..second).rev()));
                assert_eq!(all[first + second..], [1, 3, 5, 0]);
            });
        }
    }
}

fn lengths(items: usize) -> Vec<u32> {
    (0..items as u32).map(|item| item.wrapping_mul(2_654_435_761) >> 27).collect()
}

/// Runs a batch sampler through loaders.
fn bucketed<B: BatchSampler + 'static>(
    items: usize,
    make: impl Fn() -> B,
    promise: impl Fn(&[Elements<usize>]),
) {
    let sampler = make();
    for workers in WORKERS {
        if workers > 0 && (items.is_multiple_of(2) || sampler.batches(0) > 40) {
            continue;
        }
        let loader = loader!(items, workers, batch_sampler(make()));
        for epoch in 0..2 {
            let batches = batches(&loader, epoch);
            let planned = |batch| -> Vec<usize> {
                sampler.positions(epoch, batch).map(|place| sampler.index(epoch, place)).collect()
            };
            assert_eq!(batches, (0..sampler.batches(epoch)).map(planned).collect::<Vec<_>>());
            promise(&batches);
        }
    }
}

#[test]
fn batches_of_like_lengths_cover_every_index() {
    for items in SMALL.chain([100, 1003]) {
        let lengths = lengths(items);
        let padded =
            |batch: &[usize]| batch.len() * batch.iter().map(|&i| lengths[i]).max().unwrap() as usize;
        for window in [1, 4, 1000] {
            for size in [1, 3, 8] {
                let make = || {
                    let order = Shuffled::new(items, 2);
                    Bucketed::by_length(order, lengths.clone(), size, 2).unwrap().window(window).unwrap()
                };
                bucketed(items, make, |batches| {
                    assert!(sorted(&batches.concat()).into_iter().eq(0..items));
                    assert!(batches.iter().all(|batch| (1..=size).contains(&batch.len())));
                });
            }
            for tokens in [31, 32, 100] {
                let make = || {
                    let order = Shuffled::new(items, 2);
                    Bucketed::by_tokens(order, lengths.clone(), tokens, 2).unwrap().window(window).unwrap()
                };
                bucketed(items, make, |batches| {
                    assert!(sorted(&batches.concat()).into_iter().eq(0..items));
                    assert!(batches.iter().all(|batch| !batch.is_empty() && padded(batch) <= tokens));
                });
            }
        }
    }
}

#[test]
fn batches_of_like_lengths_cover_what_their_order_has() {
    for items in SMALL {
        let lengths = lengths(items);
        // Each rank buckets its own share.
        let rank = |rank| Distributed::new(Shuffled::new(items, 4), rank, 2, UnevenRanks::Trim).unwrap();
        let shares: Vec<Vec<usize>> = (0..2)
            .map(|number| {
                let sampler = Bucketed::by_length(rank(number), lengths.clone(), 3, 4).unwrap();
                batches(&loader!(items, 3, batch_sampler(sampler)), 1).concat()
            })
            .collect();
        let both = counts(&shares.concat());
        assert!(both.len() == items / 2 * 2 && both.values().all(|&count| count == 1));
        // What is drawn several times comes several times.
        if items > 0 {
            let drawn = || Weighted::new(&vec![1.0; items], 20, 4).unwrap();
            let order: Vec<usize> = (0..20).map(|place| drawn().index(1, place)).collect();
            let sampler = Bucketed::by_tokens(drawn(), lengths.clone(), 40, 4).unwrap();
            let all = batches(&loader!(items, 3, batch_sampler(sampler)), 1).concat();
            assert_eq!(counts(&all), counts(&order));
        }
    }
}

#[test]
fn a_batch_sampler_of_fixed_size_is_what_the_loader_has_anyway() {
    for items in SMALL {
        for size in 1..=5 {
            for drop_last in [false, true] {
                let sampler = FixedSize::new(Shuffled::new(items, 8), size, drop_last).unwrap();
                let own = loader!(items, if size == 3 { 3 } else { 0 }, batch_sampler(sampler));
                let usual = loader!(items, 0, shuffle(true), seed(8), batch_size(size), drop_last(drop_last));
                assert_eq!(batches(&own, 2), batches(&usual, 2));
            }
        }
    }
}
