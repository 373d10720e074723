//! A step of Adam or AdamW in one pass over a parameter.

#[cfg(feature = "flex")]
use burn::backend::Dispatch;
use burn::tensor::Tensor;
#[cfg(feature = "flex")]
use burn::tensor::{DType, Device};
#[cfg(feature = "flex")]
use rayon::prelude::*;

#[cfg(feature = "flex")]
use crate::flex::AdamOps;
#[cfg(feature = "flex")]
use crate::switch::{count_fallback, enabled};

/// Elements that a thread takes at a time.
#[cfg(feature = "flex")]
const CHUNK: usize = 1 << 14;

/// The coefficients of a step: with gradient g ← g + `decay`·p,
/// m ← β₁·m + (1 − β₁)·g, v ← β₂·v + (1 − β₂)·g², p ← `shrink`·p − `rate`·m / (√v + `epsilon`).
///
/// The corrections of the first steps are in `rate` and `epsilon`.
#[derive(Clone, Copy, Debug)]
pub struct AdamStep {
    /// β₁ and β₂.
    pub betas: [f64; 2],
    /// The weight of the parameter in its gradient.
    pub decay: f64,
    /// What the parameter is multiplied with.
    pub shrink: f64,
    /// The length of the step.
    pub rate: f64,
    /// What is added to the root.
    pub epsilon: f64,
}

/// The parameter and both moments after a step. Memory that nobody else holds is used again.
pub fn adam<const D: usize>(
    parameter: Tensor<D>,
    gradient: Tensor<D>,
    moments: [Tensor<D>; 2],
    step: AdamStep,
) -> (Tensor<D>, [Tensor<D>; 2]) {
    #[cfg(feature = "flex")]
    if takes(&parameter, &gradient, &moments) {
        let [first, second] = moments.map(Tensor::into_dispatch);
        let (parameter, gradient) = (parameter.into_dispatch(), gradient.into_dispatch());
        let AdamStep { betas: [beta_1, beta_2], decay, shrink, rate, epsilon } = step;
        let (parameter, first, second) =
            Dispatch::adam(parameter, gradient, first, second, beta_1, beta_2, decay, shrink, rate, epsilon);
        return (Tensor::from_dispatch(parameter), [first, second].map(Tensor::from_dispatch));
    }
    let AdamStep { betas, decay, shrink, rate, epsilon } = step;
    let gradient = if decay == 0.0 { gradient } else { gradient + parameter.clone().mul_scalar(decay) };
    let [first, second] = moments;
    let first = first.mul_scalar(betas[0]) + gradient.clone().mul_scalar(1.0 - betas[0]);
    let second = second.mul_scalar(betas[1]) + gradient.square().mul_scalar(1.0 - betas[1]);
    let direction = first.clone() / second.clone().sqrt().add_scalar(epsilon);
    let parameter = if shrink == 1.0 { parameter } else { parameter.mul_scalar(shrink) };
    (parameter - direction.mul_scalar(rate), [first, second])
}

#[cfg(feature = "flex")]
fn takes<const D: usize>(parameter: &Tensor<D>, gradient: &Tensor<D>, moments: &[Tensor<D>; 2]) -> bool {
    if !enabled() || parameter.device() != Device::flex() {
        return false;
    }
    let tensors = [parameter, gradient, &moments[0], &moments[1]];
    let takes =
        tensors.iter().all(|tensor| tensor.dtype() == DType::F32 && tensor.dims() == parameter.dims());
    if !takes {
        count_fallback();
    }
    takes
}

/// The step, in place: parameter and moments.
#[cfg(feature = "flex")]
pub(crate) fn step(
    parameter: &mut [f32],
    gradient: &[f32],
    first: &mut [f32],
    second: &mut [f32],
    step: AdamStep,
) {
    let AdamStep { betas, decay, shrink, rate, epsilon } = step;
    let [beta_1, beta_2] = betas.map(|beta| beta as f32);
    // 1 − β loses digits in 32 bits.
    let [new_1, new_2] = betas.map(|beta| (1.0 - beta) as f32);
    let [decay, shrink, rate, epsilon] = [decay, shrink, rate, epsilon].map(|x| x as f32);
    parameter
        .par_chunks_mut(CHUNK)
        .zip(gradient.par_chunks(CHUNK))
        .zip(first.par_chunks_mut(CHUNK))
        .zip(second.par_chunks_mut(CHUNK))
        .for_each(|(((parameter, gradient), first), second)| {
            let moments = first.iter_mut().zip(second);
            for ((p, &g), (m, v)) in parameter.iter_mut().zip(gradient).zip(moments) {
                let g = g + decay * *p;
                *m = beta_1 * *m + new_1 * g;
                *v = beta_2 * *v + new_2 * (g * g);
                *p = shrink * *p - rate * (*m / (v.sqrt() + epsilon));
            }
        });
}
