//! Trains a convolutional network on Fashion-MNIST, from the files to a tested model:
//!
//!     cargo run --release --example training
//!
//! Each run leaves a folder under `runs/` with its settings, records, checkpoints and a report. A run that
//! was stopped goes on with `--resume`; `--predict picture.png` asks the newest run. `--find-lr` looks for a
//! learning rate, and `--fast-dev-run` tells if everything works at all.
//!
//! In a crate of its own this file, as `src/main.rs` beside a copy of the folder `training/`, needs:
//!
//! ```toml
//! [dependencies]
//! burn = { version = "0.22.1", default-features = false }
//! clap = { version = "4.6", features = ["derive"] }
//! firebox = "0.1"
//! firebox-cli = "0.1"
//! image = { version = "0.25", default-features = false, features = ["png", "jpeg"] }
//! serde = { version = "1", features = ["derive"] }
//! serde_json = "1"
//! ```

#[path = "training/images.rs"]
mod images;
#[path = "training/predict.rs"]
mod predict;
#[path = "training/report.rs"]
mod report;

use std::path::PathBuf;
use std::process::ExitCode;

use burn::tensor::{Device, Tensor};
use clap::{Args, Parser};
use firebox::data::BoxError;
use firebox::data::formats::fashion_mnist;
use firebox::models::vision::Cnn;
use firebox::prelude::*;
use firebox::train::metrics::Predictions;
use firebox::train::trainer::LrFinder;
use firebox_cli::{CommonArgs, LoggerArgs, RunArgs, Settings, ThreadArgs, parse};
use images::Images;
use serde::{Deserialize, Serialize};

/// Train a convolutional network on Fashion-MNIST.
#[derive(Parser)]
#[command(name = "training")]
struct Cli {
    #[command(flatten)]
    recipe: Recipe,
    #[command(flatten)]
    run: RunArgs,
    #[command(flatten)]
    loggers: LoggerArgs,
    /// Say what a PNG or JPEG picture shows, by the run's best checkpoint, instead of training
    #[arg(long, value_name = "FILE", conflicts_with_all = ["resume", "overwrite", "config", "LoggerArgs"])]
    predict: Option<PathBuf>,
    /// Try learning rates, say which to begin with and plot them in the run's folder, instead of training
    #[arg(long, conflicts_with_all = ["resume", "predict", "lr", "fast_dev_run", "LoggerArgs"])]
    find_lr: bool,
}

/// The settings that decide the result; `config.json` holds them.
#[derive(Args, Clone, Serialize, Deserialize)]
#[command(mut_arg("epochs", |epochs| epochs.default_value("3")))]
struct Recipe {
    /// Images a step
    #[arg(long, default_value_t = 64, value_parser = parse::at_least_one)]
    batch_size: usize,
    /// The highest learning rate of the one-cycle schedule
    #[arg(long, default_value_t = 3e-3, value_parser = parse::above_zero)]
    lr: f64,
    /// The share of features dropped before the last layer
    #[arg(long, default_value_t = 0.0, value_parser = parse::share)]
    dropout: f64,
    /// Shift and mirror training images at random
    #[arg(long)]
    augment: bool,
    /// The folder with the four files of Fashion-MNIST
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/datasets/fashion-mnist"))]
    data_dir: PathBuf,
    /// Use only so many training images
    #[arg(long, value_name = "N", value_parser = parse::at_least_one)]
    limit_train: Option<usize>,
    /// Use only so many images for validation, and as many for testing
    #[arg(long, value_name = "N", value_parser = parse::at_least_one)]
    limit_test: Option<usize>,
    /// One step, one batch of validation and one of test, and all that a whole run writes
    #[arg(long)]
    #[serde(default)]
    fast_dev_run: bool,
    #[command(flatten)]
    #[serde(flatten)]
    common: CommonArgs,
}

/// The title of its report.
const TITLE: &str = "Fashion-MNIST, convolutional network";

fn train(settings: &Settings<'_, Recipe>, loggers: &LoggerArgs, find_lr: bool) -> Result<ExitCode, BoxError> {
    let mut recipe = settings.read(&[&ThreadArgs::FIELDS[..], &["data_dir"]].concat())?;
    recipe.data_dir = firebox_cli::paths::absolute(&recipe.data_dir)?;
    let device = recipe.common.start()?;
    let [train, valid, tests] = Images::parts(&recipe)?;
    let images = tests.subset()?;
    let threads = &recipe.common.threads;
    let train = threads.loader(train)?.on_device(&device.clone().autodiff())?;
    let valid = threads.loader(valid)?.on_device(&device)?;
    let tests = threads.loader(tests)?.on_device(&device)?;
    let mut task = task(&recipe, &device)?;

    // Everything that can be wrong with the input was found by now: only then a folder is made or cleared.
    let config = recipe.common.train.config();
    let config = if recipe.fast_dev_run { config.fast_dev_run() } else { config };
    let (run, trainer) = settings.begin(&recipe, config, loggers, &device, TITLE)?;
    if find_lr {
        run.write_config(&recipe)?;
        let curve = trainer.find_lr(&LrFinder::new(), &mut task, &train)?;
        firebox_cli::show_lr_search(&curve, &run, TITLE)?;
        return Ok(ExitCode::SUCCESS);
    }
    let schedule = OneCycle::new(recipe.lr, trainer.steps(&train)?)?;
    let mut trainer = trainer.schedule(schedule);
    let outcome = trainer.fit(&mut task, &train, &valid)?;
    if let Some(signal) = outcome.interrupted() {
        return Ok(firebox_cli::stopped(signal, &run, loggers, &firebox_cli::cargo_flags()));
    }

    // The test images are seen once, by the best checkpoint.
    firebox_cli::load_best(&run, &mut task)?;
    let mut predictions = Predictions::default();
    let test = trainer.evaluate(&tests, "test", task.predictor(&mut predictions))?;
    report::write(&run, &recipe, &outcome, &test, &predictions, &images)?;
    Ok(ExitCode::SUCCESS)
}

/// A network with the optimizer that trains it.
fn task(recipe: &Recipe, device: &Device) -> Result<Classification<Cnn, Tensor<4>>, BoxError> {
    let config = CnnConfig::new(fashion_mnist::CLASSES.len()).with_channels(1).with_dropout(recipe.dropout);
    let cnn = init(recipe.common.seed(), &device.clone().autodiff(), |device| config.init(device))?;
    Ok(Classification::new(recipe.common.learner.learner(cnn, AdamConfig::new().init()?)?))
}

fn main() -> ExitCode {
    firebox_cli::run_program(|cli: Cli, given| {
        let settings = Settings::new("training", &cli.recipe, &cli.run, given)?;
        match &cli.predict {
            Some(picture) => predict::predict(&settings, picture),
            None => train(&settings, &cli.loggers, cli.find_lr),
        }
    })
}
