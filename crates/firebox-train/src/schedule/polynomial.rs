//! The rate falls as a power of the steps that are left.

use super::{Schedule, check_floor, check_rate, check_steps};
use crate::error::Error;

/// lr · (1 − step / total_iters)ᵖᵒʷᵉʳ, and 0 from `total_iters` on, as
/// `torch.optim.lr_scheduler.PolynomialLR`.
///
/// A power of 0 is `lr` for ever, as there.
///
/// ```
/// use firebox_train::schedule::{Polynomial, Schedule};
///
/// let schedule = Polynomial::new(0.5, 100)?;
/// assert_eq!((schedule.lr(50), schedule.lr(100)), (0.25, 0.0));
/// # Ok::<(), firebox_train::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Polynomial {
    lr: f64,
    total_iters: usize,
    power: f64,
}

impl Polynomial {
    /// A schedule from `lr` to 0 along a line: a power of 1.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) unless `lr` is a finite number above 0 and
    /// `total_iters` at least 1.
    pub fn new(lr: f64, total_iters: usize) -> Result<Self, Error> {
        check_rate("Polynomial.lr", lr)?;
        check_steps("Polynomial.total_iters", total_iters)?;
        Ok(Polynomial { lr, total_iters, power: 1.0 })
    }

    /// Another power.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) unless it is a finite number of at least 0.
    pub fn with_power(mut self, power: f64) -> Result<Self, Error> {
        check_floor("Polynomial.power", power)?;
        self.power = power;
        Ok(self)
    }
}

impl Schedule for Polynomial {
    fn lr(&self, step: usize) -> f64 {
        // A difference of whole numbers: near the end that of their quotients has lost digits.
        let left = self.total_iters.saturating_sub(step) as f64 / self.total_iters as f64;
        self.lr * left.powf(self.power)
    }
}
