//! Pooling against the plain operations that it stands for, and against PyTorch's values.

use burn::tensor::{DType, Device, Distribution, Tensor, TensorData};
use firebox_kernels::pooling::PoolSettings;
use firebox_kernels::{avg_pool2d, fallbacks, max_pool2d, set_enabled};

use crate::common::{
    Results, alone, assert_near, assert_same_kinds, bits, central_differences, instruction_sets, threads,
    wide,
};

/// The poolings that there are.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Max,
    /// The mean, with or without the padding.
    Mean(bool),
}

const KINDS: [Kind; 3] = [Kind::Max, Kind::Mean(true), Kind::Mean(false)];

fn pool(kind: Kind, images: Tensor<4>, settings: PoolSettings) -> Tensor<4> {
    match kind {
        Kind::Max => max_pool2d(images, settings),
        Kind::Mean(count_include_pad) => avg_pool2d(images, settings, count_include_pad),
    }
}

/// With each pair of orders in memory: of the images, and of the output's gradient.
const ORDERS: [[bool; 2]; 4] = [[false, false], [false, true], [true, false], [true, true]];

fn device() -> Device {
    Device::flex().autodiff()
}

/// The tensor with its values in memory as they are, or with the channels last.
fn ordered(tensor: &Tensor<4>, channels_last: bool) -> Tensor<4> {
    match channels_last {
        false => tensor.clone(),
        true => {
            let [batch, channels, height, width] = tensor.dims();
            let data = tensor.clone().permute([0, 2, 3, 1]).into_data();
            let data = TensorData::new(data.try_to_vec::<f32>().unwrap(), [batch, height, width, channels]);
            Tensor::<4>::from_data(data, &tensor.device()).permute([0, 3, 1, 2])
        }
    }
}

/// Output and gradient, for a gradient of the output that differs from place to place.
fn run(
    kind: Kind,
    images: &Tensor<4>,
    settings: PoolSettings,
    [images_last, gradient_last]: [bool; 2],
    dtype: DType,
    kernels: bool,
) -> Results {
    set_enabled(kernels);
    let before = fallbacks();
    let images = ordered(images, images_last).cast(dtype).detach().require_grad();
    let output = pool(kind, images.clone(), settings);
    assert_eq!(fallbacks(), before, "the kernel takes these");
    let slopes = (0..output.shape().num_elements()).map(|at| ((at * 7 + at / 11) % 13) as f32 / 6.0 - 1.0);
    let slopes = TensorData::new(slopes.collect::<Vec<_>>(), output.shape());
    let slopes = ordered(&Tensor::<4>::from_data(slopes, &output.device()), gradient_last).cast(dtype);
    let gradients = (output.clone() * slopes).sum().backward();
    set_enabled(true);
    vec![("output", wide(output)), ("gradient", wide(images.grad(&gradients).unwrap()))]
}

fn normal(shape: [usize; 4]) -> Tensor<4> {
    Tensor::random(shape, Distribution::Normal(0.1, 1.0), &device())
}

fn values(tensor: Tensor<4>) -> Vec<f32> {
    tensor.into_data().try_to_vec().unwrap()
}

/// Sizes, with windows that overlap, that leave gaps and that have padding.
fn cases() -> Vec<([usize; 4], PoolSettings)> {
    let window = PoolSettings::new;
    vec![
        ([1, 1, 2, 2], window([2, 2])),
        ([2, 3, 7, 5], window([2, 2])),
        ([3, 17, 6, 9], window([3, 2]).with_stride([1, 2])),
        ([2, 16, 8, 8], window([3, 3]).with_stride([2, 2]).with_padding([1, 1])),
        ([5, 33, 5, 4], window([4, 3]).with_stride([1, 1]).with_padding([2, 1])),
        ([2, 5, 9, 9], window([2, 1]).with_stride([3, 4])),
        ([1, 40, 1, 6], window([1, 6])),
        ([2, 2, 3, 3], window([5, 5]).with_padding([2, 2])),
        ([64, 32, 14, 14], window([2, 2])),
    ]
}

#[test]
fn all_sizes_and_orders_are_the_plain_operations() {
    let _alone = alone();
    Device::flex().seed(1);
    for (shape, settings) in cases() {
        let images = normal(shape);
        for kind in KINDS {
            let plain = run(kind, &images, settings, [false; 2], DType::F32, false);
            let exact = run(kind, &images, settings, [false; 2], DType::F64, false);
            for orders in ORDERS {
                let kernel = run(kind, &images, settings, orders, DType::F32, true);
                assert_near(&format!("{kind:?}, {shape:?}, {settings:?}"), &kernel, &plain, &exact);
            }
        }
    }
}

