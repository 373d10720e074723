//! The loss of a classifier.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor};

#[cfg(feature = "flex")]
use crate::fused::fused;
#[cfg(feature = "flex")]
use crate::switch::eligible;

#[cfg(feature = "flex")]
mod kernel;

/// The mean over samples of −log softmax(logits)\[target\], `[1]`, for logits `[samples, classes]` and targets `[samples]`.
///
/// # Panics
/// If shapes don't fit, or a target is no class.
pub fn cross_entropy(logits: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
    let [samples, classes] = logits.dims();
    assert_eq!(targets.dims(), [samples], "one target for each of {samples} rows of logits");
    #[cfg(feature = "flex")]
    if eligible(&[(logits.device(), logits.dtype())], || samples > 0 && classes > 0) {
        let data = targets.into_data();
        let target = |target: i64| {
            let class = usize::try_from(target).ok().filter(|&class| class < classes);
            class.unwrap_or_else(|| panic!("target {target} is out of bounds for {classes} classes"))
        };
        let targets = data.iter::<i64>().map(target).collect();
        let [loss] = fused(kernel::CrossEntropy { targets, classes }, [logits.into_dispatch()]);
        return Tensor::from_dispatch(loss);
    }
    let chosen = log_softmax(logits, 1).gather(1, targets.reshape([samples, 1]));
    chosen.reshape([samples]).mean().neg()
}
