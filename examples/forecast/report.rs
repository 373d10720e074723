//! The worth of the forecasts: the summary and the report of a finished run.

use std::process::ExitCode;

use burn::tensor::{Device, Tensor, TensorData};
use firebox::data::BoxError;
use firebox::prelude::*;
use firebox::report::Report;
use firebox::train::event::Record;
use firebox::train::trainer::Outcome;
use firebox_cli::{Settings, describe, load_best, say, write_summary};
use serde_json::json;

use crate::series::{DAY, WEEK};
use crate::windows::{Data, FEATURES};
use crate::{Forecaster, Recipe, TITLE, task};

/// Writes them into the run's folder, and says what the forecasts are worth beside simple ones.
pub(crate) fn write(
    run: &RunDir,
    recipe: &Recipe,
    outcome: &Outcome,
    test: &Record,
    data: &Data,
    charted: &[Line],
) -> Result<(), BoxError> {
    let error = test.metrics.value("mae").map(|error| error * data.deviation);
    let values = &data.series.values;
    let last_value = data.error_of(|begin, _| values[begin - 1]);
    let last_week = data.error_of(|_, hour| values[hour - WEEK]);
    let best = data.error_of(|begin, hour| data.series.best(begin, hour));
    let results = json!({
        "test_mae": error,
        "test_r2": test.metrics.value("r2"),
        "last_value_mae": last_value,
        "last_week_mae": last_week,
        "best_possible_mae": best,
    });
    let seconds = write_summary(run, recipe, outcome, test.seconds, results)?;
    let error = error.unwrap_or(f64::NAN);
    Report::of(TITLE, &run.metrics())?
        .facts([
            ("mean absolute error of a day's forecast", format!("{error:.3}")),
            ("of the last value, kept", format!("{last_value:.3}")),
            ("of the same hour of the week before", format!("{last_week:.3}")),
            ("of the best forecast there can be", format!("{best:.3}")),
            ("training, validation, test", format!("{seconds:.1} s")),
            ("recipe", describe(recipe)?),
        ])
        .chart("Two weeks of the test part", ["hour", "value"], charted)?
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
    Ok(())
}

/// The forecast of the day that begins at an hour.
pub(crate) fn day_from(
    data: &Data,
    task: &Forecaster,
    hour: usize,
    device: &Device,
) -> Result<Vec<f64>, BoxError> {
    let read: Vec<f32> = data.test.read(hour).collect();
    let input = Tensor::from_data(TensorData::new(read, [1, data.test.past, FEATURES]), device);
    let day = task.predictions(input)?;
    Ok(day.into_iter().map(|value| data.mean + data.deviation * f64::from(value)).collect())
}

/// A line of (hour, value), with its name.
pub(crate) type Line = (&'static str, Vec<(f64, f64)>);

/// Three lines over the first two weeks of the test part: what came, what was forecast at each midnight,
/// and what the week before had.
pub(crate) fn forecasts(data: &Data, task: &Forecaster, device: &Device) -> Result<Vec<Line>, BoxError> {
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

/// Prints the day after the series' end.
pub(crate) fn next_day(settings: &Settings<'_, Recipe>) -> Result<ExitCode, BoxError> {
    let run = settings.existing()?;
    settings.only("--forecast", &["backend", "threads"])?;
    let recipe = settings.of_run(&["backend", "threads"])?;
    let device = recipe.common.start()?;
    let data = Data::new(&recipe)?;
    let mut task = task(&recipe, &device)?;
    load_best(&run, &mut task)?;
    for (ahead, value) in day_from(&data, &task, recipe.hours, &device)?.into_iter().enumerate() {
        say(format!("hour {:>2} ahead: {value:7.2}", ahead + 1));
    }
    Ok(ExitCode::SUCCESS)
}
