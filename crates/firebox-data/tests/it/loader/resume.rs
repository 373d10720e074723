//! A position saved at any moment, and the epoch that goes on from it: nothing comes twice, nothing is
//! missing.

use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex, Once};
use std::thread;
use std::time::Duration;

use firebox_data::collate::Stacked;
use firebox_data::elements::Elements;
use firebox_data::loader::{Action, FailureBudget};
use firebox_data::{BoxError, Dataset, Error, ErrorKind, Loader, LoaderState, OnError, Scalar, Stack};

/// A multiple of no batch size.
const LEN: usize = 97;
const SIZE: usize = 8;
const BATCHES: usize = 13;

/// Numbers, of which some cannot be read and some are held back.
struct Numbers {
    len: usize,
    bad: Vec<usize>,
    held: Vec<usize>,
    door: Arc<Door>,
}

impl Numbers {
    fn good(len: usize) -> Self {
        Numbers { len, bad: Vec::new(), held: Vec::new(), door: Arc::default() }
    }
}

impl Dataset for Numbers {
    type Item = usize;

    fn get(&self, index: usize) -> Result<usize, BoxError> {
        if self.held.contains(&index) {
            self.door.wait();
        }
        match self.bad.contains(&index) {
            true if index.is_multiple_of(2) => panic!("bad sector"),
            true => Err(std::io::Error::other("bad sector").into()),
            false => Ok(index),
        }
    }

    fn len(&self) -> usize {
        self.len
    }
}

/// A door that holds samples back until it is opened.
#[derive(Default)]
struct Door {
    open: Mutex<bool>,
    opened: Condvar,
}

impl Door {
    fn wait(&self) {
        let open = self.open.lock().unwrap();
        drop(self.opened.wait_while(open, |open| !*open).unwrap());
    }

    fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }
}

/// Opens a door when the test ends, however it ends: a loader waits for its threads.
struct Opens(Arc<Door>);

impl Drop for Opens {
    fn drop(&mut self) {
        self.0.open();
    }
}

/// Panics of workers are what some tests provoke: only others are worth reading.
fn quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let by_worker = thread::current().name().is_some_and(|name| name.starts_with("firebox-load"));
            if !by_worker {
                print(info);
            }
        }));
    });
}

type Noisy = (Stack<u64, 1>, Scalar<usize>);
type Batch = (Stacked<u64, 1>, Elements<usize>);

/// Settings that may differ between the loader that a state was taken from and the one that goes on.
#[derive(Clone, Copy, Debug)]
struct Setup {
    workers: usize,
    prefetch: Option<usize>,
    readers: Option<usize>,
    prefetch_bytes: Option<usize>,
    as_completed: bool,
}

const fn workers(workers: usize) -> Setup {
    Setup { workers, prefetch: None, readers: None, prefetch_bytes: None, as_completed: false }
}

const SETUPS: [Setup; 9] = [
    workers(0),
    workers(1),
    workers(3),
    Setup { prefetch: Some(1), ..workers(1) },
    Setup { prefetch: Some(20), ..workers(3) },
    Setup { prefetch_bytes: Some(1), ..workers(2) },
    Setup { readers: Some(1), ..workers(2) },
    Setup { readers: Some(3), prefetch: Some(2), ..workers(1) },
    Setup { workers: 5, ..workers(0) },
];

/// A loader in random order, whose samples hold their number and random bits.
fn loader_of(dataset: Numbers, policy: OnError, shuffle: bool, setup: Setup) -> Loader<Noisy> {
    let mut builder = Loader::builder(dataset)
        .shuffle(shuffle)
        .seed(7)
        .batch_size(SIZE)
        .on_error(policy)
        .as_completed(setup.as_completed)
        .workers(setup.workers);
    if let Some(prefetch) = setup.prefetch {
        builder = builder.prefetch(prefetch);
    }
    if let Some(readers) = setup.readers {
        builder = builder.readers(readers);
    }
    if let Some(bytes) = setup.prefetch_bytes {
        builder = builder.prefetch_bytes(bytes);
    }
    builder
        .build((Stack::new([2]), Scalar::new()), |number, rng, (noise, slot)| {
            noise.fill_with(|| rng.bits());
            *slot = number;
            Ok(())
        })
        .unwrap()
}

