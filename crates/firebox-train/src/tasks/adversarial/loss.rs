//! The losses of generator and discriminator.

use std::fmt;
use std::str::FromStr;

use burn::tensor::Tensor;
use burn::tensor::activation::{log_sigmoid, relu, sigmoid};
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// The losses of a generator and its discriminator.
///
/// Each is a mean over the samples, from logits x of real samples and y of generated ones; σ is the logistic
/// function.
///
/// | | discriminator | generator |
/// |---|---|---|
/// | [`NonSaturating`](Self::NonSaturating) | −t·ln σ(x) − (1 − t)·ln σ(−x) − ln σ(−y) | −ln σ(y) |
/// | [`LeastSquares`](Self::LeastSquares) | ½·(x − t)² + ½·y² | ½·(y − 1)² |
/// | [`Hinge`](Self::Hinge) | max(0, 1 − x) + max(0, 1 + y) | −y |
///
/// t is 1, or less with [label smoothing](crate::tasks::Adversarial::with_label_smoothing).
///
/// ```
/// use firebox_train::tasks::AdversarialLoss;
///
/// assert_eq!(AdversarialLoss::default(), AdversarialLoss::NonSaturating);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum AdversarialLoss {
    /// Cross-entropy; the generator learns from −ln σ(y), which has a gradient where the discriminator is
    /// sure, instead of ln σ(−y) (Goodfellow et al. 2014). The default.
    #[default]
    NonSaturating,
    /// Squares, as of LSGAN with a = 0, b = c = 1 (Mao et al. 2017).
    LeastSquares,
    /// The hinge loss (Lim, Ye 2017).
    Hinge,
}

impl AdversarialLoss {
    const ALL: [AdversarialLoss; 3] =
        [AdversarialLoss::NonSaturating, AdversarialLoss::LeastSquares, AdversarialLoss::Hinge];

    /// The loss's name, as [`FromStr`] reads it.
    pub fn name(self) -> &'static str {
        match self {
            AdversarialLoss::NonSaturating => "non-saturating",
            AdversarialLoss::LeastSquares => "least-squares",
            AdversarialLoss::Hinge => "hinge",
        }
    }

    /// The discriminator's loss by its logits `[batch, 1]`, as a tensor `[1]`.
    ///
    /// They are those of real and of generated samples; `target` is the answer that it should give for real
    /// ones. The hinge loss has no such target.
    pub fn of_discriminator(self, real: Tensor<2>, fake: Tensor<2>, target: f64) -> Tensor<1> {
        match self {
            AdversarialLoss::NonSaturating => {
                let mut loss = log_sigmoid(real.clone()).mean().mul_scalar(-target);
                if target != 1.0 {
                    loss = loss - log_sigmoid(real.neg()).mean().mul_scalar(1.0 - target);
                }
                loss - log_sigmoid(fake.neg()).mean()
            }
            AdversarialLoss::LeastSquares => {
                (real.sub_scalar(target).square().mean() + fake.square().mean()).mul_scalar(0.5)
            }
            AdversarialLoss::Hinge => {
                relu(real.neg().add_scalar(1.0)).mean() + relu(fake.add_scalar(1.0)).mean()
            }
        }
    }

    /// The generator's loss by the discriminator's logits `[batch, 1]` on its samples: `[1]`.
    pub fn of_generator(self, fake: Tensor<2>) -> Tensor<1> {
        match self {
            AdversarialLoss::NonSaturating => log_sigmoid(fake).mean().neg(),
            AdversarialLoss::LeastSquares => fake.sub_scalar(1.0).square().mean().mul_scalar(0.5),
            AdversarialLoss::Hinge => fake.mean().neg(),
        }
    }

    /// The discriminator's answer, as people read it: a probability by the non-saturating loss, the number
    /// itself by the others, which make no probability of it.
    pub(super) fn output(self, logits: Tensor<2>) -> Tensor<2> {
        match self {
            AdversarialLoss::NonSaturating => sigmoid(logits),
            AdversarialLoss::LeastSquares | AdversarialLoss::Hinge => logits,
        }
    }
}

impl FromStr for AdversarialLoss {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|loss| loss.name() == name).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            Error::out_of_range("adversarial loss", format_args!("one of {names}"), name)
        })
    }
}

impl fmt::Display for AdversarialLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
