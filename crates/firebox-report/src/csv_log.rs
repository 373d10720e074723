//! The records of a run as a table: `metrics.csv`.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use csv::{QuoteStyle, WriterBuilder};
use serde_json::{Map, Value};

use crate::error::{BoxError, Error, io_error};
use firebox_core::files;
use firebox_train::RunDir;
use firebox_train::event::{Callback, Event};
use firebox_train::run::Records;

/// Writes the records as a table, `metrics.csv`.
///
/// It has a row a record and a column a field, as spreadsheets and pandas read it (RFC 4180). What a record
/// doesn't have is an empty cell. The loader's account of an epoch, which has a structure of its own, is in
/// `metrics.jsonl` only.
///
/// The table is made from `metrics.jsonl` when the run begins or goes on, so that after a resume it holds the
/// records up to the checkpoint, each once, whatever a kill has left of it; and again when a metric appears
/// that has no column yet, which becomes the last one. Otherwise a record adds a row.
///
/// ```
/// use firebox_report::CsvLog;
/// use firebox_train::event::{Callback, Event};
/// use firebox_train::{RunDir, Trainer};
///
/// fn recorded(trainer: Trainer, run: &RunDir) -> Trainer {
///     trainer.callback(CsvLog::new(run))
/// }
///
/// // By hand: the table of a run that has a record.
/// # let folder = tempfile::tempdir()?;
/// let run = RunDir::create(folder.path().join("run"))?;
/// std::fs::write(run.metrics(), "{\"kind\": \"step\", \"step\": 1, \"loss\": 0.5}\n")?;
/// CsvLog::new(&run).on_event(&Event::Started { done: 1, steps: 10, epochs: 1 })?;
/// let table = std::fs::read_to_string(run.csv())?;
/// assert!(table.starts_with("kind,step,") && table.contains("step,1,"));
/// # Ok::<(), firebox_train::BoxError>(())
/// ```
#[derive(Debug)]
pub struct CsvLog {
    records: PathBuf,
    path: PathBuf,
    /// `None` before the first event.
    table: Option<Table>,
}

#[derive(Debug)]
struct Table {
    /// Not buffered, as the records: whoever follows it sees each step at once.
    file: File,
    bytes: u64,
    columns: Vec<String>,
}

/// The columns that every table has; those of the metrics follow in the order in which they appeared.
const COLUMNS: [&str; 9] =
    ["kind", "step", "epoch", "split", "seconds", "lr", "gradient_norm", "samples_per_s", "data_wait_s"];

/// Fields that have no column.
const LEFT_OUT: [&str; 3] = ["format_version", "not_finite", "data"];

impl CsvLog {
    /// A table in a run's folder.
    pub fn new(run: &RunDir) -> Self {
        CsvLog { records: run.metrics(), path: run.csv(), table: None }
    }

    fn add(&mut self, record: &Map<String, Value>) -> Result<(), Error> {
        match &mut self.table {
            Some(table) if new_columns(&table.columns, record).next().is_none() => table
                .add(record, &self.path)
                .map_err(|error| io_error(&self.path, "cannot be written", error)),
            // The record is in the file of records by now.
            _ => self.rewrite(),
        }
    }

    /// Puts a table of all records in the place of the one that may be there.
    fn rewrite(&mut self) -> Result<(), Error> {
        self.table = None;
        let mut columns: Vec<String> = COLUMNS.map(str::to_owned).to_vec();
        for record in Records::open(&self.records)? {
            let record = record?;
            let new: Vec<_> = new_columns(&columns, &record).map(str::to_owned).collect();
            columns.extend(new);
        }
        let failed = |error| io_error(&self.path, "cannot be written", error);
        let beside = self.path.with_added_extension("part");
        let mut table = files::create(&beside)
            .map(|file| Table { file, bytes: 0, columns: columns.clone() })
            .map_err(failed)?;
        let written = table.fill(&self.records, &beside).and_then(|()| {
            // Synced first: a loss of power must not leave an empty table after the rename.
            files::sync(&table.file, &beside)
                .and_then(|()| files::rename(&beside, &self.path))
                .map_err(failed)
        });
        if written.is_err() {
            let _ = files::remove_file(&beside);
        }
        written?;
        self.table = Some(table);
        Ok(())
    }
}

