//! Checkpoints written by a thread of their own, while training goes on.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::{self, JoinHandle};

use serde_json::Value;

use crate::checkpoint::{Checkpoints, RunState};
use crate::error::{Error, ErrorKind, caught};
use crate::run::metrics_log::MetricsLog;
use crate::task::TaskState;

/// Writes one checkpoint after the other. The training thread only copies its state; hashing, writing and
/// waiting for the disk happen here. Dropping it waits for the one in hand.
pub(crate) struct Saver {
    /// `None` once it is closed.
    jobs: Option<Sender<Job>>,
    done: Receiver<Result<Saved, Error>>,
    /// Jobs that were given and not yet answered.
    open: usize,
    thread: Option<JoinHandle<()>>,
}

pub(crate) struct Job {
    pub(crate) state: RunState,
    /// `None` for the tensors of the checkpoint that is there of the state's step, or is being written.
    pub(crate) task: Option<TaskState>,
    /// Another one of the same step follows, of which is told instead.
    pub(crate) quiet: bool,
    /// The run's settings.
    pub(crate) config: Value,
    /// The records that the checkpoint counts on.
    pub(crate) log: MetricsLog,
}

/// A checkpoint that is complete.
pub(crate) struct Saved {
    pub(crate) path: PathBuf,
    pub(crate) best: bool,
    /// See [`Job::quiet`].
    pub(crate) quiet: bool,
    /// The warnings.
    pub(crate) warnings: Vec<String>,
}

impl Saver {
    /// Keeps the last `keep` checkpoints, and the best ones of each state.
    pub(crate) fn start(checkpoints: Checkpoints, keep: usize) -> Result<Self, Error> {
        let (jobs, todo) = channel::<Job>();
        let (answers, done) = channel();
        let thread = thread::Builder::new().name("checkpoints".to_owned()).spawn(move || {
            for job in todo {
                // Parts of a task's state may be made here, by code that isn't ours.
                let written = caught("the thread that writes checkpoints", || job.write(&checkpoints, keep));
                if answers.send(written).is_err() {
                    return;
                }
            }
        });
        let thread = thread
            .map_err(|error| Error::new(ErrorKind::Io, "no thread to write checkpoints").caused_by(error))?;
        Ok(Saver { jobs: Some(jobs), done, open: 0, thread: Some(thread) })
    }

    /// True if nothing is being written.
    pub(crate) fn is_idle(&self) -> bool {
        self.open == 0
    }

    /// Begins to write a checkpoint, after the one in hand. Unless the job has no tensors, it is to be
    /// called when this is [idle](Self::is_idle): copies don't pile up.
    pub(crate) fn save(&mut self, job: Job) -> Result<(), Error> {
        let sent = self.jobs.as_ref().is_some_and(|jobs| jobs.send(job).is_ok());
        if !sent {
            return Err(lost());
        }
        self.open += 1;
        Ok(())
    }

    /// The checkpoint that was written since the last call.
    pub(crate) fn poll(&mut self) -> Result<Option<Saved>, Error> {
        match self.done.try_recv() {
            Ok(answer) => {
                self.open -= 1;
                answer.map(Some)
            }
            Err(TryRecvError::Disconnected) if self.open > 0 => Err(lost()),
            Err(_) => Ok(None),
        }
    }

    /// The next of what is being written, once it is.
    pub(crate) fn wait(&mut self) -> Result<Option<Saved>, Error> {
        if self.open == 0 {
            return Ok(None);
        }
        let answer = self.done.recv().map_err(|_| lost())?;
        self.open -= 1;
        answer.map(Some)
    }
}

fn lost() -> Error {
    Error::new(ErrorKind::Io, "the thread that writes checkpoints has ended")
}

impl Job {
    fn write(self, checkpoints: &Checkpoints, keep: usize) -> Result<Saved, Error> {
        // The records first: a checkpoint counts on them.
        self.log.sync()?;
        let configured = checkpoints.clone().with_config(self.config);
        let path = match &self.task {
            Some(task) => configured.save(&self.state, task)?,
            None => configured.save_state(&self.state)?,
        };
        checkpoints.prune(&self.state, keep)?;
        let best = self.state.best.first().is_some_and(|best| best.step == self.state.step);
        Ok(Saved { path, best, quiet: self.quiet, warnings: checkpoints.warnings() })
    }
}

impl Drop for Saver {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use firebox_data::LoaderState;

    use super::*;

    #[test]
    fn a_panic_of_the_thread_is_an_error_not_silence_and_others_are_written() {
        let folder = tempfile::tempdir().unwrap();
        let mut saver = Saver::start(Checkpoints::new(folder.path()), 2).unwrap();
        assert!(saver.poll().unwrap().is_none());
        let loader: LoaderState =
            serde_json::from_str(r#"{"version":1,"seed":7,"epoch":0,"batch":0,"fingerprint":"numbers"}"#)
                .unwrap();
        let mut task = TaskState::default();
        task.insert_later("model", || panic!("a part that can't be made"));
        let metrics = folder.path().join("metrics.jsonl");
        std::fs::write(&metrics, "").unwrap();
        let log = MetricsLog::append(metrics).unwrap();
        let job = |task, log: &MetricsLog| Job {
            state: RunState::new(loader.clone(), 7),
            task: Some(task),
            quiet: false,
            config: Value::Null,
            log: log.another().unwrap(),
        };
        saver.save(job(task, &log)).unwrap();
        let error = saver.wait().err().unwrap();
        assert_eq!(error.kind(), &ErrorKind::Panic);
        assert_eq!(
            error.to_string(),
            "the thread that writes checkpoints panicked: a part that can't be made"
        );
        assert!(saver.is_idle());
        saver.save(job(TaskState::default(), &log)).unwrap();
        let saved = saver.wait().unwrap().unwrap();
        assert_eq!(saved.path, folder.path().join("step-0"));
    }
}