/// The output lies in memory as the images do.
#[test]
fn the_order_in_memory_stays() {
    let _alone = alone();
    Device::flex().seed(2);
    let images = normal([2, 3, 6, 4]).inner();
    for kind in KINDS {
        let plain = pool(kind, images.clone(), PoolSettings::new([2, 2]));
        let last = pool(kind, ordered(&images, true), PoolSettings::new([2, 2]));
        assert_eq!(values(plain), values(last.clone()));
        let moved = last.permute([0, 2, 3, 1]);
        assert_eq!(moved.dims(), [2, 3, 2, 3]);
    }
}

/// `torch.nn.functional.max_pool2d(x, 3, 2, 1)` and `avg_pool2d` of the same, with and without the padding,
/// and the gradients of their sums, in PyTorch 2.
#[test]
fn values_are_those_of_pytorch() {
    let _alone = alone();
    let x = [
        [1.0, 2.0, 3.0, 4.0, 5.0],
        [10.0, 9.0, 8.0, 7.0, 6.0],
        [-1.0, -2.0, -3.0, -4.0, -5.0],
        [0.5, 10.0, 10.0, 2.5, -6.0],
    ];
    let settings = PoolSettings::new([3, 3]).with_stride([2, 2]).with_padding([1, 1]);
    for on in [true, false] {
        set_enabled(on);
        let all = KINDS.map(|kind| {
            let images = Tensor::<4>::from_data([[x]], &device()).require_grad();
            let output = pool(kind, images.clone(), settings);
            let gradients = output.clone().sum().backward();
            (values(output), values(images.grad(&gradients).unwrap()))
        });
        set_enabled(true);
        let near = |got: &[f32], expected: &[f32]| {
            assert_eq!(got.len(), expected.len());
            let same = got.iter().zip(expected).all(|(got, expected)| (got - expected).abs() < 1e-6);
            assert!(same, "kernels {on}: {got:?}, expected {expected:?}");
        };
        let [(max, d_max), (padded, d_padded), (inner, _)] = all;
        // Of 9, 9 and 10, and of 10, 10 and 10: the first of equal ones learns.
        assert_eq!(max, [10.0, 9.0, 7.0, 10.0, 10.0, 7.0]);
        let mut expected = [0.0; 20];
        (expected[5], expected[6], expected[8], expected[16]) = (2.0, 1.0, 2.0, 1.0);
        near(&d_max, &expected);
        near(&padded, &[22.0 / 9.0, 33.0 / 9.0, 22.0 / 9.0, 26.5 / 9.0, 37.5 / 9.0, 0.5 / 9.0]);
        near(&inner, &[22.0 / 4.0, 33.0 / 6.0, 22.0 / 4.0, 26.5 / 6.0, 37.5 / 9.0, 0.5 / 6.0]);
        let ninth = |count: f32| count / 9.0;
        let (one, two, four) = (ninth(1.0), ninth(2.0), ninth(4.0));
        let edge = [one, two, one, two, one];
        let expected: Vec<f32> = [edge, [two, four, two, four, two], edge, edge].concat();
        near(&d_padded, &expected);
    }
}

#[test]
fn the_gradient_is_the_slope() {
    let _alone = alone();
    Device::flex().seed(3);
    for (shape, settings) in cases().into_iter().take(8) {
        // Values apart, so that a small step changes no window's maximum.
        let count: usize = shape.iter().product();
        let apart = (0..count).map(|at| ((at * 37) % count) as f32 / 4.0 + (at % 3) as f32 / 32.0);
        let data = TensorData::new(apart.collect::<Vec<_>>(), shape);
        let images = Tensor::<4>::from_data(data, &Device::flex());
        for kind in KINDS {
            let loss = |images: Tensor<4>| {
                let output = pool(kind, images, settings);
                let slopes = (0..output.shape().num_elements()).map(|at| (at % 7) as f32 - 2.5);
                let slopes = TensorData::new(slopes.collect::<Vec<_>>(), output.shape());
                let slopes = Tensor::<4>::from_data(slopes, &output.device()).cast(output.dtype());
                (output * slopes).sum()
            };
            let tracked = Tensor::<4>::from_data(images.to_data(), &device()).require_grad();
            let gradients = loss(tracked.clone()).backward();
            let got = wide(tracked.grad(&gradients).unwrap());
            // By the plain operations in 64 bits: a sum in 32 would have too few digits for the difference.
            let expected =
                central_differences(&images, 0.01, |images| wide(loss(images.cast(DType::F64)))[0]);
            for (at, (got, expected)) in got.iter().zip(&expected).enumerate() {
                let off = (got - expected).abs();
                assert!(off < 0.05, "{kind:?}, {shape:?}, {settings:?}, {at}: {got}, slope {expected}");
            }
        }
    }
}

