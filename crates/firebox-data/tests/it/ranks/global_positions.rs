//! A sample's random numbers follow from its position in the order that all ranks share: the same however
//! many workers and ranks there are and after a resume, others for each time that a sample comes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use firebox_data::dataset::{Concat, Mix, Windows};
use firebox_data::elements::Elements;
use firebox_data::formats::Lines;
use firebox_data::loader::{Action, FailureBudget, Indexed, LoaderBuilder, Retry};
use firebox_data::sampler::{
    BatchSampler, Bucketed, Chained, Distributed, FixedSize, Sampler, Sequential, Shuffled, SubsetSampler,
    UnevenRanks, Weighted, WeightedWithoutReplacement,
};
use firebox_data::seed::StageKey;
use firebox_data::{BoxError, Dataset, ErrorKind, Loader, LoaderState, OnError, SampleRng, Scalar};

const WORKERS: [usize; 3] = [0, 1, 4];
const SEED: u64 = 21;

type Drawn = Loader<(Scalar<usize>, Scalar<u64>)>;

/// A loader whose samples hold their item and what they draw.
fn drawing<D: Dataset<Item = usize>>(builder: LoaderBuilder<Indexed<D>>) -> Drawn {
    let layout = (Scalar::<usize>::new(), Scalar::<u64>::new());
    let built = builder.seed(SEED).build(layout, |item, rng, (slot, bits)| {
        (*slot, *bits) = (item, rng.bits());
        Ok(())
    });
    built.unwrap()
}

fn numbers(len: usize) -> Vec<usize> {
    (0..len).collect::<Vec<_>>()
}

fn of_sampler(len: usize, sampler: impl Sampler + 'static, workers: usize) -> Drawn {
    drawing(Loader::builder(numbers(len)).sampler(sampler).batch_size(3).workers(workers))
}

/// Pairs of an item and what it drew.
fn pairs(
    epoch: impl Iterator<Item = Result<(Elements<usize>, Elements<u64>), firebox_data::Error>>,
) -> Vec<(usize, u64)> {
    epoch.map(Result::unwrap).flat_map(|(items, bits)| items.into_iter().zip(bits)).collect()
}

/// The random bits of the sample at a global position.
fn bits(epoch: u64, position: u64) -> u64 {
    SampleRng::new(SEED, epoch, position, &StageKey::WRITE).bits()
}

/// Compares a loader's epoch with these items and global positions, with any number of workers, from any
/// batch on.
fn assert_draws(what: &str, make: impl Fn(usize) -> Drawn, epoch: u64, expected: &[(usize, u64)]) {
    let expected: Vec<_> = expected.iter().map(|&(item, position)| (item, bits(epoch, position))).collect();
    let first = make(0);
    for workers in WORKERS {
        let loader = make(workers);
        assert_eq!(pairs(loader.epoch(epoch)), expected, "{what}, {workers} workers");
        for stop in [1, loader.batches(epoch).unwrap() / 2] {
            let mut begun = first.epoch(epoch);
            let mut all = pairs(begun.by_ref().take(stop));
            let text = serde_json::to_string(&begun.state()).unwrap();
            let state: LoaderState = serde_json::from_str(&text).unwrap();
            all.extend(pairs(loader.resume(&state).unwrap()));
            assert_eq!(all, expected, "{what}, {workers} workers, resumed after {stop} batches");
        }
    }
}

/// The items and global positions of a sampler's epoch.
fn plan(sampler: &impl Sampler, epoch: u64) -> Vec<(usize, u64)> {
    let one_by_one: Vec<_> =
        (0..sampler.len()).map(|at| (sampler.index(epoch, at), sampler.global_position(epoch, at))).collect();
    let mut at_once = vec![7];
    sampler.global_positions(epoch, 0..sampler.len(), &mut at_once);
    assert!(
        one_by_one.iter().map(|sample| sample.1).eq(at_once.into_iter().skip(1)),
        "{}",
        sampler.describe()
    );
    assert!(one_by_one.iter().all(|sample| sample.1 < sampler.global_len()), "{}", sampler.describe());
    one_by_one
}

