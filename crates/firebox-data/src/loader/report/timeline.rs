//! An epoch's course over time, in little memory.

use std::time::Duration;

use serde::Serialize;

use crate::loader::report::WorkerTime;

/// The most slices that are kept. When there are more, each two become one.
const SLICES: usize = 48;

/// The length of a slice at first.
const SHORTEST: Duration = Duration::from_millis(1);

/// An epoch in slices of equal length, which doubles as the epoch goes on.
///
/// ```
/// use firebox_data::Loader;
///
/// let loader = Loader::builder(vec![0; 10]).batch_size(4).build((), |_, _, ()| Ok(()))?;
/// let mut epoch = loader.epoch(0);
/// epoch.by_ref().for_each(drop);
/// let slices = epoch.report().timeline.slices();
/// assert_eq!(slices.map(|slice| slice.samples).sum::<usize>(), 10);
/// # Ok::<(), firebox_data::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    /// Each ends where the next one begins; the first begins with the epoch.
    parts: Vec<Part>,
    /// The length of a slice; zero before the first.
    length: Duration,
}

#[derive(Clone, Copy, Debug, Default)]
struct Part {
    /// Since the epoch's start.
    end: Duration,
    waited: Duration,
    samples: usize,
    busy: WorkerTime,
}

impl Part {
    /// Makes this part and the next one.
    fn join(&mut self, next: Part) {
        self.end = next.end;
        self.waited = self.waited.saturating_add(next.waited);
        self.samples += next.samples;
        self.busy.add(next.busy);
    }
}

/// A part of an epoch, with its deliveries and the workers' time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TimeSlice {
    /// When it began, in seconds from the epoch's start.
    pub start_s: f64,
    /// How long it was, in seconds.
    pub seconds: f64,
    /// Samples delivered.
    pub samples: usize,
    /// How much of it the consumer spent waiting.
    pub waited_s: f64,
    /// The workers' time in this slice on batches that were delivered, now or later, summed over all
    /// workers: on reading,
    pub reading_s: f64,
    /// on transforming,
    pub transforming_s: f64,
    /// and on collating.
    pub collating_s: f64,
}

impl Timeline {
    /// Goes on to a time, since the epoch's start, with what happened since the last call: how long the
    /// consumer waited, and how many samples it got.
    pub(in crate::loader) fn note(&mut self, elapsed: Duration, waited: Duration, samples: usize) {
        let now = Part { end: elapsed, waited, samples, busy: WorkerTime::default() };
        if self.length.is_zero() {
            self.length = SHORTEST;
        }
        let before = self.parts.len().checked_sub(2).map_or(Duration::ZERO, |last| self.parts[last].end);
        match self.parts.last_mut() {
            // The last slice is still open.
            Some(last) if last.end.saturating_sub(before) < self.length => last.join(now),
            _ => self.parts.push(now),
        }
        while self.parts.len() > SLICES {
            // Batches may be longer than a slice was meant to be.
            self.length = self.length.saturating_mul(2).max(elapsed / (SLICES as u32 / 2));
            let pairs = self.parts.chunks(2).map(|pair| {
                let mut part = pair[0];
                pair[1..].iter().for_each(|next| part.join(*next));
                part
            });
            self.parts = pairs.collect();
        }
    }

    /// Enters a worker's work into the slices in which it was done: evenly from `begun`, since the epoch's
    /// start, over the time that it `took`, which is past.
    ///
    /// So a slice never has more than its length for each worker, and all of them together have what was
    /// entered.
    pub(in crate::loader) fn enter(&mut self, begun: Duration, took: Duration, busy: WorkerTime) {
        let first =
            self.parts.partition_point(|part| part.end <= begun).min(self.parts.len().saturating_sub(1));
        let (mut done, end) = (WorkerTime::default(), begun.saturating_add(took));
        let last = self.parts.len().saturating_sub(1);
        for (place, part) in self.parts.iter_mut().enumerate().skip(first) {
            let is_last = place == last || end <= part.end;
            let so_far = match is_last {
                true => busy,
                false => busy.part(part.end.saturating_sub(begun), took),
            };
            part.busy.add(so_far.less(done));
            if is_last {
                return;
            }
            done = so_far;
        }
    }