/// The maximum of a window with NaN is NaN, and its last NaN learns; of −∞ alone the first place does.
#[test]
fn infinite_values_and_nan_do_what_they_do_in_pytorch() {
    let _alone = alone();
    let (nan, low, high) = (f32::NAN, f32::NEG_INFINITY, f32::INFINITY);
    let image = [
        [nan, 1.0, low, low, 2.0, high, low, 0.0],
        [3.0, nan, low, low, high, 1.0, nan, low],
        [nan, nan, -1.0, low, 0.0, -0.0, high, nan],
        [5.0, 1.0, low, -2.0, -0.0, 0.0, nan, low],
    ];
    for on in [true, false] {
        set_enabled(on);
        let images = Tensor::<4>::from_data([[image]], &device()).require_grad();
        let output = max_pool2d(images.clone(), PoolSettings::new([2, 2]));
        let gradients = output.clone().sum().backward();
        let (output, gradient) = (values(output), values(images.grad(&gradients).unwrap()));
        set_enabled(true);
        let expected = [nan, low, high, nan, nan, -1.0, 0.0, nan];
        let same =
            output.iter().zip(expected).all(|(a, b)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan());
        assert!(same, "kernels {on}: {output:?}");
        let learns: Vec<usize> = (0..32).filter(|&at| gradient[at] != 0.0).collect();
        // Rows of 8: the place of each window, from the upper left to the lower right.
        assert_eq!(learns, [2, 5, 9, 14, 17, 18, 20, 30], "kernels {on}");
    }
    Device::flex().seed(4);
    for (shape, settings) in cases() {
        for bad in [nan, low, high] {
            let mut spoiled = values(normal(shape));
            (0..spoiled.len()).step_by(5).for_each(|at| spoiled[at] = bad);
            let images = Tensor::<4>::from_data(TensorData::new(spoiled, shape), &device());
            for kind in KINDS {
                let plain = run(kind, &images, settings, [false; 2], DType::F32, false);
                for orders in ORDERS {
                    let kernel = run(kind, &images, settings, orders, DType::F32, true);
                    assert_same_kinds(&format!("{kind:?}, {shape:?}, {bad}"), &kernel, &plain);
                }
            }
        }
    }
}

/// Whose values are −∞ alone, with padding around: the first place that the image has learns.
#[test]
fn padding_is_never_chosen() {
    let _alone = alone();
    for on in [true, false] {
        set_enabled(on);
        let images = Tensor::<4>::full([1, 2, 3, 3], f32::NEG_INFINITY, &device()).require_grad();
        let settings = PoolSettings::new([3, 3]).with_stride([2, 2]).with_padding([1, 1]);
        let output = max_pool2d(images.clone(), settings);
        let gradients = output.clone().sum().backward();
        let (output, gradient) = (values(output), values(images.grad(&gradients).unwrap()));
        set_enabled(true);
        assert_eq!(output, [f32::NEG_INFINITY; 8]);
        let of_plane = [1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0];
        assert_eq!(gradient, [of_plane, of_plane].concat(), "kernels {on}");
    }
}

#[test]
fn bits_depend_on_no_thread() {
    let _alone = alone();
    Device::flex().seed(5);
    let images = normal([37, 19, 15, 13]);
    let settings = PoolSettings::new([3, 3]).with_stride([2, 2]).with_padding([1, 1]);
    for kind in KINDS {
        threads(|| {
            let all = ORDERS.map(|orders| bits(&run(kind, &images, settings, orders, DType::F32, true)));
            assert!(all.iter().all(|bits| *bits == all[0]), "the order changes no bit");
            all.concat()
        });
    }
}

#[test]
fn all_instructions_give_the_same_bits() {
    let _alone = alone();
    Device::flex().seed(6);
    let images = normal([3, 21, 9, 8]);
    let settings = PoolSettings::new([3, 2]).with_stride([2, 1]).with_padding([1, 0]);
    for kind in KINDS {
        let expected = bits(&run(kind, &images, settings, [false; 2], DType::F32, true));
        instruction_sets(|used| {
            let got = bits(&run(kind, &images, settings, [false; 2], DType::F32, true));
            assert!(got == expected, "{kind:?}, {used}");
        });
    }
}

#[test]
fn what_no_kernel_takes_goes_to_the_plain_operations() {
    let _alone = alone();
    for kind in KINDS {
        let before = fallbacks();
        let empty = pool(kind, Tensor::zeros([0, 3, 4, 4], &Device::flex()), PoolSettings::new([2, 2]));
        assert_eq!(empty.dims(), [0, 3, 2, 2]);
        let wide = Tensor::<4>::ones([1, 1, 2, 2], &Device::flex()).cast(DType::F64);
        let pooled = pool(kind, wide, PoolSettings::new([2, 2]));
        assert_eq!(pooled.into_data().try_to_vec::<f64>().unwrap(), [1.0]);
        assert_eq!(fallbacks(), before + 2);
    }
}
