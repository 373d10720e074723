//! The live report of a run, and the summary and the report of a finished one.

use std::fs;

use burn::module::Module;
use firebox::data::BoxError;
use firebox::prelude::*;
use firebox::report::{LiveReport, Report};
use firebox::train::event::Record;
use firebox::train::tasks::LanguageModeling;
use firebox::train::trainer::Outcome;
use firebox_cli::{describe, say, write_summary};
use serde_json::json;

use crate::Recipe;

/// The title of its report.
const TITLE: &str = "A language model of characters";

/// The report of a run that goes on.
pub(crate) fn live(run: &RunDir) -> LiveReport {
    let folder = run.clone();
    LiveReport::new(run, TITLE).with(move |report| with_texts(report, &folder))
}

/// Adds the texts of a run's epochs to a report.
fn with_texts(report: Report, run: &RunDir) -> Result<Report, BoxError> {
    let mut texts = Vec::new();
    for (epoch, path) in run.samples_by_epoch("txt")? {
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        texts.push((format!("after epoch {epoch}"), text));
    }
    Ok(report.texts("What it wrote", texts.iter().map(|(name, text)| (name.as_str(), text.as_str()))))
}

/// Writes both into the run's folder, and says how well the model predicts.
pub(crate) fn write(
    run: &RunDir,
    recipe: &Recipe,
    outcome: &Outcome,
    test: &Record,
    task: &LanguageModeling,
) -> Result<(), BoxError> {
    let parameters = task.model().num_params();
    let value = |metric| test.metrics.value(metric);
    let (bits, perplexity) = (value("bits_per_character"), value("perplexity"));
    let results = json!({
        "test_bits_per_character": bits,
        "test_loss": value("loss"),
        "test_perplexity": perplexity,
        "parameters": parameters,
    });
    let seconds = write_summary(run, recipe, outcome, test.seconds, results)?;
    let bits = bits.unwrap_or(f64::NAN);
    let report = Report::of(TITLE, &run.metrics())?
        .facts([
            ("bits per character of the test text", format!("{bits:.3}")),
            ("its perplexity", format!("{:.3}", perplexity.unwrap_or(f64::NAN))),
            ("training, validation, test", format!("{seconds:.1} s")),
            ("training characters a second", format!("{:.0}", outcome.samples_per_s)),
            ("parameters", parameters.to_string()),
            ("recipe", describe(recipe)?),
        ])
        .curve("bits_per_character")?
        .data_wait()?;
    with_texts(report, run)?.write(&run.report())?;
    say(format!("test: {bits:.3} bits per character, {seconds:.1} s"));
    say(format!("report: {}", run.report().display()));
    Ok(())
}