fn loader(setup: Setup) -> Loader<Noisy> {
    loader_of(Numbers::good(LEN), OnError::Fail, true, setup)
}

fn all(epoch: impl Iterator<Item = Result<Batch, Error>>) -> Vec<Batch> {
    epoch.map(Result::unwrap).collect()
}

/// The state as a file would give it back.
fn through_json(state: &LoaderState) -> LoaderState {
    let text = serde_json::to_string(state).unwrap();
    assert!(text.len() < 600, "{} bytes: {text}", text.len());
    let back = serde_json::from_str(&text).unwrap();
    assert_eq!(state, &back);
    back
}

#[test]
fn a_resume_after_any_batch_gives_the_tail_of_the_uninterrupted_epoch() {
    let expected = all(loader(workers(0)).epoch(2));
    assert_eq!(expected.len(), BATCHES);
    let after: Vec<_> = SETUPS.into_iter().map(|setup| (setup, loader(setup))).collect();
    for before in [workers(0), workers(1), workers(3)] {
        let first = loader(before);
        for stop in [0, 1, 6, BATCHES - 1, BATCHES] {
            let mut epoch = first.epoch(2);
            assert_eq!(all(epoch.by_ref().take(stop)), expected[..stop]);
            let state = through_json(&epoch.state());
            assert_eq!((state.batch, state.ahead.len(), state.faults), (stop, 0, 0));
            // The consumer's end, with whatever was made ahead of it, is no business of the state.
            drop(epoch);
            for (setup, second) in &after {
                let mut rest = second.resume(&state).unwrap();
                assert_eq!(rest.size_hint(), (0, Some(BATCHES - stop)));
                assert_eq!(all(rest.by_ref()), expected[stop..], "after {stop}, {before:?} → {setup:?}");
                assert_eq!((rest.state().batch, rest.next().is_none()), (BATCHES, true));
            }
        }
    }
}

#[test]
fn a_state_taken_twice_is_the_same_and_to_take_it_changes_nothing() {
    let expected = all(loader(workers(0)).epoch(1));
    for setup in [workers(0), workers(3), SETUPS[4], SETUPS[6]] {
        let loader = loader(setup);
        let mut epoch = loader.epoch(1);
        for (delivered, batch) in expected.iter().enumerate() {
            let state = epoch.state();
            assert_eq!((&epoch.state(), state.batch), (&state, delivered));
            let resumed = loader.resume(&state).unwrap();
            assert_eq!(resumed.state(), state, "a resumed epoch stands where its state was taken");
            drop(resumed);
            assert_eq!(&epoch.next().unwrap().unwrap(), batch);
        }
        assert!(epoch.next().is_none());
        let end = epoch.state();
        assert_eq!((epoch.state(), end.batch), (end.clone(), BATCHES));
        assert!(loader.resume(&end).unwrap().next().is_none());
        assert_eq!(loader.state(3), loader.epoch(3).state(), "the start of an epoch");
    }
}

#[test]
fn every_epoch_after_a_resume_is_whole() {
    let reference = loader(workers(0));
    for setup in [workers(0), workers(1), workers(3), SETUPS[3], SETUPS[7]] {
        for stop in [1, BATCHES] {
            let mut epoch = reference.epoch(4);
            epoch.by_ref().take(stop).for_each(drop);
            let loader = loader(setup);
            assert_eq!(all(loader.resume(&epoch.state()).unwrap()), all(epoch));
            for next in 5..7 {
                let batches = all(loader.epoch(next));
                assert_eq!(batches, all(reference.epoch(next)), "{setup:?}");
                let numbers: BTreeSet<usize> = batches.into_iter().flat_map(|(_, numbers)| numbers).collect();
                assert!(numbers.into_iter().eq(0..LEN));
            }
        }
    }
}

