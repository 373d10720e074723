//! Weights from and to files: what PyTorch writes, what nobody should write, and what doesn't fit.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use burn::module::{Module, Param};
use burn::tensor::{Bool, DType, Device, Int, Tensor, TensorData};
use firebox_models::{
    BatchNorm2dConfig, ConvBlock, ConvBlockConfig, ErrorKind, Forward, Partial, StateDict, Weights,
};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

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

fn block() -> ConvBlock {
    ConvBlockConfig::new(2, 3, 2).init(&Device::default()).unwrap()
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
        dict.insert(key, TensorData::new((start..end).map(|i| i as f32 / 8.0).collect(), shape));
        start = end;
    }
    dict.insert("bn.num_batches_tracked", TensorData::new(vec![5i64], [0usize; 0]));
    dict
}

fn keys(dict: &StateDict) -> Vec<&str> {
    dict.iter().map(|(key, _)| key).collect()
}

#[test]
fn a_state_dict_of_pytorch_is_read_as_it_is() {
    for name in ["block", "block_protocol_4", "block_without_sums"] {
        assert_eq!(read(name), block_state(), "{name}");
    }
    assert_eq!(StateDict::of(&block().load_pytorch(fixture("block")).unwrap()), block_state());
}

#[test]
fn a_saved_module_has_all_of_pytorchs_keys_and_shapes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("block.safetensors");
    let module = block().load_pytorch(fixture("block")).unwrap();
    module.save_safetensors(&path).unwrap();
    assert_eq!(StateDict::read(&path).unwrap(), block_state());
    let again = block().load_safetensors(&path).unwrap();
    assert_eq!(StateDict::of(&again), block_state());
    assert_eq!(again.bn.num_batches_tracked.value(), 5);
    // Written again, nothing of the first file or of the writing is left.
    block().save_safetensors(&path).unwrap();
    assert_eq!(StateDict::read(&path).unwrap(), StateDict::of(&block().load_safetensors(&path).unwrap()));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    let error = block().save_safetensors("/nowhere/block.safetensors").unwrap_err();
    assert!(error.to_string().starts_with("/nowhere/block.safetensors: cannot be written: "), "{error}");
    assert_eq!(error.kind(), &ErrorKind::Io);
}

#[test]
fn other_widths_of_floats_become_the_modules() {
    for name in ["block_float64", "block_float16", "block_bfloat16"] {
        let module = block().load_pytorch(fixture(name)).unwrap();
        assert_eq!(StateDict::of(&module), block_state(), "{name}");
    }
    assert_eq!(read("block_float16").get("bn.bias").unwrap().dtype(), DType::F16);
}

#[test]
fn every_type_of_numbers_is_read() {
    let dict = read("kinds");
    for (key, dtype) in
        [("float64", DType::F64), ("float32", DType::F32), ("float16", DType::F16), ("bfloat16", DType::BF16)]
    {
        let data = dict.get(key).unwrap();
        assert_eq!(data.dtype(), dtype);
        assert_eq!(data.iter::<f64>().collect::<Vec<_>>(), [1.5, -2.0], "{key}");
    }
    let expected = [
        ("int64", TensorData::from([1, -(1i64 << 40)])),
        ("int32", TensorData::from([1, -(1i32 << 20)])),
        ("int16", TensorData::from([1i16, -300])),
        ("int8", TensorData::from([1i8, -2])),
        ("uint8", TensorData::from([1u8, 200])),
        ("uint16", TensorData::from([1u16, 60000])),
        ("uint32", TensorData::from([1, u32::MAX])),
        ("uint64", TensorData::from([1, (1u64 << 63) + 1])),
        ("bool", TensorData::from([true, false, true])),
        ("scalar", TensorData::new(vec![2.5f32], [0usize; 0])),
        ("count", TensorData::new(vec![7i64], [0usize; 0])),
        ("empty", TensorData::new(Vec::<f32>::new(), [0, 3])),
        ("parameter", TensorData::from([3f32])),
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
        assert_eq!(dict.get(key), Some(&TensorData::new(values, shape)), "{key}");
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
    dict.insert("module.a", TensorData::from([1f32]));
    dict.insert("module.module.b", TensorData::from([2f32]));
    assert_eq!(keys(&dict.clone().strip_prefix("module.").unwrap()), ["a", "module.b"]);
    dict.insert("head.weight", TensorData::from([1f32]));
    dict.insert("module.", TensorData::from([1f32]));
    let error = dict.strip_prefix("module.").unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Mismatch);
    assert_eq!(error.to_string(), "expected keys that begin with \"module.\", got head.weight, module.");
}

