//! Weights of blocks, from and to files.
//!
//! The fixtures are those of `firebox-weights`.

use std::fs;
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use firebox_models::Forward;
use firebox_models::layers::{
    BatchNorm2dConfig, ConvBlock, ConvBlockConfig, Embedding, EmbeddingConfig, Linear, LinearConfig,
};
use firebox_weights::{ErrorKind, Partial, RawTensor, StateDict, Ties, Weights};

use crate::common::beside_others;

fn fixture(name: &str) -> PathBuf {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    crates.join(format!("firebox-weights/tests/fixtures/pt/{name}.pt"))
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

fn block() -> ConvBlock {
    ConvBlockConfig::new(2, 3, 2).init(&Device::default()).unwrap()
}

#[test]
fn a_state_dict_of_pytorch_is_loaded_as_it_is() {
    let _turn = beside_others();
    assert_eq!(StateDict::of(&block().load_pytorch(fixture("block")).unwrap()), block_state());
}

#[test]
fn a_saved_module_has_all_of_pytorchs_keys_and_shapes() {
    let _turn = beside_others();
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
    let _turn = beside_others();
    for name in ["block_float64", "block_float16", "block_bfloat16"] {
        let module = block().load_pytorch(fixture(name)).unwrap();
        assert_eq!(StateDict::of(&module), block_state(), "{name}");
    }
}

#[test]
fn weights_that_do_not_fit_are_named_with_their_file() {
    let _turn = beside_others();
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
    let _turn = beside_others();
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

#[test]
fn batches_are_counted_in_training_by_each_clone_for_itself() {
    let _turn = beside_others();
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
    let count = RawTensor::new(&[3i64], []).unwrap();
    for module in [copy.clone(), copy.valid(), copy.valid().train(), copy.clone().to_device(&device)] {
        assert_eq!(StateDict::of(&module).get("num_batches_tracked"), Some(&count));
        assert_eq!(module.devices().len(), 1);
    }
    let loaded = StateDict::of(&layer).apply(copy).unwrap();
    assert_eq!(loaded.num_batches_tracked.value(), 1);
}

#[test]
fn a_loaded_block_computes_with_what_was_loaded() {
    let _turn = beside_others();
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
    embedding: Embedding,
    fc: Linear,
    first: ConvBlock,
    second: ConvBlock,
}

fn shared(device: &Device) -> Shared {
    let mut fc = LinearConfig::new(4, 5).init(device).unwrap();
    let embedding = EmbeddingConfig::new(5, 4).init(device).unwrap();
    fc.weight = embedding.weight.clone();
    let first = ConvBlockConfig::new(2, 2, 2).init(device).unwrap();
    Shared { embedding, fc, second: first.clone(), first }
}

const TIED: [&str; 2] = ["embedding.weight", "fc.weight"];

#[test]
fn a_parameter_in_two_places_has_both_names_and_needs_one() {
    let _turn = beside_others();
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
    let _turn = beside_others();
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
    let _turn = beside_others();
    let device = Device::default().autodiff();
    let model = shared(&device);
    let tied: Vec<_> = Ties::of(&model).groups().map(|paths| paths.join(" ")).collect();
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