fn assert_all_differ(draws: &[(usize, u64)], what: &str) {
    let distinct: BTreeSet<u64> = draws.iter().map(|draw| draw.1).collect();
    assert_eq!(distinct.len(), draws.len(), "{what}");
}

#[test]
fn a_sample_that_is_drawn_eight_times_is_augmented_eight_times() {
    let make = |workers| of_sampler(2, Weighted::new(&[1.0, 0.0], 8, SEED).unwrap(), workers);
    for epoch in 0..2 {
        let drawn = pairs(make(0).epoch(epoch));
        assert!(drawn.iter().all(|draw| draw.0 == 0));
        assert_all_differ(&drawn, "eight copies of one sample");
        let expected: Vec<_> = (0..8).map(|position| (0, position)).collect();
        assert_draws("a weighted draw", make, epoch, &expected);
    }
    assert_ne!(pairs(make(0).epoch(0)), pairs(make(0).epoch(1)), "another epoch draws anew");
}

#[test]
fn orders_that_nobody_shares_count_from_0() {
    let weights: Vec<f64> = (1..=10).map(f64::from).collect();
    type Order = fn(&[f64]) -> Box<dyn Sampler>;
    let orders: Vec<Order> = vec![
        |_| Box::new(Sequential::new(10)),
        |_| Box::new(Shuffled::new(10, 3)),
        |_| Box::new(SubsetSampler::new(vec![7, 7, 0, 3])),
        |_| Box::new(SubsetSampler::new(vec![7, 7, 0, 3]).shuffled(5)),
        |weights| Box::new(Weighted::new(weights, 17, 3).unwrap()),
        |weights| Box::new(WeightedWithoutReplacement::new(weights.to_vec(), 7, 3).unwrap()),
        |_| {
            let parts: Vec<Box<dyn Sampler>> = vec![
                Box::new(Sequential::new(4)),
                Box::new(Sequential::new(0)),
                Box::new(Shuffled::new(6, 1)),
            ];
            Box::new(Chained::new(parts).unwrap())
        },
    ];
    for order in orders {
        for epoch in [0, 3] {
            let sampler = order(&weights);
            let planned = plan(&sampler, epoch);
            assert!(
                planned.iter().map(|sample| sample.1).eq(0..sampler.len() as u64),
                "{}",
                sampler.describe()
            );
            assert_draws(
                &sampler.describe(),
                |workers| of_sampler(10, order(&weights), workers),
                epoch,
                &planned,
            );
        }
    }
}

#[test]
fn a_sample_draws_the_same_on_one_rank_and_on_four() {
    for (len, uneven) in [
        (40, UnevenRanks::Pad),
        (40, UnevenRanks::Trim),
        (41, UnevenRanks::Pad),
        (2, UnevenRanks::Pad),
        (43, UnevenRanks::Trim),
    ] {
        let rank = |rank| Distributed::new(Shuffled::new(len, 9), rank, 4, uneven).unwrap();
        for epoch in 0..2 {
            let whole = pairs(of_sampler(len, Shuffled::new(len, 9), 0).epoch(epoch));
            let mut all = Vec::new();
            for number in 0..4 {
                let planned = plan(&rank(number), epoch);
                assert_draws("a rank", |workers| of_sampler(len, rank(number), workers), epoch, &planned);
                all.extend(pairs(of_sampler(len, rank(number), 0).epoch(epoch)));
            }
            assert_all_differ(&all, "positions of different ranks");
            let all: BTreeSet<_> = all.into_iter().collect();
            let common = whole.iter().filter(|draw| all.contains(draw)).count();
            // What is padded comes besides, with other draws.
            assert_eq!(
                common,
                if uneven == UnevenRanks::Pad { len } else { len / 4 * 4 },
                "{len} {uneven:?}"
            );
        }
    }
    // Position 5 of two ranks.
    let positions = [0, 1].map(|rank| {
        Distributed::new(Shuffled::new(40, 9), rank, 2, UnevenRanks::Pad).unwrap().global_position(0, 5)
    });
    assert_eq!(positions, [10, 11]);
}

