//! Cross-entropy on slices, and its gradient.
//!
//! The backward pass takes the exponentials again: what waits for it is two numbers a sample.

use crate::algebra::math::exp;
use crate::machine::simd::vectorised;
use crate::machine::tasks::share;
use crate::operation::fused::{Array, Computed, Fused, Pass};

/// Samples that a task has.
const CHUNK: usize = 64;

/// The operation on logits of a sample for each target, and as many classes.
#[derive(Clone, Debug)]
pub(crate) struct CrossEntropy {
    /// Each below `classes`.
    pub(crate) targets: Vec<usize>,
    pub(crate) classes: usize,
}

/// The largest of a sample's logits, and the logarithm of the sum of eˣ⁻ˡᵃʳᵍᵉˢᵗ.
///
/// They make the logits probabilities. They are apart, for together they lose digits.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Scale {
    largest: f32,
    log_sum: f32,
}

impl CrossEntropy {
    /// About how many operations a pass has; an exponential has twenty.
    fn operations(&self) -> usize {
        20 * self.targets.len() * self.classes
    }
}

impl Fused<1> for CrossEntropy {
    type SavedForBackward = Vec<Scale>;
    const KEEPS_OUTPUT: bool = false;

    fn forward(&self, [logits]: [&[f32]; 1], _: bool) -> Computed<Vec<Scale>> {
        let mut scales = vec![Scale::default(); self.targets.len()];
        let tasks = scales.chunks_mut(CHUNK).zip(logits.chunks(CHUNK * self.classes));
        share(tasks, self.operations(), |(scales, logits)| {
            vectorised(
                #[inline(always)]
                || {
                    for (scale, logits) in scales.iter_mut().zip(logits.chunks_exact(self.classes)) {
                        let larger = |a: f32, &b: &f32| if b > a { b } else { a };
                        scale.largest = logits.iter().fold(f32::NEG_INFINITY, larger);
                        scale.log_sum = sum_of_exponentials(logits, scale.largest);
                    }
                },
            );
            scales.iter_mut().for_each(|scale| scale.log_sum = scale.log_sum.ln());
        });
        let rows = scales.iter().zip(logits.chunks_exact(self.classes)).zip(&self.targets);
        // In the order of the samples, and in 64 bits, however many there are.
        let sum: f64 = rows
            .map(|((scale, row), &target)| f64::from(scale.log_sum - (row[target] - scale.largest)))
            .sum();
        let loss = (sum / self.targets.len() as f64) as f32;
        Computed { output: Array::new(vec![loss], [1]), beside: vec![], saved: scales }
    }

    fn backward(&self, pass: Pass<'_, Vec<Scale>, 1>) -> [Option<Vec<f32>>; 1] {
        let Pass { inputs: [logits], saved, gradient, .. } = pass;
        let factor = gradient[0] / self.targets.len() as f32;
        let mut to = vec![0.0; logits.len()];
        let tasks = to
            .chunks_mut(CHUNK * self.classes)
            .zip(logits.chunks(CHUNK * self.classes))
            .zip(saved.chunks(CHUNK).zip(self.targets.chunks(CHUNK)));
        share(tasks, self.operations(), |((to, logits), (scales, targets))| {
            vectorised(
                #[inline(always)]
                || {
                    let rows = to.chunks_exact_mut(self.classes).zip(logits.chunks_exact(self.classes));
                    for ((to, logits), (scale, &target)) in rows.zip(scales.iter().zip(targets)) {
                        for (to, x) in to.iter_mut().zip(logits) {
                            *to = factor * exp(x - scale.largest - scale.log_sum);
                        }
                        to[target] -= factor;
                    }
                },
            );
        });
        [Some(to)]
    }
}

/// Σ eˣ⁻ˡᵃʳᵍᵉˢᵗ
#[inline(always)]
fn sum_of_exponentials(logits: &[f32], largest: f32) -> f32 {
    const LANES: usize = 16;
    let mut lanes = [0f32; LANES];
    let chunks = logits.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(sum, x)| *sum += exp(x - largest));
    }
    lanes.iter_mut().zip(rest).for_each(|(sum, x)| *sum += exp(x - largest));
    lanes.iter().sum()
}