#[test]
fn two_loaders_and_two_epochs_of_one_loader_know_nothing_of_each_other() {
    let expected = [all(loader(workers(0)).epoch(0)), all(loader(workers(0)).epoch(1))];
    let (one, two) = (loader(workers(3)), loader(workers(1)));
    let mut streams = [(one.epoch(0), 0), (two.epoch(1), 1), (one.epoch(1), 1), (two.epoch(0), 0)];
    for delivered in 1..=BATCHES {
        for (epoch, number) in &mut streams {
            assert_eq!(epoch.next().unwrap().unwrap(), expected[*number][delivered - 1]);
            assert_eq!(epoch.state().batch, delivered);
        }
    }
    // Nor if threads of their own consume them.
    thread::scope(|scope| {
        for consumer in 0..4 {
            let (one, two, expected) = (&one, &two, &expected);
            scope.spawn(move || {
                let loader = if consumer % 2 == 0 { one } else { two };
                for stop in [0, 5, BATCHES] {
                    let number = (consumer + stop) % 2;
                    let mut epoch = loader.epoch(number as u64);
                    assert_eq!(all(epoch.by_ref().take(stop)), expected[number][..stop]);
                    let state = epoch.state();
                    drop(epoch);
                    assert_eq!(all(loader.resume(&state).unwrap()), expected[number][stop..]);
                }
            });
        }
    });
}

#[test]
fn from_a_sparse_snapshot_the_epoch_goes_on_as_it_did() {
    let expected = all(loader(workers(0)).epoch(0));
    for (before, after) in [(workers(0), workers(3)), (workers(3), SETUPS[7]), (SETUPS[6], workers(0))] {
        let (first, second) = (loader(before), loader(after));
        for crash in [0, 3, 6, 7, 8, BATCHES] {
            let mut epoch = first.epoch(0);
            let (mut saved, mut state) = (0, through_json(&epoch.state()));
            for (place, batch) in expected[..crash].iter().enumerate() {
                assert_eq!(&epoch.next().unwrap().unwrap(), batch);
                // Every seventh batch only: what is delivered after it is lost with the process.
                if (place + 1) % 7 == 0 {
                    (saved, state) = (place + 1, through_json(&epoch.state()));
                }
            }
            drop(epoch);
            assert_eq!(saved, crash / 7 * 7);
            assert_eq!(all(second.resume(&state).unwrap()), expected[saved..], "crash after {crash}");
        }
    }
}

#[test]
fn a_run_that_is_killed_again_and_again_still_sees_every_batch_once() {
    let expected: Vec<Batch> = (0..3).flat_map(|epoch| all(loader(workers(0)).epoch(epoch))).collect();
    for stride in 1..=5 {
        let mut seen = Vec::new();
        let mut state = loader(workers(0)).state(0);
        for life in 0.. {
            // Each life has another setup, and ends after a few batches.
            let loader = loader(SETUPS[life % SETUPS.len()]);
            let mut epoch = loader.resume(&state).unwrap();
            let batches = all(epoch.by_ref().take(stride));
            let through = batches.len() < stride;
            seen.extend(batches);
            state = through_json(&epoch.state());
            if through {
                state = loader.state(state.epoch + 1);
            }
            if state.epoch == 3 {
                break;
            }
        }
        assert_eq!(seen, expected, "killed every {stride} batches");
    }
}

