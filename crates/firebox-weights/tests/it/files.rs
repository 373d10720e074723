//! Files of weights, field by field: what is read, what is passed over and named, and what is refused.
//!
//! `fixtures/weight_files` was written by PyTorch 2.15; `firebox_0_1.safetensors` by firebox before its files
//! had metadata.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use burn::module::{Module, Param};
use burn::tensor::{DType, Device, Tensor, TensorData};
use firebox_models::{ErrorKind, Linear, LinearConfig, StateDict, Weights};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/weight_files").join(name)
}

fn read_at(name: &str, keys: &[&str]) -> StateDict {
    StateDict::read_pytorch_at(fixture(name), keys).unwrap()
}

fn read(name: &str) -> StateDict {
    read_at(name, &[])
}

/// The message without the path that it begins with.
fn refusal(path: &Path, keys: &[&str]) -> String {
    let error = StateDict::read_pytorch_at(path, keys).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Format, "{error}");
    error.to_string().strip_prefix(&format!("{}: ", path.display())).unwrap().to_owned()
}

fn floats(dict: &StateDict, key: &str) -> Vec<f64> {
    dict.get(key).unwrap().iter::<f64>().collect()
}

fn unsupported(dict: &StateDict) -> Vec<(&str, &str)> {
    dict.unsupported().collect()
}

fn layer() -> Linear {
    LinearConfig::new(3, 2).init(&Device::default()).unwrap()
}

/// The `Linear(3, 2)` of seed 0 that several of the files hold.
fn linear() -> StateDict {
    let weight = vec![0.52300304f32, 0.082968675, 0.2739738, -0.3219955, 0.51536524, 0.0063512186];
    let mut dict = StateDict::default();
    dict.insert("weight", TensorData::new(weight, [2, 3]));
    dict.insert("bias", TensorData::new(vec![-0.5716134f32, 0.44947183], [2]));
    dict
}

