//! Batches that are planned for all ranks and dealt to them: as many on each, and together those of one rank.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use firebox_data::collate::Padded;
use firebox_data::dataset::Windows;
use firebox_data::elements::Elements;
use firebox_data::loader::{FailureBudget, Indexed, LoaderBuilder};
use firebox_data::sampler::{
    BatchSampler, Bucketed, Chained, Distributed, FixedSize, Ranks, Sampler, Sequential, Shuffled,
    SubsetSampler, UnevenRanks, Weighted,
};
use firebox_data::seed::StageKey;
use firebox_data::{ErrorKind, Loader, LoaderState, OnError, Pad, SampleRng, Scalar};

const WORLDS: Range<usize> = 1..6;

type Sampled = (usize, u64);

fn ranks(world: usize) -> impl Iterator<Item = Ranks> {
    (0..world).map(move |rank| Ranks::new(rank, world).unwrap())
}

fn samples(batches: &dyn BatchSampler, epoch: u64, positions: Range<usize>) -> Vec<Sampled> {
    let (mut indices, mut global) = (Vec::new(), Vec::new());
    batches.indices(epoch, positions.clone(), &mut indices);
    batches.global_positions(epoch, positions.clone(), &mut global);
    let samples: Vec<Sampled> = indices.into_iter().zip(global).collect();
    let one_by_one =
        positions.map(|position| (batches.index(epoch, position), batches.global_position(epoch, position)));
    assert!(one_by_one.eq(samples.iter().copied()), "{}", batches.describe());
    samples
}

/// The samples of each batch of an epoch.
fn epoch(batches: &dyn BatchSampler, epoch: u64) -> Vec<Vec<Sampled>> {
    (0..batches.batches(epoch))
        .map(|batch| samples(batches, epoch, batches.positions(epoch, batch)))
        .collect()
}

/// Deals the batches of an epoch to some ranks, and compares what they have with the whole.
fn assert_dealt(batches: &dyn BatchSampler, world: usize, number: u64) {
    let whole = epoch(batches, number);
    let mut counted = vec![0; world];
    for (batch, whole) in whole.iter().enumerate() {
        let runs: Vec<Vec<Sampled>> = ranks(world)
            .map(|rank| samples(batches, number, rank.run(batch, batches.positions(number, batch))))
            .collect();
        let lengths: BTreeSet<usize> = runs.iter().map(Vec::len).collect();
        let what = batches.describe();
        assert!(lengths.last().unwrap() - lengths.first().unwrap() <= 1, "{what}: {lengths:?}");
        counted.iter_mut().zip(&runs).for_each(|(all, run)| *all += run.len());
        assert_eq!(runs.concat(), *whole, "{what}, batch {batch} on {world} ranks");
    }
    for (rank, counted) in ranks(world).zip(counted) {
        assert_eq!(rank.samples(batches, number), counted, "{}, {rank:?}", batches.describe());
    }
}

fn lengths(len: usize) -> Vec<u32> {
    (0..len as u32).map(|item| 1 + (item.wrapping_mul(2_654_435_761) >> 28)).collect()
}

/// Batches of one's own, of any size, also of none.
struct Stairs(Box<dyn Sampler>);

impl Stairs {
    fn start(&self, batch: usize) -> usize {
        (0..batch).map(|batch| batch % 5).sum::<usize>().min(self.0.len())
    }
}

impl BatchSampler for Stairs {
    fn batches(&self, _: u64) -> usize {
        (0..).find(|&batch| self.start(batch) == self.0.len()).unwrap()
    }

    fn samples(&self, _: u64) -> usize {
        self.0.len()
    }

    fn positions(&self, _: u64, batch: usize) -> Range<usize> {
        self.start(batch)..self.start(batch + 1)
    }

    fn index(&self, epoch: u64, position: usize) -> usize {
        self.0.index(epoch, position)
    }

    fn describe(&self) -> String {
        format!("stairs of {}", self.0.describe())
    }
}

/// Every kind of sampler over data sets of this length.
fn samplers(len: usize) -> Vec<Box<dyn Fn() -> Box<dyn Sampler>>> {
    vec![
        Box::new(move || Box::new(Sequential::new(len))),
        Box::new(move || Box::new(Shuffled::new(len, 7))),
        Box::new(move || {
            let weights: Vec<f64> = (1..=len).map(|weight| weight as f64).collect();
            Box::new(Weighted::new(&weights, if len == 0 { 0 } else { len + 3 }, 5).unwrap())
        }),
        Box::new(move || Box::new(SubsetSampler::new((0..len / 2).collect::<Vec<_>>()).shuffled(3))),
        Box::new(move || {
            let parts: Vec<Box<dyn Sampler>> =
                vec![Box::new(Shuffled::new(len, 1)), Box::new(Sequential::new(len / 3))];
            Box::new(Chained::new(parts).unwrap())
        }),
    ]
}

