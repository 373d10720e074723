//! The list of calls in ARCHITECTURE.md is that of the code.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

#[test]
fn the_calls_from_an_index_to_a_tensor_are_there_and_none_is_made_by_two() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let Ok(text) = fs::read_to_string(here.join("../../ARCHITECTURE.md")) else {
        // The crate alone has no such file.
        assert!(!here.join("../../Cargo.lock").exists());
        return;
    };
    let mut calls = BTreeSet::new();
    let mut parts = BTreeSet::new();
    let rows = text.lines().filter(|line| line.starts_with("| ") && line.contains("::"));
    for row in rows.filter(|row| row.ends_with(".rs` |")) {
        let cells: Vec<&str> = row.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        let [_, number, call, file, _] = cells[..] else { panic!("{row}") };
        assert_eq!(number, (calls.len() + 1).to_string(), "{row}");
        let (part, function) = call.split_once("::").unwrap();
        let source = fs::read_to_string(here.join("src").join(file)).unwrap();
        // In the code of the type or the trait itself.
        let code = source.split("\n}\n").find(|code| {
            let of_part = code.lines().filter(|line| line.starts_with("impl") || line.contains("trait "));
            let is_it = |line: &str| line.split([' ', '<', ':', '{', '(']).any(|word| word == part);
            of_part.into_iter().any(is_it) && code.contains(&format!("fn {function}"))
        });
        assert!(code.is_some(), "{row}");
        assert!(calls.insert(call.to_owned()), "twice: {row}");
        parts.insert(part.to_owned());
    }
    assert_eq!(calls.len(), 20);
    // One engine: what plans, makes, keeps and delivers batches is there once.
    let mut files = Vec::new();
    let mut folders = vec![here.join("src/loader")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            match entry.is_dir() {
                true => folders.push(entry),
                false => files.push(fs::read_to_string(entry).unwrap()),
            }
        }
    }
    for part in [
        "struct Window<",
        "struct EpochExecutor<",
        "struct Epoch<",
        "struct LoaderBuilder<",
        "fn tries<",
        "fn pause(",
    ] {
        assert_eq!(files.iter().filter(|file| file.contains(part)).count(), 1, "{part}");
    }
}
