//! firebox trains deep-learning models on [Burn](burn): a parallel loader that delivers every sample exactly
//! once in one order, model blocks that compute what PyTorch's compute, and a trainer that goes on where it
//! was.
//!
//! This crate gathers its parts under one name; each is a crate that can be used alone.
//!
//! | module | is |
//! |---|---|
//! | [`core`] | the shape of errors, seeds and generators |
//! | [`workers`] | pools of threads and of processes: ordered, bounded, errors that come back |
//! | [`data`] | samplers, layouts of batches, and the loader |
//! | `vision` | image folders, decoding, torchvision's transforms (feature `vision`) |
//! | [`kernels`] | operations for the CPU with hand-written gradients, which the models use |
//! | [`weights`] | state dictionaries, files of PyTorch and safetensors |
//! | [`models`] | blocks and models with PyTorch's numbers |
//! | [`train`] | tasks, schedules, checkpoints, the trainer |
//! | [`report`] | what a run shows: pages, tables, TensorBoard's files, progress |
//! | `cli` | what the command lines of training programs share (feature `cli`) |
//! | [`burn`] | the framework, re-exported |
//! | [`tutorial`] | programs from "load a folder" to "resume a killed run" |
//! | [`cookbook`] | recipes for single questions |
//!
//! The [`tutorial`] is the way in, the [`cookbook`] the place to look something up; `examples/training.rs` in
//! the repository is a whole recipe, with a command line, in 150 lines.
//!
//! # Features
//!
//! `flex` (default), `ndarray`, `wgpu`, `cuda`: the backends of the build. Which one computes is chosen at
//! run time: [`train::Backend`]. `tui`: Burn's dashboard in the terminal, as the callback
//! `report::Dashboard`. `tracing`: what worker processes log arrives in the subscriber of their parent.

#![forbid(unsafe_code)]

/// Short programs for single questions.
///
#[doc = include_str!("../docs/cookbook.md")]
pub mod cookbook {}
pub mod tutorial;

/// The framework that all of this stands on, so that a program needs no dependency of its own on it.
///
/// Burn's derives (`Module`, `Config`, `Record`) name the crate `burn`: a program that derives them has it
/// among its dependencies, in the version of this one, or says `use firebox::burn;` at its root.
pub use burn;
#[cfg(feature = "cli")]
pub use firebox_cli as cli;
#[cfg(feature = "vision")]
pub use firebox_vision as vision;
pub use {
    firebox_core as core, firebox_data as data, firebox_kernels as kernels, firebox_models as models,
    firebox_report as report, firebox_train as train, firebox_weights as weights, firebox_workers as workers,
};

/// The names that most programs need.
pub mod prelude {
    pub use firebox_data::batches::Batches;
    pub use firebox_data::dataset::random_split;
    pub use firebox_data::{Loader, SampleRng, Scalar, Stack};
    pub use firebox_models::vision::CnnConfig;
    pub use firebox_models::{Forward, init};
    pub use firebox_report::Progress;
    pub use firebox_train::optimizer::{AdamConfig, AdamWConfig, RmsPropConfig, SgdConfig};
    pub use firebox_train::schedule::OneCycle;
    pub use firebox_train::tasks::Classification;
    pub use firebox_train::{Backend, Learner, RunDir, Task, Threads, Trainer};
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(doctest)]
#[doc = include_str!("../docs/write-your-own-task.md")]
struct OwnTask;

#[cfg(doctest)]
#[doc = include_str!("../docs/text.md")]
struct Text;

#[cfg(doctest)]
#[doc = include_str!("../docs/from-lightning-and-burn.md")]
struct FromOthers;
