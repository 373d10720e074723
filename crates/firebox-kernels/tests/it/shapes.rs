//! Shapes that don't fit, tensors without elements, and several threads at once.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use crate::common::{alone, wide};
use burn::tensor::{Bool, DType, Device, Distribution, Int, Tensor, TensorData};
use firebox_kernels::attention::{additive_attention, masked_softmax};
use firebox_kernels::attentive_lstm::{Attended, attentive_lstm};
use firebox_kernels::convolution::{ConvBlockSettings, conv_block, conv_relu};
use firebox_kernels::cross_entropy::{ClassError, check_classes, cross_entropy, try_cross_entropy};
use firebox_kernels::linear::{Activation, linear};
use firebox_kernels::optimizer::{AdamMoments, AdamStep, Norm, SgdStep, adam, sgd};
use firebox_kernels::pooling::PoolSettings;
use firebox_kernels::recurrent::{Cell, CellState, RecurrentWeights, Sequence, recurrent};
use firebox_kernels::set_enabled;
use firebox_kernels::{avg_pool2d, max_pool2d};

fn zeros<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    Tensor::zeros(shape, &Device::flex())
}

fn ints(values: &[i64]) -> Tensor<1, Int> {
    Tensor::from_data(TensorData::new(values.to_vec(), [values.len()]), &Device::flex())
}

/// The operation panics with this message, with kernels and without.
#[track_caller]
fn refused<T>(expected: &str, run: impl Fn() -> T) {
    for on in [true, false] {
        set_enabled(on);
        let payload = catch_unwind(AssertUnwindSafe(&run)).err();
        set_enabled(true);
        let payload = payload.unwrap_or_else(|| panic!("not refused: {expected}"));
        let text = payload.downcast_ref::<String>().cloned();
        let text = text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        assert_eq!(text.unwrap(), expected, "kernels {on}");
    }
}

fn settings(pool: bool) -> ConvBlockSettings {
    let (stride, padding, dilation) = ([1; 2], [0; 2], [1; 2]);
    ConvBlockSettings { stride, padding, dilation, groups: 1, pool, channels_last: false }
}

fn block(images: [usize; 4], weight: [usize; 4], of_filters: [usize; 3], settings: ConvBlockSettings) {
    let [bias, gamma, beta] = of_filters.map(|filters| zeros([filters]));
    drop(conv_block(zeros(images), zeros(weight), bias, gamma, beta, 1e-5, settings));
}

fn weights(rows: usize, features: usize, hidden: usize, biases: [usize; 2]) -> RecurrentWeights {
    RecurrentWeights {
        weight_ih: zeros([rows, features]),
        weight_hh: zeros([rows, hidden]),
        bias_ih: zeros([biases[0]]),
        bias_hh: zeros([biases[1]]),
    }
}

fn first(batch: usize, hidden: usize) -> CellState {
    CellState { hidden: zeros([batch, hidden]), cell: None }
}

