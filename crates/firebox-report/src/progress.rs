//! Progress for a person: a bar on a terminal, plain lines elsewhere.

use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

use firebox_data::loader::EpochReport;
use indicatif::{ProgressBar, ProgressStyle};

use crate::error::BoxError;
use crate::lines::{pass, values};
use firebox_train::event::{Callback, Event, Record, RecordKind};

/// Writes to standard error. On a terminal a bar shows rate and remaining time; elsewhere a line says the
/// same every ten seconds. Each evaluation, epoch and stop has a line in any case.
///
/// ```
/// use firebox_report::Progress;
/// use firebox_train::Trainer;
/// use firebox_train::event::{Callback, Event};
///
/// fn shown(trainer: Trainer) -> Trainer {
///     trainer.callback(Progress::new())
/// }
///
/// // By hand, for a loop of one's own; it never ends a run.
/// let mut progress = Progress::new();
/// assert!(progress.on_event(&Event::Started { done: 0, steps: 10, epochs: 1 }).is_ok());
/// assert!(progress.on_event(&Event::Warning("the last batch has one sample")).is_ok());
/// ```
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
    /// That the run goes on, which is said after what there is to warn of before it does.
    goes_on: Option<String>,
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
        let before = matches!(
            event,
            Event::Started { .. } | Event::Resumed { .. } | Event::Warning(_) | Event::Failed { .. }
        );
        if !before && let Some(text) = run.goes_on.take() {
            run.line(&text);
        }
        match *event {
            Event::Started { done, steps, .. } if done > 0 => {
                run.goes_on = Some(format!("going on after step {done} of {steps}"));
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
                if !data.failures.is_empty() {
                    run.line(&format!("data, {}", account(data)));
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
        Ok(Run { epochs, steps, done, begun: Instant::now(), bar, told: Instant::now(), goes_on: None })
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
            self.line(&step(record, self.steps, self.done, self.begun.elapsed()));
        }
    }

    fn pass(&self, record: &Record) {
        self.line(&pass(record, self.epochs));
        if let Some(data) = &record.data {
            self.line(&format!("  data, {}", account(data)));
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

/// A step, of a run of so many steps, `done` of which were done before `elapsed`, in a line.
fn step(record: &Record, steps: usize, done: usize, elapsed: Duration) -> String {
    let rate = record.step.saturating_sub(done) as f64 / elapsed.as_secs_f64();
    let left = steps.saturating_sub(record.step) as f64 / rate;
    let pace = match rate > 0.0 && rate.is_finite() {
        true => format!(", {rate:.1} steps/s, {left:.0} s left"),
        false => String::new(),
    };
    format!("step {}/{steps}: {}{pace}", record.step, values(record))
}

/// The loader's account of an epoch, without the epoch, which the line before names: people count from 1.
fn account(data: &EpochReport) -> String {
    let text = data.to_string();
    let of = [data.epoch, data.epoch.saturating_add(1)].map(|epoch| format!("epoch {epoch}: "));
    of.iter().find_map(|of| text.strip_prefix(of)).unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use firebox_train::metrics::Metrics;

    fn record(step: usize, loss: f64) -> Record {
        Record {
            kind: RecordKind::Step,
            step,
            epoch: 0,
            split: "train".to_owned(),
            seconds: 1.0,
            metrics: Metrics::of(1).with_mean("loss", loss),
            lr: None,
            gradient_norm: None,
            samples_per_s: 1.0,
            data_wait_s: 0.0,
            data: None,
        }
    }

    #[test]
    fn a_run_of_more_steps_than_were_announced_has_none_left() {
        let long_ago = Instant::now().checked_sub(BETWEEN_LINES).unwrap();
        let mut run =
            Run { epochs: 1, steps: 3, done: 0, begun: long_ago, bar: None, told: long_ago, goes_on: None };
        run.step(&record(5, 1.0));
        assert!(run.told > long_ago, "a line was due");
    }

    #[test]
    fn a_line_has_only_numbers_that_say_something() {
        let line = |at, steps, done, seconds, loss| {
            step(&record(at, loss), steps, done, Duration::from_secs_f64(seconds))
        };
        assert_eq!(line(6, 10, 2, 2.0, 0.25), "step 6/10: loss 0.2500, 2.0 steps/s, 2 s left");
        // More than were announced, none since the beginning, no time since then.
        assert_eq!(line(6, 0, 2, 2.0, 0.25), "step 6/0: loss 0.2500, 2.0 steps/s, 0 s left");
        assert_eq!(line(6, 10, 6, 2.0, 0.25), "step 6/10: loss 0.2500");
        assert_eq!(line(6, 10, 7, 2.0, 0.25), "step 6/10: loss 0.2500");
        assert_eq!(line(6, 10, 2, 0.0, 0.25), "step 6/10: loss 0.2500");
    }
}
