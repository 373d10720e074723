//! A step of stochastic gradient descent in one pass over a parameter.

#[cfg(feature = "flex")]
use burn::backend::Dispatch;
use burn::tensor::Tensor;

use crate::operation::shape::expect_shape;
#[cfg(feature = "flex")]
use crate::optimizer::operations::{OptimizerOps, takes};
use crate::optimizer::sgd_step::SgdStep;

/// The parameter and the buffer after a step; `buffer` is `None` in the first one.
///
/// Without momentum there is no buffer, and one that is given is dropped. Memory that nobody else holds is
/// used again.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use firebox_kernels::optimizer::{SgdStep, sgd};
///
/// let device = Device::default();
/// let [parameter, gradient] = [1.0, 2.0].map(|x: f32| Tensor::<1>::from_data([x], &device));
/// let step =
///     SgdStep { scale: 1.0, decay: 0.0, momentum: 0.5, dampening: 0.0, nesterov: false, rate: 0.25 };
/// let (parameter, buffer) = sgd(parameter, gradient.clone(), None, step);
/// assert_eq!(parameter.clone().into_scalar::<f32>(), 0.5);
/// // The buffer is 0.5 · 2 + 2.
/// let (parameter, _) = sgd(parameter, gradient, buffer, step);
/// assert_eq!(parameter.into_scalar::<f32>(), -0.25);
/// ```
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
