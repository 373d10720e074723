//! PyTorch's files, field by field: what is read, what is passed over and named, and what is refused.
//!
//! `fixtures/weight_files` was written by PyTorch 2.15.

use std::fs;
use std::io::Write;
use std::path::Path;

use firebox_weights::{DType, ErrorKind, RawTensor, StateDict};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::common::{
    FLOATS, archive, fixture, floats, keys, linear, memory, numbers, one, pickle, read, read_at, refusal,
    side_by_side, tensor, two_parts, unsupported,
};

#[test]
fn a_tensor_with_the_negative_bit_has_its_sign() {
    let dict = read("neg.pt");
    assert_eq!(dict.get("w"), Some(&RawTensor::from([-2f32, 4.0])));
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
    assert_eq!(dict.get("w"), Some(&tensor(&[3f32, 5.0], &[1, 2, 1])));
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
    let path = side_by_side(folder.path());
    let dict = StateDict::read_pytorch(path).unwrap();
    assert_eq!(dict.iter().map(|(key, _)| key).collect::<Vec<_>>(), ["epoch.weight", "weight"]);
    assert_eq!(unsupported(&dict), [("epoch", "int"), ("inner", "dict"), ("lr", "float"), ("name", "None")]);
    // What has no tensor keeps its key where the others lose their prefix.
    let mut prefixed = StateDict::default();
    for (key, data) in dict.iter() {
        prefixed.insert(format!("epoch{key}"), data.clone());
    }
    assert!(prefixed.strip_prefix("epoch").is_ok());
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
    // As PyTorch's save_model would not: safetensors has no names for one tensor.
    assert_eq!(StateDict::from_safetensors(&dict.to_safetensors().unwrap()).unwrap(), dict);

    // Parts of a storage that are not all of it.
    let folder = tempfile::tempdir().unwrap();
    let dict = StateDict::read_pytorch(two_parts(folder.path())).unwrap();
    assert_eq!(
        dict.get("bias").unwrap().as_bytes().as_ptr(),
        dict.get("weight").unwrap().as_bytes()[16..].as_ptr()
    );
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
    assert_eq!(keys(&dict), ["bias", "weight"]);
    let dict = read("wn.pt");
    let shapes: Vec<_> = dict.iter().map(|(key, data)| (key, data.shape().to_vec())).collect();
    assert_eq!(
        shapes,
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
    assert_eq!(dict.get("i"), Some(&RawTensor::from([0i64, 1, 2])));
    assert_eq!(dict.get("z"), Some(&tensor(&[4i64], &[])));
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
fn equal_dictionaries_have_equal_tensors() {
    let dict = read("f8.pt");
    assert_eq!(dict, linear(), "what is unsupported is no tensor");
    let mut other = linear();
    other.insert("bias", tensor(&[0f32, 0.44947183], &[2]));
    assert_ne!(dict, other);
    assert_ne!(dict, StateDict::default());
}

#[test]
fn extra_state_that_is_none_is_named() {
    let dict = read("extra.pt");
    assert_eq!(dict, linear());
    assert_eq!(unsupported(&dict), [("fc._extra_state", "None")]);
}

#[test]
fn a_tensor_of_an_unknown_type_is_named() {
    for (dict, key, what) in [
        (read("complex.pt"), "c", "a tensor of torch.complex64"),
        (read("f8.pt"), "f8", "a tensor of torch.float8_e4m3fn"),
    ] {
        assert_eq!(dict, linear());
        assert_eq!(unsupported(&dict), [(key, what)]);
    }
    let mut dict = StateDict::read(fixture("f8.safetensors")).unwrap();
    assert_eq!(unsupported(&dict), [("f8", "a tensor of F8_E4M3")]);
    assert_eq!(dict.iter().collect::<Vec<_>>(), [("a", &RawTensor::from([1f32, 1.0]))]);
    // A tensor in its place is one.
    dict.insert("f8", RawTensor::from([1f32]));
    assert!(unsupported(&dict).is_empty());
}
