//! A step of Adam, AdamW or AMSGrad in one pass over a parameter.

#[cfg(feature = "flex")]
use burn::backend::Dispatch;
use burn::tensor::Tensor;

#[cfg(feature = "flex")]
use crate::optimizer::operations::{OptimizerOps, takes};
#[cfg(feature = "flex")]
use crate::optimizer::pass::Pass;
use crate::shape::expect_shape;

/// The coefficients of a step: with gradient g ← `scale`·g + `decay`·p,
/// m ← β₁·m + (1 − β₁)·g, v ← β₂·v + (1 − β₂)·g², p ← `shrink`·p − `rate`·m / (√v + `epsilon`).
///
/// The corrections of the first steps are in `rate` and `epsilon`.
#[derive(Clone, Copy, Debug)]
pub struct AdamStep {
    /// What the gradient is multiplied with first: the factor of a clipped norm, or 1.
    pub scale: f64,
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

/// What Adam keeps of a parameter, of its shape.
#[derive(Clone, Debug)]
pub struct AdamMoments<const D: usize> {
    /// m, the average of the gradients.
    pub first: Tensor<D>,
    /// v, the average of their squares.
    pub second: Tensor<D>,
    /// The largest v so far, which then stands under the root instead of v (AMSGrad; Reddi, Kale, Kumar 2018).
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
    // What is no number in v stays: nothing is greater.
    let largest =
        largest.map(|largest| second.clone().mask_where(largest.clone().greater(second.clone()), largest));
    let root = largest.as_ref().unwrap_or(&second).clone().sqrt();
    let direction = first.clone() / root.add_scalar(epsilon);
    let parameter = if shrink == 1.0 { parameter } else { parameter.mul_scalar(shrink) };
    (parameter - direction.mul_scalar(rate), AdamMoments { first, second, largest })
}

/// A step's coefficients in 32 bits.
#[cfg(feature = "flex")]
#[derive(Clone, Copy)]
pub(crate) struct Coefficients {
    scale: f32,
    betas: [f32; 2],
    /// 1 − β, which loses digits if it is computed in 32 bits.
    new: [f32; 2],
    decay: f32,
    shrink: f32,
    rate: f32,
    epsilon: f32,
}

#[cfg(feature = "flex")]
impl AdamStep {
    pub(crate) fn coefficients(self) -> Coefficients {
        let AdamStep { scale, betas, decay, shrink, rate, epsilon } = self;
        let new = betas.map(|beta| (1.0 - beta) as f32);
        let betas = betas.map(|beta| beta as f32);
        let [scale, decay, shrink, rate, epsilon] = [scale, decay, shrink, rate, epsilon].map(|x| x as f32);
        Coefficients { scale, betas, new, decay, shrink, rate, epsilon }
    }
}

#[cfg(feature = "flex")]
impl Coefficients {
    /// m and v.
    #[inline(always)]
    fn moments(self, p: f32, g: f32, m: f32, v: f32) -> (f32, f32) {
        let g = self.scale * g;
        // Without decay the parameter is not looked at: it may be infinite.
        let g = if self.decay == 0.0 { g } else { g + self.decay * p };
        (self.betas[0] * m + self.new[0] * g, self.betas[1] * v + self.new[1] * (g * g))
    }

    /// p, with v or its largest value under the root.
    #[inline(always)]
    fn parameter(self, p: f32, m: f32, v: f32) -> f32 {
        self.shrink * p - self.rate * (m / (v.sqrt() + self.epsilon))
    }
}

#[cfg(feature = "flex")]
impl Pass<3> for Coefficients {
    #[inline(always)]
    fn run(self, [parameter, first, second]: [&mut [f32]; 3], gradient: &[f32]) {
        let moments = first.iter_mut().zip(second);
        for ((p, &g), (m, v)) in parameter.iter_mut().zip(gradient).zip(moments) {
            (*m, *v) = self.moments(*p, g, *m, *v);
            *p = self.parameter(*p, *m, *v);
        }
    }
}

#[cfg(feature = "flex")]
impl Pass<4> for Coefficients {
    #[inline(always)]
    fn run(self, [parameter, first, second, largest]: [&mut [f32]; 4], gradient: &[f32]) {
        let moments = first.iter_mut().zip(second).zip(largest);
        for ((p, &g), ((m, v), most)) in parameter.iter_mut().zip(gradient).zip(moments) {
            (*m, *v) = self.moments(*p, g, *m, *v);
            *most = if *most > *v { *most } else { *v };
            *p = self.parameter(*p, *m, *most);
        }
    }
}
