//! Trains a recurrent network, an `RnnBlock` with a linear map behind it, to forecast the next day of an hourly series, and
//! says what the forecasts are worth:
//!
//!     cargo run --release --example forecast
//!
//! The series is made here, so that the best forecast that anybody could make of it is known: see [`Series`]. Each run
//! leaves a folder under `runs/` with its settings, records, checkpoints, result and a report with the forecasts beside
//! what came. A run that was stopped goes on with `--resume`; `--forecast` prints the day behind the series' end.

mod common;

use std::f64::consts::TAU;
use std::process::ExitCode;

use burn::tensor::{Device, Tensor, TensorData};
use clap::{Args, Parser, ValueEnum};
use common::{
    Followers, Place, Settings, WorkerKind, above_zero, at_least_one, depth, described, say, share, stopped,
    width,
};
use firebox::data::seed::{Purpose, derive_seed};
use firebox::data::tensors::OnDevice;
use firebox::data::{self, BoxError, Dataset};
use firebox::models::layers::Cell;
use firebox::models::text::{SequenceRegressor, SequenceRegressorConfig};
use firebox::prelude::*;
use firebox::report::{LiveReport, Report};
use firebox::train::TrainerConfig;
use firebox::train::run::{Interrupt, peak_rss_bytes};
use firebox::train::tasks::Regression;
use firebox::workers::sync::SealedArray;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Train a recurrent network to forecast the next day of an hourly series.
#[derive(Parser)]
#[command(name = "forecast")]
struct Cli {
    #[command(flatten)]
    recipe: Recipe,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    followers: Followers,
    /// Print the day behind the end of the series, by the run's best checkpoint, instead of training
    #[arg(long, conflicts_with_all = ["resume", "overwrite", "config", "Followers"])]
    forecast: bool,
}

/// The settings that decide the result; `config.json` holds them.
#[derive(Args, Clone, Serialize, Deserialize)]
struct Recipe {
    /// What computes: flex, ndarray, wgpu or cuda, as far as the build has it
    #[arg(long, default_value = "flex")]
    backend: String,
    /// Hours of the series; the first seven tenths are for training, the last two for testing
    #[arg(long, value_name = "N", default_value_t = 2 * 52 * WEEK)]
    hours: usize,
    /// Hours that a forecast is made from
    #[arg(long, value_name = "N", default_value_t = 48, value_parser = at_least_one)]
    past: usize,
    /// The recurrent cell
    #[arg(long, value_enum, default_value_t = CellName::Rnn)]
    cell: CellName,
    /// Features of the recurrent layers' state
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = width)]
    hidden: usize,
    /// Recurrent layers on top of each other
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = depth)]
    layers: usize,
    /// Passes over the training data
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    epochs: u64,
    /// Windows a step
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
    /// What all random numbers follow from, those of the series too
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// The highest learning rate of the one-cycle schedule
    #[arg(long, default_value_t = 3e-3, value_parser = above_zero)]
    lr: f64,
    /// The share of features dropped between layers and before the last map
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    dropout: f64,
    /// The largest norm of a step's gradients; larger ones are scaled down to it
    #[arg(long, value_name = "NORM", default_value_t = 1.0, value_parser = above_zero)]
    clip_norm: f64,
    /// Evaluate a moving average of the weights, with this decay
    #[arg(long, value_name = "DECAY", value_parser = share)]
    ema: Option<f64>,
    /// Stop after so many steps
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    max_steps: Option<usize>,
    /// Save a checkpoint after every so many steps, too
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    save_steps: Option<usize>,
    /// Stop after so many epochs that didn't get better
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    patience: Option<usize>,
}

#[derive(Clone, Copy, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum CellName {
    Rnn,
    Lstm,
    Gru,
}

impl Recipe {
    fn trainer(&self) -> TrainerConfig {
        let mut config = TrainerConfig::new();
        (config.seed, config.max_epochs, config.max_steps) = (Some(self.seed), self.epochs, self.max_steps);
        (config.save_steps, config.patience) = (self.save_steps, self.patience);
        config
    }
}

const DAY: usize = 24;
const WEEK: usize = 7 * DAY;

/// How many numbers the network reads at each hour: the value, and the time of day and of week as points on circles.
const FEATURES: usize = 5;