#[test]
fn faults_are_met_again_in_a_resumed_epoch_and_not_counted_twice() {
    quiet();
    // Single ones, two in one batch's worth of numbers, and the first and last.
    let bad = vec![0, 17, 18, 50, 51, 52, LEN - 1];
    for policy in [
        OnError::Skip { at_most: FailureBudget::Count(bad.len()) },
        OnError::Replace { at_most: FailureBudget::Count(bad.len()) },
    ] {
        let loader = |setup| {
            let dataset = Numbers { bad: bad.clone(), ..Numbers::good(LEN) };
            loader_of(dataset, policy, true, setup)
        };
        let reference = loader(workers(0));
        let mut whole = reference.epoch(1);
        let expected = all(whole.by_ref());
        let incidents = |epoch: &firebox_data::loader::Epoch<'_, Noisy>| -> Vec<(usize, Action)> {
            let named = epoch.report().failures.iter();
            named.map(|incident| (incident.error.index().unwrap(), incident.action)).collect()
        };
        assert_eq!((incidents(&whole).len(), whole.state().faults), (bad.len(), bad.len()));
        let setups = [workers(0), workers(1), workers(3), SETUPS[6]];
        for before in [workers(0), workers(3)] {
            let first = loader(before);
            for after in setups {
                let second = loader(after);
                for stop in [0, 1, 7, expected.len()] {
                    let mut epoch = first.epoch(1);
                    assert_eq!(all(epoch.by_ref().take(stop)), expected[..stop]);
                    let state = through_json(&epoch.state());
                    assert_eq!(state.faults, incidents(&epoch).len());
                    let mut rest = second.resume(&state).unwrap();
                    assert_eq!(all(rest.by_ref()), expected[stop..], "{before:?} → {after:?} after {stop}");
                    let both: Vec<_> = incidents(&epoch).into_iter().chain(incidents(&rest)).collect();
                    assert_eq!(both, incidents(&whole));
                    assert_eq!(rest.state().faults, bad.len());
                }
            }
        }
    }
}

/// A loader in the data's own order, of which some samples are held back until the second value is told, or
/// dropped: before the first, which would wait for them.
fn held_back(len: usize, held: Vec<usize>, setup: Setup) -> (Loader<Noisy>, Opens) {
    let dataset = Numbers { held, ..Numbers::good(len) };
    let opens = Opens(Arc::clone(&dataset.door));
    (loader_of(dataset, OnError::Fail, false, setup), opens)
}

/// The number of a batch in an epoch that is not shuffled.
fn number((_, numbers): &Batch) -> usize {
    numbers[0] / SIZE
}

#[test]
fn as_they_complete_the_same_batches_come_in_every_epoch() {
    let reference = loader(workers(0));
    for setup in SETUPS {
        let loader = loader(Setup { as_completed: true, ..setup });
        for epoch in 0..2 {
            let (mut batches, mut expected) = (all(loader.epoch(epoch)), all(reference.epoch(epoch)));
            batches.sort_by_key(|(_, numbers)| numbers.clone());
            expected.sort_by_key(|(_, numbers)| numbers.clone());
            assert_eq!(batches, expected, "{setup:?}");
        }
    }
}

/// The position and the bitmap after these batches.
fn position(delivered: &BTreeSet<usize>) -> (usize, Vec<u64>) {
    let first = (0..).find(|batch| !delivered.contains(batch)).unwrap();
    let mut ahead = vec![0; delivered.last().map_or(0, |last| (last + 64).saturating_sub(first) / 64)];
    for batch in delivered.range(first..) {
        ahead[(batch - first) / 64] |= 1 << ((batch - first) % 64);
    }
    (first, ahead)
}

