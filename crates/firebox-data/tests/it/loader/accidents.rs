//! Errors, panics and samples that hang, in every stage and place: what becomes of them, and of all the
//! others.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, Once, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use firebox_data::collate::{BatchShape, Ragged, Slots, Stacked, Values};
use firebox_data::elements::{BufferPool, Elements};
use firebox_data::loader::{Action, FailureBudget, Retry};
use firebox_data::sampler::{Sampler, Sequential};
use firebox_data::seed::{Purpose, StageKey, derive_seed};
use firebox_data::{BoxError, Collate, Dataset, ErrorKind, Loader, OnError, SampleRng, Scalar, Stack};

use super::Threads;

const LEN: usize = 23;
const SIZE: usize = 5;
const SEED: u64 = 11;

/// The first, a middle and the last sample of an epoch.
const PLACES: [usize; 3] = [0, 12, LEN - 1];

/// A time limit that a sample which does nothing keeps on a busy machine, too.
const LIMIT: Duration = Duration::from_millis(400);

/// Long enough for anything that is not held up by what the test itself holds up.
const AGES: Duration = Duration::from_secs(30);

/// Where samples hang until it is opened, at the end of a test at the latest.
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

/// Opens a door when the test ends, however it ends, so that no thread is left behind.
struct Opens(Arc<Door>);

impl Drop for Opens {
    fn drop(&mut self) {
        self.0.open();
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    Dataset,
    Transform,
    Collate,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum What {
    Error,
    Panic,
    Hang,
}

/// A fault of some samples in one stage, as long as it is armed.
struct Fault {
    stage: Stage,
    what: What,
    bad: Vec<usize>,
    armed: AtomicBool,
    met: AtomicUsize,
    door: Arc<Door>,
}

impl Fault {
    fn new(stage: Stage, what: What, bad: &[usize]) -> (Arc<Self>, Opens) {
        quiet();
        let door = Arc::new(Door::default());
        let (armed, met) = (AtomicBool::new(true), AtomicUsize::new(0));
        (Arc::new(Fault { stage, what, bad: bad.to_vec(), armed, met, door: Arc::clone(&door) }), Opens(door))
    }

    fn meet(&self, stage: Stage, index: usize) -> Result<(), BoxError> {
        if stage != self.stage || !self.bad.contains(&index) || !self.armed.load(Ordering::SeqCst) {
            return Ok(());
        }
        self.met.fetch_add(1, Ordering::SeqCst);
        match self.what {
            What::Error => Err("bad sector".into()),
            What::Panic => panic!("bad sector"),
            What::Hang => {
                self.door.wait();
                Ok(())
            }
        }
    }

    fn disarm(&self) {
        self.armed.store(false, Ordering::SeqCst);
    }

    /// The kind of error that the loader makes of it.
    fn kind(&self) -> ErrorKind {
        match (self.what, self.stage) {
            (What::Hang, _) => ErrorKind::TimedOut,
            (_, Stage::Collate) => ErrorKind::Collate,
            (What::Panic, _) => ErrorKind::Panic,
            (What::Error, Stage::Dataset) => ErrorKind::Dataset,
            (What::Error, Stage::Transform) => ErrorKind::Transform,
        }
    }
}

/// Panics of workers are what these tests provoke: only others are worth reading.
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

struct Numbers {
    len: usize,
    fault: Arc<Fault>,
}

impl Dataset for Numbers {
    type Item = usize;

    fn get(&self, index: usize) -> Result<usize, BoxError> {
        let met = self.fault.meet(Stage::Dataset, index);
        met.map(|()| index).map_err(|error| std::io::Error::other(error).into())
    }

    fn len(&self) -> usize {
        self.len
    }
}

type Close = Box<dyn Fn(Vec<usize>) -> Result<Vec<usize>, BoxError> + Send + Sync>;
type Layout = (Stack<u64, 1>, Ragged<usize, Vec<usize>, Close>);
type Batch = (Stacked<u64, 1>, Vec<usize>);

const SOME: [Threads; 4] = [
    Threads { workers: 1, readers: None },
    Threads { workers: 3, readers: None },
    Threads { workers: 1, readers: Some(1) },
    Threads { workers: 2, readers: Some(2) },
];
const NONE: Threads = Threads { workers: 0, readers: None };

/// A loader of 0..LEN in order, whose samples hold their number and random bits.
fn loader(fault: &Arc<Fault>, policy: OnError, threads: Threads) -> Loader<Layout> {
    let mut builder = Loader::builder(Numbers { len: LEN, fault: Arc::clone(fault) })
        .batch_size(SIZE)
        .seed(SEED)
        .workers(threads.workers)
        .on_error(policy);
    if let Some(readers) = threads.readers {
        builder = builder.readers(readers);
    }
    if fault.what == What::Hang {
        builder = builder.timeout(LIMIT);
    }
    let (closing, transforming) = (Arc::clone(fault), Arc::clone(fault));
    let close: Close = Box::new(move |samples| {
        samples.iter().try_for_each(|&index| closing.meet(Stage::Collate, index))?;
        Ok(samples)
    });
    let layout = (Stack::new([2]), Ragged::new(close));
    let transform =
        move |index: usize, rng: &mut SampleRng, (bits, slot): (&mut [u64], &mut Option<usize>)| {
            // Half of it is there when the fault comes.
            bits[0] = rng.bits();
            transforming.meet(Stage::Transform, index)?;
            bits[1] = rng.bits();
            *slot = Some(index);
            Ok(())
        };
    builder.build(layout, transform).unwrap()
}

/// The samples of a batch, each of which must be whole.
fn samples(epoch: u64, (bits, numbers): &Batch) -> Vec<usize> {
    let mut expected = Vec::new();
    let distinct: BTreeSet<_> = numbers.iter().collect();
    for (place, &number) in numbers.iter().enumerate() {
        // In order, the index is the position; a sample that took another's place has the position of the
        // place.
        let position = match distinct.len() == numbers.len() {
            true => number,
            false => numbers[0] / SIZE * SIZE + place,
        };
        let mut rng = SampleRng::new(SEED, epoch, position as u64, &StageKey::WRITE);
        expected.extend([rng.bits(), rng.bits()]);
    }
    assert_eq!((&*bits.values, bits.samples), (&expected[..], numbers.len()));
    numbers.clone()
}

fn plan(batch: usize) -> Vec<usize> {
    (batch * SIZE..LEN.min((batch + 1) * SIZE)).collect()
}

/// The loader lives on: an epoch without faults is as it should be.
fn assert_whole_epoch(loader: &Loader<Layout>, epoch: u64) {
    let batches: Vec<_> = loader.epoch(epoch).map(|batch| samples(epoch, &batch.unwrap())).collect();
    assert_eq!(batches, (0..LEN.div_ceil(SIZE)).map(plan).collect::<Vec<_>>());
}

/// Runs cases, most of which wait, several at the same time.
fn several_at_once<T: Sync>(cases: &[T], run: impl Fn(&T) + Sync) {
    /// Lets no other case begin once one has failed.
    struct Stop<'n>(&'n AtomicUsize);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            if thread::panicking() {
                self.0.store(usize::MAX / 2, Ordering::SeqCst);
            }
        }
    }
    // What hangs for ever must be a test that fails, not one that never ends.
    let (ended, end) = mpsc::channel::<()>();
    thread::spawn(move || {
        if end.recv_timeout(Duration::from_secs(180)) == Err(mpsc::RecvTimeoutError::Timeout) {
            eprintln!("a case of a test hangs");
            std::process::abort();
        }
    });
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| {
                let _stop = Stop(&next);
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::SeqCst)) {
                    run(case);
                }
            });
        }
    });
    drop(ended);
}

