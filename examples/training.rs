//! Trains a convolutional network on Fashion-MNIST, from the files to a tested model:
//!
//!     cargo run --release --example training
//!
//! Each run leaves a folder under `runs/` with its settings, records, checkpoints, result and a report. A run that
//! was stopped goes on with `--resume`; `--predict picture.png` asks the newest run what it sees. `--find-lr` looks for a
//! learning rate, and `--fast-dev-run` whether everything works at all.

mod common;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use burn::tensor::{Device, Tensor, TensorData};
use clap::{Args, Parser};
use common::{
    Followers, Place, Settings, WorkerKind, above_zero, absolute, at_least_one, described, say, share,
    stopped,
};
use firebox::data::dataset::Subset;
use firebox::data::formats::fashion_mnist;
use firebox::data::formats::idx::{LabelledImage, LabelledImages, SealedImages};
use firebox::data::{self, BoxError, Dataset};
use firebox::models::vision::Cnn;
use firebox::prelude::*;
use firebox::report::{LiveReport, Picture, Report};
use firebox::train::TrainerConfig;
use firebox::train::metrics::Predictions;
use firebox::train::run::{Interrupt, peak_rss_bytes};
use firebox::train::trainer::{LrCurve, LrFinder};
use image::imageops::{self, FilterType};
use image::{GrayImage, ImageReader};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Train a convolutional network on Fashion-MNIST.
#[derive(Parser)]
#[command(name = "training")]
struct Cli {
    #[command(flatten)]
    recipe: Recipe,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    followers: Followers,
    /// Say what a PNG or JPEG picture shows, by the run's best checkpoint, instead of training
    #[arg(long, value_name = "FILE", conflicts_with_all = ["resume", "overwrite", "config", "Followers"])]
    predict: Option<PathBuf>,
    /// Try learning rates, say which to begin with and plot them in the run's folder, instead of training
    #[arg(long, conflicts_with_all = ["resume", "predict", "lr", "fast_dev_run", "Followers"])]
    find_lr: bool,
}

/// The settings that decide the result; `config.json` holds them.
#[derive(Args, Clone, Serialize, Deserialize)]
struct Recipe {
    /// What computes: flex, ndarray, wgpu or cuda, as far as the build has it
    #[arg(long, default_value = "flex")]
    backend: String,
    /// Passes over the training data
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    epochs: u64,
    /// Images a step
    #[arg(long, default_value_t = 64, value_parser = at_least_one)]
    batch_size: usize,
    /// Threads or processes that prepare batches; 0 for none [default: half of the cores, at most 8]
    #[arg(long)]
    workers: Option<usize>,
    /// Where batches are prepared
    #[arg(long, value_enum, default_value = "threads")]
    #[serde(default)]
    worker_kind: WorkerKind,
    /// Threads that compute [default: RAYON_NUM_THREADS, or one a core]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    threads: Option<usize>,
    /// What all random numbers follow from
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// The highest learning rate of the one-cycle schedule
    #[arg(long, default_value_t = 3e-3, value_parser = above_zero)]
    lr: f64,
    /// Use only so many training images
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    limit_train: Option<usize>,
    /// Use only so many images for validation, and as many for testing
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    limit_test: Option<usize>,
    /// The folder with the four files of Fashion-MNIST
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/datasets/fashion-mnist"))]
    data_dir: PathBuf,
    /// Shift and mirror training images at random
    #[arg(long)]
    augment: bool,
    /// The share of features dropped before the last layer
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    dropout: f64,
    /// Evaluate a moving average of the weights, with this decay
    #[arg(long, value_name = "DECAY", value_parser = share)]
    ema: Option<f64>,
    /// Batches a step
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_one)]
    accumulate: usize,
    /// The largest norm of a step's gradients; larger ones are scaled down to it
    #[arg(long, value_name = "NORM", value_parser = above_zero)]
    clip_norm: Option<f64>,
    /// Stop after so many steps
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    max_steps: Option<usize>,
    /// Save a checkpoint after every so many steps, too
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    save_steps: Option<usize>,
    /// Stop after so many epochs that didn't get better
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    patience: Option<usize>,
    /// One step, one batch of validation and one of test, and all that a whole run writes
    #[arg(long)]
    #[serde(default)]
    fast_dev_run: bool,
}

impl Recipe {
    fn trainer(&self) -> TrainerConfig {
        let mut config = TrainerConfig::new();
        (config.seed, config.max_epochs, config.max_steps) = (Some(self.seed), self.epochs, self.max_steps);
        (config.accumulate, config.save_steps) = (self.accumulate, self.save_steps);
        config.patience = self.patience;
        if self.fast_dev_run { config.fast_dev_run() } else { config }
    }

