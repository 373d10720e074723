//! The flags for the callbacks that follow a run.

use std::ffi::OsString;

use clap::{Args, ValueEnum};
#[cfg(feature = "tui")]
use firebox_report::Dashboard;
use firebox_report::{CsvLog, LiveReport, Progress, TensorBoard};
use firebox_train::event::{Callback, Event};
use firebox_train::run::Interrupt;
use firebox_train::{BoxError, RunDir, Trainer};

/// The callbacks that follow a run: `--log csv,tensorboard`, and `--dashboard` with the feature `tui`.
///
/// It decides no result, so that a run that goes on may be followed by others. As a group of flags they are
/// `LoggerArgs`, which others can conflict with where nothing runs.
///
/// ```
/// use clap::Parser;
/// use firebox_cli::LoggerArgs;
///
/// #[derive(Parser)]
/// struct Cli {
///     #[command(flatten)]
///     loggers: LoggerArgs,
///     /// Ask an older run
///     #[arg(long, conflicts_with = "LoggerArgs")]
///     predict: bool,
/// }
///
/// let cli = Cli::parse_from(["mine", "--log", "csv,tensorboard"]);
/// assert_eq!(cli.loggers.flags(), ["--log", "csv,tensorboard"]);
/// assert!(Cli::try_parse_from(["mine", "--predict", "--log", "csv"]).is_err());
/// ```
#[derive(Args, Clone, Debug, Default)]
pub struct LoggerArgs {
    /// Write the records in this form, too; several by commas
    #[arg(long, value_name = "FORM", value_enum, value_delimiter = ',')]
    log: Vec<Log>,
    /// Show the run on Burn's dashboard instead of a progress bar
    #[cfg(feature = "tui")]
    #[arg(long)]
    dashboard: bool,
}

/// A form of records beside `metrics.jsonl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Log {
    /// A table, metrics.csv
    Csv,
    /// Event files in tensorboard/
    #[value(name = "tensorboard")]
    TensorBoard,
}

/// The callback that shows a person on the terminal how far the run is.
///
/// ```
/// use firebox_cli::args::{Display, LoggerArgs};
/// use firebox_train::event::Event;
/// use firebox_train::run::Interrupt;
///
/// let mut display: Display = LoggerArgs::default().display(&Interrupt::never())?;
/// // It hears of everything; outside of a run that is nothing.
/// assert!(display(&Event::Finished).is_ok());
/// # Ok::<(), firebox_cli::BoxError>(())
/// ```
pub type Display = Box<dyn FnMut(&Event<'_>) -> Result<(), BoxError>>;

impl LoggerArgs {
    /// The display, to be made before there is a folder: it may find no terminal.
    ///
    /// # Errors
    /// If the dashboard is asked for and standard output is no terminal.
    #[cfg_attr(not(feature = "tui"), expect(unused_variables, reason = "a bar has no keys"))]
    pub fn display(&self, interrupt: &Interrupt) -> Result<Display, BoxError> {
        #[cfg(feature = "tui")]
        if self.dashboard {
            let mut dashboard = Dashboard::new(interrupt)?;
            return Ok(Box::new(move |event: &Event<'_>| dashboard.on_event(event)));
        }
        let mut bar = Progress::new();
        Ok(Box::new(move |event: &Event<'_>| bar.on_event(event)))
    }

    /// The flags that ask for them, as a command line has them.
    pub fn flags(&self) -> Vec<OsString> {
        let names = self.log.iter().filter_map(Log::to_possible_value);
        let names: Vec<_> = names.map(|name| name.get_name().to_owned()).collect();
        let mut flags = Vec::new();
        if !names.is_empty() {
            flags.extend(["--log".into(), names.join(",").into()]);
        }
        #[cfg(feature = "tui")]
        if self.dashboard {
            flags.push("--dashboard".into());
        }
        flags
    }

    /// Lets them follow a run, with a display and a report.
    pub fn follow(&self, trainer: Trainer, display: Display, run: &RunDir, report: LiveReport) -> Trainer {
        let mut trainer = trainer.callback(display).callback(report);
        if self.log.contains(&Log::Csv) {
            trainer = trainer.callback(CsvLog::new(run));
        }
        if self.log.contains(&Log::TensorBoard) {
            trainer = trainer.callback(TensorBoard::new(run));
        }
        trainer
    }
}
