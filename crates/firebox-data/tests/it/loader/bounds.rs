//! How far the loader runs ahead, what it keeps in memory, and that neither changes a byte.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use firebox_data::collate::{Padded, Ragged, Stacked};
use firebox_data::elements::Elements;
use firebox_data::loader::{FailureBudget, Indexed, LoaderBuilder};
use firebox_data::sampler::{Sampler, Shuffled};
use firebox_data::seed::StageKey;
use firebox_data::{BoxError, Dataset, ErrorKind, Loader, OnError, Pad, SampleRng, Scalar, Stack};

use super::Threads;

/// Long enough for anything that is not held up by what the test itself holds up.
const AGES: Duration = Duration::from_secs(30);

const SIZE: usize = 10;

/// Waits until `there` is true.
fn wait_until(what: &str, there: impl Fn() -> bool) {
    let begun = Instant::now();
    while !there() {
        assert!(begun.elapsed() < AGES, "{what} never came");
        thread::yield_now();
    }
}

const SOME: [Threads; 4] = [
    Threads { workers: 1, readers: None },
    Threads { workers: 2, readers: None },
    Threads { workers: 5, readers: None },
    Threads { workers: 1, readers: Some(2) },
];

type Numbers = LoaderBuilder<Indexed<Vec<usize>>>;

fn numbers(len: usize, Threads { workers, readers }: Threads) -> Numbers {
    let builder = Loader::builder((0..len).collect::<Vec<_>>()).workers(workers);
    match readers {
        Some(readers) => builder.readers(readers),
        None => builder,
    }
}

/// How many samples were made in all once nothing is left to do for an epoch that stands still.
///
/// Another epoch of the same loader, of `len` samples, is taken from its beginning to its end: workers take
/// tasks in the order in which they were handed out, so that all of the first epoch's have been taken by
/// then.
fn made_at_rest<C: firebox_data::Collate>(loader: &Loader<C>, made: &AtomicUsize, expected: usize) -> usize {
    wait_until("what may be made ahead", || made.load(Ordering::SeqCst) >= expected);
    loader.epoch(1).for_each(|batch| drop(batch.unwrap()));
    made.load(Ordering::SeqCst) - loader.samples(1).unwrap()
}

#[test]
fn a_consumer_that_stalls_has_just_as_many_batches_made_as_may_be_ahead() {
    for threads in SOME {
        for prefetch in [1, 4] {
            for stall in [0, 3] {
                let made = Arc::new(AtomicUsize::new(0));
                let count = Arc::clone(&made);
                let loader = numbers(12 * SIZE, threads)
                    .batch_size(SIZE)
                    .prefetch(prefetch)
                    .build((), move |_, _, ()| {
                        count.fetch_add(1, Ordering::SeqCst);
                        Ok(())
                    })
                    .unwrap();
                let mut epoch = loader.epoch(0);
                assert_eq!(epoch.by_ref().take(stall).map(Result::unwrap).sum::<usize>(), stall * SIZE);
                let expected = (stall + prefetch) * SIZE;
                let case = format!("{threads:?}, {prefetch} ahead, stalled after {stall}");
                assert_eq!(made_at_rest(&loader, &made, expected), expected, "{case}");
                let before = made.load(Ordering::SeqCst);
                drop(epoch);
                drop(loader);
                assert_eq!(made.load(Ordering::SeqCst), before, "{case}");
            }
        }
    }
}

/// An order that notes which positions it was asked for.
struct Asked(Arc<Mutex<BTreeSet<usize>>>);

impl Sampler for Asked {
    fn len(&self) -> usize {
        1000
    }

    fn index(&self, _: u64, position: usize) -> usize {
        self.0.lock().unwrap().insert(position);
        position
    }

    fn describe(&self) -> String {
        "one after the other".to_owned()
    }
}

