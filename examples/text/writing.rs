//! The texts that the model writes: after each epoch, and when it is asked.

use std::process::ExitCode;

use clap::Args;
use firebox::data::BoxError;
use firebox::data::formats::text::Vocabulary;
use firebox::models::decoding::Sampling;
use firebox::models::text::LanguageModel;
use firebox::prelude::*;
use firebox::train::event::{Callback, Event};
use firebox::train::tasks::LanguageModeling;
use firebox_cli::{Settings, load_best, parse, say};

use crate::{Recipe, task};

/// The flags for a text that is written instead of training.
#[derive(Args)]
pub(crate) struct WritingArgs {
    /// Write so many characters, by the run's best checkpoint, instead of training
    #[arg(long, value_name = "N", value_parser = parse::at_least_one)]
    #[arg(conflicts_with_all = ["resume", "overwrite", "config", "LoggerArgs"])]
    pub(crate) sample: Option<usize>,
    /// The text that the characters written go on from [default: a line break]
    #[arg(long, value_name = "TEXT", requires = "sample")]
    prompt: Option<String>,
    /// A number that logits are divided by: below 1 likely characters become likelier, 0 takes the likeliest
    /// [default: 0.8]
    #[arg(long, requires = "sample", value_parser = parse::at_least_zero)]
    temperature: Option<f64>,
    /// Draw from the likeliest characters that together have this probability [default: 1]
    #[arg(long, value_name = "P", requires = "sample", value_parser = parse::above_zero_up_to_one)]
    top_p: Option<f64>,
}

/// Low enough for words, high enough for variety.
const TEMPERATURE: f64 = 0.8;

/// Has the model go on with a piece of text at the end of each epoch, in a file of its own.
pub(crate) struct Writer {
    run: RunDir,
    /// Any model of the run, for the weights of a checkpoint.
    model: LanguageModel,
    vocabulary: Vocabulary,
    prompt: Vec<usize>,
}

impl Writer {
    pub(crate) fn new(
        run: &RunDir,
        model: LanguageModel,
        vocabulary: Vocabulary,
        prompt: Vec<usize>,
    ) -> Self {
        Writer { run: run.clone(), model, vocabulary, prompt }
    }
}

impl Callback for Writer {
    fn on_event(&mut self, event: &Event<'_>) -> Result<(), BoxError> {
        let Event::Saving { state, task } = event else { return Ok(()) };
        let Some(epoch @ 1..) = state.trained_epochs() else { return Ok(()) };
        // The weights that evaluations judge.
        let weights = task.get("model.ema").or_else(|_| task.get("model"))?;
        let model = weights.apply(self.model.clone())?;
        let sampling = Sampling::new().with_temperature(TEMPERATURE);
        let tokens = model.generate(&self.prompt, 300, &sampling)?;
        let text = self.vocabulary.decode(&[&self.prompt[..], &tokens].concat());
        Ok(self.run.write_sample(&format!("epoch-{epoch:04}.txt"), text.as_bytes())?)
    }
}

/// Prints what a run's model writes.
pub(crate) fn sample(
    settings: &Settings<'_, Recipe>,
    args: &WritingArgs,
    length: usize,
) -> Result<ExitCode, BoxError> {
    let run = settings.existing()?;
    let free = ["backend", "threads", "seed"];
    settings.only("--sample", &free)?;
    let recipe = settings.of_run(&free)?;
    let device = recipe.common.start()?;
    let best = run.checkpoints().path().join("best");
    let (_, state) = run.checkpoints().best()?;
    let vocabulary = LanguageModeling::vocabulary_of(&state);
    let vocabulary = vocabulary.map_err(|error| format!("{}: {error}", best.display()))?;
    let mut task = task(&recipe, &vocabulary, &device)?;
    load_best(&run, &mut task)?;

    let prompt = args.prompt.clone().unwrap_or_else(|| vocabulary.decode(&[0]));
    let tokens = vocabulary.encode(&prompt).map_err(|error| format!("--prompt: {error}"))?;
    let sampling = Sampling::new()
        .with_temperature(args.temperature.unwrap_or(TEMPERATURE))
        .with_top_p(args.top_p.unwrap_or(1.0))
        .with_seed(recipe.common.seed());
    let written = task.averaged().generate(&tokens, length, &sampling)?;
    say(format!("{}{}", prompt.trim_start_matches('\n'), vocabulary.decode(&written)));
    Ok(ExitCode::SUCCESS)
}
