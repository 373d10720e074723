//! Operations of random sizes against their plain operations. `FIREBOX_CASES` sets how many of each; a
//! failure names the case, and `FIREBOX_FIRST_CASE` begins there.

use crate::common::{Results, alone, assert_near, wide};
use burn::tensor::{Bool, DType, Device, Distribution, Int, Tensor, TensorData};
use firebox_kernels::convolution::{ConvBlockSettings, conv_block};
use firebox_kernels::linear::{Activation, linear};
use firebox_kernels::pooling::PoolSettings;
use firebox_kernels::recurrent::{Cell, CellState, RecurrentWeights, Sequence, recurrent};
use firebox_kernels::{additive_attention, cross_entropy, fallbacks, set_enabled};
use firebox_kernels::{avg_pool2d, max_pool2d};

/// The random numbers of one case (SplitMix64; Steele, Lea, Flood 2014).
struct Case(u64);

impl Case {
    fn number(&mut self, range: std::ops::RangeInclusive<usize>) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        range.start() + ((z ^ (z >> 31)) % (range.end() - range.start() + 1) as u64) as usize
    }

    fn yes(&mut self) -> bool {
        self.number(0..=1) == 1
    }
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap())
}

/// Runs an operation of each case with kernels, without, and without in 64 bits: the first two see the same
/// numbers.
fn check(operation: &str, run: impl Fn(&mut Case, DType) -> (String, Results)) {
    let _alone = alone();
    let first = setting("FIREBOX_FIRST_CASE").unwrap_or(0);
    for number in first..first + setting("FIREBOX_CASES").unwrap_or(60) {
        let results = [(true, DType::F32), (false, DType::F32), (false, DType::F64)].map(|(on, dtype)| {
            Device::flex().seed(number);
            set_enabled(on);
            let before = fallbacks();
            let (what, results) = run(&mut Case(number), dtype);
            assert_eq!(fallbacks(), before, "{operation}, case {number}, {what}: a kernel takes these sizes");
            set_enabled(true);
            (what, results)
        });
        let [(what, kernel), (_, plain), (_, exact)] = &results;
        assert_near(&format!("{operation}, case {number}, {what}"), kernel, plain, exact);
    }
}

/// A tensor to learn, drawn in 32 bits whatever it is then.
fn normal<const D: usize>(shape: [usize; D], dtype: DType) -> Tensor<D> {
    let device = Device::flex().autodiff();
    Tensor::<D>::random(shape, Distribution::Normal(0.1, 0.8), &device).cast(dtype).detach().require_grad()
}

/// The gradients of inputs for a gradient of the output that differs from place to place.
fn results<const D: usize>(output: Tensor<D>, inputs: &[Gradient<'_>]) -> Results {
    let slopes = (0..output.shape().num_elements()).map(|at| ((at * 7 + at / 11) % 13) as f32 / 6.0 - 1.0);
    let slopes = TensorData::new(slopes.collect::<Vec<_>>(), output.shape());
    let slopes = Tensor::<D>::from_data(slopes, &output.device()).cast(output.dtype());
    let gradients = (output.clone() * slopes).sum().backward();
    let mut results = vec![("output", wide(output))];
    results.extend(inputs.iter().map(|(name, gradient)| (*name, gradient(&gradients))));
    results
}

type Gradients = burn::tensor::Gradients;

/// The name of an input, and how to get its gradient.
type Gradient<'a> = (&'static str, &'a dyn Fn(&Gradients) -> Vec<f64>);

fn of<const D: usize>(tensor: &Tensor<D>) -> impl Fn(&Gradients) -> Vec<f64> + '_ {
    |gradients| wide(tensor.grad(gradients).unwrap())
}

