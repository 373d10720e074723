//! Schedules by name, for configs in files.

use serde::{Deserialize, Serialize};

use super::{
    Anneal, Cosine, CosineRestarts, Exponential, LinearWarmup, MultiStep, OneCycle, Polynomial,
    ReduceOnPlateau, Schedule, SequentialSchedule, StepLr, Threshold, check_rate,
};
use crate::error::Error;
use crate::task::Goal;

/// Any schedule as data: `{"kind": "one-cycle", "max_lr": 0.003}`, or the same in TOML. Options that are left
/// out have PyTorch's defaults; an unknown one is refused.
///
/// Where a number of steps is left out, it is that of the whole run, or of the schedule's turn in a sequence.
///
/// ```
/// use firebox_train::schedule::ScheduleConfig;
///
/// let config: ScheduleConfig = serde_json::from_str(r#"{"kind": "one-cycle", "max_lr": 0.003}"#)?;
/// let schedule = config.init(1000)?;
/// assert!(schedule.lr(500) > schedule.lr(999));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ScheduleConfig {
    /// One rate.
    Constant {
        /// The rate.
        lr: f64,
    },
    /// [`StepLr`].
    Step {
        /// The first rate.
        lr: f64,
        /// The steps between two falls.
        step_size: usize,
        /// The factor of a fall.
        #[serde(default = "tenth")]
        gamma: f64,
    },
    /// [`MultiStep`].
    MultiStep {
        /// The first rate.
        lr: f64,
        /// The steps of the falls.
        milestones: Vec<usize>,
        /// The factor of a fall.
        #[serde(default = "tenth")]
        gamma: f64,
    },
    /// [`Exponential`].
    Exponential {
        /// The first rate.
        lr: f64,
        /// The factor of a step.
        gamma: f64,
    },
    /// [`Cosine`].
    Cosine {
        /// The first rate.
        lr: f64,
        /// The step of the lowest rate.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        t_max: Option<usize>,
        /// The lowest rate.
        #[serde(default)]
        eta_min: f64,
    },
    /// [`CosineRestarts`].
    CosineRestarts {
        /// The highest rate.
        lr: f64,
        /// The steps of the first period.
        t_0: usize,
        /// How many times longer each period is than the one before.
        #[serde(default = "one")]
        t_mult: usize,
        /// The lowest rate.
        #[serde(default)]
        eta_min: f64,
    },
    /// [`OneCycle`].
    OneCycle {
        /// The highest rate.
        max_lr: f64,
        /// The steps of the cycle.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        total_steps: Option<usize>,
        /// The share of the steps in which the rate rises.
        #[serde(default = "three_tenths")]
        pct_start: f64,
        /// How many times smaller than the highest the first rate is.
        #[serde(default = "twenty_five")]
        div_factor: f64,
        /// How many times smaller than the first the last rate is.
        #[serde(default = "ten_thousand")]
        final_div_factor: f64,
        /// The way up and down.
        #[serde(default)]
        anneal: Anneal,
        /// The rate falls to where it began before it falls to its end.
        #[serde(default)]
        three_phase: bool,
    },
    /// [`LinearWarmup`].
    LinearWarmup {
        /// The rate that the factors are of.
        lr: f64,
        /// The steps of the warm-up.
        total_iters: usize,
        /// The factor of the first step.
        #[serde(default = "third")]
        start_factor: f64,
        /// The factor from the last step on.
        #[serde(default = "whole")]
        end_factor: f64,
    },
    /// [`Polynomial`].
    Polynomial {
        /// The first rate.
        lr: f64,
        /// The steps until the rate is 0.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        total_iters: Option<usize>,
        /// The power of what is left.
        #[serde(default = "whole")]
        power: f64,
    },
    /// [`SequentialSchedule`].
    Sequential {
        /// The parts.
        schedules: Vec<ScheduleConfig>,
        /// The steps at which the next part begins.
        milestones: Vec<usize>,
    },
    /// [`ReduceOnPlateau`].
    ReduceOnPlateau {
        /// The first rate.
        lr: f64,
        /// `min` or `max`: whether the metric should fall or rise.
        #[serde(with = "Mode", default = "minimise")]
        mode: Goal,
        /// The factor of a fall.
        #[serde(default = "tenth")]
        factor: f64,
        /// Bad evaluations in a row that are put up with.
        #[serde(default = "ten")]
        patience: usize,
        /// `{"rel": 1e-4}` or `{"abs": 0.01}`: how much better than the best is better.
        #[serde(default = "threshold")]
        threshold: Threshold,
        /// Evaluations after a fall that don't count as bad.
        #[serde(default)]
        cooldown: usize,
        /// The rate below which it doesn't fall.
        #[serde(default)]
        min_lr: f64,
        /// A fall of no more than this is none.
        #[serde(default = "eps")]
        eps: f64,
    },
}

