//! Reports of epochs: their deliveries, their failures, and where the time went.

mod stint;
mod timeline;
mod worker_time;

use std::fmt;
use std::time::Duration;

use serde::ser::{Serialize, SerializeStruct, Serializer};

pub(super) use stint::Stint;
pub use timeline::{TimeSlice, Timeline};
pub use worker_time::WorkerTime;

use crate::loader::fault::{Action, SampleFailure};

/// The failures that a report names; further ones are counted.
pub(super) const NAMED: usize = 100;

/// The deaths of worker processes that a report tells of.
const INCIDENTS: usize = 1000;

/// An account of an epoch so far, from [`Epoch::report`](crate::loader::Epoch::report).
///
/// ```
/// use firebox_data::Loader;
/// use firebox_data::loader::EpochReport;
///
/// let loader = Loader::builder(vec![0; 10]).batch_size(4).build((), |_, _, ()| Ok(()))?;
/// let mut epoch = loader.epoch(0);
/// epoch.by_ref().for_each(drop);
/// let report: EpochReport = epoch.report().clone();
/// assert_eq!((report.batches, report.samples, report.skipped()), (3, 10, 0));
/// assert!(report.waited <= report.elapsed);
/// # Ok::<(), firebox_data::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct EpochReport {
    /// The epoch.
    pub epoch: u64,
    /// Batches delivered by this iterator.
    pub batches: usize,
    /// Samples in them.
    pub samples: usize,
    /// Samples that were not made at first, in the order of delivery, with what came of them: the first
    /// hundred, and the one that ended the epoch, if one did. However many there are, the report stays small.
    pub failures: Vec<SampleFailure>,
    /// How many there were beside those that are named.
    pub more_failures: usize,
    /// From the iterator's start to its last batch.
    pub elapsed: Duration,
    /// How much of it the consumer spent waiting in `next`.
    pub waited: Duration,
    /// The workers' time on the batches delivered. Measured on one sample of eight, or on all if they
    /// are slow.
    pub busy: WorkerTime,
    /// The number of workers; without any the consumer does their work while it waits.
    pub workers: usize,
    /// The number of cores that the process may use.
    pub cores: usize,
    /// True if the consumer computes on these cores, too, so that each takes the other's time; `None` if
    /// nobody knows. Loaders whose batches are put on a device know it.
    pub on_cpu: Option<bool>,
    /// The worker processes that ended before their time, and were replaced: each is in the report of the
    /// epoch whose batch came next. None with threads.
    pub deaths: u64,
    /// How the last thousand of them ended, in words: which process, by which signal or status, with what
    /// begun.
    pub incidents: Vec<String>,
    /// How the number of workers was chosen, if that was left to the loader.
    pub chosen: Option<String>,
    /// How it went over time.
    pub timeline: Timeline,
    /// Of all failures.
    pub(crate) skipped: usize,
}

