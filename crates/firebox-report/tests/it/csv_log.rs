//! The records as a table: what is in it, and that a run that was killed leaves the one of a run that was
//! not.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may panic, and says what it skips")]

use std::fs;
use std::path::Path;

use crate::common::{Pulled, STEPS, fit, folder, numbers, python};
use firebox_report::CsvLog;
use firebox_train::{ErrorKind, RunDir, Trainer};
use serde_json::Value;

const LATE: &str = "a \"quoted\", late one";

/// A table's header and rows.
fn table(run: &Path) -> (Vec<String>, Vec<Vec<String>>) {
    let mut reader = csv::Reader::from_path(run.join("metrics.csv")).unwrap();
    let header = reader.headers().unwrap().iter().map(str::to_owned).collect();
    let cells = |row: csv::StringRecord| row.iter().map(str::to_owned).collect();
    (header, reader.records().map(|row| cells(row.unwrap())).collect())
}

/// The same without what time decides.
fn timeless(run: &Path) -> (Vec<String>, Vec<Vec<String>>) {
    let (header, mut rows) = table(run);
    for timed in ["seconds", "samples_per_s", "data_wait_s"] {
        let place = header.iter().position(|name| name == timed).unwrap();
        rows.iter_mut().for_each(|row| row[place].clear());
    }
    (header, rows)
}

/// A table is what the records say, field by field.
fn check(run: &Path) {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let records: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (header, rows) = table(run);
    assert_eq!(rows.len(), records.len());
    for (row, record) in rows.iter().zip(&records) {
        for (name, cell) in header.iter().zip(row) {
            match &record[name] {
                Value::Null => assert_eq!(cell, ""),
                Value::String(text) => assert_eq!(cell, text),
                number => assert_eq!(cell.parse::<f64>().unwrap(), number.as_f64().unwrap(), "{name}"),
            }
        }
        let fields = record
            .as_object()
            .unwrap()
            .keys()
            .filter(|name| !["format_version", "not_finite", "data"].contains(&name.as_str()));
        assert!(fields.into_iter().all(|name| header.contains(name)), "{record}");
    }
}

fn logged(
    run: &RunDir,
    resume: bool,
    task: &mut Pulled,
) -> Result<firebox_train::trainer::Outcome, firebox_train::Error> {
    fit(run, resume, task, |trainer| trainer.callback(CsvLog::new(run)))
}

#[test]
fn a_row_for_each_record_and_a_column_for_each_field() {
    let place = tempfile::tempdir().unwrap();
    let run = folder(place.path(), false);
    let mut task = Pulled { not_a_number: Some(3), another: Some(7), ..Pulled::default() };
    logged(&run, false, &mut task).unwrap();
    check(place.path());
    let (header, rows) = table(place.path());
    let own =
        ["kind", "step", "epoch", "split", "seconds", "lr", "gradient_norm", "samples_per_s", "data_wait_s"];
    assert_eq!(header[..9], own);
    // In the order in which they came.
    assert_eq!(header[9..], ["loss", "ratio", "seen", LATE]);
    // Each step, and an epoch and an evaluation after five.
    assert_eq!(rows.len(), 2 * (STEPS + 2));
    assert_eq!((rows[3][10].as_str(), rows[4][10].is_empty()), ("", false), "what is no number has no cell");
    assert!(!rows[8].last().unwrap().is_empty() || !rows[9].last().unwrap().is_empty());
    // A test after the run, by another callback, which knows of nothing yet.
    let mut trainer = Trainer::new(&run, &Default::default()).callback(CsvLog::new(&run));
    trainer.evaluate(&numbers(8), "test", firebox_train::Task::evaluator(&task)).unwrap();
    check(place.path());
    assert_eq!(table(place.path()).1.last().unwrap()[3], "test");
}

#[test]
fn a_killed_run_that_goes_on_leaves_the_table_of_one_that_was_not_killed() {
    let another = Some(6);
    let whole = tempfile::tempdir().unwrap();
    logged(&folder(whole.path(), false), false, &mut Pulled { another, ..Pulled::default() }).unwrap();
    for fails in 1..2 * STEPS {
        let place = tempfile::tempdir().unwrap();
        let run = folder(place.path(), false);
        logged(&run, false, &mut Pulled { fails: Some(fails), another, ..Pulled::default() }).unwrap_err();
        drop(run);
        // What a kill in the middle of a row, and of a rewriting, leaves.
        let path = place.path().join("metrics.csv");
        let mut text = fs::read_to_string(&path).unwrap();
        text.push_str("step,99,1,tra");
        fs::write(&path, text).unwrap();
        fs::write(place.path().join("metrics.csv.part"), "kind,st").unwrap();
        let run = folder(place.path(), true);
        logged(&run, true, &mut Pulled { another, ..Pulled::default() }).unwrap();
        check(place.path());
        assert_eq!(timeless(place.path()), timeless(whole.path()), "failed at step {fails}");
        assert!(!place.path().join("metrics.csv.part").exists());
    }
    // A run that had no table gets all of it.
    let place = tempfile::tempdir().unwrap();
    let run = folder(place.path(), false);
    fit(&run, false, &mut Pulled { fails: Some(7), another, ..Pulled::default() }, |t| t).unwrap_err();
    logged(&run, true, &mut Pulled { another, ..Pulled::default() }).unwrap();
    assert_eq!(timeless(place.path()), timeless(whole.path()));
}

#[test]
fn what_cannot_be_written_is_the_runs_error() {
    let place = tempfile::tempdir().unwrap();
    let run = folder(place.path(), false);
    fs::create_dir(place.path().join("metrics.csv")).unwrap();
    let error = logged(&run, false, &mut Pulled::default()).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Callback);
    assert!(error.to_string().contains("metrics.csv: cannot be written: "), "{error}");
}

#[test]
fn overwriting_a_run_removes_its_table() {
    let place = tempfile::tempdir().unwrap();
    logged(&folder(place.path(), false), false, &mut Pulled::default()).unwrap();
    let run = RunDir::overwrite(place.path()).unwrap();
    assert!(!run.csv().exists());
}

#[test]
fn pandas_reads_it() {
    let place = tempfile::tempdir().unwrap();
    let run = folder(place.path(), false);
    logged(&run, false, &mut Pulled { another: Some(7), ..Pulled::default() }).unwrap();
    let Some(said) = python("pandas", &[&run.csv()]) else { return };
    let said: Value = serde_json::from_str(&said).unwrap();
    let (header, rows) = table(place.path());
    assert_eq!((said["columns"].clone(), &said["rows"]), (header.clone().into(), &rows.len().into()));
    for number in ["step", "epoch", "seconds", "loss", LATE] {
        assert!(["int64", "float64"].contains(&said["types"][number].as_str().unwrap()), "{number}: {said}");
    }
    let losses = rows.iter().filter(|row| row[0] == "step").map(|row| row[9].parse::<f64>().unwrap());
    let read = said["loss"].as_array().unwrap().iter().map(|loss| loss.as_f64().unwrap());
    // pandas' own reading of a decimal may be off by the last bit.
    assert!(losses.zip(read).all(|(wrote, read)| (wrote - read).abs() <= 1e-15), "{said}");
}
