//! The number of workers, if the user leaves it to the loader.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::available_parallelism;
use std::time::Duration;

use crate::loader::report::counted;

/// The most workers that are chosen: for data behind a slow network.
const MOST: usize = 64;

/// The shortest time that is worth comparing: long beside a batch that comes late by chance.
const SPAN: Duration = Duration::from_millis(200);

/// The number of cores that the process may use.
pub(super) fn cores() -> usize {
    static CORES: OnceLock<usize> = OnceLock::new();
    *CORES.get_or_init(|| available_parallelism().map_or(1, usize::from))
}

/// Begins with half of the cores, and doubles the number of workers as long as the consumer waits for data,
/// the workers are busy most of the time, and the last doubling made the loader faster by a third at least.
///
/// Workers that compute are never more than the cores: more would but share them, with each other and with
/// training. Beyond that only those come that wait for something else, so many that what all of them compute
/// fits the cores.
pub(super) struct Auto {
    cores: usize,
    /// Threads of the pool that are there for reading.
    readers: usize,
    trial: Mutex<Trial>,
}

#[derive(Default)]
struct Trial {
    /// Since the last choice.
    span: Span,
    /// How many workers there were before these, and their samples/s.
    before: Option<(usize, f64)>,
    /// True if more workers were of no use.
    settled: bool,
    /// The finding, in words.
    found: String,
}

/// The loader as the consumer saw it.
#[derive(Clone, Copy, Default)]
pub(super) struct Span {
    pub(super) elapsed: Duration,
    pub(super) waited: Duration,
    /// The workers' time on the batches, all of them together.
    pub(super) busy: Duration,
    /// For how much of that they wanted a core, whether they had it or stood in the queue for it.
    pub(super) computing: Duration,
    pub(super) samples: usize,
}

impl Span {
    fn add(&mut self, span: Span) {
        self.elapsed = self.elapsed.saturating_add(span.elapsed);
        self.waited = self.waited.saturating_add(span.waited);
        self.busy = self.busy.saturating_add(span.busy);
        self.computing = self.computing.saturating_add(span.computing);
        self.samples += span.samples;
    }
}

impl Auto {
    /// Beside `readers` the number of workers, which is then that of transforms at the same time, follows
    /// from the cores alone.
    pub(super) fn new(readers: usize) -> Self {
        let trial = Trial { settled: readers > 0, ..Trial::default() };
        Auto { cores: cores(), readers, trial: Mutex::new(trial) }
    }

    pub(super) fn first(&self) -> usize {
        (self.cores / 2).clamp(1, 8)
    }

    /// Hears how the last batch went, and says how many workers there should be.
    pub(super) fn learn(&self, workers: usize, span: Span) -> usize {
        let mut trial = self.trial();
        if trial.settled {
            return workers;
        }
        trial.span.add(span);
        // Each worker was to have a few samples behind it, besides those that were on their way.
        if trial.span.elapsed < SPAN || trial.span.samples < 8 * workers {
            return workers;
        }
        let Span { elapsed, waited, busy, computing, samples } = std::mem::take(&mut trial.span);
        let rate = samples as f64 / elapsed.as_secs_f64();
        if waited.saturating_mul(5) < elapsed {
            trial.found = format!("the consumer waited {:.0} % of the time", share(waited, elapsed));
            trial.before = None;
            return workers;
        }
        let time = elapsed.saturating_mul(workers as u32);
        if busy.saturating_mul(2) < time {
            // Whatever is slow, such as a machine that others use too, it is not that there are too few
            // workers.
            trial.found =
                format!("the workers had nothing to do {:.0} % of the time", 100.0 - share(busy, time));
            trial.before = None;
            return workers;
        }
        match trial.before {
            Some((fewer, before)) if rate < before * 4.0 / 3.0 => {
                trial.settled = true;
                trial.found = format!("{workers} were {:.2} times as fast as {fewer}", rate / before);
                workers
            }
            _ if workers >= MOST => {
                trial.settled = true;
                workers
            }
            _ => match self.more(workers, computing.div_duration_f64(busy)) {
                Some(more) => {
                    trial.before = Some((workers, rate));
                    trial.found = format!("{workers} made {rate:.0} samples/s");
                    more
                }
                None => {
                    let computed = share(computing, busy);
                    trial.before = None;
                    trial.found =
                        format!("they compute {computed:.0} % of their time, and more would share the cores");
                    workers
                }
            },
        }
    }

    /// The next number of workers, if each of them computes for this share of its time; `None` if the cores
    /// have enough to do.
    fn more(&self, workers: usize, computing: f64) -> Option<usize> {
        let twice = (2 * workers).min(MOST);
        match twice as f64 * computing <= self.cores as f64 {
            true => Some(twice),
            false => Some(self.cores.min(twice)).filter(|&cores| cores > workers),
        }
    }

    /// The choice so far, in words.
    pub(super) fn describe(&self, threads: usize) -> String {
        let (cores, workers, trial) = (self.cores, threads.saturating_sub(self.readers), self.trial());
        let found = match trial.found.is_empty() {
            true => String::new(),
            false => format!("; {}", trial.found),
        };
        format!("chose {} on {}{found}", counted(workers, "worker"), counted(cores, "core"))
    }

