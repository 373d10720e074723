//! What the kernels' tests share.

use std::sync::{Mutex, MutexGuard};

use burn::tensor::{DType, Tensor, TensorData};
use firebox_kernels::machine::{Instructions, instructions, limit_instructions};

/// The switch belongs to the process, and so does Burn's generator.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// What an operation gave, by name.
pub(crate) type Results = Vec<(&'static str, Vec<f64>)>;

pub(crate) fn wide<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.cast(DType::F64).into_data().try_to_vec().unwrap()
}

pub(crate) fn apart(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    std::iter::zip(a, b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

/// A kernel is as near to what 64 bits give as the plain operations are, or within some rounding of the
/// largest value.
pub(crate) fn assert_near(what: &str, kernel: &Results, plain: &Results, exact: &Results) {
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

/// The same bits from run to run and with any number of threads.
pub(crate) fn threads(run: impl Fn() -> Vec<u64> + Sync) {
    let expected = run();
    for threads in [1, 2, 3, 5, 16] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        for _ in 0..2 {
            assert!(pool.install(&run) == expected, "{threads} threads");
        }
    }
}

pub(crate) fn bits(results: &Results) -> Vec<u64> {
    results.iter().flat_map(|(_, values)| values.iter().map(|value| value.to_bits())).collect()
}

/// With each set of vector instructions that there is.
pub(crate) fn instruction_sets(run: impl Fn(&str)) {
    let best = instructions();
    for most in [Instructions::Baseline, Instructions::Neon, Instructions::Avx2, Instructions::Avx512] {
        let used = limit_instructions(most);
        run(&format!("{used:?}"));
    }
    assert_eq!(limit_instructions(Instructions::Avx512), best);
}

/// Numbers where there are numbers, and what is none or infinite where that is.
pub(crate) fn assert_same_kinds(what: &str, kernel: &Results, plain: &Results) {
    for ((name, kernel), (_, plain)) in std::iter::zip(kernel, plain) {
        for (at, (kernel, plain)) in std::iter::zip(kernel, plain).enumerate() {
            let near = (kernel - plain).abs() <= 1e-4 * (1.0 + plain.abs());
            let same = kernel == plain || kernel.is_nan() && plain.is_nan() || near;
            assert!(same, "{what}, {name}, {at}: {kernel}, and by the plain operations {plain}");
        }
    }
}

/// (f(x + step) − f(x − step)) / 2·step for each element of x.
pub(crate) fn central_differences<const D: usize>(
    x: &Tensor<D>,
    step: f32,
    f: impl Fn(Tensor<D>) -> f64,
) -> Vec<f64> {
    let (values, shape, device) = (x.clone().into_data().try_to_vec::<f32>().unwrap(), x.dims(), x.device());
    let at = |place: usize, step: f32| {
        let mut values = values.clone();
        values[place] += step;
        f(Tensor::from_data(TensorData::new(values, shape), &device))
    };
    (0..values.len()).map(|place| (at(place, step) - at(place, -step)) / (2.0 * f64::from(step))).collect()
}
