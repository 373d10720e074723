//! Trains a generative adversarial network on Fashion-MNIST, and measures what it makes:
//!
//!     cargo run --release --example gan
//!
//! First a classifier learns the images, for half a minute: it is the judge, which tells after each epoch how far generated
//! images are from real ones, and at the end what they show. Each run leaves a folder under `runs/`, with a picture of
//! samples for each epoch and a report. A run that was stopped goes on with `--resume`.

#[path = "gan/judge.rs"]
mod judge;
#[path = "gan/pictures.rs"]
mod pictures;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use burn::module::Module;
use burn::tensor::{Device, Distribution, Tensor};
use clap::{Args, Parser, ValueEnum};
use firebox::data::collate::Stacked;
use firebox::data::dataset::Subset;
use firebox::data::formats::fashion_mnist;
use firebox::data::formats::idx::{LabelledImage, LabelledImages, SealedImages};
use firebox::data::loader::{Indexed, LoaderBuilder};
use firebox::data::tensors::IntoTensors;
use firebox::data::{self, BoxError, Dataset};
use firebox::models::gan::{DcganConfig, DiscriminatorConfig, GeneratorConfig, Logits};
use firebox::prelude::*;
use firebox::report::{LiveReport, Report};
use firebox::train::event::Event;
use firebox::train::run::Interrupt;
use firebox::train::tasks::{Adversarial, AdversarialLoss};
use firebox::train::{Learner, RunDir, TrainerConfig};
use firebox_cli::parse::{above_zero, at_least_one, share, width};
use firebox_cli::paths::absolute;
use firebox_cli::{
    LoggerArgs, RunArgs, Settings, ThreadArgs, cargo_flags, describe, run_program, say, stopped,
    write_summary,
};
use judge::{ByFeatures, Score};
use pictures::{Grids, grid, interpolation, save};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Train a generative adversarial network on Fashion-MNIST.
#[derive(Parser)]
#[command(name = "gan")]
struct Cli {
    #[command(flatten)]
    recipe: Recipe,
    #[command(flatten)]
    run: RunArgs,
    #[command(flatten)]
    loggers: LoggerArgs,
    /// Judge the samples in a safetensors file by a run's judge instead of training: `samples`, as many as there are test
    /// images, [N, 1, 28, 28] from -1 to 1; prints JSON
    #[arg(long, value_name = "FILE", conflicts_with_all = ["resume", "overwrite", "config", "LoggerArgs"])]
    score: Option<PathBuf>,
}

/// The settings that decide the result; `config.json` holds them.
#[derive(Args, Clone, Serialize, Deserialize)]
struct Recipe {
    /// What computes: flex, ndarray, wgpu or cuda, as far as the build has it
    #[arg(long, default_value = "flex")]
    backend: String,
    /// The kind of network
    #[arg(long, value_enum, default_value = "mlp")]
    arch: Arch,
    /// What the networks want of each other: non-saturating, least-squares or hinge
    #[arg(long, default_value_t)]
    loss: AdversarialLoss,
    /// How far below 1 the discriminator's target for real images is
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    label_smoothing: f64,
    /// Steps of the discriminator for each one of the generator
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_one)]
    critic_steps: usize,
    /// Numbers that an image is made of
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = width)]
    latent: usize,
    /// Passes over the training data
    #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    epochs: u64,
    /// Images a step
    #[arg(long, default_value_t = 64, value_parser = at_least_one)]
    batch_size: usize,
    /// The learning rate of both networks
    #[arg(long, default_value_t = 2e-4, value_parser = above_zero)]
    lr: f64,
    /// The decay of the moving average of the generator, which makes the samples; 0 for none
    #[arg(long, value_name = "DECAY", default_value_t = 0.999, value_parser = share)]
    ema: f64,
    /// Batches a step
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_one)]
    accumulate: usize,
    #[command(flatten)]
    #[serde(flatten)]
    threads: ThreadArgs,
    /// What all random numbers follow from, but those of the judge and which images are for validation
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Use only so many training images
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    limit_train: Option<usize>,
    /// Use only so many images for validation, and as many for testing
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    limit_test: Option<usize>,
    /// The folder with the four files of Fashion-MNIST
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/datasets/fashion-mnist"))]
    data_dir: PathBuf,
    /// The judge: the folder of an earlier run of this example or of the example `training`, or a safetensors file of a
    /// `Cnn` [default: one is trained]
    #[arg(long, value_name = "PATH")]
    judge: Option<PathBuf>,
    /// Passes over the training data for the judge, if it has to be trained
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    judge_epochs: u64,
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

