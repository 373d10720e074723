//! Dictionaries of Burn's modules, and applied to them.

use std::fs;

use burn::module::{Module, Param};
use burn::tensor::quantization::QuantScheme;
use burn::tensor::{Bool, DType, Device, Int, Tensor, TensorData};
use firebox_weights::{ErrorKind, RawTensor, StateDict, Weights};

use crate::common::{fixture, floats, linear, read, side_by_side, tensor, two_parts, unsupported};

/// A linear map as PyTorch has it.
#[derive(Module, Debug)]
struct Layer {
    weight: Param<Tensor<2>>,
    bias: Param<Tensor<1>>,
}

fn layer() -> Layer {
    let device = Device::default();
    let bias = Param::from_tensor(Tensor::zeros([2], &device));
    Layer { weight: Param::from_tensor(Tensor::zeros([2, 3], &device)), bias }
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
    let dict = |float: RawTensor, int: RawTensor, flag: RawTensor| {
        let mut dict = StateDict::default();
        dict.insert("float", float);
        dict.insert("int", int);
        dict.insert("flag", flag);
        dict
    };
    let wide = dict([0.1f64].into(), [-(1i64 << 31)].into(), [true].into());
    let loaded = StateDict::of(&wide.apply(kinds()).unwrap());
    assert_eq!(loaded.get("float").unwrap().to_f64_vec(), [0.0999755859375]);
    assert_eq!(loaded.get("int").unwrap(), &RawTensor::from([i32::MIN]));
    assert_eq!(loaded.get("flag").unwrap(), &RawTensor::from([true]));
    // What is infinite stays so, and an unsigned number may fit.
    let edge = dict([f32::INFINITY].into(), [(1u64 << 31) - 1].into(), [true].into());
    let loaded = StateDict::of(&edge.apply(kinds()).unwrap());
    assert_eq!(loaded.get("float").unwrap().to_f64_vec(), [f64::INFINITY]);
    assert_eq!(loaded.get("int").unwrap(), &RawTensor::from([i32::MAX]));

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
    dict.insert("float", tensor(&[2f32], &[]));
    dict.insert("int", tensor(&[3i64], &[]));
    dict.insert("flag", tensor(&[true], &[]));
    let loaded = StateDict::of(&dict.apply(kinds()).unwrap());
    assert_eq!(loaded.get("int").unwrap(), &RawTensor::from([3i32]), "only the counter loses its dimension");
}

#[derive(Module, Debug)]
struct Scaled {
    weight: Param<Tensor<2>>,
    bias: Param<Tensor<1>>,
    f8: Param<Tensor<1>>,
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
    assert_eq!(RawTensor::from(module.bias.val().into_data()), *linear().get("bias").unwrap());
    assert_eq!(partial.missing, ["f8"]);
    assert_eq!(partial.unsupported.keys().collect::<Vec<_>>(), ["f8"]);

    let mut dict = StateDict::read(fixture("f8.safetensors")).unwrap();
    assert_eq!(unsupported(&dict), [("f8", "a tensor of F8_E4M3")]);
    assert_eq!(dict.iter().collect::<Vec<_>>(), [("a", &RawTensor::from([1f32, 1.0]))]);
    // A tensor in its place is one.
    dict.insert("f8", RawTensor::from([1f32]));
    assert!(unsupported(&dict).is_empty());
}

#[test]
fn what_is_beside_tensors_is_left_over() {
    let folder = tempfile::tempdir().unwrap();
    let dict = StateDict::read_pytorch(side_by_side(folder.path())).unwrap();
    let error = dict.apply(layer()).unwrap_err().to_string();
    assert!(
        error.ends_with("unexpected epoch (int); unexpected inner (dict); unexpected lr (float)"),
        "{error}"
    );
}

/// They don't keep the storage.
#[test]
fn a_modules_tensors_are_its_own() {
    let dict = read("shared.pt");
    // Data of Burn's that are changed are a copy.
    let mut changed = TensorData::from(dict.get("3.bias").unwrap());
    changed.as_mut_slice::<f32>().unwrap()[0] = 7.0;
    assert_eq!(floats(&dict, "3.bias"), floats(&dict, "0.bias"));
    assert_ne!(&RawTensor::from(changed), dict.get("3.bias").unwrap());

    let folder = tempfile::tempdir().unwrap();
    let dict = StateDict::read_pytorch(two_parts(folder.path())).unwrap();
    let module = dict.apply(layer()).unwrap();
    let module = Layer { weight: module.weight.map(|weight| weight * 2.0), ..module };
    assert_eq!(module.bias.val().into_data(), TensorData::from([5f32, 6.0]));
    assert_eq!(floats(&dict, "weight"), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
}

#[test]
fn a_file_of_a_module_has_metadata() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("layer.safetensors");
    layer().save_safetensors(&path).unwrap();
    assert!(fs::read(&path).unwrap()[8..].starts_with(b"{\"__metadata__\":{\"format\":\"pt\"},"));
}

#[test]
fn a_model_of_data_parallel_loads_without_its_prefix() {
    let dict = read("dp.pt").strip_prefix("module.").unwrap();
    assert_eq!(StateDict::of(&dict.apply(layer()).unwrap()), dict);
}

/// Files have no type for them, and their module's tensors are these floats.
#[test]
fn quantized_tensors_are_given_as_floats() {
    let values = Tensor::<2>::from_data([[-1f32, 0.5], [0.25, 1.0]], &Device::default());
    let quantized = values.quantize_dynamic(&QuantScheme::default());
    let expected = quantized.clone().dequantize().into_data();
    assert!(matches!(quantized.dtype(), DType::QFloat(_)));

    #[derive(Module, Debug)]
    struct Quantized {
        weight: Param<Tensor<2>>,
    }

    let weight = Param::initialized(Default::default(), quantized);
    assert_eq!(StateDict::of(&Quantized { weight }).get("weight"), Some(&expected.into()));
}