#[test]
fn a_state_out_of_order_has_just_the_batches_that_were_delivered() {
    let expected = all(loader_of(Numbers::good(LEN), OnError::Fail, false, workers(0)).epoch(0));
    let reading = Setup { readers: Some(3), ..workers(1) };
    for (threads, held) in [(workers(2), vec![0]), (workers(3), vec![5, 17]), (reading, vec![0, 40])] {
        let late: BTreeSet<usize> = held.iter().map(|index| index / SIZE).collect();
        let setup = Setup { as_completed: true, ..threads };
        let (loader, opens) = held_back(LEN, held, setup);
        let mut epoch = loader.epoch(0);
        let (mut delivered, mut states) = (BTreeSet::new(), vec![(BTreeSet::new(), epoch.state())]);
        for _ in 0..BATCHES - late.len() {
            let batch = epoch.next().unwrap().unwrap();
            assert_eq!(batch, expected[number(&batch)]);
            assert!(delivered.insert(number(&batch)) && !late.contains(&number(&batch)));
            let state = through_json(&epoch.state());
            assert_eq!((state.batch, state.ahead.clone()), position(&delivered), "{delivered:?}");
            states.push((delivered.clone(), state));
        }
        // All but those that are held back.
        assert_eq!(epoch.state().batch, *late.first().unwrap());
        assert!(!epoch.state().ahead.is_empty());
        opens.0.open();
        let rest: BTreeSet<usize> = epoch.by_ref().map(|batch| number(&batch.unwrap())).collect();
        assert_eq!(rest, late);
        assert_eq!((epoch.state().batch, epoch.state().ahead), (BATCHES, vec![]));
        for setup in [workers(0), workers(1), workers(3)] {
            for as_completed in [false, true] {
                let setup = Setup { as_completed, ..setup };
                let second = loader_of(Numbers::good(LEN), OnError::Fail, false, setup);
                for (delivered, state) in states.iter().step_by(3).chain(states.last()) {
                    let mut resumed = second.resume(state).unwrap();
                    assert_eq!(resumed.state(), *state);
                    assert_eq!(resumed.size_hint(), (0, Some(BATCHES - delivered.len())));
                    let batches = all(resumed.by_ref());
                    let order: Vec<usize> = batches.iter().map(number).collect();
                    let missing: Vec<usize> =
                        (0..BATCHES).filter(|batch| !delivered.contains(batch)).collect();
                    assert!(as_completed || order == missing, "{setup:?}: {order:?} of {missing:?}");
                    let once: BTreeSet<usize> = order.iter().copied().collect();
                    assert!(once.into_iter().eq(missing.iter().copied()) && order.len() == missing.len());
                    assert!(batches.iter().all(|batch| *batch == expected[number(batch)]));
                    assert_eq!((resumed.state().batch, resumed.state().ahead), (BATCHES, vec![]));
                }
            }
        }
    }
}

#[test]
fn a_resume_out_of_order_may_itself_be_interrupted_out_of_order() {
    let mut state = None;
    let mut delivered = BTreeSet::new();
    // Each life is held up at another batch, and delivers three others.
    for held in [0, 3, 1, 12] {
        let (loader, _opens) = held_back(LEN, vec![held * SIZE], Setup { as_completed: true, ..workers(2) });
        let mut epoch = match &state {
            None => loader.epoch(0),
            Some(state) => loader.resume(state).unwrap(),
        };
        for _ in 0..3 {
            let batch = number(&epoch.next().unwrap().unwrap());
            assert!(batch != held && delivered.insert(batch), "{batch} after {delivered:?}");
            assert_eq!((epoch.state().batch, epoch.state().ahead), position(&delivered));
        }
        state = Some(through_json(&epoch.state()));
    }
    let last = loader_of(Numbers::good(LEN), OnError::Fail, false, workers(1));
    for batch in last.resume(&state.unwrap()).unwrap() {
        assert!(delivered.insert(number(&batch.unwrap())));
    }
    assert!(delivered.into_iter().eq(0..BATCHES));
}