/// The networks to choose from.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Arch {
    /// `Generator` and `Discriminator`, of linear maps.
    Mlp,
    /// `DcganGenerator` and `DcganDiscriminator`, of convolutions; on the CPU its steps take about twenty times as long.
    Dcgan,
}

impl Recipe {
    fn trainer(&self) -> TrainerConfig {
        let mut config = TrainerConfig::new();
        (config.seed, config.max_epochs, config.max_steps) = (Some(self.seed), self.epochs, self.max_steps);
        (config.accumulate, config.save_steps) = (self.accumulate, self.save_steps);
        config.patience = self.patience;
        config
    }
}

/// Images to learn from, to choose the best checkpoint by, and to measure it with at the end.
struct Data {
    train: Images,
    valid: Images,
    test: Images,
    threads: ThreadArgs,
}

impl Data {
    fn open(recipe: &Recipe) -> Result<Self, BoxError> {
        let all = fashion_mnist::train(&recipe.data_dir)?.seal()?;
        let tests = fashion_mnist::test(&recipe.data_dir)?.seal()?;
        let part = |part, images: &SealedImages, limit: Option<usize>| Images {
            part,
            images: images.clone(),
            limit: limit.unwrap_or(usize::MAX),
            batch_size: recipe.batch_size,
            seed: recipe.seed,
            shuffle: false,
            threads: recipe.threads.in_recipe(),
        };
        let data = Data {
            train: part(Part::Train, &all, recipe.limit_train),
            valid: part(Part::Valid, &all, recipe.limit_test),
            test: part(Part::Test, &tests, recipe.limit_test),
            threads: recipe.threads,
        };
        let [train, valid, test] = [&data.train, &data.valid, &data.test].map(Images::subset);
        let [train, valid, test] = [train?.len(), valid?.len(), test?.len()];
        // A distance needs two of each.
        if train == 0 || valid < 2 || test < 2 {
            let counts = format!("{train} to train, {valid} to validate and {test} to test");
            return Err(format!("{}: expected images, got {counts}", recipe.data_dir.display()).into());
        }
        Ok(data)
    }

    /// A loader with this run's workers.
    fn loader<R: data::Recipe>(&self, recipe: R) -> Result<Loader<R::Layout>, BoxError> {
        self.threads.loader(recipe)
    }
}

/// The images that a loader has.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Part {
    Train,
    Valid,
    Test,
}

/// Which images a loader has, and in what order, as data, so that worker processes can make it, too.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Images {
    part: Part,
    images: SealedImages,
    limit: usize,
    batch_size: usize,
    seed: u64,
    shuffle: bool,
    threads: Option<usize>,
}

impl Images {
    /// A `Subset` knows what it is a part of: the trainer looks whether images that it trains on are among those of the
    /// validation.
    fn subset(&self) -> Result<Subset<Subset<LabelledImages>>, data::Error> {
        let images = self.images.open();
        let twelfth = images.len() / 12;
        let part = match self.part {
            Part::Train => random_split(images, twelfth, judge::SEED)?.0,
            Part::Valid => random_split(images, twelfth, judge::SEED)?.1,
            Part::Test => Subset::all(images),
        };
        Ok(Subset::first(part, self.limit))
    }

