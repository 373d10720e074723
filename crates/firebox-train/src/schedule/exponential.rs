//! The rate falls by the same share in every step.

use super::{Schedule, check_gamma, check_rate};
use crate::error::Error;

/// lr · gammaˢᵗᵉᵖ, as `torch.optim.lr_scheduler.ExponentialLR`.
///
/// ```
/// use firebox_train::schedule::{Exponential, Schedule};
///
/// let schedule = Exponential::new(1.0, 0.5)?;
/// assert_eq!(schedule.lr(3), 0.125);
/// # Ok::<(), firebox_train::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Exponential {
    lr: f64,
    gamma: f64,
}

impl Exponential {
    /// A schedule from `lr`.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) unless both are finite numbers above 0.
    pub fn new(lr: f64, gamma: f64) -> Result<Self, Error> {
        check_rate("Exponential.lr", lr)?;
        check_gamma("Exponential.gamma", gamma)?;
        Ok(Exponential { lr, gamma })
    }
}

impl Schedule for Exponential {
    fn lr(&self, step: usize) -> f64 {
        self.lr * self.gamma.powf(step as f64)
    }
}
