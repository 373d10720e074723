//! RMSprop.

use burn::config::Config;
use burn::optim::{LearningRate, ModuleOptimizer, Optimizer, RecordState, StateSink, StateSource};
use burn::tensor::{Device, Tensor};

use super::{check_not_negative, check_weight, moving_average, scale, with_l2};
use crate::error::Error;

/// RMSprop (Hinton 2012), as `torch.optim.RMSprop`.
///
/// With parameter p, gradient g, learning rate λ:
///
/// ```text
/// g ← g + weight_decay · p
/// v ← α · v + (1 − α) · g²
/// d ← g / (√v + ε)
/// b ← momentum · b + d     (b ← d without momentum)
/// p ← p − λ · b
/// ```
///
/// With `centered` (Graves 2013) the variance v − a² stands under the root, where a ← α · a + (1 − α) · g. As
/// in PyTorch, rounding can make it negative, and so the parameter not a number, where a gradient hardly
/// changes.
///
/// 1 − α is computed in 64 bits, as in PyTorch. Burn's RMSprop has it in 32: with α = 0.9999 its steps are
/// off by 8e-5 of their size.
#[derive(Config, Debug)]
pub struct RmsPropConfig {
    /// α, the weight of the past in the averages; from 0, below 1.
    #[config(default = 0.99)]
    pub alpha: f64,
    /// ε, added to the root; at least 0.
    #[config(default = 1e-8)]
    pub eps: f64,
    /// The weight of the parameters themselves in their gradient (L2); at least 0.
    #[config(default = 0.0)]
    pub weight_decay: f64,
    /// The share of the last direction that is kept; at least 0.
    #[config(default = 0.0)]
    pub momentum: f64,
    /// Divides by the gradient's standard deviation instead of its root mean square.
    #[config(default = false)]
    pub centered: bool,
}

impl RmsPropConfig {
    /// The optimizer.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) for a value out of its range.
    pub fn init(&self) -> Result<ModuleOptimizer, Error> {
        let Self { alpha, eps, weight_decay, momentum, centered } = *self;
        check_weight("RmsPropConfig.alpha", alpha)?;
        check_not_negative("RmsPropConfig.eps", eps)?;
        check_not_negative("RmsPropConfig.weight_decay", weight_decay)?;
        check_not_negative("RmsPropConfig.momentum", momentum)?;
        Ok(Averages { alpha, eps, weight_decay, momentum, centered }.into())
    }
}

/// The step. Burn's state holds what is under the root a second time; this one does not.
#[derive(Clone)]
struct Averages {
    alpha: f64,
    eps: f64,
    weight_decay: f64,
    momentum: f64,
    centered: bool,
}

/// v, a and b, under PyTorch's names.
#[derive(Clone)]
struct AveragesState<const D: usize> {
    square_avg: Tensor<D>,
    grad_avg: Option<Tensor<D>>,
    momentum_buffer: Option<Tensor<D>>,
}

impl Optimizer for Averages {
    type State<const D: usize> = AveragesState<D>;

    fn step<const D: usize>(
        &self,
        lr: LearningRate,
        tensor: Tensor<D>,
        gradient: Tensor<D>,
        state: Option<AveragesState<D>>,
    ) -> (Tensor<D>, Option<AveragesState<D>>) {
        let (square_avg, grad_avg, buffer) = match state {
            Some(past) => (Some(past.square_avg), past.grad_avg, past.momentum_buffer),
            None => (None, None, None),
        };
        let gradient =
            scale::take(|factor| if factor == 1.0 { gradient } else { gradient.mul_scalar(factor) });
        let gradient = with_l2(gradient, &tensor, self.weight_decay);
        let square_avg = moving_average(square_avg, gradient.clone().square(), self.alpha);
        let grad_avg = self.centered.then(|| moving_average(grad_avg, gradient.clone(), self.alpha));
        let under_root = match &grad_avg {
            Some(mean) => square_avg.clone() - mean.clone().square(),
            None => square_avg.clone(),
        };
        let direction = gradient / under_root.sqrt().add_scalar(self.eps);
        let direction = match buffer {
            Some(buffer) => buffer.mul_scalar(self.momentum) + direction,
            None => direction,
        };
        let momentum_buffer = (self.momentum > 0.0).then(|| direction.clone());
        let tensor = tensor - direction.mul_scalar(lr);
        (tensor, Some(AveragesState { square_avg, grad_avg, momentum_buffer }))
    }

    fn to_device<const D: usize>(state: AveragesState<D>, device: &Device) -> AveragesState<D> {
        AveragesState {
            square_avg: state.square_avg.to_device(device),
            grad_avg: state.grad_avg.map(|tensor| tensor.to_device(device)),
            momentum_buffer: state.momentum_buffer.map(|tensor| tensor.to_device(device)),
        }
    }
}

/// By hand: what Burn's derive writes refers to `burn_optim` as the crate it stands in.
impl<const D: usize> RecordState for AveragesState<D> {
    fn state_flatten(&self, prefix: &str, out: &mut StateSink) {
        out.push_tensor(prefix, "square_avg", self.square_avg.to_data());
        for (name, tensor) in [("grad_avg", &self.grad_avg), ("momentum_buffer", &self.momentum_buffer)] {
            if let Some(tensor) = tensor {
                out.push_tensor(prefix, name, tensor.to_data());
            }
        }
    }

    fn state_unflatten(prefix: &str, source: &mut StateSource, device: &Device) -> Option<Self> {
        let mut take = |name: &str| Some(Tensor::from_data(source.take_tensor(prefix, name)?, device));
        Some(AveragesState {
            square_avg: take("square_avg")?,
            grad_avg: take("grad_avg"),
            momentum_buffer: take("momentum_buffer"),
        })
    }
}
