//! Trains a language model on the characters of a novel, from the file to a tested model that writes:
//!
//!     cargo run --release --example text
//!
//! Each run leaves a folder under `runs/` with its settings, records, checkpoints, texts and a report. A run
//! that was stopped goes on with `--resume`; `--sample 500` has the newest run write 500 characters.
//!
//! In a crate of its own this file, as `src/main.rs` beside a copy of the folder `text/`, needs:
//!
//! ```toml
//! [dependencies]
//! burn = { version = "0.22.1", default-features = false }
//! clap = { version = "4.6", features = ["derive"] }
//! firebox = "0.1"
//! firebox-cli = "0.1"
//! serde = { version = "1", features = ["derive"] }
//! serde_json = "1"
//! ```

#[path = "text/novel.rs"]
mod novel;
#[path = "text/report.rs"]
mod report;
#[path = "text/writing.rs"]
mod writing;

use std::path::PathBuf;
use std::process::ExitCode;

use burn::tensor::Device;
use clap::{Args, Parser};
use firebox::data::BoxError;
use firebox::data::formats::text::Vocabulary;
use firebox::models::text::LanguageModelConfig;
use firebox::prelude::*;
use firebox::train::tasks::LanguageModeling;
use firebox_cli::{CommonArgs, LoggerArgs, RunArgs, Settings, ThreadArgs, parse};
use novel::Novel;
use serde::{Deserialize, Serialize};
use writing::{Writer, WritingArgs};

/// Train a language model on the characters of a text.
#[derive(Parser)]
#[command(name = "text")]
struct Cli {
    #[command(flatten)]
    recipe: Recipe,
    #[command(flatten)]
    run: RunArgs,
    #[command(flatten)]
    loggers: LoggerArgs,
    #[command(flatten)]
    writing: WritingArgs,
}

/// The settings that decide the result; `config.json` holds them.
#[derive(Args, Clone, Serialize, Deserialize)]
#[command(mut_arg("epochs", |epochs| epochs.default_value("12")))]
#[command(mut_arg("clip_norm", |norm| norm.default_value("1")))]
struct Recipe {
    /// The text: UTF-8, plain or gzip
    #[arg(long, value_name = "FILE", default_value = novel::PRIDE_AND_PREJUDICE)]
    data: PathBuf,
    /// The recurrent cell
    #[arg(long, value_enum, default_value = "lstm")]
    cell: parse::CellName,
    /// Features of the recurrent layers' state
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = parse::width)]
    hidden: usize,
    /// Recurrent layers on top of each other
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = parse::depth)]
    layers: usize,
    /// Features of a character's vector
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = parse::width)]
    embedding: usize,
    /// Stretches of text that are read side by side
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = parse::at_least_one)]
    batch_size: usize,
    /// Characters of each stretch in a step: how far back gradients reach
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = parse::at_least_one)]
    window: usize,
    /// The highest learning rate of the one-cycle schedule
    #[arg(long, default_value_t = 6e-3, value_parser = parse::above_zero)]
    lr: f64,
    /// The share of the steps in which the learning rate rises
    #[arg(long, value_name = "SHARE", default_value_t = 0.1, value_parser = parse::share)]
    warmup: f64,
    /// The share of features dropped behind the embedding, between layers and before the last map
    #[arg(long, default_value_t = 0.1, value_parser = parse::share)]
    dropout: f64,
    /// The share of each parameter that AdamW takes away in a step, as a multiple of the learning rate
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = parse::at_least_zero)]
    weight_decay: f64,
    /// Use only so many characters of the training text
    #[arg(long, value_name = "N", value_parser = parse::at_least_one)]
    limit_train: Option<usize>,
    /// Use only so many characters for validation, and as many for testing
    #[arg(long, value_name = "N", value_parser = parse::at_least_one)]
    limit_test: Option<usize>,
    #[command(flatten)]
    #[serde(flatten)]
    common: CommonArgs,
}

fn train(settings: &Settings<'_, Recipe>, loggers: &LoggerArgs) -> Result<ExitCode, BoxError> {
    let mut recipe = settings.read(&[&ThreadArgs::FIELDS[..], &["data"]].concat())?;
    recipe.data = firebox_cli::paths::absolute(&recipe.data)?;
    let device = recipe.common.start()?;
    let novel = Novel::read(&recipe)?;
    let threads = &recipe.common.threads;
    let train = threads.loader(novel.train)?.on_device(&device.clone().autodiff())?;
    let valid = threads.loader(novel.valid)?.on_device(&device)?;
    let tests = threads.loader(novel.test)?.on_device(&device)?;
    let mut task = task(&recipe, &novel.vocabulary, &device)?;

    // Everything that can be wrong with the input was found by now: only then a folder is made or cleared.
    let config = recipe.common.train.config();
    let (run, trainer) = settings.begin_with(&recipe, config, loggers, &device, report::live)?;
    let schedule = OneCycle::new(recipe.lr, trainer.steps(&train)?)?.with_pct_start(recipe.warmup)?;
    let writer = Writer::new(&run, task.averaged(), novel.vocabulary, novel.prompt);
    let mut trainer = trainer.schedule(schedule).callback(writer);
    let outcome = trainer.fit(&mut task, &train, &valid)?;
    if let Some(signal) = outcome.interrupted() {
        return Ok(firebox_cli::stopped(signal, &run, loggers, &firebox_cli::cargo_flags()));
    }
    firebox_cli::load_best(&run, &mut task)?;
    let test = trainer.evaluate(&tests, "test", task.evaluator())?;
    report::write(&run, &recipe, &outcome, &test, &task)?;
    Ok(ExitCode::SUCCESS)
}

/// A model with the optimizer that trains it.
fn task(recipe: &Recipe, vocabulary: &Vocabulary, device: &Device) -> Result<LanguageModeling, BoxError> {
    let config = LanguageModelConfig::new(vocabulary.len(), recipe.embedding, recipe.hidden);
    let config = config.with_cell(recipe.cell.into());
    let config = config.with_num_layers(recipe.layers).with_dropout(recipe.dropout);
    let model = init(recipe.common.seed(), &device.clone().autodiff(), |device| config.init(device))?;
    let adam = AdamWConfig::new().with_weight_decay(recipe.weight_decay).init()?;
    Ok(LanguageModeling::new(recipe.common.learner.learner(model, adam)?).with_vocabulary(vocabulary.clone()))
}

fn main() -> ExitCode {
    firebox_cli::run_program(|cli: Cli, given| {
        let settings = Settings::new("text", &cli.recipe, &cli.run, given)?;
        match cli.writing.sample {
            Some(length) => writing::sample(&settings, &cli.writing, length),
            None => train(&settings, &cli.loggers),
        }
    })
}
