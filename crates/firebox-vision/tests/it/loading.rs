//! The loader over a folder of images.

use std::fs;

use firebox_data::collate::Stacked;
use firebox_data::elements::Elements;
use firebox_data::loader::FailureBudget;
use firebox_data::{Loader, OnError, Scalar, Stack};
use firebox_vision::transforms::{ColorJitter, Normalize, RandomResizedCrop, imagenet_train};
use firebox_vision::{ColorMode, Decode, ImageFolder};
use image::ImageFormat;
use tempfile::TempDir;

use crate::files::{dynamic, encode, jpeg, pattern};

type Batch = (Stacked<f32, 3>, Elements<i64>);
type Images = Loader<(Stack<f32, 3>, Scalar<i64>)>;

/// 3 classes of 7 images, of which the given one is damaged.
fn folder(damaged: Option<usize>) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for index in 0..21 {
        let class = folder.path().join(["ant", "bee", "cat"][index / 7]);
        fs::create_dir_all(&class).unwrap();
        let (name, mut bytes) = match index % 2 {
            0 => ("jpg", jpeg(20 + index, 30)),
            _ => ("png", encode(&dynamic(&pattern(25, 18 + index, ColorMode::Rgb)), ImageFormat::Png)),
        };
        if damaged == Some(index) {
            bytes.truncate(bytes.len() / 2);
        }
        fs::write(class.join(format!("{index:02}.{name}")), bytes).unwrap();
    }
    folder
}

fn loader(folder: &TempDir, workers: usize, on_error: OnError) -> Images {
    let (augment, normalize) = imagenet_train(16).unwrap();
    Loader::builder(ImageFolder::new(folder.path()).unwrap())
        .shuffle(true)
        .seed(5)
        .batch_size(4)
        .workers(workers)
        .on_error(on_error)
        .transform(Decode::new())
        .transform(augment)
        .transform(ColorJitter::new().with_brightness(0.4).with_hue(0.1).build().unwrap())
        .build_with(normalize.labeled_layout(), normalize)
        .unwrap()
}

#[test]
fn batches_are_the_same_bytes_with_any_number_of_workers_and_after_a_resume() {
    let folder = folder(None);
    let epoch = |workers| -> Vec<Batch> {
        loader(&folder, workers, OnError::Fail).epoch(1).collect::<Result<_, _>>().unwrap()
    };
    let alone = epoch(0);
    assert_eq!(alone.iter().map(|(_, classes)| classes.len()).sum::<usize>(), 21);
    for workers in [1, 3] {
        assert_eq!(epoch(workers), alone, "{workers} workers");
    }
    for stop in 0..alone.len() {
        let state = {
            let loader = loader(&folder, 1, OnError::Fail);
            let mut epoch = loader.epoch(1);
            epoch.by_ref().take(stop).for_each(|batch| drop(batch.unwrap()));
            epoch.state()
        };
        let loader = loader(&folder, 3, OnError::Fail);
        let rest: Vec<Batch> = loader.resume(&state).unwrap().collect::<Result<_, _>>().unwrap();
        assert_eq!(rest, alone[stop..], "after {stop} batches");
    }
    let first = loader(&folder, 0, OnError::Fail).epoch(0).next().unwrap().unwrap();
    assert_ne!(first, alone[0], "another epoch has other crops");
}

#[test]
fn a_damaged_file_is_skipped_and_named_and_nothing_else_is_lost() {
    let folder = folder(Some(9));
    for workers in [0, 3] {
        let loader = loader(&folder, workers, OnError::Skip { at_most: FailureBudget::Count(1) });
        let mut epoch = loader.epoch(0);
        let classes: Vec<i64> = epoch.by_ref().flat_map(|batch| batch.unwrap().1.into_vec()).collect();
        assert_eq!([0, 1, 2].map(|class| classes.iter().filter(|other| **other == class).count()), [7, 6, 7]);
        let report = epoch.report();
        assert_eq!(report.failures.len(), 1);
        let error = &report.failures[0].error;
        assert_eq!((error.index(), error.path()), (Some(9), Some(&*folder.path().join("bee/09.png"))));
        assert!(error.to_string().contains("09.png"), "{error}");
    }
    let error = loader(&folder, 1, OnError::Fail).epoch(0).find_map(Result::err).unwrap();
    assert_eq!(error.index(), Some(9));
    assert_eq!(error.to_string().matches("09.png").count(), 1, "{error}");
}

#[test]
fn an_image_of_another_size_is_no_batch() {
    let folder = folder(None);
    let normalize = Normalize::imagenet([8, 32]).build().unwrap();
    let loader = Loader::builder(ImageFolder::new(folder.path()).unwrap())
        .transform(Decode::new())
        // As many pixels, in another shape.
        .transform(RandomResizedCrop::new([32, 8]).build().unwrap())
        .build_with(normalize.labeled_layout(), normalize)
        .unwrap();
    let error = loader.epoch(0).next().unwrap().unwrap_err().to_string();
    assert!(error.contains("expected 8×32×3 in a slot of 768 numbers, got 32×8×3 in one of 768"), "{error}");
}
