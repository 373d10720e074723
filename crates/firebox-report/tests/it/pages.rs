//! What is on a page of a finished search, of predictions, and of data that fail.

use std::fs;

use burn::tensor::Device;
use firebox_data::{BoxError, Loader, Scalar};
use firebox_report::{LiveReport, Report};
use firebox_train::metrics::Confusion;
use firebox_train::trainer::{LrCurve, LrFinder};
use firebox_train::{ErrorKind, RunDir, Trainer};

use crate::common::{Pulled, config, numbers};

#[test]
fn a_search_for_a_learning_rate_is_plotted_with_what_it_suggests() {
    let finder = LrFinder::new().with_steps(40).unwrap();
    let mut curve = LrCurve::new(&finder);
    // It learns in the middle, and diverges at the end.
    (0..40)
        .for_each(|step| curve.add(if step < 30 { 3.0 - f64::from(step) / 12.0 } else { f64::from(step) }));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lr-find.html");
    Report::new("Rates").lr_curve(&curve).unwrap().write(&path).unwrap();
    let page = fs::read_to_string(path).unwrap();
    let suggestion = format!("steepest: {:.1e}", curve.steepest().unwrap());
    for part in ["<svg", "Learning rates", "learning rate", &suggestion, "a tenth of the lowest"] {
        assert!(page.contains(part), "the page has no {part}");
    }
}

#[test]
fn a_sample_that_was_taken_for_no_class_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let page = |confusion: &Confusion| {
        let path = folder.path().join("report.html");
        Report::new("Test").confusion(confusion, &["a", "b", "c"]).write(&path).unwrap();
        fs::read_to_string(path).unwrap()
    };
    let mut confusion = Confusion::new(3);
    (0..3).for_each(|class| confusion.count(class, class).unwrap());
    assert!(!page(&confusion).contains("Taken for no class"));
    confusion.count(1, None).unwrap();
    assert!(page(&confusion).contains("Taken for no class, as the model gave NaN: 1."));
}

#[test]
fn the_page_of_a_run_whose_data_fail_says_so() {
    for (text, fail) in [
        ("sample 7: panicked: ", (|| panic!("no such pixel")) as fn() -> Result<(), BoxError>),
        ("the picture is cut off", || Err("the picture is cut off".into())),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDir::create(folder.path()).unwrap();
        let broken = Loader::builder((0..12_i64).collect::<Vec<_>>()).batch_size(4).workers(0);
        let broken = broken.build(Scalar::<i64>::new(), move |number, _, slot| {
            *slot = number;
            if number == 7 { fail() } else { Ok(()) }
        });
        let mut trainer = Trainer::new(&run, &Device::default())
            .config(config())
            .callback(LiveReport::new(&run, "Pictures"));
        let error = trainer.fit(&mut Pulled::default(), &broken.unwrap(), &numbers(8)).unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Data);
        let page = fs::read_to_string(run.report()).unwrap();
        assert!(page.contains("Failed after step ") && page.contains(text), "{page:.900}");
        assert!(!page.contains("Running"), "{page:.900}");
    }
}