/// Instructions of a pickle.
mod pickle {
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
fn archive(folder: &Path, entries: &[(&str, &[u8])]) -> PathBuf {
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
fn numbers(count: usize) -> Vec<u8> {
    (1..=count).flat_map(|i| (i as f32).to_le_bytes()).collect()
}

const FLOATS: &str = "torch\nFloatStorage\n";

/// One tensor `w` of a storage of 12 floats, made so.
fn one(folder: &Path, tensor: Vec<u8>) -> PathBuf {
    archive(folder, &[("data.pkl", &pickle::dict(&[("w", tensor)])), ("data/0", &numbers(12))])
}

#[test]
fn a_tensor_with_the_negative_bit_has_its_sign() {
    let dict = read("neg.pt");
    assert_eq!(dict.get("w"), Some(&TensorData::from([-2f32, 4.0])));
    assert!(unsupported(&dict).is_empty());

    let folder = tempfile::tempdir().unwrap();
    let negative = [b"}", &pickle::text("neg")[..], b"\x88s"].concat();
    let tensor = |storage: &str, offset, more: &[u8]| {
        let path =
            one(folder.path(), pickle::tensor(&pickle::storage(storage, "0", 12), offset, &[2], &[3], more));
        StateDict::read_pytorch(path)
    };
    assert_eq!(floats(&tensor(FLOATS, 1, &negative).unwrap(), "w"), [-2.0, -5.0]);
    assert_eq!(floats(&tensor(FLOATS, 1, b"}").unwrap(), "w"), [2.0, 5.0]);
    assert_eq!(floats(&tensor(FLOATS, 1, b"N").unwrap(), "w"), [2.0, 5.0]);
    // Of every width of floats, zeros too.
    for (class, size) in [("DoubleStorage", 8), ("HalfStorage", 2), ("BFloat16Storage", 2)] {
        let storage = pickle::storage(&format!("torch\n{class}\n"), "0", 2);
        let pickle = pickle::dict(&[("w", pickle::tensor(&storage, 0, &[2], &[1], &negative))]);
        let mut bytes = vec![0; 2 * size];
        bytes[2 * size - 1] = 0xc0;
        bytes[2 * size - 2] = if size == 8 { 0 } else { 0x40 };
        let path = archive(folder.path(), &[("data.pkl", &pickle), ("data/0", &bytes)]);
        let dict = StateDict::read_pytorch(path).unwrap();
        let values = floats(&dict, "w");
        assert!(values[0] == 0.0 && values[0].is_sign_negative() && values[1] >= 2.0, "{class}: {values:?}");
    }
}

#[test]
fn what_a_field_of_a_tensor_makes_of_it_is_read_or_named() {
    let folder = tempfile::tempdir().unwrap();
    let good = pickle::storage(FLOATS, "0", 12);
    let own = |tensor: Vec<u8>| {
        let pickle = pickle::dict(&[("w", tensor), ("good", pickle::tensor(&good, 0, &[2], &[1], b""))]);
        archive(folder.path(), &[("data.pkl", &pickle), ("data/0", &numbers(12))])
    };
    let metadata = |key: &str, value: &[u8]| {
        let items = [b"}", &pickle::text(key)[..], value, b"s"].concat();
        pickle::tensor(&good, 0, &[2], &[1], &items)
    };
    let version_3 = |class: &str, length, dtype: &str, more: &[u8]| {
        let more = [b"ctorch\n", dtype.as_bytes(), b"\n", more].concat();
        let storage = pickle::storage(class, "0", length);
        let arguments = pickle::arguments(&storage, 1, &[2], &[1], &more);
        [b"ctorch._utils\n_rebuild_tensor_v3\n", &arguments[..], b"R"].concat()
    };
    let bytes = "torch.storage\nUntypedStorage\n";
    let plain = pickle::tensor(&good, 1, &[2], &[1], b"");
    let parameter = |name: &str, more: &[u8]| {
        let start = format!("ctorch._utils\n{name}\n(");
        [start.as_bytes(), &plain, b"\x88N", more, b"tR"].concat()
    };
    let with_class = |class: &str| {
        let start =
            format!("ctorch._tensor\n_rebuild_from_type_v2\n(ctorch._utils\n_rebuild_tensor_v2\nc{class}\n");
        [start.as_bytes(), &pickle::arguments(&good, 1, &[2], &[1], b""), b"}tR"].concat()
    };
    for (what, tensor) in [
        ("a tensor", plain.clone()),
        ("version 3", version_3(bytes, 48, "float32", b"")),
        ("version 3 with metadata", version_3(bytes, 48, "float32", b"}")),
        ("version 3 of a typed storage", version_3(FLOATS, 12, "float32", b"N")),
        ("a parameter", parameter("_rebuild_parameter", b"")),
        ("a parameter with attributes", parameter("_rebuild_parameter_with_state", b"}")),
        ("a buffer with attributes", with_class("torch\nTensor")),
    ] {
        let dict = StateDict::read_pytorch(own(tensor)).unwrap();
        assert_eq!(floats(&dict, "w"), [2.0, 3.0], "{what}");
    }
    let sparse = b"ctorch._utils\n_rebuild_sparse_tensor\n)R".to_vec();
    for (tensor, what) in [
        (metadata("conj", b"\x88"), "a tensor with the metadata \"conj\""),
        (metadata("neg", b"\x89"), "a tensor with the metadata \"neg\""),
        (metadata("later", b"\x88"), "a tensor with the metadata \"later\""),
        (pickle::tensor(&good, 0, &[2], &[1], b"K\x01"), "a tensor with the metadata int"),
        (
            pickle::tensor(&good, 0, &[2], &[1], b"}}"),
            "torch._utils._rebuild_tensor_v2 with unknown arguments",
        ),
        (version_3(bytes, 48, "float8_e5m2", b""), "a tensor of torch.float8_e5m2"),
        (version_3(bytes, 48, "uint4", b""), "a tensor of torch.uint4"),
        (
            pickle::tensor(&pickle::storage("torch\nQInt8Storage\n", "0", 48), 0, &[2], &[1], b""),
            "a tensor of torch.QInt8Storage",
        ),
        (
            pickle::tensor(
                &pickle::storage("torch\nIntStorage\n", "0", 12),
                0,
                &[2],
                &[1],
                &[b"}", &pickle::text("neg")[..], b"\x88s"].concat(),
            ),
            "a negated tensor of I32",
        ),
        (with_class("quanto\nQTensor"), "quanto.QTensor"),
        (sparse, "torch._utils._rebuild_sparse_tensor"),
        (b"cposix\nsystem\n(X\x06\x00\x00\x00exit 1tR".to_vec(), "posix.system"),
        (b"c__main__\nNet\n)\x81}b".to_vec(), "__main__.Net"),
        (b"c__main__\nDict\n)\x81(X\x01\x00\x00\x00aK\x01u".to_vec(), "__main__.Dict"),
        (b"c__main__\nNet\n)}\x92".to_vec(), "__main__.Net"),
        (b"c__main__\nNet\n".to_vec(), "class __main__.Net"),
    ] {
        let dict = StateDict::read_pytorch(own(tensor)).unwrap();
        assert_eq!(unsupported(&dict), [("w", what)]);
        assert_eq!(floats(&dict, "good"), [1.0, 2.0], "{what}");
        assert_eq!(dict.get("w"), None);
    }
    for (tensor, error) in [
        (version_3(FLOATS, 12, "float16", b""), "w: expected F16, got a storage of F32"),
        (
            pickle::tensor(&pickle::storage(bytes, "0", 48), 0, &[2], &[1], b""),
            "w: expected a type of numbers, got a storage of bytes",
        ),
        (
            pickle::tensor(&pickle::storage(FLOATS, "0", -1), 0, &[2], &[1], b""),
            "w: a storage cannot have -1 elements",
        ),
        (
            pickle::tensor(&pickle::storage(FLOATS, "0", i64::MAX), 0, &[2], &[1], b""),
            "w: a storage cannot have 9223372036854775807 elements",
        ),
        (pickle::tensor(&good, -1, &[2], &[1], b""), "w: expected a whole number as the offset"),
        (
            pickle::tensor(&good, 0, &[2], &[-1], b""),
            "w: expected a tuple of at most 64 whole numbers as the strides",
        ),
        (
            pickle::tensor(&good, 0, &[-2], &[1], b""),
            "w: expected a tuple of at most 64 whole numbers as the shape",
        ),
        (
            pickle::tensor(&good, 0, &[3, 3], &[i64::MAX, i64::MAX], b""),
            "w: shape [3, 3] with strides [9223372036854775807, 9223372036854775807] from element 0 reaches beyond its \
             storage of 12 elements",
        ),
        (
            pickle::tensor(&good, i64::MAX, &[2], &[1], b""),
            "w: shape [2] with strides [1] from element 9223372036854775807 reaches beyond its storage of 12 elements",
        ),
        (
            pickle::tensor(&good, 13, &[0], &[1], b""),
            "w: shape [0] with strides [1] from element 13 reaches beyond its storage of 12 elements",
        ),
    ] {
        assert_eq!(refusal(&own(tensor), &[]), error);
    }
    // Where there is one element, no stride is too long.
    let dict =
        StateDict::read_pytorch(own(pickle::tensor(&good, 2, &[1, 2, 1], &[i64::MAX, 2, i64::MAX], b"")))
            .unwrap();
    assert_eq!(dict.get("w"), Some(&TensorData::new(vec![3f32, 5.0], [1, 2, 1])));
}

#[test]
fn what_is_wanted_of_a_checkpoint_loads_beside_what_is_foreign() {
    let dict = read_at("foreign.pt", &["state_dict"]);
    assert_eq!(dict, linear());
    assert!(unsupported(&dict).is_empty());
    assert_eq!(
        refusal(&fixture("foreign.pt"), &[]),
        "the file's value: expected a dict of tensors, got \"state_dict\" (dict), \
         \"best\" (numpy._core.multiarray.scalar), \"hparams\" (argparse.Namespace); \
         read_pytorch_at chooses a dict inside"
    );
    assert_eq!(
        refusal(&fixture("foreign.pt"), &["hparams"]),
        "[\"hparams\"]: expected a dict of tensors, got argparse.Namespace; torch.save(model.state_dict(), path) \
         writes one"
    );
    assert_eq!(
        refusal(&fixture("foreign.pt"), &["hparams", "lr"]),
        "[\"hparams\"]: expected a dict, got argparse.Namespace"
    );

    // Tensors and other things side by side.
    let folder = tempfile::tempdir().unwrap();
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
    let path = archive(folder.path(), &[("data.pkl", &pickle::dict(&items)), ("data/0", &numbers(12))]);
    let dict = StateDict::read_pytorch(path).unwrap();
    assert_eq!(dict.iter().map(|(key, _)| key).collect::<Vec<_>>(), ["epoch.weight", "weight"]);
    assert_eq!(unsupported(&dict), [("epoch", "int"), ("inner", "dict"), ("lr", "float"), ("name", "None")]);
    // What has no tensor keeps its key where the others lose their prefix.
    let mut prefixed = StateDict::default();
    for (key, data) in dict.iter() {
        prefixed.insert(format!("epoch{key}"), data.clone());
    }
    assert!(prefixed.strip_prefix("epoch").is_ok());
    let error = dict.apply(layer()).unwrap_err().to_string();
    assert!(
        error.ends_with("unexpected epoch (int); unexpected inner (dict); unexpected lr (float)"),
        "{error}"
    );
}

#[test]
fn extra_state_that_is_none_is_passed_over() {
    let dict = read("extra.pt");
    assert_eq!(dict, linear());
    assert_eq!(unsupported(&dict), [("fc._extra_state", "None")]);
    assert_eq!(StateDict::of(&layer().load_pytorch(fixture("extra.pt")).unwrap()), linear());
    let (module, partial) = dict.apply_partly(layer()).unwrap();
    assert_eq!(StateDict::of(&module), linear());
    assert_eq!(
        partial.unsupported.into_iter().collect::<Vec<_>>(),
        [("fc._extra_state".to_owned(), "None".to_owned())]
    );
}

#[derive(Module, Debug)]
struct Scaled {
    weight: Param<Tensor<2>>,
    bias: Param<Tensor<1>>,
    f8: Param<Tensor<1>>,
}

#[test]
fn a_tensor_of_an_unknown_type_is_missed_only_where_it_is_wanted() {
    for (dict, key, what) in [
        (read("complex.pt"), "c", "a tensor of torch.complex64"),
        (read("f8.pt"), "f8", "a tensor of torch.float8_e4m3fn"),
    ] {
        assert_eq!(dict, linear());
        assert_eq!(unsupported(&dict), [(key, what)]);
        let (module, partial) = dict.apply_partly(layer()).unwrap();
        assert_eq!(StateDict::of(&module), linear());
        assert!(partial.missing.is_empty() && partial.unused.is_empty());
        assert_eq!(partial.unsupported.get(key).map(String::as_str), Some(what));
        let error = dict.apply(layer()).unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Mismatch);
        assert_eq!(error.to_string(), format!("the weights don't fit the module: unexpected {key} ({what})"));
    }
    let device = Device::default();
    let scaled = || Scaled {
        weight: Param::from_tensor(Tensor::zeros([2, 3], &device)),
        bias: Param::from_tensor(Tensor::zeros([2], &device)),
        f8: Param::from_tensor(Tensor::zeros([2], &device)),
    };
    let dict = read("f8.pt");
    assert_eq!(
        dict.apply(scaled()).unwrap_err().to_string(),
        "the weights don't fit the module: f8: expected a tensor, got a tensor of torch.float8_e4m3fn"
    );
    let (module, partial) = dict.apply_partly(scaled()).unwrap();
    assert_eq!(module.bias.val().into_data(), *linear().get("bias").unwrap());
    assert_eq!(partial.missing, ["f8"]);
    assert_eq!(partial.unsupported.keys().collect::<Vec<_>>(), ["f8"]);

    let mut dict = StateDict::read(fixture("f8.safetensors")).unwrap();
    assert_eq!(unsupported(&dict), [("f8", "a tensor of F8_E4M3")]);
    assert_eq!(dict.iter().collect::<Vec<_>>(), [("a", &TensorData::from([1f32, 1.0]))]);
    // A tensor in its place is one.
    dict.insert("f8", TensorData::from([1f32]));
    assert!(unsupported(&dict).is_empty());
}

#[test]
fn names_of_one_storage_share_its_memory() {
    let dict = read("shared.pt");
    assert_eq!(dict.iter().count(), 24);
    let place = |key: &str| dict.get(key).unwrap().as_bytes().as_ptr();
    for layer in 0..12 {
        assert_eq!(dict.get(&format!("{layer}.weight")), dict.get("0.weight"));
        assert_eq!(place(&format!("{layer}.weight")), place("0.weight"), "no copy");
        assert_eq!(place(&format!("{layer}.bias")), place("0.bias"), "no copy");
    }
    assert_eq!(floats(&dict, "11.weight")[..2], [-0.12393411993980408, -0.09860765933990479]);
    assert_eq!(dict.get("0.weight").unwrap().shape().to_vec(), [64, 64]);
    // A clone that is changed is a copy.
    let mut changed = dict.get("3.bias").unwrap().clone();
    changed.as_mut_slice::<f32>().unwrap()[0] = 7.0;
    assert_eq!(floats(&dict, "3.bias"), floats(&dict, "0.bias"));
    assert_ne!(&changed, dict.get("3.bias").unwrap());
    // As PyTorch's save_model would not: safetensors has no names for one tensor.
    assert_eq!(StateDict::from_safetensors(&dict.to_safetensors().unwrap()).unwrap(), dict);

    // A module's tensors are its own: they don't keep the storage.
    let folder = tempfile::tempdir().unwrap();
    let storage = pickle::storage(FLOATS, "0", 12);
    let weight = pickle::tensor(&storage, 0, &[2, 3], &[3, 1], b"");
    let bias = pickle::tensor(&storage, 4, &[2], &[1], b"");
    let pickle = pickle::dict(&[("weight", weight), ("bias", bias)]);
    let path = archive(folder.path(), &[("data.pkl", &pickle), ("data/0", &numbers(12))]);
    let dict = StateDict::read_pytorch(path).unwrap();
    assert_eq!(
        dict.get("bias").unwrap().as_bytes().as_ptr(),
        dict.get("weight").unwrap().as_bytes()[16..].as_ptr()
    );
    let module = dict.apply(layer()).unwrap();
    let module = Linear { weight: module.weight.map(|weight| weight * 2.0), ..module };
    assert_eq!(module.bias.unwrap().val().into_data(), TensorData::from([5f32, 6.0]));
    assert_eq!(floats(&dict, "weight"), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
}

/// What a dictionary's tensors take, each piece of memory once.
fn memory(dict: &StateDict) -> u64 {
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

#[test]
fn memory_is_bounded_by_the_file_whatever_its_tensors_are() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = numbers(64 * 1024);
    let storage = pickle::storage(FLOATS, "0", 64 * 1024);
    let file = |items: &[(String, Vec<u8>)]| {
        archive(folder.path(), &[("data.pkl", &pickle::dict(items)), ("data/0", &bytes)])
    };
    // One tensor, remembered and named again: of pieces, and of others that have to be made.
    let again = |tensor: Vec<u8>, names: usize| {
        let first = [tensor, b"q\x01".to_vec()].concat();
        let others = (1..names).map(|i| (format!("{i}.weight"), b"h\x01".to_vec()));
        file(&std::iter::once(("0.weight".to_owned(), first)).chain(others).collect::<Vec<_>>())
    };
    for (shape, stride) in [(&[256, 256], &[256, 1]), (&[256, 256], &[1, 256]), (&[128, 256], &[512, 2])] {
        let path = again(pickle::tensor(&storage, 0, shape, stride, b""), 20_000);
        let dict = StateDict::read_pytorch(&path).unwrap();
        assert_eq!(dict.iter().count(), 20_000);
        assert!(memory(&dict) <= 2 * bytes.len() as u64, "{} bytes", memory(&dict));
        assert_eq!(floats(&dict, "19999.weight"), floats(&dict, "0.weight"));
    }
    // Pieces that differ.
    let pieces: Vec<_> =
        (0..20_000).map(|i| (format!("{i}"), pickle::tensor(&storage, i, &[32 * 1024], &[1], b""))).collect();
    let dict = StateDict::read_pytorch(file(&pieces)).unwrap();
    assert_eq!(memory(&dict), 4 * (32 * 1024 + 19_999));
    assert_eq!(floats(&dict, "19999")[..2], [20_000.0, 20_001.0]);

    let large = |path: &Path, name: &str, shape: &str| {
        let length = fs::metadata(path).unwrap().len();
        assert_eq!(
            refusal(path, &[]),
            format!(
                "{name}: with this tensor of shape {shape} the file would take more than 8 times its {length} bytes; \
                 save clones of tensors that are expanded or that share a storage"
            )
        );
    };
    // Made ones that differ, expanded ones.
    let made: Vec<_> = (0..100)
        .map(|i| (format!("{i:02}"), pickle::tensor(&storage, i, &[32 * 1024 - 100], &[2], b"")))
        .collect();
    large(&file(&made), "15", "[32668]");
    let tensor = pickle::tensor(&storage, 0, &[1 << 40], &[0], b"");
    large(&again(tensor, 1), "0.weight", "[1099511627776]");
    let fits = pickle::tensor(&storage, 5, &[64 * 1024, 6], &[0, 1], b"");
    let dict = StateDict::read_pytorch(again(fits, 20_000)).unwrap();
    assert_eq!(floats(&dict, "7.weight")[5..8], [11.0, 6.0, 7.0]);
    large(&again(pickle::tensor(&storage, 5, &[64 * 1024, 24], &[0, 1], b""), 1), "0.weight", "[65536, 24]");
    // A storage that is two lengths, and one that is shorter than it says.
    let other = pickle::tensor(&pickle::storage(FLOATS, "0", 3), 0, &[3], &[1], b"");
    let items =
        [("a".to_owned(), pickle::tensor(&storage, 0, &[3], &[1], b"")), ("b".to_owned(), other.clone())];
    assert_eq!(refusal(&file(&items), &[]), "b: expected a storage of 262144 bytes, got 12");
    assert_eq!(refusal(&file(&items[1..]), &[]), "b: expected a storage of 12 bytes, got 262144");
    // Names that are no tensors take memory, too.
    let items = (0..40_000)
        .map(|i| format!("{i}"))
        .flat_map(|name| [&[0x8c, name.len() as u8], name.as_bytes(), b"N"].concat());
    let pickle = [b"\x80\x04}(".to_vec(), items.collect(), b"u.".to_vec()].concat();
    let path = archive(folder.path(), &[("data.pkl", &pickle)]);
    let error = refusal(&path, &[]);
    assert!(error.contains("with this entry the file would take more than 8 times"), "{error}");
}

#[test]
fn other_formats_are_told_by_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let file = |bytes: &[u8]| {
        let path = folder.path().join("file.pt");
        fs::write(&path, bytes).unwrap();
        refusal(&path, &[])
    };
    let legacy = "expected PyTorch's zip format, got its legacy format, the format before PyTorch 1.6; save it anew \
                  with PyTorch 1.6 or later: torch.save(torch.load(path, map_location=\"cpu\"), path)";
    assert_eq!(refusal(&fixture("legacy.pt"), &[]), legacy);
    let whole = fs::read(fixture("legacy.pt")).unwrap();
    assert_eq!(file(&[b"\x80\x04\x95\x0d\x00\x00\x00\x00\x00\x00\x00", &whole[2..]].concat()), legacy);
    assert_eq!(file(b""), "expected PyTorch's zip format, got an empty file");
    assert_eq!(
        file(b"\x80\x04}."),
        "expected PyTorch's zip format, got a pickle alone; torch.save(model.state_dict(), path) writes one with its \
         tensors"
    );
    let safetensors = fs::read(fixture("f8.safetensors")).unwrap();
    assert_eq!(
        file(&safetensors),
        "expected PyTorch's zip format, got safetensors, which StateDict::read reads"
    );
    let tar = [&b"sys_info"[..], &[0; 249], b"ustar\x0000"].concat();
    assert!(
        file(&tar).starts_with("expected PyTorch's zip format, got a tar archive, as of the first versions")
    );
    assert_eq!(file(b"hello"), "expected a zip archive, as torch.save writes: it begins with other bytes");
    assert!(file(b"PK\x03\x04").starts_with("expected a zip archive, as torch.save writes: "));
    let error = StateDict::read_pytorch(folder.path()).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Io);
    assert!(error.to_string().ends_with(": cannot be read: expected a file, got a folder"), "{error}");
    let error = StateDict::read_pytorch("/dev/null").unwrap_err();
    assert!(error.to_string().ends_with(": cannot be read: expected a file, got no file"), "{error}");
    let error = StateDict::read(folder.path()).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Io);
    let error = StateDict::read(fixture("neg.pt")).unwrap_err().to_string();
    assert!(
        error.ends_with("neg.pt: not a safetensors file: got PyTorch's zip format, which read_pytorch reads"),
        "{error}"
    );

    let pickle =
        pickle::dict(&[("w", pickle::tensor(&pickle::storage(FLOATS, "0", 12), 0, &[2], &[1], b""))]);
    let with = |more: &[(&str, &[u8])]| {
        let path =
            archive(folder.path(), &[&[("data.pkl", &pickle[..]), ("data/0", &numbers(12))], more].concat());
        StateDict::read_pytorch(&path).map(|dict| floats(&dict, "w")).map_err(|_| refusal(&path, &[]))
    };
    for more in
        [("version", &b"3\n"[..]), ("version", b"10\n"), (".format_version", b"1"), ("byteorder", b"little")]
    {
        assert_eq!(with(&[more]), Ok(vec![1.0, 2.0]), "{more:?}");
    }
    let read_past: [(&str, &[u8]); 2] = [(".storage_alignment", b"64"), (".data/serialization_id", b"0")];
    assert_eq!(with(&read_past), Ok(vec![1.0, 2.0]));
    for (name, bytes, error) in [
        ("version", &b"11\n"[..], "the entry version: expected 1 to 10, got \"11\\n\""),
        ("version", b"", "the entry version: expected 1 to 10, got \"\""),
        (".format_version", b"2", "the entry .format_version: expected 1, got \"2\""),
        ("byteorder", b"big", "the entry byteorder: expected little, got \"big\""),
        (
            "constants.pkl",
            b"",
            "expected a dict of tensors, got a TorchScript program; save its weights: torch.save(module.state_dict(), path)",
        ),
        ("model/data.pkl", b"", "a zip archive with more than one data.pkl"),
    ] {
        assert_eq!(with(&[(name, bytes)]), Err(error.to_owned()));
    }
    let path = archive(folder.path(), &[("archive_format", b"pt2"), ("models/model.json", b"{}")]);
    assert_eq!(
        refusal(&path, &[]),
        "expected a dict of tensors, got an exported program; save its weights: torch.save(program.state_dict, path)"
    );
    let path = archive(folder.path(), &[("model.json", b"{}")]);
    assert_eq!(refusal(&path, &[]), "a zip archive without data.pkl, so not of torch.save");

    // An entry that says that it is encrypted, and two entries of one name.
    let path =
        archive(folder.path(), &[("data.pkl", &pickle), ("data/0", &numbers(12)), ("data/1", &numbers(12))]);
    let whole = fs::read(&path).unwrap();
    let directory = whole.windows(4).position(|bytes| bytes == b"PK\x01\x02").unwrap();
    let mut encrypted = whole.clone();
    encrypted[directory + 8] |= 1;
    assert_eq!(file(&encrypted), "the entry data.pkl is encrypted, which torch.save never does");
    let mut twice = whole;
    for at in 0..twice.len() - 6 {
        if &twice[at..at + 6] == b"data/1" {
            twice[at + 5] = b'0';
        }
    }
    assert_eq!(file(&twice), "entries of the zip archive have one name");
}

