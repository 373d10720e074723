//! Progress for a person: a bar on a terminal, plain lines elsewhere.

use std::io::{IsTerminal, Write, stderr};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::error::BoxError;
use crate::event::{Callback, Event, Record, RecordKind};

/// Writes to standard error: a bar with rate and remaining time where that is a terminal, and a line for every
/// evaluation, epoch and stop in any case.
#[derive(Debug, Default)]
pub struct Progress {
    /// `None` before the run begins, and where there is no terminal.
    bar: Option<ProgressBar>,
    epochs: u64,
}

impl Progress {
    /// A bar or lines, as standard error asks for.
    pub fn new() -> Self {
        Self::default()
    }

    fn line(&self, text: &str) -> Result<(), BoxError> {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => writeln!(stderr(), "{text}")?,
        }
        Ok(())
    }
}

fn metrics(record: &Record) -> String {
    let means = record.metrics.means().map(|(name, mean)| format!("{name} {mean:.4}"));
    means.collect::<Vec<_>>().join(", ")
}

impl Callback for Progress {
    fn on_event(&mut self, event: &Event<'_>) -> Result<(), BoxError> {
        match *event {
            Event::Started { done, steps, epochs } => {
                self.epochs = epochs;
                if stderr().is_terminal() {
                    let style = "{bar:30} step {pos}/{len}, {msg}{per_sec}, {eta} left";
                    let bar = ProgressBar::new(steps as u64).with_style(ProgressStyle::with_template(style)?);
                    bar.set_position(done as u64);
                    bar.reset_eta();
                    bar.enable_steady_tick(Duration::from_millis(200));
                    self.bar = Some(bar);
                }
                if done > 0 {
                    self.line(&format!("going on after step {done} of {steps}"))?;
                }
            }
            Event::Recorded(record) => match record.kind {
                RecordKind::Step => {
                    if let Some(bar) = &self.bar {
                        bar.set_position(record.step as u64);
                        if let Some(loss) = record.metrics.mean("loss") {
                            bar.set_message(format!("loss {loss:.4}, "));
                        }
                    }
                }
                RecordKind::Eval | RecordKind::Epoch => self.line(&format!(
                    "epoch {}/{} {:>5}: {}, {:.1} s, {:.0} samples/s, {:.1} s waiting for data",
                    record.epoch + 1,
                    self.epochs,
                    record.split,
                    metrics(record),
                    record.seconds,
                    record.samples_per_s,
                    record.data_wait_s,
                ))?,
            },
            Event::Saved { .. } => {}
            Event::Interrupted { signal, step, path } => {
                if let Some(bar) = &self.bar {
                    bar.abandon();
                }
                self.line(&format!(
                    "stopped by {} after step {step}; checkpoint saved: {}",
                    signal.name(),
                    path.display()
                ))?;
            }
            Event::Finished => {
                if let Some(bar) = self.bar.take() {
                    bar.finish_and_clear();
                }
            }
        }
        Ok(())
    }
}
