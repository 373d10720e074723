//! How a run ended.

use std::time::Instant;

use crate::checkpoint::{Best, RunState};
use crate::event::End;
use crate::run::signal::Signal;

/// The result of a run.
///
/// ```
/// use firebox_train::trainer::Outcome;
///
/// fn told(outcome: &Outcome) {
///     println!("{} steps, {:.0} samples a second", outcome.steps, outcome.samples_per_s);
///     if let Some(best) = &outcome.best {
///         println!("best: {} {} after step {}", best.metric, best.value, best.step);
///     }
/// }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Outcome {
    /// Steps done, over all epochs and before a resume too.
    pub steps: usize,
    /// Seconds of training and validation, those before a resume included.
    pub seconds: f64,
    /// Training samples a second, without validation; 0 without a step.
    pub samples_per_s: f64,
    /// The best checkpoint.
    pub best: Option<Best>,
    /// Training batches that were left out because a number was not finite. Those of evaluations are among
    /// the warnings.
    pub not_finite: usize,
    /// The reason why it ended.
    pub end: End,
    /// The warnings, which callbacks were told:
    /// [`Event::Warning`](crate::event::Event::Warning). The first 1,000 of a run; a line after them says
    /// how many there were more.
    pub warnings: Vec<String>,
}

impl Outcome {
    pub(super) fn of(state: RunState, end: End, warnings: Warnings) -> Self {
        Outcome {
            steps: state.step,
            seconds: state.seconds,
            samples_per_s: if state.train_samples == 0 {
                0.0
            } else {
                state.train_samples as f64 / state.train_seconds
            },
            best: state.best.into_iter().next(),
            not_finite: state.not_finite,
            end,
            warnings: warnings.into_list(),
        }
    }

    /// The signal that stopped the run early, if one did.
    pub fn interrupted(&self) -> Option<Signal> {
        match self.end {
            End::Interrupted(signal) => Some(signal),
            _ => None,
        }
    }
}

/// The warnings of a run.
///
/// A long run may warn of the same thing in each of its steps.
#[derive(Default)]
pub(super) struct Warnings {
    list: Vec<String>,
    more: usize,
}

impl Warnings {
    const MOST: usize = 1000;

    pub(super) fn add(&mut self, text: &str) {
        if self.list.len() < Self::MOST {
            self.list.push(text.to_owned());
        } else {
            self.more += 1;
        }
    }

    fn into_list(self) -> Vec<String> {
        let mut list = self.list;
        if self.more > 0 {
            let plural = if self.more == 1 { "" } else { "s" };
            list.push(format!("and {} warning{plural} more", self.more));
        }
        list
    }
}

/// Seconds of training over all parts of a run.
pub(super) struct Clock {
    begun: Instant,
    before: f64,
}

impl Clock {
    pub(super) fn new(before: f64) -> Self {
        Clock { begun: Instant::now(), before }
    }

    pub(super) fn seconds(&self) -> f64 {
        self.before + self.begun.elapsed().as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_bounded_and_none_goes_uncounted() {
        let mut warnings = Warnings::default();
        for number in 0..1002 {
            warnings.add(&format!("step {number}"));
        }
        let list = warnings.into_list();
        assert_eq!((list.len(), &*list[999], &*list[1000]), (1001, "step 999", "and 2 warnings more"));
    }
}
