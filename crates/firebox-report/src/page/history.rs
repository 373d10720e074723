//! The history of a run as a report shows it, in memory that doesn't grow with the records.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::error::{Error, io_error};
use crate::page::curve::Curve;
use firebox_train::event::Record;
use firebox_train::run::Records;

/// Curves of all numbers, and the account of the epochs.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    /// By kind of record, split and field. There are few kinds and splits.
    series: Vec<(String, String, BTreeMap<String, Curve>)>,
    /// Those that came last, and all before them together.
    epochs: VecDeque<EpochRow>,
    earlier: Option<EpochRow>,
    /// The loader's timelines, one epoch after the other: shares of the time in percent, in the order of
    /// [`TIMELINE`].
    timeline: [Curve; 4],
    /// Where the next epoch's timeline begins.
    begun: f64,
}

/// The fields of a timeline that become shares.
pub(crate) const TIMELINE: [&str; 4] = ["waited_s", "reading_s", "transforming_s", "collating_s"];

/// Epochs that have a row of their own.
pub(crate) const ROWS: usize = 200;

/// Where the time of an epoch went, or that of several together. What is not known is NaN.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct EpochRow {
    /// The first and the last one, from 0.
    pub(crate) epochs: (f64, f64),
    pub(crate) seconds: f64,
    pub(crate) wait: f64,
    /// Of the workers: reading, transforming, collating.
    pub(crate) busy: [f64; 3],
    pub(crate) skipped: Option<f64>,
    pub(crate) verdict: String,
}

impl EpochRow {
    fn of(record: &Map<String, Value>) -> Self {
        let number = |field: &str| record.get(field).and_then(Value::as_f64).unwrap_or(f64::NAN);
        let of_data = |field: &str| record.get("data").and_then(|data| data.get(field));
        EpochRow {
            epochs: (number("epoch"), number("epoch")),
            seconds: number("seconds"),
            wait: number("data_wait_s"),
            busy: ["reading_s", "transforming_s", "collating_s"]
                .map(|stage| of_data(stage).and_then(Value::as_f64).unwrap_or(f64::NAN)),
            skipped: of_data("skipped").and_then(Value::as_f64),
            verdict: of_data("verdict").and_then(Value::as_str).unwrap_or_default().to_owned(),
        }
    }

    /// This one and a later one together.
    fn and(self, later: EpochRow) -> Self {
        let mut busy = self.busy;
        busy.iter_mut().zip(later.busy).for_each(|(busy, later)| *busy += later);
        EpochRow {
            epochs: (self.epochs.0, later.epochs.1),
            seconds: self.seconds + later.seconds,
            wait: self.wait + later.wait,
            busy,
            skipped: self.skipped.zip(later.skipped).map(|(one, other)| one + other),
            verdict: String::new(),
        }
    }
}

impl History {
    /// Adds a record.
    pub(crate) fn add(&mut self, record: &Map<String, Value>) {
        let text = |field: &str| record.get(field).and_then(Value::as_str).unwrap_or_default();
        let (kind, split) = (text("kind"), text("split"));
        let step = record.get("step").and_then(Value::as_f64).unwrap_or(f64::NAN);
        let place = self.series.iter().position(|(of, data, _)| of == kind && data == split);
        let place = place.unwrap_or_else(|| {
            self.series.push((kind.to_owned(), split.to_owned(), BTreeMap::new()));
            self.series.len() - 1
        });
        let fields = &mut self.series[place].2;
        for (field, value) in record.iter().filter(|(field, _)| *field != "format_version") {
            let Some(value) = value.as_f64() else { continue };
            match fields.get_mut(field) {
                Some(curve) => curve.push((step, value)),
                None => fields.entry(field.clone()).or_default().push((step, value)),
            }
        }
        if kind == "epoch" && split == "train" {
            self.add_epoch(record);
        }
    }

