//! The live report of a run, and the summary and the report of a finished one.

use firebox::data::BoxError;
use firebox::prelude::*;
use firebox::report::{LiveReport, Report};
use firebox::train::trainer::Outcome;
use firebox_cli::{describe, say, write_summary};
use serde_json::json;

use crate::tested::Tested;
use crate::{Recipe, pictures};

/// The title of its report.
const TITLE: &str = "Fashion-MNIST, generative adversarial network";

/// The report of a run that goes on.
pub(crate) fn live(run: &RunDir) -> LiveReport {
    let folder = run.clone();
    LiveReport::new(run, TITLE).with(move |report| with_epochs(report, &folder))
}

/// Adds the pictures of what the generator made after each epoch to a report.
fn with_epochs(report: Report, run: &RunDir) -> Result<Report, BoxError> {
    Ok(report.figures("Epoch by epoch, from the same noise", &pictures::epochs(run)?)?)
}

/// Writes both into the run's folder, and says what the judge says.
pub(crate) fn write(
    run: &RunDir,
    recipe: &Recipe,
    outcome: &Outcome,
    tested: &Tested,
) -> Result<(), BoxError> {
    let Tested { best, last, of_real, .. } = tested;
    let mut results = best.summary();
    results.extend([
        ("frechet_distance_last".to_owned(), json!(last)),
        ("frechet_distance_of_real".to_owned(), json!(of_real)),
        ("best_step".to_owned(), json!(outcome.best.as_ref().map(|best| best.step))),
    ]);
    let seconds = write_summary(run, recipe, outcome, tested.seconds, results.into())?;

    let facts = best.facts().into_iter().chain([
        ("Fréchet distance of real images", format!("{of_real:.2}")),
        ("training, validation, test", format!("{seconds:.1} s")),
        ("recipe", describe(recipe)?),
    ]);
    let picture = |name: &str, caption: &str| pictures::read(&run.samples().join(name), caption);
    let way = "nine noises, and the ways from each to the next one in ten places";
    let report = Report::of(TITLE, &run.metrics())?
        .facts(facts)
        .figures("Samples of the best checkpoint", &[picture("best.png", "80 samples")?])?
        .figures("From one sample to another", &[picture("interpolation.png", way)?])?
        .curve("frechet_distance")?
        .curve("loss_discriminator")?
        .curve("loss_generator")?
        .curve("output_real")?
        .curve("output_fake")?
        .data_wait()?;
    with_epochs(report, run)?.write(&run.report())?;
    for (name, value) in best.facts() {
        say(format!("{name}: {value}"));
    }
    say(format!("Fréchet distance of real images: {of_real:.2}; {seconds:.1} s"));
    say(format!("report: {}", run.report().display()));
    Ok(())
}