    fn builder(&self) -> Result<LoaderBuilder<Indexed<Subset<Subset<LabelledImages>>>>, data::Error> {
        let builder = Loader::builder(self.subset()?).batch_size(self.batch_size).seed(self.seed);
        let builder = builder.shuffle(self.shuffle);
        Ok(match self.threads {
            Some(threads) => builder.workers(threads),
            None => builder,
        })
    }
}

/// Images as a generator makes them.
#[derive(Debug, Serialize, Deserialize)]
struct Drawn<const K: usize> {
    images: Images,
    /// Those of an image.
    dims: Vec<usize>,
}

impl<const K: usize> data::Recipe for Drawn<K> {
    type Layout = Stack<f32, K>;

    fn loader(&self) -> Result<Loader<Stack<f32, K>>, data::Error> {
        let mut dims = [1; K];
        dims.copy_from_slice(&self.dims);
        self.images.builder()?.build(Stack::new(dims), draw)
    }
}

/// Writes an image into its slot, from -1 for black to 1 for white, as a generator's tanh has it.
fn draw(image: LabelledImage, _: &mut SampleRng, pixels: &mut [f32]) -> Result<(), BoxError> {
    for (to, &from) in pixels.iter_mut().zip(&*image.pixels) {
        *to = f32::from(from) / 127.5 - 1.0;
    }
    Ok(())
}

/// What its report is called.
const TITLE: &str = "Fashion-MNIST, generative adversarial network";

fn train(settings: &Settings<'_, Recipe>, loggers: &LoggerArgs) -> Result<ExitCode, BoxError> {
    let mut recipe = settings.read(&[&ThreadArgs::FIELDS[..], &["data_dir"]].concat())?;
    recipe.data_dir = absolute(&recipe.data_dir)?;
    recipe.judge = recipe.judge.as_deref().map(absolute).transpose()?;
    recipe.threads.start()?;
    let device = recipe.backend.parse::<Backend>()?.device()?;
    let data = Data::open(&recipe)?;
    let training = device.clone().autodiff();
    let Recipe { seed, latent, .. } = recipe;
    match recipe.arch {
        Arch::Mlp => {
            let generator = init(seed, &training, |device| GeneratorConfig::new(latent, 784).init(device))?;
            let config = DiscriminatorConfig::new(784);
            let discriminator = init(seed.wrapping_add(1), &training, |device| config.init(device))?;
            fit(settings, loggers, &recipe, &data, [784], task(&recipe, generator, discriminator)?)
        }
        Arch::Dcgan => {
            let config = DcganConfig::new().with_latent(latent);
            let generator = init(seed, &training, |device| config.init_generator(device))?;
            let discriminator =
                init(seed.wrapping_add(1), &training, |device| config.init_discriminator(device))?;
            fit(settings, loggers, &recipe, &data, [1, 28, 28], task(&recipe, generator, discriminator)?)
        }
    }
}

/// Two networks, each with the optimiser that trains it.
fn task<G, D, const R: usize>(
    recipe: &Recipe,
    generator: G,
    discriminator: D,
) -> Result<Adversarial<G, D, R>, BoxError>
where
    G: Module + Forward<Tensor<2>, Output = Tensor<R>>,
    D: Module + Logits<Tensor<R>>,
{
    let adam = || AdamConfig::new().with_betas([0.5, 0.999]).init();
    let mut generator = Learner::new(generator, adam()?);
    if recipe.ema > 0.0 {
        generator = generator.with_ema(recipe.ema)?;
    }
    Ok(Adversarial::new(generator, Learner::new(discriminator, adam()?), recipe.latent)
        .with_loss(recipe.loss)
        .with_label_smoothing(recipe.label_smoothing)?
        .with_critic_steps(recipe.critic_steps)?)
}

