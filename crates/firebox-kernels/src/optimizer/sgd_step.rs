//! The coefficients of a step of stochastic gradient descent.

#[cfg(feature = "flex")]
use crate::optimizer::pass::Pass;

/// The coefficients of a step of `torch.optim.SGD`; the page of [`sgd`](crate::optimizer::sgd) has an
/// example.
///
/// With gradient g ← `scale`·g + `decay`·p and buffer b ← `momentum`·b + (1 − `dampening`)·g, which is g in
/// the first step, p ← p − `rate`·b. With `nesterov` the parameter goes along g + `momentum`·b, without
/// momentum along g.
#[derive(Clone, Copy, Debug)]
pub struct SgdStep {
    /// The gradient's factor: that of a clipped norm, or 1.
    pub scale: f64,
    /// The weight of the parameter in its gradient.
    pub decay: f64,
    /// The share of the buffer that is kept; 0 if there is none.
    pub momentum: f64,
    /// The share of the gradient that doesn't go into the buffer.
    pub dampening: f64,
    /// Looks ahead along the buffer.
    pub nesterov: bool,
    /// The length of the step.
    pub rate: f64,
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
