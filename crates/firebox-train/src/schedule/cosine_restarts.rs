//! The rate falls along half a cosine, again and again.

use super::cosine::half_cosine;
use super::{Schedule, check_floor, check_rate, check_steps};
use crate::error::{Error, check};

/// A cosine that begins anew, in longer and longer periods.
///
/// It goes from `lr` towards `eta_min` along half a cosine in `t_0` steps, then anew, each time in `t_mult`
/// times as many steps (SGDR: Loshchilov, Hutter 2016), as
/// `torch.optim.lr_scheduler.CosineAnnealingWarmRestarts`.
///
/// ```
/// use firebox_train::schedule::{CosineRestarts, Schedule};
///
/// let schedule = CosineRestarts::new(0.1, 10)?.with_t_mult(2)?;
/// assert_eq!((schedule.lr(0), schedule.lr(10), schedule.lr(30)), (0.1, 0.1, 0.1));
/// # Ok::<(), firebox_train::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct CosineRestarts {
    lr: f64,
    t_0: usize,
    t_mult: usize,
    eta_min: f64,
}

impl CosineRestarts {
    /// Down to 0, in periods of the same length.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) unless `lr` is a finite number above 0 and
    /// `t_0` at least 1.
    pub fn new(lr: f64, t_0: usize) -> Result<Self, Error> {
        check_rate("CosineRestarts.lr", lr)?;
        check_steps("CosineRestarts.t_0", t_0)?;
        Ok(CosineRestarts { lr, t_0, t_mult: 1, eta_min: 0.0 })
    }

    /// Sets how many times longer each period is than the one before.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) if it is 0.
    pub fn with_t_mult(mut self, t_mult: usize) -> Result<Self, Error> {
        check(t_mult > 0, "CosineRestarts.t_mult", "at least 1", t_mult)?;
        self.t_mult = t_mult;
        Ok(self)
    }

    /// Another end.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) unless it is a finite number of at least 0.
    pub fn with_eta_min(mut self, eta_min: f64) -> Result<Self, Error> {
        check_floor("CosineRestarts.eta_min", eta_min)?;
        self.eta_min = eta_min;
        Ok(self)
    }
}

impl Schedule for CosineRestarts {
    fn lr(&self, step: usize) -> f64 {
        let (mut at, mut period) = (step, self.t_0);
        if self.t_mult == 1 {
            at %= period;
        }
        while at >= period {
            at -= period;
            period = period.saturating_mul(self.t_mult);
        }
        half_cosine(self.lr, self.eta_min, at as f64 / period as f64)
    }
}
