//! Learns how English words are pronounced, from CMUdict, by a network that reads letters and writes phonemes:
//!
//!     cargo run --release --example pronounce
//!     cargo run --release --example pronounce -- --word firebox
//!
//! A bidirectional LSTM reads the spelling, another one writes the pronunciation and looks at the letters by additive
//! attention. Words are split by a hash of their spelling: one of twenty is for validation, another for the test, so that
//! no spelling is on two sides.
//!
//! The defaults take some minutes. A long run of the same model, of an hour or less on two cores, has fewer wrong words,
//! 27 % instead of 34 %; stop it when you like, and go on with `--resume`:
//!
//!     cargo run --release --example pronounce -- --epochs 20 --dropout 0.3 --label-smoothing 0.1 --ema 0.999

#[path = "pronounce/vocabulary.rs"]
mod vocabulary;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use burn::tensor::Device;
use clap::{Args, Parser};
use firebox::data::collate::Padded;
use firebox::data::dataset::Described;
use firebox::data::formats::cmudict::{self, Split, Word};
use firebox::data::sampler::{Bucketed, Sampler, Sequential, Shuffled};
use firebox::data::tensors::IntoTensors;
use firebox::data::{self, BoxError, Dataset, Pad};
use firebox::models::decoding::Beam;
use firebox::models::text::Seq2SeqConfig;
use firebox::prelude::*;
use firebox::report::{LiveReport, Report};
use firebox::train::TrainerConfig;
use firebox::train::metrics::spearman;
use firebox::train::run::Interrupt;
use firebox::train::tasks::{Decode, TeacherForcing, Translated, Translation};
use firebox::workers::sync::SealedArray;
use firebox_cli::parse::{above_zero, at_least_one, depth, share, width};
use firebox_cli::paths::absolute;
use firebox_cli::{
    LoggerArgs, RunArgs, Settings, ThreadArgs, cargo_flags, describe, load_best, run_program, say, stopped,
    write_summary,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use vocabulary::{PADDING, Sample, Vocabulary};

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
struct Recipe {
    /// What computes: flex, ndarray, wgpu or cuda, as far as the build has it
    #[arg(long, default_value = "flex")]
    backend: String,
    /// Passes over the training data
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    epochs: u64,
    /// Words a step
    #[arg(long, default_value_t = 128, value_parser = at_least_one)]
    batch_size: usize,
    #[command(flatten)]
    #[serde(flatten)]
    threads: ThreadArgs,
    /// What all random numbers follow from
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// The highest learning rate of the one-cycle schedule
    #[arg(long, default_value_t = 3e-3, value_parser = above_zero)]
    lr: f64,
    /// Features of a letter's and of a phoneme's vector
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = width)]
    embedding: usize,
    /// Features of the LSTMs' states, an even number
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = width)]
    hidden: usize,
    /// Layers of both LSTMs
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = depth)]
    layers: usize,
    /// The share of features dropped behind embeddings, between layers and before the last one
    #[arg(long, default_value_t = 0.1, value_parser = share)]
    dropout: f64,
    /// The share of each target that is spread over all phonemes
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    label_smoothing: f64,
    /// How often, in the last step, the decoder is told the true phoneme before; it falls from 1 in a line
    #[arg(long, value_name = "SHARE", default_value_t = 1.0, value_parser = up_to_one)]
    teacher_forcing: f64,
    /// Pronunciations that a search follows at the same time, in the test and for --word; 1 is greedy
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = at_least_one)]
    beam: usize,
    /// Tell stressed vowels from unstressed ones
    #[arg(long)]
    stress: bool,
    /// Use only so many words for training
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    limit_train: Option<usize>,
    /// Use only so many words for validation, and as many for testing
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    limit_test: Option<usize>,
    /// The folder with cmudict.dict, or that packed with gzip
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/datasets/cmudict"))]
    data_dir: PathBuf,
    /// Evaluate a moving average of the weights, with this decay
    #[arg(long, value_name = "DECAY", value_parser = share)]
    ema: Option<f64>,
    /// Batches a step
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_one)]
    accumulate: usize,
    /// The largest norm of a step's gradients; larger ones are scaled down to it
    #[arg(long, value_name = "NORM", default_value_t = 2.0, value_parser = above_zero)]
    clip_norm: f64,
    /// Stop after so many steps
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    max_steps: Option<usize>,
    /// Save a checkpoint after every so many steps, too
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    save_steps: Option<usize>,
    /// Stop after so many epochs that didn't get better
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    patience: Option<usize>,
}