#[test]
fn weights_that_do_not_fit_are_named_with_their_file() {
    let path = fixture("block");
    let error =
        ConvBlockConfig::new(1, 3, 2).init(&Device::default()).unwrap().load_pytorch(&path).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Mismatch);
    assert_eq!(
        error.to_string(),
        format!(
            "{}: the weights don't fit the module: conv.weight: expected shape [3, 1, 2, 2], got [3, 2, 2, 2]",
            path.display()
        )
    );
}

#[test]
fn a_part_is_loaded_only_if_asked_for() {
    let mut dict = block_state();
    dict.insert("head.bias", TensorData::from([1f32]));
    let layer = BatchNorm2dConfig::new(3).init(&Device::default()).unwrap();
    let (loaded, partial) = dict.apply_partly(block()).unwrap();
    assert_eq!(StateDict::of(&loaded), block_state());
    assert_eq!(partial, Partial { unused: vec!["head.bias".to_owned()], ..Partial::default() });

    let mut part = StateDict::default();
    part.insert("weight", TensorData::from([7f32, 8.0, 9.0]));
    let (loaded, partial) = part.apply_partly(layer.clone()).unwrap();
    assert_eq!(partial.missing, ["bias", "running_mean", "running_var", "num_batches_tracked"]);
    assert!(partial.unused.is_empty());
    assert_eq!(loaded.weight.val().into_data(), TensorData::from([7f32, 8.0, 9.0]));
    assert_eq!(loaded.bias.val().into_data(), TensorData::from([0f32; 3]));

    part.insert("bias", TensorData::from([7f32]));
    let error = part.apply_partly(layer).unwrap_err();
    assert_eq!(error.to_string(), "the weights don't fit the module: bias: expected shape [3], got [1]");
}

#[derive(Module, Debug)]
struct Kinds {
    float: Param<Tensor<1>>,
    int: Param<Tensor<1, Int>>,
    flag: Param<Tensor<1, Bool>>,
}

fn kinds() -> Kinds {
    let device = Device::default();
    Kinds {
        float: Param::from_tensor(Tensor::zeros([1], (&device, DType::F16))),
        int: Param::initialized(Default::default(), Tensor::zeros([1], (&device, DType::I32))),
        flag: Param::initialized(Default::default(), Tensor::from_data([false], &device)),
    }
}

#[test]
fn numbers_are_converted_only_to_what_can_hold_them() {
    let dict = |float: TensorData, int: TensorData, flag: TensorData| {
        let mut dict = StateDict::default();
        dict.insert("float", float);
        dict.insert("int", int);
        dict.insert("flag", flag);
        dict
    };
    let wide = dict([0.1f64].into(), [-(1i64 << 31)].into(), [true].into());
    let loaded = StateDict::of(&wide.apply(kinds()).unwrap());
    assert_eq!(loaded.get("float").unwrap().iter::<f32>().collect::<Vec<_>>(), [0.099975586]);
    assert_eq!(loaded.get("int").unwrap(), &TensorData::from([i32::MIN]));
    assert_eq!(loaded.get("flag").unwrap(), &TensorData::from([true]));
    // What is infinite stays so, and an unsigned number may fit.
    let edge = dict([f32::INFINITY].into(), [(1u64 << 31) - 1].into(), [true].into());
    let loaded = StateDict::of(&edge.apply(kinds()).unwrap());
    assert_eq!(loaded.get("float").unwrap().iter::<f32>().collect::<Vec<_>>(), [f32::INFINITY]);
    assert_eq!(loaded.get("int").unwrap(), &TensorData::from([i32::MAX]));

    let error = dict([7e4f32].into(), [1i64 << 31].into(), [1u8].into()).apply(kinds()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the weights don't fit the module: float: 7e4 is too large for F16; int: 2147483648 does not fit in I32; \
         flag: expected Bool(Native), got U8"
    );
    let error = dict([1i64].into(), [1f32].into(), [true].into()).apply(kinds()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the weights don't fit the module: float: expected F16, got I64; int: expected I32, got F32"
    );
}

