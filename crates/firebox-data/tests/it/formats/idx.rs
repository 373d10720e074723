//! IDX files, good and bad.

use std::path::Path;

use firebox_data::batches::SampleSet;
use firebox_data::dataset::{Subset, random_split};
use firebox_data::formats::fashion_mnist;
use firebox_data::formats::idx::{Idx, LabelledImages};
use firebox_data::{Dataset, ErrorKind, Loader};

use super::{gzip, write};

fn idx(shape: &[u32], values: &[u8]) -> Vec<u8> {
    let mut file = vec![0, 0, 8, shape.len() as u8];
    shape.iter().for_each(|dimension| file.extend(dimension.to_be_bytes()));
    file.extend(values);
    file
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
        assert_eq!((error.kind(), error.path()), (&ErrorKind::Format, Some(&*path)), "{name}");
        let text = error.to_string();
        assert!(text.starts_with(&format!("{}: ", path.display())), "{text}");
        assert!(text.contains(expected), "{name}: {text}");
    }
    let error = Idx::read(folder.path().join("absent")).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Io);
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
        (0..part.len()).for_each(|index| classes[usize::from(part.get(index).unwrap().label)] += 1);
        assert_eq!(classes, [count / 10; 10]);
    }
    let pixels = (0..train.len()).flat_map(|index| train.get(index).unwrap().pixels.to_vec());
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

#[cfg(target_os = "linux")]
#[test]
fn parts_of_images_that_were_sealed_are_found_to_overlap() {
    let folder = tempfile::tempdir().unwrap();
    let images = write(folder.path(), "images", &idx(&[12, 1, 1], &[7; 12]));
    let labels = write(folder.path(), "labels", &idx(&[12], &[0; 12]));
    let whole = LabelledImages::open(images, labels, 1).unwrap();
    let sealed = whole.seal().unwrap();
    // As two recipes open them, each for itself.
    let [(train, valid), (again, _)] = [(); 2].map(|()| random_split(sealed.open(), 4, 42).unwrap());
    let seen = |part| {
        let loader = Loader::builder(part).workers(0).build((), |_, _, ()| Ok(())).unwrap();
        SampleSet::of(&loader, 0).unwrap()
    };
    let [train, valid, again, all] = [train, valid, again, Subset::all(whole.clone())].map(seen);
    assert_eq!(train.overlap(&again).unwrap().items, 8);
    assert!(train.overlap(&valid).is_none());
    assert_eq!(all.overlap(&valid).unwrap().items, 4);
    assert_eq!(sealed.open().fingerprint(), whole.fingerprint());
}

#[test]
fn every_field_of_a_header_is_heeded() {
    let folder = tempfile::tempdir().unwrap();
    let read = |bytes: &[u8]| Idx::read(write(folder.path(), "file", bytes));
    // Types that IDX has, and one that it doesn't.
    for (code, name) in [
        (9, ": elements are signed bytes"),
        (11, ": elements are 16-bit integers"),
        (12, ": elements are 32-bit integers"),
        (13, ": elements are 32-bit floats"),
        (14, ": elements are 64-bit floats"),
        (10, ""),
        (0, ""),
        (255, ""),
    ] {
        let error = read(&[0, 0, code, 1, 0, 0, 0, 1, 7]).unwrap_err().to_string();
        let expected = format!("expected magic 00 00 08 and a rank, got 00 00 {code:02x} 01{name}");
        assert!(error.ends_with(&expected), "{error}");
    }
    for magic in [[1, 0, 8, 1], [0, 1, 8, 1], [0, 8, 0, 1], [1, 8, 0, 0]] {
        assert!(read(&[&magic[..], &[0, 0, 0, 1, 7]].concat()).is_err(), "{magic:?}");
    }
    // No dimension: one element. 255 of them, the most that the header can count.
    let scalar = read(&[0, 0, 8, 0, 7]).unwrap();
    assert_eq!((scalar.shape.len(), &scalar.values[..]), (0, &[7][..]));
    assert!(read(&[0, 0, 8, 0]).is_err() && read(&[0, 0, 8, 0, 7, 7]).is_err());
    let deep = read(&idx(&[1; 255], &[7])).unwrap();
    assert_eq!((deep.shape, &deep.values[..]), (vec![1; 255], &[7][..]));
    assert!(read(&idx(&[2; 255], &[7])).unwrap_err().to_string().contains("impossible dimensions"));
    // A dimension of 0 makes none of the others too large, wherever it stands.
    for shape in [[0, u32::MAX, u32::MAX, u32::MAX], [u32::MAX, u32::MAX, u32::MAX, 0]] {
        assert_eq!(read(&idx(&shape, &[])).unwrap().values.len(), 0);
        assert!(read(&idx(&shape, &[1])).unwrap_err().to_string().contains("got more"));
    }
    // The end of a packed file is looked at, too: a header that lies about its length is found before.
    let packed = gzip(&idx(&[2, 2], &[1, 2, 3, 4]));
    for cut in 1..packed.len() {
        assert!(read(&packed[..cut]).is_err(), "{cut} of {} bytes", packed.len());
    }
    for place in packed.len() - 8..packed.len() {
        let mut flipped = packed.clone();
        flipped[place] ^= 0x40;
        let error = read(&flipped).unwrap_err().to_string();
        assert!(error.contains("damaged or cut short"), "byte {place}: {error}");
    }
    assert!(read(&[&packed[..], &packed[..]].concat()).unwrap_err().to_string().contains("got more"));
    assert_eq!(read(&[&packed[..], &gzip(b"")[..]].concat()).unwrap().values.len(), 4, "an empty member");
}

#[test]
fn fashion_mnist_of_another_form_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let open = |shape: [u32; 3], labels: &[u8]| {
        let pixels = vec![0; shape.iter().product::<u32>() as usize];
        write(folder.path(), "train-images-idx3-ubyte", &idx(&shape, &pixels));
        write(folder.path(), "train-labels-idx1-ubyte.gz", &gzip(&idx(&[labels.len() as u32], labels)));
        fashion_mnist::train(folder.path())
    };
    assert_eq!(open([2, 28, 28], &[9, 0]).unwrap().len(), 2);
    assert_eq!(open([0, 28, 28], &[]).unwrap().len(), 0);
    for (shape, labels, expected) in [
        ([2, 28, 28], &[0][..], "expected 2 labels for"),
        ([1, 28, 28], &[0, 1], "expected 1 labels for"),
        ([2, 28, 28], &[0, 10], "label 1: expected a class below 10, got 10"),
        ([1, 28, 27], &[0], "expected images of 28×28 pixels, got 28×27"),
        ([1, 0, 28], &[0], "expected images of 28×28 pixels, got 0×28"),
    ] {
        let error = open(shape, labels).unwrap_err();
        assert!(error.to_string().contains(expected) && error.path().is_some(), "{error}");
        assert_eq!(error.to_string().lines().count(), 1);
    }
    // Images without pixels are images all the same.
    let (images, labels) =
        (write(folder.path(), "i", &idx(&[2, 0, 3], &[])), write(folder.path(), "l", &idx(&[2], &[0, 1])));
    let empty = LabelledImages::open(images, labels, usize::MAX).unwrap();
    assert_eq!((empty.len(), empty.get(1).unwrap().pixels.len()), (2, 0));
}
