//! A trainer for Burn: it steps, records, saves, and goes on where it was.
//!
//! A [`Task`] owns models and optimizers and says what a training step and an evaluation are; [`tasks`] has
//! those that are there. A [`Learner`] is a model with its [optimizer]. A [`Trainer`] owns time: epochs, the
//! learning rate of each step ([`schedule`]), evaluations, checkpoints, records, signals. A [`RunDir`] is the
//! folder that a run leaves, in a form that other tools can read. A [`Callback`] hears of every [event];
//! `firebox-report` has some that show a run.
//!
//! ```no_run
//! use burn::tensor::{Device, Tensor};
//! use firebox_data::{Loader, Scalar, Stack};
//! use firebox_models::layers::{Linear, LinearConfig};
//! use firebox_train::optimizer::AdamConfig;
//! use firebox_train::tasks::Classification;
//! use firebox_train::{BoxError, Learner, RunDir, Trainer};
//!
//! fn main() -> Result<(), BoxError> {
//!     let device = Device::default();
//!     // The larger of two numbers is to be found.
//!     let loader = || {
//!         let points: Vec<_> = (0..500_i16).map(|n| [n as f32 % 17.0, n as f32 % 23.0]).collect();
//!         let layout = (Stack::<f32, 1>::new([2]), Scalar::<i64>::new());
//!         let builder = Loader::builder(points).batch_size(50).shuffle(true).seed(7);
//!         builder.build(layout, |point, _, (input, class)| {
//!             input.copy_from_slice(&point);
//!             *class = i64::from(point[1] > point[0]);
//!             Ok(())
//!         })
//!     };
//!     let train = loader()?.on_device(&device.clone().autodiff())?;
//!     let valid = loader()?.on_device(&device)?;
//!     let model = LinearConfig::new(2, 2).init(&device.clone().autodiff())?;
//!     let learner = Learner::new(model, AdamConfig::new().init()?);
//!     let mut task = Classification::<Linear, Tensor<2>>::new(learner);
//!     let run = RunDir::create("runs/larger")?;
//!     Trainer::new(&run, &device).epochs(10).schedule(0.01).fit(&mut task, &train, &valid)?;
//!     let (state, _) = run.checkpoints().best()?;
//!     println!("the best epoch is {:?}", state.trained_epochs());
//!     Ok(())
//! }
//! ```
//!
//! | module | has |
//! |---|---|
//! | [`task`] | [`Task`], what it is told of a step, and the state that it saves |
//! | [`tasks`] | classification, regression, language modeling, translation, GANs |
//! | [`learner`] | a model with its optimizer: clipping, moving averages, learning rates of parts |
//! | [`optimizer`] | SGD, Adam, AdamW and RMSprop with PyTorch's numbers |
//! | [`schedule`] | learning rates by the step |
//! | [`metrics`] | named quantities that batches add to |
//! | [`trainer`] | the loop, its settings, how it ended, the search for a learning rate |
//! | [`event`] | what callbacks are told |
//! | [`checkpoint`] | the folders that a run goes on from |
//! | [`run`] | the folder of a run, its records, signals |
//!
//! # What it guarantees
//!
//! * **Checkpoints are whole.** [`Checkpoints`](checkpoint::Checkpoints) writes beside, syncs, and renames.
//!   Whenever the process is killed, `last` leads to a complete checkpoint once there is one; the first is
//!   saved before the first step. Every file's hash is checked on loading, and every tensor accounted for.
//! * **A resumed run is the same run.** Model, optimizer, position in the data, sums of the running epoch:
//!   all are in a checkpoint, and the random numbers of a step follow from (seed, epoch, step). Records after
//!   the checkpoint are cut off, so that no step is recorded twice.
//! * **Signals are heard.** After SIGINT or SIGTERM the step in hand is finished, or the batch of an
//!   evaluation, a checkpoint saved, and the run ends with a word about it. An evaluation that was cut short
//!   is what a resume begins with.
//! * **Errors are loud.** They name file, cause, and what was expected; nothing that was saved is lost. A
//!   panic of a task, a callback or the data is such an error, with step, epoch, batch and samples.

#![forbid(unsafe_code)]

mod backend;
pub mod checkpoint;
mod error;
pub mod event;
pub mod learner;
pub mod metrics;
pub mod optimizer;
mod readout;
pub mod run;
pub mod schedule;
pub mod task;
pub mod tasks;
mod threads;
pub mod trainer;

pub use backend::Backend;
pub use error::{BoxError, Error, ErrorKind, OutOfRange};
pub use event::Callback;
pub use learner::Learner;
pub use readout::{to_scalar, values_of};
pub use run::RunDir;
pub use task::{StepContext, Task};
pub use threads::Threads;
pub use trainer::{Trainer, TrainerConfig};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
