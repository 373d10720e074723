//! Additive attention against the plain operations that it stands for.

use crate::common::{
    Results, alone, assert_near, assert_same_kinds, bits, central_differences, instruction_sets, threads,
    wide,
};
use burn::tensor::{Bool, DType, Device, Distribution, Tensor, TensorData};
use firebox_kernels::{additive_attention, fallbacks, set_enabled};

#[derive(Clone)]
struct Inputs {
    mapped: Tensor<3>,
    query: Tensor<3>,
    v: Tensor<2>,
    bias: Option<Tensor<1>>,
    encoder: Tensor<3>,
    mask: Option<Tensor<2, Bool>>,
}

/// Which places of a batch a mask names.
#[derive(Clone, Copy, Debug)]
enum Named {
    /// There is no mask.
    Unmasked,
    All,
    None,
    /// Of some rows all, of some none, of some some.
    Some,
}

fn device() -> Device {
    Device::flex().autodiff()
}

fn normal<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.1, 1.0), &device())
}

impl Named {
    fn mask(self, batch: usize, time: usize) -> Option<Tensor<2, Bool>> {
        let named = move |at: usize| match self {
            Named::Unmasked | Named::All => true,
            Named::None => false,
            Named::Some => match at / time % 3 {
                0 => (at * 5 + at / 7).is_multiple_of(3),
                1 => at % time < 1 + time / 2,
                _ => (at / time).is_multiple_of(2),
            },
        };
        let data = TensorData::new((0..batch * time).map(named).collect::<Vec<_>>(), [batch, time]);
        (!matches!(self, Named::Unmasked)).then(|| Tensor::from_data(data, &Device::flex()))
    }
}

const NAMED: [Named; 4] = [Named::Unmasked, Named::All, Named::None, Named::Some];

impl Inputs {
    fn new([batch, time, hidden, features]: [usize; 4], bias: bool, named: Named) -> Self {
        Inputs {
            mapped: normal([batch, time, hidden]),
            query: normal([batch, 1, hidden]),
            v: normal([1, hidden]),
            bias: bias.then(|| normal([1])),
            encoder: normal([batch, time, features]),
            mask: named.mask(batch, time),
        }
    }

    /// Context and weights, both of which go into the loss, and the gradients of what is tracked.
    fn run(&self, dtype: DType, kernels: bool, tracked: [bool; 5]) -> Results {
        set_enabled(kernels);
        let before = fallbacks();
        let mut tracked = tracked.into_iter();
        let mut next = || tracked.next().unwrap();
        let mapped = self.mapped.clone().cast(dtype).detach().set_require_grad(next());
        let query = self.query.clone().cast(dtype).detach().set_require_grad(next());
        let v = self.v.clone().cast(dtype).detach().set_require_grad(next());
        let encoder = self.encoder.clone().cast(dtype).detach().set_require_grad(next());
        let requires = next();
        let bias = self.bias.clone().map(|bias| bias.cast(dtype).detach().set_require_grad(requires));
        let (context, weights) = additive_attention(
            mapped.clone(),
            query.clone(),
            v.clone(),
            bias.clone(),
            encoder.clone(),
            self.mask.clone(),
        );
        if dtype == DType::F32 {
            assert_eq!(fallbacks(), before, "the kernel takes this shape");
        }
        let mut results = vec![("context", wide(context.clone())), ("weights", wide(weights.clone()))];
        let is_tracked = [&mapped, &query, &encoder].iter().any(|x| x.is_require_grad());
        if is_tracked || v.is_require_grad() || bias.as_ref().is_some_and(Tensor::is_require_grad) {
            let gradients = loss(context, weights).backward();
            results.extend(mapped.grad(&gradients).map(|x| ("gradient of mapped", wide(x))));
            results.extend(query.grad(&gradients).map(|x| ("gradient of query", wide(x))));
            results.extend(v.grad(&gradients).map(|x| ("gradient of v", wide(x))));
            results.extend(encoder.grad(&gradients).map(|x| ("gradient of encoder", wide(x))));
            results.extend(bias.and_then(|x| x.grad(&gradients)).map(|x| ("gradient of bias", wide(x))));
        }
        set_enabled(true);
        results
    }

