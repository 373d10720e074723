//! Burn's dashboard in the terminal, fed with what happens in a run.

use std::collections::VecDeque;
use std::io::{IsTerminal, Write, stderr, stdout};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;

use burn_train::Interrupter;
use burn_train::logger::TrainingProgressLogger;
use burn_train::metric::{
    MetricAttributes, MetricDefinition, MetricEntry, MetricId, NumericAttributes, NumericEntry,
    SerializedEntry,
};
use burn_train::renderer::tui::TuiMetricsRendererWrapper;
use burn_train::renderer::{MetricState, MetricsRenderer, MetricsRendererTraining};

use crate::error::{BoxError, Error, ErrorKind};
use crate::lines;
use firebox_train::event::{Callback, Event, Record, RecordKind};
use firebox_train::run::{Interrupt, Signal};

/// Shows a run on Burn's own dashboard (`burn_train::renderer::tui`).
///
/// There are curves of the metrics, and how far it is.
///
/// It takes the whole terminal, standard output, for as long as [`fit`](firebox_train::Trainer::fit) goes on:
/// there is no place for [`Progress`](crate::Progress) beside it. What that would have said of epochs and
/// evaluations, and warnings, is written to standard error when the terminal is free again. Ctrl-C is a key
/// to it, as any other: the key q asks whether to stop, which is a request to the run's [`Interrupt`], with a
/// checkpoint as after SIGINT.
///
/// ```
/// use firebox_report::Dashboard;
/// use firebox_train::run::Interrupt;
/// use firebox_train::{Error, Trainer};
///
/// fn shown(trainer: Trainer) -> Result<Trainer, Error> {
///     let interrupt = Interrupt::on_signals()?;
///     Ok(trainer.callback(Dashboard::new(&interrupt)?).interrupt(interrupt))
/// }
///
/// // Standard output must be a terminal.
/// let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stdout());
/// assert_eq!(Dashboard::new(&Interrupt::never()).is_ok(), is_terminal);
/// ```
pub struct Dashboard {
    interrupt: Interrupt,
    /// `None` while no run goes on.
    screen: Option<Screen>,
    epochs: u64,
    /// The lines to write when the terminal is free again: the last ones, and how many there were before
    /// them.
    lines: VecDeque<String>,
    before: usize,
}

/// Lines that are kept until the terminal is free again.
const LINES: usize = 500;

struct Screen {
    renderer: TuiMetricsRendererWrapper,
    /// Set by the dashboard when its user asks to stop.
    stop: Interrupter,
    /// The metrics that the dashboard knows of.
    known: Vec<String>,
    /// The epoch's sums so far, by metric: what the dashboard shows besides the last value.
    sums: Vec<(String, f64, usize)>,
}

impl Dashboard {
    /// A dashboard whose user may stop the run.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if standard output is no terminal.
    pub fn new(interrupt: &Interrupt) -> Result<Self, Error> {
        if !stdout().is_terminal() {
            let text = "dashboard: expected a terminal as standard output, got something else";
            return Err(Error::new(ErrorKind::Config, text));
        }
        Ok(Dashboard {
            interrupt: interrupt.clone(),
            screen: None,
            epochs: 0,
            lines: VecDeque::new(),
            before: 0,
        })
    }

    fn tell(&mut self, event: &Event<'_>) {
        if let Event::Started { epochs, .. } = *event {
            self.epochs = epochs;
            self.screen = Some(Screen::open(epochs));
        }
        let epochs = self.epochs;
        match event {
            Event::Warning(text) => self.later(format!("warning: {text}")),
            Event::Recorded(record) if record.kind != RecordKind::Step => {
                self.later(lines::pass(record, epochs));
            }
            Event::Interrupted { signal, step, path, .. } => self.later(format!(
                "stopped by {} after step {step}; checkpoint saved: {}",
                signal.name(),
                path.display()
            )),
            _ => {}
        }
        if let Some(screen) = &mut self.screen {
            screen.show(event);
            if screen.stop.should_stop() && self.interrupt.requested().is_none() {
                self.interrupt.request(Signal::Int);
            }
        }
    }