#[test]
fn all_ranks_have_equally_many_batches_and_together_those_of_one() {
    for len in (0..=12).chain([37]) {
        for order in samplers(len) {
            let mut batchings: Vec<Box<dyn BatchSampler>> = vec![
                Box::new(Bucketed::by_length(order(), lengths(len), 4, 7).unwrap().window(10).unwrap()),
                Box::new(Bucketed::by_tokens(order(), lengths(len), 40, 7).unwrap()),
                Box::new(Stairs(order())),
            ];
            for size in 1..=6 {
                for drop_last in [false, true] {
                    batchings.push(Box::new(FixedSize::new(order(), size, drop_last).unwrap()));
                }
            }
            for batches in batchings {
                for world in WORLDS {
                    (0..2).for_each(|epoch| assert_dealt(&*batches, world, epoch));
                }
            }
        }
    }
    for tokens in 2..40 {
        for rows in 1..tokens.min(7) {
            let windows = Windows::new((0..tokens).collect::<Vec<_>>(), rows, 3).unwrap();
            WORLDS.for_each(|world| assert_dealt(windows.batches(), world, 0));
        }
    }
}

#[test]
fn rows_that_carry_a_state_stay_on_their_rank() {
    let build = |rank, world| {
        let windows = Windows::new((0..61usize).collect::<Vec<_>>(), 6, 4).unwrap();
        let batches = windows.batches().clone();
        let builder = Loader::builder(windows).batch_sampler(batches).workers(0).rank(rank, world);
        builder.build(Scalar::new(), |window: Vec<usize>, _, slot| {
            *slot = window[0];
            Ok(())
        })
    };
    for rank in 0..3 {
        let firsts: Vec<Elements<usize>> = build(rank, 3).unwrap().epoch(0).map(Result::unwrap).collect();
        // Rows of ten predictions, of which this rank has two.
        let rows = [20 * rank, 20 * rank + 10];
        assert_eq!(firsts, [0, 4, 8].map(|begun| rows.map(|row| row + begun).to_vec()));
    }
    let error = build(0, 4).err().unwrap();
    let text = "contiguous batches: expected rows that 4 ranks share evenly, got 6";
    assert_eq!((error.kind(), error.to_string().as_str()), (&ErrorKind::Config, text));
}

#[test]
fn random_batches_are_dealt_whole() {
    let mut rng = SampleRng::new(5, 0, 0, &StageKey::WRITE);
    for _ in 0..60 {
        let len = rng.below(2000) as usize;
        let lengths: Vec<u32> = (0..len).map(|_| 1 + rng.below(100) as u32).collect();
        let (seed, world) = (rng.bits(), 1 + rng.below(9) as usize);
        let order = || Shuffled::new(len, seed);
        let size = 1 + rng.below(70) as usize;
        let window = 1 + rng.below(500) as usize;
        let by_tokens = Bucketed::by_tokens(order(), lengths.clone(), 100 * size, seed).unwrap();
        assert_dealt(&by_tokens.window(window).unwrap(), world, 1);
        assert_dealt(&Bucketed::by_length(order(), lengths, size, seed).unwrap(), world, 1);
        assert_dealt(&FixedSize::new(order(), size, rng.chance(0.5)).unwrap(), world, 1);
    }
}

#[test]
fn samples_of_a_rank_are_counted_at_once() {
    const MANY: usize = 1_000_000_000_000;
    let batches = FixedSize::new(Sequential::new(MANY), 10, false).unwrap();
    let counts: Vec<usize> = ranks(3).map(|rank| rank.samples(&batches, 0)).collect();
    assert_eq!(counts.iter().sum::<usize>(), MANY);
    assert!(counts.iter().all(|count| count.abs_diff(MANY / 3) <= 1), "{counts:?}");
}

/// The batches of all ranks whose shares are these, by batch.
fn shares<B: BatchSampler>(make: impl Fn(usize) -> B, world: usize, number: u64) -> Vec<Vec<Vec<Sampled>>> {
    let all: Vec<Vec<Vec<Sampled>>> = (0..world).map(|rank| epoch(&make(rank), number)).collect();
    let counts: BTreeSet<usize> = all.iter().map(Vec::len).collect();
    assert_eq!(counts.len(), 1, "ranks of {world} have {counts:?} batches: {}", make(0).describe());
    for (rank, batches) in all.iter().enumerate() {
        assert_eq!(make(rank).samples(number), batches.concat().len());
    }
    (0..all[0].len()).map(|batch| all.iter().map(|rank| rank[batch].clone()).collect()).collect()
}