    /// How many images are tested.
    fn tested(&self) -> Option<usize> {
        let batch = self.fast_dev_run.then_some(self.batch_size);
        batch.into_iter().chain(self.limit_test).min()
    }
}

/// What its report is called.
const TITLE: &str = "Fashion-MNIST, convolutional network";

fn train(
    settings: &Settings<'_, Recipe>,
    followers: &Followers,
    find_lr: bool,
) -> Result<ExitCode, BoxError> {
    let mut recipe = settings.read(&["workers", "worker_kind", "threads", "data_dir"])?;
    recipe.data_dir = absolute(&recipe.data_dir)?;
    let threads = Threads::new(recipe.threads, recipe.workers)?;
    threads.start()?;
    let device = recipe.backend.parse::<Backend>()?.device()?;

    let all = fashion_mnist::train(&recipe.data_dir)?.seal()?;
    let tests = fashion_mnist::test(&recipe.data_dir)?.seal()?;
    let part = |part, images: &SealedImages| Images::new(part, images.clone(), &recipe, threads);
    let (train, valid, tests) = (part(Part::Train, &all), part(Part::Valid, &all), part(Part::Test, &tests));
    let test = tests.subset()?;
    let counts = [train.subset()?.len(), valid.subset()?.len(), test.len()];
    if counts.contains(&0) {
        let [train, valid, test] = counts;
        let counts = format!("{train} to train, {valid} to validate and {test} to test");
        return Err(format!("{}: expected images, got {counts}", recipe.data_dir.display()).into());
    }
    let loader = |images: Images| recipe.worker_kind.loader(images, threads);
    let train = loader(train)?.on_device(&device.clone().autodiff())?;
    let valid = loader(valid)?.on_device(&device)?;
    let tests = loader(tests)?.on_device(&device)?;

    let mut task = task(&recipe, &device)?;
    // Everything that can be wrong with the input was found by now: only then is a folder made, or overwritten.
    let interrupt = Interrupt::on_signals()?;
    let display = followers.display(&interrupt)?;
    let run = settings.folder()?;
    let trainer = Trainer::new(&run, &device).config(recipe.trainer());
    if find_lr {
        run.write_config(&recipe)?;
        return show_rates(&trainer.interrupt(interrupt).find_lr(&LrFinder::new(), &mut task, &train)?, &run);
    }
    let schedule = OneCycle::new(recipe.lr, trainer.steps(&train)?)?;
    let trainer = trainer.schedule(schedule).interrupt(interrupt);
    let trainer = settings.record(&recipe, &run, trainer)?;
    let mut trainer = followers.follow(trainer, display, &run, LiveReport::new(&run, TITLE));
    say(format!("run folder: {}", run.path().display()));
    let outcome = trainer.fit(&mut task, &train, &valid)?;
    if let Some(signal) = outcome.interrupted() {
        return Ok(stopped(signal, &run, followers));
    }

    let (_, best) = run.checkpoints().best()?;
    task.load(&best)?;
    let mut predictions = Predictions::default();
    let result = trainer.evaluate(&tests, "test", task.predictor(&mut predictions))?;
    let (accuracy, loss) = (result.metrics.value("accuracy"), result.metrics.value("loss"));
    let seconds = outcome.seconds + result.seconds;
    // What does not apply is left out: the loss of a run that came to nothing, memory where the system doesn't tell.
    let mut summary = json!({
        "test_accuracy": accuracy,
        "test_loss": loss,
        "epochs": recipe.epochs,
        "seconds": seconds,
        "samples_per_s": outcome.samples_per_s,
        "peak_rss_bytes": peak_rss_bytes(),
        "backend": recipe.backend,
        "seed": recipe.seed,
    });
    if let Some(fields) = summary.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    run.write_summary(&summary)?;
    Report::of(TITLE, &run.metrics())?
        .facts([
            ("test accuracy", format!("{:.2} %", 100.0 * accuracy.unwrap_or(f64::NAN))),
            ("test loss", format!("{:.4}", loss.unwrap_or(f64::NAN))),
            ("training, validation, test", format!("{seconds:.1} s")),
            ("training images a second", format!("{:.0}", outcome.samples_per_s)),
            ("recipe", described(&recipe)?),
        ])
        .curve("loss")?
        .curve("accuracy")?
        .data_wait()?
        .confusion(&predictions.confusion()?, &fashion_mnist::CLASSES)
        .gallery("Taken for something else", &pictures(&test, &predictions, false)?)?
        .gallery("Recognised", &pictures(&test, &predictions, true)?)?
        .write(&run.report())?;
    say(format!("test accuracy: {:.2} %, {seconds:.1} s", 100.0 * accuracy.unwrap_or(f64::NAN)));
    say(format!("report: {}", run.report().display()));
    Ok(ExitCode::SUCCESS)
}

