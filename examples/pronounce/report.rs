//! The summary and the report of a finished run.

use firebox::data::BoxError;
use firebox::prelude::*;
use firebox::report::{HeatMap, Report};
use firebox::train::event::Record;
use firebox::train::tasks::Translated;
use firebox::train::trainer::Outcome;
use firebox_cli::{describe, say, write_summary};
use serde_json::json;

use crate::Recipe;
use crate::tested::Tested;
use crate::vocabulary::Vocabulary;

/// The title of its report.
pub(crate) const TITLE: &str = "CMUdict, from spelling to phonemes";

/// Writes them into the run's folder, and says how much is wrong.
pub(crate) fn write(
    run: &RunDir,
    recipe: &Recipe,
    vocabulary: &Vocabulary,
    outcome: &Outcome,
    tested: &Tested,
) -> Result<(), BoxError> {
    let Tested { greedy, by_beam, translated, .. } = tested;
    let monotony = tested.monotony();
    let results = json!({
        "test_per": by_beam.metrics.value("per"),
        "test_wer": by_beam.metrics.value("wer"),
        "test_loss": by_beam.metrics.value("loss"),
        "test_per_greedy": greedy.metrics.value("per"),
        "test_wer_greedy": greedy.metrics.value("wer"),
        "attention_spearman": monotony,
    });
    let seconds = write_summary(run, recipe, outcome, tested.seconds, results)?;
    let percent =
        |record: &Record, rate| format!("{:.2} %", 100.0 * record.metrics.value(rate).unwrap_or(f64::NAN));
    let [per, wer] = ["per", "wer"].map(|rate| percent(by_beam, rate));
    Report::of(TITLE, &run.metrics())?
        .facts([
            ("wrong phonemes (PER)", per.clone()),
            ("wrong words (WER)", wer.clone()),
            ("PER, WER, greedy", ["per", "wer"].map(|rate| percent(greedy, rate)).join(", ")),
            ("test words", by_beam.metrics.samples().to_string()),
            ("attention moves on (Spearman's ρ)", format!("{:.3}", monotony.unwrap_or(f64::NAN))),
            ("training, validation, test", format!("{seconds:.1} s")),
            ("pronunciations a second", format!("{:.0}", outcome.samples_per_s)),
            ("recipe", describe(recipe)?),
        ])
        .curve("loss")?
        .curve("per")?
        .curve("wer")?
        .maps("Where the attention was: right words", &maps(vocabulary, translated, true))
        .maps("Where the attention was: wrong words", &maps(vocabulary, translated, false))
        .data_wait()?
        .write(&run.report())?;
    say(format!("test: PER {per}, WER {wer}, {seconds:.1} s"));
    say(format!("report: {}", run.report().display()));
    Ok(())
}

/// The attention over some words that were right, or wrong: letters from left to right, phonemes from above.
fn maps(vocabulary: &Vocabulary, translated: &[Translated], right: bool) -> Vec<HeatMap> {
    let chosen: Vec<_> = translated.iter().filter(|word| (word.edits == 0) == right).collect();
    let map = |word: &&Translated| {
        let (letters, spoken) = (vocabulary.spelling(&word.source), vocabulary.spoken(&word.found.tokens));
        let reference = vocabulary.spoken(&word.reference).join(" ");
        let caption = match right {
            true => format!("{}: {reference}", letters.concat()),
            false => format!("{}: {}, not {reference}", letters.concat(), spoken.join(" ")),
        };
        let rows = spoken.into_iter().zip(word.found.attention.clone()).collect();
        HeatMap { caption, columns: letters, rows }
    };
    // From the whole of the test, long words and short ones.
    chosen.iter().step_by(chosen.len().div_ceil(9).max(1)).map(map).collect()
}
