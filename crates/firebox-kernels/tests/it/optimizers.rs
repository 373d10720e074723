//! The steps of optimisers and the norm of gradients: against plain operations and 64 bits, the same bits
//! with any number of threads, and NaN stays NaN.

use crate::common::alone;
use burn::tensor::{Device, Distribution, FloatDType, Tensor, TensorData};
use firebox_kernels::optimizer::{AdamMoments, AdamStep, Norm, SgdStep, adam, sgd};
use firebox_kernels::{fallbacks, set_enabled};

const LENGTHS: [usize; 9] = [0, 1, 7, 17, 33, 16_383, 16_384, 16_385, 100_000];

const ADAM: AdamStep =
    AdamStep { scale: 0.3, betas: [0.9, 0.999], decay: 0.01, shrink: 0.99, rate: 0.003, epsilon: 1e-8 };

const SGD: SgdStep =
    SgdStep { scale: 0.3, decay: 0.01, momentum: 0.9, dampening: 0.2, nesterov: false, rate: 0.05 };

/// One kind of step.
#[derive(Clone, Copy, Debug)]
enum Step {
    Adam { step: AdamStep, amsgrad: bool },
    Sgd { step: SgdStep, first: bool },
}

fn steps() -> Vec<Step> {
    let mut steps = Vec::new();
    for step in [ADAM, AdamStep { shrink: 1.0, ..ADAM }, AdamStep { scale: 1.0, decay: 0.0, ..ADAM }] {
        steps.extend([false, true].map(|amsgrad| Step::Adam { step, amsgrad }));
    }
    for step in [
        SGD,
        SgdStep { dampening: 0.0, nesterov: true, ..SGD },
        SgdStep { scale: 1.0, decay: 0.0, ..SGD },
        SgdStep { momentum: 0.0, ..SGD },
        SgdStep { momentum: 0.0, decay: 0.0, ..SGD },
    ] {
        steps.extend([false, true].map(|first| Step::Sgd { step, first }));
    }
    steps
}

fn normal(length: usize) -> Tensor<1> {
    Tensor::random([length], Distribution::Normal(0.0, 1.0), &Device::flex())
}

/// Parameter, gradient, an average, and two averages of squares.
fn inputs(length: usize) -> [Tensor<1>; 5] {
    Device::flex().seed(7);
    [normal(length), normal(length), normal(length), normal(length).square(), normal(length).square()]
}

/// The parameter and its state after a step.
fn run(step: Step, inputs: [Tensor<1>; 5]) -> Vec<Tensor<1>> {
    let [parameter, gradient, first, second, largest] = inputs;
    match step {
        Step::Adam { step, amsgrad } => {
            let moments = AdamMoments { first, second, largest: amsgrad.then_some(largest) };
            let (parameter, moments) = adam(parameter, gradient, moments, step);
            assert_eq!(moments.largest.is_some(), amsgrad);
            [parameter, moments.first, moments.second].into_iter().chain(moments.largest).collect()
        }
        Step::Sgd { step, first: is_first } => {
            let buffer = (!is_first).then_some(first);
            let (parameter, buffer) = sgd(parameter, gradient, buffer, step);
            assert_eq!(buffer.is_some(), step.momentum != 0.0);
            [parameter].into_iter().chain(buffer).collect()
        }
    }
}

fn plain<T>(run: impl FnOnce() -> T) -> T {
    set_enabled(false);
    let result = run();
    set_enabled(true);
    result
}

fn numbers(tensor: &Tensor<1>) -> Vec<f32> {
    tensor.to_data().try_to_vec().unwrap()
}

fn bits(tensors: &[Tensor<1>]) -> Vec<Vec<u32>> {
    tensors.iter().map(|tensor| numbers(tensor).into_iter().map(f32::to_bits).collect()).collect()
}

/// The step of one element in 64 bits, from its formula.
fn exact(step: Step, [p, g, m, v, most]: [f64; 5]) -> Vec<f64> {
    match step {
        Step::Adam { step, amsgrad } => {
            let g = step.scale * g + step.decay * p;
            let m = step.betas[0] * m + (1.0 - step.betas[0]) * g;
            let v = step.betas[1] * v + (1.0 - step.betas[1]) * g * g;
            let most = v.max(most);
            let root = if amsgrad { most } else { v }.sqrt();
            let p = step.shrink * p - step.rate * m / (root + step.epsilon);
            [p, m, v].into_iter().chain(amsgrad.then_some(most)).collect()
        }
        Step::Sgd { step, first } => {
            let g = step.scale * g + step.decay * p;
            let b = if first { g } else { step.momentum * m + (1.0 - step.dampening) * g };
            let direction = match (step.momentum, step.nesterov) {
                (0.0, _) => return vec![p - step.rate * g],
                (momentum, true) => g + momentum * b,
                (_, false) => b,
            };
            vec![p - step.rate * direction, b]
        }
    }
}

#[test]
fn steps_are_their_formulas() {
    let _alone = alone();
    for length in LENGTHS {
        let inputs = inputs(length);
        let elements = inputs.each_ref().map(numbers);
        for step in steps() {
            let before = fallbacks();
            let got: Vec<_> = run(step, inputs.clone()).iter().map(numbers).collect();
            assert_eq!(fallbacks(), before, "{step:?} went to plain operations");
            let plain: Vec<_> = plain(|| run(step, inputs.clone())).iter().map(numbers).collect();
            assert_eq!(got.len(), plain.len(), "{step:?}");
            for place in 0..length {
                let exact = exact(step, elements.each_ref().map(|values| f64::from(values[place])));
                for (which, exact) in exact.into_iter().enumerate() {
                    let (got, plain) = (got[which][place], plain[which][place]);
                    // Two or three roundings of terms that are larger than their sum.
                    let limit = 1e-6 * exact.abs().max(1.0);
                    assert!(
                        (f64::from(got) - exact).abs() <= limit && (got - plain).abs() <= limit as f32,
                        "{step:?}, result {which}, element {place} of {length}: {got}, plain {plain}, {exact}"
                    );
                }
            }
        }
    }
}

