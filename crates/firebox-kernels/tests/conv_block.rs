//! The convolution block against the plain operations that it stands for.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::{Mutex, MutexGuard};

use burn::tensor::{Device, Distribution, Tensor};
use firebox_kernels::{ConvBlockSettings, conv_block, fallbacks, set_enabled};

/// The switch belongs to the process, and so does Burn's generator.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn assert_close<const D: usize>(what: &str, got: Tensor<D>, expected: Tensor<D>, tolerance: f32) {
    assert_eq!(got.dims(), expected.dims(), "{what}");
    let largest = expected.clone().abs().max().into_scalar::<f32>();
    let apart = (got - expected).abs().max().into_scalar::<f32>();
    assert!(apart <= tolerance * largest.max(0.2), "{what}: differs by {apart} at a size of {largest}");
}

struct Case {
    batch: usize,
    channels: usize,
    filters: usize,
    size: [usize; 2],
    kernel: [usize; 2],
    settings: ConvBlockSettings,
}

fn check(case: &Case) {
    let device = Device::flex().autodiff();
    let normal = |shape: [usize; 4]| Tensor::<4>::random(shape, Distribution::Normal(0.3, 1.0), &device);
    let images = normal([case.batch, case.channels, case.size[0], case.size[1]]);
    let weight = normal([case.filters, case.channels, case.kernel[0], case.kernel[1]]);
    let vector = || Tensor::<1>::random([case.filters], Distribution::Normal(0.5, 0.7), &device);
    let (bias, gamma, beta) = (vector(), vector(), vector());
    let run = |kernels: bool| {
        set_enabled(kernels);
        let before = fallbacks();
        let images = images.clone().require_grad();
        let weight = weight.clone().require_grad();
        let [bias, gamma, beta] = [&bias, &gamma, &beta].map(|x| x.clone().require_grad());
        let out = conv_block(
            images.clone(),
            weight.clone(),
            bias.clone(),
            gamma.clone(),
            beta.clone(),
            case.settings,
        );
        assert_eq!(fallbacks(), before, "the kernel takes this shape");
        // A gradient that differs from place to place.
        let steps = out.output.clone().detach().cumsum(3).sin();
        let gradients = (out.output.clone() * steps).sum().backward();
        set_enabled(true);
        (
            out,
            [images.grad(&gradients).unwrap(), weight.grad(&gradients).unwrap()],
            [gamma.grad(&gradients).unwrap(), beta.grad(&gradients).unwrap()],
        )
    };
    let (got, expected) = (run(true), run(false));
    let what = format!(
        "{}×{}×{:?}, {} filters of {:?}, {:?}",
        case.batch, case.channels, case.size, case.filters, case.kernel, case.settings
    );
    assert_close(&format!("{what}: output"), got.0.output, expected.0.output, 2e-5);
    assert_close(&format!("{what}: mean"), got.0.mean, expected.0.mean, 1e-5);
    assert_close(&format!("{what}: variance"), got.0.variance, expected.0.variance, 1e-5);
    for (name, got, expected) in
        std::iter::zip(["images", "weight"], std::iter::zip(got.1, expected.1)).map(|(n, (a, b))| (n, a, b))
    {
        assert_close(&format!("{what}: gradient of {name}"), got, expected, 2e-4);
    }
    for (name, got, expected) in
        std::iter::zip(["gamma", "beta"], std::iter::zip(got.2, expected.2)).map(|(n, (a, b))| (n, a, b))
    {
        assert_close(&format!("{what}: gradient of {name}"), got, expected, 2e-4);
    }
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
