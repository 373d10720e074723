//! An LSTM that attends, over whole sequences, against the operations for each step that it stands for.

use crate::common::{
    Results, alone, assert_near, bits, central_differences, instruction_sets, threads, wide,
};
use burn::tensor::{Bool, DType, Device, Distribution, Tensor, TensorData};
use firebox_kernels::attentive_lstm::{Attended, attentive_lstm};
use firebox_kernels::recurrent::{CellState, RecurrentWeights};
use firebox_kernels::{fallbacks, set_enabled};

/// Batch, time, inputs, places, hidden, features.
type Sizes = [usize; 6];

#[derive(Clone)]
struct Inputs {
    input: Tensor<3>,
    attended: Attended,
    weights: RecurrentWeights,
    first: CellState,
}

fn device() -> Device {
    Device::flex().autodiff()
}

fn normal<const D: usize>(shape: [usize; D], deviation: f64) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.05, deviation), &device())
}

/// Of some rows all places, of some some, of some none.
fn mask(batch: usize, places: usize) -> Tensor<2, Bool> {
    let named = |at: usize| match at / places % 4 {
        0 => true,
        1 => at % places < 1 + places / 2,
        2 => (at * 5 + at / 7).is_multiple_of(3),
        _ => false,
    };
    let data = TensorData::new((0..batch * places).map(named).collect::<Vec<_>>(), [batch, places]);
    Tensor::from_data(data, &Device::flex())
}

impl Inputs {
    fn new([batch, time, inputs, places, hidden, features]: Sizes, bias: bool, masked: bool) -> Self {
        let within = 1.0 / (hidden as f64).sqrt();
        let attended = Attended {
            mapped: normal([batch, places, hidden], 1.0),
            encoder: normal([batch, places, features], 1.0),
            v: normal([1, hidden], 0.5),
            bias: bias.then(|| normal([1], 1.0)),
            mask: masked.then(|| mask(batch, places)),
        };
        let weights = RecurrentWeights {
            weight_ih: normal([4 * hidden, inputs + features], within),
            weight_hh: normal([4 * hidden, hidden], within),
            bias_ih: normal([4 * hidden], 0.3),
            bias_hh: normal([4 * hidden], 0.3),
        };
        let first =
            CellState { hidden: normal([batch, hidden], 0.5), cell: Some(normal([batch, hidden], 0.5)) };
        Inputs { input: normal([batch, time, inputs], 1.0), attended, weights, first }
    }

    /// Leaves of a graph with elements of that type; those of which a bit of `tracked` says so have a
    /// gradient.
    fn leaves(&self, dtype: DType, tracked: u32) -> Self {
        fn leaf<const D: usize>(tensor: &Tensor<D>, dtype: DType, tracked: bool) -> Tensor<D> {
            tensor.clone().detach().cast(dtype).detach().set_require_grad(tracked)
        }
        let wanted = |number: u32| tracked >> number & 1 > 0;
        let Inputs { input, attended, weights, first } = self;
        Inputs {
            input: leaf(input, dtype, wanted(0)),
            attended: Attended {
                mapped: leaf(&attended.mapped, dtype, wanted(1)),
                v: leaf(&attended.v, dtype, wanted(2)),
                encoder: leaf(&attended.encoder, dtype, wanted(3)),
                bias: attended.bias.as_ref().map(|bias| leaf(bias, dtype, wanted(9))),
                mask: attended.mask.clone(),
            },
            weights: RecurrentWeights {
                weight_ih: leaf(&weights.weight_ih, dtype, wanted(4)),
                weight_hh: leaf(&weights.weight_hh, dtype, wanted(5)),
                bias_ih: leaf(&weights.bias_ih, dtype, wanted(6)),
                bias_hh: leaf(&weights.bias_hh, dtype, wanted(7)),
            },
            first: CellState {
                hidden: leaf(&first.hidden, dtype, wanted(8)),
                cell: first.cell.as_ref().map(|cell| leaf(cell, dtype, wanted(8))),
            },
        }
    }

    fn output(&self) -> Tensor<3> {
        let Inputs { input, attended, weights, first } = self.clone();
        attentive_lstm(input, attended, weights, first)
    }

    fn run(&self, dtype: DType, kernels: bool, tracked: u32) -> Results {
        set_enabled(kernels);
        let before = fallbacks();
        let leaves = self.leaves(dtype, tracked);
        let output = leaves.output();
        if dtype == DType::F32 {
            assert_eq!(fallbacks(), before, "the kernel takes this shape");
        }
        let mut results = vec![("output", wide(output.clone()))];
        if tracked > 0 {
            let gradients = loss(output).backward();
            let Inputs { input, attended, weights, first } = &leaves;
            results.extend(input.grad(&gradients).map(|x| ("input", wide(x))));
            results.extend(attended.mapped.grad(&gradients).map(|x| ("mapped", wide(x))));
            results.extend(attended.v.grad(&gradients).map(|x| ("v", wide(x))));
            results.extend(attended.encoder.grad(&gradients).map(|x| ("encoder", wide(x))));
            results.extend(weights.weight_ih.grad(&gradients).map(|x| ("weight_ih", wide(x))));
            results.extend(weights.weight_hh.grad(&gradients).map(|x| ("weight_hh", wide(x))));
            results.extend(weights.bias_ih.grad(&gradients).map(|x| ("bias_ih", wide(x))));
            results.extend(weights.bias_hh.grad(&gradients).map(|x| ("bias_hh", wide(x))));
            results.extend(first.hidden.grad(&gradients).map(|x| ("first h", wide(x))));
            let cell = first.cell.as_ref().unwrap();
            results.extend(cell.grad(&gradients).map(|x| ("first c", wide(x))));
            let bias = attended.bias.as_ref().and_then(|bias| bias.grad(&gradients));
            results.extend(bias.map(|x| ("bias", wide(x))));
        }
        set_enabled(true);
        results
    }

