//! Arguments that no example can do anything with: one line that names it, a code, and no folder left behind.

use std::fs;

use super::example;

/// The examples, each with little data for what begins to train after all.
const EXAMPLES: [(&str, &[&str]); 5] = [
    ("training", &["--limit-train", "20", "--limit-test", "10"]),
    ("gan", &["--limit-train", "20", "--limit-test", "10"]),
    ("pronounce", &["--limit-train", "20", "--limit-test", "10"]),
    ("text", &["--limit-train", "5000", "--limit-test", "5000"]),
    ("forecast", &["--hours", "2000"]),
];

/// Runs an example in a folder of its own, and says what it said: one line on standard error.
fn refused(name: &str, arguments: &[&str], code: i32) -> String {
    let folder = tempfile::tempdir().unwrap();
    let output = example(name).current_dir(folder.path()).args(arguments).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{name} {arguments:?}: {text}");
    assert!(text.starts_with("error: ") && text.lines().count() == 1, "{name} {arguments:?}: {text}");
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.is_empty(), "{name} {arguments:?} left {left:?}");
    text
}

#[test]
fn what_a_flag_cannot_be_is_one_line_of_each_example() {
    for (name, little) in EXAMPLES {
        let mut cases: Vec<(&[&str], i32, &str)> = vec![
            (&["--epochs", "0"], 2, "--epochs"),
            (&["--epochs", "18446744073709551615"], 2, "--epochs"),
            (&["--batch-size", "0"], 2, "--batch-size"),
            (&["--batch-size", ""], 2, "--batch-size"),
            (&["--batch-size", "-1"], 2, "-1"),
            (&["--batch-size", "99999999999999999999"], 2, "--batch-size"),
            (&["--seed", "-1"], 2, "-1"),
            (&["--seed", ""], 2, "--seed"),
            (&["--lr", "nan"], 2, "--lr"),
            (&["--lr", "inf"], 2, "--lr"),
            (&["--lr", "0"], 2, "--lr"),
            (&["--lr", ""], 2, "--lr"),
            (&["--threads", "0"], 2, "--threads"),
            (&["--threads", "99999999"], 1, "threads: expected from 1 to 1024"),
            (&["--workers", "99999999"], 1, "at most 1024"),
            (&["--workers", "-1"], 2, "-1"),
            (&["--max-steps", "0"], 2, "--max-steps"),
            (&["--save-steps", "0"], 2, "--save-steps"),
            (&["--patience", "0"], 2, "--patience"),
            (&["--backend", ""], 1, "no backend"),
            (&["--backend", "abacus"], 1, "no backend abacus"),
            (&["--run-dir", ""], 2, "--run-dir"),
            (&["--config", ""], 2, "--config"),
            (&["--config", "nowhere.toml"], 1, "nowhere.toml: cannot be read"),
            (&["--run-dir", "nowhere", "--resume"], 1, "nowhere: no run"),
            (&["--resume"], 1, "no run of"),
            (&["--overwrite"], 2, "--run-dir"),
            (&["--log", ""], 2, "--log"),
            (&["stray"], 2, "stray"),
        ];
        if name != "forecast" {
            cases.push((&["--limit-train", "0"], 2, "--limit-train"));
            cases.push((&["--limit-test", "0"], 2, "--limit-test"));
        }
        if name != "gan" {
            cases.push((&["--dropout", "1"], 2, "--dropout"));
            cases.push((&["--dropout", "nan"], 2, "--dropout"));
        }
        let wide: &[&str] = match name {
            "gan" => &["--latent"],
            "text" | "pronounce" => &["--hidden", "--embedding", "--layers"],
            "forecast" => &["--hidden", "--layers"],
            _ => &[],
        };
        // What no machine has room for would be a panic deep in a layer.
        let huge: Vec<_> = wide.iter().map(|flag| [*flag, "18446744073709551615"]).collect();
        cases.extend(huge.iter().map(|arguments| (&arguments[..], 2, "expected at most")));
        for (arguments, code, part) in cases {
            let limits = arguments[0].starts_with("--limit");
            let all = if limits { arguments.to_vec() } else { [little, arguments].concat() };
            let text = refused(name, &all, code);
            assert!(text.contains(part), "{name} {arguments:?} doesn't say {part}: {text}");
        }
    }
}
