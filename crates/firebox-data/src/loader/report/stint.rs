//! When a worker worked, and on what.

use std::cell::Cell;
use std::fs;
use std::time::{Duration, Instant};

use firebox_workers::Worker;

use crate::loader::report::WorkerTime;

/// A worker's work without a break, on one batch or on one shard.
#[derive(Clone, Copy, Debug)]
pub(in crate::loader) struct Stint {
    pub(in crate::loader) begun: Instant,
    pub(in crate::loader) took: Duration,
    /// All stages together no more than `took`.
    pub(in crate::loader) busy: WorkerTime,
    /// How much of its stages the worker stood in the queue for a core.
    pub(in crate::loader) queued: Duration,
}

impl Stint {
    /// A stint that ends now.
    ///
    /// What the stages took may be an estimate from some of the samples: it is cut to the time that there
    /// was.
    pub(in crate::loader) fn end(begun: Instant, mut busy: WorkerTime, worker: Worker<'_>) -> Self {
        let took = begun.elapsed();
        if busy.total() > took {
            busy = busy.part(took, busy.total());
        }
        let Shares { running, queued } = Shares::of_thread(took, worker);
        // What is no stage, such as a wait for a permit, needs no core.
        busy.computing = took.mul_f64(running).min(busy.total());
        let queued = took.mul_f64(queued).min(busy.total().saturating_sub(busy.computing));
        Stint { begun, took, busy, queued }
    }
}

/// How much of the time of its tasks a thread ran on a core, and how much it waited for one. The rest it
/// slept: for a disk, a network, a lock.
#[derive(Clone, Copy)]
struct Shares {
    running: f64,
    queued: f64,
}

impl Shares {
    /// Where nobody knows, a worker computes: a loader must not take more cores than there are.
    const UNKNOWN: Shares = Shares { running: 1.0, queued: 0.0 };

    /// The latest of this thread, after another task that took so long.
    ///
    /// A thread between tasks sleeps, so that what it has run since it was last measured, it has run in
    /// tasks. That does not hold for the thread that calls the loader, which has work of its own: without
    /// workers nobody knows.
    fn of_thread(took: Duration, worker: Worker<'_>) -> Self {
        if worker.id().is_none() {
            return Self::UNKNOWN;
        }
        METER.with(|meter| {
            let mut now = meter.take().unwrap_or_else(Meter::new);
            now.worked += took;
            if now.worked >= MEASURED {
                now.measure();
            }
            meter.set(Some(now));
            now.shares
        })
    }
}

/// After so much work a thread is measured again: some ticks of the system's clock, by which it counts, and
/// long beside what it takes to ask (about ten microseconds).
const MEASURED: Duration = Duration::from_millis(20);

thread_local! {
    static METER: Cell<Option<Meter>> = const { Cell::new(None) };
}

#[derive(Clone, Copy)]
struct Meter {
    /// In tasks, since the last measurement.
    worked: Duration,
    /// The thread's time on a core and waiting for one then; `None` if the system doesn't tell.
    then: Option<[Duration; 2]>,
    shares: Shares,
}

impl Meter {
    /// At the end of the thread's first task: whatever it has run so far, it has run in that.
    fn new() -> Self {
        Meter { worked: Duration::ZERO, then: Some([Duration::ZERO; 2]), shares: Shares::UNKNOWN }
    }

    fn measure(&mut self) {
        let worked = std::mem::take(&mut self.worked);
        let Some(then) = self.then else { return };
        self.then = thread_times();
        let Some(now) = self.then else { return };
        let share = |place: usize| now[place].saturating_sub(then[place]).div_duration_f64(worked);
        let running = share(0).min(1.0);
        self.shares = Shares { running, queued: share(1).min(1.0 - running) };
    }
}

/// This thread's time on a core, and waiting for one. Known on Linux.
fn thread_times() -> Option<[Duration; 2]> {
    if cfg!(not(target_os = "linux")) {
        return None;
    }
    let text = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let mut times = text.split_ascii_whitespace().map(|number| number.parse().map(Duration::from_nanos));
    let times = [times.next()?.ok()?, times.next()?.ok()?];
    // A kernel that doesn't count says 0.
    (!times[0].is_zero()).then_some(times)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use firebox_workers::{Pool, Work, WorkersExt as _};

    use super::*;

    /// Computes for so many milliseconds of its own, or sleeps.
    struct Task;

    impl Work<(bool, u64)> for Task {
        type Output = Stint;

        fn run(&self, (sleeps, ms): (bool, u64), worker: Worker<'_>) -> Stint {
            let (begun, length) = (Instant::now(), Duration::from_millis(ms));
            match sleeps {
                true => std::thread::sleep(length),
                false => while begun.elapsed() < length {},
            }
            let busy = WorkerTime { transforming: begun.elapsed(), ..WorkerTime::default() };
            Stint::end(begun, busy, worker)
        }
    }

    #[test]
    fn a_worker_that_computes_is_told_from_one_that_waits() {
        let pool = Pool::threads(1).unwrap();
        for (sleeps, wanted) in [(true, 0.0..0.2), (false, 0.7..1.01), (true, 0.0..0.2)] {
            let stint = pool.imap(Task, [(sleeps, 60)], 1).next().unwrap().unwrap();
            assert!(stint.took >= Duration::from_millis(60) && stint.busy.total() <= stint.took);
            // Other threads may want the core: then this one stands in the queue for it.
            let share = (stint.busy.computing + stint.queued).div_duration_f64(stint.busy.total());
            assert!(cfg!(not(target_os = "linux")) || wanted.contains(&share), "sleeps {sleeps}: {share}");
        }
        // A thread of its own, which is no worker: what else it does nobody knows.
        let (to, from) = channel();
        std::thread::spawn(move || _ = to.send(Task.run((true, 30), Worker::CALLER)));
        let stint = from.recv().unwrap();
        assert_eq!((stint.busy.computing, stint.queued), (stint.busy.total(), Duration::ZERO));
    }

    #[test]
    fn stages_take_no_longer_than_the_stint() {
        let begun = Instant::now();
        let hour = Duration::from_secs(3600);
        let busy = WorkerTime { reading: hour, transforming: 3 * hour, ..WorkerTime::default() };
        let stint = Stint::end(begun, busy, Worker::CALLER);
        assert!(stint.busy.total() <= stint.took && stint.took < hour);
        assert!(stint.busy.transforming >= 2 * stint.busy.reading);
        let huge =
            WorkerTime { reading: Duration::MAX, transforming: Duration::MAX, ..WorkerTime::default() };
        assert!(Stint::end(begun, huge, Worker::CALLER).busy.total() < hour);
    }
}
