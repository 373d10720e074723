//! Files that PyTorch writes, and files that nobody should write.
//!
//! `fixtures/pt` was written by its `make_pt.py`.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use firebox_weights::{DType, ErrorKind, RawTensor, StateDict};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::common::{keys, tensor};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/pt/{name}.pt"))
}

fn read(name: &str) -> StateDict {
    StateDict::read_pytorch(fixture(name)).unwrap()
}

/// The message without the path that it begins with.
fn refusal(path: &Path, keys: &[&str]) -> String {
    let error = StateDict::read_pytorch_at(path, keys).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Format, "{error}");
    assert_eq!(error.path(), Some(path));
    error.to_string().strip_prefix(&format!("{}: ", path.display())).unwrap().to_owned()
}

/// The numbers that the fixtures' script put into the block.
fn block_state() -> StateDict {
    let mut dict = StateDict::default();
    let mut start = 0;
    for (key, shape) in [
        ("conv.weight", vec![3, 2, 2, 2]),
        ("conv.bias", vec![3]),
        ("bn.weight", vec![3]),
        ("bn.bias", vec![3]),
        ("bn.running_mean", vec![3]),
        ("bn.running_var", vec![3]),
    ] {
        let end = start + shape.iter().product::<usize>();
        let values: Vec<_> = (start..end).map(|i| i as f32 / 8.0).collect();
        dict.insert(key, tensor(&values, &shape));
        start = end;
    }
    dict.insert("bn.num_batches_tracked", tensor(&[5i64], &[]));
    dict
}

#[test]
fn a_state_dict_of_pytorch_is_read_as_it_is() {
    for name in ["block", "block_protocol_4", "block_without_sums"] {
        assert_eq!(read(name), block_state(), "{name}");
    }
}

#[test]
fn floats_of_any_width_keep_it() {
    for (name, dtype) in
        [("block_float64", DType::F64), ("block_float16", DType::F16), ("block_bfloat16", DType::BF16)]
    {
        let dict = read(name);
        for (key, expected) in block_state().iter() {
            let got = dict.get(key).unwrap();
            assert_eq!(got.to_f64_vec(), expected.to_f64_vec(), "{name} {key}");
            assert_eq!(got.dtype() == dtype, key != "bn.num_batches_tracked", "{name} {key}");
        }
    }
}

#[test]
fn every_type_of_numbers_is_read() {
    let dict = read("kinds");
    for (key, dtype) in
        [("float64", DType::F64), ("float32", DType::F32), ("float16", DType::F16), ("bfloat16", DType::BF16)]
    {
        let data = dict.get(key).unwrap();
        assert_eq!(data.dtype(), dtype);
        assert_eq!(data.to_f64_vec(), [1.5, -2.0], "{key}");
    }
    let expected = [
        ("int64", RawTensor::from([1, -(1i64 << 40)])),
        ("int32", RawTensor::from([1, -(1i32 << 20)])),
        ("int16", RawTensor::from([1i16, -300])),
        ("int8", RawTensor::from([1i8, -2])),
        ("uint8", RawTensor::from([1u8, 200])),
        ("uint16", RawTensor::from([1u16, 60000])),
        ("uint32", RawTensor::from([1, u32::MAX])),
        ("uint64", RawTensor::from([1, (1u64 << 63) + 1])),
        ("bool", RawTensor::from([true, false, true])),
        ("scalar", tensor(&[2.5f32], &[])),
        ("count", tensor(&[7i64], &[])),
        ("empty", tensor::<f32>(&[], &[0, 3])),
        ("parameter", RawTensor::from([3f32])),
    ];
    assert_eq!(dict.iter().count(), 4 + expected.len());
    for (key, expected) in expected {
        assert_eq!(dict.get(key), Some(&expected), "{key}");
    }
    let bytes = dict.to_safetensors().unwrap();
    assert_eq!(StateDict::from_safetensors(&bytes).unwrap(), dict);
}

#[test]
fn views_become_contiguous() {
    let dict = read("views");
    let cube = |a: usize, b: usize, c: usize| (12 * a + 4 * b + c) as f32;
    let mut permuted = Vec::new();
    for c in 0..4 {
        for a in 0..2 {
            permuted.extend((0..3).map(|b| cube(a, b, c)));
        }
    }
    for (key, shape, values) in [
        ("all", vec![24], (0..24).map(|i| i as f32).collect()),
        ("cube", vec![2, 3, 4], (0..24).map(|i| i as f32).collect()),
        ("permuted", vec![4, 2, 3], permuted),
        ("stepped", vec![5], vec![1.0, 6.0, 11.0, 16.0, 21.0]),
        ("middle", vec![2, 2], vec![6.0, 10.0, 18.0, 22.0]),
        ("inner", vec![3, 2], vec![13.0, 14.0, 17.0, 18.0, 21.0, 22.0]),
        ("expanded", vec![2, 3], vec![3.0, 3.0, 3.0, 4.0, 4.0, 4.0]),
        ("element", vec![], vec![7.0]),
        ("channels_last", vec![1, 2, 2, 4], (0..16).map(|i| i as f32).collect()),
    ] {
        assert_eq!(dict.get(key), Some(&tensor::<f32>(&values, &shape)), "{key}");
    }
    assert_eq!(dict.iter().count(), 9);
}

