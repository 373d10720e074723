//! The rate falls when a metric no longer gets better.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Schedule, check_floor, check_rate, foreign};
use crate::error::{Error, check};
use crate::metrics::lossless;
use crate::task::Goal;

/// Lowers the rate when a metric gets no better.
///
/// It is multiplied with `factor` after more than `patience` evaluations in a row that were no better than
/// the best, as `torch.optim.lr_scheduler.ReduceLROnPlateau`.
///
/// The rate doesn't depend on the step, only on what was [heard](Schedule::observe). A metric that is NaN or
/// infinite is no better than anything.
///
/// It differs from PyTorch's in two things, of metrics below 0 and of infinite ones. PyTorch takes a relative
/// threshold of the best value with its sign: of −1 with a threshold of 0.1 and `min` it calls −0.95 better,
/// and so any metric that stands still, whose rate then never falls. Here the margin is that share of the
/// best's absolute value: better than −1 is what is below −1.1. And PyTorch takes −∞ with `min`, or ∞ with
/// `max`, for the best there is, with which nothing competes.
///
/// ```
/// use firebox_train::schedule::{ReduceOnPlateau, Schedule};
/// use firebox_train::task::Goal;
///
/// let mut schedule = ReduceOnPlateau::new(1.0, Goal::Minimize)?.with_factor(0.5)?.with_patience(1);
/// [3.0, 3.0, 3.0].into_iter().for_each(|loss| schedule.observe(loss));
/// assert_eq!(schedule.lr(100), 0.5);
/// # Ok::<(), firebox_train::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct ReduceOnPlateau {
    goal: Goal,
    factor: f64,
    patience: usize,
    threshold: Threshold,
    cooldown: usize,
    min_lr: f64,
    eps: f64,
    heard: Heard,
}

/// The difference to the best that counts as better.
///
/// ```
/// use firebox_train::schedule::{ReduceOnPlateau, Threshold};
/// use firebox_train::task::Goal;
///
/// // Only a hundredth more is better.
/// let schedule = ReduceOnPlateau::new(0.1, Goal::Maximize)?.with_threshold(Threshold::Abs(0.01))?;
/// # let _ = schedule;
/// # Ok::<(), firebox_train::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Threshold {
    /// By more than this share of the best's absolute value.
    Rel(f64),
    /// By more than this.
    Abs(f64),
}

/// The state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Heard {
    #[serde(with = "lossless")]
    lr: f64,
    #[serde(with = "lossless")]
    best: f64,
    /// Evaluations in a row that were no better.
    bad: usize,
    /// Evaluations that will not count as bad.
    resting: usize,
}

impl ReduceOnPlateau {
    /// A schedule from `lr`, for a metric that should fall or rise.
    ///
    /// It has PyTorch's defaults: a factor of 0.1, a patience of 10 evaluations, a relative threshold of
    /// 1e-4, no cooldown, down to 0, an eps of 1e-8.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) unless `lr` is a finite number above 0.
    pub fn new(lr: f64, goal: Goal) -> Result<Self, Error> {
        check_rate("ReduceOnPlateau.lr", lr)?;
        let best = match goal {
            Goal::Maximize => f64::NEG_INFINITY,
            Goal::Minimize => f64::INFINITY,
        };
        Ok(ReduceOnPlateau {
            goal,
            factor: 0.1,
            patience: 10,
            threshold: Threshold::Rel(1e-4),
            cooldown: 0,
            min_lr: 0.0,
            eps: 1e-8,
            heard: Heard { lr, best, bad: 0, resting: 0 },
        })
    }

    /// The factor that the rate is multiplied with.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) unless it is a number above 0, below 1.
    pub fn with_factor(mut self, factor: f64) -> Result<Self, Error> {
        let holds = factor > 0.0 && factor < 1.0;
        check(holds, "ReduceOnPlateau.factor", "a number above 0, below 1", factor)?;
        self.factor = factor;
        Ok(self)
    }

    /// The number of bad evaluations in a row that are put up with.
    pub fn with_patience(mut self, patience: usize) -> Self {
        self.patience = patience;
        self
    }

    /// The difference to the best that counts as better.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) unless it is a finite number of at least 0.
    pub fn with_threshold(mut self, threshold: Threshold) -> Result<Self, Error> {
        let (Threshold::Rel(number) | Threshold::Abs(number)) = threshold;
        check_floor("ReduceOnPlateau.threshold", number)?;
        self.threshold = threshold;
        Ok(self)
    }