impl Callback for CsvLog {
    fn on_event(&mut self, event: &Event<'_>) -> Result<(), BoxError> {
        match event {
            Event::Started { .. } => self.rewrite()?,
            Event::Recorded(record) => match serde_json::to_value(record)? {
                Value::Object(record) => self.add(&record)?,
                _ => unreachable!("a record is an object"),
            },
            _ => {}
        }
        Ok(())
    }
}

impl Table {
    fn fill(&mut self, records: &Path, path: &Path) -> Result<(), Error> {
        let failed = |error| io_error(path, "cannot be written", error);
        let mut buffer = BufWriter::new(&self.file);
        buffer.write_all(&line(self.columns.iter().map(String::as_str)).map_err(failed)?).map_err(failed)?;
        for record in Records::open(records)? {
            let row = row(&self.columns, &record?).map_err(failed)?;
            buffer.write_all(&row).map_err(failed)?;
        }
        buffer.flush().map_err(failed)?;
        drop(buffer);
        self.bytes = self.file.metadata().map_err(failed)?.len();
        Ok(())
    }

    fn add(&mut self, record: &Map<String, Value>, path: &Path) -> std::io::Result<()> {
        let row = row(&self.columns, record)?;
        if let Err(error) = files::write(&self.file, path, &row) {
            // A full disk: what is there stays a table, and a row that comes later goes after it.
            let _ = files::cut(&self.file, path, self.bytes);
            let _ = self.file.seek(SeekFrom::Start(self.bytes));
            return Err(error);
        }
        self.bytes += row.len() as u64;
        Ok(())
    }
}

/// The fields of a record that no column is for.
fn new_columns<'r>(columns: &[String], record: &'r Map<String, Value>) -> impl Iterator<Item = &'r str> {
    let has_none = |name: &&str| !LEFT_OUT.contains(name) && !columns.iter().any(|column| column == name);
    record.keys().map(String::as_str).filter(has_none)
}

fn row(columns: &[String], record: &Map<String, Value>) -> std::io::Result<Vec<u8>> {
    let cells: Vec<_> = columns
        .iter()
        .map(|column| match record.get(column) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Null) | None => String::new(),
            Some(value) => value.to_string(),
        })
        .collect();
    line(cells.iter().map(String::as_str))
}

fn line<'c>(cells: impl Iterator<Item = &'c str>) -> std::io::Result<Vec<u8>> {
    let mut line =
        WriterBuilder::new().buffer_capacity(512).quote_style(QuoteStyle::Necessary).from_writer(Vec::new());
    line.write_record(cells)?;
    line.into_inner().map_err(|error| error.into_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_read_as_it_was_written_whatever_is_in_it() {
        let columns = ["kind", "a,b", "c\"d\"", "e\nf\r\ng", "", "héé\u{feff}"].map(str::to_owned);
        let mut record = Map::new();
        for (column, value) in columns.iter().zip([
            Value::from("line\nbreak, \"quoted\""),
            f64::MAX.into(),
            5e-324.into(),
            (-0.0).into(),
            Value::Null,
            u64::MAX.into(),
        ]) {
            record.insert(column.clone(), value);
        }
        let text =
            [line(columns.iter().map(String::as_str)).unwrap(), row(&columns, &record).unwrap()].concat();
        let mut reader = csv::Reader::from_reader(text.as_slice());
        assert_eq!(reader.headers().unwrap(), &csv::StringRecord::from(columns.to_vec()));
        let rows: Vec<_> = reader.records().map(Result::unwrap).collect();
        assert_eq!(rows.len(), 1);
        assert_eq!(&rows[0][0], "line\nbreak, \"quoted\"");
        assert_eq!(rows[0][1].parse::<f64>().unwrap(), f64::MAX);
        assert_eq!(rows[0][2].parse::<f64>().unwrap(), 5e-324);
        assert_eq!((&rows[0][3], &rows[0][4], &rows[0][5]), ("-0.0", "", "18446744073709551615"));
    }
}