#[test]
fn out_of_order_too_faults_are_counted_with_the_batches_that_had_them() {
    quiet();
    let bad = vec![9, 10, 60, 90];
    for policy in [
        OnError::Skip { at_most: FailureBudget::Count(4) },
        OnError::Replace { at_most: FailureBudget::Count(4) },
    ] {
        let make = |held: Vec<usize>, setup| {
            let dataset = Numbers { bad: bad.clone(), held, ..Numbers::good(LEN) };
            let opens = Opens(Arc::clone(&dataset.door));
            (loader_of(dataset, policy, false, setup), opens)
        };
        let (reference, _) = make(vec![], workers(0));
        let expected = all(reference.epoch(0));
        let (first, _opens) = make(vec![12], Setup { as_completed: true, ..workers(2) });
        let mut epoch = first.epoch(0);
        // All but batch 1, which has two of the bad samples.
        let mut before: Vec<Batch> = all(epoch.by_ref().take(expected.len() - 1));
        let state = through_json(&epoch.state());
        assert_eq!((state.batch, state.faults), (1, 2));
        for as_completed in [false, true] {
            let (second, _) = make(vec![], Setup { as_completed, ..workers(3) });
            let mut rest = second.resume(&state).unwrap();
            assert_eq!(all(rest.by_ref()), expected[1..2]);
            assert_eq!(rest.state().faults, 4);
        }
        before.sort_by_key(number);
        let others = expected.iter().enumerate().filter(|(place, _)| *place != 1).map(|(_, batch)| batch);
        assert!(others.eq(&before));
    }
}

#[test]
fn delivery_runs_ahead_of_the_first_missing_batch_by_a_bound() {
    for (prefetch, bound) in [(2, 64), (100, 100)] {
        let len = 120 * SIZE;
        let setup = Setup { prefetch: Some(prefetch), as_completed: true, ..workers(2) };
        let (loader, opens) = held_back(len, vec![3], setup);
        let mut epoch = loader.epoch(0);
        let ahead: BTreeSet<usize> = (1..bound).map(|_| number(&epoch.next().unwrap().unwrap())).collect();
        assert!(ahead.into_iter().eq(1..bound), "prefetch {prefetch}");
        let state = through_json(&epoch.state());
        assert_eq!((state.batch, state.ahead.len()), (0, bound.div_ceil(64)));
        // The next one is the one that is held back: were the bound higher, another would come at once.
        let door = Arc::clone(&opens.0);
        let helper = thread::spawn(move || {
            thread::sleep(Duration::from_millis(150));
            door.open();
        });
        assert_eq!(number(&epoch.next().unwrap().unwrap()), 0, "prefetch {prefetch}");
        helper.join().unwrap();
        assert_eq!(epoch.state().batch, bound);
        let rest: BTreeSet<usize> = epoch.by_ref().map(|batch| number(&batch.unwrap())).collect();
        assert!(rest.into_iter().eq(bound..120));
        // The same bound holds behind a resume.
        let (loader, opens) = held_back(len, vec![3], setup);
        let mut epoch = loader.resume(&state).unwrap();
        let door = Arc::clone(&opens.0);
        let helper = thread::spawn(move || {
            thread::sleep(Duration::from_millis(150));
            door.open();
        });
        assert_eq!(number(&epoch.next().unwrap().unwrap()), 0, "prefetch {prefetch}");
        helper.join().unwrap();
    }
}

#[test]
fn with_one_batch_ahead_there_is_nothing_to_overtake() {
    let setup = Setup { prefetch: Some(1), as_completed: true, ..workers(3) };
    let loader = loader_of(Numbers::good(LEN), OnError::Fail, false, setup);
    let mut epoch = loader.epoch(0);
    for place in 0..BATCHES {
        assert_eq!(number(&epoch.next().unwrap().unwrap()), place);
        assert_eq!((epoch.state().batch, epoch.state().ahead), (place + 1, vec![]));
    }
}