    /// The number of evaluations after a fall that don't count as bad.
    pub fn with_cooldown(mut self, cooldown: usize) -> Self {
        self.cooldown = cooldown;
        self
    }

    /// The rate below which it doesn't fall.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) unless it is a finite number of at least 0.
    pub fn with_min_lr(mut self, min_lr: f64) -> Result<Self, Error> {
        check_floor("ReduceOnPlateau.min_lr", min_lr)?;
        self.min_lr = min_lr;
        Ok(self)
    }

    /// A fall of no more than this is none.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) unless it is a finite number of at least 0.
    pub fn with_eps(mut self, eps: f64) -> Result<Self, Error> {
        check_floor("ReduceOnPlateau.eps", eps)?;
        self.eps = eps;
        Ok(self)
    }

    fn improves(&self, value: f64) -> bool {
        let best = self.heard.best;
        // Nothing was good yet, and no share of that is a margin.
        if !best.is_finite() {
            return value.is_finite();
        }
        let better = match (self.goal, self.threshold) {
            (Goal::Minimize, Threshold::Rel(share)) => value < best * (1.0 - share.copysign(best)),
            (Goal::Minimize, Threshold::Abs(margin)) => value < best - margin,
            (Goal::Maximize, Threshold::Rel(share)) => value > best * (1.0 + share.copysign(best)),
            (Goal::Maximize, Threshold::Abs(margin)) => value > best + margin,
        };
        better && value.is_finite()
    }
}

impl Schedule for ReduceOnPlateau {
    fn lr(&self, _: usize) -> f64 {
        self.heard.lr
    }

    fn observe(&mut self, value: f64) {
        if self.improves(value) {
            (self.heard.best, self.heard.bad) = (value, 0);
        } else {
            self.heard.bad = self.heard.bad.saturating_add(1);
        }
        if self.heard.resting > 0 {
            self.heard.resting -= 1;
            self.heard.bad = 0;
        }
        if self.heard.bad > self.patience {
            let lr = (self.heard.lr * self.factor).max(self.min_lr);
            if self.heard.lr - lr > self.eps {
                self.heard.lr = lr;
            }
            (self.heard.resting, self.heard.bad) = (self.cooldown, 0);
        }
    }

    fn state(&self) -> Value {
        serde_json::to_value(&self.heard).unwrap_or_default()
    }