#[test]
fn ranks_within_ranks_and_ranks_in_chains_share_no_position() {
    for len in [1, 2, 24, 25, 29] {
        for uneven in [UnevenRanks::Pad, UnevenRanks::Trim] {
            // Two machines with three devices each.
            let nested = |node, device| {
                let of_node = Distributed::new(Shuffled::new(len, 4), node, 2, uneven).unwrap();
                Distributed::new(of_node, device, 3, uneven).unwrap()
            };
            let mut all: Vec<_> = (0..6).flat_map(|rank| plan(&nested(rank / 3, rank % 3), 1)).collect();
            assert_all_differ(&all, "devices of machines");
            // What isn't padding has its place in the whole.
            all.retain(|sample| sample.1 < len as u64);
            let whole = Shuffled::new(len, 4);
            assert!(all.iter().all(|&(item, position)| whole.index(1, position as usize) == item));
            let chained = |rank| {
                let part = |seed| Distributed::new(Shuffled::new(len, seed), rank, 3, uneven).unwrap();
                let zeros = Distributed::new(SubsetSampler::new(vec![0; len]), rank, 3, uneven).unwrap();
                let parts: Vec<Box<dyn Sampler>> =
                    vec![Box::new(part(1)), Box::new(part(2)), Box::new(zeros)];
                Chained::new(parts).unwrap()
            };
            let all: Vec<_> = (0..3).flat_map(|rank| plan(&chained(rank), 1)).collect();
            assert_all_differ(&all, "ranks in a chain");
            let lengths: BTreeSet<u64> = (0..3).map(|rank| chained(rank).global_len()).collect();
            assert_eq!(lengths.len(), 1, "where the next chain would begin is the same on every rank");
        }
    }
}

fn lengths(len: usize) -> Vec<u32> {
    (0..len as u32).map(|item| 1 + (item.wrapping_mul(2_654_435_761) >> 27)).collect()
}

/// The items and global positions of a batch sampler's epoch.
fn batched(sampler: &impl BatchSampler, epoch: u64) -> Vec<(usize, u64)> {
    let of_batch = |batch| {
        let positions = sampler.positions(epoch, batch);
        let mut at_once = Vec::new();
        sampler.global_positions(epoch, positions.clone(), &mut at_once);
        let planned: Vec<_> = positions
            .map(|position| (sampler.index(epoch, position), sampler.global_position(epoch, position)))
            .collect();
        assert!(planned.iter().map(|sample| sample.1).eq(at_once), "{}", sampler.describe());
        planned
    };
    (0..sampler.batches(epoch)).flat_map(of_batch).collect()
}

