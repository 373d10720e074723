//! Adam, and Adam with decoupled weight decay: they differ in one line.

use burn::config::Config;
use burn::optim::{AdamState, AdaptiveMomentumState, LearningRate, ModuleOptimizer, Optimizer};
use burn::tensor::{Device, Tensor};
use firebox_kernels::optimizer::{AdamMoments, AdamStep, adam};

use super::{check_not_negative, check_weight, scale};
use crate::error::Error;

/// Adam (Kingma, Ba 2014), as `torch.optim.Adam`.
///
/// With parameter p, gradient g, learning rate λ, in step t = 1, 2, …:
///
/// ```text
/// g ← g + weight_decay · p
/// m ← β₁ · m + (1 − β₁) · g
/// v ← β₂ · v + (1 − β₂) · g²
/// p ← p − λ · m / (1 − β₁ᵗ) / (√(v / (1 − β₂ᵗ)) + ε)
/// ```
///
/// With `amsgrad` (Reddi, Kale, Kumar 2018) the largest v so far stands under the root.
///
/// 1 − β and 1 − βᵗ are computed in 64 bits, as in PyTorch. Burn's Adam has them in 32: its v is off by
/// 1.3e-5 of its size with these defaults, and by 1.4e-3 with β₂ = 0.99999.
#[derive(Config, Debug)]
pub struct AdamConfig {
    /// β₁ and β₂, the weights of the past in both averages.
    ///
    /// Each is from 0, below 1.
    #[config(default = "[0.9, 0.999]")]
    pub betas: [f64; 2],
    /// ε, added to the root; at least 0.
    #[config(default = 1e-8)]
    pub eps: f64,
    /// The weight of the parameters themselves in their gradient (L2); at least 0.
    #[config(default = 0.0)]
    pub weight_decay: f64,
    /// Divides by the largest average so far.
    #[config(default = false)]
    pub amsgrad: bool,
}

/// Adam with decoupled weight decay (Loshchilov, Hutter 2017), as `torch.optim.AdamW`.
///
/// [`AdamConfig`]'s step, except that the decay is not in the gradient, and so not in the averages: before
/// the step
///
/// ```text
/// p ← p · (1 − λ · weight_decay)
/// ```
#[derive(Config, Debug)]
pub struct AdamWConfig {
    /// β₁ and β₂, the weights of the past in both averages.
    ///
    /// Each is from 0, below 1.
    #[config(default = "[0.9, 0.999]")]
    pub betas: [f64; 2],
    /// ε, added to the root; at least 0.
    #[config(default = 1e-8)]
    pub eps: f64,
    /// The share of a parameter that each step takes away.
    ///
    /// It is a multiple of the learning rate; at least 0.
    #[config(default = 1e-2)]
    pub weight_decay: f64,
    /// Divides by the largest average so far.
    #[config(default = false)]
    pub amsgrad: bool,
}

impl AdamConfig {
    /// The optimizer.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) for a value out of its range.
    pub fn init(&self) -> Result<ModuleOptimizer, Error> {
        let Self { betas, eps, weight_decay, amsgrad } = *self;
        Moments { betas, eps, decay: Decay::InGradient(weight_decay), amsgrad }.checked("AdamConfig")
    }
}

impl AdamWConfig {
    /// The optimizer.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) for a value out of its range.
    pub fn init(&self) -> Result<ModuleOptimizer, Error> {
        let Self { betas, eps, weight_decay, amsgrad } = *self;
        Moments { betas, eps, decay: Decay::OfParameter(weight_decay), amsgrad }.checked("AdamWConfig")
    }
}

/// The step of both; the state is that of Burn's Adam.
#[derive(Clone)]
struct Moments {
    betas: [f64; 2],
    eps: f64,
    decay: Decay,
    amsgrad: bool,
}

#[derive(Clone, Copy)]
enum Decay {
    InGradient(f64),
    OfParameter(f64),
}

impl Moments {
    fn checked(self, name: &str) -> Result<ModuleOptimizer, Error> {
        let (Decay::InGradient(decay) | Decay::OfParameter(decay)) = self.decay;
        for (place, beta) in self.betas.into_iter().enumerate() {
            check_weight(&format!("{name}.betas[{place}]"), beta)?;
        }
        check_not_negative(&format!("{name}.eps"), self.eps)?;
        check_not_negative(&format!("{name}.weight_decay"), decay)?;
        Ok(self.into())
    }
}

impl Optimizer for Moments {
    type State<const D: usize> = AdamState<D>;

    fn step<const D: usize>(
        &self,
        lr: LearningRate,
        tensor: Tensor<D>,
        gradient: Tensor<D>,
        state: Option<AdamState<D>>,
    ) -> (Tensor<D>, Option<AdamState<D>>) {
        let [beta_1, beta_2] = self.betas;
        let (steps, moments) = match state.map(|state| state.momentum) {
            Some(past) => {
                let (first, second, largest) = (past.moment_1, past.moment_2, past.max_moment_2);
                (past.time, AdamMoments { first, second, largest })
            }
            None => (0, AdamMoments::zeros(&tensor, self.amsgrad)),
        };
        let time = steps + 1;
        let correction_1 = 1.0 - beta_1.powf(time as f64);
        let correction_2 = (1.0 - beta_2.powf(time as f64)).sqrt();
        let (decay, shrink) = match self.decay {
            Decay::InGradient(decay) => (decay, 1.0),
            Decay::OfParameter(decay) => (0.0, 1.0 - lr * decay),
        };
        // m / c₁ / (√v / c₂ + ε) is m / (√v + c₂ · ε) · c₂ / c₁.
        let (rate, epsilon) = (lr * correction_2 / correction_1, self.eps * correction_2);
        let (tensor, moments) = scale::take(|scale| {
            let step = AdamStep { scale, betas: self.betas, decay, shrink, rate, epsilon };
            adam(tensor, gradient, moments, step)
        });
        let AdamMoments { first: moment_1, second: moment_2, largest: max_moment_2 } = moments;
        let momentum = AdaptiveMomentumState { time, moment_1, moment_2, max_moment_2 };
        (tensor, Some(AdamState { momentum }))
    }

    fn to_device<const D: usize>(state: AdamState<D>, device: &Device) -> AdamState<D> {
        AdamState { momentum: state.momentum.to_device(device) }
    }
}
