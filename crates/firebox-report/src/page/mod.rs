//! Pages of HTML: curves, tables, pictures and matrices.

mod chart;
mod classified;
mod curve;
mod escape;
mod heat_map;
mod history;
mod html;
mod live_report;
mod lr_plot;

pub use heat_map::HeatMap;
pub use html::{Picture, Report};
pub use live_report::LiveReport;
