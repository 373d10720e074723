//! The linear map against the plain operations that it stands for.

use crate::common::{
    Results, alone, assert_near, assert_same_kinds, bits, central_differences, instruction_sets, threads,
    wide,
};
use burn::tensor::{DType, Device, Distribution, Tensor, TensorData};
use firebox_kernels::linear::{Activation, linear};
use firebox_kernels::{fallbacks, set_enabled};

const ACTIVATIONS: [Activation; 5] = [
    Activation::None,
    Activation::Relu,
    Activation::LeakyRelu(0.2),
    Activation::LeakyRelu(1.5),
    Activation::Tanh,
];

struct Inputs {
    input: Tensor<3>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    activation: Activation,
}

fn device() -> Device {
    Device::flex().autodiff()
}

fn normal<const D: usize>(shape: [usize; D], spread: f64) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.1, spread), &device())
}

/// A gradient that differs from place to place, some of it zero.
fn slopes<const D: usize>(shape: [usize; D], dtype: DType) -> Tensor<D> {
    let values = (0..shape.iter().product()).map(|at: usize| ((at * 7 + at / 11) % 13) as f32 / 6.0 - 1.0);
    Tensor::<D>::from_data(TensorData::new(values.collect::<Vec<_>>(), shape), &device()).cast(dtype)
}

impl Inputs {
    fn new([batch, time, from, to]: [usize; 4], bias: bool, activation: Activation) -> Self {
        Inputs {
            input: normal([batch, time, from], 1.0),
            weight: normal([to, from], 1.0 / (from as f64).sqrt()),
            bias: bias.then(|| normal([to], 0.5)),
            activation,
        }
    }

    /// The output and the gradients of what is tracked: input, weight, bias.
    fn run(&self, dtype: DType, kernels: bool, tracked: [bool; 3]) -> Results {
        set_enabled(kernels);
        let before = fallbacks();
        let input = self.input.clone().cast(dtype).detach().set_require_grad(tracked[0]);
        let weight = self.weight.clone().cast(dtype).detach().set_require_grad(tracked[1]);
        let bias = self.bias.clone().map(|bias| bias.cast(dtype).detach().set_require_grad(tracked[2]));
        let output = linear(input.clone(), weight.clone(), bias.clone(), self.activation);
        if dtype == DType::F32 {
            assert_eq!(fallbacks(), before, "the kernel takes this shape");
        }
        let mut results = vec![("output", wide(output.clone()))];
        if tracked.iter().any(|&tracked| tracked) {
            let gradients = (output.clone() * slopes(output.dims(), dtype)).sum().backward();
            results.extend(input.grad(&gradients).map(|x| ("gradient of input", wide(x))));
            results.extend(weight.grad(&gradients).map(|x| ("gradient of weight", wide(x))));
            results.extend(bias.and_then(|x| x.grad(&gradients)).map(|x| ("gradient of bias", wide(x))));
        }
        set_enabled(true);
        results
    }

    fn check(&self, what: &str) {
        self.check_tracked(what, [true; 3]);
    }

    fn check_tracked(&self, what: &str, tracked: [bool; 3]) {
        let [kernel, plain] = [true, false].map(|on| self.run(DType::F32, on, tracked));
        let exact = self.run(DType::F64, false, tracked);
        assert_eq!(kernel.len(), plain.len(), "{what}");
        let what = format!(
            "{what}: {:?} by {:?}, bias {}, {:?}",
            self.input.dims(),
            self.weight.dims(),
            self.bias.is_some(),
            self.activation
        );
        // Where a sum is 0 but for its rounding, a kink may send it to another side.
        assert_near(&what, &kernel, &plain, &exact);
    }
}

#[test]
fn odd_sizes_are_the_plain_operations() {
    let _alone = alone();
    Device::flex().seed(1);
    let sizes = [1, 2, 3, 5, 7, 17, 31, 33];
    for rows in sizes {
        for from in sizes {
            for to in sizes {
                let activation = ACTIVATIONS[(rows + from + to) % 5];
                Inputs::new([1, rows, from, to], (rows + to) % 3 > 0, activation).check("odd");
            }
        }
    }
}

