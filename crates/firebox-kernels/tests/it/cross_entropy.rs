//! Cross-entropy against the plain operations that it stands for.

use std::panic::catch_unwind;

use crate::common::{
    Results, alone, assert_near, assert_same_kinds, bits, central_differences, instruction_sets, threads,
    wide,
};
use burn::tensor::{DType, Device, Distribution, Int, Tensor, TensorData};
use firebox_kernels::{cross_entropy, fallbacks, set_enabled};

fn targets(samples: usize, classes: usize) -> Tensor<1, Int> {
    let targets: Vec<i64> = (0..samples).map(|sample| ((sample * 7 + 3) % classes) as i64).collect();
    Tensor::from_data(TensorData::new(targets, [samples]), &Device::flex())
}

fn run(logits: &Tensor<2>, dtype: DType, kernels: bool) -> Results {
    set_enabled(kernels);
    let [samples, classes] = logits.dims();
    let before = fallbacks();
    let logits = logits.clone().cast(dtype).require_grad();
    let loss = cross_entropy(logits.clone(), targets(samples, classes));
    assert_eq!(fallbacks(), before, "the kernel takes this shape");
    assert_eq!(loss.dims(), [1]);
    let gradients = (loss.clone() * 2.5).backward();
    set_enabled(true);
    vec![("loss", wide(loss)), ("gradient", wide(logits.grad(&gradients).unwrap()))]
}

fn random(shape: [usize; 2], spread: f64) -> Tensor<2> {
    Tensor::random(shape, Distribution::Normal(0.5, spread), &Device::flex().autodiff())
}

#[test]
fn any_shape_is_the_plain_operations() {
    let _alone = alone();
    Device::flex().seed(1);
    for samples in [1, 2, 3, 5, 7, 17, 31, 33, 64, 65, 200] {
        for classes in [1, 2, 3, 5, 7, 10, 15, 16, 17, 31, 33, 100, 1000] {
            for spread in [0.1, 3.0, 60.0] {
                let logits = random([samples, classes], spread);
                let [kernel, plain] = [true, false].map(|on| run(&logits, DType::F32, on));
                let exact = run(&logits, DType::F64, false);
                assert_near(&format!("{samples} × {classes}, {spread}"), &kernel, &plain, &exact);
            }
        }
    }
}

#[test]
fn logits_that_do_not_lie_in_order_are_put_in_order() {
    let _alone = alone();
    let logits = random([9, 40], 2.0).swap_dims(0, 1).narrow(0, 3, 31);
    let [kernel, plain] = [true, false].map(|on| run(&logits, DType::F32, on));
    assert_near("views", &kernel, &plain, &plain);
}

#[test]
fn other_numbers_and_no_samples_go_to_the_plain_operations() {
    let _alone = alone();
    set_enabled(true);
    let before = fallbacks();
    let loss = cross_entropy(random([3, 4], 1.0).cast(DType::F64), targets(3, 4));
    assert_eq!(loss.dtype(), DType::F64);
    assert_eq!(fallbacks(), before + 1);
    let [kernel, plain] = [true, false].map(|on| {
        set_enabled(on);
        cross_entropy(Tensor::zeros([0, 4], &Device::flex()), targets(0, 4)).into_scalar::<f32>().to_bits()
    });
    set_enabled(true);
    assert_eq!(kernel, plain);
}

#[test]
fn a_target_that_is_no_class_panics() {
    let _alone = alone();
    for wrong in [-1, 4, i64::from(i32::MAX)] {
        for on in [true, false] {
            set_enabled(on);
            let targets = Tensor::<1, Int>::from_data(TensorData::new(vec![0, wrong], [2]), &Device::flex());
            let result = catch_unwind(|| cross_entropy(Tensor::zeros([2, 4], &Device::flex()), targets));
            set_enabled(true);
            assert!(result.is_err(), "{wrong}");
        }
    }
}

#[test]
fn what_is_no_number_or_infinite_does_what_it_does_in_the_plain_operations() {
    let _alone = alone();
    for (place, bad) in [(3, f32::NAN), (7, f32::INFINITY), (8, f32::NEG_INFINITY), (3, f32::NEG_INFINITY)] {
        let mut values = wide(random([3, 5], 1.0)).into_iter().map(|x| x as f32).collect::<Vec<_>>();
        values[place] = bad;
        let logits = Tensor::<2>::from_data(TensorData::new(values, [3, 5]), &Device::flex().autodiff());
        let [kernel, plain] = [true, false].map(|on| run(&logits, DType::F32, on));
        assert_same_kinds(&format!("{bad} at {place}"), &kernel, &plain);
    }
}

/// Differences of a loss of about 2 by steps of 1/64 have a rounding error of 2·2⁻²⁴·64 ≈ 1e-5 and a
/// curvature's of (1/64)²/6 ≈ 4e-5.
#[test]
fn the_gradient_is_the_slope() {
    let _alone = alone();
    let logits = random([5, 7], 1.0);
    let got = &run(&logits, DType::F32, true)[1].1;
    let loss = |logits: Tensor<2>| 2.5 * f64::from(cross_entropy(logits, targets(5, 7)).into_scalar::<f32>());
    for (slope, got) in central_differences(&logits, 1.0 / 64.0, loss).into_iter().zip(got) {
        assert!((slope - got).abs() < 3e-4, "{slope} and {got}");
    }
}

#[test]
fn bits_depend_on_no_thread() {
    let _alone = alone();
    let logits = random([1003, 117], 2.0);
    threads(|| bits(&run(&logits, DType::F32, true)));
}

#[test]
fn all_instructions_give_the_same_within_rounding() {
    let _alone = alone();
    let logits = random([37, 117], 2.0);
    let plain = run(&logits, DType::F32, false);
    instruction_sets(|name| assert_near(name, &run(&logits, DType::F32, true), &plain, &plain));
}