/// Every fault of a sample, in every place, with every set of threads that can meet it.
fn faults_of_samples() -> Vec<(Stage, What, usize, Threads)> {
    let mut cases = Vec::new();
    for stage in [Stage::Dataset, Stage::Transform] {
        for what in [What::Hang, What::Error, What::Panic] {
            for bad in PLACES {
                let without = (what != What::Hang).then_some(NONE);
                cases.extend(SOME.into_iter().chain(without).map(|threads| (stage, what, bad, threads)));
            }
        }
    }
    cases
}

#[test]
fn a_fault_ends_the_epoch_and_names_its_sample_and_worker() {
    several_at_once(&faults_of_samples(), |&(stage, what, bad, threads)| {
        let case = format!("{what:?} in {stage:?} at {bad}, {threads:?}");
        let (fault, _opens) = Fault::new(stage, what, &[bad]);
        let loader = loader(&fault, OnError::Fail, threads);
        let mut epoch = loader.epoch(0);
        for batch in 0..bad / SIZE {
            assert_eq!(samples(0, &epoch.next().unwrap().unwrap()), plan(batch), "{case}");
        }
        let error = epoch.next().unwrap().unwrap_err();
        assert_eq!((error.kind(), error.index()), (&fault.kind(), Some(bad)), "{case}: {error}");
        assert_eq!(error.worker().is_some(), threads.workers > 0, "{case}");
        assert!(error.worker().is_none_or(|worker| worker < loader.workers()), "{case}");
        let text = if what == What::Hang { "took longer than 400ms" } else { "bad sector" };
        assert!(error.to_string().contains(text), "{case}: {error}");
        assert!(epoch.next().is_none() && epoch.next().is_none(), "{case}");
        let incident = epoch.report().failures.last().unwrap();
        assert_eq!((incident.action, incident.error.index()), (Action::None, Some(bad)), "{case}");
        let state = epoch.state();
        assert_eq!((state.batch, state.faults), (bad / SIZE, 0), "{case}: the failed batch is not behind us");
        drop(epoch);
        fault.disarm();
        assert_whole_epoch(&loader, 1);
        let rest: Vec<_> = loader.resume(&state).unwrap().map(|batch| samples(0, &batch.unwrap())).collect();
        assert_eq!(rest, (bad / SIZE..LEN.div_ceil(SIZE)).map(plan).collect::<Vec<_>>(), "{case}");
    });
}

