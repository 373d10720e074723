//! The beginning and the end of a run.

use burn::tensor::Device;
use clap::Args;
use firebox_report::{LiveReport, Report};
use firebox_train::run::{Interrupt, peak_rss_bytes};
use firebox_train::trainer::{LrCurve, Outcome};
use firebox_train::{Backend, BoxError, RunDir, Task, Trainer, TrainerConfig};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::args::LoggerArgs;
use crate::program::say;
use crate::settings::Settings;

impl<R: Args + Clone + Serialize + DeserializeOwned> Settings<'_, R> {
    /// Begins the run: its folder, and the trainer that writes there.
    ///
    /// It is to be called when everything else was found good. SIGINT and SIGTERM stop the trainer after a
    /// step from then on; it goes on if the run does; the loggers, a display and a [`LiveReport`] under the
    /// title follow it. What is left is the schedule, for which [`Trainer::steps`] says how many steps there
    /// are.
    ///
    /// ```no_run
    /// use burn::tensor::Device;
    /// use clap::Args;
    /// use firebox_cli::args::TrainArgs;
    /// use firebox_cli::{BoxError, LoggerArgs, Settings};
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Args, Clone, Serialize, Deserialize)]
    /// struct Recipe {
    ///     #[command(flatten)]
    ///     #[serde(flatten)]
    ///     train: TrainArgs,
    /// }
    ///
    /// fn train(
    ///     settings: &Settings<'_, Recipe>,
    ///     loggers: &LoggerArgs,
    ///     device: &Device,
    /// ) -> Result<(), BoxError> {
    ///     let recipe = settings.read(&[])?;
    ///     // … the data and the task; then:
    ///     let config = recipe.train.config();
    ///     let (run, trainer) = settings.begin(&recipe, config, loggers, device, "My network")?;
    ///     let trainer = trainer.schedule(1e-3);
    ///     # let _ = (run, trainer);
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// As for [`folder`](Self::folder) and [`LoggerArgs::display`], or if signals can't be heard.
    pub fn begin(
        &self,
        recipe: &R,
        config: TrainerConfig,
        loggers: &LoggerArgs,
        device: &Device,
        title: &str,
    ) -> Result<(RunDir, Trainer), BoxError> {
        self.begin_with(recipe, config, loggers, device, |run| LiveReport::new(run, title))
    }

    /// Begins the run as [`begin`](Self::begin) does, with a live report of the program's own.
    ///
    /// ```no_run
    /// use burn::tensor::Device;
    /// use clap::Args;
    /// use firebox_cli::args::TrainArgs;
    /// use firebox_cli::{BoxError, LoggerArgs, Settings};
    /// use firebox_report::LiveReport;
    /// use firebox_train::RunDir;
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Args, Clone, Serialize, Deserialize)]
    /// struct Recipe {
    ///     #[command(flatten)]
    ///     #[serde(flatten)]
    ///     train: TrainArgs,
    /// }
    ///
    /// fn live(run: &RunDir) -> LiveReport {
    ///     let report = LiveReport::new(run, "My network");
    ///     report.with(|report| Ok(report.texts("Note", [("mine", "so far so good")])))
    /// }
    ///
    /// fn train(
    ///     settings: &Settings<'_, Recipe>,
    ///     loggers: &LoggerArgs,
    ///     device: &Device,
    /// ) -> Result<(), BoxError> {
    ///     let recipe = settings.read(&[])?;
    ///     let config = recipe.train.config();
    ///     let (run, trainer) = settings.begin_with(&recipe, config, loggers, device, live)?;
    ///     # let _ = (run, trainer);
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// As for [`begin`](Self::begin).
    pub fn begin_with(
        &self,
        recipe: &R,
        config: TrainerConfig,
        loggers: &LoggerArgs,
        device: &Device,
        report: impl FnOnce(&RunDir) -> LiveReport,
    ) -> Result<(RunDir, Trainer), BoxError> {
        // What can fail without a folder comes before it.
        let interrupt = Interrupt::on_signals()?;
        let display = loggers.display(&interrupt)?;
        let run = self.folder()?;
        let trainer = Trainer::new(&run, device).config(config).interrupt(interrupt);
        let trainer = loggers.follow(trainer, display, &run, report(&run));
        let trainer = self.record(recipe, trainer)?;
        say(format!("run folder: {}", run.path().display()));
        Ok((run, trainer))
    }
}

/// Writes a run's `summary.json`, and says in return how many seconds it took.
///
/// Beside the results, an object, it has `seconds`, `samples_per_s`, `peak_rss_bytes`, and the recipe's
/// `epochs`, `backend` and `seed` where there are such. What does not apply, `null` or NaN, is left out: the
/// loss of a run that came to nothing, memory where the system doesn't tell. The seconds of the last
/// evaluation, given as `evaluation`, are added to those of the outcome.
///
/// ```
/// use firebox_cli::write_summary;
/// use firebox_train::RunDir;
/// use firebox_train::trainer::Outcome;
/// use serde_json::json;
///
/// fn finish(run: &RunDir, outcome: &Outcome, accuracy: Option<f64>) -> Result<f64, firebox_cli::BoxError> {
///     let recipe = json!({"seed": 42, "lr": 0.1});
///     write_summary(run, &recipe, outcome, 0.5, json!({"test_accuracy": accuracy}))
/// }
/// ```
///
/// # Errors
/// If the recipe has no form as JSON, or the file can't be written.
pub fn write_summary(
    run: &RunDir,
    recipe: &impl Serialize,
    outcome: &Outcome,
    evaluation: f64,
    results: Value,
) -> Result<f64, BoxError> {
    let seconds = outcome.seconds + evaluation;
    run.write_summary(&summary(&serde_json::to_value(recipe)?, seconds, outcome.samples_per_s, results))?;
    Ok(seconds)
}