/// Says which learning rates a search suggests, and plots what it has seen.
fn show_rates(curve: &LrCurve, run: &RunDir) -> Result<ExitCode, BoxError> {
    curve.write(&run.lr_points())?;
    let steps = curve.points().len();
    let rate = |rate: Option<f64>| rate.map_or("none".to_owned(), |rate| format!("{rate:.2e}"));
    let (steepest, tenth) = (rate(curve.steepest()), rate(curve.tenth_of_lowest()));
    Report::new("Fashion-MNIST, learning rates")
        .facts([
            ("where the loss falls most steeply", steepest.clone()),
            ("a tenth of where it is lowest", tenth.clone()),
            ("steps", steps.to_string()),
        ])
        .lr_curve(curve)?
        .write(&run.lr_plot())?;
    say(format!(
        "suggested learning rate: {steepest} (a tenth of the lowest loss's: {tenth}), {steps} steps"
    ));
    say(format!("plot: {}", run.lr_plot().display()));
    Ok(ExitCode::SUCCESS)
}

/// A network with the optimiser that trains it.
fn task(recipe: &Recipe, device: &Device) -> Result<Classification<Cnn, Tensor<4>>, BoxError> {
    let training = device.clone().autodiff();
    let config = CnnConfig::new(fashion_mnist::CLASSES.len()).with_channels(1).with_dropout(recipe.dropout);
    let cnn = init(recipe.seed, &training, |device| config.init(device))?;
    let mut learner = Learner::new(cnn, AdamConfig::new().init()?);
    if let Some(decay) = recipe.ema {
        learner = learner.with_ema(decay)?;
    }
    if let Some(norm) = recipe.clip_norm {
        learner = learner.with_clip_norm(norm)?;
    }
    Ok(Classification::new(learner))
}

/// Grey images of one channel, and their classes.
type Layout = (Stack<f32, 3>, Scalar<i64>);

fn layout() -> Layout {
    (Stack::new([1, 28, 28]), Scalar::new())
}

/// Writes an image into its slot with mean 0 and variance 1; augmented, shifted by up to two pixels and mirrored
/// half of the time.
fn sample(augment: bool) -> impl for<'a> Fn(LabelledImage, &mut SampleRng, Slot<'a>) -> Result<(), BoxError> {
    move |image, rng, (pixels, class)| {
        let mut shift = || if augment { rng.below(5) as usize } else { 2 };
        let (down, right) = (shift(), shift());
        let mirror = augment && rng.chance(0.5);
        for (place, to) in pixels.iter_mut().enumerate() {
            let (row, column) = (place / 28, place % 28);
            let column = if mirror { 27 - column } else { column };
            let from = match (row + down, column + right) {
                (row @ 2..30, column @ 2..30) => image.pixels[(row - 2) * 28 + column - 2],
                _ => 0,
            };
            *to = (f32::from(from) / 255.0 - fashion_mnist::MEAN) / fashion_mnist::STD;
        }
        *class = i64::from(image.label);
        Ok(())
    }
}

/// The slot of an image and its class.
type Slot<'a> = (&'a mut [f32], &'a mut i64);

/// The images that a loader has: a twelfth of the training images, 5,000, decides which checkpoint is the best; the test
/// images are seen once, at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Part {
    Train,
    Valid,
    Test,
}

/// A loader of images as data, so that worker processes can make it, too.
#[derive(Debug, Serialize, Deserialize)]
struct Images {
    part: Part,
    images: SealedImages,
    limit: Option<usize>,
    batch_size: usize,
    seed: u64,
    augment: bool,
    threads: Option<usize>,
}

impl Images {
    fn new(part: Part, images: SealedImages, recipe: &Recipe, threads: Threads) -> Self {
        let limit = match part {
            Part::Train => recipe.limit_train,
            Part::Valid => recipe.limit_test,
            Part::Test => recipe.tested(),
        };
        Images {
            part,
            images,
            limit,
            batch_size: recipe.batch_size,
            seed: recipe.seed,
            augment: recipe.augment && part == Part::Train,
            threads: recipe.worker_kind.threads(threads),
        }
    }