#[test]
fn a_tensor_without_dimensions_fits_one_of_one_element() {
    let mut dict = StateDict::default();
    dict.insert("float", TensorData::new(vec![2f32], [0usize; 0]));
    dict.insert("int", TensorData::new(vec![3i64], [0usize; 0]));
    dict.insert("flag", TensorData::new(vec![true], [0usize; 0]));
    let loaded = StateDict::of(&dict.apply(kinds()).unwrap());
    assert_eq!(loaded.get("int").unwrap(), &TensorData::from([3i32]), "only the counter loses its dimension");
}

#[test]
fn batches_are_counted_in_training_by_each_clone_for_itself() {
    let device = Device::default();
    let layer = BatchNorm2dConfig::new(2).init(&device.clone().autodiff()).unwrap();
    let input = Tensor::ones([2, 2, 1, 1], &device.clone().autodiff());
    layer.forward(input.clone());
    let copy = layer.clone();
    copy.forward(input.clone());
    copy.forward(input.clone());
    copy.valid().forward(input.clone().without_autodiff());
    copy.clone().freeze().forward(input);
    assert_eq!((layer.num_batches_tracked.value(), copy.num_batches_tracked.value()), (1, 3));
    let count = TensorData::new(vec![3i64], [0usize; 0]);
    for module in [copy.clone(), copy.valid(), copy.valid().train(), copy.clone().to_device(&device)] {
        assert_eq!(StateDict::of(&module).get("num_batches_tracked"), Some(&count));
        assert_eq!(module.devices().len(), 1);
    }
    let loaded = StateDict::of(&layer).apply(copy).unwrap();
    assert_eq!(loaded.num_batches_tracked.value(), 1);
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

#[test]
fn damage_is_an_error_or_harmless_and_never_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged.pt");
    let whole = fs::read(fixture("views")).unwrap();
    let expected = read("views");
    let check = |bytes: &[u8], what: &str, at: usize| {
        fs::write(&path, bytes).unwrap();
        if let Ok(dict) = StateDict::read_pytorch(&path) {
            assert_eq!(dict, expected, "{what} at {at} changed numbers in silence");
        }
    };
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << (at % 8);
        check(&damaged, "a flipped bit", at);
    }
    for at in (0..whole.len()).step_by(16) {
        check(&whole[..at], "a cut", at);
    }
}

#[test]
fn a_file_of_safetensors_with_broken_bools_is_refused() {
    let mut dict = StateDict::default();
    dict.insert("mask", TensorData::from([true, false]));
    let mut bytes = dict.to_safetensors().unwrap();
    *bytes.last_mut().unwrap() = 2;
    let error = StateDict::from_safetensors(&bytes).unwrap_err();
    assert_eq!(error.to_string(), "mask: expected bools of 0 or 1, got 2");
}

#[test]
fn a_loaded_block_computes_with_what_was_loaded() {
    let module = block().load_pytorch(fixture("block")).unwrap();
    let output = module.forward(Tensor::ones([1, 2, 2, 2], &Device::default())).into_data();
    // Sums of eight weights and a bias, normalised and shifted.
    let expected = (0..3).map(|c| {
        let conv = (0..8).map(|i| (8 * c + i) as f32 / 8.0).sum::<f32>() + (24 + c) as f32 / 8.0;
        let [weight, bias, mean, var] = [27, 30, 33, 36].map(|start| (start + c) as f32 / 8.0);
        ((conv - mean) / (var + 1e-5).sqrt() * weight + bias).max(0.0)
    });
    for (got, expected) in std::iter::zip(output.iter::<f32>(), expected) {
        assert!((got - expected).abs() < 1e-5 * expected, "{got} {expected}");
    }
}

