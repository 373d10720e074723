//! The loader under more than a thousand random settings, faults and timings, against a plain model of one
//! epoch that is computed without it, one sample after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use firebox_data::collate::Ragged;
use firebox_data::loader::{Action, Epoch, FailureBudget, Retry};
use firebox_data::sampler::{Sampler, Shuffled};
use firebox_data::seed::{Purpose, StageKey, derive_seed};
use firebox_data::{BoxError, Dataset, ErrorKind, Loader, LoaderState, OnError, SampleRng, Stack};
use rand_core::{SeedableRng, TryRng};
use rand_xoshiro::Xoshiro256PlusPlus;

const SEEDS: u64 = 1024;

/// Random numbers of the test's own.
fn dice(seed: u64, what: u64, number: usize) -> SampleRng {
    SampleRng::from_seed(derive_seed(seed, Purpose::Sample, what, number as u64))
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    Reading,
    ReadingPanics,
    Transform,
    TransformPanics,
    /// Cannot be read the first times; then it can.
    Passing(usize),
}

impl Fault {
    /// The kind of error that is left when all was tried.
    fn kind(self) -> Option<ErrorKind> {
        match self {
            Fault::Reading => Some(ErrorKind::Dataset),
            Fault::Transform => Some(ErrorKind::Transform),
            Fault::ReadingPanics | Fault::TransformPanics => Some(ErrorKind::Panic),
            Fault::Passing(_) => None,
        }
    }
}

/// A case: all that decides the batches of an epoch, but for time.
#[derive(Clone, Debug)]
struct Case {
    seed: u64,
    epoch: u64,
    len: usize,
    size: usize,
    shuffle: bool,
    drop_last: bool,
    policy: OnError,
    faults: BTreeMap<usize, Fault>,
    /// A sample with which no batch can be collated, and whether that panics.
    sticks: Option<(usize, bool)>,
}

impl Case {
    fn random(seed: u64) -> Case {
        let mut dice = dice(seed, 0, 0);
        let mut below = |n: u64| dice.below(n) as usize;
        let (len, size, epoch) = (below(61), 1 + below(9), below(3) as u64);
        // None, one in twenty, one in five.
        let share = [0, 5, 20][below(3)];
        let mut faults = BTreeMap::new();
        for index in 0..len {
            if below(100) < share {
                let kinds = [
                    Fault::Reading,
                    Fault::ReadingPanics,
                    Fault::Transform,
                    Fault::TransformPanics,
                    Fault::Passing(1),
                    Fault::Passing(2),
                ];
                faults.insert(index, kinds[below(6)]);
            }
        }
        // Enough for all, for some, or for none.
        let at_most = [usize::MAX, below(6), 0][below(3)];
        let policy = match below(4) {
            0 => OnError::Fail,
            1 | 2 => OnError::Skip { at_most: FailureBudget::Count(at_most) },
            _ => OnError::Replace { at_most: FailureBudget::Count(at_most) },
        };
        let sticks = (below(8) == 0).then(|| (below(61), below(2) == 0));
        let (shuffle, drop_last) = (below(2) == 0, below(4) == 0);
        Case { seed, epoch, len, size, shuffle, drop_last, policy, faults, sticks }
    }

    /// The same without anything that goes wrong.
    fn repaired(&self) -> Case {
        Case { faults: BTreeMap::new(), sticks: None, ..self.clone() }
    }

    fn limit(&self) -> usize {
        match self.policy {
            OnError::Skip { at_most: FailureBudget::Count(at_most) }
            | OnError::Replace { at_most: FailureBudget::Count(at_most) } => at_most,
            _ => 0,
        }
    }

    fn batches(&self) -> usize {
        if self.drop_last { self.len / self.size } else { self.len.div_ceil(self.size) }
    }

    fn order(&self) -> Vec<usize> {
        let shuffled = Shuffled::new(self.len, self.seed);
        let index = |place| if self.shuffle { shuffled.index(self.epoch, place) } else { place };
        (0..self.len).map(index).collect()
    }

    fn fault(&self, index: usize) -> Option<ErrorKind> {
        self.faults.get(&index)?.kind()
    }

    /// The outcome of each batch.
    fn model(&self) -> BTreeMap<usize, Outcome> {
        let order = self.order();
        let samples = self.len.min(self.batches() * self.size);
        (0..self.batches())
            .map(|batch| {
                let first = batch * self.size;
                let last = (first + self.size).min(self.len);
                (batch, self.outcome(&order[..samples], first, last))
            })
            .collect()
    }