/// An hourly series, such as the load of a power grid: y = 100 + season + weather.
///
/// The season is 25·sin 2π(h − 8)/24 + 8·sin 4π(h − 3)/24 at hour h of a working day; on the last two days of a week it
/// is 0.6 times that, and 10 lower. The weather is what nobody knows beforehand: a ← 0.97·a + ε in each hour, ε normal
/// with standard deviation 2.
///
/// The best forecast for k hours ahead is so 100 + season + 0.97ᵏ·a: [`Series::best`].
struct Series {
    values: Vec<f64>,
}

const PERSISTENCE: f64 = 0.97;
const NOISE: f64 = 2.0;

impl Series {
    fn new(hours: usize, seed: u64) -> Self {
        let mut weather = 0.0;
        let value = |hour| {
            let mut rng = SampleRng::from_seed(derive_seed(seed, Purpose::Sample, 0, hour as u64));
            // A normal number by the transform of Box and Muller; u is above 0.
            let (u, v) = (1.0 - rng.uniform_f64(), rng.uniform_f64());
            weather = PERSISTENCE * weather + NOISE * (-2.0 * u.ln()).sqrt() * (TAU * v).cos();
            100.0 + season(hour) + weather
        };
        Series { values: (0..hours).map(value).collect() }
    }

    /// The best forecast of hour `hour` that can be made when the day that it is of begins at `begin`.
    fn best(&self, begin: usize, hour: usize) -> f64 {
        let weather = self.values[begin - 1] - 100.0 - season(begin - 1);
        100.0 + season(hour) + PERSISTENCE.powi((hour + 1 - begin) as i32) * weather
    }
}

fn season(hour: usize) -> f64 {
    let (of_day, day) = ((hour % DAY) as f64, hour / DAY % 7);
    let wave = 25.0 * (TAU * (of_day - 8.0) / 24.0).sin() + 8.0 * (2.0 * TAU * (of_day - 3.0) / 24.0).sin();
    if day < 5 { wave } else { 0.6 * wave - 10.0 }
}

/// A part of the series as windows, one for each hour of it that has a whole day behind it: what the network reads, and
/// the day that follows.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Forecasts {
    /// With mean 0 and variance 1 over the training part.
    values: SealedArray<f32>,
    past: usize,
    /// The first hour of the first forecast.
    first: usize,
    windows: usize,
}

impl Forecasts {
    /// The numbers that a forecast for the day that begins at `hour` is made from: `past` times [`FEATURES`].
    fn read(&self, hour: usize) -> impl ExactSizeIterator<Item = f32> {
        let begun = hour - self.past;
        (0..self.past * FEATURES).map(move |place| {
            let hour = begun + place / FEATURES;
            let (day, week) = (TAU * hour as f64 / DAY as f64, TAU * hour as f64 / WEEK as f64);
            match place % FEATURES {
                0 => self.values[hour],
                1 => day.sin() as f32,
                2 => day.cos() as f32,
                3 => week.sin() as f32,
                _ => week.cos() as f32,
            }
        })
    }
}

impl Dataset for Forecasts {
    type Item = usize;

    fn get(&self, index: usize) -> Result<usize, BoxError> {
        Ok(self.first + index)
    }

    fn len(&self) -> usize {
        self.windows
    }
}

/// The series, and what is known of it.
struct Data {
    series: Series,
    mean: f64,
    deviation: f64,
    train: Forecasts,
    valid: Forecasts,
    test: Forecasts,
}

impl Data {
    fn new(recipe: &Recipe) -> Result<Self, BoxError> {
        let (hours, past) = (recipe.hours, recipe.past);
        // Each forecast has its past behind it, and a week to be compared with.
        let begun = past.max(WEEK);
        let least = begun.saturating_add(DAY).div_ceil(7).max(DAY).saturating_mul(10);
        if !(least..=MOST_HOURS).contains(&hours) {
            let text = format!("expected from {least}, for {past} past hours, to {MOST_HOURS}, got {hours}");
            return Err(format!("--hours: {text}").into());
        }
        let [train, test] = [hours / 10 * 7, hours / 10 * 8];
        let series = Series::new(hours, recipe.seed);
        let known = &series.values[..train];
        let mean = known.iter().sum::<f64>() / train as f64;
        let deviation = (known.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / train as f64).sqrt();
        let values = SealedArray::from_fn(hours, |hour| ((series.values[hour] - mean) / deviation) as f32)?;
        let part =
            |first, end| Forecasts { values: values.clone(), past, first, windows: end - first - DAY + 1 };
        let (train, valid, test) = (part(begun, train), part(train, test), part(test, hours));
        Ok(Data { series, mean, deviation, train, valid, test })
    }

