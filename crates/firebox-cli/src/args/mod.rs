//! Groups of arguments, for a program to flatten into its own.

mod common;
mod compute;
mod loggers;
mod run;
mod train;

pub use common::CommonArgs;
pub use compute::{BackendArgs, SeedArgs, ThreadArgs, WorkerKind};
pub use loggers::{Display, LoggerArgs};
pub use run::RunArgs;
pub use train::{LearnerArgs, TrainArgs};