    fn outcome(&self, order: &[usize], first: usize, last: usize) -> Outcome {
        let mut outcome = Outcome::default();
        for (position, &index) in (first..last).zip(&order[first..last]) {
            let Some(kind) = self.fault(index) else {
                outcome.samples.push(index);
                outcome.positions.push(position);
                continue;
            };
            let remedy = match self.policy {
                OnError::Skip { .. } => Some(Action::Skipped),
                OnError::Replace { .. } => {
                    let others = if last - first == 1 { 0..order.len() } else { first..last };
                    self.substitute(&order[others], position, index).map(Action::Replaced)
                }
                _ => None,
            };
            let Some(remedy) = remedy else {
                outcome.error = Some((kind, Some(index)));
                return outcome;
            };
            if let Action::Replaced(instead) = remedy {
                outcome.samples.push(instead);
                outcome.positions.push(position);
            }
            outcome.failures.push((index, kind, remedy));
        }
        if self.sticks.is_some_and(|(sample, _)| outcome.samples.contains(&sample)) {
            outcome.error = Some((ErrorKind::Collate, None));
        }
        outcome
    }

    /// The first of 64 random samples that can be made.
    fn substitute(&self, others: &[usize], position: usize, lost: usize) -> Option<usize> {
        let key = derive_seed(self.seed, Purpose::Substitute, self.epoch, position as u64);
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(key);
        (0..64).find_map(|_| {
            // Few enough that the multiplication alone is without bias, but for one draw in 2⁵⁸.
            let Ok(bits) = rng.try_next_u64();
            let index = others[((u128::from(bits) * others.len() as u128) >> 64) as usize];
            (index != lost && self.fault(index).is_none()).then_some(index)
        })
    }

    /// The values of a batch that went so.
    fn values(&self, outcome: &Outcome) -> Vec<u64> {
        let bits = |&at: &usize| SampleRng::new(self.seed, self.epoch, at as u64, &StageKey::WRITE).bits();
        let samples = outcome.samples.iter().zip(&outcome.positions);
        samples.flat_map(|(&index, at)| [index as u64, bits(at)]).collect()
    }
}

#[derive(Clone, Debug, Default)]
struct Outcome {
    samples: Vec<usize>,
    /// The positions in the epoch that they stand at.
    positions: Vec<usize>,
    /// Samples lost before the error, if there is one.
    failures: Vec<(usize, ErrorKind, Action)>,
    error: Option<(ErrorKind, Option<usize>)>,
}

impl Outcome {
    /// The error that the epoch ends in with this batch, after so many samples lost before; and whether it is
    /// that there are too many of them.
    fn error(&self, lost: usize, limit: usize) -> Option<(ErrorKind, Option<usize>, bool)> {
        match self.failures[..].get(limit.saturating_sub(lost)) {
            Some((index, kind, _)) => Some((kind.clone(), Some(*index), true)),
            None => self.error.clone().map(|(kind, index)| (kind, index, false)),
        }
    }
}

/// Holds a thread up for a moment, or not: as (seed, stage, index) says.
fn perturb(seed: u64, stage: u64, index: usize) {
    let mut dice = dice(seed, stage, index);
    match dice.below(32) {
        0..4 => thread::yield_now(),
        4..8 => (0..dice.below(3000)).for_each(|_| std::hint::spin_loop()),
        8 => thread::sleep(Duration::from_micros(dice.below(80))),
        _ => {}
    }
}

struct Perturbed {
    case: Case,
    tries: Vec<AtomicUsize>,
}

impl Dataset for Perturbed {
    type Item = usize;

    fn get(&self, index: usize) -> Result<usize, BoxError> {
        perturb(self.case.seed, 1, index);
        match self.case.faults.get(&index) {
            Some(Fault::Reading) => Err("x".parse::<u8>().unwrap_err().into()),
            Some(Fault::ReadingPanics) => panic!("bad sector"),
            Some(Fault::Passing(times)) if self.tries[index].fetch_add(1, Ordering::SeqCst) < *times => {
                Err(std::io::Error::other("not yet").into())
            }
            _ => Ok(index),
        }
    }

    fn len(&self) -> usize {
        self.case.len
    }
}

type Close = Box<dyn Fn(Vec<usize>) -> Result<Vec<usize>, BoxError> + Send + Sync>;
type Layout = (Stack<u64, 1>, Ragged<usize, Vec<usize>, Close>);