/// Trains, and measures what came of it. `K` is the rank of an image, `R` that of a batch of them.
fn fit<G, D, const K: usize, const R: usize>(
    settings: &Settings<'_, Recipe>,
    loggers: &LoggerArgs,
    recipe: &Recipe,
    data: &Data,
    dims: [usize; K],
    task: Adversarial<G, D, R>,
) -> Result<ExitCode, BoxError>
where
    G: Module + Forward<Tensor<2>, Output = Tensor<R>> + 'static,
    D: Module + Logits<Tensor<R>>,
    Stacked<f32, K>: IntoTensors<Tensors = Tensor<R>>,
{
    let device = recipe.backend.parse::<Backend>()?.device()?;
    let loader = |images| data.loader(Drawn::<K> { images, dims: dims.to_vec() });
    let images = loader(Images { shuffle: true, ..data.train.clone() })?;
    let images = images.on_device(&device.clone().autodiff())?;
    let valid = loader(data.valid.clone())?.on_device(&device)?;
    // Everything that can be wrong with the input is to be found before a folder is made, or overwritten.
    let given = match &recipe.judge {
        Some(path) if !judge::kept(settings)? => Some(judge::load(path, &device)?),
        _ => None,
    };
    let interrupt = Interrupt::on_signals()?;
    let display = loggers.display(&interrupt)?;
    let run = settings.folder()?;
    let trainer = Trainer::new(&run, &device).config(recipe.trainer()).schedule(recipe.lr);
    if !settings.resumes() {
        // At once: the run may be killed while its judge learns.
        run.write_config(recipe)?;
    }
    let trainer = settings.record(recipe, trainer.interrupt(interrupt.clone()))?;
    say(format!("run folder: {}", run.path().display()));

    let judge = match judge::ready(&run, settings.resumes(), given, recipe, data, &interrupt)? {
        Ok(ready) => ready,
        Err(signal) => return Ok(stopped(signal, &run, loggers, &cargo_flags())),
    };
    let mut task = task.with_judge(ByFeatures(judge.clone()));
    let grids = Grids::new(run.clone(), noise(80, recipe, &device));
    let like = task.averaged_generator();
    // A run that was killed while its judge learned has no checkpoint of its own yet.
    let begun = settings.resumes() && !run.checkpoints().is_empty();
    let folder = run.samples();
    let live = LiveReport::new(&run, TITLE).with(move |report| drawn(report, &folder));
    let trainer = loggers.follow(trainer.resume(begun), display, &run, live);
    let mut trainer = trainer.callback(move |event: &Event<'_>| {
        if let Event::Saving { state, task } = event
            && let Some(epoch) = state.trained_epochs()
        {
            let generator = Adversarial::<G, D, R>::generator_of(task, like.clone())?;
            grids.write(epoch, |noise| generator.forward(noise))?;
        }
        Ok(())
    });
    let outcome = trainer.fit(&mut task, &images, &valid)?;
    if let Some(signal) = outcome.interrupted() {
        return Ok(stopped(signal, &run, loggers, &cargo_flags()));
    }

    let test = judge::labelled(&data.test, data)?.on_device(&device)?;
    let mut judged = |which: &str, split: &str| -> Result<(Score, f64), BoxError> {
        let (_, state) = run.checkpoints().load(which)?;
        task.load(&state)?;
        let mut score = Score::new(judge.clone());
        let result = trainer.evaluate(&test, split, |(real, classes)| {
            let fake = task.samples(normal([real.dims()[0], recipe.latent], &device));
            score.add(real, classes, judge::images(fake))
        })?;
        Ok((score, result.seconds))
    };
    // The last weights, too, as one has them who doesn't choose by what the judge says of the validation.
    let (last, seconds_of_last) = judged("last", "test, last")?;
    let (score, seconds_of_best) = judged("best", "test")?;
    let floor = score.of_real(&judge::labelled(&data.valid, data)?.on_device(&device)?, &test)?;
    let mut results = score.summary();
    results.extend([
        ("frechet_distance_last".to_owned(), json!(last.distance())),
        ("frechet_distance_of_real".to_owned(), json!(floor)),
        ("best_step".to_owned(), json!(outcome.best.as_ref().map(|best| best.step))),
    ]);
    let evaluation = seconds_of_last + seconds_of_best;
    let seconds = write_summary(&run, recipe, &outcome, evaluation, results.into())?;

    let samples = grid(&judge::images(task.samples(noise(80, recipe, &device))), 10)?;
    let strip = interpolation(noise(9, recipe, &device), 10)?;
    let strip = grid(&judge::images(task.samples(strip)), 10)?;
    save(&samples, &run, "best.png")?;
    save(&strip, &run, "interpolation.png")?;
    report(&run, recipe, &score, floor, seconds)?;
    for (what, value) in score.facts() {
        say(format!("{what}: {value}"));
    }
    say(format!("Fréchet distance of real images: {floor:.2}; {seconds:.1} s"));
    say(format!("report: {}", run.report().display()));
    Ok(ExitCode::SUCCESS)
}