/// The part that an epoch's speed depended on.
///
/// ```
/// use std::time::Duration;
///
/// use firebox_data::Loader;
/// use firebox_data::loader::{Bottleneck, Stage};
///
/// let slow = |_, _: &mut _, ()| Ok(std::thread::sleep(Duration::from_millis(2)));
/// let loader = Loader::builder(vec![0; 20]).batch_size(10).workers(1).build((), slow)?;
/// let mut epoch = loader.epoch(0);
/// epoch.by_ref().for_each(drop);
/// assert_eq!(epoch.report().bottleneck(), Bottleneck::DataBound(Stage::Transforming));
/// # Ok::<(), firebox_data::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Bottleneck {
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
    /// Takes note of a sample that was not made at first.
    pub(super) fn note(&mut self, failure: SampleFailure) {
        self.skipped += usize::from(failure.action == Action::Skipped);
        // What ended the epoch comes last, and is named in any case.
        match self.failures.len() < NAMED || failure.action == Action::None {
            true => self.failures.push(failure),
            false => self.more_failures += 1,
        }
    }

    /// Takes note of workers that have died, with how they did.
    pub(super) fn note_deaths(&mut self, deaths: u64, incidents: Vec<String>) {
        self.deaths += deaths;
        self.incidents.extend(incidents);
        let earlier = self.incidents.len().saturating_sub(INCIDENTS);
        self.incidents.drain(..earlier);
    }

    /// The number of samples that their batches went without.
    pub fn skipped(&self) -> usize {
        self.skipped
    }

    /// Samples a second, the consumer's own time included; 0 before the first.
    pub fn samples_per_s(&self) -> f64 {
        self.samples as f64 / self.elapsed.max(Duration::from_nanos(1)).as_secs_f64()
    }

    /// The share of all cores' time that the workers computed, from 0 to 1.
    pub fn cores_share(&self) -> f64 {
        let all = self.elapsed.as_secs_f64() * self.cores.max(1) as f64;
        if all > 0.0 { (self.busy.computing.as_secs_f64() / all).min(1.0) } else { 0.0 }
    }

    /// The share of the elapsed time that a [`Cache`](crate::dataset::Cache), or any way to have samples
    /// without work, could save at most, from 0 to 1, if the consumer computes on the cores that the workers
    /// have; `None` if it doesn't, or nobody knows.
    ///
    /// In time T the consumer waited w, and the workers computed for W on N cores. Without them it need not
    /// wait, and gets back, in the best case, the cores' time that they took beside it: W, which all N cores
    /// do in W/N. So the epoch would take T − w − W/N at least.
    pub fn cache_saving(&self) -> Option<f64> {
        let waited = self.waited.as_secs_f64() / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE);
        self.on_cpu.unwrap_or(false).then(|| (waited + self.cores_share()).min(1.0))
    }

    /// The verdict, with what the workers took of the cores, and what a cache would bring if that is worth a
    /// word.
    fn judgement(&self) -> String {
        let bottleneck = self.bottleneck();
        let cores = counted(self.cores.max(1), "core");
        let share = format!("{bottleneck}, workers took {:.0} % of {cores}", 100.0 * self.cores_share());
        match (bottleneck, self.cache_saving()) {
            // As much as has a wait be called data-bound.
            (Bottleneck::ComputeBound, Some(saving)) if self.cores_share() > 0.05 => {
                // Rounded up, but for what is an error of rounding itself.
                let most = (100.0 * saving - 1e-6).ceil();
                format!("{share}: a cache would save at most {most:.0} % of the time")
            }
            _ => share,
        }
    }

    /// Tells whether the data or the consumer decided the speed: data-bound if more than a twentieth of the
    /// time was spent waiting for them.
    pub fn bottleneck(&self) -> Bottleneck {
        if self.waited.saturating_mul(20) <= self.elapsed {
            return Bottleneck::ComputeBound;
        }
        let WorkerTime { reading, transforming, collating, uploading, .. } = self.busy;
        if uploading.as_secs_f64() > self.busy.total().as_secs_f64() / self.workers.max(1) as f64 {
            return Bottleneck::DataBound(Stage::Uploading);
        }
        let stages =
            [(reading, Stage::Reading), (transforming, Stage::Transforming), (collating, Stage::Collating)];
        let longest = stages.into_iter().max_by_key(|(busy, _)| *busy);
        Bottleneck::DataBound(longest.map_or(Stage::Reading, |(_, stage)| stage))
    }
}

impl fmt::Display for Bottleneck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Bottleneck::ComputeBound => "compute-bound",
            Bottleneck::DataBound(Stage::Reading) => "data-bound by reading",
            Bottleneck::DataBound(Stage::Transforming) => "data-bound by transforming",
            Bottleneck::DataBound(Stage::Collating) => "data-bound by collating",
            Bottleneck::DataBound(Stage::Uploading) => "data-bound by uploading",
        })
    }
}

/// A number of things, in words.
pub(super) fn counted(number: usize, thing: &str) -> String {
    let plural = match number {
        1 => "",
        _ if thing.ends_with("ch") => "es",
        _ => "s",
    };
    format!("{number} {thing}{plural}")
}