#[test]
fn a_dict_inside_a_checkpoint_is_chosen_by_its_keys() {
    let path = fixture("checkpoint");
    let dict = StateDict::read_pytorch_at(&path, &["nested", "state_dict"]).unwrap();
    assert_eq!(dict.strip_prefix("module.").unwrap(), block_state());
    assert_eq!(
        refusal(&path, &[]),
        "the file's value: expected a dict of tensors, got \"epoch\" (int), \"nested\" (dict), \"optimizer\" (dict), \
         \"history\" (list), \"device\" (torch.device), \"dtype\" (class), \"size\" (torch.Size); \
         read_pytorch_at chooses a dict inside"
    );
    assert_eq!(
        refusal(&path, &["nested", "model"]),
        "[\"nested\"]: expected the key \"model\", got \"state_dict\" (dict)"
    );
    assert_eq!(refusal(&path, &["epoch", "model"]), "[\"epoch\"]: expected a dict, got int");
    assert_eq!(
        refusal(&path, &["history"]),
        "[\"history\"]: expected a dict of tensors, got list; read_pytorch_at chooses a dict inside"
    );
    let step = StateDict::read_pytorch_at(&path, &["optimizer", "state"]);
    assert!(step.unwrap_err().to_string().contains("got 0 (dict), 1 (dict)"));
}

#[test]
fn a_prefix_is_on_every_key_or_an_error() {
    let mut dict = StateDict::default();
    dict.insert("module.a", RawTensor::from([1f32]));
    dict.insert("module.module.b", RawTensor::from([2f32]));
    assert_eq!(keys(&dict.clone().strip_prefix("module.").unwrap()), ["a", "module.b"]);
    dict.insert("head.weight", RawTensor::from([1f32]));
    dict.insert("module.", RawTensor::from([1f32]));
    let error = dict.strip_prefix("module.").unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Mismatch);
    assert_eq!(error.to_string(), "expected keys that begin with \"module.\", got head.weight, module.");
}

#[test]
fn what_is_no_dict_of_plain_tensors_is_refused_by_its_name() {
    for (file, got) in [
        ("bad_call", "posix.system; torch.save(model.state_dict(), path) writes one"),
        ("module", "torch.nn.modules.linear.Linear; torch.save(model.state_dict(), path) writes one"),
        ("sparse", "\"weight\" (torch._utils._rebuild_sparse_tensor); read_pytorch_at chooses a dict inside"),
        ("complex", "\"weight\" (a tensor of torch.complex64); read_pytorch_at chooses a dict inside"),
    ] {
        let text = format!("the file's value: expected a dict of tensors, got {got}");
        assert_eq!(refusal(&fixture(file), &[]), text, "{file}");
    }
    assert_eq!(
        refusal(&fixture("block_legacy"), &[]),
        "expected PyTorch's zip format, got its legacy format, the format before PyTorch 1.6; save it anew with \
         PyTorch 1.6 or later: torch.save(torch.load(path, map_location=\"cpu\"), path)"
    );
    let script = fixture("block").with_file_name("make_pt.py");
    assert!(refusal(&script, &[]).starts_with("expected a zip archive, as torch.save writes: "));
    let error = StateDict::read_pytorch("/nowhere/model.pt").unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Io);
    assert!(error.to_string().starts_with("/nowhere/model.pt: cannot be read: "), "{error}");
}

#[test]
fn long_names_make_no_long_errors() {
    let names = refusal(&fixture("bad_names"), &[]);
    assert!(names.contains("(int)") && names.contains(" and 480 more"), "{names}");
    assert!(names.len() < 4000, "{} bytes", names.len());
    let text = format!("expected names of up to 4096 bytes, got one of 8000 bytes: {}", "n".repeat(100));
    assert_eq!(refusal(&fixture("bad_name"), &[]), text);
}

