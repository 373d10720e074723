//! Blocks: configs that are checked, initialisation under a seed, state that is one's own.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::{Mutex, MutexGuard};

use burn::module::Module;
use burn::tensor::{Device, Distribution, Tensor, TensorData};
use firebox_models::{
    BatchNorm2dConfig, Cnn, CnnConfig, ConvBlockConfig, ErrorKind, Forward, LinearBlockConfig,
    MaxPoolingConfig, StateDict, init,
};

fn cnn(seed: u64) -> Cnn {
    let device = Device::default().autodiff();
    init(seed, &device, |device| CnnConfig::new(10).with_channels(1).with_dropout(0.5).init(device)).unwrap()
}

/// Burn's generator belongs to the process: what draws from it, as dropout does, must not run beside a test
/// that counts on a seed.
fn draws() -> MutexGuard<'static, ()> {
    static DRAWS: Mutex<()> = Mutex::new(());
    DRAWS.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[test]
fn a_config_names_field_value_and_range() {
    let device = Device::default();
    let errors = [
        CnnConfig::new(0).init(&device).unwrap_err(),
        CnnConfig::new(10).with_size([28, 3]).init(&device).unwrap_err(),
        CnnConfig::new(10).with_dropout(1.0).init(&device).unwrap_err(),
        CnnConfig::new(10).with_dropout(f64::NAN).init(&device).unwrap_err(),
        ConvBlockConfig::new(3, 8, 0).init(&device).unwrap_err(),
        LinearBlockConfig::new(0, 3).init(&device).unwrap_err(),
        MaxPoolingConfig::new(2).with_stride(Some(0)).init().unwrap_err(),
        BatchNorm2dConfig::new(3).with_momentum(1.5).init(&device).unwrap_err(),
    ];
    assert!(errors.iter().all(|error| error.kind() == ErrorKind::Config));
    assert_eq!(
        errors.map(|error| error.to_string()),
        [
            "CnnConfig.classes: expected at least 1, got 0",
            "CnnConfig.size: expected a height and width of at least 4, got [28, 3]",
            "CnnConfig.dropout: expected 0 ≤ p < 1, got 1",
            "CnnConfig.dropout: expected 0 ≤ p < 1, got NaN",
            "ConvBlockConfig.kernel_size: expected at least 1, got 0",
            "LinearBlockConfig.features_in: expected at least 1, got 0",
            "MaxPoolingConfig.stride: expected at least 1, got 0",
            "BatchNorm2dConfig.momentum: expected 0 to 1, got 1.5",
        ]
    );
}

#[test]
fn parameters_follow_from_the_seed_alone() {
    let _alone = draws();
    let first = StateDict::of(&cnn(1));
    // Draws of others, between and at the same time, change nothing.
    let device = Device::default();
    let _ = Tensor::<1>::random([1000], Distribution::Default, &device).into_data();
    assert_eq!(first, StateDict::of(&cnn(1)));
    assert_ne!(first, StateDict::of(&cnn(2)));
}

#[test]
fn parameters_lie_within_pytorchs_bounds_and_reach_them() {
    let _alone = draws();
    let dict = StateDict::of(&cnn(3));
    for (key, fan_in) in [
        ("conv1.conv.weight", 9),
        ("conv1.conv.bias", 9),
        ("conv2.conv.weight", 32 * 9),
        ("fc1.linear.weight", 64 * 49),
        ("fc2.weight", 128),
    ] {
        let values = dict.get(key).unwrap().try_to_vec::<f32>().unwrap();
        let bound = 1.0 / (fan_in as f32).sqrt();
        let largest = values.iter().fold(0f32, |max, x| max.max(x.abs()));
        assert!(largest <= bound && largest > 0.85 * bound, "{key}: {largest}, bound {bound}");
    }
}