#[test]
fn shapes_that_do_not_fit_name_the_operation_what_it_wants_and_what_came() {
    let _alone = alone();
    refused("linear: expected [.., 3] for a weight [5, 3], got [2, 4]", || {
        linear(zeros([2, 4]), zeros([5, 3]), None, Activation::Relu)
    });
    refused("linear: expected a bias [5], got [4]", || {
        linear(zeros([2, 3]), zeros([5, 3]), Some(zeros([4])), Activation::None)
    });
    refused("cross_entropy: expected targets [2], got [3]", || {
        cross_entropy(zeros([2, 4]), ints(&[0, 1, 2]))
    });
    refused("masked_softmax: expected a mask [2, 4], got [2, 3]", || {
        masked_softmax(zeros([2, 4]), Tensor::<2, Bool>::full([2, 3], true, &Device::flex()))
    });

    refused(
        "conv_block: expected a weight [.., 3, .., ..] for images [2, 3, 5, 5] and groups 1, got [4, 2, 3, 3]",
        || block([2, 3, 5, 5], [4, 2, 3, 3], [4; 3], settings(false)),
    );
    refused("conv_block: expected γ [4], got [3]", || {
        block([2, 3, 5, 5], [4, 3, 3, 3], [4, 3, 4], settings(false))
    });
    refused("conv_block: expected stride of at least 1, got [0, 1]", || {
        block([2, 3, 5, 5], [4, 3, 3, 3], [4; 3], ConvBlockSettings { stride: [0, 1], ..settings(false) })
    });
    refused("conv_block: expected groups of at least 1, got [0, 0]", || {
        block([2, 3, 5, 5], [4, 3, 3, 3], [4; 3], ConvBlockSettings { groups: 0, ..settings(false) })
    });
    for (padding, dilation) in [(0, 3), (usize::MAX, 1), (0, usize::MAX)] {
        let expected = format!(
            "conv_block: expected images in which a kernel [3, 3] with padding [{padding}, {padding}] and dilation \
             [{dilation}, {dilation}] has 1 place(s) in each direction, got [2, 3, 5, 5]"
        );
        let settings =
            ConvBlockSettings { padding: [padding; 2], dilation: [dilation; 2], ..settings(false) };
        refused(&expected, || block([2, 3, 5, 5], [4, 3, 3, 3], [4; 3], settings));
    }
    refused(
        "conv_relu: expected images in which a kernel [3, 3] with padding [0, 0] and dilation [1, 1] has 2 place(s) in \
         each direction, got [2, 3, 5, 3]",
        || conv_relu(zeros([2, 3, 5, 3]), zeros([4, 3, 3, 3]), zeros([4]), settings(true)),
    );

    let steps = |shapes: &[[usize; 2]]| Sequence::Steps(shapes.iter().map(|shape| zeros(*shape)).collect());
    let whole = || Sequence::Whole(zeros([2, 5, 3]));
    let run = |input, weights, first, lengths: Option<&[i64]>| {
        recurrent(Cell::Lstm, input, weights, first, lengths.map(ints), false)
    };
    let fit = || weights(16, 3, 4, [16; 2]);
    refused("recurrent: expected weight_hh [16, 4], got [12, 4]", || {
        run(whole(), weights(12, 3, 4, [16; 2]), first(2, 4), None)
    });
    refused("recurrent: expected weight_ih [16, 3], got [16, 2]", || {
        run(whole(), weights(16, 2, 4, [16; 2]), first(2, 4), None)
    });
    refused("recurrent: expected bias_hh [16], got [4]", || {
        run(whole(), weights(16, 3, 4, [16, 4]), first(2, 4), None)
    });
    refused("recurrent: expected a first state [2, 4], got [1, 4]", || {
        run(whole(), fit(), first(1, 4), None)
    });
    refused("recurrent: expected lengths [2], got [3]", || {
        run(whole(), fit(), first(2, 4), Some(&[1, 2, 3]))
    });
    refused("recurrent: expected a step [2, 3], got [2, 2]", || {
        run(steps(&[[2, 3], [2, 2]]), fit(), first(2, 4), None)
    });
    refused("recurrent: expected at least one step, got none", || {
        run(Sequence::Whole(zeros([2, 0, 3])), fit(), first(2, 4), None)
    });
    let none = "Sequence::Steps: expected at least one step, got none";
    refused(none, || run(steps(&[]), fit(), first(2, 4), None));
    refused(none, || steps(&[]).whole());
    refused(none, || steps(&[]).options());
    refused("Sequence::beside: expected batch and time [2, 5], got [2, 1]", || {
        whole().beside(steps(&[[2, 3]]))
    });
    refused("Sequence::scale: expected factors [2, 5, 3], got [2, 5, 1]", || whole().scale(zeros([2, 5, 1])));

    let attend = |query, v, bias: Option<usize>, encoder, mask: Option<[usize; 2]>| {
        let mask = mask.map(|mask| Tensor::<2, Bool>::full(mask, true, &Device::flex()));
        let bias = bias.map(|bias| zeros([bias]));
        additive_attention(zeros([2, 5, 4]), zeros(query), zeros(v), bias, zeros(encoder), mask)
    };
    let (query, v, encoder) = ([2, 1, 4], [1, 4], [2, 5, 6]);
    refused("additive_attention: expected a query [2, 1, 4], got [3, 1, 4]", || {
        attend([3, 1, 4], v, None, encoder, None)
    });
    refused("additive_attention: expected v [1, 4], got [4, 1]", || {
        attend(query, [4, 1], None, encoder, None)
    });
    refused("additive_attention: expected a bias [1], got [4]", || attend(query, v, Some(4), encoder, None));
    refused("additive_attention: expected an encoder [2, 5, 6], got [2, 4, 6]", || {
        attend(query, v, None, [2, 4, 6], None)
    });
    refused("additive_attention: expected a mask [2, 5], got [5, 2]", || {
        attend(query, v, None, encoder, Some([5, 2]))
    });
    let attended =
        |mapped| Attended { mapped, encoder: zeros([2, 5, 6]), v: zeros([1, 4]), bias: None, mask: None };
    let nine = || weights(16, 9, 4, [16; 2]);
    refused("attentive_lstm: expected mapped [2, 5, 4], got [2, 5, 3]", || {
        attentive_lstm(zeros([2, 7, 3]), attended(zeros([2, 5, 3])), nine(), first(2, 4))
    });
    refused("attentive_lstm: expected weight_ih [16, 8], got [16, 9]", || {
        attentive_lstm(zeros([2, 7, 2]), attended(zeros([2, 5, 4])), nine(), first(2, 4))
    });

    let step =
        AdamStep { scale: 1.0, betas: [0.9, 0.999], decay: 0.0, shrink: 1.0, rate: 0.1, epsilon: 1e-8 };
    let moments = |shape| AdamMoments { first: zeros([3]), second: zeros(shape), largest: None };
    refused("adam: expected a gradient [3], got [4]", || adam(zeros([3]), zeros([4]), moments([3]), step));
    refused("adam: expected a second moment [3], got [4]", || {
        adam(zeros([3]), zeros([3]), moments([4]), step)
    });
    refused("sgd: expected a gradient [3], got [4]", || sgd(zeros([3]), zeros([4]), None, descent(0.9)));
    refused("sgd: expected a buffer [3], got [1]", || {
        sgd(zeros([3]), zeros([3]), Some(zeros([1])), descent(0.9))
    });
}

