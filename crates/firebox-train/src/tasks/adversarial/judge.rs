//! How good samples are, apart from what their discriminator thinks.

use burn::tensor::Tensor;

use crate::error::Error;
use crate::metrics::Metrics;
use crate::task::Goal;

/// Says how good generated samples are beside real ones.
///
/// The losses of a GAN don't: each of its models is measured by the other, which changes, too. A judge does
/// not. What it measures is up to it: a [Fréchet distance](crate::metrics::FrechetDistance) in some network's
/// features, likelihoods, a test.
///
/// ```
/// use burn::tensor::Tensor;
/// use firebox_train::Error;
/// use firebox_train::metrics::{FrechetDistance, Metrics, Quantity};
/// use firebox_train::task::Goal;
/// use firebox_train::tasks::Judge;
///
/// /// Looks at the samples' numbers themselves.
/// struct Plain;
///
/// impl Judge<2> for Plain {
///     fn judge(&self, real: Tensor<2>, fake: Tensor<2>) -> Result<Metrics, Error> {
///         let distance = Quantity::Frechet(FrechetDistance::of(&real, &fake)?);
///         Ok(Metrics::of(real.dims()[0]).with("distance", distance))
///     }
///
///     fn monitor(&self) -> (&'static str, Goal) {
///         ("distance", Goal::Minimize)
///     }
/// }
/// ```
pub trait Judge<const R: usize> {
    /// Metrics of generated samples beside as many real ones, on a device without autodiff.
    ///
    /// The
    /// metrics of all batches of an evaluation are added.
    ///
    /// # Errors
    /// Whatever makes it senseless to go on.
    fn judge(&self, real: Tensor<R>, fake: Tensor<R>) -> Result<Metrics, Error>;

    /// The metric that decides which checkpoint is the best.
    fn monitor(&self) -> (&str, Goal);
}
