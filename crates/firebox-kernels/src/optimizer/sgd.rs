//! A step of stochastic gradient descent in one pass over a parameter.

#[cfg(feature = "flex")]
use burn::backend::Dispatch;
use burn::tensor::Tensor;

#[cfg(feature = "flex")]
use crate::optimizer::operations::{OptimizerOps, takes};
#[cfg(feature = "flex")]
use crate::optimizer::pass::Pass;
use crate::shape::expect_shape;

/// The coefficients of a step, which is that of `torch.optim.SGD`: with gradient g ← `scale`·g + `decay`·p and buffer
/// b ← `momentum`·b + (1 − `dampening`)·g, which is g in the first step, p ← p − `rate`·b. With `nesterov` the parameter
/// goes along g + `momentum`·b, without momentum along g.
#[derive(Clone, Copy, Debug)]
pub struct SgdStep {
    /// What the gradient is multiplied with first: the factor of a clipped norm, or 1.
    pub scale: f64,
    /// The weight of the parameter in its gradient.
    pub decay: f64,
    /// The share of the buffer that is kept; 0 if there is none.
    pub momentum: f64,
    /// The share of the gradient that doesn't go into the buffer.
    pub dampening: f64,
    /// Whether to look ahead along the buffer.
    pub nesterov: bool,
    /// The length of the step.
    pub rate: f64,
}

/// The parameter and the buffer after a step; `buffer` is `None` in the first one. Without momentum there is no buffer, and
/// one that is given is dropped. Memory that nobody else holds is used again.
///
/// # Panics
/// If the shapes differ.
pub fn sgd<const D: usize>(
    parameter: Tensor<D>,
    gradient: Tensor<D>,
    buffer: Option<Tensor<D>>,
    step: SgdStep,
) -> (Tensor<D>, Option<Tensor<D>>) {
    let shape = parameter.dims();
    expect_shape("sgd", "a gradient", gradient.dims(), shape);
    let buffer = buffer.filter(|_| step.momentum != 0.0);
    buffer.as_ref().inspect(|buffer| expect_shape("sgd", "a buffer", buffer.dims(), shape));
    #[cfg(feature = "flex")]
    if takes(&[&parameter, &gradient].into_iter().chain(&buffer).collect::<Vec<_>>()) {
        return kernel(parameter, gradient, buffer, step);
    }
    plain(parameter, gradient, buffer, step)
}

#[cfg(feature = "flex")]
fn kernel<const D: usize>(
    parameter: Tensor<D>,
    gradient: Tensor<D>,
    buffer: Option<Tensor<D>>,
    step: SgdStep,
) -> (Tensor<D>, Option<Tensor<D>>) {
    if step.momentum == 0.0 {
        let parameter = Dispatch::sgd(parameter.into_dispatch(), gradient.into_dispatch(), step);
        return (Tensor::from_dispatch(parameter), None);
    }
    let first = buffer.is_none();
    let buffer = buffer.unwrap_or_else(|| parameter.zeros_like());
    let [parameter, gradient, buffer] = [parameter, gradient, buffer].map(Tensor::into_dispatch);
    let (parameter, buffer) = Dispatch::sgd_momentum(parameter, gradient, buffer, first, step);
    (Tensor::from_dispatch(parameter), Some(Tensor::from_dispatch(buffer)))
}

fn plain<const D: usize>(
    parameter: Tensor<D>,
    gradient: Tensor<D>,
    buffer: Option<Tensor<D>>,
    step: SgdStep,
) -> (Tensor<D>, Option<Tensor<D>>) {
    let SgdStep { scale, decay, momentum, dampening, nesterov, rate } = step;
    let gradient = if scale == 1.0 { gradient } else { gradient.mul_scalar(scale) };
    let gradient = if decay == 0.0 { gradient } else { gradient + parameter.clone().mul_scalar(decay) };
    if momentum == 0.0 {
        return (parameter - gradient.mul_scalar(rate), None);
    }
    let buffer = match buffer {
        Some(buffer) => buffer.mul_scalar(momentum) + gradient.clone().mul_scalar(1.0 - dampening),
        None => gradient.clone(),
    };
    let direction = if nesterov { gradient + buffer.clone().mul_scalar(momentum) } else { buffer.clone() };
    (parameter - direction.mul_scalar(rate), Some(buffer))
}

/// A step's coefficients in 32 bits.
#[cfg(feature = "flex")]
#[derive(Clone, Copy)]
pub(crate) struct Coefficients {
    scale: f32,
    decay: f32,
    /// The weights of buffer and gradient in the buffer.
    keep: f32,
    take: f32,
    /// The momentum, if the step looks ahead.
    ahead: Option<f32>,
    rate: f32,
}

#[cfg(feature = "flex")]
impl SgdStep {
    pub(crate) fn coefficients(self, first: bool) -> Coefficients {
        let SgdStep { scale, decay, momentum, dampening, nesterov, rate } = self;
        // The buffer has zeros in the first step.
        let (keep, take) = if first { (0.0, 1.0) } else { (momentum, 1.0 - dampening) };
        let [scale, decay, keep, take, rate] = [scale, decay, keep, take, rate].map(|x| x as f32);
        Coefficients { scale, decay, keep, take, ahead: nesterov.then_some(momentum as f32), rate }
    }
}

#[cfg(feature = "flex")]
impl Coefficients {
    #[inline(always)]
    fn gradient(self, p: f32, g: f32) -> f32 {
        let g = self.scale * g;
        // Without decay the parameter is not looked at: it may be infinite.
        if self.decay == 0.0 { g } else { g + self.decay * p }
    }
}

#[cfg(feature = "flex")]
impl Pass<1> for Coefficients {
    #[inline(always)]
    fn run(self, [parameter]: [&mut [f32]; 1], gradient: &[f32]) {
        for (p, &g) in parameter.iter_mut().zip(gradient) {
            *p -= self.rate * self.gradient(*p, g);
        }
    }
}

#[cfg(feature = "flex")]
impl Pass<2> for Coefficients {
    #[inline(always)]
    fn run(self, [parameter, buffer]: [&mut [f32]; 2], gradient: &[f32]) {
        for ((p, &g), b) in parameter.iter_mut().zip(gradient).zip(buffer) {
            let g = self.gradient(*p, g);
            *b = self.keep * *b + self.take * g;
            let direction = match self.ahead {
                Some(momentum) => g + momentum * *b,
                None => *b,
            };
            *p -= self.rate * direction;
        }
    }
}