#[test]
fn convolutions() {
    check("conv_block", |case, dtype| {
        let [mut batch, mut channels, mut filters] =
            [case.number(2..=9), case.number(1..=35), case.number(1..=35)];
        let mut kernel = [case.number(1..=4), case.number(1..=4)];
        let mut stride = [case.number(1..=3), case.number(1..=3)];
        let mut dilation = [case.number(1..=3), case.number(1..=2)];
        let mut padding = [case.number(0..=3), case.number(0..=3)];
        if case.number(0..=2) == 0 {
            // Such go by tiles.
            (batch, channels, filters) = (batch.max(6), channels.div_ceil(8) * 16, filters.div_ceil(8) * 16);
            (kernel, stride, dilation) = ([3, 3], [1, 1], [1, 1]);
            padding = padding.map(|padding| padding.min(2));
        }
        // With a window for pooling, and more.
        let size = [0, 1].map(|axis| {
            let least = (kernel[axis] - 1) * dilation[axis] + 1 + stride[axis];
            least.saturating_sub(2 * padding[axis]).max(1) + case.number(0..=6)
        });
        let (pool, channels_last) = (case.yes(), case.yes());
        let settings = ConvBlockSettings { stride, padding, dilation, groups: 1, pool, channels_last };
        let images = normal([batch, channels, size[0], size[1]], dtype);
        let weight = normal([filters, channels, kernel[0], kernel[1]], dtype);
        let [bias, gamma, beta] = [(); 3].map(|()| normal([filters], dtype));
        let out = conv_block(
            images.clone(),
            weight.clone(),
            bias.clone(),
            gamma.clone(),
            beta.clone(),
            1e-3,
            settings,
        );
        let gradients: [Gradient<'_>; 4] = [
            ("images", &of(&images)),
            ("weight", &of(&weight)),
            ("gamma", &of(&gamma)),
            ("beta", &of(&beta)),
        ];
        (
            format!("{batch} × {channels} × {size:?}, {filters} of {kernel:?}, {settings:?}"),
            results(out.output, &gradients),
        )
    });
}

#[test]
fn poolings() {
    check("pooling", |case, dtype| {
        let [batch, channels] = [case.number(1..=5), case.number(1..=40)];
        let [kernel_size, stride, padding, size] = {
            let kernel = [case.number(1..=4), case.number(1..=4)];
            let stride = [case.number(1..=3), case.number(1..=3)];
            let padding = kernel.map(|kernel| case.number(0..=kernel / 2));
            [kernel, stride, padding, kernel.map(|kernel| kernel + case.number(0..=9))]
        };
        let settings = PoolSettings { kernel_size, stride, padding };
        // The images come in one order or the other.
        let images = match case.yes() {
            true => normal([batch, channels, size[0], size[1]], dtype),
            false => {
                let images = normal([batch, size[0], size[1], channels], dtype).permute([0, 3, 1, 2]);
                images.detach().require_grad()
            }
        };
        let (max, count_include_pad) = (case.yes(), case.yes());
        let output = match max {
            true => max_pool2d(images.clone(), settings),
            false => avg_pool2d(images.clone(), settings, count_include_pad),
        };
        let what = format!("{batch} × {channels} × {size:?}, {settings:?}, max {max}, {count_include_pad}");
        (what, results(output, &[("images", &of(&images))]))
    });
}