#[test]
fn a_skipped_sample_takes_no_other_with_it() {
    several_at_once(&faults_of_samples(), |&(stage, what, bad, threads)| {
        let case = format!("{what:?} in {stage:?} at {bad}, {threads:?}");
        let (fault, _opens) = Fault::new(stage, what, &[bad]);
        let loader = loader(&fault, OnError::Skip { at_most: FailureBudget::Count(1) }, threads);
        let mut epoch = loader.epoch(0);
        let batches: Vec<_> = epoch.by_ref().map(|batch| samples(0, &batch.unwrap())).collect();
        let left = |batch| plan(batch).into_iter().filter(|&index| index != bad).collect::<Vec<_>>();
        assert_eq!(batches, (0..LEN.div_ceil(SIZE)).map(left).collect::<Vec<_>>(), "{case}");
        let [incident] = &epoch.report().failures[..] else { panic!("{case}: one incident") };
        assert_eq!((incident.action, incident.error.index()), (Action::Skipped, Some(bad)), "{case}");
        assert_eq!(incident.error.kind(), &fault.kind(), "{case}");
        assert_eq!(incident.error.worker().is_some(), threads.workers > 0, "{case}");
        assert_eq!(epoch.state().faults, 1, "{case}");
        drop(epoch);
        fault.disarm();
        assert_whole_epoch(&loader, 1);
    });
}

#[test]
fn a_replaced_sample_leaves_its_batch_whole() {
    several_at_once(&faults_of_samples(), |&(stage, what, bad, threads)| {
        let case = format!("{what:?} in {stage:?} at {bad}, {threads:?}");
        let (fault, _opens) = Fault::new(stage, what, &[bad]);
        let loader = loader(&fault, OnError::Replace { at_most: FailureBudget::Count(1) }, threads);
        let mut epoch = loader.epoch(0);
        let batches: Vec<_> = epoch.by_ref().map(|batch| samples(0, &batch.unwrap())).collect();
        let [incident] = &epoch.report().failures[..] else { panic!("{case}: one incident") };
        let Action::Replaced(instead) = incident.action else { panic!("{case}: {incident}") };
        assert_eq!((incident.error.kind(), incident.error.index()), (&fault.kind(), Some(bad)), "{case}");
        assert!(instead != bad && plan(bad / SIZE).contains(&instead), "{case}: {instead}");
        let filled = |batch| {
            let replace = |index| if index == bad { instead } else { index };
            plan(batch).into_iter().map(replace).collect::<Vec<_>>()
        };
        assert_eq!(batches, (0..LEN.div_ceil(SIZE)).map(filled).collect::<Vec<_>>(), "{case}");
        drop(epoch);
        fault.disarm();
        assert_whole_epoch(&loader, 1);
    });
}

/// All policies: none of them has a say in what a collation does.
const POLICIES: [OnError; 3] = [
    OnError::Fail,
    OnError::Skip { at_most: FailureBudget::Count(9) },
    OnError::Replace { at_most: FailureBudget::Count(9) },
];

#[test]
fn a_collation_that_fails_or_panics_ends_the_epoch_and_names_its_batch_and_worker() {
    for what in [What::Error, What::Panic] {
        for bad in PLACES {
            for policy in POLICIES {
                for threads in SOME.into_iter().chain([NONE]) {
                    let (fault, _opens) = Fault::new(Stage::Collate, what, &[bad]);
                    let loader = loader(&fault, policy, threads);
                    let mut epoch = loader.epoch(0);
                    for batch in 0..bad / SIZE {
                        assert_eq!(samples(0, &epoch.next().unwrap().unwrap()), plan(batch));
                    }
                    let error = epoch.next().unwrap().unwrap_err();
                    assert_eq!((error.kind(), error.index()), (&ErrorKind::Collate, None));
                    assert_eq!(error.worker().is_some(), threads.workers > 0);
                    let text = format!("collation of batch {} of epoch 0 failed: bad sector", bad / SIZE);
                    assert!(error.to_string().contains(&text), "{error}");
                    assert!(epoch.next().is_none());
                    assert_eq!((epoch.state().batch, epoch.state().faults), (bad / SIZE, 0));
                    drop(epoch);
                    fault.disarm();
                    assert_whole_epoch(&loader, 1);
                }
            }
        }
    }
}

#[test]
fn a_collation_that_hangs_is_an_error_of_its_batch_and_costs_no_sample() {
    let mut cases = Vec::new();
    for bad in PLACES {
        for policy in POLICIES {
            cases.extend(SOME.map(|threads| (bad, policy, threads)));
        }
    }
    several_at_once(&cases, |&(bad, policy, threads)| {
        let case = format!("at {bad}, {policy:?}, {threads:?}");
        let (fault, _opens) = Fault::new(Stage::Collate, What::Hang, &[bad]);
        let loader = loader(&fault, policy, threads);
        let mut epoch = loader.epoch(0);
        for batch in 0..bad / SIZE {
            assert_eq!(samples(0, &epoch.next().unwrap().unwrap()), plan(batch), "{case}");
        }
        let result = epoch.next().unwrap();
        let named: Vec<_> = epoch.report().failures.iter().map(ToString::to_string).collect();
        let error = match result {
            Err(error) => error,
            Ok(batch) => panic!("{case}: delivered {:?}, {named:?}", samples(0, &batch)),
        };
        assert_eq!(error.kind(), &ErrorKind::TimedOut, "{case}: {error}");
        assert!(error.worker().is_some(), "{case}: {error}");
        assert_eq!(error.index(), None, "{case}: no sample is to blame for {error}");
        assert!(error.to_string().contains(&format!("batch {} of epoch 0", bad / SIZE)), "{case}: {error}");
        assert!(epoch.next().is_none(), "{case}");
        assert_eq!(epoch.state().faults, 0, "{case}");
        drop(epoch);
        fault.disarm();
        assert_whole_epoch(&loader, 1);
    });
}

