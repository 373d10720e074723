//! A trainer for Burn: it steps, records, saves, and goes on where it was.
//!
//! A [`Task`] owns models and optimisers and says what a training step and an evaluation are;
//! [`Classification`], [`Regression`], [`LanguageModelling`], [`Translation`] and [`Adversarial`] are. [`Sgd`], [`Adam`],
//! [`AdamW`] and [`RmsProp`] are optimisers, with PyTorch's numbers.
//! A [`Trainer`] owns time: epochs, the learning rate of each step ([`Schedule`]), evaluations, checkpoints,
//! records, signals. A [`RunDir`] is the folder that a run leaves behind, in a form that other tools can read.
//! A [`Callback`] hears of every [`Event`]: [`Progress`], [`LiveReport`], [`CsvLog`] and [`TensorBoard`] are callbacks.
//!
//! # What it guarantees
//!
//! * **Checkpoints are whole.** [`Checkpoints`] writes beside, syncs, and renames. Whenever the process is
//!   killed, `last` leads to a complete checkpoint once there is one; the first is saved before the first step.
//!   Every file's hash is checked on loading, and every tensor accounted for.
//! * **A resumed run is the same run.** Model, optimiser, position in the data, sums of the running epoch: all
//!   are in a checkpoint, and the random numbers of a step follow from (seed, epoch, step). Records behind the
//!   checkpoint are cut off, so that no step is recorded twice.
//! * **Signals are heard.** After SIGINT or SIGTERM the step in hand is finished, or the batch of an
//!   evaluation, a checkpoint saved, and the run ends with a word about it. An evaluation that was cut short
//!   is what a resume begins with.
//! * **Errors are loud.** They name file, cause, and what was expected; nothing that was saved is lost. A
//!   panic of a task, a callback or the data is such an error, with step, epoch, batch and samples.

#![forbid(unsafe_code)]

mod adversarial;
mod backend;
mod batch;
mod caught;
mod chart;
mod checkpoint;
mod classification;
mod csv_log;
mod curve;
#[cfg(feature = "tui")]
mod dashboard;
mod decode;
mod error;
mod event;
mod finite;
mod heat_map;
mod history;
mod interrupt;
mod language_modelling;
mod layers;
mod learner;
mod live_report;
mod lr_finder;
mod metrics;
mod metrics_log;
#[cfg(doctest)]
mod mistakes;
mod notices;
mod optimizer;
mod origin;
mod progress;
mod readout;
mod regression;
mod report;
mod resources;
mod run_dir;
mod saver;
mod schedule;
mod symmetric;
mod task;
mod teacher_forcing;
mod tensorboard;
mod threads;
mod trainer;
mod translation;

pub use adversarial::{Adversarial, AdversarialLoss, Judge};
pub use backend::Backend;
pub use checkpoint::{Best, Checkpoints, Pending, RunState};
pub use classification::Classification;
pub use csv_log::CsvLog;
#[cfg(feature = "tui")]
pub use dashboard::Dashboard;
pub use decode::{Decode, Translated};
pub use error::{BoxError, Error, ErrorKind, OutOfRange};
pub use event::{Callback, Event, Record, RecordKind};
pub use heat_map::HeatMap;
pub use interrupt::{Interrupt, Signal};
pub use language_modelling::LanguageModelling;
pub use layers::layered;
pub use learner::Learner;
pub use live_report::LiveReport;
pub use lr_finder::{LrCurve, LrFinder, LrPoint};
pub use metrics::{
    Auroc, Average, ClassScore, Confusion, ErrorRate, FrechetDistance, Mean, Metrics, Predictions, Quantity,
    RSquared, Score, accuracy, edit_distance, spearman, token_accuracy, top_k,
};
pub use optimizer::{Adam, AdamW, RmsProp, Sgd};
pub use progress::Progress;
pub use readout::value_of;
pub use regression::Regression;
pub use report::{Picture, Report};
pub use resources::peak_rss_bytes;
pub use run_dir::{FORMAT_VERSION, RunDir};
pub use schedule::{
    Anneal, Cosine, CosineRestarts, Exponential, LinearWarmup, MultiStep, OneCycle, Polynomial,
    ReduceOnPlateau, Schedule, ScheduleConfig, Sequential, StepLr, Threshold,
};
pub use task::{Goal, StepContext, Task, TaskState};
pub use teacher_forcing::TeacherForcing;
pub use tensorboard::TensorBoard;
pub use threads::Threads;
pub use trainer::{End, Outcome, Trainer, TrainerConfig};
pub use translation::Translation;
