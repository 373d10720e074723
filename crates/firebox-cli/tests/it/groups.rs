//! The groups of flags: what they accept, and what contradicts itself.

use clap::Parser;
use firebox_cli::args::{BackendArgs, LoggerArgs, RunArgs, SeedArgs, ThreadArgs, WorkerKind};
use firebox_train::ErrorKind;

#[derive(Debug, Parser)]
struct Cli {
    #[command(flatten)]
    run: RunArgs,
    #[command(flatten)]
    loggers: LoggerArgs,
    #[command(flatten)]
    threads: ThreadArgs,
    #[command(flatten)]
    seed: SeedArgs,
    #[command(flatten)]
    backend: BackendArgs,
}

fn parsed(words: &[&str]) -> Result<Cli, String> {
    let words = ["mine"].iter().chain(words);
    Cli::try_parse_from(words).map_err(|error| error.to_string().lines().next().unwrap().to_owned())
}

#[test]
fn without_flags_everything_has_its_default() {
    let cli = parsed(&[]).unwrap();
    assert_eq!((cli.run, cli.threads), (RunArgs::default(), ThreadArgs::default()));
    assert_eq!((cli.seed, cli.backend), (SeedArgs::default(), BackendArgs::default()));
    assert!(cli.loggers.flags().is_empty());
}

#[test]
fn what_contradicts_itself_or_has_no_sense_is_refused() {
    for (words, expected) in [
        (&["--resume", "--overwrite", "--run-dir", "a"][..], "'--resume' cannot be used with '--overwrite'"),
        (&["--resume", "--config", "a"], "cannot be used with"),
        (&["--overwrite"], "the following required arguments were not provided"),
        (&["--threads", "0"], "invalid value '0' for '--threads <N>': expected at least 1"),
        (&["--workers", "-1"], "unexpected argument '-1' found"),
        (&["--worker-kind", "fibers"], "invalid value 'fibers' for '--worker-kind <WORKER_KIND>'"),
        (&["--log", "paper"], "invalid value 'paper' for '--log <FORM>'"),
        (&["--seed", "many"], "invalid value 'many' for '--seed <SEED>'"),
    ] {
        let error = parsed(words).unwrap_err();
        assert!(error.contains(expected), "{words:?}: {error}");
    }
}

#[test]
fn groups_are_data_by_the_names_of_their_flags() {
    let cli = parsed(&["--workers", "3", "--worker-kind", "processes"]).unwrap();
    let data = serde_json::to_value(cli.threads).unwrap();
    assert_eq!(data, serde_json::json!({"workers": 3, "worker_kind": "processes", "threads": null}));
    assert_eq!(data.as_object().unwrap().len(), ThreadArgs::FIELDS.len());
    assert!(ThreadArgs::FIELDS.iter().all(|field| data.get(field).is_some()));
    // Settings from before there were kinds of workers.
    let old: ThreadArgs = serde_json::from_str(r#"{"workers": 2, "threads": null}"#).unwrap();
    assert_eq!((old.workers, old.worker_kind), (Some(2), WorkerKind::Threads));
}

#[test]
fn a_backend_that_there_is_not_is_an_error() {
    let error = BackendArgs { backend: "abacus".to_owned() }.device().unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Backend);
    assert!(error.to_string().starts_with("no backend abacus"), "{error}");
}