#[test]
fn poolings_that_do_not_fit_name_the_operation_what_it_wants_and_what_came() {
    let _alone = alone();
    let window = PoolSettings::new;
    let large = PoolSettings { kernel_size: [usize::MAX; 2], stride: [1; 2], padding: [usize::MAX / 2; 2] };
    for (settings, expected) in [
        (window([0, 2]), "kernel_size of at least 1, got [0, 2]"),
        (window([2, 2]).with_stride([1, 0]), "stride of at least 1, got [1, 0]"),
        (window([3, 2]).with_padding([1, 2]), "padding of at most [1, 1], got [1, 2]"),
        (
            window([5, 2]).with_padding([1, 0]),
            "images in which a window [5, 2] with padding [1, 0] has a place, got [1, 2, 2, 9]",
        ),
        (
            large,
            "images in which a window [18446744073709551615, 18446744073709551615] with padding \
             [9223372036854775807, 9223372036854775807] has a place, got [1, 2, 2, 9]",
        ),
    ] {
        refused(&format!("max_pool2d: expected {expected}"), || max_pool2d(zeros([1, 2, 2, 9]), settings));
        refused(&format!("avg_pool2d: expected {expected}"), || {
            avg_pool2d(zeros([1, 2, 2, 9]), settings, true)
        });
    }
}

fn descent(momentum: f64) -> SgdStep {
    SgdStep { scale: 1.0, decay: 0.0, momentum, dampening: 0.0, nesterov: false, rate: 0.1 }
}

#[test]
fn targets_that_are_no_class_are_an_error_that_names_the_first() {
    let _alone = alone();
    assert!(check_classes(&ints(&[0, 9, 3]), 10).is_ok());
    assert!(check_classes(&ints(&[]), 0).is_ok());
    let targets = [0, 9, 10, -1];
    let expected = ClassError { row: 2, target: 10, classes: 10 };
    assert_eq!(check_classes(&ints(&targets), 10), Err(expected));
    // What a program prints whose main returns it.
    assert_eq!(format!("{expected:?}"), "target 10 at row 2: expected a class below 10");
    assert_eq!(expected.to_string(), "target 10 at row 2: expected a class below 10");
    let ignored = ClassError { row: 0, target: -100, classes: 10 };
    for (dtype, on) in [(DType::F32, true), (DType::F32, false), (DType::F64, true)] {
        set_enabled(on);
        let logits = || zeros([4, 10]).cast(dtype);
        let results = [
            try_cross_entropy(logits(), ints(&targets)).err(),
            try_cross_entropy(logits(), ints(&[-100, 0, 0, 0])).err(),
            try_cross_entropy(logits(), ints(&[0, 1, 2, 9])).err(),
        ];
        set_enabled(true);
        assert_eq!(results, [Some(expected), Some(ignored), None]);
    }
    refused("cross_entropy: target 10 at row 2: expected a class below 10", || {
        cross_entropy(zeros([4, 10]), ints(&targets))
    });
    refused("cross_entropy: target 0 at row 0: expected a class below 0", || {
        cross_entropy(zeros([1, 0]), ints(&[0]))
    });
}