    fn add_epoch(&mut self, record: &Map<String, Value>) {
        self.epochs.push_back(EpochRow::of(record));
        if self.epochs.len() > ROWS
            && let Some(oldest) = self.epochs.pop_front()
        {
            self.earlier = Some(match self.earlier.take() {
                Some(earlier) => earlier.and(oldest),
                None => oldest,
            });
        }
        let Some(data) = record.get("data") else { return };
        let number = |value: &Value, field| value.get(field).and_then(Value::as_f64).unwrap_or(0.0);
        let workers = number(data, "workers").max(1.0);
        let mut end = self.begun;
        for slice in data.get("timeline").and_then(Value::as_array).into_iter().flatten() {
            let (start, seconds) = (self.begun + number(slice, "start_s"), number(slice, "seconds"));
            for (field, curve) in TIMELINE.iter().zip(&mut self.timeline) {
                let of = if *field == "waited_s" { seconds } else { seconds * workers };
                let share = 100.0 * number(slice, field) / of;
                curve.push((start, share));
                curve.push((start + seconds, share));
            }
            end = start + seconds;
        }
        let next = self.begun + number(data, "seconds");
        if self.begun < end && end < next {
            // Nobody waits, or works, after the last batch: the curve must not climb to where the next epoch
            // begins.
            for curve in &mut self.timeline {
                curve.push((end, 0.0));
                curve.push((next, 0.0));
            }
        }
        self.begun = next;
    }

    /// (step, value) of a field in the records of a kind that have it.
    pub(crate) fn series(&self, kind: &str, split: &str, field: &str) -> Vec<(f64, f64)> {
        let found = self.series.iter().find(|(of, data, _)| of == kind && data == split);
        found.and_then(|(_, _, fields)| fields.get(field)).map_or(Vec::new(), Curve::points)
    }

    /// The names of all metrics, in the order of the alphabet.
    pub(crate) fn metrics(&self) -> Vec<String> {
        let names = self.series.iter().flat_map(|(_, _, fields)| fields.keys());
        let names: BTreeSet<_> = names.filter(|name| !Record::FIELDS.contains(&name.as_str())).collect();
        names.into_iter().cloned().collect()
    }

    /// The epochs, of which the first may be many together.
    pub(crate) fn epochs(&self) -> impl Iterator<Item = &EpochRow> {
        self.earlier.iter().chain(&self.epochs)
    }

    /// (seconds, percent) of each share of the time.
    pub(crate) fn timeline(&self) -> [Vec<(f64, f64)>; 4] {
        self.timeline.each_ref().map(Curve::points)
    }
}

/// Reads the records of a run that goes on, and of what it has read before only what came since.
#[derive(Debug)]
pub(crate) struct Follower {
    path: PathBuf,
    /// The whole lines read.
    bytes: u64,
    lines: usize,
    history: Arc<History>,
}

impl Follower {
    pub(crate) fn new(path: &Path) -> Self {
        Follower { path: path.to_owned(), bytes: 0, lines: 0, history: Arc::default() }
    }

    /// All records up to now.
    pub(crate) fn read(&mut self) -> Result<Arc<History>, Error> {
        let there =
            fs::metadata(&self.path).map_err(|error| io_error(&self.path, "cannot be read", error))?;
        if there.len() < self.bytes {
            // Cut back to a checkpoint: what came after it comes again.
            *self = Self::new(&self.path);
        }
        let mut records = Records::after(&self.path, (self.bytes, self.lines))?;
        let history = Arc::make_mut(&mut self.history);
        while let Some(record) = records.next() {
            history.add(&record?);
            (self.bytes, self.lines) = records.position();
        }
        Ok(Arc::clone(&self.history))
    }

    #[cfg(test)]
    fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;
    use crate::page::curve::MOST;

    /// As a run leaves them.
    fn lines(steps: std::ops::Range<usize>) -> String {
        let mut text = String::new();
        for step in steps {
            let loss = 1.0 / (step + 1) as f64;
            let _ = writeln!(
                text,
                r#"{{"format_version":3,"kind":"step","step":{},"epoch":0,"split":"train","seconds":1.5,"loss":{loss},"lr":0.1}}"#,
                step + 1
            );
        }
        text
    }