/// Sizes on both sides of each way to cut the products.
#[test]
fn large_sizes_are_the_plain_operations() {
    let _alone = alone();
    Device::flex().seed(2);
    for shape in [
        [1, 64, 784, 130],
        [1, 65, 130, 515],
        [3, 33, 129, 127],
        [1, 511, 67, 101],
        [1, 512, 67, 101],
        [7, 103, 67, 101],
        [37, 29, 65, 33],
        [1, 1500, 33, 65],
        [1, 520, 700, 300],
        [2, 2, 1031, 1033],
    ] {
        for activation in ACTIVATIONS {
            Inputs::new(shape, true, activation).check("large");
        }
        Inputs::new(shape, false, Activation::Relu).check("large");
        Inputs::new(shape, false, Activation::None).check("large");
    }
}

#[test]
fn only_the_gradients_that_are_wanted_are_there() {
    let _alone = alone();
    Device::flex().seed(3);
    for shape in [[2, 3, 5, 7], [1, 70, 300, 200], [2, 400, 100, 50]] {
        for number in 0..8 {
            let tracked = [number & 1 > 0, number & 2 > 0, number & 4 > 0];
            for (bias, activation) in
                [(true, Activation::None), (true, Activation::Tanh), (false, Activation::Relu)]
            {
                let tracked = [tracked[0], tracked[1], tracked[2] && bias];
                Inputs::new(shape, bias, activation).check_tracked("tracked", tracked);
            }
        }
    }
}

#[test]
fn any_number_of_dimensions_is_the_same() {
    let _alone = alone();
    let (weight, bias) = (normal([4, 6], 1.0), normal([4], 1.0));
    let map = |on| {
        set_enabled(on);
        let one = linear(slopes([6], DType::F32), weight.clone(), Some(bias.clone()), Activation::Relu);
        let two = linear(slopes([3, 6], DType::F32), weight.clone(), Some(bias.clone()), Activation::Relu);
        let four =
            linear(slopes([2, 1, 3, 6], DType::F32), weight.clone(), Some(bias.clone()), Activation::Relu);
        set_enabled(true);
        assert_eq!((one.dims(), two.dims(), four.dims()), ([4], [3, 4], [2, 1, 3, 4]));
        vec![("1", wide(one)), ("2", wide(two)), ("4", wide(four))]
    };
    assert_near("dimensions", &map(true), &map(false), &map(false));
}

/// Strides of a view, and an expanded gradient.
#[test]
fn inputs_that_do_not_lie_in_order_are_put_in_order() {
    let _alone = alone();
    Device::flex().seed(4);
    let input = normal([40, 9, 3], 1.0).swap_dims(0, 2).narrow(2, 3, 33);
    let weight = normal([33, 50], 0.2).swap_dims(0, 1).narrow(0, 2, 47);
    let bias = normal([1], 1.0).expand([47]);
    let [kernel, plain] = [true, false].map(|on| {
        set_enabled(on);
        let [input] = [&input].map(|x| x.clone().detach().require_grad());
        let weight = weight.clone().detach().require_grad();
        let output = linear(input.clone(), weight.clone(), Some(bias.clone()), Activation::Tanh);
        let gradients = (output.clone().sum() * 3.0).backward();
        set_enabled(true);
        vec![
            ("output", wide(output)),
            ("gradient of input", wide(input.grad(&gradients).unwrap())),
            ("gradient of weight", wide(weight.grad(&gradients).unwrap())),
        ]
    });
    assert_near("views", &kernel, &plain, &plain);
}

#[test]
fn what_no_kernel_takes_goes_to_the_plain_operations() {
    let _alone = alone();
    set_enabled(true);
    let weight = normal([5, 4], 1.0);
    let before = fallbacks();
    let empty = linear(Tensor::<2>::zeros([0, 4], &device()), weight.clone(), None, Activation::Relu);
    assert_eq!(empty.dims(), [0, 5]);
    let leaf = weight.clone().detach().require_grad();
    let empty = linear(Tensor::<3>::zeros([0, 3, 4], &device()), leaf.clone(), None, Activation::Relu);
    assert_eq!(empty.dims(), [0, 3, 5]);
    let gradient = leaf.grad(&empty.sum().backward()).unwrap();
    assert_eq!(gradient.into_data().try_to_vec::<f32>().unwrap(), [0.0; 20]);
    let wide = linear(normal([2, 4], 1.0).cast(DType::F64), weight.cast(DType::F64), None, Activation::Tanh);
    assert_eq!((wide.dims(), wide.dtype()), ([2, 5], DType::F64));
    assert_eq!(fallbacks(), before + 3);
}

