//! The rate rises along a line.

use super::{Schedule, check_rate, check_steps};
use crate::error::{Error, check};

/// A line from `lr · start_factor` to `lr · end_factor`.
///
/// It ends in step `total_iters`, and the rate stays, as `torch.optim.lr_scheduler.LinearLR`.
///
/// ```
/// use firebox_train::schedule::{LinearWarmup, Schedule};
///
/// let schedule = LinearWarmup::new(0.5, 4)?.with_factors(0.5, 1.0)?;
/// assert_eq!((schedule.lr(0), schedule.lr(2), schedule.lr(9)), (0.25, 0.375, 0.5));
/// # Ok::<(), firebox_train::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct LinearWarmup {
    lr: f64,
    total_iters: usize,
    start_factor: f64,
    end_factor: f64,
}

impl LinearWarmup {
    /// A schedule from a third of `lr` to all of it.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) unless `lr` is a finite number above 0 and
    /// `total_iters` at least 1.
    pub fn new(lr: f64, total_iters: usize) -> Result<Self, Error> {
        check_rate("LinearWarmup.lr", lr)?;
        check_steps("LinearWarmup.total_iters", total_iters)?;
        Ok(LinearWarmup { lr, total_iters, start_factor: 1.0 / 3.0, end_factor: 1.0 })
    }

    /// Other factors.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) unless 0 < start ≤ 1 and 0 ≤ end ≤ 1.
    pub fn with_factors(mut self, start: f64, end: f64) -> Result<Self, Error> {
        let above = start > 0.0 && start <= 1.0;
        check(above, "LinearWarmup.start_factor", "a number above 0, up to 1", start)?;
        check((0.0..=1.0).contains(&end), "LinearWarmup.end_factor", "a number from 0 to 1", end)?;
        (self.start_factor, self.end_factor) = (start, end);
        Ok(self)
    }
}

impl Schedule for LinearWarmup {
    fn lr(&self, step: usize) -> f64 {
        let done = step.min(self.total_iters) as f64 / self.total_iters as f64;
        self.lr * (self.start_factor + (self.end_factor - self.start_factor) * done)
    }
}
