//! The pronunciation of a word of the user's own.

use std::process::ExitCode;

use firebox::data::BoxError;
use firebox::data::collate::Padded;
use firebox::data::formats::cmudict;
use firebox::data::tensors::IntoTensors;
use firebox_cli::{Settings, load_best, say};

use crate::tested::beam;
use crate::vocabulary::Vocabulary;
use crate::{Recipe, task};

/// Prints how a word is pronounced.
pub(crate) fn say_word(settings: &Settings<'_, Recipe>, word: &str) -> Result<ExitCode, BoxError> {
    let word = word.to_lowercase();
    cmudict::check(&word)?;
    let run = settings.existing()?;
    let free = ["backend", "beam"];
    settings.only("--word", &free)?;
    let recipe = settings.of_run(&free)?;
    let device = recipe.common.backend.device()?;
    let vocabulary = Vocabulary::new(recipe.words.stress);
    let mut task = task(&recipe, &vocabulary, &device)?;
    load_best(&run, &mut task)?;
    let letters = vocabulary.letters(&word);
    let longest = letters.len();
    let source = Padded { values: letters.into(), lengths: vec![longest], longest }.into_tensors(&device);
    for found in task.translate(source, &beam(recipe.beam))?.into_iter().flatten().take(3) {
        let spoken = vocabulary.spoken(&found.tokens).join(" ");
        say(format!("{spoken:<40} {:5.1} %", 100.0 * found.log_probability.exp()));
    }
    Ok(ExitCode::SUCCESS)
}
