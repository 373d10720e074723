//! The rate falls along half a cosine.

use std::f64::consts::PI;

use super::{Schedule, check_floor, check_rate, check_steps};
use crate::error::Error;

/// Half a cosine from `lr` to `eta_min` (Loshchilov, Hutter 2016).
///
/// It takes `t_max` steps, as `torch.optim.lr_scheduler.CosineAnnealingLR`.
///
/// The rate after that is PyTorch's too: the cosine goes on, so that the rate is back at `lr` after another
/// `t_max` steps.
///
/// ```
/// use firebox_train::schedule::{Cosine, Schedule};
///
/// let schedule = Cosine::new(0.5, 100)?;
/// assert_eq!((schedule.lr(0), schedule.lr(100)), (0.5, 0.0));
/// # Ok::<(), firebox_train::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Cosine {
    lr: f64,
    t_max: usize,
    eta_min: f64,
}

impl Cosine {
    /// Down to 0.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) unless `lr` is a finite number above 0 and
    /// `t_max` at least 1.
    pub fn new(lr: f64, t_max: usize) -> Result<Self, Error> {
        check_rate("Cosine.lr", lr)?;
        check_steps("Cosine.t_max", t_max)?;
        Ok(Cosine { lr, t_max, eta_min: 0.0 })
    }

    /// Another end.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) unless it is a finite number of at least 0.
    pub fn with_eta_min(mut self, eta_min: f64) -> Result<Self, Error> {
        check_floor("Cosine.eta_min", eta_min)?;
        self.eta_min = eta_min;
        Ok(self)
    }
}

impl Schedule for Cosine {
    fn lr(&self, step: usize) -> f64 {
        // Of one period: the cosine of a large number has lost its digits. A longer one than can be counted
        // doesn't end.
        let step = self.t_max.checked_mul(2).map_or(step, |period| step % period);
        half_cosine(self.lr, self.eta_min, step as f64 / self.t_max as f64)
    }
}

/// From `from`, where `done` is 0, to `to`, where it is 1.
pub(super) fn half_cosine(from: f64, to: f64, done: f64) -> f64 {
    to + (from - to) * (1.0 + (PI * done).cos()) / 2.0
}
