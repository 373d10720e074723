//! Shards that are dealt to ranks: by record where all can know the order, whole where not, and never so that
//! one rank takes a step that another doesn't.

use std::collections::BTreeSet;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use firebox_data::dataset::Records;
use firebox_data::elements::Elements;
use firebox_data::formats::Lines;
use firebox_data::loader::FailureBudget;
use firebox_data::sampler::UnevenRanks;
use firebox_data::{Error, ErrorKind, Loader, LoaderState, OnError, Pad, Scalar, Shards};

/// Shards of numbers: shard s has `lengths[s]` of them, which are 1000 s and up.
#[derive(Clone)]
struct Numbers {
    lengths: Arc<[u64]>,
    seekable: bool,
    counted: bool,
    /// The number at which its shard cannot be read on.
    broken: Option<u64>,
}

const LENGTHS: [u64; 7] = [40, 1, 0, 33, 16, 17, 100];

impl Numbers {
    fn new(lengths: &[u64]) -> Self {
        Numbers { lengths: lengths.into(), seekable: true, counted: true, broken: None }
    }

    fn forward_only(lengths: &[u64]) -> Self {
        Numbers { seekable: false, ..Self::new(lengths) }
    }
}

struct Reader {
    numbers: Numbers,
    shard: u64,
    record: u64,
}

impl Iterator for Reader {
    type Item = Result<u64, io::Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let number = 1000 * self.shard + self.record;
        if self.record == self.numbers.lengths[self.shard as usize] || self.numbers.broken == Some(number) {
            return None;
        }
        self.record += 1;
        Some(Ok(number))
    }
}

impl Records<u64, io::Error> for Reader {
    fn offset(&self) -> Option<u64> {
        self.numbers.seekable.then_some(8 * self.record)
    }
}

impl Shards for Numbers {
    type Record = u64;
    type Error = io::Error;

    fn shards(&self) -> usize {
        self.lengths.len()
    }

    fn open(&self, shard: usize, offset: u64) -> Result<Box<dyn Records<u64, io::Error>>, io::Error> {
        Ok(Box::new(Reader { numbers: self.clone(), shard: shard as u64, record: offset / 8 }))
    }

    fn records(&self, shard: usize) -> Option<u64> {
        self.counted.then(|| self.lengths[shard])
    }

    fn is_seekable(&self) -> bool {
        self.seekable
    }

    fn describe(&self) -> String {
        format!("numbers {:?}", self.lengths)
    }
}

#[derive(Clone, Copy)]
struct Order {
    window: Option<usize>,
    lanes: usize,
    batch: usize,
    drop_last: bool,
    uneven: UnevenRanks,
}

const ORDER: Order =
    Order { window: Some(20), lanes: 2, batch: 10, drop_last: false, uneven: UnevenRanks::Pad };

/// Any order of records, with the ends of ranks as they come.
fn orders() -> Vec<Order> {
    let mut orders = Vec::new();
    for window in [None, Some(1), Some(20), Some(1000)] {
        for lanes in [1, 3] {
            for batch in [1, 7, 64] {
                for drop_last in [false, true] {
                    orders.push(Order { window, lanes, batch, drop_last, uneven: UnevenRanks::Pad });
                }
            }
        }
    }
    orders
}

type Drawn = Loader<(Scalar<u64>, Scalar<u64>)>;
type Sampled = (u64, u64);

fn build(numbers: &Numbers, order: Order, rank: usize, world: usize) -> Result<Drawn, Error> {
    build_with(numbers, order, rank, world, None)
}

fn build_with(
    numbers: &Numbers,
    order: Order,
    rank: usize,
    world: usize,
    sum: Option<Arc<Sum>>,
) -> Result<Drawn, Error> {
    let Order { window, lanes, batch, drop_last, uneven } = order;
    let mut builder =
        Loader::stream(numbers.clone()).interleave(lanes).batch_size(batch).drop_last(drop_last);
    if let Some(window) = window {
        builder = builder.shuffle_window(window);
    }
    let mut builder = builder.seed(5).rank(rank, world).uneven_ranks(uneven).workers(rank % 3);
    if let Some(sum) = sum {
        builder = builder.sum_over_ranks(move |number| sum.of(number));
    }
    builder.build((Scalar::new(), Scalar::new()), |number, rng, (slot, bits)| {
        (*slot, *bits) = (number, rng.bits());
        Ok(())
    })
}