/// As an object: counts, seconds, the bottleneck and the failures as text, under the names of the first
/// release.
impl Serialize for EpochReport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut report = serializer.serialize_struct("EpochReport", 21)?;
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
        report.serialize_field("computing_s", &self.busy.computing.as_secs_f64())?;
        report.serialize_field("workers", &self.workers)?;
        report.serialize_field("cores", &self.cores)?;
        report.serialize_field("cores_share", &self.cores_share())?;
        match self.cache_saving() {
            Some(saving) => report.serialize_field("cache_saving", &saving)?,
            None => report.skip_field("cache_saving")?,
        }
        match &self.chosen {
            Some(chosen) => report.serialize_field("chosen", chosen)?,
            None => report.skip_field("chosen")?,
        }
        report.serialize_field("timeline", &self.timeline.slices().collect::<Vec<_>>())?;
        report.serialize_field("verdict", &self.judgement())?;
        match self.deaths {
            0 => report.skip_field("worker_deaths")?,
            _ => report.serialize_field("worker_deaths", &self.incidents)?,
        }
        let failures: Vec<_> = self.failures.iter().map(SampleFailure::to_string).collect();
        report.serialize_field("incidents", &failures)?;
        report.serialize_field("more_incidents", &self.more_failures)?;
        report.end()
    }
}

impl fmt::Display for EpochReport {
    /// One line, and one more for each failure that is named.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.busy.total().as_secs_f64().max(f64::MIN_POSITIVE);
        let share = |busy: Duration| 100.0 * busy.as_secs_f64() / total;
        write!(
            f,
            "epoch {}: {} in {}, {} skipped, {:.1} s, {:.0} samples/s, {:.2} s waiting; workers busy {:.2} s \
             (reading {:.0} %, transforming {:.0} %, collating {:.0} %); {}",
            self.epoch,
            counted(self.samples, "sample"),
            counted(self.batches, "batch"),
            self.skipped(),
            self.elapsed.as_secs_f64(),
            self.samples_per_s(),
            self.waited.as_secs_f64(),
            total,
            share(self.busy.reading),
            share(self.busy.transforming),
            share(self.busy.collating),
            self.judgement(),
        )?;
        if !self.busy.uploading.is_zero() {
            write!(f, "; uploading {:.2} s", self.busy.uploading.as_secs_f64())?;
        }
        if let Some(chosen) = &self.chosen {
            write!(f, "\n  {chosen}")?;
        }
        if self.deaths > 0 {
            write!(f, "\n  {} died", counted(self.deaths as usize, "worker"))?;
        }
        for incident in &self.incidents {
            write!(f, "\n  {incident}")?;
        }
        for failure in &self.failures {
            write!(f, "\n  {failure}")?;
        }
        if self.more_failures > 0 {
            write!(f, "\n  and {} more", self.more_failures)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, ErrorKind};

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Ten seconds of two cores, of which the workers computed for `computing`.
    fn report(computing: Duration, waited: Duration, on_cpu: Option<bool>) -> EpochReport {
        let busy = WorkerTime {
            reading: ms(1000),
            transforming: ms(3000),
            collating: ms(1000),
            computing,
            ..WorkerTime::default()
        };
        let (epoch, batches, samples, elapsed) = (3, 100, 6400, ms(10_000));
        let (workers, cores) = (1, 2);
        EpochReport {
            epoch,
            batches,
            samples,
            elapsed,
            waited,
            busy,
            workers,
            cores,
            on_cpu,
            ..Default::default()
        }
    }