/// Numbers in a layout that tells which of its functions is called, and for which batch.
struct Hooked {
    inner: Scalar<usize>,
    hook: Arc<Hook>,
    opened: AtomicUsize,
}

type Hook = dyn Fn(&str, usize) + Send + Sync;

impl Hooked {
    fn new(hook: impl Fn(&str, usize) + Send + Sync + 'static) -> Self {
        Hooked { inner: Scalar::new(), hook: Arc::new(hook), opened: AtomicUsize::new(0) }
    }
}

struct Marked {
    batch: usize,
    values: Elements<usize>,
}

struct MarkedSlots<'a> {
    hook: Arc<Hook>,
    batch: usize,
    values: Values<'a, usize>,
}

impl Collate for Hooked {
    type Buffer = Marked;
    type Slot<'a> = &'a mut usize;
    type Slots<'a> = MarkedSlots<'a>;
    type Batch = Marked;

    fn open(&self, shape: BatchShape, memory: &BufferPool) -> Marked {
        let batch = self.opened.fetch_add(1, Ordering::SeqCst);
        (self.hook)("open", batch);
        Marked { batch, values: self.inner.open(shape, memory) }
    }

    fn slots<'a>(&self, buffer: &'a mut Marked) -> MarkedSlots<'a> {
        (self.hook)("slots", buffer.batch);
        let (hook, batch) = (Arc::clone(&self.hook), buffer.batch);
        MarkedSlots { hook, batch, values: self.inner.slots(&mut buffer.values) }
    }

    fn clear(&self, slot: &mut &mut usize) {
        **slot = 0;
    }

    fn close(&self, buffer: Marked, holes: &[usize]) -> Result<Marked, BoxError> {
        (self.hook)("close", buffer.batch);
        Ok(Marked { batch: buffer.batch, values: self.inner.close(buffer.values, holes)? })
    }

    fn bytes(&self, batch: &Marked) -> usize {
        (self.hook)("bytes", batch.batch);
        self.inner.bytes(&batch.values)
    }
}

impl Slots<Hooked> for MarkedSlots<'_> {
    fn get(&mut self, sample: usize) -> Option<&mut usize> {
        (self.hook)("get", self.batch);
        Slots::<Scalar<usize>>::get(&mut self.values, sample)
    }

    fn split_at(self, samples: usize) -> (Self, Self) {
        (self.hook)("split_at", self.batch);
        let (hook, batch) = (Arc::clone(&self.hook), self.batch);
        let (left, right) = Slots::<Scalar<usize>>::split_at(self.values, samples);
        (MarkedSlots { hook: self.hook, batch, values: left }, MarkedSlots { hook, batch, values: right })
    }
}

/// Has a layout panic in one of its functions, in the second batch.
fn touch(function: &'static str, workers: usize) {
    quiet();
    let layout = Hooked::new(move |called, batch| assert!(called != function || batch != 1, "touched"));
    let loader = Loader::builder((0..20usize).collect::<Vec<_>>())
        .batch_size(4)
        .workers(workers)
        // The second batch is begun with the first, before it shows that samples are too cheap to be cut into
        // runs.
        .prefetch(2)
        .build(layout, |number, _, slot| {
            *slot = number;
            Ok(())
        })
        .unwrap();
    let mut epoch = loader.epoch(0);
    assert_eq!(epoch.next().unwrap().unwrap().values, [0, 1, 2, 3]);
    let second = catch_unwind(AssertUnwindSafe(|| epoch.next().unwrap()));
    let Ok(Err(error)) = second else { panic!("a panic in `{function}` came through to the consumer") };
    assert!([ErrorKind::Panic, ErrorKind::Collate].contains(error.kind()), "{function}: {error}");
    assert!(error.to_string().contains("touched"), "{function}: {error}");
    let named = error.index().is_some() || error.to_string().contains("batch 1 of epoch 0");
    assert!(named, "{function}: {error}");
    assert!(epoch.next().is_none());
    drop(epoch);
    let next: Vec<_> = loader.epoch(1).map(|batch| batch.unwrap().values).collect();
    assert!(next.concat().into_iter().eq(0..20), "the loader lives on after a panic in `{function}`");
}

#[test]
fn a_layout_that_panics_is_an_error_of_its_batch() {
    for workers in [0, 1, 3] {
        for function in ["open", "slots", "get", "close"] {
            touch(function, workers);
        }
        // One run is not cut.
        if workers > 0 {
            touch("split_at", workers);
        }
    }
}

