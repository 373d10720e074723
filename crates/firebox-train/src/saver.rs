//! Checkpoints written by a thread of their own, while training goes on.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::{self, JoinHandle};

use serde_json::Value;

use crate::checkpoint::{Checkpoints, RunState};
use crate::error::{Error, ErrorKind};
use crate::metrics_log::MetricsLog;
use crate::task::TaskState;

/// Writes one checkpoint after the other. The training thread only copies its state; hashing, writing and waiting for the
/// disk happen here. Dropping it waits for the one in hand.
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
    pub(crate) task: TaskState,
    /// The run's settings.
    pub(crate) config: Value,
    /// The records that the checkpoint counts on.
    pub(crate) log: MetricsLog,
}

/// A checkpoint that is complete.
pub(crate) struct Saved {
    pub(crate) path: PathBuf,
    pub(crate) best: bool,
    /// What there was to warn of.
    pub(crate) warnings: Vec<String>,
}

impl Saver {
    /// Keeps the last `keep` checkpoints, and the best ones of each state.
    pub(crate) fn start(checkpoints: Checkpoints, keep: usize) -> Result<Self, Error> {
        let (jobs, todo) = channel::<Job>();
        let (answers, done) = channel();
        let thread = thread::Builder::new().name("checkpoints".to_owned()).spawn(move || {
            for job in todo {
                if answers.send(job.write(&checkpoints, keep)).is_err() {
                    return;
                }
            }
        });
        let thread = thread
            .map_err(|error| Error::new(ErrorKind::Io, "no thread to write checkpoints").caused_by(error))?;
        Ok(Saver { jobs: Some(jobs), done, open: 0, thread: Some(thread) })
    }

    /// Whether nothing is being written.
    pub(crate) fn is_idle(&self) -> bool {
        self.open == 0
    }

    /// Begins to write a checkpoint. To be called when it is [idle](Self::is_idle): copies don't pile up.
    pub(crate) fn save(&mut self, job: Job) -> Result<(), Error> {
        let sent = self.jobs.as_ref().is_some_and(|jobs| jobs.send(job).is_ok());
        if !sent {
            return Err(lost());
        }
        self.open += 1;
        Ok(())
    }

    /// What was written since the last call.
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

    /// What is being written, once it is.
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
    Error::new(ErrorKind::Io, "the thread that writes checkpoints has panicked")
}

impl Job {
    fn write(self, checkpoints: &Checkpoints, keep: usize) -> Result<Saved, Error> {
        // The records first: a checkpoint counts on them.
        self.log.sync()?;
        let path = checkpoints.clone().with_config(self.config).save(&self.state, &self.task)?;
        checkpoints.prune(&self.state, keep)?;
        let best = self.state.best.first().is_some_and(|best| best.step == self.state.step);
        Ok(Saved { path, best, warnings: checkpoints.warnings() })
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
    fn a_thread_that_has_panicked_is_an_error_not_silence() {
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
        saver.save(Job { state: RunState::new(loader, 7), task, config: Value::Null, log }).unwrap();
        assert!(saver.thread.take().unwrap().join().is_err());
        for _ in 0..2 {
            let error = saver.poll().err().unwrap();
            assert_eq!(error.to_string(), "the thread that writes checkpoints has panicked");
        }
    }
}