/// Numbers from the normal distribution.
fn normal(shape: [usize; 2], device: &Device) -> Tensor<2> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), device)
}

/// The noise of all pictures of a run.
fn noise(samples: usize, recipe: &Recipe, device: &Device) -> Tensor<2> {
    device.seed(recipe.seed);
    normal([samples, recipe.latent], device)
}

fn report(run: &RunDir, recipe: &Recipe, score: &Score, floor: f64, seconds: f64) -> Result<(), BoxError> {
    let facts = score.facts().into_iter().chain([
        ("Fréchet distance of real images", format!("{floor:.2}")),
        ("training, validation, test", format!("{seconds:.1} s")),
        ("recipe", describe(recipe)?),
    ]);
    let folder = run.samples();
    let picture = |name: &str, caption: &str| pictures::read(&folder.join(name), caption);
    let report = Report::of(TITLE, &run.metrics())?
        .facts(facts)
        .figures("Samples of the best checkpoint", &[picture("best.png", "80 samples")?])?
        .figures(
            "From one sample to another",
            &[picture(
                "interpolation.png",
                "nine noises, and the ways from each to the next one in ten places",
            )?],
        )?
        .curve("frechet_distance")?
        .curve("loss_discriminator")?
        .curve("loss_generator")?
        .curve("output_real")?
        .curve("output_fake")?
        .data_wait()?;
    drawn(report, &folder)?.write(&run.report())?;
    Ok(())
}

/// Adds to a report what the generator made after each epoch.
fn drawn(report: Report, folder: &Path) -> Result<Report, BoxError> {
    Ok(report.figures("Epoch by epoch, from the same noise", &pictures::epochs(folder)?)?)
}

/// Judges the samples in a file.
fn score(settings: &Settings<'_, Recipe>, file: &Path) -> Result<ExitCode, BoxError> {
    let run = settings.existing()?;
    let free = [&ThreadArgs::FIELDS[..], &["backend", "data_dir"]].concat();
    settings.only("--score", &free)?;
    let recipe = settings.of_run(&free)?;
    recipe.threads.start()?;
    let device = recipe.backend.parse::<Backend>()?.device()?;
    let data = Data::open(&recipe)?;
    let mut score = Score::new(judge::load(run.path(), &device)?);
    let test = judge::labelled(&data.test, &data)?.on_device(&device)?;
    let samples = judge::samples(file, data.test.subset()?.len(), &device)?;
    let mut place = 0;
    for batch in test.epoch(0) {
        let (real, classes) = batch?;
        let [count, ..] = real.dims();
        score.add(real, classes, samples.clone().narrow(0, place, count))?;
        place += count;
    }
    say(serde_json::Value::Object(score.summary()).to_string());
    Ok(ExitCode::SUCCESS)
}

fn main() -> ExitCode {
    run_program(|cli: Cli, given| {
        let settings = Settings::new("gan", &cli.recipe, &cli.run, given)?;
        match &cli.score {
            Some(file) => score(&settings, file),
            None => train(&settings, &cli.loggers),
        }
    })
}