    fn check(&self, what: &str, tracked: u32) {
        let [kernel, plain] = [true, false].map(|on| self.run(DType::F32, on, tracked));
        let exact = self.run(DType::F64, false, tracked);
        let names = |results: &Results| results.iter().map(|(name, _)| *name).collect::<Vec<_>>();
        assert_eq!(names(&kernel), names(&plain), "{what}");
        assert_near(what, &kernel, &plain, &exact);
    }
}

const ALL: u32 = (1 << 10) - 1;

/// With gradients that differ from place to place.
fn loss(output: Tensor<3>) -> Tensor<1> {
    let values = (0..output.shape().num_elements()).map(|at| ((at * 7 + at / 11) % 13) as f32 / 6.0 - 1.0);
    let slopes = TensorData::new(values.collect::<Vec<_>>(), output.dims());
    (output.clone() * Tensor::<3>::from_data(slopes, &device()).cast(output.dtype())).sum()
}

#[test]
fn odd_sizes_are_the_steps() {
    let _alone = alone();
    Device::flex().seed(1);
    let sizes = [1, 2, 3, 5, 7, 17, 33];
    for (number, batch) in sizes.into_iter().enumerate() {
        for time in [1, 2, 5] {
            for (other, hidden) in sizes.into_iter().enumerate() {
                let of = |step: usize| sizes[(number * step + other + time) % 7];
                let shape = [batch, time, of(1), of(2), hidden, of(3)];
                let inputs = Inputs::new(shape, (batch + other) % 3 > 0, (time + other) % 2 > 0);
                inputs.check(&format!("{shape:?}"), ALL);
            }
        }
    }
}

#[test]
fn large_sizes_are_the_steps() {
    let _alone = alone();
    Device::flex().seed(2);
    for shape in [[130, 9, 64, 8, 129, 130], [65, 21, 70, 28, 64, 64]] {
        for masked in [false, true] {
            Inputs::new(shape, true, masked).check(&format!("{shape:?}, {masked}"), ALL);
        }
    }
}

#[test]
fn only_the_gradients_that_are_wanted_are_there() {
    let _alone = alone();
    let inputs = Inputs::new([5, 3, 4, 6, 7, 8], true, true);
    for number in 0..10 {
        inputs.check("one", 1 << number);
        inputs.check("all but one", ALL & !(1 << number));
    }
    inputs.check("none", 0);
}

#[test]
fn what_no_kernel_takes_goes_step_by_step() {
    let _alone = alone();
    set_enabled(true);
    let inputs = Inputs::new([3, 2, 4, 5, 6, 7], true, true);
    let before = fallbacks();
    let exact = inputs.leaves(DType::F64, 0).output();
    assert!(fallbacks() > before);
    let apart = crate::common::apart(&wide(exact), &wide(inputs.output()));
    assert!(apart < 1e-5, "{apart}");
}

/// Differences of a sum of about 10 by steps of 1/64: see the test of the attention alone.
#[test]
fn the_gradient_is_the_slope() {
    let _alone = alone();
    Device::flex().seed(4);
    let inputs = Inputs::new([4, 3, 2, 4, 5, 3], true, true);
    let results = inputs.run(DType::F32, true, ALL);
    let value = |change: &dyn Fn(&mut Inputs)| {
        let mut inputs = inputs.clone();
        change(&mut inputs);
        f64::from(loss(inputs.output()).into_scalar::<f32>())
    };
    let step = 1.0 / 64.0;
    let Inputs { input, attended, weights, first } = &inputs;
    let expected = [
        central_differences(input, step, |x| value(&|inputs| inputs.input = x.clone())),
        central_differences(&attended.mapped, step, |x| value(&|inputs| inputs.attended.mapped = x.clone())),
        central_differences(&attended.v, step, |x| value(&|inputs| inputs.attended.v = x.clone())),
        central_differences(&attended.encoder, step, |x| {
            value(&|inputs| inputs.attended.encoder = x.clone())
        }),
        central_differences(&weights.weight_ih, step, |x| {
            value(&|inputs| inputs.weights.weight_ih = x.clone())
        }),
        central_differences(&weights.weight_hh, step, |x| {
            value(&|inputs| inputs.weights.weight_hh = x.clone())
        }),
        central_differences(&weights.bias_ih, step, |x| value(&|inputs| inputs.weights.bias_ih = x.clone())),
        central_differences(&weights.bias_hh, step, |x| value(&|inputs| inputs.weights.bias_hh = x.clone())),
        central_differences(&first.hidden, step, |x| value(&|inputs| inputs.first.hidden = x.clone())),
        central_differences(first.cell.as_ref().unwrap(), step, |x| {
            value(&|inputs| inputs.first.cell = Some(x.clone()))
        }),
    ];
    for ((name, got), expected) in results[1..].iter().zip(&expected) {
        let apart = crate::common::apart(got, expected);
        assert!(apart < 2e-3, "{name}: {apart}");
    }
}

#[test]
fn bits_depend_on_no_thread() {
    let _alone = alone();
    let inputs = Inputs::new([70, 5, 30, 9, 65, 40], true, true);
    threads(|| bits(&inputs.run(DType::F32, true, ALL)));
}

#[test]
fn all_instructions_give_the_same_within_rounding() {
    let _alone = alone();
    let inputs = Inputs::new([37, 4, 31, 9, 65, 40], true, true);
    instruction_sets(|name| inputs.check(name, ALL));
}
