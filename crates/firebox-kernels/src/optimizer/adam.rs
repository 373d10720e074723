//! A step of Adam, AdamW or AMSGrad in one pass over a parameter.

#[cfg(feature = "flex")]
use burn::backend::Dispatch;
use burn::tensor::Tensor;

use crate::operation::shape::expect_shape;
use crate::optimizer::adam_step::AdamStep;
#[cfg(feature = "flex")]
use crate::optimizer::operations::{OptimizerOps, takes};

/// The averages that Adam keeps of a parameter, of its shape.
#[derive(Clone, Debug)]
pub struct AdamMoments<const D: usize> {
    /// m, the average of the gradients.
    pub first: Tensor<D>,
    /// v, the average of their squares.
    pub second: Tensor<D>,
    /// The largest v so far, which then stands under the root instead of v (AMSGrad; Reddi, Kale, Kumar
    /// 2018).
    pub largest: Option<Tensor<D>>,
}

impl<const D: usize> AdamMoments<D> {
    /// Those before the first step.
    pub fn zeros(parameter: &Tensor<D>, amsgrad: bool) -> Self {
        let zeros = || parameter.zeros_like();
        AdamMoments { first: zeros(), second: zeros(), largest: amsgrad.then(zeros) }
    }
}

/// The parameter and its moments after a step. Memory that nobody else holds is used again.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use firebox_kernels::optimizer::{AdamMoments, AdamStep, adam};
///
/// let device = Device::default();
/// let parameter = Tensor::<1>::from_data([1.0], &device);
/// let moments = AdamMoments::zeros(&parameter, false);
/// // As these go to 0, a step is as long as its rate.
/// let step = AdamStep { scale: 1.0, betas: [0.0; 2], decay: 0.0, shrink: 1.0, rate: 0.25, epsilon: 0.0 };
/// let (parameter, moments) = adam(parameter, Tensor::from_data([3.0], &device), moments, step);
/// assert_eq!(parameter.into_scalar::<f32>(), 0.75);
/// assert_eq!(moments.second.into_scalar::<f32>(), 9.0);
/// ```
///
/// # Panics
/// If the shapes differ.
pub fn adam<const D: usize>(
    parameter: Tensor<D>,
    gradient: Tensor<D>,
    moments: AdamMoments<D>,
    step: AdamStep,
) -> (Tensor<D>, AdamMoments<D>) {
    let shape = parameter.dims();
    expect_shape("adam", "a gradient", gradient.dims(), shape);
    expect_shape("adam", "a first moment", moments.first.dims(), shape);
    expect_shape("adam", "a second moment", moments.second.dims(), shape);
    moments.largest.as_ref().inspect(|largest| {
        expect_shape("adam", "a largest moment", largest.dims(), shape);
    });
    #[cfg(feature = "flex")]
    {
        let AdamMoments { first, second, largest } = &moments;
        let tensors = [&parameter, &gradient, first, second];
        if takes(&tensors.into_iter().chain(largest).collect::<Vec<_>>()) {
            return kernel(parameter, gradient, moments, step);
        }
    }
    plain(parameter, gradient, moments, step)
}

#[cfg(feature = "flex")]
fn kernel<const D: usize>(
    parameter: Tensor<D>,
    gradient: Tensor<D>,
    AdamMoments { first, second, largest }: AdamMoments<D>,
    step: AdamStep,
) -> (Tensor<D>, AdamMoments<D>) {
    let [parameter, gradient, first, second] =
        [parameter, gradient, first, second].map(Tensor::into_dispatch);
    let (parameter, first, second, largest) = match largest.map(Tensor::into_dispatch) {
        Some(largest) => {
            let (parameter, first, second, largest) =
                Dispatch::amsgrad(parameter, gradient, first, second, largest, step);
            (parameter, first, second, Some(largest))
        }
        None => {
            let (parameter, first, second) = Dispatch::adam(parameter, gradient, first, second, step);
            (parameter, first, second, None)
        }
    };
    let [parameter, first, second] = [parameter, first, second].map(Tensor::from_dispatch);
    (parameter, AdamMoments { first, second, largest: largest.map(Tensor::from_dispatch) })
}

fn plain<const D: usize>(
    parameter: Tensor<D>,
    gradient: Tensor<D>,
    AdamMoments { first, second, largest }: AdamMoments<D>,
    step: AdamStep,
) -> (Tensor<D>, AdamMoments<D>) {
    let AdamStep { scale, betas, decay, shrink, rate, epsilon } = step;
    let gradient = if scale == 1.0 { gradient } else { gradient.mul_scalar(scale) };
    let gradient = if decay == 0.0 { gradient } else { gradient + parameter.clone().mul_scalar(decay) };
    let first = first.mul_scalar(betas[0]) + gradient.clone().mul_scalar(1.0 - betas[0]);
    let second = second.mul_scalar(betas[1]) + gradient.square().mul_scalar(1.0 - betas[1]);
    // NaN in v stays: nothing is greater.
    let largest =
        largest.map(|largest| second.clone().mask_where(largest.clone().greater(second.clone()), largest));
    let root = largest.as_ref().unwrap_or(&second).clone().sqrt();
    let direction = first.clone() / root.add_scalar(epsilon);
    let parameter = if shrink == 1.0 { parameter } else { parameter.mul_scalar(shrink) };
    (parameter - direction.mul_scalar(rate), AdamMoments { first, second, largest })
}
