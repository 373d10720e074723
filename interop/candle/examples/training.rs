//! A classifier trained by candle on the batches of firebox's loader: two workers, two epochs, and an
//! interruption.
//!
//!     cargo run --example training
//!
//! The interrupted run goes on in the middle of an epoch, with another number of workers, and ends with the
//! weights of the one that nobody stopped, bit for bit.

use std::error::Error;

use candle_core::{D, DType, Device, Tensor, Var};
use firebox_candle::InputTensor;
use firebox_data::loader::Epoch;
use firebox_data::{Loader, LoaderState, Scalar, Stack};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const SIDE: usize = 16;
const CLASSES: usize = 4;
const EPOCHS: u64 = 2;

/// Pictures of one bright quarter, by the quarter's number.
fn pictures(count: usize) -> Vec<(usize, Vec<u8>)> {
    let picture = |quarter: usize| {
        let pixel = |place: usize| match 2 * (place / SIDE / (SIDE / 2)) + place % SIDE / (SIDE / 2) {
            bright if bright == quarter => 180,
            _ => 60,
        };
        (0..SIDE * SIDE).map(pixel).collect()
    };
    (0..count).map(|number| (number % CLASSES, picture(number % CLASSES))).collect()
}

/// Batches in random order, each picture under noise of its own.
fn loader(workers: usize) -> Result<Loader<(Stack<f32, 3>, Scalar<u32>)>> {
    let builder = Loader::builder(pictures(2000)).shuffle(true).seed(42).batch_size(64).workers(workers);
    Ok(builder.build(
        (Stack::new([1, SIDE, SIDE]), Scalar::new()),
        |(class, picture), rng, (pixels, label)| {
            for (to, from) in std::iter::zip(pixels, picture) {
                *to = f32::from(from) / 255.0 + rng.uniform() - 0.5;
            }
            *label = class as u32;
            Ok(())
        },
    )?)
}

/// A linear map from pixels to logits.
struct Classifier {
    weight: Var,
    bias: Var,
}

impl Classifier {
    fn new() -> Result<Self> {
        let zeros = |shape: &[usize]| Var::zeros(shape, DType::F32, &Device::Cpu);
        Ok(Classifier { weight: zeros(&[SIDE * SIDE, CLASSES])?, bias: zeros(&[CLASSES])? })
    }

    fn forward(&self, pictures: &Tensor) -> Result<Tensor> {
        Ok(pictures.flatten_from(1)?.matmul(&self.weight)?.broadcast_add(&self.bias)?)
    }

    /// One step of gradient descent on the cross-entropy.
    fn learn(&self, pictures: &Tensor, labels: &Tensor) -> Result<()> {
        let logits = self.forward(pictures)?;
        let right = logits.gather(&labels.unsqueeze(1)?, 1)?.squeeze(1)?;
        let gradients = (logits.log_sum_exp(D::Minus1)? - right)?.mean_all()?.backward()?;
        for parameter in [&self.weight, &self.bias] {
            if let Some(gradient) = gradients.get(parameter) {
                parameter.set(&(parameter.as_tensor() - (gradient * 0.1)?)?)?;
            }
        }
        Ok(())
    }

    fn weights(&self) -> Result<Vec<f32>> {
        Ok([self.weight.flatten_all()?.to_vec1()?, self.bias.to_vec1()?].concat())
    }
}

/// Trains to the end, or until so many steps are made: gives the state there.
fn train(model: &Classifier, workers: usize, from: Option<LoaderState>, steps: usize) -> Result<LoaderState> {
    let loader = loader(workers)?;
    let mut input = InputTensor::new();
    let mut last = from.unwrap_or_else(|| loader.state(0));
    let batches = loader.epochs(&last, ..EPOCHS)?.flat_map(Epoch::with_states);
    for batch in batches.take(steps) {
        let ((pictures, labels), state) = batch?;
        let count = labels.len();
        model.learn(input.load(pictures)?, &Tensor::from_vec(labels.into_vec(), count, &Device::Cpu)?)?;
        last = state;
    }
    Ok(last)
}

fn main() -> Result<()> {
    let whole = Classifier::new()?;
    train(&whole, 2, None, usize::MAX)?;

    // Half of the second epoch is left to another loader, which knows the state as JSON.
    let stopped = Classifier::new()?;
    let state = train(&stopped, 2, None, 47)?;
    let text = serde_json::to_string(&state)?;
    println!("stopped after batch {} of epoch {}: {text}", state.batch, state.epoch);
    train(&stopped, 1, Some(serde_json::from_str(&text)?), usize::MAX)?;
    if stopped.weights()? != whole.weights()? {
        return Err("the interrupted run ended with other weights".into());
    }

    let (mut input, mut right, mut all) = (InputTensor::new(), 0, 0);
    for batch in loader(2)?.epoch(EPOCHS) {
        let (pictures, labels) = batch?;
        let logits = whole.forward(input.load(pictures)?)?;
        let guesses = logits.argmax(D::Minus1)?.to_vec1::<u32>()?;
        right += std::iter::zip(&guesses, &labels).filter(|(guess, label)| guess == label).count();
        all += labels.len();
    }
    println!("both runs end with the same weights; {right} of {all} pictures are recognized");
    if right < all * 9 / 10 {
        return Err(format!("expected nine tenths of {all} pictures to be recognized, got {right}").into());
    }
    Ok(())
}
