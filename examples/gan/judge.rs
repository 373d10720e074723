//! The judge: a classifier that says what images show, and how far they are from real ones.

use std::path::Path;
use std::{fs, io};

use burn::tensor::activation::softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};
use firebox::data::formats::fashion_mnist;
use firebox::data::formats::idx::LabelledImage;
use firebox::data::{self, BoxError};
use firebox::models::vision::Cnn;
use firebox::prelude::*;
use firebox::train::checkpoint::Checkpoints;
use firebox::train::metrics::{FrechetDistance, Metrics, Quantity, accuracy};
use firebox::train::run::{Interrupt, Signal};
use firebox::train::task::Goal;
use firebox::train::tasks::Judge;
use firebox::train::{Error, ErrorKind, RunDir, TrainerConfig};
use firebox::weights::{StateDict, Weights};
use firebox_cli::{Settings, say};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{Data, Images, Recipe, draw};

/// The judge's weights in a run's folder.
const WEIGHTS: &str = "judge.safetensors";
/// The folder of the judge's own training.
const TRAINING: &str = "judge";
/// What the judge follows from, and which images it learns from: all runs with as many images have the same judge, whatever
/// their seed, so that their distances can be compared.
pub(crate) const SEED: u64 = 42;

/// The distance between real and generated images in the features of a classifier, and how sure it is of the latter.
pub(crate) struct ByFeatures(pub(crate) Cnn);

impl<const R: usize> Judge<R> for ByFeatures {
    fn judge(&self, real: Tensor<R>, fake: Tensor<R>) -> Result<Metrics, Error> {
        let real = self.0.features(normalised(images(real)));
        Ok(measured(&self.0, real, images(fake))?.0)
    }

    fn monitor(&self) -> (&'static str, Goal) {
        ("frechet_distance", Goal::Minimize)
    }
}

/// What there is to say of generated images beside the features of real ones, and the classifier's logits.
fn measured(cnn: &Cnn, real: Tensor<2>, fake: Tensor<4>) -> Result<(Metrics, Tensor<2>), Error> {
    let [samples, ..] = fake.dims();
    let features = cnn.features(normalised(fake));
    let distance = FrechetDistance::of(&real, &features)?;
    let logits = cnn.classify(features);
    let confidence = numbers(softmax(logits.clone(), 1).max_dim(1))?;
    let sum = confidence.iter().map(|&share| f64::from(share)).sum();
    let metrics = Metrics::of(samples).with("frechet_distance", Quantity::Frechet(distance));
    Ok((metrics.with_sum("confidence", sum), logits))
}

/// Images of any layout as `[batch, 1, 28, 28]`.
pub(crate) fn images<const R: usize>(images: Tensor<R>) -> Tensor<4> {
    let samples = images.dims()[0];
    images.reshape([samples, 1, 28, 28])
}

/// From -1 to 1 as a generator makes them, to mean 0 and variance 1 as the classifier has learned them.
fn normalised(images: Tensor<4>) -> Tensor<4> {
    let (mean, std) = (f64::from(fashion_mnist::MEAN), f64::from(fashion_mnist::STD));
    images.mul_scalar(0.5 / std).add_scalar((0.5 - mean) / std)
}

fn numbers<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, Error> {
    let text = "a result cannot be read from the device";
    tensor.try_into_vec_as().map_err(|error| Error::new(ErrorKind::Backend, text).caused_by(error))
}

/// What a judge says of all samples together.
pub(crate) struct Score {
    cnn: Cnn,
    metrics: Metrics,
    /// How many samples were taken for each class.
    counts: Vec<usize>,
}

impl Score {
    pub(crate) fn new(cnn: Cnn) -> Self {
        Score { cnn, metrics: Metrics::default(), counts: vec![0; fashion_mnist::CLASSES.len()] }
    }

    /// Looks at samples beside real images, whose classes tell how good the judge is itself.
    pub(crate) fn add(
        &mut self,
        real: Tensor<4>,
        classes: Tensor<1, Int>,
        fake: Tensor<4>,
    ) -> Result<Metrics, Error> {
        let features = self.cnn.features(normalised(real));
        let judged = accuracy(&self.cnn.classify(features.clone()), &classes)?;
        let (metrics, logits) = measured(&self.cnn, features, fake)?;
        for class in numbers(logits.argmax(1).float())? {
            self.counts[class as usize] += 1;
        }
        let metrics = metrics.with("judge_accuracy", judged);
        self.metrics.add(&metrics)?;
        Ok(metrics)
    }

