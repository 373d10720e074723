//! How often a decoder is told the truth.

use serde::{Deserialize, Serialize};

use crate::error::{Error, check};

/// The probability with which a decoder reads the true token.
///
/// In training a decoder reads the true token before, or the one that it chose itself, by the step of the
/// run: scheduled sampling (Bengio, Vinyals, Jaitly, Shazeer 2015).
///
/// ```
/// use firebox_train::tasks::TeacherForcing;
///
/// let linear = TeacherForcing::Linear { first: 1.0, last: 0.5, steps: 100 };
/// assert_eq!((linear.at(0), linear.at(50), linear.at(1000)), (1.0, 0.75, 0.5));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum TeacherForcing {
    /// The same at each step.
    Constant {
        /// From 0 to 1.
        probability: f64,
    },
    /// Along a line from `first` at step 0 to `last` at step `steps`, and that from there on.
    Linear {
        /// From 0 to 1.
        first: f64,
        /// From 0 to 1.
        last: f64,
        /// Steps of the line.
        steps: usize,
    },
    /// `base` to the power of the step.
    Exponential {
        /// Above 0, at most 1.
        base: f64,
    },
    /// k / (k + e^(step/k)).
    InverseSigmoid {
        /// At least 1.
        k: f64,
    },
}

impl TeacherForcing {
    /// Always the true token.
    pub const ALWAYS: Self = TeacherForcing::Constant { probability: 1.0 };

    /// The probability at a step.
    pub fn at(&self, step: usize) -> f64 {
        match *self {
            TeacherForcing::Constant { probability } => probability,
            TeacherForcing::Linear { last, steps, .. } if step >= steps => last,
            TeacherForcing::Linear { first, last, steps } => {
                first + (last - first) * (step as f64 / steps as f64)
            }
            TeacherForcing::Exponential { base } => base.powf(step as f64),
            TeacherForcing::InverseSigmoid { k } => k / (k + (step as f64 / k).exp()),
        }
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        let share = |field: &str, value: f64| {
            let field = format!("TeacherForcing.{field}");
            check((0.0..=1.0).contains(&value), &field, "a number from 0 to 1", value)
        };
        match *self {
            TeacherForcing::Constant { probability } => share("probability", probability),
            TeacherForcing::Linear { first, last, .. } => {
                share("first", first).and_then(|()| share("last", last))
            }
            TeacherForcing::Exponential { base } => {
                let above = base > 0.0 && base <= 1.0;
                check(above, "TeacherForcing.base", "a number above 0, at most 1", base)
            }
            TeacherForcing::InverseSigmoid { k } => {
                check(k >= 1.0 && k.is_finite(), "TeacherForcing.k", "a number of at least 1", k)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_fall_as_the_paper_says() {
        let linear = TeacherForcing::Linear { first: 1.0, last: 0.25, steps: 4 };
        let at = |schedule: TeacherForcing, steps: &[usize]| -> Vec<f64> {
            steps.iter().map(|&step| schedule.at(step)).collect()
        };
        assert_eq!(at(linear, &[0, 1, 2, 4, 100]), [1.0, 0.8125, 0.625, 0.25, 0.25]);
        assert_eq!(at(TeacherForcing::Linear { first: 1.0, last: 0.5, steps: 0 }, &[0, 1]), [0.5, 0.5]);
        assert_eq!(at(TeacherForcing::Exponential { base: 0.5 }, &[0, 1, 3]), [1.0, 0.5, 0.125]);
        assert_eq!(at(TeacherForcing::ALWAYS, &[0, 7]), [1.0, 1.0]);
        let sigmoid = TeacherForcing::InverseSigmoid { k: 10.0 };
        assert_eq!(sigmoid.at(0), 10.0 / 11.0);
        // Half where e^(step/k) is k.
        assert!((sigmoid.at(23) - 0.5).abs() < 1e-2 && sigmoid.at(1_000_000) == 0.0);
    }

    #[test]
    fn what_is_no_probability_is_refused() {
        for (schedule, text) in [
            (
                TeacherForcing::Constant { probability: 1.5 },
                "TeacherForcing.probability: expected a number from 0 to 1, got 1.5",
            ),
            (
                TeacherForcing::Linear { first: 1.0, last: f64::NAN, steps: 2 },
                "TeacherForcing.last: expected a number from 0 to 1, got NaN",
            ),
            (
                TeacherForcing::Exponential { base: 0.0 },
                "TeacherForcing.base: expected a number above 0, at most 1, got 0",
            ),
            (
                TeacherForcing::InverseSigmoid { k: 0.5 },
                "TeacherForcing.k: expected a number of at least 1, got 0.5",
            ),
        ] {
            assert_eq!(schedule.check().unwrap_err().to_string(), text);
        }
        TeacherForcing::Linear { first: 1.0, last: 0.0, steps: 0 }.check().unwrap();
    }
}