fn loader(numbers: &Numbers, order: Order, rank: usize, world: usize) -> Drawn {
    build(numbers, order, rank, world).unwrap()
}

fn delivered(
    epoch: impl Iterator<Item = Result<(Elements<u64>, Elements<u64>), Error>>,
) -> Vec<Vec<Sampled>> {
    epoch.map(Result::unwrap).map(|(numbers, bits)| numbers.into_iter().zip(bits).collect()).collect()
}

/// Joins what ranks have of each batch. They must have as many.
fn joined(ranks: &[Vec<Vec<Sampled>>]) -> Vec<Vec<Sampled>> {
    let counts: Vec<usize> = ranks.iter().map(Vec::len).collect();
    assert!(counts.iter().all(|&count| count == counts[0]), "the ranks have {counts:?} batches");
    (0..counts[0]).map(|batch| ranks.iter().flat_map(|rank| rank[batch].clone()).collect()).collect()
}

#[test]
fn counted_and_seekable_shards_are_dealt_by_record() {
    for lengths in [&LENGTHS[..], &[], &[0, 0], &[5]] {
        let numbers = Numbers::new(lengths);
        for order in orders().into_iter().step_by(if lengths.len() == 7 { 1 } else { 5 }) {
            let whole = delivered(loader(&numbers, order, 0, 1).epoch(1));
            // More ranks than shards, too.
            for world in [2, 3, 5, 9] {
                let loaders: Vec<Drawn> =
                    (0..world).map(|rank| loader(&numbers, order, rank, world)).collect();
                let ranks: Vec<_> = loaders.iter().map(|loader| delivered(loader.epoch(1))).collect();
                for (loader, batches) in loaders.iter().zip(&ranks) {
                    assert_eq!(loader.batches(1), Some(batches.len()));
                    assert_eq!(loader.samples(1), Some(batches.concat().len()));
                }
                assert_eq!(joined(&ranks), whole, "{world} ranks");
            }
        }
    }
}

#[test]
fn a_position_in_records_is_that_of_any_number_of_ranks() {
    let numbers = Numbers::new(&LENGTHS);
    for order in orders().into_iter().step_by(5) {
        let whole = delivered(loader(&numbers, order, 0, 1).epoch(0));
        for (before, after, stop) in [(2, 3, 1), (3, 1, 2), (1, 4, 3), (4, 4, whole.len())] {
            let mut begun = Vec::new();
            let mut states = BTreeSet::new();
            for rank in 0..before {
                let loader = loader(&numbers, order, rank, before);
                let mut epoch = loader.epoch(0);
                begun.push(delivered(epoch.by_ref().take(stop)));
                states.insert(serde_json::to_string(&epoch.state()).unwrap());
            }
            assert_eq!(states.len(), 1, "all ranks save one position");
            let state: LoaderState = serde_json::from_str(states.first().unwrap()).unwrap();
            let rest: Vec<_> = (0..after)
                .map(|rank| delivered(loader(&numbers, order, rank, after).resume(&state).unwrap()))
                .collect();
            assert_eq!([joined(&begun), joined(&rest)].concat(), whole, "{before} ranks, then {after}");
        }
    }
}