    /// The distance between two sets of real images: what a perfect generator would reach.
    pub(crate) fn of_real<B>(&self, some: &B, others: &B) -> Result<f64, BoxError>
    where
        B: Batches<Batch = (Tensor<4>, Tensor<1, Int>)>,
    {
        let features = |images: &B| -> Result<Tensor<2>, BoxError> {
            let parts: Result<Vec<_>, BoxError> =
                images.epoch(0).map(|batch| Ok(self.cnn.features(normalised(batch?.0)))).collect();
            Ok(Tensor::cat(parts?, 0))
        };
        let distance = FrechetDistance::of(&features(some)?, &features(others)?)?;
        Ok(distance.value().unwrap_or(f64::NAN))
    }

    fn value(&self, name: &str) -> f64 {
        self.metrics.value(name).unwrap_or(f64::NAN)
    }

    fn share(&self, class: usize) -> f64 {
        self.counts[class] as f64 / self.metrics.samples().max(1) as f64
    }

    fn largest(&self) -> f64 {
        (0..self.counts.len()).map(|class| self.share(class)).fold(0.0, f64::max)
    }

    fn smallest(&self) -> f64 {
        (0..self.counts.len()).map(|class| self.share(class)).fold(1.0, f64::min)
    }

    pub(crate) fn distance(&self) -> f64 {
        self.value("frechet_distance")
    }

    /// All of it for `summary.json`.
    pub(crate) fn summary(&self) -> Map<String, Value> {
        let names = fashion_mnist::CLASSES.iter().enumerate();
        let classes: Map<_, _> =
            names.map(|(class, &name)| (name.to_owned(), json!(self.share(class)))).collect();
        let mut summary = Map::new();
        for name in ["frechet_distance", "confidence", "judge_accuracy"] {
            summary.insert(name.to_owned(), json!(self.value(name)));
        }
        summary.insert("classes".to_owned(), Value::Object(classes));
        summary.insert("largest_class_share".to_owned(), json!(self.largest()));
        summary.insert("smallest_class_share".to_owned(), json!(self.smallest()));
        summary
    }

    /// All of it for people.
    pub(crate) fn facts(&self) -> Vec<(&'static str, String)> {
        let percent = |share: f64| format!("{:.1} %", 100.0 * share);
        let names = fashion_mnist::CLASSES.iter().enumerate();
        let classes: Vec<_> =
            names.map(|(class, name)| format!("{name} {}", percent(self.share(class)))).collect();
        vec![
            ("Fréchet distance of the samples", format!("{:.2}", self.value("frechet_distance"))),
            ("samples taken for", classes.join(", ")),
            ("the judge is sure of the samples by", percent(self.value("confidence"))),
            ("the judge's accuracy on test images", percent(self.value("judge_accuracy"))),
        ]
    }
}

/// Real images as a generator makes them, with their classes.
pub(crate) fn labelled(images: &Images, data: &Data) -> Result<Labelled, BoxError> {
    data.loader(Classified(images.clone()))
}

type Labelled = Loader<Layout>;
type Layout = (Stack<f32, 3>, Scalar<i64>);

/// Images as a generator makes them, with their classes.
#[derive(Debug, Serialize, Deserialize)]
struct Classified(Images);

impl data::Recipe for Classified {
    type Layout = Layout;

    fn loader(&self) -> Result<Labelled, data::Error> {
        self.0.builder()?.build(layout(), classified)
    }
}

/// Images as the judge learns them.
#[derive(Debug, Serialize, Deserialize)]
struct Learned(Images);

impl data::Recipe for Learned {
    type Layout = Layout;

    fn loader(&self) -> Result<Labelled, data::Error> {
        self.0.builder()?.build(layout(), learned)
    }
}

fn layout() -> Layout {
    (Stack::new([1, 28, 28]), Scalar::new())
}

fn classified(
    image: LabelledImage,
    rng: &mut SampleRng,
    (pixels, class): (&mut [f32], &mut i64),
) -> Result<(), BoxError> {
    *class = i64::from(image.label);
    draw(image, rng, pixels)
}

fn network(device: &Device) -> Result<Cnn, BoxError> {
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
    // What its accuracy was measured with.
    let part = state.get("model.ema").or_else(|_| state.get("model"));
    let weights = part.map_err(|error| format!("{}: no judge: {error}", path.display()))?;
    weights.apply(cnn).map_err(|error| format!("{}: no judge: {error}", path.display()).into())
}

/// Whether a run that goes on has its judge already.
pub(crate) fn kept(settings: &Settings<'_, Recipe>) -> Result<bool, BoxError> {
    Ok(settings.resumes() && settings.existing()?.path().join(WEIGHTS).exists())
}