/// The mean of nothing, and of a row without a finite logit, is NaN in PyTorch, too; the loss of a class that
/// cannot come is infinite.
#[test]
fn a_loss_that_has_no_value_is_nan() {
    let _alone = alone();
    let low = f32::NEG_INFINITY;
    for on in [true, false] {
        set_enabled(on);
        let none = wide(cross_entropy(zeros([0, 4]), ints(&[])))[0];
        let logits = |row: [f32; 3]| Tensor::<2>::from_data([[1.0, 2.0, 3.0], row], &Device::flex());
        let losses =
            [[low; 3], [low, 1.0, 2.0], [0.5, low, 2.0], [0.5, f32::NAN, 2.0], [0.5, f32::INFINITY, 2.0]]
                .map(|row| wide(cross_entropy(logits(row), ints(&[1, 0])))[0]);
        set_enabled(true);
        assert!(none.is_nan(), "{none}");
        let [all, chosen, other, nan, infinite] = losses;
        assert!(all.is_nan() && nan.is_nan() && infinite.is_nan(), "{losses:?}");
        assert_eq!(chosen, f64::INFINITY);
        // (−ln softmax(1, 2, 3)₁ − ln softmax(0.5, −∞, 2)₀) / 2
        let expected = (1.407_605_964 + 1.701_413_278) / 2.0;
        assert!((other - expected).abs() < 1e-6, "{other}, expected {expected}");
    }
}

#[test]
fn tensors_without_elements_give_tensors_without_elements() {
    let _alone = alone();
    for on in [true, false] {
        set_enabled(on);
        for shape in [[0, 3, 4], [2, 0, 4], [0, 0, 4]] {
            let output = linear(zeros(shape), zeros([5, 4]), Some(zeros([5])), Activation::Tanh);
            assert_eq!(output.dims(), [shape[0], shape[1], 5]);
        }
        let weights = weights(4, 3, 4, [4; 2]);
        let (output, last) = recurrent(
            Cell::Tanh,
            Sequence::Whole(zeros([0, 5, 3])),
            weights,
            first(0, 4),
            Some(ints(&[])),
            true,
        );
        assert_eq!((output.dims(), last.hidden.dims()), ([0, 5, 4], [0, 4]));
        let mask = |time| Some(Tensor::<2, Bool>::full([2, time], false, &Device::flex()));
        let attend = |time, mask| {
            let (mapped, encoder) = (zeros([2, time, 4]), zeros([2, time, 6]));
            additive_attention(mapped, zeros([2, 1, 4]), zeros([1, 4]), None, encoder, mask)
        };
        // No place at all, and none that the mask names.
        for time in [0, 3] {
            let (context, weights) = attend(time, mask(time));
            assert_eq!((context.dims(), weights.dims()), ([2, 1, 6], [2, time, 1]));
            assert!(wide(context).iter().chain(&wide(weights)).all(|x| *x == 0.0));
        }
        let (parameter, buffer) = sgd(zeros([0, 3]), zeros([0, 3]), None, descent(0.9));
        assert_eq!((parameter.dims(), buffer.unwrap().dims()), ([0, 3], [0, 3]));
        let mut norm = Norm::new();
        norm.add(zeros([0, 3]));
        assert_eq!(norm.value(), 0.0);
        // Not −0, which prints its sign.
        assert!(Norm::new().value().is_sign_positive());
        set_enabled(true);
    }
}

