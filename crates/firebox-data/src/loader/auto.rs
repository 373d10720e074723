//! The number of workers, if the user leaves it to the loader.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::available_parallelism;
use std::time::Duration;

/// The most workers that are chosen: for data behind a slow network.
const MOST: usize = 64;

/// The shortest time that is worth comparing.
const SPAN: Duration = Duration::from_millis(50);

/// Begins with half of the cores, and doubles the number of workers as long as the consumer waits for data, the workers are
/// busy most of the time, and the last doubling made the loader faster by a third at least.
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
    /// Samples/s with half as many workers.
    before: Option<f64>,
    /// Whether more workers were of no use.
    settled: bool,
    /// What was found, in words.
    found: String,
}

/// What the consumer saw of the loader.
#[derive(Clone, Copy, Default)]
pub(super) struct Span {
    pub(super) elapsed: Duration,
    pub(super) waited: Duration,
    /// What the workers spent on the batches, all of them together.
    pub(super) busy: Duration,
    pub(super) samples: usize,
}

impl Auto {
    /// Beside `readers` the number of workers, which is then that of transforms at the same time, follows from the cores
    /// alone.
    pub(super) fn new(readers: usize) -> Self {
        let cores = available_parallelism().map_or(1, usize::from);
        let trial = Trial { settled: readers > 0, ..Trial::default() };
        Auto { cores, readers, trial: Mutex::new(trial) }
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
        trial.span.elapsed += span.elapsed;
        trial.span.waited += span.waited;
        trial.span.busy += span.busy;
        trial.span.samples += span.samples;
        // Each worker was to have a few samples behind it, besides those that were on their way.
        if trial.span.elapsed < SPAN || trial.span.samples < 8 * workers {
            return workers;
        }
        let Span { elapsed, waited, busy, samples } = std::mem::take(&mut trial.span);
        let rate = samples as f64 / elapsed.as_secs_f64();
        if waited * 5 < elapsed {
            trial.found = format!("the consumer waited {:.0} % of the time", share(waited, elapsed));
            trial.before = None;
            return workers;
        }
        if busy * 2 < elapsed * workers as u32 {
            // Whatever is slow, such as a machine that others use too, it is not that there are too few workers.
            trial.found = format!(
                "the workers had nothing to do {:.0} % of the time",
                100.0 - share(busy, elapsed * workers as u32)
            );
            trial.before = None;
            return workers;
        }
        match trial.before {
            Some(before) if rate < before * 4.0 / 3.0 => {
                trial.settled = true;
                trial.found = format!("{workers} were {:.2} times as fast as {}", rate / before, workers / 2);
                workers
            }
            _ if workers >= MOST => {
                trial.settled = true;
                workers
            }
            _ => {
                trial.before = Some(rate);
                trial.found = format!("{workers} made {rate:.0} samples/s");
                (2 * workers).min(MOST)
            }
        }
    }

    /// The choice so far, in words.
    pub(super) fn describe(&self, threads: usize) -> String {
        let (cores, workers, trial) = (self.cores, threads - self.readers, self.trial());
        let found = match trial.found.is_empty() {
            true => String::new(),
            false => format!("; {}", trial.found),
        };
        format!("chose {workers} workers on {cores} cores{found}")
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

    /// What a consumer sees that does nothing but wait for so many samples a second, which keep the workers busy.
    fn span(workers: usize, rate: f64) -> Span {
        let elapsed = Duration::from_secs(1);
        Span { elapsed, waited: elapsed, busy: elapsed * workers as u32, samples: rate as usize }
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
        assert_eq!(said, "chose 1 workers on 2 cores; the workers had nothing to do 90 % of the time");
        assert_eq!(auto.learn(1, span(1, 1000.0)), 2);
    }
}