#[test]
fn an_archive_of_zip64_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.pt");
    let mut zip = ZipWriter::new(fs::File::create(&path).unwrap());
    let tensor = pickle::tensor(&pickle::storage(FLOATS, "0", 12), 0, &[2], &[1], b"");
    for (name, bytes) in [("data.pkl", pickle::dict(&[("w", tensor)])), ("data/0", numbers(12))] {
        let options =
            SimpleFileOptions::DEFAULT.compression_method(CompressionMethod::Stored).large_file(true);
        zip.start_file(format!("large/{name}"), options).unwrap();
        zip.write_all(&bytes).unwrap();
    }
    zip.finish().unwrap();
    assert_eq!(floats(&StateDict::read_pytorch(&path).unwrap(), "w"), [1.0, 2.0]);
}

#[test]
fn several_writers_of_one_file_leave_one_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    // What another program has left.
    fs::write(folder.path().join("model.safetensors.part"), "mine").unwrap();
    let dicts: Vec<_> = (0..4)
        .map(|i| {
            let mut dict = StateDict::default();
            dict.insert("w", TensorData::new(vec![i as f32; 100_000], [100_000]));
            dict
        })
        .collect();
    let begin = std::sync::Barrier::new(dicts.len());
    std::thread::scope(|scope| {
        for dict in &dicts {
            scope.spawn(|| {
                begin.wait();
                for _ in 0..5 {
                    dict.write(&path).unwrap();
                    assert!(dicts.contains(&StateDict::read(&path).unwrap()), "torn");
                }
            });
        }
    });
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    assert_eq!(fs::read(folder.path().join("model.safetensors.part")).unwrap(), b"mine");
    for bad in ["/", "", folder.path().to_str().unwrap()] {
        let error = dicts[0].write(bad).unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Io, "{error}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[cfg(unix)]
#[test]
fn a_path_need_not_be_text() {
    use std::os::unix::ffi::OsStrExt;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &[u8]| folder.path().join(std::ffi::OsStr::from_bytes(name));
    fs::copy(fixture("neg.pt"), path(b"\xff.pt")).unwrap();
    let dict = StateDict::read_pytorch(path(b"\xff.pt")).unwrap();
    dict.write(path(b"\xfe.safetensors")).unwrap();
    assert_eq!(StateDict::read(path(b"\xfe.safetensors")).unwrap(), dict);
}

#[test]
fn checkpoints_of_every_sort_load() {
    let dict = read_at("ckpt.pt", &["model"]);
    assert_eq!(dict, linear());
    let dict = read("dp.pt").strip_prefix("module.").unwrap();
    assert_eq!(floats(&dict, "bias"), [0.5574732422828674, 0.5572270154953003]);
    assert_eq!(floats(&dict, "weight")[5], 0.15958715975284576);
    assert!(dict.apply(layer()).is_ok());
    let dict = read("wn.pt");
    let keys: Vec<_> = dict.iter().map(|(key, data)| (key, data.shape().to_vec())).collect();
    assert_eq!(
        keys,
        [
            ("bias", vec![2]),
            ("parametrizations.weight.original0", vec![2, 1]),
            ("parametrizations.weight.original1", vec![2, 3])
        ]
    );
    assert_eq!(floats(&dict, "parametrizations.weight.original0"), [0.6045771241188049, 0.8230128288269043]);
    let dict = read("kinds.pt");
    // Stored [4, 5], transposed.
    assert_eq!(dict.get("w").unwrap().shape().to_vec(), [5, 4]);
    assert_eq!(floats(&dict, "w")[..3], [-0.9761576056480408, 0.11037854105234146, -0.6463637351989746]);
    for (key, dtype) in [("b", DType::BF16), ("h", DType::F16)] {
        let data = dict.get(key).unwrap();
        assert_eq!((data.dtype(), data.shape().to_vec()), (dtype, vec![3]));
    }
    assert_eq!(dict.get("i"), Some(&TensorData::from([0i64, 1, 2])));
    assert_eq!(dict.get("z"), Some(&TensorData::new(vec![4i64], [0usize; 0])));
}

#[test]
fn a_pickle_that_is_long_costs_little() {
    let folder = tempfile::tempdir().unwrap();
    let tensor = pickle::tensor(&pickle::storage(FLOATS, "0", 12), 0, &[2], &[1], b"");
    // A history of a million numbers, of every kind that is short, beside the weights.
    let list = |item: &[u8]| [b"]", &[b"(", &item.repeat(1000)[..], b"e"].concat().repeat(1000)[..]].concat();
    for item in [
        &b"K\x05"[..],
        b"M\x00\x01",
        b"J\xff\xff\xff\xff",
        b"N",
        b"\x88",
        b"G\x00\x00\x00\x00\x00\x00\x00\x00",
    ] {
        let items = [("history", list(item)), ("w", tensor.clone())];
        let path = archive(folder.path(), &[("data.pkl", &pickle::dict(&items)), ("data/0", &numbers(12))]);
        let dict = StateDict::read_pytorch(path).unwrap();
        assert_eq!(unsupported(&dict), [("history", "list")]);
    }
    let refusal = |pickle: &[u8]| {
        let path = archive(folder.path(), &[("data.pkl", pickle)]);
        refusal(&path, &[])
    };
    let ended = |start: &[u8], repeated: &[u8], times: usize| {
        [b"\x80\x02", start, &repeated.repeat(times), b"."].concat()
    };
    // A memo of everything, dicts in dicts, calls of calls, and strings that are longer than the file.
    for (start, repeated, times) in
        [(&b"N"[..], &b"\x94"[..], 1_000_000), (b"", b"}", 1_000_000), (b"c__main__\nF\n", b")R", 1_000_000)]
    {
        let error = refusal(&ended(start, repeated, times));
        assert!(error.ends_with(" values, too many for the file's size"), "{error}");
    }
    assert!(
        refusal(&ended(b"c__main__\nF\n", b")R", 1000))
            .starts_with("the file's value: expected a dict of tensors, got __main__.F;")
    );
    assert_eq!(refusal(b"\x80\x02B\xff\xff\xff\xffabc."), "byte 2 of the pickle: cut off");
    assert_eq!(refusal(b"\x80\x02\x8b\xff\xff\xff\xffabc."), "byte 2 of the pickle: cut off");
    // Memos of what comes later, or of nothing; states and keys without a place; two tops of one value.
    for (pickle, error) in [
        (&b"\x80\x02h\x01q\x01."[..], "byte 2 of the pickle: nothing at memo 1"),
        (b"\x80\x02j\xff\xff\xff\xff.", "byte 2 of the pickle: nothing at memo 4294967295"),
        (b"\x80\x02K\x01}b.", "byte 5 of the pickle: only a dict or an object may be given state"),
        (b"\x80\x02c__main__\nF\n)R(Nu.", "byte 18 of the pickle: a key without a value"),
        (b"\x80\x02K\x01(NNu.", "byte 7 of the pickle: expected a dict to put items into"),
        (
            b"\x80\x02K\x01)R.",
            "byte 5 of the pickle: expected a class and a tuple of arguments to call it with",
        ),
        (b"\x80\x02}2.", "byte 3 of the pickle: instruction 0x32 has no use in a file of weights"),
        (
            b"\x80\x02(X\x07\x00\x00\x00storageQ.",
            "byte 15 of the pickle: expected a tuple that names a storage",
        ),
    ] {
        assert_eq!(refusal(pickle), error);
    }
    // Storages of storages, by the memo.
    let storage = pickle::storage(FLOATS, "0", 12);
    assert!(
        refusal(&[b"\x80\x02", &storage[..], b"Q."].concat())
            .ends_with("expected a tuple that names a storage")
    );
    // An int of any length is one of which nothing is known, and no size.
    let long = pickle::dict(&[("w", [b"\x8a\xff", &[0x7f; 255][..]].concat())]);
    assert!(refusal(&long).contains("\"w\" (int)"));
}

#[test]
fn metadata_say_that_a_file_is_like_pytorchs() {
    let mut dict = linear();
    dict.insert("count", TensorData::new(vec![7i64], [0usize; 0]));
    dict.insert("flag", TensorData::from([true, false]));
    dict.insert("half", TensorData::from([1.5f32]).convert_dtype(DType::F16));
    let bytes = dict.to_safetensors().unwrap();
    assert!(
        bytes[8..].starts_with(b"{\"__metadata__\":{\"format\":\"pt\"},"),
        "{}",
        String::from_utf8_lossy(&bytes)
    );
    assert_eq!(StateDict::from_safetensors(&bytes).unwrap(), dict);
    assert_eq!(dict.clone().to_safetensors().unwrap(), bytes);
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    assert_eq!(header % 8, 0);

    // As it was written before.
    let before = fs::read(fixture("firebox_0_1.safetensors")).unwrap();
    assert_eq!(StateDict::from_safetensors(&before).unwrap(), dict);
    let old_header = u64::from_le_bytes(before[..8].try_into().unwrap()) as usize;
    assert_eq!(before[8 + old_header..], bytes[8 + header..], "the same tensors in the same order");

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("layer.safetensors");
    layer().save_safetensors(&path).unwrap();
    assert!(fs::read(&path).unwrap()[8..].starts_with(b"{\"__metadata__\":{\"format\":\"pt\"},"));
    dict.insert("__metadata__", TensorData::from([1f32]));
    let error = dict.to_safetensors().unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Format);
    assert_eq!(error.to_string(), "__metadata__: no name for a tensor in safetensors");
    // No tensors are a file, too.
    let bytes = StateDict::default().to_safetensors().unwrap();
    assert_eq!(StateDict::from_safetensors(&bytes).unwrap(), StateDict::default());
}