#[test]
fn buckets_of_shares_are_planned_for_all_ranks() {
    const SIZE: usize = 3;
    const TOKENS: usize = 50;
    for len in (0..=12).chain([101]) {
        for world in WORLDS {
            for uneven in [UnevenRanks::Pad, UnevenRanks::Trim] {
                let share = |rank| Distributed::new(Shuffled::new(len, 7), rank, world, uneven).unwrap();
                let by_length = |rank| {
                    Bucketed::by_length(share(rank), lengths(len), SIZE, 7).unwrap().window(12).unwrap()
                };
                let by_tokens = |rank| Bucketed::by_tokens(share(rank), lengths(len), TOKENS, 7).unwrap();
                let planned: BTreeMap<u64, usize> = (0..world)
                    .flat_map(|rank| {
                        let share = share(rank);
                        let at = |at| (share.global_position(1, at), share.index(1, at));
                        (0..share.len()).map(at).collect::<Vec<_>>()
                    })
                    .collect();
                let longest = |batch: &[Vec<Sampled>]| {
                    batch.concat().iter().map(|sample| lengths(len)[sample.0] as usize).max()
                };
                for (batches, widths) in [
                    (
                        shares(by_length, world, 1),
                        (0..world).map(|rank| widths(&by_length(rank))).collect::<Vec<_>>(),
                    ),
                    (
                        shares(by_tokens, world, 1),
                        (0..world).map(|rank| widths(&by_tokens(rank))).collect::<Vec<_>>(),
                    ),
                ] {
                    // Each position of the shares once, whichever rank has got it.
                    let all = batches.iter().flatten().flatten().map(|&(index, position)| (position, index));
                    let (all, distinct): (Vec<_>, BTreeMap<_, _>) = (all.clone().collect(), all.collect());
                    assert_eq!((all.len(), distinct), (planned.len(), planned.clone()));
                    for (number, batch) in batches.iter().enumerate() {
                        let lengths: BTreeSet<usize> = batch.iter().map(Vec::len).collect();
                        assert!(lengths.last().unwrap() - lengths.first().unwrap() <= 1);
                        assert!(widths.iter().all(|widths| widths[number] == longest(batch)));
                    }
                }
                for batch in shares(by_length, world, 1) {
                    assert!(batch.iter().all(|run| run.len() <= SIZE));
                }
                for batch in shares(by_tokens, world, 1) {
                    // The budget is that of each rank, padded to what the longest of all ranks is.
                    assert!(batch.iter().all(|run| run.len() * longest(&batch).unwrap() <= TOKENS));
                }
            }
        }
    }
}

fn widths(batches: &dyn BatchSampler) -> Vec<Option<usize>> {
    (0..batches.batches(1)).map(|batch| batches.width(1, batch)).collect()
}

#[test]
fn buckets_of_shares_of_shares_and_of_chained_shares_are_planned_for_all_ranks() {
    let pad = UnevenRanks::Pad;
    for len in [1, 7, 60] {
        let nested = |rank| {
            let machine = Distributed::new(Shuffled::new(len, 4), rank / 3, 2, pad).unwrap();
            Distributed::new(machine, rank % 3, 3, pad).unwrap()
        };
        assert!((0..6).all(|rank| nested(rank).ranks() == Ranks::new(rank, 6).unwrap()));
        let buckets = |rank| Bucketed::by_tokens(nested(rank), lengths(len), 40, 7).unwrap();
        let drawn =
            |batches: Vec<Vec<Vec<Sampled>>>| batches.concat().concat().into_iter().collect::<BTreeSet<_>>();
        let own = |sampler: &dyn Sampler| -> Vec<Sampled> {
            (0..sampler.len()).map(|at| (sampler.index(1, at), sampler.global_position(1, at))).collect()
        };
        assert_eq!(drawn(shares(buckets, 6, 1)), (0..6).flat_map(|rank| own(&nested(rank))).collect());
        // What a share says of another one is what that says of itself.
        for (rank, other) in (0..6).flat_map(|rank| (0..6).map(move |other| (rank, other))) {
            let told = (0..nested(rank).len()).map(|at| nested(rank).on_rank(other, 1, at));
            assert!(told.eq(own(&nested(other))));
        }
        let chained = |rank| {
            let part = |seed| Distributed::new(Shuffled::new(len, seed), rank, 3, pad).unwrap();
            let parts: Vec<Box<dyn Sampler>> = vec![Box::new(part(1)), Box::new(part(2))];
            Chained::new(parts).unwrap()
        };
        let buckets = |rank| Bucketed::by_length(chained(rank), lengths(len), 4, 7).unwrap();
        assert_eq!(drawn(shares(buckets, 3, 1)), (0..3).flat_map(|rank| own(&chained(rank))).collect());
    }
    let part = |rank, world| Distributed::new(Sequential::new(6), rank, world, pad).unwrap();
    let parts: Vec<Box<dyn Sampler>> =
        vec![Box::new(part(0, 2)), Box::new(Sequential::new(6)), Box::new(part(1, 3))];
    let error = Chained::new(parts).err().unwrap();
    assert_eq!(
        error.to_string(),
        "chained: expected the shares of one rank, got those of rank 0 of 2 and rank 1 of 3"
    );
}

type Drawn = Loader<(Scalar<usize>, Scalar<u64>)>;

