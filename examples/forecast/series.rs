//! The series that is forecast.

use std::f64::consts::TAU;

use firebox::data::seed::{Purpose, derive_seed};
use firebox::prelude::*;

pub(crate) const DAY: usize = 24;
pub(crate) const WEEK: usize = 7 * DAY;

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
    pub(crate) fn new(hours: usize, seed: u64) -> Self {
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