/// A weight in two places, a layer in two places, and something beside them.
#[derive(Module, Debug)]
struct Shared {
    embedding: firebox_models::Embedding,
    fc: firebox_models::Linear,
    first: ConvBlock,
    second: ConvBlock,
}

fn shared(device: &Device) -> Shared {
    let mut fc = firebox_models::LinearConfig::new(4, 5).init(device).unwrap();
    let embedding = firebox_models::EmbeddingConfig::new(5, 4).init(device).unwrap();
    fc.weight = embedding.weight.clone();
    let first = ConvBlockConfig::new(2, 2, 2).init(device).unwrap();
    Shared { embedding, fc, second: first.clone(), first }
}

const TIED: [&str; 2] = ["embedding.weight", "fc.weight"];

#[test]
fn a_parameter_in_two_places_has_both_names_and_needs_one() {
    for device in [Device::default(), Device::default().autodiff()] {
        let dict = StateDict::of(&shared(&device));
        assert_eq!(dict.get(TIED[0]), dict.get(TIED[1]));
        for gone in TIED {
            let mut one = StateDict::default();
            dict.iter().filter(|(key, _)| *key != gone).for_each(|(key, data)| one.insert(key, data.clone()));
            let model = one.apply(shared(&device)).unwrap();
            assert_eq!(StateDict::of(&model), dict, "without {gone}");
            let (model, partial) = one.apply_partly(shared(&device)).unwrap();
            assert_eq!((StateDict::of(&model), partial), (dict.clone(), Partial::default()));
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tied.safetensors");
        shared(&device).save_safetensors(&path).unwrap();
        let names = StateDict::read(&path).unwrap();
        assert!(TIED.iter().all(|name| names.get(name).is_some()));
        let mut neither = StateDict::default();
        let others = dict.iter().filter(|(key, _)| !TIED.contains(key));
        others.for_each(|(key, data)| neither.insert(key, data.clone()));
        let (_, partial) = neither.apply_partly(shared(&device)).unwrap();
        assert_eq!(partial.missing, TIED);
        let error = neither.apply(shared(&device)).unwrap_err();
        let text = "the weights don't fit the module: missing embedding.weight; missing fc.weight";
        assert_eq!(error.to_string(), text);
    }
}

#[test]
fn two_weights_for_one_parameter_are_refused() {
    let model = shared(&Device::default());
    let mut dict = StateDict::of(&model);
    dict.insert("fc.weight", TensorData::new(vec![0.5f32; 20], [5, 4]));
    dict.insert("second.conv.bias", TensorData::new(vec![7f32; 2], [2]));
    let one = "are one parameter of the module: expected equal tensors, got different ones";
    let expected = format!(
        "the weights don't fit the module: embedding.weight and fc.weight {one}; \
         first.conv.bias and second.conv.bias {one}"
    );
    for error in [
        dict.apply(shared(&Device::default())).unwrap_err(),
        dict.apply_partly(shared(&Device::default())).map(drop).unwrap_err(),
    ] {
        assert_eq!((error.kind(), error.to_string()), (&ErrorKind::Mismatch, expected.clone()));
    }
}

/// A layer in two places is one, but for what each place has seen.
#[test]
fn buffers_are_each_places_own() {
    let device = Device::default().autodiff();
    let model = shared(&device);
    let tied: Vec<_> = firebox_models::Ties::of(&model).groups().map(|paths| paths.join(" ")).collect();
    let expected = [
        "embedding.weight fc.weight",
        "first.conv.weight second.conv.weight",
        "first.conv.bias second.conv.bias",
        "first.bn.weight second.bn.weight",
        "first.bn.bias second.bn.bias",
    ];
    assert_eq!(tied, expected);
    model.first.forward(Tensor::ones([2, 2, 4, 4], &device));
    let dict = StateDict::of(&model);
    assert_ne!(dict.get("first.bn.running_mean"), dict.get("second.bn.running_mean"));
    assert_ne!(dict.get("first.bn.num_batches_tracked"), dict.get("second.bn.num_batches_tracked"));
    let loaded = dict.apply(shared(&device)).unwrap();
    assert_eq!(StateDict::of(&loaded), dict);
}