impl ScheduleConfig {
    /// The schedule, for a run of `total_steps` steps.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) for a value out of its range.
    pub fn init(&self, total_steps: usize) -> Result<Box<dyn Schedule>, Error> {
        Ok(match *self {
            Self::Constant { lr } => {
                check_rate("Constant.lr", lr)?;
                Box::new(lr)
            }
            Self::Step { lr, step_size, gamma } => Box::new(StepLr::new(lr, step_size)?.with_gamma(gamma)?),
            Self::MultiStep { lr, ref milestones, gamma } => {
                Box::new(MultiStep::new(lr, milestones.as_slice())?.with_gamma(gamma)?)
            }
            Self::Exponential { lr, gamma } => Box::new(Exponential::new(lr, gamma)?),
            Self::Cosine { lr, t_max, eta_min } => {
                Box::new(Cosine::new(lr, t_max.unwrap_or(total_steps))?.with_eta_min(eta_min)?)
            }
            Self::CosineRestarts { lr, t_0, t_mult, eta_min } => {
                Box::new(CosineRestarts::new(lr, t_0)?.with_t_mult(t_mult)?.with_eta_min(eta_min)?)
            }
            Self::OneCycle {
                max_lr,
                total_steps: own,
                pct_start,
                div_factor,
                final_div_factor,
                anneal,
                three_phase,
            } => Box::new(
                OneCycle::new(max_lr, own.unwrap_or(total_steps))?
                    .with_pct_start(pct_start)?
                    .with_div_factor(div_factor)?
                    .with_final_div_factor(final_div_factor)?
                    .with_anneal(anneal)
                    .with_three_phase(three_phase),
            ),
            Self::LinearWarmup { lr, total_iters, start_factor, end_factor } => {
                Box::new(LinearWarmup::new(lr, total_iters)?.with_factors(start_factor, end_factor)?)
            }
            Self::Polynomial { lr, total_iters, power } => {
                Box::new(Polynomial::new(lr, total_iters.unwrap_or(total_steps))?.with_power(power)?)
            }
            Self::Sequential { ref schedules, ref milestones } => {
                let begun = |turn: usize| match turn {
                    0 => Some(0),
                    _ => milestones.get(turn - 1).copied(),
                };
                let parts = schedules.iter().enumerate().map(|(turn, part)| {
                    let end = milestones.get(turn).map_or(total_steps, |&end| end.min(total_steps));
                    // A part whose turn never comes still has to be one.
                    part.init(end.saturating_sub(begun(turn).unwrap_or(0)).max(1))
                });
                Box::new(SequentialSchedule::new(parts.collect::<Result<_, _>>()?, milestones.clone())?)
            }
            Self::ReduceOnPlateau { lr, mode, factor, patience, threshold, cooldown, min_lr, eps } => {
                Box::new(
                    ReduceOnPlateau::new(lr, mode)?
                        .with_factor(factor)?
                        .with_patience(patience)
                        .with_threshold(threshold)?
                        .with_cooldown(cooldown)
                        .with_min_lr(min_lr)?
                        .with_eps(eps)?,
                )
            }
        })
    }
}

/// PyTorch's names of a goal.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Goal")]
enum Mode {
    #[serde(rename = "max")]
    Maximize,
    #[serde(rename = "min")]
    Minimize,
}

fn minimise() -> Goal {
    Goal::Minimize
}

fn threshold() -> Threshold {
    Threshold::Rel(1e-4)
}

fn eps() -> f64 {
    1e-8
}

fn tenth() -> f64 {
    0.1
}

fn three_tenths() -> f64 {
    0.3
}

fn third() -> f64 {
    1.0 / 3.0
}

fn whole() -> f64 {
    1.0
}

fn twenty_five() -> f64 {
    25.0
}

fn ten_thousand() -> f64 {
    1e4
}

fn one() -> usize {
    1
}

fn ten() -> usize {
    10
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<ScheduleConfig, serde_json::Error> {
        serde_json::from_str(text)
    }

    #[test]
    fn what_is_left_out_is_pytorchs_and_the_runs() {
        let config = read(
            r#"{"kind": "sequential", "milestones": [10], "schedules": [
                {"kind": "linear-warmup", "lr": 0.1, "total_iters": 10}, {"kind": "cosine", "lr": 0.1}]}"#,
        );
        let config = config.unwrap();
        let schedule = config.init(50).unwrap();
        assert!((schedule.lr(0) - 0.1 / 3.0).abs() < 1e-15);
        assert_eq!((schedule.lr(10), schedule.lr(30), schedule.lr(50)), (0.1, 0.05, 0.0));
        // Shorter than its warm-up.
        assert!(config.init(5).unwrap().lr(4) < 0.1);
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(read(&text).unwrap(), config, "{text}");
        let plateau = read(r#"{"kind": "reduce-on-plateau", "lr": 0.1, "mode": "max"}"#).unwrap();
        let text = serde_json::to_string(&plateau).unwrap();
        assert!(text.contains(r#""mode":"max""#) && text.contains(r#""threshold":{"rel":0.0001}"#), "{text}");
        assert_eq!(read(&text).unwrap(), plateau);
        let cycle = read(r#"{"kind": "one-cycle", "max_lr": 0.5}"#).unwrap().init(7).unwrap();
        let same = OneCycle::new(0.5, 7).unwrap();
        assert!((0..9).all(|step| cycle.lr(step) == same.lr(step)));
    }

    #[test]
    fn what_is_unknown_or_out_of_range_is_refused() {
        for (text, expected) in [
            (r#"{"kind": "cosin", "lr": 0.1}"#, "unknown variant `cosin`"),
            (r#"{"kind": "cosine", "lr": 0.1, "tmax": 3}"#, "unknown field `tmax`"),
            (r#"{"kind": "constant"}"#, "missing field `lr`"),
            (r#"{"kind": "reduce-on-plateau", "lr": 0.1, "mode": "up"}"#, "unknown variant `up`"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
        for (text, expected) in [
            (r#"{"kind": "constant", "lr": 0}"#, "Constant.lr: expected a number above 0, got 0"),
            (r#"{"kind": "polynomial", "lr": 1}"#, "Polynomial.total_iters: expected at least 1 step, got 0"),
        ] {
            let error = read(text).unwrap().init(0).map(drop).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
    }
}