/// A loader of numbers whose samples hold their number and what they draw. Every `bad`th cannot be made.
fn drawing(
    len: usize,
    bad: usize,
    set: impl Fn(LoaderBuilder<Indexed<Vec<usize>>>) -> LoaderBuilder<Indexed<Vec<usize>>>,
) -> Drawn {
    let layout = (Scalar::<usize>::new(), Scalar::<u64>::new());
    let built = set(Loader::builder((0..len).collect::<Vec<_>>()).seed(21)).build(
        layout,
        move |item, rng, (slot, bits)| {
            if bad > 0 && item % bad == 0 {
                return Err("bad".into());
            }
            (*slot, *bits) = (item, rng.bits());
            Ok(())
        },
    );
    built.unwrap()
}

/// The samples of each batch.
fn delivered(
    epoch: impl Iterator<Item = Result<(Elements<usize>, Elements<u64>), firebox_data::Error>>,
) -> Vec<Vec<Sampled>> {
    epoch.map(Result::unwrap).map(|(items, bits)| items.into_iter().zip(bits).collect()).collect()
}

/// Joins what ranks have of each batch. They must have as many.
fn joined<T: Clone>(ranks: &[Vec<Vec<T>>]) -> Vec<Vec<T>> {
    let counts: Vec<usize> = ranks.iter().map(Vec::len).collect();
    assert!(counts.iter().all(|&count| count == counts[0]), "the ranks have {counts:?} batches");
    (0..counts[0]).map(|batch| ranks.iter().flat_map(|rank| rank[batch].clone()).collect()).collect()
}

/// Settings of a loader, for data sets of a length.
type Setting = Box<dyn Fn(LoaderBuilder<Indexed<Vec<usize>>>) -> LoaderBuilder<Indexed<Vec<usize>>>>;

/// All ways to cut batches.
fn settings(len: usize) -> Vec<Setting> {
    let mut settings: Vec<Setting> = vec![
        Box::new(move |builder| {
            builder.batch_sampler(Bucketed::by_length(Shuffled::new(len, 3), lengths(len), 4, 7).unwrap())
        }),
        Box::new(move |builder| {
            builder.batch_sampler(Bucketed::by_tokens(Shuffled::new(len, 3), lengths(len), 40, 7).unwrap())
        }),
        Box::new(move |builder| builder.batch_sampler(Stairs(Box::new(Shuffled::new(len, 3))))),
        Box::new(move |builder| {
            builder
                .sampler(Weighted::new(&vec![1.0; len], if len == 0 { 0 } else { 7 }, 5).unwrap())
                .batch_size(3)
        }),
    ];
    for size in [1, 2, 3, 5] {
        for drop_last in [false, true] {
            settings
                .push(Box::new(move |builder| builder.shuffle(true).batch_size(size).drop_last(drop_last)));
        }
    }
    settings
}

#[test]
fn all_ranks_deliver_together_what_one_does() {
    for len in [0, 1, 2, 3, 7, 12, 23] {
        for set in settings(len) {
            let whole = drawing(len, 0, |builder| set(builder).workers(0));
            // A batch of one's own that has no sample is passed over if nobody waits for it.
            let expected = delivered(whole.epoch(1));
            for world in 2..=5 {
                let loaders: Vec<Drawn> = (0..world)
                    .map(|rank| drawing(len, 0, |builder| set(builder).rank(rank, world).workers(rank % 3)))
                    .collect();
                let ranks: Vec<_> = loaders.iter().map(|loader| delivered(loader.epoch(1))).collect();
                for (loader, batches) in loaders.iter().zip(&ranks) {
                    assert_eq!(loader.batches(1), Some(batches.len()));
                    assert_eq!(loader.samples(1), Some(batches.concat().len()));
                    assert_eq!(loader.state(1), whole.state(1), "a position names no rank");
                    for (number, batch) in batches.iter().enumerate() {
                        let items: Vec<usize> = batch.iter().map(|sample| sample.0).collect();
                        assert_eq!(loader.indices(1, number), Some(items));
                    }
                }
                let together: Vec<_> = joined(&ranks).into_iter().filter(|batch| !batch.is_empty()).collect();
                assert_eq!(together, expected, "{len} items, {world} ranks");
            }
        }
    }
}

#[test]
fn a_position_of_any_rank_is_that_of_any_number_of_ranks() {
    const LEN: usize = 23;
    for set in settings(LEN) {
        let whole = delivered(drawing(LEN, 0, |builder| set(builder).workers(0)).epoch(0)).concat();
        let rank = |rank, world| drawing(LEN, 0, |builder| set(builder).rank(rank, world).workers(rank));
        for stop in [0, 1, 2] {
            for (before, after) in [(1, 3), (3, 1), (2, 4), (4, 4), (5, 2)] {
                let mut begun = Vec::new();
                let mut states = BTreeSet::new();
                for number in 0..before {
                    let loader = rank(number, before);
                    let mut epoch = loader.epoch(0);
                    begun.push(delivered(epoch.by_ref().take(stop)));
                    states.insert(serde_json::to_string(&epoch.state()).unwrap());
                }
                assert_eq!(states.len(), 1, "all ranks save one position");
                let state: LoaderState = serde_json::from_str(states.first().unwrap()).unwrap();
                let rest: Vec<_> =
                    (0..after).map(|number| delivered(rank(number, after).resume(&state).unwrap())).collect();
                let all = [joined(&begun).concat(), joined(&rest).concat()].concat();
                assert_eq!(all, whole, "{before} ranks, then {after}, after {stop} batches");
            }
        }
    }
}