#[test]
fn a_layout_that_panics_while_it_is_measured_is_an_error_of_its_batch() {
    for workers in [0, 1, 3] {
        touch("bytes", workers);
    }
}

/// Says that its thread ends.
struct Tells(mpsc::Sender<()>);

impl Drop for Tells {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

thread_local! {
    static END: std::cell::RefCell<Option<Tells>> = const { std::cell::RefCell::new(None) };
}

#[test]
fn what_an_abandoned_thread_writes_late_changes_no_batch() {
    let cases: Vec<_> = SOME
        .into_iter()
        .flat_map(|threads| {
            [
                OnError::Skip { at_most: FailureBudget::Count(1) },
                OnError::Replace { at_most: FailureBudget::Count(1) },
            ]
            .map(|policy| (threads, policy))
        })
        .collect();
    several_at_once(&cases, |&(threads, policy)| {
        let (fault, opens) = Fault::new(Stage::Transform, What::Hang, &[7]);
        let (ended, end) = mpsc::channel();
        let (hangs, ended) = (Arc::clone(&fault), Mutex::new(ended));
        let mut builder = Loader::builder((0..60u8).collect::<Vec<_>>())
            .batch_size(4)
            .workers(threads.workers)
            .timeout(LIMIT)
            .on_error(policy);
        if let Some(readers) = threads.readers {
            builder = builder.readers(readers);
        }
        let loader = builder
            .build(Stack::<u8, 1>::new([8]), move |number, _, slot| {
                slot.fill(number);
                if number == 7 && hangs.armed.load(Ordering::SeqCst) {
                    END.set(Some(Tells(ended.lock().unwrap().clone())));
                    hangs.meet(Stage::Transform, 7)?;
                    slot.fill(0xFF);
                }
                Ok(())
            })
            .unwrap();
        let mut epoch = loader.epoch(0);
        // The batches up to the one that went without the sample, and one more.
        let mut batches: Vec<Stacked<u8, 1>> = epoch.by_ref().take(3).map(Result::unwrap).collect();
        let before = batches.clone();
        fault.disarm();
        opens.0.open();
        // The thread has written, let go of its slot, and given the memory back.
        end.recv_timeout(AGES).unwrap();
        assert_eq!(batches, before);
        batches.extend(epoch.by_ref().map(Result::unwrap));
        let remedy = epoch.report().failures[0].action;
        let expected: Vec<u8> = (0..60)
            .filter_map(|number| match remedy {
                Action::Replaced(instead) if number == 7 => Some(instead as u8),
                Action::Skipped if number == 7 => None,
                _ => Some(number),
            })
            .flat_map(|number| [number; 8])
            .collect();
        let values: Vec<u8> = batches.iter().flat_map(|batch| batch.values.iter().copied()).collect();
        assert_eq!(values, expected, "{threads:?}");
        // Nor does the memory that came back show it in another epoch.
        drop((batches, epoch));
        for epoch in 1..4 {
            let values: Vec<u8> = loader.epoch(epoch).flat_map(|batch| batch.unwrap().values).collect();
            assert!(values.into_iter().eq((0..60).flat_map(|number| [number; 8])));
        }
    });
}

#[test]
fn workers_that_all_hang_are_all_replaced() {
    let mut cases = Vec::new();
    for threads in [
        Threads { workers: 1, readers: None },
        Threads { workers: 3, readers: None },
        Threads { workers: 2, readers: Some(1) },
        Threads { workers: 1, readers: Some(2) },
    ] {
        for stage in [Stage::Dataset, Stage::Transform] {
            cases.push((threads, stage));
        }
    }
    several_at_once(&cases, |&(threads, stage)| {
        let hung = threads.workers + threads.readers.unwrap_or(0);
        // One in each of the first batches, so that all workers are caught at the same time if they are free
        // to be.
        let bad: Vec<usize> = (0..hung).map(|batch| batch * SIZE + 1).collect();
        let (fault, _opens) = Fault::new(stage, What::Hang, &bad);
        let loader = loader(&fault, OnError::Skip { at_most: FailureBudget::Count(hung) }, threads);
        let mut epoch = loader.epoch(0);
        let numbers: Vec<_> = epoch.by_ref().flat_map(|batch| samples(0, &batch.unwrap())).collect();
        assert!(numbers.into_iter().eq((0..LEN).filter(|index| !bad.contains(index))), "{threads:?}");
        let named: Vec<_> = epoch.report().failures.iter().map(|one| one.error.index().unwrap()).collect();
        assert_eq!(named, bad, "{threads:?}");
        drop(epoch);
        fault.disarm();
        assert_whole_epoch(&loader, 1);
    });
}

#[test]
fn a_batch_in_which_several_samples_hang_goes_without_them() {
    let cases: Vec<_> =
        SOME.into_iter().flat_map(|threads| [vec![5, 6], vec![5, 7, 9]].map(|bad| (threads, bad))).collect();
    several_at_once(&cases, |(threads, bad)| {
        let (fault, _opens) = Fault::new(Stage::Transform, What::Hang, bad);
        let loader = loader(&fault, OnError::Skip { at_most: FailureBudget::Count(bad.len()) }, *threads);
        let mut epoch = loader.epoch(0);
        let numbers: Vec<_> = epoch.by_ref().flat_map(|batch| samples(0, &batch.unwrap())).collect();
        assert!(numbers.into_iter().eq((0..LEN).filter(|index| !bad.contains(index))), "{threads:?}");
        let named: Vec<_> = epoch.report().failures.iter().map(|one| one.error.index().unwrap()).collect();
        assert_eq!(&named, bad, "{threads:?}");
        drop(epoch);
        // One less is allowed than there are.
        let loader =
            self::loader(&fault, OnError::Skip { at_most: FailureBudget::Count(bad.len() - 1) }, *threads);
        let results: Vec<_> = loader.epoch(0).collect();
        let [Ok(first), Err(error)] = &results[..] else { panic!("{threads:?}: an error ends the epoch") };
        assert_eq!((samples(0, first), error.kind()), (plan(0), &ErrorKind::TimedOut), "{threads:?}");
        assert!(bad.contains(&error.index().unwrap()), "{threads:?}: {error}");
    });
}

#[test]
fn a_sample_that_took_too_long_is_not_tried_again() {
    for stage in [Stage::Dataset, Stage::Transform] {
        let (fault, _opens) = Fault::new(stage, What::Hang, &[7]);
        let hangs = Arc::clone(&fault);
        let loader = Loader::builder(Numbers { len: LEN, fault: Arc::clone(&fault) })
            .batch_size(SIZE)
            .workers(2)
            .timeout(LIMIT)
            .retry(Retry::when(9, Duration::ZERO, |_| true))
            .on_error(OnError::Skip { at_most: FailureBudget::Count(1) })
            .build(Scalar::<usize>::new(), move |number, _, slot| {
                *slot = number;
                hangs.meet(Stage::Transform, number)
            })
            .unwrap();
        let numbers: Vec<usize> = loader.epoch(0).flat_map(Result::unwrap).collect();
        assert!(numbers.into_iter().eq((0..LEN).filter(|&number| number != 7)));
        assert_eq!(fault.met.load(Ordering::SeqCst), 1);
    }
}

#[test]
fn each_try_and_each_sample_of_a_run_has_all_of_the_limit() {
    // Four tries of a third of the limit each, and one worker for ten samples of a third each.
    let tries = AtomicUsize::new(0);
    let loader = Loader::builder((0..10usize).collect::<Vec<_>>())
        .batch_size(10)
        .workers(1)
        .timeout(LIMIT)
        .retry(Retry::when(9, Duration::from_millis(1), |_| true))
        .build(Scalar::<usize>::new(), move |number, _, slot| {
            thread::sleep(LIMIT / 3);
            *slot = number;
            match number == 4 && tries.fetch_add(1, Ordering::SeqCst) < 3 {
                true => Err("not yet".into()),
                false => Ok(()),
            }
        })
        .unwrap();
    let mut epoch = loader.epoch(0);
    assert!(epoch.next().unwrap().unwrap().into_iter().eq(0..10));
    assert_eq!(epoch.report().failures[0].action, Action::Retried(3));
}

/// Who did what in the play of the next test.
#[derive(Default)]
struct Scene {
    /// The thread of the last run of batch 1.
    last_run: Option<thread::ThreadId>,
    /// The sample that was given up came back.
    came_back: bool,
    /// The last run of batch 1 has answered.
    answered: bool,
}

/// A data set of 140 numbers, of which some are late, and some not there until a scene is over.
struct Play {
    scene: Arc<Mutex<Scene>>,
    door: Arc<Door>,
    ended: Mutex<mpsc::Sender<()>>,
    begun: Instant,
}

impl Dataset for Play {
    type Item = usize;

