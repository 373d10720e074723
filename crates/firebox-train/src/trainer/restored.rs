//! The checkpoint that a run goes on from.

use std::path::PathBuf;

use firebox_data::batches::Batches;

use super::Trainer;
use crate::checkpoint::provenance::Provenance;
use crate::checkpoint::{Checkpoints, RunState};
use crate::error::{Error, ErrorKind, caught, data_error};
use crate::task::{Task, TaskState};

/// The run's last good checkpoint, loaded into the task.
pub(super) struct Restored {
    pub(super) path: PathBuf,
    pub(super) state: RunState,
    pub(super) task: TaskState,
}

impl Restored {
    pub(super) fn load<T: Task, B: Batches>(
        trainer: &mut Trainer,
        checkpoints: &Checkpoints,
        task: &mut T,
        train: &B,
        warnings: &mut Vec<String>,
    ) -> Result<Self, Error> {
        let (loaded, damaged) = checkpoints.load_last()?;
        let mut state = loaded.state;
        let step = checkpoints.path().join(format!("step-{}", state.step));
        let path = match damaged.is_empty() {
            true => checkpoints.path().join("last"),
            false => step.clone(),
        };
        caught("the task's load", || task.load(&loaded.task)).map_err(|error| {
            Error::new(ErrorKind::Checkpoint, "the checkpoint is of another task or model")
                .at_path(&path)
                .caused_by(error)
        })?;
        if let Some(seed) = trainer.config.seed.filter(|seed| *seed != state.seed) {
            let text = format!("the checkpoint's seed: expected {seed}, got {}", state.seed);
            return Err(Error::new(ErrorKind::Checkpoint, text).at_path(path));
        }
        train.check(&state.loader).map_err(|error| data_error("training data", error))?;
        trainer.schedule.load(&state.schedule)?;
        let gone = checkpoints.go_back_to(&mut state)?;
        // Also where the link alone is gone.
        let text = |error| {
            format!(
                "{error}; the newest checkpoint that is whole is taken: going back to step {}",
                state.step
            )
        };
        warnings.extend(damaged.iter().map(text));
        warnings.extend(gone);
        let differences = loaded.origin.differences(&Provenance::here());
        if !differences.is_empty() {
            let text = "the checkpoint was made elsewhere, so that the last bits may differ from an uninterrupted run";
            warnings.push(format!("{text}: {}", differences.join("; ")));
        }
        Ok(Restored { path: step, state, task: loaded.task })
    }
}
