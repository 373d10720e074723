//! The example `gan` as a person runs it: what it leaves, what it says, and that it goes on where it was.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::{course, example, last_state};
use burn::tensor::TensorData;
use firebox::weights::StateDict;
use serde_json::Value;
use tempfile::TempDir;

fn outcome(arguments: &[&str]) -> Output {
    example("gan").args(arguments).output().unwrap()
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

/// The records that are whole. A run that is still going on may be in the middle of a line: a write that crosses a page
/// is seen in two parts.
fn records(run: &Path) -> Vec<Value> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default();
    let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    whole.map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A judge that has seen little, and few images to judge.
const SMALL: [&str; 10] = [
    "--limit-train",
    "256",
    "--limit-test",
    "64",
    "--batch-size",
    "32",
    "--epochs",
    "2",
    "--judge-epochs",
    "1",
];

/// The losses of a run's steps.
fn losses(run: &Path) -> Vec<Value> {
    let steps = records(run).into_iter().filter(|record| record["kind"] == "step");
    steps.map(|record| serde_json::json!([record["loss_discriminator"], record["loss_generator"]])).collect()
}

#[test]
fn settings_matter() {
    let (_judge_folder, _, judge) = folder();
    let few = ["--limit-train", "128", "--limit-test", "16", "--batch-size", "32", "--epochs", "1"];
    succeed(&[&["--run-dir", &judge, "--judge-epochs", "1"][..], &few].concat());
    let run = |extra: &[&str]| {
        let (_folder, run, name) = folder();
        succeed(&[&["--run-dir", &name, "--judge", &judge][..], &few, extra].concat());
        losses(&run)
    };
    let plain = run(&[]);
    assert_eq!(plain.len(), 4);
    assert_eq!(run(&["--workers", "2", "--threads", "1"]), plain, "what changes no result does");
    for extra in [
        ["--loss", "least-squares"],
        ["--loss", "hinge"],
        ["--label-smoothing", "0.1"],
        ["--critic-steps", "2"],
        ["--latent", "8"],
        ["--lr", "0.001"],
        ["--accumulate", "2"],
        ["--seed", "1"],
    ] {
        assert_ne!(run(&extra), plain, "{extra:?} changes nothing");
    }
    // The moving average makes samples, and changes no step.
    assert_eq!(run(&["--ema", "0.5"]), plain);
}

#[test]
fn a_run_leaves_what_other_tools_read() {
    let (folder, run, name) = folder();
    let said = succeed(&[&["--run-dir", &name][..], &SMALL].concat());
    assert!(said.contains("Fréchet distance of the samples: "), "{said}");

    let config = json(&run.join("config.json"));
    assert_eq!((&config["arch"], &config["loss"]), (&"mlp".into(), &"non-saturating".into()));
    let summary = json(&run.join("summary.json"));
    for field in [
        "frechet_distance",
        "frechet_distance_of_real",
        "confidence",
        "judge_accuracy",
        "seconds",
        "largest_class_share",
    ] {
        assert!(summary[field].is_f64(), "{field}: {summary}");
    }
    // A generator that has seen 16 batches is further from the test images than real ones are.
    assert!(summary["frechet_distance"].as_f64() > summary["frechet_distance_of_real"].as_f64(), "{summary}");
    let shares: Vec<f64> =
        summary["classes"].as_object().unwrap().values().map(|share| share.as_f64().unwrap()).collect();
    assert_eq!(shares.len(), 10);
    assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{shares:?}");
    assert_eq!(shares.iter().copied().fold(0.0, f64::max), summary["largest_class_share"].as_f64().unwrap());
    assert_eq!(shares.iter().copied().fold(1.0, f64::min), summary["smallest_class_share"].as_f64().unwrap());
    let ends = summary["best_step"] == 16;
    assert_eq!(summary["frechet_distance_last"] == summary["frechet_distance"], ends, "{summary}");

    let records = records(&run);
    let shape: Vec<_> =
        records.iter().map(|r| (r["kind"].as_str().unwrap(), r["split"].as_str().unwrap())).collect();
    let epoch = [vec![("step", "train"); 8], vec![("epoch", "train"), ("eval", "valid")]].concat();
    assert_eq!(shape, [epoch.clone(), epoch, vec![("eval", "test, last"), ("eval", "test")]].concat());
    for record in &records {
        let fields: &[&str] = match record["kind"] == "eval" {
            true => &["frechet_distance", "confidence"],
            false => &["loss_discriminator", "loss_generator", "output_real", "output_fake"],
        };
        assert!(fields.iter().all(|&field| record[field].is_number()), "{record}");
    }

    // A picture of 80 samples for the beginning and each epoch, each another.
    let pictures = ["epoch-000.png", "epoch-001.png", "epoch-002.png", "best.png", "interpolation.png"]
        .map(|name| image::open(run.join("samples").join(name)).unwrap().to_luma8());
    for picture in &pictures {
        assert_eq!(picture.dimensions(), (280, 224));
    }
    assert!(pictures[0] != pictures[1] && pictures[1] != pictures[2]);
    // Neighbours on the way are like each other, more than its ends.
    let tile = |column: u32| {
        let part = image::imageops::crop_imm(&pictures[4], column * 28, 0, 28, 28).to_image();
        part.into_raw().into_iter().map(f64::from).collect::<Vec<_>>()
    };
    let apart = |a: u32, b: u32| -> f64 { tile(a).iter().zip(tile(b)).map(|(a, b)| (a - b).abs()).sum() };
    assert!(apart(0, 1) < apart(0, 9) / 2.0, "{} and {}", apart(0, 1), apart(0, 9));

    let report = fs::read_to_string(run.join("report.html")).unwrap();
    for part in [
        "Samples of the best checkpoint",
        "From one sample to another",
        "Frechet distance",
        "Loss discriminator",
        "Loss generator",
        "Output real",
        "after 2 epochs",
        "samples taken for",
        "waiting for data",
    ] {
        assert!(report.contains(part), "the report has no {part}");
    }
    assert_eq!(report.matches("data:image/png;base64,").count(), 5);

    // Samples from elsewhere are judged by the same judge: black images are of one class, and far away.
    let file = folder.path().join("black.safetensors");
    let mut samples = StateDict::default();
    samples.insert("samples", TensorData::new(vec![-1.0_f32; 64 * 784], [64, 1, 28, 28]));
    samples.write(&file).unwrap();
    let said = succeed(&["--run-dir", &name, "--score", file.to_str().unwrap()]);
    let score: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(score["largest_class_share"], 1.0, "{score}");
    assert!(score["frechet_distance"].as_f64() > summary["frechet_distance_of_real"].as_f64(), "{score}");
    assert_eq!(score["judge_accuracy"], summary["judge_accuracy"]);

    // Another run takes the judge over, and says the same of the same images.
    let (_other_folder, other, other_name) = self::folder();
    let flags =
        ["--run-dir", &other_name, "--judge", &name, "--loss", "hinge", "--critic-steps", "2", "--ema", "0"];
    succeed(&[&flags[..], &SMALL].concat());
    let judges = [&run, &other].map(|run| fs::read(run.join("judge.safetensors")).unwrap());
    assert!(judges[0] == judges[1] && !other.join("judge").exists());
    let summary = json(&other.join("summary.json"));
    assert_eq!(score["judge_accuracy"], summary["judge_accuracy"]);
    let with_generator = self::records(&other)
        .iter()
        .filter(|r| r["kind"] == "step" && r["loss_generator"].is_number())
        .count();
    assert_eq!(with_generator, 8, "every other step of 16");
}

/// A run in the background, killed by SIGKILL when it goes out of scope.
struct Running(Child);

impl Running {
    fn start(arguments: &[&str]) -> Self {
        let mut command = example("gan");
        Running(command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    fn until(&mut self, what: &str, there: impl Fn() -> bool) {
        let begun = Instant::now();
        while !there() {
            assert!(self.0.try_wait().unwrap().is_none(), "the run ended before: {what}");
            assert!(begun.elapsed() < Duration::from_secs(120), "it did not come to: {what}");
            sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_killed_run_goes_on_to_the_same_end() {
    let everything = [
        "--critic-steps",
        "2",
        "--accumulate",
        "2",
        "--ema",
        "0.9",
        "--label-smoothing",
        "0.1",
        "--batch-size",
        "8",
        "--limit-train",
        "480",
        "--limit-test",
        "32",
        "--epochs",
        "2",
        "--judge-epochs",
        "4",
        "--save-steps",
        "7",
    ];
    let convolutions = [
        "--arch",
        "dcgan",
        "--latent",
        "10",
        "--batch-size",
        "4",
        "--limit-train",
        "64",
        "--limit-test",
        "16",
        "--epochs",
        "2",
        "--judge-epochs",
        "20",
        "--save-steps",
        "3",
    ];
    for (recipe, kills) in [(&everything[..], &[11, 33][..]), (&convolutions[..], &[20])] {
        let folder = tempfile::tempdir().unwrap();
        let [whole, killed] = ["whole", "killed"].map(|name| folder.path().join(name));
        let [whole_name, killed_name] = [&whole, &killed].map(|run| run.to_str().unwrap());
        succeed(&[recipe, &["--run-dir", whole_name]].concat());

        // First while the judge learns, then while the networks do.
        let mut run = Running::start(&[recipe, &["--run-dir", killed_name]].concat());
        run.until("a step of the judge", || records(&killed.join("judge")).len() > 2);
        drop(run);
        assert!(!killed.join("judge.safetensors").exists(), "the kill came too late");
        // Its first step may never have been saved.
        let part = ["--run-dir", killed_name, "--resume"];
        let mut run = Running::start(&part);
        run.until("the judge", || killed.join("judge.safetensors").exists());
        drop(run);
        let checkpoints = killed.join("checkpoints");
        fs::remove_dir_all(&checkpoints).and_then(|()| fs::create_dir(&checkpoints)).unwrap();
        for &steps in kills {
            let mut run =
                Running::start(&["--run-dir", killed_name, "--resume", "--workers", "2", "--threads", "1"]);
            run.until("a checkpoint within an epoch", || {
                records(&killed).len() > steps && last_state(&killed)["loader"]["batch"].as_u64() > Some(0)
            });
            drop(run);
            assert!(!killed.join("summary.json").exists(), "the kill came too late");
        }
        succeed(&["--run-dir", killed_name, "--resume", "--workers", "0"]);
        assert_eq!(course(&killed), course(&whole));
        for part in
            ["generator", "generator.optimizer", "generator.ema", "discriminator", "discriminator.optimizer"]
        {
            let file = format!("checkpoints/last/{part}.safetensors");
            assert!(
                fs::read(killed.join(&file)).unwrap() == fs::read(whole.join(&file)).unwrap(),
                "{part} differs"
            );
        }
        for file in [
            "judge.safetensors",
            "samples/epoch-001.png",
            "samples/epoch-002.png",
            "samples/interpolation.png",
        ] {
            assert!(
                fs::read(killed.join(file)).unwrap() == fs::read(whole.join(file)).unwrap(),
                "{file} differs"
            );
        }
        let [one, other] = [&killed, &whole].map(|run| json(&run.join("summary.json")));
        assert_eq!(one["frechet_distance"], other["frechet_distance"]);
    }
}

#[test]
fn bad_input_is_one_line_that_says_what_and_where() {
    let (folder, run, name) = folder();
    succeed(&[&["--run-dir", &name][..], &SMALL].concat());
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let classifier = at("classifier");
    let small = ["--limit-train", "64", "--limit-test", "16", "--epochs", "1", "--run-dir", &classifier];
    assert!(example("training").args(small).output().unwrap().status.success());
    let file = |name: &str, key: &str, samples: usize, value: f32| {
        let mut tensors = StateDict::default();
        tensors.insert(key, TensorData::new(vec![value; samples * 784], [samples, 1, 28, 28]));
        tensors.write(at(name)).unwrap();
        at(name)
    };
    let few = file("few.safetensors", "samples", 3, 0.0);
    let bright = file("bright.safetensors", "samples", 64, 255.0);
    let other = file("other.safetensors", "images", 64, 0.0);
    // A checkpoint of the other example in the place of the run's own.
    let copy = |from: &str, to: &str| {
        assert!(Command::new("cp").args(["-a", from, to]).status().unwrap().success(), "{from} to {to}");
    };
    copy(&name, &at("mixed"));
    fs::remove_dir_all(at("mixed/checkpoints")).unwrap();
    copy(&at("classifier/checkpoints"), &at("mixed/checkpoints"));

    // Settings in a file have the flags' ranges.
    let settings = |name: &str, contents: &str| {
        fs::write(at(name), contents).unwrap();
        at(name)
    };
    let idle = settings("idle.toml", "accumulate = 0\n");
    let uphill = settings("uphill.toml", "lr = -0.0002\n");
    // A run whose checkpoints are of other networks than a classifier.
    let disguised = at("disguised");
    copy(&name, &disguised);
    fs::remove_file(Path::new(&disguised).join("judge.safetensors")).unwrap();

    let cases: &[(&[&str], i32, &[&str])] = &[
        (&["--config", &idle], 1, &[&idle, "--accumulate", "expected at least 1"]),
        (&["--config", &uphill], 1, &[&uphill, "--lr", "expected a number above 0"]),
        (&["--arch", "diffusion"], 2, &["--arch", "diffusion", "mlp, dcgan"]),
        (&["--loss", "wasserstein"], 2, &["--loss", "non-saturating, least-squares, hinge", "wasserstein"]),
        (&["--loss", "hinge", "--label-smoothing", "0.1"], 1, &["label smoothing", "hinge", "0.1"]),
        (&["--label-smoothing", "1"], 2, &["--label-smoothing", "from 0, below 1"]),
        (&["--critic-steps", "0"], 2, &["--critic-steps", "at least 1"]),
        (&["--latent", "0"], 2, &["--latent", "at least 1"]),
        (&["--ema", "1"], 2, &["--ema", "from 0, below 1"]),
        (&["--backend", "abacus"], 1, &["no backend abacus", "flex"]),
        (&["--data-dir", "/nowhere"], 1, &["/nowhere/train-images-idx3-ubyte", "no such file"]),
        (&["--limit-test", "1"], 1, &["expected images", "1 to validate and 1 to test"]),
        (&["--judge", "/nowhere"], 1, &["/nowhere"]),
        (&["--judge", &few], 1, &[&few, "missing conv1.conv.weight", "unexpected samples"]),
        (&["--judge", folder.path().to_str().unwrap()], 1, &["no run"]),
        (&["--judge", &disguised], 1, &[&disguised, "no judge", "no part model"]),
        (&["--run-dir", &classifier, "--score", &few], 1, &["classifier/config.json", "is it a run of gan?"]),
        (&["--run-dir", &name], 1, &[&name, "already used", "--resume", "--overwrite"]),
        (&["--run-dir", &at("none"), "--resume"], 1, &[&at("none"), "no run"]),
        (&["--run-dir", &classifier, "--resume"], 1, &["classifier/config.json", "is it a run of gan?"]),
        (
            &["--run-dir", &at("mixed"), "--resume"],
            1,
            &["mixed/checkpoints/last", "no part generator", "model"],
        ),
        (&["--run-dir", &name, "--resume", "--loss", "hinge"], 1, &["--loss", "non-saturating", "hinge"]),
        (&["--run-dir", &name, "--score", &few], 1, &[&few, "[64, 1, 28, 28]", "[3, 1, 28, 28]"]),
        (&["--run-dir", &name, "--score", &bright], 1, &[&bright, "from -1 to 1", "255"]),
        (&["--run-dir", &name, "--score", &other], 1, &[&other, "expected a tensor samples"]),
        (&["--run-dir", &name, "--score", "/nowhere.safetensors"], 1, &["/nowhere.safetensors"]),
        (&["--run-dir", &name, "--score", &few, "--lr", "1"], 1, &["--lr", "no effect with --score"]),
        (&["--run-dir", &name, "--score", &few, "--resume"], 2, &["--score", "--resume"]),
    ];
    let before = fs::read(run.join("metrics.jsonl")).unwrap();
    for (arguments, code, parts) in cases {
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

    // A classifier that the other example has trained is a judge; and a run is overwritten whole.
    let flags = ["--judge", &classifier, "--run-dir", &name, "--overwrite", "--epochs", "1"];
    succeed(&[&flags[..], &SMALL[..6], &["--judge-epochs", "1"]].concat());
    assert!(!run.join("samples/epoch-002.png").exists(), "a picture of the old run");
}