    /// A `Subset` knows what it is a part of: the trainer looks whether images that it trains on are among those of the
    /// validation.
    fn subset(&self) -> Result<Subset<Subset<LabelledImages>>, data::Error> {
        let images = self.images.open();
        let twelfth = images.len() / 12;
        let part = match self.part {
            Part::Train => random_split(images, twelfth, self.seed)?.0,
            Part::Valid => random_split(images, twelfth, self.seed)?.1,
            Part::Test => Subset::all(images),
        };
        Ok(Subset::first(part, self.limit.unwrap_or(usize::MAX)))
    }
}

impl data::Recipe for Images {
    type Layout = Layout;

    fn loader(&self) -> Result<Loader<Layout>, data::Error> {
        let builder = Loader::builder(self.subset()?).batch_size(self.batch_size).seed(self.seed);
        let builder = match self.threads {
            Some(threads) => builder.workers(threads),
            None => builder,
        };
        builder.shuffle(self.part == Part::Train).build(layout(), sample(self.augment))
    }
}

/// Twelve images that the network took for what they are, or for something else.
fn pictures(
    images: &impl Dataset<Item = LabelledImage>,
    predictions: &Predictions,
    right: bool,
) -> Result<Vec<Picture>, BoxError> {
    let seen = predictions.classes.iter().enumerate();
    let chosen = seen.filter(|&(index, &class)| (predictions.likeliest(index)[0].0 == class) == right);
    let picture = |(index, &class): (usize, &usize)| {
        let (guess, probability) = predictions.likeliest(index)[0];
        let truth = fashion_mnist::CLASSES[class];
        let caption = match right {
            true => truth.to_owned(),
            false => format!("{truth}, taken for {}", fashion_mnist::CLASSES[guess]),
        };
        let pixels = images.get(index)?.pixels.to_vec();
        let image = GrayImage::from_raw(28, 28, pixels).ok_or("an image of another size")?;
        Ok(Picture { image, caption: format!("{caption} ({:.0} %)", 100.0 * probability) })
    };
    chosen.take(12).map(picture).collect()
}

/// Prints what a picture shows.
fn predict(settings: &Settings<'_, Recipe>, picture: &Path) -> Result<ExitCode, BoxError> {
    let run = settings.existing()?;
    settings.only("--predict", &["backend"])?;
    let recipe = settings.of_run(&["backend"])?;
    let device = recipe.backend.parse::<Backend>()?.device()?;
    let mut task = task(&recipe, &device)?;
    let (_, best) = run.checkpoints().best()?;
    task.load(&best)
        .map_err(|error| format!("{}: {error}", run.checkpoints().path().join("best").display()))?;

    // Its contents tell what it is, not its name.
    let unreadable = |error: &dyn std::fmt::Display| format!("{}: {error}", picture.display());
    let file =
        ImageReader::open(picture).and_then(ImageReader::with_guessed_format).map_err(|e| unreadable(&e))?;
    if file.format().is_none() {
        return Err(unreadable(&"not a PNG or JPEG picture").into());
    }
    let image = file.decode().map_err(|e| unreadable(&e))?;
    let mut image = imageops::resize(&image.to_luma8(), 28, 28, FilterType::Triangle);
    // The network knows bright clothes on black: a picture with a bright border is turned into that.
    let border = image.enumerate_pixels().filter(|(x, y, _)| [0, 27].contains(x) || [0, 27].contains(y));
    let (sum, count) =
        border.fold((0u32, 0), |(sum, count), (_, _, pixel)| (sum + u32::from(pixel[0]), count + 1));
    if sum > 127 * count {
        imageops::invert(&mut image);
    }
    let image = LabelledImage { pixels: image.into_raw().into(), label: 0 };
    let mut pixels = vec![0.0; 28 * 28];
    sample(false)(image, &mut SampleRng::from_seed(0), (&mut pixels, &mut 0))?;
    let input = Tensor::<4>::from_data(TensorData::new(pixels, [1, 1, 28, 28]), &device);
    let mut ranked: Vec<_> = task.probabilities(input)?.into_iter().zip(fashion_mnist::CLASSES).collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    for (probability, class) in ranked.iter().take(3) {
        say(format!("{class:<12} {:5.1} %", 100.0 * probability));
    }
    Ok(ExitCode::SUCCESS)
}

fn main() -> ExitCode {
    common::main(|cli: Cli, given| {
        let settings = Settings::new("training", &cli.recipe, &cli.place, given)?;
        match &cli.predict {
            Some(picture) => predict(&settings, picture),
            None => train(&settings, &cli.followers, cli.find_lr),
        }
    })
}