    fn check(&self, what: &str, tracked: [bool; 5]) {
        let [kernel, plain] = [true, false].map(|on| self.run(DType::F32, on, tracked));
        let exact = self.run(DType::F64, false, tracked);
        assert_eq!(kernel.len(), plain.len(), "{what}");
        let (mapped, encoder) = (self.mapped.dims(), self.encoder.dims());
        assert_near(&format!("{what}: {mapped:?}, {encoder:?}"), &kernel, &plain, &exact);
    }
}

/// With gradients that differ from place to place.
fn loss(context: Tensor<3>, weights: Tensor<3>) -> Tensor<1> {
    let slopes = |x: &Tensor<3>| {
        let values = (0..x.shape().num_elements()).map(|at| ((at * 7 + at / 11) % 13) as f32 / 6.0 - 1.0);
        let data = TensorData::new(values.collect::<Vec<_>>(), x.dims());
        Tensor::<3>::from_data(data, &device()).cast(x.dtype())
    };
    (context.clone() * slopes(&context)).sum() + (weights.clone() * slopes(&weights)).sum() * 3.0
}

#[test]
fn odd_sizes_are_the_plain_operations() {
    let _alone = alone();
    Device::flex().seed(1);
    let sizes = [1, 2, 3, 5, 7, 17, 31, 33];
    for (number, batch) in sizes.into_iter().enumerate() {
        for time in sizes {
            for (other, hidden) in sizes.into_iter().enumerate() {
                let (named, features) = (NAMED[(number + other) % 4], sizes[(other * 3 + number) % 8]);
                let inputs = Inputs::new([batch, time, hidden, features], (batch + time) % 3 > 0, named);
                inputs.check(&format!("{named:?}"), [true; 5]);
            }
        }
    }
}

#[test]
fn large_sizes_are_the_plain_operations() {
    let _alone = alone();
    Device::flex().seed(2);
    for shape in [[37, 29, 129, 129], [16, 100, 64, 200], [101, 65, 130, 70], [2, 301, 256, 256]] {
        for named in NAMED {
            Inputs::new(shape, true, named).check(&format!("{named:?}"), [true; 5]);
        }
    }
}

#[test]
fn only_the_gradients_that_are_wanted_are_there() {
    let _alone = alone();
    for number in 0..32 {
        let tracked = [1, 2, 4, 8, 16].map(|bit| number & bit > 0);
        Inputs::new([3, 5, 70, 6], true, Named::Some).check("tracked", tracked);
        Inputs::new([35, 50, 70, 60], true, Named::Unmasked).check("tracked", tracked);
    }
}

#[test]
fn inputs_that_do_not_lie_in_order_are_put_in_order() {
    let _alone = alone();
    let mask = Named::Some.mask(5, 9).unwrap().swap_dims(0, 1);
    let inputs = Inputs {
        mapped: normal([33, 5, 9]).swap_dims(0, 2),
        query: normal([1, 1, 33]).expand([9, 1, 33]),
        v: normal([33, 1]).swap_dims(0, 1),
        bias: Some(normal([1])),
        encoder: normal([5, 9, 40]).swap_dims(0, 1).narrow(2, 3, 31),
        mask: Some(mask),
    };
    let run = |on| {
        set_enabled(on);
        let Inputs { mapped, query, v, bias, encoder, mask } = inputs.clone();
        let [mapped, query, encoder] = [mapped, query, encoder].map(|x| x.detach().require_grad());
        let (context, weights) =
            additive_attention(mapped.clone(), query.clone(), v, bias, encoder.clone(), mask);
        let gradients = (context.clone().sum() + weights.powi_scalar(2).sum()).backward();
        set_enabled(true);
        let mut results = vec![("context", wide(context))];
        results.extend([mapped, query, encoder].map(|x| ("gradient", wide(x.grad(&gradients).unwrap()))));
        results
    };
    assert_near("views", &run(true), &run(false), &run(false));
}