#[test]
fn bucketing_changes_no_augmentation() {
    const LEN: usize = 103;
    let whole: BTreeMap<usize, u64> = plan(&Shuffled::new(LEN, 7), 1).into_iter().collect();
    let order = || Shuffled::new(LEN, 7);
    let makes: Vec<Box<dyn Fn() -> Bucketed<Shuffled>>> = vec![
        Box::new(|| Bucketed::by_length(order(), lengths(LEN), 8, 7).unwrap()),
        Box::new(|| Bucketed::by_length(order(), lengths(LEN), 8, 8).unwrap().window(20).unwrap()),
        Box::new(|| Bucketed::by_tokens(order(), lengths(LEN), 64, 7).unwrap()),
        Box::new(|| Bucketed::by_tokens(order(), lengths(LEN), 64, 7).unwrap().window(9).unwrap()),
    ];
    for make in makes {
        let planned = batched(&make(), 1);
        assert!(!planned.iter().map(|sample| sample.1).is_sorted());
        assert_eq!(planned.iter().copied().collect::<BTreeMap<_, _>>(), whole);
        let loader = |workers| drawing(Loader::builder(numbers(LEN)).batch_sampler(make()).workers(workers));
        assert_draws("buckets", loader, 1, &planned);
    }
    let rank = |rank| {
        let share = Distributed::new(order(), rank, 2, UnevenRanks::Pad).unwrap();
        Bucketed::by_tokens(share, lengths(LEN), 64, 7).unwrap()
    };
    let both = [batched(&rank(0), 1), batched(&rank(1), 1)].concat();
    assert_all_differ(&both, "buckets of two ranks");
    let whole_or_padding =
        |&(item, position): &(usize, u64)| whole[&item] == position || position >= LEN as u64;
    assert!(both.iter().all(whole_or_padding) && both.len() == LEN + 1);
}

#[test]
fn ranks_of_a_token_budget_have_equally_many_batches() {
    let lengths: Vec<u32> = lengths(1000);
    let batches = [0, 1].map(|rank| {
        let share = Distributed::new(Shuffled::new(1000, 7), rank, 2, UnevenRanks::Pad).unwrap();
        Bucketed::by_tokens(share, lengths.clone(), 256, 7).unwrap().batches(0)
    });
    assert_eq!(batches[0], batches[1]);
}

#[test]
fn contiguous_rows_draw_by_their_position() {
    let windows = || Windows::new((0..50usize).collect::<Vec<_>>(), 4, 5).unwrap();
    let expected: Vec<_> =
        (0..12).map(|position| (windows().batches().index(0, position), position as u64)).collect();
    let make = |workers| {
        let batches = windows().batches().clone();
        let first = firebox_data::dataset::Map::new(windows(), |window: Vec<usize>| {
            window[0] / 12 * 3 + window[0] % 12 / 5
        });
        drawing(Loader::builder(first).batch_sampler(batches).workers(workers))
    };
    assert_draws("contiguous batches", make, 2, &expected);
}

#[test]
fn slices_share_no_position_and_keep_those_of_an_order() {
    const LEN: usize = 30;
    let cuts = [0..11, 11..11, 11..20, 20..LEN];
    let bucketed = || Bucketed::by_length(Shuffled::new(LEN, 7), lengths(LEN), 4, 7).unwrap();
    type Make = Box<dyn Fn(usize) -> Drawn>;
    let makes: Vec<(&str, bool, Make)> = vec![
        (
            "in order",
            false,
            Box::new(|workers| drawing(Loader::builder(numbers(LEN)).batch_size(3).workers(workers))),
        ),
        (
            "shuffled",
            false,
            Box::new(|workers| {
                drawing(Loader::builder(numbers(LEN)).shuffle(true).batch_size(3).workers(workers))
            }),
        ),
        ("an order", true, Box::new(|workers| of_sampler(LEN, Shuffled::new(LEN, 7), workers))),
        (
            "batches",
            true,
            Box::new(move |workers| {
                drawing(Loader::builder(numbers(LEN)).batch_sampler(bucketed()).workers(workers))
            }),
        ),
    ];
    for (what, keeps, make) in makes {
        let whole: BTreeMap<_, _> = pairs(make(0).epoch(1)).into_iter().collect();
        let mut all = Vec::new();
        for cut in &cuts {
            let slice = make(0).slice(cut.clone()).unwrap();
            let drawn = pairs(slice.epoch(1));
            assert!(drawn.iter().all(|(item, _)| cut.contains(item)), "{what}");
            assert!(!keeps || drawn.iter().all(|(item, bits)| whole[item] == *bits), "{what}");
            for workers in WORKERS {
                let slice = make(workers).slice(cut.clone()).unwrap();
                assert_eq!(pairs(slice.epoch(1)), drawn, "{what}, {workers} workers");
                let mut begun = slice.epoch(1);
                let mut rest = pairs(begun.by_ref().take(1));
                rest.extend(pairs(slice.resume(&begun.state()).unwrap()));
                assert_eq!(rest, drawn, "{what}, resumed");
            }
            all.extend(drawn);
        }
        assert_all_differ(&all, what);
        assert_eq!(all.len(), LEN);
        // A slice of a slice lies where it lies in the whole.
        let twice = make(0).slice(11..LEN).unwrap().slice(9..LEN - 11).unwrap();
        assert_eq!(pairs(twice.epoch(1)), pairs(make(0).slice(20..LEN).unwrap().epoch(1)), "{what}");
    }
}

