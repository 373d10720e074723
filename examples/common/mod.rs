//! What the examples' command lines share: the run's folder, settings from a file or an older run, who follows a run, errors of
//! one line.

// Each example is a program of its own, and none needs everything.
#![allow(dead_code)]

use std::ffi::{OsStr, OsString};
use std::io::{self, Write, stderr, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread::available_parallelism;
use std::{env, fs};

use clap::error::ErrorKind as Refusal;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, Parser, ValueEnum};
use firebox::data::{BoxError, Loader, Recipe};
#[cfg(feature = "tui")]
use firebox::report::Dashboard;
use firebox::report::{CsvLog, LiveReport, Progress, TensorBoard};
use firebox::train::event::Event;
use firebox::train::run::Interrupt;
use firebox::train::{Callback, ErrorKind, RunDir, Threads, Trainer};
use firebox::workers::Pool;
#[cfg(feature = "tui")]
use firebox::workers::Pool;
use firebox_cli::merge_config;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Where a run has its folder, and how it begins.
#[derive(Args)]
pub(crate) struct Place {
    /// The folder for the run [default: a new one under runs/; to go on with or ask a run, the newest there]
    #[arg(long, value_name = "DIR")]
    pub(crate) run_dir: Option<PathBuf>,
    /// Go on with a run that was stopped or is finished, with its own settings, but for how long it goes on and what it keeps
    #[arg(long, conflicts_with = "overwrite")]
    pub(crate) resume: bool,
    /// A TOML or JSON file with settings, such as a run's config.json; flags come before it
    #[arg(long, value_name = "FILE", conflicts_with = "resume")]
    config: Option<PathBuf>,
    /// Begin anew in a folder that holds a run already
    #[arg(long, requires = "run_dir")]
    overwrite: bool,
}

/// Where batches are prepared. It decides no result.
#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum WorkerKind {
    /// In threads of the program
    #[default]
    Threads,
    /// In processes, which may crash without a loss
    Processes,
}

impl WorkerKind {
    /// The threads for a loader's recipe; in worker processes one for each.
    pub(crate) fn threads(self, threads: Threads) -> Option<usize> {
        match (self, threads.workers()) {
            (WorkerKind::Processes, Some(1..)) => None,
            (_, workers) => workers,
        }
    }

    /// The loader of a recipe, with workers of this kind.
    pub(crate) fn loader<R: Recipe>(
        self,
        recipe: R,
        threads: Threads,
    ) -> Result<Loader<R::Layout>, BoxError> {
        let half = || available_parallelism().map_or(1, usize::from).div_ceil(2).min(8);
        match (self, threads.workers().unwrap_or_else(half)) {
            (WorkerKind::Threads, _) | (_, 0) => Ok(recipe.loader()?),
            (WorkerKind::Processes, workers) => Ok(recipe.workers(Pool::processes(workers)?)?),
        }
    }
}

/// Who follows a run. It decides no result, so that a resumed run may be followed by others. As a group of flags they are
/// "Followers", and refused where nothing runs.
#[derive(Args)]
pub(crate) struct Followers {
    /// Write the records in this form, too; several by commas
    #[arg(long, value_name = "FORM", value_enum, value_delimiter = ',')]
    log: Vec<Log>,
    /// Show the run on Burn's dashboard instead of a progress bar
    #[cfg(feature = "tui")]
    #[arg(long)]
    dashboard: bool,
}

/// A form of records beside `metrics.jsonl`.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Log {
    /// A table, metrics.csv
    Csv,
    /// Event files in tensorboard/
    #[value(name = "tensorboard")]
    TensorBoard,
}

