//! The rate falls at given steps.

use super::{Schedule, check_gamma, check_rate};
use crate::error::{Error, check};

/// Multiplies the rate with `gamma` from each milestone on, as `torch.optim.lr_scheduler.MultiStepLR`.
///
/// ```
/// use firebox_train::schedule::{MultiStep, Schedule};
///
/// let schedule = MultiStep::new(1.0, [30, 80])?.with_gamma(0.5)?;
/// assert_eq!((schedule.lr(29), schedule.lr(30), schedule.lr(80)), (1.0, 0.5, 0.25));
/// # Ok::<(), firebox_train::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct MultiStep {
    lr: f64,
    milestones: Vec<usize>,
    gamma: f64,
}

impl MultiStep {
    /// A schedule from `lr`, with a gamma of 0.1. A milestone that is there twice counts twice.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) unless `lr` is a finite number above 0 and the
    /// milestones ascend.
    pub fn new(lr: f64, milestones: impl Into<Vec<usize>>) -> Result<Self, Error> {
        let milestones = milestones.into();
        check_rate("MultiStep.lr", lr)?;
        let got = format!("{milestones:?}");
        check(milestones.is_sorted(), "MultiStep.milestones", "ascending steps", got)?;
        Ok(MultiStep { lr, milestones, gamma: 0.1 })
    }

    /// Another factor.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) unless it is a finite number above 0.
    pub fn with_gamma(mut self, gamma: f64) -> Result<Self, Error> {
        check_gamma("MultiStep.gamma", gamma)?;
        self.gamma = gamma;
        Ok(self)
    }
}

impl Schedule for MultiStep {
    fn lr(&self, step: usize) -> f64 {
        let passed = self.milestones.partition_point(|&milestone| milestone <= step);
        self.lr * self.gamma.powf(passed as f64)
    }
}
