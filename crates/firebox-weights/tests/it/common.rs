//! Fixtures, and files made by hand.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use firebox_weights::{Element, ErrorKind, RawTensor, StateDict};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// A tensor of these numbers.
pub(crate) fn tensor<E: Element>(values: &[E], shape: &[usize]) -> RawTensor {
    RawTensor::new(values, shape).unwrap()
}

pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/weight_files").join(name)
}

pub(crate) fn read_at(name: &str, keys: &[&str]) -> StateDict {
    StateDict::read_pytorch_at(fixture(name), keys).unwrap()
}

pub(crate) fn read(name: &str) -> StateDict {
    read_at(name, &[])
}

/// The message without the path that it begins with.
pub(crate) fn refusal(path: &Path, keys: &[&str]) -> String {
    let error = StateDict::read_pytorch_at(path, keys).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Format, "{error}");
    error.to_string().strip_prefix(&format!("{}: ", path.display())).unwrap().to_owned()
}

pub(crate) fn floats(dict: &StateDict, key: &str) -> Vec<f64> {
    dict.get(key).unwrap().to_f64_vec()
}

pub(crate) fn unsupported(dict: &StateDict) -> Vec<(&str, &str)> {
    dict.unsupported().collect()
}

/// The `Linear(3, 2)` of seed 0 that several of the files hold.
pub(crate) fn linear() -> StateDict {
    let weight = [0.52300304f32, 0.082968675, 0.2739738, -0.3219955, 0.51536524, 0.0063512186];
    let mut dict = StateDict::default();
    dict.insert("weight", tensor(&weight, &[2, 3]));
    dict.insert("bias", tensor(&[-0.5716134f32, 0.44947183], &[2]));
    dict
}

/// Instructions of a pickle.
pub(crate) mod pickle {
    pub(crate) fn text(text: &str) -> Vec<u8> {
        [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
    }

    pub(crate) fn int(value: i64) -> Vec<u8> {
        [b"\x8a\x08", &value.to_le_bytes()[..]].concat()
    }

    pub(crate) fn tuple(values: &[i64]) -> Vec<u8> {
        [b"(".to_vec(), values.iter().flat_map(|&value| int(value)).collect(), b"t".to_vec()].concat()
    }

    pub(crate) fn storage(class: &str, key: &str, length: i64) -> Vec<u8> {
        let parts = [
            &b"("[..],
            &text("storage"),
            b"c",
            class.as_bytes(),
            &text(key),
            &text("cpu"),
            &int(length),
            b"tQ",
        ];
        parts.concat()
    }

    /// Arguments of `_rebuild_tensor_v2`, with more at the end.
    pub(crate) fn arguments(
        storage: &[u8],
        offset: i64,
        shape: &[i64],
        stride: &[i64],
        more: &[u8],
    ) -> Vec<u8> {
        let hooks = b"\x89ccollections\nOrderedDict\n)R";
        [b"(", storage, &int(offset), &tuple(shape), &tuple(stride), hooks, more, b"t"].concat()
    }

    pub(crate) fn tensor(storage: &[u8], offset: i64, shape: &[i64], stride: &[i64], more: &[u8]) -> Vec<u8> {
        let arguments = arguments(storage, offset, shape, stride, more);
        [b"ctorch._utils\n_rebuild_tensor_v2\n", &arguments[..], b"R"].concat()
    }

    pub(crate) fn dict<K: AsRef<str>>(items: &[(K, Vec<u8>)]) -> Vec<u8> {
        let items = items.iter().flat_map(|(key, value)| [text(key.as_ref()), value.clone()]);
        [b"\x80\x02}(".to_vec(), items.flatten().collect(), b"u.".to_vec()].concat()
    }
}

/// An archive of these entries.
pub(crate) fn archive(folder: &Path, entries: &[(&str, &[u8])]) -> PathBuf {
    let path = folder.join("archive.pt");
    let mut zip = ZipWriter::new(fs::File::create(&path).unwrap());
    for (name, bytes) in entries {
        let options = SimpleFileOptions::DEFAULT.compression_method(CompressionMethod::Stored);
        zip.start_file(format!("archive/{name}"), options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap();
    path
}

/// The numbers 1, 2, … as a storage.
pub(crate) fn numbers(count: usize) -> Vec<u8> {
    (1..=count).flat_map(|i| (i as f32).to_le_bytes()).collect()
}

pub(crate) const FLOATS: &str = "torch\nFloatStorage\n";

/// One tensor `w` of a storage of 12 floats, made so.
pub(crate) fn one(folder: &Path, tensor: Vec<u8>) -> PathBuf {
    archive(folder, &[("data.pkl", &pickle::dict(&[("w", tensor)])), ("data/0", &numbers(12))])
}

/// What a dictionary's tensors take, each piece of memory once.
pub(crate) fn memory(dict: &StateDict) -> u64 {
    let pieces: BTreeSet<_> =
        dict.iter().map(|(_, data)| (data.as_bytes().as_ptr() as usize, data.as_bytes().len())).collect();
    let mut end = 0;
    let mut all = 0;
    for (start, length) in pieces {
        let first = start.max(end);
        end = end.max(start + length);
        all += end.saturating_sub(first) as u64;
    }
    all
}

pub(crate) fn keys(dict: &StateDict) -> Vec<&str> {
    dict.iter().map(|(key, _)| key).collect()
}

/// A dict of tensors and other things side by side.
pub(crate) fn side_by_side(folder: &Path) -> PathBuf {
    let tensor = pickle::tensor(&pickle::storage(FLOATS, "0", 12), 0, &[2], &[1], b"");
    let items = [
        ("epoch", b"K\x03".to_vec()),
        ("inner", b"}".to_vec()),
        ("lr", b"G\x3f\xb9\x99\x99\x99\x99\x99\x9a".to_vec()),
        ("weight", tensor.clone()),
        // The latest of a name counts.
        ("name", tensor.clone()),
        ("name", b"N".to_vec()),
        ("epoch.weight", b"N".to_vec()),
        ("epoch.weight", tensor),
    ];
    archive(folder, &[("data.pkl", &pickle::dict(&items)), ("data/0", &numbers(12))])
}

/// The `weight` and `bias` of a `Linear(3, 2)` in one storage, which has more numbers.
pub(crate) fn two_parts(folder: &Path) -> PathBuf {
    let storage = pickle::storage(FLOATS, "0", 12);
    let weight = pickle::tensor(&storage, 0, &[2, 3], &[3, 1], b"");
    let bias = pickle::tensor(&storage, 4, &[2], &[1], b"");
    let pickle = pickle::dict(&[("weight", weight), ("bias", bias)]);
    archive(folder, &[("data.pkl", &pickle), ("data/0", &numbers(12))])
}
