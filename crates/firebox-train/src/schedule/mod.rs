//! The learning rate as a function of the step, and of what was heard of evaluations.
//!
//! The schedules have the names, options, defaults and values of PyTorch's, in closed form: PyTorch
//! multiplies the last rate on, and so gathers rounding errors. A closed form has no state, so that a resumed
//! run needs none; [`ReduceOnPlateau`] is the one that remembers something.

mod config;
mod cosine;
mod cosine_restarts;
mod exponential;
mod linear_warmup;
mod multi_step;
mod one_cycle;
mod plateau;
mod polynomial;
mod sequential;
mod step_lr;

use serde_json::Value;

pub use config::ScheduleConfig;
pub use cosine::Cosine;
pub use cosine_restarts::CosineRestarts;
pub use exponential::Exponential;
pub use linear_warmup::LinearWarmup;
pub use multi_step::MultiStep;
pub use one_cycle::{Anneal, OneCycle};
pub use plateau::{ReduceOnPlateau, Threshold};
pub use polynomial::Polynomial;
pub use sequential::SequentialSchedule;
pub use step_lr::StepLr;

use crate::error::{Error, ErrorKind, check};

/// The learning rate of every step.
///
/// ```
/// use firebox_train::schedule::Schedule;
///
/// /// The inverse square root of the step, after a warm-up.
/// struct InverseRoot {
///     lr: f64,
///     warmup: f64,
/// }
///
/// impl Schedule for InverseRoot {
///     fn lr(&self, step: usize) -> f64 {
///         let step = step as f64 + 1.0;
///         self.lr * (step / self.warmup).min((self.warmup / step).sqrt())
///     }
/// }
///
/// let schedule = InverseRoot { lr: 0.1, warmup: 4.0 };
/// assert_eq!((schedule.lr(3), schedule.lr(15)), (0.1, 0.05));
/// // A number is one, too.
/// assert_eq!(0.25.lr(7), 0.25);
/// ```
pub trait Schedule {
    /// The rate of step `step`, counted from 0 over all epochs.
    fn lr(&self, step: usize) -> f64;

    /// Hears the monitored metric of an evaluation. Most schedules don't care.
    fn observe(&mut self, _value: f64) {}

    /// The state for a checkpoint: what it heard; null for a function of the step alone.
    fn state(&self) -> Value {
        Value::Null
    }

    /// Takes back what [`state`](Schedule::state) gave.
    ///
    /// # Errors
    /// [`ErrorKind::Checkpoint`] if it is another schedule's.
    fn load(&mut self, state: &Value) -> Result<(), Error> {
        match state {
            Value::Null => Ok(()),
            _ => Err(foreign("null", state)),
        }
    }
}

/// One rate for all steps.
impl Schedule for f64 {
    fn lr(&self, _: usize) -> f64 {
        *self
    }
}

impl<S: Schedule + ?Sized> Schedule for Box<S> {
    fn lr(&self, step: usize) -> f64 {
        (**self).lr(step)
    }

    fn observe(&mut self, value: f64) {
        (**self).observe(value);
    }

    fn state(&self) -> Value {
        (**self).state()
    }

    fn load(&mut self, state: &Value) -> Result<(), Error> {
        (**self).load(state)
    }
}

/// A state of another schedule.
fn foreign(expected: &str, got: &Value) -> Error {
    Error::new(ErrorKind::Checkpoint, format!("schedule state: expected {expected}, got {got}"))
}

/// Checks a rate that a schedule begins with or goes up to.
fn check_rate(field: &str, rate: f64) -> Result<(), Error> {
    check(rate.is_finite() && rate > 0.0, field, "a number above 0", rate)
}

/// Checks a rate that a schedule goes down to.
fn check_floor(field: &str, rate: f64) -> Result<(), Error> {
    check(rate.is_finite() && rate >= 0.0, field, "a number of at least 0", rate)
}

/// Checks what a rate is multiplied with.
fn check_gamma(field: &str, gamma: f64) -> Result<(), Error> {
    check(gamma.is_finite() && gamma > 0.0, field, "a number above 0", gamma)
}