fn summary(recipe: &Value, seconds: f64, samples_per_s: f64, mut results: Value) -> Value {
    let more = json!({
        "seconds": seconds,
        "samples_per_s": samples_per_s,
        "peak_rss_bytes": peak_rss_bytes(),
        "epochs": recipe.get("epochs"),
        "backend": recipe.get("backend"),
        "seed": recipe.get("seed"),
    });
    if let (Value::Object(fields), Value::Object(more)) = (&mut results, more) {
        fields.extend(more);
        fields.retain(|_, value| !value.is_null());
    }
    results
}

/// Loads a run's best checkpoint into a task.
///
/// ```no_run
/// use firebox_train::{RunDir, Task};
///
/// fn of_newest(task: &mut impl Task) -> Result<(), firebox_cli::BoxError> {
///     firebox_cli::load_best(&RunDir::newest_under("runs", "mine")?, task)
/// }
/// ```
///
/// # Errors
/// If there is no such checkpoint, it is damaged, or it is of another task; the message names it.
pub fn load_best(run: &RunDir, task: &mut impl Task) -> Result<(), BoxError> {
    let (_, best) = run.checkpoints().best()?;
    let path = run.checkpoints().path().join("best");
    task.load(&best).map_err(|error| format!("{}: {error}", path.display()).into())
}

/// Writes the points and the page of a search for a learning rate, and says what it suggests.
///
/// They are [`RunDir::lr_points`] and [`RunDir::lr_plot`] of the run.
///
/// ```
/// use firebox_train::RunDir;
/// use firebox_train::trainer::{LrCurve, LrFinder};
///
/// # let folder = tempfile::tempdir()?;
/// let run = RunDir::create(folder.path().join("run"))?;
/// let mut curve = LrCurve::new(&LrFinder::new());
/// [2.3, 2.2, 1.9, 1.4, 1.6].map(|loss| curve.add(loss));
/// firebox_cli::show_lr_search(&curve, &run, "My network, learning rates")?;
/// assert!(run.lr_points().is_file() && run.lr_plot().is_file());
/// # Ok::<(), firebox_cli::BoxError>(())
/// ```
///
/// # Errors
/// If a file can't be written.
pub fn show_lr_search(curve: &LrCurve, run: &RunDir, title: &str) -> Result<(), BoxError> {
    curve.write(&run.lr_points())?;
    let steps = curve.points().len();
    let rate = |rate: Option<f64>| rate.map_or("none".to_owned(), |rate| format!("{rate:.2e}"));
    let (steepest, tenth) = (rate(curve.steepest()), rate(curve.tenth_of_lowest()));
    let facts = [
        ("where the loss falls most steeply", steepest.clone()),
        ("a tenth of where it is lowest", tenth.clone()),
        ("steps", steps.to_string()),
    ];
    Report::new(title).facts(facts).lr_curve(curve)?.write(&run.lr_plot())?;
    let others = format!("(a tenth of the lowest loss's: {tenth}), {steps} steps");
    say(format!("suggested learning rate: {steepest} {others}"));
    say(format!("plot: {}", run.lr_plot().display()));
    Ok(())
}

/// The flags with which cargo builds firebox with the features that this build has.
///
/// They are for [`stopped`](crate::stopped) in a program whose package has firebox's features by their names.
///
/// ```
/// // Flex is a default feature: it needs no flag.
/// assert!(!firebox_cli::cargo_flags().contains(&"flex".to_owned()));
/// ```
pub fn cargo_flags() -> Vec<String> {
    flags_of(&Backend::available().map(Backend::name).collect::<Vec<_>>(), cfg!(feature = "tui"))
}

fn flags_of(backends: &[&str], tui: bool) -> Vec<String> {
    let mut flags = Vec::new();
    let flex = Backend::Flex.name();
    if !backends.contains(&flex) {
        flags.push("--no-default-features".to_owned());
    }
    let optional = backends.iter().copied().filter(|name| *name != flex).chain(tui.then_some("tui"));
    let optional: Vec<_> = optional.collect();
    if !optional.is_empty() {
        flags.extend(["--features".to_owned(), optional.join(",")]);
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_leaves_out_what_does_not_apply() {
        let recipe = json!({"epochs": 3, "seed": 7, "lr": 0.1});
        let summary = summary(&recipe, 2.5, 100.0, json!({"test_loss": f64::NAN, "test_accuracy": 0.5}));
        let expected = [("test_accuracy", json!(0.5)), ("seconds", json!(2.5)), ("epochs", json!(3))];
        for (field, value) in expected {
            assert_eq!(summary[field], value, "{field}");
        }
        assert_eq!((&summary["seed"], &summary["samples_per_s"]), (&json!(7), &json!(100.0)));
        for field in ["test_loss", "backend", "lr"] {
            assert_eq!(summary.get(field), None, "{field}");
        }
    }

    #[test]
    fn cargo_is_told_the_features_that_are_not_default() {
        for (backends, tui, expected) in [
            (&["flex"][..], false, ""),
            (&["flex", "wgpu"], true, "--features wgpu,tui"),
            (&["ndarray"], false, "--no-default-features --features ndarray"),
        ] {
            assert_eq!(flags_of(backends, tui).join(" "), expected);
        }
    }
}
