//! What an epoch was: what it delivered, what went wrong, and where the time went.

use std::fmt;
use std::time::Duration;

use serde::ser::{Serialize, SerializeStruct, Serializer};

use crate::loader::fault::{Incident, Remedy};
use crate::loader::timeline::Timeline;

/// The time that workers spent in each stage, summed over all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Busy {
    /// Reading items from the data set.
    pub reading: Duration,
    /// Transforming them into their slots.
    pub transforming: Duration,
    /// Opening and closing batches.
    pub collating: Duration,
    /// Putting batches on the device: what its one thread spent, beside the workers.
    pub uploading: Duration,
}

impl Busy {
    pub(super) fn add(&mut self, other: Busy) {
        self.reading += other.reading;
        self.transforming += other.transforming;
        self.collating += other.collating;
        self.uploading += other.uploading;
    }

    /// What the workers spent.
    pub(super) fn total(self) -> Duration {
        self.reading + self.transforming + self.collating
    }
}

/// An account of an epoch so far, from [`Epoch::report`](crate::Epoch::report).
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct EpochReport {
    /// The epoch.
    pub epoch: u64,
    /// Batches delivered by this iterator.
    pub batches: usize,
    /// Samples in them.
    pub samples: usize,
    /// Samples that were not made at first, in the order of delivery, with what came of them.
    pub incidents: Vec<Incident>,
    /// From the iterator's start to its last batch.
    pub elapsed: Duration,
    /// How much of it the consumer spent waiting in `next`.
    pub waited: Duration,
    /// What the workers spent on the batches delivered. Measured on one sample of eight, or on all if they are slow.
    pub busy: Busy,
    /// The number of workers; without any the consumer does their work while it waits.
    pub workers: usize,
    /// How the number of workers was chosen, if that was left to the loader.
    pub chosen: Option<String>,
    /// How it went over time.
    pub timeline: Timeline,
}

/// What an epoch's speed depended on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// The consumer hardly waited: it is the slower part.
    ComputeBound,
    /// The consumer waited, for the most part for this stage.
    DataBound(Stage),
}

/// A stage of the loader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Reading items from the data set.
    Reading,
    /// Transforming them.
    Transforming,
    /// Opening and closing batches.
    Collating,
    /// Putting batches on the device.
    Uploading,
}

impl EpochReport {
    /// The number of samples that their batches went without.
    pub fn skipped(&self) -> usize {
        self.incidents.iter().filter(|incident| incident.remedy == Remedy::Skipped).count()
    }

    /// Samples a second, the consumer's own time included.
    pub fn samples_per_s(&self) -> f64 {
        self.samples as f64 / self.elapsed.as_secs_f64()
    }

    /// Whether the data or the consumer decided the speed: data-bound if more than a twentieth of the time was spent
    /// waiting for them.
    pub fn verdict(&self) -> Verdict {
        if self.waited * 20 <= self.elapsed {
            return Verdict::ComputeBound;
        }
        let Busy { reading, transforming, collating, uploading } = self.busy;
        if uploading > self.busy.total() / self.workers.max(1) as u32 {
            return Verdict::DataBound(Stage::Uploading);
        }
        let stages =
            [(reading, Stage::Reading), (transforming, Stage::Transforming), (collating, Stage::Collating)];
        let longest = stages.into_iter().max_by_key(|(busy, _)| *busy);
        Verdict::DataBound(longest.map_or(Stage::Reading, |(_, stage)| stage))
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::ComputeBound => "compute-bound",
            Verdict::DataBound(Stage::Reading) => "data-bound by reading",
            Verdict::DataBound(Stage::Transforming) => "data-bound by transforming",
            Verdict::DataBound(Stage::Collating) => "data-bound by collating",
            Verdict::DataBound(Stage::Uploading) => "data-bound by uploading",
        })
    }
}

/// As an object: counts, seconds, the verdict and the incidents as text.
impl Serialize for EpochReport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut report = serializer.serialize_struct("EpochReport", 15)?;
        report.serialize_field("epoch", &self.epoch)?;
        report.serialize_field("batches", &self.batches)?;
        report.serialize_field("samples", &self.samples)?;
        report.serialize_field("skipped", &self.skipped())?;
        report.serialize_field("seconds", &self.elapsed.as_secs_f64())?;
        report.serialize_field("waited_s", &self.waited.as_secs_f64())?;
        report.serialize_field("reading_s", &self.busy.reading.as_secs_f64())?;
        report.serialize_field("transforming_s", &self.busy.transforming.as_secs_f64())?;
        report.serialize_field("collating_s", &self.busy.collating.as_secs_f64())?;
        report.serialize_field("uploading_s", &self.busy.uploading.as_secs_f64())?;
        report.serialize_field("workers", &self.workers)?;
        match &self.chosen {
            Some(chosen) => report.serialize_field("chosen", chosen)?,
            None => report.skip_field("chosen")?,
        }
        report.serialize_field("timeline", &self.timeline.slices().collect::<Vec<_>>())?;
        report.serialize_field("verdict", &self.verdict().to_string())?;
        let incidents: Vec<_> = self.incidents.iter().map(Incident::to_string).collect();
        report.serialize_field("incidents", &incidents)?;
        report.end()
    }
}

impl fmt::Display for EpochReport {
    /// One line, and one more for each incident.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.busy.total().as_secs_f64().max(f64::MIN_POSITIVE);
        let share = |busy: Duration| 100.0 * busy.as_secs_f64() / total;
        let verdict = self.verdict();
        write!(
            f,
            "epoch {}: {} samples in {} batches, {} skipped, {:.1} s, {:.0} samples/s, {:.2} s waiting; workers busy {:.2} s \
             (reading {:.0} %, transforming {:.0} %, collating {:.0} %); {verdict}",
            self.epoch,
            self.samples,
            self.batches,
            self.skipped(),
            self.elapsed.as_secs_f64(),
            self.samples_per_s(),
            self.waited.as_secs_f64(),
            total,
            share(self.busy.reading),
            share(self.busy.transforming),
            share(self.busy.collating),
        )?;
        if !self.busy.uploading.is_zero() {
            write!(f, "; uploading {:.2} s", self.busy.uploading.as_secs_f64())?;
        }
        if let Some(chosen) = &self.chosen {
            write!(f, "\n  {chosen}")?;
        }
        for incident in &self.incidents {
            write!(f, "\n  {incident}")?;
        }
        Ok(())
    }
}