    /// A line for when the terminal is free again. A long run has many.
    fn later(&mut self, line: String) {
        if self.lines.len() == LINES {
            self.lines.pop_front();
            self.before += 1;
        }
        self.lines.push_back(line);
    }

    fn close(&mut self) {
        // The terminal is as it was before when the renderer has gone.
        self.screen = None;
        if self.before > 0 {
            let _ = writeln!(stderr(), "… {} lines before these", self.before);
            self.before = 0;
        }
        for line in self.lines.drain(..) {
            let _ = writeln!(stderr(), "{line}");
        }
    }
}

impl Callback for Dashboard {
    fn on_event(&mut self, event: &Event<'_>) -> Result<(), BoxError> {
        // Burn's renderer panics in the training thread if its user asks to kill the run.
        if panic::catch_unwind(AssertUnwindSafe(|| self.tell(event))).is_err() {
            // Its thread is gone, and it has put the terminal in order. Dropping it would panic again.
            if let Some(screen) = self.screen.take() {
                std::mem::forget(screen);
            }
            self.close();
            return Err("the run was killed from the dashboard".into());
        }
        match event {
            Event::Ended { .. } | Event::Failed { .. } => self.close(),
            // A test after the run.
            _ if self.screen.is_none() => self.close(),
            _ => {}
        }
        Ok(())
    }
}

impl Screen {
    fn open(epochs: u64) -> Self {
        let stop = Interrupter::new();
        let mut renderer = TuiMetricsRendererWrapper::new(stop.clone(), None);
        renderer.start(epochs as usize, 1, None, None);
        Screen { renderer, stop, known: Vec::new(), sums: Vec::new() }
    }

    fn show(&mut self, event: &Event<'_>) {
        match event {
            Event::EpochBegins { state, batches } => {
                self.sums.clear();
                // Burn's epochs are counted from 1, and it is told of each one when the one before is over.
                self.renderer.update_epoch(state.loader.epoch as usize);
                self.renderer.start_split("train", *batches);
            }
            Event::StepEnds { state } => self.renderer.update_split(state.loader.delivered()),
            Event::Recorded(record) => match record.kind {
                RecordKind::Step | RecordKind::Eval => self.record(record),
                RecordKind::Epoch => {}
            },
            Event::EpochEnds { .. } => self.renderer.end_split(),
            _ => {}
        }
    }

    fn record(&mut self, record: &Record) {
        let lr = record.lr.map(|lr| ("lr", lr));
        for (name, value) in record.metrics.values().chain(lr) {
            let id = MetricId::new(Arc::new(name.to_owned()));
            if !self.known.iter().any(|known| known == name) {
                self.known.push(name.to_owned());
                self.renderer.register_metric(MetricDefinition {
                    metric_id: id.clone(),
                    name: Arc::new(name.to_owned()),
                    description: None,
                    attributes: MetricAttributes::Numeric(NumericAttributes::default()),
                });
            }
            let text = match record.kind {
                RecordKind::Step => {
                    let mean = self.mean(name, value, record.metrics.samples());
                    format!("epoch {mean:.4} - step {value:.4}")
                }
                _ => format!("{value:.4}"),
            };
            let entry = MetricEntry::new(id, SerializedEntry::new(text, value.to_string()));
            // A chart has no place for NaN; the text says it.
            let point = value.is_finite().then_some(NumericEntry::Value(value));
            let state = MetricState::Numeric(entry, point);
            match record.kind {
                RecordKind::Eval => self.renderer.update_valid(state),
                _ => self.renderer.update_train(state),
            }
        }
    }

    /// The mean of a metric over the epoch's samples up to now.
    fn mean(&mut self, name: &str, value: f64, samples: usize) -> f64 {
        let place = match self.sums.iter().position(|(known, ..)| known == name) {
            Some(place) => place,
            None => {
                self.sums.push((name.to_owned(), 0.0, 0));
                self.sums.len() - 1
            }
        };
        let (_, sum, count) = &mut self.sums[place];
        *sum += value * samples as f64;
        *count += samples;
        *sum / (*count).max(1) as f64
    }
}
