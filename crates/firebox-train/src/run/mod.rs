//! The folder that a run leaves: settings, records, checkpoints, summary, report.
//!
//! Other tools read these files; their names and fields are a contract, and each JSON object in them says its
//! `format_version`.
//!
//! | name | holds |
//! |---|---|
//! | `config.json` | the settings of the run |
//! | `metrics.jsonl` | an object a line for each step, evaluation and epoch |
//! | `metrics.csv` | the same as a table, where `firebox_report::CsvLog` writes it |
//! | `tensorboard/` | event files, where `firebox_report::TensorBoard` writes them |
//! | `checkpoints/` | see [`Checkpoints`](crate::checkpoint::Checkpoints) |
//! | `summary.json` | the result |
//! | `report.html` | curves and pictures, self-contained; `firebox_report::LiveReport` renews it during the run |
//! | `samples/` | what a generator made on the way, as pictures or texts |
//! | `lr-find.jsonl`, `lr-find.html` | what a search for a learning rate has seen, and a plot of it |

mod dir;
pub(crate) mod interrupt;
pub(crate) mod json;
pub(crate) mod metrics_log;
mod resources;
pub(crate) mod signal;

pub use dir::RunDir;
pub use interrupt::Interrupt;
pub use json::FORMAT_VERSION;
pub use metrics_log::Records;
pub use resources::peak_rss_bytes;
pub use signal::Signal;