    #[test]
    fn only_what_is_new_is_read_and_a_file_that_was_cut_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let text = lines(0..20);
        let mut follower = Follower::new(&path);
        assert!(follower.read().is_err(), "there is no file");
        // Byte by byte, as a writer leaves it that is slow; each line is taken once, when it is whole.
        for end in 0..=text.len() {
            fs::write(&path, &text[..end]).unwrap();
            let seen = follower.read().unwrap().series("step", "train", "loss").len();
            assert_eq!(seen, text[..end].matches('\n').count());
            assert_eq!(follower.bytes(), text[..end].rfind('\n').map_or(0, |place| place as u64 + 1));
        }
        // What was read is not looked at again.
        let spoilt = "x".repeat(text.len()) + &lines(20..21);
        fs::write(&path, spoilt).unwrap();
        assert_eq!(follower.read().unwrap().series("step", "train", "loss").len(), 21);
        // A resume.
        fs::write(&path, lines(0..7)).unwrap();
        assert_eq!(follower.read().unwrap().series("step", "train", "loss").len(), 7);
        fs::write(&path, lines(0..7) + "{]\n").unwrap();
        let error = follower.read().unwrap_err().to_string();
        assert!(error.contains("metrics.jsonl: line 8: expected a JSON object"), "{error}");
    }

    #[test]
    fn a_history_read_in_pieces_is_that_of_the_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let text = lines(0..3 * MOST);
        let mut follower = Follower::new(&path);
        let mut pieces = Arc::default();
        for part in 1..=7 {
            fs::write(&path, &text[..text.len() * part / 7]).unwrap();
            pieces = follower.read().unwrap();
        }
        let whole = Follower::new(&path).read().unwrap();
        let series = |history: &History| history.series("step", "train", "loss");
        assert_eq!(series(&pieces), series(&whole));
        assert_eq!(series(&whole).len(), 3 * MOST / 4);
    }

    #[test]
    fn a_timeline_is_at_rest_between_an_epochs_last_batch_and_the_next_epoch() {
        let mut history = History::default();
        let slice = serde_json::json!({"start_s": 0.0, "seconds": 2.0, "waited_s": 1.0, "reading_s": 0.5});
        let data = serde_json::json!({"seconds": 3.0, "workers": 1, "timeline": [slice]});
        let record =
            serde_json::json!({"kind": "epoch", "split": "train", "step": 1, "epoch": 0, "data": data});
        (0..2).for_each(|_| history.add(record.as_object().unwrap()));
        let [waited, reading, ..] = history.timeline();
        let expected = |share| {
            let epoch =
                |begun: f64| [(begun, share), (begun + 2.0, share), (begun + 2.0, 0.0), (begun + 3.0, 0.0)];
            [epoch(0.0), epoch(3.0)].concat()
        };
        assert_eq!((waited, reading), (expected(50.0), expected(25.0)));
    }

    #[test]
    fn epochs_beyond_the_last_ones_share_a_row() {
        let mut history = History::default();
        for epoch in 0..1000 {
            let slices: Vec<_> = (0..10)
                .map(|slice| serde_json::json!({"start_s": slice, "seconds": 1, "waited_s": 0.5}))
                .collect();
            let data = serde_json::json!({
                "reading_s": 2.0, "transforming_s": 1.0, "collating_s": 0.5, "skipped": 1, "verdict": "compute-bound",
                "seconds": 10.0, "workers": 2, "timeline": slices,
            });
            let record = serde_json::json!({
                "kind": "epoch", "split": "train", "step": epoch, "epoch": epoch, "seconds": 10.0, "data_wait_s": 3.0,
                "data": data,
            });
            history.add(record.as_object().unwrap());
        }
        let rows: Vec<_> = history.epochs().collect();
        assert_eq!(rows.len(), 1 + ROWS);
        let earlier = EpochRow {
            epochs: (0.0, 799.0),
            seconds: 8000.0,
            wait: 2400.0,
            busy: [1600.0, 800.0, 400.0],
            skipped: Some(800.0),
            verdict: String::new(),
        };
        assert_eq!((rows[0], rows[1].epochs), (&earlier, (800.0, 800.0)));
        for points in history.timeline() {
            assert!(points.len() <= MOST && points.last().unwrap().0 > 9_980.0, "{points:?}");
        }
    }
}