/// What shows a person on the terminal how far the run is.
pub(crate) type Display = Box<dyn FnMut(&Event<'_>) -> Result<(), BoxError>>;

impl Followers {
    /// The display. To be called before there is a folder: it may find no terminal.
    #[cfg_attr(not(feature = "tui"), expect(unused_variables, reason = "a bar has no keys"))]
    pub(crate) fn display(&self, interrupt: &Interrupt) -> Result<Display, BoxError> {
        #[cfg(feature = "tui")]
        if self.dashboard {
            let mut dashboard = Dashboard::new(interrupt)?;
            return Ok(Box::new(move |event: &Event<'_>| dashboard.on_event(event)));
        }
        let mut bar = Progress::new();
        Ok(Box::new(move |event: &Event<'_>| bar.on_event(event)))
    }

    /// The flags that ask for them.
    fn flags(&self) -> Vec<OsString> {
        let names = self.log.iter().filter_map(Log::to_possible_value);
        let names: Vec<_> = names.map(|name| name.get_name().to_owned()).collect();
        let mut flags = Vec::new();
        if !names.is_empty() {
            flags.extend(["--log".into(), names.join(",").into()]);
        }
        #[cfg(feature = "tui")]
        if self.dashboard {
            flags.push("--dashboard".into());
        }
        flags
    }

    /// Lets them follow a run, and a report of it.
    pub(crate) fn follow(
        &self,
        trainer: Trainer,
        display: Display,
        run: &RunDir,
        report: LiveReport,
    ) -> Trainer {
        let mut trainer = trainer.callback(display).callback(report);
        if self.log.contains(&Log::Csv) {
            trainer = trainer.callback(CsvLog::new(run));
        }
        if self.log.contains(&Log::TensorBoard) {
            trainer = trainer.callback(TensorBoard::new(run));
        }
        trainer
    }
}

/// Runs an example: parses its command line and says in one line what went wrong, if something did. A worker process, which is
/// this program too, does its work in here.
pub(crate) fn main<C: Parser>(run: impl FnOnce(C, &ArgMatches) -> Result<ExitCode, BoxError>) -> ExitCode {
    firebox::workers::init();
    let parsed = C::command().try_get_matches().and_then(|given| Ok((C::from_arg_matches(&given)?, given)));
    match parsed {
        Ok((cli, given)) => run(cli, &given).unwrap_or_else(|error| {
            complain(&format!("error: {error}"));
            match error.downcast_ref::<firebox::train::Error>().map(firebox::train::Error::kind) {
                Some(firebox::train::ErrorKind::Interrupted(signal)) => of_signal(*signal),
                _ => ExitCode::FAILURE,
            }
        }),
        Err(help) if matches!(help.kind(), Refusal::DisplayHelp | Refusal::DisplayVersion) => {
            say(help.to_string().trim_end());
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(&refusal(&error));
            ExitCode::from(2)
        }
    }
}

/// Settings that a run which goes on can change: how long it does, and what it keeps. A schedule that follows from the number of
/// steps becomes that of the longer run, of which the trainer warns.
const LENGTH: [&str; 4] = ["epochs", "max_steps", "save_steps", "patience"];

/// The settings that decide a run's result, as the command line, a file and an older run give them.
///
/// `config.json` holds them, each by its field's name, which is its flag's.
pub(crate) struct Settings<'a, R> {
    /// The example's name, which the folders of its runs begin with.
    example: &'static str,
    recipe: &'a R,
    place: &'a Place,
    /// The settings given on the command line.
    flags: Map<String, Value>,
}

impl<'a, R: Args + Clone + Serialize + DeserializeOwned> Settings<'a, R> {
    pub(crate) fn new(
        example: &'static str,
        recipe: &'a R,
        place: &'a Place,
        given: &ArgMatches,
    ) -> Result<Self, BoxError> {
        let settings = serde_json::to_value(recipe);
        let settings =
            settings.map_err(|error| format!("the settings don't fit into config.json: {error}"))?;
        let Value::Object(mut flags) = settings else {
            return Err("settings: expected a struct with named fields".into());
        };
        flags.retain(|field, _| given.value_source(field) == Some(ValueSource::CommandLine));
        Ok(Settings { example, recipe, place, flags })
    }

    /// The settings of the run to come. A resumed run keeps its own, except for its [`LENGTH`] and those in `free`, which change
    /// no result: where the data are, how many threads there are.
    pub(crate) fn read(&self, free: &[&str]) -> Result<R, BoxError> {
        if let Some(file) = &self.place.config {
            let recipe = merge_config(self.recipe, file, self.flags.clone())?;
            self.check(&recipe, file)?;
            return Ok(recipe);
        }
        match self.place.resume {
            true => self.of_run(&[free, &LENGTH].concat()),
            false => Ok(self.recipe.clone()),
        }
    }

    /// The settings of a run that was begun, with flags in the place of those that are `free` to change.
    pub(crate) fn of_run(&self, free: &[&str]) -> Result<R, BoxError> {
        let run = self.existing()?;
        let recipe: R =
            run.read_config().map_err(|error| format!("{error}; is it a run of {}?", self.example))?;
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

    /// Whether settings from a file could have been given as flags: ranges are checked where the flags say them.
    fn check(&self, recipe: &R, file: &Path) -> Result<(), BoxError> {
        let settings = serde_json::to_value(recipe)?;
        let flags = settings.as_object().into_iter().flatten().filter_map(|(field, value)| match value {
            Value::Null | Value::Bool(false) => None,
            Value::Bool(true) => Some(flag(field)),
            Value::String(text) => Some(format!("{}={text}", flag(field))),
            other => Some(format!("{}={other}", flag(field))),
        });
        let command = R::augment_args(Command::new(self.example).no_binary_name(true));
        command.try_get_matches_from(flags).map(drop).map_err(|error| {
            format!("{}: {}", file.display(), refusal(&error).trim_start_matches("error: ")).into()
        })
    }

    /// Refuses flags that `question`, which an older run answers, gives no meaning.
    pub(crate) fn only(&self, question: &str, meant: &[&str]) -> Result<(), BoxError> {
        match self.flags.keys().find(|field| !meant.contains(&field.as_str())) {
            Some(field) => Err(format!("{}: has no effect with {question}", flag(field)).into()),
            None => Ok(()),
        }
    }

    /// Whether the run goes on with one that was stopped.
    pub(crate) fn resumes(&self) -> bool {
        self.place.resume
    }

    /// The folder for the run. To be called when everything else was found good: it makes the folder, or clears it.
    pub(crate) fn folder(&self) -> Result<RunDir, BoxError> {
        Ok(match &self.place.run_dir {
            _ if self.place.resume => self.existing()?.resume()?,
            None => RunDir::create_under("runs", self.example)?,
            Some(folder) if self.place.overwrite => RunDir::overwrite(folder)?,
            Some(folder) => RunDir::create(folder).map_err(|error| match error.kind() {
                ErrorKind::RunDir if RunDir::open(folder).is_ok() => {
                    format!("{error} (--resume, --overwrite, or another --run-dir)").into()
                }
                _ => BoxError::from(error),
            })?,
        })
    }

    /// The folder of a run that was begun: the one asked for, or the newest.
    pub(crate) fn existing(&self) -> Result<RunDir, BoxError> {
        Ok(match &self.place.run_dir {
            Some(folder) => RunDir::open(folder)?,
            None => RunDir::newest_under("runs", self.example)?,
        })
    }

    /// Has a trainer go on if the run does, and write the settings into its folder.
    pub(crate) fn record(&self, recipe: &R, run: &RunDir, trainer: Trainer) -> Result<Trainer, BoxError> {
        // At once, for a run that is killed before its trainer begins.
        if !self.place.resume {
            run.write_config(recipe)?;
        }
        Ok(trainer.resume(self.place.resume).settings(recipe)?)
    }
}

/// What is wrong with flags; the lines behind it are on how to get help.
fn refusal(error: &clap::Error) -> String {
    let text = error.to_string();
    text.split("\n\n").next().unwrap_or_default().to_owned()
}

fn flag(field: &str) -> String {
    format!("--{}", field.replace('_', "-"))
}

/// What a run that a signal stopped says and exits with.
pub(crate) fn stopped(signal: firebox::train::run::Signal, run: &RunDir, followers: &Followers) -> ExitCode {
    let mut words = program(&env::args_os().next().unwrap_or_default(), env::var_os("CARGO").is_some());
    words.extend(["--resume".into(), "--run-dir".into(), run.path().into()]);
    words.extend(followers.flags());
    let words: Vec<_> = words.iter().map(|word| quoted(word)).collect();
    say(format!("go on with: {}", words.join(" ")));
    of_signal(signal)
}

fn of_signal(signal: firebox::train::run::Signal) -> ExitCode {
    ExitCode::from(128 + signal.number() as u8)
}

/// What starts the example again from the same folder: cargo, if it has started it, or its own file.
fn program(file: &OsStr, by_cargo: bool) -> Vec<OsString> {
    let of_cargo = || {
        let (folder, name) = (Path::new(file).parent()?, Path::new(file).file_stem()?);
        let profile = folder.parent()?.file_name()?;
        (folder.file_name()? == "examples").then_some((profile, name))
    };
    let Some((profile, name)) = of_cargo().filter(|_| by_cargo) else { return vec![file.to_owned()] };
    let mut words: Vec<OsString> = vec!["cargo".into(), "run".into()];
    match profile.to_str() {
        Some("debug") => {}
        Some("release") => words.push("--release".into()),
        _ => words.extend(["--profile".into(), profile.to_owned()]),
    }
    if !cfg!(feature = "flex") {
        words.push("--no-default-features".into());
    }
    let optional = [
        ("ndarray", cfg!(feature = "ndarray")),
        ("wgpu", cfg!(feature = "wgpu")),
        ("cuda", cfg!(feature = "cuda")),
        ("tui", cfg!(feature = "tui")),
    ];
    let features: Vec<_> = optional.iter().filter(|(_, has)| *has).map(|(name, _)| *name).collect();
    if !features.is_empty() {
        words.extend(["--features".into(), features.join(",").into()]);
    }
    words.extend(["--example".into(), name.to_owned(), "--".into()]);
    words
}

/// A word as a shell takes it for itself.
fn quoted(word: &OsStr) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "_@%+=:,./-".contains(letter);
    match word.to_str() {
        Some(text) if !text.is_empty() && text.chars().all(plain) => text.to_owned(),
        Some(text) if !text.chars().any(char::is_control) => format!("'{}'", text.replace('\'', r"'\''")),
        _ => {
            let bytes = word.as_encoded_bytes().iter();
            let escaped = bytes.map(|&byte| match byte {
                b'\'' | b'\\' => format!("\\{}", char::from(byte)),
                b' '..=b'~' => char::from(byte).to_string(),
                _ => format!("\\x{byte:02x}"),
            });
            format!("$'{}'", escaped.collect::<String>())
        }
    }
}

/// All settings in a line.
pub(crate) fn described(recipe: &impl Serialize) -> Result<String, BoxError> {
    let config = serde_json::to_value(recipe)?;
    let settings = config.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
    Ok(settings.map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join(", "))
}

/// A path that means the same from any folder.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf, BoxError> {
    std::path::absolute(path).map_err(|error| format!("{}: {error}", path.display()).into())
}

/// The files in a folder, in the order of their names; none where there is no folder yet.
pub(crate) fn files_in(folder: &Path) -> Result<Vec<PathBuf>, BoxError> {
    let unreadable = |error: io::Error| format!("{}: {error}", folder.display());
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        entries => entries.map_err(unreadable)?,
    };
    let paths: Result<Vec<_>, _> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
    let mut paths = paths.map_err(unreadable)?;
    paths.sort();
    Ok(paths)
}

pub(crate) fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("expected at least 1".to_owned()),
        Ok(number) => Ok(number),
        Err(_) => Err("expected a whole number".to_owned()),
    }
}

/// Features of a vector or a state: a layer of more has no room in most machines, and its number of weights none in a number.
pub(crate) fn width(text: &str) -> Result<usize, String> {
    up_to(text, 16_384)
}

/// Layers on top of each other.
pub(crate) fn depth(text: &str) -> Result<usize, String> {
    up_to(text, 256)
}

fn up_to(text: &str, most: usize) -> Result<usize, String> {
    match at_least_one(text)? {
        number if number > most => Err(format!("expected at most {most}")),
        number => Ok(number),
    }
}

pub(crate) fn above_zero(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| number.is_finite() && *number > 0.0);
    number.ok_or_else(|| "expected a number above 0".to_owned())
}

pub(crate) fn share(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| (0.0..1.0).contains(number));
    number.ok_or_else(|| "expected a number from 0, below 1".to_owned())
}

/// A console that is gone is no reason to stop.
pub(crate) fn say(text: impl AsRef<str>) {
    let _ = writeln!(stdout(), "{}", text.as_ref());
}

/// One line, also of causes that have several.
fn complain(text: &str) {
    let _ = writeln!(stderr(), "{}", text.lines().map(str::trim).collect::<Vec<_>>().join(" ").trim_end());
}
