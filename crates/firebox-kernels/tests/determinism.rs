//! The same bits from run to run and with any number of threads; what is no number stays none.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::{Mutex, MutexGuard};

use burn::tensor::{Device, Distribution, Tensor, TensorData};
use firebox_kernels::{ConvBlockSettings, conv_block};

/// The switch belongs to the process.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

const SETTINGS: ConvBlockSettings = ConvBlockSettings {
    stride: [1, 1],
    padding: [1, 1],
    dilation: [1, 1],
    groups: 1,
    pool: true,
    channels_last: false,
};

/// Outputs and gradients of a block, as bits.
fn block(images: &TensorData, weight: &TensorData) -> Vec<Vec<u32>> {
    let device = Device::flex().autodiff();
    let images = Tensor::<4>::from_data(images.clone(), &device).require_grad();
    let weight = Tensor::<4>::from_data(weight.clone(), &device).require_grad();
    let [bias, gamma, beta] = [0.1, 0.7, -0.2].map(|x| Tensor::<1>::full([7], x, &device).require_grad());
    let out = conv_block(images.clone(), weight.clone(), bias, gamma.clone(), beta, 1e-5, SETTINGS);
    let gradients = out.output.clone().powi_scalar(3).sum().backward();
    let bits = |data: TensorData| data.try_to_vec::<f32>().unwrap().into_iter().map(f32::to_bits).collect();
    vec![
        bits(out.output.into_data()),
        bits(out.mean.into_data()),
        bits(out.variance.into_data()),
        bits(images.grad(&gradients).unwrap().into_data()),
        bits(weight.grad(&gradients).unwrap().into_data()),
        bits(gamma.grad(&gradients).unwrap().into_data()),
    ]
}

fn inputs() -> (TensorData, TensorData) {
    let device = Device::flex();
    let normal = |shape: [usize; 4]| Tensor::<4>::random(shape, Distribution::Normal(0.1, 1.0), &device);
    (normal([37, 3, 9, 11]).into_data(), normal([7, 3, 3, 3]).into_data())
}

#[test]
fn bits_depend_on_no_thread() {
    let _alone = alone();
    let (images, weight) = inputs();
    let expected = block(&images, &weight);
    for threads in [1, 2, 3, 5, 16] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        for _ in 0..3 {
            assert!(pool.install(|| block(&images, &weight)) == expected, "{threads} threads");
        }
    }
}

#[test]
fn what_is_no_number_stays_none() {
    let _alone = alone();
    let (images, weight) = inputs();
    let device = Device::flex();
    let filters = |x: f32| Tensor::<1>::full([7], x, &device);
    for bad in [f32::NAN, f32::INFINITY] {
        let mut values = images.try_to_vec::<f32>().unwrap();
        values[100] = bad;
        let images = Tensor::<4>::from_data(TensorData::new(values, [37, 3, 9, 11]), &device);
        let weight = Tensor::<4>::from_data(weight.clone(), &device);
        let out = conv_block(images, weight, filters(0.0), filters(1.0), filters(0.0), 1e-5, SETTINGS);
        // One sample spoils the statistics of all.
        assert!(out.output.into_data().iter::<f32>().all(f32::is_nan), "{bad}");
    }
    let plain = Tensor::<4>::from_data(images, &device);
    let weight = Tensor::<4>::from_data(weight, &device);
    let out = conv_block(plain, weight, filters(f32::NAN), filters(1.0), filters(0.0), 1e-5, SETTINGS);
    assert!(out.output.into_data().iter::<f32>().all(f32::is_nan), "a bias");
}
