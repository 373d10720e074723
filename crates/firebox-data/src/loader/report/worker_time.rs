//! Time of workers, by what they spent it on.

use std::time::Duration;

/// The time that workers spent in each stage, summed over all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct WorkerTime {
    /// Reading items from the data set.
    pub reading: Duration,
    /// Transforming them into their slots.
    pub transforming: Duration,
    /// Opening and closing batches.
    pub collating: Duration,
    /// Putting batches on the device: what its one thread spent, beside the workers.
    pub uploading: Duration,
    /// How much of reading, transforming and collating a core was at it, and the worker did not wait for
    /// something. Known of worker threads on Linux; elsewhere it is all of them.
    pub computing: Duration,
}

impl WorkerTime {
    /// Each time by itself, put together with that of another.
    fn zip(self, other: WorkerTime, with: impl Fn(Duration, Duration) -> Duration) -> WorkerTime {
        WorkerTime {
            reading: with(self.reading, other.reading),
            transforming: with(self.transforming, other.transforming),
            collating: with(self.collating, other.collating),
            uploading: with(self.uploading, other.uploading),
            computing: with(self.computing, other.computing),
        }
    }

    pub(in crate::loader) fn add(&mut self, other: WorkerTime) {
        *self = self.zip(other, Duration::saturating_add);
    }

    pub(in crate::loader) fn less(self, other: WorkerTime) -> WorkerTime {
        self.zip(other, Duration::saturating_sub)
    }

    /// The share of a part of the time, rounded down to nanoseconds.
    pub(in crate::loader) fn part(self, part: Duration, whole: Duration) -> WorkerTime {
        let (part, whole) = (part.as_nanos(), whole.as_nanos().max(1));
        let nanos = |time: Duration| time.as_nanos().saturating_mul(part) / whole;
        let time = |time| Duration::from_nanos(u64::try_from(nanos(time)).unwrap_or(u64::MAX));
        self.zip(WorkerTime::default(), |own, _| time(own))
    }

    /// The sum of the workers' time.
    pub(in crate::loader) fn total(self) -> Duration {
        self.reading.saturating_add(self.transforming).saturating_add(self.collating)
    }
}
