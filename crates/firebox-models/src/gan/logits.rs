//! The interface of discriminators.

use burn::tensor::Tensor;

use crate::error::Error;

/// A model that gives a sample a logit: the higher, the likelier it is real.
///
/// [`Forward`](crate::Forward) of a discriminator gives probabilities, as the literature draws it. A loss is
/// computed from what comes before the sigmoid, and this lets a training task take any discriminator that has
/// it.
pub trait Logits<Input> {
    /// Samples to logits `[batch, 1]`.
    fn logits(&self, samples: Input) -> Tensor<2>;

    /// Looks whether the samples' shape fits, as [`Forward::check_input`](crate::Forward::check_input) does.
    ///
    /// # Errors
    /// [`ErrorKind::Input`](crate::ErrorKind::Input) names the layer, what it wants and what came.
    fn check_samples(&self, samples: &Input) -> Result<(), Error> {
        let _ = samples;
        Ok(())
    }
}