#[test]
fn data_of_any_length_is_resumed_after_any_batch() {
    for len in 0..=2 * SIZE + 1 {
        let make = |setup| loader_of(Numbers::good(len), OnError::Fail, true, setup);
        let (reference, other) = (make(workers(0)), make(workers(2)));
        let expected = all(reference.epoch(0));
        for stop in 0..=expected.len() {
            let mut epoch = other.epoch(0);
            epoch.by_ref().take(stop).for_each(drop);
            assert_eq!(all(reference.resume(&epoch.state()).unwrap()), expected[stop..], "{len} items");
            assert_eq!(all(other.resume(&epoch.state()).unwrap()), expected[stop..], "{len} items");
        }
    }
}

#[test]
fn a_state_that_no_epoch_can_have_is_refused() {
    let loader = loader(workers(1));
    let state = loader.state(0);
    let beyond = |batch, ahead: &[u64]| {
        let mut state = state.clone();
        (state.batch, state.ahead) = (batch, ahead.to_vec());
        state
    };
    for state in [
        beyond(BATCHES + 1, &[]),
        beyond(usize::MAX, &[]),
        beyond(0, &[1 << BATCHES]),
        beyond(3, &[0, 1]),
        beyond(0, &[0; 0x100]),
        beyond(usize::MAX - 1, &[u64::MAX]),
    ] {
        match loader.resume(&state) {
            Err(error) => assert_eq!(error.kind(), &ErrorKind::State),
            // Words without a bit say nothing.
            Ok(epoch) => assert!(state.ahead.iter().all(|word| *word == 0) && epoch.count() == BATCHES),
        }
    }
    // The last ones are still possible.
    assert!(loader.resume(&beyond(BATCHES, &[])).unwrap().next().is_none());
    assert_eq!(loader.resume(&beyond(0, &[1 << (BATCHES - 1)])).unwrap().count(), BATCHES - 1);
}

#[test]
fn a_damaged_state_is_refused_and_never_half_believed() {
    let loader = loader(workers(0));
    let mut good = loader.state(1);
    (good.batch, good.ahead, good.faults) = (3, vec![0b10], 2);
    assert!(loader.check(&good).is_ok());
    assert_eq!((good.delivered(), good.has_delivered(4), good.has_delivered(3)), (4, true, false));
    type Damage<'d> = (&'d str, &'d dyn Fn(&mut LoaderState));
    let damages: [Damage<'_>; 10] = [
        ("version: saved 0, here 2", &|state| state.version = 0),
        ("version: saved 4294967295, here 2", &|state| state.version = u32::MAX),
        ("seed: saved 8, here 7", &|state| state.seed = 8),
        ("batch: saved 18446744073709551615, epoch 1 here has 13", &|state| state.batch = usize::MAX),
        ("batch: saved 14, epoch 1 here has 13", &|state| (state.batch, state.ahead) = (14, Vec::new())),
        ("batch: saved 3, and that it was delivered", &|state| state.ahead = vec![1]),
        ("batch: saved 13, epoch 1 here has 13", &|state| state.ahead = vec![1 << 10]),
        ("batch: saved 6400000002, epoch 1 here has 13", &|state| {
            state.ahead = vec![0; 100_000_000];
            state.ahead[99_999_999] = 1 << 63;
        }),
        ("faults: saved 98, epoch 1 here has 97 samples", &|state| state.faults = 98),
        ("faults: saved 18446744073709551615", &|state| state.faults = usize::MAX),
    ];
    for (expected, damage) in damages {
        let mut state = good.clone();
        damage(&mut state);
        let error = loader.resume(&state).err().unwrap();
        assert_eq!(error.kind(), &ErrorKind::State);
        assert!(error.to_string().contains(expected), "{error}");
        // Whoever only looks at it has no panic, either.
        let _ = (state.delivered(), state.has_delivered(usize::MAX));
    }
    // The last epoch of all, and zeros behind the last batch.
    let mut late = good;
    (late.epoch, late.batch, late.ahead) = (u64::MAX, BATCHES, vec![0; 5]);
    assert_eq!(loader.resume(&late).unwrap().count(), 0);
}
