//! What the kernels' tests share.

#![allow(dead_code, unreachable_pub, reason = "no test uses all of it")]

use std::sync::{Mutex, MutexGuard};

use burn::tensor::{DType, Tensor};

/// The switch belongs to the process, and so does Burn's generator.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// What an operation gave, by name.
pub type Results = Vec<(&'static str, Vec<f64>)>;

pub fn wide<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.cast(DType::F64).into_data().try_to_vec().unwrap()
}

pub fn apart(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    std::iter::zip(a, b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

/// A kernel is as near to what 64 bits give as the plain operations are, or within some rounding of the largest value.
pub fn assert_near(what: &str, kernel: &Results, plain: &Results, exact: &Results) {
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
