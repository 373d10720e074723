//! Trains a generative adversarial network on Fashion-MNIST, and measures what it makes:
//!
//!     cargo run --release --example gan
//!
//! First a classifier learns the images, for half a minute: it is the judge, which tells after each epoch how
//! far generated images are from real ones, and at the end what they show. Each run leaves a folder under
//! `runs/`, with a picture of samples for each epoch and a report; `--resume` goes on with one.
//!
//! In a crate of its own this file, as `src/main.rs` beside a copy of the folder `gan/`, needs:
//!
//! ```toml
//! [dependencies]
//! burn = { version = "0.22.1", default-features = false }
//! clap = { version = "4.6", features = ["derive"] }
//! firebox = "0.1"
//! firebox-cli = "0.1"
//! image = { version = "0.25", default-features = false, features = ["png"] }
//! serde = { version = "1", features = ["derive"] }
//! serde_json = "1"
//! ```

#[path = "gan/batches.rs"]
mod batches;
#[path = "gan/fit.rs"]
mod fit;
#[path = "gan/images.rs"]
mod images;
#[path = "gan/judge.rs"]
mod judge;
#[path = "gan/judge_run.rs"]
mod judge_run;
#[path = "gan/networks.rs"]
mod networks;
#[path = "gan/pictures.rs"]
mod pictures;
#[path = "gan/report.rs"]
mod report;
#[path = "gan/score.rs"]
mod score;
#[path = "gan/score_file.rs"]
mod score_file;
#[path = "gan/tested.rs"]
mod tested;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, ValueEnum};
use firebox::data::BoxError;
use firebox::train::tasks::AdversarialLoss;
use firebox_cli::{CommonArgs, LoggerArgs, RunArgs, Settings, ThreadArgs, parse, paths};
use serde::{Deserialize, Serialize};

/// Train a generative adversarial network on Fashion-MNIST.
#[derive(Parser)]
#[command(name = "gan")]
struct Cli {
    #[command(flatten)]
    recipe: Recipe,
    #[command(flatten)]
    run: RunArgs,
    #[command(flatten)]
    loggers: LoggerArgs,
    /// Judge the samples in a safetensors file by a run's judge instead of training: `samples`, as many as
    /// there are test images, [N, 1, 28, 28] from -1 to 1; prints JSON
    #[arg(long, value_name = "FILE", conflicts_with_all = ["resume", "overwrite", "config", "LoggerArgs"])]
    score: Option<PathBuf>,
}

/// The settings that decide the result; `config.json` holds them.
#[derive(Args, Clone, Serialize, Deserialize)]
#[command(mut_arg("epochs", |epochs| epochs.default_value("25")))]
#[command(mut_arg("ema", |ema| ema.default_value("0.999").help(networks::EMA)))]
struct Recipe {
    /// The kind of network
    #[arg(long, value_enum, default_value = "mlp")]
    arch: Arch,
    /// The game of the two networks: non-saturating, least-squares or hinge
    #[arg(long, default_value_t)]
    loss: AdversarialLoss,
    /// How far below 1 the discriminator's target for real images is
    #[arg(long, default_value_t = 0.0, value_parser = parse::share)]
    label_smoothing: f64,
    /// Steps of the discriminator for each one of the generator
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = parse::at_least_one)]
    critic_steps: usize,
    /// Numbers that an image is made of
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = parse::width)]
    latent: usize,
    /// Images a step
    #[arg(long, default_value_t = 64, value_parser = parse::at_least_one)]
    batch_size: usize,
    /// The learning rate of both networks
    #[arg(long, default_value_t = 2e-4, value_parser = parse::above_zero)]
    lr: f64,
    /// Use only so many training images
    #[arg(long, value_name = "N", value_parser = parse::at_least_one)]
    limit_train: Option<usize>,
    /// Use only so many images for validation, and as many for testing
    #[arg(long, value_name = "N", value_parser = parse::at_least_one)]
    limit_test: Option<usize>,
    /// The folder with the four files of Fashion-MNIST
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/datasets/fashion-mnist"))]
    data_dir: PathBuf,
    /// The judge: the folder of an earlier run of this example or of the example `training`, or a safetensors
    /// file of a `Cnn` [default: one is trained, the same with any seed]
    #[arg(long, value_name = "PATH")]
    judge: Option<PathBuf>,
    /// Passes over the training data for the judge, if it has to be trained
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    judge_epochs: u64,
    #[command(flatten)]
    #[serde(flatten)]
    common: CommonArgs,
}

/// The networks to choose from.
#[derive(Clone, Copy, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Arch {
    /// `Generator` and `Discriminator`, of linear maps
    Mlp,
    /// `DcganGenerator` and `DcganDiscriminator`, of convolutions; on the CPU steps take twenty times as long
    Dcgan,
}

fn train(settings: &Settings<'_, Recipe>, loggers: &LoggerArgs) -> Result<ExitCode, BoxError> {
    let mut recipe = settings.read(&[&ThreadArgs::FIELDS[..], &["data_dir"]].concat())?;
    recipe.data_dir = paths::absolute(&recipe.data_dir)?;
    recipe.judge = recipe.judge.as_deref().map(paths::absolute).transpose()?;
    let device = recipe.common.start()?.autodiff();
    match recipe.arch {
        Arch::Mlp => fit::fit(settings, loggers, &recipe, [784], networks::mlp(&recipe, &device)?),
        Arch::Dcgan => fit::fit(settings, loggers, &recipe, [1, 28, 28], networks::dcgan(&recipe, &device)?),
    }
}

fn main() -> ExitCode {
    firebox_cli::run_program(|cli: Cli, given| {
        let settings = Settings::new("gan", &cli.recipe, &cli.run, given)?;
        match &cli.score {
            Some(file) => score_file::score_file(&settings, file),
            None => train(&settings, &cli.loggers),
        }
    })
}
