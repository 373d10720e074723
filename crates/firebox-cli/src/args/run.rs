//! The flags for a run's folder, and how it begins.

use std::path::PathBuf;

use clap::Args;

/// The flags for a run's folder and its beginning: `--run-dir`, `--resume`, `--overwrite`, `--config`.
///
/// ```
/// use clap::Parser;
/// use firebox_cli::RunArgs;
///
/// #[derive(Parser)]
/// struct Cli {
///     #[command(flatten)]
///     run: RunArgs,
/// }
///
/// let cli = Cli::parse_from(["mine", "--resume", "--run-dir", "runs/first"]);
/// assert!(cli.run.resume && cli.run.run_dir.is_some());
/// // What contradicts itself is refused.
/// assert!(Cli::try_parse_from(["mine", "--resume", "--overwrite", "--run-dir", "runs/first"]).is_err());
/// ```
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunArgs {
    /// The folder for the run [default: a new one under runs/; to go on with or ask a run, the newest there]
    #[arg(long, value_name = "DIR")]
    pub run_dir: Option<PathBuf>,
    /// Go on with a run that was stopped or is finished, with its own settings, but for how long it goes on
    /// and what it keeps
    #[arg(long, conflicts_with = "overwrite")]
    pub resume: bool,
    /// A TOML or JSON file with settings, such as a run's config.json; flags come before it
    #[arg(long, value_name = "FILE", conflicts_with = "resume")]
    pub config: Option<PathBuf>,
    /// Begin anew in a folder that holds a run already
    #[arg(long, requires = "run_dir")]
    pub overwrite: bool,
}
