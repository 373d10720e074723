//! Views of a training run: pages, tables, TensorBoard's files, and a line in the terminal.
//!
//! | type | is | feature |
//! |---|---|---|
//! | [`Report`] | a run as one HTML file: curves, tables, pictures, matrices | `charts` |
//! | [`LiveReport`] | that page while the run goes on, as a callback | `charts` |
//! | [`CsvLog`] | the records as a table, as a callback | `csv` |
//! | [`TensorBoard`] | event files, as a callback and by hand | `tensorboard` |
//! | [`Progress`] | a bar on a terminal, lines elsewhere, as a callback | `progress` |
//! | `Dashboard` | Burn's own dashboard, as a callback | `tui`, off by default |
//!
//! All of them are made from what [`firebox_train`] records, and none of them decides a result: a run that
//! goes on may be followed by others than before.
//!
//! ```no_run
//! use firebox_report::{CsvLog, LiveReport, Progress};
//! use firebox_train::{Error, RunDir, Trainer};
//!
//! fn followed(trainer: Trainer, run: &RunDir) -> Trainer {
//!     let trainer = trainer.callback(Progress::new()).callback(LiveReport::new(run, "My first network"));
//!     trainer.callback(CsvLog::new(run))
//! }
//! ```

#![forbid(unsafe_code)]

#[cfg(feature = "csv")]
mod csv_log;
#[cfg(feature = "tui")]
mod dashboard;
#[cfg(any(
    feature = "charts",
    feature = "csv",
    feature = "progress",
    feature = "tensorboard",
    feature = "tui"
))]
mod error;
#[cfg(any(feature = "progress", feature = "tui"))]
mod lines;
#[cfg(feature = "charts")]
mod page;
#[cfg(feature = "progress")]
mod progress;
#[cfg(feature = "tensorboard")]
mod tensorboard;

#[cfg(feature = "csv")]
pub use csv_log::CsvLog;
#[cfg(feature = "tui")]
pub use dashboard::Dashboard;
#[cfg(feature = "charts")]
pub use page::{HeatMap, LiveReport, Picture, Report};
#[cfg(feature = "progress")]
pub use progress::Progress;
#[cfg(feature = "tensorboard")]
pub use tensorboard::TensorBoard;

#[cfg(all(doctest, feature = "charts", feature = "progress"))]
#[doc = include_str!("../README.md")]
struct Readme;
