//! Stochastic gradient descent.

use burn::config::Config;
use burn::optim::{LearningRate, ModuleOptimizer, Optimizer, RecordState, StateSink, StateSource};
use burn::tensor::{Device, Tensor};
use firebox_kernels::optimizer::{SgdStep, sgd};

use super::{check_not_negative, scale};
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
#[derive(Config, Debug)]
pub struct SgdConfig {
    /// The share of the last direction that is kept; at least 0.
    #[config(default = 0.0)]
    pub momentum: f64,
    /// The share of the gradient that is left out of the momentum.
    ///
    /// It is, from the second step on.
    #[config(default = 0.0)]
    pub dampening: f64,
    /// The weight of the parameters themselves in their gradient (L2); at least 0.
    #[config(default = 0.0)]
    pub weight_decay: f64,
    /// Looks ahead along the momentum (Nesterov 1983); needs momentum, and no dampening.
    #[config(default = false)]
    pub nesterov: bool,
}

impl SgdConfig {
    /// The optimizer.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) for a value out of its range.
    pub fn init(&self) -> Result<ModuleOptimizer, Error> {
        let Self { momentum, dampening, weight_decay, nesterov } = *self;
        check_not_negative("SgdConfig.momentum", momentum)?;
        check(dampening.is_finite(), "SgdConfig.dampening", "a finite number", dampening)?;
        check_not_negative("SgdConfig.weight_decay", weight_decay)?;
        let possible = !nesterov || (momentum > 0.0 && dampening == 0.0);
        let got = format!("true with momentum {momentum} and dampening {dampening}");
        check(possible, "SgdConfig.nesterov", "false unless momentum is above 0 and dampening is 0", got)?;
        Ok(Descent { momentum, dampening, weight_decay, nesterov }.into())
    }
}

/// The step.
#[derive(Clone)]
struct Descent {
    momentum: f64,
    dampening: f64,
    weight_decay: f64,
    nesterov: bool,
}

/// b, if there is momentum; named as in the state of Burn's SGD.
#[derive(Clone)]
struct DescentState<const D: usize> {
    velocity: Option<Tensor<D>>,
}

const VELOCITY: &str = "momentum.velocity";

impl Optimizer for Descent {
    type State<const D: usize> = DescentState<D>;

    fn step<const D: usize>(
        &self,
        lr: LearningRate,
        tensor: Tensor<D>,
        gradient: Tensor<D>,
        state: Option<DescentState<D>>,
    ) -> (Tensor<D>, Option<DescentState<D>>) {
        let Self { momentum, dampening, weight_decay: decay, nesterov } = *self;
        let velocity = state.and_then(|state| state.velocity);
        let (tensor, velocity) = scale::take(|scale| {
            let step = SgdStep { scale, decay, momentum, dampening, nesterov, rate: lr };
            sgd(tensor, gradient, velocity, step)
        });
        (tensor, Some(DescentState { velocity }))
    }

    fn to_device<const D: usize>(state: DescentState<D>, device: &Device) -> DescentState<D> {
        DescentState { velocity: state.velocity.map(|tensor| tensor.to_device(device)) }
    }
}

/// By hand: what Burn's derive writes refers to `burn_optim` as the crate it stands in.
impl<const D: usize> RecordState for DescentState<D> {
    fn state_flatten(&self, prefix: &str, out: &mut StateSink) {
        if let Some(velocity) = &self.velocity {
            out.push_tensor(prefix, VELOCITY, velocity.to_data());
        }
    }

    fn state_unflatten(prefix: &str, source: &mut StateSource, device: &Device) -> Option<Self> {
        let velocity = source.take_tensor(prefix, VELOCITY).map(|data| Tensor::from_data(data, device));
        Some(DescentState { velocity })
    }
}
