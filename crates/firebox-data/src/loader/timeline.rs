//! An epoch's course over time, in little memory.

use std::time::Duration;

use serde::Serialize;

use crate::loader::report::Busy;

/// The most slices that are kept. When there are more, each two become one.
const SLICES: usize = 48;

/// The length of a slice at first.
const SHORTEST: Duration = Duration::from_millis(1);

/// An epoch in slices of equal length, which doubles as the epoch goes on.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    /// What was so far at the end of each slice, and now at the end of the last.
    totals: Vec<Totals>,
    /// The length of a slice; zero before the first.
    length: Duration,
}

#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    elapsed: Duration,
    waited: Duration,
    samples: usize,
    busy: Busy,
}

/// What happened in a part of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Slice {
    /// When it began, in seconds from the epoch's start.
    pub start_s: f64,
    /// How long it was, in seconds.
    pub seconds: f64,
    /// Samples delivered.
    pub samples: usize,
    /// How much of it the consumer spent waiting.
    pub waited_s: f64,
    /// What the workers spent on the batches delivered, summed over all of them: on reading,
    pub reading_s: f64,
    /// on transforming,
    pub transforming_s: f64,
    /// and on collating.
    pub collating_s: f64,
}

impl Timeline {
    /// Notes the totals after a batch.
    pub(super) fn note(&mut self, elapsed: Duration, waited: Duration, samples: usize, busy: Busy) {
        let now = Totals { elapsed, waited, samples, busy };
        if self.length.is_zero() {
            self.length = SHORTEST;
        }
        let before =
            self.totals.len().checked_sub(2).map_or(Duration::ZERO, |last| self.totals[last].elapsed);
        match self.totals.last_mut() {
            // The last slice is still open.
            Some(last) if last.elapsed.saturating_sub(before) < self.length => *last = now,
            _ => self.totals.push(now),
        }
        while self.totals.len() > SLICES {
            // Batches may be longer than a slice was meant to be.
            self.length = (2 * self.length).max(elapsed / (SLICES as u32 / 2));
            let whole = self.totals.len() / 2 * 2;
            let mut place = 0;
            self.totals.retain(|_| {
                place += 1;
                place % 2 == 0 || place > whole
            });
        }
    }

    /// The slices, in order: between two batches each.
    pub fn slices(&self) -> impl Iterator<Item = Slice> + '_ {
        let starts = std::iter::once(Totals::default()).chain(self.totals.iter().copied());
        starts.zip(&self.totals).map(|(from, to)| Slice {
            start_s: from.elapsed.as_secs_f64(),
            seconds: (to.elapsed - from.elapsed).as_secs_f64(),
            samples: to.samples - from.samples,
            waited_s: (to.waited - from.waited).as_secs_f64(),
            reading_s: (to.busy.reading - from.busy.reading).as_secs_f64(),
            transforming_s: (to.busy.transforming - from.busy.transforming).as_secs_f64(),
            collating_s: (to.busy.collating - from.busy.collating).as_secs_f64(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_add_up_however_long_the_epoch() {
        for batches in [0, 1, 2, 47, 48, 49, 1000, 12_345] {
            let mut timeline = Timeline::default();
            for batch in 1..=batches {
                let ms = Duration::from_millis(3 * batch);
                let busy = Busy { reading: ms / 3, ..Busy::default() };
                timeline.note(ms, ms / 4, 64 * batch as usize, busy);
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
}