#[test]
fn until_a_sample_is_made_no_more_is_planned_than_two_for_each_worker() {
    for (workers, size, first, then) in
        [(2, 64, 64, 5 * 64), (1, 64, 64, 5 * 64), (2, 1, 4, 9), (3, 4, 8, 20)]
    {
        let (asked, gate) = (Arc::default(), Arc::new(Mutex::new(())));
        let (closed, opened) = (gate.lock().unwrap(), Arc::clone(&gate));
        let loader = Loader::builder((0..1000).collect::<Vec<usize>>())
            .sampler(Asked(Arc::clone(&asked)))
            .workers(workers)
            .batch_size(size)
            .build(Scalar::new(), move |number, _, slot| {
                drop(opened.lock());
                // Slow enough that no more than four batches are due.
                thread::sleep(Duration::from_millis(1));
                *slot = number;
                Ok(())
            })
            .unwrap();
        let case = format!("{workers} workers, batches of {size}");
        let mut epoch = loader.epoch(0);
        assert!(matches!(epoch.try_next(), Poll::Pending), "{case}");
        let planned = || asked.lock().unwrap().len();
        assert_eq!(planned(), first, "{case}");
        drop(closed);
        assert!(epoch.next().unwrap().is_ok());
        assert_eq!(planned(), then, "{case}: as far ahead as ever");
    }
}

#[test]
fn batches_ahead_take_no_more_bytes_than_they_may_but_one_always_may() {
    // Batches of 1,000 bytes.
    for (budget, open) in [(0, 1), (999, 1), (1999, 1), (2000, 2), (3500, 3), (8000, 8)] {
        for threads in [SOME[1], SOME[3]] {
            let begun = Arc::new(AtomicUsize::new(0));
            let count = Arc::clone(&begun);
            let loader = numbers(15 * SIZE, threads)
                .batch_size(SIZE)
                .prefetch(30)
                .prefetch_bytes(budget)
                .build(Stack::<u8, 1>::new([100]), move |_, _, _| {
                    count.fetch_add(1, Ordering::SeqCst);
                    Ok(())
                })
                .unwrap();
            let case = format!("{budget} bytes, {threads:?}");
            let mut epoch = loader.epoch(0);
            assert_eq!(made_at_rest(&loader, &begun, open * SIZE), open * SIZE, "{case}");
            let fence = begun.load(Ordering::SeqCst) - open * SIZE;
            for delivered in 1..=15 {
                assert_eq!(epoch.next().unwrap().unwrap().samples, SIZE);
                let begun = begun.load(Ordering::SeqCst) - fence;
                assert!(begun <= ((delivered + open) * SIZE).min(15 * SIZE), "{case}: {begun}");
            }
            assert!(epoch.next().is_none());
            // The budget is made use of, too.
            let begun_before = begun.load(Ordering::SeqCst);
            let mut epoch = loader.epoch(0);
            assert!(epoch.next().unwrap().is_ok());
            let expected = begun_before + (1 + open) * SIZE;
            assert_eq!(made_at_rest(&loader, &begun, expected), expected, "{case}");
        }
    }
}

#[test]
fn batches_of_unknown_size_exceed_the_budget_by_one_at_most() {
    // The first is small, so that it tells nothing of the others: 10 bytes, then 100,000 each.
    for threads in [SOME[1], SOME[3]] {
        let begun = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&begun);
        let loader = numbers(12 * SIZE, threads)
            .batch_size(SIZE)
            .prefetch(8)
            .prefetch_bytes(50_000)
            .build(Pad::with(0u8), move |number, _, slot| {
                count.fetch_add(1, Ordering::SeqCst);
                slot.resize(if number < SIZE { 1 } else { 10_000 }, 1);
                Ok(())
            })
            .unwrap();
        let mut epoch = loader.epoch(0);
        assert_eq!(epoch.next().unwrap().unwrap().longest, 1);
        for delivered in 1..11 {
            let at_rest = made_at_rest(&loader, &begun, 0);
            let other_epochs = (delivered - 1) * loader.samples(1).unwrap();
            assert!(
                at_rest - other_epochs <= (delivered + 1) * SIZE,
                "{threads:?}: {at_rest} after {delivered}"
            );
            assert_eq!(epoch.next().unwrap().unwrap().longest, 10_000);
        }
    }
}

