//! The events of a run, its records, and the callbacks that hear of them.

use std::path::Path;

use firebox_data::loader::EpochReport;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::checkpoint::RunState;
use crate::error::{BoxError, Error};
use crate::metrics::Metrics;
use crate::run::json::FORMAT_VERSION;
use crate::run::signal::Signal;
use crate::task::{StepContext, TaskState};

/// The kinds of [`Record`].
///
/// ```
/// use firebox_train::event::{Record, RecordKind};
///
/// /// The loss of an evaluation.
/// fn loss(record: &Record) -> Option<f64> {
///     (record.kind == RecordKind::Eval).then(|| record.metrics.value("loss"))?
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordKind {
    /// One training step.
    Step,
    /// One pass over data that are not learned from.
    Eval,
    /// One epoch of training.
    Epoch,
}

/// One line of `metrics.jsonl`.
///
/// A field that does not apply is left out, and so is a number that is not finite, for which JSON has no
/// word: the names of such are in the field `not_finite`.
///
/// ```
/// use firebox_train::event::{Event, Record};
/// use firebox_train::{BoxError, Trainer};
///
/// /// Prints each record as `metrics.jsonl` has it.
/// fn printed(trainer: Trainer) -> Trainer {
///     trainer.callback(|event: &Event<'_>| -> Result<(), BoxError> {
///         if let Event::Recorded(record) = event {
///             println!("{}", serde_json::to_string(record)?);
///         }
///         Ok(())
///     })
/// }
/// # let _: fn(&Record) = |_| ();
/// ```
#[derive(Clone, Debug)]
pub struct Record {
    /// The kind of measurement.
    pub kind: RecordKind,
    /// Steps done, over all epochs.
    pub step: usize,
    /// The epoch, from 0.
    pub epoch: u64,
    /// The data: `train`, `valid` or `test`.
    pub split: String,
    /// Seconds of training, or of the pass or the epoch.
    ///
    /// Of a step they are those since the run began, before a resume too.
    pub seconds: f64,
    /// The task's metrics.
    pub metrics: Metrics,
    /// The step's learning rate.
    pub lr: Option<f64>,
    /// The norm of the step's gradients, if the task tells.
    pub gradient_norm: Option<f64>,
    /// Samples a second, waiting for data included.
    pub samples_per_s: f64,
    /// Seconds of it spent waiting for data.
    pub data_wait_s: f64,
    /// The loader's account of an epoch, as far as this process has seen it.
    pub data: Option<EpochReport>,
}

impl Record {
    /// The names of a record's fields beside its metrics.
    pub const FIELDS: [&str; 12] = [
        "format_version",
        "kind",
        "step",
        "epoch",
        "split",
        "seconds",
        "lr",
        "gradient_norm",
        "not_finite",
        "samples_per_s",
        "data_wait_s",
        "data",
    ];
}

impl Serialize for Record {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("format_version", &FORMAT_VERSION)?;
        let kind = match self.kind {
            RecordKind::Step => "step",
            RecordKind::Eval => "eval",
            RecordKind::Epoch => "epoch",
        };
        map.serialize_entry("kind", kind)?;
        map.serialize_entry("step", &self.step)?;
        map.serialize_entry("epoch", &self.epoch)?;
        map.serialize_entry("split", &self.split)?;
        map.serialize_entry("seconds", &self.seconds)?;
        for (name, value) in self.metrics.values().filter(|(_, value)| value.is_finite()) {
            map.serialize_entry(name, &value)?;
        }
        if let Some(lr) = self.lr {
            map.serialize_entry("lr", &lr)?;
        }
        if let Some(norm) = self.gradient_norm.filter(|norm| norm.is_finite()) {
            map.serialize_entry("gradient_norm", &norm)?;
        }
        let norm = self.gradient_norm.filter(|norm| !norm.is_finite()).map(|_| "gradient_norm");
        let not_finite: Vec<_> = self.metrics.not_finite().map(|(name, _)| name).chain(norm).collect();
        if !not_finite.is_empty() {
            map.serialize_entry("not_finite", &not_finite)?;
        }
        if self.samples_per_s.is_finite() {
            map.serialize_entry("samples_per_s", &self.samples_per_s)?;
        }
        map.serialize_entry("data_wait_s", &self.data_wait_s)?;
        if let Some(data) = &self.data {
            map.serialize_entry("data", data)?;
        }
        map.end()
    }
}

