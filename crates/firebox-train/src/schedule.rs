//! The learning rate as a function of the step.

use std::f64::consts::PI;

use serde_json::Value;

use crate::error::{Error, ErrorKind};

/// The learning rate of every step: a function, so that a resumed run needs no state of it.
pub trait Schedule {
    /// The rate of step `step`, counted from 0 over all epochs.
    fn lr(&self, step: usize) -> f64;

    /// Hears the monitored metric of an evaluation. Most don't care.
    fn observe(&mut self, _value: f64) {}

    /// What it remembers of what it heard, for a checkpoint; null for a function of the step alone.
    fn state(&self) -> Value {
        Value::Null
    }

    /// Takes that back.
    ///
    /// # Errors
    /// [`ErrorKind::Checkpoint`] if it is of another schedule.
    fn load(&mut self, _state: &Value) -> Result<(), Error> {
        Ok(())
    }
}

/// One rate for all steps.
impl Schedule for f64 {
    fn lr(&self, _: usize) -> f64 {
        *self
    }
}

/// One cycle: from max/25 up to max over the first 30 % of the steps, then down to max/250,000, each along
/// half a cosine (Smith, Topin 2017). The values of PyTorch's `OneCycleLR` with its defaults; momentum is not
/// cycled.
#[derive(Clone, Debug)]
pub struct OneCycle {
    max_lr: f64,
    total_steps: usize,
}

impl OneCycle {
    const UP: f64 = 0.3;
    const START: f64 = 1.0 / 25.0;
    const END: f64 = Self::START / 1e4;

    /// A cycle of `total_steps` steps; the steps behind it keep the last rate.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] unless `max_lr` is a finite number above 0 and there is at least one step.
    pub fn new(max_lr: f64, total_steps: usize) -> Result<Self, Error> {
        if !(max_lr.is_finite() && max_lr > 0.0) {
            let text = format!("learning rate: expected a number above 0, got {max_lr}");
            return Err(Error::new(ErrorKind::Config, text));
        }
        if total_steps == 0 {
            let text = "one-cycle schedule: expected at least 1 step, got 0";
            return Err(Error::new(ErrorKind::Config, text));
        }
        Ok(OneCycle { max_lr, total_steps })
    }
}

impl Schedule for OneCycle {
    fn lr(&self, step: usize) -> f64 {
        let last = self.total_steps as f64 - 1.0;
        let step = (step as f64).min(last);
        let peak = Self::UP * self.total_steps as f64 - 1.0;
        let cosine = |from: f64, to: f64, done: f64| to + (from - to) / 2.0 * (1.0 + (PI * done).cos());
        self.max_lr
            * if step <= peak {
                cosine(Self::START, 1.0, step / peak.max(f64::MIN_POSITIVE))
            } else {
                cosine(1.0, Self::END, (step - peak) / (last - peak))
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From `torch.optim.lr_scheduler.OneCycleLR(SGD, max_lr=3e-3, total_steps=…)`, PyTorch 2.15.
    #[test]
    fn one_cycle_is_pytorchs() {
        for (total, rates) in PYTORCH {
            let schedule = OneCycle::new(3e-3, total).unwrap();
            for (step, rate) in rates.iter().enumerate() {
                let got = schedule.lr(step);
                assert!((got - rate).abs() <= 1e-12, "{total} steps, step {step}: {got}, expected {rate}");
            }
        }
    }

    const PYTORCH: [(usize, &[f64]); 2] = [
        (
            10,
            &[
                0.00011999999999999988,
                0.00156,
                0.003,
                0.002851453896040421,
                0.0024352369618492894,
                0.0018337860658088677,
                0.0011662259341911321,
                0.0005647750381507109,
                0.00014855810395957884,
                1.2e-08,
            ],
        ),
        (
            7,
            &[
                0.00011999999999999988,
                0.0029416698820048763,
                0.002757133128809132,
                0.0020180515094416355,
                0.0010732163272189712,
                0.0002978903756797968,
                1.2e-08,
            ],
        ),
    ];

    #[test]
    fn impossible_settings_are_refused() {
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(OneCycle::new(rate, 10).unwrap_err().kind(), ErrorKind::Config);
        }
        assert!(OneCycle::new(1.0, 0).is_err());
        for total in 1..5 {
            let schedule = OneCycle::new(1.0, total).unwrap();
            assert!((0..total + 3).all(|step| schedule.lr(step).is_finite()), "{total} steps");
        }
    }
}