/// A loader of the case with random other settings, and whether its batches come as they complete.
fn loader(case: &Case, fewest: u64, dice: &mut SampleRng) -> (Loader<Layout>, bool) {
    let as_completed = dice.below(2) == 0;
    let workers = fewest.max(dice.below(7)) as usize;
    let tries = (0..case.len).map(|_| AtomicUsize::new(0)).collect();
    let mut builder = Loader::builder(Perturbed { case: case.clone(), tries })
        .seed(case.seed)
        .shuffle(case.shuffle)
        .batch_size(case.size)
        .drop_last(case.drop_last)
        .on_error(case.policy)
        .retry(Retry::io(2, Duration::ZERO))
        .prefetch(1 + dice.below(5) as usize)
        .as_completed(as_completed)
        .workers(workers);
    if workers > 0 && dice.below(3) == 0 {
        builder = builder.readers(1 + dice.below(3) as usize);
    }
    if dice.below(4) == 0 {
        builder = builder.prefetch_bytes(dice.below(500) as usize);
    }
    if workers > 0 && dice.below(4) == 0 {
        builder = builder.timeout(Duration::from_secs(100));
    }
    let (seed, faults, sticks) = (case.seed, case.faults.clone(), case.sticks);
    let close: Close = Box::new(move |samples| {
        perturb(seed, 3, samples.first().copied().unwrap_or(0));
        match sticks {
            Some((sample, false)) if samples.contains(&sample) => Err("stuck".into()),
            Some((sample, true)) if samples.contains(&sample) => panic!("stuck"),
            _ => Ok(samples),
        }
    });
    let loader = builder.build((Stack::new([2]), Ragged::new(close)), move |index, rng, (row, slot)| {
        row[0] = index as u64;
        perturb(seed, 2, index);
        match faults.get(&index) {
            Some(Fault::Transform) => return Err("bad sample".into()),
            Some(Fault::TransformPanics) => panic!("bad sample"),
            _ => {}
        }
        row[1] = rng.bits();
        *slot = Some(index);
        Ok(())
    });
    (loader.unwrap(), as_completed)
}

/// The batches that a state says are done.
fn done(state: &LoaderState) -> BTreeSet<usize> {
    let ahead = state.ahead.iter().enumerate().flat_map(|(word, bits)| {
        (0..64).filter(move |bit| bits >> bit & 1 == 1).map(move |bit| state.batch + 64 * word + bit)
    });
    (0..state.batch).chain(ahead).collect()
}

