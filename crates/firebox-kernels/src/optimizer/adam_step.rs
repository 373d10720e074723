//! The coefficients of a step of Adam, AdamW or AMSGrad.

#[cfg(feature = "flex")]
use crate::optimizer::pass::Pass;

/// The coefficients of a step of [`adam`](crate::optimizer::adam), whose page has an example.
///
/// With gradient g ← `scale`·g + `decay`·p,
/// m ← β₁·m + (1 − β₁)·g, v ← β₂·v + (1 − β₂)·g², p ← `shrink`·p − `rate`·m / (√v + `epsilon`).
///
/// The corrections of the first steps are in `rate` and `epsilon`.
#[derive(Clone, Copy, Debug)]
pub struct AdamStep {
    /// The gradient's factor: that of a clipped norm, or 1.
    pub scale: f64,
    /// β₁ and β₂.
    pub betas: [f64; 2],
    /// The weight of the parameter in its gradient.
    pub decay: f64,
    /// The parameter's factor.
    pub shrink: f64,
    /// The length of the step.
    pub rate: f64,
    /// The number that is added to the root.
    pub epsilon: f64,
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