    fn get(&self, index: usize) -> Result<usize, BoxError> {
        let me = thread::current().id();
        if index == 7 {
            END.set(Some(Tells(self.ended.lock().unwrap().clone())));
            self.door.wait();
        }
        let mut scene = self.scene.lock().unwrap();
        if index == 12 {
            scene.last_run = Some(me);
        }
        // Its thread does something else: it has given its answer.
        scene.answered |= index >= 14 && scene.last_run == Some(me);
        let ready = match index {
            0 | 21.. => scene.answered,
            12 => scene.came_back,
            _ => true,
        };
        drop(scene);
        if ready || self.begun.elapsed() > AGES {
            return Ok(index);
        }
        // It is tried again: so it gets on, and is not given up.
        thread::sleep(Duration::from_millis(1));
        Err(std::io::Error::other("not yet").into())
    }

    fn len(&self) -> usize {
        140
    }
}

/// The order of the data, which tells when a thread of its choice asks for a position again: first it plans
/// with it.
struct Told {
    order: Sequential,
    asks: (thread::ThreadId, usize),
    asked: AtomicUsize,
    told: Mutex<mpsc::Sender<()>>,
}

impl Sampler for Told {
    fn len(&self) -> usize {
        self.order.len()
    }

    fn index(&self, epoch: u64, position: usize) -> usize {
        let asks = self.asks == (thread::current().id(), position);
        if asks && self.asked.fetch_add(1, Ordering::SeqCst) > 0 {
            let _ = self.told.lock().unwrap().send(());
        }
        self.order.index(epoch, position)
    }

