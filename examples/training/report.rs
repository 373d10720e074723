//! The summary and the report of a finished run.

use firebox::data::formats::fashion_mnist;
use firebox::data::formats::idx::LabelledImage;
use firebox::data::{BoxError, Dataset};
use firebox::prelude::*;
use firebox::report::Report;
use firebox::train::event::Record;
use firebox::train::metrics::Predictions;
use firebox::train::trainer::Outcome;
use firebox_cli::{describe, say, write_summary};
use image::GrayImage;
use serde_json::json;

use crate::{Recipe, TITLE};

/// Writes them into the run's folder, and says how good the network is.
pub(crate) fn write(
    run: &RunDir,
    recipe: &Recipe,
    outcome: &Outcome,
    test: &Record,
    predictions: &Predictions,
    images: &impl Dataset<Item = LabelledImage>,
) -> Result<(), BoxError> {
    let (accuracy, loss) = (test.metrics.value("accuracy"), test.metrics.value("loss"));
    let results = json!({"test_accuracy": accuracy, "test_loss": loss});
    let seconds = write_summary(run, recipe, outcome, test.seconds, results)?;
    let accuracy = format!("{:.2} %", 100.0 * accuracy.unwrap_or(f64::NAN));
    let picture = |index| {
        let pixels = images.get(index)?.pixels.to_vec();
        GrayImage::from_raw(28, 28, pixels).ok_or_else(|| "an image of another size".into())
    };
    Report::of(TITLE, &run.metrics())?
        .facts([
            ("test accuracy", accuracy.clone()),
            ("test loss", format!("{:.4}", loss.unwrap_or(f64::NAN))),
            ("training, validation, test", format!("{seconds:.1} s")),
            ("training images a second", format!("{:.0}", outcome.samples_per_s)),
            ("recipe", describe(recipe)?),
        ])
        .curve("loss")?
        .curve("accuracy")?
        .data_wait()?
        .confusion(&predictions.confusion()?, &fashion_mnist::CLASSES)
        .classified(predictions, &fashion_mnist::CLASSES, picture)?
        .write(&run.report())?;
    say(format!("test accuracy: {accuracy}, {seconds:.1} s"));
    say(format!("report: {}", run.report().display()));
    Ok(())
}
