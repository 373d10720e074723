//! The rate falls at equal distances.

use super::{Schedule, check_gamma, check_rate, check_steps};
use crate::error::Error;

/// Multiplies the rate with `gamma` after every `step_size` steps, as `torch.optim.lr_scheduler.StepLR`.
///
/// ```
/// use firebox_train::schedule::{Schedule, StepLr};
///
/// let schedule = StepLr::new(1.0, 30)?.with_gamma(0.5)?;
/// assert_eq!((schedule.lr(29), schedule.lr(30), schedule.lr(60)), (1.0, 0.5, 0.25));
/// # Ok::<(), firebox_train::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct StepLr {
    lr: f64,
    step_size: usize,
    gamma: f64,
}

impl StepLr {
    /// A schedule from `lr`, with a gamma of 0.1.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) unless `lr` is a finite number above 0 and
    /// `step_size` at least 1.
    pub fn new(lr: f64, step_size: usize) -> Result<Self, Error> {
        check_rate("StepLr.lr", lr)?;
        check_steps("StepLr.step_size", step_size)?;
        Ok(StepLr { lr, step_size, gamma: 0.1 })
    }

    /// Another factor.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) unless it is a finite number above 0.
    pub fn with_gamma(mut self, gamma: f64) -> Result<Self, Error> {
        check_gamma("StepLr.gamma", gamma)?;
        self.gamma = gamma;
        Ok(self)
    }
}

impl Schedule for StepLr {
    fn lr(&self, step: usize) -> f64 {
        self.lr * self.gamma.powf((step / self.step_size) as f64)
    }
}
