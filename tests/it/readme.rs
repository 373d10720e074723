//! The README's programs and links are what is there.

use std::fs::{read_dir, read_to_string};
use std::path::{Path, PathBuf};

/// All Rust files in a folder and the folders in it.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = read_dir(folder) else { return Vec::new() };
    let entries = entries.map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| match path.is_dir() {
            true => sources(&path),
            false => vec![path],
        })
        .filter(|path| path.extension().is_some_and(|ending| ending == "rs"))
        .collect()
}

/// The tests that a text names, as a crate and a name: `` `firebox-data: every_index_comes` ``.
fn tests_named(text: &str) -> Vec<(&str, &str)> {
    let quoted = text.split('`').skip(1).step_by(2);
    let named = quoted.filter_map(|quoted| quoted.split_once(": "));
    named.filter(|(package, _)| package.starts_with("firebox")).collect()
}

#[test]
fn the_readme_names_tests_that_there_are() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = read_to_string(root.join("README.md")).unwrap();
    let named = tests_named(&readme);
    assert!(named.len() > 20, "{named:?}");
    for (package, name) in named {
        let folder = if package == "firebox" { root.to_owned() } else { root.join("crates").join(package) };
        let files = ["tests", "src"].map(|part| sources(&folder.join(part))).concat();
        let test = format!("#[test]\nfn {name}()");
        let there = files.iter().any(|file| {
            let text = read_to_string(file).unwrap();
            text.lines().map(str::trim_start).collect::<Vec<_>>().join("\n").contains(&test)
        });
        assert!(there, "README.md names {package}: {name}, which is no test");
    }
}

#[test]
fn links_of_the_documents_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let documents =
        ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "STABILITY.md", "docs/README.md"];
    for document in documents {
        let path = root.join(document);
        let text = read_to_string(&path).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link) {
            let file = link.split('#').next().unwrap();
            if !file.is_empty() && !file.contains("://") {
                assert!(path.parent().unwrap().join(file).exists(), "{document}: {link} leads nowhere");
            }
        }
    }
}

#[test]
fn every_example_can_be_read_in_one_go() {
    let files = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("examples"));
    assert!(files.len() > 25, "{files:?}");
    for file in files {
        let text = read_to_string(&file).unwrap();
        assert!(text.lines().count() <= 150, "{} has {} lines", file.display(), text.lines().count());
        // A program says what it needs in a crate of its own.
        let needs = text.lines().any(|line| line.starts_with("//!") && line.contains("firebox = \"0.1\""));
        assert!(needs || !text.contains("\nfn main()"), "{} doesn't say what it needs", file.display());
    }
}

#[test]
fn the_first_program_is_short_and_so_is_the_loaders_example() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = read_to_string(root.join("README.md")).unwrap();
    let (_, program) = readme.split_once("```rust,no_run\n").unwrap();
    let (program, _) = program.split_once("```\n").unwrap();
    assert!(program.lines().filter(|line| !line.is_empty()).count() <= 15, "{program}");
    let example = read_to_string(root.join("examples/loader.rs")).unwrap();
    assert!(example.lines().count() < 60);
}
