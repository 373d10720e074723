//! The convolution block against the plain operations that it stands for.

use crate::common::{
    Results, alone, assert_near, assert_same_kinds, bits, central_differences, instruction_sets, threads,
    wide,
};
use burn::tensor::{DType, Device, Distribution, Int, Tensor, TensorData};
use firebox_kernels::convolution::{ConvBlockSettings, conv_block, conv_relu};
use firebox_kernels::{fallbacks, set_enabled};

struct Case {
    batch: usize,
    channels: usize,
    filters: usize,
    size: [usize; 2],
    kernel: [usize; 2],
    settings: ConvBlockSettings,
}

fn run(case: &Case, inputs: &Inputs, dtype: DType, kernels: bool) -> Results {
    set_enabled(kernels);
    let before = fallbacks();
    let images = inputs.images.clone().cast(dtype).require_grad();
    let weight = inputs.weight.clone().cast(dtype).require_grad();
    let [bias, gamma, beta] =
        [&inputs.bias, &inputs.gamma, &inputs.beta].map(|x| x.clone().cast(dtype).require_grad());
    let [bias_in, gamma_in, beta_in] = [&bias, &gamma, &beta].map(Tensor::clone);
    let out = conv_block(images.clone(), weight.clone(), bias_in, gamma_in, beta_in, 1e-5, case.settings);
    assert_eq!(fallbacks(), before, "the kernel takes this shape");
    // A gradient that differs from place to place.
    let slopes = inputs.slopes.clone().narrow(0, 0, out.output.shape().num_elements()).cast(dtype);
    let gradients = (out.output.clone() * slopes.reshape(out.output.shape())).sum().backward();
    set_enabled(true);
    vec![
        ("output", wide(out.output)),
        ("mean", wide(out.mean)),
        ("variance", wide(out.variance)),
        ("gradient of images", wide(images.grad(&gradients).unwrap())),
        ("gradient of weight", wide(weight.grad(&gradients).unwrap())),
        ("gradient of bias", wide(bias.grad(&gradients).unwrap())),
        ("gradient of gamma", wide(gamma.grad(&gradients).unwrap())),
        ("gradient of beta", wide(beta.grad(&gradients).unwrap())),
    ]
}

struct Inputs {
    images: Tensor<4>,
    weight: Tensor<4>,
    bias: Tensor<1>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    slopes: Tensor<1>,
}

fn inputs(case: &Case) -> Inputs {
    let device = Device::flex().autodiff();
    let normal = |shape: [usize; 4]| Tensor::<4>::random(shape, Distribution::Normal(0.3, 1.0), &device);
    let vector = |length| Tensor::<1>::random([length], Distribution::Normal(0.5, 0.7), &device);
    Inputs {
        images: normal([case.batch, case.channels, case.size[0], case.size[1]]),
        weight: normal([case.filters, case.channels, case.kernel[0], case.kernel[1]]),
        bias: vector(case.filters),
        gamma: vector(case.filters),
        beta: vector(case.filters),
        slopes: vector(case.batch * case.filters * 16 * 16),
    }
}

fn check(case: &Case) {
    check_inputs(case, &inputs(case));
}

fn check_inputs(case: &Case, inputs: &Inputs) {
    let kernel = run(case, inputs, DType::F32, true);
    let plain = run(case, inputs, DType::F32, false);
    let exact = run(case, inputs, DType::F64, false);
    let what = format!(
        "{}×{}×{:?}, {} filters of {:?}, {:?}",
        case.batch, case.channels, case.size, case.filters, case.kernel, case.settings
    );
    assert_near(&what, &kernel, &plain, &exact);
}

/// Whether there are windows for pooling, and values enough for normalisation.
fn possible(case: &Case) -> bool {
    let ConvBlockSettings { stride, padding, dilation, pool, .. } = case.settings;
    let [height, width] = [0, 1].map(|axis| {
        let reach = (case.kernel[axis] - 1) * dilation[axis] + 1;
        let rest = (case.size[axis] + 2 * padding[axis]).checked_sub(reach);
        rest.map_or(0, |rest| rest / stride[axis] + 1)
    });
    let smallest = if pool { 2 } else { 1 };
    height >= smallest && width >= smallest && case.batch * height * width >= 8
}