fn safetensors(header: &str, data: &[u8]) -> Result<StateDict, String> {
    let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat();
    StateDict::from_safetensors(&bytes).map_err(|error| {
        assert_eq!(error.kind(), &ErrorKind::Format);
        error.to_string()
    })
}

#[test]
fn every_field_of_a_header_is_read_or_refused() {
    let tensor = |name: &str, dtype: &str, shape: &str, offsets: &str| {
        format!("\"{name}\":{{\"dtype\":\"{dtype}\",\"shape\":{shape},\"data_offsets\":{offsets}}}")
    };
    let a = tensor("a", "F32", "[2]", "[0,8]");
    let eight = [0, 0, 0x80, 0x3f, 0, 0, 0, 0x40];
    for (header, names) in [
        (format!("{{{a}}}"), &["a"][..]),
        (format!("{{ {a} }} \n"), &["a"]),
        (format!("{{\"__metadata__\":{{}},{a}}}"), &["a"]),
        (format!("{{{a},\"__metadata__\":{{\"format\":\"np\",\"format \":\"\\u00e9\\n\"}}}}"), &["a"]),
        ("{\"a\":{\"data_offsets\" : [ 0 , 8 ] , \"shape\":[2],\"dtype\":\"F32\"}}".to_owned(), &["a"]),
        (format!("{{{}}}", tensor("\\u0061\\\"\\ud83d\\ude00/", "F32", "[1,2,1]", "[0,8]")), &["a\"😀/"]),
        (format!("{{{}}}", tensor("", "F64", "[]", "[0,8]")), &[""]),
        // In any order, and of no bytes.
        (
            format!("{{{},{},{a}}}", tensor("z", "I16", "[0,3]", "[8,8]"), tensor("y", "U8", "[0]", "[0,0]")),
            &["a", "y", "z"],
        ),
        // Other types, known and unknown, and of less than a byte.
        (format!("{{{a},{}}}", tensor("c", "C64", "[0]", "[8,8]")), &["a"]),
    ] {
        let dict = safetensors(&header, &eight).unwrap();
        assert_eq!(dict.iter().map(|(key, _)| key).collect::<Vec<_>>(), names, "{header}");
    }
    for (dtype, shape) in
        [("F4", "[4]"), ("F6_E2M3", "[4]"), ("F8_E5M2", "[2]"), ("C64", "[1]"), ("F3_NEW", "[17]")]
    {
        let end = match dtype {
            "F4" => 10,
            "F6_E2M3" => 11,
            "F8_E5M2" => 10,
            "C64" => 16,
            _ => 15,
        };
        let data = [&eight[..], &[0x38; 8]].concat();
        let header = format!("{{{a},{}}}", tensor("f", dtype, shape, &format!("[8,{end}]")));
        let dict = safetensors(&header, &data[..end]).unwrap();
        assert_eq!(floats(&dict, "a"), [1.0, 2.0]);
        assert_eq!(unsupported(&dict), [("f", &format!("a tensor of {dtype}")[..])]);
    }
    let most = usize::MAX;
    let chain: Vec<_> = (0..8u64)
        .map(|i| {
            let size = u64::MAX / 8;
            tensor(&format!("{i}"), "U8", &format!("[{size}]"), &format!("[{},{}]", i * size, (i + 1) * size))
        })
        .collect();
    for (header, error) in [
        ("", "expected a header that begins with {"),
        (" {}", "expected a header that begins with {"),
        ("{}", "expected 0 bytes of tensors, got 8"),
        ("{", "expected \" at byte 1 of the header"),
        ("{\"a\"", "expected : at byte 4 of the header"),
        ("{\"a", "expected more at byte 3 of the header"),
        ("{\"a\\q\":1}", "expected a character that may be escaped at byte 5 of the header"),
        ("{\"\\ud83d\":1}", "expected a character at byte 8 of the header"),
        ("{\"\\u00\":1}", "expected four hexadecimal digits at byte 4 of the header"),
        ("{\"a\":null}", "a: expected { at byte 5 of the header"),
        (&format!("{{{a}}}x"), "expected nothing after the last } at byte 54 of the header"),
        (&format!("{{{a},}}"), "expected \" at byte 54 of the header"),
        (&format!("{{{a},{a}}}"), "a is there twice"),
        (&format!("{{{a},{}}}", tensor("\\u0061", "F32", "[2]", "[0,8]")), "a is there twice"),
        (&format!("{{\"__metadata__\":{{}},\"__metadata__\":{{}},{a}}}"), "__metadata__ is there twice"),
        (&format!("{{\"__metadata__\":{{\"a\":1}},{a}}}"), "expected \" at byte 21 of the header"),
        ("{\"a\":{\"dtype\":\"F32\",\"shape\":[2]}}", "a: expected dtype, shape and two data_offsets"),
        (
            &format!("{{{}}}", tensor("a", "F32", "[2]", "[0]")),
            "a: expected dtype, shape and two data_offsets",
        ),
        ("{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F64\"}}", "a: dtype is there twice"),
        ("{\"a\":{\"strides\":[1]}}", "a: \"strides\" is no field of the format"),
        (&format!("{{{}}}", tensor("a", "F32", "[2]", "[0,8.0]")), "a: expected ] at byte 51 of the header"),
        (
            &format!("{{{}}}", tensor("a", "F32", "[-2]", "[0,8]")),
            "a: expected a whole number at byte 29 of the header",
        ),
        (
            &format!("{{{}}}", tensor("a", "F32", "[02]", "[0,8]")),
            "a: expected a whole number at byte 29 of the header",
        ),
        (
            &format!("{{{}}}", tensor("a", "F32", &format!("[{most}0]"), "[0,8]")),
            "a: expected a whole number at byte 29 of the header",
        ),
        (
            &format!("{{{}}}", tensor("a", "F32", &format!("[{most},{most}]"), "[0,8]")),
            &format!("a: expected the bytes of shape [{most}, {most}] of F32, got 8"),
        ),
        (
            &format!("{{{}}}", tensor("a", "F32", "[3]", "[0,8]")),
            "a: expected the bytes of shape [3] of F32, got 8",
        ),
        (
            &format!("{{{}}}", tensor("a", "F4", "[15]", "[0,8]")),
            "a: expected the bytes of shape [15] of F4, got 8",
        ),
        (
            &format!("{{{}}}", tensor("a", "U8", "[4]", "[4,8]")),
            "a: expected data from byte 0 up to 8 at most, got 4..8",
        ),
        (
            &format!("{{{}}}", tensor("a", "U8", "[9]", "[0,9]")),
            "a: expected data from byte 0 up to 8 at most, got 0..9",
        ),
        (
            &format!("{{{}}}", tensor("a", "U8", "[4]", "[4,0]")),
            "a: expected data from byte 0 up to 8 at most, got 4..0",
        ),
        (
            &format!("{{{a},{}}}", tensor("b", "U8", "[4]", "[4,8]")),
            "b: expected data from byte 8 up to 8 at most, got 4..8",
        ),
        (
            &format!("{{{a},{}}}", tensor("b", "F32", "[2]", "[0,8]")),
            "b: expected data from byte 8 up to 8 at most, got 0..8",
        ),
        (&format!("{{{}}}", tensor("a", "U8", "[4]", "[0,4]")), "expected 4 bytes of tensors, got 8"),
        (
            &format!("{{{}}}", chain.join(",")),
            "0: expected data from byte 0 up to 8 at most, got 0..2305843009213693951",
        ),
        (
            &format!("{{{}}}", tensor("a", "F32", &format!("[{}2]", "1,".repeat(64)), "[0,8]")),
            "a: expected at most 64 numbers at byte 157 of the header",
        ),
    ] {
        assert_eq!(
            safetensors(header, &eight).unwrap_err(),
            format!("not a safetensors file: {error}"),
            "{header}"
        );
    }
    let alone = format!("{{{}}}", tensor("f", "F8_E4M3", "[8]", "[0,8]"));
    assert_eq!(
        safetensors(&alone, &eight).unwrap_err(),
        "expected tensors that can be read, got f (a tensor of F8_E4M3)"
    );
    for (bytes, error) in [
        (&b""[..], "expected the header's length, got 0 bytes"),
        (b"\x02\0\0\0\0\0\0", "expected the header's length, got 7 bytes"),
        (b"\x03\0\0\0\0\0\0\0{}", "expected a header of at most 2 bytes, got 3"),
        (
            b"\xff\xff\xff\xff\xff\xff\xff\xff{}",
            "expected a header of at most 2 bytes, got 18446744073709551615",
        ),
        (b"\x02\0\0\0\0\0\0\0{\xff", "the header is not UTF-8"),
    ] {
        let got = StateDict::from_safetensors(bytes).unwrap_err().to_string();
        assert_eq!(got, format!("not a safetensors file: {error}"));
    }
}

