//! Settings from flags, files and older runs.

use std::fs;
use std::path::Path;

use burn::tensor::Device;
use clap::{Args, CommandFactory, FromArgMatches, Parser};
use firebox_cli::{BoxError, LoggerArgs, RunArgs, Settings, ThreadArgs, parse};
use firebox_data::elements::Elements;
use firebox_data::{Loader, Scalar};
use firebox_report::LiveReport;
use firebox_train::metrics::Metrics;
use firebox_train::task::{Goal, TaskState};
use firebox_train::{Error, RunDir, StepContext, Task, Trainer, TrainerConfig};
use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    recipe: Recipe,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Args, Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Recipe {
    #[arg(long, default_value_t = 0.1, value_parser = parse::above_zero)]
    lr: f64,
    #[arg(long, default_value_t = 2)]
    epochs: u64,
    #[arg(long)]
    augment: bool,
    #[command(flatten)]
    #[serde(flatten)]
    threads: ThreadArgs,
}

/// Lets a program begin with some words.
fn begun<R>(
    words: &[&str],
    with: impl FnOnce(Settings<'_, Recipe>) -> Result<R, BoxError>,
) -> Result<R, String> {
    let given = Cli::command().try_get_matches_from(["mine"].iter().chain(words)).unwrap();
    let cli = Cli::from_arg_matches(&given).unwrap();
    let settings = Settings::new("mine", &cli.recipe, &cli.run, &given).unwrap();
    with(settings).map_err(|error| error.to_string())
}

fn read(words: &[&str]) -> Result<Recipe, String> {
    begun(words, |settings| settings.read(&ThreadArgs::FIELDS))
}

/// A task that takes no time.
struct Nothing;

impl Task for Nothing {
    type Batch = Elements<i64>;

    fn train_step(&mut self, batch: Elements<i64>, _: &StepContext) -> Result<Metrics, Error> {
        Ok(Metrics::of(batch.len()).with_mean("loss", 1.0))
    }

    fn evaluator(&self) -> impl FnMut(Elements<i64>) -> Result<Metrics, Error> {
        |batch| Ok(Metrics::of(batch.len()).with_mean("loss", 1.0))
    }

    fn monitor(&self) -> (&str, Goal) {
        ("loss", Goal::Minimize)
    }

    fn state(&self) -> Result<TaskState, Error> {
        Ok(TaskState::default())
    }

    fn load(&mut self, _: &TaskState) -> Result<(), Error> {
        Ok(())
    }
}

fn numbers() -> Loader<Scalar<i64>> {
    let builder = Loader::builder((0..8_i64).collect::<Vec<_>>()).batch_size(4).seed(11).workers(0);
    let loader = builder.build(Scalar::<i64>::new(), |number, _, slot| {
        *slot = number;
        Ok(())
    });
    loader.unwrap()
}

/// A whole program: the settings that its run has in the end.
fn trained(words: &[&str]) -> Result<Value, String> {
    begun(words, |settings| {
        let recipe = settings.read(&ThreadArgs::FIELDS)?;
        let run = settings.folder()?;
        let trainer = Trainer::new(&run, &Device::default()).epochs(recipe.epochs);
        let mut trainer = settings.record(&recipe, trainer)?;
        trainer.fit(&mut Nothing, &numbers(), &numbers())?;
        Ok(run.read_config()?)
    })
}

#[test]
fn flags_come_before_a_file_and_a_file_before_defaults() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mine.toml");
    let path = file.to_str().unwrap();
    fs::write(&file, "lr = 0.5\nepochs = 9\nworkers = 3\n").unwrap();
    let recipe = read(&["--config", path, "--epochs", "4"]).unwrap();
    assert_eq!((recipe.lr, recipe.epochs, recipe.threads.workers), (0.5, 4, Some(3)));
    // What no flag could say is refused, and what is unknown.
    for (text, expected) in [
        ("lr = -1.0", "invalid value '-1.0' for '--lr <LR>': expected a number above 0"),
        ("threads = 0", "invalid value '0' for '--threads <N>': expected at least 1"),
        (
            "rate = 1.0",
            "expected settings among augment, epochs, lr, threads, worker_kind, workers, got rate",
        ),
        ("worker_kind = \"fibers\"", "unknown variant `fibers`"),
    ] {
        fs::write(&file, text).unwrap();
        let error = read(&["--config", path]).unwrap_err();
        assert!(error.contains(expected) && error.contains("mine.toml"), "{text}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn a_run_that_goes_on_keeps_its_settings_but_for_those_that_are_free() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("run");
    let place = place.to_str().unwrap();
    let config = trained(&["--run-dir", place, "--lr", "0.25"]).unwrap();
    assert_eq!((&config["lr"], &config["epochs"]), (&0.25.into(), &2.into()));
    // Longer, and with other workers.
    let config = trained(&["--resume", "--run-dir", place, "--epochs", "3", "--workers", "1"]).unwrap();
    assert_eq!((&config["lr"], &config["epochs"], &config["workers"]), (&0.25.into(), &3.into(), &1.into()));
    let manifest = fs::read(Path::new(place).join("checkpoints/last/manifest.json")).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(manifest["config"], config, "checkpoints hold them, too");
    let error = trained(&["--resume", "--run-dir", place, "--lr", "0.5"]).unwrap_err();
    assert_eq!(
        error,
        "--lr: the run was begun with 0.25, got 0.5; what may change is --epochs, --threads, --worker-kind, --workers"
    );
    // The same again is no change.
    trained(&["--resume", "--run-dir", place, "--lr", "0.25"]).unwrap();
}

#[test]
fn a_run_is_followed_by_a_report_of_the_programs_own() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("run");
    let live = |run: &RunDir| {
        let name = run.path().file_name().unwrap().to_string_lossy().into_owned();
        LiveReport::new(run, "Mine")
            .with(move |report| Ok(report.texts("Note", [(&*name, "so far so good")])))
    };
    let run = begun(&["--run-dir", place.to_str().unwrap()], |settings| {
        let recipe = settings.read(&[])?;
        let config = TrainerConfig::new().with_max_epochs(recipe.epochs);
        let device = Device::default();
        let (run, mut trainer) =
            settings.begin_with(&recipe, config, &LoggerArgs::default(), &device, live)?;
        trainer.fit(&mut Nothing, &numbers(), &numbers())?;
        Ok(run)
    });
    let page = fs::read_to_string(run.unwrap().report()).unwrap();
    for part in ["<h1>Mine</h1>", "<h2>Note</h2><p>run</p>", "so far so good", "Complete after step 4"] {
        assert!(page.contains(part), "no {part}: {page}");
    }
}

#[test]
fn nothing_is_written_over_without_being_asked() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("run");
    let words = ["--run-dir", place.to_str().unwrap()];
    trained(&words).unwrap();
    let error = trained(&words).unwrap_err();
    assert!(error.ends_with("(--resume, --overwrite, or another --run-dir)"), "{error}");
    let config = trained(&[&words[..], &["--overwrite", "--lr", "0.75"]].concat()).unwrap();
    assert_eq!(config["lr"], 0.75);
    // A folder that holds something else.
    let other = folder.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("thesis.txt"), "years").unwrap();
    let error = trained(&["--run-dir", other.to_str().unwrap()]).unwrap_err();
    assert!(error.contains("it holds files, but no run") && !error.contains("--resume"), "{error}");
}

#[test]
fn a_question_to_an_older_run_refuses_flags_without_a_meaning() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("run");
    let place = place.to_str().unwrap();
    trained(&["--run-dir", place, "--lr", "0.25"]).unwrap();
    let asked = |words: &[&str]| {
        begun(&[&["--run-dir", place][..], words].concat(), |settings| {
            settings.only("--predict", &["threads"])?;
            settings.of_run(&["threads"])
        })
    };
    assert_eq!(asked(&["--threads", "1"]).unwrap().lr, 0.25);
    assert_eq!(asked(&["--augment"]).unwrap_err(), "--augment: has no effect with --predict");
    fs::write(Path::new(place).join("config.json"), r#"{"format_version": 3, "width": 8}"#).unwrap();
    let error = asked(&[]).unwrap_err();
    assert!(error.contains("config.json") && error.ends_with("is it a run of mine?"), "{error}");
    assert!(RunDir::open(place).is_ok());
}
