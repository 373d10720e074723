//! Optimizers with PyTorch's names, options, defaults and formulas.
//!
//! They are plain configs; `init` checks them and gives Burn's
//! [`ModuleOptimizer`](burn::optim::ModuleOptimizer). The learning rate is not in them: the trainer's
//! schedule gives it for each step.
//!
//! They have Burn's formulas, but steps of their own. Burn holds β and α in 32 bits, where 1 − β loses most
//! of its digits: the step of an Adam with PyTorch's defaults is then off by up to 7e-6 of its size, with β₂
//! = 0.99999 by 1e-4, and β₂ = 0.99999999 is 1, which divides by zero. Here such numbers are computed in 64
//! bits, as in PyTorch.
//!
//! On flex a step of [`SgdConfig`], [`AdamConfig`] and [`AdamWConfig`] is one pass over a parameter, its
//! gradient and its state, each of which is read once, and written once and in place where nobody else holds
//! it. Burn visits the parameters one after the other: threads share the chunks of a parameter that has more
//! than 16,384 elements, a smaller one stays on the thread that calls. [`RmsPropConfig`] is put together from
//! Burn's operations. The factor of a clipped norm
//! ([`Learner::with_clip_norm`](crate::Learner::with_clip_norm)) is part of the pass.

mod adam;
mod rms_prop;
pub(crate) mod scale;
mod sgd;

use burn::tensor::Tensor;

pub use adam::{AdamConfig, AdamWConfig};
pub use rms_prop::RmsPropConfig;
pub use sgd::SgdConfig;

use crate::error::{Error, check};

/// Checks an option that can be any number from 0 on.
fn check_not_negative(field: &str, value: f64) -> Result<(), Error> {
    check(value.is_finite() && value >= 0.0, field, "a number of at least 0", value)
}

/// Checks the weight of the past in a moving average.
fn check_weight(field: &str, value: f64) -> Result<(), Error> {
    check((0.0..1.0).contains(&value), field, "a number from 0, below 1", value)
}

/// The next value of an exponential moving average that starts at 0.
fn moving_average<const D: usize>(past: Option<Tensor<D>>, new: Tensor<D>, weight: f64) -> Tensor<D> {
    let new = new.mul_scalar(1.0 - weight);
    match past {
        Some(past) => past.mul_scalar(weight) + new,
        None => new,
    }
}

/// The gradient of the loss with `decay`/2 · |`tensor`|² added to it.
fn with_l2<const D: usize>(gradient: Tensor<D>, tensor: &Tensor<D>, decay: f64) -> Tensor<D> {
    if decay == 0.0 { gradient } else { gradient + tensor.clone().mul_scalar(decay) }
}