/// The files that damage is done to.
const FILES: [&str; 11] = [
    "neg.pt",
    "foreign.pt",
    "extra.pt",
    "complex.pt",
    "f8.pt",
    "dp.pt",
    "wn.pt",
    "ckpt.pt",
    "kinds.pt",
    "legacy.pt",
    "shared.pt",
];

fn keys_of(name: &str) -> &'static [&'static str] {
    match name {
        "foreign.pt" => &["state_dict"],
        "ckpt.pt" => &["model"],
        _ => &[],
    }
}

#[test]
fn a_damaged_file_is_an_error_or_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged.pt");
    for name in FILES {
        let whole = fs::read(fixture(name)).unwrap();
        let expected = StateDict::read_pytorch_at(fixture(name), keys_of(name)).ok();
        // Of the large one, what is not numbers.
        let step = whole.len().div_ceil(3000);
        for at in (0..whole.len()).step_by(step) {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << (at % 8);
            let cut = at / 8 * 8;
            for damaged in [&flipped[..], &whole[..cut]].into_iter().take(1 + usize::from(at % 8 == 0)) {
                fs::write(&path, damaged).unwrap();
                if let Ok(dict) = StateDict::read_pytorch_at(&path, keys_of(name)) {
                    assert_eq!(Some(dict), expected, "{name}: damage at {at} changed numbers in silence");
                }
            }
        }
    }
}