#[test]
fn batches_of_like_lengths_are_padded_alike_on_all_ranks() {
    let lengths = lengths(60);
    let loader = |rank: Option<(usize, usize)>, workers| {
        let order = Shuffled::new(60, 3);
        let batches = Bucketed::by_tokens(order, lengths.clone(), 60, 7).unwrap();
        let lengths = lengths.clone();
        let builder =
            Loader::builder((0..60usize).collect::<Vec<_>>()).batch_sampler(batches).workers(workers);
        let builder = match rank {
            Some((rank, world)) => builder.rank(rank, world),
            None => builder,
        };
        let built =
            builder.build((Pad::with(0u64), Scalar::<usize>::new()), move |item, rng, (sequence, index)| {
                sequence.extend((0..lengths[item]).map(|_| 1 + rng.below(9)));
                *index = item;
                Ok(())
            });
        built.unwrap()
    };
    type Batch = (Padded<u64>, Elements<usize>);
    let whole: Vec<Batch> = loader(None, 0).epoch(0).map(Result::unwrap).collect();
    for world in 1..=5 {
        let ranks: Vec<Vec<Batch>> = (0..world)
            .map(|rank| loader(Some((rank, world)), rank % 3).epoch(0).map(Result::unwrap).collect())
            .collect();
        for (number, (padded, items)) in whole.iter().enumerate() {
            let parts: Vec<&Batch> = ranks.iter().map(|rank| &rank[number]).collect();
            assert!(parts.iter().all(|part| part.0.longest == padded.longest), "one width on all ranks");
            assert_eq!(parts.iter().flat_map(|part| part.1.clone()).collect::<Vec<_>>(), *items);
            // Byte for byte, padding included.
            assert_eq!(
                parts.iter().flat_map(|part| part.0.values.to_vec()).collect::<Vec<_>>(),
                *padded.values
            );
        }
    }
    // A task makes the same part.
    let second = loader(Some((1, 4)), 0);
    for (number, batch) in second.epoch(0).enumerate() {
        assert_eq!(second.run(second.task(0, number).unwrap()).unwrap(), Some(batch.unwrap()));
    }
}

/// Sequences as long as their items say, padded.
fn padded(
    lengths: &[u32],
    layout: Pad<u64>,
    set: impl Fn(LoaderBuilder<Indexed<Vec<usize>>>) -> LoaderBuilder<Indexed<Vec<usize>>>,
) -> Result<Loader<Pad<u64>>, firebox_data::Error> {
    let (items, lengths) = ((0..lengths.len()).collect::<Vec<_>>(), lengths.to_vec());
    set(Loader::builder(items)).build(layout, move |item, _, sequence| {
        sequence.extend((0..lengths[item]).map(|place| 1000 * item as u64 + u64::from(place) + 1));
        Ok(())
    })
}

/// Compares what ranks have of each batch, padding included, with what one has.
fn assert_padded_alike(whole: &Loader<Pad<u64>>, ranks: &[Loader<Pad<u64>>]) {
    let whole: Vec<Padded<u64>> = whole.epoch(0).map(Result::unwrap).collect();
    let ranks: Vec<Vec<Padded<u64>>> =
        ranks.iter().map(|rank| rank.epoch(0).map(Result::unwrap).collect()).collect();
    assert!(!whole.is_empty() && ranks.iter().all(|rank| rank.len() == whole.len()));
    for (number, whole) in whole.iter().enumerate() {
        let parts: Vec<&Padded<u64>> = ranks.iter().map(|rank| &rank[number]).collect();
        let widths: Vec<usize> = parts.iter().map(|part| part.longest).collect();
        assert_eq!(widths, vec![whole.longest; ranks.len()], "batch {number}");
        let values: Vec<u64> = parts.iter().flat_map(|part| part.values.to_vec()).collect();
        assert_eq!(values, *whole.values, "batch {number}");
    }
}