    /// The mean absolute error, over all days of the test part, of a forecast of hour `hour` of the day that begins at
    /// `begin`.
    fn error_of(&self, forecast: impl Fn(usize, usize) -> f64) -> f64 {
        let values = &self.series.values;
        let begins = self.test.first..self.test.first + self.test.windows;
        let hours = begins.flat_map(|begin| (begin..begin + DAY).map(move |hour| (begin, hour)));
        let sum: f64 = hours.map(|(begin, hour)| (values[hour] - forecast(begin, hour)).abs()).sum();
        sum / (self.test.windows * DAY) as f64
    }
}

/// A century, and some megabytes.
const MOST_HOURS: usize = 24 * 36_525;

/// Whole windows and the days behind them.
type Layout = (Stack<f32, 2>, Stack<f32, 1>);

/// What its report is called.
const TITLE: &str = "Forecasts of the next day";

fn train(settings: &Settings<'_, Recipe>, followers: &Followers) -> Result<ExitCode, BoxError> {
    let recipe = settings.read(&["workers", "worker_kind", "threads"])?;
    let threads = Threads::new(recipe.threads, recipe.workers)?;
    threads.start()?;
    let device = recipe.backend.parse::<Backend>()?.device()?;
    let data = Data::new(&recipe)?;
    let train = loader(&data.train, true, &recipe, threads, &device.clone().autodiff())?;
    let valid = loader(&data.valid, false, &recipe, threads, &device)?;
    let tests = loader(&data.test, false, &recipe, threads, &device)?;

    let mut task = task(&recipe, &device)?;
    // Everything that can be wrong with the input was found by now: only then is a folder made, or overwritten.
    let interrupt = Interrupt::on_signals()?;
    let display = followers.display(&interrupt)?;
    let run = settings.folder()?;
    let trainer = Trainer::new(&run, &device).config(recipe.trainer());
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
    let result = trainer.evaluate(&tests, "test", task.evaluator())?;
    let error = result.metrics.value("mae").map(|error| error * data.deviation);
    let values = &data.series.values;
    let last_value = data.error_of(|begin, _| values[begin - 1]);
    let last_week = data.error_of(|_, hour| values[hour - WEEK]);
    let best = data.error_of(|begin, hour| data.series.best(begin, hour));
    let seconds = outcome.seconds + result.seconds;
    // What does not apply is left out: the error of a run that came to nothing, memory where the system doesn't tell.
    let mut summary = json!({
        "test_mae": error,
        "test_r2": result.metrics.value("r2"),
        "last_value_mae": last_value,
        "last_week_mae": last_week,
        "best_possible_mae": best,
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
    let error = error.unwrap_or(f64::NAN);
    Report::of(TITLE, &run.metrics())?
        .facts([
            ("mean absolute error of a day's forecast", format!("{error:.3}")),
            ("of the last value, kept", format!("{last_value:.3}")),
            ("of the same hour of the week before", format!("{last_week:.3}")),
            ("of the best forecast there can be", format!("{best:.3}")),
            ("training, validation, test", format!("{seconds:.1} s")),
            ("recipe", described(&recipe)?),
        ])
        .chart("Two weeks of the test part", ["hour", "value"], &forecasts(&data, &task, &device)?)?
        .curve("loss")?
        .curve("mae")?
        .data_wait()?
        .write(&run.report())?;
    let more = 100.0 * (error / last_week - 1.0);
    let (share, word) = (more.abs(), if more > 0.0 { "more" } else { "less" });
    say(format!(
        "test: mean absolute error {error:.3}, {share:.0} % {word} than the week before's, {seconds:.1} s"
    ));
    say(format!("the week before {last_week:.3}, the last value {last_value:.3}, best possible {best:.3}"));
    say(format!("report: {}", run.report().display()));
    Ok(ExitCode::SUCCESS)
}

/// The loader of a part's windows.
fn loader(
    part: &Forecasts,
    shuffle: bool,
    recipe: &Recipe,
    threads: Threads,
    device: &Device,
) -> Result<OnDevice<Loader<Layout>>, BoxError> {
    let kind = recipe.worker_kind;
    let windows = Batched {
        part: part.clone(),
        shuffle,
        batch_size: recipe.batch_size,
        seed: recipe.seed,
        threads: kind.threads(threads),
    };
    Ok(kind.loader(windows, threads)?.on_device(device)?)
}

/// That loader as data, so that worker processes can make it, too.
#[derive(Debug, Serialize, Deserialize)]
struct Batched {
    part: Forecasts,
    shuffle: bool,
    batch_size: usize,
    seed: u64,
    threads: Option<usize>,
}

impl data::Recipe for Batched {
    type Layout = Layout;

    fn loader(&self) -> Result<Loader<Layout>, data::Error> {
        let builder = Loader::builder(self.part.clone()).batch_size(self.batch_size).seed(self.seed);
        let builder = match self.threads {
            Some(threads) => builder.workers(threads),
            None => builder,
        };
        let layout = (Stack::new([self.part.past, FEATURES]), Stack::new([DAY]));
        let part = self.part.clone();
        builder.shuffle(self.shuffle).build(layout, move |hour: usize, _, (past, day)| {
            past.iter_mut().zip(part.read(hour)).for_each(|(to, value)| *to = value);
            day.copy_from_slice(&part.values[hour..hour + DAY]);
            Ok(())
        })
    }
}

/// A network with the optimiser that trains it.
fn task(recipe: &Recipe, device: &Device) -> Result<Regression<SequenceRegressor, Tensor<3>>, BoxError> {
    let config = SequenceRegressorConfig::new(FEATURES, recipe.hidden, DAY)
        .with_cell(match recipe.cell {
            CellName::Rnn => Cell::Tanh,
            CellName::Lstm => Cell::Lstm,
            CellName::Gru => Cell::Gru,
        })
        .with_num_layers(recipe.layers)
        .with_dropout(recipe.dropout);
    let model = init(recipe.seed, &device.clone().autodiff(), |device| config.init(device))?;
    let mut learner = Learner::new(model, AdamConfig::new().init()?).with_clip_norm(recipe.clip_norm)?;
    if let Some(decay) = recipe.ema {
        learner = learner.with_ema(decay)?;
    }
    Ok(Regression::new(learner))
}

/// The forecast of the day that begins at an hour.
fn day_from(
    data: &Data,
    task: &Regression<SequenceRegressor, Tensor<3>>,
    hour: usize,
    device: &Device,
) -> Result<Vec<f64>, BoxError> {
    let read: Vec<f32> = data.test.read(hour).collect();
    let input = Tensor::from_data(TensorData::new(read, [1, data.test.past, FEATURES]), device);
    let day = task.predictions(input)?;
    Ok(day.into_iter().map(|value| data.mean + data.deviation * f64::from(value)).collect())
}

/// A line of (hour, value), with its name.
type Line = (&'static str, Vec<(f64, f64)>);

/// What came, what was forecast at each midnight, and what the week before had, over the first two weeks of the test part.
fn forecasts(
    data: &Data,
    task: &Regression<SequenceRegressor, Tensor<3>>,
    device: &Device,
) -> Result<Vec<Line>, BoxError> {
    let begin = data.test.first.next_multiple_of(DAY);
    let end = data.series.values.len().min(begin + 2 * WEEK) / DAY * DAY;
    let mut forecast = Vec::new();
    for day in (begin..end).step_by(DAY) {
        forecast.extend(day_from(data, task, day, device)?);
    }
    let values = |hours: std::ops::Range<usize>| data.series.values[hours].to_vec();
    let points = |values: Vec<f64>| values.into_iter().enumerate().map(|(x, y)| (x as f64, y)).collect();
    Ok(vec![
        ("what came", points(values(begin..end))),
        ("forecast at midnight", points(forecast)),
        ("the week before", points(values(begin - WEEK..end - WEEK))),
    ])
}

/// Prints the day behind the series' end.
fn forecast(settings: &Settings<'_, Recipe>) -> Result<ExitCode, BoxError> {
    let run = settings.existing()?;
    settings.only("--forecast", &["backend", "threads"])?;
    let recipe = settings.of_run(&["backend", "threads"])?;
    Threads::new(recipe.threads, None)?.start()?;
    let device = recipe.backend.parse::<Backend>()?.device()?;
    let data = Data::new(&recipe)?;
    let mut task = task(&recipe, &device)?;
    let (_, best) = run.checkpoints().best()?;
    task.load(&best)
        .map_err(|error| format!("{}: {error}", run.checkpoints().path().join("best").display()))?;
    for (ahead, value) in day_from(&data, &task, recipe.hours, &device)?.into_iter().enumerate() {
        say(format!("hour {:>2} ahead: {value:7.2}", ahead + 1));
    }
    Ok(ExitCode::SUCCESS)
}

fn main() -> ExitCode {
    common::main(|cli: Cli, given| {
        let settings = Settings::new("forecast", &cli.recipe, &cli.place, given)?;
        match cli.forecast {
            true => forecast(&settings),
            false => train(&settings, &cli.followers),
        }
    })
}
