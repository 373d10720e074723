//! The pronouncing example as a person runs it: what it leaves, what it says, and that it can be killed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::{example, last_state, losses, training};
use serde_json::Value;
use tempfile::TempDir;

/// A small network on a few words, with all that draws, averages or schedules. It gets no word right, but
/// many phonemes.
const SMALL: [&str; 24] = [
    "--limit-train",
    "1000",
    "--lr",
    "0.01",
    "--limit-test",
    "40",
    "--batch-size",
    "16",
    "--epochs",
    "2",
    "--hidden",
    "32",
    "--embedding",
    "16",
    "--dropout",
    "0.2",
    "--label-smoothing",
    "0.1",
    "--teacher-forcing",
    "0.7",
    "--ema",
    "0.9",
    "--save-steps",
    "7",
];

fn outcome(arguments: &[&str]) -> Output {
    example("pronounce").args(arguments).output().unwrap()
}

fn succeed(arguments: &[&str]) -> String {
    let output = outcome(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn folder() -> (TempDir, PathBuf, String) {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let text = run.to_str().unwrap().to_owned();
    (folder, run, text)
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn a_run_leaves_what_other_tools_read_and_can_be_asked() {
    let (_folder, run, name) = folder();
    let said = succeed(&[&["--run-dir", &name][..], &SMALL].concat());
    assert!(said.contains("test: PER "), "{said}");

    let config = json(&run.join("config.json"));
    assert_eq!(
        (&config["hidden"], &config["beam"], &config["stress"]),
        (&32.into(), &5.into(), &false.into())
    );
    let summary = json(&run.join("summary.json"));
    for field in [
        "test_per",
        "test_wer",
        "test_loss",
        "test_per_greedy",
        "test_wer_greedy",
        "attention_spearman",
        "seconds",
        "samples_per_s",
    ] {
        assert!(summary[field].is_f64(), "{field}: {summary}");
    }
    assert!(summary["test_per"].as_f64().unwrap() < 0.9, "{summary}");
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let records: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let evaluations: Vec<_> = records.iter().filter(|record| record["kind"] == "eval").collect();
    let splits: Vec<_> = evaluations.iter().map(|record| record["split"].as_str().unwrap()).collect();
    assert_eq!(splits, ["valid", "valid", "test, greedy", "test"]);
    for record in evaluations {
        for field in ["loss", "token_accuracy", "per", "wer"] {
            assert!(record[field].is_number(), "{field}: {record}");
        }
    }
    let steps: Vec<_> = records.iter().filter(|record| record["kind"] == "step").collect();
    assert!(steps.len() > 50 && steps.iter().all(|step| step["token_accuracy"].is_number()));
    let report = fs::read_to_string(run.join("report.html")).unwrap();
    for part in
        ["Loss", "Per", "Wer", "wrong words (WER)", "Where the attention was: wrong words", "fill-opacity"]
    {
        assert!(report.contains(part), "the report has no {part}");
    }
    let foreign = report.replace("http://www.w3.org/2000/svg", "");
    assert!(!foreign.contains("http") && !foreign.contains("<script src"), "the report needs other files");

    // The best first, with phonemes of the dictionary and no stress marks.
    for (word, beam, lines) in [("firebox", "5", 3), ("Firebox", "2", 2), ("o'clock", "1", 1)] {
        let said = succeed(&["--run-dir", &name, "--word", word, "--beam", beam]);
        assert_eq!(said.lines().count(), lines, "{said}");
        assert!(said.lines().all(|line| line.ends_with(" %")), "{said}");
        let phonemes: Vec<_> = said.lines().next().unwrap().split_whitespace().rev().skip(2).collect();
        let known = |phoneme: &&str| firebox::data::formats::cmudict::SOUNDS.contains(phoneme);
        assert!(!phonemes.is_empty() && phonemes.iter().all(known), "{said}");
    }
}

#[test]
fn a_word_is_right_by_any_of_its_pronunciations() {
    let wer = |pronunciations: &[&str]| {
        let (folder, run, name) = folder();
        let mut lines = String::new();
        for number in 0..1200 {
            let letters = [number / 100, number / 10 % 10, number % 10];
            let word: String = letters.into_iter().map(|digit| (b'a' + digit as u8) as char).collect();
            for (place, phonemes) in pronunciations.iter().enumerate() {
                let name = if place == 0 { word.clone() } else { format!("{word}({})", place + 1) };
                lines += &format!("{name} {phonemes}\n");
            }
        }
        fs::write(folder.path().join("cmudict.dict"), lines).unwrap();
        let data = folder.path().to_str().unwrap();
        let small =
            ["--hidden", "8", "--embedding", "4", "--batch-size", "16", "--lr", "0.03", "--epochs", "1"];
        succeed(&[&["--data-dir", data, "--run-dir", &name][..], &small].concat());
        let summary = json(&run.join("summary.json"));
        ["test_wer", "test_wer_greedy"].map(|field| summary[field].as_f64().unwrap())
    };
    // Two of three pronunciations begin otherwise than the first, so that nothing is right by that one alone.
    assert_eq!(wer(&["AA1", "IY1", "IY1 S"]), [0.0, 0.0]);
}

#[test]
fn settings_matter() {
    let run = |extra: &[&str]| {
        let (_folder, run, name) = folder();
        let few = [
            "--limit-train",
            "60",
            "--limit-test",
            "8",
            "--epochs",
            "1",
            "--hidden",
            "8",
            "--embedding",
            "4",
        ];
        succeed(&[&few[..], &["--batch-size", "8"], extra, &["--run-dir", &name]].concat());
        losses(&run)
    };
    let plain = run(&[]);
    for extra in [
        &["--dropout", "0.5"][..],
        &["--label-smoothing", "0.1"],
        &["--teacher-forcing", "0"],
        &["--stress"],
        &["--layers", "2"],
        &["--clip-norm", "0.01"],
        &["--seed", "1"],
    ] {
        assert_ne!(run(extra), plain, "{extra:?} changes nothing");
    }
    for workers in ["0", "3"] {
        assert_eq!(run(&["--workers", workers]), plain, "{workers} workers");
    }
}

/// A run in the background, killed by SIGKILL when it goes out of scope.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(unix)]
#[test]
fn a_killed_run_goes_on_to_the_same_end() {
    let (_whole_folder, whole, whole_name) = folder();
    succeed(&[&["--run-dir", &whole_name][..], &SMALL].concat());
    let (_folder, run, name) = folder();
    let mut command = example("pronounce");
    command.args(["--run-dir", &name]).args(SMALL).stdout(Stdio::null()).stderr(Stdio::null());
    let mut running = Running(command.spawn().unwrap());
    let begun = Instant::now();
    // Until there is a checkpoint in the middle of an epoch, behind the first few.
    let saved = || {
        let state = last_state(&run);
        state["step"].as_u64() >= Some(14) && state["loader"]["batch"].as_u64() > Some(0)
    };
    while !saved() {
        assert!(begun.elapsed() < Duration::from_secs(120), "no checkpoint of step 14");
        assert!(running.0.try_wait().unwrap().is_none(), "it ended before it was killed");
        sleep(Duration::from_millis(1));
    }
    drop(running);
    assert!(!run.join("summary.json").exists());
    succeed(&["--run-dir", &name, "--resume", "--workers", "2", "--threads", "1"]);
    assert_eq!(losses(&run), losses(&whole));
    for part in ["model", "model.optimizer", "model.ema"] {
        let [killed, whole] = [&run, &whole]
            .map(|run| fs::read(run.join(format!("checkpoints/last/{part}.safetensors"))).unwrap());
        assert!(killed == whole, "{part} differs");
    }
    let [killed, whole] = [&run, &whole].map(|run| json(&run.join("summary.json"))["test_per"].clone());
    assert_eq!(killed, whole);
}

#[test]
fn bad_input_is_one_line_that_says_what_and_where() {
    let (folder, run, name) = folder();
    let few =
        ["--limit-train", "20", "--limit-test", "4", "--epochs", "1", "--hidden", "8", "--embedding", "4"];
    succeed(&[&["--run-dir", &name][..], &few].concat());
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let dictionary = |name: &str, contents: &[u8]| {
        fs::create_dir(at(name)).unwrap();
        fs::write(Path::new(&at(name)).join("cmudict.dict"), contents).unwrap();
        at(name)
    };
    let empty = dictionary("empty", b"");
    let binary = dictionary("binary", &[0x7f, b'E', b'L', b'F', 0, 0xff, 0xfe, b'\n', 0x80]);
    let silent = dictionary("silent", b"a AH0\nbee\n");
    let foreign = dictionary("foreign", "a AH0\nna\u{ef}ve N AY0 IY1 V\n".as_bytes());
    let few_words = dictionary("few", b"a AH0\n");
    // A run of another example, and one whose checkpoint is that.
    let other = at("other");
    let small = ["--limit-train", "20", "--limit-test", "10", "--batch-size", "10", "--epochs", "1"];
    assert!(training().args(["--run-dir", &other]).args(small).output().unwrap().status.success());
    let disguised = at("disguised");
    fs::create_dir(&disguised).unwrap();
    fs::copy(run.join("config.json"), Path::new(&disguised).join("config.json")).unwrap();
    fs::rename(Path::new(&other).join("checkpoints"), Path::new(&disguised).join("checkpoints")).unwrap();

    let narrow = at("narrow.toml");
    fs::write(&narrow, "beam = 0\n").unwrap();

    let cases: &[(&[&str], i32, &[&str])] = &[
        (&["--config", &narrow], 1, &[&narrow, "--beam", "expected at least 1"]),
        (&["--beam", "0"], 2, &["--beam", "expected at least 1"]),
        (&["--teacher-forcing", "1.5"], 2, &["--teacher-forcing", "expected a number from 0 to 1"]),
        (&["--label-smoothing", "1"], 2, &["--label-smoothing", "expected a number from 0, below 1"]),
        (&["--hidden", "7"], 1, &["hidden", "expected an even number above 0, got 7"]),
        (&["--data-dir", "/nowhere"], 1, &["/nowhere/cmudict.dict", "no such file"]),
        (&["--data-dir", &empty], 1, &[&empty, "expected words with their phonemes, got none"]),
        (&["--data-dir", &binary], 1, &[&binary, "line 1: expected text, got bytes that are not UTF-8"]),
        (&["--data-dir", &silent], 1, &[&silent, "line 2: bee: expected phonemes behind the word, got none"]),
        (&["--data-dir", &foreign], 1, &[&foreign, "line 2", "na\u{ef}ve", "expected the letters"]),
        (
            &["--data-dir", &few_words],
            1,
            &[&few_words, "expected words, got 0 to train, 0 to validate and 1 to test"],
        ),
        (
            &["--run-dir", &name, "--word", "caf\u{e9}"],
            1,
            &["caf\u{e9}", "expected the letters abc", "got '\u{e9}'"],
        ),
        (&["--run-dir", &name, "--word", "two words"], 1, &["two words", "got ' '"]),
        (&["--run-dir", &name, "--word", ""], 1, &["expected a word, got none"]),
        (&["--run-dir", &name, "--word", "a", "--lr", "1"], 1, &["--lr", "no effect with --word"]),
        (&["--run-dir", &other, "--word", "a"], 1, &[&other, "config.json", "is it a run of pronounce?"]),
        (&["--run-dir", &other, "--resume"], 1, &[&other, "config.json", "is it a run of pronounce?"]),
        (&["--run-dir", &disguised, "--word", "a"], 1, &["disguised/checkpoints/best", "decoder"]),
        (&["--run-dir", &disguised, "--resume"], 1, &["disguised/checkpoints"]),
        (&["--run-dir", &name, "--resume", "--hidden", "16"], 1, &["--hidden", "8", "16"]),
    ];
    let before = fs::read(run.join("metrics.jsonl")).unwrap();
    for (arguments, code, parts) in cases {
        // Should one of them begin to train after all, it leaves nothing in this folder.
        let mut arguments = arguments.to_vec();
        let fresh = at("fresh");
        if !arguments.contains(&"--run-dir") {
            arguments.extend(["--run-dir", &fresh]);
        }
        let output = outcome(&arguments);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(*code), "{arguments:?}: {text}");
        assert_eq!(text.lines().count(), 1, "{arguments:?}: {text}");
        assert!(text.starts_with("error: "), "{arguments:?}: {text}");
        for part in *parts {
            assert!(text.contains(part), "{arguments:?} doesn't say {part}: {text}");
        }
        assert!(!Path::new(&fresh).exists(), "{arguments:?} left a run folder");
    }
    assert_eq!(fs::read(run.join("metrics.jsonl")).unwrap(), before, "a refused run changed the old one");
}
