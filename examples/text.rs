//! Trains a language model on the characters of a novel, from the file to a tested model that writes:
//!
//!     cargo run --release --example text
//!
//! Each run leaves a folder under `runs/` with its settings, records, checkpoints, texts, result and a report. A run that
//! was stopped goes on with `--resume`; `--sample 500` has the newest run write 500 characters.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use burn::module::Module;
use burn::tensor::Device;
use clap::{Args, Parser, ValueEnum};
use firebox::data::dataset::{Described, Windows};
use firebox::data::formats::text::{Vocabulary, read_text};
use firebox::data::{self, BoxError, Dataset, Pad};
use firebox::models::decoding::Sampling;
use firebox::models::layers::Cell;
use firebox::models::text::{LanguageModel, LanguageModelConfig};
use firebox::prelude::*;
use firebox::report::{LiveReport, Report};
use firebox::train::TrainerConfig;
use firebox::train::checkpoint::RunState;
use firebox::train::event::Event;
use firebox::train::run::Interrupt;
use firebox::train::task::TaskState;
use firebox::train::tasks::LanguageModeling;
use firebox::workers::sync::SealedArray;
use firebox_cli::parse::{above_zero, at_least_one, depth, share, width};
use firebox_cli::paths::{absolute, files_in};
use firebox_cli::{
    LoggerArgs, RunArgs, Settings, ThreadArgs, cargo_flags, describe, load_best, run_program, say, stopped,
    write_summary,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Train a language model on the characters of a text.
#[derive(Parser)]
#[command(name = "text")]
struct Cli {
    #[command(flatten)]
    recipe: Recipe,
    #[command(flatten)]
    run: RunArgs,
    #[command(flatten)]
    loggers: LoggerArgs,
    /// Write so many characters, by the run's best checkpoint, instead of training
    #[arg(long, value_name = "N", value_parser = at_least_one, conflicts_with_all = ["resume", "overwrite", "config", "LoggerArgs"])]
    sample: Option<usize>,
    /// What the characters written go on from [default: a line break]
    #[arg(long, value_name = "TEXT", requires = "sample")]
    prompt: Option<String>,
    /// What logits are divided by: below 1 likely characters become likelier, 0 takes the likeliest [default: 0.8]
    #[arg(long, requires = "sample", value_parser = at_least_zero)]
    temperature: Option<f64>,
    /// Draw from the likeliest characters that together have this probability [default: 1]
    #[arg(long, value_name = "P", requires = "sample", value_parser = probability)]
    top_p: Option<f64>,
}

/// The settings that decide the result; `config.json` holds them.
#[derive(Args, Clone, Serialize, Deserialize)]
struct Recipe {
    /// What computes: flex, ndarray, wgpu or cuda, as far as the build has it
    #[arg(long, default_value = "flex")]
    backend: String,
    /// The text: UTF-8, plain or gzip
    #[arg(
        long,
        value_name = "FILE",
        default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/datasets/pride-and-prejudice/pride-and-prejudice.txt.gz")
    )]
    data: PathBuf,
    /// The recurrent cell
    #[arg(long, value_enum, default_value_t = CellName::Lstm)]
    cell: CellName,
    /// Features of the recurrent layers' state
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = width)]
    hidden: usize,
    /// Recurrent layers on top of each other
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = depth)]
    layers: usize,
    /// Features of a character's vector
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = width)]
    embedding: usize,
    /// Passes over the training text
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    epochs: u64,
    /// Stretches of text that are read side by side
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = at_least_one)]
    batch_size: usize,
    /// Characters of each stretch in a step: how far back gradients reach
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = at_least_one)]
    window: usize,
    #[command(flatten)]
    #[serde(flatten)]
    threads: ThreadArgs,
    /// What all random numbers follow from
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// The highest learning rate of the one-cycle schedule
    #[arg(long, default_value_t = 6e-3, value_parser = above_zero)]
    lr: f64,
    /// The share of the steps in which the learning rate rises
    #[arg(long, value_name = "SHARE", default_value_t = 0.1, value_parser = share)]
    warmup: f64,
    /// The share of features dropped behind the embedding, between layers and before the last map
    #[arg(long, default_value_t = 0.1, value_parser = share)]
    dropout: f64,
    /// What AdamW takes away of each parameter in a step, as a multiple of the learning rate
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = at_least_zero)]
    weight_decay: f64,
    /// The largest norm of a step's gradients; larger ones are scaled down to it
    #[arg(long, value_name = "NORM", default_value_t = 1.0, value_parser = above_zero)]
    clip_norm: f64,
    /// Evaluate, and write by, a moving average of the weights, with this decay
    #[arg(long, value_name = "DECAY", value_parser = share)]
    ema: Option<f64>,
    /// Use only so many characters of the training text
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    limit_train: Option<usize>,
    /// Use only so many characters for validation, and as many for testing
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    limit_test: Option<usize>,
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

