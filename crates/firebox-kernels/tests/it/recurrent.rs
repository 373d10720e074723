//! Recurrent layers over whole sequences against the plain operations, step by step, that they stand for.

use crate::common::{Results, alone, assert_near, wide};
use burn::tensor::{DType, Device, Distribution, Int, Tensor, TensorData};
use firebox_kernels::machine::{Instructions, limit_instructions};
use firebox_kernels::recurrent::{Cell, CellState, RecurrentWeights, Sequence, recurrent};
use firebox_kernels::{fallbacks, set_enabled};

const CELLS: [Cell; 4] = [Cell::Tanh, Cell::Relu, Cell::Lstm, Cell::Gru];

#[derive(Clone, Debug)]
struct Case {
    cell: Cell,
    batch: usize,
    time: usize,
    features: usize,
    hidden: usize,
    lengths: Option<Vec<i64>>,
    reverse: bool,
}

/// Input, first states, weights, biases, and slopes of outputs and last states.
#[derive(Clone)]
struct Inputs {
    input: Tensor<3>,
    states: [Tensor<2>; 2],
    weights: [Tensor<2>; 2],
    biases: [Tensor<1>; 2],
    outputs: Tensor<3>,
    last: [Tensor<2>; 2],
}

impl Inputs {
    fn new(case: &Case) -> Self {
        let device = Device::flex().autodiff();
        let &Case { cell, batch, time, features, hidden, .. } = case;
        let normal = Distribution::Normal(0.0, 0.7);
        let matrix = |shape: [usize; 2]| Tensor::<2>::random(shape, normal, &device);
        let rows = cell.gates() * hidden;
        let scale = |size: usize| 1.0 / (size as f32).sqrt();
        Inputs {
            input: Tensor::random([batch, time, features], normal, &device),
            states: [0, 1].map(|_| matrix([batch, hidden])),
            weights: [features, hidden].map(|size| matrix([rows, size]) * scale(size)),
            biases: [0, 1].map(|_| Tensor::random([rows], normal, &device)),
            outputs: Tensor::random([batch, time, hidden], normal, &device),
            last: [0, 1].map(|_| matrix([batch, hidden])),
        }
    }

    fn cast(&self, dtype: DType) -> Self {
        fn leaf<const D: usize>(tensor: &Tensor<D>, dtype: DType) -> Tensor<D> {
            tensor.clone().detach().cast(dtype).detach().require_grad()
        }
        Inputs {
            input: leaf(&self.input, dtype),
            states: self.states.each_ref().map(|x| leaf(x, dtype)),
            weights: self.weights.each_ref().map(|x| leaf(x, dtype)),
            biases: self.biases.each_ref().map(|x| leaf(x, dtype)),
            outputs: self.outputs.clone().cast(dtype),
            last: self.last.each_ref().map(|x| x.clone().cast(dtype)),
        }
    }
}

fn apply(case: &Case, inputs: &Inputs) -> (Tensor<3>, CellState) {
    let [weight_ih, weight_hh] = inputs.weights.clone();
    let [bias_ih, bias_hh] = inputs.biases.clone();
    let weights = RecurrentWeights { weight_ih, weight_hh, bias_ih, bias_hh };
    let [hidden, cell] = inputs.states.clone();
    let first = CellState { hidden, cell: (case.cell == Cell::Lstm).then_some(cell) };
    let lengths = case.lengths.clone().map(|lengths| {
        Tensor::<1, Int>::from_data(TensorData::new(lengths, [case.batch]), &inputs.input.device())
    });
    let input = Sequence::Whole(inputs.input.clone());
    let (outputs, last) = recurrent(case.cell, input, weights, first, lengths, case.reverse);
    (outputs.whole(), last)
}

/// Slopes of outputs and of last states differ from place to place.
fn loss(inputs: &Inputs, outputs: &Tensor<3>, last: &CellState) -> Tensor<1> {
    let mut loss = (outputs.clone() * inputs.outputs.clone()).sum();
    loss = loss + (last.hidden.clone() * inputs.last[0].clone()).sum();
    match &last.cell {
        Some(cell) => loss + (cell.clone() * inputs.last[1].clone()).sum(),
        None => loss,
    }
}