#[test]
fn shards_that_are_dealt_whole_end_together() {
    for lengths in [&LENGTHS[..], &[3; 9], &[0; 5], &[100, 0, 0, 0, 1]] {
        let numbers = Numbers::forward_only(lengths);
        let all: BTreeSet<u64> = (0..lengths.len() as u64)
            .flat_map(|shard| (0..lengths[shard as usize]).map(move |record| 1000 * shard + record))
            .collect();
        for order in orders().into_iter().step_by(5) {
            let whole: BTreeSet<Sampled> =
                delivered(loader(&numbers, order, 0, 1).epoch(1)).concat().into_iter().collect();
            for world in 2..=5 {
                for uneven in [UnevenRanks::Pad, UnevenRanks::Trim] {
                    let order = Order { uneven, ..order };
                    let loaders: Vec<Drawn> =
                        (0..world).map(|rank| loader(&numbers, order, rank, world)).collect();
                    let ranks: Vec<_> = loaders.iter().map(|loader| delivered(loader.epoch(1))).collect();
                    for (loader, batches) in loaders.iter().zip(&ranks) {
                        assert_eq!(loader.batches(1), Some(batches.len()));
                        assert_eq!(loader.samples(1), Some(batches.concat().len()));
                        assert_eq!(loader.why_empty(1).is_some(), batches.is_empty());
                    }
                    let together = joined(&ranks).concat();
                    let once: BTreeSet<u64> = together.iter().map(|sample| sample.0).collect();
                    assert_eq!(once.len(), together.len());
                    if !order.drop_last {
                        assert!(together.iter().all(|sample| whole.contains(sample)), "each draws its own");
                    }
                    match uneven {
                        UnevenRanks::Pad if !order.drop_last => assert_eq!(once, all),
                        UnevenRanks::Pad => {}
                        // None goes on without the others.
                        UnevenRanks::Trim => {
                            let full = |batch: &Vec<Sampled>| batch.len() == order.batch;
                            let short = ranks.iter().filter(|rank| !rank.iter().all(full)).count();
                            assert!(!order.drop_last || short == 0);
                            assert!(ranks.iter().all(|rank| rank.iter().rev().skip(1).all(full)));
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn any_rank_goes_on_from_any_rank_s_position_in_its_own_shards() {
    let numbers = Numbers::forward_only(&LENGTHS);
    for order in orders().into_iter().step_by(5) {
        for uneven in [UnevenRanks::Pad, UnevenRanks::Trim] {
            let order = Order { uneven, ..order };
            let whole: Vec<_> =
                (0..3).map(|rank| delivered(loader(&numbers, order, rank, 3).epoch(0))).collect();
            for stop in [0, 1, whole[0].len() / 2, whole[0].len()] {
                for saver in 0..3 {
                    let saving = loader(&numbers, order, saver, 3);
                    let mut epoch = saving.epoch(0);
                    epoch.by_ref().take(stop).for_each(drop);
                    let text = serde_json::to_string(&epoch.state()).unwrap();
                    let state: LoaderState = serde_json::from_str(&text).unwrap();
                    for (rank, whole) in whole.iter().enumerate() {
                        let rest = delivered(loader(&numbers, order, rank, 3).resume(&state).unwrap());
                        assert_eq!(
                            rest,
                            whole[stop.min(whole.len())..],
                            "rank {rank} from {saver}, after {stop}"
                        );
                    }
                }
            }
        }
    }
    let state = loader(&numbers, ORDER, 1, 3).state(0);
    let error = loader(&numbers, ORDER, 1, 2).resume(&state).err().unwrap();
    assert_eq!(*error.kind(), ErrorKind::State);
    let text = error.to_string();
    assert!(text.contains("dealt whole to 3 ranks") && text.contains("dealt whole to 2 ranks"), "{text}");
    assert!(loader(&numbers, ORDER, 0, 1).resume(&state).is_err(), "alone there is another order");
}

#[test]
fn shards_that_ranks_cannot_share_are_refused_when_the_loader_is_built() {
    let refused = |numbers: Numbers, world| {
        let error = build(&numbers, ORDER, 1, world).err().unwrap();
        assert_eq!(*error.kind(), ErrorKind::Config);
        error.to_string()
    };
    assert_eq!(
        refused(Numbers::forward_only(&[4, 5, 6]), 4),
        "rank: expected at least 4 shards for 4 ranks, got 3, which are dealt whole, since they cannot be opened in their middle"
    );
    assert_eq!(
        refused(Numbers { counted: false, ..Numbers::new(&[4, 5, 6]) }, 4),
        "rank: expected at least 4 shards for 4 ranks, got 3, which are dealt whole, since shard 0 does not know its records"
    );
    assert_eq!(
        refused(Numbers { counted: false, ..Numbers::new(&[4, 5, 6]) }, 2),
        "rank: expected shards that know their records, or a sum over ranks, so that 2 ranks end together, got shard 0, \
         which does not"
    );
    let error = build(&Numbers::new(&[4]), ORDER, 3, 3).err().unwrap();
    assert_eq!(error.to_string(), "rank: expected a number below the world's size 3, got 3");
    // Whoever is alone knows when it ends.
    let alone = Numbers { counted: false, ..Numbers::forward_only(&[4, 5, 6]) };
    assert_eq!(delivered(loader(&alone, ORDER, 0, 1).epoch(0)).concat().len(), 15);
}

#[test]
fn ranks_of_shards_pad_to_a_width_that_is_set() {
    for numbers in [Numbers::new(&LENGTHS), Numbers::forward_only(&LENGTHS)] {
        let build = |rank, world, layout: Pad<u64>| {
            let builder = Loader::stream(numbers.clone()).batch_size(7).workers(0).rank(rank, world);
            builder.build(layout, |number: u64, _, sequence| {
                sequence.extend((0..number % 5).map(|_| number));
                Ok(())
            })
        };
        // What other ranks have of a batch nobody here has seen.
        let error = build(1, 2, Pad::with(0)).err().unwrap();
        assert_eq!(*error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("that 2 ranks pad their parts of a batch to"), "{error}");
        assert!(build(0, 1, Pad::with(0)).is_ok());
        for rank in 0..2 {
            let loader = build(rank, 2, Pad::with(0).to(6)).unwrap();
            assert!(loader.epoch(0).all(|batch| batch.unwrap().longest == 6));
        }
        let short = build(0, 2, Pad::with(0).to(3)).unwrap();
        let error = short.epoch(0).find_map(Result::err).unwrap();
        assert_eq!(*error.kind(), ErrorKind::Collate);
        assert!(error.to_string().contains("expected a sequence of at most 3 values, got 4"), "{error}");
    }
}

#[test]
fn a_shard_that_breaks_off_stops_all_ranks() {
    let numbers = Numbers { broken: Some(3020), ..Numbers::new(&LENGTHS) };
    let order = Order { window: None, lanes: 1, batch: 10, ..ORDER };
    for world in 1..=4 {
        let mut steps = BTreeSet::new();
        for rank in 0..world {
            let loader = loader(&numbers, order, rank, world);
            let mut epoch = loader.epoch(0);
            let before = epoch.by_ref().take_while(Result::is_ok).count();
            assert!(epoch.next().is_none());
            steps.insert(before);
        }
        assert_eq!(steps.len(), 1, "{world} ranks stop after {steps:?} batches");
    }
}

#[test]
fn records_that_are_skipped_shift_no_rank() {
    let numbers = Numbers::new(&LENGTHS);
    let skipping = |rank, world| {
        let builder = Loader::stream(numbers.clone()).batch_size(4).rank(rank, world).workers(rank % 3);
        let built = builder.on_error(OnError::Skip { at_most: FailureBudget::Count(1000) }).build(
            (Scalar::<u64>::new(), Scalar::<u64>::new()),
            |number: u64, rng, (slot, bits)| {
                // Whole batches, and parts of others.
                if number % 10 < 7 {
                    return Err("bad".into());
                }
                (*slot, *bits) = (number, rng.bits());
                Ok(())
            },
        );
        built.unwrap()
    };
    let whole = delivered(skipping(0, 1).epoch(0)).concat();
    for world in 2..=5 {
        let ranks: Vec<_> = (0..world).map(|rank| delivered(skipping(rank, world).epoch(0))).collect();
        let together = joined(&ranks);
        assert_eq!((together.len(), together.concat()), (52, whole.clone()));
    }
}

#[test]
fn a_position_that_was_saved_when_it_named_a_rank_is_still_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.txt");
    std::fs::write(&file, "one\ntwo\nthree\nfour\nfive\n").unwrap();
    let loader = Loader::stream(Lines::new([&file])).batch_size(2).workers(0);
    let loader = loader.build((), |_, _, ()| Ok(())).unwrap();
    let mut epoch = loader.epoch(0);
    epoch.next().unwrap().unwrap();
    let mut state = epoch.state();
    assert!(!state.fingerprint.contains("rank"), "{}", state.fingerprint);
    state.fingerprint = state.fingerprint.replace(" taking turns,", " taking turns, rank 0 of 1,");
    state.data = None;
    assert_eq!(loader.resume(&state).unwrap().map(Result::unwrap).sum::<usize>(), 3);
}

/// A sum over threads that are ranks.
struct Sum {
    barrier: Barrier,
    sum: AtomicUsize,
    calls: AtomicUsize,
}

impl Sum {
    fn new(world: usize) -> Arc<Self> {
        Arc::new(Sum { barrier: Barrier::new(world), sum: AtomicUsize::new(0), calls: AtomicUsize::new(0) })
    }

    fn of(&self, number: usize) -> Result<usize, firebox_data::BoxError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.sum.fetch_add(number, Ordering::SeqCst);
        self.barrier.wait();
        let sum = self.sum.load(Ordering::SeqCst);
        if self.barrier.wait().is_leader() {
            self.sum.store(0, Ordering::SeqCst);
        }
        self.barrier.wait();
        Ok(sum)
    }
}

#[test]
fn ranks_that_cannot_count_tell_each_other_when_they_end() {
    for lengths in [&LENGTHS[..], &[3; 9], &[0; 5], &[100, 0, 0, 0, 1]] {
        let counted = Numbers::forward_only(lengths);
        let uncounted = Numbers { counted: false, ..counted.clone() };
        for order in orders().into_iter().step_by(7) {
            for (world, uneven) in [(2, UnevenRanks::Pad), (3, UnevenRanks::Trim), (3, UnevenRanks::Pad)] {
                let order = Order { uneven, ..order };
                let expected: Vec<_> =
                    (0..world).map(|rank| delivered(loader(&counted, order, rank, world).epoch(1))).collect();
                let steps = expected[0].len();
                for stop in [0, 1, steps].into_iter().filter(|&stop| stop <= steps) {
                    let sum = Sum::new(world);
                    // A thread a rank: to the stop, and from the position of the next rank to the end.
                    let (sum, uncounted) = (&sum, &uncounted);
                    let begin = move |rank| {
                        let sum = Some(Arc::clone(sum));
                        let loader = build_with(uncounted, order, rank, world, sum).unwrap();
                        assert_eq!((loader.batches(1), loader.samples(1)), (None, None));
                        let mut epoch = loader.epoch(1);
                        let begun = delivered(epoch.by_ref().take(stop));
                        (begun, epoch.state())
                    };
                    let begun: Vec<_> = thread::scope(|scope| {
                        let ranks: Vec<_> = (0..world).map(|rank| scope.spawn(move || begin(rank))).collect();
                        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
                    });
                    let begun = &begun;
                    let end = move |rank: usize| {
                        let sum = Some(Arc::clone(sum));
                        let loader = build_with(uncounted, order, rank, world, sum).unwrap();
                        let state = &begun[(rank + 1) % world].1;
                        delivered(loader.resume(state).unwrap())
                    };
                    let ended: Vec<_> = thread::scope(|scope| {
                        let ranks: Vec<_> = (0..world).map(|rank| scope.spawn(move || end(rank))).collect();
                        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
                    });
                    for (rank, expected) in expected.iter().enumerate() {
                        let all = [begun[rank].0.clone(), ended[rank].clone()].concat();
                        assert_eq!(all, *expected, "rank {rank} of {world}, {uneven:?}, after {stop}");
                    }
                    let asked = sum.calls.load(Ordering::SeqCst);
                    // Whoever stops in the middle says so.
                    let stopped = usize::from(stop > 0);
                    assert_eq!(
                        asked,
                        world * (steps + 1 + stopped),
                        "once a batch, once at the end, and once where it was dropped"
                    );
                }
            }
        }
    }
}

#[test]
fn ranks_that_cannot_tell_each_other_anything_stop_with_an_error() {
    let numbers = Numbers { counted: false, ..Numbers::new(&LENGTHS) };
    type Sums = fn(usize) -> Result<usize, firebox_data::BoxError>;
    let broken: [(Sums, &str); 2] = [
        (
            |_| Err("the network is gone".into()),
            "the ranks could not tell each other whether they go on: the network is gone",
        ),
        (|_| Ok(3), "sum over ranks: expected 1..=2, got 3"),
    ];
    for (sum, expected) in broken {
        let loader = Loader::stream(numbers.clone()).rank(1, 2).batch_size(9).workers(1).sum_over_ranks(sum);
        let loader = loader.build((), |_, _, ()| Ok(())).unwrap();
        let mut epoch = loader.epoch(0);
        assert_eq!(epoch.next().unwrap().unwrap_err().to_string(), expected);
        assert!(epoch.next().is_none());
        assert_eq!(epoch.state().batch, 0);
    }
}

/// Long enough for anything that doesn't hang.
const AGES: Duration = Duration::from_secs(60);

/// Runs each rank in a thread of its own, and fails if one of them doesn't end.
fn of_ranks<T: Send + 'static>(world: usize, rank: impl Fn(usize) -> T + Send + Sync + 'static) -> Vec<T> {
    let rank = Arc::new(rank);
    let threads: Vec<_> = (0..world)
        .map(|number| {
            let (rank, (ended, end)) = (Arc::clone(&rank), mpsc::channel());
            thread::spawn(move || ended.send(rank(number)));
            end
        })
        .collect();
    threads
        .iter()
        .map(|end| end.recv_timeout(AGES).expect("a rank waits for ever, or has panicked"))
        .collect()
}

/// A sum that counts how often each rank asks.
fn counted_sum(world: usize) -> (Arc<Sum>, Arc<Vec<AtomicUsize>>) {
    (Sum::new(world), Arc::new((0..world).map(|_| AtomicUsize::new(0)).collect()))
}

/// How a rank ends before its data do.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Early {
    Error,
    Budget,
    Dropped,
    Panics,
}

#[test]
fn a_rank_that_ends_early_ends_all_and_is_named() {
    // Each rank has two of these shards: batches of ten, of which the fourth is the last one of all.
    const LENGTHS: [u64; 6] = [20, 20, 20, 20, 20, 20];
    const WORLD: usize = 3;
    let numbers = Numbers { counted: false, ..Numbers::forward_only(&LENGTHS) };
    for early in [Early::Error, Early::Budget, Early::Dropped, Early::Panics] {
        for (who, steps) in [(vec![1], 0), (vec![2], 1), (vec![0], 3), (vec![0, 2], 2), (vec![0, 1, 2], 1)] {
            if early != Early::Error && early != Early::Budget && steps == 0 {
                continue;
            }
            let (sum, calls) = counted_sum(WORLD);
            let (numbers, gone, counts) = (numbers.clone(), who.clone(), Arc::clone(&calls));
            let heard = of_ranks(WORLD, move |rank| {
                let (sum, counts) = (Arc::clone(&sum), Arc::clone(&counts));
                let (made, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
                let failures = if early == Early::Budget { 2 } else { 1 };
                let bad = gone.contains(&rank) && [Early::Error, Early::Budget].contains(&early);
                let policy = match early {
                    Early::Budget => OnError::Skip { at_most: FailureBudget::Count(1) },
                    _ => OnError::Fail,
                };
                let loader = Loader::stream(numbers.clone())
                    .rank(rank, WORLD)
                    .batch_size(10)
                    .workers(0)
                    .on_error(policy)
                    .sum_over_ranks(move |number| {
                        counts[rank].fetch_add(1, Ordering::SeqCst);
                        sum.of(number)
                    })
                    .build(Scalar::new(), move |number: u64, _, slot| {
                        // In the first epoch alone: the last records of a batch.
                        let made = made.fetch_add(1, Ordering::SeqCst);
                        let last = made / 10 == steps && made % 10 >= 8;
                        if bad && last && failed.fetch_add(1, Ordering::SeqCst) < failures {
                            return Err("bad".into());
                        }
                        *slot = number;
                        Ok(())
                    })
                    .unwrap();
                let mut epoch = loader.epoch(0);
                let leaves = gone.contains(&rank) && [Early::Dropped, Early::Panics].contains(&early);
                let mut taken = 0;
                let error = loop {
                    if leaves && taken == steps {
                        break None;
                    }
                    match epoch.next() {
                        Some(Ok(_)) => taken += 1,
                        Some(Err(error)) => break Some((error.kind().clone(), error.to_string())),
                        None => break Some((ErrorKind::Ranks, "ended".to_owned())),
                    }
                };
                assert_eq!(epoch.state().batch, taken, "what was not delivered comes again");
                let panicked = catch_unwind(AssertUnwindSafe(move || {
                    let _epoch = epoch;
                    assert!(!leaves || early != Early::Panics, "a rank's own trouble");
                }));
                assert_eq!(panicked.is_err(), leaves && early == Early::Panics);
                // The next epoch is nobody's business but its own.
                let again: usize = loader.epoch(1).map(|batch| batch.unwrap().len()).sum();
                (taken, error, again)
            });
            let case = format!("{early:?} of {who:?} after {steps}");
            for (rank, (taken, error, again)) in heard.into_iter().enumerate() {
                assert_eq!((taken, again), (steps, 40), "rank {rank}, {case}");
                let Some((kind, text)) = error else { continue };
                if who.contains(&rank) {
                    assert_eq!(kind, ErrorKind::Transform, "its own error, {case}");
                    continue;
                }
                let named =
                    if let [one] = who[..] { format!("rank {one}") } else { format!("{} ranks", who.len()) };
                let expected = format!(
                    "epoch 0: expected all 3 ranks to go on, got {named} gone: the epoch ended there by an error, or was \
                     dropped"
                );
                assert_eq!((kind, text), (ErrorKind::Ranks, expected), "{case}");
            }
            let calls: Vec<usize> = calls.iter().map(|calls| calls.load(Ordering::SeqCst)).collect();
            // Those of the first epoch, and five of the second.
            assert_eq!(calls, [steps + 1 + 5; WORLD], "{case}");
        }
    }
}

#[test]
fn who_only_looks_for_a_batch_asks_no_rank() {
    let numbers = Numbers { counted: false, ..Numbers::forward_only(&[20, 20]) };
    let asked = Arc::new(AtomicUsize::new(0));
    let counts = Arc::clone(&asked);
    // Alone in fact: what it says is what all have said, and the other rank has a batch.
    let sum = move |number| {
        counts.fetch_add(1, Ordering::SeqCst);
        Ok(if number > 1 { number } else { number + 1 })
    };
    let loader = Loader::stream(numbers).rank(0, 2).batch_size(10).workers(1).sum_over_ranks(sum);
    let loader = loader.build((), |_, _, ()| Ok(())).unwrap();
    // An epoch of which no batch was asked for is no part of anything.
    drop(loader.epoch(0));
    assert_eq!(asked.load(Ordering::SeqCst), 0);
    let mut epoch = loader.epoch(0);
    for taken in 1..=2 {
        for _ in 0..100 {
            assert!(epoch.try_next().is_pending());
        }
        assert_eq!(epoch.next().unwrap().unwrap(), 10);
        assert_eq!(asked.load(Ordering::SeqCst), taken);
    }
    drop(epoch);
    assert_eq!(asked.load(Ordering::SeqCst), 3, "it was dropped before its end");
    let failing = Arc::new(AtomicUsize::new(0));
    let counts = Arc::clone(&failing);
    let numbers = Numbers { counted: false, ..Numbers::forward_only(&[20, 20]) };
    let loader = Loader::stream(numbers).rank(0, 2).workers(0).sum_over_ranks(move |_| {
        counts.fetch_add(1, Ordering::SeqCst);
        Err("the network is gone".into())
    });
    let loader = loader.build((), |_, _, ()| Ok(())).unwrap();
    let mut epoch = loader.epoch(0);
    assert!(epoch.next().unwrap().is_err() && matches!(epoch.try_next(), Poll::Ready(None)));
    drop(epoch);
    assert_eq!(failing.load(Ordering::SeqCst), 1, "nobody is there to be told");
}
