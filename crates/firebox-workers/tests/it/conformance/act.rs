//! The suite's tasks, as data, and the work on them.

use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use firebox_workers::{Work, Worker};
use serde::{Deserialize, Serialize};

use super::{own, stage};

/// The act of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Act {
    /// Results in the number.
    Echo(u64),
    Panic(String),
    /// Leaves a mark of this name, and results in it.
    Mark {
        folder: PathBuf,
        name: u64,
    },
    /// Leaves a mark, and waits at a gate.
    Wait {
        folder: PathBuf,
        name: u64,
        gate: u64,
    },
    /// Leaves a mark, and waits until there are so many.
    Meet {
        folder: PathBuf,
        name: u64,
        marks: usize,
    },
    /// Takes so many steps, and tells of each if `told`. Results in the steps after which somebody still
    /// waited.
    Step {
        steps: u64,
        each: Duration,
        told: bool,
    },
    /// Leaves a mark, goes on until nobody waits for it, and leaves another.
    WhileWanted {
        folder: PathBuf,
    },
    /// Uses the workers that are kept under a number, from within one of them.
    Own {
        key: u64,
        tasks: u64,
    },
}

/// The result of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Played {
    pub(crate) value: u64,
    pub(crate) worker: Option<usize>,
    pub(crate) place: Place,
}

/// Where a task ran.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Place {
    process: u32,
    thread: String,
}

impl Place {
    pub(crate) fn here() -> Self {
        Place { process: std::process::id(), thread: format!("{:?}", thread::current().id()) }
    }
}

/// The work on [`Act`]s.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Play;

impl Work<Act> for Play {
    type Output = Played;

    fn run(&self, act: Act, worker: Worker<'_>) -> Played {
        Played { value: play(act, worker), worker: worker.id(), place: Place::here() }
    }
}

fn play(act: Act, worker: Worker<'_>) -> u64 {
    match act {
        Act::Echo(value) => value,
        Act::Panic(text) => panic!("{text}"),
        Act::Mark { folder, name } => {
            stage::leave_mark(&folder, name);
            name
        }
        Act::Wait { folder, name, gate } => {
            stage::leave_mark(&folder, name);
            stage::wait_at(&folder, gate);
            name
        }
        Act::Meet { folder, name, marks } => {
            stage::leave_mark(&folder, name);
            stage::wait_for_marks(&folder, marks);
            name
        }
        Act::Step { steps, each, told } => (0..steps)
            .take_while(|_| {
                thread::sleep(each);
                !told || worker.progress()
            })
            .count() as u64,
        Act::WhileWanted { folder } => {
            stage::leave_mark(&folder, 0);
            while folder.exists() && worker.progress() {
                thread::sleep(Duration::from_millis(1));
            }
            stage::leave_mark(&folder, 1);
            0
        }
        Act::Own { key, tasks } => own::sum(key, tasks),
    }
}

/// A tiny task: twice the number. It panics at 13 million.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Double;

impl Double {
    pub(crate) const PANICS_AT: u64 = 13_000_000;
}

impl Work<u64> for Double {
    type Output = u64;

    fn run(&self, x: u64, _: Worker<'_>) -> u64 {
        assert_ne!(x, Self::PANICS_AT, "no");
        2 * x
    }
}

/// Half of an even number.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Checked;

impl Work<u64> for Checked {
    type Output = Result<u64, Odd>;

    fn run(&self, x: u64, _: Worker<'_>) -> Result<u64, Odd> {
        if x.is_multiple_of(2) { Ok(x / 2) } else { Err(Odd(x)) }
    }
}

/// Why there is no half.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Odd(pub(crate) u64);

impl fmt::Display for Odd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected an even number, got {}", self.0)
    }
}

impl Error for Odd {}

#[cfg(all(feature = "processes", target_os = "linux"))]
mod remote {
    firebox_workers::remote_work!(super::Play);
    firebox_workers::remote_work!(super::Double);
    firebox_workers::remote_work!(super::Checked);
}