/// An output of a slope that is not positive doesn't tell the input's sign.
#[test]
fn slopes_that_are_not_positive_are_the_plain_operations() {
    let _alone = alone();
    for slope in [0.0, -0.3] {
        Inputs::new([2, 3, 5, 7], true, Activation::LeakyRelu(slope)).check("slope");
    }
}

#[test]
fn what_is_no_number_or_infinite_does_what_it_does_in_the_plain_operations() {
    let _alone = alone();
    for shape in [[1, 3, 5, 7], [1, 70, 300, 200], [1, 600, 100, 50]] {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for activation in ACTIVATIONS {
                let mut inputs = Inputs::new(shape, true, activation);
                let spoil = |tensor: Tensor<2>, place: usize| {
                    let shape = tensor.dims();
                    let mut values = tensor.into_data().try_to_vec::<f32>().unwrap();
                    values[place] = bad;
                    Tensor::<2>::from_data(TensorData::new(values, shape), &device())
                };
                let [_, rows, from, to] = shape;
                let input = inputs.input.clone().reshape([rows, from]);
                let changed = [spoil(input, 4).reshape([1, rows, from]), inputs.input.clone()];
                let weights = [inputs.weight.clone(), spoil(inputs.weight.clone(), 2 * from + 1)];
                assert!(to > 2);
                for (input, weight) in changed.into_iter().zip(weights) {
                    (inputs.input, inputs.weight) = (input, weight);
                    let [kernel, plain] = [true, false].map(|on| inputs.run(DType::F32, on, [true; 3]));
                    assert_same_kinds(&format!("{bad}, {activation:?}"), &kernel, &plain);
                }
            }
        }
    }
}

/// Differences of a sum of about 10 by steps of 1/64 have a rounding error of 10·2⁻²⁴·64 ≈ 4e-5; the
/// curvature's is at most (1/64)²/3 times a slope of 1 for each of some outputs.
#[test]
fn the_gradient_is_the_slope() {
    let _alone = alone();
    Device::flex().seed(5);
    let inputs = Inputs::new([1, 3, 5, 4], true, Activation::Tanh);
    let bias = inputs.bias.clone().unwrap();
    let results = inputs.run(DType::F32, true, [true; 3]);
    let loss = |input, weight, bias| {
        let output: Tensor<3> = linear(input, weight, Some(bias), inputs.activation);
        f64::from((output * slopes([1, 3, 4], DType::F32)).sum().into_scalar::<f32>())
    };
    let (x, w) = (&inputs.input, &inputs.weight);
    let expected = [
        central_differences(x, 1.0 / 64.0, |x| loss(x, w.clone(), bias.clone())),
        central_differences(w, 1.0 / 64.0, |w| loss(x.clone(), w, bias.clone())),
        central_differences(&bias, 1.0 / 64.0, |bias| loss(x.clone(), w.clone(), bias)),
    ];
    for ((name, got), expected) in results[1..].iter().zip(&expected) {
        let apart = crate::common::apart(got, expected);
        assert!(apart < 1e-3, "{name}: {apart}");
    }
}

#[test]
fn bits_depend_on_no_thread() {
    let _alone = alone();
    for shape in [[1, 64, 500, 300], [3, 701, 65, 130], [1, 520, 700, 300]] {
        let inputs = Inputs::new(shape, true, Activation::LeakyRelu(0.2));
        threads(|| bits(&inputs.run(DType::F32, true, [true; 3])));
    }
}

#[test]
fn all_instructions_give_the_same_within_rounding() {
    let _alone = alone();
    for shape in [[1, 64, 500, 300], [3, 701, 65, 130]] {
        let inputs = Inputs::new(shape, true, Activation::Tanh);
        instruction_sets(|name| inputs.check(name));
    }
}