/// Neither outputs nor gradients know what lies after the end of a sequence.
#[test]
fn padding_that_is_no_number_is_not_looked_at() {
    let _alone = alone();
    Device::flex().seed(6);
    let device = Device::flex().autodiff();
    let random = |shape: [usize; 2]| Tensor::<2>::random(shape, Distribution::Normal(0.0, 0.5), &device);
    for (cell, rows) in [(Cell::Tanh, 4), (Cell::Relu, 4), (Cell::Gru, 12), (Cell::Lstm, 16)] {
        let (weight_ih, weight_hh) = (random([rows, 3]).require_grad(), random([rows, 4]).require_grad());
        let steps = random([4 * 5, 3]).detach().into_data().try_to_vec::<f32>().unwrap();
        for (on, reverse) in [(true, false), (true, true), (false, false), (false, true)] {
            let run = |padding: f32| {
                let mut values = steps.clone();
                let lengths = [2, 0, 9, 4];
                for (row, length) in lengths.iter().enumerate() {
                    values[(row * 5 + *length.min(&5) as usize) * 3..(row + 1) * 15].fill(padding);
                }
                let input =
                    Tensor::<3>::from_data(TensorData::new(values, [4, 5, 3]), &device).require_grad();
                let weights = RecurrentWeights {
                    weight_ih: weight_ih.clone(),
                    weight_hh: weight_hh.clone(),
                    bias_ih: Tensor::zeros([rows], &device),
                    bias_hh: Tensor::zeros([rows], &device),
                };
                let state = CellState { hidden: random([4, 4]).zeros_like() + 0.5, cell: None };
                let sequence = Sequence::Whole(input.clone());
                let (output, last) = recurrent(cell, sequence, weights, state, Some(ints(&lengths)), reverse);
                let output = output.whole();
                let gradients =
                    (output.clone().square().sum() + last.hidden.clone().square().sum()).backward();
                let of_weights =
                    [&weight_ih, &weight_hh].map(|weight| wide(weight.grad(&gradients).unwrap()));
                [&of_weights[..], &[wide(output), wide(last.hidden), wide(input.grad(&gradients).unwrap())]]
                    .concat()
            };
            set_enabled(on);
            let (zero, nan) = (run(0.0), run(f32::NAN));
            set_enabled(true);
            assert!(zero.iter().flatten().all(|x| x.is_finite()));
            assert_eq!(zero, nan, "{cell:?}, kernels {on}, reverse {reverse}");
        }
    }
}

/// Operations of two threads at once give the bits that they give one after the other.
#[test]
fn threads_at_once_give_the_bits_of_one_after_the_other() {
    let _alone = alone();
    Device::flex().seed(5);
    let device = Device::flex().autodiff();
    let random = |shape: [usize; 3]| Tensor::<3>::random(shape, Distribution::Normal(0.0, 0.5), &device);
    let images = random([8, 3, 28 * 28]).reshape([8, 3, 28, 28]);
    let weight = random([16, 3, 9]).reshape([16, 3, 3, 3]).require_grad();
    let input = random([16, 12, 32]);
    let rows = |count, width| random([1, count, width]).squeeze_dim::<2>(0).require_grad();
    let (weight_ih, weight_hh) = (rows(4 * 24, 32), rows(4 * 24, 24));
    let zeros = |length: usize| Tensor::<1>::zeros([length], &device);
    let step = || {
        let settings = ConvBlockSettings { padding: [1; 2], ..settings(true) };
        let ones = zeros(16) + 1.0;
        let block =
            conv_block(images.clone(), weight.clone(), zeros(16), ones, zeros(16), 1e-5, settings).output;
        let weights = RecurrentWeights {
            weight_ih: weight_ih.clone(),
            weight_hh: weight_hh.clone(),
            bias_ih: zeros(96),
            bias_hh: zeros(96),
        };
        let state = CellState { hidden: Tensor::zeros([16, 24], &device), cell: None };
        let (output, _) = recurrent(Cell::Lstm, Sequence::Whole(input.clone()), weights, state, None, false);
        let gradients = (block.square().mean() + output.whole().square().mean()).backward();
        let bits = |values: Vec<f64>| values.into_iter().map(f64::to_bits).collect::<Vec<_>>();
        [bits(wide(weight.grad(&gradients).unwrap())), bits(wide(weight_ih.grad(&gradients).unwrap()))]
    };
    let expected = step();
    thread::scope(|scope| {
        for thread in [0, 1].map(|_| scope.spawn(|| (0..10).all(|_| step() == expected))) {
            assert!(thread.join().unwrap());
        }
    });
}