fn run(case: &Case, inputs: &Inputs, dtype: DType, kernels: bool) -> Results {
    set_enabled(kernels);
    let inputs = inputs.cast(dtype);
    let before = fallbacks();
    let (outputs, last) = apply(case, &inputs);
    assert_eq!(fallbacks(), before, "the kernel takes this shape");
    let gradients = loss(&inputs, &outputs, &last).backward();
    set_enabled(true);
    let mut results = vec![("outputs", wide(outputs)), ("last h", wide(last.hidden))];
    results.extend(last.cell.map(|cell| ("last c", wide(cell))));
    results.push(("gradient of input", wide(inputs.input.grad(&gradients).unwrap())));
    results.push(("gradient of weight_ih", wide(inputs.weights[0].grad(&gradients).unwrap())));
    results.push(("gradient of weight_hh", wide(inputs.weights[1].grad(&gradients).unwrap())));
    results.push(("gradient of bias_ih", wide(inputs.biases[0].grad(&gradients).unwrap())));
    results.push(("gradient of bias_hh", wide(inputs.biases[1].grad(&gradients).unwrap())));
    results.push(("gradient of first h", wide(inputs.states[0].grad(&gradients).unwrap())));
    if case.cell == Cell::Lstm {
        results.push(("gradient of first c", wide(inputs.states[1].grad(&gradients).unwrap())));
    }
    results
}

fn check(case: &Case) {
    let inputs = Inputs::new(case);
    let kernel = run(case, &inputs, DType::F32, true);
    let plain = run(case, &inputs, DType::F32, false);
    let exact = run(case, &inputs, DType::F64, false);
    assert_near(&format!("{case:?}"), &kernel, &plain, &exact);
}

/// 0, 1, all, more than all, and something between.
fn lengths(batch: usize, time: usize) -> Vec<i64> {
    let time = time as i64;
    [time, 0, 1, time + 3, time / 2, -1].into_iter().cycle().take(batch).collect()
}

#[test]
fn odd_shapes_are_the_plain_operations() {
    let _alone = alone();
    Device::flex().seed(1);
    let sizes = [(1, 1), (3, 2), (17, 5), (2, 16), (33, 17), (1, 31), (3, 33)];
    for cell in CELLS {
        for batch in [1, 2, 3, 5, 17, 33] {
            for time in [1, 2, 3, 7] {
                for (features, hidden) in sizes {
                    for reverse in [false, true] {
                        check(&Case { cell, batch, time, features, hidden, lengths: None, reverse });
                    }
                }
            }
        }
    }
}

#[test]
fn sequences_of_any_length_are_the_plain_operations() {
    let _alone = alone();
    Device::flex().seed(2);
    for cell in CELLS {
        for (batch, time, features, hidden) in [(1, 3, 2, 5), (6, 1, 3, 3), (7, 4, 3, 17), (17, 7, 5, 33)] {
            for reverse in [false, true] {
                let lengths = Some(lengths(batch, time));
                check(&Case { cell, batch, time, features, hidden, lengths, reverse });
            }
        }
    }
}

/// Several tiles of weights, blocks of rows, and pieces of sums.
#[test]
fn large_shapes_are_the_plain_operations() {
    let _alone = alone();
    Device::flex().seed(3);
    for cell in CELLS {
        for (batch, time, features, hidden) in [(70, 11, 40, 48), (3, 300, 5, 20)] {
            for lengths in [None, Some(lengths(batch, time))] {
                check(&Case { cell, batch, time, features, hidden, lengths, reverse: true });
            }
        }
    }
}

#[test]
fn older_instructions_give_the_same_up_to_rounding() {
    let _alone = alone();
    Device::flex().seed(4);
    for most in [Instructions::Baseline, Instructions::Avx2] {
        limit_instructions(most);
        for cell in CELLS {
            for time in [1, 5] {
                let lengths = Some(lengths(9, time));
                check(&Case { cell, batch: 9, time, features: 19, hidden: 37, lengths, reverse: false });
            }
        }
        limit_instructions(Instructions::Avx512);
    }
}

/// Central differences in 32 bits, along the gradient: rounding errors of the loss, some 1e-7 of a sum of a
/// few hundred terms, are divided by a step of 1e-2, and the third derivative is left out.
#[test]
fn the_gradient_is_what_differences_say() {
    let _alone = alone();
    Device::flex().seed(5);
    set_enabled(true);
    for cell in CELLS {
        let lengths = Some(lengths(6, 5));
        let case = Case { cell, batch: 6, time: 5, features: 7, hidden: 9, lengths, reverse: true };
        let inputs = Inputs::new(&case).cast(DType::F32);
        let (outputs, last) = apply(&case, &inputs);
        let gradients = loss(&inputs, &outputs, &last).backward();
        let slope = inputs.weights[1].grad(&gradients).unwrap();
        let slope_input = inputs.input.grad(&gradients).unwrap();
        let norm = (slope.clone().square().sum() + slope_input.clone().square().sum()).sqrt();
        let norm = norm.into_scalar::<f32>();
        let moved = |step: f32| {
            let mut inputs = inputs.clone();
            let by = |gradient: Tensor<2>| Tensor::from_inner(gradient) * (step / norm);
            inputs.weights[1] = inputs.weights[1].clone() + by(slope.clone());
            inputs.input = inputs.input.clone() + Tensor::from_inner(slope_input.clone()) * (step / norm);
            let (outputs, last) = apply(&case, &inputs);
            loss(&inputs, &outputs, &last).into_scalar::<f32>()
        };
        let difference = (moved(1e-2) - moved(-1e-2)) / 2e-2;
        assert!((difference - norm).abs() <= 3e-3 * norm, "{case:?}: {difference}, not {norm}");
    }
}

