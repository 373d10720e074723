//! IDX files, good and bad.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use burn_dataset::Dataset;
use firebox_data::idx::{Idx, LabelledImages};
use firebox_data::{ErrorKind, fashion_mnist};
use flate2::Compression;
use flate2::write::GzEncoder;

fn idx(shape: &[u32], values: &[u8]) -> Vec<u8> {
    let mut file = vec![0, 0, 8, shape.len() as u8];
    shape.iter().for_each(|dimension| file.extend(dimension.to_be_bytes()));
    file.extend(values);
    file
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn plain_and_gzip_files_give_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = idx(&[2, 2, 3], &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    let plain = Idx::read(write(folder.path(), "a", &bytes)).unwrap();
    // The name says nothing: the first bytes do.
    let packed = Idx::read(write(folder.path(), "b", &gzip(&bytes))).unwrap();
    let parts = [gzip(&bytes[..7]), gzip(&bytes[7..])].concat();
    let parts = Idx::read(write(folder.path(), "c", &parts)).unwrap();
    assert_eq!((&parts.shape, &parts.values), (&plain.shape, &plain.values), "a file of two gzip members");
    assert_eq!(plain.shape, [2, 2, 3]);
    assert_eq!((plain.shape, plain.values), (packed.shape, packed.values));
}

#[test]
fn a_bad_file_is_refused_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let good = idx(&[2, 2, 2], &[0; 8]);
    let packed = gzip(&good);
    let mut flipped = packed.clone();
    let crc = flipped.len() - 6;
    flipped[crc] ^= 1;
    let huge = idx(&[u32::MAX, u32::MAX, u32::MAX], &[]);
    let large = idx(&[u32::MAX, 28, 28], &[0; 100]);
    let brim = idx(&[u32::MAX, 641, 6_700_417], &[]);
    let cases: [(&str, &[u8], &str); 12] = [
        ("empty", b"", "ends before the magic number"),
        ("text", b"hello, world", "expected magic 00 00 08 and a rank, got 68 65 6c 6c"),
        ("floats", &[0, 0, 13, 1, 0, 0, 0, 0], "expected magic"),
        ("no-dimensions", &good[..9], "ends before the dimensions"),
        ("short", &good[..good.len() - 1], "expected 8 bytes for dimensions [2, 2, 2], got 7"),
        ("long", &[&good[..], b"x"].concat(), "expected 8 bytes for dimensions [2, 2, 2], got more"),
        ("cut.gz", &packed[..packed.len() - 12], "damaged or cut short"),
        ("flipped.gz", &flipped, "damaged or cut short"),
        ("garbage.gz", &[&packed[..], b"garbage"].concat(), "damaged or cut short"),
        ("brim", &brim, "got 0"),
        ("huge", &huge, "impossible dimensions"),
        ("large", &large, "got 100"),
    ];
    for (name, bytes, expected) in cases {
        let path = write(folder.path(), name, bytes);
        let error = Idx::read(&path).unwrap_err();
        assert_eq!((error.kind(), error.path()), (ErrorKind::Format, Some(&*path)), "{name}");
        let text = error.to_string();
        assert!(text.starts_with(&format!("{}: ", path.display())), "{text}");
        assert!(text.contains(expected), "{name}: {text}");
    }
    let error = Idx::read(folder.path().join("absent")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("absent: cannot be read: No such file"), "{error}");
}

#[test]
fn images_and_labels_must_agree() {
    let folder = tempfile::tempdir().unwrap();
    let images = write(folder.path(), "images", &idx(&[3, 1, 2], &[1, 2, 3, 4, 5, 6]));
    let labels = |name: &str, labels: &[u8]| write(folder.path(), name, &idx(&[labels.len() as u32], labels));
    let good = LabelledImages::open(&images, labels("good", &[0, 9, 3]), 10).unwrap();
    assert_eq!((good.len(), good.size()), (3, [1, 2]));
    let image = good.get(1).unwrap();
    assert_eq!((&image.pixels[..], image.label), (&[3, 4][..], 9));
    for (file, expected) in [
        (labels("few", &[0, 1]), "expected 3 labels for"),
        (labels("high", &[0, 10, 1]), "label 1: expected a class below 10, got 10"),
        (images.clone(), "expected labels, which have 1 dimension, got dimensions [3, 1, 2]"),
    ] {
        let text = LabelledImages::open(&images, file, 10).unwrap_err().to_string();
        assert!(text.contains(expected), "{text}");
    }
    let labels = labels("good", &[0, 1, 2]);
    let text = LabelledImages::open(&labels, &labels, 10).unwrap_err().to_string();
    assert!(text.contains("expected images, which have 3 dimensions"), "{text}");
}

#[test]
fn fashion_mnist_is_what_its_authors_published() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/fashion-mnist");
    let (train, test) = (fashion_mnist::train(&folder).unwrap(), fashion_mnist::test(&folder).unwrap());
    for (part, count) in [(&train, 60_000), (&test, 10_000)] {
        assert_eq!((part.len(), part.size()), (count, [28, 28]));
        let mut classes = [0; 10];
        part.iter().for_each(|image| classes[usize::from(image.unwrap().label)] += 1);
        assert_eq!(classes, [count / 10; 10]);
    }
    let pixels = train.iter().flat_map(|image| image.unwrap().pixels.to_vec());
    let (sum, squares) = pixels.fold((0f64, 0f64), |(sum, squares), pixel| {
        let value = f64::from(pixel) / 255.0;
        (sum + value, squares + value * value)
    });
    let count = 60_000.0 * 784.0;
    let mean = sum / count;
    let std = (squares / count - mean * mean).sqrt();
    assert!((mean - f64::from(fashion_mnist::MEAN)).abs() < 1e-4, "mean {mean}");
    assert!((std - f64::from(fashion_mnist::STD)).abs() < 1e-4, "standard deviation {std}");
    let absent = fashion_mnist::train(folder.join("absent")).unwrap_err().to_string();
    assert!(absent.contains("train-images-idx3-ubyte: no such file, neither with .gz"), "{absent}");
}
