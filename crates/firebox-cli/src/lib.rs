//! The shared part of the command lines of training programs, as groups of arguments that any program can
//! flatten into its own.
//!
//! | group ([`args`]) | flags |
//! |---|---|
//! | [`RunArgs`] | `--run-dir`, `--resume`, `--overwrite`, `--config` |
//! | [`LoggerArgs`] | `--log csv,tensorboard`, and `--dashboard` with the feature `tui` |
//! | [`ThreadArgs`] | `--threads`, `--workers`, `--worker-kind` |
//! | [`SeedArgs`](args::SeedArgs) | `--seed` |
//! | [`BackendArgs`](args::BackendArgs) | `--backend` |
//! | [`TrainArgs`](args::TrainArgs) | `--epochs`, `--accumulate`, `--max-steps`, `--save-steps`, `--patience` |
//! | [`LearnerArgs`](args::LearnerArgs) | `--clip-norm`, `--ema` |
//! | [`CommonArgs`] | the five groups above, from threads to learner, as one |
//!
//! The settings that decide a run's result are a struct of the program's own, its recipe, which is a group of
//! flags and `config.json` at once. [`Settings`] puts it together from the command line, a file and an older
//! run; [`run_program`] parses, and says in one line what went wrong.
//!
//! The names that most programs need stand at the root; the others are in the modules.
//!
//! ```no_run
//! use std::process::ExitCode;
//!
//! use clap::{Args, Parser};
//! use firebox_cli::{BoxError, CommonArgs, LoggerArgs, RunArgs, Settings, ThreadArgs, parse, run_program};
//! use serde::{Deserialize, Serialize};
//!
//! /// Train a network.
//! #[derive(Parser)]
//! struct Cli {
//!     #[command(flatten)]
//!     recipe: Recipe,
//!     #[command(flatten)]
//!     run: RunArgs,
//!     #[command(flatten)]
//!     loggers: LoggerArgs,
//! }
//!
//! /// The settings that decide the result; `config.json` holds it.
//! #[derive(Args, Clone, Serialize, Deserialize)]
//! struct Recipe {
//!     /// The learning rate
//!     #[arg(long, default_value_t = 1e-3, value_parser = parse::above_zero)]
//!     lr: f64,
//!     #[command(flatten)]
//!     #[serde(flatten)]
//!     common: CommonArgs,
//! }
//!
//! fn main() -> ExitCode {
//!     run_program(|cli: Cli, given| -> Result<ExitCode, BoxError> {
//!         let settings = Settings::new("mine", &cli.recipe, &cli.run, given)?;
//!         // Of a run that goes on these may change, since they change no result.
//!         let recipe = settings.read(&ThreadArgs::FIELDS)?;
//!         let device = recipe.common.start()?;
//!         // … the data and the task, with recipe.common.seed(); then, when all of it was found good:
//!         let config = recipe.common.train.config();
//!         let (run, trainer) = settings.begin(&recipe, config, &cli.loggers, &device, "My network")?;
//!         let trainer = trainer.schedule(recipe.lr);
//!         # let _ = (run, trainer);
//!         Ok(ExitCode::SUCCESS)
//!     })
//! }
//! ```

#![forbid(unsafe_code)]

pub mod args;
pub mod parse;
pub mod paths;
pub mod program;
pub mod session;
pub mod settings;

pub use args::{CommonArgs, LoggerArgs, RunArgs, ThreadArgs};
pub use firebox_train::BoxError;
pub use program::{run_program, say, stopped};
pub use session::{cargo_flags, load_best, show_lr_search, write_summary};
pub use settings::{Settings, describe};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