#[test]
fn a_pickle_of_any_bytes_is_an_error_or_small() {
    let folder = tempfile::tempdir().unwrap();
    let mut loaded = 0;
    for name in FILES.into_iter().filter(|name| *name != "legacy.pt") {
        let mut zip = ZipArchive::new(fs::File::open(fixture(name)).unwrap()).unwrap();
        let entries: Vec<_> = zip.file_names().map(|name| name.unwrap().into_owned()).collect();
        let entries: Vec<_> = entries
            .iter()
            .map(|entry| {
                let mut bytes = Vec::new();
                std::io::Read::read_to_end(&mut zip.by_name(entry).unwrap(), &mut bytes).unwrap();
                (entry.split_once('/').unwrap().1, bytes)
            })
            .collect();
        let whole = &entries.iter().find(|(name, _)| *name == "data.pkl").unwrap().1;
        // The sums of the archive are right, so that all of it reaches the pickle's reader.
        let check = |pickle: &[u8]| {
            let changed: Vec<_> = entries
                .iter()
                .map(|(name, bytes)| (*name, if *name == "data.pkl" { pickle } else { &bytes[..] }))
                .collect();
            let path = archive(folder.path(), &changed);
            let bound = 8 * fs::metadata(&path).unwrap().len() + (1 << 16);
            StateDict::read_pytorch_at(&path, keys_of(name)).is_ok_and(|dict| {
                assert!(memory(&dict) <= bound, "{name}");
                true
            })
        };
        assert!(check(whole));
        let step = whole.len().div_ceil(600);
        for at in (0..whole.len()).step_by(step) {
            // A bit, all of them, and an instruction that grows, ends, calls or remembers.
            for byte in [whole[at] ^ (1 << (at % 8)), !whole[at], b".(Rb0\x94huQ"[at % 9]] {
                let mut changed = whole.clone();
                changed[at] = byte;
                loaded += usize::from(check(&changed));
            }
            check(&whole[..at]);
            check(&[&whole[..at], &whole[(at + 1)..]].concat());
        }
    }
    assert!(loaded > 100, "most is not noticed as damage, and all of it is bounded: {loaded}");
}