impl Recipe {
    fn trainer(&self) -> TrainerConfig {
        let mut config = TrainerConfig::new();
        (config.seed, config.max_epochs, config.max_steps) = (Some(self.seed), self.epochs, self.max_steps);
        (config.accumulate, config.save_steps) = (self.accumulate, self.save_steps);
        config.patience = self.patience;
        config
    }

    fn beam(&self) -> Beam {
        Beam::new(LONGEST).with_width(self.beam)
    }
}

/// Phonemes that a pronunciation may have, its end included: more than the dictionary's longest.
const LONGEST: usize = 40;

/// What its report is called.
const TITLE: &str = "CMUdict, from spelling to phonemes";

fn train(settings: &Settings<'_, Recipe>, loggers: &LoggerArgs) -> Result<ExitCode, BoxError> {
    let mut recipe = settings.read(&[&ThreadArgs::FIELDS[..], &["data_dir"]].concat())?;
    recipe.data_dir = absolute(&recipe.data_dir)?;
    recipe.threads.start()?;
    let device = recipe.backend.parse::<Backend>()?.device()?;

    let vocabulary = Vocabulary::new(recipe.stress);
    let mut words = Split::by_spelling(cmudict::read(&recipe.data_dir)?);
    words.train.truncate(recipe.limit_train.unwrap_or(usize::MAX));
    words.valid.truncate(recipe.limit_test.unwrap_or(usize::MAX));
    words.test.truncate(recipe.limit_test.unwrap_or(usize::MAX));
    if words.train.is_empty() || words.valid.is_empty() || words.test.is_empty() {
        let counts = [&words.train, &words.valid, &words.test].map(Vec::len);
        let [train, valid, test] = counts;
        let counts = format!("{train} to train, {valid} to validate and {test} to test");
        return Err(format!("{}: expected words, got {counts}", recipe.data_dir.display()).into());
    }
    let references = vocabulary.references(words.valid.iter().chain(&words.test));
    // Every pronunciation is learned from; where none is, the first one stands for the loss.
    let train = vocabulary.samples(&words.train, usize::MAX);
    let train = loader(&train, true, recipe.batch_size, &recipe)?;
    let train = train.on_device(&device.clone().autodiff())?;
    let held_out = |words: &[Word]| -> Result<_, BoxError> {
        let samples = vocabulary.samples(words, 1);
        Ok(loader(&samples, false, 256, &recipe)?.on_device(&device)?)
    };
    let (valid, tests) = (held_out(&words.valid)?, held_out(&words.test)?);

    let judged = |decode: Decode| {
        let references = Arc::clone(&references);
        decode
            .with_names("per", "wer")
            .with_references(move |letters| references.get(letters).cloned().unwrap_or_default())
    };
    let greedy = judged(Decode::greedy(LONGEST));
    let mut task = task(&recipe, &vocabulary, &device)?.with_decoding(greedy.clone());
    // Everything that can be wrong with the input was found by now: only then is a folder made, or overwritten.
    let interrupt = Interrupt::on_signals()?;
    let display = loggers.display(&interrupt)?;
    let run = settings.folder()?;
    let trainer = Trainer::new(&run, &device).config(recipe.trainer());
    let steps = trainer.steps(&train)?;
    let forcing = TeacherForcing::Linear { first: 1.0, last: recipe.teacher_forcing, steps };
    task = task.with_teacher_forcing(forcing)?;
    let trainer = trainer.schedule(OneCycle::new(recipe.lr, steps)?).interrupt(interrupt);
    let trainer = settings.record(&recipe, trainer)?;
    let mut trainer = loggers.follow(trainer, display, &run, LiveReport::new(&run, TITLE));
    say(format!("run folder: {}", run.path().display()));
    let outcome = trainer.fit(&mut task, &train, &valid)?;
    if let Some(signal) = outcome.interrupted() {
        return Ok(stopped(signal, &run, loggers, &cargo_flags()));
    }

    load_best(&run, &mut task)?;
    // A beam of 1 is greedy: once is enough.
    let plain = match recipe.beam {
        1 => None,
        _ => Some(trainer.evaluate(&tests, "test, greedy", task.translator(&greedy, &mut Vec::new()))?),
    };
    let beam = judged(Decode::new(recipe.beam()));
    let mut translated = Vec::new();
    let result = trainer.evaluate(&tests, "test", task.translator(&beam, &mut translated))?;
    let evaluation = result.seconds + plain.as_ref().map_or(0.0, |plain| plain.seconds);
    let plain = plain.as_ref().unwrap_or(&result);
    let value = |name: &str| result.metrics.value(name);
    let percent = |rate: Option<f64>| format!("{:.2} %", 100.0 * rate.unwrap_or(f64::NAN));
    let monotony = monotony(&translated);
    let results = json!({
        "test_per": value("per"),
        "test_wer": value("wer"),
        "test_loss": value("loss"),
        "test_per_greedy": plain.metrics.value("per"),
        "test_wer_greedy": plain.metrics.value("wer"),
        "attention_spearman": monotony,
    });
    let seconds = write_summary(&run, &recipe, &outcome, evaluation, results)?;
    let maps = |right| vocabulary.maps(&translated, right);
    Report::of(TITLE, &run.metrics())?
        .facts([
            ("wrong phonemes (PER)", percent(value("per"))),
            ("wrong words (WER)", percent(value("wer"))),
            (
                "PER, WER, greedy",
                format!("{}, {}", percent(plain.metrics.value("per")), percent(plain.metrics.value("wer"))),
            ),
            ("test words", result.metrics.samples().to_string()),
            ("attention moves on (Spearman's ρ)", format!("{:.3}", monotony.unwrap_or(f64::NAN))),
            ("training, validation, test", format!("{seconds:.1} s")),
            ("pronunciations a second", format!("{:.0}", outcome.samples_per_s)),
            ("recipe", describe(&recipe)?),
        ])
        .curve("loss")?
        .curve("per")?
        .curve("wer")?
        .maps("Where the attention was: right words", &maps(true))
        .maps("Where the attention was: wrong words", &maps(false))
        .data_wait()?
        .write(&run.report())?;
    say(format!("test: PER {}, WER {}, {seconds:.1} s", percent(value("per")), percent(value("wer"))));
    say(format!("report: {}", run.report().display()));
    Ok(ExitCode::SUCCESS)
}