    fn trial(&self) -> MutexGuard<'_, Trial> {
        // Nothing panics under this lock.
        self.trial.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn share(part: Duration, whole: Duration) -> f64 {
    100.0 * part.as_secs_f64() / whole.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use firebox_core::SampleRng;

    /// The span of a consumer that does nothing but wait for so many samples a second, which keep the workers
    /// busy, but not the cores.
    fn span(workers: usize, rate: f64) -> Span {
        let elapsed = Duration::from_secs(1);
        let (busy, computing) = (elapsed * workers as u32, Duration::ZERO);
        Span { elapsed, waited: elapsed, busy, computing, samples: rate as usize }
    }

    /// The same of workers that compute for this share of their time.
    fn computing(workers: usize, rate: f64, share: f64) -> Span {
        let span = span(workers, rate);
        Span { computing: span.busy.mul_f64(share), ..span }
    }

    fn auto(cores: usize) -> Auto {
        Auto { cores, readers: 0, trial: Mutex::default() }
    }

    #[test]
    fn workers_that_compute_are_no_more_than_the_cores() {
        for (cores, expected) in [(1, 1), (2, 2), (3, 3), (4, 4), (6, 6), (16, 16), (128, 64)] {
            // However fast more of them seem to be: who competes with training for cores sees any rate.
            for gain in [1.4, 2.0, 3.0] {
                let auto = auto(cores);
                let (mut workers, mut rate) = (auto.first(), 100.0);
                for _ in 0..20 {
                    workers = auto.learn(workers, computing(workers, rate, 1.0));
                    assert!(workers <= cores);
                    rate *= gain;
                }
                assert_eq!(workers, expected, "{cores} cores");
            }
        }
        let auto = auto(2);
        assert_eq!(
            (auto.learn(1, computing(1, 100.0, 1.0)), auto.learn(2, computing(2, 150.0, 0.98))),
            (2, 2)
        );
        let said =
            "chose 2 workers on 2 cores; they compute 98 % of their time, and more would share the cores";
        assert_eq!(auto.describe(2), said);
    }

    #[test]
    fn workers_that_wait_are_as_many_as_their_computing_fits_the_cores() {
        for (share, expected) in [(1.0, 2), (0.6, 2), (0.5, 4), (0.3, 4), (0.25, 8), (0.1, 16), (0.0, 64)] {
            let auto = auto(2);
            let (mut workers, mut rate) = (auto.first(), 100.0);
            for _ in 0..20 {
                workers = auto.learn(workers, computing(workers, rate, share));
                rate *= 2.0;
            }
            assert_eq!(workers, expected, "they compute {share} of their time");
        }
    }

    /// The same machine, heard with the noise of another run each time.
    #[test]
    fn the_choice_is_the_same_from_run_to_run() {
        let choose = |seed| {
            let (auto, mut rng) = (auto(2), SampleRng::from_seed(seed));
            let mut workers = auto.first();
            for _ in 0..200 {
                // Two threads compute beside them. Whether the workers run or stand in the queue, and how
                // fast they are, depends on what else the machine does.
                let noise = 0.5 + rng.uniform_f64();
                let span = computing(workers, 300.0 * noise, 0.9 + 0.1 * rng.uniform_f64());
                workers = auto.learn(workers, Span { waited: span.elapsed.mul_f64(0.3), ..span });
            }
            workers
        };
        assert!((0..100).all(|seed| choose(seed) == 2));
    }

    #[test]
    fn workers_are_added_while_they_help() {
        let auto = Auto { cores: 2, readers: 0, trial: Mutex::default() };
        let mut workers = auto.first();
        assert_eq!(workers, 1);
        for _ in 0..10 {
            // Samples that wait: every worker adds as many, up to eight.
            workers = auto.learn(workers, span(workers, 1000.0 * workers.min(8) as f64));
        }
        assert_eq!(workers, 16);
        assert_eq!(auto.describe(workers), "chose 16 workers on 2 cores; 16 were 1.00 times as fast as 8");
    }

    #[test]
    fn a_consumer_that_does_not_wait_needs_no_more() {
        let auto = Auto { cores: 8, readers: 0, trial: Mutex::default() };
        let mut workers = auto.first();
        for _ in 0..10 {
            workers =
                auto.learn(workers, Span { waited: Duration::from_millis(100), ..span(workers, 1000.0) });
        }
        assert_eq!(workers, 4);
    }

    #[test]
    fn workers_that_have_nothing_to_do_need_no_help() {
        let auto = Auto { cores: 2, readers: 0, trial: Mutex::default() };
        for rate in [1000.0, 2000.0, 4000.0] {
            let busy = Duration::from_millis(100);
            assert_eq!(auto.learn(1, Span { busy, ..span(1, rate) }), 1);
        }
        let said = auto.describe(1);
        assert_eq!(said, "chose 1 worker on 2 cores; the workers had nothing to do 90 % of the time");
        assert_eq!(auto.learn(1, span(1, 1000.0)), 2);
    }
}