#[test]
fn damaged_safetensors_are_an_error_or_small() {
    for name in ["f8.safetensors", "firebox_0_1.safetensors"] {
        let whole = fs::read(fixture(name)).unwrap();
        let check = |bytes: &[u8]| {
            if let Ok(dict) = StateDict::from_safetensors(bytes) {
                assert!(memory(&dict) <= bytes.len() as u64, "{name}");
            }
        };
        for at in 0..whole.len() {
            for byte in
                [whole[at] ^ (1 << (at % 8)), !whole[at], b'"', b'{', b'}', b'[', b',', b'\\', b'9', 0]
            {
                let mut changed = whole.clone();
                changed[at] = byte;
                check(&changed);
            }
            check(&whole[..at]);
            check(&[&whole[..at], &whole[at + 1..]].concat());
            check(&[&whole[..at], &whole[at..at + 1], &whole[at..]].concat());
        }
    }
}

#[test]
fn equal_dictionaries_have_equal_tensors() {
    let dict = read("f8.pt");
    assert_eq!(dict, linear(), "what is unsupported is no tensor");
    let mut other = linear();
    other.insert("bias", TensorData::new(vec![0f32, 0.44947183], [2]));
    assert_ne!(dict, other);
    assert_ne!(dict, StateDict::default());
}