/// The next batch, waited for or asked for until it is there.
fn next(epoch: &mut Epoch<'_, Layout>, wait: bool) -> Option<<Epoch<'static, Layout> as Iterator>::Item> {
    if wait {
        return epoch.next();
    }
    loop {
        match epoch.try_next() {
            Poll::Ready(next) => return next,
            Poll::Pending => thread::yield_now(),
        }
    }
}

/// Takes up to `stop` batches from an epoch and compares each with the model. Gives the state behind them,
/// and whether the epoch ended in an error.
fn check(
    case: &Case,
    loader: &Loader<Layout>,
    mut epoch: Epoch<'_, Layout>,
    in_order: bool,
    stop: usize,
) -> (LoaderState, bool) {
    let model = case.model();
    let start = done(&epoch.state());
    let lost =
        |batches: &BTreeSet<usize>| batches.iter().map(|batch| model[batch].failures.len()).sum::<usize>();
    let (mut before, mut failed) = (start.clone(), false);
    for call in 0..stop {
        // Without workers nothing is ever there.
        let wait = loader.workers() == 0 || dice(case.seed, 10, call).chance(0.7);
        let next = next(&mut epoch, wait);
        let now = done(&epoch.state());
        assert!(now.is_superset(&before) && now.iter().all(|batch| *batch < case.batches()));
        assert_eq!(epoch.state().faults, lost(&now));
        let new: BTreeSet<usize> = now.difference(&before).copied().collect();
        assert!(
            new.iter().all(|batch| model[batch].error(0, usize::MAX).is_none()),
            "a bad batch is behind us"
        );
        let left: Vec<usize> = model.keys().copied().filter(|batch| !before.contains(batch)).collect();
        assert!(!in_order || new.iter().eq(left.iter().take(new.len())), "{new:?} of {left:?}");
        // Batches of which nothing is left are passed over.
        let full: Vec<usize> = new.iter().copied().filter(|batch| !model[batch].samples.is_empty()).collect();
        match next {
            Some(Ok((rows, numbers))) => {
                let [batch] = full[..] else { panic!("one batch was delivered, behind us are {full:?}") };
                assert_eq!((&numbers, rows.samples), (&model[&batch].samples, numbers.len()));
                assert_eq!(rows.values, case.values(&model[&batch]));
            }
            Some(Err(error)) => {
                assert!(full.is_empty(), "behind an error are {full:?}");
                let too_many = error.to_string().contains("cannot be made:");
                let seen = (error.kind().clone(), error.index(), too_many);
                let mut possible = left.iter().filter(|batch| !new.contains(batch));
                let expected =
                    |batch: &usize| model[batch].error(lost(&now), case.limit()).as_ref() == Some(&seen);
                match in_order {
                    true => assert!(possible.next().is_some_and(expected), "{seen:?}: {error}"),
                    false => assert!(possible.any(expected), "{seen:?}: {error}"),
                }
                assert!(epoch.next().is_none());
                failed = true;
            }
            None => assert!(full.is_empty() && now.len() == model.len(), "{} of {}", now.len(), model.len()),
        }
        before = now;
        if failed {
            break;
        }
    }
    let report = epoch.report();
    let new: Vec<usize> = before.difference(&start).copied().collect();
    assert_eq!(report.samples, new.iter().map(|batch| model[batch].samples.len()).sum::<usize>());
    let mut named: Vec<_> = report
        .failures
        .iter()
        .filter(|incident| !matches!(incident.action, Action::Retried(_)))
        .map(|incident| (incident.error.index().unwrap(), incident.error.kind().clone(), incident.action))
        .collect();
    if !failed {
        let mut expected: Vec<_> = new.iter().flat_map(|batch| model[batch].failures.clone()).collect();
        named.sort_by_key(|incident| incident.0);
        expected.sort_by_key(|incident| incident.0);
        assert_eq!(named, expected);
    }
    let state = epoch.state();
    assert_eq!(done(&state), before);
    (state, failed)
}

/// One case: an epoch that is dropped somewhere, goes on in another loader, and, should it fail there, in one
/// where nothing is wrong any more.
fn play(seed: u64) {
    let case = Case::random(seed);
    let mut dice = dice(seed, 9, 0);
    let (first, as_completed) = loader(&case, 1, &mut dice);
    let stop = dice.below(case.batches() as u64 + 2) as usize;
    let (state, failed) = check(&case, &first, first.epoch(case.epoch), !as_completed, stop);
    let text = serde_json::to_string(&state).unwrap();
    let state: LoaderState = serde_json::from_str(&text).unwrap();
    // The first loader is still there, with work of the epoch that was dropped.
    let case = if failed { case.repaired() } else { case };
    let (second, as_completed) = loader(&case, 0, &mut dice);
    let rest = second.resume(&state).unwrap();
    if failed {
        // What was lost before stays lost; its count is the old case's, so that only the batches are
        // compared.
        let model = case.model();
        let mut left: Vec<Vec<u64>> = model
            .iter()
            .filter(|(batch, _)| !done(&state).contains(batch))
            .map(|(_, outcome)| case.values(outcome))
            .collect();
        let mut rest: Vec<Vec<u64>> = rest.map(|batch| batch.unwrap().0.values.into_vec()).collect();
        if as_completed {
            left.sort();
            rest.sort();
        }
        assert_eq!(rest, left, "after an error");
        return;
    }
    let (state, failed) = check(&case, &second, rest, !as_completed, case.batches() + 2);
    assert!(failed || done(&state).len() == case.batches());
}

/// The name of the case, if it fails.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("seed {}: {:#?}", self.0, Case::random(self.0));
        }
    }
}

#[test]
fn every_schedule_gives_what_the_model_gives() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        // Panics of workers, and of samples made in the caller, are part of the plan.
        let planned = ["bad sector", "bad sample", "stuck"];
        if !info.payload_as_str().is_some_and(|text| planned.contains(&text)) {
            print(info);
        }
    }));
    let next = Arc::new(AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..8 {
            let next = Arc::clone(&next);
            scope.spawn(move || {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst) as u64;
                    if seed >= SEEDS {
                        break;
                    }
                    let _named = Named(seed);
                    play(seed);
                }
            });
        }
    });
}
