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

#[cfg(feature = "charts")]
mod chart;
#[cfg(feature = "charts")]
mod classified;
#[cfg(feature = "csv")]
mod csv_log;
#[cfg(feature = "charts")]
mod curve;
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
#[cfg(feature = "charts")]
mod escape;
#[cfg(feature = "charts")]
mod heat_map;
#[cfg(feature = "charts")]
mod history;
#[cfg(feature = "charts")]
mod html;
#[cfg(any(feature = "progress", feature = "tui"))]
mod lines;
#[cfg(feature = "charts")]
mod live_report;
#[cfg(feature = "charts")]
mod lr_plot;
#[cfg(feature = "progress")]
mod progress;
#[cfg(feature = "tensorboard")]
mod tensorboard;

#[cfg(feature = "csv")]
pub use csv_log::CsvLog;
#[cfg(feature = "tui")]
pub use dashboard::Dashboard;
#[cfg(feature = "charts")]
pub use heat_map::HeatMap;
#[cfg(feature = "charts")]
pub use html::{Picture, Report};
#[cfg(feature = "charts")]
pub use live_report::LiveReport;
#[cfg(feature = "progress")]
pub use progress::Progress;
#[cfg(feature = "tensorboard")]
pub use tensorboard::TensorBoard;

#[cfg(all(doctest, feature = "charts", feature = "progress"))]
#[doc = include_str!("../README.md")]
struct Readme;
