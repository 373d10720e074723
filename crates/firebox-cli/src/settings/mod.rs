//! The settings of a run, from the command line, a file and an older run.

mod merge_config;

use std::path::Path;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command};
use firebox_train::{BoxError, ErrorKind, RunDir, Trainer};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::args::RunArgs;
use crate::program::refusal;

pub use merge_config::merge_config;

/// The settings that a run which goes on can change: how long it does, and what it keeps.
///
/// A schedule that follows from the number of steps becomes that of the longer run, of which the trainer
/// warns.
const LENGTH: [&str; 4] = ["epochs", "max_steps", "save_steps", "patience"];

/// The settings that decide a run's result.
///
/// The command line, a file and an older run give them.
///
/// `config.json` holds them, each by its field's name, which is its flag's: `max_steps` is `--max-steps`.
/// Flags come before a file, and a file before what is the default; of a run that goes on its own settings
/// come first.
///
/// ```
/// use clap::{Args, CommandFactory, FromArgMatches, Parser};
/// use firebox_cli::{RunArgs, Settings};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Parser)]
/// struct Cli {
///     #[command(flatten)]
///     recipe: Recipe,
///     #[command(flatten)]
///     run: RunArgs,
/// }
///
/// #[derive(Args, Clone, Serialize, Deserialize)]
/// struct Recipe {
///     #[arg(long, default_value_t = 0.1)]
///     lr: f64,
///     #[arg(long, default_value_t = 3)]
///     epochs: u64,
/// }
///
/// # let folder = tempfile::tempdir()?;
/// let file = folder.path().join("mine.toml");
/// std::fs::write(&file, "lr = 0.5\nepochs = 9\n")?;
/// let words = ["mine", "--epochs", "4", "--config", file.to_str().unwrap()];
/// let given = Cli::command().get_matches_from(words);
/// let cli = Cli::from_arg_matches(&given)?;
/// let recipe = Settings::new("mine", &cli.recipe, &cli.run, &given)?.read(&[])?;
/// assert_eq!((recipe.lr, recipe.epochs), (0.5, 4));
/// # Ok::<(), firebox_cli::BoxError>(())
/// ```
#[derive(Debug)]
pub struct Settings<'a, R> {
    /// The program's name, which the folders of its runs begin with.
    program: &'static str,
    recipe: &'a R,
    run: &'a RunArgs,
    /// The settings given on the command line.
    flags: Map<String, Value>,
}

impl<'a, R: Args + Clone + Serialize + DeserializeOwned> Settings<'a, R> {
    /// The settings of a program that was called so.
    ///
    /// The folders of its runs begin with the program's name. Each field of the recipe must be an argument of
    /// its own.
    ///
    /// # Errors
    /// If the recipe is no struct with named fields, or has no form as JSON.
    pub fn new(
        program: &'static str,
        recipe: &'a R,
        run: &'a RunArgs,
        given: &ArgMatches,
    ) -> Result<Self, BoxError> {
        let settings = serde_json::to_value(recipe);
        let settings =
            settings.map_err(|error| format!("the settings don't fit into config.json: {error}"))?;
        let Value::Object(mut flags) = settings else {
            return Err("settings: expected a struct with named fields".into());
        };
        flags.retain(|field, _| given.value_source(field) == Some(ValueSource::CommandLine));
        Ok(Settings { program, recipe, run, flags })
    }

    /// The settings of the run to come.
    ///
    /// One that goes on keeps its own, except for `epochs`, `max_steps`, `save_steps` and `patience`, and
    /// those in `free`, which change no result: where the data are, [how many threads there
    /// are](crate::ThreadArgs::FIELDS).
    ///
    /// # Errors
    /// If a file or an older run has settings that no flag could give, or a flag contradicts what an older
    /// run was begun with.
    pub fn read(&self, free: &[&str]) -> Result<R, BoxError> {
        if let Some(file) = &self.run.config {
            let recipe = merge_config(self.recipe, file, self.flags.clone())?;
            self.check(&recipe, file)?;
            return Ok(recipe);
        }
        match self.run.resume {
            true => self.of_run(&[free, &LENGTH].concat()),
            false => Ok(self.recipe.clone()),
        }
    }

