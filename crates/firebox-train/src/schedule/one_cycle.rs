//! The rate rises and falls once.

use serde::{Deserialize, Serialize};

use super::cosine::half_cosine;
use super::{Schedule, check_gamma, check_rate, check_steps};
use crate::error::{Error, check};

/// One cycle of the rate, up and down (Smith, Topin 2017).
///
/// It goes from `max_lr / div_factor` up to `max_lr` over the first `pct_start` of the steps, then down to
/// `max_lr / div_factor / final_div_factor`. The values of PyTorch's `OneCycleLR`; momentum is not cycled.
///
/// ```
/// use firebox_train::schedule::{OneCycle, Schedule};
///
/// let schedule = OneCycle::new(0.1, 100)?;
/// assert!((schedule.lr(0) - 0.1 / 25.0).abs() < 1e-15);
/// assert!(schedule.lr(29) > 0.09 && schedule.lr(99) < 1e-4);
/// # Ok::<(), firebox_train::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct OneCycle {
    max_lr: f64,
    total_steps: usize,
    pct_start: f64,
    div_factor: f64,
    final_div_factor: f64,
    anneal: Anneal,
    three_phase: bool,
}

/// The way from one rate to another.
///
/// ```
/// use firebox_train::schedule::{Anneal, OneCycle};
///
/// let straight = OneCycle::new(0.1, 100)?.with_anneal(Anneal::Linear);
/// assert_ne!(straight, OneCycle::new(0.1, 100)?);
/// # Ok::<(), firebox_train::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Anneal {
    /// Along half a cosine.
    #[default]
    #[serde(rename = "cos")]
    Cosine,
    /// Along a line.
    #[serde(rename = "linear")]
    Linear,
}

impl OneCycle {
    /// A cycle of `total_steps` steps; the steps after it keep the last rate. PyTorch's defaults: up over 30
    /// % of the steps from a 25th, down to a 10,000th of that, along half a cosine each.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) unless `max_lr` is a finite number above 0 and
    /// there is at least one step.
    pub fn new(max_lr: f64, total_steps: usize) -> Result<Self, Error> {
        check_rate("OneCycle.max_lr", max_lr)?;
        check_steps("OneCycle.total_steps", total_steps)?;
        Ok(OneCycle {
            max_lr,
            total_steps,
            pct_start: 0.3,
            div_factor: 25.0,
            final_div_factor: 1e4,
            anneal: Anneal::Cosine,
            three_phase: false,
        })
    }

    /// The share of the steps in which the rate rises.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) unless it is a number from 0 to 1.
    pub fn with_pct_start(mut self, pct_start: f64) -> Result<Self, Error> {
        check((0.0..=1.0).contains(&pct_start), "OneCycle.pct_start", "a number from 0 to 1", pct_start)?;
        self.pct_start = pct_start;
        Ok(self)
    }

    /// Sets how many times smaller than `max_lr` the first rate is.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) unless it is a finite number above 0.
    pub fn with_div_factor(mut self, div_factor: f64) -> Result<Self, Error> {
        check_gamma("OneCycle.div_factor", div_factor)?;
        self.div_factor = div_factor;
        Ok(self)
    }

    /// Sets how many times smaller than the first the last rate is.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) unless it is a finite number above 0.
    pub fn with_final_div_factor(mut self, final_div_factor: f64) -> Result<Self, Error> {
        check_gamma("OneCycle.final_div_factor", final_div_factor)?;
        self.final_div_factor = final_div_factor;
        Ok(self)
    }

    /// Another way up and down.
    pub fn with_anneal(mut self, anneal: Anneal) -> Self {
        self.anneal = anneal;
        self
    }

    /// Lets the rate fall in two phases.
    ///
    /// It first falls to where it began, in as many steps as it rose, and to its end after that.
    pub fn with_three_phase(mut self, three_phase: bool) -> Self {
        self.three_phase = three_phase;
        self
    }
}

impl Schedule for OneCycle {
    fn lr(&self, step: usize) -> f64 {
        let (total, max) = (self.total_steps as f64, self.max_lr);
        let start = max / self.div_factor;
        let end = start / self.final_div_factor;
        let last = total - 1.0;
        let step = (step as f64).min(last);
        // As PyTorch has it, a phase may end between two steps, before the first or after the last.
        let peak = self.pct_start * total - 1.0;
        let back = 2.0 * self.pct_start * total - 2.0;
        let (phase, rates) = match (step <= peak, self.three_phase) {
            (true, _) => ((0.0, peak), (start, max)),
            (false, true) if step <= back => ((peak, back), (max, start)),
            (false, true) => ((back, last), (start, end)),
            (false, false) => ((peak, last), (max, end)),
        };
        // A phase of no length, where PyTorch divides by zero, is at its beginning.
        let done = (step - phase.0) / (phase.1 - phase.0).max(f64::MIN_POSITIVE);
        match self.anneal {
            Anneal::Cosine => half_cosine(rates.0, rates.1, done),
            Anneal::Linear => (rates.1 - rates.0) * done + rates.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_of_a_short_cycle_has_a_rate() {
        for total in 1..8 {
            for pct_start in [0.0, 0.125, 0.25, 0.3, 0.5, 1.0] {
                for three_phase in [false, true] {
                    let schedule = OneCycle::new(1.0, total).unwrap().with_pct_start(pct_start).unwrap();
                    let schedule = schedule.with_three_phase(three_phase);
                    let rates: Vec<_> = (0..total + 3).map(|step| schedule.lr(step)).collect();
                    assert!(
                        rates.iter().all(|rate| (0.0..=1.0 + 1e-12).contains(rate)),
                        "{schedule:?}: {rates:?}"
                    );
                }
            }
        }
    }
}