    fn describe(&self) -> String {
        self.order.describe()
    }
}

#[test]
fn a_batch_that_was_given_up_never_comes_half_made() {
    // Batch 0 takes its time, so that the consumer hears of batch 1 long before its turn. In batch 1, sample
    // 7 hangs, is given up, and comes back after all. Then the last run of batch 1 ends, with 12 and without
    // 13: the batch had failed, and the rest of it was not made. What the consumer gets must still be the
    // error.
    quiet();
    for policy in [OnError::Fail, OnError::Skip { at_most: FailureBudget::Count(0) }] {
        let door = Arc::new(Door::default());
        let opens = Opens(Arc::clone(&door));
        let scene = Arc::new(Mutex::new(Scene::default()));
        let (ended, end) = mpsc::channel();
        let dataset =
            Play { scene: Arc::clone(&scene), door, ended: Mutex::new(ended), begun: Instant::now() };
        let (told, heard) = mpsc::channel();
        let asks = (thread::current().id(), 7);
        let order =
            Told { order: Sequential::new(140), asks, asked: AtomicUsize::new(0), told: Mutex::new(told) };
        let loader = Loader::builder(dataset)
            .sampler(order)
            .batch_size(7)
            .workers(3)
            .prefetch(12)
            .timeout(LIMIT)
            .on_error(policy)
            .retry(Retry::io(u32::MAX, Duration::ZERO))
            .build(Scalar::<usize>::new(), |number, _, slot| {
                *slot = number;
                Ok(())
            })
            .unwrap();
        let helper = thread::spawn(move || {
            // The consumer has heard that sample 7 was given up, and asks which index that is.
            heard.recv_timeout(AGES).unwrap();
            opens.0.open();
            end.recv_timeout(AGES).unwrap();
            scene.lock().unwrap().came_back = true;
        });
        let mut epoch = loader.epoch(0);
        assert!(epoch.next().unwrap().unwrap().into_iter().eq(0..7));
        match epoch.next().unwrap() {
            Err(error) => assert_eq!((error.kind(), error.index()), (&ErrorKind::TimedOut, Some(7))),
            Ok(batch) => panic!("batch 1 was given up, and came as {batch:?}"),
        }
        helper.join().unwrap();
    }
}

#[test]
fn a_sample_that_hangs_in_anothers_place_is_found_out() {
    // 0 cannot be read, and 1 hangs, also where it is to take the place of 0. Which one is tried first
    // depends on the seed.
    struct Odd(Arc<Door>);
    impl Dataset for Odd {
        type Item = usize;

        fn get(&self, index: usize) -> Result<usize, BoxError> {
            match index {
                0 => return Err(std::io::Error::other("bad sector").into()),
                1 => self.0.wait(),
                _ => {}
            }
            Ok(index)
        }
        fn len(&self) -> usize {
            6
        }
    }
    let cases: Vec<_> = (0..8).flat_map(|seed| [1, 3].map(|workers| (seed, workers))).collect();
    several_at_once(&cases, |&(seed, workers)| {
        let door = Arc::new(Door::default());
        let _opens = Opens(Arc::clone(&door));
        let loader = Loader::builder(Odd(door))
            .batch_size(3)
            .seed(seed)
            .workers(workers)
            .timeout(LIMIT)
            .on_error(OnError::Replace { at_most: FailureBudget::Count(2) })
            .build(Scalar::<usize>::new(), |number, _, slot| {
                *slot = number;
                Ok(())
            })
            .unwrap();
        let mut epoch = loader.epoch(0);
        let case = format!("seed {seed}, {workers} workers");
        let first = epoch.next().unwrap().unwrap_or_else(|error| panic!("{case}: {error}"));
        assert_eq!(first, [2, 2, 2], "{case}");
        let incidents = &epoch.report().failures;
        let named: Vec<_> =
            incidents.iter().map(|one| (one.error.index().unwrap(), one.error.kind())).collect();
        assert_eq!(named, [(0, &ErrorKind::Dataset), (1, &ErrorKind::TimedOut)], "{case}");
        assert_eq!(epoch.next().unwrap().unwrap(), [3, 4, 5], "{case}");
    });
}

#[test]
fn a_loader_whose_samples_hang_can_be_dropped_all_the_same() {
    let all: Vec<usize> = (0..LEN).collect();
    let mut cases = Vec::new();
    for threads in SOME {
        for stage in [Stage::Dataset, Stage::Transform] {
            // All hang from the start, or the consumer got something first.
            cases.extend([(threads, stage, 0), (threads, stage, 1)]);
        }
    }
    several_at_once(&cases, |&(threads, stage, taken)| {
        let (fault, _opens) = Fault::new(stage, What::Hang, &all[taken * SIZE..]);
        let loader = loader(&fault, OnError::Fail, threads);
        let mut epoch = loader.epoch(0);
        for batch in 0..taken {
            assert_eq!(samples(0, &epoch.next().unwrap().unwrap()), plan(batch));
        }
        let begun = Instant::now();
        while fault.met.load(Ordering::SeqCst) == 0 {
            assert!(begun.elapsed() < AGES, "no sample was begun");
            thread::yield_now();
        }
        let begun = Instant::now();
        drop(epoch);
        assert!(begun.elapsed() < LIMIT, "an epoch waits for nobody: {:?}", begun.elapsed());
        drop(loader);
        assert!(begun.elapsed() < LIMIT + Duration::from_secs(1), "{threads:?}: {:?}", begun.elapsed());
    });
}

#[test]
fn a_sample_that_hangs_keeps_no_other_batch_waiting_if_they_come_as_completed() {
    let (fault, _opens) = Fault::new(Stage::Dataset, What::Hang, &[1]);
    let loader = Loader::builder(Numbers { len: LEN, fault: Arc::clone(&fault) })
        .batch_size(SIZE)
        .workers(2)
        .as_completed(true)
        .timeout(Duration::from_secs(2))
        .on_error(OnError::Skip { at_most: FailureBudget::Count(1) })
        .build(Scalar::<usize>::new(), |number, _, slot| {
            *slot = number;
            Ok(())
        })
        .unwrap();
    let begun = Instant::now();
    let mut epoch = loader.epoch(0);
    let mut others: Vec<_> = epoch.by_ref().take(4).map(Result::unwrap).collect();
    let (waited, state) = (begun.elapsed(), epoch.state());
    others.sort();
    assert_eq!(others, (1..5).map(plan).collect::<Vec<_>>(), "after {waited:?}");
    assert_eq!((state.batch, &state.ahead[..]), (0, &[0b11110][..]));
    assert_eq!(epoch.next().unwrap().unwrap(), [0, 2, 3, 4]);
    assert!(epoch.next().is_none());
    assert_eq!((epoch.state().batch, epoch.state().ahead), (5, vec![]));
}

#[test]
fn samples_just_around_their_limit_are_delivered_whole_or_named() {
    const LEN: usize = 40;
    let cases: Vec<_> = (0..12u64)
        .flat_map(|seed| {
            [
                OnError::Skip { at_most: FailureBudget::Count(usize::MAX) },
                OnError::Replace { at_most: FailureBudget::Count(1000) },
            ]
            .map(|policy| (seed, policy))
        })
        .collect();
    several_at_once(&cases, |&(seed, policy)| {
        let calls: Vec<AtomicUsize> = (0..LEN).map(|_| AtomicUsize::new(0)).collect();
        let mut builder = Loader::builder((0..LEN).collect::<Vec<_>>())
            .batch_size(4)
            .workers(1 + seed as usize % 4)
            .seed(seed)
            .as_completed(seed % 3 == 0)
            .timeout(Duration::from_millis(20))
            .on_error(policy);
        if seed % 4 == 3 {
            builder = builder.readers(2);
        }
        let loader = builder
            .build((Stack::<u8, 1>::new([64]), Scalar::<usize>::new()), move |index, _, (row, slot)| {
                *slot = index;
                row[..32].fill(index as u8);
                let call = calls[index].fetch_add(1, Ordering::SeqCst);
                let key = derive_seed(seed, Purpose::Sample, call as u64, index as u64);
                let mut dice = SampleRng::from_seed(key);
                if dice.chance(0.1) {
                    thread::sleep(Duration::from_micros(10_000 + dice.below(20_000)));
                }
                // Perhaps nobody waits for it any more.
                row[32..].fill(index as u8);
                Ok(())
            })
            .unwrap();
        for number in 0..2 {
            let mut epoch = loader.epoch(number);
            let (mut delivered, mut failed) = (Vec::new(), None);
            for batch in epoch.by_ref() {
                match batch {
                    Ok((rows, numbers)) => {
                        let whole = numbers.iter().flat_map(|&number| [number as u8; 64]);
                        assert!(whole.eq(rows.values.iter().copied()), "seed {seed}, {policy:?}");
                        delivered.extend(numbers);
                    }
                    Err(error) => failed = Some(error),
                }
            }
            if let Some(error) = failed {
                // By chance all samples of a batch took too long, so that nothing was left to take their
                // place; or a collation did, on a busy machine.
                assert_eq!(error.kind(), &ErrorKind::TimedOut, "{error}");
                assert!(error.index().is_none() || matches!(policy, OnError::Replace { .. }), "{error}");
                continue;
            }
            for incident in &epoch.report().failures {
                assert_eq!(incident.error.kind(), &ErrorKind::TimedOut);
                match incident.action {
                    Action::Skipped => delivered.push(incident.error.index().unwrap()),
                    Action::Replaced(instead) => {
                        let place = delivered.iter().position(|&number| number == instead).unwrap();
                        delivered[place] = LEN + incident.error.index().unwrap();
                    }
                    remedy => panic!("{remedy:?}"),
                }
            }
            // What was replaced comes back under its own number.
            let all: BTreeSet<usize> = delivered.iter().map(|number| number % LEN).collect();
            assert_eq!((delivered.len(), all.len()), (LEN, LEN), "seed {seed}, {policy:?}");
        }
    });
}