/// A network with the optimiser that trains it.
fn task(recipe: &Recipe, vocabulary: &Vocabulary, device: &Device) -> Result<Translation, BoxError> {
    let training = device.clone().autodiff();
    let config = Seq2SeqConfig::new(
        vocabulary.letter_tokens(),
        vocabulary.phoneme_tokens(),
        recipe.embedding,
        recipe.hidden,
    );
    let config = config.with_num_layers(recipe.layers).with_dropout(recipe.dropout);
    let model = init(recipe.seed, &training, |device| config.init(device))?;
    let mut learner = Learner::new(model, AdamConfig::new().init()?).with_clip_norm(recipe.clip_norm)?;
    if let Some(decay) = recipe.ema {
        learner = learner.with_ema(decay)?;
    }
    Ok(Translation::new(learner).with_label_smoothing(recipe.label_smoothing)?)
}

/// How steadily the attention moves on: the rank correlation of a phoneme's place with the mean place of the letters
/// that were looked at for it, averaged over the words for which there is one.
fn monotony(translated: &[Translated]) -> Option<f64> {
    let of = |word: &Translated| {
        let phonemes = &word.found.attention[..word.found.tokens.len()];
        let centroid = |weights: &Vec<f32>| -> f64 {
            weights.iter().enumerate().map(|(place, &weight)| place as f64 * f64::from(weight)).sum()
        };
        let places: Vec<f64> = (0..phonemes.len()).map(|place| place as f64).collect();
        spearman(&places, &phonemes.iter().map(centroid).collect::<Vec<_>>())
    };
    let all: Vec<f64> = translated.iter().filter_map(of).collect();
    (!all.is_empty()).then(|| all.iter().sum::<f64>() / all.len() as f64)
}