const PLAIN: ConvBlockSettings = ConvBlockSettings {
    stride: [1, 1],
    padding: [0, 0],
    dilation: [1, 1],
    groups: 1,
    pool: false,
    channels_last: false,
};

#[test]
fn odd_shapes_strides_and_paddings_are_the_plain_operations() {
    let _alone = alone();
    Device::flex().seed(1);
    for batch in [1, 2, 3, 5, 17, 33] {
        for (channels, filters) in [(1, 1), (3, 2), (2, 7)] {
            for (size, kernel) in [([5, 7], [3, 3]), ([7, 5], [1, 1]), ([4, 9], [2, 3]), ([6, 6], [5, 5])] {
                for stride in [[1, 1], [2, 2], [1, 3]] {
                    for padding in [[0, 0], [1, 1], [2, 0]] {
                        for pool in [false, true] {
                            let settings = ConvBlockSettings { stride, padding, pool, ..PLAIN };
                            let case = Case { batch, channels, filters, size, kernel, settings };
                            if possible(&case) {
                                check(&case);
                            }
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn dilated_kernels_are_the_plain_operations() {
    let _alone = alone();
    Device::flex().seed(2);
    for (size, kernel) in [([9, 7], [3, 3]), ([8, 8], [2, 3])] {
        for dilation in [[2, 1], [1, 2], [2, 3]] {
            for stride in [[1, 1], [2, 1], [2, 3]] {
                for padding in [[0, 0], [2, 1], [3, 4]] {
                    for pool in [false, true] {
                        let settings = ConvBlockSettings { stride, padding, dilation, pool, ..PLAIN };
                        let case = Case { batch: 3, channels: 2, filters: 5, size, kernel, settings };
                        if possible(&case) {
                            check(&case);
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn any_number_of_channels_and_filters_is_the_plain_operations() {
    let _alone = alone();
    Device::flex().seed(3);
    let settings = ConvBlockSettings { padding: [1, 1], pool: true, ..PLAIN };
    for count in [1, 2, 3, 5, 7, 15, 16, 17, 31, 32, 33, 47, 48, 49, 64, 65] {
        for (channels, filters) in [(count, 3), (3, count)] {
            check(&Case { batch: 2, channels, filters, size: [6, 5], kernel: [3, 3], settings });
        }
    }
}

/// 3×3 with a step of 1 and whole vectors of channels and filters: by tiles of 2×2 outputs, some of them half
/// empty.
#[test]
fn tiles_are_the_plain_operations() {
    let _alone = alone();
    Device::flex().seed(11);
    for (channels, filters) in [(16, 16), (16, 48), (32, 16), (80, 32)] {
        // Images enough for tiles to pay; more would only find values that rounding takes across ReLU's
        // corner.
        for (batch, size) in [(33, [3, 4]), (33, [4, 4]), (17, [5, 7]), (9, [6, 9]), (3, [14, 14])] {
            for padding in [[0, 0], [1, 1], [2, 0], [1, 2]] {
                for pool in [false, true] {
                    let settings = ConvBlockSettings { padding, pool, ..PLAIN };
                    let case = Case { batch, channels, filters, size, kernel: [3, 3], settings };
                    if possible(&case) {
                        check(&case);
                    }
                }
            }
        }
    }
}

/// Among the images that one thread takes, one that doesn't go by tiles.
#[test]
fn tiles_and_windows_add_up() {
    let _alone = alone();
    Device::flex().seed(14);
    for pool in [false, true] {
        let settings = ConvBlockSettings { padding: [1, 1], pool, ..PLAIN };
        let case = Case { batch: 33, channels: 16, filters: 32, size: [9, 8], kernel: [3, 3], settings };
        let mut inputs = inputs(&case);
        // The first of the second chunk, and the middle one of the third.
        let shape = inputs.images.dims();
        let mut images = inputs.images.to_data().try_to_vec::<f32>().unwrap();
        for image in [3, 7] {
            images[image * 16 * 9 * 8 + 100] = 1e5;
        }
        inputs.images = Tensor::from_data(TensorData::new(images, shape), &inputs.images.device());
        check_inputs(&case, &inputs);
    }
}

/// NaN and what is infinite or huge are in those outputs whose windows have it, and in no others.
#[test]
fn what_is_no_number_stays_in_its_windows() {
    let _alone = alone();
    Device::flex().seed(12);
    let device = Device::flex();
    let random = |shape: [usize; 4]| {
        let tensor = Tensor::<4>::random(shape, Distribution::Normal(0.0, 1.0), &device);
        tensor.into_data().try_to_vec::<f32>().unwrap()
    };
    for (channels, filters) in [(3, 5), (16, 16)] {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30, 3e38] {
            for in_weight in [false, true] {
                let (mut images, mut weight) =
                    (random([6, channels, 8, 8]), random([filters, channels, 3, 3]));
                if in_weight {
                    weight[13] = bad
                } else {
                    images[27] = bad
                }
                let images = Tensor::<4>::from_data(TensorData::new(images, [6, channels, 8, 8]), &device);
                let weight =
                    Tensor::<4>::from_data(TensorData::new(weight, [filters, channels, 3, 3]), &device);
                let bias = Tensor::<1>::zeros([filters], &device);
                let settings = ConvBlockSettings { padding: [1, 1], ..PLAIN };
                let [kernel, plain] = [true, false].map(|on| {
                    set_enabled(on);
                    vec![("output", wide(conv_relu(images.clone(), weight.clone(), bias.clone(), settings)))]
                });
                set_enabled(true);
                let what = format!("{channels} to {filters}, {bad}, in the weight: {in_weight}");
                assert!(plain[0].1.iter().filter(|x| x.is_finite()).count() > filters, "{what}");
                assert_same_kinds(&what, &kernel, &plain);
            }
        }
    }
}

#[test]
fn bits_depend_on_no_thread() {
    let _alone = alone();
    Device::flex().seed(13);
    let settings = ConvBlockSettings { padding: [1, 1], pool: true, ..PLAIN };
    for (channels, filters) in [(3, 7), (16, 32)] {
        let case = Case { batch: 37, channels, filters, size: [9, 11], kernel: [3, 3], settings };
        let inputs = inputs(&case);
        threads(|| bits(&run(&case, &inputs, DType::F32, true)));
    }
}

#[test]
fn every_set_of_vector_instructions_gives_the_plain_operations() {
    let _alone = alone();
    Device::flex().seed(14);
    instruction_sets(|_| {
        for (channels, filters, pool) in [(3, 7, true), (5, 33, false), (16, 48, true)] {
            let settings = ConvBlockSettings { padding: [1, 1], pool, ..PLAIN };
            check(&Case { batch: 5, channels, filters, size: [9, 7], kernel: [3, 3], settings });
        }
    });
}

/// Two blocks in a row, the first of which leaves its output with channels last: in the second one's image,
/// its gradient, and with strides, whose pixels have classes.
#[test]
fn the_order_in_memory_changes_no_value() {
    let _alone = alone();
    Device::flex().seed(6);
    let device = Device::flex().autodiff();
    for (stride, padding, pool, filters, kernel) in [
        ([1, 1], [1, 1], true, [17, 4], [3, 2]),
        ([2, 1], [0, 2], false, [17, 4], [3, 2]),
        ([2, 3], [1, 0], false, [17, 4], [3, 2]),
        ([1, 1], [1, 1], true, [16, 32], [3, 3]),
    ] {
        let normal = |shape: [usize; 4]| Tensor::<4>::random(shape, Distribution::Normal(0.1, 1.0), &device);
        let (images, first, second) = (
            normal([6, 3, 12, 14]),
            normal([filters[0], 3, 3, 3]),
            normal([filters[1], filters[0], kernel[0], kernel[1]]),
        );
        let vector = |count: usize, value: f32| Tensor::<1>::full([count], value, &device);
        let [last, contiguous] = [true, false].map(|channels_last| {
            let (images, first, second) = (
                images.clone().detach().require_grad(),
                first.clone().detach().require_grad(),
                second.clone().detach().require_grad(),
            );
            let settings = ConvBlockSettings { padding: [1, 1], pool: true, channels_last, ..PLAIN };
            let [bias, gamma, beta] = [0.1, 1.5, 0.2].map(|value| vector(filters[0], value));
            let inner = conv_block(images.clone(), first.clone(), bias, gamma, beta, 1e-5, settings).output;
            let settings = ConvBlockSettings { stride, padding, pool, ..PLAIN };
            let [bias, gamma, beta] = [0.1, 1.5, 0.2].map(|value| vector(filters[1], value));
            let out = conv_block(inner.clone(), second.clone(), bias, gamma, beta, 1e-5, settings).output;
            let gradients = out.clone().powi_scalar(3).mean().backward();
            vec![
                ("inner", wide(inner)),
                ("output", wide(out)),
                ("gradient of images", wide(images.grad(&gradients).unwrap())),
                ("gradient of first", wide(first.grad(&gradients).unwrap())),
                ("gradient of second", wide(second.grad(&gradients).unwrap())),
            ]
        });
        assert_near("order", &last, &contiguous, &contiguous);
    }
}

#[test]
fn groups_and_empty_batches_go_to_the_plain_operations_and_are_counted() {
    let _alone = alone();
    set_enabled(true);
    let device = Device::flex();
    let images = Tensor::<4>::random([2, 4, 5, 5], Distribution::Default, &device);
    let weight = Tensor::<4>::random([6, 2, 3, 3], Distribution::Default, &device);
    let filters = |value: f32| Tensor::<1>::full([6], value, &device);
    let settings = ConvBlockSettings { groups: 2, ..PLAIN };
    let before = fallbacks();
    let out = conv_block(images, weight, filters(0.0), filters(1.0), filters(0.0), 1e-5, settings);
    assert_eq!(out.output.dims(), [2, 6, 3, 3]);
    assert_eq!(fallbacks(), before + 1);
    // No image.
    let (images, weight) =
        (Tensor::<4>::zeros([0, 4, 5, 5], &device), Tensor::<4>::zeros([6, 4, 3, 3], &device));
    let empty = conv_relu(images.clone(), weight.clone(), filters(0.0), PLAIN);
    let settings = ConvBlockSettings { pool: true, ..PLAIN };
    let pooled = conv_block(images, weight, filters(0.0), filters(1.0), filters(0.0), 1e-5, settings).output;
    assert_eq!((empty.dims(), pooled.dims()), ([0, 6, 3, 3], [0, 6, 1, 1]));
    assert_eq!(fallbacks(), before + 3);
}

#[test]
fn the_folded_block_is_the_plain_operations() {
    let _alone = alone();
    Device::flex().seed(4);
    let device = Device::flex();
    for (batch, channels, filters, pool) in
        [(1, 3, 1, false), (1, 3, 32, true), (3, 3, 7, true), (17, 3, 33, false), (5, 32, 16, true)]
    {
        let images = Tensor::<4>::random([batch, channels, 9, 7], Distribution::Normal(0.0, 1.0), &device);
        let weight = Tensor::<4>::random([filters, channels, 3, 3], Distribution::Normal(0.0, 1.0), &device);
        let bias = Tensor::<1>::random([filters], Distribution::Normal(0.0, 1.0), &device);
        let settings = ConvBlockSettings { padding: [1, 1], pool, ..PLAIN };
        let [kernel, plain] = [true, false].map(|on| {
            set_enabled(on);
            let before = fallbacks();
            let output = conv_relu(images.clone(), weight.clone(), bias.clone(), settings);
            assert_eq!(fallbacks(), before);
            vec![("output", wide(output))]
        });
        set_enabled(true);
        assert_near("folded", &kernel, &plain, &plain);
    }
}

/// Strides of a view, and an expanded gradient.
#[test]
fn inputs_that_do_not_lie_in_order_are_put_in_order() {
    let _alone = alone();
    Device::flex().seed(5);
    let device = Device::flex().autodiff();
    let turned = Tensor::<4>::random([6, 3, 7, 2], Distribution::Normal(0.0, 1.0), &device);
    let images = turned.swap_dims(0, 3).narrow(2, 1, 6);
    let weight = Tensor::<4>::random([3, 3, 4, 3], Distribution::Normal(0.0, 1.0), &device).swap_dims(0, 2);
    let filters = |value: f32| Tensor::<1>::full([4], value, &device);
    let [kernel, plain] = [true, false].map(|on| {
        set_enabled(on);
        let (images, weight) =
            (images.clone().detach().require_grad(), weight.clone().detach().require_grad());
        let out =
            conv_block(images.clone(), weight.clone(), filters(0.1), filters(1.5), filters(0.2), 1e-5, PLAIN);
        let gradients =
            (out.output.clone().sum() * 3.0 + out.output.clone().powi_scalar(2).mean()).backward();
        vec![
            ("output", wide(out.output)),
            ("gradient of images", wide(images.grad(&gradients).unwrap())),
            ("gradient of weight", wide(weight.grad(&gradients).unwrap())),
        ]
    });
    set_enabled(true);
    assert_near("views", &kernel, &plain, &plain);
}

/// Sums over many places, of values that are nearly equal, keep their digits.
#[test]
fn statistics_of_large_flat_images_keep_their_digits() {
    let _alone = alone();
    let device = Device::flex();
    let side = 224;
    let values: Vec<f32> = (0..2 * side * side)
        .map(|at| if at % 97 == 0 { 0.12 } else { 0.1 + (at % 7) as f32 * 1e-4 })
        .collect();
    let (mean, variance) = {
        let wide = values.iter().map(|&x| f64::from(x));
        let count = values.len() as f64;
        let mean = wide.clone().sum::<f64>() / count;
        (mean, wide.map(|x| (x - mean).powi(2)).sum::<f64>() / count)
    };
    let images = Tensor::<4>::from_data(TensorData::new(values, [2, 1, side, side]), &device);
    let weight = Tensor::<4>::ones([1, 1, 1, 1], &device);
    let filters = |value: f32| Tensor::<1>::full([1], value, &device);
    let out = conv_block(images, weight, filters(0.0), filters(1.0), filters(1.0), 1e-5, PLAIN);
    let (got_mean, got_variance) = (wide(out.mean)[0], wide(out.variance)[0]);
    assert!((got_mean / mean - 1.0).abs() < 1e-6, "mean {got_mean}, expected {mean}");
    assert!((got_variance / variance - 1.0).abs() < 1e-5, "variance {got_variance}, expected {variance}");
}

#[test]
fn equal_values_have_no_variance_below_zero() {
    let _alone = alone();
    let device = Device::flex();
    for value in [1_000_001.06, 777_777.7, 5_666_666.5, 0.1, -3.3] {
        let images = Tensor::<4>::full([2, 1, 3, 1], value, &device);
        let filters = |value: f32| Tensor::<1>::full([1], value, &device);
        let weight = Tensor::<4>::ones([1, 1, 1, 1], &device);
        let out = conv_block(images, weight, filters(0.0), filters(1.0), filters(0.0), 1e-5, PLAIN);
        assert!(wide(out.variance)[0] >= 0.0, "{value}");
        assert!(wide(out.output).iter().all(|x| x.is_finite()), "{value}");
    }
}

#[test]
fn only_gradients_that_are_asked_for_come() {
    let _alone = alone();
    Device::flex().seed(8);
    let device = Device::flex().autodiff();
    for (tracked, [channels, filters]) in (1..32u8).flat_map(|t| [(t, [3, 4]), (t, [16, 32])]) {
        let asked = |input: u8| tracked >> input & 1 == 1;
        let images = Tensor::<4>::random([12, channels, 6, 6], Distribution::Normal(0.0, 1.0), &device)
            .set_require_grad(asked(0));
        let weight = Tensor::<4>::random([filters, channels, 3, 3], Distribution::Normal(0.0, 1.0), &device)
            .set_require_grad(asked(1));
        let vectors = [2, 3, 4].map(|input| {
            Tensor::<1>::random([filters], Distribution::Normal(1.0, 0.3), &device)
                .set_require_grad(asked(input))
        });
        let [kernel, plain] = [true, false].map(|on| {
            set_enabled(on);
            let [bias, gamma, beta] = vectors.clone();
            let out = conv_block(images.clone(), weight.clone(), bias, gamma, beta, 1e-5, PLAIN).output;
            let gradients = out.clone().powi_scalar(3).sum().mul_scalar(0.1).backward();
            let mut results = vec![("output", wide(out))];
            results.extend(images.grad(&gradients).map(|x| ("images", wide(x))));
            results.extend(weight.grad(&gradients).map(|x| ("weight", wide(x))));
            for vector in &vectors {
                results.extend(vector.grad(&gradients).map(|x| ("vector", wide(x))));
            }
            results
        });
        set_enabled(true);
        assert_eq!(kernel.len(), 1 + tracked.count_ones() as usize);
        assert_near(&format!("tracked {tracked:05b}"), &kernel, &plain, &plain);
    }
}

/// In 32 bits: a difference over 2·0.01 has a rounding of about 1e-7 · 100 of the sum, and the block bends.
#[test]
fn gradients_are_those_of_small_differences() {
    let _alone = alone();
    Device::flex().seed(9);
    let device = Device::flex().autodiff();
    let images = Tensor::<4>::random([3, 2, 6, 5], Distribution::Normal(0.0, 1.0), &device).require_grad();
    let weight = Tensor::<4>::random([3, 2, 3, 3], Distribution::Normal(0.0, 1.0), &device).require_grad();
    let filters = |value: f32| Tensor::<1>::full([3], value, &device);
    // Shifted far from where ReLU bends; pooling would bend, too.
    let settings = ConvBlockSettings { padding: [1, 1], stride: [2, 1], ..PLAIN };
    let sum = |images: Tensor<4>, weight: Tensor<4>| {
        let out = conv_block(images, weight, filters(0.1), filters(0.5), filters(4.0), 1e-3, settings).output;
        // Each place counts for something else: the sum of normalised values, and of their squares, is always
        // the same.
        let places = out.shape().num_elements() as i64;
        let slopes = Tensor::<1, Int>::arange(0..places, &out.device()).remainder_scalar(7).float() - 2.5;
        (out.clone() * slopes.reshape(out.dims())).sum()
    };
    let gradients = sum(images.clone(), weight.clone()).backward();
    let value = |images: Tensor<4>, weight: Tensor<4>| wide(sum(images, weight))[0];
    let numeric_images = central_differences(&images, 0.01, |images| value(images, weight.clone()));
    let numeric_weight = central_differences(&weight, 0.01, |weight| value(images.clone(), weight));
    for (name, got, numeric) in [
        ("images", wide(images.grad(&gradients).unwrap()), numeric_images),
        ("weight", wide(weight.grad(&gradients).unwrap()), numeric_weight),
    ] {
        let largest = numeric.iter().fold(0f64, |most, x| most.max(x.abs()));
        let off = got.iter().zip(&numeric).map(|(a, b)| (a - b).abs()).fold(0f64, f64::max);
        assert!(off <= 0.02 * largest, "{name}: {off} off, of at most {largest}");
    }
}

/// Values and gradients are NaN at the same places with and without the kernel.
#[test]
fn what_is_no_number_goes_where_the_plain_operations_take_it() {
    let _alone = alone();
    Device::flex().seed(10);
    let device = Device::flex().autodiff();
    for (bad, [channels, filters]) in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY]
        .into_iter()
        .flat_map(|bad| [(bad, [2, 3]), (bad, [16, 32])])
    {
        let normal = |shape: [usize; 4]| Tensor::<4>::random(shape, Distribution::Normal(0.0, 1.0), &device);
        let (images, weight) = (normal([5, channels, 6, 6]), normal([filters, channels, 3, 3]));
        for place in 0..4 {
            let [kernel, plain] = [true, false].map(|on| {
                set_enabled(on);
                let spoil = |data: TensorData, here: bool| {
                    let shape = data.shape().clone();
                    let mut values = data.try_to_vec::<f32>().unwrap();
                    if here {
                        values[1] = bad;
                    }
                    TensorData::new(values, shape)
                };
                let vector = |value: f32, here: bool| {
                    let data = spoil(TensorData::new(vec![value; filters], [filters]), here);
                    Tensor::<1>::from_data(data, &device).require_grad()
                };
                let images =
                    Tensor::<4>::from_data(spoil(images.to_data(), place == 0), &device).require_grad();
                let weight =
                    Tensor::<4>::from_data(spoil(weight.to_data(), place == 1), &device).require_grad();
                let (gamma, beta) = (vector(1.0, place == 2), vector(0.5, place == 3));
                let settings = ConvBlockSettings { padding: [1, 1], pool: false, ..PLAIN };
                let out = conv_block(
                    images.clone(),
                    weight.clone(),
                    vector(0.1, false),
                    gamma.clone(),
                    beta.clone(),
                    1e-5,
                    settings,
                )
                .output;
                let gradients = out.clone().sum().backward();
                let finite = wide(out.clone()).iter().all(|x| x.is_finite());
                let values = [
                    wide(out),
                    wide(weight.grad(&gradients).unwrap()),
                    wide(images.grad(&gradients).unwrap()),
                ];
                (finite, values.map(|values| values.iter().map(|x| x.is_nan()).collect::<Vec<_>>()))
            });
            set_enabled(true);
            assert!(kernel.1[0] == plain.1[0] && kernel.0 == plain.0, "output, {bad} at {place}");
            // Of what is infinite the gradients are as good as none.
            if plain.0 {
                assert!(kernel.1[1..] == plain.1[1..], "gradients, {bad} at {place}");
            }
        }
    }
}

/// One bad sample spoils the statistics of all; so does a bad bias, though it moves nothing.
#[test]
fn what_is_no_number_stays_none() {
    let _alone = alone();
    Device::flex().seed(15);
    let settings = ConvBlockSettings { padding: [1, 1], pool: true, ..PLAIN };
    for (channels, filters) in [(3, 7), (16, 32)] {
        let case = Case { batch: 37, channels, filters, size: [9, 11], kernel: [3, 3], settings };
        let Inputs { images, weight, .. } = inputs(&case);
        let vector = |x: f32| Tensor::<1>::full([filters], x, &images.device());
        let all_none = |images: Tensor<4>, bias: f32| {
            let (bias, gamma, beta) = (vector(bias), vector(1.0), vector(0.0));
            let out = conv_block(images, weight.clone(), bias, gamma, beta, 1e-5, settings);
            wide(out.output).iter().all(|x| x.is_nan())
        };
        assert!(!all_none(images.clone(), 0.0));
        assert!(all_none(images.clone(), f32::NAN));
        for bad in [f32::NAN, f32::INFINITY] {
            let data = images.to_data();
            let shape = data.shape().clone();
            let mut values = data.try_to_vec::<f32>().unwrap();
            values[100] = bad;
            let images = Tensor::from_data(TensorData::new(values, shape), &images.device());
            assert!(all_none(images, 0.0), "{bad}");
        }
    }
}

/// All gradients, those of bias, γ and β too, and of what lies behind.
#[test]
fn gradients_are_no_numbers_where_those_of_the_plain_operations_are() {
    let _alone = alone();
    Device::flex().seed(16);
    let device = Device::flex().autodiff();
    let normal = |shape: [usize; 4]| Tensor::<4>::random(shape, Distribution::Normal(0.1, 1.0), &device);
    for (place, pool, [channels, filters]) in
        (0..6).flat_map(|place| [(place, false, [2, 3]), (place, true, [2, 3]), (place, true, [16, 32])])
    {
        let side = if pool { 3 } else { 6 };
        let inputs = [
            normal([12, channels, 6, 6]),
            normal([filters, channels, 3, 3]),
            normal([1, 1, 1, filters]),
            normal([1, 1, 1, filters]),
            normal([1, 1, 1, filters]),
            normal([12, filters, side, side]),
        ];
        let mut number = 0;
        let inputs = inputs.map(|tensor| {
            let (shape, mut values) = (tensor.dims(), tensor.into_data().try_to_vec::<f32>().unwrap());
            if number == place {
                values[1] = f32::NAN;
            }
            number += 1;
            Tensor::<4>::from_data(TensorData::new(values, shape), &device).require_grad()
        });
        let [kernel, plain] = [true, false].map(|on| {
            set_enabled(on);
            let [images, weight, bias, gamma, beta, slopes] = inputs.clone();
            let [bias, gamma, beta] = [bias, gamma, beta].map(|x| x.reshape([filters]));
            let settings = ConvBlockSettings { padding: [1, 1], pool, ..PLAIN };
            let out = conv_block(images, weight, bias, gamma, beta, 1e-3, settings);
            let gradients = (out.output.clone() * slopes).sum().backward();
            let mut results = vec![
                ("output", wide(out.output)),
                ("mean", wide(out.mean)),
                ("variance", wide(out.variance)),
            ];
            let names = ["images", "weight", "bias", "gamma", "beta", "slopes"];
            results.extend(
                std::iter::zip(names, &inputs).map(|(name, x)| (name, wide(x.grad(&gradients).unwrap()))),
            );
            results
        });
        set_enabled(true);
        assert_same_kinds(&format!("{place}, {channels} to {filters}, pool {pool}"), &kernel, &plain);
    }
}