#[test]
fn a_batch_larger_than_the_budget_comes_all_the_same() {
    for threads in [SOME[1], SOME[3]] {
        for huge in [0, 57, 199] {
            let loader = numbers(200, threads)
                .batch_size(SIZE)
                .prefetch_bytes(5000)
                .build(Pad::with(0u8), move |number, _, slot| {
                    slot.resize(if number == huge { 50_000 } else { 10 }, number as u8);
                    Ok(())
                })
                .unwrap();
            for epoch in 0..1 {
                let batches: Vec<Padded<u8>> = loader.epoch(epoch).map(Result::unwrap).collect();
                let lengths: Vec<usize> = batches.iter().map(|batch| batch.longest).collect();
                let expected = (0..20).map(|batch| if batch == huge / SIZE { 50_000 } else { 10 });
                assert!(lengths.into_iter().eq(expected), "{threads:?}");
            }
        }
    }
}

/// A value that is counted as long as it lives.
struct Token(Arc<AtomicUsize>);

impl Token {
    fn new(living: &Arc<AtomicUsize>) -> Self {
        living.fetch_add(1, Ordering::SeqCst);
        Token(Arc::clone(living))
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Tokens(Arc<AtomicUsize>);

impl Dataset for Tokens {
    type Item = Token;

    fn get(&self, _: usize) -> Result<Token, BoxError> {
        Ok(Token::new(&self.0))
    }

    fn len(&self) -> usize {
        200
    }
}

#[test]
fn the_memory_of_a_stalled_loader_is_flat_and_all_of_it_is_given_back() {
    for as_completed in [false, true] {
        for Threads { workers, readers } in SOME {
            let living = Arc::new(AtomicUsize::new(0));
            let alive = || living.load(Ordering::SeqCst);
            let mut builder = Loader::builder(Tokens(Arc::clone(&living)))
                .batch_size(SIZE)
                .workers(workers)
                .as_completed(as_completed)
                .prefetch(3);
            if let Some(readers) = readers {
                builder = builder.readers(readers);
            }
            let loader = builder
                .build(Ragged::new(Ok), |token, _, slot| {
                    *slot = Some(token);
                    Ok(())
                })
                .unwrap();
            for stop in [0, 1, 9, 19] {
                let mut epoch = loader.epoch(0);
                let held: Vec<_> = epoch.by_ref().take(stop).map(Result::unwrap).collect();
                let ahead = 3.min(20 - stop);
                wait_until("what may be made ahead", || alive() >= (stop + ahead) * SIZE);
                // To make another epoch meanwhile changes nothing of this one.
                loader.epoch(1).for_each(|batch| assert_eq!(batch.unwrap().len(), SIZE));
                assert_eq!(alive(), (stop + ahead) * SIZE, "{workers} workers, after {stop}");
                drop(held);
                assert_eq!(alive(), ahead * SIZE);
                drop(epoch);
                // At any batch: what was made ahead goes with the epoch.
                wait_until("the end of what was made ahead", || alive() == 0);
            }
            // In the middle of everything.
            for stop in 0..3 {
                loader.epoch(2).take(stop).for_each(|batch| assert!(batch.is_ok()));
            }
            drop(loader);
            assert_eq!(alive(), 0, "{workers} workers");
        }
    }
}

#[test]
fn an_iterator_may_be_dropped_at_any_batch_and_the_next_one_is_whole() {
    for threads in SOME {
        for as_completed in [false, true] {
            let loader = numbers(95, threads)
                .shuffle(true)
                .batch_size(SIZE)
                .as_completed(as_completed)
                .build(Scalar::<usize>::new(), |number, _, slot| {
                    *slot = number;
                    Ok(())
                })
                .unwrap();
            for stop in [0, 1, 5, 9, 10] {
                assert_eq!(
                    loader.epoch(stop).take(stop as usize).filter(Result::is_ok).count(),
                    stop as usize
                );
                let next: BTreeSet<usize> = loader.epoch(stop + 1).flat_map(Result::unwrap).collect();
                assert!(next.into_iter().eq(0..95), "{threads:?} after {stop}");
            }
        }
    }
}

#[test]
fn more_workers_than_samples_are_no_harm() {
    for len in 0..=3 {
        for (workers, readers) in [(8, None), (3, Some(5))] {
            for size in [1, 50] {
                let loader = numbers(len, Threads { workers, readers })
                    .batch_size(size)
                    .prefetch(40)
                    .build(Scalar::<usize>::new(), |number, _, slot| {
                        *slot = number;
                        Ok(())
                    })
                    .unwrap();
                let all: Vec<usize> = loader.epoch(0).flat_map(Result::unwrap).collect();
                assert!(all.into_iter().eq(0..len), "{workers} workers, batches of {size}");
            }
        }
    }
}

#[test]
fn no_data_is_an_epoch_of_no_batches() {
    let none = [Threads { workers: 0, readers: None }];
    for threads in SOME.into_iter().chain(none) {
        for (len, drop_last) in [(0, false), (0, true), (3, true)] {
            for as_completed in [false, true] {
                let loader = numbers(len, threads)
                    .shuffle(true)
                    .batch_size(4)
                    .drop_last(drop_last)
                    .as_completed(as_completed)
                    .prefetch_bytes(1)
                    .build(Stack::<f32, 1>::new([2]), |_, _, _| Ok(()))
                    .unwrap();
                assert_eq!((loader.batches(0).unwrap(), loader.samples(0).unwrap()), (0, 0));
                let mut epoch = loader.epoch(0);
                assert_eq!(epoch.size_hint(), (0, Some(0)));
                let state = epoch.state();
                assert_eq!((state.batch, state.ahead.len(), &state), (0, 0, &loader.state(0)));
                assert!(epoch.next().is_none() && epoch.next().is_none());
                assert_eq!(epoch.state(), state);
                let report = epoch.report();
                assert_eq!((report.batches, report.samples, report.failures.len()), (0, 0, 0));
                assert!(loader.check(&state).is_ok());
                assert!(loader.resume(&state).unwrap().next().is_none());
                let mut beyond = state;
                beyond.batch = 1;
                assert_eq!(loader.resume(&beyond).err().unwrap().kind(), &ErrorKind::State);
            }
        }
    }
}

/// Waits until enough others were made, or far too long.
#[derive(Default)]
struct Others {
    made: Mutex<BTreeSet<usize>>,
    more: Condvar,
}

impl Others {
    fn made(&self, number: usize) {
        self.made.lock().unwrap().insert(number);
        self.more.notify_all();
    }

    /// Tells whether all of these are made at last.
    fn wait_for(&self, mut numbers: impl Iterator<Item = usize> + Clone) -> bool {
        let made = self.made.lock().unwrap();
        let missing = |made: &mut BTreeSet<usize>| !numbers.clone().all(|number| made.contains(&number));
        let (made, _) = self.more.wait_timeout_while(made, AGES, missing).unwrap();
        numbers.all(|number| made.contains(&number))
    }
}

#[test]
fn a_slow_sample_of_a_first_batch_stops_no_other() {
    for (threads, held_in_reading) in [
        (Threads { workers: 2, readers: None }, true),
        (Threads { workers: 3, readers: None }, false),
        (Threads { workers: 1, readers: Some(2) }, true),
        (Threads { workers: 2, readers: Some(1) }, false),
    ] {
        // Batches of four, three of them ahead: sample 5 ends when the eleven others have.
        let others = Arc::new(Others::default());
        let (reading, transforming) = (Arc::clone(&others), Arc::clone(&others));
        let slow =
            |others: &Others| assert!(others.wait_for((0..12).filter(|&number| number != 5)), "starved");
        let dataset =
            firebox_data::dataset::Map::new((0..40usize).collect::<Vec<_>>(), move |number: usize| {
                if number == 5 && held_in_reading {
                    slow(&reading);
                }
                number
            });
        let mut builder = Loader::builder(dataset).batch_size(4).workers(threads.workers).prefetch(3);
        if let Some(readers) = threads.readers {
            builder = builder.readers(readers);
        }
        let loader = builder
            .build(Scalar::<usize>::new(), move |number, _, slot| {
                if number == 5 && !held_in_reading {
                    slow(&transforming);
                }
                *slot = number;
                transforming.made(number);
                Ok(())
            })
            .unwrap();
        let epoch = loader.epoch(0);
        // Nobody asks for a batch.
        assert!(others.wait_for(0..12), "{threads:?}");
        let all: Vec<usize> =
            epoch.flat_map(|batch| batch.unwrap_or_else(|e| panic!("{threads:?}: {e}"))).collect();
        assert!(all.into_iter().eq(0..40));
    }
}

#[test]
fn a_slow_sample_among_cheap_ones_stops_no_other_batch() {
    for readers in [None, Some(2)] {
        let others = Arc::new(Others::default());
        let made = Arc::clone(&others);
        // Cheap as they are, samples go batch by batch. Batch 20 waits for the rest of the window: the next
        // four.
        let loader = numbers(50 * SIZE, Threads { workers: 2, readers })
            .batch_size(SIZE)
            .prefetch(5)
            .build(Scalar::<usize>::new(), move |number, _, slot| {
                let slow = 20 * SIZE + 4;
                if number == slow && !made.wait_for(21 * SIZE..25 * SIZE) {
                    return Err("starved".into());
                }
                *slot = number;
                made.made(number);
                Ok(())
            })
            .unwrap();
        let all: Vec<usize> =
            loader.epoch(0).flat_map(|batch| batch.unwrap_or_else(|e| panic!("{e}"))).collect();
        assert!(all.into_iter().eq(0..50 * SIZE));
    }
}

#[test]
fn what_is_not_there_yet_is_not_waited_for_and_loses_nothing() {
    // One sample is held back, so that there is a place for another in each stage.
    for threads in [SOME[1], Threads { workers: 2, readers: Some(2) }] {
        let others = Arc::new(Others::default());
        let made = Arc::clone(&others);
        // The first sample of batch 3 ends when the test says so.
        let loader = numbers(60, threads)
            .batch_size(SIZE)
            .build(Scalar::<usize>::new(), move |number, _, slot| {
                if number == 30 && !made.wait_for(1000..1001) {
                    return Err("starved".into());
                }
                *slot = number;
                made.made(number);
                Ok(())
            })
            .unwrap();
        let mut epoch = loader.epoch(0);
        let begun = Instant::now();
        for batch in 0..3 {
            let next = loop {
                match epoch.try_next() {
                    Poll::Ready(next) => break next.unwrap().unwrap(),
                    Poll::Pending => assert!(begun.elapsed() < AGES, "batch {batch} never came"),
                }
                thread::yield_now();
            };
            assert!(next.into_iter().eq(batch * SIZE..(batch + 1) * SIZE));
        }
        let state = epoch.state();
        for _ in 0..100 {
            assert!(epoch.try_next().is_pending());
        }
        assert_eq!((epoch.state(), epoch.report().batches), (state, 3));
        others.made(1000);
        // Waited for, or asked for again and again: it makes no difference.
        let rest: Vec<usize> = epoch.by_ref().flat_map(Result::unwrap).collect();
        assert!(rest.into_iter().eq(30..60));
        assert!(matches!(epoch.try_next(), Poll::Ready(None)) && epoch.next().is_none());
    }
    // Without workers nothing is there before it is waited for.
    let alone = numbers(20, Threads { workers: 0, readers: None }).batch_size(SIZE);
    let loader =
        alone.build((), |number, _, ()| if number < 10 { Ok(()) } else { Err("no".into()) }).unwrap();
    let mut epoch = loader.epoch(0);
    assert!(epoch.try_next().is_pending() && epoch.try_next().is_pending());
    assert_eq!(epoch.next().unwrap().unwrap(), SIZE);
    assert!(epoch.try_next().is_pending());
    assert_eq!(epoch.next().unwrap().unwrap_err().index(), Some(10));
    assert!(matches!(epoch.try_next(), Poll::Ready(None)));
}

#[test]
fn a_sample_past_its_limit_is_given_up_for_who_only_looks() {
    // The first sample takes far longer than its limit, and than the rest.
    let loader = Loader::builder((0..40usize).collect::<Vec<_>>())
        .batch_size(SIZE)
        .workers(2)
        .timeout(Duration::from_secs(1))
        .on_error(OnError::Skip { at_most: FailureBudget::Count(1) })
        .build(Scalar::<usize>::new(), |number, _, slot| {
            if number == 0 {
                thread::sleep(Duration::from_secs(8));
            }
            *slot = number;
            Ok(())
        })
        .unwrap();
    let (mut epoch, begun, mut samples) = (loader.epoch(0), Instant::now(), Vec::new());
    loop {
        match epoch.try_next() {
            Poll::Ready(Some(batch)) => samples.extend(batch.unwrap()),
            Poll::Ready(None) => break,
            Poll::Pending => assert!(begun.elapsed() < AGES, "nobody gives it up"),
        }
        thread::sleep(Duration::from_millis(1));
    }
    assert!(samples.into_iter().eq(1..40));
    let failure = &epoch.report().failures[0];
    assert_eq!((failure.error.kind(), failure.error.index()), (&ErrorKind::TimedOut, Some(0)));
}

/// Copies made of [`Copied`]: a fresh buffer is full of them.
static COPIES: AtomicUsize = AtomicUsize::new(0);

#[derive(Default)]
struct Copied;

impl Clone for Copied {
    fn clone(&self) -> Self {
        COPIES.fetch_add(1, Ordering::SeqCst);
        Copied
    }
}

#[test]
fn the_memory_of_a_dropped_batch_is_used_again() {
    for workers in [0, 1, 3] {
        let mut builder = numbers(40 * SIZE, Threads { workers, readers: None });
        if workers > 0 {
            builder = builder.prefetch(2);
        }
        let loader = builder.batch_size(SIZE).build(Stack::<u64, 1>::new([64]), |_, _, _| Ok(())).unwrap();
        let mut places = BTreeSet::new();
        let mut again = 0;
        for epoch in 0..3 {
            for batch in loader.epoch(epoch) {
                again += usize::from(!places.insert(batch.unwrap().values.as_ptr() as usize));
            }
        }
        // Two ahead, one with the consumer, and one that is dropped while the next is begun.
        assert!(places.len() <= 4 && again >= 110, "{workers} workers: {} places", places.len());
    }
    // An allocator could have given the same places by chance. What a new buffer costs cannot be overlooked:
    // a copy of the default for each element.
    let loader = numbers(40 * SIZE, Threads { workers: 1, readers: None })
        .batch_size(SIZE)
        .prefetch(2)
        .build(Stack::<Copied, 1>::new([64]), |_, _, _| Ok(()))
        .unwrap();
    loader.epoch(0).for_each(|batch| drop(batch.unwrap()));
    let (cleared, batch) = (40 * SIZE * 64, SIZE * 64);
    let fresh = COPIES.load(Ordering::SeqCst).saturating_sub(cleared - 40 * SIZE);
    assert!(fresh <= 6 * batch, "{fresh} elements of new buffers, {batch} in each");
}

type Mixed = (Stacked<u8, 1>, Padded<u8>, Elements<u64>, Vec<(usize, u64)>);

#[test]
fn what_an_earlier_batch_left_in_its_memory_never_shows() {
    for workers in [0, 3] {
        for policy in [
            OnError::Fail,
            OnError::Skip { at_most: FailureBudget::Count(100) },
            OnError::Replace { at_most: FailureBudget::Count(100) },
        ] {
            let loader = numbers(53, Threads { workers, readers: None })
                .shuffle(true)
                .batch_size(8)
                .workers(workers)
                .on_error(policy)
                .build(
                    (Stack::<u8, 1>::new([16]), Pad::with(0u8), Scalar::<u64>::new(), Ragged::new(Ok)),
                    move |number, rng, (row, text, mark, gathered)| {
                        let bits = rng.bits();
                        // Half of the slot, now this and now that.
                        let half = if bits & 1 == 0 { &mut row[..8] } else { &mut row[8..] };
                        assert!(half.iter().all(|&value| value == 0) && text.is_empty() && *mark == 0);
                        half.fill(0xFF);
                        text.resize(bits as usize % 20, 0xFF);
                        if policy != OnError::Fail && number % 10 == 3 {
                            *mark = u64::MAX;
                            return Err("half written".into());
                        }
                        if bits & 2 == 0 {
                            *mark = bits;
                        }
                        *gathered = Some((number, bits));
                        Ok(())
                    },
                )
                .unwrap();
            for epoch in 0..6 {
                let order = Shuffled::new(53, 0);
                let position = |number| (0..53).find(|&at| order.index(epoch, at) == number).unwrap();
                for (batch, made) in loader.epoch(epoch).enumerate() {
                    let (rows, texts, marks, gathered): Mixed = made.unwrap();
                    assert!(rows.samples == gathered.len() && marks.len() == gathered.len());
                    for (place, &(number, bits)) in gathered.iter().enumerate() {
                        // Without holes the place says the position, whoever stands there.
                        let at = match policy {
                            OnError::Skip { .. } => position(number),
                            _ => batch * 8 + place,
                        };
                        let mut alone = SampleRng::new(0, epoch, at as u64, &StageKey::WRITE);
                        assert_eq!(bits, alone.bits());
                        let (left, right) = rows.values[place * 16..][..16].split_at(8);
                        let (full, empty) = if bits & 1 == 0 { (left, right) } else { (right, left) };
                        assert!(full.iter().all(|&value| value == 0xFF), "{workers} workers, {policy:?}");
                        assert!(empty.iter().all(|&value| value == 0), "{workers} workers, {policy:?}");
                        assert_eq!(marks[place], if bits & 2 == 0 { bits } else { 0 });
                        let length = bits as usize % 20;
                        assert_eq!(texts.lengths[place], length);
                        let text = &texts.values[place * texts.longest..][..texts.longest];
                        assert!(text[..length].iter().all(|&value| value == 0xFF));
                        assert!(text[length..].iter().all(|&value| value == 0));
                    }
                }
            }
        }
    }
}

#[test]
fn a_batch_that_is_kept_is_never_written_again() {
    for workers in [0, 3] {
        let loader = numbers(500, Threads { workers, readers: None })
            .batch_size(7)
            .build(Stack::<usize, 1>::new([20]), |number, _, slot| {
                slot.fill(number);
                Ok(())
            })
            .unwrap();
        let mut kept: Vec<Vec<Stacked<usize, 1>>> = Vec::new();
        for epoch in 0..3 {
            // Some of the memory comes back, some doesn't.
            let batches = loader.epoch(epoch).map(Result::unwrap).enumerate();
            kept.push(batches.filter(|(place, _)| place % 3 != 1).map(|(_, batch)| batch).collect());
        }
        drop(loader);
        for epoch in &kept {
            let expected = (0..500).filter(|number| number / 7 % 3 != 1).flat_map(|number| [number; 20]);
            assert!(epoch.iter().flat_map(|batch| batch.values.iter().copied()).eq(expected));
        }
    }
}

/// A sample with an amount of randomness that is itself random.
fn noise(rng: &mut SampleRng, number: usize, row: &mut [u64]) {
    for _ in 0..rng.below(7) {
        rng.bits();
    }
    row.fill_with(|| if rng.chance(0.3) { number as u64 } else { rng.bits() });
}

#[test]
fn random_bytes_are_the_same_however_the_loader_is_set_up() {
    let build = |builder: Numbers| {
        builder
            .shuffle(true)
            .seed(99)
            .batch_size(SIZE)
            .build((Stack::<u64, 1>::new([6]), Scalar::<usize>::new()), |number, rng, (row, slot)| {
                noise(rng, number, row);
                *slot = number;
                Ok(())
            })
            .unwrap()
    };
    let plain = |workers| numbers(203, Threads { workers, readers: None });
    let expected: Vec<Vec<_>> =
        (0..2).map(|epoch| build(plain(0)).epoch(epoch).map(Result::unwrap).collect()).collect();
    // Computed without a loader.
    for (epoch, batches) in expected.iter().enumerate() {
        let mut position = 0..;
        for (rows, slots) in batches {
            for (row, &number) in rows.values.chunks(6).zip(slots) {
                let mut alone = [0; 6];
                let at = position.next().unwrap();
                noise(&mut SampleRng::new(99, epoch as u64, at, &StageKey::WRITE), number, &mut alone);
                assert_eq!(row, alone);
            }
        }
    }
    let auto = Loader::builder((0..203).collect::<Vec<_>>());
    let setups: Vec<(&str, Numbers)> = vec![
        ("1 worker", plain(1)),
        ("4 workers", plain(4)),
        ("a number of workers of the loader's choice", auto),
        ("1 ahead", plain(4).prefetch(1)),
        ("2 ahead", plain(2).prefetch(2)),
        ("everything ahead", plain(3).prefetch(1000)),
        ("few bytes", plain(3).prefetch_bytes(1)),
        ("1 reader", numbers(203, Threads { workers: 2, readers: Some(1) })),
        ("4 readers", numbers(203, Threads { workers: 1, readers: Some(4) })),
        ("a time limit", plain(2).timeout(AGES)),
        ("as completed", plain(4).as_completed(true)),
        ("as completed, no workers", plain(0).as_completed(true)),
        ("as completed, readers, few bytes", plain(3).readers(2).as_completed(true).prefetch_bytes(2000)),
    ];
    for (name, builder) in setups {
        let loader = build(builder);
        for (epoch, expected) in expected.iter().enumerate() {
            let mut batches: Vec<_> = loader.epoch(epoch as u64).map(Result::unwrap).collect();
            if name.starts_with("as completed") {
                let place =
                    |numbers: &Elements<usize>| expected.iter().position(|(_, other)| other == numbers);
                batches.sort_by_key(|(_, numbers)| place(numbers));
            }
            assert_eq!(&batches, expected, "{name}, epoch {epoch}");
        }
    }
}

#[test]
fn a_first_batch_that_is_waited_for_is_no_reason_for_more_workers() {
    // The first sample takes its time; behind it the consumer is the slower part, or there is nothing.
    let first_of = |samples: usize| {
        Loader::builder((0..samples).collect::<Vec<_>>())
            .batch_size(512)
            .build((), |number: usize, _, ()| {
                std::thread::sleep(Duration::from_millis(if number == 0 { 300 } else { 0 }));
                Ok(())
            })
            .unwrap()
    };
    let loader = first_of(4 * 512);
    let before = loader.workers();
    let mut epoch = loader.epoch(0);
    for batch in epoch.by_ref() {
        assert_eq!(batch.unwrap(), 512);
        std::thread::sleep(Duration::from_millis(80));
    }
    assert_eq!(loader.workers(), before, "{:?}", epoch.report().chosen);
    // Where there is no other, each is waited for, and by samples that wait themselves.
    let loader = Loader::builder(vec![0u8; 256])
        .batch_size(256)
        .build((), |_, _, ()| {
            std::thread::sleep(Duration::from_millis(2));
            Ok(())
        })
        .unwrap();
    let (before, begun) = (loader.workers(), Instant::now());
    for number in 0.. {
        assert_eq!(loader.epoch(number).next().unwrap().unwrap(), 256);
        if loader.workers() > before || cfg!(not(target_os = "linux")) {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "still {before} workers");
    }
}
