//! The judge: a classifier that says how far generated images are from real ones.

use std::path::Path;

use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor};
use firebox::data::BoxError;
use firebox::data::formats::fashion_mnist;
use firebox::models::vision::Cnn;
use firebox::prelude::*;
use firebox::train::metrics::{FrechetDistance, Metrics, Quantity};
use firebox::train::task::Goal;
use firebox::train::tasks::Judge;
use firebox::train::{Error, ErrorKind};
use firebox::weights::Weights;

/// The judge's weights in a run's folder.
pub(crate) const WEIGHTS: &str = "judge.safetensors";

/// The seed of the judge, and of which images it learns from.
///
/// All runs with as many images have the same judge, whatever their seed, so that their distances can be
/// compared.
pub(crate) const SEED: u64 = 42;

/// The distance of generated images from real ones in a classifier's features, and how sure it is of them.
pub(crate) struct ByFeatures(pub(crate) Cnn);

impl<const R: usize> Judge<R> for ByFeatures {
    fn judge(&self, real: Tensor<R>, fake: Tensor<R>) -> Result<Metrics, Error> {
        let real = features(&self.0, as_images(real));
        Ok(measured(&self.0, &real, as_images(fake))?.0)
    }

    fn monitor(&self) -> (&'static str, Goal) {
        ("frechet_distance", Goal::Minimize)
    }
}

/// The metrics of generated images beside the features of real ones, and the classifier's logits.
pub(crate) fn measured(cnn: &Cnn, real: &Tensor<2>, fake: Tensor<4>) -> Result<(Metrics, Tensor<2>), Error> {
    let [samples, ..] = fake.dims();
    let features = features(cnn, fake);
    let distance = FrechetDistance::of(real, &features)?;
    let logits = cnn.classify(features);
    let confidence = numbers(softmax(logits.clone(), 1).max_dim(1))?;
    let sum = confidence.iter().map(|&share| f64::from(share)).sum();
    let metrics = Metrics::of(samples).with("frechet_distance", Quantity::Frechet(distance));
    Ok((metrics.with_sum("confidence", sum), logits))
}

/// A classifier's features of images from -1 to 1, as a generator makes them.
pub(crate) fn features(cnn: &Cnn, images: Tensor<4>) -> Tensor<2> {
    // It has learned them with mean 0 and variance 1.
    let (mean, std) = (f64::from(fashion_mnist::MEAN), f64::from(fashion_mnist::STD));
    cnn.features(images.mul_scalar(0.5 / std).add_scalar((0.5 - mean) / std))
}

/// Images of any layout as `[batch, 1, 28, 28]`.
pub(crate) fn as_images<const R: usize>(images: Tensor<R>) -> Tensor<4> {
    let samples = images.dims()[0];
    images.reshape([samples, 1, 28, 28])
}

/// The numbers of a tensor, from its device.
pub(crate) fn numbers<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, Error> {
    let text = "a result cannot be read from the device";
    tensor.try_into_vec_as().map_err(|error| Error::new(ErrorKind::Backend, text).caused_by(error))
}

/// A judge that knows nothing yet.
pub(crate) fn network(device: &Device) -> Result<Cnn, BoxError> {
    let config = CnnConfig::new(fashion_mnist::CLASSES.len()).with_channels(1);
    Ok(init(SEED, device, |device| config.init(device))?)
}

/// The judge in a file of weights, in a run's folder of this example, or in one of the example `training`.
pub(crate) fn load(path: &Path, device: &Device) -> Result<Cnn, BoxError> {
    let cnn = network(device)?;
    if !path.is_dir() {
        return Ok(cnn.load_safetensors(path)?);
    }
    let file = path.join(WEIGHTS);
    if file.exists() {
        return Ok(cnn.load_safetensors(file)?);
    }
    let run = RunDir::open(path)?;
    let (_, state) = run.checkpoints().best()?;
    // The weights that its accuracy was measured with.
    let part = state.get("model.ema").or_else(|_| state.get("model"));
    let weights = part.map_err(|error| format!("{}: no judge: {error}", path.display()))?;
    weights.apply(cnn).map_err(|error| format!("{}: no judge: {error}", path.display()).into())
}