    fn load(&mut self, state: &Value) -> Result<(), Error> {
        let heard = Heard::deserialize(state);
        let heard = heard.map_err(|error| foreign("that of ReduceOnPlateau", state).caused_by(error))?;
        if !(heard.lr.is_finite() && heard.lr >= 0.0) {
            return Err(foreign("that of ReduceOnPlateau, with a rate of at least 0", state));
        }
        self.heard = heard;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn plateau() -> ReduceOnPlateau {
        let plateau = ReduceOnPlateau::new(0.1, Goal::Minimize).unwrap().with_factor(0.3).unwrap();
        plateau.with_patience(1).with_cooldown(2)
    }

    #[test]
    fn it_goes_on_in_the_middle() {
        let values =
            [f64::NAN, 3.0, 2.0, 2.0, f64::NAN, 2.5, 1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.6, 0.7, 0.8, 0.9];
        for middle in 0..values.len() {
            let (mut whole, mut first) = (plateau(), plateau());
            values[..middle].iter().for_each(|&value| {
                whole.observe(value);
                first.observe(value);
            });
            // Through text, as in a checkpoint.
            let text = first.state().to_string();
            let mut second = plateau();
            second.load(&serde_json::from_str(&text).unwrap()).unwrap();
            assert_eq!(second, whole, "{text}");
            for &value in &values[middle..] {
                whole.observe(value);
                second.observe(value);
                assert_eq!(second.lr(0), whole.lr(0));
            }
            assert!(whole.lr(0) < 0.01);
        }
    }

    #[test]
    fn what_is_not_a_number_is_bad() {
        let mut schedule = plateau();
        schedule.observe(f64::NAN);
        assert_eq!(schedule.lr(0), 0.1);
        schedule.observe(f64::NAN);
        assert_eq!(schedule.lr(0), 0.03);
    }

    /// The rates after each value, at a patience of 1 and a factor of a half.
    fn rates(goal: Goal, threshold: Threshold, values: &[f64]) -> Vec<f64> {
        let schedule = ReduceOnPlateau::new(1.0, goal).unwrap().with_factor(0.5).unwrap();
        let mut schedule = schedule.with_patience(1).with_threshold(threshold).unwrap();
        let rate = values.iter().map(|&value| {
            schedule.observe(value);
            schedule.lr(0)
        });
        rate.collect()
    }

    #[test]
    fn a_relative_margin_is_a_share_of_the_absolute_value() {
        let rel = Threshold::Rel(0.1);
        // What PyTorch calls better: its bar is −1 · 0.9 to fall below, and −1 · 1.1 to rise above.
        assert_eq!(rates(Goal::Minimize, rel, &[-1.0, -0.95, -1.0, -1.05]), [1.0, 1.0, 0.5, 0.5]);
        assert_eq!(rates(Goal::Maximize, rel, &[-1.0, -1.05, -1.0, -0.95]), [1.0, 1.0, 0.5, 0.5]);
        // What is better on either side of 0.
        assert_eq!(rates(Goal::Minimize, rel, &[-1.0, -1.2, -1.4, -1.6]), [1.0; 4]);
        assert_eq!(rates(Goal::Maximize, rel, &[-1.0, -0.8, -0.7, -0.6]), [1.0; 4]);
        assert_eq!(rates(Goal::Minimize, rel, &[1.0, 0.95, 0.91, 0.8]), [1.0, 1.0, 0.5, 0.5]);
        assert_eq!(rates(Goal::Minimize, rel, &[1.0, 0.0, -1e-9, -2e-9]), [1.0; 4]);
        assert_eq!(rates(Goal::Maximize, rel, &[-1.0, 0.0, 1e-9, 2e-9]), [1.0; 4]);
        // A share of all there is: below 0, or above it.
        for (goal, sign) in [(Goal::Minimize, 1.0), (Goal::Maximize, -1.0)] {
            let values = [2.0, 1.0, 0.5, -0.1].map(|value| value * sign);
            assert_eq!(rates(goal, Threshold::Rel(1.0), &values), [1.0, 1.0, 0.5, 0.5], "{goal:?}");
        }
        let abs = Threshold::Abs(0.1);
        assert_eq!(rates(Goal::Minimize, abs, &[-1.0, -1.05, -1.2, -1.25]), [1.0; 4]);
    }

    #[test]
    fn what_is_infinite_is_bad_and_not_the_best_ever() {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            for threshold in [Threshold::Rel(1e-4), Threshold::Rel(1.0), Threshold::Abs(0.1)] {
                for goal in [Goal::Maximize, Goal::Minimize] {
                    let got = rates(goal, threshold, &[bad, 5.0, bad, 5.0, bad]);
                    assert_eq!(got, [1.0, 1.0, 1.0, 0.5, 0.5], "{bad}, {threshold:?}, {goal:?}");
                }
            }
        }
    }

    #[test]
    fn a_patience_without_end_never_ends() {
        let mut schedule = plateau().with_patience(usize::MAX).with_cooldown(usize::MAX);
        let state = serde_json::json!({"lr": 0.1, "best": 1.0, "bad": usize::MAX, "resting": 0});
        schedule.load(&state).unwrap();
        schedule.observe(2.0);
        assert_eq!(schedule.lr(usize::MAX), 0.1);
    }

    #[test]
    fn anothers_state_and_impossible_settings_are_refused() {
        for state in [Value::Null, serde_json::json!([1, 2]), serde_json::json!({"lr": 1.0})] {
            let mut schedule = plateau();
            let error = schedule.load(&state).unwrap_err();
            assert_eq!(error.kind(), &ErrorKind::Checkpoint);
            assert!(error.to_string().starts_with("schedule state: expected that of ReduceOnPlateau, got "));
            assert_eq!(schedule, plateau());
        }
        for lr in ["NaN", "-1", "inf"] {
            let mut schedule = plateau();
            let state = serde_json::json!({"lr": lr, "best": 1.0, "bad": 0, "resting": 0});
            let error = schedule.load(&state).unwrap_err().to_string();
            assert!(error.contains("with a rate of at least 0, got "), "{error}");
            assert_eq!(schedule, plateau());
        }
        for bad in [-0.1, f64::NAN] {
            assert!(plateau().with_factor(bad).is_err() && plateau().with_factor(1.0).is_err());
            assert!(plateau().with_threshold(Threshold::Rel(bad)).is_err());
            assert!(plateau().with_threshold(Threshold::Abs(bad)).is_err());
            assert!(plateau().with_min_lr(bad).is_err() && plateau().with_eps(bad).is_err());
        }
    }
}