#[test]
fn data_sets_of_data_sets_draw_by_the_position() {
    // One item three times, in parts and by beginning again.
    let concat = |workers| {
        let twice = Concat::new(vec![numbers(4), numbers(2), numbers(4)]).unwrap();
        drawing(Loader::builder(twice).batch_size(3).workers(workers))
    };
    let expected: Vec<_> = [0, 1, 2, 3, 0, 1, 0, 1, 2, 3].into_iter().zip(0..).collect();
    assert_draws("concat", concat, 1, &expected);
    let mix = |workers| {
        let mix = Mix::new(vec![(numbers(2), 2), (numbers(3), 1)], 9).unwrap();
        drawing(Loader::builder(mix).batch_size(3).workers(workers))
    };
    let expected: Vec<_> = [0, 0, 1, 0, 1, 1, 0, 2, 1].into_iter().zip(0..).collect();
    assert_draws("mix", mix, 1, &expected);
}

/// Numbers of which some cannot be had, at first or at all.
struct Bad {
    lost: fn(usize) -> bool,
    once: Vec<AtomicBool>,
}

impl Bad {
    fn new(lost: fn(usize) -> bool) -> Self {
        Bad { lost, once: Vec::new() }
    }
}

impl Dataset for Bad {
    type Item = usize;

    fn get(&self, index: usize) -> Result<usize, BoxError> {
        let bad =
            (self.lost)(index) || self.once.get(index).is_some_and(|once| !once.swap(true, Ordering::SeqCst));
        match bad {
            true => Err(std::io::Error::other("bad sector").into()),
            false => Ok(index),
        }
    }

    fn len(&self) -> usize {
        24
    }
}

#[test]
fn a_substitute_draws_by_the_place_that_it_takes() {
    let policy = OnError::Replace { at_most: FailureBudget::Count(100) };
    let make = |workers| {
        let builder = Loader::builder(Bad::new(|index| index % 5 == 3));
        drawing(builder.shuffle(true).batch_size(6).on_error(policy).workers(workers))
    };
    let items: Vec<usize> = pairs(make(0).epoch(0)).into_iter().map(|draw| draw.0).collect();
    let order = Shuffled::new(24, SEED);
    let replaced = (0..24).filter(|&at| items[at] != order.index(0, at)).count();
    assert_eq!(replaced, 5);
    let expected: Vec<_> = items.into_iter().zip(0..).collect();
    assert_draws("replaced", make, 0, &expected);
    // A sample that is drawn again and again and cannot be had is not always replaced by the same one.
    let weights: Vec<f64> = (0..24).map(|index| if index == 3 { 100.0 } else { 1.0 }).collect();
    let sampler = Weighted::new(&weights, 600, 1).unwrap();
    let builder = Loader::builder(Bad::new(|index| index == 3)).sampler(sampler).batch_size(600);
    let loader =
        drawing(builder.on_error(OnError::Replace { at_most: FailureBudget::Count(600) }).workers(0));
    let mut epoch = loader.epoch(0);
    let drawn = pairs(epoch.by_ref());
    assert_all_differ(&drawn, "substitutes");
    let substitutes: BTreeSet<_> =
        epoch.report().failures.iter().map(|incident| format!("{:?}", incident.action)).collect();
    let report = epoch.report();
    assert!(report.failures.len() + report.more_failures > 400, "{report}");
    assert!(substitutes.len() > 3, "{substitutes:?}");
}