#[test]
fn inputs_that_do_not_lie_in_order_are_put_in_order() {
    let _alone = alone();
    Device::flex().seed(6);
    for cell in CELLS {
        let case = Case { cell, batch: 4, time: 3, features: 4, hidden: 4, lengths: None, reverse: false };
        let mut inputs = Inputs::new(&case);
        let device = Device::flex().autodiff();
        let wide_input = Tensor::<3>::random([4, 6, 4], Distribution::Normal(0.0, 1.0), &device);
        inputs.input = wide_input.swap_dims(0, 2).narrow(1, 2, 3);
        inputs.states = inputs.states.map(Tensor::transpose);
        let [kernel, plain] = [true, false].map(|on| {
            set_enabled(on);
            let weights = inputs.weights.each_ref().map(|x| x.clone().detach().require_grad());
            let (outputs, last) = apply(&case, &Inputs { weights: weights.clone(), ..inputs.clone() });
            // An expanded gradient.
            let gradients = (outputs.clone().sum() * 3.0).backward();
            vec![
                ("outputs", wide(outputs)),
                ("last", wide(last.hidden)),
                ("gradient of weight_ih", wide(weights[0].grad(&gradients).unwrap())),
                ("gradient of weight_hh", wide(weights[1].grad(&gradients).unwrap())),
            ]
        });
        set_enabled(true);
        assert_near("views", &kernel, &plain, &plain);
    }
}

fn bits(results: &Results) -> Vec<Vec<u64>> {
    results.iter().map(|(_, values)| values.iter().map(|x| x.to_bits()).collect()).collect()
}

#[test]
fn bits_depend_on_no_thread() {
    let _alone = alone();
    Device::flex().seed(7);
    for cell in CELLS {
        for time in [1, 6] {
            for lengths in [None, Some(lengths(37, time))] {
                let case = Case { cell, batch: 37, time, features: 33, hidden: 70, lengths, reverse: false };
                let inputs = Inputs::new(&case);
                let expected = bits(&run(&case, &inputs, DType::F32, true));
                for threads in [1, 2, 3, 16] {
                    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                    for _ in 0..2 {
                        let got = pool.install(|| bits(&run(&case, &inputs, DType::F32, true)));
                        assert!(got == expected, "{threads} threads, {case:?}");
                    }
                }
            }
        }
    }
}

/// NaN in one row stays there, in its outputs as with plain operations.
#[test]
fn what_is_no_number_stays_none() {
    let _alone = alone();
    Device::flex().seed(8);
    for cell in CELLS {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let case =
                Case { cell, batch: 5, time: 4, features: 3, hidden: 6, lengths: None, reverse: false };
            let mut inputs = Inputs::new(&case);
            let mut values = inputs.input.clone().into_data().try_to_vec::<f32>().unwrap();
            values[2 * 4 * 3 + 4] = bad;
            inputs.input = Tensor::from_data(TensorData::new(values, [5, 4, 3]), &inputs.input.device());
            let [kernel, plain] = [true, false].map(|on| {
                set_enabled(on);
                let (outputs, last) = apply(&case, &inputs);
                [wide(outputs), wide(last.hidden)].concat()
            });
            set_enabled(true);
            for (kernel, plain) in std::iter::zip(kernel, plain) {
                let same = kernel.is_nan() == plain.is_nan() && (kernel - plain).abs() < 1e-5;
                assert!(
                    kernel.is_nan() && plain.is_nan() || kernel == plain || same,
                    "{kernel}, not {plain}"
                );
            }
        }
    }
}

#[test]
fn without_rows_or_steps_the_plain_operations_run_and_are_counted() {
    let _alone = alone();
    set_enabled(true);
    let case =
        Case { cell: Cell::Lstm, batch: 0, time: 3, features: 2, hidden: 4, lengths: None, reverse: false };
    let inputs = Inputs::new(&case);
    let before = fallbacks();
    let (outputs, last) = apply(&case, &inputs);
    assert_eq!((outputs.dims(), last.hidden.dims()), ([0, 3, 4], [0, 4]));
    assert_eq!(fallbacks(), before + 1);
}