#[derive(Clone, Copy, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum CellName {
    Lstm,
    Gru,
    Rnn,
}

impl Recipe {
    fn trainer(&self) -> TrainerConfig {
        let mut config = TrainerConfig::new();
        (config.seed, config.max_epochs, config.max_steps) = (Some(self.seed), self.epochs, self.max_steps);
        (config.save_steps, config.patience) = (self.save_steps, self.patience);
        config
    }
}

/// What its report is called.
const TITLE: &str = "A language model of characters";

fn train(settings: &Settings<'_, Recipe>, loggers: &LoggerArgs) -> Result<ExitCode, BoxError> {
    let mut recipe = settings.read(&[&ThreadArgs::FIELDS[..], &["data"]].concat())?;
    recipe.data = absolute(&recipe.data)?;
    recipe.threads.start()?;
    let device = recipe.backend.parse::<Backend>()?.device()?;

    // The last tenth of the text is for testing, seen once, at the end; the twentieth before it decides which checkpoint is
    // the best. The vocabulary is that of the whole text: which characters there are is no secret, what follows them is.
    let text = read_text(&recipe.data)?;
    let vocabulary = Vocabulary::of(&text);
    let text = vocabulary.encode(&text)?;
    let (text, test) = text.split_at(text.len() - text.len() / 10);
    let (train, valid) = text.split_at(text.len() - text.len() / 18);
    let prompt = &valid[..valid.len().min(32)];
    let train = limited(train, recipe.limit_train);
    let (valid, test) = (limited(valid, recipe.limit_test), limited(test, recipe.limit_test));
    let loader = |part: &str, tokens: Vec<i64>, [rows, window]: [usize; 2], device: &Device| {
        Windows::new(&tokens[..], rows, window)
            .map_err(|error| format!("{}, the {part} part: {error}", recipe.data.display()))?;
        let windows = InWindows {
            tokens: SealedArray::from_slice(&tokens)?,
            rows,
            window,
            seed: recipe.seed,
            threads: recipe.threads.in_recipe(),
        };
        Ok::<_, BoxError>(recipe.threads.loader(windows)?.on_device(device)?)
    };
    let train = loader("training", train, [recipe.batch_size, recipe.window], &device.clone().autodiff())?;
    let valid = loader("validation", valid, JUDGED, &device)?;
    let tests = loader("test", test, JUDGED, &device)?;

    let mut task = task(&recipe, &vocabulary, &device)?;
    let parameters = task.model().num_params();
    // Everything that can be wrong with the input was found by now: only then is a folder made, or overwritten.
    let interrupt = Interrupt::on_signals()?;
    let display = loggers.display(&interrupt)?;
    let run = settings.folder()?;
    let writer = Writer::new(&run, &recipe, task.averaged(), vocabulary, prompt);
    let trainer = Trainer::new(&run, &device).config(recipe.trainer());
    let schedule = OneCycle::new(recipe.lr, trainer.steps(&train)?)?.with_pct_start(recipe.warmup)?;
    let trainer = trainer.schedule(schedule).interrupt(interrupt);
    let trainer = trainer.callback(move |event: &Event<'_>| match event {
        Event::Saving { state, task } => writer.write(state, task),
        _ => Ok(()),
    });
    let trainer = settings.record(&recipe, trainer)?;
    let folder = run.samples();
    let live = LiveReport::new(&run, TITLE).with(move |report| with_texts(report, &folder));
    let mut trainer = loggers.follow(trainer, display, &run, live);
    say(format!("run folder: {}", run.path().display()));
    let outcome = trainer.fit(&mut task, &train, &valid)?;
    if let Some(signal) = outcome.interrupted() {
        return Ok(stopped(signal, &run, loggers, &cargo_flags()));
    }

    load_best(&run, &mut task)?;
    let result = trainer.evaluate(&tests, "test", task.evaluator())?;
    let value = |metric| result.metrics.value(metric);
    let (bits, loss, perplexity) = (value("bits_per_character"), value("loss"), value("perplexity"));
    let results = json!({
        "test_bits_per_character": bits,
        "test_loss": loss,
        "test_perplexity": perplexity,
        "parameters": parameters,
    });
    let seconds = write_summary(&run, &recipe, &outcome, result.seconds, results)?;
    let report = Report::of(TITLE, &run.metrics())?
        .facts([
            ("bits per character of the test text", format!("{:.3}", bits.unwrap_or(f64::NAN))),
            ("its perplexity", format!("{:.3}", perplexity.unwrap_or(f64::NAN))),
            ("training, validation, test", format!("{seconds:.1} s")),
            ("training characters a second", format!("{:.0}", outcome.samples_per_s)),
            ("parameters", parameters.to_string()),
            ("recipe", describe(&recipe)?),
        ])
        .curve("bits_per_character")?
        .data_wait()?;
    with_texts(report, &run.samples())?.write(&run.report())?;
    say(format!("test: {:.3} bits per character, {seconds:.1} s", bits.unwrap_or(f64::NAN)));
    say(format!("report: {}", run.report().display()));
    Ok(ExitCode::SUCCESS)
}