#[test]
fn linear_maps() {
    check("linear", |case, dtype| {
        let [rows, from, to] = [case.number(1..=90), case.number(1..=130), case.number(1..=130)];
        let activation = [Activation::None, Activation::Relu, Activation::LeakyRelu(0.2), Activation::Tanh]
            [case.number(0..=3)];
        let (input, weight, bias) =
            (normal([rows, from], dtype), normal([to, from], dtype), normal([to], dtype));
        let output = linear(input.clone(), weight.clone(), Some(bias.clone()), activation);
        let gradients: [Gradient<'_>; 3] =
            [("input", &of(&input)), ("weight", &of(&weight)), ("bias", &of(&bias))];
        (format!("{rows} × {from} → {to}, {activation:?}"), results(output, &gradients))
    });
}

#[test]
fn recurrent_layers() {
    check("recurrent", |case, dtype| {
        let cell = [Cell::Tanh, Cell::Relu, Cell::Lstm, Cell::Gru][case.number(0..=3)];
        let [batch, time] = [case.number(1..=20), case.number(2..=9)];
        let [features, hidden] = [case.number(1..=40), case.number(1..=40)];
        let (reverse, padded) = (case.yes(), case.yes());
        let lengths: Vec<i64> = (0..batch).map(|_| case.number(0..=time) as i64).collect();
        let lengths = padded.then(|| {
            Tensor::<1, Int>::from_data(TensorData::new(lengths, [batch]), &Device::flex().autodiff())
        });
        let rows = cell.gates() * hidden;
        let input = normal([batch, time, features], dtype);
        let (weight_ih, weight_hh) = (normal([rows, features], dtype), normal([rows, hidden], dtype));
        let [bias_ih, bias_hh] = [(); 2].map(|()| normal([rows], dtype));
        // Weights of a size that a state lives through some steps.
        let shrink = 1.0 / (hidden as f64).sqrt();
        let [first_hidden, first_cell] = [(); 2].map(|()| normal([batch, hidden], dtype));
        let weights = RecurrentWeights {
            weight_ih: weight_ih.clone() * shrink,
            weight_hh: weight_hh.clone() * shrink,
            bias_ih: bias_ih.clone(),
            bias_hh: bias_hh.clone(),
        };
        let first = CellState {
            hidden: first_hidden.clone(),
            cell: matches!(cell, Cell::Lstm).then(|| first_cell.clone()),
        };
        let (outputs, last) =
            recurrent(cell, Sequence::Whole(input.clone()), weights, first, lengths, reverse);
        let outputs = outputs.whole().reshape([batch * time, hidden]);
        let all = [Some(outputs), Some(last.hidden), last.cell].into_iter().flatten().collect();
        let gradients: [Gradient<'_>; 6] = [
            ("input", &of(&input)),
            ("weight_ih", &of(&weight_ih)),
            ("weight_hh", &of(&weight_hh)),
            ("bias_ih", &of(&bias_ih)),
            ("bias_hh", &of(&bias_hh)),
            ("first hidden state", &of(&first_hidden)),
        ];
        let what =
            format!("{cell:?}, {batch} × {time} × {features} → {hidden}, padded {padded}, reverse {reverse}");
        (what, results(Tensor::cat(all, 0), &gradients))
    });
}

#[test]
fn attention() {
    check("additive_attention", |case, dtype| {
        let [batch, time] = [case.number(1..=20), case.number(1..=20)];
        let [hidden, features] = [case.number(1..=70), case.number(1..=70)];
        let mask: Vec<bool> = (0..batch * time).map(|_| case.number(0..=3) > 0).collect();
        let mask = case.yes().then(|| {
            Tensor::<2, Bool>::from_data(TensorData::new(mask, [batch, time]), &Device::flex().autodiff())
        });
        let what = format!("{batch} × {time}, {hidden}, {features}, masked {}", mask.is_some());
        let (mapped, query) = (normal([batch, time, hidden], dtype), normal([batch, 1, hidden], dtype));
        let (v, bias, encoder) =
            (normal([1, hidden], dtype), normal([1], dtype), normal([batch, time, features], dtype));
        let (context, weights) = additive_attention(
            mapped.clone(),
            query.clone(),
            v.clone(),
            Some(bias.clone()),
            encoder.clone(),
            mask,
        );
        let both = vec![context.reshape([batch, features]), weights.reshape([batch, time])];
        let gradients: [Gradient<'_>; 4] =
            [("mapped", &of(&mapped)), ("query", &of(&query)), ("v", &of(&v)), ("encoder", &of(&encoder))];
        (what, results(Tensor::cat(both, 1), &gradients))
    });
}

#[test]
fn cross_entropies() {
    check("cross_entropy", |case, dtype| {
        let [samples, classes] = [case.number(1..=90), case.number(1..=90)];
        let targets: Vec<i64> = (0..samples).map(|_| case.number(0..=classes - 1) as i64).collect();
        let targets =
            Tensor::<1, Int>::from_data(TensorData::new(targets, [samples]), &Device::flex().autodiff());
        let logits = normal([samples, classes], dtype);
        let loss = cross_entropy(logits.clone() * 3.0, targets);
        (format!("{samples} × {classes}"), results(loss, &[("logits", &of(&logits))]))
    });
}