#[test]
fn shapes_follow_from_the_config() {
    let _alone = draws();
    let device = Device::default();
    for (channels, [height, width], classes) in [(1, [28, 28], 10), (3, [33, 18], 4), (2, [4, 7], 1)] {
        let config = CnnConfig::new(classes).with_channels(channels).with_size([height, width]);
        let cnn = config.init(&device).unwrap();
        let logits = cnn.forward(Tensor::zeros([5, channels, height, width], &device));
        assert_eq!(logits.dims(), [5, classes]);
    }
    let overlapping = MaxPoolingConfig::new(3).with_stride(Some(2)).init().unwrap();
    assert_eq!(overlapping.forward(Tensor::zeros([1, 1, 8, 7], &device)).dims(), [1, 1, 3, 3]);
}

fn batch(device: &Device) -> Tensor<4> {
    Tensor::random([8, 1, 28, 28], Distribution::Normal(1.0, 2.0), device)
}

#[test]
fn a_clone_has_running_statistics_of_its_own() {
    let _alone = draws();
    let live = cnn(4);
    let copy = live.clone();
    let before = StateDict::of(&live);
    copy.forward(batch(&Device::default().autodiff()));
    assert_eq!(StateDict::of(&live), before, "training the copy changed the original");
    assert_ne!(StateDict::of(&copy), before, "training updates running statistics, seen at once");
    // Loading weights into a copy leaves the original alone too.
    let loaded = StateDict::of(&cnn(5)).apply(live.clone()).unwrap();
    assert_eq!(StateDict::of(&live), before);
    assert_eq!(StateDict::of(&loaded), StateDict::of(&cnn(5)));
}

#[test]
fn evaluation_neither_updates_nor_drops() {
    let _alone = draws();
    let device = Device::default();
    let model = cnn(6).valid();
    let before = StateDict::of(&model);
    let input = batch(&device);
    let (a, b) = (model.forward(input.clone()).into_data(), model.forward(input).into_data());
    assert_eq!(a, b);
    assert_eq!(StateDict::of(&model), before);
}

#[test]
fn a_frozen_block_keeps_its_statistics_in_training() {
    let _alone = draws();
    let model = cnn(7).freeze();
    let before = StateDict::of(&model);
    model.forward(batch(&Device::default().autodiff()));
    assert_eq!(StateDict::of(&model), before);
}

#[test]
fn running_variance_is_unbiased() {
    let device = Device::default().autodiff();
    let layer = BatchNorm2dConfig::new(1).init(&device).unwrap();
    layer.forward(Tensor::from_data([[[[1.0f32, 3.0]]]], &device));
    // Mean 2, unbiased variance 2, each weighted 0.1 against 0 and 1.
    assert_eq!(layer.running_mean.value().into_data(), TensorData::from([0.2f32]));
    assert_eq!(layer.running_var.value().into_data(), TensorData::from([1.1f32]));
}

#[test]
fn weights_that_do_not_fit_are_all_named() {
    let _alone = draws();
    let mut dict = StateDict::default();
    for (key, data) in StateDict::of(&cnn(8)).iter().filter(|(key, _)| *key != "fc2.bias") {
        dict.insert(key, data.clone());
    }
    dict.insert("conv1.bn.weight", TensorData::from([1f32, 2.0]));
    dict.insert("conv1.bn.bias", TensorData::from([1i64; 32]));
    dict.insert("extra", TensorData::from([1f32]));
    let error = dict.apply(cnn(9)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Mismatch);
    assert_eq!(
        error.to_string(),
        "the weights don't fit the module: conv1.bn.weight: expected shape [32], got [2]; \
         conv1.bn.bias: expected F32, got I64; missing fc2.bias; unexpected extra"
    );
}

#[test]
fn weights_survive_a_file() {
    let _alone = draws();
    let dict = StateDict::of(&cnn(10));
    let bytes = dict.to_safetensors().unwrap();
    assert_eq!(StateDict::from_safetensors(&bytes).unwrap(), dict);
    assert_eq!(bytes, StateDict::of(&cnn(10)).to_safetensors().unwrap(), "equal models, equal bytes");
    let error = StateDict::from_safetensors(&bytes[..bytes.len() - 1]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Format);
    let error = StateDict::read("/nowhere/model.safetensors").unwrap_err();
    assert!(error.to_string().starts_with("/nowhere/model.safetensors: cannot be read: "), "{error}");
}
