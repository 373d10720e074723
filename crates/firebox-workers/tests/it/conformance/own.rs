//! Workers that are used by their own tasks.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use firebox_workers::{Workers as _, WorkersExt as _};

use super::act::Place;
use super::{Act, Double, Play, Subject};

/// A task's use of the workers that run it.
type Use = Arc<dyn Fn(u64) -> u64 + Send + Sync>;

/// The workers that tasks can reach, by number.
fn reachable() -> MutexGuard<'static, BTreeMap<u64, Use>> {
    static REACHABLE: Mutex<BTreeMap<u64, Use>> = Mutex::new(BTreeMap::new());
    REACHABLE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// The sum of the first numbers, by the workers with this number.
pub(super) fn sum(key: u64, tasks: u64) -> u64 {
    let with = reachable().get(&key).cloned().unwrap();
    with(tasks)
}

pub(crate) fn a_worker_that_uses_its_own_workers_runs_the_tasks_itself<S: Subject>(workers: usize)
where
    S::Workers: Sync,
{
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let key = NEXT.fetch_add(1, Ordering::Relaxed);
    let pool = Arc::new(S::new(workers));
    let inner = Arc::clone(&pool);
    let with = move |tasks: u64| {
        assert_eq!(inner.capacity(), 0, "it must not wait for itself");
        let here = Place::here();
        let in_a_stream = inner.imap(Play, (0..tasks).map(Act::Echo), 4).map(Result::unwrap);
        let summed: u64 =
            in_a_stream.map(|played| if played.place == here { played.value } else { 1000 }).sum();
        let doubled: u64 = inner.map(Double, 0..tasks).unwrap().into_iter().sum();
        assert_eq!(doubled, 2 * summed);
        assert_eq!(inner.submit((Play, Act::Echo(7))).wait().unwrap().place, here);
        summed
    };
    reachable().insert(key, Arc::new(with));
    let sums = pool.map(Play, (1..=8).map(|tasks| Act::Own { key, tasks })).unwrap();
    assert!(sums.into_iter().map(|played| played.value).eq([0, 1, 3, 6, 10, 15, 21, 28]));
    reachable().remove(&key);
}