    /// The slices, in order: between two batches each.
    pub fn slices(&self) -> impl Iterator<Item = TimeSlice> + '_ {
        let starts = std::iter::once(Duration::ZERO).chain(self.parts.iter().map(|part| part.end));
        starts.zip(&self.parts).map(|(start, part)| TimeSlice {
            start_s: start.as_secs_f64(),
            seconds: part.end.saturating_sub(start).as_secs_f64(),
            samples: part.samples,
            waited_s: part.waited.as_secs_f64(),
            reading_s: part.busy.reading.as_secs_f64(),
            transforming_s: part.busy.transforming.as_secs_f64(),
            collating_s: part.busy.collating.as_secs_f64(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use firebox_core::SampleRng;

    #[test]
    fn slices_add_up_however_long_the_epoch() {
        for batches in [0, 1, 2, 47, 48, 49, 1000, 12_345] {
            let mut timeline = Timeline::default();
            for batch in 1..=batches {
                let ms = Duration::from_millis(3 * batch);
                timeline.note(ms, Duration::from_micros(750), 64);
            }
            let slices: Vec<_> = timeline.slices().collect();
            assert!(slices.len() <= SLICES && slices.is_empty() == (batches == 0), "{}", slices.len());
            assert!(batches < 100 || slices.len() >= SLICES / 2 - 1, "{} of {batches}", slices.len());
            assert_eq!(slices.iter().map(|slice| slice.samples).sum::<usize>(), 64 * batches as usize);
            let seconds: f64 = slices.iter().map(|slice| slice.seconds).sum();
            assert!((seconds - 0.003 * batches as f64).abs() < 1e-6);
            let longest = slices.iter().map(|slice| slice.seconds).fold(0.0, f64::max);
            let whole = slices.split_last().map_or(&[][..], |(_, whole)| whole);
            assert!(
                whole.iter().all(|slice| slice.seconds > longest / 2.5),
                "about equally long: {slices:?}"
            );
            assert!(slices.iter().all(|slice| (slice.waited_s - slice.seconds / 4.0).abs() < 1e-6));
        }
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn work_is_shown_when_it_was_done() {
        // Two workers work for 90 ms on a batch each; the first is then delivered, the second right after
        // it.
        let mut timeline = Timeline::default();
        timeline.note(ms(90), ms(90), 8);
        timeline.enter(
            ms(0),
            ms(90),
            WorkerTime { reading: ms(60), transforming: ms(30), ..WorkerTime::default() },
        );
        timeline.note(ms(91), ms(0), 8);
        timeline.enter(ms(1), ms(90), WorkerTime { reading: ms(90), ..WorkerTime::default() });
        let slices: Vec<_> = timeline.slices().collect();
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-8, "{a} is not {b}: {slices:?}");
        assert_eq!(slices.len(), 2);
        near(slices[0].reading_s, 0.060 + 0.089);
        near(slices[0].transforming_s, 0.030);
        near(slices[1].reading_s, 0.001);
        near(slices[1].transforming_s, 0.0);
    }

    /// Batches that take their time, delivered in bursts: as when the first of a window is the slow one.
    #[test]
    fn no_slice_has_more_work_than_its_workers_have_time() {
        let mut rng = SampleRng::from_seed(7);
        for (workers, batches, burst) in [(1, 500, 1), (2, 1000, 16), (4, 3000, 7), (7, 64, 64), (3, 1, 1)] {
            let (mut timeline, mut all) = (Timeline::default(), WorkerTime::default());
            // Each worker takes the next batch when it is free.
            let mut free = vec![Duration::ZERO; workers];
            let mut made = Vec::new();
            let mut delivered = Duration::ZERO;
            for batch in 0..batches {
                let worker = (0..workers).min_by_key(|&worker| free[worker]).unwrap();
                let took = Duration::from_micros(100 + rng.below(40_000));
                let busy = WorkerTime {
                    reading: took / 2,
                    transforming: took / 3,
                    collating: took / 6,
                    computing: took,
                    ..WorkerTime::default()
                };
                made.push((free[worker], took, busy));
                free[worker] += took;
                if (batch + 1) % burst != 0 && batch + 1 < batches {
                    continue;
                }
                let until = made.iter().map(|(begun, took, _)| *begun + *took).max().unwrap().max(delivered);
                for (begun, took, busy) in made.drain(..) {
                    delivered = until.max(delivered + Duration::from_micros(1));
                    timeline.note(delivered, Duration::ZERO, 1);
                    timeline.enter(begun, took, busy);
                    all.add(busy);
                }
            }
            let slices: Vec<_> = timeline.slices().collect();
            let work = |slice: &TimeSlice| slice.reading_s + slice.transforming_s + slice.collating_s;
            for slice in &slices {
                assert!(work(slice) <= workers as f64 * slice.seconds + 1e-6, "{workers} workers: {slice:?}");
            }
            let sum: f64 = slices.iter().map(work).sum();
            assert!((sum - all.total().as_secs_f64()).abs() < 1e-7, "{sum} of {all:?}");
            assert_eq!(slices.iter().map(|slice| slice.samples).sum::<usize>(), batches);
        }
    }

    #[test]
    fn times_that_make_no_sense_are_no_panic() {
        let mut timeline = Timeline::default();
        let busy = WorkerTime { reading: Duration::MAX, transforming: ms(1), ..WorkerTime::default() };
        timeline.enter(ms(1), ms(1), busy);
        assert_eq!(timeline.slices().count(), 0, "nothing was delivered yet");
        for elapsed in [Duration::ZERO, Duration::MAX, ms(3), Duration::MAX, ms(1)] {
            timeline.note(elapsed, Duration::MAX, 1);
            for begun in [Duration::ZERO, ms(2), Duration::MAX] {
                timeline.enter(begun, Duration::ZERO, busy);
                timeline.enter(begun, Duration::MAX, busy);
            }
        }
        assert!(timeline.slices().all(|slice| slice.seconds >= 0.0 && slice.reading_s.is_finite()));
    }
}
