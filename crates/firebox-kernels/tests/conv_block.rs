//! The convolution block against the plain operations that it stands for.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::{Mutex, MutexGuard};

use burn::tensor::{DType, Device, Distribution, Tensor};
use firebox_kernels::{ConvBlockSettings, conv_block, fallbacks, set_enabled};

/// The switch belongs to the process, and so does Burn's generator.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// What an operation gave, by name.
type Results = Vec<(&'static str, Vec<f64>)>;

fn wide<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.cast(DType::F64).into_data().try_to_vec().unwrap()
}

fn apart(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    std::iter::zip(a, b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

/// A kernel is as near to what 64 bits give as the plain operations are, or within some rounding of the largest value.
fn assert_near(what: &str, kernel: &Results, plain: &Results, exact: &Results) {
    let size = |values: &[f64]| values.iter().fold(0f64, |max, x| max.max(x.abs()));
    // A gradient that almost cancels has the rounding of what cancels.
    let slack = 3e-6 * exact.iter().map(|(_, values)| size(values)).fold(1.0, f64::max);
    for ((name, kernel), ((_, plain), (_, exact))) in std::iter::zip(kernel, std::iter::zip(plain, exact)) {
        let largest = size(exact);
        let (error, allowed) =
            (apart(kernel, exact), (3.0 * apart(plain, exact)).max(1e-5 * largest + slack));
        assert!(
            error <= allowed,
            "{what}, {name}: differs by {error:e}, allowed {allowed:e}, of at most {largest:e}"
        );
    }
}

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
    let out =
        conv_block(images.clone(), weight.clone(), bias.clone(), gamma.clone(), beta.clone(), case.settings);
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

fn check(case: &Case) {
    let device = Device::flex().autodiff();
    let normal = |shape: [usize; 4]| Tensor::<4>::random(shape, Distribution::Normal(0.3, 1.0), &device);
    let vector = |length| Tensor::<1>::random([length], Distribution::Normal(0.5, 0.7), &device);
    let inputs = Inputs {
        images: normal([case.batch, case.channels, case.size[0], case.size[1]]),
        weight: normal([case.filters, case.channels, case.kernel[0], case.kernel[1]]),
        bias: vector(case.filters),
        gamma: vector(case.filters),
        beta: vector(case.filters),
        slopes: vector(case.batch * case.filters * 16 * 16),
    };
    let kernel = run(case, &inputs, DType::F32, true);
    let plain = run(case, &inputs, DType::F32, false);
    let exact = run(case, &inputs, DType::F64, false);
    let what = format!(
        "{}×{}×{:?}, {} filters of {:?}, {:?}",
        case.batch, case.channels, case.size, case.filters, case.kernel, case.settings
    );
    assert_near(&what, &kernel, &plain, &exact);
}

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
                            let settings = ConvBlockSettings { stride, padding, epsilon: 1e-5, pool };
                            let out = |axis: usize| {
                                let length: usize = size[axis] + 2 * padding[axis];
                                length.checked_sub(kernel[axis]).map_or(0, |rest| rest / stride[axis] + 1)
                            };
                            // Pooling needs a window, normalisation some values.
                            let smallest = if pool { 2 } else { 1 };
                            if out(0) < smallest || out(1) < smallest || batch * out(0) * out(1) < 8 {
                                continue;
                            }
                            check(&Case { batch, channels, filters, size, kernel, settings });
                        }
                    }
                }
            }
        }
    }
}