/// Evaluations read fewer and longer stretches: at the beginning of each the model knows nothing of what came before.
const JUDGED: [usize; 2] = [16, 256];

/// The first characters of a part of the text.
fn limited(text: &[usize], limit: Option<usize>) -> Vec<i64> {
    text.iter().take(limit.unwrap_or(usize::MAX)).map(|&token| token as i64).collect()
}

/// The loader of a part of the text as data, so that worker processes can make it, too.
#[derive(Debug, Serialize, Deserialize)]
struct InWindows {
    tokens: SealedArray<i64>,
    rows: usize,
    window: usize,
    seed: u64,
    threads: Option<usize>,
}

impl data::Recipe for InWindows {
    type Layout = Pad<i64>;

    fn loader(&self) -> Result<Loader<Pad<i64>>, data::Error> {
        let windows = Windows::new(&self.tokens[..], self.rows, self.window)?;
        let batches = windows.batches().clone();
        // Another text of the same length is another text.
        let text = windows.fingerprint().with_words(windows.tokens().iter().map(|&token| token as u64));
        let builder = Loader::builder(Described::new(windows, text)).batch_sampler(batches).seed(self.seed);
        let builder = match self.threads {
            Some(threads) => builder.workers(threads),
            None => builder,
        };
        // All windows of a batch are of one length: nothing is padded.
        builder.build(Pad::with(0), |window: Vec<i64>, _, slot| {
            slot.extend(window);
            Ok(())
        })
    }
}

/// A model with the optimiser that trains it.
fn task(recipe: &Recipe, vocabulary: &Vocabulary, device: &Device) -> Result<LanguageModeling, BoxError> {
    let config = LanguageModelConfig::new(vocabulary.len(), recipe.embedding, recipe.hidden)
        .with_cell(match recipe.cell {
            CellName::Lstm => Cell::Lstm,
            CellName::Gru => Cell::Gru,
            CellName::Rnn => Cell::Tanh,
        })
        .with_num_layers(recipe.layers)
        .with_dropout(recipe.dropout);
    let model = init(recipe.seed, &device.clone().autodiff(), |device| config.init(device))?;
    let optimizer = AdamWConfig::new().with_weight_decay(recipe.weight_decay).init()?;
    let mut learner = Learner::new(model, optimizer).with_clip_norm(recipe.clip_norm)?;
    if let Some(decay) = recipe.ema {
        learner = learner.with_ema(decay)?;
    }
    Ok(LanguageModeling::new(learner).with_vocabulary(vocabulary.clone()))
}