#[test]
fn a_file_cannot_ask_for_more_than_it_has() {
    let beyond = |shape: &str, strides: &str, offset: usize, elements: usize| {
        format!(
            "w: shape {shape} with strides {strides} from element {offset} reaches beyond its storage of {elements} elements"
        )
    };
    let large = |name: &str, shape: &str, bytes: u64| {
        format!(
            "{name}: with this tensor of shape {shape} the file would take more than 8 times its {bytes} bytes; \
             save clones of tensors that are expanded or that share a storage"
        )
    };
    let rank = "w: expected a tuple of at most 64 whole numbers as the";
    for (file, expected) in [
        ("bad_compressed", "the entry data/0 is compressed, which torch.save never does".to_owned()),
        ("bad_beyond", beyond("[2, 2]", "[2, 1]", 1, 4)),
        ("bad_length", "w: expected a storage of 20 bytes, got 16".to_owned()),
        ("bad_long", large("w", "[1152921504606846976]", 534)),
        ("bad_product", beyond("[1099511627776, 1099511627776]", "[0, 0]", 0, 4)),
        ("bad_expanded", large("w", "[1099511627776]", 524)),
        ("bad_negative", format!("{rank} strides")),
        ("bad_rank", format!("{rank} shape")),
        ("bad_strides", "w: shape [2, 2] with strides [1]: expected one stride a dimension".to_owned()),
        ("bad_bool", "w: expected bools of 0 or 1, got 2".to_owned()),
        ("bad_missing", "the entry data/1 is missing".to_owned()),
        ("bad_overlap", "entries of the zip archive overlap".to_owned()),
        (
            "bad_nested",
            "the file's value: expected a dict of tensors, got tuple; read_pytorch_at chooses a dict inside"
                .to_owned(),
        ),
    ] {
        assert_eq!(refusal(&fixture(file), &[]), expected, "{file}");
    }
    // Fifty names for one storage take its memory once.
    assert_eq!(read("bad_aliases").iter().count(), 50);
}

/// An archive with this pickle.
fn archive(folder: &Path, pickle: &[u8]) -> PathBuf {
    let path = folder.join("archive.pt");
    let mut zip = ZipWriter::new(fs::File::create(&path).unwrap());
    zip.start_file("archive/data.pkl", SimpleFileOptions::DEFAULT).unwrap();
    zip.write_all(pickle).unwrap();
    zip.finish().unwrap();
    path
}

#[test]
fn a_pickle_costs_neither_stack_nor_a_multiple_of_memory() {
    let folder = tempfile::tempdir().unwrap();
    let refusal = |pickle: &[u8]| refusal(&archive(folder.path(), pickle), &[]);
    let pickle = |start: &[u8], repeated: &[u8], times: usize| {
        [b"\x80\x02", start, &repeated.repeat(times), b"."].concat()
    };
    // Tuples of tuples, and a tuple of ten times the one before, each by the memo.
    let not_a_dict =
        "the file's value: expected a dict of tensors, got tuple; read_pytorch_at chooses a dict inside";
    assert_eq!(refusal(&pickle(b")", b"\x85", 65_000)), not_a_dict);
    assert_eq!(
        refusal(&pickle(b")", b"q\x00(h\x00h\x00h\x00h\x00h\x00h\x00h\x00h\x00h\x00h\x00t", 3000)),
        not_a_dict
    );
    // A dict in itself.
    let itself = "the file's value: expected a dict of tensors, got \"a\" (dict); read_pytorch_at chooses a dict inside";
    assert_eq!(refusal(b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s."), itself);
    let error = refusal(&pickle(b"", b"]", 1_000_000));
    assert!(error.ends_with("values, too many for the file's size"), "{error}");

    for (bytes, expected) in [
        (&b""[..], "byte 0 of the pickle: cut off"),
        (b"\x80\x02", "byte 2 of the pickle: cut off"),
        (b"\x80\x02.", "byte 2 of the pickle: the stack is empty"),
        (b"\x80\x06.", "byte 0 of the pickle: expected pickle protocol 2 to 5, got 6"),
        (b"\x80\x02(.", "byte 3 of the pickle: the stack is empty"),
        (b"\x80\x02t.", "byte 2 of the pickle: no mark on the stack"),
        (b"\x80\x02h\x07.", "byte 2 of the pickle: nothing at memo 7"),
        (b"\x80\x02\x8d\xff\xff\xff\xff\xff\xff\xff\xffabc", "byte 2 of the pickle: cut off"),
        (b"\x80\x02X\x01\x00\x00\x00\xff.", "byte 2 of the pickle: text that is not UTF-8"),
        (
            b"\x80\x02i__main__\nx\n.",
            "byte 2 of the pickle: instruction 0x69 has no use in a file of weights",
        ),
        (b"\x80\x02ctorch\nSize\n}b.", "byte 15 of the pickle: only a dict or an object may be given state"),
        (b"\x80\x02}(K\x01u.", "byte 6 of the pickle: a key without a value"),
        (b"\x80\x02]Q.", "byte 3 of the pickle: expected a tuple that names a storage"),
    ] {
        assert_eq!(refusal(bytes), expected);
    }
}
