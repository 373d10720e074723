//! A run whose files may not get longer than so much, by the system's own limit: it loses nothing, and goes
//! on with room.

#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![cfg(unix)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use burn::tensor::{Device, TensorData};
use firebox_data::elements::Elements;
use firebox_data::{Loader, Scalar};
use firebox_train::checkpoint::Checkpoints;
use firebox_train::metrics::Metrics;
use firebox_train::task::{Goal, TaskState};
use firebox_train::{Error, ErrorKind, RunDir, StepContext, Task, Trainer, TrainerConfig};
use firebox_weights::StateDict;
use serde_json::Value;

/// A sum of what it sees, and a memory that it has from a step on, as optimisers have one from their first.
struct Sum {
    sum: i64,
    memory: Vec<f32>,
    memory_from: usize,
    steps: usize,
}

impl Task for Sum {
    type Batch = Elements<i64>;

    fn train_step(&mut self, batch: Elements<i64>, context: &StepContext) -> Result<Metrics, Error> {
        self.sum = self.sum * 3 % 1_000_003 + batch.iter().sum::<i64>();
        self.steps = context.step + 1;
        if self.steps >= self.memory_from {
            self.memory = vec![self.sum as f32; 10_000];
        }
        Ok(Metrics::of(batch.len()).with_mean("loss", self.sum as f64))
    }

    fn evaluator(&self) -> impl FnMut(Elements<i64>) -> Result<Metrics, Error> {
        let loss = 1.0 / self.steps as f64;
        move |batch| Ok(Metrics::of(batch.len()).with_mean("loss", loss))
    }

    fn monitor(&self) -> (&'static str, Goal) {
        ("loss", Goal::Minimize)
    }

    fn state(&self) -> Result<TaskState, Error> {
        let mut part = StateDict::default();
        part.insert("memory", TensorData::new(self.memory.clone(), [self.memory.len()]));
        let mut state = TaskState::default();
        state.insert("sum", part);
        state.insert_value("sum", &self.sum)?;
        Ok(state)
    }

    fn load(&mut self, state: &TaskState) -> Result<(), Error> {
        let memory = state.get("sum")?.get("memory").and_then(|memory| memory.to_vec().ok());
        self.memory = memory.ok_or_else(|| Error::new(ErrorKind::Checkpoint, "no memory"))?;
        self.sum = state.value("sum")?;
        Ok(())
    }
}

fn sum(folder: &Path, resume: bool, memory_from: usize) -> Result<TaskState, Error> {
    let run = match resume {
        true => RunDir::open(folder)?.resume()?,
        false => RunDir::create(folder)?,
    };
    run.write_config(&serde_json::json!({}))?;
    let numbers = |count| {
        let numbers = (0..count).collect::<Vec<i64>>();
        let loader = Loader::builder(numbers).batch_size(2).shuffle(true).workers(0);
        loader.build(Scalar::<i64>::new(), |number, _, slot| {
            *slot = number;
            Ok(())
        })
    };
    let mut config = TrainerConfig::new();
    (config.max_epochs, config.save_steps) = (8, Some(3));
    let mut task = Sum { sum: 0, memory: Vec::new(), memory_from, steps: 0 };
    let mut trainer = Trainer::new(&run, &Device::default()).config(config).resume(resume);
    trainer.fit(&mut task, &numbers(16).unwrap(), &numbers(2).unwrap())?;
    task.state()
}

const CHILD: &str = "FIREBOX_TEST_FULL_DISK";
const MEMORY: &str = "FIREBOX_TEST_MEMORY_FROM";

/// The child of the next test.
#[test]
fn child_that_runs_out_of_room() {
    let Some(folder) = std::env::var_os(CHILD) else { return };
    let memory_from = std::env::var(MEMORY).unwrap().parse().unwrap();
    if let Err(error) = sum(&PathBuf::from(folder), false, memory_from) {
        eprintln!("error: {error}");
        std::process::exit(3);
    }
}

fn records(text: &str) -> Vec<Value> {
    let parse = |line| {
        let mut record: Value = serde_json::from_str(line).unwrap();
        let fields = record.as_object_mut().unwrap();
        fields
            .retain(|name, _| !["seconds", "samples_per_s", "data_wait_s", "data"].contains(&name.as_str()));
        record
    };
    text.lines().map(parse).collect()
}

#[test]
fn a_limit_on_the_size_of_files_loses_neither_checkpoint_nor_records() {
    // In blocks of 512 bytes. The memory takes 40,000, and all records together more than 8,192.
    for (blocks, memory_from, file) in [(60, 10, "sum.safetensors"), (16, usize::MAX, "metrics.jsonl")] {
        let whole = tempfile::tempdir().unwrap();
        let expected = sum(whole.path(), false, memory_from).unwrap();
        let all = records(&fs::read_to_string(whole.path().join("metrics.jsonl")).unwrap());
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("run");
        // Without the signal that ends the process: as on a full disk, writing is an error.
        let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\"");
        let mut command = Command::new("sh");
        command.args(["-c", &script, "sh"]).arg(std::env::current_exe().unwrap());
        command.args([
            "--exact",
            "full_disk::child_that_runs_out_of_room",
            "--test-threads=1",
            "--nocapture",
        ]);
        let output = command
            .env(CHILD, &run)
            .env(MEMORY, memory_from.to_string())
            .stdout(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let errors: Vec<_> = said.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!((output.status.code(), errors.len()), (Some(3), 1), "{said}");
        assert!(errors[0].contains(file) && errors[0].contains("cannot be written: "), "{said}");
        println!("{}", errors[0]);

        let (state, _) = Checkpoints::new(run.join("checkpoints")).load("last").unwrap();
        let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
        let counted = &text[..state.metrics_bytes as usize];
        assert!(text.ends_with('\n') && (counted.is_empty() || counted.ends_with('\n')));
        assert_eq!(records(&text), all[..text.lines().count()]);
        println!("{blocks} blocks: the last checkpoint is that of step {}", state.step);
        assert_eq!(sum(&run, true, memory_from).unwrap(), expected);
        assert_eq!(records(&fs::read_to_string(run.join("metrics.jsonl")).unwrap()), all);
    }
}
