//! The series that is forecast, and its windows as batches.

use std::f64::consts::TAU;

use firebox::data::seed::{Purpose, derive_seed};
use firebox::data::{self, BoxError, Dataset};
use firebox::prelude::*;
use firebox::workers::sync::SealedArray;
use serde::{Deserialize, Serialize};

use crate::Recipe;

pub(crate) const DAY: usize = 24;
pub(crate) const WEEK: usize = 7 * DAY;

/// The numbers that the network reads at each hour.
///
/// They are the value, and the time of day and of week as points on circles.
pub(crate) const FEATURES: usize = 5;

/// An hourly series, such as the load of a power grid: y = 100 + season + weather.
///
/// The season is 25·sin 2π(h − 8)/24 + 8·sin 4π(h − 3)/24 at hour h of a working day; on the last two days of
/// a week it is 0.6 times that, and 10 lower. The weather is what nobody knows beforehand: a ← 0.97·a + ε in
/// each hour, ε normal with standard deviation 2.
///
/// The best forecast for k hours ahead is so 100 + season + 0.97ᵏ·a: [`Series::best`].
pub(crate) struct Series {
    pub(crate) values: Vec<f64>,
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
    pub(crate) fn best(&self, begin: usize, hour: usize) -> f64 {
        let weather = self.values[begin - 1] - 100.0 - season(begin - 1);
        100.0 + season(hour) + PERSISTENCE.powi((hour + 1 - begin) as i32) * weather
    }
}

fn season(hour: usize) -> f64 {
    let (of_day, day) = ((hour % DAY) as f64, hour / DAY % 7);
    let wave = 25.0 * (TAU * (of_day - 8.0) / 24.0).sin() + 8.0 * (2.0 * TAU * (of_day - 3.0) / 24.0).sin();
    if day < 5 { wave } else { 0.6 * wave - 10.0 }
}

/// A part of the series as windows, one for each hour of it that has a whole day after it.
///
/// A window is what the network reads, and the day that follows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Forecasts {
    /// With mean 0 and variance 1 over the training part.
    values: SealedArray<f32>,
    pub(crate) past: usize,
    /// The first hour of the first forecast.
    pub(crate) first: usize,
    windows: usize,
}

impl Forecasts {
    /// The numbers that a forecast for the day that begins at `hour` is made from: `past` times [`FEATURES`].
    pub(crate) fn read(&self, hour: usize) -> impl ExactSizeIterator<Item = f32> {
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
pub(crate) struct Data {
    pub(crate) series: Series,
    pub(crate) mean: f64,
    pub(crate) deviation: f64,
    pub(crate) train: Forecasts,
    pub(crate) valid: Forecasts,
    pub(crate) test: Forecasts,
}

impl Data {
    pub(crate) fn new(recipe: &Recipe) -> Result<Self, BoxError> {
        let (hours, past) = (recipe.hours, recipe.past);
        // Each forecast has its past before it, and a week to be compared with.
        let begun = past.max(WEEK);
        let least = begun.saturating_add(DAY).div_ceil(7).max(DAY).saturating_mul(10);
        if !(least..=MOST_HOURS).contains(&hours) {
            let text = format!("expected from {least}, for {past} past hours, to {MOST_HOURS}, got {hours}");
            return Err(format!("--hours: {text}").into());
        }
        let [train, test] = [hours / 10 * 7, hours / 10 * 8];
        let series = Series::new(hours, recipe.common.seed());
        let known = &series.values[..train];
        let mean = known.iter().sum::<f64>() / train as f64;
        let deviation = (known.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / train as f64).sqrt();
        let values = SealedArray::from_fn(hours, |hour| ((series.values[hour] - mean) / deviation) as f32)?;
        let part =
            |first, end| Forecasts { values: values.clone(), past, first, windows: end - first - DAY + 1 };
        let (train, valid, test) = (part(begun, train), part(train, test), part(test, hours));
        Ok(Data { series, mean, deviation, train, valid, test })
    }

    /// The mean absolute error, over all days of the test part, of a forecast of hour `hour` of the day that
    /// begins at `begin`.
    pub(crate) fn error_of(&self, forecast: impl Fn(usize, usize) -> f64) -> f64 {
        let values = &self.series.values;
        let begins = self.test.first..self.test.first + self.test.windows;
        let hours = begins.flat_map(|begin| (begin..begin + DAY).map(move |hour| (begin, hour)));
        let sum: f64 = hours.map(|(begin, hour)| (values[hour] - forecast(begin, hour)).abs()).sum();
        sum / (self.test.windows * DAY) as f64
    }
}

/// A century, and some megabytes.
const MOST_HOURS: usize = 24 * 36_525;

/// Whole windows and the days after them.
type Layout = (Stack<f32, 2>, Stack<f32, 1>);

/// The loader of a part's windows as data, so that worker processes can make it, too.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Batched {
    part: Forecasts,
    shuffle: bool,
    batch_size: usize,
    seed: u64,
    threads: Option<usize>,
}

impl Batched {
    pub(crate) fn new(part: &Forecasts, shuffle: bool, recipe: &Recipe) -> Self {
        let threads = recipe.common.threads.in_recipe();
        let (part, seed) = (part.clone(), recipe.common.seed());
        Batched { part, shuffle, batch_size: recipe.batch_size, seed, threads }
    }
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
