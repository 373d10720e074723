//! The loss of a classifier.

use std::error::Error;
use std::fmt;

use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor};

#[cfg(feature = "flex")]
use crate::operation::fused::fused;
use crate::operation::shape::expect_shape;
#[cfg(feature = "flex")]
use crate::operation::switch::eligible;

#[cfg(feature = "flex")]
mod kernel;

/// A target that is no class; the page of [`check_classes`] has an example.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ClassError {
    /// The target's index among the targets: the first that is no class.
    pub row: usize,
    /// The target itself.
    pub target: i64,
    /// How many classes there are, from 0.
    pub classes: usize,
}

impl fmt::Display for ClassError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ClassError { row, target, classes } = self;
        write!(f, "target {target} at row {row}: expected a class below {classes}")
    }
}

/// The message, as [`Display`](fmt::Display): it is what `fn main() -> Result<(), Box<dyn Error>>` prints.
impl fmt::Debug for ClassError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error for ClassError {}

/// Checks that all targets `[samples]` are classes, from 0, below `classes`.
///
/// The targets are read once. Elsewhere than on the CPU that is a transfer, and waits for the device.
///
/// # Errors
/// [`ClassError`] names the first target that is none.
///
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// use firebox_kernels::cross_entropy::check_classes;
///
/// let targets = Tensor::<1, Int>::from_data([0i64, 2, 3], &Device::default());
/// assert!(check_classes(&targets, 4).is_ok());
/// let error = check_classes(&targets, 3).unwrap_err();
/// assert_eq!(error.to_string(), "target 3 at row 2: expected a class below 3");
/// ```
pub fn check_classes(targets: &Tensor<1, Int>, classes: usize) -> Result<(), ClassError> {
    read(targets.clone(), classes).map(drop)
}

/// The targets on the host.
fn read(targets: Tensor<1, Int>, classes: usize) -> Result<Vec<usize>, ClassError> {
    let data = targets.into_data();
    let class = |(row, target): (usize, i64)| match usize::try_from(target) {
        Ok(class) if class < classes => Ok(class),
        _ => Err(ClassError { row, target, classes }),
    };
    data.iter::<i64>().enumerate().map(class).collect()
}

/// The mean over samples of −log softmax(logits)\[target\].
///
/// It is `[1]`, for logits `[samples, classes]` and targets `[samples]`.
///
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// use firebox_kernels::cross_entropy;
///
/// let device = Device::default();
/// let logits = Tensor::zeros([2, 4], &device);
/// let loss = cross_entropy(logits, Tensor::<1, Int>::from_data([0i64, 3], &device));
/// assert!((loss.into_scalar::<f32>() - 4f32.ln()).abs() < 1e-6);
/// ```
///
/// Of no samples it is NaN, as PyTorch's is, and so it is if a row's logits are all −∞ or one is NaN or +∞.
///
/// # Panics
/// If shapes don't fit, or a target is no class: [`try_cross_entropy`] gives an error for that.
pub fn cross_entropy(logits: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
    try_cross_entropy(logits, targets).unwrap_or_else(|error| panic!("cross_entropy: {error}"))
}

/// [`cross_entropy`] that refuses targets which are no class.
///
/// The targets are read once, by the kernel and by the plain operations alike, which on other devices than
/// the CPU would take a wrong target for some other number of theirs. Elsewhere than on the CPU that is a
/// transfer, and waits for the device.
///
/// # Errors
/// [`ClassError`] names the first target that is none.
///
/// # Panics
/// If shapes don't fit.
pub fn try_cross_entropy(logits: Tensor<2>, targets: Tensor<1, Int>) -> Result<Tensor<1>, ClassError> {
    let [samples, classes] = logits.dims();
    expect_shape("cross_entropy", "targets", targets.dims(), [samples]);
    #[cfg(feature = "flex")]
    if eligible(&[(logits.device(), logits.dtype())], || samples > 0 && classes > 0) {
        let targets = read(targets, classes)?;
        let [loss] = fused(kernel::CrossEntropy { targets, classes }, [logits.into_dispatch()]);
        return Ok(Tensor::from_dispatch(loss));
    }
    check_classes(&targets, classes)?;
    let chosen = log_softmax(logits, 1).gather(1, targets.reshape([samples, 1]));
    Ok(chosen.reshape([samples]).mean().neg())
}