    /// The settings of a run that was begun.
    ///
    /// Flags take the place of those that are `free` to change.
    ///
    /// # Errors
    /// As for [`read`](Self::read), or if there is no such run.
    pub fn of_run(&self, free: &[&str]) -> Result<R, BoxError> {
        let run = self.existing()?;
        let recipe: R =
            run.read_config().map_err(|error| format!("{error}; is it a run of {}?", self.program))?;
        let mut settings = serde_json::to_value(recipe)?;
        for (field, new) in &self.flags {
            if free.contains(&field.as_str()) {
                settings[field.as_str()].clone_from(new);
                continue;
            }
            let old = &settings[field.as_str()];
            if old != new {
                let known = settings.as_object().into_iter().flat_map(Map::keys);
                let free: Vec<_> =
                    known.filter(|name| free.contains(&name.as_str())).map(|name| flag(name)).collect();
                let text = format!("the run was begun with {old}, got {new}");
                return Err(format!("{}: {text}; what may change is {}", flag(field), free.join(", ")).into());
            }
        }
        let recipe = serde_json::from_value(settings)?;
        self.check(&recipe, run.path())?;
        Ok(recipe)
    }

    /// Fails unless settings from a file could have been given as flags: ranges are checked where the flags
    /// say them.
    fn check(&self, recipe: &R, file: &Path) -> Result<(), BoxError> {
        let settings = serde_json::to_value(recipe)?;
        let flags = settings.as_object().into_iter().flatten().filter_map(|(field, value)| match value {
            Value::Null | Value::Bool(false) => None,
            Value::Bool(true) => Some(flag(field)),
            Value::String(text) => Some(format!("{}={text}", flag(field))),
            other => Some(format!("{}={other}", flag(field))),
        });
        let command = R::augment_args(Command::new(self.program).no_binary_name(true));
        command.try_get_matches_from(flags).map(drop).map_err(|error| {
            format!("{}: {}", file.display(), refusal(&error).trim_start_matches("error: ")).into()
        })
    }

    /// Refuses flags that have no meaning beside `question`, which an older run answers.
    ///
    /// # Errors
    /// The first flag that is not among those `meant`.
    pub fn only(&self, question: &str, meant: &[&str]) -> Result<(), BoxError> {
        match self.flags.keys().find(|field| !meant.contains(&field.as_str())) {
            Some(field) => Err(format!("{}: has no effect with {question}", flag(field)).into()),
            None => Ok(()),
        }
    }

    /// True if the run goes on with one that was stopped.
    pub fn resumes(&self) -> bool {
        self.run.resume
    }

    /// The folder for the run, made or cleared.
    ///
    /// It is to be called when everything else was found good.
    ///
    /// # Errors
    /// If the folder holds something else, or another process trains there.
    pub fn folder(&self) -> Result<RunDir, BoxError> {
        Ok(match &self.run.run_dir {
            _ if self.run.resume => self.existing()?.resume()?,
            None => RunDir::create_under("runs", self.program)?,
            Some(folder) if self.run.overwrite => RunDir::overwrite(folder)?,
            Some(folder) => RunDir::create(folder).map_err(|error| match error.kind() {
                ErrorKind::RunDir if RunDir::open(folder).is_ok() => {
                    format!("{error} (--resume, --overwrite, or another --run-dir)").into()
                }
                _ => BoxError::from(error),
            })?,
        })
    }

    /// The folder of a run that was begun: the one asked for, or the newest.
    ///
    /// # Errors
    /// If there is none.
    pub fn existing(&self) -> Result<RunDir, BoxError> {
        Ok(match &self.run.run_dir {
            Some(folder) => RunDir::open(folder)?,
            None => RunDir::newest_under("runs", self.program)?,
        })
    }

    /// Has a trainer go on if the run does, with its settings.
    ///
    /// The trainer writes them into the run's folder.
    ///
    /// # Errors
    /// If the settings have no form as JSON.
    pub fn record(&self, recipe: &R, trainer: Trainer) -> Result<Trainer, BoxError> {
        Ok(trainer.resume(self.run.resume).settings(recipe)?)
    }
}

fn flag(field: &str) -> String {
    format!("--{}", field.replace('_', "-"))
}

/// All settings in a line, for a report.
///
/// ```
/// let settings = serde_json::json!({"lr": 0.1, "name": null, "shuffle": true});
/// assert_eq!(firebox_cli::describe(&settings)?, "lr 0.1, shuffle true");
/// # Ok::<(), firebox_cli::BoxError>(())
/// ```
///
/// # Errors
/// If they have no form as JSON.
pub fn describe(settings: &impl Serialize) -> Result<String, BoxError> {
    let settings = serde_json::to_value(settings)?;
    let settings = settings.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
    Ok(settings.map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join(", "))
}
