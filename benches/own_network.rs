//! Training steps of networks of one's own beside `Cnn`, which computes the same: 3×28×28 to 10 classes, cross-entropy,
//! Adam.
//!
//!     cargo bench --bench own_network
//!     cargo bench --bench own_network -- --quick --batch 256
//!
//! All of them are in one process and take turns, so that each meets the machine as the others do. What is printed is the
//! median of all steps, and the median of the ratios to `Cnn` in the same round. The first loss of all is the same, bit
//! for bit.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark prints, and may panic")]

use std::time::Instant;

use burn::module::Module;
use burn::tensor::{Device, Distribution, Int, Tensor};
use clap::Parser;
use firebox::kernels::cross_entropy;
use firebox::models::layers::{
    ConvBlock, ConvBlockConfig, Flatten, Linear, LinearBlock, LinearBlockConfig, LinearConfig, MaxPooling,
    MaxPoolingConfig, Sequential,
};
use firebox::models::vision::{Cnn, CnnConfig};
use firebox::models::{Error, Forward, init};
use firebox::train::optimizer::AdamConfig;
use firebox::train::{Learner, Threads};

const SIDE: usize = 28;
const CLASSES: usize = 10;
const LR: f64 = 1e-3;
/// A model that meets the same batch for thousands of steps comes to numbers so small that they slow the processor.
const ROUNDS: usize = 40;
/// Steps of each model in a round.
const STEPS: usize = 5;
const WARM_UP: usize = 3;

/// A struct of blocks that pool.
#[derive(Module, Debug)]
struct Pooled {
    conv1: ConvBlock,
    conv2: ConvBlock,
    fc1: LinearBlock,
    fc2: Linear,
}

/// A struct of blocks and poolings apart.
#[derive(Module, Debug)]
struct Apart {
    conv1: ConvBlock,
    conv2: ConvBlock,
    pool: MaxPooling,
    fc1: LinearBlock,
    fc2: Linear,
}

type Chain = Sequential<(ConvBlock, MaxPooling, ConvBlock, MaxPooling, Flatten, LinearBlock, Linear)>;

fn block(from: usize, to: usize) -> ConvBlockConfig {
    ConvBlockConfig::new(from, to, 3).with_padding(1)
}

fn pooling() -> MaxPoolingConfig {
    MaxPoolingConfig::new(2)
}

fn head(device: &Device) -> Result<(LinearBlock, Linear), Error> {
    let features = 64 * (SIDE / 4) * (SIDE / 4);
    Ok((LinearBlockConfig::new(features, 128).init(device)?, LinearConfig::new(128, CLASSES).init(device)?))
}

fn pooled(device: &Device, channels_last: bool) -> Result<Pooled, Error> {
    let conv1 = block(3, 32).with_pooling(pooling()).with_channels_last(channels_last).init(device)?;
    let conv2 = block(32, 64).with_pooling(pooling()).init(device)?;
    let (fc1, fc2) = head(device)?;
    Ok(Pooled { conv1, conv2, fc1, fc2 })
}

fn apart(device: &Device) -> Result<Apart, Error> {
    let (conv1, conv2) = (block(3, 32).init(device)?, block(32, 64).init(device)?);
    let (fc1, fc2) = head(device)?;
    Ok(Apart { conv1, conv2, pool: pooling().init()?, fc1, fc2 })
}

fn chain(device: &Device) -> Result<Chain, Error> {
    let (conv1, conv2) = (block(3, 32).init(device)?, block(32, 64).init(device)?);
    let (fc1, fc2) = head(device)?;
    let pool = pooling().init()?;
    Ok(Sequential::new((conv1, pool.clone(), conv2, pool, Flatten::new(), fc1, fc2)))
}

impl Forward<Tensor<4>> for Pooled {
    type Output = Tensor<2>;

    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let maps = self.conv2.forward(self.conv1.forward(images));
        self.fc2.forward(self.fc1.forward(maps.flatten::<2>(1, 3)))
    }
}

impl Forward<Tensor<4>> for Apart {
    type Output = Tensor<2>;

    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let maps = self.pool.forward(self.conv1.forward(images));
        let maps = self.pool.forward(self.conv2.forward(maps));
        self.fc2.forward(self.fc1.forward(maps.flatten::<2>(1, 3)))
    }
}

/// Runs one step and gives its loss.
type Step = Box<dyn FnMut() -> Tensor<1>>;

fn step<M>(batch: usize, model: impl FnOnce(&Device) -> Result<M, Error>) -> Step
where
    M: Module + Forward<Tensor<4>, Output = Tensor<2>> + 'static,
{
    let device = Device::flex().autodiff();
    let model = init(2, &device, model).unwrap();
    let mut learner = Learner::new(model, AdamConfig::new().init().unwrap());
    device.seed(1);
    let images = Tensor::<4>::random([batch, 3, SIDE, SIDE], Distribution::Normal(0.0, 1.0), &device);
    let classes = Tensor::<1, Int>::arange(0..batch as i64, &device).remainder_scalar(CLASSES as i64);
    Box::new(move || {
        let loss = cross_entropy(learner.model().forward(images.clone()), classes.clone());
        let value = loss.clone().detach();
        learner.step(loss, LR);
        value
    })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[derive(Parser)]
struct Options {
    /// Images of a batch.
    #[arg(long, default_value_t = 64)]
    batch: usize,
    /// A quarter of the rounds.
    #[arg(long)]
    quick: bool,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let Options { batch, quick, .. } = Options::parse();
    let threads = Threads::detect();
    threads.start().unwrap();
    let rounds = if quick { ROUNDS / 4 } else { ROUNDS };
    let mut networks: [(&str, Step); 5] = [
        ("Cnn", step(batch, |device| -> Result<Cnn, Error> { CnnConfig::new(CLASSES).init(device) })),
        ("struct, pooling in the blocks", step(batch, |device| pooled(device, true))),
        ("the same without channels_last", step(batch, |device| pooled(device, false))),
        ("struct, pooling apart", step(batch, apart)),
        ("Sequential of blocks and poolings", step(batch, chain)),
    ];
    let losses: Vec<f32> = networks.iter_mut().map(|(_, step)| step().into_scalar::<f32>()).collect();
    assert!(losses.iter().all(|loss| loss.to_bits() == losses[0].to_bits()), "{losses:?}");
    for (_, step) in &mut networks {
        (1..WARM_UP).for_each(|_| drop(step()));
    }
    let mut times = vec![vec![]; networks.len()];
    let mut ratios = vec![vec![]; networks.len()];
    for round in 0..rounds {
        let mut of_round = vec![0.0; networks.len()];
        for turn in 0..networks.len() {
            // None is always the first.
            let which = (round + turn) % networks.len();
            let taken = (0..STEPS).map(|_| {
                let begun = Instant::now();
                networks[which].1();
                begun.elapsed().as_secs_f64()
            });
            of_round[which] = median(taken.collect());
        }
        for (which, time) in of_round.iter().enumerate() {
            times[which].push(*time);
            ratios[which].push(time / of_round[0]);
        }
    }
    println!("{threads:?}, batches of {batch}, {rounds} rounds of {STEPS} steps\n");
    println!("| network | ms a step | of Cnn's |\n|---|--:|--:|");
    for (((name, _), times), ratios) in networks.iter().zip(times).zip(ratios) {
        println!("| {name} | {:.2} | {:.3} |", 1e3 * median(times), median(ratios));
    }
}