    #[test]
    fn what_the_workers_take_from_the_cores_is_said() {
        // 4.2 of 20 seconds of cores; 0.1 of 10 were waited: without either it would be 7.8 at least.
        let cpu = report(ms(4200), ms(100), Some(true));
        assert!((cpu.cores_share() - 0.21).abs() < 1e-9);
        assert!((cpu.cache_saving().unwrap() - 0.22).abs() < 1e-9);
        assert_eq!(
            cpu.to_string(),
            "epoch 3: 6400 samples in 100 batches, 0 skipped, 10.0 s, 640 samples/s, 0.10 s waiting; workers busy 5.00 s \
             (reading 20 %, transforming 60 %, collating 20 %); compute-bound, workers took 21 % of 2 cores: a cache would \
             save at most 22 % of the time"
        );
        // For who computes elsewhere it is information, and no loss.
        for on_cpu in [Some(false), None] {
            let text = report(ms(4200), ms(100), on_cpu).to_string();
            assert!(text.ends_with("; compute-bound, workers took 21 % of 2 cores"), "{text}");
            assert_eq!(report(ms(4200), ms(100), on_cpu).cache_saving(), None);
        }
        let little = report(ms(900), ms(100), Some(true)).to_string();
        assert!(little.ends_with("; compute-bound, workers took 4 % of 2 cores"), "{little}");
        // Who waits has another trouble first.
        let waits = report(ms(4200), ms(6000), Some(true)).to_string();
        assert!(waits.ends_with("; data-bound by transforming, workers took 21 % of 2 cores"), "{waits}");
        let json = serde_json::to_value(&cpu).unwrap();
        let verdict =
            "compute-bound, workers took 21 % of 2 cores: a cache would save at most 22 % of the time";
        assert_eq!(
            (&json["verdict"], &json["cores"], &json["computing_s"]),
            (&verdict.into(), &2.into(), &4.2.into())
        );
        for (field, expected) in [("cores_share", 0.21), ("cache_saving", 0.22)] {
            assert!((json[field].as_f64().unwrap() - expected).abs() < 1e-9, "{field}");
        }
    }

    #[test]
    fn shares_stay_shares() {
        // More computing than there are cores: workers that share them, or a clock that is wrong.
        let much = report(ms(90_000), ms(9000), Some(true));
        assert_eq!((much.cores_share(), much.cache_saving()), (1.0, Some(1.0)));
    }

    #[test]
    fn a_report_of_nothing_has_no_odd_numbers() {
        let mut report = EpochReport::default();
        assert_eq!(
            (report.samples_per_s(), report.cores_share(), report.bottleneck()),
            (0.0, 0.0, Bottleneck::ComputeBound)
        );
        report.on_cpu = Some(true);
        assert_eq!(report.cache_saving(), Some(0.0));
        let none = "epoch 0: 0 samples in 0 batches, 0 skipped, 0.0 s, 0 samples/s, 0.00 s waiting; workers busy 0.00 s \
                    (reading 0 %, transforming 0 %, collating 0 %); compute-bound, workers took 0 % of 1 core";
        assert_eq!(report.to_string(), none);
        (report.samples, report.batches) = (1, 1);
        assert!(report.to_string().starts_with("epoch 0: 1 sample in 1 batch, "), "{report}");
        assert!(report.samples_per_s().is_finite());
        // Saturated times are no overflow.
        let most = Duration::MAX;
        let busy = WorkerTime {
            reading: most,
            transforming: most,
            collating: most,
            uploading: most,
            computing: most,
        };
        report = EpochReport {
            waited: most,
            elapsed: most,
            busy,
            workers: usize::MAX,
            cores: usize::MAX,
            ..report
        };
        report.busy.add(busy);
        for elapsed in [most, Duration::ZERO, Duration::from_nanos(1)] {
            report.elapsed = elapsed;
            let json = serde_json::to_string(&report).unwrap();
            assert!(!json.contains("null"), "{json}");
            assert!(!report.to_string().contains("NaN") && !report.to_string().contains("inf"), "{report}");
        }
    }

    #[test]
    fn failures_are_counted_and_the_first_of_them_named() {
        let mut report = EpochReport::default();
        let failure = |index, action| {
            SampleFailure::new(Error::new(ErrorKind::Transform, "torn").at_index(index), action)
        };
        for index in 0..10_000 {
            let actions = [Action::Skipped, Action::Replaced(0), Action::Retried(1)];
            report.note(failure(index, actions[index % 3]));
        }
        assert_eq!(
            (report.failures.len(), report.more_failures, report.skipped()),
            (NAMED, 10_000 - NAMED, 3334)
        );
        report.note(failure(10_000, Action::None));
        assert_eq!(
            report.failures.last().unwrap().error.index(),
            Some(10_000),
            "what ended the epoch is named"
        );
        let text = report.to_string();
        assert_eq!(text.lines().count(), 1 + NAMED + 1 + 1);
        assert!(text.ends_with("\n  and 9900 more"), "{text}");
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!((&json["skipped"], &json["more_incidents"]), (&3334.into(), &9900.into()));
        assert_eq!(json["incidents"].as_array().unwrap().len(), NAMED + 1);
    }
}
