//! Progress for a person: a bar on a terminal, plain lines elsewhere.

use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::error::BoxError;
use crate::event::{Callback, Event, Record, RecordKind};

/// Writes to standard error. On a terminal a bar shows rate and remaining time; elsewhere a line says the same
/// every ten seconds. Each evaluation, epoch and stop has a line in any case.
#[derive(Debug, Default)]
pub struct Progress {
    /// `None` before the run begins.
    run: Option<Run>,
}

#[derive(Debug)]
struct Run {
    epochs: u64,
    steps: usize,
    /// The steps that were done when the run began, and when that was.
    done: usize,
    begun: Instant,
    /// `None` where there is no terminal.
    bar: Option<ProgressBar>,
    /// When the last line about a step was written.
    told: Instant,
}

/// The time between two lines about steps.
const BETWEEN_LINES: Duration = Duration::from_secs(10);

impl Progress {
    /// A bar or lines, as standard error asks for.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Callback for Progress {
    fn on_event(&mut self, event: &Event<'_>) -> Result<(), BoxError> {
        if let Event::Started { done, steps, epochs } = *event {
            self.run = Some(Run::begin(done, steps, epochs)?);
        }
        let Some(run) = &mut self.run else { return Ok(()) };
        match *event {
            Event::Started { done, steps, .. } if done > 0 => {
                run.line(&format!("going on after step {done} of {steps}"));
            }
            Event::Recorded(record) => match record.kind {
                RecordKind::Step => run.step(record),
                RecordKind::Eval | RecordKind::Epoch => run.pass(record),
            },
            Event::Warning(text) => run.line(&format!("warning: {text}")),
            Event::Interrupted { signal, step, path, data } => {
                if let Some(bar) = run.bar.take() {
                    bar.finish_and_clear();
                }
                let (signal, path) = (signal.name(), path.display());
                run.line(&format!("stopped by {signal} after step {step}; checkpoint saved: {path}"));
                if !data.incidents.is_empty() {
                    run.line(&data.to_string());
                }
            }
            Event::Finished => {
                if let Some(bar) = run.bar.take() {
                    bar.finish_and_clear();
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl Run {
    fn begin(done: usize, steps: usize, epochs: u64) -> Result<Self, BoxError> {
        let bar = if stderr().is_terminal() {
            let style = "{bar:30} step {pos}/{len}, {msg}{per_sec}, {eta} left";
            let bar = ProgressBar::new(steps as u64).with_style(ProgressStyle::with_template(style)?);
            bar.set_position(done as u64);
            bar.reset_eta();
            bar.enable_steady_tick(Duration::from_millis(200));
            Some(bar)
        } else {
            None
        };
        Ok(Run { epochs, steps, done, begun: Instant::now(), bar, told: Instant::now() })
    }

    /// A console that is gone is no reason to stop training.
    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => {
                let _ = writeln!(stderr(), "{text}");
            }
        }
    }

    fn step(&mut self, record: &Record) {
        if let Some(bar) = &self.bar {
            bar.set_position(record.step as u64);
            if let Some(loss) = record.metrics.value("loss") {
                bar.set_message(format!("loss {loss:.4}, "));
            }
        } else if self.told.elapsed() >= BETWEEN_LINES {
            self.told = Instant::now();
            let rate = (record.step - self.done) as f64 / self.begun.elapsed().as_secs_f64();
            self.line(&format!(
                "step {}/{}: {}, {rate:.1} steps/s, {:.0} s left",
                record.step,
                self.steps,
                values(record),
                self.steps.saturating_sub(record.step) as f64 / rate,
            ));
        }
    }

    fn pass(&self, record: &Record) {
        self.line(&pass(record, self.epochs));
        if let Some(data) = &record.data {
            self.line(&format!("  data, {data}"));
        }
    }
}

impl Drop for Run {
    /// Whatever ends a run, the bar must not stay above what is said of it.
    fn drop(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

/// An epoch or an evaluation, of a run of so many epochs, in a line.
pub(crate) fn pass(record: &Record, epochs: u64) -> String {
    format!(
        "epoch {}/{epochs} {:>5}: {}, {:.1} s, {:.0} samples/s, {:.1} s waiting for data",
        record.epoch + 1,
        record.split,
        values(record),
        record.seconds,
        record.samples_per_s,
        record.data_wait_s,
    )
}

fn values(record: &Record) -> String {
    let values = record.metrics.values().map(|(name, value)| format!("{name} {value:.4}"));
    values.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn a_run_of_more_steps_than_were_announced_has_none_left() {
        let long_ago = Instant::now().checked_sub(BETWEEN_LINES).unwrap();
        let mut run = Run { epochs: 1, steps: 3, done: 0, begun: long_ago, bar: None, told: long_ago };
        run.step(&Record {
            kind: RecordKind::Step,
            step: 5,
            epoch: 0,
            split: "train".to_owned(),
            seconds: 1.0,
            metrics: Metrics::of(1).with_mean("loss", 1.0),
            lr: None,
            gradient_norm: None,
            samples_per_s: 1.0,
            data_wait_s: 0.0,
            data: None,
        });
        assert!(run.told > long_ago, "a line was due");
    }
}
