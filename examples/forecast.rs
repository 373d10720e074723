//! Trains a recurrent network, an `RnnBlock` followed by a linear map, to forecast the next day of an hourly
//! series, and says what the forecasts are worth:
//!
//!     cargo run --release --example forecast
//!
//! The series is made here, so that the best forecast that anybody could make of it is known: see
//! `series::Series`. Each run leaves a folder under `runs/` with its settings, records, checkpoints, result
//! and a report with the forecasts beside what came. A run that was stopped goes on with `--resume`;
//! `--forecast` prints the day after the series' end.
//!
//! In a crate of its own this file, as `src/main.rs` beside a copy of the folder `forecast/`, needs:
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

#[path = "forecast/report.rs"]
mod report;
#[path = "forecast/series.rs"]
mod series;

use std::process::ExitCode;

use burn::tensor::{Device, Tensor};
use clap::{Args, Parser, ValueEnum};
use firebox::data::BoxError;
use firebox::models::layers::Cell;
use firebox::models::text::{SequenceRegressor, SequenceRegressorConfig};
use firebox::prelude::*;
use firebox::train::tasks::Regression;
use firebox_cli::{CommonArgs, LoggerArgs, RunArgs, Settings, ThreadArgs, parse};
use serde::{Deserialize, Serialize};
use series::{Batched, DAY, Data, FEATURES, WEEK};

/// Train a recurrent network to forecast the next day of an hourly series.
#[derive(Parser)]
#[command(name = "forecast")]
struct Cli {
    #[command(flatten)]
    recipe: Recipe,
    #[command(flatten)]
    run: RunArgs,
    #[command(flatten)]
    loggers: LoggerArgs,
    /// Print the day after the end of the series, by the run's best checkpoint, instead of training
    #[arg(long, conflicts_with_all = ["resume", "overwrite", "config", "LoggerArgs"])]
    forecast: bool,
}

/// The settings that decide the result; `config.json` holds them.
#[derive(Args, Clone, Serialize, Deserialize)]
#[command(mut_arg("epochs", |epochs| epochs.default_value("10")))]
#[command(mut_arg("clip_norm", |norm| norm.default_value("1")))]
struct Recipe {
    /// Hours of the series; the first seven tenths are for training, the last two for testing
    #[arg(long, value_name = "N", default_value_t = 2 * 52 * WEEK)]
    hours: usize,
    /// Hours that a forecast is made from
    #[arg(long, value_name = "N", default_value_t = 48, value_parser = parse::at_least_one)]
    past: usize,
    /// The recurrent cell
    #[arg(long, value_enum, default_value_t = CellName::Rnn)]
    cell: CellName,
    /// Features of the recurrent layers' state
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = parse::width)]
    hidden: usize,
    /// Recurrent layers on top of each other
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = parse::depth)]
    layers: usize,
    /// Windows a step
    #[arg(long, default_value_t = 64, value_parser = parse::at_least_one)]
    batch_size: usize,
    /// The highest learning rate of the one-cycle schedule
    #[arg(long, default_value_t = 3e-3, value_parser = parse::above_zero)]
    lr: f64,
    /// The share of features dropped between layers and before the last map
    #[arg(long, default_value_t = 0.0, value_parser = parse::share)]
    dropout: f64,
    #[command(flatten)]
    #[serde(flatten)]
    common: CommonArgs,
}

#[derive(Clone, Copy, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum CellName {
    Rnn,
    Lstm,
    Gru,
}

/// The title of its report.
const TITLE: &str = "Forecasts of the next day";

fn train(settings: &Settings<'_, Recipe>, loggers: &LoggerArgs) -> Result<ExitCode, BoxError> {
    let recipe = settings.read(&ThreadArgs::FIELDS)?;
    let device = recipe.common.start()?;
    let data = Data::new(&recipe)?;
    let loader = |part, shuffle| recipe.common.threads.loader(Batched::new(part, shuffle, &recipe));
    let train = loader(&data.train, true)?.on_device(&device.clone().autodiff())?;
    let valid = loader(&data.valid, false)?.on_device(&device)?;
    let tests = loader(&data.test, false)?.on_device(&device)?;
    let mut task = task(&recipe, &device)?;

    // Everything that can be wrong with the input was found by now: only then a folder is made or cleared.
    let (run, trainer) = settings.begin(&recipe, recipe.common.train.config(), loggers, &device, TITLE)?;
    let schedule = OneCycle::new(recipe.lr, trainer.steps(&train)?)?;
    let mut trainer = trainer.schedule(schedule);
    let outcome = trainer.fit(&mut task, &train, &valid)?;
    if let Some(signal) = outcome.interrupted() {
        return Ok(firebox_cli::stopped(signal, &run, loggers, &firebox_cli::cargo_flags()));
    }
    firebox_cli::load_best(&run, &mut task)?;
    let test = trainer.evaluate(&tests, "test", task.evaluator())?;
    let charted = report::forecasts(&data, &task, &device)?;
    report::write(&run, &recipe, &outcome, &test, &data, &charted)?;
    Ok(ExitCode::SUCCESS)
}

/// A network that reads hours and gives a day.
type Forecaster = Regression<SequenceRegressor, Tensor<3>>;

/// A network with the optimizer that trains it.
fn task(recipe: &Recipe, device: &Device) -> Result<Forecaster, BoxError> {
    let cell = match recipe.cell {
        CellName::Rnn => Cell::Tanh,
        CellName::Lstm => Cell::Lstm,
        CellName::Gru => Cell::Gru,
    };
    let config = SequenceRegressorConfig::new(FEATURES, recipe.hidden, DAY).with_cell(cell);
    let config = config.with_num_layers(recipe.layers).with_dropout(recipe.dropout);
    let model = init(recipe.common.seed(), &device.clone().autodiff(), |device| config.init(device))?;
    Ok(Regression::new(recipe.common.learner.learner(model, AdamConfig::new().init()?)?))
}

fn main() -> ExitCode {
    firebox_cli::run_program(|cli: Cli, given| {
        let settings = Settings::new("forecast", &cli.recipe, &cli.run, given)?;
        if cli.forecast { report::next_day(&settings) } else { train(&settings, &cli.loggers) }
    })
}