type Layout = (Pad<i64>, Pad<i64>);

/// Batches of words of similar length.
fn loader(
    samples: &[Sample],
    shuffle: bool,
    batch_size: usize,
    recipe: &Recipe,
) -> Result<Loader<Layout>, BoxError> {
    let tokens = SealedArray::from_slice(&Sample::write(samples))?;
    let threads = recipe.threads.in_recipe();
    recipe.threads.loader(Words { tokens, shuffle, batch_size, seed: recipe.seed, threads })
}

/// A loader of words as data, so that worker processes can make it, too.
#[derive(Debug, Serialize, Deserialize)]
struct Words {
    tokens: SealedArray<i64>,
    shuffle: bool,
    batch_size: usize,
    seed: u64,
    threads: Option<usize>,
}

impl data::Recipe for Words {
    type Layout = Layout;

    fn loader(&self) -> Result<Loader<Layout>, data::Error> {
        let samples = Sample::read(&self.tokens);
        let order: Box<dyn Sampler> = match self.shuffle {
            true => Box::new(Shuffled::new(samples.len(), self.seed)),
            false => Box::new(Sequential::new(samples.len())),
        };
        // Of words with as many letters those with as many phonemes are together.
        let length = |sample: &Sample| (sample.letters.len() << 8 | sample.phonemes.len()) as u32;
        let lengths: Vec<u32> = samples.iter().map(length).collect();
        let batches = Bucketed::by_length(order, lengths, self.batch_size, self.seed)?;
        // Other words are other data, also where there are as many.
        let numbers = samples.iter().flat_map(|sample| sample.letters.iter().chain(&sample.phonemes));
        let words = samples.fingerprint().with_words(numbers.map(|&number| number as u64));
        let builder = Loader::builder(Described::new(samples, words)).batch_sampler(batches).seed(self.seed);
        let builder = match self.threads {
            Some(threads) => builder.workers(threads),
            None => builder,
        };
        builder.build((Pad::with(PADDING), Pad::with(PADDING)), |sample, _, (letters, phonemes)| {
            letters.extend(&sample.letters);
            phonemes.extend(&sample.phonemes);
            Ok(())
        })
    }
}

/// Prints how a word is pronounced.
fn say_word(settings: &Settings<'_, Recipe>, word: &str) -> Result<ExitCode, BoxError> {
    let word = word.to_lowercase();
    cmudict::check(&word)?;
    let run = settings.existing()?;
    let free = ["backend", "beam"];
    settings.only("--word", &free)?;
    let recipe = settings.of_run(&free)?;
    let device = recipe.backend.parse::<Backend>()?.device()?;
    let vocabulary = Vocabulary::new(recipe.stress);
    let mut task = task(&recipe, &vocabulary, &device)?;
    load_best(&run, &mut task)?;
    let letters = vocabulary.letters(&word);
    let longest = letters.len();
    let source = Padded { values: letters.into(), lengths: vec![longest], longest }.into_tensors(&device);
    for found in task.translate(source, &recipe.beam())?.into_iter().flatten().take(3) {
        let spoken = vocabulary.spoken(&found.tokens).join(" ");
        say(format!("{spoken:<40} {:5.1} %", 100.0 * found.log_probability.exp()));
    }
    Ok(ExitCode::SUCCESS)
}

fn up_to_one(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| (0.0..=1.0).contains(number));
    number.ok_or_else(|| "expected a number from 0 to 1".to_owned())
}

fn main() -> ExitCode {
    run_program(|cli: Cli, given| {
        let settings = Settings::new("pronounce", &cli.recipe, &cli.run, given)?;
        match &cli.word {
            Some(word) => say_word(&settings, word),
            None => train(&settings, &cli.loggers),
        }
    })
}
