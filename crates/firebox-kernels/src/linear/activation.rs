//! The activation after a linear map.

use burn::tensor::Tensor;
use burn::tensor::activation::{leaky_relu, relu, tanh};

#[cfg(feature = "flex")]
use crate::algebra::math;
#[cfg(feature = "flex")]
use crate::machine::simd::vectorised;

/// A function of each element that follows a [`linear`](crate::linear()) map.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use firebox_kernels::linear::{Activation, linear};
///
/// let device = Device::default();
/// let (x, weight) = (Tensor::<2>::from_data([[-2.0, 4.0]], &device), Tensor::eye(2, &device));
/// let leaky = linear(x, weight, None, Activation::LeakyRelu(0.5));
/// assert_eq!(leaky.into_data().try_to_vec::<f32>().unwrap(), [-1.0, 4.0]);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Activation {
    /// x
    #[default]
    None,
    /// max(0, x)
    Relu,
    /// x, below zero with this slope.
    LeakyRelu(f64),
    /// The hyperbolic tangent.
    Tanh,
}

impl Activation {
    /// By Burn's operations.
    pub(crate) fn plain<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Activation::None => x,
            Activation::Relu => relu(x),
            Activation::LeakyRelu(slope) => leaky_relu(x, slope),
            Activation::Tanh => tanh(x),
        }
    }
}

#[cfg(feature = "flex")]
impl Activation {
    /// Tells if the output says what the slope was.
    ///
    /// With a slope that is not positive it has lost the input's sign.
    pub(crate) fn is_told_by_its_output(self) -> bool {
        match self {
            Activation::LeakyRelu(slope) => slope as f32 > 0.0,
            Activation::None | Activation::Relu | Activation::Tanh => true,
        }
    }

    /// Rows of a linear map's output without its bias become those with it, activated.
    pub(crate) fn forward(self, rows: &mut [f32], bias: Option<&[f32]>, features: usize) {
        match self {
            Activation::None if bias.is_none() => {}
            Activation::None => activate(rows, bias, features, |x| x),
            Activation::Relu => activate(rows, bias, features, |x| if x <= 0.0 { 0.0 } else { x }),
            Activation::LeakyRelu(slope) => {
                let slope = slope as f32;
                activate(rows, bias, features, |x| if x >= 0.0 { x } else { slope * x });
            }
            Activation::Tanh => activate(rows, bias, features, math::tanh),
        }
    }

    /// The gradient before the activation, from its output and the gradient after it. NaN passes a gradient
    /// as Burn's operations do.
    pub(crate) fn backward(self, to: &mut [f32], output: &[f32], gradient: &[f32]) {
        match self {
            Activation::None => to.copy_from_slice(gradient),
            Activation::Relu => derive(to, output, gradient, |y, g| if y <= 0.0 { 0.0 } else { g }),
            Activation::LeakyRelu(slope) => {
                let slope = slope as f32;
                derive(to, output, gradient, |y, g| if y < 0.0 { slope * g } else { g });
            }
            Activation::Tanh => derive(to, output, gradient, |y, g| g * (1.0 - y * y)),
        }
    }
}

#[cfg(feature = "flex")]
#[inline(always)]
fn activate(rows: &mut [f32], bias: Option<&[f32]>, features: usize, activation: impl Fn(f32) -> f32) {
    vectorised(
        #[inline(always)]
        || match bias {
            Some(bias) => {
                for row in rows.chunks_exact_mut(features) {
                    row.iter_mut().zip(bias).for_each(|(x, bias)| *x = activation(*x + bias));
                }
            }
            None => rows.iter_mut().for_each(|x| *x = activation(*x)),
        },
    );
}

#[cfg(feature = "flex")]
#[inline(always)]
fn derive(to: &mut [f32], output: &[f32], gradient: &[f32], derivative: impl Fn(f32, f32) -> f32) {
    vectorised(
        #[inline(always)]
        || {
            for ((to, &y), &g) in to.iter_mut().zip(output).zip(gradient) {
                *to = derivative(y, g);
            }
        },
    );
}
