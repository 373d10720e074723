//! Stochastic gradient descent.

use burn::config::Config;
use burn::optim::decay::WeightDecayConfig;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{ModuleOptimizer, SgdConfig};

use super::check_not_negative;
use crate::error::{Error, check};

/// Stochastic gradient descent, as `torch.optim.SGD`.
///
/// With parameter p, gradient g, learning rate λ:
///
/// ```text
/// g ← g + weight_decay · p
/// b ← g in the first step, then momentum · b + (1 − dampening) · g     (b ← g without momentum)
/// p ← p − λ · b, with nesterov p − λ · (g + momentum · b)
/// ```
///
/// Burn's `Sgd` takes this step; its defaults differ.
#[derive(Config, Debug)]
pub struct Sgd {
    /// The share of the last direction that is kept; at least 0.
    #[config(default = 0.0)]
    pub momentum: f64,
    /// The share of the gradient that is left out of the momentum, from the second step on.
    #[config(default = 0.0)]
    pub dampening: f64,
    /// The weight of the parameters themselves in their gradient (L2); at least 0.
    #[config(default = 0.0)]
    pub weight_decay: f64,
    /// Whether to look ahead along the momentum (Nesterov 1983); needs momentum, and no dampening.
    #[config(default = false)]
    pub nesterov: bool,
}

impl Sgd {
    /// The optimiser.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for a value out of its range.
    pub fn init(&self) -> Result<ModuleOptimizer, Error> {
        let Self { momentum, dampening, weight_decay, nesterov } = *self;
        check_not_negative("Sgd.momentum", momentum)?;
        check(dampening.is_finite(), "Sgd.dampening", "a finite number", dampening)?;
        check_not_negative("Sgd.weight_decay", weight_decay)?;
        let possible = !nesterov || (momentum > 0.0 && dampening == 0.0);
        let got = format!("true with momentum {momentum} and dampening {dampening}");
        check(possible, "Sgd.nesterov", "false unless momentum is above 0 and dampening is 0", got)?;
        let direction = MomentumConfig { momentum, dampening, nesterov };
        Ok(SgdConfig::new()
            .with_momentum((momentum != 0.0).then_some(direction))
            .with_weight_decay((weight_decay != 0.0).then(|| WeightDecayConfig::new(weight_decay as f32)))
            .init())
    }
}