#[test]
fn batches_of_one_size_are_padded_alike_where_lengths_are_known() {
    let lengths = lengths(23);
    let batches = || FixedSize::new(Shuffled::new(23, 3), 5, false).unwrap().with_lengths(lengths.clone());
    let whole = padded(&lengths, Pad::with(0), |builder| builder.batch_sampler(batches())).unwrap();
    for world in 2..=5 {
        let dealt = |rank| {
            let set = |builder: LoaderBuilder<_>| builder.batch_sampler(batches()).rank(rank, world);
            padded(&lengths, Pad::with(0), set).unwrap()
        };
        assert_padded_alike(&whole, &(0..world).map(dealt).collect::<Vec<_>>());
        // Shares of an order: the width is that of what all of them have.
        let widths = |rank| {
            let share = Distributed::new(Shuffled::new(23, 3), rank, world, UnevenRanks::Pad).unwrap();
            let batches = FixedSize::new(share, 2, false).unwrap().with_lengths(lengths.clone());
            let own = |batch: usize| {
                let items = samples(&batches, 0, batches.positions(0, batch));
                items.iter().map(|sample| lengths[sample.0] as usize).max().unwrap()
            };
            let count = batches.batches(0);
            let told = (0..count).map(|batch| batches.width(0, batch).unwrap()).collect::<Vec<_>>();
            (told, (0..count).map(own).collect::<Vec<_>>())
        };
        let (told, own): (Vec<_>, Vec<_>) = (0..world).map(widths).unzip();
        let all = |batch: usize| own.iter().map(|own| own[batch]).max().unwrap();
        for told in told {
            assert!(told.into_iter().eq((0..own[0].len()).map(all)));
        }
    }
    let text = "batches: expected a length for each of 23 items, got 9";
    let short = || FixedSize::new(Sequential::new(23), 5, false).unwrap().with_lengths(vec![1; 9]);
    let error = padded(&lengths, Pad::with(0), |builder| builder.batch_sampler(short())).err().unwrap();
    assert_eq!(error.to_string(), text);
}

#[test]
fn ranks_that_would_pad_to_different_widths_are_refused_when_the_loader_is_built() {
    let lengths = lengths(23);
    let text = "layout: expected a width that 3 ranks pad their parts of a batch to, got one that is not known: batch \
                samplers know it by lengths, and Pad::to sets it";
    let share = || Distributed::new(Sequential::new(23), 1, 3, UnevenRanks::Pad).unwrap();
    let unknown: [Setting; 3] = [
        Box::new(|builder| builder.batch_size(5).rank(1, 3)),
        Box::new(|builder| builder.batch_sampler(Stairs(Box::new(Sequential::new(23)))).rank(1, 3)),
        Box::new(move |builder| builder.sampler(share()).batch_size(5)),
    ];
    for set in &unknown {
        let error = padded(&lengths, Pad::with(0), set).err().unwrap();
        assert_eq!((error.kind(), error.to_string().as_str()), (&ErrorKind::Config, text));
        // With a width of its own, each rank knows it.
        let fixed = padded(&lengths, Pad::with(0).to(20), set).unwrap();
        assert!(fixed.epoch(0).all(|batch| batch.unwrap().longest == 20));
    }
    // Without padding, or alone, nobody has to know it; and nothing is nothing, however wide.
    assert!(padded(&lengths, Pad::with(0), |builder| builder.batch_size(5)).is_ok());
    assert!(padded(&[], Pad::with(0), |builder| builder.batch_size(5).rank(1, 3)).is_ok());
    drawing(23, 0, |builder| builder.batch_size(5).rank(1, 3));
    let windows = || Windows::new((0..61u64).collect::<Vec<_>>(), 6, 4).unwrap();
    let builder = Loader::builder(windows()).batch_sampler(windows().batches().clone()).rank(1, 3);
    let built = builder.build(Pad::with(0), |window: Vec<u64>, _, slot| {
        slot.extend(window);
        Ok(())
    });
    let loader = built.unwrap();
    let widths: Vec<usize> = loader.epoch(0).map(|batch| batch.unwrap().longest).collect();
    assert_eq!(widths, [5, 5, 3]);
}

/// Batches of one's own, which know the width of every second one only, and make it wider than it is.
struct Told(FixedSize<Sequential>);

impl BatchSampler for Told {
    fn batches(&self, epoch: u64) -> usize {
        self.0.batches(epoch)
    }

    fn samples(&self, epoch: u64) -> usize {
        self.0.samples(epoch)
    }

    fn positions(&self, epoch: u64, batch: usize) -> Range<usize> {
        self.0.positions(epoch, batch)
    }

    fn index(&self, epoch: u64, position: usize) -> usize {
        self.0.index(epoch, position)
    }

    fn width(&self, _: u64, batch: usize) -> Option<usize> {
        batch.is_multiple_of(2).then_some(100 + batch)
    }

    fn describe(&self) -> String {
        format!("told {}", self.0.describe())
    }
}

