//! A program from its arguments to its exit code.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{Write, stderr, stdout};
use std::path::Path;
use std::process::ExitCode;

use clap::error::ErrorKind as Refusal;
use clap::{ArgMatches, Parser};
use firebox_train::run::Signal;
use firebox_train::{BoxError, Error, ErrorKind, RunDir};

use crate::args::LoggerArgs;

/// Runs a program by its command line.
///
/// What went wrong, if something did, is said in one line.
///
/// A worker process, which is this program too, does its work in here. The exit code is 0, 1 for an error, 2
/// for a command line that makes no sense, and 128 more than a signal's number where one has stopped
/// something.
///
/// See [the crate's page](crate) for a whole program.
///
/// ```no_run
/// use std::process::ExitCode;
///
/// #[derive(clap::Parser)]
/// struct Cli {
///     name: String,
/// }
///
/// fn main() -> ExitCode {
///     firebox_cli::run_program(|cli: Cli, _| {
///         firebox_cli::say(format!("hello {}", cli.name));
///         Ok(ExitCode::SUCCESS)
///     })
/// }
/// ```
pub fn run_program<C: Parser>(run: impl FnOnce(C, &ArgMatches) -> Result<ExitCode, BoxError>) -> ExitCode {
    firebox_workers::init();
    run_with(C::command().try_get_matches(), run)
}

/// The program after its command line was parsed, or refused.
fn run_with<C: Parser>(
    parsed: Result<ArgMatches, clap::Error>,
    run: impl FnOnce(C, &ArgMatches) -> Result<ExitCode, BoxError>,
) -> ExitCode {
    match parsed.and_then(|given| Ok((C::from_arg_matches(&given)?, given))) {
        Ok((cli, given)) => run(cli, &given).unwrap_or_else(|error| {
            complain(&format!("error: {error}"));
            match error.downcast_ref::<Error>().map(Error::kind) {
                Some(ErrorKind::Interrupted(signal)) => of_signal(*signal),
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

/// Writes a line to standard output.
///
/// A console that is gone is no reason to stop.
///
/// ```
/// firebox_cli::say("test accuracy: 91.2 %");
/// ```
pub fn say(text: impl AsRef<str>) {
    let _ = writeln!(stdout(), "{}", text.as_ref());
}

/// Says how a stopped run goes on, and gives the exit code.
///
/// The line can be pasted into a shell. `cargo` has the flags that cargo needs to build the program again,
/// such as `["--features", "tui"]` or those of [`cargo_flags`](crate::cargo_flags); it is used
/// where cargo has started an example.
///
/// ```
/// use firebox_cli::LoggerArgs;
/// use firebox_train::RunDir;
/// use firebox_train::run::Signal;
///
/// # let folder = tempfile::tempdir()?;
/// let run = RunDir::create(folder.path().join("run"))?;
/// let code = firebox_cli::stopped(Signal::Int, &run, &LoggerArgs::default(), &firebox_cli::cargo_flags());
/// assert_eq!(code, std::process::ExitCode::from(130));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn stopped(signal: Signal, run: &RunDir, loggers: &LoggerArgs, cargo: &[impl AsRef<OsStr>]) -> ExitCode {
    let file = env::args_os().next().unwrap_or_default();
    let mut words = program(&file, env::var_os("CARGO").is_some(), cargo);
    words.extend(["--resume".into(), "--run-dir".into(), run.path().into()]);
    words.extend(loggers.flags());
    let words: Vec<_> = words.iter().map(|word| quoted(word)).collect();
    say(format!("go on with: {}", words.join(" ")));
    of_signal(signal)
}

/// The first part of clap's complaint; the lines after it are on how to get help.
pub(crate) fn refusal(error: &clap::Error) -> String {
    let text = error.to_string();
    text.split("\n\n").next().unwrap_or_default().to_owned()
}

fn of_signal(signal: Signal) -> ExitCode {
    ExitCode::from(128 + signal.number() as u8)
}

/// One line, also of causes that have several.
fn complain(text: &str) {
    let _ = writeln!(stderr(), "{}", text.lines().map(str::trim).collect::<Vec<_>>().join(" ").trim_end());
}

/// The words that start the program again from the same folder: cargo, if it has started an example, or its
/// own file.
fn program(file: &OsStr, by_cargo: bool, cargo: &[impl AsRef<OsStr>]) -> Vec<OsString> {
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
    words.extend(cargo.iter().map(|flag| flag.as_ref().to_owned()));
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn line(words: &[OsString]) -> String {
        words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
    }

    #[derive(Parser)]
    struct Cli {
        #[arg(long)]
        number: Option<u8>,
    }

    #[test]
    fn a_program_ends_with_a_code_that_says_how() {
        let code = |words: &[&str], outcome: Result<ExitCode, BoxError>| {
            let parsed = Cli::command().try_get_matches_from(["mine"].iter().chain(words));
            run_with(parsed, |_: Cli, _| outcome)
        };
        let stopped = Error::new(ErrorKind::Interrupted(Signal::Term), "stopped");
        for (words, outcome, expected) in [
            (&["--number", "3"][..], Ok(ExitCode::from(7)), 7),
            (&[], Err("no such file".into()), 1),
            (&[], Err(stopped.into()), 143),
            (&["--number", "many"], Ok(ExitCode::SUCCESS), 2),
            (&["--help"], Ok(ExitCode::from(9)), 0),
        ] {
            assert_eq!(code(words, outcome), ExitCode::from(expected), "{words:?}");
        }
    }

    #[test]
    fn an_example_is_started_again_by_cargo_and_a_program_by_itself() {
        let again = |file: &str, by_cargo, cargo: &[&str]| line(&program(OsStr::new(file), by_cargo, cargo));
        for (profile, flags) in [("debug", ""), ("release", " --release"), ("fast", " --profile fast")] {
            let file = format!("target/{profile}/examples/training");
            assert_eq!(again(&file, true, &[]), format!("cargo run{flags} --example training --"));
            assert_eq!(again(&file, false, &[]), file);
        }
        let with = again("target/debug/examples/gan", true, &["--features", "tui,cuda"]);
        assert_eq!(with, "cargo run --features tui,cuda --example gan --");
        assert_eq!(again("/usr/bin/mine", true, &["--features", "tui"]), "/usr/bin/mine");
    }

    #[test]
    fn a_word_is_quoted_where_a_shell_would_read_something_else() {
        for (word, expected) in [
            ("runs/first-1", "runs/first-1"),
            ("", "''"),
            ("two words", "'two words'"),
            ("it's", r"'it'\''s'"),
            ("new\nline", r"$'new\x0aline'"),
        ] {
            assert_eq!(quoted(OsStr::new(word)), expected);
        }
    }
}