#[test]
fn what_no_kernel_takes_goes_to_the_plain_operations() {
    let _alone = alone();
    set_enabled(true);
    let before = fallbacks();
    let Inputs { mapped, v, bias, encoder, mask, .. } = Inputs::new([3, 5, 7, 7], true, Named::Some);
    // A query for all sequences.
    let (context, _) = additive_attention(mapped, normal([1, 1, 7]), v, bias, encoder, mask);
    assert_eq!((context.dims(), fallbacks()), ([3, 1, 7], before + 1));
    let inputs = Inputs::new([3, 5, 7, 7], true, Named::Some);
    inputs.run(DType::F64, true, [true; 5]);
    assert_eq!(fallbacks(), before + 2);
    // No sequence, and so no gradient.
    for on in [true, false] {
        set_enabled(on);
        let Inputs { mapped, query, v, bias, encoder, mask } = Inputs::new([0, 5, 7, 6], true, Named::All);
        let v = v.require_grad();
        let (context, weights) = additive_attention(mapped, query, v.clone(), bias, encoder, mask);
        assert_eq!((context.dims(), weights.dims()), ([0, 1, 6], [0, 5, 1]));
        let gradient = v.grad(&(context.sum() + weights.sum()).backward()).unwrap();
        assert!(wide(gradient).iter().all(|&x| x == 0.0));
    }
    set_enabled(true);
    assert_eq!(fallbacks(), before + 3);
}

#[test]
fn what_is_no_number_or_infinite_does_what_it_does_in_the_plain_operations() {
    let _alone = alone();
    Device::flex().seed(3);
    let inputs = Inputs::new([6, 4, 70, 5], true, Named::Some);
    let spoiled = |tensor: &Tensor<3>, place: usize, bad: f32| {
        let mut values = tensor.clone().into_data().try_to_vec::<f32>().unwrap();
        values[place] = bad;
        Tensor::<3>::from_data(TensorData::new(values, tensor.dims()), &device())
    };
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for place in 0..24 {
            let spoil = [
                Inputs { mapped: spoiled(&inputs.mapped, 70 * place + 3, bad), ..inputs.clone() },
                Inputs { encoder: spoiled(&inputs.encoder, 5 * place + 3, bad), ..inputs.clone() },
                Inputs { query: spoiled(&inputs.query, 70 * (place / 4) + 3, bad), ..inputs.clone() },
                Inputs { bias: Some(Tensor::full([1], bad, &device())), ..inputs.clone() },
            ];
            for (which, inputs) in spoil.iter().enumerate() {
                let [kernel, plain] = [true, false].map(|on| inputs.run(DType::F32, on, [true; 5]));
                assert_same_kinds(&format!("{bad} in {which} at {place}"), &kernel, &plain);
            }
        }
    }
}

/// Differences of a sum of about 10 by steps of 1/64 have a rounding error of 10·2⁻²⁴·64 ≈ 4e-5; the
/// curvature's is some (1/64)²/3 for each of some places.
#[test]
fn the_gradient_is_the_slope() {
    let _alone = alone();
    Device::flex().seed(4);
    let inputs = Inputs::new([3, 4, 5, 3], true, Named::Some);
    let results = inputs.run(DType::F32, true, [true; 5]);
    let value = |inputs: Inputs| {
        let Inputs { mapped, query, v, bias, encoder, mask } = inputs;
        let (context, weights) = additive_attention(mapped, query, v, bias, encoder, mask);
        f64::from(loss(context, weights).into_scalar::<f32>())
    };
    let step = 1.0 / 64.0;
    let with = |change: &dyn Fn(&mut Inputs)| {
        let mut inputs = inputs.clone();
        change(&mut inputs);
        value(inputs)
    };
    let expected = [
        central_differences(&inputs.mapped, step, |x| with(&|inputs| inputs.mapped = x.clone())),
        central_differences(&inputs.query, step, |x| with(&|inputs| inputs.query = x.clone())),
        central_differences(&inputs.v, step, |x| with(&|inputs| inputs.v = x.clone())),
        central_differences(&inputs.encoder, step, |x| with(&|inputs| inputs.encoder = x.clone())),
        central_differences(inputs.bias.as_ref().unwrap(), step, |x| {
            with(&|inputs| inputs.bias = Some(x.clone()))
        }),
    ];
    for ((name, got), expected) in results[2..].iter().zip(&expected) {
        let apart = crate::common::apart(got, expected);
        assert!(apart < 2e-3, "{name}: {apart}");
    }
}

#[test]
fn bits_depend_on_no_thread() {
    let _alone = alone();
    let inputs = Inputs::new([37, 29, 129, 65], true, Named::Some);
    threads(|| bits(&inputs.run(DType::F32, true, [true; 5])));
}

#[test]
fn all_instructions_give_the_same_within_rounding() {
    let _alone = alone();
    let inputs = Inputs::new([37, 29, 129, 65], true, Named::Some);
    instruction_sets(|name| inputs.check(name, [true; 5]));
}