/// Has the model go on with a piece of text at the end of each epoch, in a file of its own.
struct Writer {
    run: RunDir,
    /// Any model of the run, for the weights of a checkpoint.
    model: LanguageModel,
    /// The part of a checkpoint that evaluations judge.
    part: &'static str,
    vocabulary: Vocabulary,
    prompt: Vec<usize>,
}

impl Writer {
    fn new(
        run: &RunDir,
        recipe: &Recipe,
        model: LanguageModel,
        vocabulary: Vocabulary,
        prompt: &[usize],
    ) -> Self {
        let part = if recipe.ema.is_some() { "model.ema" } else { "model" };
        Writer { run: run.clone(), model, part, vocabulary, prompt: prompt.to_vec() }
    }

    fn write(&self, state: &RunState, task: &TaskState) -> Result<(), BoxError> {
        let Some(epoch @ 1..) = state.trained_epochs() else { return Ok(()) };
        let model = task.get(self.part)?.apply(self.model.clone())?;
        let sampling = Sampling::new().with_temperature(TEMPERATURE);
        let tokens = model.generate(&self.prompt, 300, &sampling)?;
        let text = self.vocabulary.decode(&[&self.prompt[..], &tokens].concat());
        Ok(self.run.write_sample(&format!("epoch-{epoch:04}.txt"), text.as_bytes())?)
    }
}

/// Low enough for words, high enough for variety.
const TEMPERATURE: f64 = 0.8;

/// Adds the texts of a run's epochs to a report.
fn with_texts(report: Report, folder: &Path) -> Result<Report, BoxError> {
    let texts = written(folder)?;
    Ok(report.texts("What it wrote", texts.iter().map(|(name, text)| (name.as_str(), text.as_str()))))
}

/// The texts in a folder, with their names.
fn written(folder: &Path) -> Result<Vec<(String, String)>, BoxError> {
    let mut paths = files_in(folder)?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    let text = |path: PathBuf| {
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let epoch = name.trim_start_matches("epoch-").trim_start_matches('0');
        Ok((format!("after epoch {epoch}"), text))
    };
    paths.into_iter().map(text).collect()
}

/// Prints what a run's model writes.
fn sample(settings: &Settings<'_, Recipe>, cli: &Cli, length: usize) -> Result<ExitCode, BoxError> {
    let run = settings.existing()?;
    settings.only("--sample", &["backend", "threads", "seed"])?;
    let recipe = settings.of_run(&["backend", "threads", "seed"])?;
    recipe.threads.start()?;
    let device = recipe.backend.parse::<Backend>()?.device()?;
    let best = run.checkpoints().path().join("best");
    let foreign = |error: firebox::train::Error| format!("{}: {error}", best.display());
    let (_, state) = run.checkpoints().best()?;
    let vocabulary = LanguageModeling::vocabulary_of(&state).map_err(foreign)?;
    let mut task = task(&recipe, &vocabulary, &device)?;
    task.load(&state).map_err(foreign)?;

    let prompt = cli.prompt.clone().unwrap_or_else(|| vocabulary.decode(&[0]));
    let tokens = vocabulary.encode(&prompt).map_err(|error| format!("--prompt: {error}"))?;
    let sampling = Sampling::new()
        .with_temperature(cli.temperature.unwrap_or(TEMPERATURE))
        .with_top_p(cli.top_p.unwrap_or(1.0))
        .with_seed(recipe.seed);
    let written = task.averaged().generate(&tokens, length, &sampling)?;
    say(format!("{}{}", prompt.trim_start_matches('\n'), vocabulary.decode(&written)));
    Ok(ExitCode::SUCCESS)
}

fn at_least_zero(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| number.is_finite() && *number >= 0.0);
    number.ok_or_else(|| "expected a number of at least 0".to_owned())
}

fn probability(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| *number > 0.0 && *number <= 1.0);
    number.ok_or_else(|| "expected a number above 0, up to 1".to_owned())
}

fn main() -> ExitCode {
    run_program(|cli: Cli, given| {
        let settings = Settings::new("text", &cli.recipe, &cli.run, given)?;
        match cli.sample {
            Some(length) => sample(&settings, &cli, length),
            None => train(&settings, &cli.loggers),
        }
    })
}