#[test]
fn a_slice_is_as_wide_as_what_is_left_in_it() {
    let lengths = lengths(40);
    let batchings: [Setting; 3] = [
        Box::new({
            let lengths = lengths.clone();
            move |builder| {
                let order = Shuffled::new(40, 3);
                builder.batch_sampler(Bucketed::by_tokens(order, lengths.clone(), 60, 7).unwrap())
            }
        }),
        Box::new({
            let lengths = lengths.clone();
            move |builder| {
                let batches = FixedSize::new(Shuffled::new(40, 3), 6, false).unwrap();
                builder.batch_sampler(batches.with_lengths(lengths.clone()))
            }
        }),
        Box::new({
            let lengths = lengths.clone();
            move |builder| {
                let batches = FixedSize::new(Sequential::new(40), 6, false).unwrap();
                builder.batch_sampler(batches.with_lengths(lengths.clone()))
            }
        }),
    ];
    for set in &batchings {
        for range in [0..40, 7..20, 3..4] {
            let slice = |rank: Option<(usize, usize)>| {
                let dealt = |builder: LoaderBuilder<_>| match rank {
                    Some((rank, world)) => set(builder).rank(rank, world),
                    None => set(builder),
                };
                padded(&lengths, Pad::with(0), dealt).unwrap().slice(range.clone()).unwrap()
            };
            let ranks: Vec<_> = (0..3).map(|rank| slice(Some((rank, 3)))).collect();
            assert_padded_alike(&slice(None), &ranks);
        }
    }
    // Widths that are told are those of the same batches, whichever are left, and none is another one's.
    let told = |builder: LoaderBuilder<_>| {
        builder.batch_sampler(Told(FixedSize::new(Sequential::new(40), 6, false).unwrap())).rank(0, 2)
    };
    let whole = padded(&lengths, Pad::with(0), told).unwrap();
    let widths = |loader: &Loader<Pad<u64>>| -> Vec<usize> {
        loader
            .epoch(0)
            .map(|batch| batch.unwrap().longest)
            .map(|width| if width >= 100 { width } else { 0 })
            .collect()
    };
    assert_eq!(widths(&whole), [100, 0, 102, 0, 104, 0, 106]);
    assert_eq!(widths(&whole.slice(0..40).unwrap()), widths(&whole));
    assert_eq!(widths(&whole.slice(10..40).unwrap()), widths(&whole)[1..]);
}

#[test]
fn samples_skipped_before_a_resume_are_counted_by_the_rank_that_skipped_them() {
    // Of each batch of four, the first sample of the first rank of two is bad, in all ten batches.
    let policy = |at_most| OnError::Skip { at_most: FailureBudget::Count(at_most) };
    let loader = |rank, world, at_most| {
        drawing(40, 4, |builder| builder.batch_size(4).workers(0).on_error(policy(at_most)).rank(rank, world))
    };
    let saved = |rank, world| {
        let loader = loader(rank, world, 10);
        let mut epoch = loader.epoch(0);
        epoch.by_ref().take(5).for_each(|batch| assert!(batch.is_ok()));
        let text = serde_json::to_string(&epoch.state()).unwrap();
        serde_json::from_str::<LoaderState>(&text).unwrap()
    };
    let (first, second, alone) = (saved(0, 2), saved(1, 2), saved(0, 1));
    assert_eq!((first.faults, first.faults_of), (5, Ranks::new(0, 2).unwrap()));
    assert_eq!((alone.faults, alone.faults_of), (5, Ranks::ALONE));
    assert_eq!((second.faults, second.faults_of), (0, Ranks::ALONE), "who has skipped nothing names nobody");
    // So many of them does a rank have in all that goes on from a state.
    let most = |rank, world, state: &LoaderState| {
        let ends =
            |at_most: &usize| loader(rank, world, *at_most).resume(state).unwrap().all(|batch| batch.is_ok());
        (0..=10).find(ends).unwrap()
    };
    assert_eq!(most(0, 2, &first), 10, "the rank that has skipped goes on counting");
    assert_eq!((most(1, 2, &first), most(0, 2, &second)), (0, 5), "another one has its own");
    assert_eq!((most(0, 1, &alone), most(0, 1, &first), most(0, 2, &alone)), (10, 5, 5));
    let rest = loader(0, 2, 10);
    let mut rest = rest.resume(&second).unwrap();
    assert!(rest.by_ref().all(|batch| batch.is_ok()));
    assert_eq!((rest.state().faults, rest.state().faults_of), (5, Ranks::new(0, 2).unwrap()));
    let damaged =
        serde_json::to_string(&first).unwrap().replace("\"faults_of\":[0,2]", "\"faults_of\":[2,2]");
    let error = serde_json::from_str::<LoaderState>(&damaged).unwrap_err().to_string();
    assert!(error.contains("rank: expected a number below the world's size 2, got 2"), "{error}");
    // Before ranks were named in them, states were those of whoever was alone.
    let text = serde_json::to_string(&alone).unwrap();
    assert!(!text.contains("faults_of"), "{text}");
}