/// Something that happened in a run.
///
/// A run tells of itself in this order; what is in brackets only where it applies, and `*` is for each one of
/// them:
///
/// ```text
/// Started [Resumed] Warning*
///   epoch*: EpochBegins
///     step*: StepBegins [Warning] StepEnds Recorded
///            [[Saving] Validating Recorded Warning* Validated] [Saving]
///     Recorded Warning* [Saving Validating Recorded Warning* Validated] EpochEnds [Saving]
/// [Interrupted | Finished] Ended
/// ```
///
/// A new run's first checkpoint, that of step 0, is begun right after `Started`. A checkpoint is written
/// while training goes on: its `Saved` comes between two steps, before the next `Saving`, or at the end. One
/// that is due when an evaluation is begins before that, and is `Saved` once it has the evaluation's outcome,
/// too; a resume that begins with the evaluation tells `Saved` alone. An epoch that something cuts short, or
/// an evaluation, has no `EpochEnds` or `Validated`. An error at any place is told by `Failed`, which is then
/// the last event. [`Trainer::evaluate`] tells `Recorded Warning*` alone: there is a warning for each metric
/// of an epoch or an evaluation that is not finite.
///
/// [`Trainer::evaluate`]: crate::Trainer::evaluate
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'e> {
    /// The run begins, or goes on, `done` of `steps` steps done. The first event of a run.
    Started {
        /// Steps done before.
        done: usize,
        /// Steps of the whole run.
        steps: usize,
        /// Epochs of the whole run.
        epochs: u64,
    },
    /// The run goes on from a checkpoint, which the task has loaded.
    Resumed {
        /// The checkpoint's folder.
        path: &'e Path,
        /// Where the run stands.
        state: &'e RunState,
        /// The tensors and values that were loaded.
        task: &'e TaskState,
    },
    /// An epoch begins, or goes on.
    EpochBegins {
        /// Where the run stands.
        state: &'e RunState,
        /// The epoch's batches that are trained on, those before a resume included.
        batches: usize,
    },
    /// A step begins: its first batch is there.
    StepBegins {
        /// Its place and its learning rate.
        context: &'e StepContext,
        /// Where the run stands.
        state: &'e RunState,
    },
    /// The parameters have moved; the step's [`Recorded`](Event::Recorded) comes next.
    StepEnds {
        /// Where the run stands.
        state: &'e RunState,
    },
    /// An evaluation for the choice of the best checkpoint begins. It may be stopped between two of its
    /// batches.
    Validating {
        /// Where the run stands.
        state: &'e RunState,
    },
    /// That evaluation is over, and what follows from it is decided.
    Validated {
        /// Where the run stands, with the best checkpoints up to now.
        state: &'e RunState,
        /// The measurements, as [`Recorded`](Event::Recorded) just before.
        record: &'e Record,
        /// The monitored metric is better than the last one that was, by more than `min_delta`.
        improved: bool,
    },
    /// A step, an evaluation or an epoch is over.
    Recorded(&'e Record),
    /// An epoch is over, with its evaluation; its checkpoint comes next, unless it came before the
    /// evaluation.
    EpochEnds {
        /// The epoch, from 0.
        epoch: u64,
        /// Where the run stands: before the next epoch.
        state: &'e RunState,
    },
    /// A checkpoint is handed to the thread that writes it.
    Saving {
        /// Where the run stands; [`RunState::trained_epochs`] says whether an epoch is over.
        state: &'e RunState,
        /// The task's tensors.
        task: &'e TaskState,
    },
    /// A checkpoint is complete.
    Saved {
        /// Its folder.
        path: &'e Path,
        /// It is the best so far.
        best: bool,
    },
    /// Something that doesn't end the run, and that somebody should know.
    Warning(&'e str),
    /// The run stops because a signal asked it to; a checkpoint was saved just before.
    Interrupted {
        /// The signal.
        signal: Signal,
        /// Steps done.
        step: usize,
        /// The checkpoint.
        path: &'e Path,
        /// The loader's account of the epoch that is not over, as far as this process has seen it.
        data: &'e EpochReport,
    },
    /// All steps are done.
    Finished,
    /// The last event of a run without an error, whatever has ended it. Its checkpoints are complete.
    Ended {
        /// The reason why it ended.
        end: End,
        /// Where the run stands.
        state: &'e RunState,
    },
    /// The last event of a run with an error or a panic, also one that was found before
    /// [`Started`](Event::Started). Every callback is told, the one that failed too; an error of this telling
    /// is added to the run's.
    Failed {
        /// The error that the run ends with.
        error: &'e Error,
    },
}

/// The reason why a run ended.
///
/// ```
/// use firebox_train::event::End;
///
/// fn goes_on(end: End) -> bool {
///     matches!(end, End::Interrupted(_) | End::OutOfTime)
/// }
/// assert!(!goes_on(End::Complete));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum End {
    /// All epochs, or all steps, are done.
    Complete,
    /// The monitored metric was not better for as many evaluations as
    /// [`patience`](crate::trainer::TrainerConfig::patience) says.
    Stale,
    /// A signal asked to stop. A resume goes on.
    Interrupted(Signal),
    /// [`max_seconds`](crate::trainer::TrainerConfig::max_seconds) have passed. A resume with more goes on.
    OutOfTime,
}

/// Something that is told what happens in a run. An error ends the run, and is its error.
///
/// ```
/// use firebox_train::event::{Callback, Event};
/// use firebox_train::{BoxError, Trainer};
///
/// /// Stops a run whose loss gets too large.
/// struct Ceiling(f64);
///
/// impl Callback for Ceiling {
///     fn on_event(&mut self, event: &Event<'_>) -> Result<(), BoxError> {
///         match event {
///             Event::Recorded(record) if record.metrics.value("loss") > Some(self.0) => {
///                 Err(format!("step {}: the loss is above {}", record.step, self.0).into())
///             }
///             _ => Ok(()),
///         }
///     }
/// }
///
/// fn watched(trainer: Trainer) -> Trainer {
///     // Closures are callbacks, too.
///     trainer.callback(Ceiling(10.0)).callback(|_: &Event<'_>| Ok(()))
/// }
/// ```
pub trait Callback {
    /// Called in the training thread for every event, in order.
    ///
    /// # Errors
    /// Whatever should end the run.
    fn on_event(&mut self, event: &Event<'_>) -> Result<(), BoxError>;
}

impl<F: FnMut(&Event<'_>) -> Result<(), BoxError>> Callback for F {
    fn on_event(&mut self, event: &Event<'_>) -> Result<(), BoxError> {
        self(event)
    }
}