/// The run's judge, or the signal that stopped its training. The run keeps the judge that it was begun with.
pub(crate) fn ready(
    run: &RunDir,
    resumes: bool,
    given: Option<Cnn>,
    recipe: &Recipe,
    data: &Data,
    interrupt: &Interrupt,
) -> Result<Result<Cnn, Signal>, BoxError> {
    let device = recipe.backend.parse::<Backend>()?.device()?;
    let file = run.path().join(WEIGHTS);
    if resumes && file.exists() {
        return Ok(Ok(network(&device)?.load_safetensors(file)?));
    }
    if !resumes {
        // Of the run that is overwritten.
        let folder = run.path().join(TRAINING);
        for (path, gone) in [(&file, fs::remove_file(&file)), (&folder, fs::remove_dir_all(&folder))] {
            if let Err(error) = gone
                && error.kind() != io::ErrorKind::NotFound
            {
                return Err(format!("{}: {error}", path.display()).into());
            }
        }
    }
    let cnn = match given {
        Some(cnn) => cnn,
        None => match trained(run, resumes, recipe, data, interrupt)? {
            Ok(cnn) => cnn,
            Err(signal) => return Ok(Err(signal)),
        },
    };
    cnn.save_safetensors(&file)?;
    Ok(Ok(cnn))
}

/// Trains a judge as the example `training` does.
fn trained(
    run: &RunDir,
    resumes: bool,
    recipe: &Recipe,
    data: &Data,
    interrupt: &Interrupt,
) -> Result<Result<Cnn, Signal>, BoxError> {
    let device = recipe.backend.parse::<Backend>()?.device()?;
    let training = device.clone().autodiff();
    let images = Images { batch_size: 64, seed: SEED, shuffle: true, ..data.train.clone() };
    let images = data.loader(Learned(images))?.on_device(&training)?;
    let valid = Images { batch_size: 64, ..data.valid.clone() };
    let valid = data.loader(Learned(valid))?.on_device(&device)?;
    let mut task = Classification::new(Learner::new(network(&training)?, AdamConfig::new().init()?));

    let folder = run.path().join(TRAINING);
    let goes_on = resumes && !Checkpoints::new(folder.join("checkpoints")).is_empty();
    let judge = match goes_on {
        true => RunDir::open(&folder)?.resume()?,
        false => RunDir::overwrite(&folder)?,
    };
    judge
        .write_config(&json!({ "epochs": recipe.judge_epochs, "batch_size": 64, "lr": LR, "seed": SEED }))?;
    let plural = if recipe.judge_epochs == 1 { "" } else { "s" };
    say(format!("training the judge: {} epoch{plural}", recipe.judge_epochs));
    let mut config = TrainerConfig::new();
    (config.seed, config.max_epochs) = (Some(SEED), recipe.judge_epochs);
    let trainer = Trainer::new(&judge, &device).config(config);
    let schedule = OneCycle::new(LR, trainer.steps(&images)?)?;
    let trainer = trainer.schedule(schedule).interrupt(interrupt.clone()).callback(Progress::new());
    let outcome = trainer.resume(goes_on).fit(&mut task, &images, &valid)?;
    if let Some(signal) = outcome.interrupted() {
        return Ok(Err(signal));
    }
    load(&folder, &device).map(Ok)
}

const LR: f64 = 3e-3;

/// An image as the classifier learns it.
fn learned(
    image: LabelledImage,
    _: &mut SampleRng,
    (pixels, class): (&mut [f32], &mut i64),
) -> Result<(), BoxError> {
    for (to, &from) in pixels.iter_mut().zip(&*image.pixels) {
        *to = (f32::from(from) / 255.0 - fashion_mnist::MEAN) / fashion_mnist::STD;
    }
    *class = i64::from(image.label);
    Ok(())
}

/// Samples from a file: `samples`, `[expected, 1, 28, 28]` or `[expected, 784]`.
pub(crate) fn samples(file: &Path, expected: usize, device: &Device) -> Result<Tensor<4>, BoxError> {
    let refused = |text: String| format!("{}: {text}", file.display());
    let tensors = StateDict::read(file)?;
    let data = tensors.get("samples").ok_or_else(|| refused("expected a tensor samples".to_owned()))?;
    let shape = data.shape().to_vec();
    if shape.first() != Some(&expected) || shape.iter().product::<usize>() != expected * 784 {
        return Err(refused(format!("samples: expected shape [{expected}, 1, 28, 28], got {shape:?}")).into());
    }
    let values: Vec<_> = data.to_f64_vec().into_iter().map(|value| value as f32).collect();
    if let Some(wrong) = values.iter().find(|value| !(-1.0..=1.0).contains(*value)) {
        return Err(refused(format!("samples: expected numbers from -1 to 1, got {wrong}")).into());
    }
    Ok(Tensor::from_data(TensorData::new(values, [expected, 1, 28, 28]), device))
}