#[test]
fn a_rank_without_a_sample_takes_the_step_all_the_same() {
    for workers in [0, 2] {
        for rank in 0..5 {
            let loader = drawing(7, 0, |builder| builder.batch_size(3).rank(rank, 5).workers(workers));
            let mut epoch = loader.epoch(0);
            let lengths: Vec<usize> = delivered(epoch.by_ref()).iter().map(Vec::len).collect();
            assert_eq!(lengths.len(), 3);
            assert_eq!((epoch.report().batches, epoch.delivered().batches), (3, 3));
            assert_eq!(epoch.report().samples, lengths.iter().sum::<usize>());
            assert_eq!((epoch.state().batch, epoch.size_hint().1), (3, Some(0)));
        }
    }
}

#[test]
fn samples_that_are_skipped_shift_no_rank() {
    let skip = OnError::Skip { at_most: FailureBudget::Count(100) };
    for world in 1..=5 {
        for bad in [1, 2, 3] {
            let loader = |rank, world| {
                drawing(20, bad, |builder| {
                    builder.batch_size(4).on_error(skip).rank(rank, world).workers(rank % 3)
                })
            };
            let ranks: Vec<_> = (0..world).map(|rank| delivered(loader(rank, world).epoch(0))).collect();
            // Of one rank a batch without a sample is passed over; several agree on it.
            let together = joined(&ranks);
            assert_eq!(together.len(), if world == 1 && bad == 1 { 0 } else { 5 });
            assert_eq!(together.concat(), delivered(loader(0, 1).epoch(0)).concat());
        }
    }
    // So do the shares of an order.
    let share = |rank| {
        let order = move || Distributed::new(Sequential::new(12), rank, 2, UnevenRanks::Pad).unwrap();
        drawing(12, 2, |builder| builder.sampler(order()).batch_size(2).on_error(skip).workers(0))
    };
    let lengths = [0, 1].map(|rank| delivered(share(rank).epoch(0)).iter().map(Vec::len).collect::<Vec<_>>());
    assert_eq!(lengths, [[0, 0, 0], [2, 2, 2]]);
}

#[test]
fn substitutes_are_the_same_on_any_number_of_ranks() {
    let replace = OnError::Replace { at_most: FailureBudget::Count(100) };
    for size in [1, 2, 5] {
        let loader = |rank, world| {
            drawing(20, 11, |builder| {
                builder.shuffle(true).batch_size(size).on_error(replace).rank(rank, world).workers(rank % 3)
            })
        };
        let whole = delivered(loader(0, 1).epoch(1));
        assert_eq!(whole.concat().len(), 20);
        for world in 2..=5 {
            let ranks: Vec<_> = (0..world).map(|rank| delivered(loader(rank, world).epoch(1))).collect();
            assert_eq!(joined(&ranks), whole, "batches of {size} on {world} ranks");
        }
    }
}

#[test]
fn slices_are_dealt_like_the_whole() {
    for set in settings(20) {
        let whole = drawing(20, 0, |builder| set(builder).workers(0)).slice(3..15).unwrap();
        let expected = delivered(whole.epoch(0));
        let ranks: Vec<_> = (0..3)
            .map(|rank| {
                let loader = drawing(20, 0, |builder| set(builder).rank(rank, 3).workers(0));
                delivered(loader.slice(3..15).unwrap().epoch(0))
            })
            .collect();
        assert_eq!(joined(&ranks), expected);
    }
    // Of a rank's share it isn't known what others have in range: each batch stays.
    let ranks: Vec<_> = (0..4)
        .map(|rank| {
            let share = move || Distributed::new(Shuffled::new(20, 3), rank, 4, UnevenRanks::Trim).unwrap();
            let loader = drawing(20, 0, |builder| builder.sampler(share()).batch_size(2).workers(0));
            delivered(loader.slice(3..9).unwrap().epoch(0))
        })
        .collect();
    assert_eq!(joined(&ranks).concat().len(), 6);
}

#[test]
fn ranks_that_cannot_be_are_refused_when_the_loader_is_built() {
    let build = |set: Setting| {
        let built = set(Loader::builder((0..9).collect::<Vec<usize>>())).build((), |_, _, ()| Ok(()));
        built.err().unwrap()
    };
    let error = build(Box::new(|builder| builder.rank(2, 2)));
    assert_eq!(error.to_string(), "rank: expected a number below the world's size 2, got 2");
    let error = build(Box::new(|builder| {
        builder.rank(1, 3).sampler(Distributed::new(Sequential::new(9), 1, 2, UnevenRanks::Pad).unwrap())
    }));
    assert_eq!(*error.kind(), ErrorKind::Config);
    assert_eq!(
        error.to_string(),
        "rank: expected an order of all ranks to deal to 3, got the share of rank 1 of 2"
    );
    for set in [
        Box::new(|builder: LoaderBuilder<_>| builder.rank(1, 3).workers(2).as_completed(true)) as Setting,
        Box::new(|builder| {
            let share = Distributed::new(Sequential::new(9), 1, 3, UnevenRanks::Pad).unwrap();
            builder.sampler(share).workers(2).as_completed(true)
        }),
    ] {
        assert_eq!(
            build(set).to_string(),
            "as completed: expected batches in order for 3 ranks, which take a step with the same batch"
        );
    }
}
