//! Learns how English words are pronounced, from CMUdict: the network reads letters and writes phonemes:
//!
//!     cargo run --release --example pronounce
//!     cargo run --release --example pronounce -- --word firebox
//!
//! A bidirectional LSTM reads the spelling, another one writes the pronunciation and looks at the letters by
//! additive attention. The defaults take some minutes; a run of an hour has fewer wrong words, 27 % and not
//! 34 %. Stop it when you like, and go on with `--resume`:
//!
//!     cargo run --release --example pronounce -- --epochs 20 --dropout 0.3 --label-smoothing 0.1 --ema 0.999
//!
//! In a crate of its own this file, as `src/main.rs` beside a copy of the folder `pronounce/`, needs:
//!
//! ```toml
//! [dependencies]
//! burn = { version = "0.22.1", default-features = false }
//! clap = { version = "4.6", features = ["derive"] }
//! firebox = "0.1"
//! firebox-cli = "0.1"
//! serde = { version = "1", features = ["derive"] }
//! serde_json = "1"
//! ```

#[path = "pronounce/report.rs"]
mod report;
#[path = "pronounce/say_word.rs"]
mod say_word;
#[path = "pronounce/tested.rs"]
mod tested;
#[path = "pronounce/vocabulary.rs"]
mod vocabulary;
#[path = "pronounce/words.rs"]
mod words;

use std::process::ExitCode;

use burn::tensor::Device;
use clap::{Args, Parser};
use firebox::data::BoxError;
use firebox::models::text::Seq2SeqConfig;
use firebox::prelude::*;
use firebox::train::tasks::{TeacherForcing, Translation};
use firebox_cli::{CommonArgs, LoggerArgs, RunArgs, Settings, ThreadArgs, parse};
use serde::{Deserialize, Serialize};
use vocabulary::Vocabulary;
use words::{Data, WordArgs};

/// Learn the pronunciation of English words.
#[derive(Parser)]
#[command(name = "pronounce")]
struct Cli {
    #[command(flatten)]
    recipe: Recipe,
    #[command(flatten)]
    run: RunArgs,
    #[command(flatten)]
    loggers: LoggerArgs,
    /// Say how a word is pronounced, by the run's best checkpoint, instead of training
    #[arg(long, value_name = "WORD", conflicts_with_all = ["resume", "overwrite", "config", "LoggerArgs"])]
    word: Option<String>,
}

/// The settings that decide the result; `config.json` holds them.
#[derive(Args, Clone, Serialize, Deserialize)]
#[command(mut_arg("epochs", |epochs| epochs.default_value("4")))]
#[command(mut_arg("clip_norm", |norm| norm.default_value("2")))]
struct Recipe {
    #[command(flatten)]
    #[serde(flatten)]
    words: WordArgs,
    /// The highest learning rate of the one-cycle schedule
    #[arg(long, default_value_t = 3e-3, value_parser = parse::above_zero)]
    lr: f64,
    /// Features of a letter's and of a phoneme's vector
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = parse::width)]
    embedding: usize,
    /// Features of the LSTMs' states, an even number
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = parse::width)]
    hidden: usize,
    /// Layers of both LSTMs
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = parse::depth)]
    layers: usize,
    /// The share of features dropped behind embeddings, between layers and before the last one
    #[arg(long, default_value_t = 0.1, value_parser = parse::share)]
    dropout: f64,
    /// The share of each target that is spread over all phonemes
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = parse::share)]
    label_smoothing: f64,
    /// How often, in the last step, the decoder is told the true phoneme before; it falls from 1 in a line
    #[arg(long, value_name = "SHARE", default_value_t = 1.0, value_parser = parse::up_to_one)]
    teacher_forcing: f64,
    /// Pronunciations that a search follows at the same time, in the test and for --word; 1 is greedy
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = parse::at_least_one)]
    beam: usize,
    #[command(flatten)]
    #[serde(flatten)]
    common: CommonArgs,
}

fn train(settings: &Settings<'_, Recipe>, loggers: &LoggerArgs) -> Result<ExitCode, BoxError> {
    let mut recipe = settings.read(&[&ThreadArgs::FIELDS[..], &["data_dir"]].concat())?;
    recipe.words.data_dir = firebox_cli::paths::absolute(&recipe.words.data_dir)?;
    let device = recipe.common.start()?;
    let vocabulary = Vocabulary::new(recipe.words.stress);
    let data = Data::read(&recipe, &vocabulary)?;
    let threads = &recipe.common.threads;
    let train = threads.loader(data.train)?.on_device(&device.clone().autodiff())?;
    let valid = threads.loader(data.valid)?.on_device(&device)?;
    let tests = threads.loader(data.test)?.on_device(&device)?;
    let greedy = tested::greedy(&data.references);
    let task = task(&recipe, &vocabulary, &device)?.with_decoding(greedy);

    // Everything that can be wrong with the input was found by now: only then a folder is made or cleared.
    let config = recipe.common.train.config();
    let (run, trainer) = settings.begin(&recipe, config, loggers, &device, report::TITLE)?;
    let steps = trainer.steps(&train)?;
    let forcing = TeacherForcing::Linear { first: 1.0, last: recipe.teacher_forcing, steps };
    let mut task = task.with_teacher_forcing(forcing)?;
    let mut trainer = trainer.schedule(OneCycle::new(recipe.lr, steps)?);
    let outcome = trainer.fit(&mut task, &train, &valid)?;
    if let Some(signal) = outcome.interrupted() {
        return Ok(firebox_cli::stopped(signal, &run, loggers, &firebox_cli::cargo_flags()));
    }
    firebox_cli::load_best(&run, &mut task)?;
    let tested = tested::test(&mut trainer, &tests, &task, &data.references, recipe.beam)?;
    report::write(&run, &recipe, &vocabulary, &outcome, &tested)?;
    Ok(ExitCode::SUCCESS)
}

/// A network with the optimizer that trains it.
fn task(recipe: &Recipe, vocabulary: &Vocabulary, device: &Device) -> Result<Translation, BoxError> {
    let [letters, phonemes] = vocabulary.tokens();
    let config = Seq2SeqConfig::new(letters, phonemes, recipe.embedding, recipe.hidden);
    let config = config.with_num_layers(recipe.layers).with_dropout(recipe.dropout);
    let model = init(recipe.common.seed(), &device.clone().autodiff(), |device| config.init(device))?;
    let learner = recipe.common.learner.learner(model, AdamConfig::new().init()?)?;
    Ok(Translation::new(learner).with_label_smoothing(recipe.label_smoothing)?)
}

fn main() -> ExitCode {
    firebox_cli::run_program(|cli: Cli, given| {
        let settings = Settings::new("pronounce", &cli.recipe, &cli.run, given)?;
        match &cli.word {
            Some(word) => say_word::say_word(&settings, word),
            None => train(&settings, &cli.loggers),
        }
    })
}