#[test]
fn each_try_of_a_sample_draws_the_same() {
    let policy = OnError::Fail;
    let make = |workers| {
        let once = (0..24).map(|_| AtomicBool::new(false)).collect();
        let builder = Loader::builder(Bad { lost: |_| false, once }).shuffle(true).batch_size(5);
        drawing(builder.on_error(policy).retry(Retry::io(1, Duration::ZERO)).workers(workers))
    };
    let loader = make(0);
    let mut epoch = loader.epoch(0);
    let drawn = pairs(epoch.by_ref());
    assert_eq!(epoch.report().failures.len(), 24);
    assert!(epoch.report().failures.iter().all(|incident| incident.action == Action::Retried(1)));
    let order = Shuffled::new(24, SEED);
    let expected: Vec<_> = (0..24).map(|at| (order.index(0, at), bits(0, at as u64))).collect();
    assert_eq!(drawn, expected);
    let planned: Vec<_> = (0..24).map(|at| (order.index(0, at), at as u64)).collect();
    assert_draws("tried again", make, 0, &planned);
}

#[test]
fn a_position_from_before_the_derivation_changed_is_refused_by_its_version() {
    let text = r#"{"version":1,"seed":21,"epoch":2,"batch":1,"faults":0,
        "fingerprint":"sequential(len 10), batches of 1 of a data set of 10"}"#;
    let state: LoaderState = serde_json::from_str(text).unwrap();
    let loader = drawing(Loader::builder(numbers(10)).workers(0));
    let expected = "the saved position is of another version: saved 1, here 2: there, a sample's random numbers followed \
                    from its index in the data set; now from its position in the epoch, so that what is left would not be \
                    augmented as it was begun";
    let error = loader.resume(&state).err().unwrap();
    assert_eq!((error.kind(), error.to_string().as_str()), (&ErrorKind::State, expected));
    assert_eq!(loader.check(&state).unwrap_err().to_string(), expected);
    assert_eq!(loader.state(2).version, 2);
    assert!(loader.state(2).fingerprint.ends_with(", stage write 0"), "{}", loader.state(2).fingerprint);

    let text = r#"{"version":1,"seed":5,"epoch":0,"batch":3,"faults":0,"stream":{"window":2,"cursor":
        {"next":1,"lanes":[{"shard":0,"record":20,"offset":160}],"turn":0,"given":4}},"fingerprint":"lines of 0 files"}"#;
    let state: LoaderState = serde_json::from_str(text).unwrap();
    let none: [&str; 0] = [];
    let stream = Loader::stream(Lines::new(none)).build((), |_, _, ()| Ok(())).unwrap();
    assert_eq!(stream.resume(&state).err().unwrap().to_string(), expected);
    assert_eq!(stream.state(0).version, 2);
    assert!(stream.state(0).fingerprint.ends_with(", stage write 0"));
    let fixed = FixedSize::new(Sequential::new(10), 3, false).unwrap();
    assert_eq!(batched(&fixed, 0), (0..10).zip(0..).collect::<Vec<_>>());
}

#[test]
fn a_position_with_a_field_that_says_something_unknown_is_refused() {
    let loader = drawing(Loader::builder(numbers(10)).workers(0));
    let mut saved = serde_json::to_value(loader.state(2)).unwrap();
    assert!(serde_json::from_value::<LoaderState>(saved.clone()).is_ok());
    saved["skipped"] = 3.into();
    let error = serde_json::from_value::<LoaderState>(saved).unwrap_err().to_string();
    assert!(error.starts_with("unknown field `skipped`"), "{error}");
}