/// Whoever else holds a tensor keeps what is in it.
#[test]
fn shared_tensors_are_copied() {
    let _alone = alone();
    for length in [33, 40_000] {
        let inputs = inputs(length);
        let before = bits(&inputs);
        for step in steps() {
            let first = bits(&run(step, inputs.clone()));
            assert_eq!(bits(&inputs), before, "{step:?}");
            assert_eq!(bits(&run(step, inputs.clone())), first, "{step:?}");
            // A part of a tensor is as good as a tensor of its own.
            let parts = inputs.each_ref().map(|tensor| {
                Tensor::cat(vec![normal(5), tensor.clone(), normal(3)], 0).narrow(0, 5, length)
            });
            assert_eq!(bits(&run(step, parts)), first, "{step:?} of a part");
        }
    }
}

#[test]
fn bits_depend_on_no_thread() {
    let _alone = alone();
    for length in [33, 16_385, 100_000] {
        let inputs = inputs(length);
        let norm = || {
            let mut norm = Norm::new();
            inputs.iter().for_each(|tensor| norm.add(tensor.clone()));
            norm.value().to_bits()
        };
        let all = || steps().into_iter().map(|step| bits(&run(step, inputs.clone()))).collect::<Vec<_>>();
        let expected = (norm(), all());
        for threads in [1, 2, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            assert!(pool.install(|| (norm(), all())) == expected, "{length} elements, {threads} threads");
        }
    }
}

#[test]
fn what_is_no_number_stays_none() {
    let _alone = alone();
    let kind = |x: f32| (x.is_nan(), x.is_infinite());
    let length = 40;
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for which in 0..5 {
            let mut inputs = inputs(length);
            let mut spoiled = numbers(&inputs[which]);
            for place in [0, 17, 39] {
                spoiled[place] = bad;
            }
            inputs[which] = Tensor::from_data(TensorData::new(spoiled, [length]), &Device::flex());
            for step in steps() {
                let (got, plain) = (run(step, inputs.clone()), plain(|| run(step, inputs.clone())));
                for (got, plain) in got.iter().zip(&plain) {
                    let (got, plain) = (numbers(got), numbers(plain));
                    let same = got.iter().zip(&plain).all(|(&got, &plain)| kind(got) == kind(plain));
                    assert!(same, "{step:?}, {bad} in input {which}: {got:?}, plain {plain:?}");
                }
            }
        }
    }
}

/// Sums of squares of the numbers as they are, in 64 bits.
#[test]
fn norms_are_those_of_all_elements() {
    let _alone = alone();
    let norm = |tensors: &[Tensor<1>]| {
        let mut norm = Norm::new();
        tensors.iter().for_each(|tensor| norm.add(tensor.clone()));
        norm.value()
    };
    assert_eq!(norm(&[]), 0.0);
    for length in LENGTHS {
        let inputs = inputs(length);
        let squares = inputs.iter().flat_map(numbers).map(|x| f64::from(x) * f64::from(x));
        let exact = squares.sum::<f64>().sqrt();
        let (got, plain) = (norm(&inputs), plain(|| norm(&inputs)));
        assert!((got - exact).abs() <= 1e-12 * exact, "{length}: {got}, expected {exact}");
        assert!((plain - exact).abs() <= 1e-5 * exact, "{length}: plain {plain}, expected {exact}");
    }
    for bad in [f32::NAN, f32::INFINITY] {
        let spoiled = Tensor::from_data(TensorData::from([1.0, bad]), &Device::flex());
        let (got, plain) = (norm(&[normal(7), spoiled.clone()]), plain(|| norm(&[normal(7), spoiled])));
        assert_eq!((got.is_nan(), got.is_infinite()), (bad.is_nan(), bad.is_infinite()));
        assert_eq!((plain.is_nan(), plain.is_infinite()), (bad.is_nan(), bad.is_infinite()));
    }
}

/// Another number type goes to the plain operations, which is counted.
#[test]
fn other_numbers_are_taken_too() {
    let _alone = alone();
    let inputs = inputs(33).map(|tensor| tensor.cast(FloatDType::F64));
    for step in steps() {
        let before = fallbacks();
        let results = run(step, inputs.clone());
        assert_eq!(fallbacks(), before + 1, "{step:?}");
        let expected = run(step, inputs.clone().map(|tensor| tensor.cast(FloatDType::F32)));
        for (got, expected) in results.into_iter().zip(expected) {
            let apart = (got.cast(FloatDType::F32) - expected).abs().max().into_scalar::<f32>();
            assert!(apart <= 1e-6, "{step:?}: {apart}");
        }
    }
    let mut mixed = Norm::new();
    mixed.add(Tensor::<1>::from_floats([3.0], &Device::flex()));
    mixed.add(Tensor::<1>::from_floats([4.0], &Device::flex()).cast(FloatDType::F64));
    assert_eq!(mixed.value(), 5.0);
}