/// Checks a number of steps.
fn check_steps(field: &str, steps: usize) -> Result<(), Error> {
    check(steps > 0, field, "at least 1 step", steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_settings_are_refused() {
        let texts = |error: Result<(), Error>| {
            let error = error.unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::OutOfRange { .. }), "{error}");
            error.to_string()
        };
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            for (text, error) in [
                ("StepLr.lr", StepLr::new(rate, 1).err()),
                ("MultiStep.lr", MultiStep::new(rate, [1]).err()),
                ("Exponential.lr", Exponential::new(rate, 0.9).err()),
                ("Exponential.gamma", Exponential::new(1.0, rate).err()),
                ("Cosine.lr", Cosine::new(rate, 5).err()),
                ("CosineRestarts.lr", CosineRestarts::new(rate, 5).err()),
                ("LinearWarmup.lr", LinearWarmup::new(rate, 5).err()),
                ("Polynomial.lr", Polynomial::new(rate, 5).err()),
                ("ReduceOnPlateau.lr", ReduceOnPlateau::new(rate, crate::task::Goal::Minimize).err()),
                ("OneCycle.max_lr", OneCycle::new(rate, 5).err()),
            ] {
                let error = error.expect(text);
                assert_eq!(error.to_string(), format!("{text}: expected a number above 0, got {rate}"));
            }
        }
        for (text, result) in [
            ("StepLr.step_size: expected at least 1 step, got 0", StepLr::new(1.0, 0).map(drop)),
            (
                "MultiStep.milestones: expected ascending steps, got [5, 3]",
                MultiStep::new(1.0, [5, 3]).map(drop),
            ),
            ("Cosine.t_max: expected at least 1 step, got 0", Cosine::new(1.0, 0).map(drop)),
            (
                "Cosine.eta_min: expected a number of at least 0, got -1",
                Cosine::new(1.0, 1).and_then(|it| it.with_eta_min(-1.0)).map(drop),
            ),
            ("CosineRestarts.t_0: expected at least 1 step, got 0", CosineRestarts::new(1.0, 0).map(drop)),
            (
                "CosineRestarts.t_mult: expected at least 1, got 0",
                CosineRestarts::new(1.0, 1).and_then(|it| it.with_t_mult(0)).map(drop),
            ),
            (
                "LinearWarmup.total_iters: expected at least 1 step, got 0",
                LinearWarmup::new(1.0, 0).map(drop),
            ),
            (
                "LinearWarmup.start_factor: expected a number above 0, up to 1, got 0",
                LinearWarmup::new(1.0, 1).and_then(|it| it.with_factors(0.0, 1.0)).map(drop),
            ),
            (
                "LinearWarmup.end_factor: expected a number from 0 to 1, got 1.5",
                LinearWarmup::new(1.0, 1).and_then(|it| it.with_factors(0.1, 1.5)).map(drop),
            ),
            (
                "Polynomial.power: expected a number of at least 0, got -1",
                Polynomial::new(1.0, 1).and_then(|it| it.with_power(-1.0)).map(drop),
            ),
            ("OneCycle.total_steps: expected at least 1 step, got 0", OneCycle::new(1.0, 0).map(drop)),
            (
                "OneCycle.pct_start: expected a number from 0 to 1, got 1.1",
                OneCycle::new(1.0, 1).and_then(|it| it.with_pct_start(1.1)).map(drop),
            ),
            (
                "OneCycle.div_factor: expected a number above 0, got 0",
                OneCycle::new(1.0, 1).and_then(|it| it.with_div_factor(0.0)).map(drop),
            ),
            (
                "OneCycle.final_div_factor: expected a number above 0, got inf",
                OneCycle::new(1.0, 1).and_then(|it| it.with_final_div_factor(f64::INFINITY)).map(drop),
            ),
            (
                "SequentialSchedule.milestones: expected one between each two of 2 schedules, got 0",
                SequentialSchedule::new(vec![Box::new(1.0), Box::new(2.0)], vec![]).map(drop),
            ),
            (
                "SequentialSchedule.milestones: expected rising steps, got [4, 4]",
                SequentialSchedule::new(vec![Box::new(1.0), Box::new(2.0), Box::new(3.0)], vec![4, 4])
                    .map(drop),
            ),
            (
                "SequentialSchedule.schedules: expected at least 1, got 0",
                SequentialSchedule::new(vec![], vec![]).map(drop),
            ),
        ] {
            assert_eq!(texts(result), text);
        }
    }

    #[test]
    fn a_schedule_without_state_takes_none() {
        let mut schedule: Box<dyn Schedule> = Box::new(Exponential::new(1.0, 0.5).unwrap());
        let state = schedule.state();
        schedule.observe(1.0);
        schedule.load(&state).unwrap();
        assert_eq!(schedule.lr(2), 0.25);
        let error = schedule.load(&serde_json::json!({"lr": 1})).unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Checkpoint);
        assert_eq!(error.to_string(), r#"schedule state: expected null, got {"lr":1}"#);
    }
}
