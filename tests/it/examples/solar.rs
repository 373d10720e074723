//! The example of a first program: pictures that are told apart, and one that can't be read.

use std::fs;
use std::path::{Path, PathBuf};

use firebox::core::SampleRng;
use image::{GrayImage, Luma};

use super::{example, records};

/// A folder of grey pictures with noise; those with a defect have a dark bar.
fn cells(folder: &Path, count: usize) {
    fs::create_dir(folder.join("images")).unwrap();
    let (mut rng, mut table) = (SampleRng::from_seed(7), String::new());
    for cell in 0..count {
        let (defect, at) = (cell % 3 == 0, rng.below(40) as u32);
        let picture = GrayImage::from_fn(48, 48, |x, y| {
            let dark = defect && (at..at + 6).contains(&x) && y > 4;
            Luma([rng.below(60) as u8 + if dark { 20 } else { 140 }])
        });
        let name = format!("images/cell{cell:04}.png");
        picture.save(folder.join(&name)).unwrap();
        // Both ways in which a line may be written.
        let label = if defect { "1.0" } else { "0.0" };
        table +=
            &if cell % 2 == 0 { format!("{name}  {label}  mono\n") } else { format!("{name},{label}\n") };
    }
    fs::write(folder.join("labels.csv"), table).unwrap();
}

/// The only run below a folder.
fn run_in(folder: &Path) -> PathBuf {
    let mut runs = fs::read_dir(folder.join("runs")).unwrap().map(|entry| entry.unwrap().path());
    let run = runs.next().unwrap();
    assert_eq!(runs.next(), None);
    run
}

#[test]
fn solar_cells_with_a_defect_are_told_from_those_without() {
    let folder = tempfile::tempdir().unwrap();
    cells(folder.path(), 240);
    let output = example("solar").arg(".").current_dir(folder.path()).output().unwrap();
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}{errors}");
    assert!(said.contains("best checkpoint: "), "{said}");

    let run = run_in(folder.path());
    assert!(run.join("report.html").is_file());
    let records = records(&run);
    let epochs: Vec<_> = records.iter().filter(|record| record["kind"] == "epoch").collect();
    assert_eq!(epochs.len(), 8);
    let loss = |epoch: usize| epochs[epoch]["loss"].as_f64().unwrap();
    assert!(loss(7) < 0.5 * loss(0), "{} and {}", loss(0), loss(7));
    let (last, earlier) = records.split_last().unwrap();
    let of = |name: &str| -> Vec<f64> {
        let evaluations = earlier.iter().filter(|record| record["split"] == "valid");
        evaluations.map(|record| record[name].as_f64().unwrap()).collect()
    };
    let losses = of("loss");
    assert!(losses[7] < 0.25 && losses[7] < losses[0], "{losses:?}");
    // The pass by the best checkpoint, after those that have chosen it.
    assert_eq!(last["split"], "best");
    let auroc = last["auroc"].as_f64().unwrap();
    assert!(auroc > 0.95, "{auroc}");
    assert_eq!(auroc, of("auroc").into_iter().fold(0.0, f64::max));
}

#[test]
fn a_solar_cell_that_is_no_picture_is_named() {
    let folder = tempfile::tempdir().unwrap();
    cells(folder.path(), 20);
    fs::write(folder.path().join("images/cell0011.png"), "no picture").unwrap();
    let output = example("solar").arg(".").current_dir(folder.path()).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(errors.contains("cell0011.png"), "{errors}");
}
